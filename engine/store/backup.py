"""A copy of a store in one file, made while the store is in use, and a store made from such a copy.

The copy is what one moment's snapshot holds: every commit that had returned when it began, whole, and nothing later. It is a
SQLite file like `geode.db` itself, so restoring is putting it into an empty directory under that name.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from geode_client.errors import StoreError
from geode_client.store import database as files
from geode_client.store.migration import FORMAT_OLDEST

FILE_NAME = "geode.db"
PAGES_AT_ONCE = 2_000

Progress = Callable[[int, int], None]
"""Pages done, pages in all."""


def back_up(directory: Path, target: Path, progress: Progress | None = None) -> int:
    """Write a copy of the store in `directory` to the file `target`; gives its bytes.

    The file appears under its name only when it is whole and on the disk. Raises StoreError.
    """
    if target.exists():
        raise StoreError(f"{target} exists already: name a file that does not")
    with _unfinished(target) as unfinished, _explained(f"cannot copy {directory} to {target}"):
        source = _snapshot_of(directory)
        try:
            _copy(source.connection, unfinished, progress)
        finally:
            source.close()
    return target.stat().st_size


def restore(copy: Path, directory: Path, progress: Progress | None = None) -> int:
    """Make a store in `directory`, which must hold none, from a copy; gives its bytes. Raises StoreError."""
    if (directory / FILE_NAME).exists():
        raise StoreError(f"{directory} holds a store already: restore into another directory")
    with _explained(f"cannot restore {copy}"):
        source = _opened_copy(copy)
        try:
            layout = files.prepare(str(directory))
            assert layout.directory is not None
            target = layout.directory / FILE_NAME
            with _unfinished(target) as unfinished:
                _copy(source, unfinished, progress)
        finally:
            source.close()
    return target.stat().st_size


def _snapshot_of(directory: Path) -> files.Database:
    """A connection that sees one moment of the store: what others write from now on does not disturb the copying."""
    if not (directory / FILE_NAME).exists():
        raise StoreError(f"there is no store in {directory}")
    database = files.open_writer(files.Layout(directory.absolute()))
    database.connection.execute("BEGIN")
    database.rows("SELECT count(*) FROM store_state")
    return database


def _opened_copy(copy: Path) -> apsw.Connection:
    if not copy.is_file():
        raise StoreError(f"{copy}: there is no such file")
    connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)
    application, version = connection.pragma("application_id"), connection.pragma("user_version")
    if application != files.APPLICATION_ID or not FORMAT_OLDEST <= version <= files.FORMAT_VERSION:
        connection.close()
        raise StoreError(f"{copy} is not a copy of a Geode store of format {FORMAT_OLDEST} to {files.FORMAT_VERSION}")
    return connection


def _copy(source: apsw.Connection, target: Path, progress: Progress | None) -> None:
    destination = apsw.Connection(str(target))
    try:
        with destination.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(PAGES_AT_ONCE)
                if progress is not None:
                    progress(backup.page_count - backup.remaining, backup.page_count)
        # What was copied says that it has a write-ahead log; one file is wanted.
        destination.pragma("journal_mode", "delete")
    finally:
        destination.close()


@contextlib.contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A file that gets the name of `target` when the body has ended well, and is gone when it has not."""
    path = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            yield path
            _sync(path)
            path.rename(target)
            _sync(target.parent)
        finally:
            for suffix in ("", "-journal", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{error.filename or target}: {error.strerror or error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise StoreError(f"{what}: {error}") from error
