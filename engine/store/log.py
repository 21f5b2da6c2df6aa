"""Reading the log: single batches, the newest commits, and a cursor over partitions in commit order.

Every call is one or two short queries that are read to their end, so that no read transaction lives longer than a call
and checkpoints are never held up. What a cursor has not reached may be removed under it: it goes on with what is left.
"""

import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import apsw
import msgspec

from geode_client.grammar.ast import JsonValue
from geode_client.message import Chunk
from geode_client.schema import fill_missing
from geode_client.store.batch import READ_COLUMNS, unpack
from geode_client.store.database import Database, explain
from geode_client.store.writer import Append

HEADERS_AT_ONCE = 64
BYTES_AT_ONCE = 1024 * 1024
FOLLOW_AT_ONCE = 512
# Offsets whose statistics are read at once.
WINDOW = 2**18

_RETAINED = (
    " FROM batches WHERE topic_id = ?1 AND partition = ?2 AND base_offset >= max(?3, coalesce((SELECT start_offset FROM"
    " partitions WHERE topic_id = ?1 AND partition = ?2), 0))"
)
_HEADERS_UP = (
    f"SELECT batch_id, base_offset, count, stored_bytes{_RETAINED} AND base_offset < ?4 ORDER BY base_offset"
    f" LIMIT {HEADERS_AT_ONCE}"
)
_HEADERS_DOWN = (
    f"SELECT batch_id, base_offset, count, stored_bytes{_RETAINED} AND base_offset < ?4 ORDER BY base_offset DESC"
    f" LIMIT {HEADERS_AT_ONCE}"
)
_ROWS = f"SELECT {READ_COLUMNS} FROM batches WHERE topic_id = ? AND partition = ? AND base_offset BETWEEN ? AND ?"
_CONTAINING = "SELECT max(base_offset) FROM batches WHERE topic_id = ? AND partition = ? AND base_offset <= ?"
_FOLLOW = f"SELECT batch_id, topic_id, partition, base_offset, count, priority FROM batches WHERE batch_id > ? ORDER BY batch_id LIMIT {FOLLOW_AT_ONCE}"
_REACHING_INTO = (
    "SELECT batch_id, topic_id, partition, base_offset, count, priority FROM batches WHERE topic_id = ?1 AND partition = ?2"
    " AND base_offset >= coalesce((SELECT max(base_offset) FROM batches WHERE topic_id = ?1 AND partition = ?2"
    "  AND base_offset <= ?3), ?3) AND base_offset < ?4 AND base_offset + count > ?3 AND base_offset >= coalesce("
    " (SELECT start_offset FROM partitions WHERE topic_id = ?1 AND partition = ?2), 0) ORDER BY base_offset"
)
_IN_ORDER = (
    "SELECT batch_id, topic_id, partition, base_offset, count, priority FROM batches AS b WHERE batch_id > ? AND batch_id <= ?"
    " AND base_offset >= coalesce((SELECT start_offset FROM partitions AS p WHERE p.topic_id = b.topic_id"
    f" AND p.partition = b.partition), 0) ORDER BY batch_id LIMIT {FOLLOW_AT_ONCE}"
)
_END = 2**62


class Header(msgspec.Struct, frozen=True):
    """A newly committed batch, without its payload."""

    batch_id: int
    topic_id: int
    partition: int
    base_offset: int
    count: int
    priority: int = 5


class LogReader:
    """Reads batches through one connection.

    `name_of` gives the name of a topic for messages and errors; `defaults_since` the defaults of the columns that a topic
    got after a version of its schema: messages that were written with it have them.
    """

    def __init__(
        self,
        database: Database,
        name_of: Callable[[int], str],
        defaults_since: Callable[[int, int], Mapping[str, JsonValue]],
        id_prefix: str,
    ) -> None:
        self._database = database
        self._name_of = name_of
        self._defaults_since = defaults_since
        self._id_prefix = id_prefix

    @property
    def directory(self) -> Path | None:
        """The directory of the store; None for one in memory."""
        return self._database.layout.directory

    def rows(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query, with SQLite's errors in our words."""
        self._database.check_process()
        try:
            return self._database.rows(sql, bindings)
        except apsw.Error as error:
            raise explain(error, self._database.layout) from error

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside are of one commit; nothing may be awaited in it."""
        if self._database.connection.in_transaction:
            yield  # a store in memory, inside a transaction of its only connection
            return
        self.rows("BEGIN")
        try:
            yield
        finally:
            self.rows("COMMIT")

    def last_batch_id(self) -> int:
        """The id of the newest batch in the file, or 0."""
        return self.rows("SELECT coalesce(max(batch_id), 0) FROM batches")[0][0]  # type: ignore[no-any-return]

    def data_version(self) -> int:
        """A number that changes when another connection has written to the file."""
        return self.rows("PRAGMA data_version")[0][0]  # type: ignore[no-any-return]

    def committed_after(self, batch_id: int) -> list[Header]:
        """The next batches in commit order, at most FOLLOW_AT_ONCE."""
        return [Header(*row) for row in self.rows(_FOLLOW, (batch_id,))]

    def retained_between(self, after: int, through: int) -> list[Header]:
        """The next retained batches in commit order, of any topic, at most FOLLOW_AT_ONCE."""
        return [Header(*row) for row in self.rows(_IN_ORDER, (after, through))]

    def chunk(self, batch_id: int) -> Chunk | None:
        """One batch, or None when it has been removed."""
        found = self.rows(f"SELECT {READ_COLUMNS} FROM batches WHERE batch_id = ?", (batch_id,))
        return self.unpacked(found[0]) if found else None

    def unpacked(self, row: tuple[Any, ...]) -> Chunk:
        return self._filled(unpack(row, self._name_of(row[1]), self._id_prefix))

    def _filled(self, chunk: Chunk) -> Chunk:
        """With the defaults of columns that came after it was checked; a delayed one may be older than its batch."""
        defaults = self._defaults_since(chunk.topic_id, chunk.schema_version)
        if defaults:
            chunk.lines = fill_missing(chunk.lines, defaults)
        return chunk

    def appended(self, append: Append) -> Chunk:
        """The chunk that reading the batch just written would give."""
        chunk = Chunk(
            batch_id=append.batch_id,
            topic=append.topic,
            topic_id=append.topic_id,
            partition=append.partition,
            base_offset=append.base_offset,
            count=append.count,
            priority=append.priority,
            timestamp_us=append.timestamp_us,
            schema_version=append.schema_version,
            lines=append.lines,
            attributes=append.attributes,
            id_prefix=self._id_prefix,
        )
        return self._filled(chunk)

    def batch_containing(self, topic_id: int, partition: int, offset: int) -> int:
        """The base offset of the batch that holds `offset`, or `offset` itself when no batch starts before it."""
        found = self.rows(_CONTAINING, (topic_id, partition, offset))[0][0]
        return offset if found is None else int(found)

    def reaching_into(self, topic_id: int, partition: int, first: int, end: int) -> list[Header]:
        """The retained batches that hold any of the offsets first to end - 1, in order."""
        return [Header(*row) for row in self.rows(_REACHING_INTO, (topic_id, partition, first, end))]

    def next_offset(self, topic_id: int, partition: int) -> int:
        """The offset that the next message of the partition will have."""
        sql = "SELECT next_offset FROM partitions WHERE topic_id = ? AND partition = ?"
        found = self.rows(sql, (topic_id, partition))
        return int(found[0][0]) if found else 0

    def start_offset(self, topic_id: int, partition: int) -> int:
        """An offset before which nothing of the partition can be read."""
        sql = (
            "SELECT max(coalesce((SELECT start_offset FROM partitions WHERE topic_id = ?1 AND partition = ?2), 0),"
            " coalesce((SELECT min(base_offset) FROM batches WHERE topic_id = ?1 AND partition = ?2), 0))"
        )
        return int(self.rows(sql, (topic_id, partition))[0][0])

    def first_offset_since(self, topic_id: int, partition: int, timestamp_us: int) -> int:
        """A base offset before which nothing was accepted at or after the time; the end of the partition where nothing was.

        Later batches may be older where the clock was set back, or where a process waited for its turn to write: they are
        still to be filtered. The search goes by the highest timestamp so far, which only ascends.
        """
        sql = (
            "SELECT base_offset, count, timestamp_us + behind_us FROM batches WHERE topic_id = ? AND partition = ? AND base_offset >= ?"
            " ORDER BY base_offset LIMIT 1"
        )
        low, high = 0, self.next_offset(topic_id, partition)
        while low < high:
            middle = (low + high) // 2
            found = self.rows(sql, (topic_id, partition, middle))
            if not found or found[0][2] >= timestamp_us:
                high = middle
            else:
                low = found[0][0] + found[0][1]
        return low

    def offset_since(self, topic_id: int, partition: int, timestamp_us: int) -> int:
        """The offset of the first message accepted at or after the time, or the end of the partition."""
        sql = "SELECT min(base_offset) FROM batches WHERE topic_id = ? AND partition = ? AND base_offset >= ? AND timestamp_us >= ?"
        # The batch that `first_offset_since` means may have been removed.
        first = self.first_offset_since(topic_id, partition, timestamp_us)
        found = self.rows(sql, (topic_id, partition, first, timestamp_us))[0][0]
        return self.next_offset(topic_id, partition) if found is None else int(found)

    def offset_after(self, topic_id: int, partition: int, batch_id: int) -> int:
        """The base offset of the partition's first batch after `batch_id` in commit order."""
        sql = "SELECT base_offset, count, batch_id FROM batches WHERE topic_id = ? AND partition = ? ORDER BY base_offset DESC"
        first = self.next_offset(topic_id, partition)
        try:
            for base, _, number in self._database.connection.execute(sql, (topic_id, partition)):
                if number <= batch_id:
                    break
                first = base
        except apsw.Error as error:
            raise explain(error, self._database.layout) from error
        return int(first)


class Skips(Protocol):
    """Which offsets a reader need not look at."""

    def runs(self, topic_id: int, partition: int, window: tuple[int, int]) -> Sequence[tuple[int, int]]:
        """Runs of whole batches inside the window, ascending and apart from each other."""
        ...


class _Source:
    """One partition of a cursor: headers read ahead, and rows read for the next of them.

    `spans` are runs of offsets that are still to be read, the next one last; without skips there is one. A header ends
    with how many offsets were passed over before it, so that what was skipped is no gap.
    """

    __slots__ = ("descending", "headers", "log", "partition", "rows", "skipped", "skips", "spans", "topic_id", "unseen")

    def __init__(
        self, log: LogReader, topic_id: int, partition: int, first: int, *, descending: bool, skips: Skips | None
    ) -> None:
        self.log = log
        self.topic_id = topic_id
        self.partition = partition
        self.descending = descending
        self.skips = skips
        self.skipped = 0
        self.spans: list[tuple[int, int, int]] = []
        self.unseen = (first, _END)
        if skips is not None:
            self.unseen = (max(first, log.start_offset(topic_id, partition)), log.next_offset(topic_id, partition))
        self.headers: list[tuple[int, int, int, int, int]] = []
        self.rows: dict[int, tuple[Any, ...]] = {}

    def peek(self) -> int | None:
        """The batch id of the next batch; None when there is no more."""
        if not self.headers:
            self._read_headers()
        return self.headers[-1][0] if self.headers else None

    def take(self) -> tuple[tuple[Any, ...] | None, int]:
        """The row of the next batch, None when it was removed meanwhile; and how many offsets were skipped before it."""
        if not self.rows:
            self._read_rows()
        header = self.headers.pop()
        row = self.rows.pop(header[1], None)
        self.skipped += header[4]
        skipped = self.skipped
        if row is not None:
            self.skipped = 0
        return row, skipped

    def _read_headers(self) -> None:
        """The next headers; none when nothing is left."""
        self.rows = {}
        skipped = 0
        while self.spans or self._open_window():
            first, end, before = self.spans.pop()
            skipped += before
            sql = _HEADERS_DOWN if self.descending else _HEADERS_UP
            found = self.log.rows(sql, (self.topic_id, self.partition, first, end))
            if len(found) == HEADERS_AT_ONCE:
                last = found[-1]
                rest = (first, last[1]) if self.descending else (last[1] + last[2], end)
                self.spans.append((*rest, 0))
            if found:
                self.headers = [(*row, 0) for row in found]
                self.headers[0] = (*found[0], skipped)
                self.headers.reverse()
                return

    def _open_window(self) -> bool:
        """Fill `spans` with what is to be read of the next window; False when there is no other."""
        low, high = self.unseen
        while low < high and not self.spans:
            if self.skips is None:
                window = (low, high)
            else:
                window = (max(low, high - WINDOW), high) if self.descending else (low, min(low + WINDOW, high))
            low, high = (low, window[0]) if self.descending else (window[1], high)
            self._fill(window)
        self.unseen = (low, high)
        return bool(self.spans)

    def _fill(self, window: tuple[int, int]) -> None:
        runs = self.skips.runs(self.topic_id, self.partition, window) if self.skips is not None else ()
        at, before = window[0], self.skipped
        self.skipped = 0
        for start, end in runs:
            if at < start:
                self.spans.append((at, start, before))
                before = 0
            before += end - start
            at = end
        if at < window[1]:
            self.spans.append((at, window[1], before))
        else:
            self.skipped = before
        if not self.descending:
            self.spans.reverse()

    def _read_rows(self) -> None:
        size, last = 0, self.headers[-1]
        for header in reversed(self.headers):
            size += header[3]
            if size > BYTES_AT_ONCE and header is not self.headers[-1]:
                break
            last = header
        ends = sorted((self.headers[-1][1], last[1]))
        rows = self.log.rows(_ROWS, (self.topic_id, self.partition, *ends))
        self.rows = {row[3]: row for row in rows}


class LogCursor:
    """Batches of some partitions in commit order (or from the newest back), up to and with batch `through`.

    `sources`: topic id, partition, first base offset. `skips` tells what need not be read; `skipped` is then how many
    offsets of its partition were passed over right before the chunk that was given last (only when ascending).
    Not to be used by two tasks at once.
    """

    def __init__(
        self,
        log: LogReader,
        sources: Iterable[tuple[int, int, int]],
        *,
        through: int,
        descending: bool = False,
        skips: Skips | None = None,
    ) -> None:
        self._log = log
        self._through = through
        self._sign = -1 if descending else 1
        self._heap: list[tuple[int, int, _Source]] = []
        self.skipped = 0
        for number, (topic_id, partition, first) in enumerate(sources):
            source = _Source(log, topic_id, partition, first, descending=descending, skips=skips)
            self._push(number, source)
        heapq.heapify(self._heap)

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to be read."""
        return not self._heap

    def _push(self, number: int, source: _Source) -> None:
        following = source.peek()
        while following is not None and following > self._through and self._sign < 0:
            source.take()
            following = source.peek()
        if following is not None and following <= self._through:
            heapq.heappush(self._heap, (self._sign * following, number, source))

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        while self._heap:
            _, number, source = heapq.heappop(self._heap)
            row, self.skipped = source.take()
            self._push(number, source)
            if row is not None:
                return self._log.unpacked(row)
        raise StopIteration


class CommitCursor:
    """Batches in commit order, after one batch and up to another, of the topics and partitions that are `wanted`.

    For a reader of very many partitions, which has less to do with the batches of others than with asking each of its own.
    """

    skipped = 0  # it passes over nothing of what is wanted

    def __init__(self, log: LogReader, wanted: Callable[[Header], bool], *, after: int, through: int) -> None:
        self._log = log
        self._wanted = wanted
        self._after = after
        self._through = through
        self._headers: deque[Header] = deque()

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to be read."""
        while not self._headers and self._after < self._through:
            found = self._log.retained_between(self._after, self._through)
            self._after = found[-1].batch_id if found else self._through
            self._headers.extend(header for header in found if self._wanted(header))
        return not self._headers

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        while not self.is_exhausted:
            chunk = self._log.chunk(self._headers.popleft().batch_id)
            if chunk is not None:
                return chunk
        raise StopIteration
