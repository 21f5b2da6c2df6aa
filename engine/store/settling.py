"""The work that writes down what became of claimed messages.

Each `Settlement` speaks for one claim, names it by its id, and changes nothing when the claim has passed to another consumer.
Acknowledged, filtered, expired and removed messages are counted in their lane; failed ones get a row of `retries`; dead
letters are published to the dead-letter topic, which is made when it is first needed, in the same transaction.
"""

from collections.abc import Mapping, Sequence

import msgspec

from geode_client import letters
from geode_client.catalog import TopicDefinition
from geode_client.clock import datetime_of, now_us
from geode_client.delivery.settlement import DeadLetter, Settlement, without
from geode_client.errors import GeodeError
from geode_client.message import Attributes
from geode_client.options import TopicOptions
from geode_client.routing import partition_of
from geode_client.store.groups import TOTAL
from geode_client.store.reordering import take_next_order
from geode_client.store.topics import CreateTopic, require_topic
from geode_client.store.writer import Append, Transaction


class Settle(msgspec.Struct, eq=False):
    """Write down settlements of a group. After the commit `lost` names the claims that had passed to another consumer.

    `dead_letter_topics`: name by topic id. `ordered`: the group delivers in the order of keys. With a `refusal` a lost claim refuses the whole work with it.
    """

    group_id: int
    name: str
    settlements: Sequence[Settlement]
    dead_letter_topics: Mapping[int, str]
    ordered: bool = False
    durable: bool = False
    refusal: GeodeError | None = None
    error: GeodeError | None = None
    lost: list[int] = msgspec.field(default_factory=list)
    _has_freed: bool = False  # a claim has no owner any more

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        held = self._held(transaction)
        self.lost = [one.claim_id for one in self.settlements if one.claim_id not in held]
        if self.lost and self.refusal is not None:
            raise self.refusal
        for settlement in self.settlements:
            if settlement.claim_id in held:
                # Several may speak of one claim: each finds what the one before has left of it.
                held[settlement.claim_id] = self._settle(transaction, settlement, *held[settlement.claim_id])
        if self._has_freed:
            take_next_order(transaction, self.group_id)

    def _held(self, transaction: Transaction) -> dict[int, tuple[int, bytes]]:
        """First offset and what is pending of each claim that is still ours."""
        ids = ", ".join(str(int(one.claim_id)) for one in self.settlements)
        rows = transaction.database.rows(
            f"SELECT claim_id, first, pending FROM claims WHERE claim_id IN ({ids}) AND owner IS NOT NULL"
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    def _settle(self, transaction: Transaction, one: Settlement, first: int, pending: bytes) -> tuple[int, bytes]:
        left = without(pending, one.settled)
        if one.tail_from is not None:
            tail, left = left[one.tail_from :], left[: one.tail_from]
            if 1 in tail:
                transaction.database.cursor.execute(_LET_GO_OF_TAIL, (first + one.tail_from, tail, one.claim_id))
                transaction.announce = True
        self._write_claim(transaction, one, pending, left)
        self._count(transaction, one)
        return first, left

    def _write_claim(self, transaction: Transaction, one: Settlement, pending: bytes, left: bytes) -> None:
        cursor = transaction.database.cursor
        if 1 not in left:
            transaction.announce |= self.ordered  # what waited behind it may go on, wherever it waits
            cursor.execute("DELETE FROM claims WHERE claim_id = ?", (one.claim_id,))
            self._has_freed = True
            return
        if left != pending:
            cursor.execute("UPDATE claims SET pending = ? WHERE claim_id = ?", (left, one.claim_id))
        if one.let_go:
            cursor.execute("UPDATE claims SET owner = NULL, begun = 0 WHERE claim_id = ?", (one.claim_id,))
            self._has_freed = True
            transaction.announce = True

    def _count(self, transaction: Transaction, one: Settlement) -> None:
        cursor = transaction.database.cursor
        transaction.announce |= bool(one.failures or one.parked)
        place = (self.group_id, one.topic_id, one.partition)
        expired = sum(letter.is_expired for letter in one.dead_letters)
        counts = (
            one.acknowledged,
            one.filtered,
            len(one.dead_letters) - expired,
            one.expired + expired,
            one.removed,
        )
        if any(counts):
            cursor.execute(_COUNT, (*counts, *place, one.lane))
        if any(counts) or one.failed or one.redelivered:
            cursor.execute(TOTAL, (self.name, one.topic_id, *counts, one.failed, one.redelivered))
        if one.failures:
            cursor.executemany(
                "INSERT OR REPLACE INTO retries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*place, f.offset, one.lane, f.key, f.attempts, f.not_before_us, f.error) for f in one.failures],
            )
        for parked in one.parked:
            park(transaction, (*place, parked.key), one.lane, parked.first, parked.pending)
        if one.dead_letters:
            bury(transaction, self.dead_letter_topics[one.topic_id], one.dead_letters)


def park(transaction: Transaction, place: tuple[int, int, int, str], lane: int, first: int, pending: bytes) -> None:
    """Have messages of a key wait behind an earlier one; `place`: group id, topic id, partition, key.

    They join the newest run of the key, up to PARKED_OFFSETS_MAX offsets: a key that fails for long costs few rows.
    """
    row = transaction.database.row(_NEWEST_PARKED, place)
    if row is not None and row[0] + len(row[1]) <= first and first + len(pending) - row[0] <= PARKED_OFFSETS_MAX:
        joined = row[1] + bytes(first - row[0] - len(row[1])) + pending
        transaction.database.cursor.execute(_PARK_MORE, (joined, *place, row[0]))
        return
    transaction.database.cursor.execute(PARK, (*place, first, lane, pending))


PARKED_OFFSETS_MAX = 4096
_NEWEST_PARKED = (
    "SELECT first, pending FROM parked WHERE group_id = ? AND topic_id = ? AND partition = ? AND key = ?"
    " ORDER BY first DESC LIMIT 1"
)
_PARK_MORE = (
    "UPDATE parked SET pending = ? WHERE group_id = ? AND topic_id = ? AND partition = ? AND key = ? AND first = ?"
)
PARK = "INSERT INTO parked (group_id, topic_id, partition, key, first, lane, pending) VALUES (?,?,?,?,?,?,?)"
_LET_GO_OF_TAIL = (
    "INSERT INTO claims (group_id, topic_id, partition, lane, first, attempts, retried, key, error, owner, deadline_us,"
    " pending, losses) SELECT group_id, topic_id, partition, lane, ?1, attempts, retried, key, error, NULL, 0, ?2, losses"
    " FROM claims WHERE claim_id = ?3"
)
_COUNT = (
    "UPDATE lanes SET acknowledged = acknowledged + ?, filtered = filtered + ?, dead_lettered = dead_lettered + ?,"
    " expired = expired + ?, removed = removed + ? WHERE group_id = ? AND topic_id = ? AND partition = ? AND lane = ?"
)


class Bury(msgspec.Struct, eq=False):
    """Dead letters of subscribers without a group."""

    dead_letter_topic: str
    letters: Sequence[DeadLetter]
    durable: bool = True
    error: GeodeError | None = None

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        bury(transaction, self.dead_letter_topic, self.letters)


def bury(transaction: Transaction, dead_letter_topic: str, buried: Sequence[DeadLetter]) -> None:
    """Publish dead letters; the topic is made when it is not there."""
    definition = TopicDefinition(dead_letter_topic, TopicOptions(max_message_bytes=2**40), automatic=True)
    CreateTopic(definition, if_not_exists=True).run(transaction)
    topic = require_topic(transaction, dead_letter_topic)
    at_us = now_us()
    time = datetime_of(at_us).isoformat()
    runs: dict[tuple[int, int], list[DeadLetter]] = {}
    for letter in buried:
        found = [str(letter.headers[name]) for name in letters.COUNTED_BY]
        transaction.database.cursor.execute(_BURIED, (*found, topic.name))
        partition = partition_of(letter.key, topic.partitions) if letter.key is not None else 0
        runs.setdefault((partition, letter.priority), []).append(letter)
    for (partition, priority), run in runs.items():
        ttl_us = topic.options.message_ttl_us
        keys = [letter.key for letter in run]
        histories = [letter.history for letter in run]
        transaction.append(
            Append(
                topic=topic.name,
                topic_id=topic.topic_id,
                partition=partition,
                priority=priority,
                count=len(run),
                lines=b"".join(letter.body + b"\n" for letter in run),
                attributes=Attributes(
                    keys=keys if any(key is not None for key in keys) else None,
                    headers=[{**letter.headers, "dead_letter_time": time} for letter in run],
                    expires_us=None if ttl_us is None else at_us + ttl_us,
                    histories=histories if any(history is not None for history in histories) else None,
                ),
                timestamp_us=at_us,
                schema_version=topic.schema_version,
                compress=topic.options.compression == "lz4",
                expires_first_us=None if ttl_us is None else at_us + ttl_us,
                expires_last_us=None if ttl_us is None else at_us + ttl_us,
            )
        )


_BURIED = (
    "INSERT INTO dead_letter_totals (name, topic, reason, letters, messages, outstanding) VALUES (?, ?, ?, ?, 1, 1)"
    " ON CONFLICT DO UPDATE SET messages = messages + 1, outstanding = outstanding + 1"
)


class Renew(msgspec.Struct, eq=False):
    """Move the deadlines of claims that are held: `deadlines` by claim id. After the commit `lost` names those that are not."""

    deadlines: Mapping[int, int]
    durable: bool = False
    error: GeodeError | None = None
    lost: list[int] = msgspec.field(default_factory=list)

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        cursor = transaction.database.cursor
        for claim_id, deadline_us in self.deadlines.items():
            cursor.execute(
                "UPDATE claims SET deadline_us = ? WHERE claim_id = ? AND owner IS NOT NULL", (deadline_us, claim_id)
            )
            if not transaction.database.connection.changes():
                self.lost.append(claim_id)
