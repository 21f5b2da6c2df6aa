"""Aggregates over groups, a batch of columns at a time.

The rows of a batch are first dealt out to their groups, then each group takes its values in one call: what is done for
every row is one step of a loop, not a call. NULLs are left out; SUM and AVG take numbers, MIN and MAX what compares; of
nothing, the result is NULL.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

from geode_client.query.batches import ROWS_AT_ONCE, Batch, Kept, Vector, value_size
from geode_client.query.operators import Aggregate, Call
from geode_client.values import NUMBERS, compare, group_key

GROUP_BYTES = 300
ROWS_A_GROUP = 16
ROWS_TAKEN_MAX = 16_384
_NULL: Any = type(None)
# Values of these kinds are their own group keys: what is equal is the same group.
_OWN_KEYS = frozenset((str, int, float, Decimal, _NULL))
_TEXTS = frozenset((str, _NULL))
_ORDERED: tuple[frozenset[Any], ...] = (frozenset((str,)), frozenset((int, float)))


def kinds_of(values: Iterable[Any]) -> set[Any]:
    """The classes of some values."""
    return set(map(type, values))


def group_keys(values: Vector) -> Vector:
    """Hashable values under which equal values fall together."""
    return values if kinds_of(values) <= _OWN_KEYS else [group_key(value) for value in values]


def _keys(columns: Sequence[Vector]) -> Vector:
    """One key a row."""
    if len(columns) == 1:
        return group_keys(columns[0])
    return list(zip(*[group_keys(column) for column in columns], strict=True))


def _deal_out(dealt: dict[Any, list[Any]], keys: Vector, arguments: Sequence[Vector]) -> None:
    """dealt[key].append(row) for every row, without a step of the interpreter for each; a row of one value is the value."""
    rows: Iterable[Any] = arguments[0] if len(arguments) == 1 else zip(*arguments, strict=True)
    deque(map(list.append, map(dealt.__getitem__, keys), rows), maxlen=0)


class _Dealt(dict[Any, list[Any]]):
    """Rows by key; a key that is new gets a list."""

    __slots__ = ()

    def __missing__(self, key: Any) -> list[Any]:
        made = self[key] = []
        return made


def _dealt_by_text(columns: Sequence[Vector], arguments: Sequence[Vector]) -> dict[Any, list[Any]] | None:
    """The rows by the one key, where that is text: text equals nothing but text, so that a look at the different keys, when
    all is done, is enough. None where other values are among them."""
    if len(columns) != 1:
        return None
    dealt = _Dealt()
    try:
        _deal_out(dealt, columns[0], arguments)
    except TypeError:  # an array or object
        return None
    return dealt if kinds_of(dealt) <= _TEXTS else None


class _Count:
    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def add(self, values: Vector, kinds: set[Any]) -> None:
        self.number += len(values)

    def result(self) -> Any:
        return self.number


class _CountDistinct:
    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: set[Any] = set()

    def add(self, values: Vector, kinds: set[Any]) -> None:
        self.seen.update(group_keys(values))

    def result(self) -> Any:
        return len(self.seen)


class _Sum:
    __slots__ = ("number", "total")

    def __init__(self) -> None:
        self.total: Any = 0
        self.number = 0

    def add(self, values: Vector, kinds: set[Any]) -> None:
        if not kinds <= NUMBERS:
            values = [value for value in values if value.__class__ in NUMBERS]
            kinds = kinds & NUMBERS
        self.number += len(values)
        try:
            if Decimal in kinds or self.total.__class__ is Decimal:
                self.total = sum(map(Decimal, values), Decimal(self.total))
            else:
                self.total = sum(values, self.total)
        except ArithmeticError:  # more than a float can hold
            self.total = math.nan

    def result(self) -> Any:
        return _finite(self.total) if self.number else None


class _Average(_Sum):
    __slots__ = ()

    def result(self) -> Any:
        try:
            return _finite(self.total / self.number) if self.number else None
        except ArithmeticError:
            return None


class _Extreme:
    """The least (`sign` -1) or the greatest (1) of values that compare; the first one counts, also of equal ones."""

    __slots__ = ("_best", "_sign")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._best: Any = None

    def add(self, values: Vector, kinds: set[Any]) -> None:
        if any(kinds <= ordered for ordered in _ORDERED):
            values = (min(values) if self._sign < 0 else max(values),)
        for value in values:
            if self._best is None or compare(value, self._best) == self._sign:
                self._best = value

    def result(self) -> Any:
        return self._best


class _First:
    __slots__ = ("found", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.found = False

    def add(self, values: Vector, kinds: set[Any]) -> None:
        if not self.found:
            self.value, self.found = values[0], True

    def result(self) -> Any:
        return self.value


class _Last(_First):
    __slots__ = ()

    def add(self, values: Vector, kinds: set[Any]) -> None:
        self.value = values[-1]


_MAKERS: dict[str, Callable[[], Any]] = {
    "count": _Count,
    "sum": _Sum,
    "avg": _Average,
    "min": lambda: _Extreme(-1),
    "max": lambda: _Extreme(1),
    "first": _First,
    "last": _Last,
}


def accumulator(call: Call) -> Any:
    """Something that takes the values of one group in, and gives the result of an aggregate."""
    return _CountDistinct() if call.distinct else _MAKERS[call.function]()


def take(running: Any, values: Vector | None, count: int) -> None:
    """Give values to an accumulator, without NULLs; None: it counts rows."""
    if values is None:
        running.number += count
        return
    found = _without_nulls(values)
    if found[0]:
        running.add(*found)


def _finite(value: Any) -> Any:
    if value.__class__ is float:
        return value if math.isfinite(value) else None
    return None if value.__class__ is Decimal and not value.is_finite() else value


class Groups:
    """The groups of an aggregation, as batches come in."""

    def __init__(self, node: Aggregate, kept: Kept) -> None:
        self._node = node
        self._kept = kept
        self._makers = [_CountDistinct if call.distinct else _MAKERS[call.function] for call in node.calls]
        self._arguments = sorted({call.argument for call in node.calls if call.argument is not None})
        self._places = [None if call.argument is None else self._arguments.index(call.argument) for call in node.calls]
        self._groups: dict[Any, list[Any]] = {}
        self._first: dict[Any, tuple[Any, ...]] = {}
        self._bytes = 0
        if not node.keys:
            self._groups[()] = self._fresh()
            self._first[()] = ()

    @property
    def rows_at_once(self) -> int:
        """How many rows to take in together: some for each group, but no more than stay near the processor."""
        return min(ROWS_TAKEN_MAX, ROWS_A_GROUP * len(self._groups))

    def _fresh(self) -> list[Any]:
        return [make() for make in self._makers]

    def add(self, batch: Batch) -> None:
        """Take in rows; raises QueryTooLarge."""
        if not batch.count:
            return
        before = len(self._groups)
        arguments = [batch.columns[position] for position in self._arguments]
        if not self._node.keys:
            self._take((), batch.count, arguments)
        else:
            self._deal(batch, arguments)
        self._count(len(self._groups) - before)

    def _deal(self, batch: Batch, arguments: Sequence[Vector]) -> None:
        """Deal the rows out to their groups."""
        originals = [batch.columns[position] for position in self._node.keys]
        one = len(arguments) == 1
        dealt = _dealt_by_text(originals, arguments) if arguments else None
        if dealt is not None:
            self._note(dealt, originals[0], originals)
        else:
            keys = _keys(originals)
            if not arguments:
                self._count_keys(keys, originals)
                return
            dealt = {key: [] for key in dict.fromkeys(keys)}
            self._note(dealt, keys, originals)
            _deal_out(dealt, keys, arguments)
        for key, taken in dealt.items():
            self._take(key, len(taken), (taken,) if one else list(zip(*taken, strict=True)))

    def _count_keys(self, keys: Vector, originals: Sequence[Vector]) -> None:
        counted = Counter(keys)
        self._note(counted, keys, originals)
        for key, number in counted.items():
            self._take(key, number, ())

    def _note(self, met: Any, keys: Vector, originals: Sequence[Vector]) -> None:
        """Make the groups that are new, with their keys as they first came."""
        fresh = [key for key in met if key not in self._groups]
        if not fresh:
            return
        places = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
        for key in fresh:
            self._groups[key] = self._fresh()
            place = places[key]
            self._first[key] = tuple([column[place] for column in originals])

    def _take(self, key: Any, count: int, arguments: Sequence[Vector]) -> None:
        accumulators = self._groups[key]
        ready: list[tuple[Vector, set[Any]] | None] = [None] * len(arguments)
        for accumulator, place in zip(accumulators, self._places, strict=True):
            if place is None:
                accumulator.number += count
                continue
            found = ready[place]
            if found is None:
                found = ready[place] = _without_nulls(arguments[place])
            if found[0]:
                accumulator.add(*found)

    def _count(self, fresh: int) -> None:
        if fresh:
            newest = islice(reversed(self._first.values()), min(fresh, 16))
            sizes = [sum(map(value_size, key)) for key in newest]
            self._bytes += fresh * (GROUP_BYTES + 100 * len(self._makers) + sum(sizes) // max(1, len(sizes)))
        distinct = sum(
            len(one.seen)
            for one in (self._groups[()] if not self._node.keys else ())
            if one.__class__ is _CountDistinct
        )
        self._kept.set(len(self._groups) + distinct, self._bytes + 100 * distinct)

    def results(self) -> Iterator[Batch]:
        """One row a group: its keys as they first came, and the results."""
        groups = iter(self._groups.items())
        width = len(self._node.keys) + len(self._makers)
        while part := list(islice(groups, ROWS_AT_ONCE)):
            rows = [(*self._first[key], *[one.result() for one in accumulators]) for key, accumulators in part]
            yield Batch(list(zip(*rows, strict=True)) if width else [], len(rows))


def _without_nulls(values: Vector) -> tuple[Vector, set[Any]]:
    kinds = kinds_of(values)
    if _NULL in kinds:
        kinds.discard(_NULL)
        values = [value for value in values if value is not None]
    return values, kinds
