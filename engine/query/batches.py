"""Batches of rows as columns, and the bounds on what a query may keep."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from geode_client.errors import GeodeError
from geode_client.units import format_size

ROWS_AT_ONCE = 8192
SAMPLE = 6
GIVE_WAY_SECONDS = 0.005

Vector = Sequence[Any]


class QueryTooLarge(GeodeError):
    """A query would have to keep more than its bounds allow."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one query may hold in memory: rows, and their size by estimate."""

    rows_max: int = 10_000_000
    bytes_max: int = 1024 * 1024 * 1024


class Batch:
    """`count` rows as columns of that length; never changed."""

    __slots__ = ("columns", "count")

    def __init__(self, columns: Sequence[Vector], count: int) -> None:
        self.columns = columns
        self.count = count

    def take(self, places: Sequence[int]) -> "Batch":
        """The rows at some places, in that order."""
        if len(places) == self.count and isinstance(places, range) and places.step == 1:
            return self
        return Batch([[column[place] for place in places] for column in self.columns], len(places))

    def part(self, first: int, end: int) -> "Batch":
        """The rows from `first` to before `end`."""
        if first == 0 and end >= self.count:
            return self
        return Batch([column[first:end] for column in self.columns], max(0, min(end, self.count) - first))

    def parts(self, rows: int = ROWS_AT_ONCE) -> "Iterator[Batch]":
        """The batch in pieces of at most `rows` rows."""
        for first in range(0, self.count, rows):
            yield self.part(first, first + rows)


def joined(batches: Sequence[Batch], width: int) -> Batch:
    """One batch of the rows of several."""
    if len(batches) == 1:
        return batches[0]
    columns: list[list[Any]] = [[] for _ in range(width)]
    for batch in batches:
        for column, values in zip(columns, batch.columns, strict=True):
            column.extend(values)
    return Batch(columns, sum(batch.count for batch in batches))


class Kept:
    """Counts what one operator keeps, and refuses more than the bounds allow. `what` names it in the error."""

    def __init__(self, what: str, bounds: Bounds) -> None:
        self._what = what
        self._bounds = bounds
        self.rows = 0
        self.bytes = 0

    def add(self, batch: Batch) -> None:
        """Count a batch that is kept; raises QueryTooLarge."""
        self.rows += batch.count
        self.bytes += sum(_size(column) for column in batch.columns)
        self.check()

    def check(self) -> None:
        """Raise QueryTooLarge when too much is kept."""
        if self.rows > self._bounds.rows_max:
            raise self._refusal(f"{self._bounds.rows_max:,} rows")
        if self.bytes > self._bounds.bytes_max:
            raise self._refusal(format_size(self._bounds.bytes_max))

    def set(self, rows: int, bytes_kept: int) -> None:
        """Say how much is kept now."""
        self.rows, self.bytes = rows, bytes_kept
        self.check()

    def _refusal(self, most: str) -> QueryTooLarge:
        return QueryTooLarge(f"{self._what} would keep more than {most} in memory: narrow it with WHERE, or add LIMIT")


def _size(column: Vector) -> int:
    """The size of a column in bytes, estimated from some of its values."""
    if not column:
        return 0
    sample = column[:: max(1, len(column) // SAMPLE)]
    return len(column) * sum(map(value_size, sample)) // len(sample)


def value_size(value: Any, depth: int = 4) -> int:
    """The size of a value and what is in it, with the place that points to it."""
    size = 8 + sys.getsizeof(value)
    if depth and value.__class__ is dict:
        size += sum(value_size(item, depth - 1) + 64 for item in value.values())
    elif depth and value.__class__ is list:
        size += sum(value_size(item, depth - 1) for item in value)
    return size


class Pace:
    """Lets other tasks run every few milliseconds, so that a query can be cancelled while it computes."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def breathe(self) -> None:
        """Give way to other tasks when it is time to."""
        if time.monotonic() - self._last > GIVE_WAY_SECONDS:
            await asyncio.sleep(0)
            self._last = time.monotonic()
