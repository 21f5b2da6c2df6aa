"""One group in one process: the messages it holds, which member has them, and what is to be written down.

No I/O, no clock, no event loop: claims, outcomes and times come in through method calls, slices and settlements go out.
`claiming.py` decides what a process may claim and `scheduler.py` when it does. Here a claim becomes pieces that are ready,
pieces become slices in the hands of members, and the outcomes of their messages become the next settlement.

Invariants: every pending message of a claim that is not lost is in exactly one place: a ready piece, a slice (taken or
not), set apart until it may be handed over alone, waiting behind one of its key, or it could not be read. In an ordered
group no two messages of one key are in different hands, and none is in any hand while an earlier one is unsettled.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from geode_client.conditions.protocol import ConditionLike
from geode_client.delivery.claims import (
    ACKNOWLEDGED,
    DEAD,
    FAILED,
    RESERVED,
    HeldClaim,
)
from geode_client.delivery.intake import Intake, expire
from geode_client.delivery.judged import Judged
from geode_client.delivery.lanes import KEY, PRIORITY
from geode_client.delivery.members import Found, GroupSlice, KeysInHand, Member, Piece
from geode_client.delivery.settlement import Settlement
from geode_client.delivery.window import Window

ORDERED_SLICE_MAX = 64


class GroupCore:
    """The group's state in one process. `addressee` is the group as copies of dead letters name it. `jitter` gives a number from 0 to 1 for the wait before a retry."""

    def __init__(
        self,
        order_by: str,
        *,
        condition: ConditionLike | None = None,
        key: str | None = None,
        addressee: tuple[str, str] | None = None,
        jitter: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self.order_by = order_by
        self.condition = condition
        self.judged = Judged()
        self._key, self._addressee = key, addressee
        self._intake = Intake(condition, key, addressee, self.judged)
        self.members: dict[str, Member] = {}
        self.claims: dict[int, HeldClaim] = {}
        self._jitter = jitter
        self._ready: dict[int, deque[Piece]] = {}
        self._keys = KeysInHand()
        self._ended: dict[int, HeldClaim] = {}  # wholly settled, and the store has not answered yet
        self._apart: dict[int, list[Piece]] = {}  # by claim id: messages that are handed over only once they are alone
        self.window = Window()
        self._now_us = 0

    def alter(self, condition: ConditionLike | None, order_by: str) -> None:
        """Take another condition, for what is claimed from now on, or another order, when no claim is held."""
        if condition is not self.condition:
            self.condition = condition
            self._intake = Intake(condition, self._key, self._addressee, self.judged)
        if order_by != self.order_by:
            self.order_by = order_by
            self._ready.clear()
            self._apart.clear()
            for _, one in self.in_hand():
                one.keys.clear()
            self._keys = KeysInHand()

    # ── members ──
    def join(self, member: Member) -> None:
        self.members[member.member_id] = member

    def leave(self, member: Member) -> None:
        """What the member has not settled is ready for the others."""
        for one in reversed(member.slices):
            self._harvest(one)
            self._put_back(one, one.said if member.auto_ack else 0)
        member.slices.clear()
        self.members.pop(member.member_id, None)

    # ── what was claimed ──
    def received(
        self, claim: HeldClaim, found: Iterable[Found], now_us: int, unmet: Sequence[tuple[int, int]] = ()
    ) -> list[Piece]:
        """Take in a claim and what the log holds of it; what can be delivered comes back as pieces, for `offer`.

        `unmet` are runs of offsets that the condition is known not to want; they need not be in `found`.
        """
        self.claims[claim.claim_id] = claim
        claimed = claim.left
        pieces = self._intake.received(claim, found, now_us, unmet)
        self.window.received(claimed, sum(len(piece.indices) for piece in pieces))
        return pieces

    def offer(self, pieces: Iterable[Piece]) -> None:
        """Pieces are ready; in a priority group members give back what they have not begun of lower lanes."""
        for piece in pieces:
            claim = piece.claim
            if claim.must_be_alone and not claim.begun:
                self._apart.setdefault(claim.claim_id, []).append(piece)
                continue
            self.recall_below(claim.lane)
            self._lane_of(claim).append(piece)

    def recall_below(self, lane: int) -> bool:
        """In a priority group take back what members have not begun of lower lanes; whether that was anything."""
        if self.order_by != PRIORITY:
            return False
        return self._recall(lambda one: one.claim.lane < lane)

    # ── messages that are handed over alone ──
    @property
    def set_apart(self) -> int | None:
        """The claim whose message waits until this process holds nothing else."""
        return next(iter(self._apart), None)

    def begin(self, claim_id: int) -> None:
        """The backend has noted that the message is handed over alone."""
        pieces = self._apart.pop(claim_id, [])
        for piece in pieces:
            piece.claim.begun = True
        self.offer(pieces)

    def holds_only(self, claim_id: int | None) -> bool:
        """Whether this process holds no claim of the group but this one, as far as the backend knows."""
        return not self._ended and all(number == claim_id for number in self.claims)

    def give_up(self, claim_id: int) -> list[Settlement]:
        """Give back a message that was set apart, without a loss."""
        self._apart.pop(claim_id, None)
        claim = self.claims.pop(claim_id, None)
        if claim is None:
            return []
        made = claim.settled(let_go=True)
        claim.is_lost = True
        return [made]

    # ── taking ──
    @property
    def ready_count(self) -> int:
        return sum(len(piece.indices) for pieces in self._ready.values() for piece in pieces)

    def has_ready(self) -> bool:
        """Whether there is anything for a member to take."""
        return self._first() is not None

    def wanted(self, now_us: int) -> int:
        """How many messages to claim now."""
        limit = self._room() if self.only_above() is not None else self._room() - self.ready_count
        self.window.claimed(now_us)
        return min(self.window.size(max(1, len(self.members))), limit)

    def only_above(self) -> int | None:
        """The lane beyond which alone to claim, in a priority group that has as much at hand as its members have room for:
        what comes in later may go before all of that."""
        if self.order_by != PRIORITY or self.ready_count < self._room():
            return None
        return self.highest_ready()

    def highest_ready(self) -> int | None:
        """The highest lane of which something is ready; 0 without priorities."""
        pieces = self._first()
        if pieces is None:
            return None
        return self._rank(pieces[0].claim)

    def _room(self) -> int:
        return sum(max(0, member.prefetch - member.holds) for member in self.members.values())

    def take(self, member: Member, now_us: int) -> GroupSlice | None:
        """Messages for a member; None when nothing is ready for it."""
        self._now_us = now_us
        member.slices = [one for one in member.slices if not self._is_finished(one)]
        room = member.prefetch - member.holds
        if room <= 0:
            return None
        self._take_what_goes_before(member)
        while (pieces := self._first()) is not None:
            share = min(room, self._share())
            made = (
                self._cut_in_order(member, pieces, share) if self.order_by == KEY else self._cut(member, pieces, share)
            )
            if made is not None and self._drop_expired(made, now_us):
                made.handed_us = now_us
                member.slices.append(made)
                return made
        return None

    def _share(self) -> int:
        """One reader takes all there is; several take a part each, so that none waits while another has plenty."""
        members = len(self.members)
        return self.ready_count if members <= 1 else max(1, self.ready_count // (2 * members))

    def _first(self) -> "deque[Piece] | None":
        for lane in sorted(self._ready, reverse=True):
            pieces = self._ready[lane]
            while pieces and (pieces[0].claim.is_lost or not pieces[0].indices):
                pieces.popleft()
            if pieces:
                return pieces
        return None

    def _cut(self, member: Member, pieces: "deque[Piece]", share: int) -> GroupSlice:
        piece = pieces[0]
        taken, piece.indices = piece.indices[:share], piece.indices[share:]
        return GroupSlice(member, piece.claim, piece.chunk, taken)

    def _cut_in_order(self, member: Member, pieces: "deque[Piece]", share: int) -> GroupSlice | None:
        """Messages whose key is in no other hand; the others are parked, or wait for the retry of an earlier one."""
        piece = pieces[0]
        claim, chunk = piece.claim, piece.chunk
        if len(self.members) == 1 and member.auto_ack and not member.slices and not claim.waits_for:
            # Nothing else is in any hand: the order of the slice is the order of its keys.
            made = self._cut(member, pieces, share)
            made.is_fenced = made.is_untracked = True
            return made
        self._track_keys()
        share = min(share, ORDERED_SLICE_MAX)
        made = GroupSlice(member, claim, chunk, [])
        made.is_fenced = True  # once it is somebody else's, what follows of a key may have been delivered
        chosen: list[int] = []
        seen = 0
        for index in piece.indices:
            if len(chosen) >= share:
                break
            seen += 1
            if self._keys.take(made, index):
                chosen.append(index)
        piece.indices = piece.indices[seen:]
        made.indices, made.end = chosen, len(chosen)
        return made if chosen else None

    def _track_keys(self) -> None:
        """From now on more than one slice is in hand: note which has the messages of a key."""
        for _, one in self.in_hand():
            if one.is_untracked:
                one.is_untracked = False
                self._keys.hold(one)

    def _drop_expired(self, made: GroupSlice, now_us: int) -> bool:
        """Whether anything is left once what has expired since it was claimed is settled."""
        if made.chunk.attributes.expires_us is None:
            return True
        alive = set(made.chunk.unexpired(now_us))
        expire(made.claim, made.chunk, [index for index in made.indices if index not in alive])
        made.indices = [index for index in made.indices if index in alive]
        made.end = len(made.indices)
        if not made.indices:
            self._free_keys(made)
        return bool(made.indices)

    def steal(self, member: Member) -> bool:
        """Make ready half of what another member has in hand and not begun; False when nobody has anything to spare."""
        if self.order_by == KEY:
            return False
        found = [one for other, one in self.in_hand() if other is not member and one.rest]
        if not found:
            return False
        richest = max(found, key=lambda one: (self._rank(one.claim), one.rest))
        self._shorten(richest, richest.taken + richest.rest // 2)
        return True

    def _take_what_goes_before(self, member: Member) -> None:
        """In a priority group make ready half of what another member has not begun, if it goes before all that is ready."""
        lane = self.highest_ready()
        if self.order_by != PRIORITY or lane is None:
            return
        above = [one for other, one in self.in_hand() if other is not member and one.rest and one.claim.lane > lane]
        if above:
            first = max(above, key=lambda one: one.claim.lane)
            self._shorten(first, first.taken + first.rest // 2)

    def _rank(self, claim: HeldClaim) -> int:
        return claim.lane if self.order_by == PRIORITY else 0

    def _recall(self, which: Callable[[GroupSlice], bool]) -> bool:
        found = [one for member in self.members.values() for one in member.slices if one.rest and which(one)]
        for one in reversed(found):
            self._shorten(one, one.taken)
        return bool(found)

    def _shorten(self, one: GroupSlice, end: int) -> None:
        back = one.indices[end : one.end]
        one.end = end
        self._lane_of(one.claim).appendleft(Piece(one.claim, one.chunk, back))

    # ── what is said ──
    def acknowledge(self, one: GroupSlice, index: int) -> bool:
        """An explicit acknowledgement; False when it had been said before. Raises LeaseLost, AlreadySettled."""
        offset = one.chunk.base_offset + index
        if not one.may_say(index, ACKNOWLEDGED):
            return False
        one.claim.say(offset, ACKNOWLEDGED)
        self._free_key_of(one, index)
        return True

    def refuse(
        self,
        one: GroupSlice,
        index: int,
        *,
        requeue: bool,
        delay_us: int | None,
        reason: str | None,
        now_us: int,
    ) -> bool:
        """A failed attempt: the message waits for the next one, or becomes a dead letter. As `acknowledge` otherwise."""
        claim, offset = one.claim, one.chunk.base_offset + index
        attempts, limit = claim.attempts + 1, claim.rules.attempts_max
        last = not requeue or (limit is not None and attempts >= limit)
        if not one.may_say(index, DEAD if last else FAILED):
            return False
        if last:
            why = "max_retries" if requeue else "rejected"
            claim.bury(one.chunk, index, reason=why, attempts=attempts, error=reason, failed=True)
        else:
            wait_us = claim.backoff_us(self._jitter()) if delay_us is None else delay_us
            # Once its time to live is over it is settled, and no longer holds back its key.
            expiry_us = one.chunk.attributes.expiry_us(index)
            if expiry_us is not None:
                wait_us = max(0, min(wait_us, expiry_us - now_us))
            key = one.chunk.attributes.key(index) if self.order_by == KEY else None
            claim.fail(offset, key=key, delay_us=wait_us, now_us=now_us, error=reason)
            self._hold_rest(one)
        self._free_key_of(one, index)
        return True

    def at_hand_failed(self, one: GroupSlice, *, reason: str | None, now_us: int) -> None:
        """The reader left with an exception: what it had in hand counts as a failed attempt.

        Not under at_most_once: there a message is acknowledged by being handed over.
        """
        if one.claim.rules.settle_first:
            return
        first = one.done if one.member.auto_ack else max(0, one.taken - 1)
        for index in one.indices[first : one.taken]:
            if one.claim.is_pending(one.chunk.base_offset + index):
                self.refuse(one, index, requeue=True, delay_us=None, reason=reason, now_us=now_us)

    def reserve(self, one: GroupSlice, index: int) -> bool:
        """An acknowledgement within an open transaction; as `acknowledge` otherwise."""
        if one.claim.is_reserved(one.chunk.base_offset + index) or not one.may_say(index, ACKNOWLEDGED):
            return False
        one.claim.reserve(one.chunk.base_offset + index)
        return True

    def transaction_ended(self, held: Iterable[tuple[GroupSlice, int]], *, stored: bool) -> None:
        """A transaction that had reserved these messages is over."""
        for one, index in held:
            one.claim.transaction_ended([one.chunk.base_offset + index], stored=stored)
            if stored:
                self._free_key_of(one, index)
            elif not one.claim.is_lost:
                self._came_back(one, index)
            else:
                one.told_lost.add(index)
        self._forget_settled()

    def _came_back(self, one: GroupSlice, index: int) -> None:
        """A message is as it was before its transaction; its reader may have gone on, or away, meanwhile."""
        if one.member.member_id not in self.members:
            self._lane_of(one.claim).appendleft(Piece(one.claim, one.chunk, [index]))
        elif one.member.auto_ack and index in one.indices[: one.said]:
            self._fail_rolled_back(one, index)

    def _fail_rolled_back(self, one: GroupSlice, index: int) -> None:
        reason = "its transaction was rolled back"
        self.refuse(one, index, requeue=True, delay_us=None, reason=reason, now_us=self._now_us)

    def expired(self, one: GroupSlice, index: int) -> None:
        """A message in hand expired before it was looked at."""
        if one.claim.is_pending(one.chunk.base_offset + index):
            expire(one.claim, one.chunk, [index])

    def finish(self, one: GroupSlice, now_us: int) -> None:
        """The reader has come to the end of what it took: with auto_ack all of that is acknowledged."""
        self._now_us = now_us
        if one.member.auto_ack:
            one.done = one.taken
            self._harvest(one)

    def _hold_rest(self, one: GroupSlice) -> None:
        """In an ordered group what follows a failed message in the same hand is looked at anew."""
        if self.order_by == KEY and one.rest:
            self._shorten(one, one.taken)

    def _harvest(self, one: GroupSlice) -> None:
        """Acknowledge what an auto_ack reader has left behind; under at_most_once, what was handed over."""
        handled = one.handled
        if handled > one.said:
            one.claim.say_of_all(ACKNOWLEDGED, one.chunk, one.indices[one.said : handled])
            if not one.claim.rules.settle_first:
                self._fail_undone(one, handled)
            one.said = handled

    def _fail_undone(self, one: GroupSlice, handled: int) -> None:
        """What was left behind after its transaction was rolled back was not done: it is tried again."""
        base = one.chunk.base_offset
        for index in one.indices[one.said : handled] if one.claim.has_undone else ():
            if one.claim.is_undone(base + index):
                self._fail_rolled_back(one, index)

    def _is_finished(self, one: GroupSlice) -> bool:
        self._harvest(one)
        if not (one.claim.is_lost or one.is_over()):
            return False
        self.window.note(one.taken, self._now_us - one.handed_us)
        self._free_keys(one)
        return True

    def _put_back(self, one: GroupSlice, first: int) -> None:
        base = one.chunk.base_offset
        if one.claim.rules.settle_first:
            back = list(one.indices[one.taken : one.end])
        else:
            back = [index for index in one.indices[first : one.end] if one.claim.is_pending(base + index)]
        one.end = one.taken
        one.given_back = frozenset(back)
        self._free_keys(one)
        if back:
            self._lane_of(one.claim).appendleft(Piece(one.claim, one.chunk, back))

    # ── keys in hand ──
    def _free_key_of(self, one: GroupSlice, index: int) -> None:
        """With manual acknowledgement a key is free as soon as its one message in hand is settled."""
        key = one.chunk.attributes.key(index) if one.keys and not one.member.auto_ack else None
        if key is not None:
            self._ready_again(self._keys.free(one, (one.claim.topic_id, one.claim.partition, key)))

    def _free_keys(self, one: GroupSlice) -> None:
        for place in list(one.keys):
            self._ready_again(self._keys.free(one, place))

    def _ready_again(self, parked: Sequence[Piece]) -> None:
        for piece in reversed(parked):
            self._lane_of(piece.claim).appendleft(piece)

    # ── what is to be written ──
    def settlements(self) -> list[Settlement]:
        """Everything said since the last time; from here on it counts as written."""
        for member in self.members.values():
            for one in member.slices:
                self._harvest(one)
        return [self._written(claim) for claim in list(self.claims.values()) if claim.is_unwritten]

    def has_unwritten(self) -> bool:
        """Whether there are outcomes that are not written (a reader that goes on acknowledges without a call)."""
        if any(claim.is_unwritten for claim in self.claims.values()):
            return True
        return any(one.handled > one.said for member in self.members.values() for one in member.slices)

    def let_go(self) -> list[Settlement]:
        """Give up all that is held: the last member has left."""
        made = self.settlements()
        made += [claim.settled(let_go=True) for claim in self.claims.values()]
        for claim in self.claims.values():
            claim.is_lost = True
        self.claims.clear()
        self._ready.clear()
        self._apart.clear()
        self._keys = KeysInHand()
        return made

    def surplus(self, now_us: int) -> list[Settlement]:
        """What has been held for long without being begun, for other processes to take."""
        if self.order_by == KEY or not self.window.is_held_long(now_us):
            return []
        return self.not_begun()

    def not_begun(self) -> list[Settlement]:
        """Give back everything that no member has begun; of a claim only what lies behind all that was begun."""
        self._recall(lambda one: True)
        made: list[Settlement] = []
        for pieces in self._ready.values():
            for claim in {piece.claim.claim_id: piece.claim for piece in pieces if piece.indices}.values():
                cut = min(p.chunk.base_offset + p.indices[0] for p in pieces if p.claim is claim and p.indices)
                if claim.claim_id not in self.claims or self._is_in_hand(claim, cut):
                    continue
                self._keys.forget_tail(claim, cut)
                made.append(self._written(claim, tail_from=cut - claim.first))
        given = {one.claim_id for one in made}
        for lane, pieces in self._ready.items():
            self._ready[lane] = deque(piece for piece in pieces if piece.claim.claim_id not in given)
        return made

    def _is_in_hand(self, claim: HeldClaim, offset: int) -> bool:
        """Whether a message of the claim at or behind the offset was taken and is not settled; or a transaction has it."""
        if RESERVED in claim.state[max(0, offset - claim.first) :]:
            return True  # its reader may have gone on meanwhile
        return any(
            claim.is_open(one.chunk.base_offset + index) and one.chunk.base_offset + index >= offset
            for member in self.members.values()
            for one in member.slices
            if one.claim is claim
            for index in one.indices[one.said : one.taken]
        )

    def lost(self, claim_ids: Iterable[int]) -> int:
        """Claims have passed to another consumer; how many of ours those were."""
        known = []
        for claim_id in claim_ids:
            claim = self.claims.pop(claim_id, None) or self._ended.get(claim_id)
            if claim is not None:
                claim.is_lost = True
                self._apart.pop(claim_id, None)
                known.append(claim)
        for _, one in self.in_hand():
            if one.claim.is_lost:
                one.end = one.taken  # somebody else delivers the rest
        self._keys.forget_lost()
        return len(known)

    def _written(self, claim: HeldClaim, *, tail_from: int | None = None) -> Settlement:
        made = claim.settled(tail_from=tail_from)
        if not claim.left:
            del self.claims[claim.claim_id]
            self._ended[claim.claim_id] = claim
        return made

    def confirmed(self, settlements: Iterable[Settlement]) -> None:
        """The store has answered to these settlements, and what was lost of them has been told to `lost`."""
        for one in settlements:
            claim = self.claims.get(one.claim_id) or self._ended.get(one.claim_id)
            if claim is not None:
                claim.unanswered -= 1
                if not claim.unanswered:
                    self._ended.pop(one.claim_id, None)

    def _forget_settled(self) -> None:
        for claim in list(self.claims.values()):
            if not claim.left and not claim.is_unwritten:
                del self.claims[claim.claim_id]

    def shortest_lease_us(self) -> int | None:
        leases = (claim.rules.lease_us for claim in self.claims.values() if not claim.rules.settle_first)
        return min(leases, default=None)

    def deadlines(self, boot_us: int) -> dict[int, int]:
        """The deadline that each claim is to have when its lease is renewed now."""
        return {
            claim.claim_id: max(boot_us + claim.rules.lease_us, claim.extended_us)
            for claim in self.claims.values()
            if not claim.rules.settle_first  # these last as long as their process
        }

    def renewed(self, deadlines: Mapping[int, int]) -> None:
        """The store has these deadlines."""
        for claim_id, deadline_us in deadlines.items():
            claim = self.claims.get(claim_id)
            if claim is not None:
                claim.deadline_us = deadline_us

    def in_hand(self) -> Iterator[tuple[Member, GroupSlice]]:
        for member in self.members.values():
            for one in member.slices:
                yield member, one

    def _lane_of(self, claim: HeldClaim) -> "deque[Piece]":
        return self._ready.setdefault(self._rank(claim), deque())
