"""One process of the `World`: the shipped schedulers of its groups, and a rim that performs their actions when the test says.

An action waits in a queue until it is performed; what came of it waits until it is answered. A process that dies loses both,
but for what the store has committed. Every commit is held against the group's ledger by `Judge`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from delivery.judge import Judge
from delivery.ledger import CLAIMED, Ledger, Place
from delivery.reader import Reader
from delivery.world import NotThirds, World

from geode_client.catalog import Topic, dead_letter_topic_of
from geode_client.delivery import actions
from geode_client.delivery.claiming import Claimed, ClaimRequest
from geode_client.delivery.claims import HeldClaim, rules_of
from geode_client.delivery.group import GroupCore
from geode_client.delivery.lanes import KEY
from geode_client.delivery.members import Found, GroupSlice, Member
from geode_client.delivery.quarantine import Quarantine
from geode_client.delivery.scheduler import Scheduler
from geode_client.delivery.settlement import Settlement
from geode_client.errors import GeodeError, GroupNotFound, LeaseLost
from geode_client.store import outlook
from geode_client.store.claiming import Begin, Claim
from geode_client.store.settling import Renew, Settle

Answer = Callable[[], None]


@dataclass(slots=True)
class Process:
    """A process with one client. `news` are batches (topic id, lane) and movements (None) that it has yet to hear of."""

    world: World
    name: str
    quarantine: Quarantine = field(default_factory=Quarantine)
    rims: list["Rim"] = field(default_factory=list)
    news: deque[tuple[int, int] | None] = field(default_factory=deque)
    is_alive: bool = True

    @classmethod
    def start(cls, world: World) -> "Process":
        world.started += 1
        made = cls(world, f"P{world.started}")
        world.processes.append(made)
        return made

    @property
    def owner(self) -> str:
        return f"{self.name}-1"

    @property
    def readers(self) -> list[Reader]:
        return [reader for rim in self.rims for reader in rim.readers]

    def tell(self, line: str) -> None:
        self.world.tell(f"{self.name}: {line}")

    def rim(self, group: Ledger) -> "Rim":
        """The group in this process; opened when it is not yet, or was left by its last member."""
        for rim in self.rims:
            if rim.group is group and not rim.is_over:
                return rim
        made = Rim(self, group)
        self.rims.append(made)
        return made

    def hear(self) -> None:
        """The next piece of news arrives."""
        if not self.news:
            return
        news = self.news.popleft()
        for rim in self.rims:
            rim.hear(news)

    def act_all(self) -> None:
        """As the client does: a message that must be alone concerns the schedulers of all groups."""
        while self.quarantine.touched:
            self.quarantine.touched = False
            for rim in list(self.rims):
                rim.collect()

    def promptly(self) -> bool:
        """Everything that is to be done is done, and answered; whether that was anything."""
        moved = False
        while self.is_alive and (self.news or any(rim.queue or rim.answers or rim.may_let_go for rim in self.rims)):
            moved = True
            while self.news:
                self.hear()
            for rim in list(self.rims):
                rim.promptly()
        return moved

    def die(self) -> None:
        self.is_alive = False
        for rim in self.rims:
            for reader in rim.readers:
                rim.group.dropped(reader.name)

    def check(self) -> None:
        for rim in self.rims:
            rim.check()


@dataclass(slots=True)
class Rim:
    """One group in one process. `tickets`: what must be in the store once they are served."""

    process: Process
    group: Ledger
    readers: list[Reader] = field(default_factory=list)
    queue: deque[actions.Action] = field(default_factory=deque)
    answers: deque[Answer] = field(default_factory=deque)
    tickets: dict[int, list[tuple[int, Place]]] = field(default_factory=dict)
    revision: int = 1
    joined: int = 0
    is_over: bool = False
    core: GroupCore = field(init=False)
    scheduler: Scheduler = field(init=False)
    judge: Judge = field(init=False)

    def __post_init__(self) -> None:
        self.core = GroupCore(self.group.order_by, condition=NotThirds() if self.group.has_condition else None)
        self.scheduler = Scheduler(self.core, self.process.quarantine)
        self.judge = Judge(self.world, self.process.owner, self.group)

    @property
    def world(self) -> World:
        return self.process.world

    def tell(self, line: str) -> None:
        self.process.tell(f"{self.group.name}: {line}")

    def topic(self, topic_id: int) -> Topic:
        found = self.world.catalog.by_id(topic_id)
        assert found is not None
        return found

    # ── members ──
    def join(self, *, prefetch: int, auto_ack: bool) -> Reader:
        self.joined += 1
        name = f"{self.process.name}.{self.group.name}.{'auto' if auto_ack else 'manual'}{self.joined}"
        reader = Reader(self, name, Member(name, prefetch=prefetch, auto_ack=auto_ack))
        self.readers.append(reader)
        self.tell(f"{name} joins, prefetch {prefetch}")
        self.scheduler.joined(reader.member, self.world.now)
        self.collect()
        return reader

    def leave(self, reader: Reader) -> None:
        """A member closes."""
        self.readers.remove(reader)
        self.tell(f"{reader.name} leaves")
        reader.drop()
        self.scheduler.left(reader.member, self.world.now)
        self.collect()

    @property
    def may_let_go(self) -> bool:
        """Whether the last member has left and nothing is under way."""
        return not (self.readers or self.is_over or self.queue or self.answers)

    def let_go(self) -> None:
        self.is_over = True
        self.tell("lets go of everything")
        self.scheduler.let_go(self.world.now)
        self.collect()

    # ── events ──
    def hear(self, news: tuple[int, int] | None) -> None:
        if news is None:
            self.scheduler.group_moved(self.world.now)
        else:
            self.scheduler.topic_moved(*news, self.world.now)
        self.collect()

    def tick(self) -> None:
        at_us = self.scheduler.next_time_us()
        if at_us is not None and at_us <= self.world.boot_us:
            self.scheduler.tick(self.world.now)
            self.collect()

    def second_passed(self) -> None:
        self.scheduler.second_passed(self.world.now)
        self.collect()

    # ── actions ──
    def collect(self) -> None:
        """Queue what the scheduler wants done. To wake, to answer and to look take no time."""
        while wanted := self.scheduler.actions():
            for action in wanted:
                match action:
                    case actions.Wake(member_id):
                        for reader in self.readers:
                            if reader.name == member_id:
                                reader.is_waiting = False
                    case actions.Settled(tickets, error):
                        self._served(tickets, error)
                    case actions.Probe():
                        self._probe(action)
                    case _:
                        self.queue.append(action)
        self.process.act_all()

    def promptly(self) -> None:
        while self.process.is_alive and (self.queue or self.answers):
            self.perform()
            self.answer()
        if self.may_let_go:
            self.let_go()

    def perform(self) -> None:
        """The next action reaches the store."""
        if not self.queue:
            return
        self.world.acting = self.process.name
        self._perform()
        self.world.acting = None

    def _perform(self) -> None:
        match self.queue.popleft():
            case actions.Claim() as action:
                self._claim(action)
            case actions.Write(number, settlements):
                self._write(number, settlements)
            case actions.Renew():
                self.renew()
            case actions.Begin(claim_id):
                self._begin(claim_id)
            case other:
                raise AssertionError(other)

    def answer(self, which: int = 0) -> None:
        """What came of an action is heard of."""
        if self.answers:
            self.answers.rotate(-(which % len(self.answers)))
            found = self.answers.popleft()
            found()
            self.collect()

    def _served(self, tickets: Iterable[int], error: GeodeError | None) -> None:
        places = self.world.places(self.group) if error is None and self.group in self.world.groups else {}
        for ticket in tickets:
            for claim_id, place in self.tickets.pop(ticket):
                where = places.get(place)
                is_there = where is not None and where.state == CLAIMED and where.claim_id == claim_id
                assert not is_there, f"{self.world.messages[place]} is said to be settled, and is {where}"

    def _probe(self, probe: actions.Probe) -> None:
        log, group_id, world = self.world.log, self.group.group_id, self.world
        is_parked = self.group.order_by == KEY and bool(log.rows(outlook._UNPARKED, (group_id, None)))
        is_orphaned = bool(log.rows(outlook._ORPHANS, (group_id, None, world.boot_us)))
        dead = bool(self._dead_owners())
        sql = outlook._NEXT_RETRY_IN_ORDER if self.group.order_by == KEY else outlook._NEXT_RETRY
        next_retry_us = log.rows(sql, (group_id, None))[0][0]
        found = False
        match probe.what:
            case "lost":
                found = is_orphaned or is_parked or dead
            case "work":
                known = log.rows("SELECT revision FROM groups WHERE group_id = ?", (group_id,))
                found = (
                    known != [(self.revision,)]
                    or outlook.is_ahead(log, self.group)  # type: ignore[arg-type]
                    or bool(log.rows(outlook._DUE, (group_id, None, world.wall_us)))
                    or is_orphaned
                    or is_parked
                    or (probe.looks_at_owners and dead)
                )
        self.scheduler.probed(probe, found=found, next_retry_us=None if found else next_retry_us, now=world.now)

    def _dead_owners(self) -> list[str]:
        sql = "SELECT DISTINCT owner FROM claims WHERE group_id = ? AND owner IS NOT NULL"
        return [row[0] for row in self.world.log.rows(sql, (self.group.group_id,)) if row[0] in self.world.dead]

    # ── claiming ──
    def _claim(self, action: actions.Claim) -> None:
        world, group = self.world, self.group
        claim = Claim(
            group_id=group.group_id,
            name=group.name,
            pattern=group.pattern,
            lease_us=max(100_000, world.options.ack_timeout_us),
            request=ClaimRequest(
                owner=self.process.owner,
                wanted=action.wanted,
                now_us=world.wall_us,
                boot_us=world.boot_us,
                dead=self._dead_owners() if action.looks_at_owners else (),
                above=action.above,
                topic_ids=action.topic_ids,
                turn=action.turn,
                alone=action.alone,
            ),
        )
        works = self._settle_works(action.settlements)
        before = self.judge.look()
        try:
            if works:
                world.run(*works)
                self.judge.settled(action.settlements, works[0].lost, before)
                before = self.judge.look()
            world.run(claim)
        except GroupNotFound as error:
            assert group not in world.groups
            self.answers.append(lambda error=error: self._claim_failed(action, works, error))  # type: ignore[misc]
            return
        self.judge.claimed(claim, before)
        shown = "; ".join(f"claim {one.claim_id}: {_range(one)}" for one in claim.claimed)
        self.tell(f"claims {action.wanted}: {shown or 'nothing'}")
        self.answers.append(lambda: self._claimed(action, works, claim))

    def _claim_failed(self, action: actions.Claim, works: list[Settle], error: GeodeError) -> None:
        self.scheduler.written(action.number, action.settlements, [], self.world.now, error)
        self.scheduler.claim_failed(error)

    def _claimed(self, action: actions.Claim, works: list[Settle], claim: Claim) -> None:
        lost = [claim_id for work in works for claim_id in work.lost]
        self.scheduler.written(action.number, action.settlements, lost, self.world.now)
        assert claim.group is not None
        if claim.group.revision != self.revision:
            self.revision = claim.group.revision
            held = ", ".join(str(claim_id) for claim_id in self.core.claims)
            sql = f"SELECT claim_id FROM claims WHERE claim_id IN ({held}) AND owner IS NOT NULL"
            ours = {row[0] for row in self.world.log.rows(sql)}
            self.scheduler.leases_lost(set(self.core.claims) - ours, self.world.now)
        runs = [
            (
                HeldClaim(one, rules_of(self.topic(one.topic_id), self.group.name, self.group.pattern)),
                self._found(one),
                (),
            )
            for one in claim.claimed
        ]
        self.scheduler.claimed(runs, claim.outcome, self.world.now)

    def _found(self, one: Claimed) -> list[Found]:
        end = one.first + len(one.pending)
        headers = self.world.log.reaching_into(one.topic_id, one.partition, one.first, end)
        return [(h.base_offset, h.base_offset + h.count, self.world.log.chunk(h.batch_id)) for h in headers]

    def _begin(self, claim_id: int) -> None:
        begin = Begin(claim_id, self.process.owner)
        self.world.run(begin)
        self.tell(f"begins claim {claim_id}: {begin.began}")

        def begun() -> None:
            self.scheduler.begun(claim_id, began=begin.began, now=self.world.now)

        self.answers.append(begun)

    # ── settling ──
    def _settle_works(self, settlements: Iterable[Settlement]) -> list[Settle]:
        settlements = list(settlements)
        if not settlements:
            return []
        numbers = {settlement.topic_id for settlement in settlements}
        targets = {n: dead_letter_topic_of(self.topic(n).name, self.topic(n).options) for n in numbers}
        group = self.group
        return [Settle(group.group_id, group.name, settlements, targets, ordered=group.order_by == KEY)]

    def _write(self, number: int, settlements: Iterable[Settlement]) -> None:
        settlements = list(settlements)
        works = self._settle_works(settlements)
        before = self.judge.look()
        self.world.run(*works)
        lost = works[0].lost
        self.judge.settled(settlements, lost, before)
        self.tell(f"writes {[one.claim_id for one in settlements]}, lost {lost}")
        self.answers.append(lambda: self.scheduler.written(number, settlements, lost, self.world.now))

    def settle(self, claim_id: int, place: Place) -> None:
        """As after an explicit word: everything said is to be written."""
        ticket = self.scheduler.settle_wanted(self.world.now)
        self.tickets[ticket] = [(claim_id, place)]
        self.collect()

    def renew(self) -> None:
        deadlines = self.core.deadlines(self.world.boot_us)
        work = Renew(deadlines)
        self.world.run(work)
        self.tell(f"renews {sorted(deadlines)}, lost {work.lost}")
        self.answers.append(lambda: self.scheduler.renewed(deadlines, work.lost, self.world.now))

    # ── transactions ──
    def end_transaction(self, held: list[tuple[GroupSlice, int]], *, commits: bool) -> None:
        lost: list[int] = []
        stored = commits
        if commits:
            claims = {one.claim.claim_id: one.claim for one, _ in held}
            offsets: dict[int, list[int]] = {}
            for one, index in held:
                offsets.setdefault(one.claim.claim_id, []).append(one.chunk.base_offset + index)
            settlements = [claim.reserved(offsets[claim_id]) for claim_id, claim in claims.items()]
            (work,) = self._settle_works(settlements)
            work.refusal = LeaseLost("messages of the transaction have passed on")
            before = self.judge.look()
            try:
                self.world.run(work)
            except LeaseLost:
                stored = False
            lost = work.lost
            if stored:
                self.judge.settled(settlements, lost, before)
        self.tell(f"a transaction ends: stored {stored}, lost {lost}")
        self.answers.append(lambda: self.scheduler.transaction_ended(held, lost, stored=stored, now=self.world.now))

    # ── the invariants of the core ──
    def check(self) -> None:
        for reader in self.readers:
            reader.check()
        if self.scheduler.failure is not None:
            assert self.group not in self.world.groups, f"{self.group.name} ended: {self.scheduler.failure}"


def _range(one: Claimed) -> str:
    offsets = [one.first + index for index, pending in enumerate(one.pending) if pending]
    return f"{one.topic_id}/{one.partition}@{offsets} lane {one.lane}, tried {one.attempts}, lost {one.losses}"
