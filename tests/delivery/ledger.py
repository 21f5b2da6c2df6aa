"""What should be true of one group, kept beside the store: what readers said, what was counted, who has what in hand."""

from collections import Counter
from dataclasses import dataclass, field

from geode_client.delivery.lanes import KEY, PRIORITY
from geode_client.routing import slot_of

AHEAD, CLAIMED, RETRY, PARKED = "ahead", "claimed", "retry", "parked"
ACKNOWLEDGED, FILTERED, DEAD, EXPIRED, REMOVED = "acknowledged", "filtered", "dead_lettered", "expired", "removed"
FINAL = (ACKNOWLEDGED, FILTERED, DEAD, EXPIRED, REMOVED)
# Acknowledged in a transaction that is open; in one that was rolled back.
RESERVED, ROLLED_BACK = "reserved", "rolled back"

# Topic, partition, offset.
Place = tuple[int, int, int]
# Claim, and the name of the reader that has it.
Hand = tuple[int, str]


@dataclass(slots=True)
class Published:
    """One message as its publisher knows it. `stored`: readers can still reach it. `poisonous`: it kills its consumer."""

    place: Place
    number: int
    key: str | None
    priority: int
    expires_us: int | None
    poisonous: bool = False
    stored: bool = True

    def __str__(self) -> str:
        topic, partition, offset = self.place
        key = "" if self.key is None else f" {self.key}"
        poison = " poison" if self.poisonous else ""
        return f"#{self.number}({topic}/{partition}@{offset}{key} p{self.priority}{poison})"


@dataclass(frozen=True, slots=True)
class Where:
    """Where the store has one message of a group: AHEAD, CLAIMED, RETRY or PARKED. Messages that are settled have no place.

    `due_us` is the wall clock's time of a retry; `deadline_us` the boot clock's end of a lease.
    """

    state: str
    claim_id: int = 0
    owner: str | None = None
    deadline_us: int = 0
    attempts: int = 0
    losses: int = 0
    begun: bool = False
    due_us: int = 0
    held: int = 0


def wanted_by(condition: bool, message: Published) -> bool:
    """What the condition of the model's groups means: every third number is not wanted."""
    return not condition or message.number % 3 != 0


@dataclass(slots=True)
class Ledger:
    """One group.

    `counts`: final words by topic id, partition and word. `said`: what the reader of a claim said of a message and no
    settlement has brought to the store. `hands`: readers that have a message and have said nothing of it. `handed`: how
    often a message was handed over. `deaths`: how many processes a message has killed.
    """

    name: str
    pattern: str
    order_by: str
    has_condition: bool
    group_id: int = 0
    paused: bool = False
    origins: dict[tuple[int, int], int] = field(default_factory=dict)
    counts: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    attempts: Counter[Place] = field(default_factory=Counter)
    said: dict[tuple[int, Place], str] = field(default_factory=dict)
    hands: dict[Place, set[Hand]] = field(default_factory=dict)
    handed: Counter[Place] = field(default_factory=Counter)
    deaths: Counter[Place] = field(default_factory=Counter)
    lost_unseen: set[Place] = field(default_factory=set)
    moved: set[tuple[int, int]] = field(default_factory=set)

    def lane_of(self, message: Published) -> int:
        if self.order_by == PRIORITY:
            return message.priority
        return slot_of(message.key, message.place[2]) if self.order_by == KEY else 0

    def count(self, place: Place, word: str, number: int = 1) -> None:
        self.counts[place[0], place[1], word] += number

    def started(self, topic_id: int, partition: int, origin: int, log: list[Published]) -> None:
        """The group begins (anew) at an offset of a partition; what is gone there already counts as removed."""
        here = (topic_id, partition)
        for word in FINAL:
            self.counts.pop((topic_id, partition, word), None)
        for counter in (self.attempts, self.handed, self.deaths, self.hands):
            for place in [place for place in counter if place[:2] == here]:
                del counter[place]
        self.lost_unseen = {place for place in self.lost_unseen if place[:2] != here}
        if here in self.origins:
            self.moved.add(here)
        self.origins[here] = origin
        for message in log:
            if message.place[2] >= origin and not message.stored:
                self.count(message.place, REMOVED)

    # ── hands ──
    def take(self, place: Place, hand: Hand) -> None:
        self.hands.setdefault(place, set()).add(hand)

    def release(self, place: Place, hand: Hand) -> None:
        self.hands.get(place, set()).discard(hand)

    def dropped(self, reader: str) -> None:
        """A reader is gone with what it had in hand."""
        for hands in self.hands.values():
            for hand in [hand for hand in hands if hand[1] == reader]:
                hands.discard(hand)
