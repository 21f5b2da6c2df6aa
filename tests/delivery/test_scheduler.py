"""The scheduler's table: each event, and the actions that follow from it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from geode_client.delivery.actions import Begin, Claim, Now, Probe, Renew, Settled, Wake, Write
from geode_client.delivery.claiming import Claimed, ClaimOutcome
from geode_client.delivery.claims import HeldClaim, Rules
from geode_client.delivery.group import GroupCore
from geode_client.delivery.lanes import LANES_END, PLAIN, PRIORITY
from geode_client.delivery.members import GroupSlice, Member
from geode_client.delivery.quarantine import DRAIN_US, Quarantine
from geode_client.delivery.scheduler import FLUSH_US, Scheduler
from geode_client.errors import StoreError
from geode_client.message import Attributes, Chunk

RULES = Rules("g", 3, 1_000, 10_000, 9_000_000, False, False, False)


def chunk(count: int, priority: int = 5) -> Chunk:
    return Chunk(
        topic="t",
        topic_id=1,
        partition=0,
        base_offset=0,
        count=count,
        lines=b"1\n" * count,
        batch_id=1,
        timestamp_us=0,
        priority=priority,
        attributes=Attributes(),
    )


@dataclass
class Stage:
    """A scheduler with one member, and the clock."""

    order_by: str = PLAIN
    quarantine: Quarantine = field(default_factory=Quarantine)
    at_us: int = 1_000_000

    def __post_init__(self) -> None:
        self.core = GroupCore(self.order_by)
        self.scheduler = Scheduler(self.core, self.quarantine)
        self.member = Member("m", prefetch=10, auto_ack=True)
        self.scheduler.joined(self.member, self.now)

    @property
    def now(self) -> Now:
        return Now(self.at_us, self.at_us)

    def kinds(self) -> list[type]:
        return [type(action) for action in self.scheduler.actions()]

    def waits(self) -> None:
        self.scheduler.waits("m", self.now)

    def claims(self) -> Claim:
        """A member waits, something is found, a claim goes out."""
        self.waits()
        (probe,) = self.scheduler.actions()
        assert isinstance(probe, Probe)
        self.scheduler.probed(probe, found=True, next_retry_us=None, now=self.now)
        (claim,) = self.scheduler.actions()
        assert isinstance(claim, Claim)
        return claim

    def has(self, count: int, *, losses: int = 0, lane: int = 0) -> HeldClaim:
        """A claim has come, with so many messages."""
        claim = self.claims()
        held = HeldClaim(Claimed(1, 1, 0, lane, 0, b"\x01" * count, 0, losses, False, None, None), RULES)
        self.scheduler.written(claim.number, claim.settlements, [], self.now)
        found = [(held, [(0, count, chunk(count))], ())]
        self.scheduler.claimed(found, ClaimOutcome(taken=count), self.now)
        return held

    def takes(self) -> GroupSlice:
        made = self.scheduler.take(self.member, self.now)
        assert made is not None
        return made


def test_a_member_that_waits_has_the_scheduler_look_once() -> None:
    stage = Stage()
    assert stage.kinds() == []
    stage.waits()
    assert stage.kinds() == [Probe]
    stage.waits()
    stage.scheduler.topic_moved(1, 5, stage.now)
    assert stage.kinds() == []


def test_nothing_found_means_no_claim_until_there_is_news() -> None:
    stage = Stage()
    stage.waits()
    (probe,) = stage.scheduler.actions()
    stage.scheduler.probed(probe, found=False, next_retry_us=stage.at_us + 5_000, now=stage.now)  # type: ignore[arg-type]
    assert stage.kinds() == []
    assert stage.scheduler.next_time_us() == stage.at_us + 5_000
    stage.at_us += 5_000
    stage.scheduler.tick(stage.now)
    assert stage.kinds() == [Probe]


@pytest.mark.parametrize(
    "event",
    [
        lambda stage: stage.scheduler.topic_moved(1, 5, stage.now),
        lambda stage: stage.scheduler.group_moved(stage.now),
        lambda stage: stage.scheduler.joined(Member("n", prefetch=1, auto_ack=True), stage.now),
    ],
    ids=["topic moved", "group moved", "joined"],
)
def test_news_has_it_look_again(event: Callable[[Stage], None]) -> None:
    stage = Stage()
    stage.waits()
    (probe,) = stage.scheduler.actions()
    stage.scheduler.probed(probe, found=False, next_retry_us=None, now=stage.now)  # type: ignore[arg-type]
    event(stage)
    assert stage.kinds() == [Probe]


def test_news_that_comes_while_a_claim_is_under_way_is_looked_for_afterwards() -> None:
    stage = Stage()
    claim = stage.claims()
    stage.scheduler.topic_moved(1, 5, stage.now)
    assert stage.kinds() == []
    stage.scheduler.written(claim.number, [], [], stage.now)
    stage.scheduler.claimed([], ClaimOutcome(), stage.now)
    assert Probe in stage.kinds()


def test_a_claim_wakes_who_waits_and_what_is_taken_is_written_a_moment_later() -> None:
    stage = Stage()
    stage.has(3)
    assert Wake in stage.kinds()
    made = stage.takes()
    made.taken = made.done = 3
    stage.at_us += FLUSH_US
    stage.scheduler.tick(stage.now)
    written = [action for action in stage.scheduler.actions() if isinstance(action, Write)]
    assert [one.acknowledged for action in written for one in action.settlements] == [3]


def test_who_asks_for_a_flush_hears_when_all_that_was_under_way_is_written() -> None:
    stage = Stage()
    stage.has(2)
    made = stage.takes()
    made.taken = made.done = 1
    stage.scheduler.actions()
    ticket = stage.scheduler.settle_wanted(stage.now)
    (write,) = stage.scheduler.actions()
    assert isinstance(write, Write)
    made.taken = made.done = 2
    later = stage.scheduler.settle_wanted(stage.now)
    assert stage.kinds() == []
    stage.scheduler.written(write.number, write.settlements, [], stage.now)
    settled, second = [one for one in stage.scheduler.actions() if isinstance(one, Settled | Write)]
    assert settled == Settled([ticket], None)
    assert isinstance(second, Write)
    stage.scheduler.written(second.number, second.settlements, [], stage.now)
    assert Settled([later], None) in stage.scheduler.actions()


def test_a_write_that_fails_ends_the_members_and_says_so_to_who_waits() -> None:
    stage = Stage()
    stage.has(1)
    made = stage.takes()
    made.taken = made.done = 1
    stage.scheduler.actions()
    ticket = stage.scheduler.settle_wanted(stage.now)
    (write,) = stage.scheduler.actions()
    assert isinstance(write, Write)
    stage.waits()
    error = StoreError("the disk is full")
    stage.scheduler.written(write.number, write.settlements, [], stage.now, error)
    assert Settled([ticket], error) in stage.scheduler.actions()
    assert stage.scheduler.failure is error


def test_leases_are_renewed_three_times_in_their_length() -> None:
    stage = Stage()
    stage.has(1)
    stage.scheduler.actions()
    stage.at_us += RULES.lease_us // 3
    stage.scheduler.tick(stage.now)
    assert Renew in stage.kinds()


def test_a_lease_that_was_lost_has_it_look_for_who_is_lost() -> None:
    stage = Stage()
    held = stage.has(2)
    made = stage.takes()
    stage.scheduler.actions()
    stage.scheduler.renewed({}, [held.claim_id], stage.now)
    assert held.is_lost
    assert made.rest == 0
    stage.waits()
    (probe,) = stage.scheduler.actions()
    assert probe == Probe("work", looks_at_owners=True)


def test_the_last_member_gives_everything_back() -> None:
    stage = Stage()
    stage.has(4)
    stage.scheduler.left(stage.member, stage.now)
    stage.scheduler.actions()
    stage.scheduler.let_go(stage.now)
    (write,) = stage.scheduler.actions()
    assert isinstance(write, Write)
    assert [one.let_go for one in write.settlements] == [True]
    assert stage.scheduler.next_time_us() is None


@pytest.mark.parametrize("order_by", [PLAIN, PRIORITY])
def test_a_message_that_must_be_alone_is_begun_and_handed_over_and_then_the_others_go_on(order_by: str) -> None:
    stage = Stage(order_by)
    held = stage.has(1, losses=2, lane=2 if order_by == PRIORITY else 0)
    assert Begin(held.claim_id) in stage.scheduler.actions()
    assert stage.scheduler.take(stage.member, stage.now) is None
    stage.waits()
    stage.scheduler.topic_moved(1, LANES_END - 1, stage.now)
    stage.scheduler.begun(held.claim_id, began=True, now=stage.now)
    assert stage.kinds() == [Wake]
    made = stage.takes()
    made.taken = made.done = 1
    stage.scheduler.settle_wanted(stage.now)
    (write,) = [action for action in stage.scheduler.actions() if isinstance(action, Write)]
    assert not stage.quarantine.is_open
    stage.scheduler.written(write.number, write.settlements, [], stage.now)
    assert stage.quarantine.is_open


def test_nothing_is_claimed_or_begun_in_another_group_meanwhile() -> None:
    quarantine = Quarantine()
    other = Stage(quarantine=quarantine)
    other.has(2)
    other.scheduler.actions()
    stage = Stage(quarantine=quarantine)
    held = stage.has(1, losses=2)
    (back,) = [action for action in other.scheduler.actions() if isinstance(action, Write)]
    assert [one.tail_from for one in back.settlements] == [0]
    assert Begin(held.claim_id) not in stage.scheduler.actions()
    other.scheduler.written(back.number, back.settlements, [], other.now)
    assert Begin(held.claim_id) in stage.scheduler.actions()
    other.waits()
    assert Probe not in other.kinds()


def test_what_does_not_become_quiet_is_given_back_without_a_loss() -> None:
    quarantine = Quarantine()
    other = Stage(quarantine=quarantine)
    other.has(1)
    other.takes().taken = 1
    stage = Stage(quarantine=quarantine)
    stage.has(1, losses=2)
    stage.scheduler.actions()
    stage.at_us += DRAIN_US
    stage.scheduler.second_passed(stage.now)
    (write,) = [action for action in stage.scheduler.actions() if isinstance(action, Write)]
    assert [one.let_go for one in write.settlements] == [True]
    assert quarantine.is_open
