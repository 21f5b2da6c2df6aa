"""Computing OVER: all rows are kept and sorted, then the functions go through the rows of one partition after the other.

Nothing handles all rows in one step, so that a query over millions of them can be cancelled. What is kept is counted: a
window over more than the bounds allow is refused.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from geode_client.query.accumulators import maker
from geode_client.query.aggregates import take
from geode_client.query.batches import ROWS_AT_ONCE, Batch, Kept, Vector, joined
from geode_client.query.group_keys import group_keys
from geode_client.query.operators import Sort, Window, WindowCall
from geode_client.query.sorting import Sorter

# The place of a row in its partition, its result, and what sorting keeps of it.
ROW_BYTES = 80
RESULT_BYTES = 40

Rows = Sequence[int]
Pause = None


class Windows:
    """Takes the rows of a window's source, and gives them back sorted, with the results of its functions."""

    def __init__(self, node: Window, kept: Kept) -> None:
        self._node = node
        self._kept = kept
        self._sorter = Sorter(Sort(node.source, node.order), kept) if node.order else None
        self._batches: list[Batch] = []

    def add(self, batch: Batch) -> None:
        """Take in rows; raises QueryTooLarge."""
        if self._sorter is not None:
            self._sorter.add(batch)
        else:
            self._kept.add(batch)
            self._batches.append(batch)
        self._kept.bytes += (ROW_BYTES + RESULT_BYTES * len(self._node.calls)) * batch.count
        self._kept.check()

    def results(self) -> Iterator[Batch | None]:
        """The rows with the results; None now and then where somebody else may have a turn."""
        for batch in self._sorter.results() if self._sorter is not None else ():
            self._batches.append(batch)
            yield Pause
        rows = joined(self._batches, len(self._node.source.columns))
        self._batches = []
        partitions: dict[Any, list[int]] = {}
        yield from self._deal_out(rows, partitions)
        results: list[list[Any]] = [[None] * rows.count for _ in self._node.calls]
        peers = [rows.columns[key.position] for key in self._node.order]
        for places in partitions.values():
            for call, result in zip(self._node.calls, results, strict=True):
                yield from _FUNCTIONS[call.function if call.call is None else "aggregate"](
                    call, _Partition(rows, places, peers), result
                )
        yield from Batch([*rows.columns, *results], rows.count).parts()

    def _deal_out(self, rows: Batch, partitions: dict[Any, list[int]]) -> Iterator[None]:
        if not self._node.partition:
            if rows.count:
                partitions[()] = list(range(rows.count))
            return
        for first in range(0, rows.count, ROWS_AT_ONCE):
            part = rows.part(first, first + ROWS_AT_ONCE)
            keys = zip(*[group_keys(part.columns[position]) for position in self._node.partition], strict=True)
            for place, key in enumerate(keys, first):
                partitions.setdefault(key, []).append(place)
            yield Pause


class _Partition:
    """The rows of one partition, in order."""

    __slots__ = ("_peers", "places", "rows")

    def __init__(self, rows: Batch, places: Rows, peers: Sequence[Vector]) -> None:
        self.rows = rows
        self.places = places
        self._peers = peers

    def column(self, position: int) -> Vector:
        return self.rows.columns[position]

    def groups(self) -> Iterator[Rows]:
        """The rows that sort the same, together."""
        if not self._peers:
            yield self.places
            return
        start = 0
        before: Any = None
        for first in range(0, len(self.places), ROWS_AT_ONCE):
            part = self.places[first : first + ROWS_AT_ONCE]
            keys = zip(*[group_keys([column[place] for place in part]) for column in self._peers], strict=True)
            for number, key in enumerate(keys, first):
                if number and key != before:
                    yield self.places[start:number]
                    start = number
                before = key
        yield self.places[start:]


def _row_number(call: WindowCall, partition: _Partition, result: list[Any]) -> Iterator[None]:
    for number, place in enumerate(partition.places, 1):
        result[place] = number
    yield Pause


def _rank(call: WindowCall, partition: _Partition, result: list[Any]) -> Iterator[None]:
    rank = 1
    for group in partition.groups():
        for place in group:
            result[place] = rank
        rank += 1 if call.function == "dense_rank" else len(group)
    yield Pause


def _shifted(call: WindowCall, partition: _Partition, result: list[Any]) -> Iterator[None]:
    """LAG and LEAD: value, how many rows before or behind (1), and what is given where there is no such row (NULL)."""
    columns = [partition.column(position) for position in call.arguments]
    values, counts, defaults = (*columns, None, None)[:3]
    sign = -1 if call.function == "lag" else 1
    places = partition.places
    for number, place in enumerate(places):
        count = 1 if counts is None else counts[place]
        if count.__class__ is not int:
            continue
        other = number + sign * count
        if 0 <= other < len(places):
            result[place] = values[places[other]]  # type: ignore[index]
        elif defaults is not None:
            result[place] = defaults[place]
    yield Pause


def _aggregate(call: WindowCall, partition: _Partition, result: list[Any]) -> Iterator[None]:
    """An aggregate of all rows of the partition up to those that sort the same as the current one."""
    assert call.call is not None
    running = maker(call.call)()
    where = None if call.call.where is None else partition.column(call.call.where)
    columns = [partition.column(position) for position in call.call.values]
    done = 0
    for group in partition.groups():
        chosen = group if where is None else [place for place in group if where[place] is True]
        take(running, [[column[place] for place in chosen] for column in columns], len(chosen))
        value = running.result()
        for place in group:
            result[place] = value
        done += len(group)
        if done >= ROWS_AT_ONCE:
            yield Pause
            done = 0


_FUNCTIONS: dict[str, Callable[[WindowCall, _Partition, list[Any]], Iterator[None]]] = {
    "row_number": _row_number,
    "rank": _rank,
    "dense_rank": _rank,
    "lag": _shifted,
    "lead": _shifted,
    "aggregate": _aggregate,
}
