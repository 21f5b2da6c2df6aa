"""The values of the language: their kinds, how they compare, how they sort and group.

A value is None (NULL, UNKNOWN), a bool, a number (int, float, Decimal), text, a timestamp (aware datetime), a date, an
interval (timedelta), or a JSON array or object. Values of different kinds do not compare: UNKNOWN, which is None here. The
exceptions are timestamps and dates with text: the text is read as ISO 8601, UTC where it has no offset. Booleans are equal
or not, and neither greater nor less; arrays and objects do not compare at all.
"""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

NUMBERS: frozenset[Any] = frozenset((int, float, Decimal))
JSON_NUMBERS: frozenset[Any] = frozenset((int, float))
TIMESTAMP_CHARACTERS_MAX = 64


@lru_cache(maxsize=4096)
def parse_timestamp(text: str) -> datetime | None:
    """An aware datetime from ISO 8601 text (a date alone is its midnight); None when it is none."""
    if len(text) > TIMESTAMP_CHARACTERS_MAX or len(text) < 8:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found
    except (ValueError, OverflowError):
        return None


def as_timestamp(value: Any) -> datetime | None:
    """A timestamp from a timestamp, date or text; None from anything else."""
    kind = value.__class__
    if kind is str:
        return parse_timestamp(value)
    if kind is datetime:
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)  # type: ignore[no-any-return]
    if kind is date:
        return datetime.combine(value, time(), UTC)
    return None


def compare(left: Any, right: Any) -> int | None:
    """-1, 0 or 1; None where the values do not compare. Booleans compare as 0 (equal) or as None; see `equal`."""
    a, b = left.__class__, right.__class__
    if a is b and a is str:
        return int(left > right) - int(left < right)
    if a in NUMBERS and b in NUMBERS:
        return int(left > right) - int(left < right)
    if a is datetime or b is datetime or a is date or b is date:
        return _compare_times(left, right)
    if a is timedelta and b is timedelta:
        return int(left > right) - int(left < right)
    return None


def _compare_times(left: Any, right: Any) -> int | None:
    first, second = as_timestamp(left), as_timestamp(right)
    if first is None or second is None:
        return None
    return (first > second) - (first < second)


def equal(left: Any, right: Any) -> bool | None:
    """Whether two values are equal; None where they do not compare."""
    if left.__class__ is bool and right.__class__ is bool:
        return left is right
    order = compare(left, right)
    return None if order is None else order == 0


_RANKS = {bool: 0, int: 1, float: 1, Decimal: 1, str: 2, datetime: 3, date: 3, timedelta: 4, list: 5, dict: 6}


def sort_key(value: Any) -> tuple[Any, ...]:
    """A key that orders values of all kinds: booleans, numbers, text, times, intervals, arrays, objects. Not for NULL."""
    kind = value.__class__
    rank = _RANKS.get(kind, 7)
    if rank == 3:
        return (rank, as_timestamp(value))
    if rank == 5:
        return (rank, [(1, ()) if item is None else (0, sort_key(item)) for item in value])
    if rank >= 6:
        return (rank, repr(value))
    return (rank, value)


def group_key(value: Any) -> Any:
    """A hashable key under which equal values fall together: 1 with 1.0, but not with true."""
    kind = value.__class__
    if kind is bool:
        return (bool, value)
    if kind is list:
        return (list, tuple(group_key(item) for item in value))
    if kind is dict:
        return (dict, frozenset((name, group_key(item)) for name, item in value.items()))
    if kind is datetime:
        return as_timestamp(value)
    return value
