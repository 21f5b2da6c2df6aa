"""Names, texts, values and types as the language writes them."""

import re
from decimal import Decimal
from typing import Any, assert_never

import msgspec

from geode_client.grammar import ast
from geode_client.grammar.ast import ParameterReference

_PLAIN_TOPIC = re.compile(r"(?:\w+(?:[-.]\w+)*|\*\*?)(?:/(?:\w+(?:[-.]\w+)*|\*\*?))*")

PLAIN_NAME = re.compile(r"[^\W\d]\w*")

_KEYWORDS = frozenset(
    "AND AS ASC BETWEEN CASE CAST DATE DEFAULT DESC DISTINCT ELSE END ESCAPE EXISTS FALSE FROM GROUP HAVING ILIKE IN"
    " INNER INTERVAL IS JOIN LEFT LIKE LIMIT NOT NULL NULLS OFFSET ON OR ORDER SELECT THEN TIMESTAMP TRUE TRY_CAST"
    " UNION UNKNOWN WHEN WHERE WITH IF SYSTEM DEAD LIST MAP STRUCT CONSUMER OUTER CROSS EXCEPT FULL INTERSECT RIGHT"
    " UNNEST USING CURRENT_TIMESTAMP CURRENT_DATE".split()
)


# ── small parts ──
def topic(name: str) -> str:
    """A topic or pattern, quoted where it must be."""
    plain = _PLAIN_TOPIC.fullmatch(name) and name.upper() not in _KEYWORDS
    return name if plain else '"' + name.replace('"', '""') + '"'


def identifier(name: str, *, quote: bool = False) -> str:
    """A name, quoted where it must be or was."""
    if not quote and PLAIN_NAME.fullmatch(name) and name.upper() not in _KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def literal(value: Any) -> str:
    """A value of SQL: text in single quotes."""
    match value:
        case ParameterReference(name):
            return f"${name}"
        case ast.RawText(text):
            return text
        case ast.StructType(fields):
            return "(" + ", ".join(f"{identifier(found.name)}: {type_text(found.type)}" for found in fields) + ")"
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case str():
            return quoted(value)
        case float():
            return _float(value)
        case int() | Decimal():
            return str(value)
        case _:
            return json_text(value)


def _float(value: float) -> str:
    text = repr(value)
    return text if "." in text or "e" in text else f"{text}.0"


def json_text(value: Any) -> str:
    """JSON with `$name` where a parameter stands."""
    match value:
        case ParameterReference(name):
            return f"${name}"
        case dict():
            return "{" + ", ".join(f"{json_text(str(name))}: {json_text(item)}" for name, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(json_text(item) for item in value) + "]"
        case float():
            return _float(value)
        case Decimal():
            return str(value)
        case _:
            return msgspec.json.encode(value).decode()


def type_text(node: ast.TypeNode) -> str:
    """A type as it is written."""
    match node:
        case ast.Scalar(name):
            return name
        case ast.ListType(element):
            return f"LIST<{type_text(element)}>"
        case ast.MapType(value):
            return f"MAP<STRING, {type_text(value)}>"
        case ast.StructType(fields):
            return "STRUCT<" + ", ".join(f"{identifier(field.name)}: {type_text(field.type)}" for field in fields) + ">"
        case _:
            assert_never(node)
