"""Cutting a text into statements before the parser sees them.

One pass over the text finds where each statement ends: at a `;` outside strings, quoted names, comments, brackets and JSON.
Texts and brackets that are never closed are found here, where it is still clear what is missing. The JSON of a PUBLISH is
read here too, at the speed of a JSON decoder; the parser gets a mark in its place, of the same length.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from geode_client.grammar import json_text
from geode_client.grammar.errors import GqlError, GqlSyntaxError, Unfinished
from geode_client.grammar.source import Source, Span

STATEMENT_CHARACTERS_MAX = 64 * 1024 * 1024
# More than any bound of what may stand in brackets; found here it costs no parsing.
BRACKETS_MAX = 256
JSON_MARK = "\x01"

TOKEN = re.compile(
    r"""
    (?P<space>[\s\ufeff]+|--[^\n]*)
    | (?P<topic>[\w.\-*]+(?:/[\w.\-]+|/\*{1,2}(?=[\s;/,)]|$))+)
    | (?P<comment>/\*)
    | (?P<string>'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`)
    | (?P<open_string>['"`])
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<end>;)
    | (?P<other>(?:[\w.*]|-(?!-))+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
# Possessive: space that is cut in every possible way before a match is given up takes exponential time.
_SKIPPED = r"(?:[\s\ufeff]++|--[^\n]*+(?:\n|$)|/\*(?s:.*?)\*/)*+"
_PUBLISH = re.compile(
    rf"""{_SKIPPED}(?:EXPLAIN\b{_SKIPPED}(?:ANALYZE\b{_SKIPPED})?)?PUBLISH\b{_SKIPPED}TO\b{_SKIPPED}"""
    r"""(?:"(?:[^"]|"")*"|`(?:[^`]|``)*`|[\w.\-]+(?:/[\w.\-]+)*)""",
    re.IGNORECASE,
)
_INCLUDE = re.compile(rf"{_SKIPPED}(\\i[ \t]++([^\n;]{{1,1000}}?))[ \t]*+(?:;[ \t]*+)?(?:\n|\Z)")
_SPACE = re.compile(_SKIPPED)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CLOSES = {"(": ")", "[": "]", "{": "}"}
_NAMES = {"'": "string", '"': "quoted name", "`": "quoted name"}


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one statement without its `;`; `masked` has a mark for each JSON value, found in `values` by its place."""

    start: int
    end: int
    masked: str
    values: dict[int, Any] = field(default_factory=dict)


def pieces(source: Source) -> Iterator[Piece]:
    """The statements of a text, one after the other; empty ones are left out."""
    place = 0
    while place < len(source.text):
        piece, place = next_piece(source, place)
        if piece is not None:
            yield piece


def next_piece(source: Source, start: int) -> tuple[Piece | None, int]:
    """The statement that begins at `start` (None: nothing but space and comments), and where the next one begins."""
    text = source.text
    values: dict[int, Any] = {}
    cuts: list[tuple[int, int]] = []
    place = start
    head = _PUBLISH.match(text, start)
    if head is not None:
        place = _read_messages(source, head.end(), start, values, cuts)
    end, following, blank = _find_end(source, place, blank=head is None)
    _check_length(source, start, end)
    _check_characters(source, start, end)
    if blank:
        return None, following
    return Piece(start, end, _masked(text, start, end, cuts), values), following


def _check_length(source: Source, start: int, end: int) -> None:
    if end - start > STATEMENT_CHARACTERS_MAX:
        raise GqlSyntaxError(
            f"a statement has at most {STATEMENT_CHARACTERS_MAX} characters",
            span=Span(start, min(end, start + 80)),
            source=source,
            hint="publish from a program, or load a file with COPY",
        )


def _check_characters(source: Source, start: int, end: int) -> None:
    found = None if source.text.isascii() else _SURROGATE.search(source.text, start, end)
    if found is not None:
        raise GqlSyntaxError("half a character (a lone surrogate)", span=Span(*found.span()), source=source)


def statement_is_complete(text: str) -> bool:
    """Whether a shell may run the text: its last statement ends with `;`, and nothing is left open."""
    try:
        return not unfinished_part(text)
    except Unfinished:
        return False
    except GqlError:
        return text.rstrip().endswith(";")


def unfinished_part(text: str) -> str:
    """What stands behind the last `;` of a text; raises Unfinished where something is left open."""
    source, place = Source(text), 0
    while place < len(text):
        piece, following = next_piece(source, place)
        if piece is not None and (following == piece.end or not text[piece.end : following].startswith(";")):
            return text[place:]
        place = following
    return ""


def publish_head(text: str) -> int | None:
    """Where the messages begin, in a text that begins as a PUBLISH does; else None."""
    head = _PUBLISH.match(text)
    return None if head is None else head.end()


def include_at(source: Source, start: int) -> tuple[str, Span, int] | None:
    """Name and place of the script that a line `\\i name` runs, and where the text goes on; None: a statement begins here."""
    found = _INCLUDE.match(source.text, start)
    return None if found is None else (found[2], Span(found.start(1), found.end(1)), found.end())


def after_error(source: Source, start: int) -> int:
    """Where to go on after the statement at `start` could not be cut out: behind the next `;` at the end of a line."""
    found = re.compile(r";[^\S\n]*(?:\n|$)").search(source.text, start)
    return found.end() if found else len(source.text)


def _find_end(source: Source, place: int, *, blank: bool) -> tuple[int, int, bool]:
    text = source.text
    brackets: list[tuple[str, int]] = []
    while place < len(text):
        token = TOKEN.match(text, place)
        assert token is not None
        kind, place = token.lastgroup, token.end()
        match kind:
            case "space":
                continue
            case "comment":
                place = _skip_comment(source, token.start())
                continue
            case "open_string":
                raise _unfinished_string(source, token.start())
            case "open":
                brackets.append((token[0], token.start()))
                if len(brackets) > BRACKETS_MAX:
                    raise _too_deep(source, token.start())
            case "close" if brackets and _CLOSES[brackets[-1][0]] == token[0]:
                brackets.pop()
            case "end":
                if brackets:
                    raise _unclosed(source, *brackets[-1])
                return token.start(), place, blank
            case _:
                pass
        blank = False
    if brackets:
        raise _unclosed(source, *brackets[-1])
    return len(text), len(text), blank


def _skip_comment(source: Source, start: int) -> int:
    end = source.text.find("*/", start + 2)
    if end < 0:
        raise Unfinished(
            "this comment is not closed", span=Span(start, start + 2), source=source, hint="end it with */"
        )
    return end + 2


def _unfinished_string(source: Source, start: int) -> Unfinished:
    quote = source.text[start]
    line_end = source.text.find("\n", start)
    span = Span(start, line_end if line_end >= 0 else len(source.text))
    return Unfinished(
        f"this {_NAMES[quote]} is not closed",
        span=span,
        source=source,
        hint=f"end it with {quote}; {quote}{quote} stands for one",
    )


def _too_deep(source: Source, start: int) -> GqlSyntaxError:
    return GqlSyntaxError(
        f"brackets are nested more than {BRACKETS_MAX} deep", span=Span(start, start + 1), source=source
    )


def _unclosed(source: Source, bracket: str, start: int) -> Unfinished:
    span = Span(start, start + 1)
    return Unfinished(
        f"this {bracket} is not closed", span=span, source=source, hint=f"a {_CLOSES[bracket]} is missing"
    )


def _read_messages(source: Source, place: int, start: int, values: dict[int, Any], cuts: list[tuple[int, int]]) -> int:
    """Read the JSON values of a PUBLISH; gives the place after the last one."""
    text = source.text
    while True:
        place = _skip_space(source, place)
        value, end = json_text.read(source, place)
        if end == place:
            return place
        _check_length(source, start, end)
        if value is not json_text.BARE_PARAMETER:
            values[place - start] = value
            cuts.append((place, end))
        following = _skip_space(source, end)
        if not text.startswith(",", following):
            return end
        place = following + 1


def _skip_space(source: Source, place: int) -> int:
    found = _SPACE.match(source.text, place)
    assert found is not None
    if source.text.startswith("/*", found.end()):
        _skip_comment(source, found.end())
    return found.end()


def _masked(text: str, start: int, end: int, cuts: list[tuple[int, int]]) -> str:
    if not cuts:
        # The mark itself, written by a person, must not pass for a message.
        return text[start:end].replace(JSON_MARK, "\x02")
    parts: list[str] = []
    for first, last in cuts:
        parts += [text[start:first].replace(JSON_MARK, "\x02"), JSON_MARK, " " * (last - first - 1)]
        start = last
    return "".join([*parts, text[start:end].replace(JSON_MARK, "\x02")])
