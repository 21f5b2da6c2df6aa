"""Statistics over a run of messages: enough to say that nothing in it can meet a requirement.

A `ColumnSummary` tells of one path over all messages of a zone (a run of whole batches of a partition): the least and
greatest number and text, whether true and false occur, and, to look single values up, the values themselves where they are
few or a Bloom filter where they are many. It speaks of JSON values as they are stored, whatever a schema says of them.
What a summary cannot rule out may be there: skipping never changes a result.

The Bloom filter has BITS_A_VALUE bits a value and sets PROBES of them: about one value in 400 that is not there seems to
be. Hashes are CRC-32 of the value's text, mixed, so that every process finds the same bits; each probe takes sixteen bits of
a hash, which is enough for ZONE_VALUES_MAX values.
"""

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec

from geode_client.conditions import functions
from geode_client.conditions.fields import MessageChunk, Projection, attribute_of
from geode_client.conditions.requirements import (
    All,
    Any_,
    Anything,
    HasText,
    Leaf,
    Never,
    Number,
    OneOf,
    Path,
    Requirement,
    Within,
    after_prefix,
    leaves,
)

BITS_A_VALUE = 16
PROBES = 4
VALUES_LISTED_MAX = 16
ZONE_VALUES_MAX = 2**16 // BITS_A_VALUE
TEXT_CHARACTERS_MAX = 40
# More values than this are not looked for one by one.
VALUES_ASKED_MAX = 64

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_WHOLE_MAX = 2**63


class ColumnSummary(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What is known of one path over a zone. None for a bound: no such value, unless `unbounded` says otherwise.

    `last_text` is the greatest text, or something above it where `cut` is set. `truths`: 1 false occurs, 2 true does.
    `values` lists all texts and numbers, else `bloom` holds `bits` bits of them.
    """

    least: Number | None = None
    greatest: Number | None = None
    first_text: str | None = None
    last_text: str | None = None
    truths: int = 0
    values: list[Number | str] | None = None
    bloom: bytes | None = None
    bits: int = 0
    cut: bool = False
    unbounded: bool = False

    def to_bytes(self) -> bytes:
        return _encode(self)

    @classmethod
    def from_bytes(cls, text: bytes) -> "ColumnSummary":
        """Raises msgspec.DecodeError."""
        return _decode(text)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ColumnSummary).decode


# ── making ──
class ColumnReader:
    """Takes the values of some paths out of chunks; virtual columns have no summaries."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._projection = Projection.of(path.name for path in paths)
        self._columns = [(path, attribute_of(path.name)) for path in paths]

    def add_values(self, chunk: MessageChunk, into: Mapping[Path, list[Any]]) -> None:
        """Append one value a message for each path."""
        rows = self._projection.rows(chunk)
        for path, attribute in self._columns:
            into[path].extend(values_at([getattr(row, attribute) for row in rows], path.steps))


def values_at(values: list[Any], steps: Sequence[str | int]) -> list[Any]:
    """What the values hold at the end of the steps; None where there is nothing."""
    return [functions.stepped(value, steps) for value in values] if steps else values


def summary_of(values: Sequence[Any]) -> ColumnSummary:
    """The summary of one path's values."""
    texts, numbers, truths = _by_kind(values)
    least, low_known = _storable(min(numbers, default=None), -math.inf)
    greatest, high_known = _storable(max(numbers, default=None), math.inf)
    first, last = min(texts, default=None), max(texts, default=None)
    cut = last is not None and len(last) > TEXT_CHARACTERS_MAX
    above = after_prefix(last[:TEXT_CHARACTERS_MAX]) if last is not None and cut else last
    listed = _listed(texts, numbers)
    many = len(texts) + len(numbers)
    bits = 0 if listed is not None or many > ZONE_VALUES_MAX else BITS_A_VALUE * many
    return ColumnSummary(
        least=least,
        greatest=greatest,
        first_text=None if first is None else first[:TEXT_CHARACTERS_MAX],
        last_text=above,
        truths=truths,
        values=listed,
        bloom=_bloom(texts, numbers, bits) if bits else None,
        bits=bits,
        cut=cut,
        unbounded=not (low_known and high_known) or (cut and above is None),
    )


def _by_kind(values: Sequence[Any]) -> tuple[set[str], set[Number], int]:
    """The different texts and numbers, and which truth values occur."""
    kinds = set(map(type, values))
    # Most columns hold one kind; then nothing has to be looked at one by one.
    if kinds <= {str, type(None)}:
        return set(values) - {None}, set(), 0
    if kinds <= {int, float, type(None)}:
        return set(), set(values) - {None}, 0
    truths = (1 if any(value is False for value in values) else 0) | (
        2 if any(value is True for value in values) else 0
    )
    texts = {value for value in values if value.__class__ is str}
    return texts, {value for value in values if value.__class__ is int or value.__class__ is float}, truths


def _storable(bound: Number | None, direction: float) -> tuple[Number | None, bool]:
    """A bound that msgpack can hold and that is no stricter; whether there is one."""
    if bound is None or isinstance(bound, float) or -_WHOLE_MAX <= bound < _WHOLE_MAX:
        return bound, True
    try:
        return math.nextafter(float(bound), direction), True
    except OverflowError:
        return None, False


def _listed(texts: set[str], numbers: set[Number]) -> list[Number | str] | None:
    if len(texts) + len(numbers) > VALUES_LISTED_MAX:
        return None
    if any(len(text) > TEXT_CHARACTERS_MAX for text in texts):
        return None
    if any(isinstance(number, int) and not -_WHOLE_MAX <= number < _WHOLE_MAX for number in numbers):
        return None
    return [*sorted(texts), *sorted(numbers)]


def _bloom(texts: set[str], numbers: set[Number], bits: int) -> bytes:
    # One byte a bit first, because setting bytes is quicker; the text of zeros and ones is then read as a number.
    digits = bytearray(b"0" * bits)
    spelled = [text.encode() for text in texts]
    spelled += [_spelled(number) for number in numbers]
    crc32 = zlib.crc32
    hashes = struct.pack(f"<{len(spelled)}Q", *[crc32(text) * _GOLDEN & _MASK for text in spelled])
    for place in struct.unpack(f"<{PROBES * len(spelled)}H", hashes):
        digits[place * bits >> 16] = 49
    digits.reverse()
    return int(digits, 2).to_bytes((bits + 7) // 8, "little")


def _hashed(value: Number | str) -> int:
    """A hash of 64 bits, sixteen for each probe."""
    return zlib.crc32(value.encode() if isinstance(value, str) else _spelled(value)) * _GOLDEN & _MASK


def _spelled(number: Number) -> bytes:
    """A number's text; 1.0 is 1: equal numbers have the same."""
    if number.__class__ is float and number.is_integer():
        number = int(number)
    return b"%r" % number


# ── asking ──
class Question:
    """A leaf of a requirement, made ready to be asked of many summaries."""

    __slots__ = ("_hashes", "leaf")

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf
        self._hashes: dict[Number | str, int] = {}
        if isinstance(leaf, OneOf) and len(leaf) <= VALUES_ASKED_MAX:
            self._hashes = {value: _hashed(value) for value in (*leaf.texts, *leaf.numbers)}

    def may_hold(self, summary: ColumnSummary) -> bool:
        """Whether any message of the zone may meet the leaf."""
        if summary.unbounded:
            return True
        leaf = self.leaf
        match leaf:
            case OneOf():
                return self._may_be(leaf, summary)
            case Within():
                return _may_be_within(leaf, summary)
            case HasText(_, piece):
                if summary.values is not None:
                    return any(isinstance(value, str) and piece in value for value in summary.values)
                return summary.first_text is not None
            case _:
                assert_never(leaf)

    def _may_be(self, leaf: OneOf, summary: ColumnSummary) -> bool:
        if (summary.truths & 2 and True in leaf.truths) or (summary.truths & 1 and False in leaf.truths):
            return True
        if len(leaf) > VALUES_ASKED_MAX:
            return summary.first_text is not None or summary.least is not None
        return any(self._may_be_value(value, hashed, summary) for value, hashed in self._hashes.items())

    def _may_be_value(self, value: Number | str, hashed: int, summary: ColumnSummary) -> bool:
        if value.__class__ is str:
            first, last = summary.first_text, summary.last_text
            if first is None or last is None or not first <= value <= last:
                return False
        elif summary.least is None or not summary.least <= value <= summary.greatest:  # type: ignore[operator]
            return False
        if summary.values is not None:
            return value in summary.values
        return summary.bloom is None or _holds(summary.bloom, summary.bits, hashed)


def _holds(bloom: bytes, bits: int, hashed: int) -> bool:
    while hashed:
        place = (hashed & 0xFFFF) * bits >> 16
        if not bloom[place >> 3] >> (place & 7) & 1:
            return False
        hashed >>= 16
    return True


def _may_be_within(leaf: Within, summary: ColumnSummary) -> bool:
    low: Any
    high: Any
    if leaf.is_text:
        low, high = summary.first_text, summary.last_text
    else:
        low, high = summary.least, summary.greatest
    if low is None:
        return False
    if summary.values is not None:
        kind = str if leaf.is_text else (int, float)
        return any(leaf.holds(value) for value in summary.values if isinstance(value, kind))
    if leaf.low is not None and (high < leaf.low or (high == leaf.low and not leaf.low_included)):
        return False
    return leaf.high is None or low < leaf.high or (low == leaf.high and leaf.high_included)


# ── runs of offsets ──
@dataclass(slots=True)
class ScanCounts:
    """What a scan has read, and what it could pass over by statistics, in batches and messages."""

    batches_read: int = 0
    messages_read: int = 0
    batches_skipped: int = 0
    messages_skipped: int = 0


Runs = list[tuple[int, int]]


def askable(requirement: Requirement) -> list[Leaf]:
    """The leaves that summaries can say something of."""
    return [leaf for leaf in leaves(requirement) if leaf.path is not None and not leaf.path.virtual]


def impossible(requirement: Requirement, window: tuple[int, int], ruled_out: Mapping[Leaf, Runs]) -> Runs:
    """The runs of offsets in the window where the requirement cannot be met, ascending and apart from each other.

    `ruled_out` tells for leaves the runs where that leaf cannot be met.
    """
    match requirement:
        case Anything():
            return []
        case Never():
            return [window]
        case All(parts):
            found: Runs = []
            for part in parts:
                found = _united(found, impossible(part, window, ruled_out))
            return found
        case Any_(parts):
            left: Runs = [window]
            for part in parts:
                left = _intersected(left, impossible(part, window, ruled_out))
            return left
        case OneOf() | Within() | HasText():
            return ruled_out.get(requirement, [])
        case _:
            assert_never(requirement)


def _united(one: Runs, other: Runs) -> Runs:
    if not one or not other:
        return one or other
    found: Runs = []
    for start, end in sorted(one + other):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _intersected(one: Runs, other: Runs) -> Runs:
    found: Runs = []
    i = j = 0
    while i < len(one) and j < len(other):
        start, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if start < end:
            found.append((start, end))
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
    return found
