"""Columns of a result as a pyarrow Table.

Values of one kind become the Arrow type of that kind: decimal128 or decimal256 for DECIMAL, date32, timestamp in UTC with
microseconds, uuid (text where pyarrow has no such type), duration for intervals. A column without values has the type that is
declared of it. Values of different kinds become text: their JSON form.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from geode_client.conditions.casts import to_text
from geode_client.errors import Unsupported
from geode_client.grammar.ast import ListType, MapType, Scalar, StructType, TypeNode
from geode_client.values import CalendarInterval

_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
DECIMAL_DIGITS_MAX = 76
_NARROW_DIGITS_MAX = 38
_NULL = type(None)


def table_of(
    names: Sequence[str], columns: Sequence[Sequence[Any]], types: Sequence[TypeNode | None] | None = None
) -> Any:
    """A pyarrow Table; `types` are what is declared of the columns. Raises Unsupported without the package pyarrow."""
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
    except ImportError:
        what = "to_arrow() without the package pyarrow (pip install 'geode-client[arrow]')"
        raise Unsupported(what, "this installation") from None
    declared = types if types is not None and len(types) == len(columns) else [None] * len(columns)
    arrays = [_array(pyarrow, column, kind) for column, kind in zip(columns, declared, strict=True)]
    return pyarrow.table(arrays, names=list(names))


def _array(pyarrow: Any, values: Sequence[Any], declared: TypeNode | None) -> Any:
    kinds = set(map(type, values)) - {_NULL}
    if not kinds:
        return pyarrow.array(values, _declared_type(pyarrow, declared))
    make = _OF_KIND.get(next(iter(kinds))) if len(kinds) == 1 else None
    try:
        if make is not None:
            return make(pyarrow, values)
        if kinds & {list, dict}:
            return pyarrow.array([without_uuids(value) for value in values])
        return pyarrow.array(values) if kinds <= {bool, int, float, str} else _texts(pyarrow, values)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        pass
    if kinds <= {int, float, Decimal}:
        if Decimal in kinds:
            return _texts(pyarrow, values)
        return pyarrow.array([None if value is None else _double(value) for value in values], pyarrow.float64())
    return _texts(pyarrow, values)


def _decimals(pyarrow: Any, values: Sequence[Any]) -> Any:
    scale = whole = 0
    for value in values:
        if value is not None:
            exponent = value.as_tuple().exponent
            scale = max(scale, -exponent)
            whole = max(whole, value.adjusted() + 1, 1)
    if whole + scale > DECIMAL_DIGITS_MAX:
        return _texts(pyarrow, values)
    digits = whole + scale
    kind = pyarrow.decimal128 if digits <= _NARROW_DIGITS_MAX else pyarrow.decimal256
    return pyarrow.array(values, kind(digits, scale))


def _timestamps(pyarrow: Any, values: Sequence[Any]) -> Any:
    return pyarrow.array(values, pyarrow.timestamp("us", tz="UTC"))


def _uuids(pyarrow: Any, values: Sequence[Any]) -> Any:
    if not hasattr(pyarrow, "uuid"):
        return _texts(pyarrow, values)
    storage = pyarrow.array([None if value is None else value.bytes for value in values], pyarrow.binary(16))
    return pyarrow.ExtensionArray.from_storage(pyarrow.uuid(), storage)


def _texts(pyarrow: Any, values: Sequence[Any]) -> Any:
    return pyarrow.array([None if value is None else _text(value) for value in values], pyarrow.string())


_OF_KIND: Mapping[type, Callable[[Any, Sequence[Any]], Any]] = {
    Decimal: _decimals,
    datetime: _timestamps,
    date: lambda pyarrow, values: pyarrow.array(values, pyarrow.date32()),
    UUID: _uuids,
    timedelta: lambda pyarrow, values: pyarrow.array(values, pyarrow.duration("us")),
}


def without_uuids(value: Any) -> Any:
    """The value with UUIDs and intervals of months as text, which Arrow has no type for inside others."""
    kind = value.__class__
    if kind is UUID:
        return str(value)
    if kind is CalendarInterval:
        return _text(value)
    if kind is list:
        return [without_uuids(item) for item in value]
    return {name: without_uuids(item) for name, item in value.items()} if kind is dict else value


def _declared_type(pyarrow: Any, declared: TypeNode | None) -> Any:
    """The Arrow type of a declared type; that of NULL where nothing is declared."""
    match declared:
        case Scalar("STRING" | "BYTES"):
            return pyarrow.string()
        case Scalar("INT"):
            return pyarrow.int64()
        case Scalar("FLOAT"):
            return pyarrow.float64()
        case Scalar("BOOL"):
            return pyarrow.bool_()
        case Scalar("TIMESTAMP"):
            return pyarrow.timestamp("us", tz="UTC")
        case Scalar("DATE"):
            return pyarrow.date32()
        case Scalar("DECIMAL"):
            return pyarrow.decimal128(_NARROW_DIGITS_MAX, 9)
        case Scalar("UUID"):
            return pyarrow.uuid() if hasattr(pyarrow, "uuid") else pyarrow.string()
        case ListType(element):
            return pyarrow.list_(_declared_type(pyarrow, element))
        case StructType(fields):
            return pyarrow.struct([(field.name, _declared_type(pyarrow, field.type)) for field in fields])
        case MapType() | Scalar() | None:
            return pyarrow.null()


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, CalendarInterval):
        return str(value)
    text = to_text(value)
    return _encoder.encode(value).decode() if text is None else text
