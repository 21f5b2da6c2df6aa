"""A member of a group, reading and settling as a subscription does; holds what it is handed against the ledger."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery.ledger import (
    ACKNOWLEDGED,
    CLAIMED,
    DEAD,
    EXPIRED,
    RESERVED,
    RETRY,
    ROLLED_BACK,
    Hand,
    Place,
    Published,
    Where,
    wanted_by,
)

from geode_client.delivery import claims
from geode_client.delivery.lanes import KEY
from geode_client.delivery.members import GroupSlice, Member
from geode_client.errors import AlreadySettled, LeaseLost

if TYPE_CHECKING:
    from delivery.process import Rim

# Words of the core itself, for messages that no reader has to be asked about.
DECIDED = (claims.FILTERED, claims.EXPIRED, claims.REMOVED, claims.DEAD)


@dataclass(slots=True)
class Reader:
    """One member. `open`: what it was handed and has said nothing of. `reserved`: what its transaction acknowledges;
    `ending`: what the end of one has not answered yet."""

    rim: "Rim"
    name: str
    member: Member
    is_waiting: bool = False
    slices: list[GroupSlice] = field(default_factory=list)
    open: list[tuple[GroupSlice, int]] = field(default_factory=list)
    reserved: list[tuple[GroupSlice, int]] = field(default_factory=list)
    ending: list[tuple[GroupSlice, int]] = field(default_factory=list)

    # ── reading ──
    def read(self) -> bool:
        """Go on to the next message (which leaves the one before it behind); False when it has to wait for one."""
        self._leave_behind()
        while not self.is_waiting:
            for one in list(self.slices):
                if self._read_of(one):
                    return True
            if not self.rim.process.is_alive:
                return False
            if not self._take():
                self.is_waiting = True
                self.rim.scheduler.waits(self.name, self.rim.world.now)
                self.rim.collect()
        return False

    def _take(self) -> bool:
        one = self.rim.scheduler.take(self.member, self.rim.world.now)
        self.rim.collect()
        if one is None:
            return False
        self.slices.append(one)
        self.rim.tell(f"{self.name} is handed {_shown(one)}")
        return True

    def _read_of(self, one: GroupSlice) -> bool:
        while one.rest and self._is_ours(one):
            place, index = one.taken, one.indices[one.taken]
            one.taken += 1
            message = self._message(one, index)
            if message.expires_us is not None and message.expires_us <= self.rim.world.wall_us:
                if one.claim.is_pending(message.place[2]):
                    self.rim.group.said[one.claim.claim_id, message.place] = EXPIRED
                self.rim.core.expired(one, index)
                continue
            self._delivered(one, message)
            if self.rim.process.is_alive:
                self.open.append((one, place))
            return True
        if self.rim.process.is_alive and not one.rest:
            self._finish(one)
        return False

    def _is_ours(self, one: GroupSlice) -> bool:
        """What is delivered in order is asked for anew once its lease may have ended."""
        if one.is_fenced and not one.is_held(self.rim.world.boot_us):
            self.rim.renew()
            while self.rim.answers:
                self.rim.answer()
        return not (one.is_fenced and one.claim.is_lost) and one.rest > 0

    def _leave_behind(self) -> None:
        for one in self.slices:
            if self.member.auto_ack and one.taken > one.done:
                for place in range(one.done, one.taken):
                    index = one.indices[place]
                    if one.claim.is_undone(one.chunk.base_offset + index):
                        # Its transaction was rolled back: leaving it behind is a failed attempt.
                        limit = one.claim.rules.attempts_max
                        is_last = limit is not None and one.claim.attempts + 1 >= limit
                        self._say(one, index, DEAD if is_last else RETRY)
                    elif not one.claim.is_reserved(one.chunk.base_offset + index):
                        self._say(one, index, ACKNOWLEDGED)
                one.done = one.taken
        if self.member.auto_ack:
            self.open.clear()
        for one in [one for one in self.slices if not one.rest]:
            self._finish(one)

    def _finish(self, one: GroupSlice) -> None:
        if one in self.slices and (self.member.auto_ack is False or one.done == one.taken):
            self.slices.remove(one)
        self.rim.core.finish(one, self.rim.world.wall_us)

    def stop_waiting(self) -> None:
        """Whoever waited is cancelled; it may have been woken, and does not take."""
        self.is_waiting = False
        self.rim.scheduler.stopped_waiting(self.name, self.rim.world.now)
        self.rim.collect()

    # ── what it is handed ──
    def _delivered(self, one: GroupSlice, message: Published) -> None:
        rim, group, place, claim = self.rim, self.rim.group, message.place, one.claim
        rim.tell(f"{self.name} reads {message}, claim {claim.claim_id}, attempt {one.attempt}")
        places = rim.world.places(group) if group in rim.world.groups else {}
        where = places.get(place)
        is_ours = where is not None and where.state == CLAIMED and where.claim_id == claim.claim_id
        if claim.rules.settle_first and is_ours:
            assert not group.handed[place], f"{message} was handed over twice under at_most_once"
            group.handed[place] += 1
            group.said[claim.claim_id, place] = ACKNOWLEDGED
        if claim.rules.settle_first and not is_ours:
            assert place[:2] in group.moved or not message.stored or group not in rim.world.groups, (
                f"{message} is handed over and is {where}"
            )
        if not is_ours or where is None:
            return self._die_of(message)  # a stale hand: the message is another's now, and words here will be refused
        assert where.owner == rim.process.owner
        self._check_alone(message, where)
        if group.said.get((claim.claim_id, place)) == ROLLED_BACK:
            del group.said[claim.claim_id, place]  # its reader left, and it is as it was before
        assert claim.rules.settle_first or (claim.claim_id, place) not in group.said, (
            f"{message} comes again after {group.said[claim.claim_id, place]}"
        )
        assert wanted_by(group.has_condition, message), f"{message} is not what the condition asks for"
        others = [hand for hand in group.hands.get(place, ()) if hand[0] == claim.claim_id]
        assert not others, f"{message} is in the hands of {others} and given to {self.name}"
        if group.order_by == KEY and message.key is not None:
            before = [
                f"{rim.world.messages[other]} ({places[other]})"
                for other in places
                if self._goes_before(other, places, message)
            ]
            assert not before, f"{message} is handed over before {before}"
        if not claim.rules.settle_first:
            group.take(place, self._hand(one))
        return self._die_of(message, counts=True)

    def _die_of(self, message: Published, *, counts: bool = False) -> None:
        """What a poisonous message does to its consumer."""
        group, world = self.rim.group, self.rim.world
        if not message.poisonous:
            return
        if counts:
            group.deaths[message.place] += 1
            bound = world.options.max_retries + 4
            assert group.deaths[message.place] <= max(bound, 5), f"{message} has killed {group.deaths[message.place]}"
        world.kill(self.rim.process)

    def _check_alone(self, message: Published, where: Where) -> None:
        """What may have ended its consumers twice is handed over while nothing else is held in any group."""
        if where.losses < 2 or where.held > 1 or self.rim.world.delivery == "at_most_once":
            return
        owner, world = self.rim.process.owner, self.rim.world
        assert where.begun, f"{message} was lost {where.losses} times and is handed over without being begun"
        for group in world.groups:
            others = [
                str(world.messages[place])
                for place, other in world.places(group).items()
                if other.owner == owner and other.claim_id != where.claim_id
            ]
            assert not others, f"{message} was lost {where.losses} times and is handed over beside {others}"

    def _goes_before(self, other: Place, places: dict[Place, Where], message: Published) -> bool:
        """Whether an earlier message of the same key is not settled, neither in the store nor by a word said here."""
        where = places[other]
        if other[:2] != message.place[:2] or other[2] >= message.place[2]:
            return False
        if self.rim.world.messages[other].key != message.key:
            return False
        said = self.rim.group.said.get((where.claim_id, other))
        if where.state == CLAIMED and where.owner == self.rim.process.owner:
            return said in (None, RETRY, RESERVED, ROLLED_BACK) and not self._is_decided(where.claim_id, other)
        return True

    def _is_decided(self, claim_id: int, place: Place) -> bool:
        """Whether the core has settled a message without asking a reader."""
        claim = self.rim.core.claims.get(claim_id) or self.rim.core._ended.get(claim_id)
        return claim is not None and claim.state[place[2] - claim.first] % claims.WRITTEN in DECIDED

    # ── words ──
    def say(self, which: int, word: str, *, delay_us: int | None = None) -> None:
        """An explicit ack, nack or reject of something in hand; a word that is refused must have come too late."""
        if not self.open:
            return
        one, place = self.open[which % len(self.open)]
        index, message, claim = one.indices[place], self._message(one, one.indices[place]), one.claim
        if claim.rules.settle_first or claim.is_reserved(message.place[2]):
            return
        self.rim.tell(f"{self.name} says {word} of {message}")
        before = self.rim.group.said.get((claim.claim_id, message.place))
        limit = claim.rules.attempts_max
        last = word == DEAD or (limit is not None and claim.attempts + 1 >= limit)
        meant = word if word == ACKNOWLEDGED else DEAD if last else RETRY
        try:
            if word == ACKNOWLEDGED:
                self.rim.core.acknowledge(one, index)
            else:
                now_us = self.rim.world.wall_us
                self.rim.core.refuse(one, index, requeue=word == RETRY, delay_us=delay_us, reason="no", now_us=now_us)
        except LeaseLost:
            assert claim.is_lost or one not in self.member.slices, f"{message} is said to have passed on"
        except AlreadySettled:
            assert before != meant, f"{message} was {before}, and {meant} is refused"
        else:
            assert before in (None, meant, RESERVED, ROLLED_BACK)
            self._say(one, index, meant)
            self.rim.scheduler.room_made(self.name, self.rim.world.now)
            self.rim.settle(claim.claim_id, message.place)
        self.open.remove((one, place))

    def reserve(self, which: int) -> None:
        """Acknowledge something in hand within a transaction."""
        if not self.open:
            return
        one, place = self.open[which % len(self.open)]
        index, message = one.indices[place], self._message(one, one.indices[place])
        if one.claim.rules.settle_first or (one, index) in self.reserved:
            return
        try:
            made = self.rim.core.reserve(one, index)
        except (LeaseLost, AlreadySettled):
            return
        if made:
            self.rim.tell(f"{self.name} acknowledges {message} in a transaction")
            self.reserved.append((one, index))
            self.rim.group.said[one.claim.claim_id, message.place] = RESERVED

    def end_transaction(self, *, commits: bool) -> None:
        """Commit or roll back; what was rolled back is in hand as it was before."""
        held, self.reserved = self.reserved, []
        if not held:
            return
        group = self.rim.group
        for one, index in held:
            key = (one.claim.claim_id, self._message(one, index).place)
            if commits:
                group.said[key] = ACKNOWLEDGED
                group.release(key[1], self._hand(one))
                self.ending.append((one, index))
                self.open = [(s, p) for s, p in self.open if s is not one or s.indices[p] != index]
            else:
                group.said[key] = ROLLED_BACK
        self.rim.end_transaction(held, commits=commits)

    def extend(self, which: int, seconds: int) -> None:
        """Hold what is in hand for longer."""
        if self.open:
            claim = self.open[which % len(self.open)][0].claim
            claim.extended_us = max(claim.extended_us, self.rim.world.boot_us + seconds * 1_000_000)
            self.rim.renew()

    def _say(self, one: GroupSlice, index: int, word: str) -> None:
        """Note a word, unless another one was said of the message before."""
        message, claim = self._message(one, index), one.claim
        if claim.rules.settle_first:
            return
        self.rim.group.release(message.place, self._hand(one))
        if self.rim.group.said.get((claim.claim_id, message.place)) in (RESERVED, ROLLED_BACK):
            self.rim.group.said.pop((claim.claim_id, message.place))
        self.rim.group.said.setdefault((claim.claim_id, message.place), word)

    def fail(self) -> None:
        """An exception leaves the subscription: what it had in hand counts as a failed attempt."""
        self.end_transaction(commits=False)
        for one in self.slices:
            first = one.done if self.member.auto_ack else max(0, one.taken - 1)
            for index in one.indices[first : one.taken]:
                if one.claim.rules.settle_first or not one.claim.is_pending(one.chunk.base_offset + index):
                    continue
                limit = one.claim.rules.attempts_max
                is_last = limit is not None and one.claim.attempts + 1 >= limit
                self._say(one, index, DEAD if is_last else RETRY)
            self.rim.core.at_hand_failed(one, reason="broken", now_us=self.rim.world.wall_us)

    def drop(self) -> None:
        """The subscription closes: what is in hand is given back, after a transaction that is open was rolled back."""
        self.end_transaction(commits=False)
        self.rim.group.dropped(self.name)
        for one in self.slices:
            one.end = one.end  # the core gives the rest to others
        self.slices.clear()
        self.open.clear()

    # ── what it has in hand ──
    def check(self) -> None:
        """`in_flight` is what is in living hands."""
        if any(one.claim.rules.settle_first for one in self.member.slices):
            return
        mine = {
            (one.claim.claim_id, self._message(one, one.indices[place]).place)
            for one, place in self.open
            if one.claim.is_open(one.chunk.base_offset + one.indices[place])
        }
        mine |= {
            (one.claim.claim_id, self._message(one, index).place)
            for one, index in self.ending
            if one.claim.is_reserved(one.chunk.base_offset + index)
            and (not self.member.auto_ack or index in one.indices[one.done : one.taken])
        }
        assert self.member.in_flight == len(mine), (
            f"{self.name} has {len(mine)} in hand, counts {self.member.in_flight}"
        )

    def _hand(self, one: GroupSlice) -> Hand:
        return (one.claim.claim_id, self.name)

    def _message(self, one: GroupSlice, index: int) -> Published:
        return self.rim.world.messages[one.chunk.topic_id, one.chunk.partition, one.chunk.base_offset + index]


def _shown(one: GroupSlice) -> str:
    base = one.chunk.base_offset
    return f"{one.chunk.topic}/{one.chunk.partition}@{[base + index for index in one.indices]} of claim {one.claim.claim_id}"
