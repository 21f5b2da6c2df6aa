"""A world without asyncio for the delivery core: one real store in memory, several processes, two clocks, and ledgers.

Everything is one call after the other, so that an interleaving is a list of calls. `World.check` holds all tables against
the ledgers, and what the workers have in memory against what it should be.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delivery.ledger import (
    AHEAD,
    CLAIMED,
    EXPIRED,
    FINAL,
    PARKED,
    REMOVED,
    RETRY,
    Ledger,
    Place,
    Published,
    Where,
)

from geode_client.catalog import Delivery, Topic, TopicDefinition
from geode_client.conditions.fields import MessageChunk
from geode_client.conditions.requirements import ANYTHING, Requirement
from geode_client.delivery.actions import Now
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
    from delivery.process import Process

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
    processes: list["Process"] = field(default_factory=list)
    started: int = 0
    acting: str | None = None
    has_lost_news: bool = False
    dead: list[str] = field(default_factory=list)
    purged: dict[tuple[int, int], int] = field(default_factory=dict)
    buried: Counter[Letter] = field(default_factory=Counter)
    letters: Counter[Letter] = field(default_factory=Counter)
    firsts: dict[int, int] = field(default_factory=dict)
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
    @property
    def now(self) -> Now:
        return Now(self.wall_us, self.boot_us)

    def run(self, *works: Any) -> None:
        """Commit works together; raises what refused one of them."""
        assert self.writer.try_now(list(works))
        for work in works:
            if work.error is not None:
                raise work.error

    def _committed(self, committed: Committed) -> None:
        if committed.error is not None:
            raise committed.error
        if committed.announce:
            self.announce(but=self.acting)
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
        self,
        topic: str,
        partition: int,
        messages: Sequence[tuple[str | None, int | None]],
        priority: int,
        *,
        poison: int | None = None,
    ) -> None:
        """A batch of messages, each with its key and its time to live; the one at `poison` kills its consumers."""
        found = self.catalog.require(topic)
        parts: dict[int, list[tuple[str | None, int | None, bool]]] = {}
        for index, (key, ttl_us) in enumerate(messages):
            chosen = partition % found.partitions if key is None else partition_of(key, found.partitions)
            parts.setdefault(chosen, []).append((key, ttl_us, index == poison))
        for chosen, part in parts.items():
            self._publish_part(found, chosen, part, priority)

    def _publish_part(
        self, topic: Topic, partition: int, messages: Sequence[tuple[str | None, int | None, bool]], priority: int
    ) -> None:
        numbers = range(len(self.messages), len(self.messages) + len(messages))
        expires = [None if ttl_us is None else self.wall_us + ttl_us for _, ttl_us, _ in messages]
        last = None if None in expires else max(at for at in expires if at is not None)
        append = Append(
            topic=topic.name,
            topic_id=topic.topic_id,
            partition=partition,
            priority=priority,
            count=len(messages),
            lines=b"".join(b"%d\n" % number for number in numbers),
            attributes=Attributes(keys=[key for key, *_ in messages], expires_us=expires),
            timestamp_us=self.wall_us,
            schema_version=topic.schema_version,
            compress=False,
            expires_first_us=min((at for at in expires if at is not None), default=None),
            expires_last_us=last,
        )
        part = Part(append, range(len(messages)))
        self.run(PublishWork(topic.topic_id, topic.revision, self.catalog.version, True, [part], None))
        shown = []
        for index, (key, _, poisonous) in enumerate(messages):
            place = (topic.topic_id, partition, append.base_offset + index)
            message = Published(place, numbers[index], key, priority, expires[index], poisonous)
            self.messages[place] = message
            shown.append(str(message))
            self.batches.setdefault(append.batch_id, []).append(place)
        self.tell(f"publish {' '.join(shown)} in batch {append.batch_id}")
        self.news(topic.topic_id, priority)

    def remove(self, batch_ids: Sequence[int], counter: str) -> None:
        """Retention, or the expiry of whole batches."""
        places = [place for batch_id in batch_ids for place in self.batches.pop(batch_id)]
        gone = [self.messages[place] for place in places]
        self._take_away(gone, counter, RemoveBatches(batch_ids, counter, leases_until_us=self.boot_us))
        self.tell(f"{counter} by the sweeper: batches {list(batch_ids)}")

    def _take_away(self, gone: Sequence[Published], counter: str, work: Any) -> None:
        """Do what removes messages: what no member has in hand counts at once, and frees its key."""
        before = [(group, self.places(group)) for group in self.groups]
        self.run(work)
        for message in gone:
            message.stored = False
        for group, places in before:
            after = self.places(group)
            for message in gone:
                place, was = message.place, places.get(message.place)
                if was is None:
                    continue
                is_held = was.state == CLAIMED and was.owner is not None and was.deadline_us >= self.boot_us
                assert (place in after) == is_held, f"{group.name}: {message} was {was}, and is {after.get(place)}"
                if not is_held:
                    group.count(place, counter)
                    if counter == EXPIRED and self.options.dead_letter_expired:
                        self.letters[group.name, *place] += 1
        self.announce()

    def news(self, topic_id: int, lane: int) -> None:
        """Every process will hear of a new batch."""
        for process in self.processes:
            process.news.append((topic_id, lane))

    def announce(self, but: str | None = None) -> None:
        """Every process, but for one, will hear that something has moved."""
        for process in self.processes:
            if process.name != but:
                process.news.append(None)

    def expired_batches(self) -> list[int]:
        """What the sweeper would choose now."""
        return [one for one in sweeping.expired(self.log, self.wall_us, self.boot_us) if one in self.batches]

    def purge(self, topic: str) -> None:
        here = [m for m in self.messages.values() if m.place[0] == self.topics[topic]]
        self._take_away(here, REMOVED, PurgeTopic(topic, leases_until_us=self.boot_us))
        for message in here:
            part = message.place[:2]
            self.purged[part] = max(self.purged.get(part, 0), message.place[2] + 1)
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
        self.announce()
        self.tell(f"seek {group.name} on {topic} to {starts}")

    def pause(self, group: Ledger, *, paused: bool) -> None:
        self.run(PauseGroup(group.name, None, paused))
        group.paused = paused
        self.announce()
        self.tell(f"{'pause' if paused else 'resume'} {group.name}")

    def drop(self, group: Ledger) -> None:
        self.run(DropGroup(group.name))
        self.groups.remove(group)
        self.announce()
        self.tell(f"drop {group.name}")

    # ── processes ──
    def kill(self, process: "Process") -> None:
        """What is on its way between the process and the store is lost with it, but for what has been committed."""
        self.processes.remove(process)
        self.dead.append(process.owner)
        process.die()
        self.tell(f"{process.name} dies")

    # ── where everything is ──
    def places(self, group: Ledger) -> dict[Place, Where]:
        """Where the store has the messages of a group that are not settled; holds that each is in one place only."""
        found: dict[Place, Where] = {}

        def add(place: Place, where: Where) -> None:
            assert place not in found, f"{group.name}: {self.messages[place]} is in {found[place]} and in {where}"
            found[place] = where

        for place, where in [*self._claimed(group), *self._waiting(group), *self._ahead(group)]:
            add(place, where)
        return found

    def _claimed(self, group: Ledger) -> Iterator[tuple[Place, Where]]:
        sql = (
            "SELECT claim_id, topic_id, partition, lane, first, owner, deadline_us, attempts, losses, begun, pending"
            " FROM claims WHERE group_id = ?"
        )
        for claim_id, topic_id, partition, lane, first, owner, *rest, pending in self.log.rows(sql, (group.group_id,)):
            deadline_us, attempts, losses, begun = rest
            assert 1 in pending, f"claim {claim_id} has nothing"
            for index, one in enumerate(pending):
                if one:
                    place = (topic_id, partition, first + index)
                    assert group.lane_of(self.messages[place]) == lane
                    yield (
                        place,
                        Where(
                            CLAIMED, claim_id, owner, deadline_us, attempts, losses, bool(begun), 0, pending.count(1)
                        ),
                    )

    def _waiting(self, group: Ledger) -> Iterator[tuple[Place, Where]]:
        sql = "SELECT topic_id, partition, offset, key, attempts, not_before_us FROM retries WHERE group_id = ?"
        for topic_id, partition, offset, key, attempts, due_us in self.log.rows(sql, (group.group_id,)):
            place = (topic_id, partition, offset)
            assert key == (self.messages[place].key if group.order_by == KEY else None)
            assert attempts == group.attempts[place], f"{self.messages[place]} waits with {attempts} attempts"
            yield place, Where(RETRY, attempts=attempts, due_us=due_us)
        sql = "SELECT topic_id, partition, key, first, lane, pending FROM parked WHERE group_id = ?"
        for topic_id, partition, key, first, lane, pending in self.log.rows(sql, (group.group_id,)):
            assert 1 in pending
            for index, one in enumerate(pending):
                if one:
                    place = (topic_id, partition, first + index)
                    message = self.messages[place]
                    assert (message.key, group.lane_of(message)) == (key, lane)
                    yield place, Where(PARKED)

    def _ahead(self, group: Ledger) -> Iterator[tuple[Place, Where]]:
        by_lane: dict[tuple[int, int, int], list[Place]] = {}
        for place, message in self.messages.items():
            if message.stored:
                by_lane.setdefault((*place[:2], group.lane_of(message)), []).append(place)
        sql = "SELECT topic_id, partition, lane, frontier FROM lanes WHERE group_id = ?"
        for topic_id, partition, lane, frontier in self.log.rows(sql, (group.group_id,)):
            for place in by_lane.get((topic_id, partition, lane), ()):
                if place[2] >= frontier:
                    yield place, Where(AHEAD)

    # ── the law ──
    def check(self) -> None:
        for group in self.groups:
            self._check_counts(group, self.places(group))
        assert self.buried == self.letters, (
            f"dead letters: {self.buried - self.letters} too many, {self.letters - self.buried} missing"
        )
        for process in self.processes:
            process.check()

    def _check_counts(self, group: Ledger, places: dict[Place, Where]) -> None:
        """The law of conservation, and each word as often as it was said."""
        found: Counter[tuple[int, int, str]] = Counter()
        sql = (
            "SELECT topic_id, partition, origin, acknowledged, filtered, dead_lettered, expired, removed FROM lanes"
            " WHERE group_id = ?"
        )
        for topic_id, partition, origin, *rest in self.log.rows(sql, (group.group_id,)):
            assert origin == group.origins[topic_id, partition]
            for word, number in zip(FINAL, rest, strict=True):
                found[topic_id, partition, word] += number
        assert +found == +group.counts, f"{group.name} counts {dict(+found)}, expected {dict(+group.counts)}"
        for (topic_id, partition), origin in group.origins.items():
            log = [place for place in self.messages if place[:2] == (topic_id, partition) and place[2] >= origin]
            pending = sum(place in places for place in log)
            settled = sum(group.counts[topic_id, partition, word] for word in FINAL)
            assert len(log) == pending + settled, (
                f"{group.name}: of {len(log)} messages {pending} are pending and {settled} are settled"
            )
