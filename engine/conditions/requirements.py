"""What must hold of single fields for a condition to be TRUE: the normal form behind everything that skips.

A requirement is a tree of All and Any over leaves that each speak of one path. It is *necessary*: where it does not hold,
the condition is not TRUE. A leaf is *exact* when it says all that its part of the condition says; a tree of exact leaves
holds exactly when the condition is TRUE. The subscription index takes its terms from here, chunk statistics (zones.py) are
asked whether anything in a run of messages can meet one, and literals.py looks for its texts in undecoded JSON.

Knows nothing of sqlglot: normal.py makes requirements from trees.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, assert_never

Number = int | float
Bound = int | float | str

_BELOW_SURROGATES, _ABOVE_SURROGATES = "\ud7ff", "\ue000"
_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Path:
    """A field of a message, or a virtual column; `steps` lead into it."""

    name: str
    steps: tuple[Any, ...] = ()
    virtual: bool = False


@dataclass(frozen=True, slots=True)
class Anything:
    """Nothing is known: any message may do. Exact where the condition is TRUE of every message."""

    exact: bool = False


@dataclass(frozen=True, slots=True)
class Never:
    """No message will do."""

    exact: bool = True


@dataclass(frozen=True, slots=True)
class OneOf:
    """The path holds one of these values; the kinds are apart because 1 and true are equal to Python."""

    path: Path
    texts: frozenset[str] = frozenset()
    numbers: frozenset[Number] = frozenset()
    truths: frozenset[bool] = frozenset()
    exact: bool = True

    def __len__(self) -> int:
        return len(self.texts) + len(self.numbers) + len(self.truths)


@dataclass(frozen=True, slots=True)
class Within:
    """The path holds a text, or a number, between two bounds; None: open on that side. At least one bound is there."""

    path: Path
    low: Bound | None = None
    high: Bound | None = None
    low_included: bool = True
    high_included: bool = True
    exact: bool = True

    @property
    def is_text(self) -> bool:
        return isinstance(self.low if self.low is not None else self.high, str)

    def holds(self, value: Any) -> bool:
        """Whether a value that is of the bounds' kind lies between them."""
        if self.low is not None and (value < self.low or (value == self.low and not self.low_included)):
            return False
        return self.high is None or value < self.high or (value == self.high and self.high_included)


@dataclass(frozen=True, slots=True)
class HasText:
    """The path holds a text in which this piece occurs; None: some text of the message does."""

    path: Path | None
    piece: str
    exact: bool = True


@dataclass(frozen=True, slots=True)
class All:
    parts: "tuple[Requirement, ...]"

    @property
    def exact(self) -> bool:
        return all(part.exact for part in self.parts)


@dataclass(frozen=True, slots=True)
class Any_:
    parts: "tuple[Requirement, ...]"

    @property
    def exact(self) -> bool:
        return all(part.exact for part in self.parts)


Leaf = OneOf | Within | HasText
Requirement = Anything | Never | OneOf | Within | HasText | All | Any_

ANYTHING = Anything()
NEVER = Never()


def all_of(parts: "list[Requirement]") -> Requirement:
    """All of the parts together; ranges of one path become one."""
    flat: list[Requirement] = []
    for part in parts:
        flat += part.parts if isinstance(part, All) else (part,)
    if any(isinstance(part, Never) for part in flat):
        return NEVER
    ranges: dict[tuple[Path, bool], Within] = {}
    kept: list[Requirement] = []
    for part in flat:
        if isinstance(part, Within):
            place = (part.path, part.is_text)
            before = ranges.get(place)
            ranges[place] = part if before is None else _both(before, part)
        elif part != Anything(exact=True) and part not in kept:
            kept.append(part)
    if any(_is_empty(joined) for joined in ranges.values()):
        return NEVER
    kept += ranges.values()
    if not kept:
        return Anything(exact=True)
    return kept[0] if len(kept) == 1 else All(tuple(kept))


def any_of(parts: "list[Requirement]") -> Requirement:
    """Any of the parts; single values of one path become one set."""
    flat: list[Requirement] = []
    for part in parts:
        flat += part.parts if isinstance(part, Any_) else (part,)
    if any(isinstance(part, Anything) for part in flat):
        return Anything(exact=any(part == Anything(exact=True) for part in flat))
    sets: dict[tuple[Path, bool], OneOf] = {}
    kept: list[Requirement] = []
    for part in flat:
        if isinstance(part, OneOf):
            place = (part.path, part.exact)
            before = sets.get(place)
            sets[place] = part if before is None else _either(before, part)
        elif not isinstance(part, Never) and part not in kept:
            kept.append(part)
    kept += sets.values()
    if not kept:
        return NEVER
    return kept[0] if len(kept) == 1 else Any_(tuple(kept))


def leaves(requirement: Requirement) -> Iterator[Leaf]:
    """All leaves of a requirement."""
    match requirement:
        case All(parts) | Any_(parts):
            for part in parts:
                yield from leaves(part)
        case OneOf() | Within() | HasText():
            yield requirement
        case Anything() | Never():
            return
        case _:
            assert_never(requirement)


def after_prefix(prefix: str) -> str | None:
    """The least text above all that begin with `prefix`; None where there is none."""
    kept = prefix.rstrip(_LAST_CHARACTER)
    if not kept:
        return None
    last = kept[-1]
    return kept[:-1] + (_ABOVE_SURROGATES if last == _BELOW_SURROGATES else chr(ord(last) + 1))


def _both(one: Within, other: Within) -> Within:
    low, low_included = _stricter(one.low, one.low_included, other.low, other.low_included, sign=1)
    high, high_included = _stricter(one.high, one.high_included, other.high, other.high_included, sign=-1)
    return Within(one.path, low, high, low_included, high_included, one.exact and other.exact)


def _stricter(
    one: Bound | None, one_included: bool, other: Bound | None, other_included: bool, *, sign: int
) -> tuple[Bound | None, bool]:
    if one is None or other is None:
        return (other, other_included) if one is None else (one, one_included)
    if one == other:
        return one, one_included and other_included
    one_is_greater = one > other  # type: ignore[operator]
    return (one, one_included) if one_is_greater == (sign > 0) else (other, other_included)


def _is_empty(joined: Within) -> bool:
    if joined.low is None or joined.high is None:
        return False
    if joined.low == joined.high:
        return not (joined.low_included and joined.high_included)
    return bool(joined.low > joined.high)  # type: ignore[operator]


def _either(one: OneOf, other: OneOf) -> OneOf:
    return OneOf(
        one.path, one.texts | other.texts, one.numbers | other.numbers, one.truths | other.truths, exact=one.exact
    )
