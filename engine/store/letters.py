"""Dead letters in the store: which of them were replayed, how many are outstanding, and how single messages are deleted.

A replayed letter has a row in `letter_marks`; it stays in its topic. `dead_letter_totals.outstanding` counts letters that are
retained and neither replayed nor deleted: raised when one is buried, lowered here. A deleted message stays in its batch with
an empty body and an expiry that has always been over, so that everybody passes over it and no offset changes; a batch of
which nothing else is left is removed.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from geode_client import letters
from geode_client.clock import now_us
from geode_client.errors import GeodeError, LettersChanged
from geode_client.message import DELETED_US, Attributes, Chunk, expiry_bounds
from geode_client.store import batch
from geode_client.store.log import LogReader
from geode_client.store.writer import Transaction

_BATCH_OF = (
    "SELECT base_offset, count, codec, attributes, batch_id FROM batches WHERE topic_id = ? AND partition = ?"
    " AND base_offset <= ? ORDER BY base_offset DESC LIMIT 1"
)
_MARKED = "SELECT offset FROM letter_marks WHERE topic_id = ? AND partition = ? AND offset >= ? AND offset < ?"
_CHANGED = "dead letters were replayed or deleted by somebody else meanwhile"


class MarkReplayed(msgspec.Struct, eq=False):
    """Mark dead letters of one partition as replayed; raises LettersChanged when one is marked or gone already."""

    topic_id: int
    topic: str
    partition: int
    offsets: Sequence[int]
    durable: bool = True
    error: GeodeError | None = None

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        at_us = now_us()
        for base, attributes, offsets in _by_batch(transaction, self.topic_id, self.partition, self.offsets):
            if any(attributes.expiry_us(offset - base) == DELETED_US for offset in offsets):
                raise LettersChanged(_CHANGED)
            try:
                transaction.database.cursor.executemany(
                    "INSERT INTO letter_marks VALUES (?, ?, ?, ?)",
                    [(self.topic_id, self.partition, offset, at_us) for offset in offsets],
                )
            except apsw.ConstraintError:
                raise LettersChanged(_CHANGED) from None
            _settled(transaction, self.topic, attributes, [offset - base for offset in offsets])


def _by_batch(
    transaction: Transaction, topic_id: int, partition: int, offsets: Sequence[int]
) -> Iterable[tuple[int, Attributes, list[int]]]:
    """First offset and attributes of each batch that holds any of the offsets, which are ascending, and those."""
    place = 0
    while place < len(offsets):
        row = transaction.database.row(_BATCH_OF, (topic_id, partition, offsets[place]))
        if row is None or row[0] + row[1] <= offsets[place]:
            raise LettersChanged(_CHANGED)
        held = [offset for offset in offsets[place:] if offset < row[0] + row[1]]
        yield row[0], batch.unpack_attributes(row[2], row[3]), held
        place += len(held)


def _settled(transaction: Transaction, topic: str, attributes: Attributes, places: Iterable[int]) -> None:
    """These letters of a batch of `topic` are no longer outstanding."""
    headers = attributes.headers or []
    found: Counter[tuple[str, ...]] = Counter()
    for place in places:
        header = headers[place] if headers else None
        if header is not None and letters.REASON in header:
            found[tuple(str(header.get(name)) for name in letters.COUNTED_BY)] += 1
    transaction.database.cursor.executemany(
        "UPDATE dead_letter_totals SET outstanding = max(0, outstanding - ?)"
        " WHERE name = ? AND topic = ? AND reason = ? AND letters = ?",
        [(number, *key, topic) for key, number in found.items()],
    )


def gone(
    transaction: Transaction, topic_id: int, partition: int, base: int, count: int, attributes: Attributes
) -> None:
    """A batch is removed: what it held of outstanding letters is no longer there, nor is a mark of one needed."""
    headers = attributes.headers
    if headers is None or not any(header is not None and letters.REASON in header for header in headers):
        return
    place = (topic_id, partition, base, base + count)
    marked = {row[0] - base for row in transaction.database.rows(_MARKED, place)}
    name = transaction.database.row("SELECT name FROM topics WHERE topic_id = ?", (topic_id,))
    if name is not None:
        _settled(transaction, name[0], attributes, [i for i in range(count) if i not in marked])
    transaction.database.cursor.execute(f"DELETE{_MARKED.removeprefix('SELECT offset')}", place)


def replayed(log: LogReader, chunk: Chunk) -> dict[int, int]:
    """Which messages of a chunk were replayed, and when."""
    sql = _MARKED.replace("offset FROM", "offset, replayed_us FROM")
    rows = log.rows(sql, (chunk.topic_id, chunk.partition, chunk.base_offset, chunk.end_offset))
    return {offset - chunk.base_offset: at_us for offset, at_us in rows}


class DeleteMessages(msgspec.Struct, eq=False):
    """Delete single messages of one partition, by ascending offsets.

    After the commit `deleted` are those that were there, `changed` the batches that they were in; `emptied` are those that
    hold nothing else any more, which the sweeper removes.
    """

    topic_id: int
    topic: str
    partition: int
    offsets: Sequence[int]
    durable: bool = True
    error: GeodeError | None = None
    deleted: int = 0
    emptied: list[int] = msgspec.field(default_factory=list)
    changed: list[int] = msgspec.field(default_factory=list)

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        left = list(self.offsets)
        while left:
            row = transaction.database.row(_BATCH_OF, (self.topic_id, self.partition, left[0]))
            end = left[0] + 1 if row is None else row[0] + row[1]
            if row is not None and end > left[0]:
                self._delete_of(transaction, row[4], [offset for offset in left if offset < end])
            left = [offset for offset in left if offset >= max(end, left[0] + 1)]

    def _delete_of(self, transaction: Transaction, batch_id: int, offsets: Sequence[int]) -> None:
        sql = f"SELECT {batch.READ_COLUMNS} FROM batches WHERE batch_id = ?"
        row = transaction.database.rows(sql, (batch_id,))[0]
        chunk = batch.unpack(row, self.topic, "")
        living = set(chunk.unexpired(now_us()))
        places = {offset - chunk.base_offset for offset in offsets} & living
        if not places:
            return
        self.deleted += len(places)
        self.changed.append(batch_id)
        sql = _MARKED
        marked = transaction.database.rows(sql, (self.topic_id, self.partition, chunk.base_offset, chunk.end_offset))
        known = {offset - chunk.base_offset for (offset,) in marked}
        _settled(transaction, self.topic, chunk.attributes, places - known)
        transaction.database.cursor.executemany(
            "DELETE FROM letter_marks WHERE topic_id = ? AND partition = ? AND offset = ?",
            [(self.topic_id, self.partition, chunk.base_offset + place) for place in places & known],
        )
        _write_again(transaction, row, chunk, places)
        if places == living:
            self.emptied.append(batch_id)


def _write_again(transaction: Transaction, row: tuple[Any, ...], chunk: Chunk, places: set[int]) -> None:
    """The batch without the contents of some of its messages; their keys stay, because lanes are found by them."""
    lines = b"".join((b"{}" if i in places else body) + b"\n" for i, body in enumerate(chunk.bodies))
    old = chunk.attributes
    attributes = msgspec.structs.replace(
        old,
        headers=_without(old.headers, places),
        histories=_without(old.histories, places),
        expires_us=[DELETED_US if i in places else old.expiry_us(i) for i in range(chunk.count)],
    )
    packed = batch.pack(lines, attributes)
    first, last = expiry_bounds(attributes)
    identity = (*row[:7], first, last, row[9], packed.raw_bytes * 256 + packed.codec)
    check = batch.checksum(identity, packed.attributes, packed.payload)
    cursor = transaction.database.cursor
    (stored,) = transaction.database.rows("SELECT stored_bytes FROM batches WHERE batch_id = ?", (row[0],))[0]
    cursor.execute(
        "UPDATE batches SET expires_first_us = ?, expires_last_us = ?, codec = ?, raw_bytes = ?, stored_bytes = ?,"
        " checksum = ?, attributes = ?, payload = ? WHERE batch_id = ?",
        (
            *(first, last, packed.codec, packed.raw_bytes, packed.stored_bytes),
            *(check, packed.attributes, packed.payload, row[0]),
        ),
    )
    cursor.execute(
        "UPDATE partition_marks SET removed_bytes = removed_bytes + ? WHERE topic_id = ? AND partition = ?",
        (stored - packed.stored_bytes, chunk.topic_id, chunk.partition),
    )


def _without(column: list[Any] | None, places: set[int]) -> list[Any] | None:
    return None if column is None else [None if i in places else value for i, value in enumerate(column)]
