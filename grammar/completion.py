"""What may stand at a place of a statement that is still being written.

The text before the cursor goes through the parser itself, and the tokens that the parser would accept next say what can
follow: the grammar is the only list of what is possible. What a name could be (a topic, a group, an option, a field) is
told from the tokens before it. Knows no topics and no fields: whoever shows completions looks those up.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lark import Token
from lark.exceptions import UnexpectedInput

from geode_client.grammar import json_text, scan
from geode_client.grammar.errors import GqlError
from geode_client.grammar.parser import interactive
from geode_client.grammar.source import Source
from geode_client.grammar.words import phrases

CHAIN_WORDS_MAX = 4
WORD_CHARACTERS_MAX = 300

_LONG_WORD = re.compile(r"(?:SYSTEM\s*\.\s*\w*|[\w\-./*]+|\$\w*)\Z", re.IGNORECASE)
_WORD = re.compile(r"\w*\Z")
_JSON_STRING = re.compile(r'"((?:[^"\\]|\\.)*)("?)', re.DOTALL)
_SOURCE_AHEAD = re.compile(
    r"\b(?:FROM|JOIN)\s+(?:DEAD\s+LETTERS\s+OF\s+)?(SYSTEM\s*\.\s*\w+|[\w\-.*]+(?:/[\w\-.*]+)*|\"[^\"]+\"|`[^`]+`)"
    r"(?:\s+(?:AS\s+)?(?!(?:WHERE|GROUP|ORDER|LIMIT|JOIN|LEFT|INNER|ON|HAVING|UNION|OFFSET)\b)([^\W\d]\w*))?",
    re.IGNORECASE,
)
_TOPIC_TOKENS = frozenset(("TOPIC_NAME", "QUOTED_NAME", "BACKQUOTED_NAME"))
_TOPIC_AFTER = frozenset("TOPIC TO INTO ON FROM JOIN COPY DEAD_LETTERS_OF IF_EXISTS IF_NOT_EXISTS".split())
_OPENS = {"LPAR": "RPAR", "LSQB": "RSQB"}
_OPTIONS_OF = {"CREATE": "topic", "ALTER": "topic", "PUBLISH": "publish", "COPY": "copy"}


class Kind(StrEnum):
    """What a name at the cursor may be."""

    TOPIC = "topic"
    PATTERN = "pattern"
    SYSTEM_TABLE = "system table"
    GROUP = "group"
    OPTION = "option"
    OPTION_VALUE = "option value"
    TYPE = "type"
    FIELD = "field"
    FUNCTION = "function"
    AGGREGATE = "aggregate"
    PARAMETER = "parameter"
    FILE = "file"
    JSON_FIELD = "field of JSON"


@dataclass(frozen=True, slots=True)
class Reading:
    """A topic, pattern or SYSTEM table that the statement reads, and the alias it has there."""

    name: str
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What may follow at the cursor; `prefix` is what is there already of the word at hand.

    `path` are the fields before a `.`; `options_of` is topic, publish or copy; `option` the one whose value is wanted.
    """

    prefix: str
    words: tuple[str, ...] = ()
    kinds: frozenset[Kind] = frozenset()
    sources: tuple[Reading, ...] = ()
    path: tuple[str, ...] = ()
    options_of: str | None = None
    option: str | None = None


NOWHERE = Place("")


def place_at(text: str, cursor: int) -> Place:
    """What may stand at the cursor of a text of statements; NOWHERE where the text before it is wrong already."""
    start = _statement_start(text[:cursor])
    before = text[start:cursor]
    head = scan.publish_head(before)
    if head is not None:
        masked = _masked(before, head)
        if isinstance(masked, Place):
            return masked
        before = masked
    opened = _open_text(before)
    if opened is not None:
        return _in_text(before[:opened], before[opened + 1 :])
    return _after_tokens(before, text[cursor:])


def _statement_start(text: str) -> int:
    """Where the statement begins that the text ends in."""
    source, place = Source(text), 0
    while True:
        try:
            _, following = scan.next_piece(source, place)
        except GqlError:
            return place
        if following >= len(text) and not text.rstrip().endswith(";"):
            return place
        place = following
        if place >= len(text):
            return place


def _open_text(text: str) -> int | None:
    """Where a text in single quotes begins that is not closed yet."""
    place = 0
    while place < len(text):
        token = scan.TOKEN.match(text, place)
        assert token is not None
        if token.lastgroup == "open_string":
            return token.start() if token[0] == "'" else None
        place = token.end()
    return None


# ── JSON ──
def _masked(text: str, place: int) -> "str | Place":
    """The statement with a mark for each whole JSON value, or the place inside one that is not whole."""
    parts, copied = [], 0
    while True:
        while place < len(text) and text[place].isspace():
            place += 1
        try:
            value, end = json_text.read(Source(text), place)
        except GqlError:
            return _in_json(text, place)
        if end == place:
            break
        if value is not json_text.BARE_PARAMETER:
            parts.append(text[copied:place] + scan.JSON_MARK + " " * (end - place - 1))
            copied = end
        following = re.compile(r"\s*,").match(text, end)
        if following is None:
            break
        place = following.end()
    return "".join(parts) + text[copied:]


def _in_json(text: str, place: int) -> Place:
    """The key that is being written in unfinished JSON; NOWHERE inside a value."""
    containers: list[
        list[Any]
    ] = []  # for each open one: whether it is an object, its key at hand, whether a key is next
    while place < len(text):
        character = text[place]
        if character == '"':
            found = _JSON_STRING.match(text, place)
            assert found is not None
            wants_key = bool(containers) and containers[-1][0] and containers[-1][2]
            if not found[2]:
                return _json_key(text, containers, found[1]) if wants_key else NOWHERE
            if wants_key:
                containers[-1][1:] = [found[1], False]
            place = found.end()
            continue
        if character in "{[":
            containers.append([character == "{", "", True])
        elif character in "}]" and containers:
            containers.pop()
        elif character == "," and containers:
            containers[-1][2] = True
        place += 1
    if containers and containers[-1][0] and text.rstrip()[-1] in "{,":
        return _json_key(text, containers, "")
    return NOWHERE


def _json_key(text: str, containers: Sequence[Sequence[Any]], prefix: str) -> Place:
    path = tuple(str(entry[1]) for entry in containers[:-1] if entry[0])
    topic = re.match(r"\s*(?:EXPLAIN\s+)?PUBLISH\s+TO\s+([^\s{]+)", text, re.IGNORECASE)
    name = topic[1].strip('"`') if topic else ""
    return Place(prefix, kinds=frozenset((Kind.JSON_FIELD,)), sources=(Reading(name),), path=path)


# ── tokens ──
def _after_tokens(before: str, after: str) -> Place:
    for pattern in (_LONG_WORD, _WORD):
        found = pattern.search(before, max(0, len(before) - WORD_CHARACTERS_MAX))
        if found is None:
            continue
        parsed = _parsed(before[: found.start()])
        if parsed is None:
            continue
        parser, tokens = parsed
        accepted = set(parser.accepts())
        is_long = pattern is _LONG_WORD and not found[0].isidentifier()
        if found[0].startswith("$"):
            return Place(found[0], kinds=frozenset((Kind.PARAMETER,)) if "PARAMETER" in accepted else frozenset())
        if is_long and not accepted & {"TOPIC_NAME", "SYSTEM_TABLE"}:
            continue
        return _place(found[0], parser, tokens, accepted, after)
    return NOWHERE


def _parsed(text: str) -> "tuple[Any, list[Token]] | None":
    parser = interactive(text)
    try:
        return parser, list(parser.exhaust_lexer())
    except UnexpectedInput:
        return None


def _place(prefix: str, parser: Any, tokens: "list[Token]", accepted: set[str], after: str) -> Place:
    kinds = frozenset(_kinds(tokens, accepted))
    words = [_chain(parser, name, prefix) for name in sorted(accepted) if name in phrases()]
    sources = (*_sources(tokens), *_sources_ahead(after)) if kinds & {Kind.FIELD} else ()
    return Place(
        prefix=prefix,
        words=tuple(words),
        kinds=kinds,
        sources=sources,
        path=_path(tokens),
        options_of=_OPTIONS_OF.get(_first(tokens)),
        option=str(tokens[-2]).strip("'\"`") if Kind.OPTION_VALUE in kinds else None,
    )


def _first(tokens: "Sequence[Token]") -> str:
    """The type of the first token that says what statement it is."""
    return next((token.type for token in tokens if token.type not in ("EXPLAIN", "ANALYZE")), "")


def _kinds(tokens: "Sequence[Token]", accepted: set[str]) -> Iterator[Kind]:
    previous = tokens[-1].type if tokens else ""
    bracket = _open_bracket(tokens)
    opener = tokens[bracket - 1].type if bracket is not None and bracket > 0 else ""
    if "TOPIC_NAME" in accepted and not _is_new_name(tokens):
        yield Kind.PATTERN if _first(tokens) in ("SUBSCRIBE", "SELECT") or _creates_group(tokens) else Kind.TOPIC
    if "SYSTEM_TABLE" in accepted:
        yield Kind.SYSTEM_TABLE
    if "FUNCTION" in accepted:
        yield Kind.FUNCTION
        if _first(tokens) in ("SELECT", "ASSERT"):
            yield Kind.AGGREGATE
    if "LIST" in accepted or (opener in ("CAST", "TRY_CAST") and previous == "AS"):
        yield Kind.TYPE
    if "NAME" in accepted or "STRING" in accepted:
        yield from _name_kinds(tokens, accepted, previous, opener)
    if "STRING" in accepted and _first(tokens) == "COPY" and previous in ("FROM", "TO"):
        yield Kind.FILE


def _name_kinds(tokens: "Sequence[Token]", accepted: set[str], previous: str, opener: str) -> Iterator[Kind]:
    if opener == "OPTIONS":
        if previous in ("LPAR", "COMMA"):
            yield Kind.OPTION
        elif previous == "COLON":
            yield Kind.OPTION_VALUE
    elif _is_group_name(tokens, previous):
        yield Kind.GROUP
    elif "NAME" in accepted and ("FUNCTION" in accepted or previous == "DOT" or _is_insert_column(tokens)):
        yield Kind.FIELD


def _is_new_name(tokens: "Sequence[Token]") -> bool:
    return bool(tokens) and _first(tokens) == "CREATE" and tokens[-1].type in ("TOPIC", "IF_NOT_EXISTS")


def _creates_group(tokens: "Sequence[Token]") -> bool:
    return [token.type for token in tokens[:2]] == ["CREATE", "SUBSCRIPTION"]


def _is_group_name(tokens: "Sequence[Token]", previous: str) -> bool:
    if _first(tokens) == "SUBSCRIBE":
        return previous == "GROUP"
    if previous == "SUBSCRIPTION":
        return _first(tokens) != "CREATE"
    return previous == "IF_EXISTS" and any(token.type == "SUBSCRIPTION" for token in tokens)


def _is_insert_column(tokens: "Sequence[Token]") -> bool:
    return _first(tokens) == "INSERT" and not any(token.type == "VALUES" for token in tokens)


def _open_bracket(tokens: "Sequence[Token]") -> int | None:
    """The index of the innermost bracket that is still open."""
    closed = 0
    for index in range(len(tokens) - 1, -1, -1):
        if tokens[index].type in _OPENS.values():
            closed += 1
        elif tokens[index].type in _OPENS:
            if closed == 0:
                return index
            closed -= 1
    return None


def _path(tokens: "Sequence[Token]") -> tuple[str, ...]:
    """The names joined by dots that the tokens end with."""
    names: list[str] = []
    place = len(tokens) - 1
    while place >= 1 and tokens[place].type == "DOT" and tokens[place - 1].type in ("NAME", *_TOPIC_TOKENS):
        names.insert(0, str(tokens[place - 1]).strip('"`'))
        place -= 2
    return tuple(names)


def _sources(tokens: "Sequence[Token]") -> Iterator[Reading]:
    for index, token in enumerate(tokens):
        if token.type == "SYSTEM_TABLE" or (
            token.type in _TOPIC_TOKENS and index and tokens[index - 1].type in _TOPIC_AFTER
        ):
            yield Reading(str(token).strip('"`'), _alias(tokens[index + 1 : index + 3]))


def _alias(following: "Sequence[Token]") -> str | None:
    if following and following[0].type == "AS":
        following = following[1:]
    return str(following[0]) if following and following[0].type == "NAME" else None


def _sources_ahead(after: str) -> Iterator[Reading]:
    """What the rest of the statement, behind the cursor, reads."""
    for found in _SOURCE_AHEAD.finditer(after.partition(";")[0]):
        yield Reading(found[1].strip('"`'), found[2])


def _chain(parser: Any, name: str, prefix: str) -> str:
    """The word of a terminal, and the words that must follow it: SUBSCRIBE as SUBSCRIBE TO."""
    written = phrases()[name]
    if not prefix or not written.casefold().startswith(prefix.casefold()):
        return written
    ahead = parser.copy()
    for _ in range(CHAIN_WORDS_MAX):
        ahead.feed_token(Token(name, written))
        following = list(ahead.choices())
        if len(following) != 1 or following[0] not in phrases():
            break
        name = following[0]
        written += f" {phrases()[name]}"
    return written


def _in_text(before: str, inside: str) -> Place:
    """Inside a text in quotes that is not closed: the name of a file, or the word of an option."""
    parsed = _parsed(before)
    if parsed is None or "STRING" not in parsed[0].accepts():
        return NOWHERE
    tokens = parsed[1]
    kinds = set(_kinds(tokens, {"STRING"}))
    if Kind.FILE in kinds:
        return Place(inside, kinds=frozenset((Kind.FILE,)))
    if Kind.OPTION_VALUE in kinds:
        option = str(tokens[-2]).strip("'\"`")
        options_of = _OPTIONS_OF.get(_first(tokens))
        return Place(inside, kinds=frozenset((Kind.OPTION_VALUE,)), options_of=options_of, option=option)
    return NOWHERE
