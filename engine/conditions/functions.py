"""The operators of the language over values; NULL in gives NULL out, and nothing here ever raises.

What has no result (a text too long, a number out of range, a wrong kind of value) is NULL. The named functions are in
scalars.py and times.py, CAST is in casts.py.
"""

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from geode_client.conditions.fields import ABSENT, EVERY
from geode_client.conditions.like import compiled as compiled_like
from geode_client.conditions.times import add_interval, scale_interval
from geode_client.values import (
    EXACT,
    INTERVALS,
    NUMBERS,
    ROUNDED,
    TIMES,
    WrittenNumber,
    as_decimal,
    as_timestamp,
    bounded_decimal,
    compare,
    equal,
    group_key,
    interval_of,
    months_and_rest,
    rounded_decimal,
)

TEXT_CHARACTERS_MAX = 1024 * 1024
INTEGER_BITS_MAX = 8192


# ── comparing ──
def less(left: Any, right: Any) -> bool | None:
    order = compare(left, right)
    return None if order is None else order < 0


def less_equal(left: Any, right: Any) -> bool | None:
    order = compare(left, right)
    return None if order is None else order <= 0


def greater(left: Any, right: Any) -> bool | None:
    order = compare(left, right)
    return None if order is None else order > 0


def greater_equal(left: Any, right: Any) -> bool | None:
    order = compare(left, right)
    return None if order is None else order >= 0


def not_equal(left: Any, right: Any) -> bool | None:
    same = equal(left, right)
    return None if same is None else not same


def between(value: Any, low: Any, high: Any) -> bool | None:
    return and3(greater_equal(value, low), less_equal(value, high))


def distinct(left: Any, right: Any) -> bool:
    """IS DISTINCT FROM: NULL is a value like any other, and what does not compare is different."""
    if left is None or right is None:
        return left is not right
    same = equal(left, right)
    return group_key(left) != group_key(right) if same is None else not same


def not_distinct(left: Any, right: Any) -> bool:
    return not distinct(left, right)


def in_list(value: Any, *items: Any) -> bool | None:
    unknown = False
    for item in items:
        same = equal(value, item)
        if same:
            return True
        unknown = unknown or same is None
    return None if unknown else False


def truth(value: Any) -> bool | None:
    """A value as a condition: its boolean value, UNKNOWN for anything else."""
    return value if value.__class__ is bool else None


def not3(value: Any) -> bool | None:
    return (not value) if value.__class__ is bool else None


def and3(*values: Any) -> bool | None:
    unknown = False
    for value in values:
        if value is False:
            return False
        unknown = unknown or value is not True
    return None if unknown else True


def or3(*values: Any) -> bool | None:
    unknown = False
    for value in values:
        if value is True:
            return True
        unknown = unknown or value is not False
    return None if unknown else False


def like(text: Any, pattern: Any, escape: str | None, fold: bool) -> bool | None:
    if text.__class__ is not str or pattern.__class__ is not str:
        return None
    ready = compiled_like(pattern, escape, fold)
    return None if ready is None else ready.matches(text)


def in_constants(items: tuple[Any, ...]) -> Callable[[Any], bool | None]:
    """IN over constants: by hash where value and items are texts or numbers, one by one else."""
    numbers = frozenset(group_key(item) for item in items if item.__class__ in NUMBERS)
    texts = frozenset(item for item in items if item.__class__ is str)
    all_numbers = all(item.__class__ in NUMBERS for item in items)
    all_texts = len(items) > 0 and all(item.__class__ is str for item in items)

    def holds(value: Any) -> bool | None:
        cls = value.__class__
        if cls is str:
            if value in texts:
                return True
            if all_texts or all_numbers:
                return False if all_texts else None
        elif cls in NUMBERS:
            if (value if cls is int else group_key(value)) in numbers:
                return True
            if all_texts or all_numbers:
                return False if all_numbers else None
        return in_list(value, *items)

    return holds


# ── computing ──
def finite(value: Any) -> Any:
    """The value where it is within the bounds of its kind of number, else NULL."""
    kind = value.__class__
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is Decimal:
        return bounded_decimal(value)
    if kind is int and value.bit_length() > INTEGER_BITS_MAX:
        return None
    return value


Binary = Callable[[Any, Any], Any]


def numeric(plain: Binary, exact: Binary, left: Any, right: Any) -> Any:
    """The result of a computation: exact where a DECIMAL takes part, else with the numbers as they are."""
    a, b = left.__class__, right.__class__
    if a not in NUMBERS or b not in NUMBERS:
        if a is not WrittenNumber and b is not WrittenNumber:
            return None
        is_exact = a is Decimal or b is Decimal
        left, right = _unwritten(left, exact=is_exact), _unwritten(right, exact=is_exact)
        return numeric(plain, exact, left, right)
    try:
        if a is Decimal or b is Decimal:
            return finite(exact(as_decimal(left), as_decimal(right)))
        return finite(plain(left, right))
    except (ArithmeticError, ValueError):
        return None


def _unwritten(value: Any, *, exact: bool) -> Any:
    if value.__class__ is not WrittenNumber:
        return value
    return value.exact if exact else float(value)


def add(left: Any, right: Any) -> Any:
    if left.__class__ in INTERVALS or right.__class__ in INTERVALS:
        return _add_times(left, right)
    return numeric(operator.add, EXACT.add, left, right)


def _add_times(left: Any, right: Any) -> Any:
    try:
        if left.__class__ in INTERVALS and right.__class__ in INTERVALS:
            return _add_intervals(left, right)
        moment, interval = (right, left) if left.__class__ in INTERVALS else (left, right)
        return add_interval(as_timestamp(moment), interval) if moment.__class__ in TIMES else None
    except (OverflowError, ValueError):
        return None


def _add_intervals(left: Any, right: Any) -> Any:
    one, other = months_and_rest(left), months_and_rest(right)
    return interval_of(one[0] + other[0], one[1] + other[1])


def subtract(left: Any, right: Any) -> Any:
    try:
        if right.__class__ in INTERVALS:
            return _add_times(left, -right)
        if left.__class__ in TIMES or right.__class__ in TIMES:
            first, second = as_timestamp(left), as_timestamp(right)
            return None if first is None or second is None else first - second
    except OverflowError:
        return None
    return numeric(operator.sub, EXACT.subtract, left, right)


def multiply(left: Any, right: Any) -> Any:
    if left.__class__ in INTERVALS:
        return scale_interval(left, right)
    if right.__class__ in INTERVALS:
        return scale_interval(right, left)
    return numeric(operator.mul, EXACT.multiply, left, right)


def _quotient(left: Any, right: Any) -> Any:
    if left.__class__ is int and right.__class__ is int and left % right == 0:
        return left // right
    return left / right


def _exact_quotient(left: Decimal, right: Decimal) -> Any:
    return rounded_decimal(ROUNDED.divide(left, right))


def divide(left: Any, right: Any) -> Any:
    """The quotient; a whole number where two whole numbers divide without rest, 28 digits of a DECIMAL."""
    if left.__class__ in INTERVALS:
        return scale_interval(left, right, divide=True)
    return numeric(_quotient, _exact_quotient, left, right)


def _rest(left: Any, right: Any) -> Any:
    if left.__class__ is int and right.__class__ is int:
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest
    return math.fmod(left, right)


def remainder(left: Any, right: Any) -> Any:
    """The rest of the division, with the sign of the dividend."""
    return numeric(_rest, EXACT.remainder, left, right)


def negate(value: Any) -> Any:
    kind = value.__class__
    if kind is Decimal:
        return value.copy_negate()
    if kind is WrittenNumber:
        made = WrittenNumber(-float(value))
        made.exact = value.exact.copy_negate()
        return made
    try:
        return -value if kind in NUMBERS or kind in INTERVALS else None
    except OverflowError:
        return None


def concat(left: Any, right: Any) -> Any:
    if left.__class__ is not str or right.__class__ is not str:
        return None
    return left + right if len(left) + len(right) <= TEXT_CHARACTERS_MAX else None


def fold(first: Any, *rest: Any) -> Any:
    """A chain of operators: value, then operator and value in turn."""
    for index in range(0, len(rest), 2):
        first = rest[index](first, rest[index + 1])
    return first


# ── paths ──
def step_name(value: Any, name: str) -> Any:
    return value.get(name) if value.__class__ is dict else None


def step_index(value: Any, index: int) -> Any:
    return value[index] if value.__class__ is list and index < len(value) else None


def stepped(value: Any, steps: Sequence[Any]) -> Any:
    """What a value holds at the end of some steps; after `[*]` the list of what each item holds."""
    for place, step in enumerate(steps):
        if step is EVERY:
            if value.__class__ is not list:
                return None
            rest = steps[place + 1 :]
            found = [stepped(item, rest) for item in value]
            return found if EVERY not in rest else [item for part in found for item in part or ()]
        value = step_name(value, step) if step.__class__ is str else step_index(value, step)
    return value


def exists(value: Any, steps: Sequence[Any]) -> bool:
    """Whether there is anything at the end of the path, be it null; after `[*]` whether some item has it."""
    for place, step in enumerate(steps):
        if step is EVERY:
            return value.__class__ is list and any(exists(item, steps[place + 1 :]) for item in value)
        if step.__class__ is str:
            if value.__class__ is not dict or step not in value:
                return False
        elif value.__class__ is not list or step >= len(value):
            return False
        value = value[step]
    return value is not ABSENT


# ── some element ──
def elements(value: Any) -> Sequence[Any]:
    """The items that a condition on `[*]` looks at; what is no list is looked at as one NULL."""
    return value if value.__class__ is list else _NO_LIST


_NO_LIST = (None,)


def some(truths: Iterable[Any]) -> bool | None:
    """TRUE if one is, FALSE if all are or there are none, else UNKNOWN."""
    unknown = False
    for value in truths:
        if value is True:
            return True
        unknown = unknown or value is not False
    return None if unknown else False
