"""Removing what retention, expiry, PURGE and DROP leave behind, in slices of whole batches.

Each slice is one short transaction: it removes rows, the message ids that they hold, and counts what it removed. A batch
id or offset is never given again: the floor of the batch ids is raised when the newest rows go.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from geode_client import letters
from geode_client.catalog import Topic, dead_letter_topic_of
from geode_client.clock import boot_us
from geode_client.delivery.settlement import DeadLetter, dead_letter
from geode_client.errors import GeodeError
from geode_client.letters import Addressee
from geode_client.message import DELETED_US, Chunk
from geode_client.store.batch import READ_COLUMNS, unpack, unpack_attributes
from geode_client.store.groups import Ahead, lane_members, pass_over
from geode_client.store.letters import gone as letters_gone
from geode_client.store.log import LogReader
from geode_client.store.settling import bury
from geode_client.store.topics import drop_topic, topic_by_id
from geode_client.store.waiting import Waiting, settle_waiting
from geode_client.store.writer import Transaction
from geode_client.store.zones import forget_zones

SLICE_BATCHES = 500
PAGE_TOPICS = 500

_COLUMNS = "batch_id, topic_id, partition, base_offset, count, stored_bytes, codec, attributes, appended_bytes"


class RemoveBatches(msgspec.Struct, eq=False):
    """Remove these batches; `counter` is the column of `partition_marks` that counts them: removed or expired.

    `leases_until_us`: claims whose lease ends before this boot time are nobody's; None: before now.
    """

    batch_ids: Sequence[int]
    counter: str
    leases_until_us: int | None = None
    durable: bool = False
    error: GeodeError | None = None
    messages: int = 0

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        assert self.counter in ("removed", "expired")
        cursor = transaction.database.cursor
        touched: set[tuple[int, int]] = set()
        for batch_id in self.batch_ids:
            row = transaction.database.row(f"SELECT {_COLUMNS} FROM batches WHERE batch_id = ?", (batch_id,))
            if row is None:
                continue
            self._count_for_groups(transaction, row)
            _forget_contents(transaction, row)
            cursor.execute("DELETE FROM batches WHERE batch_id = ?", (batch_id,))
            cursor.execute(
                f"UPDATE partition_marks SET removed_bytes = removed_bytes + ?3, {self.counter} = {self.counter} + ?4,"
                " end_offset = max(end_offset, ?5), appended_bytes = max(appended_bytes, ?6)"
                " WHERE topic_id = ?1 AND partition = ?2",
                (row[1], row[2], row[5], row[4], row[3] + row[4], row[8]),
            )
            self.messages += row[4]
            touched.add((row[1], row[2]))
        for topic_id, partition in touched:
            forget_zones(transaction, topic_id, partition)
        sql = "UPDATE store_state SET value = max(value, ?) WHERE name = 'batch_id_floor'"
        cursor.execute(sql, (transaction.next_batch_id,))

    def _count_for_groups(self, transaction: Transaction, row: tuple[Any, ...]) -> None:
        """Groups that had messages of the batch ahead pass over them. Expired ones count at once also where they wait for a
        retry or are in nobody's hand, and become dead letters where that is wanted."""
        topic_id, partition, base, count = row[1:5]
        place = (topic_id, partition, base, base + count)
        topic = topic_by_id(transaction, topic_id) if self.counter == "expired" else None
        addressee = _addressee(row)
        ahead = pass_over(transaction, *place, self.counter, addressee)
        waiting = settle_waiting(transaction, *place, self.counter, self.leases_until_us or boot_us())
        if self.counter != "expired":
            return
        if topic is None or not topic.options.dead_letter_expired or not (ahead or waiting):
            return
        sql = f"SELECT {READ_COLUMNS} FROM batches WHERE batch_id = ?"
        chunk = unpack(transaction.database.rows(sql, (row[0],))[0], topic.name, "")
        found = [*_letters_ahead(transaction, chunk, ahead), *_letters_of_waiting(chunk, waiting)]
        if found:
            bury(transaction, dead_letter_topic_of(topic.name, topic.options), found)


def _addressee(row: tuple[Any, ...]) -> Addressee | None:
    try:
        return unpack_attributes(row[6], row[7]).addressee
    except Exception:  # noqa: BLE001 - damaged: nobody can be told any more whom it was for
        return None


def _letters_ahead(transaction: Transaction, chunk: Chunk, ahead: Sequence[Ahead]) -> Iterator[DeadLetter]:
    for one in ahead:
        arguments = (one.order_by, one.lane, chunk.topic_id, chunk.partition, one.start, chunk.end_offset)
        for first, members, _ in lane_members(transaction.database, *arguments):
            for place, member in enumerate(members, first - chunk.base_offset):
                if member and chunk.attributes.expiry_us(place) != DELETED_US:
                    yield dead_letter(
                        *(chunk, place),
                        group=one.name,
                        pattern=one.pattern,
                        reason=letters.EXPIRED,
                        attempts=0,
                        error=None,
                    )


def _letters_of_waiting(chunk: Chunk, waiting: Sequence[Waiting]) -> Iterator[DeadLetter]:
    for one in waiting:
        if chunk.attributes.expiry_us(one.offset - chunk.base_offset) != DELETED_US:
            yield dead_letter(
                *(chunk, one.offset - chunk.base_offset),
                group=one.name,
                pattern=one.pattern,
                reason=letters.EXPIRED,
                attempts=one.attempts,
                error=one.error,
            )


def _forget_contents(transaction: Transaction, row: tuple[Any, ...]) -> None:
    """What is known elsewhere of the messages of a batch: their ids, and those that are outstanding dead letters."""
    try:
        attributes = unpack_attributes(row[6], row[7])
    except Exception:  # noqa: BLE001 - whatever is wrong with them
        return  # damaged attributes name no ids; the ids that stay only keep copies out
    topic_id, partition, base, count = row[1:5]
    letters_gone(transaction, topic_id, partition, base, count, attributes)
    ids = attributes.ids
    if ids is not None:
        transaction.database.cursor.executemany(
            "DELETE FROM message_ids WHERE topic_id = ? AND message_id = ? AND partition = ? AND offset = ?",
            [(row[1], known, row[2], row[3] + index) for index, known in enumerate(ids) if known is not None],
        )


class ForgetTopics(msgspec.Struct, eq=False):
    """Remove what is left of dropped topics whose batches are gone."""

    topic_ids: Sequence[int]
    durable: bool = False
    error: GeodeError | None = None

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        # The rows of the topics go too, but their numbers are kept: AUTOINCREMENT never gives one again.
        for table in ("partition_marks", "message_ids", "schema_versions", "zones", "zone_columns", "topics"):
            sql = f"DELETE FROM {table} WHERE topic_id = ?"
            transaction.database.cursor.executemany(sql, [(topic_id,) for topic_id in self.topic_ids])


class Idle(msgspec.Struct, frozen=True):
    """A topic that was made automatically, and may be dropped when nothing has come to it since `before_us`."""

    topic_id: int
    name: str
    before_us: int


class DropIdle(msgspec.Struct, eq=False):
    """Drop idle topics; one to which something has come meanwhile stays."""

    topics: Sequence[Idle]
    durable: bool = False
    error: GeodeError | None = None

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        for idle in self.topics:
            if transaction.database.row(_IS_IDLE, (idle.topic_id, idle.before_us)):
                drop_topic(transaction, idle.topic_id)


_IS_IDLE = (
    "SELECT 1 FROM topics AS t WHERE topic_id = ?1 AND dropped = 0"
    " AND NOT EXISTS (SELECT 1 FROM delayed AS d WHERE d.topic_id = ?1)"
    " AND NOT EXISTS (SELECT 1 FROM partitions AS p WHERE p.topic_id = ?1 AND (SELECT timestamp_us FROM batches AS b"
    " WHERE b.topic_id = ?1 AND b.partition = p.partition ORDER BY base_offset DESC LIMIT 1) > ?2)"
)


def idle_topics(log: LogReader, after: int, now: int) -> tuple[list[Idle], int | None]:
    """Of a page of topics, by their numbers from `after` on, those whose idle time has run; the last number, None at the end.

    Whether anybody subscribes to them is for the caller to see. `now` is in microseconds since 1970.
    """
    sql = (
        "SELECT topic_id, name, created_us, automatic, json_extract(CAST(options AS TEXT), '$.expire_when_idle_us')"
        f" FROM topics WHERE swept = 1 AND dropped = 0 AND topic_id > ? ORDER BY topic_id LIMIT {PAGE_TOPICS}"
    )
    rows = log.rows(sql, (after,))
    found = [
        Idle(topic_id, name, now - idle_us)
        for topic_id, name, created_us, automatic, idle_us in rows
        if automatic and idle_us is not None and created_us <= now - idle_us
    ]
    return found, rows[-1][0] if rows else None


def still_idle(log: LogReader, idle: Idle) -> bool:
    """Whether nothing has come to the topic, and nothing waits for its time."""
    return bool(log.rows(_IS_IDLE, (idle.topic_id, idle.before_us)))


def existing(log: LogReader, topic_ids: Sequence[int]) -> set[int]:
    """Those of the topics that have a row still."""
    sql = "SELECT topic_id FROM topics WHERE topic_id IN (SELECT value FROM json_each(?))"
    return {row[0] for row in log.rows(sql, (msgspec.json.encode(list(topic_ids)).decode(),))}


def unreachable(log: LogReader) -> list[int]:
    """Batches below the start of their partition, which PURGE has moved: at most a slice."""
    sql = (
        "SELECT b.batch_id FROM partition_marks AS m CROSS JOIN batches AS b ON b.topic_id = m.topic_id"
        " AND b.partition = m.partition AND b.base_offset < m.start_offset"
        f" WHERE m.start_offset > 0 LIMIT {SLICE_BATCHES}"
    )
    return [row[0] for row in log.rows(sql)]


def expired(log: LogReader, at_us: int, at_boot_us: int | None = None) -> list[int]:
    """Batches all of whose messages have expired at `at_us` (microseconds since 1970): at most a slice."""
    # What a living consumer has in hand stays until it has said what became of it.
    sql = (
        "SELECT batch_id FROM batches AS b WHERE expires_last_us <= ? AND NOT EXISTS (SELECT 1 FROM claims AS c"
        " WHERE c.topic_id = b.topic_id AND c.partition = b.partition AND c.owner IS NOT NULL AND c.deadline_us >= ?"
        " AND c.first < b.base_offset + b.count AND c.first + length(c.pending) > b.base_offset)"
        f" ORDER BY expires_last_us LIMIT {SLICE_BATCHES}"
    )
    return [row[0] for row in log.rows(sql, (at_us, at_boot_us or boot_us()))]


def of_dropped(log: LogReader, topic_id: int) -> list[int]:
    """Batches of a dropped topic: at most a slice."""
    sql = f"SELECT batch_id FROM batches WHERE topic_id = ? LIMIT {SLICE_BATCHES}"
    return [row[0] for row in log.rows(sql, (topic_id,))]


def dropped_topics(log: LogReader) -> list[int]:
    return [row[0] for row in log.rows("SELECT topic_id FROM topics WHERE swept = 1 AND dropped = 1")]


def private_owners(log: LogReader) -> list[str]:
    """Processes that private groups serve."""
    return [row[0] for row in log.rows("SELECT DISTINCT private_to FROM groups WHERE private_to IS NOT NULL")]


def retained_topics(log: LogReader) -> list[int]:
    """Topics with a retention."""
    sql = (
        "SELECT topic_id FROM (SELECT topic_id, CAST(options AS TEXT) AS o FROM topics WHERE swept = 1 AND dropped = 0)"
        " WHERE o ->> 'retention_period_us' IS NOT NULL OR o ->> 'retention_bytes' IS NOT NULL OR o ->> 'retention' = 'consumed'"
    )
    return [row[0] for row in log.rows(sql)]


def beyond_retention(log: LogReader, topic: Topic, now: int) -> list[int]:
    """The oldest batches of a topic that its retention removes at `now` (microseconds since 1970): at most a slice.

    `retention_bytes` never removes the newest batch.
    """
    options = topic.options
    oldest = [_oldest(log, topic.topic_id, partition) for partition in range(topic.partitions)]
    chosen: list[int] = []
    if options.retention_period_us is not None:
        before_us = now - options.retention_period_us
        for partition, found in enumerate(oldest):
            chosen += _accepted_before(log, topic.topic_id, partition, found, before_us, now)
    rows = sorted(row for found in oldest for row in found)
    if options.retention_bytes is not None:
        sql = "SELECT coalesce(sum(stored_bytes), 0) FROM partitions WHERE topic_id = ?"
        excess = log.rows(sql, (topic.topic_id,))[0][0] - options.retention_bytes
        chosen += [number for number in _oldest_beyond(rows, excess) if number not in chosen]
    if options.retention == "consumed":
        chosen += [number for number in consumed(log, topic) if number not in chosen]
    return chosen[:SLICE_BATCHES]


def consumed(log: LogReader, topic: Topic) -> list[int]:
    """Batches that every group of the topic has settled; none while the topic has no group."""
    sql = (
        "SELECT partition, min(frontier), (SELECT min(first) FROM claims AS c WHERE c.topic_id = l.topic_id"
        " AND c.partition = l.partition), (SELECT min(offset) FROM retries AS r WHERE r.topic_id = l.topic_id"
        " AND r.partition = l.partition), (SELECT min(first) FROM parked AS w WHERE w.topic_id = l.topic_id"
        " AND w.partition = l.partition) FROM lanes AS l WHERE topic_id = ? GROUP BY partition"
    )
    chosen: list[int] = []
    for partition, *ends in log.rows(sql, (topic.topic_id,)):
        settled = min(end for end in ends if end is not None)
        found = log.rows(
            "SELECT batch_id FROM batches WHERE topic_id = ? AND partition = ? AND base_offset + count <= ?"
            f" ORDER BY base_offset LIMIT {SLICE_BATCHES}",
            (topic.topic_id, partition, settled),
        )
        chosen += [row[0] for row in found]
    return chosen


def _oldest(log: LogReader, topic_id: int, partition: int) -> list[tuple[Any, ...]]:
    sql = (
        "SELECT batch_id, timestamp_us, stored_bytes, base_offset, behind_us FROM batches WHERE topic_id = ? AND partition = ?"
        f" ORDER BY base_offset LIMIT {SLICE_BATCHES}"
    )
    return log.rows(sql, (topic_id, partition))


def _accepted_before(
    log: LogReader, topic_id: int, partition: int, rows: list[tuple[Any, ...]], before_us: int, now: int
) -> list[int]:
    """Of the oldest batches of a partition those that were certainly accepted before a time, whatever the clock did.

    A timestamp in the future, or below one before it, was given by a clock that was wrong then or was set since. Such a batch
    is as old as the next one whose timestamp is neither; without one it stays.
    """
    chosen = pending = 0
    highest_us = 0
    for _, timestamp_us, _, _, behind_us in rows:
        pending += 1
        is_behind = timestamp_us < highest_us or 0 < behind_us <= now - timestamp_us
        if timestamp_us <= now and not is_behind:
            if timestamp_us >= before_us:
                return [row[0] for row in rows[:chosen]]
            highest_us, chosen = timestamp_us, chosen + pending
            pending = 0
    if not chosen and len(rows) == SLICE_BATCHES and _is_old_later(log, topic_id, partition, rows[-1][3], before_us):
        chosen = len(rows)
    return [row[0] for row in rows[:chosen]]


def _is_old_later(log: LogReader, topic_id: int, partition: int, offset: int, before_us: int) -> bool:
    """Whether a batch after `offset` was accepted before a time; looks at few, further and further away."""
    sql = (
        "SELECT timestamp_us FROM batches WHERE topic_id = ? AND partition = ? AND base_offset >= ?"
        " ORDER BY base_offset LIMIT 1"
    )
    end, step = log.next_offset(topic_id, partition), 1
    while offset + step < end:
        found = log.rows(sql, (topic_id, partition, offset + step))
        if found and found[0][0] < before_us:
            return True
        step *= 2
    return False


def _oldest_beyond(rows: list[tuple[Any, ...]], excess: int) -> list[int]:
    chosen: list[int] = []
    for batch_id, _, size, *_ in rows[:-1]:
        if excess <= 0:
            break
        chosen.append(batch_id)
        excess -= size
    return chosen
