"""CAST: from any value to a type, NULL where it cannot be."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

import msgspec

from geode_client.conditions.functions import INTEGER_BITS_MAX, TEXT_CHARACTERS_MAX, finite
from geode_client.values import (
    DECIMAL_PLACES_MAX,
    NUMBERS,
    WrittenNumber,
    as_decimal,
    as_timestamp,
    as_uuid,
    bounded_decimal,
    parse_date,
    parse_decimal,
    plain_number,
    timestamp_text,
)

NUMBER_TEXT_CHARACTERS_MAX = 400
_json = msgspec.json.Encoder(decimal_format="number")


def to_text(value: Any) -> Any:
    """The text of a value: a DECIMAL without an exponent, times in ISO 8601, arrays and objects as JSON."""
    kind = value.__class__
    if kind is str:
        return value
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value) if value.bit_length() < INTEGER_BITS_MAX else None
    if kind is float:
        return repr(value)
    if kind is Decimal:
        return format(value, "f") if abs(value.adjusted()) <= 2 * DECIMAL_PLACES_MAX else None
    if kind is datetime:
        return timestamp_text(value)
    if kind is date:
        return value.isoformat()
    if kind is UUID:
        return str(value)
    return _json_text(value) if kind is list or kind is dict else None


def _json_text(value: Any) -> str | None:
    try:
        text = _json.encode(value).decode()
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError):
        return None
    return text if len(text) <= TEXT_CHARACTERS_MAX else None


def _to_integer(value: Any) -> Any:
    if value.__class__ is str:
        if len(value) > NUMBER_TEXT_CHARACTERS_MAX or "_" in value:
            return None
        return int(value.strip())
    if value.__class__ is Decimal and value.adjusted() > DECIMAL_PLACES_MAX:
        return None
    return int(value) if value.__class__ in NUMBERS or value.__class__ is bool else None


def _to_float(value: Any) -> Any:
    if value.__class__ in NUMBERS or (
        value.__class__ is str and len(value) <= NUMBER_TEXT_CHARACTERS_MAX and "_" not in value
    ):
        return finite(float(value))
    return None


def _to_boolean(value: Any) -> Any:
    if value.__class__ is str:
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if value.__class__ is bool else None


def _to_date(value: Any) -> Any:
    if value.__class__ is str:
        return parse_date(value)
    moment = as_timestamp(value)
    return None if moment is None else moment.astimezone(UTC).date()


def _to_decimal(value: Any) -> Any:
    if value.__class__ is str:
        return parse_decimal(value)
    if value.__class__ in NUMBERS or value.__class__ is WrittenNumber:
        return bounded_decimal(as_decimal(value))
    return None


_CASTS: Mapping[str, Callable[[Any], Any]] = {
    "TEXT": to_text,
    "BIGINT": _to_integer,
    "DOUBLE": _to_float,
    "BOOLEAN": _to_boolean,
    "TIMESTAMPTZ": as_timestamp,
    "DATE": _to_date,
    "DECIMAL": _to_decimal,
    "UUID": as_uuid,
    "VARBINARY": lambda value: value if value.__class__ is str else None,
}


def caster(name: str, digits: tuple[int, int] | None = None) -> Callable[[Any], Any]:
    """A function that casts to the type; what cannot be cast is NULL. `digits`: those of a DECIMAL in all, and after the
    point, to which it is rounded."""
    cast = _CASTS[name]

    def apply(value: Any) -> Any:
        try:
            made = cast(value if name == "DECIMAL" else plain_number(value))
            return made if digits is None or made is None else _fitted(made, *digits)
        except (ValueError, ArithmeticError):
            return None

    return apply


def _fitted(value: Decimal, precision: int, scale: int) -> Decimal | None:
    rounded = value.quantize(Decimal(1).scaleb(-scale), rounding="ROUND_HALF_UP", context=_FITTING)
    return rounded if not rounded or rounded.adjusted() < precision - scale else None


_FITTING = Context(prec=2000)
