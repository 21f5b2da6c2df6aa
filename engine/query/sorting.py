"""Sorting in runs: rows are sorted some at a time as they come, and merged piece by piece at the end.

No call handles all rows at once, so that a query that sorts millions of them can be cancelled. With a limit only so many
rows are kept. The sort is stable.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from geode_client.query.batches import Batch, Kept, Vector, joined
from geode_client.query.group_keys import is_own_key, kinds_of
from geode_client.query.operators import Sort, SortKey
from geode_client.values import sort_key

RUN_ROWS = 32_768
LIMITED_RUN_ROWS = 4_096
SPLIT_EVERY = 1_024
_NUMBER_RANK = 1
_NUMBERS = frozenset((int, float))
_TEXT = frozenset((str,))
KEY_BYTES = 150


class _Reversed:
    """A key that sorts the other way round."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key

    def __lt__(self, other: "_Reversed") -> bool:
        return bool(other.key < self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(self.key == other.key)


def _ascending(value: Any, null: tuple[int]) -> Any:
    return null if value is None else (1, *sort_key(value))


def _descending(value: Any, null: tuple[int]) -> Any:
    if value is None:
        return null
    rank, key = sort_key(value)
    return (1, -rank, -key if rank == _NUMBER_RANK else _Reversed(key))


def _keys_of(values: Vector, key: SortKey) -> Vector:
    """What the values of a column are sorted by; written out for columns of one kind, which is what `sort_key` gives."""
    kinds = kinds_of(values)
    if kinds <= _NUMBERS and is_own_key(values, kinds):
        return [(1, -1, -value) for value in values] if key.descending else [(1, 1, value) for value in values]
    if kinds == _TEXT:
        return [(1, -2, _Reversed(text)) for text in values] if key.descending else [(1, 2, text) for text in values]
    null = (0,) if key.nulls_first else (2,)
    made = _descending if key.descending else _ascending
    return [made(value, null) for value in values]


class Sorter:
    """Takes batches and gives them back in order; NULLs come last whichever way is sorted, unless they are wanted first."""

    def __init__(self, node: Sort, kept: Kept) -> None:
        self._keys = node.keys
        self._width = len(node.columns)
        self._limit = node.limit
        self._run_rows = RUN_ROWS if node.limit is None else min(RUN_ROWS, max(LIMITED_RUN_ROWS, 2 * node.limit))
        self._kept = kept
        self._waiting: list[Batch] = []
        self._waiting_rows = 0
        self._runs: list[tuple[list[Any], Batch]] = []
        self._bound: Any = None
        self._bound_value: Any = None

    def add(self, batch: Batch) -> None:
        """Take in rows; raises QueryTooLarge."""
        if self._bound is not None:
            batch = batch.take(self._within_bound(batch))
        self._kept.add(batch)
        self._kept.bytes += KEY_BYTES * batch.count * len(self._keys)
        self._waiting.append(batch)
        self._waiting_rows += batch.count
        if self._waiting_rows >= self._run_rows:
            self._close_run()

    def _within_bound(self, batch: Batch) -> Sequence[int]:
        """The rows that may be among the first, told by their first key alone where that is quick."""
        values, bound = batch.columns[self._keys[0].position], self._bound_value
        kinds = kinds_of(values)
        plain = any(kinds <= one and bound.__class__ in one for one in (_NUMBERS, _TEXT))
        if not plain or not is_own_key([*values, bound], {*kinds, bound.__class__}):
            return range(batch.count)
        if self._keys[0].descending:
            return [place for place, value in enumerate(values) if value >= bound]
        return [place for place, value in enumerate(values) if value <= bound]

    def _close_run(self) -> None:
        batch = joined(self._waiting, self._width)
        self._waiting, self._waiting_rows = [], 0
        keys = self._sort_keys(batch)
        places: Sequence[int] = range(batch.count)
        if self._bound is not None:
            places = [place for place in places if keys[place] < self._bound]
        ordered = sorted(places, key=keys.__getitem__)[: self._limit]
        self._runs.append(([keys[place] for place in ordered], batch.take(ordered)))
        if self._limit is not None:
            self._keep_first(self._limit)

    def _sort_keys(self, batch: Batch) -> list[Any]:
        columns: list[Vector] = []
        for key in self._keys:
            columns.append(_keys_of(batch.columns[key.position], key))
        return list(columns[0]) if len(columns) == 1 else list(zip(*columns, strict=True))

    def _keep_first(self, limit: int) -> None:
        """Throw away what can no longer be among the first `limit` rows."""
        if sum(len(keys) for keys, _ in self._runs) > limit:
            merged = _merged(self._runs, self._width)
            self._runs = [(merged[0][:limit], merged[1].part(0, limit))]
            if limit:
                self._bound = merged[0][limit - 1]
                self._bound_value = merged[1].columns[self._keys[0].position][limit - 1]
        rows = sum(len(keys) for keys, _ in self._runs)
        self._kept.set(rows, self._kept.bytes * rows // max(1, self._kept.rows))

    def results(self) -> Iterator[Batch]:
        """The rows in order."""
        if self._waiting:
            self._close_run()
        if len(self._runs) == 1:
            yield from self._runs[0][1].parts()
            return
        starts = [0] * len(self._runs)
        for bound in [*self._splits(), None]:
            pieces: list[tuple[list[Any], Batch]] = []
            for number, (keys, batch) in enumerate(self._runs):
                end = len(keys) if bound is None else bisect_left(keys, bound, starts[number])
                if end > starts[number]:
                    pieces.append((keys[starts[number] : end], batch.part(starts[number], end)))
                starts[number] = end
            if pieces:
                yield from _merged(pieces, self._width)[1].parts()

    def _splits(self) -> list[Any]:
        """Keys that cut all runs together into pieces of about RUN_ROWS rows."""
        samples = sorted(key for keys, _ in self._runs for key in keys[::SPLIT_EVERY])
        return samples[RUN_ROWS // SPLIT_EVERY :: RUN_ROWS // SPLIT_EVERY]


def _merged(runs: Sequence[tuple[list[Any], Batch]], width: int) -> tuple[list[Any], Batch]:
    """Sorted runs as one; of equal keys those of the earlier run come first."""
    if len(runs) == 1:
        return runs[0]
    keys = [key for run, _ in runs for key in run]
    batch = joined([batch for _, batch in runs], width)
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return [keys[place] for place in order], batch.take(order)
