"""Aggregates over groups. NULLs are left out; SUM and AVG take numbers, MIN and MAX what compares; of nothing, NULL."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from geode_client.query import plan
from geode_client.values import NUMBERS, compare, group_key

Row = tuple[Any, ...]


class _Count:
    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def add(self, value: Any) -> None:
        self.number += 1

    def result(self) -> Any:
        return self.number


class _CountDistinct:
    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: set[Any] = set()

    def add(self, value: Any) -> None:
        self.seen.add(group_key(value))

    def result(self) -> Any:
        return len(self.seen)


class _Sum:
    __slots__ = ("number", "total")

    def __init__(self) -> None:
        self.total: Any = 0
        self.number = 0

    def add(self, value: Any) -> None:
        if value.__class__ in NUMBERS:
            if value.__class__ is Decimal or self.total.__class__ is Decimal:
                self.total = Decimal(self.total) + Decimal(value)
            else:
                self.total += value
            self.number += 1

    def result(self) -> Any:
        return _finite(self.total) if self.number else None


class _Average(_Sum):
    __slots__ = ()

    def result(self) -> Any:
        try:
            return _finite(self.total / self.number) if self.number else None
        except OverflowError:
            return None


class _Extreme:
    __slots__ = ("best", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.best: Any = None

    def add(self, value: Any) -> None:
        if self.best is None or compare(value, self.best) == self.sign:
            self.best = value

    def result(self) -> Any:
        return self.best


class _First:
    __slots__ = ("found", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.found = False

    def add(self, value: Any) -> None:
        if not self.found:
            self.value, self.found = value, True

    def result(self) -> Any:
        return self.value


class _Last(_First):
    __slots__ = ()

    def add(self, value: Any) -> None:
        self.value = value


_MAKERS: dict[str, Callable[[], Any]] = {
    "count": _Count,
    "sum": _Sum,
    "avg": _Average,
    "min": lambda: _Extreme(-1),
    "max": lambda: _Extreme(1),
    "first": _First,
    "last": _Last,
}


def _finite(value: Any) -> Any:
    return None if value.__class__ is float and not math.isfinite(value) else value


class Accumulators:
    """The groups of an aggregation as rows come in; at most `groups_max`."""

    def __init__(self, node: plan.Aggregate, groups_max: int) -> None:
        self._keys = node.keys
        self._calls = node.calls
        self._groups_max = groups_max
        self._groups: dict[Any, tuple[Row, list[Any]]] = {}
        if not node.keys:
            self._groups[()] = ((), self._fresh())

    def _fresh(self) -> list[Any]:
        return [_CountDistinct() if call.distinct else _MAKERS[call.function]() for call in self._calls]

    def add(self, rows: Sequence[Row]) -> bool:
        """Take in rows; False when there are too many groups."""
        width, groups = self._keys, self._groups
        if not width and all(call.argument is None for call in self._calls):
            for accumulator in groups[()][1]:
                accumulator.number += len(rows)
            return True
        for row in rows:
            key = tuple([group_key(value) for value in row[:width]])
            found = groups.get(key)
            if found is None:
                found = groups[key] = (row[:width], self._fresh())
            for call, accumulator in zip(self._calls, found[1], strict=True):
                value = True if call.argument is None else row[call.argument]
                if value is not None:
                    accumulator.add(value)
        return len(groups) <= self._groups_max

    def results(self) -> list[Row]:
        """One row a group: its keys as they first came, and the results."""
        return [(*keys, *[one.result() for one in accumulators]) for keys, accumulators in self._groups.values()]
