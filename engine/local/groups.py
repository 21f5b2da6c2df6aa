"""The groups that this client's subscriptions are members of, and what statements do to groups.

Owns one driver for each group (and partition, where members ask for one); tells them of new batches, of wake-ups from
other processes, and once a second that time has passed.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geode_client.broker import (
    FromBeginning,
    FromEnd,
    FromOffset,
    FromTime,
    StartPosition,
    SubscriptionRequest,
)
from geode_client.catalog import GroupChange, Topic
from geode_client.conditions.requirements import Requirement
from geode_client.delivery.claiming import ClaimRequest
from geode_client.delivery.lanes import KEY, LANES_END, PLAIN, PRIORITY
from geode_client.delivery.members import Member
from geode_client.delivery.quarantine import Quarantine
from geode_client.delivery.slices import Slice
from geode_client.errors import GeodeError
from geode_client.grammar.names import is_pattern, matches
from geode_client.local.driver import GroupDriver, clocks
from geode_client.local.follower import LogFollower
from geode_client.local.group_feed import GroupFeed
from geode_client.local.reports import Reports
from geode_client.local.zones import ZoneWishes
from geode_client.message import Message
from geode_client.store import wake
from geode_client.store.altering import AlterGroup
from geode_client.store.groups import (
    DropGroup,
    DropPrivateGroups,
    Group,
    GroupDefinition,
    JoinGroup,
    PauseGroup,
    SeekGroup,
    Starts,
)
from geode_client.store.log import Header, LogReader
from geode_client.store.topics import TopicReader
from geode_client.store.writer import Work

if TYPE_CHECKING:
    from geode_client.conditions import Condition

PRIVATE_NAME = "_private-"

Write = Callable[[Sequence[Work]], Awaitable[None]]


class _TopicNews:
    """Tells a driver that one of its topics has a new batch."""

    __slots__ = ("_driver", "_topic_id")

    def __init__(self, driver: GroupDriver, topic_id: int) -> None:
        self._driver = driver
        self._topic_id = topic_id

    @property
    def requirement(self) -> Requirement | None:
        """A group counts what its condition leaves out: it is told of every batch."""
        return None

    def notice(self, batch: Header) -> None:
        self._driver.topic_moved(self._topic_id, batch.priority)


class _Open:
    """A driver at work, and the topics whose batches it gets."""

    def __init__(self, driver: GroupDriver, key: tuple[int, int | None]) -> None:
        self.driver = driver
        self.key = key
        self.news: dict[int, _TopicNews] = {}


class Groups:
    """All group subscriptions of a client; every method runs on the event loop."""

    def __init__(
        self,
        log: LogReader,
        topics: TopicReader,
        follower: LogFollower,
        reports: Reports,
        zones: ZoneWishes,
        write: Write,
        settle_pending: Callable[[], Awaitable[None]],
        reply: Callable[[Message, object], Awaitable[None]],
        refuse_past: Callable[[str], None],
        process: str,
        directory: Path | None,
    ) -> None:
        self.log = log
        self.topics = topics
        self.follower = follower
        self.reports = reports
        self.skips = zones.skips
        self._zones = zones
        self.write = write
        self.process = process
        self.settle_pending = settle_pending
        self.reply = reply
        self.refuse_past = refuse_past
        self._directory = directory
        self._open: dict[tuple[int, int | None], _Open] = {}
        self._feeds: dict[str, GroupFeed] = {}
        self._ticking: asyncio.Task[None] | None = None
        self._opening: set[asyncio.Task[Any]] = set()
        self._quarantine = Quarantine()

    # ── subscribing ──
    async def open(self, request: SubscriptionRequest, covered: Sequence[Topic]) -> GroupFeed:
        """A member of the group that the request names; without a name, of a private group that ends with it.

        Who is cancelled while it opens leaves no member behind.
        """
        opening = asyncio.get_running_loop().create_task(self._open_feed(request, covered), name="geode-join")
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._close_unwanted)
            raise

    def _close_unwanted(self, opening: "asyncio.Task[GroupFeed]") -> None:
        if not opening.cancelled() and opening.exception() is None:
            closing = asyncio.get_running_loop().create_task(opening.result().close())
            self._opening.add(closing)
            closing.add_done_callback(self._opening.discard)
            closing.add_done_callback(_told)

    async def _open_feed(self, request: SubscriptionRequest, covered: Sequence[Topic]) -> GroupFeed:
        limits = {t.name: t.options.max_subscribers for t in covered if t.options.max_subscribers is not None}
        self.reports.presence.check(limits, remove_dead=True)  # before a group is made for nobody
        member_id = uuid.uuid4().hex[:16]
        private = request.group is None
        definition = self._definition(request, member_id if private else None)
        await self.settle_pending()
        join = JoinGroup(definition, starts=self._starts(request.start, covered))
        await self.write([join])
        assert join.group is not None
        through = None if request.follow else self._ends(covered)
        if not isinstance(request.start, FromEnd):
            self._zones.want(self.skips(request.condition), [topic.topic_id for topic in covered])
        found = self._driver_of(join.group, request, through)
        member = Member(member_id, prefetch=request.prefetch, auto_ack=request.auto_ack)
        feed = GroupFeed(found.driver, member, request, self)
        feed.before = 0 if private else join.before
        try:
            self.reports.enter(feed, limits, join.group.group_id)
        except GeodeError:
            await self._retire(found.driver)
            raise
        self._feeds[member_id] = feed
        found.driver.join(member)
        return feed

    async def create(self, request: SubscriptionRequest, covered: Sequence[Topic]) -> int:
        """Make the group of a request; how many messages lie before it. Raises GroupMismatch when it is there."""
        await self.settle_pending()
        starts = self._starts(request.start, covered)
        join = JoinGroup(self._definition(request, None), starts=starts, create_only=True)
        await self.write([join])
        return join.before

    def _definition(self, request: SubscriptionRequest, private_id: str | None) -> GroupDefinition:
        return GroupDefinition(
            name=request.group if private_id is None else f"{PRIVATE_NAME}{private_id}",  # type: ignore[arg-type]
            pattern=request.pattern,
            condition=None if request.condition is None else request.condition.bound_text,
            key=request.key,
            order_by=order_of(request),
            private_to=None if private_id is None else self.process,
        )

    def _driver_of(
        self, group: Group, request: SubscriptionRequest, through: dict[tuple[int, int], int] | None
    ) -> _Open:
        key = (group.group_id, request.partition)
        found = self._open.get(key)
        if found is not None and not found.driver.scheduler.takes_members:
            # Its last member is leaving, and what it gives back is being written; or it has failed.
            self._forget(found)
            found = None
        if found is None:
            condition = request.condition if request.condition is not None else self.compiled(group)
            driver = GroupDriver(self, group, condition, self._quarantine, partition=request.partition, through=through)
            found = self._open[key] = _Open(driver, key)
            for topic in self.topics.covered(group.pattern):
                self._follow(found, topic.topic_id)
            self.follower.forget_strangers()
        return found

    def compiled(self, group: Group) -> "Condition | None":
        """The condition that a group keeps, for the columns that its topic declares."""
        if group.condition is None:
            return None
        from geode_client import conditions

        made = conditions.compile_filter(group.condition)
        topic = None if is_pattern(group.pattern) else self.topics.get(group.pattern)
        if topic is None or topic.schema is None:
            return made
        return made.declared({column.name: column.type for column in topic.schema.columns})

    def _follow(self, found: _Open, topic_id: int) -> None:
        if topic_id not in found.news:
            news = found.news[topic_id] = _TopicNews(found.driver, topic_id)
            self.follower.follow(topic_id, news, keeps_up=True)

    def _starts(self, start: StartPosition, covered: Sequence[Topic]) -> Starts:
        match start:
            case FromEnd():
                return None
            case FromBeginning():
                return 0
            case FromOffset(offset):
                return offset
            case FromTime(timestamp_us):
                return {
                    (topic.topic_id, partition): self.log.offset_since(topic.topic_id, partition, timestamp_us)
                    for topic in covered
                    for partition in range(topic.partitions)
                }

    def _ends(self, covered: Sequence[Topic]) -> dict[tuple[int, int], int]:
        return {
            (topic.topic_id, partition): self.log.next_offset(topic.topic_id, partition)
            for topic in covered
            for partition in range(topic.partitions)
        }

    # ── what a feed asks ──
    def has_slice(self, feed: GroupFeed) -> None:
        self.reports.has_slice(feed)

    def handed_over(self, handed: Slice, count: int) -> None:
        self.reports.handed_over(handed, count)

    async def closed(self, feed: GroupFeed) -> None:
        self._feeds.pop(feed.subscriber_id, None)
        self.reports.leave(feed)
        await self._retire(feed.driver)

    async def _retire(self, driver: GroupDriver) -> None:
        """Forget a driver that has no members, and the private group that it served."""
        if driver.core.members:
            return
        found = self._open.get((driver.group.group_id, driver.partition))
        if found is not None and found.driver is driver:
            self._forget(found)
        if driver.group.private_to is not None:
            await self.write([DropPrivateGroups([driver.group.group_id])])

    def _forget(self, found: _Open) -> None:
        """Tell a driver of nothing new from now on."""
        del self._open[found.key]
        for topic_id, news in found.news.items():
            self.follower.unfollow(topic_id, news)

    # ── what statements do ──
    async def drop(self, name: str, topic: str | None, *, if_exists: bool) -> int:
        work = DropGroup(name, topic, if_exists)
        await self.write([work])
        self.look()
        return work.dropped

    async def pause(self, name: str, topic: str | None, *, paused: bool) -> None:
        await self.write([PauseGroup(name, topic, paused)])
        self.look()

    async def seek(
        self, name: str, topic: str, target: StartPosition, covered: Sequence[Topic], *, dry_run: bool
    ) -> tuple[int, int]:
        await self.settle_pending()
        work = SeekGroup(name, topic, self._starts(target, covered), dry_run)
        await self.write([work])
        if not dry_run:
            self.look()
        return work.replayed, work.skipped

    async def alter(self, name: str, topic: str, change: GroupChange, *, dry_run: bool) -> int:
        """Set the condition and the order of a group; how many messages in hand are settled before it has its order."""
        await self.settle_pending()
        now = clocks()
        request = ClaimRequest(self.process, 0, now.wall_us, now.boot_us, dead=self._dead_owners_of(name))
        work = AlterGroup(name, topic, request, change, dry_run)
        await self.write([work])
        if not dry_run:
            self.look()
        return work.in_hand

    def _dead_owners_of(self, name: str) -> list[str]:
        rows = self.log.rows("SELECT group_id FROM groups WHERE name = ?", (name,))
        return sorted({owner for (group_id,) in rows for owner in self.dead_owners(group_id)})

    # ── what comes in ──
    def adopt(self, topic: Topic) -> None:
        """A topic that nobody followed has a batch: groups whose pattern covers it are told from now on."""
        for found in self._open.values():
            if matches(found.driver.group.pattern, topic.name):
                self._follow(found, topic.topic_id)
                found.driver.topic_moved(topic.topic_id, LANES_END - 1)

    @property
    def has_priorities(self) -> bool:
        """Whether a group here delivers in priority order."""
        return any(found.driver.group.order_by == PRIORITY for found in self._open.values())

    def look(self) -> None:
        """Another process may have let go of something, or moved a group."""
        for found in self._open.values():
            found.driver.group_moved()

    def act_all(self) -> None:
        """Perform what the schedulers want done where a message that must be alone concerns all groups."""
        while self._quarantine.touched:
            self._quarantine.touched = False
            for found in list(self._open.values()):
                found.driver.act()

    def topics_changed(self, gone: Callable[[str], GeodeError]) -> None:
        """The catalog was read anew: a group on a topic that is gone ends."""
        for found in self._open.values():
            pattern = found.driver.group.pattern
            if not is_pattern(pattern) and self.topics.get(pattern) is None:
                found.driver.fail(gone(pattern))

    def fail(self, error: GeodeError) -> None:
        for found in self._open.values():
            found.driver.fail(error)

    def tick(self) -> None:
        """Once a second."""
        if self._open and self._ticking is None:
            self._ticking = asyncio.get_running_loop().create_task(self._tick(), name="geode-groups")
            self._ticking.add_done_callback(self._ticked)

    async def _tick(self) -> None:
        for found in list(self._open.values()):
            with contextlib.suppress(GeodeError):
                await found.driver.second_passed()

    def _ticked(self, task: "asyncio.Task[None]") -> None:
        self._ticking = None
        if not task.cancelled():
            task.exception()

    def dead_owners(self, group_id: int) -> list[str]:
        """Processes that hold claims of a group and are gone."""
        if self._directory is None:
            return []
        sql = "SELECT DISTINCT owner FROM claims WHERE group_id = ? AND owner IS NOT NULL AND owner <> ?"
        owners = [row[0] for row in self.log.rows(sql, (group_id, self.process))]
        return [owner for owner in owners if not wake.alive(self._directory / "wake", owner)]

    async def close(self) -> None:
        while under_way := self._opening | ({self._ticking} if self._ticking is not None else set()):
            await asyncio.wait(under_way)
        for feed in list(self._feeds.values()):
            with contextlib.suppress(GeodeError):
                await feed.close()


def _told(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()


def order_of(request: SubscriptionRequest) -> str:
    """The order in which a subscription's group delivers."""
    if request.priority_order:
        return PRIORITY
    return KEY if request.ordering else PLAIN
