"""The client: what a program calls.

`Client` opens a broker (a directory, `:memory:`, later a cluster) and offers publishing, subscriptions and statements.
Everything else is in the layers below.
"""

import asyncio
import contextlib
import functools
import logging
import os
import uuid
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from geode_client import codec
from geode_client.broker import BatchReceipt, Broker, OutgoingMessage, Receipt
from geode_client.broker.outgoing import BatchSender, key_text, microseconds, outgoing_batches, outgoing_message
from geode_client.broker.subscription import Subscription
from geode_client.errors import GeodeError, GqlError, GroupNotFound, TopicNotFound, Unsupported
from geode_client.transaction import TRANSACTION_SECONDS, Transaction, automatic_topic

if TYPE_CHECKING:
    from geode_client.connecting import Connection
    from geode_client.health import Health, TrafficFigures
    from geode_client.query.result import Result
    from geode_client.query.session import Session
    from geode_client.requesting import Requester, Service

DEFAULT_TARGET = "./geode-data"
WINDOW_SECONDS_MAX = 31 * 86_400

logger = logging.getLogger("geode_client")

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
        if not chosen:
            raise GeodeError("the target is empty: name a directory, or :memory:")
        self._broker = open_broker(chosen)
        self._auto_create = auto_create
        self._opening: asyncio.Lock | None = None
        self._is_open = False
        self._is_closed = False
        self._session: Session | None = None
        self._requester: Requester | None = None

    # ── opening and closing ──
    async def open(self) -> Self:
        """Open the broker, or open it again when its directory was gone; any other call does so by itself.

        Raises ConnectionLost while the directory is gone, and StoreError when another store is in its place.
        """
        if self._is_open and self._broker.is_lost:
            await self._broker.open()
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
            closing = asyncio.ensure_future(self._close())
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                # Half closed it would keep its locks and its place among the living: a cancelled close ends first.
                await closing
                raise

    async def _close(self) -> None:
        try:
            if self._requester is not None:
                await self._requester.close()
        finally:
            await self._broker.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Client({self._broker.target!r})"

    def wrap_broker(self, wrap: Callable[[Broker], Broker]) -> None:
        """Put something between this client and its broker, such as what makes spans; before it is first used."""
        if self._is_open or self._session is not None:
            raise GeodeError("the client is in use already: wrap its broker before it is opened")
        self._broker = wrap(self._broker)

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
            await self._broker.create_topic(automatic_topic(name), if_not_exists=True)

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
        expected_offset: int | None = None,
    ) -> Publication:
        """Store one message; awaiting gives its Receipt once it is as durable as the topic's delivery promises.

        With `delay_seconds` the message waits, as durable as any, and is appended to the topic when it is due; its time to
        live counts from then. Its receipt has no offset (None), and its id is known from now on.

        With `expected_offset` the message is stored only if it becomes this offset of its partition; else Conflict is raised
        and nothing is stored. 0 is that of the first message of a topic.

        Raises InvalidMessage (no JSON), SchemaViolation, MessageTooLarge, TopicNotFound (without auto_create), StoreError.
        """
        outgoing = outgoing_message(
            topic,
            message,
            partition_key=partition_key,
            priority=priority,
            ttl_seconds=ttl_seconds,
            delay_seconds=delay_seconds,
            compression=compression,
            region=region,
            message_id=message_id,
            headers=headers,
            expected_offset=expected_offset,
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
        expected_offset: int | None = None,
    ) -> BatchReceipt:
        """Store many messages, `batch_size` at a time; each batch is stored whole or not at all.

        When a batch is refused the batches before it are stored; the error names the message by its number in all
        `messages`. With `expected_offset` the first message has to get this offset, and all go to one partition; else
        Conflict is raised. Never holds more than a few batches. While 64 MiB wait for the disk, publishing waits, in the
        order of the calls.
        """
        batches = outgoing_batches(
            topic,
            messages,
            batch_size=batch_size,
            partition_key=partition_key,
            priority=priority,
            ttl_seconds=ttl_seconds,
            delay_seconds=delay_seconds,
            compression=compression,
            region=region,
            message_ids=message_ids,
            headers=headers,
            expected_offset=expected_offset,
        )
        await self.open()
        await self._ensure_topic(topic)
        return await BatchSender(self._broker).publish(batches)

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
        prefetch: int = 4096,
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
            await self._broker.open()  # again, when it has failed meanwhile
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

    # ── asking and answering ──
    async def request(
        self, topic: str, params: Any = None, timeout: float | None = 5.0, *, method: str | None = None
    ) -> Any:
        """Ask whoever serves the topic, and give the result; None for `timeout` waits for ever.

        Publishes `id`, `method`, `params` and `reply_to`. Raises RequestTimeout (says whether anybody serves the topic),
        RequestFailed (with the server's text).
        """
        if timeout is not None:
            microseconds("timeout", timeout, above_zero=True)
        await self.open()
        if self._requester is None:
            from geode_client.requesting import Requester

            self._requester = Requester(self._broker, self._publish)
        return await self._requester.request(topic, params, timeout, method)

    def serve(self, topic: str, *, group: str = "servers") -> "Service":
        """The requests of a topic, to be used with `async with` and `async for`; answer each with `await request.reply(…)`.

        Servers of one `group` share the requests, in all processes: each goes to one of them, and to another one when that
        one dies. Requests wait while no server is there, as long as their clients do.
        """
        from geode_client.requesting import SERVER_PREFETCH, Service

        subscription = self.subscribe(topic, consumer_group=group, prefetch=SERVER_PREFETCH)
        return Service(self._broker, subscription)

    # ── transactions ──
    def transaction(self, *, timeout: float = TRANSACTION_SECONDS) -> Transaction:
        """`async with client.transaction() as tx`: what is done with `tx` is stored together at the end, or not at all.

        An exception that leaves the block, or `timeout` seconds, roll it back. Publishing past `tx` inside is an error.
        """
        return Transaction(self._broker, ready=self.open, auto_create=self._auto_create, timeout_seconds=timeout)

    def connection(self, *, timeout: float = TRANSACTION_SECONDS) -> "Connection":
        """`async with client.connection() as conn`: `begin`, `execute`, `commit` and `rollback`, over GQL and own tables.

        A transaction that is begun is rolled back after `timeout` seconds.
        """
        from geode_client.connecting import Connection

        return Connection(self.session, ready=self.open, timeout_seconds=timeout)

    # ── statements ──
    @property
    def session(self) -> "Session":
        """What runs statements for one reader of them, such as a shell: BEGIN opens a transaction in it."""
        if self._session is None:
            self._session = self._shared_session.exclusive()
        return self._session

    @functools.cached_property
    def _shared_session(self) -> "Session":
        """What runs statements for all tasks of the program: none of them can begin a transaction that takes in others'."""
        from geode_client.query.session import Session

        return Session(self._broker, ensure_topic=self._ensure_topic, ready=self.open, auto_create=self._auto_create)

    async def execute(self, gql: str, params: Mapping[str, Any] | None = None) -> "Result":
        """Run one statement."""
        return await self._shared_session.execute(gql, params)

    async def query(self, select: str, params: Mapping[str, Any] | None = None) -> "Result":
        """Run one SELECT (or SHOW, DESCRIBE, EXPLAIN); anything else is refused."""
        return await self._shared_session.query(select, params)

    async def run_script(self, path: str | os.PathLike[str], params: Mapping[str, Any] | None = None) -> "list[Result]":
        """Run all statements of a file; gives one Result a statement. The first error ends it."""
        from geode_client.query.script import Script

        script = await asyncio.to_thread(Script.read, Path(path))
        return await script.run(self.session, params)

    # ── figures ──
    async def get_throughput(self, topic: str, window: float = 60) -> float:
        """Messages published per second over the last `window` seconds, by all processes.

        `window` is from 1 second to 31 days; after a restart of the machine counting begins anew. 0.0, with a warning in
        the log, for a topic that does not exist yet.
        """
        return self._known((await self._traffic(topic, window)).throughput, "the throughput of a topic")

    async def get_error_rate(self, topic: str, window: float = 300) -> float:
        """Failed deliveries as a fraction of all over the last `window` seconds, by all processes.

        `window` is as for `get_throughput`. 0.0, with a warning in the log, for a topic that does not exist yet.
        """
        return self._known((await self._traffic(topic, window)).error_rate, "the error rate of a topic")

    def _known(self, figure: float | None, what: str) -> float:
        if figure is None:
            raise Unsupported(what, self._broker.capabilities.backend)
        return figure

    async def _traffic(self, topic: str, window: float) -> "TrafficFigures":
        if isinstance(window, bool) or not isinstance(window, int | float) or not 1 <= window <= WINDOW_SECONDS_MAX:
            raise GqlError(f"window is a number of seconds from 1 to {WINDOW_SECONDS_MAX} (31 days), not {window!r}")
        await self.open()
        from geode_client.health import TrafficFigures, traffic_of

        try:
            return await traffic_of(self._broker, topic, window)
        except TopicNotFound as error:
            logger.warning("%s; its rates are 0 until then", error)
            return TrafficFigures(0.0, 0.0)

    async def get_consumer_lag(self, topic: str, group: str) -> int:
        """Messages of a topic (or pattern) that a group has not yet settled: ahead of it, in hands, waiting for a retry.

        0, with a warning in the log, for a topic or group that does not exist yet.
        """
        await self.open()
        try:
            if "*" not in topic:
                await self._broker.topic(topic)
        except TopicNotFound as error:
            logger.warning("%s; the lag of group %s is 0 until then", error, group)
            return 0
        found = [one for one in (await self._broker.report(["groups"], topic)).groups if one.name == group]
        if not found:
            everywhere = (await self._broker.report(["groups"])).groups
            names = [one.name for one in everywhere if not one.name.startswith("_")]
            logger.warning("%s; its lag is 0 until then", GroupNotFound(group, topic, names))
        return sum(one.pending for one in found)

    async def health(
        self,
        topic: str = "**",
        group: str | None = None,
        *,
        lag_max: int = 10_000,
        error_rate_max: float = 0.01,
        throughput_min: float | None = None,
    ) -> "Health":
        """Check lag, error rate and throughput of topics and groups against limits; true when all is well.

        `throughput_min` is 100 messages a second for a topic that is named, and not checked for a pattern.
        """
        from geode_client.health import health_of

        await self.open()
        return await health_of(
            self._broker,
            topic,
            group,
            lag_max=lag_max,
            error_rate_max=error_rate_max,
            throughput_min=throughput_min,
        )


@contextlib.asynccontextmanager
async def connection(
    target: str | os.PathLike[str] | None = None, *, timeout: float = TRANSACTION_SECONDS
) -> "AsyncIterator[Connection]":
    """`async with geode_client.connection() as conn`: a connection through a client of its own, as `client.connection`."""
    async with Client(target) as client, client.connection(timeout=timeout) as opened:
        yield opened


__all__: Sequence[str] = ("Client", "Publication", "connection")
