"""Aggregates over groups, a batch of columns at a time.

The rows of a batch are first dealt out to their groups, then each group takes its values in one call: what is done for
every row is one step of a loop, not a call. NULLs are left out (but for ARRAY_AGG); SUM and AVG take numbers, MIN and MAX what
compares; of nothing, the result is NULL. Decimals and whole numbers are added exactly.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cmp_to_key, reduce
from itertools import islice
from typing import Any

from geode_client.conditions.functions import add, finite, multiply, subtract
from geode_client.query.batches import ROWS_AT_ONCE, Batch, Kept, Vector, value_size
from geode_client.query.operators import Aggregate, Call
from geode_client.values import (
    EXACT,
    NUMBERS,
    ROUNDED,
    as_decimal,
    compare,
    group_key,
    is_small,
    rounded_decimal,
    sort_key,
)

GROUP_BYTES = 300
ROWS_A_GROUP = 16
ROWS_TAKEN_MAX = 16_384
_NULL: Any = type(None)
# Values of these kinds are their own group keys: what is equal is the same group. Floats only below 2**53.
_OWN_KEYS = frozenset((str, int, float, _NULL))
_TEXTS = frozenset((str, _NULL))
_ORDERED: tuple[frozenset[Any], ...] = (frozenset((str,)), frozenset((int, float)))


def kinds_of(values: Iterable[Any]) -> set[Any]:
    """The classes of some values."""
    return set(map(type, values))


def group_keys(values: Vector) -> Vector:
    """Hashable values under which equal values fall together."""
    kinds = kinds_of(values)
    return values if kinds <= _OWN_KEYS and is_own_key(values, kinds) else [group_key(value) for value in values]


def is_own_key(values: Vector, kinds: set[Any]) -> bool:
    """Whether texts, whole numbers and floats are their own keys: floats beyond 2**53 are not."""
    if float not in kinds:
        return True
    floats = values if len(kinds) == 1 else [value for value in values if value.__class__ is float]
    return is_small(floats)


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


class _Distinct:
    """Gives each different value once to another accumulator."""

    __slots__ = ("inner", "seen")

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.seen: set[Any] = set()

    def add(self, values: Vector, kinds: set[Any]) -> None:
        fresh: list[Any] = []
        for value, key in zip(values, group_keys(values), strict=True):
            if key not in self.seen:
                self.seen.add(key)
                fresh.append(value)
        if fresh:
            self.inner.add(fresh, kinds_of(fresh))

    def result(self) -> Any:
        return self.inner.result()


class _CountIf(_Count):
    __slots__ = ()

    def add(self, values: Vector, kinds: set[Any]) -> None:
        self.number += sum(value is True for value in values)


def _numbers(values: Vector, kinds: set[Any]) -> tuple[Vector, set[Any]]:
    """The numbers among some values."""
    if kinds <= NUMBERS:
        return values, kinds
    return [value for value in values if value.__class__ in NUMBERS], kinds & NUMBERS


class _Sum:
    """Whole numbers and Decimals are added exactly; floats join them by their texts where a Decimal is among them."""

    __slots__ = ("number", "total")

    def __init__(self) -> None:
        self.total: Any = 0
        self.number = 0

    def add(self, values: Vector, kinds: set[Any]) -> None:
        values, kinds = _numbers(values, kinds)
        self.number += len(values)
        try:
            if Decimal in kinds or self.total.__class__ is Decimal:
                self.total = reduce(EXACT.add, map(as_decimal, values), as_decimal(self.total))
            else:
                self.total = sum(values, self.total)
        except ArithmeticError:  # more than a float can hold
            self.total = math.nan

    def result(self) -> Any:
        return finite(self.total) if self.number else None


class _Average(_Sum):
    __slots__ = ()

    def result(self) -> Any:
        try:
            if not self.number:
                return None
            if self.total.__class__ is Decimal:
                return rounded_decimal(ROUNDED.divide(self.total, Decimal(self.number)))
            return finite(self.total / self.number)
        except ArithmeticError:
            return None


class _Variance:
    """The variance of a sample. Whole numbers and Decimals keep their sums, which are exact; floats a mean that moves."""

    __slots__ = ("_exact", "_mean", "_moment", "_number", "_squares", "_total")

    def __init__(self) -> None:
        self._number = 0
        self._exact = True
        self._total: Any = 0
        self._squares: Any = 0
        self._mean = self._moment = 0.0

    def add(self, values: Vector, kinds: set[Any]) -> None:
        values, kinds = _numbers(values, kinds)
        if not values:
            return
        try:
            if self._exact and float not in kinds:
                self._add_exact(values, kinds)
            else:
                self._become_floats()
                self._add_floats([float(value) for value in values])
        except (ArithmeticError, ValueError):
            self._exact, self._moment = False, math.nan

    def _add_exact(self, values: Vector, kinds: set[Any]) -> None:
        self._number += len(values)
        if Decimal in kinds or self._total.__class__ is Decimal:
            decimals = [Decimal(value) for value in values]
            self._total = reduce(EXACT.add, decimals, Decimal(self._total))
            self._squares = reduce(EXACT.add, (EXACT.multiply(one, one) for one in decimals), Decimal(self._squares))
        else:
            self._total += sum(values)
            self._squares += sum(value * value for value in values)

    def _become_floats(self) -> None:
        if self._exact and self._number:
            self._mean = float(self._total) / self._number
            self._moment = float(self._spread()) / self._number
        self._exact = False

    def _spread(self) -> Any:
        """The number of values times the sum of squared distances from the mean, exactly."""
        if self._total.__class__ is Decimal:
            square = EXACT.multiply(self._total, self._total)
            return EXACT.subtract(EXACT.multiply(self._squares, Decimal(self._number)), square)
        return self._squares * self._number - self._total * self._total

    def _add_floats(self, values: list[float]) -> None:
        count = len(values)
        mean = math.fsum(values) / count
        moment = math.fsum((value - mean) ** 2 for value in values)
        both = self._number + count
        distance = mean - self._mean
        self._moment += moment + distance * distance * self._number * count / both
        self._mean += distance * count / both
        self._number = both

    def result(self) -> Any:
        if self._number < 2:
            return None
        try:
            if not self._exact:
                return finite(self._moment / (self._number - 1))
            pairs = self._number * (self._number - 1)
            spread = self._spread()
            if spread.__class__ is Decimal:
                return rounded_decimal(ROUNDED.divide(spread, Decimal(pairs)))
            return finite(spread / pairs)
        except ArithmeticError:
            return None


class _Deviation(_Variance):
    __slots__ = ()

    def result(self) -> Any:
        variance = super().result()
        if variance is None:
            return None
        return rounded_decimal(ROUNDED.sqrt(variance)) if variance.__class__ is Decimal else math.sqrt(variance)


class _Extreme:
    """The least (`sign` -1) or the greatest (1) of values that compare; the first one counts, also of equal ones."""

    __slots__ = ("_best", "_sign")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._best: Any = None

    def add(self, values: Vector, kinds: set[Any]) -> None:
        if any(kinds <= ordered for ordered in _ORDERED) and is_own_key(values, kinds):
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


# ── aggregates of several columns ──
class _Ordered:
    """The first (`sign` 1) or last (-1) value by the order of the columns beside it."""

    __slots__ = ("_best", "_key", "_order", "_value")

    def __init__(self, order: "_Order", sign: int) -> None:
        self._order = order.by(sign)
        self._best: Any = None
        self._value: Any = None

    def add_rows(self, rows: Sequence[tuple[Any, ...]]) -> None:
        rows = [row for row in rows if row[0] is not None]
        if rows:
            best = min(rows, key=self._order)
            key = self._order(best)
            if self._best is None or key < self._best:
                self._best, self._value = key, best[0]

    def result(self) -> Any:
        return self._value

    @property
    def kept(self) -> int:
        return 0


class _Collected:
    """Keeps its values, to be made into a result at the end."""

    __slots__ = ("_distinct", "_finish", "_keep_nulls", "_order", "_rows")

    def __init__(
        self,
        order: "_Order | None",
        finish: Callable[[list[tuple[Any, ...]]], Any],
        *,
        distinct: bool,
        keep_nulls: bool = False,
    ) -> None:
        self._order = order
        self._finish = finish
        self._distinct = distinct
        self._keep_nulls = keep_nulls
        self._rows: list[tuple[Any, ...]] = []

    def add_rows(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._rows += rows if self._keep_nulls else [row for row in rows if row[0] is not None]

    def result(self) -> Any:
        rows = self._rows if self._order is None else sorted(self._rows, key=self._order.by(1))
        if self._distinct:
            rows = list({group_key(row[0]): row for row in reversed(rows)}.values())[::-1]
        return self._finish(rows) if rows else None

    @property
    def kept(self) -> int:
        return len(self._rows)


class _Order:
    """Sorts rows by some of their places, NULL last unless it is wanted first."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[tuple[int, bool, bool]]) -> None:
        self._keys = keys

    def by(self, sign: int) -> Callable[[tuple[Any, ...]], Any]:
        """A key for the order, or for the opposite one."""
        ordered = cmp_to_key(lambda one, other: sign * self._compare(one, other))
        return ordered

    def _compare(self, one: tuple[Any, ...], other: tuple[Any, ...]) -> int:
        for place, descending, nulls_first in self._keys:
            a, b = one[place], other[place]
            if a is None or b is None:
                if (a is None) != (b is None):
                    return -1 if (a is None) == nulls_first else 1
                continue
            key, against = sort_key(a), sort_key(b)
            if key != against:
                return (-1 if key < against else 1) * (-1 if descending else 1)
        return 0


def _joined_texts(rows: list[tuple[Any, ...]]) -> Any:
    """The texts, each but the first after the separator of its row."""
    pieces: list[str] = []
    for text, separator, *_ in rows:
        if text.__class__ is str and separator.__class__ is str:
            pieces += (separator, text) if pieces else (text,)
    return "".join(pieces) if pieces else None


def _percentile(rows: list[tuple[Any, ...]]) -> Any:
    """The value at a fraction of the sorted numbers, between two of them in proportion."""
    numbers = sorted((row[0] for row in rows if row[0].__class__ in NUMBERS), key=sort_key)
    fraction = rows[0][1]
    if not numbers or fraction.__class__ not in NUMBERS or not 0 <= fraction <= 1:
        return None
    exact = any(number.__class__ is Decimal for number in numbers)
    place = EXACT.multiply(as_decimal(fraction), Decimal(len(numbers) - 1))
    below = int(place)
    low, high = numbers[below], numbers[min(below + 1, len(numbers) - 1)]
    part: Any = place - below if exact else float(place - below)
    if low is high or not part:
        return low if exact or low.__class__ is float else _as_float(low)
    found = add(low, multiply(subtract(high, low), part))
    return found if exact or found is None else _as_float(found)


def _as_float(number: Any) -> Any:
    try:
        return finite(float(number))
    except OverflowError:
        return None


_HALF = 0.5


def _median(rows: list[tuple[Any, ...]]) -> Any:
    return _percentile([(row[0], _HALF) for row in rows])


_FINISHERS: dict[str, Callable[[list[tuple[Any, ...]]], Any]] = {
    "string_agg": _joined_texts,
    "array_agg": lambda rows: [row[0] for row in rows],
    "median": _median,
    "percentile_cont": _percentile,
}
_MAKERS: dict[str, Callable[[], Any]] = {
    "count": _Count,
    "count_if": _CountIf,
    "sum": _Sum,
    "avg": _Average,
    "min": lambda: _Extreme(-1),
    "max": lambda: _Extreme(1),
    "first": _First,
    "last": _Last,
    "stddev": _Deviation,
    "variance": _Variance,
}
IMPLEMENTED = frozenset((*_MAKERS, *_FINISHERS))
VALUES_COUNTED_BYTES = 100


def _maker(call: Call) -> Callable[[], Any]:
    """What makes the accumulator of a call."""
    order = None
    if call.order:
        first = 1 + len(call.more)
        order = _Order(
            [(first + place, key.descending, key.nulls_first) for place, key in enumerate(call.order)]
        )
    finish = _FINISHERS.get(call.function)
    if finish is not None:
        keep_nulls = call.function == "array_agg"
        return lambda: _Collected(order, finish, distinct=call.distinct, keep_nulls=keep_nulls)
    if order is not None and call.function in ("first", "last"):
        sign = 1 if call.function == "first" else -1
        return lambda: _Ordered(order, sign)
    make = _MAKERS[call.function]
    return (lambda: _Distinct(make())) if call.distinct else make


class Groups:
    """The groups of an aggregation, as batches come in."""

    def __init__(self, node: Aggregate, kept: Kept) -> None:
        self._node = node
        self._kept = kept
        self._makers = [_maker(call) for call in node.calls]
        self._arguments = sorted({position for call in node.calls for position in call.columns})
        self._places = [None if call.argument is None else self._arguments.index(call.argument) for call in node.calls]
        self._wheres = [None if call.where is None else self._arguments.index(call.where) for call in node.calls]
        # For calls that take whole rows: where the argument, the other arguments and the order are.
        self._rows = [
            [self._arguments.index(position) for position in (call.argument, *call.more, *[key.position for key in call.order])]
            if hasattr(make(), "add_rows") and call.argument is not None
            else None
            for call, make in zip(node.calls, self._makers, strict=True)
        ]
        self._values_kept = 0
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
        for accumulator, place, where, rows in zip(accumulators, self._places, self._wheres, self._rows, strict=True):
            chosen = None if where is None else [row for row, holds in enumerate(arguments[where]) if holds is True]
            if rows is not None:
                self._take_rows(accumulator, [_chosen(arguments[one], chosen) for one in rows])
                continue
            if place is None:
                accumulator.number += count if chosen is None else len(chosen)
                continue
            found = ready[place] if chosen is None else _without_nulls(_chosen(arguments[place], chosen))
            if found is None:
                found = ready[place] = _without_nulls(arguments[place])
            if found[0]:
                accumulator.add(*found)

    def _take_rows(self, accumulator: Any, columns: Sequence[Vector]) -> None:
        before = accumulator.kept
        accumulator.add_rows(list(zip(*columns, strict=True)))
        if accumulator.kept > before:
            self._values_kept += accumulator.kept - before
            size = sum(value_size(column[0]) for column in columns) if columns[0] else 0
            self._bytes += (accumulator.kept - before) * size

    def _count(self, fresh: int) -> None:
        if fresh:
            newest = islice(reversed(self._first.values()), min(fresh, 16))
            sizes = [sum(map(value_size, key)) for key in newest]
            self._bytes += fresh * (GROUP_BYTES + 100 * len(self._makers) + sum(sizes) // max(1, len(sizes)))
        distinct = sum(
            len(one.seen) for one in (self._groups[()] if not self._node.keys else ()) if one.__class__ is _Distinct
        )
        kept = len(self._groups) + distinct + self._values_kept
        self._kept.set(kept, self._bytes + VALUES_COUNTED_BYTES * distinct)

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


def _chosen(values: Vector, places: Sequence[int] | None) -> Vector:
    return values if places is None else [values[place] for place in places]
