"""The subscription a program reads: `async with`, `async for`, `get`, `batches`, over the feed of any broker.

Messages are made from the slices that the feed hands over; at most one slice is in hand. A message counts as handled when
the loop asks for the next one. Cancellation while waiting loses nothing; a reader that leaves in the middle of a slice
leaves the rest of it unread.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from geode_client import codec
from geode_client.broker import Broker, Feed, SubscriptionRequest
from geode_client.delivery.fanout import Slice
from geode_client.errors import GeodeError, GqlError, InvalidMessage, Unsupported
from geode_client.message import Chunk, Message

logger = logging.getLogger("geode_client")


class FanoutSettler:
    """Settles messages of subscribers without a group: they are done when they are handed over."""

    async def acknowledge(self, message: Message) -> None:
        """Nothing is left to be done."""

    def acknowledge_within(self, message: Message, transaction: object) -> None:
        """Nothing is left to be done, then as now."""

    async def refuse(self, message: Message, *, requeue: bool, delay_seconds: float | None, reason: str | None) -> None:
        raise Unsupported("nack (giving messages back needs groups, which come with the next release)")

    async def extend(self, message: Message, seconds: float) -> None:
        """Nothing expires that could be extended."""

    async def reply(self, message: Message, value: object) -> None:
        raise Unsupported("reply (request-reply comes with the next release)")


_FANOUT = FanoutSettler()


class Subscription:
    """An open, or not yet opened, subscription; made by `client.subscribe` and by SUBSCRIBE.

    `limit` counts messages handed over; `timeout_seconds` ends the iteration after so long without a message;
    `decoder` turns the JSON text of a message into what is handed over instead of a Message.
    """

    def __init__(
        self,
        broker: Broker,
        request: SubscriptionRequest,
        *,
        limit: int | None = None,
        timeout_seconds: float | None = None,
        decoder: Callable[[bytes], Any] | None = None,
        before_open: Callable[[], Any] | None = None,
    ) -> None:
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            raise GqlError(f"limit is a whole number of at least 1, not {limit!r}")
        if timeout_seconds is not None and not (isinstance(timeout_seconds, int | float) and timeout_seconds >= 0):
            raise GqlError(f"timeout is a number of seconds from 0, not {timeout_seconds!r}")
        self._broker = broker
        self.request = request
        self._limit = limit
        self._timeout_seconds = timeout_seconds
        self._decoder = decoder
        self._before_open = before_open
        self._feed: Feed | None = None
        self._slice: Slice | None = None
        self._next_index = 0
        self._returned: list[tuple[Slice, int]] = []
        self._ended = False
        self.received = 0
        self.missed = 0

    @property
    def subscriber_id(self) -> str:
        return self._opened().subscriber_id

    async def open(self) -> Self:
        """Subscribe; messages published from now on will be seen. Repeating it does nothing."""
        if self._feed is None:
            if self._before_open is not None:
                await self._before_open()
            self._feed = await self._broker.subscribe(self.request)
        return self

    async def close(self) -> None:
        """End the subscription. Repeating it does nothing."""
        self._ended = True
        self._slice = None
        if self._feed is not None:
            await self._feed.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        await self.open()
        while True:
            messages = await self._take(None if self._limit is None else self._limit - self.received)
            if not messages:
                return
            at_hand = self._slice
            for following, message in enumerate(messages, self._next_index + 1):
                # Counted before it is handed over: a reader that leaves here has had it.
                self._next_index = following
                self.received += 1
                yield message
                if self._next_index != following or self._slice is not at_hand:
                    break  # inside the loop somebody called `get` or `close`

    async def get(self, timeout: float | None = None) -> Any | None:
        """The next message, or None when none came within `timeout` seconds or the subscription has ended."""
        await self.open()
        messages = await self._take(1, timeout)
        if not messages:
            return None
        self._next_index += 1
        self.received += 1
        return messages[0]

    async def batches(self, max_messages: int = 1000, max_wait: float = 0.05) -> AsyncIterator[list[Any]]:
        """Lists of up to `max_messages`; after the first message of a list waits at most `max_wait` seconds for more."""
        if max_messages < 1:
            raise GeodeError(f"max_messages is at least 1, not {max_messages}")
        await self.open()
        while True:
            taken: list[tuple[Slice, int, int]] = []
            try:
                batch = await self._gathered(taken, max_messages, max_wait)
            except BaseException:
                self._give_back(taken)
                raise
            if not batch:
                return
            yield batch

    async def _gathered(self, taken: list[tuple[Slice, int, int]], max_messages: int, max_wait: float) -> list[Any]:
        """The next list of messages; `taken` is told from which slices, from which place on, and how many."""
        batch: list[Any] = []
        deadline: float | None = None
        while len(batch) < max_messages:
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            wanted = max_messages - len(batch)
            if self._limit is not None:
                wanted = min(wanted, self._limit - self.received)
            try:
                messages = await self._take(wanted, wait)
            except InvalidMessage:
                if not batch:
                    raise
                # What came before it first; then, by itself, the one that does not fit.
                self._next_index -= 1
                self.received -= 1
                return batch
            if not messages:
                break
            assert self._slice is not None
            taken.append((self._slice, self._next_index, len(messages)))
            batch += messages
            self._next_index += len(messages)
            self.received += len(messages)
            deadline = deadline or time.monotonic() + max_wait
        return batch

    def _give_back(self, taken: Sequence[tuple[Slice, int, int]]) -> None:
        """Messages that were gathered and not handed over are the next ones again."""
        if not taken or self._ended:
            return
        self._returned += [(of, first) for of, first, _ in reversed(taken)]
        self._slice = None
        self.received -= sum(count for _, _, count in taken)

    async def caught_up(self) -> bool:
        """Whether all that had been published when this was called has been handed over."""
        return self._ended or (not self._returned and not self._has_rest() and await self._opened().caught_up())

    def _has_rest(self) -> bool:
        return self._slice is not None and self._next_index < len(self._slice.indices)

    async def _take(self, wanted: int | None, timeout: float | None = None) -> list[Any]:
        """Up to `wanted` messages that are not yet counted as handed over; empty at the end or after the time."""
        if (
            self._ended
            or (wanted is not None and wanted <= 0)
            or (self._limit is not None and self.received >= self._limit)
        ):
            return []
        if not self._has_rest() and not await self._next_slice(timeout):
            return []
        assert self._slice is not None
        chunk = self._slice.chunk
        end = None if wanted is None else self._next_index + wanted
        chosen: Sequence[int] = self._slice.indices[self._next_index : end]
        if self._decoder is None:
            return [Message(chunk, index, _FANOUT) for index in chosen]
        return self._decoded(chunk, chosen)

    def _decoded(self, chunk: Chunk, chosen: Sequence[int]) -> list[Any]:
        """Values of the reader's type, up to the first message that is none; that one by itself is an error."""
        found: list[Any] = []
        assert self._decoder is not None
        for index in chosen:
            try:
                found.append(codec.decode_with(self._decoder, chunk.bodies[index]))
            except Exception as error:
                # Whatever the type's own decoder raises: msgspec's, pydantic's, one of the program's.
                if found:
                    break
                self._next_index += 1
                self.received += 1
                raise InvalidMessage(f"{chunk.message_id(index)} does not fit the type: {error}") from error
        return found

    async def _next_slice(self, timeout: float | None) -> bool:
        if self._returned:
            self._slice, self._next_index = self._returned.pop()
            return True
        feed = self._opened()
        if timeout is None:
            timeout = self._timeout_seconds
        try:
            while True:
                # A timeout cancels the wait only: a feed takes nothing out before it returns it.
                async with asyncio.timeout(timeout):
                    found = await feed.next()
                if found is None:
                    self._ended = True
                    return False
                self._note_missed(found.missed)
                if found.indices:
                    self._slice, self._next_index = found, 0
                    return True
        except TimeoutError:
            return False

    def _note_missed(self, missed: int) -> None:
        if missed:
            self.missed += missed
            logger.warning(
                "subscriber %s of %s missed %d messages: they were removed before it read them",
                self.subscriber_id,
                self.request.pattern,
                missed,
            )

    def _opened(self) -> Feed:
        if self._feed is None:
            raise GeodeError("the subscription is not open: use it with 'async with'")
        return self._feed
