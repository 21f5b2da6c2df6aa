"""Looking for the texts that a condition needs in the raw JSON of a batch, before anything of it is decoded.

A text may stand in JSON in many ways, and messages are not always written by our codec: COPY and raw JSON keep what they
were given. But a character other than `"`, `\\`, `/` and the control characters stands either for itself, in UTF-8, or as
`\\uXXXX`. So a run of other characters is there byte by byte, unless the batch has a `\\u` somewhere; such a batch is not
searched. A text that is such a run as a whole is looked for between its quotes.
"""

import re
from typing import assert_never

from geode_client.conditions.fields import MessageChunk
from geode_client.conditions.requirements import (
    All,
    Any_,
    Anything,
    HasText,
    Never,
    OneOf,
    Requirement,
    Within,
)

ALTERNATIVES_MAX = 4
NEEDLE_BYTES_MIN = 3
# Where more than one message in so many holds a needle, decoding them all is quicker.
LINES_A_HIT_MIN = 16
CHUNKS_LEFT_OUT_MAX = 64

_NOT_PLAIN = re.compile(r'["\\/\x00-\x1f]')

Needles = tuple[bytes, ...]


def needles_of(requirement: Requirement) -> Needles | None:
    """Texts of which one at least must stand in a message's JSON; None when nothing can be said."""
    match requirement:
        case All(parts):
            found = [needles for part in parts if (needles := needles_of(part)) is not None]
            return min(found, key=_cost, default=None)
        case Any_(parts):
            return _alternatives([needles_of(part) for part in parts])
        case OneOf(path, texts, numbers, truths):
            if path.virtual or numbers or truths or len(texts) > ALTERNATIVES_MAX:
                return None
            return _alternatives([_needle(text, whole=True) for text in sorted(texts)])
        case HasText(_, piece):
            return _needle(piece, whole=False)
        case Anything() | Never() | Within():
            return None
        case _:
            assert_never(requirement)


class LiteralSearch:
    """Finds the messages that may hold a needle; stays away from batches where that has not been worth it."""

    __slots__ = ("_left_out", "_needles", "_pause")

    def __init__(self, needles: Needles) -> None:
        self._needles = needles
        self._pause = 0
        self._left_out = 0

    def places(self, chunk: MessageChunk) -> list[tuple[int, bytes]] | None:
        """Place and JSON text of each message that may do, ascending; None: look at all of them."""
        if self._left_out > 0:
            self._left_out -= 1
            return None
        if has_unicode_escapes(chunk):
            return None
        found = self._find(chunk)
        if found is None:
            self._pause = min(2 * self._pause + 1, CHUNKS_LEFT_OUT_MAX)
            self._left_out = self._pause
        else:
            self._pause = 0
        return found

    def _find(self, chunk: MessageChunk) -> list[tuple[int, bytes]] | None:
        lines = chunk.lines
        starts: set[int] = set()
        hits_max = max(chunk.count // LINES_A_HIT_MIN, 1)
        for needle in self._needles:
            at = lines.find(needle)
            while at >= 0:
                starts.add(lines.rfind(b"\n", 0, at) + 1)
                if len(starts) > hits_max:
                    return None
                end = lines.find(b"\n", at)
                at = lines.find(needle, end)
        found: list[tuple[int, bytes]] = []
        place = before = 0
        for start in sorted(starts):
            place += lines.count(b"\n", before, start)
            found.append((place, lines[start : lines.find(b"\n", start)]))
            before = start
        return found


def has_unicode_escapes(chunk: MessageChunk) -> bool:
    """Whether any `\\u` stands in the chunk's JSON; looked up once for all who ask."""
    found: bool | None = chunk.projections.get("\\u")
    if found is None:
        # A search for one byte is many times as quick as one for two.
        found = chunk.projections["\\u"] = b"\\" in chunk.lines and b"\\u" in chunk.lines
    return found


def _needle(text: str, *, whole: bool) -> Needles | None:
    runs = _NOT_PLAIN.split(text)
    if whole and len(runs) == 1:
        return (b'"' + text.encode() + b'"',)
    longest = max(runs, key=len).encode()
    return (longest,) if len(longest) >= NEEDLE_BYTES_MIN else None


def _alternatives(found: list[Needles | None]) -> Needles | None:
    needles: Needles = ()
    for one in found:
        if one is None:
            return None
        needles += one
    return needles if 0 < len(needles) <= ALTERNATIVES_MAX else None


def _cost(needles: Needles) -> tuple[int, int]:
    return len(needles), -min(len(needle) for needle in needles)
