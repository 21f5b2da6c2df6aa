"""Aggregates over groups, a batch of columns at a time.

The rows of a batch are first dealt out to their groups, then each group takes its values in one call: what is done for
every row is one step of a loop, not a call. NULLs are left out (but for ARRAY_AGG); SUM and AVG take numbers, MIN and MAX what
compares; of nothing, the result is NULL. Decimals and whole numbers are added exactly.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from geode_client.query.accumulators import Distinct, maker
from geode_client.query.batches import ROWS_AT_ONCE, Batch, Kept, Vector, value_size
from geode_client.query.group_keys import group_keys, kinds_of
from geode_client.query.operators import Aggregate

GROUP_BYTES = 300
ROWS_A_GROUP = 16
ROWS_TAKEN_MAX = 16_384
VALUES_COUNTED_BYTES = 100
_NULL: Any = type(None)
_TEXTS = frozenset((str, _NULL))


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


def take(running: Any, columns: Sequence[Vector], count: int) -> None:
    """Give rows to the accumulator of one group: the columns of its argument, its other arguments and its order."""
    if not columns:
        running.number += count
    elif hasattr(running, "add_rows"):
        running.add_rows(list(zip(*columns, strict=True)))
    else:
        found = _without_nulls(columns[0])
        if found[0]:
            running.add(*found)


class Groups:
    """The groups of an aggregation, as batches come in."""

    def __init__(self, node: Aggregate, kept: Kept) -> None:
        self._node = node
        self._kept = kept
        self._makers = [maker(call) for call in node.calls]
        self._arguments = sorted({position for call in node.calls for position in call.columns})
        self._places = [None if call.argument is None else self._arguments.index(call.argument) for call in node.calls]
        self._wheres = [None if call.where is None else self._arguments.index(call.where) for call in node.calls]
        # For calls that take whole rows: where the argument, the other arguments and the order are.
        self._rows = [
            [self._arguments.index(position) for position in call.values]
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
            len(one.seen) for one in (self._groups[()] if not self._node.keys else ()) if one.__class__ is Distinct
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
