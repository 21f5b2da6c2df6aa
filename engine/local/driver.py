"""The rim of one group: performs the scheduler's actions on the store and the event loop, and feeds back what came of them.

No decision is made here: `delivery/scheduler.py` decides when to act, `delivery/claiming.py` what is claimed. Claiming and
writing are tasks of the driver, never of a member, so a member that is cancelled while it waits takes nothing with it.
Nothing is awaited between taking a slice from the scheduler and returning it.
"""

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Sequence
from typing import Any, assert_never

from geode_client.catalog import Delivery, Topic, dead_letter_topic_of
from geode_client.clock import boot_us, now_us
from geode_client.conditions.protocol import ConditionLike
from geode_client.delivery import actions
from geode_client.delivery.actions import Now
from geode_client.delivery.claiming import Claimed, ClaimRequest
from geode_client.delivery.claims import LEASE_SHORTEST_US, HeldClaim, Rules, rules_of
from geode_client.delivery.group import GroupCore
from geode_client.delivery.lanes import KEY
from geode_client.delivery.members import Found, GroupSlice, Member
from geode_client.delivery.quarantine import Quarantine
from geode_client.delivery.scheduler import Scheduler
from geode_client.delivery.settlement import Settlement
from geode_client.errors import CorruptData, GeodeError, StoreError
from geode_client.grammar.names import is_pattern
from geode_client.local.joining import JoinedAcknowledgements
from geode_client.local.surroundings import Surroundings, Waiting
from geode_client.store import outlook
from geode_client.store.claiming import Begin, Claim
from geode_client.store.groups import Group
from geode_client.store.log import Skips
from geode_client.store.settling import Renew, Settle
from geode_client.store.writer import Work

LEASE_DEFAULT_US = 30_000_000
# Statistics cover thousands of messages; the view of them is renewed every so many claims.
ASK_FROM_MESSAGES = 1024
ASKS_WITH_ONE_VIEW = 64


def clocks() -> Now:
    """The present, on both clocks."""
    return Now(now_us(), boot_us())


class GroupDriver:
    """One group (or one partition of it) for all its members in this client.

    `through`: for a private group that ends with what was there, the end of each partition (topic id, partition).
    """

    def __init__(
        self,
        around: Surroundings,
        group: Group,
        condition: ConditionLike | None,
        quarantine: Quarantine,
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
        self.scheduler = Scheduler(self.core, quarantine, ends=through is not None, turn=random.randrange(1 << 16))
        self._around = around
        self._through = through
        self._quarantine = quarantine
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, Waiting] = {}
        self._tickets: dict[int, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us: int | None = None
        self._is_acting = False
        self._damage: CorruptData | None = None
        self._joined: dict[int, JoinedAcknowledgements] = {}
        self._skips: Skips | None = None
        self._asked = 0

    @property
    def failure(self) -> GeodeError | None:
        return self.scheduler.failure

    # ── events ──
    def join(self, member: Member) -> None:
        self.scheduler.joined(member, clocks())
        self.act()

    def topic_moved(self, topic_id: int, lane: int) -> None:
        """A topic of the group has a new batch, of a priority."""
        self.scheduler.topic_moved(topic_id, lane, clocks())
        self.act()

    def group_moved(self) -> None:
        """Retries may be due, claims without an owner be there, the group moved or resumed."""
        self.scheduler.group_moved(clocks())
        self.act()

    def fail(self, error: GeodeError) -> None:
        """End all members with an error."""
        self.scheduler.fail(error)
        self.act()

    def wait(self, feed: Waiting) -> None:
        """The feed waits to be woken."""
        self._waiting[feed.member.member_id] = feed
        self.scheduler.waits(feed.member.member_id, clocks())
        self.act()

    def stopped(self, feed: Waiting) -> None:
        """A feed that waited was cancelled; it may have been woken, and will not take."""
        self._waiting.pop(feed.member.member_id, None)
        self.scheduler.stopped_waiting(feed.member.member_id, clocks())
        self.act()

    def room_made(self, member: Member) -> None:
        """A message was settled: the member, or another one, may have something to take now."""
        self.scheduler.room_made(member.member_id, clocks())
        self.act()

    def finished(self, one: GroupSlice) -> None:
        """A reader has come to the end of what it took of a slice."""
        self.core.finish(one, now_us())

    def take(self, member: Member) -> GroupSlice | None:
        """The next slice for a member, or None when there is none now. Raises what ended the group, or found damage."""
        if self.failure is not None:
            raise self.failure
        if self._damage is not None:
            damage, self._damage = self._damage, None
            raise damage
        made = self.scheduler.take(member, clocks())
        self.act()
        return made

    def has_ended(self) -> bool:
        """Whether a private group that is not to follow has come to its end."""
        return self.scheduler.may_have_ended and not outlook.has_rows_left(self._around.log, self.group.group_id)

    async def second_passed(self) -> None:
        self.scheduler.second_passed(clocks())
        self.act()

    async def settle(self) -> None:
        """Return once every outcome that is known now is in the store; all who ask in one turn share the commit."""
        ticket = self.scheduler.settle_wanted(clocks())
        done = self._tickets[ticket] = self._loop.create_future()
        self.act()
        await asyncio.shield(done)

    async def extend(self, claim: HeldClaim, until_us: int) -> None:
        """Hold a claim at least until a time of the boot clock."""
        claim.extended_us = max(claim.extended_us, until_us)
        await self.renew()

    def caught_up(self) -> bool:
        """Whether nothing is left that could be handed to a member now."""
        return self.scheduler.is_caught_up(self._could_claim)

    def _could_claim(self) -> bool:
        log, group, partition = self._around.log, self.group, self.partition
        return outlook.is_ahead(log, group, partition) or outlook.is_due(log, group, partition)

    # ── actions ──
    def act(self) -> None:
        """Perform what the scheduler wants done; the others too, where a message that must be alone concerns them."""
        if self._is_acting:
            return
        self._is_acting = True
        try:
            while wanted := self.scheduler.actions():
                for action in wanted:
                    self._perform(action)
        finally:
            self._is_acting = False
        self._set_timer()
        if self._quarantine.touched:
            self._around.act_all()

    def _perform(self, action: actions.Action) -> None:
        match action:
            case actions.Wake(member_id):
                feed = self._waiting.pop(member_id, None)
                if feed is not None:
                    feed.wake()
            case actions.Probe():
                self._probe(action)
            case actions.Claim():
                self._start(self._claim(action), "geode-claim")
            case actions.Write(number, settlements):
                self._start(self._write(number, settlements), "geode-settle")
            case actions.Settled(tickets, error):
                self._settled(tickets, error)
            case actions.Renew():
                self._start(self._renew_in_time(), "geode-renew")
            case actions.Begin(claim_id):
                self._start(self._begin(claim_id), "geode-begin")
            case _:
                assert_never(action)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """What goes wrong in a task of ours ends all members: nobody else would learn of it."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(_as_geode_error(error))

    def _settled(self, tickets: Sequence[int], error: GeodeError | None) -> None:
        for ticket in tickets:
            done = self._tickets.pop(ticket, None)
            if done is None or done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
                done.exception()  # the one that waited may have been cancelled

    def _set_timer(self) -> None:
        at_us = self.scheduler.next_time_us()
        if at_us == self._timer_us:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_us = at_us
        if at_us is not None:
            self._timer = self._loop.call_later(max(0.0, (at_us - boot_us()) / 1e6), self._time_has_come)

    def _time_has_come(self) -> None:
        self._timer = self._timer_us = None
        self.scheduler.tick(clocks())
        self.act()

    # ── looking ──
    def _probe(self, probe: actions.Probe) -> None:
        log, group, partition = self._around.log, self.group, self.partition
        try:
            match probe.what:
                case "lost":
                    found = outlook.has_orphans(log, group, partition) or bool(self._around.dead_owners(group.group_id))
                    next_retry_us = None
                case "retry":
                    found, next_retry_us = False, outlook.next_retry_us(log, group, partition)
                case _:
                    found = self._is_anything_there(probe)
                    next_retry_us = None if found else outlook.next_retry_us(log, group, partition)
        except GeodeError as error:
            self.scheduler.fail(error)
            return
        self.scheduler.probed(probe, found=found, next_retry_us=next_retry_us, now=clocks())

    def _is_anything_there(self, probe: actions.Probe) -> bool:
        """Whether a claim would find something to do: all who wait are woken, and few of them have to write for it."""
        log, group = self._around.log, self.group
        known = log.rows("SELECT revision FROM groups WHERE group_id = ?", (group.group_id,))
        if known != [(group.revision,)]:
            return True
        if group.next_order is not None:
            return outlook.may_take_order(log, group) or (
                probe.looks_at_owners and bool(self._around.dead_owners(group.group_id))
            )
        if self._could_claim():
            return True
        return probe.looks_at_owners and bool(self._around.dead_owners(group.group_id))

    # ── claiming ──
    async def _claim(self, action: actions.Claim) -> None:
        works: list[Work] = []
        claim: Claim | None = None
        error: GeodeError | None = None
        try:
            claim = self._claim_work(action)
            works = self._settle_works(action.settlements)
            await self._around.write([*works, claim])
        except Exception as failed:  # noqa: BLE001 - all members get it, and all who wait for the settlements
            error = _as_geode_error(failed)
        self._written(action.number, action.settlements, works, error)
        if error is None and claim is not None:
            self._take_in(claim)
        elif error is not None:
            self.scheduler.claim_failed(error)
        self.act()

    def _claim_work(self, action: actions.Claim) -> Claim:
        dead = self._around.dead_owners(self.group.group_id) if action.looks_at_owners else ()
        now = clocks()
        return Claim(
            group_id=self.group.group_id,
            name=self.group.name,
            pattern=self.group.pattern,
            lease_us=self._lease_us(),
            own_leases=is_pattern(self.group.pattern),
            request=ClaimRequest(
                owner=self._around.process,
                wanted=action.wanted,
                now_us=now.wall_us,
                boot_us=now.boot_us,
                dead=dead,
                partition=self.partition,
                above=action.above,
                topic_ids=action.topic_ids,
                turn=action.turn,
                through=self._through,
                alone=action.alone,
            ),
        )

    def _take_in(self, claim: Claim) -> None:
        assert claim.group is not None
        if claim.group.revision != self.group.revision:
            self._group_changed(claim.group)
        runs = []
        for one in claim.claimed:
            topic = self._around.topics.by_id(one.topic_id)
            if topic is not None:
                unmet = self._unmet(one, topic)
                runs.append((HeldClaim(one, self._rules(topic)), self._found(one, unmet), unmet))
        self.scheduler.claimed(runs, claim.outcome, clocks())

    def _rules(self, topic: Topic) -> Rules:
        group = self.group
        return rules_of(topic, group.name, None if group.private_to is not None else group.pattern)

    def _unmet(self, one: Claimed, topic: Topic) -> Sequence[tuple[int, int]]:
        """Runs of a large claim that need not be read: statistics say that the condition wants nothing there.

        Not where expired messages become dead letters, since only reading tells which have expired.
        """
        if self.core.condition is None or len(one.pending) < ASK_FROM_MESSAGES or topic.options.dead_letter_expired:
            return ()
        if self._asked % ASKS_WITH_ONE_VIEW == 0:
            self._skips = self._around.skips(self.core.condition)
        self._asked += 1
        window = (one.first, one.first + len(one.pending))
        return () if self._skips is None else self._skips.runs(one.topic_id, one.partition, window)

    def _found(self, one: Claimed, unmet: Sequence[tuple[int, int]]) -> list[Found]:
        """What the log holds of a claim but for the runs; the next reader gets the error of a damaged batch."""
        found: list[Found] = []
        end = one.first + len(one.pending)
        for header in self._around.log.reaching_into(one.topic_id, one.partition, one.first, end):
            stop = header.base_offset + header.count
            start, last = max(one.first, header.base_offset), min(end, stop)
            if any(first <= start and last <= behind for first, behind in unmet):
                continue
            if not any(one.pending[start - one.first : last - one.first]):
                continue
            try:
                chunk = self._around.follower.shared(header.batch_id)
            except CorruptData as damage:
                self._damage = damage
                found.append((header.base_offset, stop, None))
                continue
            if chunk is not None:
                found.append((header.base_offset, stop, chunk))
        return found

    def _group_changed(self, group: Group) -> None:
        """The group was moved, paused, altered or resumed: what it held in places that were moved is not ours any more."""
        before, self.group = self.group, group
        held = ", ".join(str(claim_id) for claim_id in self.core.claims)
        rows = self._around.log.rows(f"SELECT claim_id FROM claims WHERE claim_id IN ({held}) AND owner IS NOT NULL")
        self.scheduler.leases_lost(set(self.core.claims) - {row[0] for row in rows}, clocks())
        condition = self.core.condition if group.condition == before.condition else self._compiled(group)
        self.core.alter(condition, group.order_by)
        self._skips, self._asked = None, 0
        self.scheduler.altered(waits_for_order=group.next_order is not None, now=clocks())

    def _compiled(self, group: Group) -> ConditionLike | None:
        """The condition of the group as it is now. One that does not fit the topic's columns ends all members."""
        try:
            return self._around.compiled(group)
        except GeodeError as error:
            self.scheduler.fail(error)
            return self.core.condition

    def _lease_us(self) -> int:
        topic = None if is_pattern(self.group.pattern) else self._around.topics.get(self.group.pattern)
        return LEASE_DEFAULT_US if topic is None else max(LEASE_SHORTEST_US, topic.options.ack_timeout_us)

    async def _begin(self, claim_id: int) -> None:
        begin = Begin(claim_id, self._around.process)
        await self._around.write([begin])
        self.scheduler.begun(claim_id, began=begin.began, now=clocks())
        self.act()

    # ── settling ──
    async def _write(self, number: int, settlements: Sequence[Settlement]) -> None:
        works: list[Work] = []
        error: GeodeError | None = None
        try:
            works = self._settle_works(settlements)
            await self._around.write(works)
        except Exception as failed:  # noqa: BLE001 - all who wait for the settlement get it
            error = _as_geode_error(failed)
        self._written(number, settlements, works, error)
        self.act()

    def _settle_works(self, settlements: Sequence[Settlement]) -> list[Work]:
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

    def _written(
        self, number: int, settlements: Sequence[Settlement], works: Sequence[Any], error: GeodeError | None
    ) -> None:
        lost = [claim_id for work in works for claim_id in work.lost]
        if error is None:
            for one in settlements:
                if one.claim_id not in lost:
                    self._around.reports.settled(one.topic_id, one.acknowledged, one.failed)
        self.scheduler.written(number, settlements, lost, clocks(), error)

    def joined(self, transaction: object) -> "JoinedAcknowledgements":
        """What a transaction acknowledges of this group, all together."""
        found = self._joined.get(id(transaction))
        if found is None:
            found = self._joined[id(transaction)] = JoinedAcknowledgements(self, id(transaction))
        return found

    def transaction_ended(self, joined: "JoinedAcknowledgements", *, stored: bool) -> None:
        """A transaction that acknowledged messages of this group is over."""
        self._joined.pop(joined.key, None)
        if stored:
            for one, _ in joined.held:
                self._around.reports.settled(one.claim.topic_id, 1, 0)
        self.scheduler.transaction_ended(joined.held, joined.lost, stored=stored, now=clocks())
        self.act()

    # ── leases ──
    async def renew(self) -> None:
        """Move the deadlines of all that is held; what has passed to another process is found to be lost."""
        renew = Renew(self.core.deadlines(boot_us()))
        await self._around.write([renew])
        self.scheduler.renewed(dict(renew.deadlines), renew.lost, clocks())
        self.act()

    async def _renew_in_time(self) -> None:
        with contextlib.suppress(GeodeError):  # what cannot be renewed is lost, and its settlement says so
            await self.renew()

    # ── the end ──
    async def leave(self, member: Member) -> None:
        """A member goes; when it was the last one, everything that is held is given back."""
        self._waiting.pop(member.member_id, None)
        self.scheduler.left(member, clocks())
        self.act()
        while not self.core.members and self._tasks:
            await asyncio.wait(self._tasks)
        if self.core.members:  # others, or one that joined while we waited
            return
        self.scheduler.let_go(clocks())
        self.act()
        while self._tasks:
            await asyncio.wait(self._tasks)


def _as_geode_error(error: BaseException) -> GeodeError:
    """An error in the form in which members get it."""
    if isinstance(error, GeodeError):
        return error
    told = StoreError(f"the delivery of a group was given up because of an internal error: {error!r}")
    told.__cause__ = error
    return told
