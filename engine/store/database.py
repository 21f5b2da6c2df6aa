"""The file of a store: finding, making, checking and opening it through APSW.

Owns the directory's layout and the refusals (foreign or newer file, network file system, no permission, forked child).
Nothing here knows what the tables mean. A directory holds `geode.db` (with SQLite's `-wal` and `-shm`), `geode.lock` and
`geode.turn` for the fair lock, `presence.db`, and `wake/` with one pipe a process; all of mode 0600 in a 0700 directory.
"""

import contextlib
import functools
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import apsw

from geode_client.errors import ConnectionLost, CorruptData, StoreError
from geode_client.store import wake
from geode_client.store.locks import FairLock, NoLock
from geode_client.store.migration import FORMAT_OLDEST, migrate

APPLICATION_ID = 0x47454F44
FORMAT_VERSION = 3
BUSY_TIMEOUT_MILLISECONDS = 10_000
# A commit writes each page that it touches, whole: with small pages single messages are half as dear, and batches no dearer.
PAGE_BYTES = 1024
CHECKPOINT_PAGES = 8_000
FRAME_HEADER_BYTES = 24
LOG_HEADER_BYTES = 32
EXTEND_BYTES = 1024 * 1024
SPARE_BYTES = 64 * 1024 * 1024
CACHE_KIBIBYTES = 32_768
MEMORY = ":memory:"

_NETWORK_FILE_SYSTEMS = frozenset(
    "nfs nfs4 cifs smb smb2 smb3 smbfs 9p afs ceph glusterfs lustre gpfs beegfs ncpfs coda davfs fuse.sshfs"
    " fuse.glusterfs fuse.ceph fuse.s3fs fuse.rclone fuse.davfs2 virtiofs.remote orangefs pvfs2".split()
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a store are; None for one that lives in memory."""

    directory: Path | None

    @property
    def database(self) -> str:
        return MEMORY if self.directory is None else str(self.directory / "geode.db")

    def lock(self) -> FairLock | NoLock:
        """Each caller gets descriptors of its own: a lock is held by an open file, not by a process."""
        if self.directory is None:
            return NoLock()
        return FairLock(self.directory / "geode.lock", self.directory / "geode.turn")


def prepare(target: str) -> Layout:
    """Make the directory when it is missing, and refuse one that cannot carry a store."""
    if target == MEMORY:
        return Layout(None)
    directory = Path(target).expanduser().absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise StoreError(f"{directory} is a file: a store is a directory; name another one") from None
    except OSError as error:
        raise StoreError(f"cannot make the directory {directory}: {error.strerror}") from error
    _refuse_network_file_system(directory)
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise StoreError(f"cannot write in {directory}: give this user read, write and search permission on it")
    return Layout(directory)


def _refuse_network_file_system(directory: Path) -> None:
    kind = _file_system_of(directory.resolve())
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreError(
            f"{directory} is on a network file system ({kind}), whose locks do not protect a store:"
            " use a local directory, or a cluster through nats://"
        )


def _file_system_of(directory: Path) -> str | None:
    """The file system type from /proc/self/mountinfo; None where the system has no such file."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, kind = "", None
    for line in lines:
        fields, _, rest = line.partition(" - ")
        mount = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields.split(" ")[4])
        inside = directory.is_relative_to(mount)
        if inside and len(mount) >= len(best):
            best, kind = mount, rest.split(" ")[0]
    return kind


class Database:
    """One connection. `open` makes and checks the file; a connection is used by one thread at a time."""

    __slots__ = ("_identity", "_path", "_process", "connection", "cursor", "layout")

    def __init__(self, layout: Layout, connection: apsw.Connection) -> None:
        self.layout = layout
        self.connection = connection
        self.cursor = connection.cursor()
        self._process = os.getpid()
        self._path = (
            None if layout.directory is None else layout.database
        )  # made once: it is looked at after each commit
        self._identity = _identity(self._path)

    def lost(self) -> ConnectionLost | None:
        """Why the store is not where it was opened any more: its directory was removed, moved or replaced. None: it is there."""
        found = _identity(self._path)
        if found == self._identity:
            return None
        what = "is gone" if found is None else "was replaced by another one"
        return ConnectionLost(
            f"{self._path} {what} while it was open: nothing more is stored in it; put the directory back, and"
            " open it again"
        )

    def check_process(self) -> None:
        """Refuse a handle that a fork carried into another process."""
        if os.getpid() != self._process:
            raise StoreError(
                "this process was forked after the store was opened, and may not use its parent's handle:"
                " open a client of its own after the fork"
            )

    def rows(self, sql: str, bindings: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement: no read transaction outlives the call."""
        return self.connection.execute(sql, bindings).fetchall()

    def each(self, sql: str, bindings: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of one statement, read as they are asked for: inside a write transaction only."""
        return self.connection.execute(sql, bindings)

    def row(self, sql: str, bindings: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        found = self.connection.execute(sql, bindings).fetchall()
        return found[0] if found else None

    def extend_log(self) -> bool:
        """Make the write-ahead log longer, ahead of what is written; False when it is as long as it may become.

        A commit that itself makes the file longer waits half as long again for the disk, which writes down the new length
        too. A piece at a time, so that nobody waits for all of it. Zeros at its end are no frames. Only inside a write
        transaction, since whoever writes may make it longer as well; and only where the disk has plenty of room.
        """
        if self.layout.directory is None:
            return False
        wanted = LOG_HEADER_BYTES + CHECKPOINT_PAGES * (PAGE_BYTES + FRAME_HEADER_BYTES)
        with contextlib.suppress(OSError), open(f"{self.layout.database}-wal", "r+b", buffering=0) as log:
            length = log.seek(0, os.SEEK_END)
            missing = min(EXTEND_BYTES, wanted - length)
            disk = os.fstatvfs(log.fileno())
            if missing <= 0 or disk.f_bavail * disk.f_frsize < SPARE_BYTES:
                return False
            try:
                if log.write(bytes(missing)) == missing:
                    return True
            except OSError:
                pass
            log.truncate(length)
        return False

    def close(self) -> None:
        if os.getpid() == self._process:
            self.connection.close()


def open_again(target: str, known_id: str) -> Layout:
    """Find the store that was open before. Raises ConnectionLost when it is gone, StoreError when another one is there."""
    layout = Layout(Path(target).expanduser().absolute())
    if _identity(layout.database) is None:
        raise ConnectionLost(
            f"{layout.database} is gone: put its directory back; no new store is made in the place of the one that was open"
        )
    try:
        connection = apsw.Connection(layout.database, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            found = store_id(Database(layout, connection))
        finally:
            connection.close()
    except apsw.Error as error:
        raise explain(error, layout) from error
    if found != known_id:
        raise StoreError(
            f"{layout.database} is another store ({found}) than the one that was open ({known_id}): open a new client for"
            " it, or put the directory back"
        )
    return layout


def open_writer(layout: Layout) -> Database:
    """Open for writing; makes a new store where there is none."""
    lock = layout.lock()
    try:
        lock.acquire()
        try:
            if layout.directory is not None:
                _create_private(Path(layout.database))
            database = Database(layout, _connect(layout))
            _found(database)
        finally:
            lock.release()
    except apsw.Error as error:
        raise _explained(error, layout) from error
    except OSError as error:
        raise StoreError(f"cannot open {layout.database}: {error.strerror}") from error
    finally:
        lock.close()
    return database


def open_reader(layout: Layout, writer: Database) -> Database:
    """Open beside a writer; what lives in memory has one connection only."""
    if layout.directory is None:
        return writer
    try:
        connection = _connect(layout)
        connection.execute("PRAGMA query_only = ON")
    except apsw.Error as error:
        raise _explained(error, layout) from error
    return Database(layout, connection)


def store_id(database: Database) -> str:
    """The name that a store got when it was made; message ids begin with it."""
    try:
        found: str = database.rows("SELECT value FROM store_state WHERE name = 'store_id'")[0][0]
    except apsw.Error as error:
        raise _explained(error, database.layout) from error
    return found


def _create_private(path: Path) -> None:
    # Only a file that is not there is opened here: closing a descriptor of one that SQLite uses would drop its locks.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            raise StoreError(f"cannot read and write {path}: this user lacks the permission") from None


def _connect(layout: Layout) -> apsw.Connection:
    connection = apsw.Connection(layout.database)
    connection.set_busy_timeout(BUSY_TIMEOUT_MILLISECONDS)
    # A store is data from elsewhere: nothing in its schema may run code or reach outside.
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1)  # the user's own tables may have foreign keys
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    return connection


def _found(database: Database) -> None:
    """Check what the file is; found a new store in an empty one."""
    connection = database.connection
    application = connection.pragma("application_id")
    version = connection.pragma("user_version")
    tables = database.rows("SELECT count(*) FROM sqlite_schema")[0][0]
    if application != APPLICATION_ID and (application or version or tables):
        raise StoreError(
            f"{database.layout.database} is another program's SQLite file, no Geode store: name another directory"
        )
    if application == APPLICATION_ID and not FORMAT_OLDEST <= version <= FORMAT_VERSION:
        raise StoreError(
            f"{database.layout.database} has store format {version}; this program reads formats {FORMAT_OLDEST} to"
            f" {FORMAT_VERSION}: use the version of Geode that made it"
        )
    if application == 0:
        connection.pragma("page_size", PAGE_BYTES)  # to be chosen before anything else is written
    if database.layout.directory is not None:
        connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
    if application == 0:
        _create_tables(connection)
    elif version < FORMAT_VERSION:
        _migrate(database, version)


def _migrate(database: Database, version: int) -> None:
    """Bring an older store to the format of this program; nobody else may have it open meanwhile."""
    if database.layout.directory is not None:
        busy = [name for name in _names_in(database.layout.directory / "wake") if wake.alive(*name)]
        if busy:
            processes = ", ".join(name.partition("-")[0] for _, name in busy)
            raise StoreError(
                f"{database.layout.database} has store format {version} and is open in another process (process id"
                f" {processes}): close it there, then open it here to migrate it to format {FORMAT_VERSION}"
            )
    with database.connection:
        migrate(database.connection, version, _schema(), FORMAT_VERSION)


def _names_in(folder: Path) -> list[tuple[Path, str]]:
    try:
        return [(folder, name) for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        return []


@functools.cache
def engine_names() -> frozenset[str]:
    """The tables and indexes of a store, in lower case: they are the engine's own."""
    scratch = apsw.Connection(MEMORY)
    scratch.execute(_schema())
    return frozenset(name.lower() for (name,) in scratch.execute("SELECT name FROM sqlite_schema"))


def _schema() -> str:
    return files("geode_client.store").joinpath("schema.sql").read_text(encoding="utf-8")


def _create_tables(connection: apsw.Connection) -> None:
    with connection:
        connection.execute(_schema())
        connection.execute(
            "INSERT INTO store_state VALUES ('store_id', ?), ('catalog_version', 1), ('batch_id_floor', 1)",
            (uuid.uuid4().hex[:12],),
        )
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", FORMAT_VERSION)


def _explained(error: apsw.Error, layout: Layout) -> StoreError | CorruptData:
    path = layout.database
    match error:
        case apsw.NotADBError():
            return StoreError(f"{path} is no Geode store (and no SQLite file): name another directory")
        case apsw.CorruptError():
            return CorruptData(f"{path} is damaged ({error}): nothing was changed; restore it from a backup")
        case apsw.FullError():
            return StoreError(f"the disk of {path} is full: free some space and open the store again")
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError():
            return StoreError(
                f"cannot open {path} for writing ({error}): check the permissions of the file and its directory"
            )
        case _:
            return StoreError(f"{path}: {error}")


def explain(error: apsw.Error, layout: Layout) -> StoreError | CorruptData:
    """An error of SQLite in a store that was open, in words that a person can act on."""
    found = _explained(error, layout)
    return ConnectionLost(str(found)) if isinstance(error, _REOPENING_HELPS) else found


_REOPENING_HELPS = (
    apsw.IOError,
    apsw.FullError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.PermissionsError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.ProtocolError,
    apsw.ConnectionClosedError,
)


def _identity(path: str | None) -> tuple[int, int] | None:
    """Device and number of the file of a store; None when there is none, or it lives in memory."""
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
