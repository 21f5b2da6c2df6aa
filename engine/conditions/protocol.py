"""What scans, delivery and the backends need of a compiled condition."""

from collections.abc import Sequence
from typing import Protocol

from geode_client.conditions.fields import MessageChunk
from geode_client.conditions.requirements import Requirement


class ConditionLike(Protocol):
    """A compiled condition, as far as what reads messages needs it; `Condition` is one."""

    @property
    def text(self) -> str:
        """Its canonical text."""
        ...

    @property
    def bound_text(self) -> str:
        """The text with every parameter replaced by its value: what a durable group keeps."""
        ...

    @property
    def requirement(self) -> Requirement:
        """What must hold of single fields for the condition to be TRUE: what cannot be met need not be read."""
        ...

    def select(self, chunk: MessageChunk) -> Sequence[int]:
        """The places of the chunk where the condition is TRUE, ascending."""
        ...

    def select_among(self, chunk: MessageChunk, places: Sequence[int]) -> Sequence[int]:
        """Those of the places, which are ascending, where the condition is TRUE."""
        ...
