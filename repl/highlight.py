"""Colours for statements while they are typed and where they are shown again.

One regular expression cuts the text; words are keywords when the grammar has them. Knows no topics and parses nothing, so
that a keystroke costs little.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.lexers import Lexer

from geode_client.grammar.words import keywords
from geode_client.repl.commands import is_command

COLOURED_CHARACTERS_MAX = 100_000

STYLE = {
    "keyword": "bold ansiblue",
    "function": "ansicyan",
    "string": "ansigreen",
    "number": "ansimagenta",
    "constant": "ansimagenta",
    "name": "",
    "json-key": "ansicyan",
    "parameter": "ansiyellow",
    "comment": "italic ansibrightblack",
    "command": "bold ansicyan",
    "sign": "ansibrightblack",
    "open": "ansired",
}

_TOKENS = re.compile(
    r"""
    (?P<comment>--[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)
    | (?P<name>[\w\-.*]+(?:/[\w\-.*]+)+)
    | (?P<string>'(?:[^']|'')*')
    | (?P<key>"(?:[^"\\]|\\.)*"(?=\s*:)|`[^`]*`)
    | (?P<json>"(?:[^"\\]|\\.)*")
    | (?P<open>['"`].*)
    | (?P<parameter>\$\w+)
    | (?P<number>(?<![\w.])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<function>[^\W\d]\w*(?=\())
    | (?P<word>[^\W\d]\w*)
    | (?P<sign>[^\w\s'"`]+?)
    | (?P<space>\s+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_NAMES = {"key": "json-key", "json": "string"}
_CONSTANTS = frozenset(("TRUE", "FALSE", "NULL"))


class StatementLexer(Lexer):
    """Colours the input line of the shell."""

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        lines = coloured_lines(document.text)
        return lambda number: lines[number] if number < len(lines) else []


@lru_cache(maxsize=8)
def coloured_lines(text: str) -> list[StyleAndTextTuples]:
    """Each line of a text as pairs of style and piece."""
    lines: list[StyleAndTextTuples] = [[]]
    for style, piece in _coloured(text):
        first, *rest = piece.split("\n")
        lines[-1].append((style, first))
        lines.extend([[(style, line)] for line in rest])
    return lines


def _coloured(text: str) -> list[tuple[str, str]]:
    if is_command(text):
        head, space, rest = text.partition(" ")
        return [("class:command", head), ("", space + rest)]
    if len(text) > COLOURED_CHARACTERS_MAX:
        return [("", text)]
    return [(style_of(found.lastgroup or "", found[0]), found[0]) for found in _TOKENS.finditer(text)]


def style_of(kind: str, piece: str) -> str:
    """The style class of a piece of a statement."""
    if kind in ("word", "function"):
        upper = piece.upper()
        if upper in _CONSTANTS:
            return "class:constant"
        if upper in keywords():
            return "class:keyword"
        return "class:function" if kind == "function" else ""
    return "" if kind in ("space", "name") else f"class:{_NAMES.get(kind, kind)}"
