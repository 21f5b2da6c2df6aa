"""What computes the aggregates of one group, fed with values a batch at a time.

`add` takes values that are not NULL, and their kinds; `add_rows` takes rows of an argument, its other arguments and what it is
ordered by. `result` is the value at the end, NULL of nothing. Decimals and whole numbers are added exactly.
"""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import cmp_to_key, reduce
from typing import Any

from geode_client.conditions.functions import add, finite, multiply, subtract
from geode_client.query.batches import Vector
from geode_client.query.group_keys import group_keys, is_own_key, kinds_of
from geode_client.query.operators import Call
from geode_client.values import EXACT, NUMBERS, ROUNDED, as_decimal, compare, group_key, rounded_decimal, sort_key

_ORDERED: tuple[frozenset[Any], ...] = (frozenset((str,)), frozenset((int, float)))


class _Count:
    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def add(self, values: Vector, kinds: set[Any]) -> None:
        self.number += len(values)

    def result(self) -> Any:
        return self.number


class Distinct:
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

        def order(one: tuple[Any, ...], other: tuple[Any, ...]) -> int:
            return sign * self._compare(one, other)

        return cmp_to_key(order)

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


def maker(call: Call) -> Callable[[], Any]:
    """What makes the accumulator of a call."""
    order = None
    if call.order:
        first = 1 + len(call.more)
        order = _Order([(first + place, key.descending, key.nulls_first) for place, key in enumerate(call.order)])
    finish = _FINISHERS.get(call.function)
    if finish is not None:
        keep_nulls = call.function == "array_agg"
        return lambda: _Collected(order, finish, distinct=call.distinct, keep_nulls=keep_nulls)
    if order is not None and call.function in ("first", "last"):
        sign = 1 if call.function == "first" else -1
        return lambda: _Ordered(order, sign)
    make = _MAKERS[call.function]
    return (lambda: Distinct(make())) if call.distinct else make
