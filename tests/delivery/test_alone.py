"""A message that must be alone: whatever becomes of it, the groups of its process go on."""

from collections.abc import Callable

import pytest

from geode_client.delivery.actions import Begin, Claim, Now, Probe, Renew, Write
from geode_client.delivery.claiming import Claimed, ClaimOutcome
from geode_client.delivery.claims import HeldClaim, Rules
from geode_client.delivery.group import GroupCore
from geode_client.delivery.lanes import PLAIN
from geode_client.delivery.members import GroupSlice, Member
from geode_client.delivery.quarantine import Quarantine
from geode_client.delivery.scheduler import LEASE_RENEWALS, Scheduler
from geode_client.errors import StoreError
from geode_client.message import Attributes, Chunk

LEASE_US = 9_000_000
NOW = Now(1_000_000, 1_000_000)


def rules(lease_us: int = LEASE_US) -> Rules:
    return Rules("g", 3, 1_000, 10_000, lease_us, False, False, False)


def chunk(base: int, count: int) -> Chunk:
    return Chunk(
        topic="t",
        topic_id=1,
        partition=0,
        base_offset=base,
        count=count,
        lines=b"1\n" * count,
        batch_id=1,
        timestamp_us=0,
        priority=5,
        attributes=Attributes(),
    )


def held(claim_id: int, count: int, *, losses: int = 0, lease_us: int = LEASE_US) -> HeldClaim:
    return HeldClaim(
        Claimed(claim_id, 1, 0, 0, 100 * claim_id, b"\x01" * count, 0, losses, False, None, None), rules(lease_us)
    )


class Group:
    """A scheduler with one member."""

    def __init__(self, quarantine: Quarantine, *, auto_ack: bool = True) -> None:
        self.core = GroupCore(PLAIN)
        self.scheduler = Scheduler(self.core, quarantine)
        self.member = Member("m", prefetch=10, auto_ack=auto_ack)
        self.scheduler.joined(self.member, NOW)

    def receives(self, *claims: HeldClaim, now: Now = NOW) -> None:
        """The member waits, a look finds something, and these claims come."""
        self.scheduler.group_moved(now)
        self.scheduler.waits("m", now)
        (probe,) = self.looks()
        self.scheduler.probed(probe, found=True, next_retry_us=None, now=now)
        (claim,) = [action for action in self.scheduler.actions() if isinstance(action, Claim)]
        self.scheduler.written(claim.number, claim.settlements, [], now)
        found = [
            (one, [(one.first, one.first + len(one.state), chunk(one.first, len(one.state)))], ()) for one in claims
        ]
        self.scheduler.claimed(found, ClaimOutcome(taken=sum(len(one.state) for one in claims)), now)

    def takes(self) -> GroupSlice:
        made = self.scheduler.take(self.member, NOW)
        assert made is not None
        made.taken = 1
        return made

    def has_one_alone(self) -> GroupSlice:
        """A message that was lost twice is begun and in hand."""
        self.receives(held(1, 1, losses=2))
        assert Begin(1) in self.scheduler.actions()
        self.scheduler.begun(1, began=True, now=NOW)
        return self.takes()

    def looks(self) -> list[Probe]:
        """The looks for something to claim that it wants now."""
        return [one for one in self.scheduler.actions() if isinstance(one, Probe) and one.what == "work"]


def settled(group: Group, one: GroupSlice) -> None:
    one.done = 1
    group.core.finish(one, NOW.wall_us)
    group.scheduler.settle_wanted(NOW)
    (write,) = [action for action in group.scheduler.actions() if isinstance(action, Write)]
    group.scheduler.written(write.number, write.settlements, [], NOW)


def acknowledged_in_a_transaction(group: Group, one: GroupSlice) -> None:
    assert group.core.reserve(one, 0)
    group.scheduler.transaction_ended([(one, 0)], [], stored=True, now=NOW)


def lost_at_a_renewal(group: Group, one: GroupSlice) -> None:
    group.scheduler.renewed({}, [one.claim.claim_id], NOW)


def lost_by_a_seek(group: Group, one: GroupSlice) -> None:
    group.scheduler.leases_lost([one.claim.claim_id], NOW)


def lost_before_it_was_settled(group: Group, one: GroupSlice) -> None:
    lost_at_a_renewal(group, one)
    one.done = 1
    group.core.finish(one, NOW.wall_us)
    group.scheduler.settle_wanted(NOW)


@pytest.mark.parametrize(
    "end",
    [
        settled,
        acknowledged_in_a_transaction,
        lost_at_a_renewal,
        lost_by_a_seek,
        lost_before_it_was_settled,
        lambda group, one: group.scheduler.fail(StoreError("the group is gone")),
        lambda group, one: group.scheduler.let_go(NOW),
    ],
    ids=["settled", "transaction", "renewal", "seek", "lost, then settled", "failed", "let go"],
)
def test_the_other_groups_go_on_whatever_became_of_the_message(end: Callable[[Group, GroupSlice], None]) -> None:
    quarantine = Quarantine()
    group, other = Group(quarantine), Group(quarantine)
    one = group.has_one_alone()
    other.scheduler.group_moved(NOW)
    other.scheduler.waits("m", NOW)
    assert not other.looks()
    end(group, one)
    assert quarantine.is_open
    assert other.looks()


def test_a_message_that_is_lost_before_it_began_is_no_longer_waited_for() -> None:
    quarantine = Quarantine()
    group, other = Group(quarantine), Group(quarantine)
    other.receives(held(2, 1))
    other.takes()
    group.receives(held(1, 1, losses=2))
    assert not quarantine.is_open
    group.scheduler.renewed({}, [1], NOW)
    assert quarantine.is_open


def test_it_begins_when_the_transaction_of_another_group_has_ended() -> None:
    quarantine = Quarantine()
    group, other = Group(quarantine), Group(quarantine)
    other.receives(held(2, 1))
    one = other.takes()
    other.core.reserve(one, 0)
    group.receives(held(1, 1, losses=2))
    assert Begin(1) not in group.scheduler.actions()
    other.scheduler.transaction_ended([(one, 0)], [], stored=True, now=NOW)
    assert Begin(1) in group.scheduler.actions()


def test_what_an_open_transaction_has_is_not_given_back_with_the_rest_of_its_claim() -> None:
    group = Group(Quarantine())
    group.receives(held(1, 3))
    one = group.takes()
    one.taken = one.done = 2
    assert group.core.reserve(one, 1)
    group.core.finish(one, NOW.wall_us)
    # Its reader has gone on, and an earlier message is back again.
    one.claim.state[0] = 1
    group.core._put_back(one, 0)
    assert group.core.not_begun() == []
    group.scheduler.transaction_ended([(one, 1)], [], stored=False, now=NOW)
    assert [made.tail_from for made in group.core.not_begun()] == [0]


def test_a_shorter_lease_is_renewed_in_its_own_time() -> None:
    group = Group(Quarantine())
    group.receives(held(1, 1, lease_us=LEASE_US))
    group.takes()
    short_us = LEASE_US // 30
    later = Now(NOW.wall_us + 1, NOW.boot_us + 1)
    group.receives(held(2, 1, lease_us=short_us), now=later)
    due_us = later.boot_us + short_us // LEASE_RENEWALS
    group.scheduler.tick(Now(due_us, due_us))
    assert Renew() in group.scheduler.actions()
