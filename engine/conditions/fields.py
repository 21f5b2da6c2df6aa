"""Which fields of a message an expression reads, and how just those are decoded for a whole chunk in one call."""

import re
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from geode_client import codec

ABSENT = msgspec.UNSET
_UNFIT_NAME = re.compile(r'["\\\x00-\x1f]')


class MessageChunk(Protocol):
    """What is needed of a chunk of messages."""

    @property
    def lines(self) -> bytes: ...

    @property
    def count(self) -> int: ...

    @property
    def projections(self) -> dict[object, Any]: ...

    def virtual_column(self, name: str) -> Sequence[Any]: ...


class Projection:
    """Decodes the top-level fields `names`; `present` are those of which absence must be told from null.

    Rows have the attributes f0, f1, … in the order of `names`.
    """

    __slots__ = ("_decoder", "_struct", "key", "names")

    def __init__(self, names: Sequence[str], present: frozenset[str]) -> None:
        self.names = tuple(names)
        self.key = (self.names, present)
        fields = [(f"f{i}", Any, ABSENT if name in present else None) for i, name in enumerate(self.names)]
        # Decoders cannot look for names with a quotation mark, a backslash or a control character.
        fit = not any(map(_UNFIT_NAME.search, self.names))
        rename = {f"f{i}": name for i, name in enumerate(self.names)} if fit else None
        self._struct = msgspec.defstruct("Projection", fields, rename=rename, gc=False)
        self._decoder = msgspec.json.Decoder(self._struct) if fit else None

    def rows(self, chunk: MessageChunk) -> Sequence[Any]:
        """One row a message, decoded once a chunk for all who read the same fields."""
        found = chunk.projections.get(self.key)
        if found is None:
            found = chunk.projections[self.key] = self._decode(chunk)
        return found

    def _decode(self, chunk: MessageChunk) -> Sequence[Any]:
        if not self.names:
            return range(chunk.count)
        if self._decoder is None:
            return [self.row(body) for body in codec.decode_lines(chunk.lines)]
        try:
            return self._decoder.decode_lines(chunk.lines)
        except (msgspec.MsgspecError, RecursionError):
            # A message that is no object has no fields; the others are read as ever.
            return [self.row(body) for body in codec.decode_lines(chunk.lines)]

    def row(self, body: Any) -> Any:
        """The row of one decoded body."""
        made = self._struct()
        if isinstance(body, dict):
            for index, name in enumerate(self.names):
                if name in body:
                    setattr(made, f"f{index}", body[name])
        return made
