"""A member of a `Worker`, reading and settling as a subscription does; holds what it is handed against the ledger."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery import ledger
from delivery.ledger import CLAIMED, RETRY, Hand, Published, wanted_by

from geode_client.delivery.lanes import KEY, PRIORITY
from geode_client.delivery.members import GroupSlice, Member, Piece
from geode_client.errors import AlreadySettled, LeaseLost

if TYPE_CHECKING:
    from delivery.worker import Worker


@dataclass(slots=True)
class Reader:
    """One member, reading as a subscription does. `open`: what it has in hand and has said nothing of."""

    worker: "Worker"
    name: str
    member: Member
    slices: list[GroupSlice] = field(default_factory=list)
    open: list[tuple[GroupSlice, int]] = field(default_factory=list)

    def take(self) -> bool:
        """Ask for a slice; whether one came."""
        core, world = self.worker.core, self.worker.world
        highest = max(
            (lane for lane, pieces in core._ready.items() if any(_is_live(p, world.wall_us) for p in pieces)), default=0
        )
        one = core.take(self.member, world.wall_us)
        if one is None:
            return False
        assert one.claim.lane == highest or core.order_by != PRIORITY, (
            f"{self.name} got lane {one.claim.lane}, not {highest}"
        )
        self.slices.append(one)
        self.worker.tell(f"{self.name} is handed {_shown(one)}")
        return True

    def read(self) -> bool:
        """Go on to the next message in hand (which leaves the one before it behind); False when there is none."""
        self._leave_behind()
        for one in list(self.slices):
            while one.rest and self._is_ours(one):
                place, index = one.taken, one.indices[one.taken]
                one.taken += 1
                message = self._message(one, index)
                self.worker.unseen.pop(message.place, None)
                if message.expires_us is not None and message.expires_us <= self.worker.world.wall_us:
                    if one.claim.is_pending(message.place[2]):
                        self.worker.group.said[one.claim.claim_id, message.place] = ledger.EXPIRED
                    self.worker.core.expired(one, index)
                    continue
                self._delivered(one, message)
                self.open.append((one, place))
                return True
            self._finish(one)
        return False

    def _is_ours(self, one: GroupSlice) -> bool:
        """What is delivered in order is asked for anew once its lease may have ended."""
        if one.is_fenced and self.worker.world.boot_us >= one.claim.deadline_us:
            self.worker.renew()
        return not (one.is_fenced and one.claim.is_lost)

    def _leave_behind(self) -> None:
        for one in self.slices:
            if self.member.auto_ack and one.taken > one.done:
                for place in range(one.done, one.taken):
                    self._say(one, one.indices[place], ledger.ACKNOWLEDGED)
                one.done = one.taken
        if self.member.auto_ack:
            self.open.clear()

    def _finish(self, one: GroupSlice) -> None:
        self.worker.core.finish(one)
        self.slices.remove(one)

    def _say(self, one: GroupSlice, index: int, word: str) -> None:
        """Note a word, unless another one was said of the message before."""
        message = self._message(one, index)
        group, claim = self.worker.group, one.claim
        group.release(message.place, self._hand(one))
        group.said.setdefault((claim.claim_id, message.place), word)

    def _delivered(self, one: GroupSlice, message: Published) -> None:
        group, place, claim = self.worker.group, message.place, one.claim
        self.worker.tell(f"{self.name} reads {message}, claim {claim.claim_id}, attempt {one.attempt}")
        if claim.rules.settle_first:
            if (claim.claim_id, place) not in group.first_settled:
                return  # claimed before a seek: what is in hand is handed over all the same
            assert group.state[place] == ledger.ACKNOWLEDGED, f"{message} was handed over and is {group.state[place]}"
            assert not group.deliveries[place], f"{message} was handed over twice under at_most_once"
            group.take(place, self._hand(one))
            return
        lease = group.leases.get(claim.claim_id)
        if lease is None or place not in lease.places:
            return  # a stale hand: another process has the message now, and what is said here will be refused
        assert group.state[place] == CLAIMED
        assert (claim.claim_id, place) not in group.said, (
            f"{message} comes again after {group.said[claim.claim_id, place]}"
        )
        assert wanted_by(group.has_condition, message), f"{message} is not what the condition asks for"
        others = [hand for hand in group.hands.get(place, ()) if hand[0] == claim.claim_id]
        assert not others, f"{message} is in the hands of {others} and given to {self.name}"
        if group.order_by == KEY and message.key is not None:
            before = list(map(str, self.worker._unsettled_before(message)))
            assert not before, f"{message} is handed over before {before}"
        group.take(place, self._hand(one))

    # ── words ──
    def say(self, which: int, word: str, *, delay_us: int | None = None) -> None:
        """An explicit ack, nack or reject of something in hand; a word that is refused must have come too late."""
        if not self.open:
            return
        one, place = self.open[which % len(self.open)]
        index, message, claim = one.indices[place], self._message(one, one.indices[place]), one.claim
        key = (claim.claim_id, message.place)
        if claim.rules.settle_first:
            return
        self.worker.tell(f"{self.name} says {word} of {message}")
        before = self.worker.group.said.get(key)
        limit = claim.rules.attempts_max
        last = word == ledger.DEAD or (limit is not None and claim.attempts + 1 >= limit)
        meant = word if word == ledger.ACKNOWLEDGED else ledger.DEAD if last else RETRY
        try:
            if word == ledger.ACKNOWLEDGED:
                self.worker.core.acknowledge(one, index)
            else:
                self._refuse(one, index, requeue=word == RETRY, delay_us=delay_us)
        except LeaseLost:
            assert claim.is_lost or one not in self.member.slices, f"{message} is said to have passed on"
        except AlreadySettled:
            assert before not in (None, meant), f"{message} was {before}, and {meant} is refused"
        else:
            assert before in (None, meant)
            self._say(one, index, meant)
        self.open.remove((one, place))

    def _refuse(self, one: GroupSlice, index: int, *, requeue: bool, delay_us: int | None) -> None:
        now = self.worker.world.wall_us
        self.worker.core.refuse(one, index, requeue=requeue, delay_us=delay_us, reason="no", now_us=now)

    def drop(self) -> None:
        """The subscription closes: what is in hand is given back."""
        for hands in self.worker.group.hands.values():
            for hand in [hand for hand in hands if hand[1] == self.name]:
                hands.discard(hand)
        for one in self.slices:
            one.end = one.taken
        self.slices.clear()
        self.open.clear()

    def _hand(self, one: GroupSlice) -> Hand:
        return (one.claim.claim_id, self.name)

    def _message(self, one: GroupSlice, index: int) -> Published:
        return self.worker.world.messages[one.chunk.topic_id, one.chunk.partition, one.chunk.base_offset + index]


def _is_live(piece: Piece, now_us: int) -> bool:
    alive = set(piece.chunk.unexpired(now_us))
    return not piece.claim.is_lost and any(index in alive for index in piece.indices)


def _shown(one: GroupSlice) -> str:
    base = one.chunk.base_offset
    return f"{one.chunk.topic}/{one.chunk.partition}@{[base + index for index in one.indices]} of claim {one.claim.claim_id}"
