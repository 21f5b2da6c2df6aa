"""What a declared column holds: the values of its type, made from the JSON of a message.

JSON has no decimals, times or UUIDs. A column whose type has a DECIMAL in it is read from its JSON text (msgspec.Raw), so that
no digit passes through a float; any other column from its decoded value. What does not have the form of the type is NULL,
which only messages from before the column was declared can hold.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, assert_never

import msgspec

from geode_client import codec
from geode_client.conditions.fields import ABSENT, EVERY
from geode_client.conditions.functions import stepped
from geode_client.grammar.ast import ListType, MapType, Scalar, StructType, TypeNode
from geode_client.values import (
    as_decimal,
    as_uuid,
    bounded_decimal,
    in_utc,
    midnight_of,
    parse_date,
    parse_decimal,
    parse_timestamp,
)

SPECIAL = frozenset(("TIMESTAMP", "DATE", "DECIMAL", "UUID"))

_decimal_decoder = msgspec.json.Decoder(Decimal | None)
_exact_decoder = msgspec.json.Decoder(float_hook=Decimal)


def holds(node: TypeNode | None, names: frozenset[str] = SPECIAL) -> bool:
    """Whether a type is one of these scalars, or has one in it."""
    match node:
        case None:
            return False
        case Scalar(name):
            return name in names
        case ListType(inner) | MapType(inner):
            return holds(inner, names)
        case StructType(fields):
            return any(holds(field.type, names) for field in fields)
        case _:
            assert_never(node)


def holds_decimal(node: TypeNode | None) -> bool:
    return holds(node, frozenset(("DECIMAL",)))


def type_at(node: TypeNode | None, steps: Sequence[Any]) -> TypeNode | None:
    """The declared type at the end of some steps; None where nothing is declared."""
    for step in steps:
        match node:
            case ListType(element) if isinstance(step, int) or step is EVERY:
                node = element
            case MapType(value) if isinstance(step, str):
                node = value
            case StructType(fields) if isinstance(step, str):
                node = next((field.type for field in fields if field.name == step), None)
            case _:
                return None
    return node


@lru_cache(maxsize=1024)
def reader(column: TypeNode, steps: tuple[Any, ...] = ()) -> Callable[[Any], Any] | None:
    """A function from what a row holds of a column to the value at the end of some steps; None where that is the value
    that JSON has. Of a column with a DECIMAL in it a row holds the JSON text."""
    is_raw = holds_decimal(column)
    end = type_at(column, steps)
    if is_raw and not steps and isinstance(column, Scalar):
        return _decimal_of
    convert = _converter(end, exact=is_raw)
    if not steps:
        return (lambda value: convert(decoded(value))) if is_raw else convert if holds(end) else None
    if is_raw:
        return lambda value: convert(stepped(decoded(value), steps))
    return (lambda value: convert(stepped(value, steps))) if holds(end) else None


def decoded(value: Any) -> Any:
    """The value of a JSON text, its fractions as Decimals; anything else is decoded already."""
    return codec.decode_with(_exact_decoder.decode, value) if value.__class__ is msgspec.Raw else value


def _decimal_of(value: Any) -> Any:
    if value.__class__ is msgspec.Raw:
        try:
            made = _decimal_decoder.decode(value)
        except msgspec.MsgspecError:
            return None
        return None if made is None else bounded_decimal(made)
    return _to_decimal(value)


def _to_decimal(value: Any) -> Any:
    kind = value.__class__
    if kind is str:
        return parse_decimal(value)
    return bounded_decimal(as_decimal(value)) if kind is int or kind is float or kind is Decimal else None


def _to_timestamp(value: Any) -> Any:
    if value.__class__ is str:
        return parse_timestamp(value)
    if value.__class__ is date:
        return midnight_of(value)
    return in_utc(value) if value.__class__ is datetime else None


def _to_date(value: Any) -> Any:
    if value.__class__ is str:
        return parse_date(value)
    if value.__class__ is datetime:
        return in_utc(value).date()
    return value if value.__class__ is date else None


_SCALARS: Mapping[str, Callable[[Any], Any]] = {
    "DECIMAL": _to_decimal,
    "TIMESTAMP": _to_timestamp,
    "DATE": _to_date,
    "UUID": as_uuid,
}


def _converter(node: TypeNode | None, *, exact: bool) -> Callable[[Any], Any]:
    """A function from a decoded value to that of the type; `exact`: fractions were decoded as Decimals."""
    other = floated if exact else _as_it_is
    match node:
        case None:
            return other
        case Scalar(name):
            return _SCALARS.get(name, other)
        case ListType(element):
            return _list_converter(_converter(element, exact=exact))
        case MapType(inner):
            return _map_converter(_converter(inner, exact=exact))
        case StructType(fields):
            named = {field.name: _converter(field.type, exact=exact) for field in fields}
            return _struct_converter(named, other)
        case _:
            assert_never(node)


def _list_converter(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: [convert(item) for item in value] if value.__class__ is list else None


def _map_converter(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: {name: convert(item) for name, item in value.items()} if value.__class__ is dict else None


def _struct_converter(named: Mapping[str, Callable[[Any], Any]], other: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: (
        {name: named.get(name, other)(item) for name, item in value.items()} if value.__class__ is dict else None
    )


def _as_it_is(value: Any) -> Any:
    return None if value is ABSENT else value


def floated(value: Any) -> Any:
    """The value with every Decimal a float, as JSON is decoded elsewhere."""
    kind = value.__class__
    if kind is Decimal:
        return float(value)
    if kind is list:
        return [floated(item) for item in value]
    if kind is dict:
        return {name: floated(item) for name, item in value.items()}
    return None if value is ABSENT else value
