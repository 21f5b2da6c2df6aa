"""The client without `await`, for scripts and notebooks: the same calls, on an event loop in a thread of its own."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from geode_client.broker import BrokerTransaction, current_transaction
from geode_client.broker.subscription import Subscription
from geode_client.client import Client
from geode_client.errors import GeodeError, StoreError
from geode_client.message import Message
from geode_client.transaction import Transaction, leave

if TYPE_CHECKING:
    from geode_client.connecting import Connection

if TYPE_CHECKING:
    from geode_client.requesting import Request, Service


class SyncClient:
    """`Client` for programs without an event loop. Use as `with SyncClient("./data") as client:`; safe between threads."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._client = Client(*arguments, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="geode-loop", daemon=True)
        self._thread.start()
        self._closed = False
        self._process = os.getpid()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        refusal = self._refusal()
        if refusal is not None:
            work.close()
            raise refusal
        future = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # such as Ctrl-C: what waits on the loop must not go on
            raise

    def _refusal(self) -> GeodeError | None:
        """Why nothing can be run: nobody serves the loop any more."""
        if os.getpid() != self._process:
            return StoreError(
                "this process was forked after the client was made, and may not use its parent's: make one after the fork"
            )
        if self._closed or not self._thread.is_alive():
            return GeodeError("the client is closed: make a new one")
        return None

    def __enter__(self) -> Self:
        self._run(self._client.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Store what is on its way and let go of the store. Repeating it does nothing."""
        if self._closed or os.getpid() != self._process:
            return
        try:
            self._run(self._client.close())
        finally:
            self._closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __repr__(self) -> str:
        return f"Sync{self._client!r}"

    @property
    def target(self) -> str:
        """Where the store is."""
        return self._client.broker.target

    def run(self, work: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
        """Run a coroutine made with the client underneath, and give what it gives."""
        return self._run(work(self._client))

    def publish(self, topic: str, message: Any, **options: Any) -> Any:
        """As `Client.publish`, at once."""
        return self._run(self._client.publish(topic, message, **options))

    def publish_batch(self, topic: str, messages: Any, **options: Any) -> Any:
        return self._run(self._client.publish_batch(topic, messages, **options))

    def subscribe(self, topic_or_pattern: str, **options: Any) -> "SyncSubscription":
        """As `Client.subscribe`, with `with` and `for`."""
        return SyncSubscription(self, self._client.subscribe(topic_or_pattern, **options))

    def request(self, topic: str, params: Any = None, timeout: float | None = 5.0, *, method: str | None = None) -> Any:
        """As `Client.request`."""
        return self._run(self._client.request(topic, params, timeout, method=method))

    def serve(self, topic: str, **options: Any) -> "SyncService":
        """As `Client.serve`, with `with` and `for`."""
        return SyncService(self, self._client.serve(topic, **options))

    def execute(self, gql: str, params: Any = None) -> Any:
        """As `Client.execute`; the messages of a SUBSCRIBE are read with `messages(result)`."""
        return self._run(self._client.execute(gql, params))

    def query(self, select: str, params: Any = None) -> Any:
        return self._run(self._client.query(select, params))

    def run_script(self, path: Any, params: Any = None) -> Any:
        return self._run(self._client.run_script(path, params))

    def get_throughput(self, topic: str, window: float = 60) -> float:
        return float(self._run(self._client.get_throughput(topic, window)))

    def get_error_rate(self, topic: str, window: float = 300) -> float:
        return float(self._run(self._client.get_error_rate(topic, window)))

    def health(self, topic: str = "**", group: str | None = None, **limits: Any) -> Any:
        """As `Client.health`."""
        return self._run(self._client.health(topic, group, **limits))

    def get_consumer_lag(self, topic: str, group: str) -> int:
        return int(self._run(self._client.get_consumer_lag(topic, group)))

    def transaction(self, **options: Any) -> "SyncTransaction":
        """As `Client.transaction`, with `with`."""
        return SyncTransaction(self, self._client.transaction(**options))

    def connection(self, **options: Any) -> "SyncConnection":
        """As `Client.connection`, with `with`."""
        return SyncConnection(self, self._client.connection(**options))

    def messages(self, result: Any) -> "SyncSubscription":
        """The messages of a SUBSCRIBE that was executed."""
        return SyncSubscription(self, result.subscription)


class SyncSubscription:
    """A subscription to be read with `for`, inside `with`."""

    def __init__(self, client: SyncClient, subscription: Subscription) -> None:
        self._client = client
        self._subscription = subscription

    def __enter__(self) -> Self:
        self._client._run(self._subscription.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client._run(self._subscription.__aexit__(kind, error, traceback))

    def __iter__(self) -> Iterator[Any]:
        iterator = aiter(self._subscription)
        while True:
            found, message = self._client._run(_following(iterator))
            if not found:
                return
            yield self._settling_at_once(message)

    def get(self, timeout: float | None = None) -> Any:
        """The next message, or None."""
        return self._settling_at_once(self._client._run(self._subscription.get(timeout)))

    def batches(self, max_messages: int = 1000, max_wait: float = 0.05) -> Iterator[list[Any]]:
        """As `Subscription.batches`."""
        iterator = self._subscription.batches(max_messages, max_wait)
        while True:
            found, batch = self._client._run(_following(iterator))
            if not found:
                return
            yield [self._settling_at_once(message) for message in batch]

    def _settling_at_once(self, message: Any) -> Any:
        if not isinstance(message, Message):
            return message  # decoded into a type of the reader's, or None
        return SyncMessage(
            message._chunk, message._index, message._settler, message.attempt, message._data, self._client._run
        )


class SyncMessage(Message, eq=False, gc=False):
    """A message that is settled without `await`: each call returns when it is done."""

    _call: Callable[[Coroutine[Any, Any, None]], Any] | None = None

    def ack(self) -> None:  # type: ignore[override]
        self._settle(Message.ack(self))

    def nack(self, requeue: bool = True, *, delay: float | None = None, reason: str | None = None) -> None:  # type: ignore[override]
        self._settle(Message.nack(self, requeue, delay=delay, reason=reason))

    def extend(self, seconds: float) -> None:  # type: ignore[override]
        self._settle(Message.extend(self, seconds))

    def reply(self, value: object) -> None:  # type: ignore[override]
        self._settle(Message.reply(self, value))

    def _settle(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._call is not None
        self._call(work)


class SyncService:
    """Requests to be read with `for`, inside `with`, and answered with `reply` or `fail`."""

    def __init__(self, client: SyncClient, service: "Service") -> None:
        self._client = client
        self._service = service

    def __enter__(self) -> Self:
        self._client._run(self._service.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client._run(self._service.__aexit__(kind, error, traceback))

    def __iter__(self) -> "Iterator[SyncRequest]":
        iterator = aiter(self._service)
        while True:
            found, request = self._client._run(_following(iterator))
            if not found:
                return
            yield SyncRequest(self._client, request)


class SyncRequest:
    """One request, as `Request`."""

    def __init__(self, client: SyncClient, request: "Request") -> None:
        self._client = client
        self._request = request
        self.id = request.id
        self.method = request.method
        self.params = request.params

    def reply(self, result: Any) -> None:
        self._client._run(self._request.reply(result))

    def fail(self, reason: object) -> None:
        self._client._run(self._request.fail(reason))


class _Inside:
    """What marks the calling thread as inside a transaction: each call to the loop takes the mark along."""

    def __init__(self) -> None:
        self._token: Token[BrokerTransaction | None] | None = None

    def mark(self, begun: BrokerTransaction | None) -> None:
        token, self._token = self._token, None
        leave(token)
        if begun is not None:
            self._token = current_transaction.set(begun)


class SyncTransaction:
    """A transaction to be used inside `with`; the calls of `Transaction`, without `await`."""

    def __init__(self, client: SyncClient, transaction: Transaction) -> None:
        self._client = client
        self._transaction = transaction
        self._inside = _Inside()

    def __enter__(self) -> Self:
        self._client._run(self._transaction.__aenter__())
        self._inside.mark(self._transaction.begun)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inside.mark(None)
        self._client._run(self._transaction.__aexit__(kind, error, traceback))

    @property
    def committed(self) -> bool:
        return self._transaction.committed

    @property
    def receipts(self) -> list[Any]:
        return list(self._transaction.receipts)

    def publish(self, topic: str, message: Any, **options: Any) -> Any:
        return self._client._run(self._transaction.publish(topic, message, **options))

    def publish_batch(self, topic: str, messages: Any, **options: Any) -> Any:
        return self._client._run(self._transaction.publish_batch(topic, messages, **options))

    def ack(self, *messages: Any) -> None:
        self._client._run(self._transaction.ack(*messages))

    def execute(self, sql: str, params: Any = None) -> Any:
        return self._client._run(self._transaction.execute(sql, params))

    def commit(self) -> None:
        self._client._run(self._transaction.commit())

    def rollback(self) -> None:
        self._client._run(self._transaction.rollback())


class SyncConnection:
    """A connection to be used inside `with`; the calls of `Connection`, without `await`."""

    def __init__(self, client: SyncClient, connection: "Connection") -> None:
        self._client = client
        self._connection = connection
        self._inside = _Inside()

    def __enter__(self) -> Self:
        self._client._run(self._connection.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inside.mark(None)
        self._client._run(self._connection.__aexit__(kind, error, traceback))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self._client._run(work)
        finally:
            self._inside.mark(self._connection.begun)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def begin(self) -> Any:
        return self._run(self._connection.begin())

    def execute(self, statement: str, params: Any = None) -> Any:
        return self._run(self._connection.execute(statement, params))

    def commit(self) -> Any:
        return self._run(self._connection.commit())

    def rollback(self) -> Any:
        return self._run(self._connection.rollback())


async def _awaited(work: Coroutine[Any, Any, Any]) -> Any:
    return await work


async def _following(iterator: AsyncIterator[Any]) -> tuple[bool, Any]:
    try:
        return True, await anext(iterator)
    except StopAsyncIteration:
        return False, None
