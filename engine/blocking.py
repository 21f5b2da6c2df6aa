"""What lets a program without an event loop use the client: a loop in a thread, and the base of each synchronous class.

The classes themselves are in `sync.py`, which is generated from the asynchronous ones; the code that is not a plain
delegation is here. Every call runs a coroutine on the loop and waits for its result. A call that is interrupted, such as
by Ctrl-C, cancels its coroutine.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterator
from contextvars import Token
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from geode_client.broker import BrokerTransaction, current_transaction
from geode_client.client import Client
from geode_client.errors import GeodeError, StoreError
from geode_client.message import Message
from geode_client.transaction import leave

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread of its own, for one client. Any thread may run coroutines on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="geode-loop", daemon=True)
        self._thread.start()
        self._process = os.getpid()
        self.is_closed = False

    @property
    def is_forked(self) -> bool:
        """Whether this is a child of the process that has the thread."""
        return os.getpid() != self._process

    def run(self, work: Awaitable[T]) -> T:
        """Run a coroutine on the loop and wait for its result. Raises GeodeError after `close` and after a fork."""
        refusal = self._refusal()
        if refusal is not None:
            if isinstance(work, Coroutine):
                work.close()
            raise refusal
        future = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # such as Ctrl-C: the coroutine must not continue
            raise

    def iterate(self, items: AsyncIterable[T]) -> Iterator[T]:
        """The items of an asynchronous iterable; each is requested on the loop when it is needed."""
        iterator = aiter(items)
        while found := self.run(_next(iterator)):
            yield found[0]

    def close(self) -> None:
        """Stop the loop and end the thread."""
        self.is_closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _refusal(self) -> GeodeError | None:
        if self.is_forked:
            return StoreError(
                "this process was forked after the client was made, and cannot use its parent's client:"
                " make a client after the fork"
            )
        if self.is_closed or not self._thread.is_alive():
            return GeodeError("the client is closed: make a new one")
        return None


class ClientBase:
    """The part of `SyncClient` that is not generated: the loop, opening and closing."""

    def __init__(self, client: Client) -> None:
        self._wrapped = client
        self._loop = LoopThread()

    def __enter__(self) -> Self:
        self._loop.run(self._wrapped.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish pending publishes, end all subscriptions, and release the store. Closing again does nothing."""
        if self._loop.is_closed or self._loop.is_forked:
            return
        try:
            self._loop.run(self._wrapped.close())
        finally:
            self._loop.close()

    def __repr__(self) -> str:
        return f"Sync{self._wrapped!r}"

    def run(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Run a coroutine of your own on the client's loop.

        Args:
            work: A function that takes the asynchronous client and returns the coroutine.

        Returns:
            The result of the coroutine.
        """
        return self._loop.run(work(self._wrapped))


class MessageBase(Message, eq=False, gc=False):
    """The part of `SyncMessage` that is not generated: it knows the loop on which it is settled."""

    _loop: LoopThread | None = None

    def _run(self, work: Awaitable[T]) -> T:
        assert self._loop is not None
        return self._loop.run(work)


class _Context(Protocol):
    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class ReaderBase:
    """The part of a synchronous subscription or service that is not generated: `with` opens and closes it."""

    def __init__(self, loop: LoopThread, context: _Context) -> None:
        self._loop = loop
        self._context = context

    def __enter__(self) -> Self:
        self._loop.run(self._context.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.run(self._context.__aexit__(kind, error, traceback))


class _TransactionContext(_Context, Protocol):
    @property
    def begun(self) -> BrokerTransaction | None: ...


class TransactionBase:
    """The part of a synchronous transaction or connection that is not generated.

    It marks the calling thread as inside the transaction, since each call takes the thread's context to the loop: a
    publish that bypasses the transaction is refused there.
    """

    def __init__(self, loop: LoopThread, context: _TransactionContext) -> None:
        self._loop = loop
        self._context = context
        self._token: Token[BrokerTransaction | None] | None = None

    def __enter__(self) -> Self:
        self._run(self._context.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._mark(None)
        self._loop.run(self._context.__aexit__(kind, error, traceback))

    def _run(self, work: Awaitable[T]) -> T:
        try:
            return self._loop.run(work)
        finally:
            self._mark(self._context.begun)

    def _mark(self, begun: BrokerTransaction | None) -> None:
        token, self._token = self._token, None
        leave(token)
        if begun is not None:
            self._token = current_transaction.set(begun)


async def _awaited(work: Awaitable[T]) -> T:
    return await work


async def _next(iterator: Any) -> tuple[Any] | None:
    try:
        return (await anext(iterator),)
    except StopAsyncIteration:
        return None
