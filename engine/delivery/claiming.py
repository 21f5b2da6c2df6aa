"""What a group claims: which messages a process may have next. Runs inside the backend's transaction, over a narrow port.

A claim looks at these places, in this order, until it has as many messages as it wants:

| place | what is taken | rule |
| --- | --- | --- |
| claims of a lost owner | nothing yet: they are released | see below |
| retries | messages whose time has come | at most half of what is wanted while new messages wait |
| parked | messages of a key whose earlier ones are settled (ordered groups) | earliest first, one run a key at a time |
| claims without an owner | given back, or released after a loss | earliest first; one *suspect* at a time |
| lanes | messages from the frontier on | each lane in its turn; none beside a suspect |

A group in priority order does all of this for its highest lane first, then for the next.

An owner is lost when its process is dead, or when it did not renew its leases in time. What is then done with its claims,
in all groups at once:

| the claim | becomes |
| --- | --- |
| its topic is at_most_once | settled: its messages may have been handed over |
| it was begun, and its message is the only one that the process held in any group | the same, with an attempt more |
| any other | up to eight claims of an eighth of its messages each, with a loss more and no attempt |

So a message that kills its consumers is alone after at most four losses (4,096, 512, 64, 8, 1), and only then do losses
count as attempts: innocent neighbours never become dead letters for it. Released messages are *suspects*. A process takes
one suspect claim of a group at a time, and claims nothing new beside it but higher priorities. One message that was lost
LOSSES_ALONE times or more is handed over only while its process holds nothing else (`Claimed.must_be_alone`).
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from geode_client.delivery.lanes import KEY, PRIORITY

CLAIM_OFFSETS_MAX = 4096
CLAIM_BYTES_MAX = 8 * 1024 * 1024
PIECES_AFTER_LOSS = 8
LOSSES_ALONE = 2
LANES_AT_ONCE = 64
RUNS_AT_ONCE = 256
# How far the frontiers of idle lanes may stay behind the log, and how many claims lie between two looks at them.
LAG_OF_LANE = 1024
CLAIMS_BETWEEN = 32
LOST_ERROR = "its consumer died, or did not renew its lease within ack_timeout"

Place = tuple[int, int, int]
"""Topic id, partition, lane."""


class ClaimRequest(msgspec.Struct, frozen=True):
    """Up to `wanted` messages of a group for `owner`.

    Times: `now_us` of the wall clock (retries), `boot_us` of the clock that only stops with the machine (leases).
    `dead`: owners that are known to be gone. `partition` limits the claim to one. `above`: only lanes beyond this one.
    `topic_ids` limits the look at frontiers (None: all lanes). `turn` decides which lane is looked at first.
    `through`: offset by (topic id, partition) at which a private group ends. `alone`: a message that must be alone may be
    claimed.
    """

    owner: str
    wanted: int
    now_us: int
    boot_us: int
    dead: Sequence[str] = ()
    partition: int | None = None
    above: int | None = None
    topic_ids: Sequence[int] | None = None
    turn: int = 0
    through: dict[tuple[int, int], int] | None = None
    alone: bool = True


def must_be_alone(losses: int, count: int) -> bool:
    """Whether a claim of `count` messages may be handed over only while its process holds nothing else."""
    return losses >= LOSSES_ALONE and count == 1


class Claimed(msgspec.Struct, frozen=True):
    """Messages in our hands: those of `pending` that are 1, counted from offset `first`.

    `attempts` were made before, the last of which failed with `error`; `losses`: how often the messages were lost with a
    consumer. `retried`: one message that waited for its retry. `key`: all of them have this key, and earlier ones are
    settled. `blocked`: keys of which earlier messages wait (ordered groups). `deadline_us`: end of the lease.
    """

    claim_id: int
    topic_id: int
    partition: int
    lane: int
    first: int
    pending: bytes
    attempts: int
    losses: int
    retried: bool
    key: str | None
    error: str | None
    blocked: frozenset[str] = frozenset()
    deadline_us: int = 0

    @property
    def must_be_alone(self) -> bool:
        """Whether it may only be handed over while its process holds nothing else."""
        return must_be_alone(self.losses, self.pending.count(1))


class Run(msgspec.Struct, frozen=True):
    """Messages to be claimed: as `Claimed`, before they have an owner and a number."""

    place: Place
    first: int
    pending: bytes
    attempts: int = 0
    losses: int = 0
    retried: bool = False
    key: str | None = None
    error: str | None = None


class Unowned(msgspec.Struct, frozen=True):
    """A claim that nobody has."""

    claim_id: int
    run: Run


class LostClaim(msgspec.Struct, frozen=True):
    """A claim of a lost owner, in any group. `process` names the owner's process, `settle_first` an at_most_once topic."""

    claim_id: int
    process: str
    run: Run
    begun: bool
    settle_first: bool


class Frontier(msgspec.Struct, frozen=True):
    """Where a lane has its next message, and the end of its log."""

    place: Place
    offset: int
    end: int


class Stretch(msgspec.Struct, frozen=True):
    """A stored batch from offset `start` on: a byte for each message, 1 where it is of the lane; the size of the batch."""

    start: int
    members: bytes
    size_bytes: int


class ClaimPort(Protocol):
    """One group's stored state, inside one transaction of the backend."""

    @property
    def order_by(self) -> str: ...

    # losses
    def lost(self, dead: Sequence[str], boot_us: int) -> Sequence[LostClaim]:
        """The claims, in all groups, of owners that are lost; nothing when this group has none of them."""
        ...

    def held_by(self, process: str) -> int:
        """How many messages a process holds in all groups."""
        ...

    def settle_lost(self, claim: LostClaim) -> None:
        """Count the messages of an at_most_once claim as acknowledged."""
        ...

    def release(self, claim: LostClaim, runs: Sequence[Run]) -> None:
        """Replace a claim by these, which nobody owns."""
        ...

    def suspect_lanes(self, owner: str) -> Sequence[int]:
        """The lanes of the suspects of this group that an owner holds."""
        ...

    # what waits
    def lanes_with_something(self, now_us: int) -> Sequence[int]:
        """Lanes that have anything to claim, the highest first (priority groups)."""
        ...

    def take_retries(self, now_us: int, partition: int | None, lane: int | None, limit: int) -> Sequence[Run]:
        """Remove retries whose time has come, the earliest first; of a key only the first, while none of it is claimed."""
        ...

    def take_parked(self, partition: int | None, limit: int) -> Sequence[Run]:
        """Remove parked messages of keys of which no earlier message waits or is claimed; one run a key."""
        ...

    def unowned(self, partition: int | None, lane: int | None) -> Sequence[Unowned]:
        """Claims that nobody has, by topic, partition and offset."""
        ...

    def lanes_in_hand(self) -> set[Place]:
        """Lanes of which somebody holds messages that are not of a single key (ordered groups)."""
        ...

    def keys_in_hand(self) -> set[tuple[int, int, str]]:
        """Topic, partition and key of the claims of a single key that somebody holds (ordered groups)."""
        ...

    def adopt(self, claim: Unowned, end: int) -> None:
        """Take the first `end` bytes of an unowned claim; the rest stays unowned."""
        ...

    # new messages
    def frontiers(
        self, partition: int | None, lane: int | None, topic_ids: Sequence[int] | None, ahead: int = 1
    ) -> Sequence[Frontier]:
        """Lanes whose log reaches at least `ahead` messages beyond the frontier."""
        ...

    def is_held_back(self, place: Place) -> bool:
        """Whether a lane of an ordered group has a claim that is not of a single key."""
        ...

    def look_end(self, place: Place, offset: int, end: int) -> int:
        """How far to look at once from an offset on; `end` or less."""
        ...

    def stored(self, place: Place, offset: int, end: int, runs_max: int) -> Iterator[Stretch]:
        """What a lane has stored from an offset on, in order."""
        ...

    def move_frontier(self, place: Place, offset: int) -> None: ...

    def claim(self, run: Run) -> None:
        """Give messages to the owner of the request."""
        ...


class ClaimOutcome(msgspec.Struct):
    """What a claim left. `taken` messages were claimed; `lane_left`: the highest lane that may have more (None: none has)."""

    taken: int = 0
    lane_left: int | None = None


def claim(port: ClaimPort, request: ClaimRequest) -> ClaimOutcome:
    """Claim messages for the owner of the request; see the module's table."""
    release_lost(port, request)
    return _Claiming(port, request).run()


def release_lost(port: ClaimPort, request: ClaimRequest) -> None:
    """Release the claims of owners that are lost, in all groups."""
    found = port.lost(request.dead, request.boot_us)
    held = {process: port.held_by(process) for process in {one.process for one in found}}
    for one in found:
        if one.settle_first:
            port.settle_lost(one)
            continue
        run = one.run
        is_to_blame = one.begun and held[one.process] == 1
        changed = msgspec.structs.replace(
            run, attempts=run.attempts + is_to_blame, losses=run.losses + 1, error=LOST_ERROR
        )
        port.release(one, list(cut_after_loss(changed)))


def cut_after_loss(run: Run) -> Iterator[Run]:
    """Up to PIECES_AFTER_LOSS pieces of about the same number of messages."""
    count = run.pending.count(1)
    size = -(-count // PIECES_AFTER_LOSS)
    start = 0
    while count > 0:
        end = start + after(run.pending[start:], size)
        yield msgspec.structs.replace(run, first=run.first + start, pending=run.pending[start:end])
        count -= size
        start = end


def after(members: bytes, count: int) -> int:
    """The place after the `count`-th 1 of a row of bytes, or its end when it has no more than that."""
    ones = members.count(1)
    if count >= ones:
        return len(members)
    if ones == len(members):
        return count
    place = -1
    for _ in range(count):
        place = members.index(1, place + 1)
    return place + 1


class _Claiming:
    """One claim. `_lane_left` is the highest lane in which something may be left."""

    def __init__(self, port: ClaimPort, request: ClaimRequest) -> None:
        self._port = port
        self._request = request
        self._lane_left: int | None = None
        self._suspects: list[int] | None = None  # lanes; None: not looked up yet

    def run(self) -> ClaimOutcome:
        if self._port.order_by == PRIORITY:
            taken = self._take_from_the_highest()
        else:
            taken = self._take(self._request.wanted, None)
        return ClaimOutcome(taken, self._lane_left)

    def _take_from_the_highest(self) -> int:
        request = self._request
        lowest = -1 if request.above is None else request.above
        taken, idle = 0, []
        for lane in self._port.lanes_with_something(request.now_us):
            # A lane that was left before its end has more for the next claim, before any lower one.
            if taken < request.wanted and lane > lowest and self._lane_left is None:
                taken += self._take(request.wanted - taken, lane)
                continue
            idle.append(lane)
            if lane > lowest and self._lane_left is None:
                self._lane_left = lane
        if idle and request.turn % CLAIMS_BETWEEN == 0:
            self._pass_over_others(idle)
        return taken

    def _take(self, wanted: int, lane: int | None) -> int:
        """Take up to `wanted` messages of one lane or of all; how many those were."""
        # Of a single message the turn decides, so that neither the retries nor the new messages starve.
        share = wanted // 2 if wanted > 1 else self._request.turn % 2
        taken = waiting = self._take_waiting(share, lane)
        if taken < wanted:
            taken += self._take_over(wanted - taken, lane)
        if taken < wanted and self._may_take_new(lane):
            taken += self._take_new(wanted - taken, lane)
        if taken < wanted and waiting >= share:
            taken += self._take_waiting(wanted - taken, lane)
        if taken >= wanted:
            self._more_in(lane or 0)
        return taken

    def _take_waiting(self, wanted: int, lane: int | None) -> int:
        if wanted <= 0:
            return 0
        request = self._request
        taken = self._claim_all(self._port.take_retries(request.now_us, request.partition, lane, wanted))
        if self._port.order_by == KEY and taken < wanted:
            taken += self._claim_all(self._port.take_parked(request.partition, wanted - taken))
        return taken

    def _claim_all(self, runs: Sequence[Run]) -> int:
        for run in runs:
            self._port.claim(run)
        return sum(run.pending.count(1) for run in runs)

    # ── claims that nobody has ──
    def _take_over(self, wanted: int, lane: int | None) -> int:
        found = self._port.unowned(self._request.partition, lane)
        is_ordered = bool(found) and self._port.order_by == KEY
        lanes = self._port.lanes_in_hand() if is_ordered else set()
        keys = self._port.keys_in_hand() if is_ordered else set()
        taken = 0
        for one in found:
            run = one.run
            if taken >= wanted:
                self._more_in(run.place[2])
                break
            if is_ordered and not _is_next(run, lanes, keys):
                continue
            if run.losses and (self._lanes_of_suspects() or not self._may_be_taken(run)):
                continue
            if run.losses:
                self._lanes_of_suspects().append(run.place[2])
            end = after(run.pending, wanted - taken)
            self._port.adopt(one, end)
            taken += run.pending.count(1, 0, end)
            if end < len(run.pending) and not run.losses:
                self._more_in(run.place[2])
        return taken

    def _may_be_taken(self, run: Run) -> bool:
        return self._request.alone or not must_be_alone(run.losses, run.pending.count(1))

    def _lanes_of_suspects(self) -> list[int]:
        """The lanes of suspects that the owner has in hand."""
        if self._suspects is None:
            self._suspects = list(self._port.suspect_lanes(self._request.owner))
        return self._suspects

    def _may_take_new(self, lane: int | None) -> bool:
        """Beside a suspect nothing new is claimed but in higher lanes: it would be lost along with it."""
        suspects = self._lanes_of_suspects()
        return not suspects or (self._port.order_by == PRIORITY and lane is not None and lane > max(suspects))

    def _more_in(self, lane: int) -> None:
        self._lane_left = lane if self._lane_left is None else max(lane, self._lane_left)

    # ── new messages ──
    def _take_new(self, wanted: int, lane: int | None) -> int:
        request = self._request
        found = self._port.frontiers(request.partition, lane, request.topic_ids)
        turned = request.turn % len(found) if found else 0
        taken = 0
        for frontier in [*found[turned:], *found[:turned]]:
            if taken >= wanted:
                self._more_in(frontier.place[2])
                break
            if self._port.order_by == KEY and self._port.is_held_back(frontier.place):
                continue
            end = frontier.end
            if request.through is not None:
                end = min(end, request.through.get(frontier.place[:2], 0))
            if frontier.offset < end:
                taken += self._advance(frontier.place, frontier.offset, end, wanted - taken)
        return taken

    def _advance(self, place: Place, offset: int, lane_end: int, wanted: int) -> int:
        """Claim what lies at the frontier of a lane and move the frontier behind it; how many messages that were."""
        reached = end = self._port.look_end(place, offset, lane_end)
        taken, first, size_bytes = 0, offset, 0
        pending = bytearray()
        for number, stretch in enumerate(self._port.stored(place, offset, end, RUNS_AT_ONCE), 1):
            start, members = stretch.start, stretch.members
            size_bytes += stretch.size_bytes
            beyond = start + 1 - first > CLAIM_OFFSETS_MAX or size_bytes > CLAIM_BYTES_MAX
            # Half of what is wanted is enough where the rest would cut a batch, which is then unpacked twice.
            if pending and (beyond or (2 * taken >= wanted and members.count(1) > wanted - taken)):
                reached = start
                break
            first = start if not pending else first
            room = min(CLAIM_OFFSETS_MAX - (start - first), after(members, wanted - taken))
            pending += bytes(start - first - len(pending)) + members[:room]
            taken += members.count(1, 0, room)
            if room < len(members) or taken >= wanted or number == RUNS_AT_ONCE:
                reached = start + room
                break
        if reached < lane_end:
            self._more_in(place[2])
        self._port.move_frontier(place, reached)
        if taken:
            self._port.claim(Run(place, first, bytes(pending)))
        return taken

    def _pass_over_others(self, lanes: Sequence[int]) -> None:
        """Move the frontiers of lanes that had no turn over messages that are not theirs.

        While higher lanes keep the group busy these stretches would grow, and hold back the retention of what was consumed.
        """
        found = [
            one for lane in lanes for one in self._port.frontiers(self._request.partition, lane, None, LAG_OF_LANE)
        ]
        turned = self._request.turn // CLAIMS_BETWEEN * LANES_AT_ONCE % len(found) if found else 0
        for one in [*found[turned:], *found[:turned]][:LANES_AT_ONCE]:
            end = self._port.look_end(one.place, one.offset, one.end)
            reached = next((s.start for s in self._port.stored(one.place, one.offset, end, 1)), end)
            if reached > one.offset:
                self._port.move_frontier(one.place, reached)


def _is_next(run: Run, lanes: set[Place], keys: set[tuple[int, int, str]]) -> bool:
    """Whether an unowned run of an ordered group may be taken, given the lanes and keys that are in hand or were met before.

    Of a lane, and of a key apart from its lane, one run at a time, the earliest first, also where that one has to wait.
    """
    if run.key is not None:
        place = (*run.place[:2], run.key)
        if place in keys:
            return False
        keys.add(place)
    elif not run.retried:
        if run.place in lanes:
            return False
        lanes.add(run.place)
    return True
