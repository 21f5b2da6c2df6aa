"""A group at work in one client: claims from the store, slices to the members, settlements back to the store.

The decisions are `GroupCore`'s; here is what they need of the world: write transactions, batches read from the log, time.
All runs on the event loop. Claiming and settling are tasks of the dispatcher, never of a member, so that a member that is
cancelled while it waits takes nothing with it. Nothing is awaited between taking a slice from the core and returning it.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Sequence
from typing import Any

from geode_client.catalog import Delivery, Topic, dead_letter_topic_of
from geode_client.clock import boot_us, now_us
from geode_client.delivery.claims import LEASE_SHORTEST_US, HeldClaim, rules_of
from geode_client.delivery.fanout import ConditionLike
from geode_client.delivery.group import GroupCore
from geode_client.delivery.lanes import KEY, LANES, PRIORITY
from geode_client.delivery.members import Found, GroupSlice, Member, Piece
from geode_client.delivery.settlement import Settlement
from geode_client.errors import CorruptData, GeodeError, StoreError
from geode_client.local.joining import JoinedAcknowledgements
from geode_client.local.leases import Leases
from geode_client.local.surroundings import Surroundings, Waiting
from geode_client.store import outlook
from geode_client.store.claiming import Claim, Claimed
from geode_client.store.groups import Group
from geode_client.store.log import Skips
from geode_client.store.settling import Settle
from geode_client.store.writer import Work

FLUSH_SECONDS = 0.02
# Statistics are of thousands of messages; which there are is looked up anew every so many claims.
ASK_FROM_MESSAGES = 1024
ASKS_WITH_ONE_VIEW = 64
LANES_END = LANES[PRIORITY].stop


class Dispatcher:
    """One group (or one partition of it) for all its members in this client.

    `through`: for a private group that ends with what was there, the end of each partition (topic id, partition).
    """

    def __init__(
        self,
        around: Surroundings,
        group: Group,
        condition: ConditionLike | None,
        *,
        partition: int | None = None,
        through: dict[tuple[int, int], int] | None = None,
    ) -> None:
        self.group = group
        self.partition = partition
        self.core = GroupCore(
            group.order_by,
            condition=condition,
            key=group.key,
            addressee=(group.name, group.pattern),
            jitter=random.random,
        )
        self._around = around
        self._through = through
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Waiting] = deque()
        self._news: set[int] | None = None
        self._look = True
        self._has_suspect = False
        self._none_above = LANES_END
        self._claiming: asyncio.Task[bool] | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._flush_waiters: list[asyncio.Future[None]] = []
        self._writing: dict[asyncio.Future[None], None] = {}
        self._flush_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._turn = random.randrange(1 << 16)
        self._damage: CorruptData | None = None
        self._joined: dict[int, JoinedAcknowledgements] = {}
        self._skips: Skips | None = None
        self._asked = 0
        self.leases = Leases(self.core, around, self._lost)
        self.failure: GeodeError | None = None

    # ── news ──
    def topic_has_news(self, topic_id: int) -> None:
        """A topic of the group has a new batch."""
        if self._news is not None:
            self._news.add(topic_id)
        self._none_above = LANES_END
        self.attend()

    def look_again(self) -> None:
        """Retries may be due, claims without an owner be there, the group moved or resumed."""
        self._look = True
        self._news = None
        self._none_above = LANES_END
        self.attend()

    def fail(self, error: GeodeError) -> None:
        """End all members with an error."""
        self.failure = self.failure or error
        self._wake(len(self._waiting))

    def _wake(self, count: int) -> None:
        while count > 0 and self._waiting:
            count -= self._waiting.popleft().wake()

    def attend(self) -> None:
        """While there is something to take or to look for, nobody with room for it waits unwoken.

        Asked after all that happens, so that it does not matter what became of those who were woken before: each of them
        takes, waits again, or goes away, and that leads back to here.
        """
        if self._waiting and (self._has_news() or self.core.has_ready()):
            for feed in self._waiting:
                if feed.member.holds < feed.member.prefetch and feed.wake():
                    self._waiting.remove(feed)
                    return

    def wait(self, feed: Waiting) -> None:
        """The feed waits to be woken."""
        self._waiting.append(feed)
        self.attend()

    def stop_waiting(self, feed: Waiting) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(feed)

    # ── taking ──
    async def take(self, member: Member) -> GroupSlice | None:
        """The next slice for a member, claiming what is needed; None when there is nothing for it now, or it has left."""
        while member.member_id in self.core.members:
            self._raise_failure()
            if self._may_be_outranked():
                await self._claim_now()
                if member.member_id not in self.core.members:
                    break
            made = self.core.take(member, now_us())
            if made is not None or self.core.has_unwritten():
                self._expect_flush()  # also of what has expired before anybody took it
            if made is not None or member.holds >= member.prefetch:
                self.attend()
                return made
            if await self._claim_now() or self._has_news():
                continue
            if not self.core.steal(member):
                break
        self.attend()
        return None

    def _may_be_outranked(self) -> bool:
        """Whether there is something to claim that goes before all that is ready (priority groups).

        It is looked for when something has come, and again whenever what is ready is of a lower lane than before.
        """
        if self.group.order_by != PRIORITY:
            return False
        highest = self.core.highest_ready()
        if highest is None or highest >= self._none_above:
            return False
        log, group = self._around.log, self.group
        if outlook.is_ahead(log, group, above=highest) or outlook.is_due(log, group.group_id, above=highest):
            self._look |= not self._has_news()
            return True
        self._none_above = highest
        return False

    def _has_news(self) -> bool:
        """Whether something came that no claim has looked for, such as while one was under way."""
        return self._look or self._news is None or bool(self._news)

    def has_ended(self) -> bool:
        """Whether a private group that is not to follow has come to its end."""
        if self._through is None or self._news or self._look:
            return False
        return not self.core.claims and not self._rows_left()

    def _rows_left(self) -> bool:
        return outlook.has_rows_left(self._around.log, self.group.group_id)

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._damage is not None:
            damage, self._damage = self._damage, None
            raise damage

    # ── claiming ──
    async def _claim_now(self) -> bool:
        """Claim more; whether anything came of it. All who ask while it is under way share it."""
        # One that is done and has not been called back yet is no news, and awaiting it would not even give way.
        if self._claiming is None or self._claiming.done():
            if not self._has_news():
                return False
            self._claiming = self._loop.create_task(self._claim(), name="geode-claim")
            self._claiming.add_done_callback(self._claimed)
        claiming = self._claiming
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # It would have taken of what comes: somebody else is to.
            claiming.add_done_callback(lambda _: self.attend())
            raise

    def _claimed(self, task: "asyncio.Task[bool]") -> None:
        if self._claiming is task:
            self._claiming = None
        self._fail_with(task)

    def _fail_with(self, task: "asyncio.Task[Any]") -> None:
        """What goes wrong in a task of ours ends all members: nobody else would hear of it."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(_told(error))

    async def _claim(self) -> bool:
        above = self.core.only_above()
        wanted = self.core.wanted(now_us())
        if wanted <= 0 or self.failure is not None:
            return False
        topics, self._news = self._news, set()
        looked, self._look = self._look, False
        dead = self._around.dead_owners(self.group.group_id) if looked else ()
        if not dead and not self._is_anything_there():
            self._wake_for_retries()
            return False
        self._turn += 1
        claim = Claim(
            group_id=self.group.group_id,
            name=self.group.name,
            pattern=self.group.pattern,
            owner=self._around.process,
            wanted=wanted,
            now_us=now_us(),
            boot_us=boot_us(),
            lease_us=self._lease_us(),
            dead=dead,
            above=above,
            partition=self.partition,
            topic_ids=None if topics is None or len(topics) > 500 else sorted(topics),
            turn=self._turn,
            through=self._through,
        )
        await self._write_works([*self._settle_works(self.core.settlements()), claim])
        taken = sum(one.pending.count(1) for one in claim.claimed)
        self._has_suspect |= any(one.attempts and not one.retried for one in claim.claimed)
        if taken >= wanted or claim.more or above is not None:
            self._news = None if topics is None or self._news is None else self._news | topics
            self._look = self._look or looked
        else:
            self._wake_for_retries()
        await self._take_in(claim)
        return bool(claim.claimed) or claim.more

    def _is_anything_there(self) -> bool:
        """Whether a claim would find something to do: all who wait are woken, and few of them have to write for it."""
        log, group = self._around.log, self.group
        known = log.rows("SELECT revision FROM groups WHERE group_id = ?", (group.group_id,))
        if known != [(group.revision,)] or self.core.has_unwritten():
            return True
        return outlook.is_ahead(log, group) or outlook.is_due(log, group.group_id)

    async def _take_in(self, claim: Claim) -> None:
        assert claim.group is not None
        if claim.group.revision != self.group.revision:
            self._group_changed(claim.group)
        pieces: list[Piece] = []
        now = now_us()
        for one in claim.claimed:
            topic = self._around.topics.by_id(one.topic_id)
            if topic is not None:
                unmet = self._unmet(one, topic)
                pieces += self.core.received(self._held(one, topic, claim), self._found(one, unmet), now, unmet)
        self.leases.expect()
        first = [piece for piece in pieces if piece.claim.rules.settle_first]
        if first:
            self.core.settle_first(first)
            await self._write(self.core.settlements())
        self.core.offer(pieces)
        self._wake(min(len(self._waiting), max(0, self.core.ready_count - 1)))
        if self.core.has_unwritten():
            self._expect_flush()

    def _held(self, one: Claimed, topic: Topic, claim: Claim) -> HeldClaim:
        return HeldClaim(
            one.claim_id,
            (one.topic_id, one.partition, one.lane),
            one.first,
            one.pending,
            rules_of(topic, self.group.name, None if self.group.private_to is not None else self.group.pattern),
            attempts=one.attempts,
            retried=one.retried,
            key=one.key,
            error=one.error,
            blocked=one.blocked,
            deadline_us=claim.boot_us + claim.lease_us,
        )

    def _unmet(self, one: Claimed, topic: Topic) -> Sequence[tuple[int, int]]:
        """Runs of a large claim that need not be read: statistics say that the condition wants nothing there.

        Not where expired messages become dead letters, since only reading tells which have.
        """
        if self.core.condition is None or len(one.pending) < ASK_FROM_MESSAGES or topic.options.dead_letter_expired:
            return ()
        if self._asked % ASKS_WITH_ONE_VIEW == 0:
            self._skips = self._around.skips(self.core.condition)
        self._asked += 1
        window = (one.first, one.first + len(one.pending))
        return () if self._skips is None else self._skips.runs(one.topic_id, one.partition, window)

    def _found(self, one: Claimed, unmet: Sequence[tuple[int, int]]) -> list[Found]:
        """What the log holds of a claim but for the runs; a damaged batch is told to the next reader."""
        found: list[Found] = []
        end = one.first + len(one.pending)
        for header in self._around.log.reaching_into(one.topic_id, one.partition, one.first, end):
            stop = header.base_offset + header.count
            start, last = max(one.first, header.base_offset), min(end, stop)
            if any(first <= start and last <= behind for first, behind in unmet):
                continue
            try:
                chunk = self._around.follower.chunk(header.batch_id)
            except CorruptData as damage:
                self._damage = damage
                found.append((header.base_offset, stop, None))
                continue
            if chunk is not None:
                found.append((header.base_offset, stop, chunk))
        return found

    def _group_changed(self, group: Group) -> None:
        """The group was moved, paused or resumed: what it held in places that were moved is not ours any more."""
        self.group = group
        held = ", ".join(str(claim_id) for claim_id in self.core.claims)
        rows = self._around.log.rows(f"SELECT claim_id FROM claims WHERE claim_id IN ({held}) AND owner IS NOT NULL")
        self._lost(set(self.core.claims) - {row[0] for row in rows})

    def _lease_us(self) -> int:
        topics = self._around.topics.covered(self.group.pattern) if "*" not in self.group.pattern else ()
        return max(LEASE_SHORTEST_US, min((t.options.ack_timeout_us for t in topics), default=30_000_000))

    def _wake_for_retries(self) -> None:
        """Look again when the next retry is due."""
        at = outlook.next_retry_us(self._around.log, self.group)
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None
        if at is not None:
            wait = min(max(0.0, (at - now_us()) / 1e6), 3600.0)
            self._retry_timer = self._loop.call_later(wait, self._retry_due)

    def _retry_due(self) -> None:
        self._retry_timer = None
        self._look = True
        self._none_above = LANES_END
        self.attend()

    # ── settling ──
    async def settle(self) -> None:
        """Return once everything that was said is with the store; all who ask in one turn of the loop share the commit."""
        done = self._loop.create_future()
        self._flush_waiters.append(done)
        self._start_flush()
        await asyncio.shield(done)

    def _start_flush(self) -> None:
        if self._flushing is None:
            self._flushing = self._loop.create_task(self._flush(), name="geode-settle")
            self._flushing.add_done_callback(self._flushed)

    def _flushed(self, task: "asyncio.Task[None]") -> None:
        self._flushing = None
        self._fail_with(task)
        if self._flush_waiters:
            self._start_flush()
        elif self.core.has_unwritten() and self.failure is None:
            self._expect_flush()  # said while that was under way

    async def _flush(self) -> None:
        waiters, self._flush_waiters = self._flush_waiters, []
        try:
            # What a claim took along to the writer before us must be there too before anybody is told that it is.
            under_way = list(self._writing)
            await self._write(self.core.settlements())
            if under_way:
                await asyncio.gather(*under_way)
        except asyncio.CancelledError:
            for done in waiters:
                done.cancel()
            raise
        except Exception as error:
            for done in waiters:
                if not done.done():
                    done.set_exception(_told(error))
            raise
        for done in waiters:
            if not done.done():
                done.set_result(None)

    def _expect_flush(self) -> None:
        """What readers say by going on is written a moment later, many at a time."""
        if self._flush_timer is None:
            self._flush_timer = self._loop.call_later(FLUSH_SECONDS, self._flush_due)

    def _flush_due(self) -> None:
        self._flush_timer = None
        if self.core.has_unwritten():
            self._start_flush()
        if any(True for _ in self.core.in_hand()):
            self._expect_flush()

    async def _write(self, settlements: list[Settlement]) -> None:
        works = self._settle_works(settlements)
        if works:
            await self._write_works(works)

    async def _write_works(self, works: list[Work]) -> None:
        done = self._loop.create_future()
        self._writing[done] = None
        try:
            await self._around.write(works)
            self._settled(works)
            done.set_result(None)
        except BaseException as error:
            done.set_exception(_told(error))
            done.exception()  # whoever waits for it is told; nobody may be waiting
            raise
        finally:
            del self._writing[done]

    def _settle_works(self, settlements: list[Settlement]) -> list[Work]:
        if not settlements:
            return []
        topics = {one.topic_id: self._around.topics.by_id(one.topic_id) for one in settlements}
        return [
            Settle(
                group_id=self.group.group_id,
                name=self.group.name,
                settlements=settlements,
                dead_letter_topics={
                    number: dead_letter_topic_of(topic.name, topic.options) for number, topic in topics.items() if topic
                },
                ordered=self.group.order_by == KEY,
                durable=any(topic is not None and topic.delivery is Delivery.EXACTLY_ONCE for topic in topics.values()),
            )
        ]

    def _settled(self, works: Sequence[Any]) -> None:
        for work in works:
            if not isinstance(work, Settle):
                continue
            self._lost(work.lost)
            self.core.confirmed(work.settlements)
            lost = set(work.lost)
            for one in work.settlements:
                if one.claim_id not in lost:
                    self._around.reports.settled(one.topic_id, one.acknowledged, one.failed)
                if one.failures:
                    self._look = True
                    self._wake_for_retries()
                elif work.ordered and one.claim_id not in self.core.claims:
                    self._go_on(one.topic_id)
                if self._has_suspect and one.claim_id not in self.core.claims:
                    self._look, self._has_suspect = True, False  # the next piece of what was lost
        if self._through is not None:
            self._wake(len(self._waiting))  # perhaps that was the end
        self.attend()

    def _go_on(self, topic_id: int) -> None:
        """What waited behind a claim of an ordered group may go on: retries of its key, and what lies ahead in its lane."""
        self._look = True
        if self._news is not None:
            self._news.add(topic_id)

    def _lost(self, claim_ids: Sequence[int] | set[int]) -> None:
        if self.core.lost(claim_ids):
            self.look_again()

    # ── once in a while ──
    async def tick(self) -> None:
        """Once a second: give up what is held for too long, look for claims of the dead."""
        surplus = self.core.surplus(now_us())
        if surplus:
            await self._write(surplus)
            self._look = True
        if self._waiting and self._has_orphans():
            self.look_again()
        self.attend()

    def _has_orphans(self) -> bool:
        found = outlook.has_orphans(self._around.log, self.group.group_id)
        return found or bool(self._around.dead_owners(self.group.group_id))

    def joined(self, transaction: object) -> "JoinedAcknowledgements":
        """What a transaction acknowledges of this group, all together."""
        found = self._joined.get(id(transaction))
        if found is None:
            found = self._joined[id(transaction)] = JoinedAcknowledgements(self, id(transaction))
        return found

    def transaction_ended(self, joined: "JoinedAcknowledgements", *, stored: bool) -> None:
        """A transaction that acknowledged messages of this group is over."""
        self._joined.pop(joined.key, None)
        self._lost(joined.lost)
        self.core.transaction_ended(joined.held, stored=stored)
        if stored:
            for one, _ in joined.held:
                self._around.reports.settled(one.claim.topic_id, 1, 0)
                if self.group.order_by == KEY:
                    self._go_on(one.claim.topic_id)
            self._look |= self._has_suspect
        self.attend()
        self._expect_flush()

    # ── the end ──
    async def leave(self, member: Member) -> None:
        """A member goes; when it was the last one, everything that is held is let go of."""
        self.core.leave(member)
        for under_way in (self._claiming, self._flushing, self.leases.renewing):
            if under_way is not None and not self.core.members:
                with contextlib.suppress(GeodeError):
                    await asyncio.shield(under_way)
        if self.core.members:  # others, or one that joined while we waited
            self._wake(min(len(self._waiting), self.core.ready_count))
            self.attend()
            self._expect_flush()
            return
        self.leases.stop()
        for timer in (self._flush_timer, self._retry_timer):
            if timer is not None:
                timer.cancel()
        self._flush_timer = self._retry_timer = None
        if self.failure is None:
            made = self.core.let_go()
            self.look_again()  # who joins while this is written finds what is let go of here
            await self._write(made)

    async def caught_up(self) -> bool:
        """Whether nothing is left that could be handed to a member now."""
        if self.failure is not None:
            return True
        if self._claiming is not None or self.core.ready_count or any(one.rest for _, one in self.core.in_hand()):
            return False
        log, group = self._around.log, self.group
        return not outlook.is_ahead(log, group) and not outlook.is_due(log, group.group_id)


def _told(error: BaseException) -> GeodeError:
    """An error in the form in which users are told of it."""
    if isinstance(error, GeodeError):
        return error
    told = StoreError(f"the delivery of a group was given up because of an internal error: {error!r}")
    told.__cause__ = error
    return told
