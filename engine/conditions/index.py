"""Which subscribers a message can meet, found by its values instead of by asking each of them.

A subscriber is filed under the *terms* of its requirement: single values, or ranges, of which one at least must hold. Of
the parts of an AND the most selective one is taken; an OR needs terms in all its parts; where there are none the subscriber
is unfiled, and meets every message. Subscribers with the same term share a `Group`.

    value    a dictionary from value to group, one for each kind of value
    x > a    bounds in order: those below the message's value are a run at the front
    x < a    the same from the other end
    a..b     a grid for each size of range: cells are as wide as the range is long, rounded up to a power of two, so that
             a range lies in at most two cells, and a message's value in one cell of each grid

So a message costs a look-up for each path that anybody is filed under and each size of range, and then only its matches.
Adding and removing a subscriber costs as much, but for the bounds, which are moved in memory.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from geode_client.conditions.fields import MessageChunk, Projection, attribute_of
from geode_client.conditions.requirements import (
    All,
    Any_,
    Never,
    OneOf,
    Path,
    Requirement,
    Within,
)
from geode_client.conditions.zones import values_at
from geode_client.values import JSON_NUMBERS

VALUES_FILED_MAX = 10_000
TERMS_MAX = 256
TEXT_BYTES_MEASURED = 24
MEASURED_MAX = 1e300

Term = OneOf | Within
Subscriber = TypeVar("Subscriber", bound=Hashable)


# ── terms ──
def terms_of(requirement: Requirement) -> tuple[Term, ...] | None:
    """Terms of which one must hold; none at all where nothing can be met; None where there are no terms."""
    match requirement:
        case OneOf() if len(requirement) <= VALUES_FILED_MAX:
            return (requirement,)
        case Within():
            return (requirement,)
        case Never():
            return ()
        case All(parts):
            found = [terms for part in parts if (terms := terms_of(part)) is not None]
            return min(found, key=_cost, default=None)
        case Any_(parts):
            joined: list[Term] = []
            for part in parts:
                terms = terms_of(part)
                if terms is None or len(joined) + len(terms) > TERMS_MAX:
                    return None
                joined += terms
            return tuple(joined)
        case _:
            return None


def _cost(terms: tuple[Term, ...]) -> tuple[int, int]:
    """How selective terms are likely to be: the worst of them counts, then how many there are."""
    return max((_rank(term) for term in terms), default=0), len(terms)


def _rank(term: Term) -> int:
    if isinstance(term, OneOf):
        return 3 if term.truths else min(len(term), 64) // 16
    return 2 if term.low is None or term.high is None else 1


def _is_said_by(terms: tuple[Term, ...], requirement: Requirement) -> bool:
    """Whether a condition is TRUE wherever one of its terms holds."""
    parts = requirement.parts if isinstance(requirement, Any_) else (requirement,)
    return requirement.exact and len(parts) == len(terms) and all(isinstance(part, OneOf | Within) for part in parts)


# ── groups ──
class Group(Generic[Subscriber]):
    """Those who are filed under one term; `low` to `high_included` are there for ranges."""

    __slots__ = ("members", "term")

    def __init__(self, term: Within | None = None) -> None:
        self.members: dict[Subscriber, None] = {}
        self.term = term


Found = list[Group[Any]]


class _Values:
    """Single values of one path."""

    __slots__ = ("numbers", "texts", "truths")

    def __init__(self) -> None:
        self.texts: dict[str, Group[Any]] = {}
        self.numbers: dict[int | float, Group[Any]] = {}
        self.truths: dict[bool, Group[Any]] = {}

    def places(self, term: OneOf) -> Iterator[tuple[dict[Any, Group[Any]], Any]]:
        for values, table in ((term.texts, self.texts), (term.numbers, self.numbers), (term.truths, self.truths)):
            for value in values:
                yield table, value

    def is_empty(self) -> bool:
        return not (self.texts or self.numbers or self.truths)

    def hits(self, values: Sequence[Any]) -> list[tuple[int, Group[Any]]]:
        """Place and group, in the order of the places."""
        texts, numbers, truths = self.texts, self.numbers, self.truths
        if not numbers and not truths:
            return [(i, g) for i, v in enumerate(values) if v.__class__ is str and (g := texts.get(v)) is not None]
        tables: Mapping[type, dict[Any, Group[Any]]] = {str: texts, int: numbers, float: numbers, bool: truths}
        nothing: dict[Any, Group[Any]] = {}
        return [
            (i, g)
            for i, v in enumerate(values)
            if (table := tables.get(v.__class__, nothing)) and (g := table.get(v)) is not None
        ]


class _Ranges:
    """Ranges over the numbers, or over the texts, of one path."""

    __slots__ = ("above", "below", "elsewhere", "grids", "groups", "is_text")

    def __init__(self, *, is_text: bool) -> None:
        self.is_text = is_text
        self.groups: dict[Any, Group[Any]] = {}
        # The flag beside a bound orders bounds of the same value: `>= a` before `> a`, `< a` before `<= a`.
        self.above: list[tuple[Any, int]] = []
        self.below: list[tuple[Any, int]] = []
        self.grids: dict[int, dict[Any, Found]] = {}
        self.elsewhere: Found = []

    def group(self, term: Within) -> Group[Any]:
        """The group of a term, made when it is the first."""
        key = _key(term)
        found = self.groups.get(key)
        if found is None:
            found = self.groups[key] = Group(term)
            self._place(term, found)
        return found

    def forget(self, term: Within) -> None:
        """The group of a term is empty."""
        key = _key(term)
        gone = self.groups.pop(key)
        if term.high is None:
            del self.above[bisect_left(self.above, key[1:])]
        elif term.low is None:
            del self.below[bisect_left(self.below, key[1:])]
        else:
            cells = self._cells(term)
            if cells is None:
                self.elsewhere.remove(gone)
                return
            size, numbers = cells
            grid = self.grids[size]
            for number in numbers:
                grid[number].remove(gone)
                if not grid[number]:
                    del grid[number]
            if not grid:
                del self.grids[size]

    def _place(self, term: Within, group: Group[Any]) -> None:
        key = _key(term)
        if term.high is None:
            insort(self.above, key[1:])
        elif term.low is None:
            insort(self.below, key[1:])
        else:
            cells = self._cells(term)
            if cells is None:
                self.elsewhere.append(group)
                return
            grid = self.grids.setdefault(cells[0], {})
            for number in cells[1]:
                grid.setdefault(number, []).append(group)

    def _cells(self, term: Within) -> tuple[int, set[Any]] | None:
        """The size of a range as a power of two, and its cells; None for what has no measure."""
        low, high = _measure(term.low), _measure(term.high)
        if low is None or high is None:
            return None
        length = high - low
        size = length.bit_length() if isinstance(length, int) else math.frexp(length)[1]
        width = _width(size, is_text=self.is_text)
        return size, {low // width, high // width}

    def find(self, value: Any) -> Found:
        """The groups whose range holds the value."""
        groups = self.groups
        found = [groups["above", *key] for key in self.above[: bisect_left(self.above, (value, 1))]]
        found += [groups["below", *key] for key in self.below[bisect_right(self.below, (value, 0)) :]]
        found += [group for group in self.elsewhere if group.term.holds(value)]  # type: ignore[union-attr]
        if self.grids:
            measure = _measure(value)
            if measure is not None:
                for size, grid in self.grids.items():
                    cell = grid.get(measure // _width(size, is_text=self.is_text))
                    if cell is not None:
                        found += [group for group in cell if group.term.holds(value)]  # type: ignore[union-attr]
        return found


def _key(term: Within) -> tuple[Any, ...]:
    if term.high is None:
        return "above", term.low, 0 if term.low_included else 1
    if term.low is None:
        return "below", term.high, 1 if term.high_included else 0
    return "range", term.low, term.low_included, term.high, term.high_included


def _measure(value: Any) -> Any:
    """A number that grows with the value, if not strictly: a float for numbers, a whole number for texts."""
    if isinstance(value, str):
        return int.from_bytes(
            value[:TEXT_BYTES_MEASURED].encode()[:TEXT_BYTES_MEASURED].ljust(TEXT_BYTES_MEASURED, b"\0")
        )
    try:
        measure = float(value)
    except OverflowError:
        return None
    return measure if -MEASURED_MAX <= measure <= MEASURED_MAX else None


def _width(size: int, *, is_text: bool) -> Any:
    return 1 << size if is_text else math.ldexp(1.0, size)


# ── the index ──
class _Column:
    """All that is filed under one path."""

    __slots__ = ("numbers", "path", "texts", "values")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = _Values()
        self.numbers = _Ranges(is_text=False)
        self.texts = _Ranges(is_text=True)

    def ranges(self, term: Within) -> _Ranges:
        return self.texts if term.is_text else self.numbers

    def is_empty(self) -> bool:
        return self.values.is_empty() and not self.numbers.groups and not self.texts.groups

    def find(self, values: Sequence[Any], hits: dict[Group[Any], list[int]]) -> None:
        for place, group in self.values.hits(values):
            hits.setdefault(group, []).append(place)
        if not self.numbers.groups and not self.texts.groups:
            return
        # Values come again and again: the groups of each are found once a batch.
        known: dict[Any, Found] = {}
        for place, value in enumerate(values):
            kind = value.__class__
            if kind is str:
                ranges = self.texts
            elif kind in JSON_NUMBERS:
                ranges = self.numbers
            else:
                continue
            found = known.get(value)
            if found is None:
                found = known[value] = ranges.find(value)
            for group in found:
                hits.setdefault(group, []).append(place)


class Matches:
    """What the index found in one chunk."""

    __slots__ = ("_filed", "hits")

    def __init__(self, hits: dict[Group[Any], list[int]], filed: "Mapping[Any, _Filed]") -> None:
        self.hits = hits
        self._filed = filed

    @property
    def size_bytes(self) -> int:
        """Memory that the places need, about."""
        return sum(72 + 8 * len(places) for places in self.hits.values())

    def subscribers(self) -> Iterator[Any]:
        """Those who may be met; one who is filed under several terms may come more than once."""
        for group in self.hits:
            yield from group.members

    def places(self, subscriber: Any) -> tuple[Sequence[int], bool] | None:
        """The places of the chunk that the subscriber's terms allow, ascending, and whether its condition is TRUE there.

        None for one who is not filed: it has to look at all. The places may be shared with others.
        """
        filed = self._filed.get(subscriber)
        if filed is None:
            return None
        found = [self.hits[group] for group in filed.groups if group in self.hits]
        if len(found) <= 1:
            return (found[0] if found else ()), filed.exact
        return sorted({place for places in found for place in places}), filed.exact


class _Filed:
    """Where a subscriber is filed."""

    __slots__ = ("exact", "groups", "terms")

    def __init__(self, terms: tuple[Term, ...], groups: tuple[Group[Any], ...], *, exact: bool) -> None:
        self.terms = terms
        self.groups = groups
        self.exact = exact


class SubscriptionIndex(Generic[Subscriber]):
    """Subscribers by what their conditions require. Not safe for several threads."""

    def __init__(self) -> None:
        self.unfiled: dict[Subscriber, None] = {}
        self._filed: dict[Subscriber, _Filed] = {}
        self._columns: dict[Path, _Column] = {}
        self._projection: Projection | None = None

    def __len__(self) -> int:
        return len(self.unfiled) + len(self._filed)

    def __contains__(self, subscriber: object) -> bool:
        return subscriber in self.unfiled or subscriber in self._filed

    @property
    def filed(self) -> Mapping[Subscriber, object]:
        """Those who are found by their terms."""
        return self._filed

    def subscribers(self) -> Iterator[Subscriber]:
        """All of them."""
        yield from self.unfiled
        yield from self._filed

    def add(self, subscriber: Subscriber, requirement: Requirement | None) -> None:
        """File a subscriber; None: it takes everything. One that is there already is filed anew."""
        self.remove(subscriber)
        terms = None if requirement is None else terms_of(requirement)
        if terms is None:
            self.unfiled[subscriber] = None
            return
        assert requirement is not None
        groups: dict[Group[Any], None] = {}
        for term in terms:
            for group in self._groups(term):
                group.members[subscriber] = None
                groups[group] = None
        self._filed[subscriber] = _Filed(terms, tuple(groups), exact=_is_said_by(terms, requirement))

    def remove(self, subscriber: Subscriber) -> None:
        """Forget a subscriber; one that is not there is no error."""
        self.unfiled.pop(subscriber, None)
        filed = self._filed.pop(subscriber, None)
        if filed is None:
            return
        for group in filed.groups:
            del group.members[subscriber]
        for term in filed.terms:
            self._sweep(term)

    def match(self, chunk: MessageChunk) -> Matches:
        """Who of those that are filed may be met by the messages of a chunk, and where."""
        hits: dict[Group[Any], list[int]] = {}
        rows = self._rows(chunk)
        for path, column in self._columns.items():
            if path.virtual:
                values = chunk.virtual_column(path.name)
            else:
                attribute = attribute_of(path.name)
                values = values_at([getattr(row, attribute) for row in rows], path.steps)
            column.find(values, hits)
        return Matches(hits, self._filed)

    def _rows(self, chunk: MessageChunk) -> Sequence[Any]:
        if self._projection is None:
            self._projection = Projection.of(path.name for path in self._columns if not path.virtual)
        return self._projection.rows(chunk)

    def _groups(self, term: Term) -> Iterator[Group[Any]]:
        column = self._columns.get(term.path)
        if column is None:
            column = self._columns[term.path] = _Column(term.path)
            self._projection = None
        if isinstance(term, Within):
            yield column.ranges(term).group(term)
            return
        for table, value in column.values.places(term):
            found = table.get(value)
            if found is None:
                found = table[value] = Group()
            yield found

    def _sweep(self, term: Term) -> None:
        """Remove what holds nobody any more."""
        column = self._columns.get(term.path)
        if column is None:
            return
        if isinstance(term, Within):
            ranges = column.ranges(term)
            group = ranges.groups.get(_key(term))
            if group is not None and not group.members:
                ranges.forget(term)
        else:
            for table, value in column.values.places(term):
                if value in table and not table[value].members:
                    del table[value]
        if column.is_empty():
            del self._columns[term.path]
            self._projection = None
