"""The broker on a directory: the protocol of `geode_client.broker` over the store.

Opens the parts, puts them together and closes them: the outbox (what is written), the subscriptions (what is read as it
comes), the log (what is read at rest), the reports to other processes, the sweeper, and the wake-ups from other processes.
No read lasts longer than a call.
"""

import asyncio
import contextlib
import os
import threading
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from geode_client import broker
from geode_client.broker import (
    BatchReceipt,
    Capabilities,
    Feed,
    OutgoingBatch,
    OutgoingMessage,
    Receipt,
    Report,
    ScanRequest,
    Section,
    SeekPreview,
    StartPosition,
    SubscriptionRequest,
)
from geode_client.broker.capabilities import needs_of_publish, needs_of_subscription
from geode_client.broker.replies import answer
from geode_client.catalog import GroupChange, Rename, Topic, TopicChange, TopicDefinition
from geode_client.errors import ConnectionLost, GeodeError, StoreError, TopicNotFound
from geode_client.grammar.ast import JsonValue
from geode_client.grammar.names import is_pattern, validate_topic_name, validate_topic_pattern
from geode_client.local import counters
from geode_client.local.delays import DelayedMover
from geode_client.local.outbox import Outbox, batch_receipt
from geode_client.local.own_tables import OwnTableReader
from geode_client.local.report import Reporter
from geode_client.local.reports import Reports
from geode_client.local.subscriptions import Subscriptions
from geode_client.local.sweeper import Sweeper
from geode_client.local.transactions import LocalTransaction, Transactions
from geode_client.local.zones import ZoneMaker, ZoneWishes
from geode_client.message import Chunk, Message
from geode_client.routing import partition_of
from geode_client.store import database as files
from geode_client.store import locks
from geode_client.store.letters import DeleteMessages, replayed
from geode_client.store.log import LogCursor, LogReader
from geode_client.store.presence import Presence
from geode_client.store.publishing import StaleTopic
from geode_client.store.sweeping import RemoveBatches
from geode_client.store.topics import AlterTopic, CreateTopic, DropTopic, PurgeTopic, TopicReader
from geode_client.store.wake import Peers, WakePipe
from geode_client.store.writer import Append, Work

LOOK_SECONDS = 1.0
# Who has published within this time publishes.
BUSY_SECONDS = 1.0
STALE_RETRIES = 5
SCAN_GIVE_WAY_EVERY = 4
DEFINE_OUTSIDE = "topics and groups are made and changed outside of a transaction: do it before it begins"
PAST_TRANSACTION = (
    "this would publish past the open transaction: use tx.publish (inside 'async with client.transaction() as tx')"
)
DIRECTORY = Capabilities(
    "the embedded store",
    regions=False,
    reasons={"regions": "a directory is in one place"},
)
MEMORY = Capabilities(
    "the embedded store",
    regions=False,
    shared=False,
    survives_restart=False,
    reasons={
        "regions": "memory is in one place",
        "shared": "memory is seen by its own client only",
        "survives_restart": "memory is gone when its client is closed",
    },
)


# The open brokers of this process by their directory: a client learns of another one's commit without waiting to be woken.
_NEIGHBOURS: dict[Path | None, "weakref.WeakSet[LocalBroker]"] = {}


class LocalBroker:
    """One client's part in a store; opened and closed by it."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._capabilities = MEMORY if target == files.MEMORY else DIRECTORY
        self._open = False
        self._directory: Path | None = None
        self._opening = asyncio.Lock()
        self._store_id: str | None = None

    @property
    def target(self) -> str:
        return self._target

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    # ── opening and closing ──
    async def open(self) -> None:
        """Open the store, or open it again when it has failed; only the store that was open before is opened again."""
        if self._open and self._outbox.writer.failure is None:
            return
        async with self._opening:
            if not self._open:
                self._open_now(files.prepare(self._target) if self._store_id is None else self._found_again())
            elif self._outbox.writer.failure is not None:
                self._check_loop()
                layout = self._found_again()
                await self._give_up(self._outbox.writer.failure)
                self._open_now(layout)

    @property
    def is_lost(self) -> bool:
        """Whether the store is not where it was opened any more."""
        return self._store_id is not None and (not self._open or self._outbox.writer.is_lost)

    def _found_again(self) -> files.Layout:
        if self._target == files.MEMORY:
            raise StoreError("a store in memory that has failed is gone: make a new client")
        return files.open_again(self._target, self._store_id or "")

    async def _give_up(self, failure: StoreError) -> None:
        """Let go of a store that has failed. Its subscriptions end with ConnectionLost; what cannot be written is not."""
        self._subscriptions.fail(failure)
        self._open = False
        if self._look_timer is not None:
            self._look_timer.cancel()
        for stop in (
            self._transactions.close,
            self._sweeper.stop,
            self._zones.settle,
            self._delays.stop,
            self._outbox.close,
        ):
            with contextlib.suppress(GeodeError, OSError):
                await stop()
        with contextlib.suppress(GeodeError, OSError):
            self._closing.close()

    def _open_now(self, layout: files.Layout) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._forks = locks.forks()
        with _named_errors(layout), contextlib.ExitStack() as undo:
            self._database = files.open_writer(layout)
            undo.callback(self._database.close)
            self._open_parts(layout, undo)
            self._closing = undo.pop_all()
        self._open = True
        self._directory = layout.directory
        if layout.directory is not None:
            _NEIGHBOURS.setdefault(layout.directory, weakref.WeakSet()).add(self)
        self._schedule_look()
        self._sweeper.start()
        self._delays.start()

    def _open_parts(self, layout: files.Layout, undo: contextlib.ExitStack) -> None:
        self._reader = files.open_reader(layout, self._database)
        if self._reader is not self._database:
            undo.callback(self._reader.close)
        self._store_id = store_id = files.store_id(self._reader)
        process = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._log = LogReader(self._reader, self._name_of, self._defaults_since, f"{store_id}-")
        self._topics = TopicReader(self._log)
        self._topics.refresh()
        self._reports = Reports(Presence(layout.directory, process))
        undo.callback(self._reports.close)
        self._zones = ZoneWishes(self._log, self.write)
        self._subscriptions = Subscriptions(
            self._log,
            self._topics,
            self._reports,
            self._zones,
            self._settled,
            self._write_together,
            self._reply,
            lambda what: self._transactions.refuse_past(what),
            layout.directory,
        )
        peers = self._open_pipes(layout, process, undo)
        self._delays = DelayedMover(self._log, self.write, layout.directory)
        self._outbox = Outbox(self._database, layout.lock(), peers, f"{store_id}-", self._appended, self._delays.expect)
        self._outbox.catalog_version = self._topics.version
        self._transactions = Transactions(
            self._database,
            self._outbox,
            self._topics,
            self._log,
            f"{store_id}-",
            self._refresh_catalog,
            lambda given: self._capabilities.require(*needs_of_publish(given)),
        )
        self._own_tables = OwnTableReader(self._database, self._reader)
        self._look_timer: asyncio.TimerHandle | None = None
        self._data_version = self._log.data_version()
        self._appended_at = 0.0
        zones = ZoneMaker(
            self._log, self._topics, self.write, lambda: time.monotonic() - self._appended_at < BUSY_SECONDS
        )
        self._sweeper = Sweeper(self._log, self._topics, self._reports.presence, self.write, zones, layout.directory)

    def _open_pipes(self, layout: files.Layout, process: str, undo: contextlib.ExitStack) -> Peers | None:
        """Wake-ups from other processes, and the way to wake them; None for a store that nobody else can see."""
        if layout.directory is None:
            return None
        self._pipe = WakePipe(layout.directory / "wake", process)
        undo.callback(self._pipe.close)
        peers = Peers(layout.directory / "wake", process)
        undo.callback(peers.close)
        self._loop.add_reader(self._pipe.descriptor, self._woken)
        undo.callback(self._loop.remove_reader, self._pipe.descriptor)
        return peers

    async def close(self) -> None:
        """Write what waits, end all feeds, and let go of the files."""
        if not self._open:
            return
        self._check_loop()
        await self._transactions.close()
        await self._sweeper.stop()
        await self._zones.settle()
        await self._delays.stop()
        await self._outbox.settle()
        await self._subscriptions.close()
        self._open = False
        if self._look_timer is not None:
            self._look_timer.cancel()
        await self._outbox.close()
        self._leave_neighbours()
        self._closing.close()

    def _leave_neighbours(self) -> None:
        others = _NEIGHBOURS.get(self._directory)
        if others is not None:
            others.discard(self)
            if not others:
                del _NEIGHBOURS[self._directory]

    def _check_open(self) -> None:
        if not self._open:
            raise StoreError("the client is closed (or was never opened): use it inside 'async with Client(...)'")
        self._check_loop()

    def _check_loop(self) -> None:
        """Refuse another event loop, where nothing that is awaited here would ever come."""
        # Of one thread only one loop runs at a time; to ask which it is costs a system call.
        if locks.forks() != self._forks or not self._loop.is_running() or threading.get_ident() != self._thread:
            self._database.check_process()
            raise StoreError(
                "the client was opened in another event loop (another asyncio.run, or another thread): open one in each"
            )

    # ── topics ──
    async def create_topic(self, definition: TopicDefinition, *, if_not_exists: bool = False) -> bool:
        validate_topic_name(definition.name)
        work = CreateTopic(definition, if_not_exists)
        await self._write_catalog(work)
        return work.created

    async def alter_topic(self, name: str, change: TopicChange) -> Topic:
        if isinstance(change, Rename):
            validate_topic_name(change.new_name)
        await self._write_catalog(AlterTopic(name, change))
        return await self.topic(change.new_name if isinstance(change, Rename) else name)

    async def drop_topic(self, name: str) -> None:
        await self.topic(name)
        await self._write_catalog(DropTopic(name))
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
        self._transactions.refuse_past(DEFINE_OUTSIDE)
        try:
            await self.write(work)
        except TopicNotFound as error:
            raise TopicNotFound(error.name, self._topics.names()) from None
        self._refresh_catalog()

    def _refresh_catalog(self) -> None:
        if self._topics.refresh():
            self._outbox.catalog_version = self._topics.version
            self._subscriptions.topics_changed()

    def _name_of(self, topic_id: int) -> str:
        return self._topics.name_of(topic_id)

    def _defaults_since(self, topic_id: int, version: int) -> Mapping[str, JsonValue]:
        return self._topics.defaults_since(topic_id, version)

    # ── publishing ──
    async def publish(self, message: OutgoingMessage) -> Receipt:
        self._check_open()
        if self._outbox.writer.is_lost:
            await self.open()
        self._transactions.refuse_past(PAST_TRANSACTION)
        self._check_supported(message)
        for _ in range(STALE_RETRIES):
            topic = self._topics.remembered(message.topic) or await self.topic(message.topic)
            try:
                posted = self._outbox.post(topic, message)
                receipt = posted if isinstance(posted, Receipt) else await posted
            except StaleTopic:
                self._refresh_catalog()
                continue
            if receipt.duplicate:
                self._reports.count(topic.topic_id, counters.DUPLICATES, 1)
            return receipt
        raise StoreError(f"topic {message.topic} is being changed again and again: the message was not stored")

    async def publish_batch(self, batch: OutgoingBatch) -> BatchReceipt:
        self._check_open()
        self._transactions.refuse_past(PAST_TRANSACTION)
        self._check_supported(batch)
        if not batch.bodies:
            return BatchReceipt(0, 0, {})
        for _ in range(STALE_RETRIES):
            topic = self._topics.remembered(batch.topic) or await self.topic(batch.topic)
            try:
                receipt = batch_receipt(await self._outbox.post_batch(topic, batch))
            except StaleTopic:
                self._refresh_catalog()
                continue
            self._reports.count(topic.topic_id, counters.DUPLICATES, receipt.duplicates)
            return receipt
        raise StoreError(f"topic {batch.topic} is being changed again and again: the batch was not stored")

    async def write(self, work: Work) -> None:
        """Commit a work of the store's own."""
        self._check_open()
        await self._outbox.write(work)

    async def _write_together(self, works: Sequence[Work]) -> None:
        self._check_open()
        await self._outbox.write_together(works)

    async def _reply(self, message: Message, value: object) -> None:
        await answer(self, message, value)

    def _check_supported(self, given: OutgoingMessage | OutgoingBatch) -> None:
        if given.region is not None:  # all else that a publish can need is here
            self._capabilities.require(*needs_of_publish(given))

    def transaction(self, timeout_seconds: float) -> LocalTransaction:
        self._check_open()
        return self._transactions.begin(timeout_seconds)

    async def _settled(self) -> None:
        """All commits under way have been told of; not those that wait for the running task's own transaction."""
        if self._transactions.holds_here():
            self._outbox.flush()
        else:
            await self._outbox.settle()

    def _appended(self, appended: Sequence[Append]) -> None:
        self._appended_at = time.monotonic()
        for append in appended:
            self._reports.published(append.topic_id, append.count)
        self._subscriptions.appended(appended)
        for other in _NEIGHBOURS.get(self._directory, ()):
            if other is not self and other._loop is self._loop and other._subscriptions.groups.has_priorities:
                other._subscriptions.look()  # before this publish returns, whatever was not begun of lower priority goes back

    # ── the user's own tables ──
    @property
    def tables(self) -> OwnTableReader:
        self._check_open()
        return self._own_tables

    # ── subscribing ──
    async def subscribe(self, request: SubscriptionRequest) -> Feed:
        self._check_open()
        self._capabilities.require(*needs_of_subscription(request))
        self._refresh_catalog()
        return await self._subscriptions.open(request)

    # ── groups ──
    async def create_group(self, request: SubscriptionRequest) -> int:
        self._check_open()
        self._transactions.refuse_past(DEFINE_OUTSIDE)
        self._refresh_catalog()
        return await self._subscriptions.groups.create(request, self._subscriptions.topics_of(request))

    async def drop_group(self, name: str, topic: str | None, *, if_exists: bool = False) -> int:
        self._check_open()
        self._transactions.refuse_past(DEFINE_OUTSIDE)
        return await self._subscriptions.groups.drop(name, topic, if_exists=if_exists)

    async def pause_group(self, name: str, topic: str | None, *, paused: bool) -> None:
        self._check_open()
        self._transactions.refuse_past(DEFINE_OUTSIDE)
        await self._subscriptions.groups.pause(name, topic, paused=paused)

    async def seek_group(self, name: str, topic: str, target: StartPosition, *, dry_run: bool = False) -> SeekPreview:
        self._transactions.refuse_past(DEFINE_OUTSIDE)
        covered = await self.topics(topic) if is_pattern(topic) else [await self.topic(topic)]
        return SeekPreview(*await self._subscriptions.groups.seek(name, topic, target, covered, dry_run=dry_run))

    async def alter_group(self, name: str, topic: str, change: GroupChange, *, dry_run: bool = False) -> int:
        self._check_open()
        self._transactions.refuse_past(DEFINE_OUTSIDE)
        return await self._subscriptions.groups.alter(name, topic, change, dry_run=dry_run)

    async def delete_messages(self, topic: Topic, partition: int, offsets: Sequence[int]) -> int:
        self._transactions.refuse_past(DEFINE_OUTSIDE)
        work = DeleteMessages(topic.topic_id, topic.name, partition, offsets)
        await self.write(work)
        self._subscriptions.follower.forget(work.changed)
        if work.emptied:
            await self.write(RemoveBatches(work.emptied, "removed"))
        return work.deleted

    # ── news from other processes ──
    def _woken(self) -> None:
        self._pipe.drain()
        self._subscriptions.look()
        self._subscriptions.groups.look()
        self._delays.look()

    def _schedule_look(self) -> None:
        """Once a second look whether a wake-up was lost, or the catalog has changed."""
        if not self._open:
            return
        self._look_timer = self._loop.call_later(LOOK_SECONDS, self._schedule_look)
        lost = self._database.lost()
        if lost is not None:
            self._lose(lost)
            return
        self._subscriptions.groups.tick()
        with contextlib.suppress(GeodeError):
            version = self._log.data_version()
            if version != self._data_version:
                self._data_version = version
                self._refresh_catalog()
                self._subscriptions.look()
                self._delays.look()
            self._delays.tick()

    def _lose(self, lost: ConnectionLost) -> None:
        """The store is not where it was any more: nothing more is written, and all subscriptions end."""
        self._outbox.writer.fail(lost)
        self._subscriptions.fail(lost)

    # ── reading ──
    async def scan(self, request: ScanRequest) -> AsyncIterator[Chunk]:
        self._check_open()
        await self._settled()
        through = self._log.last_batch_id()
        sources = [source for topic in request.topics for source in self._scanned(topic, request)]
        skips = self._zones.skips(request.condition, request.counts)
        self._zones.want(skips, [topic.topic_id for topic in request.topics])
        cursor = LogCursor(self._log, sources, through=through, descending=request.newest_first, skips=skips)
        for number, chunk in enumerate(cursor):
            if request.counts is not None:
                request.counts.batches_read += 1
                request.counts.messages_read += chunk.count
            if request.letters:
                chunk.replayed = replayed(self._log, chunk)
            if request.end_offset is not None and chunk.base_offset >= request.end_offset:
                if len(sources) == 1 and not request.newest_first:
                    return
                continue
            yield chunk
            if number % SCAN_GIVE_WAY_EVERY == 0:
                await asyncio.sleep(0)

    def _scanned(self, topic: Topic, request: ScanRequest) -> Iterator[tuple[int, int, int]]:
        """Topic id, partition and first base offset of what a scan has to read of a topic."""
        keyed = None if request.key is None else partition_of(request.key, topic.partitions)
        for partition in range(topic.partitions):
            if request.partition not in (None, partition) or keyed not in (None, partition):
                continue
            first = request.first_offset
            if request.since_us is not None:
                first = max(first, self._log.first_offset_since(topic.topic_id, partition, request.since_us))
            if first:
                first = self._log.batch_containing(topic.topic_id, partition, first)
            yield topic.topic_id, partition, first

    async def report(self, sections: Iterable[Section], pattern: str = "**", *, window_seconds: float = 60.0) -> Report:
        self._check_open()
        self._refresh_catalog()
        validate_topic_pattern(pattern)
        await self._reported()
        return Reporter(self._log, self._topics, self._reports, pattern, window_seconds).report(sections)

    async def _reported(self) -> None:
        """Everything that this client has done is in the store and the presence file."""
        await self._settled()
        self._reports.write()


@contextlib.contextmanager
def _named_errors(layout: files.Layout) -> Iterator[None]:
    """Turn an error of the system, met while opening, into one that names the file."""
    try:
        yield
    except OSError as error:
        place = error.filename or layout.directory
        raise StoreError(f"cannot open the store: {error.strerror} ({place})") from error


_protocol: type[broker.Broker] = LocalBroker  # checked by mypy
