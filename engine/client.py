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
from typing import TYPE_CHECKING, Any, Self

from geode_client import codec
from geode_client.broker import BatchReceipt, Broker, OutgoingMessage, Receipt
from geode_client.broker.outgoing import BatchSender, key_text, microseconds, outgoing_batches, outgoing_message
from geode_client.broker.subscription import Subscription, T
from geode_client.codec import JsonValue
from geode_client.errors import GeodeError, GqlError, GroupNotFound, TopicNotFound, Unsupported
from geode_client.message import Message
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


class Publication(Coroutine[Any, Any, Receipt]):
    """A publish that has not started yet.

    `await` it, or enter it with `async with`; both store the message and give its `Receipt`. A publication that is dropped
    without either stores nothing and gives a `RuntimeWarning`.
    """

    __slots__ = ("_coroutine", "_started")

    def __init__(self, coroutine: Coroutine[Any, Any, Receipt]) -> None:
        self._coroutine = coroutine
        self._started = False

    def __await__(self) -> Generator[Any, Any, Receipt]:
        self._started = True
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Advance the coroutine; part of the `Coroutine` protocol."""
        self._started = True
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception inside the coroutine; part of the `Coroutine` protocol."""
        self._started = True
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Close the coroutine without storing anything; part of the `Coroutine` protocol."""
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
    """Create the broker for a target, without opening it.

    Args:
        target: A directory, a `file://` URL, `":memory:"`, or `nats://host`.

    Returns:
        The broker; `open` it before use.

    Raises:
        Unsupported: The target names a cluster.
        GeodeError: The scheme of the target is unknown.
    """
    scheme, separator, _ = target.partition("://")
    if separator and scheme in ("nats", "tls", "ws", "wss"):
        raise Unsupported("a NATS target (the cluster backend is not built yet)")
    if separator and scheme != "file":
        raise GeodeError(f"unknown target scheme {scheme}://: a target is a directory, :memory: or nats://host")
    from geode_client.local.broker import LocalBroker

    return LocalBroker(target.removeprefix("file://") if separator else target)


class Client:
    """A connection to a broker: publish, subscribe, query, and run transactions.

    A client opens its broker on first use, or when it enters `async with`, and belongs to the event loop that opened it.
    Several clients, in one process or in many, may open one directory at the same time.

    Args:
        target: The data directory (created if it is missing), or `":memory:"`. None: the environment variable
            `GEODE_URL`, else `./geode-data`.
        region: The region of this client, for brokers that have regions.
        config: A topology file, for brokers that have regions.
        auto_create: Create a topic with default options when a plain name is published or subscribed to for the first
            time. False: raise `TopicNotFound` instead.

    Raises:
        Unsupported: The broker has no regions, or the target names a cluster.
        GeodeError: The target is empty or has an unknown scheme.

    Example:
        ```python
        async with Client("./data") as client:
            await client.publish("orders", {"id": 1, "total": 99.5})
        ```
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
        self._opened_session: Session | None = None
        self._requester: Requester | None = None

    # ── opening and closing ──
    async def open(self) -> Self:
        """Open the broker. All other calls do so when needed; opening an open client does nothing.

        After ConnectionLost it opens the broker again.

        Returns:
            The client itself.

        Raises:
            ConnectionLost: The directory is gone.
            StoreError: The store cannot be opened, or another store is in its place.
            GeodeError: The client was closed before.
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
        """Finish pending publishes, end all subscriptions, and release the store. Closing again does nothing.

        Raises:
            StoreError: What was pending could not be stored.
        """
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

    @property
    def target(self) -> str:
        """What the client opens: a directory, or `:memory:`."""
        return self._broker.target

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
        message: object,
        *,
        partition_key: str | int | uuid.UUID | None = None,
        priority: str | int = 5,
        ttl_seconds: float | None = None,
        delay_seconds: float | None = None,
        compression: str | None = None,
        region: str | None = None,
        message_id: str | uuid.UUID | None = None,
        headers: Mapping[str, object] | None = None,
        expected_offset: int | None = None,
    ) -> Publication:
        """Store one message.

        The receipt comes once the message is as durable as the delivery guarantee of its topic promises: on disk (fsync) for
        `at_least_once` and `exactly_once`.

        Args:
            topic: The name of the topic.
            message: Any value that has a JSON form: dicts, lists, text, numbers, booleans, None, and also datetime, date,
                UUID, Decimal, bytes, dataclasses, msgspec Structs and pydantic models. NaN and infinity are refused.
            partition_key: The key of the message: text, a whole number or a UUID. Messages of one key stay in one
                partition, in order. Without one the topic's `partition_key` field is used, if it has such an option.
            priority: 0 to 9, or `'low'` (2), `'normal'` (5), `'high'` (7), `'critical'` (9).
            ttl_seconds: Time to live in seconds; an expired message is not delivered. None: the topic's `message_ttl`.
            delay_seconds: Append the message to the topic only after so many seconds. It is stored at once and
                survives restarts; its time to live starts when it is appended.
            compression: `'lz4'` or `'none'`. None: the topic's option.
            region: The region to publish in, for brokers that have regions.
            message_id: An id of the publisher's own. If the topic knows it already, nothing is stored and the receipt says
                `duplicate`.
            headers: Metadata beside the body, by name; the values have a JSON form.
            expected_offset: Store the message only if it becomes this offset of its partition, else Conflict. 0 is the first
                offset of a partition.

        Returns:
            A publication: `await` it for the `Receipt` with id, topic, partition, offset, timestamp and `duplicate`. The
            offset of a delayed message is None.

        Raises:
            InvalidMessage: The message has no JSON form.
            SchemaViolation: The topic has a schema, and the message does not fit it.
            MessageTooLarge: The message has more bytes than the topic's `max_message_bytes`.
            Conflict: The message would not become `expected_offset`; nothing is stored.
            TopicNotFound: There is no such topic, and the client has `auto_create=False`.
            GqlError: An option or the name of the topic is not valid.
            StoreError: The store cannot be written.

        Example:
            ```python
            receipt = await client.publish("orders", {"id": "o-1"}, partition_key="customer-7", priority="high")
            ```
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
        messages: Iterable[object] | AsyncIterable[object],
        *,
        batch_size: int = 1000,
        partition_key: str | int | uuid.UUID | None = None,
        priority: str | int = 5,
        ttl_seconds: float | None = None,
        delay_seconds: float | None = None,
        compression: str | None = None,
        region: str | None = None,
        message_ids: Iterable[str | uuid.UUID | None] | None = None,
        headers: Mapping[str, object] | None = None,
        expected_offset: int | None = None,
    ) -> BatchReceipt:
        """Store many messages, a batch at a time. Each batch is stored completely or not at all.

        If a batch is refused, the batches before it remain stored. Only a few batches are held in memory at a time, so
        `messages` may be a generator without end.

        Args:
            topic: The name of the topic.
            messages: The messages, from any iterable or async iterable; for each see `publish`.
            batch_size: The number of messages in one batch.
            partition_key: One key for all messages: text, a whole number or a UUID.
            priority: 0 to 9, or `'low'`, `'normal'`, `'high'`, `'critical'`; for all messages.
            ttl_seconds: Time to live in seconds. None: the topic's `message_ttl`.
            delay_seconds: Append the messages to the topic only after so many seconds.
            compression: `'lz4'` or `'none'`. None: the topic's option.
            region: The region to publish in, for brokers that have regions.
            message_ids: One id (or None) for each message, for deduplication.
            headers: Metadata beside the body, the same for all messages.
            expected_offset: Store the messages only if the first of them becomes this offset of its partition, else
                Conflict. All messages must go to one partition.

        Returns:
            A `BatchReceipt`: how many messages were stored, how many ids were known already, and the range of offsets in each
            partition.

        Raises:
            InvalidMessage: A message has no JSON form; the error gives its position in `messages`, as the next two do.
            SchemaViolation: A message does not fit the schema of the topic.
            MessageTooLarge: A message has more bytes than the topic's `max_message_bytes`.
            Conflict: The first message would not become `expected_offset`; nothing is stored.
            TopicNotFound: There is no such topic, and the client has `auto_create=False`.
            GqlError: An option or the name of the topic is not valid.
            StoreError: The store cannot be written.

        Example:
            ```python
            receipt = await client.publish_batch("orders", ({"id": n} for n in range(100_000)))
            print(receipt.count, receipt.offsets)
            ```
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
        params: Mapping[str, object] | None = None,
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
        type: type[T] | None = None,
    ) -> Subscription[T]:
        """Subscribe to a topic, or to all topics that match a pattern. Nothing happens before the subscription is opened.

        Without a group each subscriber gets every message from now on. The members of a `consumer_group` share the messages,
        in one process or many, and the group remembers its position.

        Args:
            topic_or_pattern: A topic, or a pattern: `*` matches one segment of a name, `**` any number. A pattern also covers
                topics that are created later.
            filter: A condition; only messages for which it is TRUE are delivered.
            params: Values for the `$name` parameters of the filter.
            consumer_group: The group to join; it is created on first use.
            consumer_id: A name for this member of the group, as `SYSTEM.subscribers` shows it.
            auto_ack: Acknowledge a message when the next one is requested, or when the block ends without an exception.
                False: call `message.ack()` or `message.nack()`.
            priority_order: Deliver messages of a higher priority first.
            ordering: In a group: deliver the messages of one key one after the other, across all processes; the next one
                waits until the one before it is settled.
            partition: Read this partition only; counts from 0.
            partition_key_filter: Read messages with this key only.
            from_beginning: Start with the oldest retained message. For a group: where it starts when it is created.
            from_offset: Start at this offset of each partition. Not for patterns.
            since: Start with the first message accepted at or after a datetime, or within the last timedelta or text such as
                `'1 hour'`.
            follow: Continue with new messages after the retained ones. None: True, except for a replay (from_beginning,
                from_offset, since) without a group, which ends. A group always follows.
            limit: End after so many messages.
            timeout: End after so many seconds without a message.
            region: The region to read from, for brokers that have regions.
            prefetch: The largest number of messages held in memory for this subscriber, 1 to 100,000.
            type: Decode each message into this type (a dataclass, msgspec Struct or pydantic model) instead of `Message`.

        Returns:
            A subscription, for `async with` and then `async for`, `get` or `batches`.

        Raises:
            GqlError: An option is not valid, or two options contradict each other.
            GqlSyntaxError: The filter is not a condition; the error shows the place.
            TopicNotFound: On opening: there is no such topic, and the client has `auto_create=False`.
            SubscriberLimitReached: On opening: the topic has as many subscribers as `max_subscribers` allows.
            GroupMismatch: On opening: the group exists with another filter, key or order.

        Example:
            ```python
            async with client.subscribe("orders", filter="total > $least", params={"least": 100}) as subscription:
                async for message in subscription:
                    print(message.offset, message["total"])
            ```
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

        subscription: Subscription[T] = Subscription(
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
        self, topic: str, params: object = None, timeout: float | None = 5.0, *, method: str | None = None
    ) -> JsonValue:
        """Send a request to the servers of a topic, and wait for the reply.

        The request is a message with the fields `id`, `method`, `params` and `reply_to`; it expires after `timeout`, so no
        server works on a request that nobody waits for.

        Args:
            topic: The topic that the servers read; see `serve`.
            params: The parameters, any JSON value.
            timeout: How many seconds to wait for the reply. None: without a limit.
            method: What is requested, for servers that offer several methods.

        Returns:
            The result that the server sent, decoded from JSON.

        Raises:
            RequestTimeout: No reply came in time; the message says whether the topic has any servers.
            RequestFailed: The server replied with an error.
            GeodeError: The client was closed before the reply came.

        Example:
            ```python
            answer = await client.request("echo", {"n": 1}, timeout=2.0)
            ```
        """
        if timeout is not None:
            microseconds("timeout", timeout, above_zero=True)
        await self.open()
        if self._requester is None:
            from geode_client.requesting import Requester

            self._requester = Requester(self._broker, self._publish)
        result: JsonValue = await self._requester.request(topic, params, timeout, method)
        return result

    def serve(self, topic: str, *, group: str = "servers") -> "Service":
        """Receive the requests of a topic as a server.

        Servers of one group share the requests, in all processes: each request goes to one of them, and to another one if
        that one dies. A request waits for a server as long as its client waits for the reply.

        Args:
            topic: The topic to serve; the one that clients name in `request`.
            group: The name of the group of servers.

        Returns:
            A service, for `async with` and then `async for`; answer each request with `reply` or `fail`.

        Raises:
            GqlError: The name of the topic or group is not valid.

        Example:
            ```python
            async with client.serve("echo") as requests:
                async for request in requests:
                    await request.reply(request.params)
            ```
        """
        from geode_client.requesting import SERVER_PREFETCH, Service

        subscription: Subscription[Message] = self.subscribe(topic, consumer_group=group, prefetch=SERVER_PREFETCH)
        return Service(self._broker, subscription)

    # ── transactions ──
    def transaction(self, *, timeout: float = TRANSACTION_SECONDS) -> Transaction:
        """Start a transaction: everything done with it is stored together at the end of the block, or not at all.

        A transaction takes publishes, acknowledgements, and SQL on tables of your own in the same store. An exception that
        leaves the block rolls it back. Publishing with the client inside the block, rather than with the transaction, is an
        error.

        Args:
            timeout: Roll back after so many seconds; above 0, up to 3600.

        Returns:
            A transaction, for `async with`.

        Raises:
            GqlError: The timeout is not valid.
            TransactionAborted: At the end of the block: the transaction took too long or was rolled back; nothing was stored.

        Example:
            ```python
            async with client.transaction() as tx:
                await tx.execute("INSERT INTO invoices (total) VALUES (?)", [99.5])
                await tx.publish("invoiced", {"order": "o-1"})
            ```
        """
        return Transaction(self._broker, ready=self.open, auto_create=self._auto_create, timeout_seconds=timeout)

    def connection(self, *, timeout: float = TRANSACTION_SECONDS) -> "Connection":
        """Open a connection with explicit `begin`, `commit` and `rollback`, over statements and SQL on tables of your own.

        Without `begin` each statement is stored on its own.

        Args:
            timeout: Roll back a transaction so many seconds after its `begin`; above 0, up to 3600.

        Returns:
            A connection, for `async with`.

        Raises:
            GqlError: The timeout is not valid.

        Example:
            ```python
            async with client.connection() as conn:
                await conn.begin()
                await conn.execute("INSERT INTO orders (id) VALUES ('o-1')")
                await conn.commit()
            ```
        """
        from geode_client.connecting import Connection

        return Connection(self._session, ready=self.open, timeout_seconds=timeout)

    # ── statements ──
    @property
    def _session(self) -> "Session":
        """The session of one reader of statements, such as a shell: BEGIN opens a transaction in it."""
        if self._opened_session is None:
            self._opened_session = self._shared_session.exclusive()
        return self._opened_session

    @functools.cached_property
    def _shared_session(self) -> "Session":
        """What runs statements for all tasks of the program: none of them can begin a transaction that takes in others'."""
        from geode_client.query.session import Session

        return Session(self._broker, ensure_topic=self._ensure_topic, ready=self.open, auto_create=self._auto_create)

    async def execute(self, gql: str, params: Mapping[str, object] | None = None) -> "Result":
        """Run one statement.

        Args:
            gql: The statement; a semicolon at its end is optional.
            params: Values for its `$name` parameters.

        Returns:
            The result: rows and columns, a message, or for SUBSCRIBE a subscription.

        Raises:
            GqlSyntaxError: The text is not a statement; the error shows the place and what was expected.
            GqlError: The statement has no meaning here, such as a column of the wrong type.
            TopicNotFound: The statement names a topic that does not exist.
            StoreError: The store cannot be read or written.

        Example:
            ```python
            await client.execute("CREATE TOPIC orders WITH OPTIONS (partitions: 4)")
            ```
        """
        return await self._shared_session.execute(gql, params)

    async def query(self, select: str, params: Mapping[str, object] | None = None) -> "Result":
        """Run one statement that only reads: SELECT, SHOW, DESCRIBE, EXPLAIN or TEST FILTER.

        Args:
            select: The statement; a semicolon at its end is optional.
            params: Values for its `$name` parameters.

        Returns:
            The result with `columns` and `rows`.

        Raises:
            GqlSyntaxError: The text is not a statement; the error shows the place and what was expected.
            GqlError: The statement has no meaning here, or it does not only read.
            TopicNotFound: The statement names a topic that does not exist.

        Example:
            ```python
            result = await client.query("SELECT count(*) AS n FROM orders WHERE total > $least", {"least": 100})
            print(result.scalar())
            ```
        """
        return await self._shared_session.query(select, params)

    async def run_script(
        self, path: str | os.PathLike[str], params: Mapping[str, object] | None = None
    ) -> "list[Result]":
        """Run all statements of a file, in order. The first error ends it; the statements before the error keep their effect.

        Args:
            path: The file, UTF-8 text.
            params: Values for the `$name` parameters of its statements.

        Returns:
            One result for each statement.

        Raises:
            GqlSyntaxError: The file has a text that is not a statement; nothing was run.
            GeodeError: The file cannot be read, or a statement failed; the error gives file, line and column.

        Example:
            ```python
            results = await client.run_script("setup.gql", {"day": "2026-01-31"})
            ```
        """
        from geode_client.query.script import Script

        script = await asyncio.to_thread(Script.read, Path(path))
        return await script.run(self._session, params)

    # ── figures ──
    async def get_throughput(self, topic: str, window: float = 60) -> float:
        """Measure how fast messages are published to a topic, by all processes.

        Args:
            topic: The name of the topic. If there is no such topic yet, the result is 0 and a warning is logged.
            window: The time to look back, in seconds: from 1 second to 31 days. Counting starts anew when the machine
                restarts.

        Returns:
            Messages per second over the window.

        Raises:
            GqlError: The window is not valid.
            Unsupported: The backend does not count this.
        """
        return self._known((await self._traffic(topic, window)).throughput, "the throughput of a topic")

    async def get_error_rate(self, topic: str, window: float = 300) -> float:
        """Measure how many deliveries of a topic fail, in all processes.

        Args:
            topic: The name of the topic. If there is no such topic yet, the result is 0 and a warning is logged.
            window: The time to look back, in seconds: from 1 second to 31 days. Counting starts anew when the machine
                restarts.

        Returns:
            Failed deliveries as a fraction of all, from 0 to 1; 0 when there were none.

        Raises:
            GqlError: The window is not valid.
            Unsupported: The backend does not count this.
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
        """Count the messages that a group has not settled yet: those ahead of it, in the hands of members, or waiting for a retry.

        Args:
            topic: A topic, or a pattern, whose counts are added.
            group: The name of the group.

        Returns:
            The number of messages. If there is no such topic or group yet, it is 0 and a warning is logged.
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
        """Check consumer lag, error rate and throughput of topics and groups against limits.

        Args:
            topic: A topic, or a pattern.
            group: Check the lag of this group only. None: of all groups.
            lag_max: The largest number of messages that a group may have before it.
            error_rate_max: The largest fraction of failed deliveries, from 0 to 1, over five minutes.
            throughput_min: The least number of messages per second over one minute. None: 100 for a named topic, and no check
                for a pattern.

        Returns:
            All checks; true if none failed. `alerts` has those that failed.

        Raises:
            TopicNotFound: There is no such topic.
            GroupNotFound: There is no such group.

        Example:
            ```python
            health = await client.health("orders", lag_max=1_000)
            for alert in health.alerts:
                print(alert)
            ```
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


# ── for the layers above, and for those who extend Geode ──
def broker_of(client: Client) -> Broker:
    """The broker of a client."""
    return client._broker


def session_of(client: Client) -> "Session":
    """The session of a client for one reader of statements, such as a shell: BEGIN opens a transaction in it."""
    return client._session


def wrap_broker(client: Client, wrap: Callable[[Broker], Broker]) -> None:
    """Put something between a client and its broker, such as a tracer.

    Args:
        client: A client that was not used yet.
        wrap: Takes the broker and returns what the client is to use instead.

    Raises:
        GeodeError: The client is in use already.
    """
    if client._is_open or client._opened_session is not None:
        raise GeodeError("the client is in use already: wrap its broker before it is opened")
    client._broker = wrap(client._broker)


@contextlib.asynccontextmanager
async def connection(
    target: str | os.PathLike[str] | None = None, *, timeout: float = TRANSACTION_SECONDS
) -> "AsyncIterator[Connection]":
    """Open a connection through a client of its own; both are closed at the end of the block.

    Args:
        target: The data directory, or `":memory:"`. None: the environment variable `GEODE_URL`, else `./geode-data`.
        timeout: Roll back a transaction so many seconds after its `begin`; above 0, up to 3600.

    Yields:
        The connection; see `Client.connection`.

    Raises:
        GqlError: The timeout is not valid.
        StoreError: The store cannot be opened.

    Example:
        ```python
        async with geode_client.connection("./data") as conn:
            print(await conn.execute("SHOW TOPICS"))
        ```
    """
    async with Client(target) as client, client.connection(timeout=timeout) as opened:
        yield opened


__all__: Sequence[str] = ("Client", "Publication", "broker_of", "connection", "session_of", "wrap_broker")
