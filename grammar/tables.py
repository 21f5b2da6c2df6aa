"""The parser's tables: computed from gql.lark ahead of time and kept beside it, because computing them takes too long.

`python -m geode_client.grammar.tables` writes `gql.tables` anew after gql.lark has changed; the digest of the grammar that
stands first in it lets a test hold the two together. The file is msgpack, so that loading it runs nothing.
"""

import hashlib
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

STARTS = ["statement", "condition"]
TABLES_NAME = "gql.tables"
# Lark notes for some terminals a largest width that no 64-bit number holds.
WIDTH_MAX = 2**62


def grammar_text() -> str:
    return files("geode_client.grammar").joinpath("gql.lark").read_text(encoding="utf-8")


def compute() -> bytes:
    """The tables for gql.lark as it stands."""
    parser = Lark(
        grammar_text(),
        parser="lalr",
        lexer="contextual",
        start=STARTS,
        propagate_positions=True,
        maybe_placeholders=False,
    )
    data, memo = parser.memo_serialize([TerminalDef, Rule])
    return msgspec.msgpack.encode([digest(), *_bounded([data, memo])])


def load() -> Lark:
    """The parser, from the tables."""
    _, data, memo = _read()
    load_tables: Any = Lark._load_from_dict
    loaded: Lark = load_tables(data, memo)
    return loaded


def stored_digest() -> str:
    """The digest of the grammar that the tables were computed from."""
    return str(_read()[0])


def digest() -> str:
    """The digest of gql.lark as it stands."""
    return hashlib.sha256(grammar_text().encode()).hexdigest()


def _read() -> list[Any]:
    found: list[Any] = msgspec.msgpack.decode(files("geode_client.grammar").joinpath(TABLES_NAME).read_bytes())
    return found


def _bounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return min(value, WIDTH_MAX)
    return value


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(str(files("geode_client.grammar").joinpath(TABLES_NAME)))
    target.resolve().write_bytes(compute())
