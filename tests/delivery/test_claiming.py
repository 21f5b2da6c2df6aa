"""What a group claims, over a port in memory: losses, suspects, retries and priorities."""

from collections.abc import Iterator, Sequence

import msgspec
import pytest

from geode_client.delivery.claiming import (
    ClaimRequest,
    Frontier,
    LostClaim,
    Place,
    Run,
    Stretch,
    Unowned,
    claim,
    cut_after_loss,
)
from geode_client.delivery.lanes import PLAIN, PRIORITY

LANE: Place = (1, 0, 0)


class Port:
    """A group of one topic: frontiers and log ends by lane, retries and claims as lists."""

    def __init__(self, order_by: str = PLAIN, ends: dict[int, int] | None = None) -> None:
        self.order_by = order_by
        self.ends = ends or {}
        self.starts = dict.fromkeys(self.ends, 0)
        self.retries: list[Run] = []
        self.free: list[Unowned] = []
        self.of_lost: list[LostClaim] = []
        self.suspects: list[int] = []
        self.others_held = 0
        self.settled_first: list[int] = []
        self.claimed: list[Run] = []

    def lost(self, dead: Sequence[str], boot_us: int) -> Sequence[LostClaim]:
        return [one for one in self.of_lost if one.process in dead]

    def held_by(self, process: str) -> int:
        return self.others_held + sum(one.run.pending.count(1) for one in self.of_lost)

    def settle_lost(self, claim: LostClaim) -> None:
        self.settled_first.append(claim.claim_id)

    def release(self, claim: LostClaim, runs: Sequence[Run]) -> None:
        self.free += [Unowned(1000 + len(self.free) + i, run) for i, run in enumerate(runs)]

    def suspect_lanes(self, owner: str) -> Sequence[int]:
        return self.suspects

    def lanes_with_something(self, now_us: int) -> Sequence[int]:
        ahead = {lane for lane, end in self.ends.items() if self.starts[lane] < end}
        waiting = {run.place[2] for run in self.retries} | {one.run.place[2] for one in self.free}
        return sorted(ahead | waiting, reverse=True)

    def take_retries(self, now_us: int, partition: int | None, lane: int | None, limit: int) -> Sequence[Run]:
        found = [run for run in self.retries if lane in (None, run.place[2])][:limit]
        self.retries = [run for run in self.retries if run not in found]
        return found

    def take_parked(self, partition: int | None, limit: int) -> Sequence[Run]:
        return ()

    def unowned(self, partition: int | None, lane: int | None) -> Sequence[Unowned]:
        return [one for one in self.free if lane in (None, one.run.place[2])]

    def in_hand(self) -> set[tuple[Place, str | None]]:
        return set()

    def adopt(self, claim: Unowned, end: int) -> None:
        self.free.remove(claim)
        run = claim.run
        self.claim(msgspec.structs.replace(run, pending=run.pending[:end]))
        if 1 in run.pending[end:]:
            rest = msgspec.structs.replace(run, first=run.first + end, pending=run.pending[end:])
            self.free.append(Unowned(claim.claim_id + 5000, rest))

    def frontiers(
        self, partition: int | None, lane: int | None, topic_ids: Sequence[int] | None, ahead: int = 1
    ) -> Sequence[Frontier]:
        return [
            Frontier((1, 0, one), self.starts[one], end)
            for one, end in self.ends.items()
            if lane in (None, one) and self.starts[one] + ahead <= end
        ]

    def is_held_back(self, place: Place) -> bool:
        return False

    def look_end(self, place: Place, offset: int, end: int) -> int:
        return end

    def stored(self, place: Place, offset: int, end: int, runs_max: int) -> Iterator[Stretch]:
        yield Stretch(offset, b"\x01" * (end - offset), 100)

    def move_frontier(self, place: Place, offset: int) -> None:
        self.starts[place[2]] = offset

    def claim(self, run: Run) -> None:
        self.claimed.append(run)


def request(wanted: int, **more: object) -> ClaimRequest:
    return ClaimRequest(owner="new-1", wanted=wanted, now_us=0, boot_us=0, **more)  # type: ignore[arg-type]


def taken(port: Port) -> list[tuple[int, int]]:
    """First offset and count of what was claimed."""
    return [(run.first, run.pending.count(1)) for run in port.claimed]


def test_a_message_that_kills_is_alone_after_four_losses() -> None:
    culprit, run = 3001, Run(LANE, 0, b"\x01" * 4096)
    sizes = [4096]
    while sizes[-1] > 1:
        pieces = list(cut_after_loss(run))
        assert sum(piece.pending.count(1) for piece in pieces) == sizes[-1]
        run = next(piece for piece in pieces if piece.first <= culprit < piece.first + len(piece.pending))
        sizes.append(run.pending.count(1))
    assert sizes == [4096, 512, 64, 8, 1]
    assert run.first == culprit


def test_the_gaps_of_a_claim_are_not_counted_when_it_is_cut() -> None:
    pending = bytearray(100)
    for place in range(0, 100, 10):
        pending[place] = 1
    pieces = list(cut_after_loss(Run(LANE, 500, bytes(pending))))
    assert [piece.pending.count(1) for piece in pieces] == [2, 2, 2, 2, 2]
    found = [piece.first + place for piece in pieces for place, bit in enumerate(piece.pending) if bit]
    assert found == list(range(500, 600, 10))


@pytest.mark.parametrize(
    ("begun", "others", "attempts"),
    [(True, 0, 3), (True, 1, 2), (False, 0, 2)],
    ids=["alone", "not alone", "not begun"],
)
def test_a_loss_counts_only_for_a_message_that_was_begun_alone(begun: bool, others: int, attempts: int) -> None:
    port = Port()
    port.others_held = others
    port.of_lost = [LostClaim(1, "old", Run(LANE, 7, b"\x01", attempts=2, losses=4), begun, False)]
    claim(port, request(0, dead=["old"]))
    (free,) = port.free
    assert (free.run.attempts, free.run.losses) == (attempts, 5)


def test_what_may_have_been_handed_over_under_at_most_once_is_settled() -> None:
    port = Port()
    port.of_lost = [LostClaim(1, "old", Run(LANE, 0, b"\x01" * 5), False, True)]
    claim(port, request(10, dead=["old"]))
    assert (port.settled_first, port.free, port.claimed) == ([1], [], [])


def test_one_suspect_at_a_time_and_nothing_new_beside_it() -> None:
    port = Port(ends={0: 50})
    port.free = [Unowned(n, Run(LANE, 100 * n, b"\x01" * 8, losses=1)) for n in (1, 2)]
    claim(port, request(100))
    assert taken(port) == [(100, 8)]
    port.suspects, port.claimed = [0], []
    claim(port, request(100))
    assert taken(port) == []


def test_what_must_be_alone_waits_where_it_may_not_be_asked_for() -> None:
    port = Port()
    port.free = [Unowned(1, Run(LANE, 5, b"\x01", losses=2))]
    claim(port, request(10, alone=False))
    assert taken(port) == []
    claim(port, request(10))
    assert taken(port) == [(5, 1)]


def test_retries_share_their_turns_with_new_messages() -> None:
    port = Port(ends={0: 1000})
    port.retries = [Run(LANE, 2000 + n, b"\x01", attempts=1, retried=True) for n in range(1000)]
    claim(port, request(100))
    retried = sum(run.retried for run in port.claimed)
    assert retried == 50
    assert sum(count for _, count in taken(port)) == 100


def test_of_a_single_message_the_turn_decides() -> None:
    port = Port(ends={0: 10})
    port.retries = [Run(LANE, 2000 + n, b"\x01", attempts=1, retried=True) for n in range(10)]
    for turn in range(6):
        claim(port, request(1, turn=turn))
    assert [run.retried for run in port.claimed] == [False, True, False, True, False, True]


def test_retries_get_everything_when_nothing_is_new() -> None:
    port = Port()
    port.retries = [Run(LANE, n, b"\x01", attempts=1, retried=True) for n in range(30)]
    claim(port, request(20))
    assert len(port.claimed) == 20


def test_the_highest_lane_first_whatever_waits_in_lower_ones() -> None:
    port = Port(PRIORITY, ends={2: 10, 9: 3})
    port.retries = [Run((1, 0, 5), 100, b"\x01", attempts=1, retried=True)]
    claim(port, request(6))
    assert [(run.place[2], run.pending.count(1)) for run in port.claimed] == [(9, 3), (5, 1), (2, 2)]


def test_above_limits_the_claim_to_higher_lanes() -> None:
    port = Port(PRIORITY, ends={2: 10, 5: 10, 9: 3})
    claim(port, request(100, above=5))
    assert [run.place[2] for run in port.claimed] == [9]


def test_beside_a_suspect_only_higher_lanes_have_new_messages() -> None:
    port = Port(PRIORITY, ends={2: 10, 9: 3})
    port.suspects = [5]
    claim(port, request(100))
    assert [run.place[2] for run in port.claimed] == [9]
