"""A world without asyncio for the delivery core: one real store in memory, several processes, two clocks, and ledgers.

Everything is one call after the other, so that an interleaving is a list of calls. `World.check` holds all tables against
the ledgers, and what the workers have in memory against what it should be.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delivery import ledger
from delivery.ledger import AHEAD, CLAIMED, RETRY, Ledger, Place, Published

from geode_client.catalog import Delivery, Topic, TopicDefinition
from geode_client.conditions.fields import MessageChunk
from geode_client.conditions.requirements import ANYTHING, Requirement
from geode_client.delivery.lanes import KEY
from geode_client.message import Attributes
from geode_client.options import TopicOptions
from geode_client.routing import partition_of
from geode_client.store import sweeping
from geode_client.store.database import Database, Layout, open_writer
from geode_client.store.groups import DropGroup, GroupDefinition, JoinGroup, PauseGroup, SeekGroup, Starts
from geode_client.store.locks import NoLock
from geode_client.store.log import LogReader
from geode_client.store.publishing import Part, PublishWork
from geode_client.store.sweeping import RemoveBatches
from geode_client.store.topics import CreateTopic, PurgeTopic, TopicReader
from geode_client.store.writer import Append, Committed, Writer

if TYPE_CHECKING:
    from delivery.worker import Worker

SECOND_US = 1_000_000
# Group, topic, partition, offset.
Letter = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class NotThirds:
    """The condition of the model's groups."""

    text: str = "n % 3 <> 0"
    bound_text: str = "n % 3 <> 0"
    requirement: Requirement = ANYTHING

    def select_among(self, chunk: MessageChunk, places: Sequence[int]) -> Sequence[int]:
        return [index for index in self.select(chunk) if index in places]

    def select(self, chunk: MessageChunk) -> Sequence[int]:
        return [index for index in range(chunk.count) if int(chunk.bodies[index]) % 3 != 0]


@dataclass(slots=True)
class World:
    """The store, the clocks, the messages, the groups and the workers. `lines` tell what has happened.

    `latest_us`: the furthest that the wall clock has been.
    """

    options: TopicOptions = field(default_factory=TopicOptions)
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    wall_us: int = 1_700_000_000 * SECOND_US
    boot_us: int = 1_000 * SECOND_US
    latest_us: int = 0
    messages: dict[Place, Published] = field(default_factory=dict)
    batches: dict[int, list[Place]] = field(default_factory=dict)
    topics: dict[str, int] = field(default_factory=dict)
    groups: list[Ledger] = field(default_factory=list)
    workers: list["Worker"] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    purged: dict[tuple[int, int], int] = field(default_factory=dict)
    buried: Counter[Letter] = field(default_factory=Counter)
    letters: Counter[Letter] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    database: Database = field(init=False)
    writer: Writer = field(init=False)
    log: LogReader = field(init=False)
    catalog: TopicReader = field(init=False)

    def __post_init__(self) -> None:
        self.database = open_writer(Layout(None))
        self.writer = Writer(self.database, NoLock(), self._committed)
        self.log = LogReader(self.database, lambda number: self.catalog.name_of(number), lambda _, __: {}, "s-")
        self.catalog = TopicReader(self.log)

    def close(self) -> None:
        self.database.close()

    def tell(self, line: str) -> None:
        self.lines.append(line)

    # ── the store ──
    def run(self, *works: Any) -> None:
        """Commit works together; raises what refused one of them."""
        assert self.writer.try_now(list(works))
        for work in works:
            if work.error is not None:
                raise work.error

    def _committed(self, committed: Committed) -> None:
        if committed.error is not None:
            raise committed.error
        for append in committed.appended:
            if append.topic.startswith("_dlq/"):
                for index in range(append.count):
                    headers = append.attributes.headers[index]  # type: ignore[index]
                    assert headers is not None
                    origin = (headers["dead_letter_partition"], headers["dead_letter_offset"])
                    self.buried[headers["dead_letter_group"], self.topics[headers["dead_letter_topic"]], *origin] += 1

    # ── topics and messages ──
    def create_topic(self, name: str) -> None:
        definition = TopicDefinition(name, self.options, delivery=self.delivery)
        self.run(CreateTopic(definition, if_not_exists=False))
        self.catalog.refresh()
        self.topics[name] = topic_id = self.catalog.require(name).topic_id
        self.tell(f"topic {name} is #{topic_id}")
        for group in self.groups:
            for partition in range(self.options.partitions):
                group.origins[topic_id, partition] = 0

    def publish(
        self, topic: str, partition: int, messages: Sequence[tuple[str | None, int | None]], priority: int
    ) -> None:
        """A batch of messages, each with its key and its time to live."""
        found = self.catalog.require(topic)
        parts: dict[int, list[tuple[str | None, int | None]]] = {}
        for key, ttl_us in messages:
            chosen = partition % found.partitions if key is None else partition_of(key, found.partitions)
            parts.setdefault(chosen, []).append((key, ttl_us))
        for chosen, part in parts.items():
            self._publish_part(found, chosen, part, priority)

    def _publish_part(
        self, topic: Topic, partition: int, messages: Sequence[tuple[str | None, int | None]], priority: int
    ) -> None:
        numbers = range(len(self.messages), len(self.messages) + len(messages))
        expires = [None if ttl_us is None else self.wall_us + ttl_us for _, ttl_us in messages]
        last = None if None in expires else max(at for at in expires if at is not None)
        append = Append(
            topic=topic.name,
            topic_id=topic.topic_id,
            partition=partition,
            priority=priority,
            count=len(messages),
            lines=b"".join(b"%d\n" % number for number in numbers),
            attributes=Attributes(keys=[key for key, _ in messages], expires_us=expires),
            timestamp_us=self.wall_us,
            schema_version=topic.schema_version,
            compress=False,
            expires_first_us=min((at for at in expires if at is not None), default=None),
            expires_last_us=last,
        )
        part = Part(append, range(len(messages)))
        self.run(PublishWork(topic.topic_id, topic.revision, self.catalog.version, True, [part], None))
        shown = []
        for index, (key, _) in enumerate(messages):
            place = (topic.topic_id, partition, append.base_offset + index)
            message = Published(place, numbers[index], key, priority, expires[index])
            self.messages[place] = message
            shown.append(str(message))
            for group in self.groups:
                group.published(message)
            self.batches.setdefault(append.batch_id, []).append(place)
        self.tell(f"publish {' '.join(shown)} in batch {append.batch_id}")

    def remove(self, batch_ids: Sequence[int], counter: str) -> None:
        """Retention, or the expiry of whole batches."""
        places = [place for batch_id in batch_ids for place in self.batches.pop(batch_id)]
        self.run(RemoveBatches(batch_ids, counter, leases_until_us=self.boot_us))
        buries = counter == ledger.EXPIRED and self.options.dead_letter_expired
        for place in places:
            message = self.messages[place]
            was_stored, message.stored = message.stored, False
            for group in self.groups:
                if was_stored and group.gone(message, counter, self.boot_us) and buries:
                    self.letters[group.name, *place] += 1
        self.tell(f"{counter} by the sweeper: batches {list(batch_ids)}")

    def expired_batches(self) -> list[int]:
        """What the sweeper would choose now."""
        return [one for one in sweeping.expired(self.log, self.wall_us, self.boot_us) if one in self.batches]

    def purge(self, topic: str) -> None:
        self.run(PurgeTopic(topic))
        for message in self.messages.values():
            if message.place[0] == self.topics[topic] and message.stored:
                message.stored = False
                for group in self.groups:
                    group.gone(message, ledger.REMOVED, self.boot_us)
        for topic_id, partition, offset in self.messages:
            if topic_id == self.topics[topic]:
                self.purged[topic_id, partition] = max(self.purged.get((topic_id, partition), 0), offset + 1)
        self.tell(f"purge {topic}")

    # ── groups ──
    def make_group(self, group: Ledger, starts: Starts) -> None:
        condition = NotThirds().bound_text if group.has_condition else None
        join = JoinGroup(GroupDefinition(group.name, group.pattern, condition, order_by=group.order_by), starts)
        self.run(join)
        assert join.group is not None
        group.group_id = join.group.group_id
        for topic_id in self.topics.values():
            self._start(group, topic_id, starts)
        self.groups.append(group)
        self.tell(f"group {group.name} ({group.order_by}) from {starts}")

    def _start(self, group: Ledger, topic_id: int, starts: Starts) -> None:
        for partition in range(self.options.partitions):
            log = [message for place, message in self.messages.items() if place[:2] == (topic_id, partition)]
            assert starts is None or isinstance(starts, int)
            end, low = len(log), self.purged.get((topic_id, partition), 0)
            group.started(topic_id, partition, end if starts is None else min(max(starts, low), end), log)

    def seek(self, group: Ledger, topic: str, starts: Starts) -> None:
        self.run(SeekGroup(group.name, topic, starts))
        self._start(group, self.topics[topic], starts)
        self.tell(f"seek {group.name} on {topic} to {starts}")

    def pause(self, group: Ledger, *, paused: bool) -> None:
        self.run(PauseGroup(group.name, None, paused))
        group.paused = paused
        self.tell(f"{'pause' if paused else 'resume'} {group.name}")

    def drop(self, group: Ledger) -> None:
        self.run(DropGroup(group.name))
        self.groups.remove(group)
        group.leases.clear()
        self.tell(f"drop {group.name}")

    # ── processes ──
    def kill(self, worker: "Worker") -> None:
        self.workers.remove(worker)
        self.dead.append(worker.name)
        for hands in worker.group.hands.values():
            for hand in [hand for hand in hands if hand[1].startswith(f"{worker.name}.")]:
                hands.discard(hand)
        self.tell(f"{worker.name} dies")

    # ── the law ──
    def check(self) -> None:
        for group in self.groups:
            self._check_claims(group)
            self._check_retries(group)
            self._check_lanes(group)
        assert self.buried == self.letters, (
            f"dead letters: {self.buried - self.letters} too many, {self.letters - self.buried} missing"
        )
        for worker in self.workers:
            worker.check()

    def _check_claims(self, group: Ledger) -> None:
        sql = "SELECT claim_id, topic_id, partition, lane, first, owner, pending FROM claims WHERE group_id = ?"
        seen: dict[Place, int] = {}
        for claim_id, topic_id, partition, lane, first, owner, pending in self.log.rows(sql, (group.group_id,)):
            places = {(topic_id, partition, first + i) for i, one in enumerate(pending) if one}
            for place in places:
                assert place not in seen, f"{self.messages[place]} is in claims {seen[place]} and {claim_id}"
                seen[place] = claim_id
                assert group.lane_of(self.messages[place]) == lane, f"claim {claim_id}: {place} is not of lane {lane}"
            lease = group.leases.get(claim_id)
            assert (lease is None) == (owner is None), f"claim {claim_id} belongs to {owner}, expected {lease}"
            assert lease is None or lease.places == places, (
                f"claim {claim_id} of {owner} has {sorted(places)}, expected {sorted(lease.places)}"
            )
        self._same(group, "in claims", set(seen), group.placed(CLAIMED))

    def _check_retries(self, group: Ledger) -> None:
        sql = "SELECT topic_id, partition, offset, key, attempts FROM retries WHERE group_id = ?"
        rows = self.log.rows(sql, (group.group_id,))
        self._same(group, "waiting for a retry", {row[:3] for row in rows}, group.placed(RETRY))
        for *place, key, attempts in rows:
            known = (place[0], place[1], place[2])
            message = self.messages[known]
            assert attempts == group.attempts[known], (
                f"{message} has {attempts} attempts behind it, expected {group.attempts[known]}"
            )
            assert key == (message.key if group.order_by == KEY else None)

    def _check_lanes(self, group: Ledger) -> None:
        sql = (
            "SELECT topic_id, partition, lane, origin, frontier, acknowledged, filtered,"
            " dead_lettered, expired, removed FROM lanes WHERE group_id = ?"
        )
        ahead: set[Place] = set()
        found: Counter[tuple[int, int, str]] = Counter()
        by_lane: dict[tuple[int, int, int], list[Published]] = {}
        for message in self.messages.values():
            by_lane.setdefault((*message.place[:2], group.lane_of(message)), []).append(message)
        for topic_id, partition, lane, origin, frontier, *rest in self.log.rows(sql, (group.group_id,)):
            assert origin == group.origins[topic_id, partition]
            ahead |= {
                message.place
                for message in by_lane.get((topic_id, partition, lane), ())
                if message.stored and message.place[2] >= frontier
            }
            for word, number in zip(ledger.FINAL, rest, strict=True):
                found[topic_id, partition, word] += number
        self._same(group, "ahead", ahead, group.placed(AHEAD))
        expected = Counter((*place[:2], state) for place, state in group.state.items() if state in ledger.FINAL)
        assert +found == expected, f"{group.name} counts {dict(+found)}, expected {dict(expected)}"
        published = sum(1 for place in self.messages if place[2] >= group.origins.get(place[:2], 1 << 60))
        assert published == len(group.state), f"{group.name}: {published} published, {len(group.state)} accounted for"

    def _same(self, group: Ledger, what: str, found: set[Place], expected: set[Place]) -> None:
        more = [str(self.messages[place]) for place in sorted(found - expected)]
        less = [f"{self.messages[place]} ({group.state[place]})" for place in sorted(expected - found)]
        assert not more + less, f"{group.name}: {what} too many: {more}, missing: {less}"
