"""What moves about inside a group: pieces that are ready, members, slices in their hands, and the keys of those."""

from collections.abc import Sequence

from geode_client.delivery.claims import HeldClaim
from geode_client.delivery.slices import Slice
from geode_client.errors import LeaseLost
from geode_client.message import Chunk

Place = tuple[int, int, str]
"""Topic id, partition, key."""

# A stored batch: its first offset, the one after its last, and its chunk, or None when it is damaged.
Found = tuple[int, int, Chunk | None]


class Piece:
    """Messages of one chunk that are ready to be taken."""

    __slots__ = ("chunk", "claim", "indices")

    def __init__(self, claim: HeldClaim, chunk: Chunk, indices: Sequence[int]) -> None:
        self.claim = claim
        self.chunk = chunk
        self.indices = indices


class GroupSlice(Slice):
    """A slice of one claim in the hands of one member.

    `said`: places that were acknowledged by going on to the next; `given_back`: indices that its member had taken and left
    unsettled when it went; `is_untracked`: its keys are not noted,
    because nothing else is in hand; `told_lost`: indices of which it was told that they have passed to another consumer.
    """

    __slots__ = ("claim", "given_back", "is_untracked", "keys", "member", "said", "told_lost")

    def __init__(self, member: "Member", claim: HeldClaim, chunk: Chunk, indices: Sequence[int]) -> None:
        super().__init__(
            chunk,
            indices,
            attempt=claim.attempts + 1,
            settle_each=claim.rules.durable and member.auto_ack,
            is_fenced=claim.rules.durable,
        )
        self.member = member
        self.claim = claim
        self.said = 0
        self.given_back: frozenset[int] = frozenset()
        self.told_lost: set[int] = set()
        self.keys: set[tuple[int, int, str]] = set()
        self.is_untracked = False

    def is_held(self, boot_us: int) -> bool:
        return boot_us < self.claim.deadline_us and not self.claim.is_lost

    @property
    def handled(self) -> int:
        """How far its messages are acknowledged without a call: left behind, or handed over under at_most_once."""
        if self.claim.rules.settle_first:
            return self.taken - self.gathered
        return self.done if self.member.auto_ack else 0

    def is_over(self) -> bool:
        """Whether everything of it was taken and settled."""
        if self.taken < self.end:
            return False
        first = self.chunk.base_offset
        return not any(self.claim.is_open(first + index) for index in self.indices[self.said : self.end])

    def may_say(self, index: int, word: int) -> bool:
        """Whether a member may say a word of a message; False when it was said already. Raises LeaseLost, AlreadySettled."""
        shown = self.chunk.message_id(index)
        if index in self.given_back:
            raise LeaseLost(f"message {shown} is not ours any more: it was given back when the subscription was closed")
        return self.claim.check(self.chunk.base_offset + index, word, shown)


class Member:
    """One subscription of the group in this process."""

    __slots__ = ("auto_ack", "delivered", "last_message_us", "member_id", "prefetch", "redelivered", "slices")

    def __init__(self, member_id: str, *, prefetch: int, auto_ack: bool) -> None:
        self.member_id = member_id
        self.prefetch = prefetch
        self.auto_ack = auto_ack
        self.slices: list[GroupSlice] = []
        self.delivered = 0
        self.redelivered = 0
        self.last_message_us: int | None = None

    @property
    def in_flight(self) -> int:
        """Messages it has taken and nobody has settled."""
        total = 0
        for one in self.slices:
            base = one.chunk.base_offset
            start = max(one.said, one.done) if self.auto_ack else 0
            total += sum(one.claim.is_open(base + index) for index in one.indices[start : one.taken])
        return total

    @property
    def holds(self) -> int:
        """Messages in its hands, taken or not, that are not settled."""
        return self.in_flight + sum(one.rest for one in self.slices)


class KeysInHand:
    """Of an ordered group: which slice has the messages of a key, and which messages are parked behind them."""

    def __init__(self) -> None:
        self._busy: dict[Place, GroupSlice] = {}
        self._parked: dict[Place, list[Piece]] = {}

    def take(self, made: GroupSlice, index: int) -> bool:
        """Whether a message may go into the slice that is being made; if not, it is parked, or held behind a failed one."""
        claim, chunk = made.claim, made.chunk
        key = chunk.attributes.key(index)
        if key is None:
            return True
        if key in claim.waits_for and not claim.retried:
            claim.hold(chunk.base_offset + index, key)
            return False
        place = (claim.topic_id, claim.partition, key)
        holder = self._busy.get(place)
        if holder is not None and (holder is not made or not made.member.auto_ack):
            self._parked.setdefault(place, []).append(Piece(claim, chunk, [index]))
            return False
        self._busy[place] = made
        made.keys.add(place)
        return True

    def hold(self, one: GroupSlice) -> None:
        """A slice has the keys of its messages that are not settled."""
        claim, chunk = one.claim, one.chunk
        for index in one.indices[one.said : one.end]:
            key = chunk.attributes.key(index)
            if key is not None and claim.is_open(chunk.base_offset + index):
                place = (claim.topic_id, claim.partition, key)
                self._busy[place] = one
                one.keys.add(place)

    def free(self, one: GroupSlice, place: Place) -> Sequence[Piece]:
        """The slice has nothing more of a key in hand; what was parked behind it, in order."""
        one.keys.discard(place)
        if self._busy.get(place) is not one:
            return ()
        del self._busy[place]
        return self._parked.pop(place, ())

    def forget_tail(self, claim: HeldClaim, offset: int) -> None:
        """The messages of a claim from an offset on were given back: none of them waits here any more."""
        self._parked = {
            place: [
                piece
                for piece in pieces
                if piece.claim is not claim or piece.chunk.base_offset + piece.indices[0] < offset
            ]
            for place, pieces in self._parked.items()
        }

    def forget_lost(self) -> None:
        """Claims have passed to another consumer: what is parked of them is nobody's here."""
        self._parked = {
            place: [piece for piece in pieces if not piece.claim.is_lost] for place, pieces in self._parked.items()
        }
