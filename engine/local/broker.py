"""The broker on a directory: the protocol of `geode_client.broker` over the store.

Owns the event loop's side of everything: the outbox of single messages, the outcome of commits, the wake-ups from other
processes, the open feeds, the sweeper and the reports to the presence file. What is written goes through the writer, what
is read through the log reader; no read lasts longer than a call.
"""

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from geode_client import broker
from geode_client.broker import (
    BatchReceipt,
    FromBeginning,
    FromEnd,
    FromOffset,
    FromTime,
    OutgoingBatch,
    OutgoingMessage,
    PartitionStatistics,
    Receipt,
    ScanRequest,
    SubscriberStatistics,
    SubscriptionRequest,
    TopicStatistics,
)
from geode_client.catalog import Topic, TopicChange, TopicDefinition
from geode_client.delivery.fanout import FanoutCursor, Slice
from geode_client.errors import CorruptData, GeodeError, GqlError, StoreError, TopicNotFound, Unsupported
from geode_client.grammar.names import is_pattern, matches, validate_topic_name, validate_topic_pattern
from geode_client.local import publisher, statistics
from geode_client.local.feed import FanoutFeed
from geode_client.local.follower import LogFollower
from geode_client.local.sweeper import Sweeper
from geode_client.message import Chunk, datetime_of
from geode_client.store import database as files
from geode_client.store.log import LogCursor, LogReader
from geode_client.store.presence import Presence, SubscriberRow, Traffic
from geode_client.store.publishing import PublishWork, StaleTopic
from geode_client.store.topics import AlterTopic, CreateTopic, DropTopic, PurgeTopic, TopicReader
from geode_client.store.wake import Peers, WakePipe
from geode_client.store.writer import Append, Committed, Work, Writer, now_us

LOOK_SECONDS = 1.0
REPORT_SECONDS = 1.0
STALE_RETRIES = 5
# While commits in the calling thread stay this short they are made there; a slow disk gets the writer's thread.
INLINE_SECONDS_MAX = 0.005
SCAN_GIVE_WAY_EVERY = 4


class LocalBroker:
    """One client's part in a store; opened and closed by it."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._open = False
        self._failed_open: GeodeError | None = None

    @property
    def target(self) -> str:
        return self._target

    def unsupported(self) -> Mapping[str, str]:
        """What is not built yet on a directory."""
        return {
            "groups": "consumer groups come with the next release",
            "manual acknowledgement": "it needs groups",
            "priority order": "it needs groups' lanes",
            "delay": "delayed messages come with the next release",
            "dead letters": "they need groups",
            "transactions": "they come with the next release",
            "regions": "a directory is in one place",
        }

    # ── opening and closing ──
    async def open(self) -> None:
        if self._open:
            return
        self._loop = asyncio.get_running_loop()
        layout = files.prepare(self._target)
        self._database = files.open_writer(layout)
        try:
            self._open_parts(layout)
        except BaseException:
            self._database.close()
            raise
        self._open = True
        self._schedule_look()
        self._sweeper.start()

    def _open_parts(self, layout: files.Layout) -> None:
        self._reader = files.open_reader(layout, self._database)
        store_id = self._reader.rows("SELECT value FROM store_state WHERE name = 'store_id'")[0][0]
        self._process = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._id_prefix = f"{store_id}-"
        self._log = LogReader(self._reader, self._name_of, self._id_prefix)
        self._topics = TopicReader(self._log)
        self._topics.refresh()
        self._follower = LogFollower(self._log, self._adopt)
        self._presence = Presence(layout.directory, self._process)
        self._pipe = self._peers = None
        if layout.directory is not None:
            self._pipe = WakePipe(layout.directory / "wake", self._process)
            self._peers = Peers(layout.directory / "wake", self._process)
            self._loop.add_reader(self._pipe.descriptor, self._woken)
        self._writer = Writer(self._database, layout.lock(), self._committed_in_any_thread)
        self._router = publisher.Router()
        self._outbox: list[publisher.Waiting] = []
        self._flush_scheduled = False
        self._inline_seconds = 0.0
        self._pending: dict[int, tuple[Work, asyncio.Future[None]]] = {}
        self._groups: dict[int, publisher.Group] = {}
        self._feeds: dict[str, FanoutFeed] = {}
        self._traffic: dict[int, Traffic] = {}
        self._reported: dict[str, int] = {}
        self._report_timer: asyncio.TimerHandle | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._data_version = self._log.data_version()
        self._sweeper = Sweeper(self._log, self._topics, self._presence, self.write, layout.directory)

    async def close(self) -> None:
        """Write what waits, end all feeds, and let go of the files."""
        if not self._open:
            return
        self._flush()
        await self.settle_pending()
        await self._sweeper.stop()
        for feed in list(self._feeds.values()):
            await feed.close()
        self._open = False
        for timer in (self._look_timer, self._report_timer):
            if timer is not None:
                timer.cancel()
        self._report()
        if self._pipe is not None and self._peers is not None:
            self._loop.remove_reader(self._pipe.descriptor)
            self._pipe.close()
        await asyncio.to_thread(self._writer.close)
        if self._peers is not None:
            self._peers.close()
        self._presence.close()
        if self._reader is not self._database:
            self._reader.close()
        self._database.close()

    def _check_open(self) -> None:
        if not self._open:
            raise StoreError(
                "the client is closed (or was never opened): use it inside 'async with Client(...)'"
            )

    # ── topics ──
    async def create_topic(self, definition: TopicDefinition, *, if_not_exists: bool = False) -> bool:
        validate_topic_name(definition.name)
        work = CreateTopic(definition, if_not_exists)
        await self._write_catalog(work)
        return work.created

    async def alter_topic(self, name: str, change: TopicChange) -> Topic:
        await self._write_catalog(AlterTopic(name, change))
        return await self.topic(name)

    async def drop_topic(self, name: str) -> None:
        topic = await self.topic(name)
        await self._write_catalog(DropTopic(name))
        self._strand(topic)
        self._sweeper.sweep_soon()

    async def purge_topic(self, name: str) -> int:
        work = PurgeTopic(name)
        await self._write_catalog(work)
        self._sweeper.sweep_soon()
        return work.purged

    async def topic(self, name: str) -> Topic:
        self._check_open()
        self._refresh_catalog()
        validate_topic_name(name)
        return self._topics.require(name)

    async def topics(self, pattern: str = "**") -> list[Topic]:
        self._check_open()
        self._refresh_catalog()
        return list(self._topics.covered(validate_topic_pattern(pattern)))

    async def _write_catalog(self, work: CreateTopic | AlterTopic | DropTopic | PurgeTopic) -> None:
        try:
            await self.write(work)
        except TopicNotFound as error:
            raise TopicNotFound(error.name, self._topics.nearest(error.name)) from None
        self._refresh_catalog()

    def _refresh_catalog(self) -> None:
        if self._topics.refresh():
            self._follower.forget_strangers()
            for feed in list(self._feeds.values()):
                self._check_topics_of(feed)

    def _check_topics_of(self, feed: FanoutFeed) -> None:
        for topic_id in [i for i in feed.topic_ids if self._topics.by_id(i) is None]:
            feed.topic_ids.discard(topic_id)
            self._follower.unfollow(topic_id, feed)
        if not feed.topic_ids and not is_pattern(feed.request.pattern):
            feed.fail(TopicNotFound(feed.request.pattern))

    def _strand(self, topic: Topic) -> None:
        """Tell the feeds of a topic that was just dropped."""
        for feed in list(self._feeds.values()):
            if topic.topic_id in feed.topic_ids:
                self._check_topics_of(feed)

    def _name_of(self, topic_id: int) -> str:
        return self._topics.name_of(topic_id)

    # ── publishing ──
    async def publish(self, message: OutgoingMessage) -> Receipt:
        self._check_open()
        _check_supported(message.delay_us, message.region)
        for _ in range(STALE_RETRIES):
            topic = self._topics.get(message.topic) or await self.topic(message.topic)
            done: asyncio.Future[Receipt] = self._loop.create_future()
            self._outbox.append(publisher.Waiting(topic, message, done))
            if not self._flush_scheduled:
                self._flush_scheduled = True
                self._loop.call_soon(self._flush)
            try:
                return await done
            except StaleTopic:
                self._refresh_catalog()
        raise StoreError(
            f"topic {message.topic} is being changed again and again: the message was not stored"
        )

    async def publish_batch(self, batch: OutgoingBatch) -> BatchReceipt:
        self._check_open()
        _check_supported(batch.delay_us, batch.region)
        if not batch.bodies:
            return BatchReceipt(0, 0, {})
        for _ in range(STALE_RETRIES):
            topic = self._topics.get(batch.topic) or await self.topic(batch.topic)
            self._flush()
            work = publisher.prepare(topic, batch, self._topics.version, self._router)
            try:
                await self.write(work)
            except StaleTopic:
                self._refresh_catalog()
                continue
            return _batch_receipt(work)
        raise StoreError(f"topic {batch.topic} is being changed again and again: the batch was not stored")

    def _flush(self) -> None:
        """Store the single messages that have gathered."""
        self._flush_scheduled = False
        if not self._outbox:
            return
        waiting, self._outbox = [item for item in self._outbox if not item.done.cancelled()], []
        try:
            groups = publisher.group(waiting, self._topics.version, self._router)
        except GeodeError as error:
            for item in waiting:
                if not item.done.done():
                    item.done.set_exception(error)
            return
        for made in groups:
            self._groups[id(made.work)] = made
        works: list[Work] = [made.work for made in groups]
        if works and not self._write_now(works):
            for work in works:
                self._submit(work)

    def _write_now(self, works: list[Work]) -> bool:
        """Commit in this thread when nobody else writes and the disk is quick."""
        if self._inline_seconds > INLINE_SECONDS_MAX:
            # One slow commit must not keep the quick way shut for ever.
            self._inline_seconds *= 0.95
            return False
        started = time.perf_counter()
        try:
            if not self._writer.try_now(works):
                return False
        except GeodeError as error:
            self._outcome(Committed(works, [], error, inline=True))
            return True
        self._inline_seconds += 0.2 * (time.perf_counter() - started - self._inline_seconds)
        return True

    def _submit(self, work: Work) -> None:
        try:
            self._writer.submit(work)
        except GeodeError as error:
            self._outcome(Committed([work], [], error, inline=True))

    async def write(self, work: Work) -> None:
        """Hand a work to the writer and wait for its commit; raises what refused it. A cancelled wait undoes nothing."""
        self._check_open()
        done: asyncio.Future[None] = self._loop.create_future()
        self._pending[id(work)] = (work, done)
        self._submit(work)
        await done

    async def settle_pending(self) -> None:
        """Return once all commits that are under way here are known to the follower."""
        self._flush()
        waiting: list[asyncio.Future[Any]] = [done for _, done in self._pending.values()]
        waiting += [item.done for made in self._groups.values() for item in made.waiting]
        waiting = [done for done in waiting if not done.done()]
        if waiting:
            await asyncio.wait(waiting)

    def _committed_in_any_thread(self, committed: Committed) -> None:
        if committed.appended and self._peers is not None:
            self._peers.wake()
        if committed.inline:
            self._outcome(committed)
        else:
            with contextlib.suppress(RuntimeError):  # the loop was closed without closing the client
                self._loop.call_soon_threadsafe(self._outcome, committed)

    def _outcome(self, committed: Committed) -> None:
        """Tell everybody who waits for the works of a transaction what became of them."""
        if committed.appended:
            self._count_published(committed.appended)
            try:
                self._follower.committed_here(committed.appended)
            except GeodeError as error:
                for feed in self._feeds.values():
                    feed.fail(error)
        for work in committed.works:
            error = committed.error or work.error
            made = self._groups.pop(id(work), None)
            if made is not None:
                _tell_group(made, error, self._id_prefix)
            _, done = self._pending.pop(id(work), (None, None))
            if done is not None and not done.done():
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(_own_copy(error))

    def _count_published(self, appended: Sequence[Append]) -> None:
        for append in appended:
            self._traffic_of(append.topic_id).published += append.count
        self._report_soon()

    # ── following and subscribing ──
    @property
    def follower(self) -> LogFollower:
        return self._follower

    async def subscribe(self, request: SubscriptionRequest) -> FanoutFeed:
        self._check_open()
        self._refuse_unbuilt(request)
        await self.settle_pending()
        self._refresh_catalog()
        while self._follower.look():
            await asyncio.sleep(0)
        topics = self._topics_of(request)
        cursor = self._cursor_of(request)
        through = None if request.follow else self._follower.watermark
        feed = FanoutFeed(self, uuid.uuid4().hex[:16], request, cursor, through=through)
        for topic in topics:
            self._place(cursor, topic, request)
        self._enter(feed, topics)
        self._feeds[feed.subscriber_id] = feed
        feed.topic_ids.update(topic.topic_id for topic in topics)
        if request.follow:
            for topic in topics:
                self._follower.follow(topic.topic_id, feed)
            self._follower.forget_strangers()
        return feed

    def _refuse_unbuilt(self, request: SubscriptionRequest) -> None:
        lacking = self.unsupported()
        for asked, capability in (
            (request.group, "groups"),
            (not request.auto_ack, "manual acknowledgement"),
            (request.priority_order, "priority order"),
            (request.region, "regions"),
        ):
            if asked:
                raise Unsupported(f"{capability} ({lacking[capability]})")

    def _topics_of(self, request: SubscriptionRequest) -> list[Topic]:
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
        position = self._follower.watermark if isinstance(request.start, FromEnd) else 0
        since_us = request.start.timestamp_us if isinstance(request.start, FromTime) else None
        return FanoutCursor(
            position,
            condition=request.condition,
            partition=request.partition,
            key=request.key,
            since_us=since_us,
        )

    def _place(self, cursor: FanoutCursor, topic: Topic, request: SubscriptionRequest) -> None:
        """Where in each partition of a topic the cursor begins."""
        for partition in self._partitions_of(topic, request):
            match request.start:
                case FromOffset(offset):
                    cursor.expect(topic.topic_id, partition, offset)
                case FromTime(timestamp_us):
                    first = self._log.first_offset_since(topic.topic_id, partition, timestamp_us)
                    cursor.expect(topic.topic_id, partition, first)
                case FromEnd() if not is_pattern(request.pattern):
                    cursor.expect(topic.topic_id, partition, self._log.next_offset(topic.topic_id, partition))
                case FromEnd() | FromBeginning():
                    pass

    def _partitions_of(self, topic: Topic, request: SubscriptionRequest) -> Sequence[int]:
        if request.partition is not None:
            return [request.partition] if request.partition < topic.partitions else []
        if request.key is not None:
            return [publisher.partition_of(request.key, topic.partitions)]
        return range(topic.partitions)

    def _enter(self, feed: FanoutFeed, topics: Sequence[Topic]) -> None:
        condition = feed.request.condition
        limits = {t.name: t.options.max_subscribers for t in topics if t.options.max_subscribers is not None}
        row = SubscriberRow(
            subscriber_id=feed.subscriber_id,
            process=self._process,
            process_id=os.getpid(),
            pattern=feed.request.pattern,
            consumer_group=None,
            filter=None if condition is None else condition.text,
            started_us=now_us(),
            position=feed.cursor.position,
        )
        self._presence.add(row, limits)

    def backlog(self, feed: FanoutFeed, through: int) -> LogCursor:
        """What lies between the feed's cursor and batch `through`."""
        sources: list[tuple[int, int, int]] = []
        for topic_id in feed.topic_ids:
            topic = self._topics.by_id(topic_id)
            if topic is not None:
                for partition in self._partitions_of(topic, feed.request):
                    sources.append((topic_id, partition, self._first_offset(feed, topic_id, partition)))
        return LogCursor(self._log, sources, through=through)

    def _first_offset(self, feed: FanoutFeed, topic_id: int, partition: int) -> int:
        expected = feed.cursor.expected(topic_id, partition)
        if expected is not None:
            return self._log.batch_containing(topic_id, partition, expected)
        if feed.cursor.position == 0:
            return 0
        return self._log.offset_after(topic_id, partition, feed.cursor.position)

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
                self._follower.follow(topic_id, feed)

    def handed_over(self, feed: FanoutFeed, handed: Slice) -> None:
        self._traffic_of(handed.chunk.topic_id).consumed += len(handed.indices)
        self._report_soon()

    def closed(self, feed: FanoutFeed) -> None:
        self._feeds.pop(feed.subscriber_id, None)
        self._reported.pop(feed.subscriber_id, None)
        for topic_id in feed.topic_ids:
            self._follower.unfollow(topic_id, feed)
        self._presence.remove(feed.subscriber_id)

    # ── news from other processes, and reports to them ──
    def _woken(self) -> None:
        assert self._pipe is not None
        self._pipe.drain()
        self._look()

    def _look(self) -> None:
        try:
            if self._follower.look():
                self._loop.call_soon(self._look)
        except GeodeError as error:
            for feed in list(self._feeds.values()):
                feed.fail(error)

    def _schedule_look(self) -> None:
        """Once a second look whether a wake-up was lost, or the catalog has changed."""
        if not self._open:
            return
        self._look_timer = self._loop.call_later(LOOK_SECONDS, self._schedule_look)
        with contextlib.suppress(GeodeError):
            version = self._log.data_version()
            if version != self._data_version:
                self._data_version = version
                self._refresh_catalog()
                self._look()

    def _traffic_of(self, topic_id: int) -> Traffic:
        traffic = self._traffic.get(topic_id)
        if traffic is None:
            traffic = self._traffic[topic_id] = Traffic()
        return traffic

    def _report_soon(self) -> None:
        if self._report_timer is None and self._open:
            self._report_timer = self._loop.call_later(REPORT_SECONDS, self._report)

    def _report(self) -> None:
        """Write down how far this client's subscribers have come, for those who look from other processes."""
        self._report_timer = None
        moved = [
            feed for feed in self._feeds.values() if self._reported.get(feed.subscriber_id) != feed.delivered
        ]
        for feed in moved:
            self._reported[feed.subscriber_id] = feed.delivered
        rows = [(f.cursor.position, f.delivered, f.last_message_us, f.subscriber_id) for f in moved]
        traffic, self._traffic = self._traffic, {}
        with contextlib.suppress(GeodeError):
            self._presence.report(rows, traffic, int(time.time()))

    # ── reading ──
    async def scan(self, request: ScanRequest) -> AsyncIterator[Chunk]:
        self._check_open()
        await self.settle_pending()
        through = self._log.last_batch_id()
        sources = []
        for topic in request.topics:
            partitions = range(topic.partitions) if request.partition is None else [request.partition]
            for partition in partitions:
                first = 0
                if request.since_us is not None:
                    first = self._log.first_offset_since(topic.topic_id, partition, request.since_us)
                sources.append((topic.topic_id, partition, first))
        cursor = LogCursor(self._log, sources, through=through, descending=request.newest_first)
        for number, chunk in enumerate(cursor):
            yield chunk
            if number % SCAN_GIVE_WAY_EVERY == 0:
                await asyncio.sleep(0)

    async def topic_statistics(self, pattern: str = "**") -> list[TopicStatistics]:
        topics = await self.topics(pattern)
        self._report()
        positions = {feed.subscriber_id: feed.cursor.position for feed in self._feeds.values()}
        return statistics.of_topics(self._log, self._presence, topics, positions)

    async def traffic(self, topic: str, window_seconds: float) -> tuple[int, int, int]:
        topic_id = (await self.topic(topic)).topic_id
        self._report()
        seen = self._presence.traffic(int(time.time()), int(window_seconds)).get(topic_id, Traffic())
        return seen.published, seen.consumed, seen.failed

    async def partition_statistics(self, pattern: str = "**") -> list[PartitionStatistics]:
        topics = await self.topics(pattern)
        await self.settle_pending()
        return statistics.of_partitions(self._log, topics)

    async def subscriber_statistics(self) -> list[SubscriberStatistics]:
        self._check_open()
        self._report()
        await self.settle_pending()
        positions = {feed.subscriber_id: feed.cursor.position for feed in self._feeds.values()}
        return statistics.of_subscribers(self._log, self._presence, self._topics, positions)


def _check_supported(delay_us: int | None, region: str | None) -> None:
    if delay_us:
        raise Unsupported("delay (delayed messages come with the next release)")
    if region is not None:
        raise Unsupported(
            f"region {region!r}: there is no topology that names regions, and a directory is in one place"
        )


def _own_copy(error: GeodeError) -> GeodeError:
    """Errors that several wait for are raised in several tasks: each has its own traceback."""
    if isinstance(error, StoreError | CorruptData):
        copy = type(error)(*error.args)
        copy.__cause__ = error.__cause__
        return copy
    return error


def _batch_receipt(work: PublishWork) -> BatchReceipt:
    offsets: dict[int, range] = {}
    count = 0
    for part in work.parts:
        append = part.append
        if append.count:
            count += append.count
            before = offsets.get(append.partition)
            first = append.base_offset if before is None else before.start
            offsets[append.partition] = range(first, append.base_offset + append.count)
    return BatchReceipt(count, len(work.known), offsets)


def _tell_group(made: publisher.Group, error: GeodeError | None, id_prefix: str) -> None:
    """Give everybody who published a message of the group its receipt, or its error."""
    if error is not None:
        for item in made.waiting:
            if not item.done.done():
                item.done.set_exception(_own_copy(error))
        return
    for part in made.work.parts:
        append = part.append
        accepted = datetime_of(append.timestamp_us)
        prefix = f"{id_prefix}{append.topic_id}-{append.partition}-"
        for index, position in enumerate(part.positions):
            item = made.waiting[position]
            if not item.done.done():
                offset = append.base_offset + index
                message_id = item.message.message_id or f"{prefix}{offset}"
                item.done.set_result(Receipt(message_id, append.topic, append.partition, offset, accepted))
    for position, known in made.work.known.items():
        item = made.waiting[position]
        if not item.done.done():
            now = datetime_of(now_us())
            message_id = item.message.message_id or ""
            item.done.set_result(
                Receipt(message_id, item.topic.name, known.partition, known.offset, now, duplicate=True)
            )


_protocol: type[broker.Broker] = LocalBroker  # checked by mypy
