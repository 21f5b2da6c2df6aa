"""Holds every commit of a process against the ledgers: what was claimed, what was settled, and what counted as a loss."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from delivery.ledger import (
    ACKNOWLEDGED,
    AHEAD,
    CLAIMED,
    DEAD,
    EXPIRED,
    FILTERED,
    REMOVED,
    RETRY,
    ROLLED_BACK,
    Ledger,
    Place,
    Published,
    Where,
    wanted_by,
)
from delivery.world import World

from geode_client.catalog import Delivery
from geode_client.delivery.lanes import KEY, PRIORITY
from geode_client.delivery.settlement import Settlement
from geode_client.store.claiming import Claim, process_of

Places = dict[Place, Where]


@dataclass(slots=True)
class Look:
    """Where all messages of all groups were before a commit."""

    of: dict[str, Places] = field(default_factory=dict)

    def held_by(self, owner: str) -> int:
        """Messages that a process had in claims of all groups."""
        return sum(
            where.state == CLAIMED and where.owner is not None and process_of(where.owner) == process_of(owner)
            for places in self.of.values()
            for where in places.values()
        )


@dataclass(slots=True)
class Judge:
    """What one process does to one group."""

    world: World
    owner: str
    group: Ledger

    def look(self) -> Look:
        # Settlements count from the first offset that a claim ever had.
        self.world.firsts.update(self.world.log.rows("SELECT claim_id, first FROM claims"))
        return Look({group.name: self.world.places(group) for group in self.world.groups})

    @property
    def settles_first(self) -> bool:
        return self.world.delivery is Delivery.AT_MOST_ONCE

    # ── settlements ──
    def settled(self, settlements: Sequence[Settlement], lost: Sequence[int], before: Look) -> None:
        places = before.of.get(self.group.name, {})
        owned = {where.claim_id for where in places.values() if where.state == CLAIMED and where.owner is not None}
        expected = {one.claim_id for one in settlements} - owned
        assert set(lost) == expected, f"claims {sorted(lost)} were refused, expected {sorted(expected)}"
        for one in settlements:
            if one.claim_id not in lost:
                self._settled(one, places)

    def _settled(self, one: Settlement, places: Places) -> None:
        pending = {p: w for p, w in places.items() if w.state == CLAIMED and w.claim_id == one.claim_id}
        named = [*(f.offset for f in one.failures), *(letter.offset for letter in one.dead_letters)]
        parked = [run.first + i for run in one.parked for i, bit in enumerate(run.pending) if bit]
        first = self.world.firsts[one.claim_id]
        settled = {(one.topic_id, one.partition, first + i) for i, bit in enumerate(one.settled) if bit}
        # What passed on while it was in hand has another claim.
        assert settled <= pending.keys(), f"claim {one.claim_id} settles {settled - pending.keys()}, which it has not"
        here = (one.topic_id, one.partition)
        for failed in one.failures:
            place = (*here, failed.offset)
            assert self._said(one, place) in (RETRY, ROLLED_BACK), (
                f"{self._shown(place)} failed, and its reader said otherwise"
            )
            self.group.attempts[place] += 1
            assert failed.attempts == self.group.attempts[place]
        for offset in parked:
            assert self.group.order_by == KEY
            assert self._said(one, (*here, offset)) is None, f"{self._shown((*here, offset))} was handed over and waits"
            self.group.attempts[(*here, offset)] = 0
        for letter in one.dead_letters:
            place = (*here, letter.offset)
            self._check_letter(one, place, letter.is_expired)
            self.group.count(place, EXPIRED if letter.is_expired else DEAD)
            self.world.letters[self.group.name, *place] += 1
        rest = settled - {(*here, offset) for offset in (*named, *parked)}
        self._check_counts(one, rest)
        for place in settled:
            self.group.said.pop((one.claim_id, place), None)
        self._check_given_back(one, first, pending, settled)

    def _said(self, one: Settlement, place: Place) -> str | None:
        return self.group.said.get((one.claim_id, place))

    def _shown(self, place: Place) -> Published:
        return self.world.messages[place]

    def _is_expired(self, place: Place) -> bool:
        at_us = self.world.messages[place].expires_us
        return at_us is not None and at_us <= max(self.world.latest_us, self.world.wall_us)

    def _check_letter(self, one: Settlement, place: Place, is_expired: bool) -> None:
        said, limit = self._said(one, place), self.world.options.max_retries
        if is_expired:
            right = self._is_expired(place) and self.world.options.dead_letter_expired
        else:
            right = said in (DEAD, ROLLED_BACK) or self.group.attempts[place] >= max(1, limit)
        assert right, f"{self._shown(place)} became a dead letter; its reader said {said}"

    def _check_counts(self, one: Settlement, rest: set[Place]) -> None:
        acknowledged = {p for p in rest if self._said(one, p) == ACKNOWLEDGED}
        assert one.acknowledged == len(acknowledged), (
            f"claim {one.claim_id}: {one.acknowledged} are acknowledged, expected {sorted(acknowledged)}"
        )
        others = rest - acknowledged
        assert one.filtered + one.expired + one.removed == len(others)
        for place in others:
            message = self._shown(place)
            right = not wanted_by(self.group.has_condition, message) or self._is_expired(place) or not message.stored
            assert right, f"{message} is settled without a word; its reader said {self._said(one, place)}"
        for word, number in (
            (ACKNOWLEDGED, one.acknowledged),
            (FILTERED, one.filtered),
            (EXPIRED, one.expired),
            (REMOVED, one.removed),
        ):
            if number:
                self.group.counts[one.topic_id, one.partition, word] += number

    def _check_given_back(self, one: Settlement, first: int, pending: Places, settled: set[Place]) -> None:
        if not one.let_go and one.tail_from is None:
            return
        start = first if one.let_go else first + (one.tail_from or 0)
        for place in pending.keys() - settled:
            hands = [hand for hand in self.group.hands.get(place, ()) if hand[0] == one.claim_id]
            if place[2] >= start:
                assert not hands, f"{self._shown(place)} is given back while {hands} have it"

    # ── claims ──
    def claimed(self, claim: Claim, before: Look) -> None:
        after = self.look()
        for group in self.world.groups:
            self._check_losses(group, claim, before, before.of[group.name], after.of[group.name])
        places = before.of[self.group.name]
        assert not (self.group.paused and claim.claimed), "a paused group gives nothing out"
        got: set[Place] = set()
        for one in claim.claimed:
            for index, bit in enumerate(one.pending):
                if bit:
                    place = (one.topic_id, one.partition, one.first + index)
                    got.add(place)
                    self._check_claimed(claim, place, places.get(place))
                    assert one.attempts == self.group.attempts[place], (
                        f"{self._shown(place)} comes with {one.attempts} attempts, expected {self.group.attempts[place]}"
                    )
        self._check_priority(claim, places, after.of[self.group.name], got)

    def _is_lost(self, claim: Claim, where: Where) -> bool:
        request = claim.request
        if where.state != CLAIMED or where.owner in (None, self.owner):
            return False
        return where.owner in request.dead or where.deadline_us < request.boot_us

    def _check_losses(self, group: Ledger, claim: Claim, before: Look, places: Places, after: Places) -> None:
        for place, was in places.items():
            is_now = after.get(place)
            if was.state != CLAIMED or was.owner is None or (is_now is not None and is_now.claim_id == was.claim_id):
                continue
            assert self._is_lost(claim, was), f"{self._shown(place)} was taken from {was.owner}, which lives: {was}"
            if self.settles_first:
                assert is_now is None
                group.count(place, ACKNOWLEDGED)
                group.lost_unseen.add(place)
                continue
            assert is_now is not None, f"{self._shown(place)} vanished with {was.owner}"
            is_to_blame = was.begun and before.held_by(was.owner) == 1
            group.attempts[place] += is_to_blame
            assert is_now.losses == was.losses + 1, f"{self._shown(place)}: {was} became {is_now}"
            assert is_now.attempts == was.attempts + is_to_blame, f"{self._shown(place)}: {was} became {is_now}"
            size = -(-was.held // 8)
            assert is_now.held <= size, f"{self._shown(place)}: {was.held} messages were cut into {is_now.held}"

    def _check_claimed(self, claim: Claim, place: Place, was: Where | None) -> None:
        assert was is not None, f"{self._shown(place)} is claimed, and was settled"
        match was.state:
            case "ahead" | "parked":
                right = True
            case "retry":
                right = was.due_us <= claim.request.now_us
            case _:
                right = was.owner is None or self._is_lost(claim, was)
        assert right, f"{self._shown(place)} is claimed, and was {was}"

    def _check_priority(self, claim: Claim, places: Places, after: Places, got: set[Place]) -> None:
        """In priority order nothing new is claimed while something higher is left that is known of."""
        if self.group.order_by != PRIORITY or not got:
            return
        if any(where.owner == self.owner and where.losses for where in after.values()):
            return  # beside a suspect nothing lower is claimed, and what it hinders is not looked at here
        lowest = min(self._shown(place).priority for place in got)
        topics = claim.request.topic_ids
        left = [
            self._shown(place)
            for place, where in after.items()
            if (where.state == AHEAD and (topics is None or place[0] in topics))
            or (where.state == RETRY and where.due_us <= claim.request.now_us)
            if self._shown(place).priority > lowest
        ]
        assert not left, f"priority {lowest} was claimed and {left[0]} left"
