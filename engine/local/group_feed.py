"""The feed of one member of a group, and the one who settles its messages."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from geode_client.broker import JoinsSettlements, SubscriptionRequest
from geode_client.clock import boot_us, now_us
from geode_client.delivery.judged import Judged
from geode_client.delivery.members import GroupSlice, Member
from geode_client.delivery.slices import Slice
from geode_client.errors import AlreadySettled, LeaseLost, StoreError
from geode_client.local.driver import GroupDriver
from geode_client.message import Message


class GroupFeed:
    """One member; opened by `Groups`, which is told when it is closed."""

    def __init__(self, driver: GroupDriver, member: Member, request: SubscriptionRequest, owner: "FeedOwner") -> None:
        self.driver = driver
        self.member = member
        self.request = request
        self.before = 0
        self._owner = owner
        self._open: list[GroupSlice] = []
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = False
        self._leaving: asyncio.Task[None] | None = None

    # ── what Reports reads ──
    @property
    def subscriber_id(self) -> str:
        return self.member.member_id

    @property
    def position(self) -> int:
        return 0

    @property
    def delivered(self) -> int:
        return self.member.delivered

    @property
    def last_message_us(self) -> int | None:
        return self.member.last_message_us

    @property
    def in_flight(self) -> int:
        return self.member.in_flight

    @property
    def redelivered(self) -> int:
        return self.member.redelivered

    @property
    def judged(self) -> Judged:
        return self.driver.core.judged

    # ── reading ──
    async def next(self) -> Slice | None:
        """The next messages for this member; None when it was closed, or a replay has ended."""
        while not self._is_closed:
            made = self.driver.take(self.member)
            if made is not None:
                return self._handed(made)
            if self.driver.has_ended():
                return None
            await self._wait()
        return None

    def _handed(self, made: GroupSlice) -> GroupSlice:
        made.settler = Ticket(self, made)
        self._open.append(made)
        self._owner.has_slice(self)
        return made

    def report_handed_over(self) -> bool:
        for one in self._open:
            self._count(one)
        return any(one.rest for one in self._open)

    def _count(self, one: Slice) -> None:
        count = one.take_handed_over()
        if count:
            self.member.delivered += count
            self.member.last_message_us = one.chunk.timestamp_us
            if one.attempt > 1:
                self.member.redelivered += count
            self._owner.handed_over(one, count)

    async def _wait(self) -> None:
        """Until woken."""
        if self._is_closed or self.driver.failure is not None:
            return
        if self._waiter is not None:
            raise StoreError("a subscription is read by one task at a time: open another one for a second reader")
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        self.driver.wait(self)
        try:
            await waiter
        except asyncio.CancelledError:
            self._waiter = None
            self.driver.stopped(self)  # it may have been woken, and will not take
            raise
        finally:
            self._waiter = None

    def wake(self) -> bool:
        """Whether it was waiting and nobody had woken or cancelled it yet."""
        if self._waiter is None or self._waiter.done():
            return False
        self._waiter.set_result(None)
        return True

    async def caught_up(self) -> bool:
        await self._owner.settle_pending()
        return self.driver.caught_up()

    # ── settling ──
    def finish(self, one: Slice) -> None:
        """The reader has gone on behind all that it took of a slice."""
        assert isinstance(one, GroupSlice)
        self._count(one)
        if one in self._open:
            self._open.remove(one)
        self.driver.finished(one)

    async def settled(self, one: Slice) -> None:
        """Return once what the reader has left behind is settled as durably as its topic asks; raises LeaseLost."""
        assert isinstance(one, GroupSlice)
        await self.driver.settle()
        index = one.indices[one.done - 1]
        if one.claim.is_lost and index not in one.told_lost:
            raise LeaseLost(
                f"message {one.chunk.message_id(index)} has passed to another consumer before it"
                " was acknowledged: what was done with it may be done again"
            )

    async def is_ours(self, one: Slice) -> bool:
        """Asks the store when the lease may have ended unnoticed: this process stood still for so long."""
        assert isinstance(one, GroupSlice)
        if boot_us() >= one.claim.deadline_us:
            await self.driver.renew()
        return not one.claim.is_lost

    def expired(self, one: Slice, index: int) -> None:
        assert isinstance(one, GroupSlice)
        self.driver.core.expired(one, index)

    def at_hand_failed(self, one: Slice, reason: str) -> None:
        """The reader left with an exception: the message it had in hand counts as a failed attempt."""
        assert isinstance(one, GroupSlice)
        self.driver.core.at_hand_failed(one, reason=reason, now_us=now_us())

    def refuse(self, one: GroupSlice, index: int, *, requeue: bool, delay_us: int | None, reason: str | None) -> bool:
        return self.driver.core.refuse(one, index, requeue=requeue, delay_us=delay_us, reason=reason, now_us=now_us())

    def check_outside(self, what: str) -> None:
        """Refuse what would wait for the running task's own transaction."""
        self._owner.refuse_past(what)

    def room_was_made(self) -> None:
        """A message was settled: the member, or another one, may have something to take now."""
        self.driver.room_made(self.member)

    async def close(self) -> None:
        """Give back what is not settled and go; who is cancelled meanwhile stops waiting for that, no more. Repeating it
        does nothing."""
        if self._leaving is None:
            self._is_closed = True
            self.wake()
            self._leaving = asyncio.get_running_loop().create_task(self._leave(), name="geode-leave")
            self._leaving.add_done_callback(_told)
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        self.report_handed_over()
        self._open.clear()
        try:
            await self.driver.leave(self.member)
        finally:
            await self._owner.closed(self)

    async def reply(self, message: Message, value: object) -> None:
        await self._owner.reply(message, value)


def _told(leaving: "asyncio.Task[None]") -> None:
    if not leaving.cancelled():
        leaving.exception()  # whoever waits is told; nobody may be waiting any more


class FeedOwner(Protocol):
    """What a feed asks of those who opened it."""

    def has_slice(self, feed: GroupFeed) -> None: ...

    def handed_over(self, handed: Slice, count: int) -> None: ...

    @property
    def settle_pending(self) -> Callable[[], Awaitable[None]]: ...

    @property
    def reply(self) -> Callable[[Message, object], Awaitable[None]]: ...

    @property
    def refuse_past(self) -> Callable[[str], None]:
        """Raises GeodeError when the running task is inside a transaction."""
        ...

    async def closed(self, feed: GroupFeed) -> None: ...


class Ticket:
    """Settles the messages of one slice."""

    __slots__ = ("_feed", "_slice")

    def __init__(self, feed: GroupFeed, one: GroupSlice) -> None:
        self._feed = feed
        self._slice = one

    async def acknowledge(self, message: Message) -> None:
        self._feed.check_outside("message.ack() inside a transaction: use tx.ack(message), which is part of it")
        if self._slice.claim.rules.settle_first:
            return
        with self._telling(message):
            if self._feed.driver.core.acknowledge(self._slice, message._index):
                self._feed.room_was_made()
            await self._written(message)

    def acknowledge_within(self, message: Message, transaction: JoinsSettlements) -> None:
        """Acknowledge when the transaction commits; when it does not, the message is as it was before."""
        if self._slice.claim.rules.settle_first:
            return
        driver = self._feed.driver
        if driver.core.reserve(self._slice, message._index):
            joined = driver.joined(transaction)
            joined.add(self._slice, message._index)
            transaction.settle(joined)

    async def refuse(self, message: Message, *, requeue: bool, delay_seconds: float | None, reason: str | None) -> None:
        self._feed.check_outside("message.nack() inside a transaction: leave it by an exception first")
        if self._slice.claim.rules.settle_first:
            raise AlreadySettled(
                f"message {message.id} was acknowledged before it was handed over: that is what at_most_once means"
            )
        delay_us = None if delay_seconds is None else int(delay_seconds * 1e6)
        with self._telling(message):
            if self._feed.refuse(self._slice, message._index, requeue=requeue, delay_us=delay_us, reason=reason):
                self._feed.room_was_made()
            await self._written(message)

    async def extend(self, message: Message, seconds: float) -> None:
        claim = self._slice.claim
        claim.check(message.offset, 0, message.id)
        await self._feed.driver.extend(claim, boot_us() + int(seconds * 1e6))
        if claim.is_lost:
            claim.check(message.offset, 0, message.id)

    async def reply(self, message: Message, value: object) -> None:
        await self._feed.reply(message, value)

    @contextlib.contextmanager
    def _telling(self, message: Message) -> Iterator[None]:
        try:
            yield
        except LeaseLost:
            self._slice.told_lost.add(message._index)
            raise

    async def _written(self, message: Message) -> None:
        await self._feed.driver.settle()
        if self._slice.claim.is_lost:
            raise LeaseLost(f"message {message.id} has passed to another consumer: it cannot be settled here any more")
