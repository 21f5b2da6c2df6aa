"""Columns of a result as a pyarrow Table."""

import importlib
from collections.abc import Sequence
from typing import Any

import msgspec

from geode_client.errors import Unsupported

_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def table_of(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> Any:
    """A pyarrow Table; raises Unsupported without the package pyarrow."""
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
    except ImportError:
        what = "to_arrow() without the package pyarrow (pip install 'geode-client[arrow]')"
        raise Unsupported(what, "this installation") from None
    return pyarrow.table([_array(pyarrow, column) for column in columns], names=list(names))


def _array(pyarrow: Any, values: Sequence[Any]) -> Any:
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        kinds = set(map(type, values)) - {type(None)}
    if kinds <= {int, float}:
        return pyarrow.array([None if value is None else _double(value) for value in values], pyarrow.float64())
    return pyarrow.array([None if value is None else _text(value) for value in values], pyarrow.string())


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _encoder.encode(value).decode()
