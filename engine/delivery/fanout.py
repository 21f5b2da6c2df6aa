"""The cursor of a subscriber without a group: which messages of the chunks that pass by it hands over.

A cursor is offered chunks in commit order. `position` is the batch id through which it has been offered everything, so a
subscriber that stops is continued by offering what comes after. Gaps in the offsets of a partition are messages that were
removed before the subscriber reached them. Time goes in as an argument; nothing here waits or reads.
"""

from collections.abc import Sequence
from typing import Protocol

from geode_client.delivery.judged import Judged
from geode_client.delivery.slices import Slice
from geode_client.message import Chunk


class ConditionLike(Protocol):
    """What delivery needs of a compiled condition."""

    @property
    def text(self) -> str: ...

    @property
    def bound_text(self) -> str:
        """The text with every parameter replaced by its value: what a durable group keeps."""
        ...

    def select(self, chunk: Chunk) -> Sequence[int]:
        """The places of the chunk where the condition is TRUE, ascending."""
        ...


class FanoutCursor:
    """Position and filters of one fan-out subscriber."""

    __slots__ = ("_condition", "_expected", "_key", "_partition", "_since_us", "judged", "missed", "position")

    def __init__(
        self,
        position: int,
        *,
        condition: ConditionLike | None = None,
        partition: int | None = None,
        key: str | None = None,
        since_us: int | None = None,
    ) -> None:
        self.position = position
        self.missed = 0
        self.judged = Judged()
        self._condition = condition
        self._partition = partition
        self._key = key
        self._since_us = since_us
        self._expected: dict[tuple[int, int], int] = {}

    def expect(self, topic_id: int, partition: int, offset: int) -> None:
        """The partition is read from `offset` on: what comes later than that was removed, what comes earlier is not for us."""
        self._expected[topic_id, partition] = offset

    def expected(self, topic_id: int, partition: int) -> int | None:
        """The next offset of a partition, where the cursor has met it."""
        return self._expected.get((topic_id, partition))

    def offer(self, chunk: Chunk, now_us: int) -> Slice | None:
        """Take the next chunk in commit order; None when nothing in it is to be handed over."""
        self.position = chunk.batch_id
        if self._partition is not None and chunk.partition != self._partition:
            return None
        missed, first = self._meet(chunk)
        indices = self._chosen(chunk, first, now_us)
        if not indices and not missed:
            return None
        self.missed += missed
        return Slice(chunk, indices, missed)

    def _meet(self, chunk: Chunk) -> tuple[int, int]:
        """How many messages are missing before the chunk, and from which place on it is new."""
        place = (chunk.topic_id, chunk.partition)
        expected = self._expected.get(place)
        if expected is None:
            self._expected[place] = chunk.end_offset
            return 0, 0
        # A start that still lies ahead stays ahead.
        self._expected[place] = max(expected, chunk.end_offset)
        return max(0, chunk.base_offset - expected), max(0, expected - chunk.base_offset)

    def _chosen(self, chunk: Chunk, first: int, now_us: int) -> Sequence[int]:
        if self._since_us is not None and chunk.timestamp_us < self._since_us:
            return ()
        alive = chunk.unexpired(now_us, first)
        if self._key is not None:
            alive = [index for index in alive if chunk.attributes.key(index) == self._key]
        if self._condition is None or not alive:
            return alive
        selected = self._condition.select(chunk)
        if len(alive) < chunk.count:
            living = set(alive)
            selected = [index for index in selected if index in living]
        self.judged.note(chunk.topic_id, len(alive), len(selected))
        return selected
