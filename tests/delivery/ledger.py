"""What should be true of one group, kept beside the store: where each message is, who may have it, what was said of it.

The ledger is told of every event and never reads the engine's tables; `compare` then holds the tables against it. A message
is in one state at a time: AHEAD, CLAIMED, RETRY, or one of the words that end it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from geode_client.delivery.lanes import KEY, PRIORITY
from geode_client.routing import slot_of

AHEAD, CLAIMED, RETRY = "ahead", "claimed", "retry"
ACKNOWLEDGED, FILTERED, DEAD, EXPIRED, REMOVED = "acknowledged", "filtered", "dead_lettered", "expired", "removed"
FINAL = (ACKNOWLEDGED, FILTERED, DEAD, EXPIRED, REMOVED)

# Topic, partition, offset.
Place = tuple[int, int, int]
# Claim, and the name of who holds it.
Hand = tuple[int, str]


@dataclass(slots=True)
class Published:
    """One message as its publisher knows it; `stored`: readers can still reach it."""

    place: Place
    number: int
    key: str | None
    priority: int
    expires_us: int | None
    stored: bool = True

    def __str__(self) -> str:
        topic, partition, offset = self.place
        key = "" if self.key is None else f" {self.key}"
        return f"#{self.number}({topic}/{partition}@{offset}{key} p{self.priority})"


@dataclass(slots=True)
class Lease:
    """A claim that a living process was given: until when, and for which messages."""

    owner: str
    deadline_us: int
    places: set[Place]


def wanted_by(condition: bool, message: Published) -> bool:
    """What the condition of the model's groups means: every third number is not wanted."""
    return not condition or message.number % 3 != 0


@dataclass(slots=True)
class Ledger:
    """One group. `leases` are by claim id; `hands` the readers that have a message and have said nothing of it."""

    name: str
    pattern: str
    order_by: str
    has_condition: bool
    group_id: int = 0
    paused: bool = False
    state: dict[Place, str] = field(default_factory=dict)
    origins: dict[tuple[int, int], int] = field(default_factory=dict)
    attempts: Counter[Place] = field(default_factory=Counter)
    leases: dict[int, Lease] = field(default_factory=dict)
    hands: dict[Place, set[Hand]] = field(default_factory=dict)
    said: dict[tuple[int, Place], str] = field(default_factory=dict)
    deliveries: Counter[Place] = field(default_factory=Counter)
    first_settled: set[tuple[int, Place]] = field(default_factory=set)

    def lane_of(self, message: Published) -> int:
        if self.order_by == PRIORITY:
            return message.priority
        return slot_of(message.key, message.place[2]) if self.order_by == KEY else 0

    def started(self, topic_id: int, partition: int, origin: int, log: Iterable[Published]) -> None:
        """The group begins (anew) at an offset of a partition; what is gone there already counts as removed."""
        for place in [place for place in self.state if place[:2] == (topic_id, partition)]:
            self._forget(place)
        for claim_id, lease in list(self.leases.items()):
            if any(place[:2] == (topic_id, partition) for place in lease.places):
                del self.leases[claim_id]
        self.origins[topic_id, partition] = origin
        for message in log:
            if message.place[2] >= origin:
                self.state[message.place] = AHEAD if message.stored else REMOVED

    def _forget(self, place: Place) -> None:
        del self.state[place]
        self.hands.pop(place, None)
        self.attempts.pop(place, None)
        self.deliveries.pop(place, None)
        self.first_settled = {one for one in self.first_settled if one[1] != place}

    # ── events ──
    def published(self, message: Published) -> None:
        if message.place[:2] in self.origins:
            self.state[message.place] = AHEAD

    def gone(self, message: Published, counter: str, boot_us: int) -> bool:
        """The log has lost a message; True when it counts there and then: the group had it ahead, or it expired while it
        waited for a retry or in a claim that nobody holds."""
        place = message.place
        found = self.state.get(place)
        holder = self.holder(place)
        if counter == EXPIRED and found == CLAIMED and holder is not None and self.leases[holder].deadline_us < boot_us:
            lease = self.leases[holder]
            lease.places.discard(place)
            if not lease.places:
                del self.leases[holder]
            holder = None
        waits = found == RETRY or (found == CLAIMED and holder is None)
        if found != AHEAD and not (counter == EXPIRED and waits):
            return False
        self.state[place] = counter
        return True

    def freed(self, claim_id: int, *, lost: bool) -> None:
        """A claim passes on; `lost`: its owner said nothing for too long, which counts an attempt."""
        lease = self.leases.pop(claim_id)
        for place in lease.places:
            assert self.state[place] == CLAIMED, f"{place} was held by claim {claim_id}, and is {self.state[place]}"
            self.attempts[place] += lost

    def claimed(self, claim_id: int, owner: str, deadline_us: int, places: set[Place]) -> None:
        for place in places:
            found = self.state.get(place)
            assert found in (AHEAD, CLAIMED, RETRY), f"claim {claim_id} of {owner} has {place}, which is {found}"
            holder = self.holder(place)
            assert holder is None, f"claim {claim_id} of {owner} has {place}, which claim {holder} has as well"
            self.state[place] = CLAIMED
        self.leases[claim_id] = Lease(owner, deadline_us, places)

    def holder(self, place: Place) -> int | None:
        """The claim that has a message."""
        return next((claim_id for claim_id, lease in self.leases.items() if place in lease.places), None)

    def settled(self, claim_id: int, place: Place, state: str) -> None:
        """A settlement has said what became of a message of a claim that is still its owner's."""
        lease = self.leases[claim_id]
        assert place in lease.places, f"claim {claim_id} settles {place} as {state} and does not have it"
        lease.places.discard(place)
        self.state[place] = state
        if not lease.places:
            del self.leases[claim_id]

    # ── hands ──
    def take(self, place: Place, hand: Hand) -> None:
        self.hands.setdefault(place, set()).add(hand)
        self.deliveries[place] += 1

    def release(self, place: Place, hand: Hand) -> None:
        self.hands.get(place, set()).discard(hand)

    def in_hand(self, claim_id: int) -> Iterator[Place]:
        """Messages of a claim that a reader has."""
        for place, hands in self.hands.items():
            if any(claim == claim_id for claim, _ in hands):
                yield place

    # ── sums ──
    def pending(self) -> list[Place]:
        return [place for place, state in self.state.items() if state not in FINAL]

    def placed(self, state: str) -> set[Place]:
        return {place for place, found in self.state.items() if found == state}
