"""Which type the cells of a CSV column have in common, and how its cells become values.

A column that a schema declares, or the option `types`, is read as that. Any other column has the narrowest type that all its
cells have: BOOL, INT, FLOAT, DATE, TIMESTAMP, JSON (arrays and objects), else STRING. Numbers are those that JSON could write,
and `.5` and `1.`: a leading zero, a plus sign, or a bare exponent such as 1E5 makes a code, and codes are text.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum
from math import isinf
from typing import Any

import msgspec

from geode_client.grammar.ast import Scalar, TypeNode

WHOLE_DIGITS_MAX = 38
_DIGITS = r"(?:0|[1-9]\d*)"
_EXPONENT = r"(?:e[+-]?\d{1,3}|E[+-]\d{1,3})"
_WHOLE = rf" *-?(?:0|[1-9]\d{{0,{WHOLE_DIGITS_MAX - 1}}}) *"
_FRACTION = rf"(?:{_DIGITS}\.\d*|\.\d+)(?:{_EXPONENT}|E\d{{1,3}})?|{_DIGITS}{_EXPONENT}|(?:0|[1-9]\d{{0,{WHOLE_DIGITS_MAX - 1}}})"
_DATE = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?"


class Kind(Enum):
    """What all cells of a column are; the value is what results and EXPLAIN call it."""

    UNKNOWN = "STRING (no values)"
    BOOL = "BOOL"
    INT = "INT"
    FLOAT = "FLOAT"
    DATE = "DATE"
    TIMESTAMP = "TIMESTAMP"
    JSON = "JSON"
    STRING = "STRING"


_PATTERNS = {
    Kind.BOOL: r" *(?:true|false|True|False|TRUE|FALSE) *",
    Kind.INT: _WHOLE,
    Kind.FLOAT: rf" *(?:-?(?:{_FRACTION})|[nN]a[nN]) *",
    Kind.DATE: _DATE,
    Kind.TIMESTAMP: rf"{_DATE}(?:[T ]{_TIME})?",
}
_ALL_CELLS = {kind: re.compile(rf"(?:(?:{text})\n)*", re.ASCII) for kind, text in _PATTERNS.items()}
_ONE_CELL = {kind: re.compile(text, re.ASCII) for kind, text in _PATTERNS.items()}
# What a column may still become when the next cells do not fit.
_WIDER = {
    Kind.UNKNOWN: (Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.DATE, Kind.TIMESTAMP, Kind.JSON),
    Kind.INT: (Kind.FLOAT,),
    Kind.DATE: (Kind.TIMESTAMP,),
}

Cells = Sequence[str]


def fits(kind: Kind, cells: Cells) -> bool:
    """Whether all cells, of which none is NULL, are of the kind. One look of the regular expression for all of them."""
    if kind in (Kind.STRING, Kind.UNKNOWN):
        return kind is Kind.STRING or not cells
    if kind is Kind.JSON:
        return all(cell[:1] in ("{", "[") and json_value(cell) is not NO_JSON for cell in cells)
    return _ALL_CELLS[kind].fullmatch("\n".join(cells) + "\n" if cells else "") is not None


def widened(kind: Kind, cells: Cells) -> Kind:
    """The narrowest kind that the cells have together with those that were of `kind`."""
    if not cells or fits(kind, cells):
        return kind
    for wider in _WIDER.get(kind, ()):
        if fits(wider, cells):
            return wider
    return Kind.STRING


NO_JSON = object()


def _exact(text: str) -> Decimal:
    """A fraction with all its digits; raises ValueError for one that is too large for a message."""
    if isinf(float(text)):
        raise ValueError("number out of range")
    return Decimal(text)


_exact_decoder = msgspec.json.Decoder(float_hook=_exact)


def json_value(cell: str) -> Any:
    """The value of a JSON text, its fractions as Decimals with all their digits; or NO_JSON."""
    try:
        return _exact_decoder.decode(cell)
    except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
        return NO_JSON


def _number(cell: str) -> float | None:
    value = float(cell)
    return None if value != value else value  # noqa: PLR0124 - NaN has no JSON form and is read as NULL


_CASTS: dict[Kind, Callable[[str], Any]] = {
    Kind.BOOL: lambda cell: cell.strip().lower() == "true",
    Kind.INT: int,
    Kind.FLOAT: _number,
    Kind.JSON: json_value,
}


@dataclass(slots=True)
class CsvColumn:
    """A column: its name, and its declared type. Without one its kind is inferred from its cells."""

    name: str
    declared: TypeNode | None = None
    kind: Kind = Kind.UNKNOWN

    def learn(self, cells: Cells) -> None:
        """Widen the kind to that of more cells, none of them NULL."""
        if self.kind is not Kind.STRING and self.declared is None:
            self.kind = widened(self.kind, cells)

    def cast(self, cells: Cells) -> list[Any] | int:
        """The values of cells, none of them NULL; or the place of the first that is not what its column is."""
        if self.declared is not None:
            convert = _declared_cast(self.declared)
            return [convert(cell) for cell in cells]
        if self.kind in (Kind.STRING, Kind.UNKNOWN):
            return list(cells)
        if not fits(self.kind, cells):
            return next((place for place, cell in enumerate(cells) if not fits(self.kind, (cell,))), 0)
        found = _CASTS.get(self.kind)
        return list(cells) if found is None else list(map(found, cells))


def _declared_cast(kind: TypeNode) -> Callable[[str], Any]:
    """How cells of a declared column become values; what does not fit stays text, and the schema refuses it."""
    match kind:
        case Scalar("ANY"):
            return guessed
        case Scalar("INT" | "FLOAT"):
            return _declared_number
        case Scalar("DECIMAL"):
            return _declared_decimal
        case Scalar("BOOL"):
            return _declared_truth
        case Scalar():
            return _as_it_is
        case _:
            return _declared_nested


def _as_it_is(cell: str) -> Any:
    return cell


_DECLARED_WHOLE = re.compile(r" *[+-]?\d{1,4000} *", re.ASCII)
_DECLARED_NUMBER = re.compile(r" *[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})? *", re.ASCII)


def _declared_number(cell: str) -> Any:
    if _DECLARED_WHOLE.fullmatch(cell) is not None:
        return int(cell)
    return float(cell) if _DECLARED_NUMBER.fullmatch(cell) is not None else cell


def _declared_decimal(cell: str) -> Any:
    try:
        return Decimal(cell.strip()) if _DECLARED_NUMBER.fullmatch(cell) is not None else cell
    except InvalidOperation:
        return cell


def _declared_truth(cell: str) -> Any:
    return {"true": True, "false": False}.get(cell.strip().lower(), cell)


def _declared_nested(cell: str) -> Any:
    value = json_value(cell)
    return cell if value is NO_JSON else value


def guessed(cell: str) -> Any:
    """The value that a cell looks like by itself, where its column may hold anything."""
    for kind in (Kind.BOOL, Kind.INT, Kind.FLOAT):
        if _ONE_CELL[kind].fullmatch(cell) is not None:
            return _CASTS[kind](cell)
    if cell[:1] in ("{", "["):
        return _declared_nested(cell)
    return cell
