"""The SCHEMA of a topic: columns with types, made into a msgspec Struct that checks a batch while it decodes it.

A schema is open: fields that it does not name are kept; `strict` refuses them. A column without NOT NULL takes a missing
field and null; DEFAULT fills a missing field in. Texts that must have a form (TIMESTAMP, DATE, UUID, BYTES, DECIMAL) are
checked for that form and stored as they came. Only when a batch fails is it looked at message by message, to name the
place.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cached_property, lru_cache
from typing import Annotated, Any, Self, assert_never

import msgspec

from geode_client import codec
from geode_client.conditions.declared import holds, holds_decimal
from geode_client.conditions.localise import localised
from geode_client.errors import GqlError, InvalidMessage, SchemaViolation
from geode_client.grammar.ast import (
    ColumnDefinition,
    DefaultValue,
    JsonValue,
    ListType,
    MapType,
    Scalar,
    StructField,
    StructType,
    TypeNode,
)
from geode_client.grammar.source import Span, exact_number_of
from geode_client.values import (
    DECIMAL_PLACES_MAX,
    bounded_decimal,
    finer_digits,
    parse_decimal,
    parse_timestamp,
    parse_uuid,
)

FOUND_CHARACTERS_MAX = 60
COLUMNS_MAX = 1_000
# Decoders cannot look for such names.
_UNFIT_NAME = re.compile(r'["\\\x00-\x1f]')


class _Text:
    """Base of the marker types that stand for texts of a form; `right` says whether a text has it."""

    __slots__ = ()

    @staticmethod
    def right(text: str) -> bool:
        raise NotImplementedError


class _Timestamp(_Text):
    @staticmethod
    def right(text: str) -> bool:
        return len(text) > 10 and parse_timestamp(text) is not None and not finer_digits(text)


class _Date(_Text):
    @staticmethod
    def right(text: str) -> bool:
        date.fromisoformat(text)
        return True


class _Uuid(_Text):
    @staticmethod
    def right(text: str) -> bool:
        return parse_uuid(text) is not None


class _Bytes(_Text):
    @staticmethod
    def right(text: str) -> bool:
        base64.b64decode(text, validate=True)
        return True


class _Decimal(_Text):
    @staticmethod
    def right(text: str) -> bool:
        return parse_decimal(text) is not None


_SCALARS: Mapping[str, Any] = {
    "STRING": str,
    "INT": int,
    "FLOAT": float,
    "BOOL": bool,
    "TIMESTAMP": _Timestamp,
    "DATE": _Date,
    "DECIMAL": Decimal | _Decimal,
    "UUID": _Uuid,
    "BYTES": _Bytes,
    "ANY": Any,
}
# A Decimal has to be told from text by its JSON type, which a union with a custom type cannot do: any number or text is
# taken first, and checked by hand.
_DECIMAL_NUMBER = int | float | str


def _hook(kind: type, value: Any) -> Any:
    """Called by msgspec for the marker types; what is decoded is thrown away, so any instance will do."""
    if issubclass(kind, _Text):
        try:
            if isinstance(value, str) and kind.right(value):
                return kind()
        except (ValueError, InvalidOperation, binascii.Error):
            pass
    raise ValueError(f"Expected `{kind.__name__}`")


class Schema:
    """The columns of a topic; equal when their text is. Safe to share."""

    def __init__(self, columns: tuple[ColumnDefinition, ...]) -> None:
        _check_columns(columns)
        self.columns = columns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.columns == other.columns

    def __hash__(self) -> int:
        return hash(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def type_of(self, name: str) -> TypeNode | None:
        """The type of a column, or None when there is none of this name."""
        return next((column.type for column in self.columns if column.name == name), None)

    def with_column(self, column: ColumnDefinition) -> "Schema":
        """The schema after ADD COLUMN."""
        return Schema((*self.columns, column))

    def check(self, lines: bytes, *, strict: bool, time_zone: str | None = None) -> bytes:
        """The lines of a batch, with defaults filled in; raises SchemaViolation for the first message that is refused.

        With a time zone, times without an offset get the one that they have there.
        """
        decoder = self._strict_decoder if strict else self._decoder
        try:
            decoder.decode_lines(lines)
        except (msgspec.MsgspecError, RecursionError) as error:
            self._name_violation(codec.decode_lines(lines), strict=strict)
            raise InvalidMessage(f"the schema refuses it: {error}") from error
        if self._formed:
            self._check_forms(lines)
        if time_zone is not None and self._timed:
            lines = localised(lines, self._timed, time_zone)
        return fill_missing(lines, self._defaults) if self._defaults else lines

    def _check_forms(self, lines: bytes) -> None:
        """The second look at columns whose type a decoder cannot tell: DECIMAL, and what holds one."""
        self._name_violation(_exact_decoder.decode_lines(lines), strict=False)

    def _name_violation(self, messages: list[Any], *, strict: bool) -> None:
        for index, message in enumerate(messages):
            for violation in _object_violations(message, self.columns, "", strict=strict):
                pointer, expected, found = violation
                raise SchemaViolation(message_index=index, pointer=pointer, expected=expected, found=found)

    @cached_property
    def _decoder(self) -> "msgspec.json.Decoder[Any]":
        return self._made(strict=False)

    @cached_property
    def _strict_decoder(self) -> "msgspec.json.Decoder[Any]":
        return self._made(strict=True)

    def _made(self, *, strict: bool) -> "msgspec.json.Decoder[Any]":
        struct = _struct("Row", self.columns, strict=strict)
        return msgspec.json.Decoder(struct, dec_hook=_hook)

    @cached_property
    def _defaults(self) -> dict[str, JsonValue]:
        return {column.name: column.default.value for column in self.columns if column.default is not None}

    @cached_property
    def _formed(self) -> bool:
        return any(holds_decimal(column.type) for column in self.columns)

    @cached_property
    def _timed(self) -> dict[str, TypeNode]:
        return {column.name: column.type for column in self.columns if holds(column.type, frozenset(("TIMESTAMP",)))}

    def defaults_beyond(self, older: "Schema | None") -> dict[str, JsonValue]:
        """The defaults of the columns that an older version of the schema did not have."""
        known = older.names if older is not None else ()
        return {name: value for name, value in self._defaults.items() if name not in known and value is not None}

    def to_json(self) -> bytes:
        return _record_encoder.encode([_column_record(column) for column in self.columns])

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        return cls(tuple(_column_from(record) for record in _record_decoder.decode(text)))


def _check_name(name: str, span: Span) -> None:
    if _UNFIT_NAME.search(name):
        shown = msgspec.json.encode(name).decode()
        raise GqlError(f"the name {shown} has a quotation mark, a backslash or a control character", span=span)


def _check_inner_names(node: TypeNode, span: Span) -> None:
    match node:
        case Scalar():
            return
        case ListType(inner) | MapType(inner):
            _check_inner_names(inner, span)
        case StructType(fields):
            for field in fields:
                _check_name(field.name, span)
                _check_inner_names(field.type, span)
        case _:
            assert_never(node)


def fill_missing(lines: bytes, defaults: Mapping[str, JsonValue]) -> bytes:
    """The lines with fields that a message does not have filled in; what is there stays as it was written."""
    names = tuple(defaults)
    members = [msgspec.json.encode(name) + b":" + codec.encode(value) for name, value in defaults.items()]
    filled: list[bytes] = []
    changed = False
    for line, absent in zip(codec.split_lines(lines), _absences(names, lines), strict=True):
        if not absent:
            filled.append(line)
            continue
        changed = True
        inside = line.rstrip()[:-1].rstrip()
        comma = b"" if inside.endswith(b"{") else b","
        filled.append(inside + comma + b",".join(members[place] for place in absent) + b"}")
    return b"".join(line + b"\n" for line in filled) if changed else lines


@lru_cache(maxsize=256)
def _asking(names: tuple[str, ...]) -> "msgspec.json.Decoder[Any]":
    fields = [(f"f{place}", Any, msgspec.UNSET) for place in range(len(names))]
    rename = {f"f{place}": name for place, name in enumerate(names)}
    return msgspec.json.Decoder(msgspec.defstruct("Presence", fields, rename=rename, gc=False))


def _absences(names: tuple[str, ...], lines: bytes) -> list[list[int]]:
    """For each message the places of the names that it does not have; none for what is no object."""
    places = range(len(names))
    try:
        rows: list[Any] = _asking(names).decode_lines(lines)
    except (msgspec.MsgspecError, RecursionError):
        bodies = codec.decode_lines(lines)
        return [[place for place in places if isinstance(body, dict) and names[place] not in body] for body in bodies]
    attributes = [f"f{place}" for place in places]
    return [[place for place in places if getattr(row, attributes[place]) is msgspec.UNSET] for row in rows]


def _check_columns(columns: tuple[ColumnDefinition, ...]) -> None:
    if len(columns) > COLUMNS_MAX:
        raise GqlError(f"a schema has at most {COLUMNS_MAX} columns, not {len(columns)}")
    seen: set[str] = set()
    for column in columns:
        if column.name in seen:
            raise GqlError(f"column {column.name} is there twice", span=column.span)
        _check_name(column.name, column.span)
        _check_inner_names(column.type, column.span)
        seen.add(column.name)
        if column.default is not None and column.default.value is not None:
            for _, expected, found in _violations(column.default.value, column.type, "", strict=True):
                raise GqlError(
                    f"the DEFAULT of column {column.name} is {found}, but its type is {expected}",
                    span=column.span,
                )


def _struct(name: str, columns: tuple[ColumnDefinition, ...], *, strict: bool) -> type[msgspec.Struct]:
    fields: list[Any] = []
    rename: dict[str, str] = {}
    for index, column in enumerate(columns):
        field = f"f{index}"
        rename[field] = column.name
        kind = _python_type(column.type, strict=strict)
        if not column.not_null:
            kind = kind | None if kind is not Any else kind
            fields.append((field, kind, None))
        elif column.default is not None:
            fields.append((field, _not_null(kind), msgspec.UNSET))
        else:
            fields.append((field, _not_null(kind)))
    return msgspec.defstruct(name, fields, rename=rename, forbid_unknown_fields=strict, kw_only=True, gc=False)


def _not_null(kind: Any) -> Any:
    # ANY NOT NULL: everything that JSON has but null.
    return bool | int | float | str | list[Any] | dict[str, Any] if kind is Any else kind


def _python_type(node: TypeNode, *, strict: bool) -> Any:
    match node:
        case Scalar("DECIMAL"):
            return _DECIMAL_NUMBER
        case Scalar("FLOAT"):
            return float | int
        case Scalar(name):
            return _SCALARS[name]
        case ListType(element):
            return list[_nullable(element, strict=strict)]  # type: ignore[misc]
        case MapType(value):
            return dict[str, _nullable(value, strict=strict)]  # type: ignore[misc]
        case StructType(fields):
            columns = tuple(ColumnDefinition(field.name, field.type) for field in fields)
            return _struct("Inner", columns, strict=strict)
        case _:
            assert_never(node)


def _nullable(node: TypeNode, *, strict: bool) -> Any:
    kind = _python_type(node, strict=strict)
    return kind if kind is Any else kind | None


Violation = tuple[str, str, str]


def _object_violations(
    value: Any, columns: tuple[ColumnDefinition, ...], pointer: str, *, strict: bool
) -> list[Violation]:
    if not isinstance(value, dict):
        return [(pointer, "an object with the fields of the schema", _found(value))]
    found: list[Violation] = []
    for column in columns:
        place = f"{pointer}/{_escaped(column.name)}"
        if value.get(column.name) is None:
            missing = column.name not in value
            if column.not_null and not (missing and column.default is not None):
                found.append((place, f"{type_text(column.type)} NOT NULL", "nothing" if missing else "null"))
        else:
            found.extend(_violations(value[column.name], column.type, place, strict=strict))
    if strict:
        names = {column.name for column in columns}
        found += [
            (
                f"{pointer}/{_escaped(name)}",
                "only fields that the schema names (option strict)",
                "another field",
            )
            for name in value
            if name not in names
        ]
    return found


def _violations(value: Any, node: TypeNode, pointer: str, *, strict: bool) -> list[Violation]:
    match node:
        case Scalar(name):
            return [] if _is_scalar(value, name) else [(pointer, _expected(value, name), _found(value))]
        case ListType(element):
            if not isinstance(value, list):
                return [(pointer, type_text(node), _found(value))]
            items = [(str(index), item) for index, item in enumerate(value)]
            return _inner_violations(items, element, pointer, strict=strict)
        case MapType(inner):
            if not isinstance(value, dict):
                return [(pointer, type_text(node), _found(value))]
            return _inner_violations(list(value.items()), inner, pointer, strict=strict)
        case StructType(fields):
            columns = tuple(ColumnDefinition(field.name, field.type) for field in fields)
            return _object_violations(value, columns, pointer, strict=strict)
        case _:
            assert_never(node)


def _inner_violations(items: list[tuple[str, Any]], node: TypeNode, pointer: str, *, strict: bool) -> list[Violation]:
    found: list[Violation] = []
    for name, item in items:
        if item is not None:
            found.extend(_violations(item, node, f"{pointer}/{_escaped(name)}", strict=strict))
    return found


_INTEGRAL = re.compile(r"-?\d+")


def _is_scalar(value: Any, name: str) -> bool:
    if name == "ANY":
        return True
    if isinstance(value, bool):
        return name == "BOOL"
    if isinstance(value, int):
        return name in ("INT", "FLOAT") or (name == "DECIMAL" and bounded_decimal(Decimal(value)) is not None)
    if isinstance(value, float):
        return name in ("FLOAT", "DECIMAL")
    if isinstance(value, Decimal):
        return name == "FLOAT" or (name == "DECIMAL" and bounded_decimal(value) is not None)
    if not isinstance(value, str):
        return False
    if name == "STRING":
        return True
    marker = _Decimal if name == "DECIMAL" else _SCALARS.get(name)
    try:
        return isinstance(marker, type) and issubclass(marker, _Text) and marker.right(value)
    except (ValueError, InvalidOperation, binascii.Error):
        return False


def _expected(value: Any, name: str) -> str:
    """The type, and what is wrong with a value that is nearly one."""
    if name == "TIMESTAMP" and isinstance(value, str) and parse_timestamp(value) is not None and finer_digits(value):
        return "TIMESTAMP, which has microseconds (declare the column as STRING to keep finer digits)"
    if name == "DECIMAL" and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return f"DECIMAL of at most {DECIMAL_PLACES_MAX} digits before and after the point"
    return name


def _found(value: Any) -> str:
    text = _record_encoder.encode(value).decode()
    return text if len(text) <= FOUND_CHARACTERS_MAX else text[: FOUND_CHARACTERS_MAX - 1] + "…"


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def type_text(node: TypeNode) -> str:
    """The type as GQL writes it."""
    match node:
        case Scalar(name):
            return name
        case ListType(element):
            return f"LIST<{type_text(element)}>"
        case MapType(value):
            return f"MAP<STRING, {type_text(value)}>"
        case StructType(fields):
            return "STRUCT<" + ", ".join(f"{field.name}: {type_text(field.type)}" for field in fields) + ">"
        case _:
            assert_never(node)


@dataclass(frozen=True, slots=True)
class _ColumnRecord:
    """A column as the catalog stores it; `default` is absent (UNSET) where there is none."""

    name: str
    type: dict[str, Any]
    not_null: bool = False
    default: Annotated[Any, "JSON"] = msgspec.UNSET


_record_encoder = msgspec.json.Encoder(decimal_format="number")
_record_decoder = msgspec.json.Decoder(list[_ColumnRecord], float_hook=exact_number_of)
_exact_decoder = msgspec.json.Decoder(float_hook=Decimal)


def _column_record(column: ColumnDefinition) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": column.name,
        "type": _type_record(column.type),
        "not_null": column.not_null,
    }
    if column.default is not None:
        record["default"] = column.default.value
    return record


def _column_from(record: _ColumnRecord) -> ColumnDefinition:
    default = None if record.default is msgspec.UNSET else DefaultValue(record.default)
    return ColumnDefinition(record.name, _type_from(record.type), record.not_null, default)


def _type_record(node: TypeNode) -> dict[str, Any]:
    match node:
        case Scalar(name):
            return {"scalar": name}
        case ListType(element):
            return {"list": _type_record(element)}
        case MapType(value):
            return {"map": _type_record(value)}
        case StructType(fields):
            return {"struct": [[field.name, _type_record(field.type)] for field in fields]}
        case _:
            assert_never(node)


def _type_from(record: dict[str, Any]) -> TypeNode:
    match record:
        case {"scalar": str(name)} if name in _SCALARS:
            return Scalar(name)
        case {"list": dict(element)}:
            return ListType(_type_from(element))
        case {"map": dict(value)}:
            return MapType(_type_from(value))
        case {"struct": list(fields)}:
            return StructType(tuple(StructField(name, _type_from(kind)) for name, kind in fields))
        case _:
            raise ValueError(f"unknown column type {record!r}")
