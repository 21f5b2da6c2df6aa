"""An open fan-out subscription on a directory: a cursor, fed from the shared tail or, when behind, from the file.

The follower tells a feed of new batches, but for those that cannot hold anything for it. A feed remembers a bounded number
of them; when more have come, it forgets them all, is told nothing more, and reads the file from its cursor to the watermark.
So a stalled subscriber holds no messages, whatever is published meanwhile. A feed that keeps up is as far as the watermark,
without being told of every batch. Nothing is taken from the cursor before it is returned, and nothing is awaited in between: a
cancelled `next` has lost nothing.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from typing import Protocol

from geode_client.broker import SubscriptionRequest
from geode_client.clock import boot_us, now_us
from geode_client.conditions.requirements import Requirement
from geode_client.delivery.claims import Rules
from geode_client.delivery.fanout import FanoutCursor
from geode_client.delivery.judged import Judged
from geode_client.delivery.slices import Slice
from geode_client.errors import GeodeError, StoreError
from geode_client.local.follower import LogFollower
from geode_client.message import Chunk, Message
from geode_client.store.log import CommitCursor, Header, LogCursor

NOTICES_MAX = 256
GIVE_WAY_EVERY_CHUNKS = 16


class FeedOwner(Protocol):
    """What a feed asks of the broker that opened it."""

    @property
    def follower(self) -> LogFollower: ...

    def backlog(self, feed: "FanoutFeed", through: int) -> LogCursor | CommitCursor:
        """What lies between the feed's cursor and batch `through`."""
        ...

    @property
    def settle_pending(self) -> Callable[[], Awaitable[None]]:
        """Returns once all commits that are under way in this client are known to the follower."""
        ...

    def has_slice(self, feed: "FanoutFeed") -> None: ...

    def handed_over(self, handed: Slice, count: int) -> None: ...

    def rules_of(self, topic_id: int) -> Rules | None:
        """What the topic says of failed deliveries; None when it is gone."""
        ...

    async def bury(self, chunk: Chunk, index: int, reason: str, attempts: int, error: str | None) -> None:
        """Make a message a dead letter."""
        ...

    @property
    def reply(self) -> Callable[[Message, object], Awaitable[None]]: ...

    def closed(self, feed: "FanoutFeed") -> None: ...


class FanoutFeed:
    """One subscriber; `topic_ids` grows when a topic that the pattern covers appears."""

    __slots__ = (
        "_backlog",
        "_backlog_end",
        "_behind",
        "_chunks_since_pause",
        "_closed",
        "_failure",
        "_notices",
        "_open",
        "_owner",
        "_resumed",
        "_retries",
        "_retry_timer",
        "_through",
        "_waiter",
        "cursor",
        "delivered",
        "last_message_us",
        "request",
        "subscriber_id",
        "topic_ids",
    )

    def __init__(
        self,
        owner: FeedOwner,
        subscriber_id: str,
        request: SubscriptionRequest,
        cursor: FanoutCursor,
        *,
        through: int | None,
        keeps_up: bool,
    ) -> None:
        self._owner = owner
        self.subscriber_id = subscriber_id
        self.request = request
        self.cursor = cursor
        self.topic_ids: set[int] = set()
        self.delivered = 0
        self.last_message_us: int | None = None
        self._through = through
        self._notices: list[Header] = []
        self._open: list[Slice] = []
        self._behind = not keeps_up
        self._resumed: dict[tuple[int, int], int] | None = None
        self._backlog: LogCursor | CommitCursor | None = None
        self._backlog_end = 0
        self._waiter: asyncio.Future[None] | None = None
        self._chunks_since_pause = 0
        self._closed = False
        self._failure: GeodeError | None = None
        self._retries: list[tuple[int, int, Chunk, int, int]] = []
        self._retry_timer: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """Messages given back that wait for their retry; all others are done when they are handed over."""
        return len(self._retries)

    @property
    def redelivered(self) -> int:
        return 0

    @property
    def judged(self) -> Judged:
        return self.cursor.judged

    @property
    def requirement(self) -> Requirement | None:
        return self.cursor.requirement

    @property
    def keeps_up(self) -> bool:
        """Whether the feed is to be told of new batches."""
        return not self._behind

    @property
    def position(self) -> int:
        """The batch id through which everything was handed over, or is not for this feed."""
        if self._behind or self._backlog is not None:
            return self.cursor.position
        done = self._notices[0].batch_id - 1 if self._notices else self._owner.follower.watermark
        return max(done, self.cursor.position)

    def notice(self, batch: Header) -> None:
        """The follower tells of a new batch."""
        if self._behind or (self._notices and self._notices[-1] is batch):
            return
        self._notices.append(batch)
        if len(self._notices) > NOTICES_MAX:
            self._fall_behind()
        self._wake()

    def _fall_behind(self) -> None:
        """Forget the notices: what they told of is read from the file, from the first of each partition on."""
        position, resumed = self.position, {}
        for batch in reversed(self._notices):
            resumed[batch.topic_id, batch.partition] = batch.base_offset
        self._notices = []
        self._behind = True
        if self._backlog is None:
            self.cursor.resume(position, resumed)
        else:
            self._resumed = resumed
        self._owner.follower.fall_behind(self.topic_ids, self)

    def fail(self, failure: GeodeError) -> None:
        """End the feed with an error, such as that its topic was dropped."""
        self._failure = failure
        self._wake()

    async def next(self) -> Slice | None:
        """The next messages; None when the feed has ended."""
        while not self._closed:
            if self._chunks_since_pause >= GIVE_WAY_EVERY_CHUNKS:
                self._chunks_since_pause = 0
                await asyncio.sleep(0)
                continue
            retried = self._due_retry()
            if retried is not None:
                return self._given(retried)
            handed = self._next_slice()
            if handed is not None:
                handed.settler = self
                return self._given(handed)
            if self._has_more():
                continue
            if self._failure is not None:
                raise self._failure
            if self._through is not None and not self._retries:
                return None
            await self._news()
        return None

    async def caught_up(self) -> bool:
        """Whether all that had been committed when this was called has been handed over."""
        await self._owner.settle_pending()
        while self._owner.follower.look():
            await asyncio.sleep(0)
        if self._behind and self._backlog is None and not self._is_done():
            self._open_backlog()
        if self._backlog is not None:
            return self._backlog.is_exhausted and not self._notices and not (self._behind and self._through is None)
        return not self._notices and (not self._behind or self._is_done())

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._backlog = None
            self._notices = []
            self._retries = []
            self.report_handed_over()
            self._open = []
            if self._retry_timer is not None:
                self._retry_timer.cancel()
            self._wake()
            self._owner.closed(self)

    @property
    def before(self) -> int:
        """Nothing is said of a subscriber without a group, which begins where it was told to."""
        return 0

    # ── settling: a message is done when it is handed over, unless it is given back ──
    def finish(self, one: Slice) -> None:
        """Count what was handed over; nothing else is left to be done."""
        self._count(one)
        if one in self._open:
            self._open.remove(one)

    async def settled(self, one: Slice) -> None:
        """Nothing is left to be done."""

    async def is_ours(self, one: Slice) -> bool:
        return True

    def expired(self, one: Slice, index: int) -> None:
        """Nothing counts it."""

    def at_hand_failed(self, one: Slice, reason: str) -> None:
        """The subscription ends, and what it would be given again with it."""

    async def acknowledge(self, message: Message) -> None:
        """It was done when it was handed over."""

    def acknowledge_within(self, message: Message, transaction: object) -> None:
        """Nothing is left to be done, then as now."""

    async def refuse(self, message: Message, *, requeue: bool, delay_seconds: float | None, reason: str | None) -> None:
        """Hand the message over again later, to this subscriber alone; or make it a dead letter."""
        rules = self._owner.rules_of(message._chunk.topic_id)
        if self._closed or rules is None:
            return
        limit = rules.attempts_max
        if not requeue or (limit is not None and message.attempt >= limit):
            why = "max_retries" if requeue else "rejected"
            await self._owner.bury(message._chunk, message._index, why, message.attempt, reason)
            return
        if len(self._retries) >= self.request.prefetch:
            raise GeodeError(
                f"{len(self._retries)} messages wait for their retry, as many as prefetch allows: use a consumer group,"
                " which keeps them in the store"
            )
        backoff_us = min(rules.backoff_us << min(message.attempt - 1, 40), rules.backoff_max_us)
        wait_us = backoff_us if delay_seconds is None else int(delay_seconds * 1e6)
        entry = (boot_us() + wait_us, len(self._retries), message._chunk, message._index, message.attempt + 1)
        heapq.heappush(self._retries, entry)
        self._expect_retry()

    async def extend(self, message: Message, seconds: float) -> None:
        """Nothing ends that could be extended."""

    async def reply(self, message: Message, value: object) -> None:
        await self._owner.reply(message, value)

    def _due_retry(self) -> Slice | None:
        if not self._retries or self._retries[0][0] > boot_us():
            return None
        _, _, chunk, index, attempt = heapq.heappop(self._retries)
        self._expect_retry()
        return Slice(chunk, [index], attempt=attempt, settler=self)

    def _expect_retry(self) -> None:
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None
        if self._retries:
            wait = max(0.0, (self._retries[0][0] - boot_us()) / 1e6)
            self._retry_timer = asyncio.get_running_loop().call_later(wait, self._wake)

    def _has_more(self) -> bool:
        """Whether there is something to be looked at without waiting."""
        return bool(self._notices or self._backlog is not None or (self._behind and not self._is_done()))

    def _is_done(self) -> bool:
        return self._through is not None and self.cursor.position >= self._through

    def _next_slice(self) -> Slice | None:
        """What the next chunk in commit order holds for this feed; None also when there is no chunk.

        Chunks come from the file when the feed is behind, else from the shared tail.
        """
        if self._backlog is None and self._behind and not self._is_done():
            self._open_backlog()
        if self._backlog is not None:
            return self._next_of_backlog(self._backlog)
        if not self._notices:
            return None
        batch = self._notices[0]
        found: Chunk | None = None
        is_new = batch.batch_id > self.cursor.position
        try:
            if is_new:
                found = self._owner.follower.chunk(batch.batch_id)
        finally:
            # Damage is told once, with its place; whoever asks again gets what comes after it.
            del self._notices[0]
        if found is None:
            if is_new:
                self.cursor.lose(batch.partition, batch.count)
            return None
        self._chunks_since_pause += 1
        return self.cursor.offer_newest(found, now_us(), self._owner.follower.candidates(batch.batch_id, self))

    def _next_of_backlog(self, backlog: LogCursor | CommitCursor) -> Slice | None:
        chunk = next(backlog, None)
        if chunk is not None:
            self._chunks_since_pause += 1
            return self.cursor.offer(chunk, now_us(), skipped=backlog.skipped)
        self._backlog = None
        self.cursor.position = max(self.cursor.position, self._backlog_end)
        if self._resumed is not None:
            self.cursor.resume(self._backlog_end, self._resumed)
            self._resumed = None
        return None

    def _open_backlog(self) -> None:
        # What is committed from here on is told by notices again; the file is read through what is known now.
        self._backlog_end = self._owner.follower.watermark if self._through is None else self._through
        self._notices = []
        if self._through is None:
            self._behind = False
            self._owner.follower.keep_up(self.topic_ids, self)
        if self._backlog_end > self.cursor.position:
            self._backlog = self._owner.backlog(self, self._backlog_end)

    def _given(self, one: Slice) -> Slice:
        one.handed_us = now_us()
        self._open.append(one)
        self._owner.has_slice(self)
        return one

    def _count(self, one: Slice) -> None:
        count = one.take_handed_over()
        if count:
            self.delivered += count
            self.last_message_us = one.chunk.timestamp_us
            self._owner.handed_over(one, count)

    def report_handed_over(self) -> bool:
        for one in self._open:
            self._count(one)
        return any(one.rest for one in self._open)

    async def _news(self) -> None:
        """Wait until something was noticed, or the feed was closed or has failed."""
        if self._has_more() or self._failure is not None or self._closed:
            return
        if self._retries and self._retries[0][0] <= boot_us():
            return
        if self._waiter is not None:
            raise StoreError("a subscription is read by one task at a time: open another one for a second reader")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
