"""The client: what a program calls.

`Client` opens a broker (a directory, `:memory:`, later a cluster) and offers publishing, subscriptions and statements.
Values that people write (keys, durations, priorities) are turned into the broker's records here; everything else is in
the layers below.
"""

import asyncio
import os
import uuid
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Generator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from geode_client import codec
from geode_client.broker import BatchReceipt, Broker, OutgoingBatch, OutgoingMessage, Receipt
from geode_client.catalog import TopicDefinition
from geode_client.errors import GeodeError, GqlError, GroupNotFound, InvalidMessage, TopicNotFound, Unsupported
from geode_client.grammar.names import validate_topic_name
from geode_client.options import COMPRESSIONS, TopicOptions, parse_priority
from geode_client.subscription import Subscription

if TYPE_CHECKING:
    from geode_client.query.result import Result
    from geode_client.query.session import Session

DEFAULT_TARGET = "./geode-data"
BATCHES_ON_THE_WAY = 4
SECONDS_MAX = 1000 * 366 * 86_400

T = TypeVar("T")


class Publication(Coroutine[Any, Any, Receipt]):
    """A publish that has not begun: `await` it, or use it as `async with`. Dropped without either it warns."""

    __slots__ = ("_coroutine", "_started")

    def __init__(self, coroutine: Coroutine[Any, Any, Receipt]) -> None:
        self._coroutine = coroutine
        self._started = False

    def __await__(self) -> Generator[Any, Any, Receipt]:
        self._started = True
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        self._started = True
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        self._started = True
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._started = True
        self._coroutine.close()

    async def __aenter__(self) -> Receipt:
        return await self

    async def __aexit__(self, *_: object) -> None:
        return None

    def __del__(self) -> None:
        if not self._started:
            self._coroutine.close()
            warnings.warn("a publish was never awaited: nothing was stored", RuntimeWarning, stacklevel=2)


def open_broker(target: str) -> Broker:
    """The broker behind a target: a directory, `:memory:`, or `nats://…`."""
    scheme, separator, _ = target.partition("://")
    if separator and scheme in ("nats", "tls", "ws", "wss"):
        raise Unsupported("a NATS target (the cluster backend is not built yet)")
    if separator and scheme != "file":
        raise GeodeError(f"unknown target scheme {scheme}://: a target is a directory, :memory: or nats://host")
    from geode_client.local.broker import LocalBroker

    return LocalBroker(target.removeprefix("file://") if separator else target)


class Client:
    """A program's end of a broker.

    `target`: a data directory (made when missing; default `$GEODE_URL`, else `./geode-data`), or `":memory:"`. Opened on
    first use or by `async with`. With `auto_create` publishing or subscribing to a plain name makes the topic.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | None = None,
        *,
        region: str | None = None,
        config: str | os.PathLike[str] | None = None,
        auto_create: bool = True,
    ) -> None:
        if region is not None or config is not None:
            raise Unsupported("regions and topology files (there is no backend yet that has them)")
        chosen = os.fspath(target) if target is not None else os.environ.get("GEODE_URL") or DEFAULT_TARGET
        self._broker = open_broker(chosen)
        self._auto_create = auto_create
        self._opening: asyncio.Lock | None = None
        self._is_open = False
        self._is_closed = False
        self._session: Session | None = None

    # ── opening and closing ──
    async def open(self) -> Self:
        """Open the broker; any other call does so by itself."""
        if not self._is_open:
            if self._is_closed:
                raise GeodeError("the client is closed: make a new one")
            self._opening = self._opening or asyncio.Lock()
            async with self._opening:
                if not self._is_open:
                    await self._broker.open()
                    self._is_open = True
        return self

    async def close(self) -> None:
        """Store what is still on its way, end all subscriptions, let go of the store."""
        self._is_closed = True
        if self._is_open:
            self._is_open = False
            closing = asyncio.ensure_future(self._broker.close())
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                # Half closed it would keep its locks and its place among the living: a cancelled close ends first.
                await closing
                raise

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Client({self._broker.target!r})"

    @property
    def broker(self) -> Broker:
        """The broker underneath, for those who extend Geode."""
        return self._broker

    async def _ensure_topic(self, name: str) -> None:
        """Make a topic with default options where there is none, if this client does that."""
        try:
            await self._broker.topic(name)
        except TopicNotFound:
            if not self._auto_create:
                raise
            definition = TopicDefinition(validate_topic_name(name), TopicOptions(), automatic=True)
            await self._broker.create_topic(definition, if_not_exists=True)

    # ── publishing ──
    def publish(
        self,
        topic: str,
        message: Any,
        *,
        partition_key: str | int | uuid.UUID | None = None,
        priority: str | int = 5,
        ttl_seconds: float | None = None,
        delay_seconds: float | None = None,
        compression: str | None = None,
        region: str | None = None,
        message_id: str | uuid.UUID | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> Publication:
        """Store one message; awaiting gives its Receipt once it is as durable as the topic's delivery promises.

        Raises InvalidMessage (no JSON), SchemaViolation, MessageTooLarge, TopicNotFound (without auto_create), StoreError.
        """
        outgoing = OutgoingMessage(
            topic,
            message,
            None if partition_key is None else key_text(partition_key),
            priority if type(priority) is int and 0 <= priority <= 9 else parse_priority(priority),
            None if ttl_seconds is None else _microseconds("ttl_seconds", ttl_seconds, above_zero=True),
            None if delay_seconds is None else _microseconds("delay_seconds", delay_seconds),
            _checked_compression(compression),
            None if message_id is None else str(message_id),
            headers,
            region,
        )
        return Publication(self._publish(outgoing))

    async def _publish(self, outgoing: OutgoingMessage) -> Receipt:
        if not self._is_open:
            await self.open()
        try:
            return await self._broker.publish(outgoing)
        except TopicNotFound:
            await self._ensure_topic(outgoing.topic)
            return await self._broker.publish(outgoing)

    async def publish_batch(
        self,
        topic: str,
        messages: Iterable[Any] | AsyncIterable[Any],
        *,
        batch_size: int = 1000,
        partition_key: str | int | uuid.UUID | None = None,
        priority: str | int = 5,
        ttl_seconds: float | None = None,
        delay_seconds: float | None = None,
        compression: str | None = None,
        region: str | None = None,
        message_ids: Iterable[str | uuid.UUID | None] | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> BatchReceipt:
        """Store many messages, `batch_size` at a time; each batch is stored whole or not at all.

        When a batch is refused the batches before it are stored; the error names the message by its number in all
        `messages`. Never holds more than a few batches.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise GeodeError(f"batch_size is a whole number of at least 1, not {batch_size!r}")
        await self.open()
        await self._ensure_topic(topic)
        template = OutgoingBatch(
            topic,
            (),
            keys=None if partition_key is None else key_text(partition_key),
            priority=parse_priority(priority),
            ttl_us=None if ttl_seconds is None else _microseconds("ttl_seconds", ttl_seconds, above_zero=True),
            delay_us=None if delay_seconds is None else _microseconds("delay_seconds", delay_seconds),
            compression=_checked_compression(compression),
            region=region,
        )
        return await _Batches(self._broker, template, headers).publish(_cut(messages, batch_size), message_ids)

    # ── subscribing ──
    def subscribe(
        self,
        topic_or_pattern: str,
        *,
        filter: str | None = None,
        params: Mapping[str, Any] | None = None,
        consumer_group: str | None = None,
        consumer_id: str | None = None,
        auto_ack: bool = True,
        priority_order: bool = False,
        ordering: bool = False,
        partition: int | None = None,
        partition_key_filter: str | int | uuid.UUID | None = None,
        from_beginning: bool = False,
        from_offset: int | None = None,
        since: datetime | timedelta | str | None = None,
        follow: bool | None = None,
        limit: int | None = None,
        timeout: float | None = None,
        region: str | None = None,
        prefetch: int = 1000,
        type: type[Any] | None = None,
    ) -> Subscription:
        """A subscription, to be used with `async with` and `async for`.

        Without a group every subscriber gets every message from now on. `from_beginning`, `from_offset` and `since` replay
        what is retained and then end, unless `follow`. `filter` is a condition, `params` its parameters.
        """
        from geode_client.query import subscribing

        request = subscribing.request_of(
            topic_or_pattern,
            filter=filter,
            params=params,
            group=consumer_group,
            consumer=consumer_id,
            auto_ack=auto_ack,
            priority_order=priority_order,
            ordering=ordering,
            partition=partition,
            key=None if partition_key_filter is None else key_text(partition_key_filter),
            from_beginning=from_beginning,
            from_offset=from_offset,
            since=since,
            follow=follow,
            region=region,
            prefetch=prefetch,
        )

        async def ready() -> None:
            await self.open()
            if "*" not in request.pattern:
                await self._ensure_topic(request.pattern)
                subscription.request = await subscribing.declared(self._broker, request)

        subscription = Subscription(
            self._broker,
            request,
            limit=limit,
            timeout_seconds=timeout,
            decoder=None if type is None else codec.typed_decoder(type),
            before_open=ready,
        )
        return subscription

    # ── statements ──
    @property
    def session(self) -> "Session":
        """What runs statements for this client."""
        if self._session is None:
            from geode_client.query.session import Session

            self._session = Session(self._broker, ensure_topic=self._ensure_topic, ready=self.open)
        return self._session

    async def execute(self, gql: str, params: Mapping[str, Any] | None = None) -> "Result":
        """Run one statement."""
        return await self.session.execute(gql, params)

    async def query(self, select: str, params: Mapping[str, Any] | None = None) -> "Result":
        """Run one SELECT (or SHOW, DESCRIBE, EXPLAIN); anything else is refused."""
        return await self.session.query(select, params)

    async def run_script(self, path: str | os.PathLike[str], params: Mapping[str, Any] | None = None) -> "list[Result]":
        """Run all statements of a file; gives one Result a statement. The first error ends it."""
        from geode_client.query.script import Script

        script = await asyncio.to_thread(Script.read, Path(path))
        return await script.run(self.session, params)

    # ── figures ──
    async def get_throughput(self, topic: str, window: float = 60) -> float:
        """Messages published per second over the last `window` seconds, by all processes."""
        await self.open()
        published, _, _ = await self._broker.traffic(topic, window)
        return published / window

    async def get_error_rate(self, topic: str, window: float = 300) -> float:
        """Failed deliveries as a fraction of all over the last `window` seconds."""
        await self.open()
        _, consumed, failed = await self._broker.traffic(topic, window)
        return failed / (consumed + failed) if consumed + failed else 0.0

    async def get_consumer_lag(self, topic: str, group: str) -> int:
        """Messages of a topic (or pattern) that a group has not yet settled: ahead of it, in hands, waiting for a retry."""
        await self.open()
        if "*" not in topic:
            await self._broker.topic(topic)
        found = [one for one in await self._broker.group_statistics(topic) if one.name == group]
        if not found:
            names = [one.name for one in await self._broker.group_statistics() if not one.name.startswith("_")]
            raise GroupNotFound(group, topic, names)
        return sum(one.pending for one in found)


class _Batches:
    """One publish_batch under way: a few batches are with the broker at a time, in order."""

    def __init__(self, broker: Broker, template: OutgoingBatch, headers: Mapping[str, Any] | None) -> None:
        self._broker = broker
        self._template = template
        self._headers = headers
        self._on_the_way: list[tuple[int, asyncio.Task[BatchReceipt]]] = []
        self._count = 0
        self._duplicates = 0
        self._offsets: dict[int, range] = {}

    async def publish(
        self, pieces: AsyncIterator[list[Any]], message_ids: Iterable[str | uuid.UUID | None] | None
    ) -> BatchReceipt:
        ids = None if message_ids is None else iter(message_ids)
        first = 0
        try:
            async for piece in pieces:
                chosen = None if ids is None else _next_ids(ids, len(piece), first)
                await self._send(first, piece, chosen)
                first += len(piece)
            if ids is not None and next(ids, None) is not None:
                raise GeodeError("there are more message_ids than messages")
            while self._on_the_way:
                await self._await_oldest()
        finally:
            # What was sent is stored, or not, whatever becomes of the caller; but nobody is left to hear of it.
            for _, task in self._on_the_way:
                task.add_done_callback(_forget)
        return BatchReceipt(self._count, self._duplicates, self._offsets)

    async def _send(self, first: int, piece: list[Any], ids: list[str | None] | None) -> None:
        template = self._template
        batch = OutgoingBatch(
            template.topic,
            piece,
            template.keys,
            ids,
            None if self._headers is None else [self._headers] * len(piece),
            template.priority,
            template.ttl_us,
            template.delay_us,
            template.compression,
            template.region,
        )
        task = asyncio.ensure_future(self._broker.publish_batch(batch))
        self._on_the_way.append((first, task))
        # Let it encode and hand itself over before the next one is made: batches are stored in their order.
        await asyncio.sleep(0)
        if len(self._on_the_way) >= BATCHES_ON_THE_WAY or task.done():
            await self._await_oldest()

    async def _await_oldest(self) -> None:
        first, task = self._on_the_way[0]
        try:
            receipt = await asyncio.shield(task)
        except InvalidMessage as error:
            raise renumbered(error, first) from error
        del self._on_the_way[0]
        self._count += receipt.count
        self._duplicates += receipt.duplicates
        for partition, offsets in receipt.offsets.items():
            before = self._offsets.get(partition)
            self._offsets[partition] = offsets if before is None else range(before.start, offsets.stop)


def _forget(task: "asyncio.Task[BatchReceipt]") -> None:
    if not task.cancelled():
        task.exception()


def renumbered(error: InvalidMessage, first: int) -> InvalidMessage:
    """The same refusal with the message counted from the first of all batches."""
    if first == 0:
        return error
    copy = type(error).__new__(type(error))
    copy.__dict__.update(error.__dict__)
    copy.message_index = error.message_index + first
    text = str(error).partition(f"message {error.message_index + 1}")[2]
    Exception.__init__(copy, f"message {copy.message_index + 1}{text}")
    return copy


def _next_ids(ids: Any, count: int, first: int) -> list[str | None]:
    chosen = [None if found is None else str(found) for _, found in zip(range(count), ids, strict=False)]
    if len(chosen) < count:
        raise GeodeError(f"there are fewer message_ids than messages: none for message {first + len(chosen) + 1}")
    return chosen


async def _cut(messages: Iterable[Any] | AsyncIterable[Any], size: int) -> AsyncIterator[list[Any]]:
    """Lists of `size` messages, of any iterable."""
    if isinstance(messages, list | tuple):
        for first in range(0, len(messages), size):
            yield list(messages[first : first + size])
        return
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable | AsyncIterable):
        raise GeodeError(
            f"publish_batch takes several messages (a list, an iterator), not one {type(messages).__name__}"
        )
    piece: list[Any] = []
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            piece.append(message)
            if len(piece) == size:
                yield piece
                piece = []
    else:
        for message in messages:
            piece.append(message)
            if len(piece) == size:
                yield piece
                piece = []
    if piece:
        yield piece


def key_text(key: object) -> str:
    """The text form by which a key counts; raises GqlError when it is no key."""
    if isinstance(key, str):
        return key
    if isinstance(key, uuid.UUID) or (isinstance(key, int) and not isinstance(key, bool)):
        return str(key)
    raise GqlError(f"a key is text, a whole number or a UUID, not {type(key).__name__}")


def _microseconds(name: str, seconds: float, *, above_zero: bool = False) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= SECONDS_MAX:
        raise GqlError(f"{name} is a number of seconds from 0 to 1000 years, not {seconds!r}")
    if above_zero and seconds == 0:
        raise GqlError(f"{name} must be more than 0")
    return int(seconds * 1_000_000)


def _checked_compression(compression: str | None) -> str | None:
    if compression is not None and compression not in COMPRESSIONS:
        raise GqlError(f"compression is one of {', '.join(COMPRESSIONS)}, not {compression!r}")
    return compression


__all__: Sequence[str] = ("Client", "Publication")
