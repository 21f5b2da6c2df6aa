"""Joining two inputs: the right one is kept, and found by hash where something has to be equal; the left one streams.

Equality is that of the language: numbers by value, booleans apart, a time or UUID also equals its text, NULL equals nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from geode_client.query.batches import ROWS_AT_ONCE, Batch, Vector
from geode_client.query.group_keys import is_own_key
from geode_client.query.membership import join_key
from geode_client.query.operators import JoinKind
from geode_client.values import finer_digits, parse_timestamp, parse_uuid

Places = list[int]
_NONE: Places = []
_PLAIN = frozenset((str, int, float))


class HashTable:
    """The places of the right rows by their keys; a row with a key that equals nothing is in none."""

    def __init__(self, columns: Sequence[Vector]) -> None:
        self._width = len(columns)
        self._places: dict[Any, Places] = {}
        self._times: dict[Any, Places] | None = None
        for place, key in enumerate(_keys(columns)):
            if key is not None:
                self._places.setdefault(key, []).append(place)
        self._kinds = {part.__class__ for key in self._places for part in self._parts(key)}

    def _parts(self, key: Any) -> tuple[Any, ...]:
        return (key,) if self._width == 1 else key

    def partners(self, columns: Sequence[Vector]) -> list[Places]:
        """For each left row the places of the right rows with equal keys."""
        keys = _keys(columns)
        kinds = {part.__class__ for key in keys if key is not None for part in self._parts(key)}
        if self._mixed(kinds):
            return [self._among_times(key) for key in keys]
        get = self._places.get
        return [_NONE if key is None else get(key, _NONE) for key in keys]

    def _mixed(self, kinds: set[Any]) -> bool:
        """Whether a time of one side may meet a text of the other."""
        return any(
            str in these and any(kind not in _PLAIN and kind is not tuple for kind in those)
            for these, those in ((kinds, self._kinds), (self._kinds, kinds))
        )

    def _among_times(self, key: Any) -> Places:
        """Partners where texts may stand for times: found by the keys with such texts read as times, then looked at."""
        if key is None:
            return _NONE
        if self._times is None:
            self._times = {}
            for other, places in self._places.items():
                self._times.setdefault(self._as_times(other), []).extend(places)
            self._by_place = {place: other for other, places in self._places.items() for place in places}
        found = self._times.get(self._as_times(key), _NONE)
        return sorted(place for place in found if self._same(key, self._by_place[place]))

    def _as_times(self, key: Any) -> tuple[Any, ...]:
        return tuple([_as_time(part) for part in self._parts(key)])

    def _same(self, left: Any, right: Any) -> bool:
        pairs = zip(self._parts(left), self._parts(right), strict=True)
        return all(a == b or (a.__class__ is not b.__class__ and _as_time(a) == _as_time(b)) for a, b in pairs)


def _as_time(part: Any) -> Any:
    if part.__class__ is not str:
        return part
    found = parse_uuid(part) or (None if finer_digits(part) else parse_timestamp(part))
    return part if found is None else found


def _keys(columns: Sequence[Vector]) -> list[Any]:
    """One key a row, None where a part of it equals nothing."""
    made: list[Vector] = []
    for column in columns:
        kinds = set(map(type, column))
        made.append(column if kinds <= _PLAIN and is_own_key(column, kinds) else [join_key(value) for value in column])
    if len(made) == 1:
        return list(made[0])
    return [None if None in key else key for key in zip(*made, strict=True)]


class Joiner:
    """Pairs left batches with the kept right rows. `holds` gives the places of a batch of pairs that stay; `kind` says which
    rows come without a partner too."""

    def __init__(
        self,
        right: Batch,
        holds: Callable[[Batch], Sequence[int]] | None,
        kind: JoinKind,
    ) -> None:
        self._right = right
        self._holds = holds
        self._kind = kind
        self._met = bytearray(right.count if kind.keeps_right else 0)
        self._matched: set[int] = set()

    def pairs(self, batch: Batch, partners: Sequence[Sequence[int]] | None) -> Iterator[Batch]:
        """The joined rows of a left batch, in its order, some at a time. `partners` are for each left row the places of the
        right rows it may be joined with; None: all."""
        everything = range(self._right.count)
        lefts: Places = []
        rights: Places = []
        self._matched = set()
        finished = 0
        for place in range(batch.count):
            found: Sequence[int] = everything if partners is None else partners[place]
            for first in range(0, len(found), ROWS_AT_ONCE):
                piece = found[first : first + ROWS_AT_ONCE]
                lefts += [place] * len(piece)
                rights += piece
                if len(lefts) >= ROWS_AT_ONCE:
                    yield self._some(batch, lefts, rights, range(finished, place))
                    lefts, rights, finished = [], [], place
        yield self._some(batch, lefts, rights, range(finished, batch.count))

    def lonely(self, left_width: int) -> Iterator[Batch]:
        """The right rows that no left row met, where they are wanted; asked after the last pairs."""
        places = [place for place, met in enumerate(self._met) if not met]
        for part in self._right.take(places).parts() if places else ():
            yield Batch([*[[None] * part.count for _ in range(left_width)], *part.columns], part.count)

    def _some(self, batch: Batch, lefts: Places, rights: Places, finished: range) -> Batch:
        """Some pairs that stay; and of the left rows of which all partners were seen, those without any."""
        pairs = Batch(
            [
                *[[column[place] for place in lefts] for column in batch.columns],
                *[[column[place] for place in rights] for column in self._right.columns],
            ],
            len(lefts),
        )
        kept = range(pairs.count) if self._holds is None else self._holds(pairs)
        if self._kind.keeps_right:
            for place in kept:
                self._met[rights[place]] = 1
        if not self._kind.keeps_left:
            return pairs.take(kept)
        self._matched.update(lefts[place] for place in kept)
        lonely = [place for place in finished if place not in self._matched]
        self._matched = {place for place in self._matched if place >= finished.stop}
        if not lonely:
            return pairs.take(kept)
        chosen = sorted(
            [*[(lefts[place], rights[place]) for place in kept], *[(place, -1) for place in lonely]], key=_left
        )
        return Batch(
            [
                *[[column[left] for left, _ in chosen] for column in batch.columns],
                *[[None if right < 0 else column[right] for _, right in chosen] for column in self._right.columns],
            ],
            len(chosen),
        )


def elements(lists: Vector) -> tuple[Batch, list[Sequence[int]]]:
    """The elements of all lists as one column, and for each list their places; what is no list has none."""
    found: list[Any] = []
    places: list[Sequence[int]] = []
    for value in lists:
        first = len(found)
        if value.__class__ is list:
            found += value
        places.append(range(first, len(found)))
    return Batch([found], len(found)), places


def _left(pair: tuple[int, int]) -> int:
    return pair[0]
