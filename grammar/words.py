"""The words of the language, taken from gql.lark itself: what a shell colours and offers needs no list of its own.

Reads the grammar's text only; the parser's tables are not loaded for it.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

_TERMINAL = re.compile(r"^([A-Z_]+)(?:\.\d+)?: /((?:[A-Z_]|\\s\+)+)(?:\\b|\(\?=[^/]*)/i$", re.MULTILINE)

_LITERALS = frozenset(("INTERVAL_LITERAL", "TIMESTAMP_LITERAL", "DATE_LITERAL"))
"""Words that introduce a text in quotes."""


@cache
def phrases() -> Mapping[str, str]:
    """Each terminal that is a word, or several words, and how it is written: IF_EXISTS as `IF EXISTS`."""
    text = files("geode_client.grammar").joinpath("gql.lark").read_text(encoding="utf-8")
    found = {name: written.replace(r"\s+", " ") for name, written in _TERMINAL.findall(text)}
    return {name: f"{written} '" if name in _LITERALS else written for name, written in found.items()}


@cache
def keywords() -> frozenset[str]:
    """All single words that the language knows, in capitals."""
    return frozenset(word for phrase in phrases().values() for word in phrase.rstrip(" '").split())
