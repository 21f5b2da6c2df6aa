"""Group commit: everything that waits to be written goes into one transaction, and one fsync serves all who wait.

A `Work` is a piece of writing. `Writer.submit` hands it to the writer's thread, which takes all that waits, runs it in
one transaction under the fair lock, and reports the outcome to `on_commit`. A work that waits alone may be committed at
once by its own thread (`try_now`): no hand-over, only the disk. Works do their checks before they write (or write inside
`Transaction.all_or_nothing`), so that a work refused with a `GeodeError` has written nothing and the rest of the group goes
on; any other failure rolls the whole group back. A `Borrower` is given the open transaction for as long as it asks, within
its bound; meanwhile everybody else waits. After a failed write of the file (disk full, failed fsync) the writer refuses everything until the store is opened
again, because what the file holds is then known only to a new recovery.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import apsw
import msgspec

from geode_client.errors import ConnectionLost, ConstraintFailed, GeodeError, StoreError
from geode_client.message import Attributes
from geode_client.store import batch
from geode_client.store.database import Database, explain
from geode_client.store.locks import FairLock, NoLock

ENDS_CACHED_MAX = 20_000
# After every so many commits that wait for the disk its log is made longer, until it is as long as it may become.
COMMITS_BEFORE_EXTENDING = 32
LOOK_EVERY_NS = 1_000_000

_INSERT_BATCH = (
    "INSERT INTO batches (batch_id, topic_id, partition, base_offset, count, priority, timestamp_us, expires_first_us,"
    " expires_last_us, schema_version, codec, raw_bytes, stored_bytes, appended_bytes, behind_us, checksum, attributes,"
    " payload) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_FIRST_OF_PARTITION = "INSERT OR IGNORE INTO partition_marks (topic_id, partition) VALUES (?, ?)"


_END = (
    "SELECT next_offset, stored_bytes + m.removed_bytes, coalesce((SELECT b.timestamp_us + b.behind_us FROM batches AS b"
    " WHERE b.topic_id = ?1 AND b.partition = ?2 ORDER BY b.base_offset DESC LIMIT 1), 0)"
    " FROM partitions JOIN partition_marks AS m USING (topic_id, partition) WHERE topic_id = ?1 AND partition = ?2"
)

Ends = dict[tuple[int, int], tuple[int, int, int]]
"""By topic id and partition: the next offset, the bytes that were ever stored, and the highest timestamp, in microseconds."""


class Append(msgspec.Struct):
    """Messages to be appended to one partition; `base_offset` and `batch_id` are filled in by the transaction.

    At most ROW_MESSAGES_MAX messages; `lines` holds their JSON bodies, each with its newline.
    """

    topic: str
    topic_id: int
    partition: int
    priority: int
    count: int
    lines: bytes
    attributes: Attributes
    timestamp_us: int
    schema_version: int
    compress: bool
    expires_first_us: int | None = None
    expires_last_us: int | None = None
    packed: batch.PackedBatch | None = None
    base_offset: int = -1
    batch_id: int = -1

    def pack(self) -> batch.PackedBatch:
        """Compress, once; done before the locks are taken."""
        if self.packed is None:
            self.packed = batch.pack(self.lines, self.attributes, compress=self.compress)
        return self.packed


class Transaction:
    """What a work may do inside the write transaction; offsets and batch ids are given out here.

    `announce` is set by works that other processes should hear of although they append nothing.
    """

    __slots__ = (
        "_ends",
        "_next_batch_id",
        "announce",
        "appended",
        "catalog_changed",
        "catalog_version",
        "database",
        "first_due_us",
    )

    def __init__(self, database: Database, ends: "Ends", next_batch_id: int, catalog_version: int) -> None:
        self.database = database
        self.catalog_version = catalog_version
        self.appended: list[Append] = []
        self.catalog_changed = False
        self.announce = False
        # Set when messages begin to wait that are due before all others.
        self.first_due_us: int | None = None
        self._ends = ends
        self._next_batch_id = next_batch_id

    @property
    def next_batch_id(self) -> int:
        return self._next_batch_id

    def append(self, append: Append) -> None:
        """Write one row and give it its offsets."""
        packed = append.pack()
        base, appended_bytes, highest_us = self._end_of(append.topic_id, append.partition)
        highest_us = max(highest_us, append.timestamp_us)
        number = self._next_batch_id
        identity = (
            number,
            append.topic_id,
            append.partition,
            base,
            append.count,
            append.priority,
            append.timestamp_us,
            append.expires_first_us,
            append.expires_last_us,
            append.schema_version,
            packed.raw_bytes * 256 + packed.codec,
        )
        check = batch.checksum(identity, packed.attributes, packed.payload)
        size = packed.stored_bytes
        appended_bytes += size
        sizes = (packed.codec, packed.raw_bytes, size, appended_bytes, highest_us - append.timestamp_us)
        row = (*identity[:10], *sizes, check, packed.attributes, packed.payload)
        self.database.cursor.execute(_INSERT_BATCH, row)
        if not base:
            self.database.cursor.execute(_FIRST_OF_PARTITION, (append.topic_id, append.partition))
        self._ends[append.topic_id, append.partition] = (base + append.count, appended_bytes, highest_us)
        self._next_batch_id = number + 1
        append.base_offset, append.batch_id = base, number
        self.appended.append(append)

    @contextlib.contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """A GeodeError that leaves this block undoes what was written in it; the rest of the transaction stays."""
        marks = self._next_batch_id, self.catalog_changed, self.announce, self.first_due_us
        appended = len(self.appended)
        cursor = self.database.cursor
        cursor.execute("SAVEPOINT work")
        try:
            yield
        except GeodeError:
            cursor.execute("ROLLBACK TO work")
            for append in self.appended[appended:]:
                self._ends.pop((append.topic_id, append.partition), None)
            del self.appended[appended:]
            self._next_batch_id, self.catalog_changed, self.announce, self.first_due_us = marks
            raise
        finally:
            # An error of SQLite may have ended the whole transaction, and its savepoints with it.
            if self.database.connection.in_transaction:
                cursor.execute("RELEASE work")

    def next_offset(self, topic_id: int, partition: int) -> int:
        """The offset that the next message of the partition will have."""
        return self._end_of(topic_id, partition)[0]

    def _end_of(self, topic_id: int, partition: int) -> tuple[int, int, int]:
        end = self._ends.get((topic_id, partition))
        if end is None:
            found = self.database.row(_END, (topic_id, partition))
            end = self._ends[topic_id, partition] = (0, 0, 0) if found is None else (found[0], found[1], found[2])
        return end


class Work(Protocol):
    """A piece of writing. `durable`: its commit must wait for the disk. `error` is set when the work was refused."""

    durable: bool
    error: GeodeError | None

    def prepare(self) -> None:
        """What can be done before the locks are taken, such as compressing."""
        ...

    def run(self, transaction: Transaction) -> None:
        """Check, then write; a GeodeError raised before the first write refuses this work only."""
        ...


class Borrower(Protocol):
    """Who is given the open write transaction, in the writer's thread, to do in it what it is asked to."""

    def is_wanted(self) -> bool:
        """Whether it still wants the transaction when its turn has come."""
        ...

    def serve(self, transaction: Transaction) -> Work | None:
        """Use the transaction, not beyond the bound. The work that ends it with a commit, or None: roll back."""
        ...

    def over(self, error: GeodeError | None) -> None:
        """The transaction has ended, and the locks are free; `error` when the store failed."""
        ...


class Committed(msgspec.Struct, frozen=True):
    """The outcome of one transaction: all `works` with the same `error`, or None and what they appended.

    `announce`: other processes are to be woken.
    `first_due_us`: messages began to wait that are due before all others, at this time.
    """

    works: Sequence[Work]
    appended: Sequence[Append]
    error: GeodeError | None
    inline: bool
    announce: bool = False
    first_due_us: int | None = None


def _prepare(works: Sequence[Work]) -> None:
    for work in works:
        # What cannot be prepared fails again inside the transaction, where everybody who waits is told.
        with contextlib.suppress(Exception):
            work.prepare()


class Writer:
    """The only way into the file for one client."""

    def __init__(self, database: Database, lock: FairLock | NoLock, on_commit: Callable[[Committed], None]) -> None:
        self._database = database
        self._lock = lock
        self._on_commit = on_commit
        self._mutex = threading.Lock()
        self._wanted = threading.Condition()
        self._waiting: list[Work] = []
        self._taken = False
        self._borrowers: deque[Borrower] = deque()
        self._stopping = False
        self._failure: StoreError | None = None
        self.is_lost = False
        self._looked_ns = 0
        self._ends: Ends = {}
        self._data_version = -1
        self._next_batch_id = 1
        self._catalog_version = 0
        self._synchronous = True
        self._durable_commits = 0
        self._thread: threading.Thread | None = None
        self._borrowed_transaction: Transaction | None = None

    @property
    def failure(self) -> StoreError | None:
        """Why the writer has stopped, if it has."""
        return self._failure

    def fail(self, failure: StoreError) -> None:
        """Write nothing more: the store was found lost outside of a commit."""
        self._failure = self._failure or failure
        self.is_lost = True

    def submit(self, work: Work) -> None:
        """Queue a work for the next group; the outcome comes through `on_commit`, in the writer's thread.

        A store in memory has nothing to wait for and one connection: there the calling thread commits.
        """
        self._database.check_process()
        if self._database.layout.directory is None:
            if not self.try_now([work]):
                self._waiting.append(work)  # a borrower has the transaction: written when it is given back
            return
        with self._awake():
            self._waiting.append(work)

    def lend(self, borrower: Borrower) -> None:
        """Give the write transaction to a borrower when its turn comes. Not for a store in memory: see `borrow`."""
        self._database.check_process()
        with self._awake():
            self._borrowers.append(borrower)

    @contextlib.contextmanager
    def _awake(self) -> Iterator[None]:
        with self._wanted:
            if self._stopping:
                raise StoreError("the store is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="geode-writer", daemon=True)
                self._thread.start()
            yield
            self._wanted.notify()

    def try_now(self, works: list[Work]) -> bool:
        """Commit in the calling thread; False, and nothing done, when anybody else is writing or waits."""
        self._database.check_process()
        if self._stopping:
            raise StoreError("the store is closed")
        if self._waiting or self._taken or self._borrowers or not self._mutex.acquire(blocking=False):
            return False
        try:
            _prepare(works)
            if not self._lock.try_acquire():
                return False
            outcome = self._commit(works, inline=True)
        finally:
            self._mutex.release()
        self._on_commit(outcome)
        return True

    def close(self) -> None:
        """Write what waits, then stop."""
        with self._wanted:
            self._stopping = True
            self._wanted.notify()
        if self._thread is not None:
            self._thread.join()
        self._lock.close()

    def _serve(self) -> None:
        while True:
            with self._wanted:
                while not self._waiting and not self._borrowers and not self._stopping:
                    self._wanted.wait()
                self._taken = True  # first: nothing that comes later may be committed before these
                works, self._waiting = self._waiting, []
                borrower = self._borrowers.popleft() if self._borrowers else None
                if not works and borrower is None:
                    return
            if works:
                self._write(works, taken=borrower is not None)
            if borrower is not None:
                self._serve_borrower(borrower)

    def _write(self, works: list[Work], *, taken: bool) -> None:
        _prepare(works)
        with self._mutex:
            self._lock.acquire()
            outcome = self._commit(works, inline=False)
            self._taken = taken
        self._on_commit(outcome)

    def _serve_borrower(self, borrower: Borrower) -> None:
        error: GeodeError | None = None
        work: Work | None = None
        if borrower.is_wanted():
            self._mutex.acquire()
            self._lock.acquire()
            try:
                work = borrower.serve(self._borrowed())
            except apsw.Error as failure:
                error = self._failed(failure)
            except GeodeError as failure:
                error = failure
            except BaseException as failure:  # noqa: BLE001 - told to those who wait, whatever it is
                error = StoreError(f"a transaction was given up because of an internal error: {failure!r}")
                error.__cause__ = failure
            self.give_back(work, inline=False)
        else:
            self._taken = False
        borrower.over(error)

    def borrow(self) -> Transaction:
        """Open the write transaction in the calling thread: for a store in memory, when nobody else has borrowed."""
        self._database.check_process()
        if self._stopping:
            raise StoreError("the store is closed")
        self._mutex.acquire()
        self._lock.acquire()
        try:
            return self._borrowed()
        except BaseException:
            self.give_back(None, inline=True)
            raise

    def _borrowed(self) -> Transaction:
        if self._failure is not None:
            raise self._failure
        self._borrowed_transaction = transaction = self._begin(durable=True)
        return transaction

    def give_back(self, work: Work | None, *, inline: bool) -> None:
        """End a borrowed transaction: commit it together with `work`, or roll back when that is None or refused."""
        outcome = None
        if work is None:
            self._roll_back()
            self._lock.release()
        else:
            outcome = self._commit([work], inline=inline, borrowed=self._borrowed_transaction)
        self._borrowed_transaction = None
        self._taken = False
        self._mutex.release()
        if outcome is not None:
            self._on_commit(outcome)
        if inline and self._waiting:
            works, self._waiting = self._waiting, []
            self.try_now(works)

    def _commit(self, works: list[Work], *, inline: bool, borrowed: Transaction | None = None) -> Committed:
        """One transaction, or the end of a borrowed one; takes over the fair lock, which the caller holds."""
        error: GeodeError | None = self._failure
        appended: list[Append] = []
        announce = False
        first_due_us: int | None = None
        try:
            if error is None:
                transaction = self._run(works) if borrowed is None else self._end_borrowed(works, borrowed)
                appended = transaction.appended
                first_due_us = transaction.first_due_us
                announce = bool(appended) or transaction.announce or transaction.catalog_changed
                lost = self._look_for_the_store()
                if lost is not None:
                    # It was written to files that nobody will find again.
                    self._failure = error = lost
                    self.is_lost = True
                    appended, announce, first_due_us = [], False, None
            elif borrowed is not None:
                self._roll_back()
        except apsw.ConstraintError as failure:
            # What a borrower wrote may have left a constraint open until the end; works of the engine's own do not.
            error = self._failed(failure)
            error = error if borrowed is None else ConstraintFailed(str(failure))
        except apsw.Error as failure:
            error = self._failed(failure)
        except BaseException as failure:  # noqa: BLE001 - told to those who wait, whatever it is
            self._roll_back()
            error = StoreError(f"a write was given up because of an internal error: {failure!r}")
            error.__cause__ = failure
        finally:
            self._lock.release()
        return Committed(works, appended, error, inline, announce, first_due_us)

    def _look_for_the_store(self) -> ConnectionLost | None:
        """Why the file is not where it was opened. Commits that wait for no disk look once a millisecond at most."""
        now_ns = time.monotonic_ns()
        if not self._synchronous and now_ns - self._looked_ns < LOOK_EVERY_NS:
            return None
        self._looked_ns = now_ns
        return self._database.lost()

    def _run(self, works: list[Work]) -> Transaction:
        transaction = self._begin(durable=any(work.durable for work in works))
        for work in works:
            try:
                work.run(transaction)
            except GeodeError as refusal:
                work.error = refusal
        return self._end(transaction)

    def _end_borrowed(self, works: list[Work], transaction: Transaction) -> Transaction:
        _prepare(works)
        try:
            for work in works:
                work.run(transaction)
        except GeodeError as refusal:
            for work in works:
                work.error = refusal
            self._roll_back()
            return Transaction(self._database, self._ends, self._next_batch_id, self._catalog_version)
        return self._end(transaction)

    def _begin(self, *, durable: bool) -> Transaction:
        self._choose_durability(durable)
        self._durable_commits += durable
        self._database.cursor.execute("BEGIN IMMEDIATE")
        if self._durable_commits >= COMMITS_BEFORE_EXTENDING:
            self._durable_commits = 0
            self._database.extend_log()
        self._refresh()
        return Transaction(self._database, self._ends, self._next_batch_id, self._catalog_version)

    def _end(self, transaction: Transaction) -> Transaction:
        cursor = self._database.cursor
        if transaction.catalog_changed:
            cursor.execute("UPDATE store_state SET value = value + 1 WHERE name = 'catalog_version'")
        cursor.execute("COMMIT")
        self._catalog_version += transaction.catalog_changed
        self._next_batch_id = transaction.next_batch_id
        return transaction

    def _choose_durability(self, durable: bool) -> None:
        # Without the fsync a commit still survives the death of the process: the log is in the kernel's hands.
        if durable != self._synchronous:
            self._database.cursor.execute(f"PRAGMA synchronous = {'full' if durable else 'normal'}")
            self._synchronous = durable

    def _refresh(self) -> None:
        """Forget what is remembered of the file when another connection has written to it."""
        version: Any = self._database.cursor.execute("PRAGMA data_version").fetchall()[0][0]
        if version == self._data_version and len(self._ends) < ENDS_CACHED_MAX:
            return
        self._ends.clear()
        sql = (
            "SELECT max(coalesce((SELECT max(batch_id) + 1 FROM batches), 1),"
            " (SELECT value FROM store_state WHERE name = 'batch_id_floor'))"
        )
        self._next_batch_id = self._database.rows(sql)[0][0]
        sql = "SELECT value FROM store_state WHERE name = 'catalog_version'"
        self._catalog_version = self._database.rows(sql)[0][0]
        self._data_version = version

    def _failed(self, failure: apsw.Error) -> GeodeError:
        self._roll_back()
        error = explain(failure, self._database.layout)
        if isinstance(failure, apsw.FullError | apsw.IOError | apsw.CorruptError) and isinstance(error, StoreError):
            self._failure = ConnectionLost(f"{error} (the store writes nothing more until it is opened again)")
            return self._failure
        return error

    def _roll_back(self) -> None:
        self._data_version = -1
        if self._database.connection.in_transaction:
            try:
                self._database.cursor.execute("ROLLBACK")
            except apsw.Error:
                # SQLite rolls back by itself on the worst errors; the next open recovers whatever is left.
                self._failure = self._failure or ConnectionLost(
                    "the store could not undo a failed write: open it again"
                )
