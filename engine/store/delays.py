"""Messages that wait for their time: held in a table of their own, appended to the log when they are due.

A row of `delayed` is packed like a batch and has no offsets yet; its number is never given again. Whatever process of the
store is there at the due time appends it: `MoveDue` does so in slices, each in one transaction that also deletes the rows,
so that two processes that try at the same time move each message once. A message id is known from the moment its message
begins to wait: `message_ids` then holds -1 - delayed_id in place of the offset.
"""

from typing import Any

import lz4.block
import msgspec

from geode_client.clock import now_us
from geode_client.errors import CorruptData, GeodeError
from geode_client.message import NO_ATTRIBUTES, Attributes, expiry_bounds
from geode_client.store import batch
from geode_client.store.log import LogReader
from geode_client.store.writer import Append, Transaction

# Bounds of one slice: what others wait for while it is moved.
SLICE_ROWS = 512
SLICE_MESSAGES = 4096
SLICE_BYTES = 4 * 1024 * 1024

_COLUMNS = (
    "delayed_id, topic_id, partition, due_us, count, priority, accepted_us, schema_version, compress, codec, raw_bytes,"
    " checksum, attributes, payload"
)
_INSERT = (
    f"INSERT INTO delayed ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # damaged has its default
)
_FIRST_DUE = "SELECT due_us FROM delayed WHERE damaged = 0 ORDER BY due_us LIMIT 1"
_DUE = (
    "SELECT delayed_id, count, raw_bytes FROM delayed WHERE damaged = 0 AND due_us <= ? ORDER BY due_us, delayed_id"
    f" LIMIT {SLICE_ROWS + 1}"
)
_REACHABLE = "SELECT name, delayed_floor FROM topics WHERE topic_id = ? AND dropped = 0"
_MOVE_ID = "UPDATE message_ids SET offset = ?, created_us = ? WHERE topic_id = ? AND message_id = ? AND offset = ?"
_FORGET_IDS = "DELETE FROM message_ids WHERE topic_id = ? AND offset = ?"


def place_of(delayed_id: int) -> int:
    """What stands for the offset of a waiting message's id."""
    return -1 - delayed_id


def hold(transaction: Transaction, append: Append, due_us: int) -> int:
    """Let the messages wait instead of appending them; gives the number of their row."""
    database = transaction.database
    first = database.row(_FIRST_DUE)
    if first is None or due_us < first[0]:
        transaction.first_due_us = due_us
        transaction.announce = True
    number: int = (database.row("SELECT seq FROM sqlite_sequence WHERE name = 'delayed'") or (0,))[0] + 1
    packed = append.pack()
    described = (
        *(number, append.topic_id, append.partition, due_us, append.count, append.priority, append.timestamp_us),
        *(append.schema_version, int(append.compress), packed.codec, packed.raw_bytes),
    )
    check = _checksum(described, packed.attributes, packed.payload)
    database.cursor.execute(_INSERT, (*described, check, packed.attributes, packed.payload))
    return number


def _checksum(described: tuple[int, ...], attributes: bytes | None, payload: bytes) -> int:
    """CRC-32 over the first eleven of _COLUMNS, the attributes and the payload."""
    number, topic_id, partition, due_us, count, priority, accepted_us, version, compress, codec, raw = described
    identity = (number, topic_id, partition, due_us, count, priority, accepted_us, None, compress, version)
    return batch.checksum((*identity, raw * 256 + codec), attributes, payload)


class Waiting(msgspec.Struct, frozen=True):
    """A row of `delayed`, checked and unpacked."""

    delayed_id: int
    topic_id: int
    partition: int
    count: int
    priority: int
    schema_version: int
    compress: bool
    packed: batch.PackedBatch
    lines: bytes
    attributes: Attributes


def _unpacked(row: tuple[Any, ...], topic: str) -> Waiting:
    place = f"row {row[0]} of the delayed messages of topic {topic} ({row[4]} messages for partition {row[2]})"
    codec, raw_bytes, expected, attributes, payload = row[9:14]
    if _checksum(row[:11], attributes, payload) != expected:
        raise CorruptData(f"{place} fails its checksum: the file was damaged; they are not delivered and not deleted")
    try:
        lines = batch.unpack_payload(codec, raw_bytes, payload)
        described = batch.unpack_attributes(codec, attributes)
    except (lz4.block.LZ4BlockError, msgspec.DecodeError, MemoryError, ValueError) as error:
        raise CorruptData(f"{place} cannot be unpacked: {error}") from error
    packed = batch.PackedBatch(codec, raw_bytes, attributes, payload)
    return Waiting(row[0], row[1], row[2], row[4], row[5], row[7], bool(row[8]), packed, lines, described)


class MoveDue(msgspec.Struct, eq=False):
    """Append a slice of what is due, by due time; `more`: there is another slice. `damaged` says what was left where it is."""

    durable: bool = True
    error: GeodeError | None = None
    more: bool = False
    damaged: list[str] = msgspec.field(default_factory=list)

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        moment_us = now_us()
        runs: list[_Run] = []
        names: dict[int, str] = {}
        for delayed_id in self._chosen(transaction, moment_us):
            waiting = self._take(transaction, delayed_id, names)
            if waiting is None:
                continue
            if not runs or not runs[-1].takes(waiting):
                runs.append(_Run([]))
            runs[-1].add(waiting)
        for run in runs:
            append = _joined(run.rows, names[run.rows[0].topic_id], moment_us)
            transaction.append(append)
            _move_ids(transaction, run.rows, append)

    def _chosen(self, transaction: Transaction, moment_us: int) -> list[int]:
        rows = transaction.database.rows(_DUE, (moment_us,))
        chosen: list[int] = []
        messages = size = 0
        for delayed_id, count, raw_bytes in rows:
            messages, size = messages + count, size + raw_bytes
            if chosen and (len(chosen) == SLICE_ROWS or messages > SLICE_MESSAGES or size > SLICE_BYTES):
                break
            chosen.append(delayed_id)
        self.more = len(chosen) < len(rows)
        return chosen

    def _take(self, transaction: Transaction, delayed_id: int, names: dict[int, str]) -> Waiting | None:
        """Take a row out of the table; None when nobody is to get it, or it is damaged and stays."""
        database = transaction.database
        row = database.rows(f"SELECT {_COLUMNS} FROM delayed WHERE delayed_id = ?", (delayed_id,))[0]
        topic = database.row(_REACHABLE, (row[1],))
        if topic is None or delayed_id < topic[1]:
            _remove(transaction, row[1], delayed_id)
            return None
        names[row[1]] = topic[0]
        try:
            waiting = _unpacked(row, topic[0])
        except CorruptData as error:
            self.damaged.append(str(error))
            database.cursor.execute("UPDATE delayed SET damaged = 1 WHERE delayed_id = ?", (delayed_id,))
            return None
        database.cursor.execute("DELETE FROM delayed WHERE delayed_id = ?", (delayed_id,))
        return waiting


class _Run(msgspec.Struct):
    """Rows that come right after each other and become one batch."""

    rows: list[Waiting]
    messages: int = 0
    size: int = 0

    def takes(self, waiting: Waiting) -> bool:
        last = self.rows[-1]
        return (
            (waiting.topic_id, waiting.partition, waiting.priority) == (last.topic_id, last.partition, last.priority)
            and (waiting.schema_version, waiting.compress) == (last.schema_version, last.compress)
            and self.messages + waiting.count <= batch.ROW_MESSAGES_MAX
            and self.size + len(waiting.lines) <= batch.ROW_BYTES_TARGET
        )

    def add(self, waiting: Waiting) -> None:
        self.rows.append(waiting)
        self.messages += waiting.count
        self.size += len(waiting.lines)


def _joined(run: list[Waiting], topic: str, moment_us: int) -> Append:
    first = run[0]
    attributes = first.attributes if len(run) == 1 else _joined_attributes(run)
    expires_first_us, expires_last_us = expiry_bounds(attributes)
    return Append(
        topic=topic,
        topic_id=first.topic_id,
        partition=first.partition,
        priority=first.priority,
        count=sum(waiting.count for waiting in run),
        lines=b"".join([waiting.lines for waiting in run]),
        attributes=attributes,
        timestamp_us=moment_us,
        schema_version=first.schema_version,
        compress=first.compress,
        expires_first_us=expires_first_us,
        expires_last_us=expires_last_us,
        packed=first.packed if len(run) == 1 else None,
    )


def _joined_attributes(run: list[Waiting]) -> Attributes:
    columns: list[Any] = []
    for name in Attributes.__struct_fields__:
        parts = [(getattr(waiting.attributes, name), waiting.count) for waiting in run]
        if all(part is None for part, _ in parts):
            columns.append(None)
        else:
            columns.append([v for part, n in parts for v in (part if isinstance(part, list) else [part] * n)])
    return Attributes(*columns) if any(column is not None for column in columns) else NO_ATTRIBUTES


def _move_ids(transaction: Transaction, run: list[Waiting], append: Append) -> None:
    """Give the ids of messages that have just been appended their offsets."""
    places = (place_of(waiting.delayed_id) for waiting in run for _ in range(waiting.count))
    rows = [
        (append.base_offset + index, append.timestamp_us, append.topic_id, message_id, place)
        for index, (message_id, place) in enumerate(zip(append.attributes.ids or (), places, strict=False))
        if message_id is not None
    ]
    transaction.database.cursor.executemany(_MOVE_ID, rows)


def _remove(transaction: Transaction, topic_id: int, delayed_id: int) -> None:
    transaction.database.cursor.execute(_FORGET_IDS, (topic_id, place_of(delayed_id)))
    transaction.database.cursor.execute("DELETE FROM delayed WHERE delayed_id = ?", (delayed_id,))


class RemoveWaiting(msgspec.Struct, eq=False):
    """Remove rows that PURGE or DROP has put out of reach: topic id and number of each."""

    rows: list[tuple[int, int]]
    durable: bool = False
    error: GeodeError | None = None

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        for topic_id, delayed_id in self.rows:
            _remove(transaction, topic_id, delayed_id)


def purge(transaction: Transaction, topic_id: int) -> int:
    """Put the waiting messages of a topic out of reach; how many those are."""
    count = waiting_in(transaction, topic_id)
    if count:
        sql = "UPDATE topics SET delayed_floor = (SELECT max(delayed_id) + 1 FROM delayed WHERE topic_id = ?1) WHERE topic_id = ?1"
        transaction.database.cursor.execute(sql, (topic_id,))
    return count


def waiting_in(transaction: Transaction, topic_id: int) -> int:
    """How many messages of a topic wait."""
    sql = (
        "SELECT coalesce(sum(count), 0) FROM delayed WHERE topic_id = ?1"
        " AND delayed_id >= (SELECT delayed_floor FROM topics WHERE topic_id = ?1)"
    )
    return transaction.database.rows(sql, (topic_id,))[0][0]  # type: ignore[no-any-return]


def first_due_us(log: LogReader) -> int | None:
    """When the next waiting message is due; None when none waits."""
    found = log.rows(_FIRST_DUE)
    return found[0][0] if found else None


def counts(log: LogReader) -> dict[int, int]:
    """How many messages wait, by topic id."""
    sql = (
        "SELECT topic_id, sum(count) FROM delayed JOIN topics AS t USING (topic_id)"
        " WHERE t.dropped = 0 AND delayed_id >= t.delayed_floor GROUP BY topic_id"
    )
    return dict(log.rows(sql))


def damaged(log: LogReader) -> dict[str, int]:
    """How many messages are held back because their rows are damaged, by topic name."""
    sql = (
        "SELECT t.name, sum(count) FROM delayed JOIN topics AS t USING (topic_id)"
        " WHERE damaged = 1 AND t.dropped = 0 AND delayed_id >= t.delayed_floor GROUP BY topic_id"
    )
    return dict(log.rows(sql))


def unreachable(log: LogReader) -> list[tuple[int, int]]:
    """Waiting rows that PURGE has put out of reach: at most a slice."""
    sql = (
        "SELECT topic_id, delayed_id, count FROM topics AS t JOIN delayed USING (topic_id)"
        f" WHERE t.delayed_floor > 0 AND delayed_id < t.delayed_floor LIMIT {SLICE_ROWS}"
    )
    return _slice(log.rows(sql))


def of_dropped(log: LogReader, topic_id: int) -> list[tuple[int, int]]:
    """Waiting rows of a dropped topic: at most a slice."""
    sql = f"SELECT topic_id, delayed_id, count FROM delayed WHERE topic_id = ? LIMIT {SLICE_ROWS}"
    return _slice(log.rows(sql, (topic_id,)))


def _slice(rows: list[tuple[Any, ...]]) -> list[tuple[int, int]]:
    chosen: list[tuple[int, int]] = []
    messages = 0
    for topic_id, delayed_id, count in rows:
        messages += count
        if chosen and messages > SLICE_MESSAGES:
            break
        chosen.append((topic_id, delayed_id))
    return chosen
