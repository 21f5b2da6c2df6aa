"""Keys under which equal values of a column fall together."""

from collections.abc import Iterable
from typing import Any

from geode_client.query.batches import Vector
from geode_client.values import group_key, is_small

_NULL: Any = type(None)
# Values of these kinds are their own group keys: what is equal is the same group. Floats only below 2**53.
_OWN_KEYS = frozenset((str, int, float, _NULL))


def kinds_of(values: Iterable[Any]) -> set[Any]:
    """The classes of some values."""
    return set(map(type, values))


def group_keys(values: Vector) -> Vector:
    """Hashable values under which equal values fall together."""
    kinds = kinds_of(values)
    return values if kinds <= _OWN_KEYS and is_own_key(values, kinds) else [group_key(value) for value in values]


def is_own_key(values: Vector, kinds: set[Any]) -> bool:
    """Whether texts, whole numbers and floats are their own keys: floats beyond 2**53 are not."""
    if float not in kinds:
        return True
    floats = values if len(kinds) == 1 else [value for value in values if value.__class__ is float]
    return is_small(floats)
