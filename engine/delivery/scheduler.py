"""When a group acts in one process: events and the time go in, actions come out.

No I/O and no clock. The backend's driver performs the actions and feeds their outcomes back as events; it holds no rule.
Chunks and claims pass through here, never single messages. `claiming.py` decides what a claim takes, `group.py` which
member gets what.

| event | what may follow |
| --- | --- |
| `joined`, `waits`, `stopped_waiting`, `room_made` | `Wake`, or a look for more |
| `topic_moved` (topic, lane) | members give back what they have not begun of lower lanes; a look |
| `altered` (another condition or order) | what is not begun is given back before another order; a look at everything |
| `group_moved` (retries due, claims given back, seek, resume) | a look at everything |
| `take` | a slice, or a look |
| `probed` | `Claim`, when there is something to claim; else the time of the next retry is noted |
| `claimed`, `claim_failed` | `Wake`; members that have nothing take half of what another has not begun |
| `settle_wanted` | `Write` |
| `written` | `Settled` for all who waited; leases that were lost; what waited behind a key goes on |
| `renewed` | leases that were lost |
| `begun` | a message that must be alone is handed over |
| `tick` | `Renew`, `Write`, `Probe` for claims of lost owners, surplus given back |
| `left`, `let_go` | `Write` of everything that is held, when the last member has left |

At most one claim and one flush are under way at a time. While a claim is under way its settlements are too: whoever waits
for a flush waits for both.
"""

from collections.abc import Callable, Iterable, Sequence

from geode_client.delivery.actions import Action, Begin, Claim, Now, Probe, Renew, Settled, Wake, Write
from geode_client.delivery.claiming import ClaimOutcome
from geode_client.delivery.claims import HeldClaim
from geode_client.delivery.group import GroupCore
from geode_client.delivery.lanes import KEY, LANES_END, PRIORITY
from geode_client.delivery.members import Found, GroupSlice, Member
from geode_client.delivery.quarantine import Quarantine
from geode_client.delivery.settlement import Settlement
from geode_client.delivery.writes import Writes
from geode_client.errors import GeodeError

FLUSH_US = 20_000
LEASE_RENEWALS = 3
RENEWAL_US_MAX = 10_000_000
RETRY_LOOK_US_MAX = 3_600_000_000
TOPICS_AT_ONCE_MAX = 500


class Scheduler:
    """The decisions of one group in one process; `core` has the messages.

    `ends`: a private group that ends with what was there when it began. `turn` decides where the first claim begins.
    """

    def __init__(self, core: GroupCore, quarantine: Quarantine, *, ends: bool = False, turn: int = 0) -> None:
        self.core = core
        self.failure: GeodeError | None = None
        self._quarantine = quarantine
        self._ends = ends
        self._turn = turn
        self._actions: list[Action] = []
        self._waiting: dict[str, None] = {}
        # What has come that no claim has looked for: topics (None: any), anything else, and in which lane at the highest.
        self._news: set[int] | None = None
        self._look = True
        self._highest = LANES_END
        self._sought = -1  # the highest lane in which the claim under way may find something
        self._probing = False
        self._claiming: Claim | None = None
        self._writes = Writes()
        self._flush_at: int | None = None
        self._retry_at: int | None = None
        self._renew_at: int | None = None
        self._suspects: set[int] = set()
        self._is_beginning = False
        self._alone: int | None = None
        self._now = Now(0, 0)
        self._is_closed = False
        self._waits_for_order = False
        quarantine.enter(self)

    def actions(self) -> Sequence[Action]:
        """What is to be done now; each action is given once."""
        made, self._actions = self._actions, []
        return made

    def next_time_us(self) -> int | None:
        """When, on the clock of leases, `tick` is wanted next."""
        times = [at for at in (self._flush_at, self._retry_at, self._renew_at) if at is not None]
        return min(times, default=None)

    # ── members ──
    def joined(self, member: Member, now: Now) -> None:
        self.core.join(member)
        self.group_moved(now)

    def waits(self, member_id: str, now: Now) -> None:
        """A member has nothing to do until it is woken."""
        self._waiting[member_id] = None
        self._decide(now)

    def stopped_waiting(self, member_id: str, now: Now) -> None:
        """It was cancelled, or closed; it may have been woken, and will not take."""
        self._waiting.pop(member_id, None)
        self._decide(now)

    def room_made(self, member_id: str, now: Now) -> None:
        """A message was settled: its member, or another one, may take more."""
        if member_id in self._waiting:
            self._wake(member_id)
        self._decide(now)

    def left(self, member: Member, now: Now) -> None:
        """A member has gone: the others may take what it had."""
        self._waiting.pop(member.member_id, None)
        self.core.leave(member)
        self._expect_flush(now)
        self._decide(now)

    def let_go(self, now: Now) -> None:
        """Give back everything: the last member has left, and nothing is under way any more."""
        self._is_closed = True
        self._flush_at = self._retry_at = self._renew_at = None
        self._quarantine.leave(self)
        if self.failure is None:
            self._write(self.core.let_go())
        self._now = now

    # ── news ──
    def topic_moved(self, topic_id: int, lane: int, now: Now) -> None:
        """A topic of the group has new messages, of a priority."""
        if self._news is not None:
            self._news.add(topic_id)
        self._highest = max(self._highest, lane)
        if self.core.recall_below(lane):
            self._expect_flush(now)
        self._decide(now)

    def group_moved(self, now: Now) -> None:
        """Retries may be due, claims without an owner be there, the group moved or resumed."""
        self._look_at_everything()
        self._decide(now)

    def altered(self, *, waits_for_order: bool, now: Now) -> None:
        """The group was altered. `waits_for_order`: it takes another order once nobody holds a message of it."""
        self._waits_for_order = waits_for_order
        if waits_for_order:
            self._write(self.core.not_begun())
        self.group_moved(now)

    def fail(self, error: GeodeError) -> None:
        """End all members with an error. What they still hold no longer keeps the other groups waiting."""
        self.failure = self.failure or error
        self._quarantine.leave(self)
        for member_id in list(self._waiting):
            self._wake(member_id)

    @property
    def takes_members(self) -> bool:
        """Whether a member may join: not once all is given back, or after an error that ended the members."""
        return not self._is_closed and self.failure is None

    def _look_at_everything(self) -> None:
        self._look = True
        self._news = None
        self._highest = LANES_END

    # ── taking ──
    def take(self, member: Member, now: Now) -> GroupSlice | None:
        """The next slice for a member; None when there is none for it now."""
        made = None
        if not self._is_outranked() and self._may_hand_over():
            made = self.core.take(member, now.wall_us)
            if made is None and not self._has_news() and self.core.steal(member):
                made = self.core.take(member, now.wall_us)
        if made is not None or self.core.has_unwritten():
            self._expect_flush(now)  # also for messages that expired before anybody took them
        if made is None and member.holds < member.prefetch:
            self._claim_more(now)
        self._decide(now)
        return made

    def _has_news(self) -> bool:
        return self._look or self._news is None or bool(self._news)

    def _is_outranked(self) -> bool:
        """Whether something that nobody has claimed may go before all that is ready (priority groups)."""
        if self.core.order_by != PRIORITY or not self._quarantine.is_open:
            return False  # beside a message that is alone nothing is claimed
        highest = self.core.highest_ready()
        return highest is not None and max(self._sought, self._highest if self._has_news() else -1) > highest

    def _may_hand_over(self) -> bool:
        """Whether members may begin messages: not while another message waits to be alone."""
        return self._quarantine.is_open or (self._quarantine.wanted_by is self and self._quarantine.is_begun)

    @property
    def may_have_ended(self) -> bool:
        """Whether a group that ends with what was there may have come to its end: nothing is held or being looked for."""
        return self._ends and not self._has_news() and self._claiming is None and not self.core.claims

    def _decide(self, now: Now) -> None:
        """While there is something to take or to look for, no member with room for it waits.

        Called after every event, so that it does not matter what becomes of a member that was woken: it takes, waits again,
        or goes away, and each of these is an event.
        """
        self._now = now
        if self._is_closed or self.failure is not None:
            return
        if not self._quarantine.is_open:
            self._end_if_over()
        if not self._quarantine.is_open:
            self._drain()
        if not self._waiting:
            return
        if self.core.has_ready() and self._may_hand_over() and not self._is_outranked():
            self._wake_first()
        elif self._has_news():
            if any(self._has_room(member_id) for member_id in self._waiting):
                self._claim_more(now)
        elif self._claiming is None and self._may_hand_over():
            self._share()

    def _has_room(self, member_id: str) -> bool:
        member = self.core.members.get(member_id)
        return member is not None and member.holds < member.prefetch

    def _wake_first(self) -> bool:
        for member_id in self._waiting:
            if self._has_room(member_id):
                self._wake(member_id)
                return True
        return False

    def _share(self) -> None:
        """Give a member that has nothing half of what another has not begun."""
        for member_id in self._waiting:
            member = self.core.members.get(member_id)
            if member is not None and member.holds < member.prefetch:
                if self.core.steal(member):
                    self._wake(member_id)
                return

    def _wake(self, member_id: str) -> None:
        self._waiting.pop(member_id, None)
        self._actions.append(Wake(member_id))

    # ── claiming ──
    def _claim_more(self, now: Now) -> None:
        """Look whether there is something to claim, unless that is under way."""
        if self._probing or self._claiming is not None or self.failure is not None or self._is_closed:
            return
        if not self._has_news() or not self._quarantine.is_open:
            return
        self._now = now
        self._probing = True
        self._actions.append(Probe("work", self._look))

    def probed(self, probe: Probe, *, found: bool, next_retry_us: int | None, now: Now) -> None:
        """What a look has found; `next_retry_us`: when the next retry is due, on the wall clock."""
        if self._is_closed:
            return
        match probe.what:
            case "lost":
                if found:
                    self._look_at_everything()
            case "retry":
                self._note_retry(next_retry_us, now)
            case _:
                self._probing = False
                if found or self.core.has_unwritten():
                    self._start_claim(now)
                else:
                    self._found_nothing(next_retry_us, now)
        self._decide(now)

    def _found_nothing(self, next_retry_us: int | None, now: Now) -> None:
        self._news, self._look, self._highest = set(), False, -1
        self._note_retry(next_retry_us, now)
        self._wake_if_ended()

    def _note_retry(self, next_retry_us: int | None, now: Now) -> None:
        self._retry_at = None
        if next_retry_us is not None:
            wait_us = min(max(0, next_retry_us - now.wall_us), RETRY_LOOK_US_MAX)
            self._retry_at = now.boot_us + wait_us

    def _wake_if_ended(self) -> None:
        """Members of a group that ends look whether this was the end."""
        if self._ends:
            for member_id in list(self._waiting):
                self._wake(member_id)

    def _start_claim(self, now: Now) -> None:
        above = self.core.only_above()
        wanted = self.core.wanted(now.boot_us)
        if wanted <= 0 or not self._quarantine.is_open:
            return
        topics, self._news = self._news, set()
        looks, self._look = self._look, False
        self._sought, self._highest = self._highest, -1
        self._turn += 1
        self._claiming = Claim(
            number=self._writes.begin(),
            wanted=wanted,
            above=above,
            topic_ids=None if topics is None or len(topics) > TOPICS_AT_ONCE_MAX else sorted(topics),
            looks_at_owners=looks,
            alone=self._quarantine.may_request(now.boot_us),
            turn=self._turn,
            settlements=self.core.settlements(),
        )
        self._actions.append(self._claiming)

    def claimed(
        self,
        claimed: Iterable[tuple[HeldClaim, Iterable[Found], Sequence[tuple[int, int]]]],
        outcome: ClaimOutcome,
        now: Now,
    ) -> None:
        """Claims have come, each with what the log holds of it and the runs that need not be read."""
        claim, self._claiming = self._claiming, None
        assert claim is not None
        self._sought = -1
        if outcome.taken >= claim.wanted or outcome.lane_left is not None or claim.above is not None:
            self._restore(claim)
            left = outcome.lane_left if outcome.lane_left is not None else claim.above
            self._highest = max(self._highest, -1 if left is None else left)
        else:
            self._actions.append(Probe("retry"))
        for held, found, unmet in claimed:
            if held.losses:
                self._suspects.add(held.claim_id)
            self.core.offer(self.core.received(held, found, now.wall_us, unmet))
        self._expect_renewal(now)
        self._ask_to_be_alone(now)
        if self.core.has_unwritten():
            self._expect_flush(now)
        if not outcome.taken:
            self._wake_if_ended()
        self._decide(now)

    def claim_failed(self, error: GeodeError) -> None:
        claim, self._claiming = self._claiming, None
        self._sought = -1
        if claim is not None:
            self._restore(claim)
            self._highest = LANES_END
        self.fail(error)

    def _restore(self, claim: Claim) -> None:
        """What the claim looked for may be there still."""
        self._news = None if claim.topic_ids is None or self._news is None else self._news | set(claim.topic_ids)
        self._look = self._look or claim.looks_at_owners

    # ── a message that must be alone ──
    def _ask_to_be_alone(self, now: Now) -> None:
        claim_id = self.core.set_apart
        if claim_id is None or self._quarantine.wanted_by is self:
            return
        if not self._quarantine.request(self, claim_id, now.boot_us):
            self._write(self.core.give_up(claim_id))

    def holds_only(self, claim_id: int | None) -> bool:
        return self._claiming is None and not self._writes.under_way and self.core.holds_only(claim_id)

    def quarantine_changed(self) -> None:
        if self._quarantine.is_open:
            self._look_at_everything()
        self._decide(self._now)

    def is_quiet(self) -> None:
        claim_id = self.core.set_apart
        if claim_id is not None and not self._is_beginning:
            self._is_beginning = True
            self._actions.append(Begin(claim_id))

    def begun(self, claim_id: int, *, began: bool, now: Now) -> None:
        """Whether the backend has noted that the message is alone; not when another client of the process holds something."""
        self._is_beginning = False
        if began and self._quarantine.wanted_by is self:
            self._quarantine.begun()
            self._alone = claim_id
            self.core.begin(claim_id)
        self._decide(now)

    def _drain(self) -> None:
        """While a message waits to be alone nothing is kept that no member has begun."""
        if not self._quarantine.is_begun:
            self._write(self.core.not_begun())

    def _end_if_over(self) -> None:
        """Let the others go on once the message that we wanted to be alone is settled or lost, however that happened."""
        if self._quarantine.wanted_by is not self:
            return
        if self._alone is not None and self.core.holds_only(None):
            self._alone = None
            self._quarantine.end(settled=True)
        elif self._alone is None and self.core.set_apart is None:
            self._quarantine.end(settled=False)

    # ── settling ──
    def settle_wanted(self, now: Now) -> int:
        """A ticket; `Settled` names it once every outcome that is known now is written."""
        ticket = self._writes.ask()
        self._start_flush()
        self._now = now
        return ticket

    def _expect_flush(self, now: Now) -> None:
        if self._flush_at is None and not self._is_closed:
            self._flush_at = now.boot_us + FLUSH_US

    def _start_flush(self) -> None:
        if self._writes.may_flush:
            self._write(self.core.settlements())
            self._writes.flush()
            self._finish_flush()

    def _finish_flush(self) -> None:
        done = self._writes.finished()
        if done is not None and done.tickets:
            self._actions.append(Settled(done.tickets, done.error))

    def _write(self, settlements: Sequence[Settlement]) -> None:
        if settlements:
            self._actions.append(Write(self._writes.begin(), settlements))

    def written(
        self,
        number: int,
        settlements: Sequence[Settlement],
        lost: Sequence[int],
        now: Now,
        error: GeodeError | None = None,
    ) -> None:
        """Settlements are with the backend, or failed; `lost` names the claims that have passed to others."""
        self._writes.end(number, error)
        if error is None:
            self._passed_on(lost)
            self.core.confirmed(settlements)
            for one in settlements:
                self._went_on(one)
        self._finish_flush()
        if self._writes.is_asked:
            self._start_flush()
        if error is not None:
            self.fail(error)
            return
        if self.core.has_unwritten():
            self._expect_flush(now)
        self._now = now
        self._wake_if_ended()
        if self._waits_for_order:
            self._look_at_everything()
        self._decide(now)
        self._quarantine.look()

    def _went_on(self, one: Settlement) -> None:
        """What a settlement makes way for."""
        has_ended = one.claim_id not in self.core.claims
        if one.failures or one.parked or one.let_go or one.tail_from is not None:
            self._look, self._highest = True, LANES_END
        if has_ended and self.core.order_by == KEY:
            self._look = True
            if self._news is not None:
                self._news.add(one.topic_id)
        if has_ended and one.claim_id in self._suspects:
            self._suspects.discard(one.claim_id)
            self._look_at_everything()  # the next piece of what was lost, and what had to wait for it

    def transaction_ended(
        self, held: Sequence[tuple[GroupSlice, int]], lost: Sequence[int], *, stored: bool, now: Now
    ) -> None:
        """A transaction that acknowledged messages of this group is over."""
        self._passed_on(lost)
        self.core.transaction_ended(held, stored=stored)
        if stored and self.core.order_by == KEY:
            self._look = True
            for one, _ in held:
                if self._news is not None:
                    self._news.add(one.claim.topic_id)
        if stored and self._suspects:
            self._look_at_everything()
        self._expect_flush(now)
        self._decide(now)
        self._quarantine.look()

    # ── leases ──
    def leases_lost(self, claim_ids: Iterable[int], now: Now) -> None:
        self._passed_on(claim_ids)
        self._decide(now)
        self._quarantine.look()

    def renewed(self, deadlines: dict[int, int], lost: Sequence[int], now: Now) -> None:
        """The backend has these deadlines, but for claims that have passed to others."""
        self.core.renewed(deadlines)
        self._passed_on(lost)
        self._expect_renewal(now)
        self._decide(now)
        self._quarantine.look()

    def _passed_on(self, claim_ids: Iterable[int]) -> None:
        if self.core.lost(claim_ids):
            self._look_at_everything()

    def _expect_renewal(self, now: Now) -> None:
        lease_us = self.core.shortest_lease_us()
        if lease_us is None:
            self._renew_at = None
            return
        at = now.boot_us + min(lease_us // LEASE_RENEWALS, RENEWAL_US_MAX)
        self._renew_at = at if self._renew_at is None else min(self._renew_at, at)

    # ── time ──
    def tick(self, now: Now) -> None:
        """Some time has passed: do what has become due."""
        if self._is_closed:
            return
        if self._flush_at is not None and now.boot_us >= self._flush_at:
            self._flush_at = None
            if self.core.has_unwritten():
                self._start_flush()
            if any(True for _ in self.core.in_hand()):
                self._expect_flush(now)
        if self._renew_at is not None and now.boot_us >= self._renew_at:
            self._renew_at = None
            self._actions.append(Renew())
        if self._retry_at is not None and now.boot_us >= self._retry_at:
            self._retry_at = None
            self._look, self._highest = True, LANES_END
        self._decide(now)

    def second_passed(self, now: Now) -> None:
        """Give back what is held for too long without being begun; look for claims of lost owners."""
        if self._is_closed or self.failure is not None:
            return
        self._write(self.core.not_begun() if self._waits_for_order else self.core.surplus(now.boot_us))
        if self._waiting:
            self._actions.append(Probe("lost"))
        if self._quarantine.wanted_by is self:
            self._check_quarantine(now)
        self._decide(now)

    def _check_quarantine(self, now: Now) -> None:
        if not self._quarantine.is_overdue(now.boot_us):
            self._quarantine.look()
            return
        claim_id = self.core.set_apart
        if claim_id is not None:
            self._write(self.core.give_up(claim_id))
        self._quarantine.give_up(now.boot_us)

    def is_caught_up(self, probe: Callable[[], bool]) -> bool:
        """Whether nothing is left that could be handed to a member now; `probe` looks for what could be claimed."""
        if self.failure is not None:
            return True
        if self._claiming is not None or self.core.ready_count or any(one.rest for _, one in self.core.in_hand()):
            return False
        return not probe()
