"""The named functions of the language over values (grammar/functions.py lists them); none ever raises for a value.

NULL in gives NULL out but where the list says otherwise; what has no result is NULL.
"""

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

import msgspec

from geode_client.conditions import regular, times
from geode_client.conditions.casts import to_text
from geode_client.conditions.functions import (
    INTEGER_BITS_MAX,
    TEXT_CHARACTERS_MAX,
    finite,
    in_list,
    numeric,
    remainder,
)
from geode_client.values import (
    DECIMAL_PLACES_MAX,
    EXACT,
    NUMBERS,
    ROUNDED,
    CalendarInterval,
    WrittenNumber,
    bounded_decimal,
    compare,
    equal,
    exact_float,
    plain_number,
    rounded_decimal,
)

_ROUNDING = Context(prec=4000)


def _bounded(text: str) -> str | None:
    return text if len(text) <= TEXT_CHARACTERS_MAX else None


def _of_text(compute: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*values: Any) -> Any:
        return compute(*values) if all(value.__class__ is str for value in values) else None

    return apply


# ── text ──
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


def _concat(*values: Any) -> str | None:
    return _joined("", values)


def _concat_ws(separator: Any, *values: Any) -> str | None:
    return _joined(separator, values) if separator.__class__ is str else None


def _joined(separator: str, values: tuple[Any, ...]) -> str | None:
    texts = [to_text(value) for value in values if value is not None]
    if None in texts:
        return None
    if sum(map(len, texts)) + len(separator) * max(0, len(texts) - 1) > TEXT_CHARACTERS_MAX:
        return None
    return separator.join(texts)


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


# ── NULL ──
def coalesce(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _nullif(value: Any, other: Any) -> Any:
    return None if equal(value, other) is True else plain_number(value)


# ── numbers ──
def _absolute(value: Any) -> Any:
    if value.__class__ is Decimal:
        return value.copy_abs()
    return abs(value) if value.__class__ in NUMBERS else None


def _round(value: Any, digits: Any = 0) -> Any:
    """Half away from zero, as people round."""
    if value.__class__ not in NUMBERS or digits.__class__ is not int:
        return None
    if not -DECIMAL_PLACES_MAX <= digits <= DECIMAL_PLACES_MAX:
        return None
    try:
        exact = exact_float(value) if value.__class__ is float else Decimal(value)
        rounded = exact.quantize(Decimal(1).scaleb(-digits), rounding="ROUND_HALF_UP", context=_ROUNDING)
        if value.__class__ is float:
            return finite(float(rounded))
        return int(rounded) if value.__class__ is int else bounded_decimal(_unscaled(rounded))
    except (ArithmeticError, ValueError):
        return value


def _unscaled(value: Decimal) -> Decimal:
    """1E+2 as 100."""
    exponent = value.as_tuple().exponent
    return value.quantize(Decimal(1), context=_ROUNDING) if isinstance(exponent, int) and exponent > 0 else value


def _whole(compute: Callable[[Any], int]) -> Callable[[Any], Any]:
    def apply(value: Any) -> Any:
        if value.__class__ not in NUMBERS:
            return None
        if value.__class__ is Decimal and value.adjusted() > DECIMAL_PLACES_MAX:
            return None
        try:
            return finite(compute(value))
        except (ArithmeticError, ValueError):
            return None

    return apply


def _power_of_plain(base: Any, exponent: Any) -> Any:
    if base.__class__ is int and exponent.__class__ is int and exponent >= 0:
        if abs(base) > 1 and base.bit_length() * exponent > 2 * INTEGER_BITS_MAX:
            return None
        return base**exponent
    return math.pow(base, exponent)


def _power_of_decimals(base: Decimal, exponent: Decimal) -> Any:
    is_whole = exponent == exponent.to_integral_value()
    if is_whole and 0 <= exponent <= DECIMAL_PLACES_MAX * 4 and len(base.as_tuple().digits) * exponent < EXACT.prec:
        return EXACT.power(base, exponent)
    return rounded_decimal(ROUNDED.power(base, exponent))


def _power(base: Any, exponent: Any) -> Any:
    return numeric(_power_of_plain, _power_of_decimals, base, exponent)


def _sqrt(value: Any) -> Any:
    if value.__class__ not in NUMBERS:
        return None
    try:
        if value.__class__ is Decimal:
            return rounded_decimal(ROUNDED.sqrt(value))
        return finite(math.sqrt(value))
    except (ArithmeticError, ValueError):
        return None


def _extreme(sign: int) -> Callable[..., Any]:
    def apply(*values: Any) -> Any:
        """NULLs are left out; NULL where two values do not compare."""
        best: Any = None
        exact = any(value.__class__ is Decimal for value in values)
        for value in values:
            if value is None:
                continue
            if value.__class__ is WrittenNumber:
                value = value.exact if exact else float(value)
            if best is None:
                best = value
                continue
            order = compare(value, best)
            if order is None:
                return None
            if order == sign:
                best = value
        return best

    return apply


# ── values ──
def _json(text: str) -> Any:
    if len(text) > TEXT_CHARACTERS_MAX:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
        return None


_TYPES: Mapping[Any, str] = {
    type(None): "NULL",
    bool: "BOOL",
    int: "INT",
    float: "FLOAT",
    WrittenNumber: "FLOAT",
    Decimal: "DECIMAL",
    str: "STRING",
    datetime: "TIMESTAMP",
    date: "DATE",
    UUID: "UUID",
    timedelta: "INTERVAL",
    CalendarInterval: "INTERVAL",
    list: "LIST",
    dict: "MAP",
}


def _typeof(value: Any) -> str:
    return _TYPES.get(value.__class__, "ANY")


# NOW, CURRENT_TIMESTAMP and CURRENT_DATE are known to the compiler: their value is that of the statement.
SCALARS: Mapping[str, Callable[..., Any]] = {
    "LOWER": _of_text(lambda text: _bounded(text.lower())),
    "UPPER": _of_text(lambda text: _bounded(text.upper())),
    "LENGTH": _length,
    "TRIM": _of_text(str.strip),
    "SUBSTR": _substr,
    "REPLACE": _of_text(_replace),
    "STARTS_WITH": _of_text(str.startswith),
    "ENDS_WITH": _of_text(str.endswith),
    "CONTAINS": _contains,
    "CONCAT": _concat,
    "CONCAT_WS": _concat_ws,
    "SPLIT": _of_text(_split),
    "REGEXP_MATCHES": regular.matches,
    "REGEXP_EXTRACT": regular.extract,
    "REGEXP_REPLACE": regular.replace,
    "COALESCE": coalesce,
    "IFNULL": coalesce,
    "NULLIF": _nullif,
    "ABS": _absolute,
    "ROUND": _round,
    "FLOOR": _whole(math.floor),
    "CEIL": _whole(math.ceil),
    "MOD": remainder,
    "POWER": _power,
    "SQRT": _sqrt,
    "LEAST": _extreme(-1),
    "GREATEST": _extreme(1),
    "DATE_TRUNC": times.date_trunc,
    "EXTRACT": times.extract,
    "EPOCH": times.epoch,
    "TO_TIMESTAMP": times.to_timestamp,
    "JSON": _of_text(_json),
    "TYPEOF": _typeof,
}
# These compare or compute with their arguments: a number literal keeps its digits for them.
EXACT_LITERALS = frozenset(("LEAST", "GREATEST", "NULLIF", "MOD", "POWER"))
