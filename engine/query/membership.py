"""`value IN (SELECT …)`: the rows of the sub-query as a set that is asked under three-valued logic."""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from geode_client.values import equal, group_key, parse_timestamp

_KINDS: dict[Any, int] = {bool: 0, int: 1, float: 1, Decimal: 1, str: 2, datetime: 3, date: 3, UUID: 5}


def join_key(value: Any) -> Any:
    """A hashable key: values that the language calls equal have the same, but for times and UUIDs and their texts.

    None for what equals nothing: NULL, arrays, objects.
    """
    kind = value.__class__
    return None if value is None or kind in (list, dict) else group_key(value)


class Membership:
    """Asks whether a value equals one of `values`."""

    __slots__ = ("_keys", "_kinds", "_times", "_unknown")

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self._keys: set[Any] = set()
        self._kinds: set[int] = set()
        self._unknown = False
        for value in values:
            key = join_key(value)
            if key is None:
                self._unknown = True
            else:
                self._keys.add(key)
                self._kinds.add(_KINDS.get(value.__class__, 4))
        self._times: set[Any] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def holds(self, value: Any) -> bool | None:
        """TRUE, FALSE or UNKNOWN; of no values at all FALSE, also for NULL."""
        if not self._kinds:
            return None if self._unknown else False
        key = join_key(value)
        if key is None:
            return None
        if key in self._keys:
            return True
        kind = _KINDS.get(value.__class__, 4)
        others = self._kinds - {kind}
        if kind == 2 and 3 in others:
            time = parse_timestamp(value)
            if time is not None:
                if time in self._keys:
                    return True
                others -= {3}
        elif kind == 3 and 2 in others:
            return self._among_texts(key, others)
        if 5 in (kind, *others) and 2 in (kind, *others):
            return self._among_uuids(value, others)
        # A value of another kind does not compare: whether it is equal is not known.
        return None if others or self._unknown else False

    def _among_uuids(self, value: Any, others: set[int]) -> bool | None:
        """A UUID among texts, or a text among UUIDs."""
        same = [equal(value, key) for key in self._keys if key.__class__ in (str, UUID)]
        if True in same:
            return True
        return None if others - {2, 5} or self._unknown or None in same else False

    def _among_texts(self, time: Any, others: set[int]) -> bool | None:
        """A time among texts, which may be times as well."""
        if self._times is None:
            self._times = {parse_timestamp(key) for key in self._keys if key.__class__ is str}
        if time in self._times:
            return True
        return None if others - {2} or self._unknown or None in self._times else False
