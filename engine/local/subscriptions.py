"""The open subscriptions of one client: where each begins, which topics it covers, and what comes in for it.

Owns the follower (the commit order, read once for all) and the feeds that it tells of new batches.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from geode_client.broker import Feed, FromBeginning, FromEnd, FromOffset, FromTime, SubscriptionRequest
from geode_client.catalog import Topic, dead_letter_topic_of
from geode_client.delivery.claims import Rules, rules_of
from geode_client.delivery.fanout import FanoutCursor
from geode_client.delivery.settlement import dead_letter
from geode_client.delivery.slices import Slice
from geode_client.errors import GeodeError, GqlError, TopicNotFound
from geode_client.grammar.names import is_pattern, matches, validate_topic_name, validate_topic_pattern
from geode_client.local.feed import FanoutFeed
from geode_client.local.follower import LogFollower
from geode_client.local.groups import Groups, Write
from geode_client.local.reports import Reports
from geode_client.local.zones import ZoneWishes
from geode_client.message import Chunk, Message
from geode_client.routing import partition_of
from geode_client.store.log import CommitCursor, Header, LogCursor, LogReader
from geode_client.store.settling import Bury
from geode_client.store.topics import TopicReader
from geode_client.store.writer import Append

# Reading past a batch of another topic costs about this fraction of asking a partition for its next one.
COMMITS_A_TOPIC = 16


class Subscriptions:
    """All feeds of a client; every method runs on the event loop.

    `settle` returns once all commits that are under way in this client have been told to `appended`.
    """

    def __init__(
        self,
        log: LogReader,
        topics: TopicReader,
        reports: Reports,
        zones: ZoneWishes,
        settle: Callable[[], Awaitable[None]],
        write: Write,
        reply: Callable[[Message, object], Awaitable[None]],
        refuse_past: Callable[[str], None],
        directory: Path | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._topics = topics
        self._reports = reports
        self._write = write
        self._zones = zones
        self.settle_pending = settle
        self.reply = reply
        self._feeds: dict[str, FanoutFeed] = {}
        self.follower = LogFollower(log, self._adopt)
        self.groups = Groups(
            log,
            topics,
            self.follower,
            reports,
            zones,
            write,
            settle,
            reply,
            refuse_past,
            reports.presence.process,
            directory,
        )

    # ── opening ──
    async def open(self, request: SubscriptionRequest) -> Feed:
        """A feed that sees everything that is published after this returned; the catalog must be fresh."""
        if request.group is not None or request.priority_order or not request.auto_ack:
            return await self.groups.open(request, self.topics_of(request))
        if not isinstance(request.start, FromEnd):
            wanted = [topic.topic_id for topic in self.topics_of(request)]
            self._zones.want(self._zones.skips(request.condition), wanted)
        await self.settle_pending()
        while self.follower.look():
            await asyncio.sleep(0)
        topics = self.topics_of(request)
        cursor = self._cursor_of(request)
        through = None if request.follow else self.follower.watermark
        # Who begins at the end has nothing to be read from the file.
        keeps_up = request.follow and isinstance(request.start, FromEnd)
        feed = FanoutFeed(self, uuid.uuid4().hex[:16], request, cursor, through=through, keeps_up=keeps_up)
        for topic in topics:
            self._place(cursor, topic, request)
        limits = {t.name: t.options.max_subscribers for t in topics if t.options.max_subscribers is not None}
        self._reports.enter(feed, limits)
        self._feeds[feed.subscriber_id] = feed
        feed.topic_ids.update(topic.topic_id for topic in topics)
        if request.follow:
            for topic in topics:
                self.follower.follow(topic.topic_id, feed, keeps_up=feed.keeps_up)
            self.follower.forget_strangers()
        return feed

    def topics_of(self, request: SubscriptionRequest) -> list[Topic]:
        """The topics that a subscription covers now; raises TopicNotFound for a name that is none."""
        if is_pattern(request.pattern):
            return list(self._topics.covered(validate_topic_pattern(request.pattern)))
        topic = self._topics.require(validate_topic_name(request.pattern))
        if request.partition is not None and request.partition >= topic.partitions:
            known = f"0 to {topic.partitions - 1}" if topic.partitions > 1 else "0 only"
            raise GqlError(
                f"topic {topic.name} has no partition {request.partition}", hint=f"its partitions are {known}"
            )
        return [topic]

    def _cursor_of(self, request: SubscriptionRequest) -> FanoutCursor:
        position = self.follower.watermark if isinstance(request.start, FromEnd) else 0
        since_us = request.start.timestamp_us if isinstance(request.start, FromTime) else None
        return FanoutCursor(
            position,
            condition=request.condition,
            partition=request.partition,
            key=request.key,
            since_us=since_us,
            since_through=self.follower.watermark,
        )

    def _place(self, cursor: FanoutCursor, topic: Topic, request: SubscriptionRequest) -> None:
        """Where in each partition of a topic the cursor begins."""
        for partition in _partitions_of(topic, request):
            match request.start:
                case FromOffset(offset):
                    cursor.expect(topic.topic_id, partition, offset)
                case FromTime(timestamp_us):
                    first = self._log.first_offset_since(topic.topic_id, partition, timestamp_us)
                    cursor.expect(topic.topic_id, partition, first)
                case FromEnd() | FromBeginning():
                    pass

    # ── what a feed asks ──
    def backlog(self, feed: FanoutFeed, through: int) -> LogCursor | CommitCursor:
        """What lies between the feed's cursor and batch `through`."""
        position = feed.cursor.position
        if through - position <= COMMITS_A_TOPIC * len(feed.topic_ids):
            topic_ids, partition = feed.topic_ids, feed.request.partition

            def wanted(header: Header) -> bool:
                return header.topic_id in topic_ids and partition in (None, header.partition)

            return CommitCursor(self._log, wanted, after=position, through=through)
        sources: list[tuple[int, int, int]] = []
        for topic_id in feed.topic_ids:
            topic = self._topics.by_id(topic_id)
            if topic is not None:
                for partition in _partitions_of(topic, feed.request):
                    sources.append((topic_id, partition, self._first_offset(feed, topic_id, partition)))
        return LogCursor(self._log, sources, through=through, skips=self._zones.skips(feed.request.condition))

    def _first_offset(self, feed: FanoutFeed, topic_id: int, partition: int) -> int:
        expected = feed.cursor.expected(topic_id, partition)
        if expected is not None:
            return self._log.batch_containing(topic_id, partition, expected)
        if feed.cursor.position == 0:
            return 0
        return self._log.offset_after(topic_id, partition, feed.cursor.position)

    def has_slice(self, feed: FanoutFeed) -> None:
        self._reports.has_slice(feed)

    def handed_over(self, handed: Slice, count: int) -> None:
        self._reports.consumed(handed, count)

    def rules_of(self, topic_id: int) -> Rules | None:
        topic = self._topics.by_id(topic_id)
        return None if topic is None else rules_of(topic, "")

    async def bury(self, chunk: Chunk, index: int, reason: str, attempts: int, error: str | None) -> None:
        """Publish a message that a subscriber without a group refused to its topic's dead letters."""
        topic = self._topics.by_id(chunk.topic_id)
        if topic is not None:
            letter = dead_letter(chunk, index, group="", reason=reason, attempts=attempts, error=error)
            await self._write([Bury(dead_letter_topic_of(topic.name, topic.options), [letter])])
            self._reports.settled(topic.topic_id, 0, 1)

    def closed(self, feed: FanoutFeed) -> None:
        self._feeds.pop(feed.subscriber_id, None)
        for topic_id in feed.topic_ids:
            self.follower.unfollow(topic_id, feed)
        self._reports.leave(feed)

    # ── what comes in ──
    def appended(self, appended: Sequence[Append]) -> None:
        """This client has committed something."""
        try:
            self.follower.committed_here(appended)
        except GeodeError as error:
            self.fail(error)

    def look(self) -> None:
        """Another process may have committed something."""
        before = self.follower.watermark
        try:
            if self.follower.look():
                self._loop.call_soon(self.look)
            if self._feeds and self.follower.watermark != before:
                self._reports.moved()
        except GeodeError as error:
            self.fail(error)

    def topics_changed(self) -> None:
        """The catalog was read anew: topics may be gone, or be there for a pattern."""
        self.follower.forget_strangers()
        self.groups.topics_changed(TopicNotFound)
        followed: set[int] = set().union(*(feed.topic_ids for feed in self._feeds.values()))
        gone = self._topics.gone(followed)
        for feed in list(self._feeds.values()):
            for topic_id in feed.topic_ids & gone:
                feed.topic_ids.discard(topic_id)
                self.follower.unfollow(topic_id, feed)
            if not feed.topic_ids and not is_pattern(feed.request.pattern):
                feed.fail(TopicNotFound(feed.request.pattern))

    async def close(self) -> None:
        await self.groups.close()
        for feed in list(self._feeds.values()):
            await feed.close()

    def fail(self, error: GeodeError) -> None:
        """End all subscriptions with an error."""
        self.groups.fail(error)
        for feed in list(self._feeds.values()):
            feed.fail(error)

    def _adopt(self, topic_id: int) -> None:
        """A topic that nobody follows has a new batch: whose pattern covers it?"""
        topic = self._topics.by_id(topic_id)
        if topic is None and self._topics.refresh():
            topic = self._topics.by_id(topic_id)
        if topic is None:
            return
        for feed in self._feeds.values():
            if feed.request.follow and matches(feed.request.pattern, topic.name):
                feed.topic_ids.add(topic_id)
                self.follower.follow(topic_id, feed, keeps_up=feed.keeps_up)
        self.groups.adopt(topic)


def _partitions_of(topic: Topic, request: SubscriptionRequest) -> Sequence[int]:
    if request.partition is not None:
        return [request.partition] if request.partition < topic.partitions else []
    if request.key is not None:
        return [partition_of(request.key, topic.partitions)]
    return range(topic.partitions)
