"""Which fields of a message an expression reads, and how just those are decoded for a whole chunk in one call."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from geode_client import codec

ABSENT = msgspec.UNSET


class Every:
    """The step `[*]` of a path: all items of an array."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "*"


EVERY = Every()

VALUE = "value"
"""The name of a message that is no object, in SELECT * as in conditions."""
_UNFIT_NAME = re.compile(r'["\\\x00-\x1f]')


class MessageChunk(Protocol):
    """What is needed of a chunk of messages."""

    @property
    def lines(self) -> bytes: ...

    @property
    def count(self) -> int: ...

    @property
    def bodies(self) -> Sequence[bytes]: ...

    @property
    def projections(self) -> dict[object, Any]: ...

    def virtual_column(self, name: str) -> Sequence[Any]: ...


def attribute_of(name: str) -> str:
    """The attribute of a row that holds the field `name`."""
    return "f" + name.encode().hex()


class Projection:
    """Decodes the top-level fields `names`; `present` are those of which absence must be told from null, `raw` those that
    stay JSON text (msgspec.Raw), because decoding would lose digits.

    Rows have an attribute for each field (`attribute_of`). Rows that somebody else had decoded with more fields do as well.
    """

    __slots__ = ("_decoder", "_struct", "key", "names")

    def __init__(self, names: Iterable[str], present: Iterable[str], raw: Iterable[str] = ()) -> None:
        self.names = names = frozenset(names)
        present = frozenset(present)
        raw = frozenset(raw) & names
        self.key = (names, present, raw)
        fields = [
            (attribute_of(name), msgspec.Raw if name in raw else Any, ABSENT if name in present else None)
            for name in sorted(names)
        ]
        # Decoders cannot look for names with a quotation mark, a backslash or a control character.
        fit = not any(map(_UNFIT_NAME.search, names))
        rename = {attribute_of(name): name for name in names} if fit else None
        self._struct = msgspec.defstruct("Projection", fields, rename=rename, gc=False)
        self._decoder = msgspec.json.Decoder(self._struct) if fit else None

    @staticmethod
    def of(names: Iterable[str], present: Iterable[str] = (), raw: Iterable[str] = ()) -> "Projection":
        """The projection of these fields; the same for all who ask for the same."""
        return _projection(frozenset(names), frozenset(present), frozenset(raw))

    def is_decoded(self, chunk: MessageChunk) -> bool:
        """Whether somebody has decoded these fields of the chunk already."""
        return self._known(chunk) is not None

    def rows(self, chunk: MessageChunk) -> Sequence[Any]:
        """One row a message, decoded once a chunk for all who read the same fields."""
        found = self._known(chunk)
        if found is None:
            found = chunk.projections[self.key] = self._decode(chunk)
        return found

    def _known(self, chunk: MessageChunk) -> Sequence[Any] | None:
        known = chunk.projections
        found: Sequence[Any] | None = known.get(self.key)
        if found is None and known and self.names:
            names, present, raw = self.key
            for key, rows in known.items():
                if isinstance(key, tuple) and key[1] == present and names <= key[0] and key[2] & names == raw:
                    found = rows
                    break
        return found

    def _decode(self, chunk: MessageChunk) -> Sequence[Any]:
        return self._decoded(chunk.lines) if self.names else range(chunk.count)

    def _decoded(self, lines: bytes) -> Sequence[Any]:
        if self._decoder is None:
            return [self.row(body) for body in codec.decode_lines(lines)]
        try:
            found: list[Any] = self._decoder.decode_lines(lines)
            return found
        except (msgspec.MsgspecError, RecursionError):
            # A message that is no object is its own field `value`; the others are read as ever.
            if self.key[2]:
                return [self._row_of_line(line) for line in codec.split_lines(lines + b"\n" * (lines[-1:] != b"\n"))]
            return [self.row(body) for body in codec.decode_lines(lines)]

    def _row_of_line(self, line: bytes) -> Any:
        assert self._decoder is not None
        try:
            return self._decoder.decode(line)
        except (msgspec.MsgspecError, RecursionError):
            return self.row(codec.decode(line))

    def rows_of(self, bodies: Sequence[bytes]) -> list[Any]:
        """One row for each JSON text of single messages."""
        return list(self._decoded(b"\n".join(bodies))) if self.names else [None] * len(bodies)

    def row(self, body: Any) -> Any:
        """The row of one decoded body."""
        made = self._struct()
        if isinstance(body, dict):
            for name in self.names:
                if name in body:
                    setattr(made, attribute_of(name), body[name])
        elif VALUE in self.names:
            setattr(made, attribute_of(VALUE), body)
        return made


@lru_cache(maxsize=1024)
def _projection(names: frozenset[str], present: frozenset[str], raw: frozenset[str]) -> Projection:
    return Projection(names, present, raw)
