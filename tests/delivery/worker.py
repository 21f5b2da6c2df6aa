"""One group in one process of the `World`: what its dispatcher would do, each write at a moment of the test's choosing.

Every step holds what it sees against the group's ledger.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

from delivery import ledger
from delivery.ledger import AHEAD, CLAIMED, RETRY, Ledger, Place, Published, wanted_by
from delivery.reader import Reader
from delivery.world import SECOND_US, NotThirds, World

from geode_client.catalog import Topic, dead_letter_topic_of
from geode_client.delivery import claims
from geode_client.delivery.claims import HeldClaim, rules_of
from geode_client.delivery.group import GroupCore
from geode_client.delivery.lanes import KEY, PRIORITY
from geode_client.delivery.members import Found, Member, Piece
from geode_client.delivery.settlement import Settlement
from geode_client.message import Chunk
from geode_client.store.claiming import Claim, Claimed
from geode_client.store.settling import Renew, Settle

WORDS = {
    claims.ACKNOWLEDGED: ledger.ACKNOWLEDGED,
    claims.FILTERED: ledger.FILTERED,
    claims.EXPIRED: ledger.EXPIRED,
    claims.REMOVED: ledger.REMOVED,
    claims.FAILED: RETRY,
    claims.DEAD: ledger.DEAD,
}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Settlements on their way to the store, the words they carry, and their claims, by claim id."""

    settlements: list[Settlement]
    words: dict[int, list[tuple[Place, str]]]
    claims: dict[int, HeldClaim]


@dataclass(slots=True)
class Worker:
    """A process in a group; `core` is the state machine that is tested."""

    world: World
    group: Ledger
    name: str
    readers: list[Reader] = field(default_factory=list)
    outgoing: list[Outgoing] = field(default_factory=list)
    unseen: dict[Place, int] = field(default_factory=dict)
    revision: int = 1
    joined: int = 0
    core: GroupCore = field(init=False)

    def __post_init__(self) -> None:
        self.core = GroupCore(self.group.order_by, condition=NotThirds() if self.group.has_condition else None)

    @classmethod
    def start(cls, world: World, group: Ledger) -> Self:
        """One more process in a group."""
        made = cls(world, group, f"P{len(world.workers) + len(world.dead) + 1}")
        world.workers.append(made)
        made.tell(f"joins {group.name}")
        return made

    def tell(self, line: str) -> None:
        self.world.tell(f"{self.name}: {line}")

    def topic(self, topic_id: int) -> Topic:
        found = self.world.catalog.by_id(topic_id)
        assert found is not None
        return found

    # ── members ──
    def join(self, *, prefetch: int, auto_ack: bool) -> Reader:
        self.joined += 1
        name = f"{self.name}.{'auto' if auto_ack else 'manual'}{self.joined}"
        reader = Reader(self, name, Member(name, prefetch=prefetch, auto_ack=auto_ack))
        self.core.join(reader.member)
        self.readers.append(reader)
        self.tell(f"{name} joins, prefetch {prefetch}")
        return reader

    def leave(self, reader: "Reader") -> None:
        """A member closes; the last one lets go of everything."""
        self.readers.remove(reader)
        self.core.leave(reader.member)
        reader.drop()
        self.tell(f"{reader.name} leaves")
        if not self.readers:
            self.unseen.clear()
            self.commit()
            self.post(self.core.let_go)
            self.commit()

    # ── claiming ──
    def claim(self, at_most: int, turn: int = 0) -> int:
        """Claim as many messages as the core wants, but no more than this; how many came. Raises GroupNotFound."""
        world, group = self.world, self.group
        above = self.core.only_above()
        wanted = min(self.core.wanted(world.boot_us), at_most)
        self.commit()
        self.flush()
        if wanted <= 0:
            return 0
        work = Claim(
            group.group_id,
            self.name,
            wanted,
            name=group.name,
            pattern=group.pattern,
            now_us=world.wall_us,
            boot_us=world.boot_us,
            lease_us=max(100_000, world.options.ack_timeout_us),
            dead=world.dead,
            above=above,
            turn=turn,
        )
        before = self._claims()
        due = self._due()
        world.run(work)
        after = self._claims()
        for claim_id in before.keys() - after.keys():
            self._passed_on(claim_id, before[claim_id])
        self._check_priority(work, due)
        for one in work.claimed:
            places = {(one.topic_id, one.partition, one.first + i) for i, p in enumerate(one.pending) if p}
            for place in places:
                assert one.attempts == group.attempts[place], (
                    f"{world.messages[place]} comes with {one.attempts} attempts, expected {group.attempts[place]}"
                )
            group.claimed(one.claim_id, self.name, world.boot_us + work.lease_us, places)
        assert not (group.paused and work.claimed), "a paused group gives nothing out"
        shown = "; ".join(f"claim {one.claim_id}: {_range(one)}" for one in work.claimed)
        self.tell(f"claims {wanted}: {shown or 'nothing'}")
        self._take_in(work)
        return sum(one.pending.count(1) for one in work.claimed)

    def _claims(self) -> dict[int, str | None]:
        return dict(
            self.world.log.rows("SELECT claim_id, owner FROM claims WHERE group_id = ?", (self.group.group_id,))
        )

    def _passed_on(self, claim_id: int, owner: str | None) -> None:
        """A claim was taken over: was that right?"""
        if owner is None:
            return
        lease = self.group.leases[claim_id]
        assert owner in self.world.dead or lease.deadline_us < self.world.boot_us, (
            f"claim {claim_id} of {owner} was taken over while its lease had"
            f" {(lease.deadline_us - self.world.boot_us) / SECOND_US} seconds to go"
        )
        self.group.freed(claim_id, lost=True)

    def _due(self) -> set[Place]:
        """Messages that may be claimed now, as far as time is concerned, and that are in nobody's claim."""
        sql = "SELECT topic_id, partition, offset FROM retries WHERE group_id = ? AND not_before_us <= ?"
        return self.group.placed(AHEAD) | set(self.world.log.rows(sql, (self.group.group_id, self.world.wall_us)))

    def _check_priority(self, work: Claim, due: set[Place]) -> None:
        """In priority order nothing is claimed while something higher is left."""
        if self.group.order_by != PRIORITY or not work.claimed:
            return
        lowest = min(one.lane for one in work.claimed)
        got = {(one.topic_id, one.partition, one.first + i) for one in work.claimed for i in range(len(one.pending))}
        left = [m for p in due - got if (m := self.world.messages[p]).priority > lowest and m.stored]
        assert not left, f"priority {lowest} was claimed and {left[0]} left"

    def _take_in(self, work: Claim) -> None:
        assert work.group is not None
        if work.group.revision != self.revision:
            self.revision = work.group.revision
            held = ", ".join(str(claim_id) for claim_id in self.core.claims)
            sql = f"SELECT claim_id FROM claims WHERE claim_id IN ({held}) AND owner IS NOT NULL"
            self.core.lost(set(self.core.claims) - {row[0] for row in self.world.log.rows(sql)})
        pieces: list[Piece] = []
        for one in work.claimed:
            pieces += self.core.received(self._held(one, work), self._found(one), self.world.wall_us)
        first = [piece for piece in pieces if piece.claim.rules.settle_first]
        if first:
            self.core.settle_first(first)
            self.flush()
            self._note_unseen(first)
        self.core.offer(pieces)

    def _note_unseen(self, pieces: Iterable[Piece]) -> None:
        """What was settled before it is handed over must be handed over."""
        for piece in pieces:
            for index in piece.indices:
                place = (piece.claim.topic_id, piece.claim.partition, piece.chunk.base_offset + index)
                if (piece.claim.claim_id, place) in self.group.first_settled:
                    self.unseen[place] = piece.claim.claim_id

    def _held(self, one: Claimed, work: Claim) -> HeldClaim:
        return HeldClaim(
            one.claim_id,
            (one.topic_id, one.partition, one.lane),
            one.first,
            one.pending,
            rules_of(self.topic(one.topic_id), self.group.name),
            attempts=one.attempts,
            retried=one.retried,
            key=one.key,
            error=one.error,
            blocked=one.blocked,
            deadline_us=work.boot_us + work.lease_us,
        )

    def _found(self, one: Claimed) -> list[Found]:
        end = one.first + len(one.pending)
        headers = self.world.log.reaching_into(one.topic_id, one.partition, one.first, end)
        return [(h.base_offset, h.base_offset + h.count, self.world.log.chunk(h.batch_id)) for h in headers]

    # ── settling ──
    def unwritten(self) -> dict[int, list[tuple[Place, str]]]:
        """The words that the core has yet to write, by claim; holds each against the ledger."""
        for _, one in self.core.in_hand():
            self.core._harvest(one)
        found: dict[int, list[tuple[Place, str]]] = {}
        for claim in self.core.claims.values():
            expired = {letter.offset for letter in claim._letters if letter.is_expired}
            words = [
                (
                    (claim.topic_id, claim.partition, claim.first + i),
                    ledger.EXPIRED if claim.first + i in expired else WORDS[state],
                )
                for i, state in enumerate(claim.state)
                if claims.PENDING < state <= claims.DEAD
            ]
            if words:
                found[claim.claim_id] = words
                for place, word in words:
                    self._check_word(claim, place, word)
        return found

    def _check_word(self, claim: HeldClaim, place: Place, word: str) -> None:
        world, message = self.world, self.world.messages[place]
        said = self.group.said.get((claim.claim_id, place))
        expired = message.expires_us is not None and message.expires_us <= world.wall_us
        limit = claim.rules.attempts_max
        match word:
            case ledger.ACKNOWLEDGED:
                right = said == word or claim.rules.settle_first
            case ledger.FILTERED:
                right = not wanted_by(self.group.has_condition, message)
            case ledger.EXPIRED:
                right = expired or said == word
            case ledger.REMOVED:
                right = not message.stored
            case ledger.DEAD:
                spent = limit is not None and claim.attempts >= max(1, limit)
                right = said == word or spent
            case _:
                right = said == word or (self.group.order_by == KEY and message.key in claim.waits_for)
        assert right, f"{self.name} says {word} of {message}; its reader said {said}"

    def _unsettled_before(self, message: Published) -> Iterable[Published]:
        """Earlier messages of the same key that this process or the store has not done with."""
        topic_id, partition, offset = message.place
        for other in range(self.group.origins[topic_id, partition], offset):
            place = (topic_id, partition, other)
            if self.world.messages[place].key == message.key and self.group.state[place] in (AHEAD, CLAIMED, RETRY):
                holder = self.group.holder(place)
                said = None if holder is None else self.group.said.get((holder, place))
                if said in (None, RETRY) and not self._decided(place):
                    yield self.world.messages[place]

    def _decided(self, place: Place) -> bool:
        """Whether the core itself has settled the message, as filtered or expired, without a reader."""
        for claim in self.core.claims.values():
            if (claim.topic_id, claim.partition) == place[:2] and 0 <= place[2] - claim.first < len(claim.state):
                state = claim.state[place[2] - claim.first] % claims.WRITTEN
                if state in (claims.FILTERED, claims.EXPIRED, claims.REMOVED, claims.DEAD):
                    return True
        return False

    def post(self, make: Callable[[], list[Settlement]]) -> None:
        """Put settlements on their way; `commit` lets them arrive."""
        words, held = self.unwritten(), dict(self.core.claims)
        settlements = make()
        if settlements:
            self.outgoing.append(Outgoing(settlements, words, held))

    def write_down(self) -> None:
        """Make a settlement of everything said."""
        self.post(self.core.settlements)

    def flush(self) -> None:
        self.write_down()
        self.commit()

    def commit(self) -> None:
        """What is on its way reaches the store, however late."""
        going, self.outgoing = self.outgoing, []
        for one in going:
            self._commit(one)

    def _commit(self, one: Outgoing) -> None:
        world, group = self.world, self.group
        numbers = {settlement.topic_id for settlement in one.settlements}
        targets = {n: dead_letter_topic_of(self.topic(n).name, self.topic(n).options) for n in numbers}
        work = Settle(group.group_id, group.name, one.settlements, targets, ordered=group.order_by == KEY)
        mine = {claim_id for claim_id, lease in group.leases.items() if lease.owner == self.name}
        world.run(work)
        words = dict(one.words)
        lost = {s.claim_id for s in one.settlements} - mine
        assert set(work.lost) == lost, f"claims {sorted(work.lost)} were refused, expected {sorted(lost)}"
        for settlement in one.settlements:
            if settlement.claim_id not in lost:
                for place, word in words.pop(settlement.claim_id, []):
                    self._arrived(settlement.claim_id, place, word)
                self._let_go_of(settlement, one.claims)
        self.core.lost(work.lost)
        self.core.confirmed(one.settlements)
        for claim_id in lost & one.claims.keys():
            assert one.claims[claim_id].is_lost, f"nobody who waits is told that claim {claim_id} had passed on"
        self.tell(f"writes {_written(one, lost)}")

    def _arrived(self, claim_id: int, place: Place, word: str) -> None:
        if word == ledger.ACKNOWLEDGED:
            self.group.first_settled.add((claim_id, place))
        if word == RETRY and self.group.said.get((claim_id, place)) == RETRY:
            self.group.attempts[place] += 1
        self.group.settled(claim_id, place, word)
        if word == ledger.DEAD or (word == ledger.EXPIRED and self.world.options.dead_letter_expired):
            self.world.letters[self.group.name, *place] += 1

    def _let_go_of(self, one: Settlement, held: dict[int, HeldClaim]) -> None:
        lease = self.group.leases.get(one.claim_id)
        if lease is None:
            return
        if one.let_go:
            self.group.freed(one.claim_id, lost=False)
        elif one.tail_from is not None:
            end = held[one.claim_id].first + one.tail_from
            lease.places = {place for place in lease.places if place[2] < end}
            if not lease.places:
                del self.group.leases[one.claim_id]

    def renew(self) -> None:
        deadlines = self.core.deadlines(self.world.boot_us)
        if not deadlines:
            return
        self.commit()
        work = Renew(deadlines)
        self.world.run(work)
        mine = {claim_id for claim_id, lease in self.group.leases.items() if lease.owner == self.name}
        assert set(work.lost) == deadlines.keys() - mine
        for claim_id in deadlines.keys() & mine:
            self.group.leases[claim_id].deadline_us = deadlines[claim_id]
        self.core.lost(work.lost)
        self.core.renewed(work.deadlines)
        self.tell(f"renews {sorted(deadlines)}, lost {work.lost}")

    def surplus(self) -> None:
        self.post(lambda: self.core.surplus(self.world.boot_us))
        self.commit()

    # ── the invariants of the core ──
    def check(self) -> None:
        """Every pending message of a claim that is not lost is in exactly one place."""
        seen: Counter[tuple[int, int]] = Counter()
        for pieces in self.core._ready.values():
            for piece in pieces:
                seen.update(self._pending(piece.claim, piece.chunk, piece.indices))
        for _, one in self.core.in_hand():
            seen.update(self._pending(one.claim, one.chunk, one.indices[one.said : one.end]))
        for parked in self.core._keys._parked.values():
            for piece in parked:
                seen.update(self._pending(piece.claim, piece.chunk, piece.indices))
        expected = {
            (claim.claim_id, claim.first + i)
            for claim in self.core.claims.values()
            for i, state in enumerate(claim.state)
            if state == claims.PENDING
        }
        assert set(seen) == expected, (
            f"{self.name}: in no place {sorted(expected - set(seen))}, not held {sorted(set(seen) - expected)}"
        )
        twice = [place for place, count in seen.items() if count > 1]
        assert not twice, f"{self.name}: claim and offset in two places: {twice}"

    def _pending(self, claim: HeldClaim, chunk: Chunk, indices: Iterable[int]) -> list[tuple[int, int]]:
        if claim.is_lost or claim.rules.settle_first:
            return []
        return [(claim.claim_id, chunk.base_offset + i) for i in indices if claim.is_pending(chunk.base_offset + i)]


def _range(one: Claimed) -> str:
    offsets = [one.first + index for index, pending in enumerate(one.pending) if pending]
    return f"{one.topic_id}/{one.partition}@{offsets} lane {one.lane}, tried {one.attempts}"


def _written(one: Outgoing, lost: set[int]) -> str:
    words = [f"{place[0]}/{place[1]}@{place[2]} {word}" for said in one.words.values() for place, word in said]
    return f"{words or 'nothing'}{f', refused {sorted(lost)}' if lost else ''}"
