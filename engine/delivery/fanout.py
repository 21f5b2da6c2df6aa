"""The cursor of a subscriber without a group: which messages of the chunks that pass by it hands over.

A cursor is offered chunks in commit order. `position` is the batch id through which it has been offered everything, so a
subscriber that stops is continued by offering what comes after. A cursor that reads the log meets gaps in the offsets of a
partition: messages that were removed before it reached them. One that keeps up is offered only what can do, and is told of
what was removed before it could be offered. Time goes in as an argument; nothing here waits or reads.
"""

from collections.abc import Mapping, Sequence

from geode_client.conditions.protocol import ConditionLike
from geode_client.conditions.requirements import OneOf, Path, Requirement, all_of
from geode_client.delivery.judged import Judged
from geode_client.delivery.slices import Slice
from geode_client.message import Chunk

# Places of a chunk that may do, ascending, and whether they are known to do.
Candidates = tuple[Sequence[int], bool]


# What a cursor says that has judged nothing: of many subscribers most never do.
NOTHING_JUDGED = Judged()


class FanoutCursor:
    """Position and filters of one fan-out subscriber."""

    __slots__ = (
        "_condition",
        "_expected",
        "_floors",
        "_judged",
        "_key",
        "_lost",
        "_partition",
        "_since_through",
        "_since_us",
        "missed",
        "position",
    )

    def __init__(
        self,
        position: int,
        *,
        condition: ConditionLike | None = None,
        partition: int | None = None,
        key: str | None = None,
        since_us: int | None = None,
        since_through: int = 0,
    ) -> None:
        self.position = position
        self.missed = 0
        self._judged: Judged | None = None
        self._condition = condition
        self._partition = partition
        self._key = key
        self._since_us = since_us
        self._since_through = since_through  # what is committed later is new, whatever the clock says then
        self._lost = 0
        self._expected: dict[tuple[int, int], int] = {}
        self._floors: dict[tuple[int, int], int] = {}

    @property
    def requirement(self) -> Requirement | None:
        """What must hold of a message that is handed over; None: nothing in particular."""
        wanted = [] if self._key is None else [OneOf(Path("_key", virtual=True), texts=frozenset((self._key,)))]
        if self._condition is not None:
            return all_of([*wanted, self._condition.requirement])
        return wanted[0] if wanted else None

    @property
    def condition(self) -> ConditionLike | None:
        return self._condition

    @property
    def judged(self) -> Judged:
        """How many messages the condition has looked at."""
        return NOTHING_JUDGED if self._judged is None else self._judged

    def _note(self, chunk: Chunk, evaluated: int, matched: int, skipped: int) -> None:
        if self._judged is None:
            self._judged = Judged()
        self._judged.note(chunk.topic_id, evaluated, matched, skipped)

    def expect(self, topic_id: int, partition: int, offset: int) -> None:
        """The partition is read from `offset` on: what comes later than that was removed, what comes earlier is not for us."""
        self._expected[topic_id, partition] = self._floors[topic_id, partition] = offset

    def expected(self, topic_id: int, partition: int) -> int | None:
        """The next offset of a partition, where the cursor has met it."""
        return self._expected.get((topic_id, partition))

    def resume(self, position: int, expected: Mapping[tuple[int, int], int]) -> None:
        """Everything through batch `position` is done, also what was never offered; partitions go on at these offsets."""
        self.position = max(self.position, position)
        self._expected = dict(expected)

    def lose(self, partition: int, count: int) -> None:
        """Messages of a partition were removed that the cursor would have been offered."""
        if self._partition is None or partition == self._partition:
            self._lost += count

    def offer(self, chunk: Chunk, now_us: int, *, skipped: int = 0) -> Slice | None:
        """Take the next chunk in commit order; None when nothing in it is to be handed over.

        `skipped` offsets of its partition right before it were not offered because they cannot do.
        """
        expected = self._expected.get((chunk.topic_id, chunk.partition))
        gap = 0 if expected is None else max(0, chunk.base_offset - expected - skipped)
        if skipped:
            self._note(chunk, 0, 0, skipped)
        return self._take(chunk, now_us, gap, None)

    def offer_newest(self, chunk: Chunk, now_us: int, candidates: Candidates | None) -> Slice | None:
        """Take a chunk of the shared tail: what lies before it was offered, lost, or cannot do.

        `candidates` are the places that can do and whether they all do; None: nothing is known of them.
        """
        return self._take(chunk, now_us, 0, candidates)

    def _take(self, chunk: Chunk, now_us: int, gap: int, candidates: Candidates | None) -> Slice | None:
        self.position = chunk.batch_id
        if self._partition is not None and chunk.partition != self._partition:
            return None
        place = (chunk.topic_id, chunk.partition)
        known = max(self._expected.get(place, 0), self._floors.get(place, 0))
        # A start that still lies ahead stays ahead.
        self._expected[place] = max(known, chunk.end_offset)
        missed, self._lost = gap + self._lost, 0
        indices = self._chosen(chunk, max(0, known - chunk.base_offset), now_us, candidates)
        if not indices and not missed:
            return None
        self.missed += missed
        return Slice(chunk, indices, missed)

    def _chosen(self, chunk: Chunk, first: int, now_us: int, candidates: Candidates | None) -> Sequence[int]:
        if chunk.attributes.addressee is not None:
            return ()  # copies of dead letters, which only the group that failed is to have
        if self._since_us is not None and chunk.timestamp_us < self._since_us and chunk.batch_id <= self._since_through:
            return ()
        alive = chunk.unexpired(now_us, first)
        if self._key is not None and candidates is None:
            alive = [index for index in alive if chunk.attributes.key(index) == self._key]
        if not alive:
            return ()
        if self._condition is None and candidates is None:
            return alive
        looked_at, selected = self._selected(chunk, candidates, len(alive))
        if len(alive) < chunk.count:
            living = set(alive)
            selected = [index for index in selected if index in living]
        if self._condition is not None:
            self._note(chunk, looked_at, len(selected), len(alive) - looked_at)
        return selected

    def _selected(self, chunk: Chunk, candidates: Candidates | None, alive: int) -> tuple[int, Sequence[int]]:
        """How many messages were looked at, and the places that the condition (and, of candidates, the key) allows."""
        if candidates is None:
            assert self._condition is not None
            return alive, self._condition.select(chunk)
        places, is_certain = candidates
        if not is_certain and places:
            if self._key is not None:
                places = [place for place in places if chunk.attributes.key(place) == self._key]
            if self._condition is not None:
                return len(places), self._condition.select_among(chunk, places)
        return len(places), places
