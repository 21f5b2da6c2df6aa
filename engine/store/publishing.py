"""The work of storing messages: known ids are passed over, the rest is appended, all in one transaction."""

from collections.abc import Sequence
from typing import Any

import msgspec

from geode_client.errors import GeodeError
from geode_client.message import NO_ATTRIBUTES, Attributes
from geode_client.store import delays
from geode_client.store.writer import Append, Transaction


class StaleTopic(GeodeError):
    """The topic was altered or dropped since the messages were prepared: prepare them again."""


class Part(msgspec.Struct):
    """Messages for one partition, and their positions in what the publisher gave, ascending."""

    append: Append
    positions: Sequence[int]


class Known(msgspec.Struct, frozen=True):
    """Where a message with a known id is; `offset` None: it still waits for its time."""

    partition: int
    offset: int | None


class PublishWork(msgspec.Struct, eq=False):
    """Messages of one topic. After the commit the parts have offsets; `known` tells the positions that were passed over.

    `dedupe_after_us`: ids stored before this time count as unknown; None switches deduplication off. `due_us`: the messages
    wait until this time, and have no offsets before.
    """

    topic_id: int
    topic_revision: int
    catalog_version: int
    durable: bool
    parts: list[Part]
    dedupe_after_us: int | None
    due_us: int | None = None
    error: GeodeError | None = None
    known: dict[int, Known] = msgspec.field(default_factory=dict)

    def prepare(self) -> None:
        for part in self.parts:
            part.append.pack()

    def run(self, transaction: Transaction) -> None:
        """Store the messages; raises StaleTopic when the topic is not what it was."""
        if transaction.catalog_version != self.catalog_version or transaction.catalog_changed:
            self._check_topic(transaction)
        for part in self.parts:
            if self.dedupe_after_us is not None and part.append.attributes.ids is not None:
                self._pass_over_known(transaction, part, self.dedupe_after_us)
            if not part.append.count:
                continue
            if self.due_us is None:
                transaction.append(part.append)
                self._remember_ids(transaction, part.append, part.append.base_offset, 1)
            else:
                number = delays.hold(transaction, part.append, self.due_us)
                self._remember_ids(transaction, part.append, delays.place_of(number), 0)

    def _check_topic(self, transaction: Transaction) -> None:
        sql = "SELECT revision FROM topics WHERE topic_id = ? AND dropped = 0"
        if transaction.database.row(sql, (self.topic_id,)) != (self.topic_revision,):
            raise StaleTopic(f"topic {self.topic_id} was changed")

    def _pass_over_known(self, transaction: Transaction, part: Part, after_us: int) -> None:
        """Take the messages out of the part whose id is stored already, or stands twice in it."""
        ids = part.append.attributes.ids
        assert ids is not None
        stored = _stored_ids(transaction, self.topic_id, [i for i in ids if i is not None], after_us)
        kept: list[int] = []
        base = transaction.next_offset(self.topic_id, part.append.partition)
        for index, message_id in enumerate(ids):
            known = stored.get(message_id) if message_id is not None else None
            if known is not None:
                self.known[part.positions[index]] = known
                continue
            if message_id is not None:
                offset = base + len(kept) if self.due_us is None else None
                stored[message_id] = Known(part.append.partition, offset)
            kept.append(index)
        if len(kept) < part.append.count:
            part.append = _only(part.append, kept)
            part.positions = [part.positions[index] for index in kept]

    def _remember_ids(self, transaction: Transaction, append: Append, first: int, step: int) -> None:
        ids = append.attributes.ids
        if ids is None or self.dedupe_after_us is None:
            return
        transaction.database.cursor.executemany(
            "INSERT INTO message_ids VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET"
            " partition = ?3, offset = ?4, created_us = ?5",
            [
                (
                    append.topic_id,
                    message_id,
                    append.partition,
                    first + step * index,
                    append.timestamp_us,
                )
                for index, message_id in enumerate(ids)
                if message_id is not None
            ],
        )


def _stored_ids(transaction: Transaction, topic_id: int, ids: list[str], after_us: int) -> dict[str, Known]:
    """The ids among these that are stored inside the window, or still wait, and were not purged."""
    sql = (
        "SELECT message_id, m.partition, m.offset FROM message_ids AS m LEFT JOIN partitions AS p"
        " ON p.topic_id = m.topic_id AND p.partition = m.partition"
        " WHERE m.topic_id = ?1 AND m.message_id IN (SELECT value FROM json_each(?2))"
        " AND (CASE WHEN m.offset < 0 THEN -1 - m.offset >= (SELECT delayed_floor FROM topics WHERE topic_id = ?1)"
        " ELSE m.created_us >= ?3 AND m.offset >= coalesce(p.start_offset, 0) END)"
    )
    rows = transaction.database.rows(sql, (topic_id, msgspec.json.encode(ids).decode(), after_us))
    return {row[0]: Known(row[1], row[2] if row[2] >= 0 else None) for row in rows}


def _only(append: Append, kept: list[int]) -> Append:
    """The append with only these of its messages; packed again."""
    lines = append.lines.split(b"\n")
    attributes = append.attributes
    if attributes is not NO_ATTRIBUTES:
        attributes = Attributes(*[_picked(column, kept) for column in msgspec.structs.astuple(attributes)])
    return msgspec.structs.replace(
        append,
        lines=b"".join(lines[index] + b"\n" for index in kept),
        attributes=attributes,
        count=len(kept),
        packed=None,
    )


def _picked(column: Any, kept: list[int]) -> Any:
    """A column with only these places; one value that all share stays."""
    return [column[index] for index in kept] if isinstance(column, list) else column
