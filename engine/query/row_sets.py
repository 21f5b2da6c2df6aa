"""Rows compared as wholes, as EXCEPT and INTERSECT do: equal rows are the same row, and NULL is the same as NULL."""

from collections import Counter
from typing import Any

from geode_client.query.batches import Batch
from geode_client.query.group_keys import group_keys

Places = list[int]


class RowSet:
    """The rows of the right side. `every`: an equal row counts as often as it comes, else once."""

    def __init__(self, every: bool) -> None:
        self._every = every
        self._right: Counter[Any] = Counter()
        self._given: set[Any] = set()

    def count(self, batch: Batch) -> Places:
        """Take in right rows; gives the places of those that are new."""
        fresh: Places = []
        for place, key in enumerate(_keys(batch)):
            if key not in self._right:
                fresh.append(place)
            self._right[key] += 1
        return fresh

    def without(self, batch: Batch) -> Places:
        """The places of the left rows that EXCEPT leaves."""
        return self._places(batch, wanted=False)

    def shared(self, batch: Batch) -> Places:
        """The places of the left rows that INTERSECT leaves."""
        return self._places(batch, wanted=True)

    def _places(self, batch: Batch, *, wanted: bool) -> Places:
        found: Places = []
        for place, key in enumerate(_keys(batch)):
            if self._every:
                left = self._right.get(key, 0)
                if left:
                    self._right[key] = left - 1
                chosen = (left > 0) is wanted
            else:
                chosen = (key in self._right) is wanted and key not in self._given
                if chosen:
                    self._given.add(key)
            if chosen:
                found.append(place)
        return found


def _keys(batch: Batch) -> list[Any]:
    columns = [group_keys(column) for column in batch.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * batch.count
