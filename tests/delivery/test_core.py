"""The pieces of the delivery core by themselves: what is said of a claim, shares, stealing, recall, parked keys, surplus."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geode_client import AlreadySettled, LeaseLost
from geode_client.delivery import claims
from geode_client.delivery.claiming import Claimed
from geode_client.delivery.claims import HeldClaim, Rules
from geode_client.delivery.group import GroupCore
from geode_client.delivery.lanes import KEY, PLAIN, PRIORITY
from geode_client.delivery.members import GroupSlice, Member
from geode_client.delivery.settlement import without
from geode_client.delivery.window import HELD_LONG_US
from geode_client.message import Attributes, Chunk

RULES = Rules(
    group="g",
    attempts_max=3,
    backoff_us=1_000,
    backoff_max_us=10_000,
    lease_us=1_000_000,
    dead_letter_expired=False,
    settle_first=False,
    durable=False,
)
NOW = 5_000_000


def chunk_of(count: int, *, base: int = 0, keys: str | list[str | None] | None = None, priority: int = 5) -> Chunk:
    return Chunk(
        topic="t",
        topic_id=1,
        partition=0,
        base_offset=base,
        count=count,
        lines=b"1\n" * count,
        batch_id=1 + base,
        timestamp_us=0,
        priority=priority,
        attributes=Attributes(keys=keys),
    )


def claim_of(
    claim_id: int, place: tuple[int, int, int], first: int, pending: bytes, *, attempts: int = 0, retried: bool = False
) -> HeldClaim:
    return HeldClaim(Claimed(claim_id, *place, first, pending, attempts, 0, retried, None, None), RULES)


def given_to(core: GroupCore, claim_id: int, chunk: Chunk, *, lane: int = 0, attempts: int = 0) -> HeldClaim:
    """A claim of all messages of a chunk, ready to be taken."""
    claim = claim_of(claim_id, (1, 0, lane), chunk.base_offset, b"\x01" * chunk.count, attempts=attempts)
    core.offer(core.received(claim, [(chunk.base_offset, chunk.end_offset, chunk)], NOW))
    return claim


def joined(core: GroupCore, name: str, *, prefetch: int = 100, auto_ack: bool = True) -> Member:
    member = Member(name, prefetch=prefetch, auto_ack=auto_ack)
    core.join(member)
    return member


def taken(core: GroupCore, member: Member, count: int = 1) -> GroupSlice:
    """A slice of which so many messages were taken."""
    one = core.take(member, NOW)
    assert one is not None
    one.taken = count
    return one


def offsets(one: GroupSlice | None) -> list[int]:
    return [] if one is None else [one.chunk.base_offset + index for index in one.indices[: one.end]]


# ── what is said of a claim ──
def test_the_first_word_counts() -> None:
    claim = claim_of(1, (1, 0, 0), 10, b"\x01\x01\x00\x01")
    assert claim.check(10, claims.ACKNOWLEDGED, "m")
    claim.say(10, claims.ACKNOWLEDGED)
    for _ in ("before it is written", "and after"):
        assert not claim.check(10, claims.ACKNOWLEDGED, "m")
        with pytest.raises(AlreadySettled, match="was acknowledged already"):
            claim.check(10, claims.FAILED, "m")
        claim.settled()
    claim.is_lost = True
    with pytest.raises(LeaseLost):
        claim.check(10, claims.ACKNOWLEDGED, "m")


SAID = st.sampled_from([claims.ACKNOWLEDGED, claims.FILTERED, claims.EXPIRED, claims.REMOVED])


@given(st.lists(st.tuples(st.integers(0, 9), SAID | st.none()), max_size=30), st.binary(min_size=10, max_size=10))
def test_every_word_is_written_once_whatever_is_written_when(steps: list[tuple[int, int | None]], mask: bytes) -> None:
    """A word of None writes down what was said so far."""
    pending = bytes(byte % 2 for byte in mask)
    claim = claim_of(1, (1, 0, 0), 100, pending)
    left, said, written = pending, dict[int, int](), [0] * 4
    for place, word in [*steps, (0, None)]:
        if word is None:
            made = claim.settled()
            left = without(left, made.settled)
            for number, count in enumerate((made.acknowledged, made.filtered, made.expired, made.removed)):
                written[number] += count
        elif claim.is_pending(100 + place):
            claim.say(100 + place, word)
            said[place] = word
    assert [list(said.values()).count(word) for word in range(claims.ACKNOWLEDGED, claims.FAILED)] == written
    assert left == bytes(one if place not in said else 0 for place, one in enumerate(pending))
    assert claim.left == left.count(1)


# ── shares ──
def test_one_member_takes_all_and_several_take_parts() -> None:
    core = GroupCore(PLAIN)
    first = joined(core, "first")
    given_to(core, 1, chunk_of(16))
    second = joined(core, "second")
    assert offsets(core.take(first, NOW)) == [0, 1, 2, 3]
    assert offsets(core.take(second, NOW)) == [4, 5, 6]
    core.leave(second)
    assert offsets(core.take(first, NOW)) == [4, 5, 6]
    assert offsets(core.take(first, NOW)) == list(range(7, 16))


def test_prefetch_bounds_what_a_member_holds() -> None:
    core = GroupCore(PLAIN)
    member = joined(core, "m", prefetch=3, auto_ack=False)
    given_to(core, 1, chunk_of(10))
    one = taken(core, member, 3)
    assert offsets(one) == [0, 1, 2]
    assert core.take(member, NOW) is None
    assert core.acknowledge(one, 1)
    assert offsets(core.take(member, NOW)) == [3]


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 50)), min_size=1, max_size=30))
def test_the_window_stays_between_one_a_member_and_what_they_have_room_for(steps: list[tuple[int, int]]) -> None:
    core, now, before = GroupCore(PLAIN), NOW, 0
    for number, (passed, prefetch) in enumerate(steps):
        if number < 5:
            joined(core, f"m{number}", prefetch=prefetch)
        now += passed
        room = sum(member.prefetch for member in core.members.values())
        wanted = core.wanted(now)
        assert min(len(core.members), room) <= wanted <= room
        assert wanted <= max(2 * before, len(core.members), 4)
        before = wanted


def test_a_member_without_work_takes_half_of_what_another_has_not_begun() -> None:
    core = GroupCore(PLAIN)
    rich = joined(core, "rich")
    given_to(core, 1, chunk_of(9))
    one = taken(core, rich)
    poor = joined(core, "poor")
    assert core.steal(poor)
    assert offsets(one) == [0, 1, 2, 3, 4]
    assert offsets(core.take(poor, NOW))[0] == 5
    lonely = GroupCore(PLAIN)
    assert not lonely.steal(joined(lonely, "alone"))


# ── priorities ──
def test_what_is_higher_goes_before_what_is_in_hand_and_not_begun() -> None:
    core = GroupCore(PRIORITY)
    member = joined(core, "m")
    given_to(core, 1, chunk_of(4, priority=2), lane=2)
    low = taken(core, member)
    given_to(core, 2, chunk_of(2, base=4, priority=9), lane=9)
    assert offsets(low) == [0]
    assert offsets(core.take(member, NOW)) == [4, 5]
    assert offsets(core.take(member, NOW)) == [1, 2, 3]


# ── keys ──
def test_a_key_is_in_one_hand_and_what_follows_is_parked() -> None:
    core = GroupCore(KEY)
    one, two = joined(core, "one", auto_ack=False), joined(core, "two", auto_ack=False)
    given_to(core, 1, chunk_of(4, keys=["a", "a", "b", "a"]))
    first = taken(core, one)
    assert offsets(first) == [0]
    assert offsets(core.take(two, NOW)) == [2]
    assert core.take(one, NOW) is None
    core.acknowledge(first, 0)
    assert offsets(core.take(two, NOW)) == [1]


def test_what_follows_a_failed_message_of_its_key_waits_in_the_store() -> None:
    core = GroupCore(KEY)
    member = joined(core, "m", auto_ack=False)
    claim = given_to(core, 1, chunk_of(4, keys=["a", "b", "a", None]), attempts=1)
    core.refuse(taken(core, member, 2), 0, requeue=True, delay_us=7, reason="no", now_us=NOW)
    assert offsets(core.take(member, NOW)) == [3]
    (made,) = core.settlements()
    assert [(f.offset, f.key, f.attempts, f.not_before_us) for f in made.failures] == [(0, "a", 2, NOW + 7)]
    assert [(one.key, one.first, one.pending) for one in made.parked] == [("a", 2, b"\x01")]
    assert claim.waits_for == {"a"}


# ── what is given up ──
def test_surplus_gives_up_what_nobody_has_begun() -> None:
    core = GroupCore(PLAIN)
    member = joined(core, "m", auto_ack=False)
    core.wanted(NOW)
    claim = given_to(core, 1, chunk_of(6))
    one = taken(core, member, 2)
    core.acknowledge(one, 0)
    assert core.surplus(NOW + HELD_LONG_US - 1) == []
    (made,) = core.surplus(NOW + HELD_LONG_US)
    assert (made.tail_from, made.settled, made.acknowledged) == (2, b"\x01\0\0\0\0\0", 1)
    assert core.take(member, NOW) is None
    assert claim.left == 1
    assert not core.acknowledge(one, 0), "what was said may be said again"
    assert core.acknowledge(one, 1)


def test_a_message_acknowledged_behind_the_cut_can_be_acknowledged_again() -> None:
    core = GroupCore(PLAIN)
    early, late = joined(core, "early", auto_ack=False, prefetch=2), joined(core, "late", auto_ack=False)
    core.wanted(NOW)
    given_to(core, 1, chunk_of(4))
    taken(core, early)
    behind = taken(core, late)
    core.acknowledge(behind, behind.indices[0])
    core.leave(early)
    assert len(core.surplus(NOW + HELD_LONG_US)) == 1
    assert not core.acknowledge(behind, behind.indices[0])


def test_what_is_lost_cannot_be_settled_and_is_not_handed_out() -> None:
    core = GroupCore(PLAIN)
    member = joined(core, "m", auto_ack=False)
    given_to(core, 1, chunk_of(4))
    one = taken(core, member)
    assert core.lost([1]) == 1
    assert one.rest == 0
    assert core.take(member, NOW) is None
    with pytest.raises(LeaseLost):
        core.acknowledge(one, 0)


@pytest.mark.parametrize("answers", [[0, 1], [1, 0]])
def test_the_refusal_of_any_settlement_of_a_claim_is_told(answers: Sequence[int]) -> None:
    """The last settlement is refused, whether or not an earlier one has been answered before."""
    core = GroupCore(PLAIN)
    member = joined(core, "m", auto_ack=False)
    claim = given_to(core, 1, chunk_of(2))
    one = taken(core, member, 2)
    made = []
    for index in (0, 1):
        core.acknowledge(one, index)
        made.append(core.settlements())
    for number in answers:
        if number == 1:
            core.lost([1])
        core.confirmed(made[number])
    assert claim.is_lost
