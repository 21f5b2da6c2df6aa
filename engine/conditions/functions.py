"""The functions and operators of the language over values; NULL in gives NULL out, and nothing here ever raises.

What has no result (a text too long, a number out of range, a wrong kind of value) is NULL.
"""

import math
import operator
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from geode_client.conditions.like import compiled as compiled_like
from geode_client.values import NUMBERS, as_timestamp, compare, equal, group_key, parse_timestamp

TEXT_CHARACTERS_MAX = 1024 * 1024
NUMBER_TEXT_CHARACTERS_MAX = 400
INTEGER_BITS_MAX = 8192
# Room for the digits of any number and as many places as ROUND takes.
_EXACT = Context(prec=4000)


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


def distinct(left: Any, right: Any) -> bool:
    """IS DISTINCT FROM: NULL is a value like any other, and what does not compare is different."""
    if left is None or right is None:
        return left is not right
    same = equal(left, right)
    return group_key(left) != group_key(right) if same is None else not same


def not_distinct(left: Any, right: Any) -> bool:
    return not distinct(left, right)


def between(value: Any, low: Any, high: Any) -> bool | None:
    return and3(greater_equal(value, low), less_equal(value, high))


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


# ── computing ──
def _finite(value: Any) -> Any:
    kind = value.__class__
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is Decimal:
        return value if value.is_finite() else None
    if kind is int and value.bit_length() > INTEGER_BITS_MAX:
        return None
    return value


def _numeric(compute: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    a, b = left.__class__, right.__class__
    if a not in NUMBERS or b not in NUMBERS:
        return None
    try:
        if a is Decimal and b is float:
            left = float(left)
        elif b is Decimal and a is float:
            right = float(right)
        return _finite(compute(left, right))
    except (ArithmeticError, ValueError, InvalidOperation):
        return None


def add(left: Any, right: Any) -> Any:
    if left.__class__ is timedelta or right.__class__ is timedelta:
        return _add_times(left, right)
    return _numeric(operator.add, left, right)


def _add_times(left: Any, right: Any) -> Any:
    try:
        if left.__class__ is timedelta and right.__class__ is timedelta:
            return left + right
        moment, interval = (right, left) if left.__class__ is timedelta else (left, right)
        if moment.__class__ not in (datetime, date):
            return None
        stamp = as_timestamp(moment)
        return None if stamp is None else stamp + interval
    except OverflowError:
        return None


def subtract(left: Any, right: Any) -> Any:
    try:
        if right.__class__ is timedelta:
            return _add_times(left, -right) if left.__class__ is not timedelta else left - right
        if left.__class__ in (datetime, date) or right.__class__ in (datetime, date):
            first, second = as_timestamp(left), as_timestamp(right)
            return None if first is None or second is None else first - second
    except OverflowError:
        return None
    return _numeric(operator.sub, left, right)


def multiply(left: Any, right: Any) -> Any:
    return _numeric(operator.mul, left, right)


def _quotient(left: Any, right: Any) -> Any:
    if left.__class__ is int and right.__class__ is int and left % right == 0:
        return left // right
    return left / right


def divide(left: Any, right: Any) -> Any:
    """The quotient; a whole number where two whole numbers divide without rest."""
    return _numeric(_quotient, left, right)


def _rest(left: Any, right: Any) -> Any:
    if left.__class__ is int and right.__class__ is int:
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest
    if left.__class__ is Decimal or right.__class__ is Decimal:
        return Decimal(left) % Decimal(right)
    return math.fmod(left, right)


def remainder(left: Any, right: Any) -> Any:
    """The rest of the division, with the sign of the dividend."""
    return _numeric(_rest, left, right)


def negate(value: Any) -> Any:
    return -value if value.__class__ in NUMBERS or value.__class__ is timedelta else None


def concat(left: Any, right: Any) -> Any:
    if left.__class__ is not str or right.__class__ is not str:
        return None
    return _bounded(left + right) if len(left) + len(right) <= TEXT_CHARACTERS_MAX else None


def fold(first: Any, *rest: Any) -> Any:
    """A chain of operators: value, then operator and value in turn."""
    for index in range(0, len(rest), 2):
        first = rest[index](first, rest[index + 1])
    return first


# ── functions ──
def _bounded(text: str) -> str | None:
    return text if len(text) <= TEXT_CHARACTERS_MAX else None


def _of_text(compute: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*values: Any) -> Any:
        return compute(*values) if all(value.__class__ is str for value in values) else None

    return apply


def _length(value: Any) -> int | None:
    return len(value) if value.__class__ in (str, list) else None


def _substr(text: Any, start: Any, length: Any = ...) -> Any:
    """From the character `start`, counted from 1 (from the end where it is negative)."""
    if text.__class__ is not str or start.__class__ is not int:
        return None
    if length is not ... and (length.__class__ is not int or length < 0):
        return None
    first = start - 1 if start > 0 else max(len(text) + start, 0) if start < 0 else 0
    # As in SQL, what lies before the first character counts towards the length.
    if start == 0 and length is not ...:
        length = max(length - 1, 0)
    return text[first:] if length is ... else text[first : first + length]


def _replace(text: str, old: str, new: str) -> str | None:
    if not old:
        return text
    if len(text) + text.count(old) * (len(new) - len(old)) > TEXT_CHARACTERS_MAX:
        return None
    return text.replace(old, new)


def _contains(whole: Any, part: Any) -> bool | None:
    if whole.__class__ is str:
        return part in whole if part.__class__ is str else None
    if whole.__class__ is list:
        return in_list(part, *whole) if part is not None else None
    return None


def coalesce(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _nullif(value: Any, other: Any) -> Any:
    return None if equal(value, other) is True else value


def _absolute(value: Any) -> Any:
    return abs(value) if value.__class__ in NUMBERS else None


def _round(value: Any, digits: Any = 0) -> Any:
    """Half away from zero, as people round."""
    if value.__class__ not in NUMBERS or digits.__class__ is not int or not -300 <= digits <= 300:
        return None
    try:
        exact = Decimal(repr(value)) if value.__class__ is float else Decimal(value)
        rounded = exact.quantize(Decimal(1).scaleb(-digits), rounding="ROUND_HALF_UP", context=_EXACT)
        if value.__class__ is float:
            return _finite(float(rounded))
        return int(rounded) if value.__class__ is int else rounded
    except (ArithmeticError, ValueError):
        return value


def _whole(compute: Callable[[Any], int]) -> Callable[[Any], Any]:
    return lambda value: compute(value) if value.__class__ in NUMBERS else None


def _extreme(sign: int) -> Callable[..., Any]:
    def apply(*values: Any) -> Any:
        """NULL where any value is NULL, or where two do not compare."""
        best = values[0]
        for value in values:
            order = compare(value, best)
            if order is None:
                return None
            if order == sign:
                best = value
        return best

    return apply


_TRUNCATED = ("microsecond", "second", "minute", "hour", "day", "month", "year")


def _date_trunc(unit: Any, value: Any) -> Any:
    moment = as_timestamp(value)
    if moment is None or unit.__class__ is not str:
        return None
    unit = unit.lower()
    moment = moment.astimezone(UTC)
    if unit == "week":
        moment -= timedelta(days=moment.weekday())
        unit = "day"
    if unit not in _TRUNCATED:
        return None
    zeros = {"microsecond": 0, "second": 0, "minute": 0, "hour": 0, "day": 1, "month": 1}
    cleared = {name: zeros[name] for name in _TRUNCATED[: _TRUNCATED.index(unit)]}
    return moment.replace(**cleared)  # type: ignore[arg-type]


SCALARS: Mapping[str, Callable[..., Any]] = {
    "LOWER": _of_text(str.lower),
    "UPPER": _of_text(lambda text: _bounded(text.upper())),
    "LENGTH": _length,
    "TRIM": _of_text(str.strip),
    "SUBSTR": _substr,
    "REPLACE": _of_text(_replace),
    "STARTS_WITH": _of_text(str.startswith),
    "ENDS_WITH": _of_text(str.endswith),
    "CONTAINS": _contains,
    "COALESCE": coalesce,
    "NULLIF": _nullif,
    "ABS": _absolute,
    "ROUND": _round,
    "FLOOR": _whole(math.floor),
    "CEIL": _whole(math.ceil),
    "LEAST": _extreme(-1),
    "GREATEST": _extreme(1),
    "DATE_TRUNC": _date_trunc,
}


# ── casting ──
def _to_text(value: Any) -> Any:
    kind = value.__class__
    if kind is str:
        return value
    if kind is bool:
        return "true" if value else "false"
    if kind is datetime or kind is date:
        return value.isoformat()
    if kind in NUMBERS:
        return str(value) if kind is not int or value.bit_length() < INTEGER_BITS_MAX else None
    return None


def _to_integer(value: Any) -> Any:
    if value.__class__ is bool:
        return int(value)
    if value.__class__ in NUMBERS:
        return int(value)
    if value.__class__ is str and len(value) <= NUMBER_TEXT_CHARACTERS_MAX:
        return int(value.strip()) if "_" not in value else None
    return None


def _to_float(value: Any) -> Any:
    if value.__class__ in NUMBERS or (
        value.__class__ is str and len(value) <= NUMBER_TEXT_CHARACTERS_MAX and "_" not in value
    ):
        return _finite(float(value))
    return None


def _to_boolean(value: Any) -> Any:
    if value.__class__ is str:
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if value.__class__ is bool else None


def _to_date(value: Any) -> Any:
    moment = as_timestamp(value)
    return None if moment is None else moment.astimezone(UTC).date()


def _to_decimal(value: Any) -> Any:
    if value.__class__ is float:
        return Decimal(repr(value))
    if value.__class__ in NUMBERS:
        return Decimal(value)
    if value.__class__ is str and len(value) <= NUMBER_TEXT_CHARACTERS_MAX and "_" not in value:
        return _finite(Decimal(value.strip()))
    return None


def _to_uuid(value: Any) -> Any:
    return str(uuid.UUID(value)) if value.__class__ is str and len(value) <= 64 else None


_CASTS: Mapping[str, Callable[[Any], Any]] = {
    "TEXT": _to_text,
    "BIGINT": _to_integer,
    "DOUBLE": _to_float,
    "BOOLEAN": _to_boolean,
    "TIMESTAMPTZ": as_timestamp,
    "DATE": _to_date,
    "DECIMAL": _to_decimal,
    "UUID": _to_uuid,
    "VARBINARY": lambda value: value if value.__class__ is str else None,
}


def caster(name: str) -> Callable[[Any], Any]:
    """A function that casts to the type; what cannot be cast is NULL."""
    cast = _CASTS[name]

    def apply(value: Any) -> Any:
        try:
            return cast(value)
        except (ValueError, ArithmeticError, InvalidOperation, OverflowError):
            return None

    return apply


def declared_timestamp(value: Any) -> Any:
    """A field that the schema declares as TIMESTAMP or DATE: its text is a time."""
    return parse_timestamp(value) if value.__class__ is str else None


def step_name(value: Any, name: str) -> Any:
    return value.get(name) if value.__class__ is dict else None


def step_index(value: Any, index: int) -> Any:
    return value[index] if value.__class__ is list and index < len(value) else None


def _reaches(items: Any, index: Any) -> bool:
    return index.__class__ is int and bool(index < len(items))


def exists(value: Any, steps: tuple[Any, ...], absent: Any) -> bool:
    """Whether there is anything at the end of the path, be it null."""
    for step in steps:
        is_there = step in value if value.__class__ is dict else value.__class__ is list and _reaches(value, step)
        if not is_there:
            return False
        value = value[step]
    return value is not absent
