"""The subscription a program reads: `async with`, `async for`, `get`, `batches`, over the feed of any broker.

Messages are made from the slices that the feed hands over. What was taken and not yet left behind is *at hand*: one
message of a loop, or one list of `batches`. Asking for the next leaves it behind, and with `auto_ack` that acknowledges it;
an exception that leaves the `async with` makes it a failed attempt; cancellation gives it back. Cancellation while waiting
loses nothing.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

from geode_client import codec
from geode_client.broker import Broker, Feed, SubscriptionRequest
from geode_client.clock import boot_us, now_us
from geode_client.delivery.slices import Slice
from geode_client.errors import GeodeError, GqlError, InvalidMessage
from geode_client.message import Message, reason_text

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # What a subscription gives: messages, unless it decodes them into a type.
    T = TypeVar("T", default=Message)
else:
    from typing import TypeVar

    T = TypeVar("T")

logger = logging.getLogger("geode_client")

EXPIRY_MARGIN_SECONDS = 0.02
"""So long before its first message expires a list of `batches` is handed over."""
FAR_US = 2**62
"""Later than any message expires."""


def starts_at_end(group: str, pattern: str, before: int) -> str:
    """The notice about a new group that begins at the end of topics that hold messages."""
    lie = "1 message lies" if before == 1 else f"{before} messages lie"
    return (
        f"group {group} is new and starts at the end of {pattern}: {lie} before it. To read from the beginning, create it"
        f" with FROM BEGINNING (from_beginning=True in Python), or ALTER SUBSCRIPTION {group} ON {pattern} SEEK TO BEGINNING"
    )


class Subscription(Generic[T]):
    """A subscription to a topic or pattern; made by `client.subscribe` and by the statement SUBSCRIBE.

    Open it with `async with`, then read with `async for`, `get` or `batches`. With `auto_ack` a message is acknowledged when
    the next one is requested. An exception that leaves the block counts as a failed attempt of the current message; cancellation
    gives it back without counting an attempt. A subscriber that reads slowly costs no memory.

    Attributes:
        notices: What a person should know, such as that a new group starts at the end of a topic that holds messages.
        missed: How many messages were removed by retention before this subscriber read them; a warning was logged.

    Example:
        ```python
        async with client.subscribe("orders", consumer_group="billing") as subscription:
            async for message in subscription:
                print(message["total"])
        ```
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
        warns: bool = True,
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
        self._warns = warns
        self.notices: tuple[str, ...] = ()
        self._feed: Feed | None = None
        self._slices: list[Slice] = []
        self._ended = False
        self._counted = 0
        self.missed = 0

    @property
    def subscriber_id(self) -> str:
        """The id of this subscriber, as `SYSTEM.subscribers` shows it; only while it is open."""
        return self._opened().subscriber_id

    @property
    def received(self) -> int:
        """The number of messages that were handed over so far."""
        return self._counted + sum(one.taken - one.counted - one.skipped for one in self._slices)

    def _count(self, one: Slice) -> None:
        self._counted += one.taken - one.counted - one.skipped
        one.counted, one.skipped = one.taken, 0

    # ── opening and closing ──
    async def open(self) -> Self:
        """Open the subscription: messages that are published from now on will be seen. Opening it again does nothing.

        Returns:
            The subscription itself.

        Raises:
            TopicNotFound: There is no such topic, and the client has `auto_create=False`.
            SubscriberLimitReached: The topic has as many subscribers as its option `max_subscribers` allows.
            GroupMismatch: The group exists with another filter, key or order.
        """
        if self._feed is None:
            if self._before_open is not None:
                await self._before_open()
            self._feed = await self._broker.subscribe(self.request)
            self._note_before(self._feed.before)
        return self

    def _note_before(self, before: int) -> None:
        if before and self.request.group is not None:
            notice = starts_at_end(self.request.group, self.request.pattern, before)
            self.notices = (notice,)
            if self._warns:
                logger.warning("%s", notice)

    async def close(self) -> None:
        """End the subscription. With `auto_ack` the current message is acknowledged. Closing it again does nothing.

        Raises:
            StoreError: The acknowledgements could not be stored.
        """
        try:
            await self._leave_behind()
        finally:
            await self._close()

    async def _close(self) -> None:
        self._ended = True
        for one in self._slices:
            self._count(one)
        slices, self._slices = self._slices, []
        try:
            if self._feed is not None:
                await self._feed.close()
        finally:
            # Only now: what was not taken the feed has given to others.
            for one in slices:
                one.end = one.taken

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
            return
        if isinstance(error, Exception) and self._feed is not None:
            for one in self._slices:
                self._feed.at_hand_failed(one, reason_text(error))
        await self._close()

    # ── reading ──
    async def __aiter__(self) -> AsyncIterator[T]:
        await self.open()
        feed, decoder = self._opened(), self._decoder
        while (one := await self._next_with_rest(None)) is not None:
            chunk, indices, settler, attempt = one.chunk, one.indices, one.settler, one.attempt
            expires = chunk.attributes.expires_us is not None
            fenced, limit = one.is_fenced, self._limit
            if decoder is None and limit is None and not (expires or fenced or one.settle_each):
                # The same as below where nothing is to be looked at: most readers come through here, a million times.
                while (place := one.taken) < one.end:
                    one.taken = place + 1
                    yield Message(chunk, indices[place], settler, attempt)  # type: ignore[misc]  # T without a decoder
                    if one.taken != place + 1:
                        break
                    one.done = place + 1
                continue
            while (place := one.taken) < one.end and (limit is None or self.received < limit):
                if (
                    fenced
                    and not one.is_held(boot_us())
                    and (not await feed.is_ours(one) or one.taken != place or one.end <= place)
                ):
                    break  # lost, or given to somebody else while the store was asked
                one.taken = place + 1
                if expires and self._has_expired(one, place):
                    continue
                yield (
                    Message(chunk, indices[place], settler, attempt)  # type: ignore[misc]
                    if decoder is None
                    else self._decoded(one, place, decoder)
                )
                if one.taken != place + 1:
                    break  # inside the loop somebody called `get`, or what was taken was given back
                one.done = place + 1
                if one.settle_each:
                    await feed.settled(one)

    async def get(self, timeout: float | None = None) -> T | None:
        """Wait for the next message.

        Args:
            timeout: How many seconds to wait. None: the timeout of the subscription, else without a limit.

        Returns:
            The message, or None if none came in time or the subscription has ended.

        Raises:
            InvalidMessage: The message does not fit the `type` of the subscription.

        Example:
            ```python
            message = await subscription.get(timeout=1.0)
            ```
        """
        if self._feed is None:
            await self.open()
        while (one := await self._next_with_rest(timeout)) is not None:
            found = self._taken(one, 1)
            if found:
                return found[0]
        return None

    async def batches(self, max_messages: int = 1000, max_wait: float = 0.05) -> AsyncIterator[list[T]]:
        """Read messages in lists. With `auto_ack` a list is acknowledged as a whole when the next one is requested.

        A list with a message that is about to expire is handed over before that. It never holds an expired message.

        Args:
            max_messages: The largest length of a list.
            max_wait: How many seconds to wait for more after the first message of a list.

        Yields:
            Lists with at least one message.

        Raises:
            InvalidMessage: A message does not fit the `type` of the subscription; the messages before it come first.
            GeodeError: `max_messages` is below 1.

        Example:
            ```python
            async for batch in subscription.batches(500):
                await store([message.data for message in batch])
            ```
        """
        if max_messages < 1:
            raise GeodeError(f"max_messages is at least 1, not {max_messages}")
        await self.open()
        while True:
            await self._leave_behind()
            try:
                batch = await self._gathered(max_messages, max_wait)
            except InvalidMessage:
                raise  # the one that does not fit is at hand
            except BaseException:
                # What was gathered and not handed over is next again.
                for one in self._slices:
                    one.taken, one.skipped, one.gathered = one.done, 0, 0
                raise
            for one in self._slices:
                one.gathered = 0
            if not batch:
                return
            yield batch

    async def _gathered(self, max_messages: int, max_wait: float) -> list[T]:
        batch: list[T] = []
        expiring = _Expiring()
        deadline: float | None = None
        while len(batch) < max_messages:
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            one = await self._current(wait)
            if now_us() >= expiring.first_us:
                batch = self._unexpired(batch, expiring)
            if one is None:
                if batch or deadline is None:
                    break
                deadline = None  # all of it has expired meanwhile
                continue
            taken = one.taken
            try:
                expiring.number = len(batch)
                batch += self._taken(one, max_messages - len(batch), expiring)
                one.gathered = one.taken - one.done
            except InvalidMessage:
                if not batch:
                    raise
                # What came before it first; then, by itself, the one that does not fit.
                one.taken = taken
                one.gathered = one.taken - one.done
                break
            if batch:
                deadline = min(deadline or time.monotonic() + max_wait, expiring.deadline())
        return batch

    def _unexpired(self, batch: list[T], expiring: "_Expiring") -> list[T]:
        """A list without what has expired while more was waited for."""
        gone = {number for number, one, place in expiring.places if self._has_expired(one, place)}
        left = [(number, one, place) for number, one, place in expiring.places if number not in gone]
        expiring.places, expiring.first_us = [], FAR_US
        for number, one, place in left:
            expiring.add(number - sum(other < number for other in gone), one, place)
        return [item for number, item in enumerate(batch) if number not in gone]

    async def caught_up(self) -> bool:
        """Check whether everything that had been published by now has been handed over.

        Returns:
            True if so, and after the end of the subscription.
        """
        return self._ended or (not any(one.rest for one in self._slices) and await self._opened().caught_up())

    # ── slices ──
    async def _next_with_rest(self, timeout: float | None) -> Slice | None:
        """Leave behind what is at hand; then a slice that has more, or None at the end or after the time."""
        if self._slices:
            await self._leave_behind()
        return await self._current(timeout)

    async def _leave_behind(self) -> None:
        """The reader asks for what comes next: what it had at hand is handled."""
        if self._feed is None:
            return
        for one in self._slices:
            if one.taken > one.done:
                one.done = one.taken
                if one.settle_each:
                    await self._feed.settled(one)
        for one in self._slices:
            self._count(one)
            if not one.rest:
                self._feed.finish(one)
        self._slices = [one for one in self._slices if one.rest]

    async def _current(self, timeout: float | None) -> Slice | None:
        if self._ended or (self._limit is not None and self.received >= self._limit):
            return None
        while True:
            for one in self._slices:
                if one.rest and (not one.is_fenced or (await self._opened().is_ours(one) and one.rest)):
                    return one
            if not await self._next_slice(self._timeout_seconds if timeout is None else timeout):
                return None

    async def _next_slice(self, timeout: float | None) -> bool:
        """Whether another slice came in time."""
        feed = self._opened()
        try:
            while True:
                if timeout is None:
                    found = await feed.next()
                else:
                    # It cancels the wait only: a feed takes nothing out before it returns it.
                    async with asyncio.timeout(timeout):
                        found = await feed.next()
                if found is None:
                    self._ended = True
                    return False
                self._note_missed(found.missed)
                if found.rest:
                    self._slices.append(found)
                    return True
        except TimeoutError:
            return False

    def _taken(self, one: Slice, wanted: int, expiring: "_Expiring | None" = None) -> list[T]:
        """Take up to `wanted` messages of a slice, ending before the first that does not fit the type.

        When that is the very first message, it raises. `expiring` collects the messages that have an expiry.
        """
        if self._limit is not None:
            wanted = min(wanted, self._limit - self.received)
        first, end = one.taken, min(one.end, one.taken + wanted)
        chunk, indices = one.chunk, one.indices
        if self._decoder is None and chunk.attributes.expires_us is None:
            one.taken = end
            settler, attempt = one.settler, one.attempt
            return [Message(chunk, index, settler, attempt) for index in indices[first:end]]  # type: ignore[misc]
        found: list[Any] = []
        for place in range(first, end):
            one.taken = place + 1
            if chunk.attributes.expires_us is not None and self._has_expired(one, place):
                continue
            if self._decoder is None:
                found.append(Message(chunk, indices[place], one.settler, one.attempt))
            else:
                try:
                    found.append(self._decoded(one, place, self._decoder))
                except InvalidMessage:
                    if not found:
                        raise
                    one.taken = place
                    break
            if expiring is not None and chunk.attributes.expires_us is not None:
                expiring.add(expiring.number + len(found) - 1, one, place)
        return found

    def _has_expired(self, one: Slice, place: int) -> bool:
        """Whether a message's time ran out while it waited in the hand; it is then passed over."""
        index = one.indices[place]
        at_us = one.chunk.attributes.expiry_us(index)
        if at_us is None or at_us > now_us():
            return False
        self._opened().expired(one, index)
        one.skipped += 1
        one.passed_over += 1
        return True

    def _decoded(self, one: Slice, place: int, decoder: Callable[[bytes], Any]) -> Any:
        index = one.indices[place]
        try:
            return codec.decode_with(decoder, one.chunk.bodies[index])
        except Exception as error:
            # Whatever the type's own decoder raises: msgspec's, pydantic's, one of the program's.
            raise InvalidMessage(f"{one.chunk.message_id(index)} does not fit the type: {error}") from error

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


class _Expiring:
    """The messages of a list that expire: their numbers in it, and where they are. `number` is the next one's."""

    __slots__ = ("first_us", "number", "places")

    def __init__(self) -> None:
        self.number = 0
        self.places: list[tuple[int, Slice, int]] = []
        self.first_us = FAR_US

    def add(self, number: int, one: Slice, place: int) -> None:
        at_us = one.chunk.attributes.expiry_us(one.indices[place])
        if at_us is not None:
            self.places.append((number, one, place))
            self.first_us = min(self.first_us, at_us)

    def deadline(self) -> float:
        """When the list has to be handed over so that nothing in it has expired, by the monotonic clock."""
        return time.monotonic() + (self.first_us - now_us()) / 1e6 - EXPIRY_MARGIN_SECONDS
