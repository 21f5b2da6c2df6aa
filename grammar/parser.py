"""Text to statements: cuts the text, parses each piece, and turns the parser's complaints into errors a person can use."""

import dataclasses
import re
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from geode_client.grammar import ast, scan, slips, tables
from geode_client.grammar.errors import GqlError, GqlSyntaxError, did_you_mean
from geode_client.grammar.source import CONDITION_CHARACTERS_MAX, LISTS_CHARACTERS_MAX, Source, Span, too_long
from geode_client.grammar.transform import Transformer

_IN = re.compile(r"\bIN\b", re.IGNORECASE)

if TYPE_CHECKING:
    from sqlglot import exp

EXPECTED_SHOWN_MAX = 12
STATEMENT_TOKENS_BYTES_MAX = 1024 * 1024

_WORD = re.compile(r"\w+|[^\w\s]")
_SIGNS = {
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "COMMA": ",",
    "COLON": ":",
    "DOT": ".",
    "STAR": "*",
    "SLASH": "/",
    "PERCENT": "%",
    "LESSTHAN": "<",
    "MORETHAN": ">",
    "CONCAT": "||",
}
# Terminals that the grammar reads so that it can refuse them.
_NEVER = frozenset(("UNBUILT", "MISPLACED"))
_GROUPS = {
    "an expression": frozenset(
        "CASE CAST TRY_CAST EXTRACT EXISTS NUMBER STRING TRUE FALSE NULL LPAR PARAMETER FUNCTION NAME QUOTED_NAME BACKQUOTED_NAME"
        " INTERVAL_LITERAL TIMESTAMP_LITERAL DATE_LITERAL SIGN".split()
    ),
    "an operator": frozenset("COMPARISON SIGN CONCAT STAR SLASH PERCENT AND OR LIKE ILIKE IN IS BETWEEN NOT".split()),
}
_DESCRIPTIONS = {
    "NAME": "a name",
    "TOPIC_NAME": "a topic",
    "QUOTED_NAME": "a name",
    "BACKQUOTED_NAME": "a name",
    "STRING": "a 'text'",
    "NUMBER": "a number",
    "PARAMETER": "a $parameter",
    "COMPARISON": "a comparison (= <> < <= > >=)",
    "SIGN": "+ or -",
    "JSON": "a JSON value",
    "FUNCTION": "a function",
    "SYSTEM_TABLE": "a SYSTEM table",
    "IF_NOT_EXISTS": "IF NOT EXISTS",
    "IF_EXISTS": "IF EXISTS",
    "DEAD_LETTERS_OF": "DEAD LETTERS OF",
    "NULLS_FIRST": "NULLS FIRST",
    "NULLS_LAST": "NULLS LAST",
    "UNION_ALL": "ALL",
    "EVERYBODY": "ALL",
    "INTERVAL_LITERAL": "INTERVAL",
    "TIMESTAMP_LITERAL": "TIMESTAMP",
    "DATE_LITERAL": "DATE",
    "$END": "the end of the statement",
}


@cache
def _parser() -> Lark:
    return tables.load()


def parse(text: str, *, name: str = "<text>") -> ast.Statement:
    """The one statement of a text; raises GqlSyntaxError, also when there is none or more than one."""
    source = Source(text, name)
    found = list(scan.pieces(source))
    if not found:
        raise GqlSyntaxError("there is no statement here", span=Span(0, len(text)), source=source)
    if len(found) > 1:
        span = Span(found[1].start, found[1].end)
        raise GqlSyntaxError(
            "one statement is wanted here, and this is a second one",
            span=_trimmed(source, span),
            source=source,
        )
    return parse_piece(source, found[0])


def parse_script(text: str, *, name: str = "<text>") -> tuple[ast.Statement, ...]:
    """All statements of a text; raises GqlSyntaxError for the first that is wrong."""
    source = Source(text, name)
    return tuple(parse_piece(source, piece) for piece in scan.pieces(source))


def parse_condition(text: str, *, name: str = "<condition>") -> "exp.Expression":
    """A condition by itself, as `filter=` takes it."""
    source = Source(text, name)
    found = list(scan.pieces(source))
    if not found:
        raise GqlSyntaxError("there is no condition here", span=Span(0, len(text)), source=source)
    if len(found) > 1 or text.rstrip().endswith(";"):
        raise GqlSyntaxError("a condition holds no ;", span=Span(found[0].end, found[0].end + 1), source=source)
    piece = found[0]
    size, most = piece.end - piece.start, CONDITION_CHARACTERS_MAX
    if size > most and (size > most + LISTS_CHARACTERS_MAX or not _IN.search(text)):
        # Nothing but a list after IN may make a condition so long: the parser need not look at it.
        raise GqlSyntaxError(too_long(size), span=Span(piece.start, piece.end), source=source)
    tree = _parsed(source, piece, "condition")
    made: exp.Expression = _placed(source, lambda: Transformer(source, piece.start, {}).condition(tree))
    return made


def interactive(text: str, start: str = "statement") -> Any:
    """Lark's parser for the beginning of a statement, which can be asked what it would accept next."""
    return _parser().parse_interactive(text, start=start)


def parse_piece(source: Source, piece: scan.Piece) -> ast.Statement:
    """The statement of a piece that was cut out of a source."""
    tree = _parsed(source, piece, "statement")
    made: ast.Statement = _placed(source, lambda: Transformer(source, piece.start, piece.values).statement(tree))
    if piece.masked[made.span.end - piece.start - 1] == scan.JSON_MARK:
        # The parser saw one mark in the place of the last JSON value: the statement goes on to its end.
        end = len(source.text[: piece.end].rstrip())
        made = dataclasses.replace(made, span=Span(made.span.start, end))
    return made


def _placed(source: Source, make: Any) -> Any:
    try:
        return make()
    except GqlError as error:
        raise error.at(source) from error.__cause__
    except RecursionError:
        span = Span(0, min(len(source.text), 80))
        raise GqlSyntaxError("this is nested too deeply", span=span, source=source) from None


def _parsed(source: Source, piece: scan.Piece, start: str) -> "Tree[Token]":
    words = len(piece.masked) - piece.masked.count(" ")
    if words > STATEMENT_TOKENS_BYTES_MAX:
        span = Span(piece.start, min(piece.end, piece.start + 80))
        limit = STATEMENT_TOKENS_BYTES_MAX
        raise GqlSyntaxError(f"a statement has at most {limit} characters beside its JSON", span=span, source=source)
    try:
        return _parser().parse(piece.masked, start=start)
    except UnexpectedInput as error:
        raise _explained(source, piece, start, error) from None


def _explained(source: Source, piece: scan.Piece, start: str, error: UnexpectedInput) -> GqlSyntaxError:
    place = piece.end if _at_end(error) else piece.start + (error.pos_in_stream or 0)
    refused = _refused(source, piece, start)
    if refused is not None:
        return refused
    names = _acceptable(piece.masked[: place - piece.start], start) or _expected_names(error)
    if place >= piece.end or not source.text[place : piece.end].strip():
        end = piece.start + len(piece.masked.rstrip())
        return GqlSyntaxError(
            f"the statement ends here, but it should go on with {_listed(_described(names))}",
            span=Span(end, end + 1),
            source=source,
        )
    number = slips.glued(source.text, place)
    if number is not None and "NUMBER" in names:
        span = Span(place, place + len(number[0]))
        return GqlSyntaxError(f"{_shown(number[0])} is not a number", span=span, source=source, hint=number[1])
    found = _WORD.match(source.text, place)
    end = max(_token_end(error, piece), found.end() if found else place + 1)
    word = source.text[place:end]
    before = _word_before(source.text, piece.start, place)
    habit = slips.hint_at(source.text, piece.start, place, end) is not None
    known = _keywords(names)
    if before is not None and not habit and not did_you_mean(word, known) and did_you_mean(before[0], known):
        # A misspelled keyword was taken for a name, and only what follows it does not fit.
        word, place, end = before[0], before[1], before[1] + len(before[0])
        names = _acceptable(piece.masked[: place - piece.start], start)
    message = f"{_shown(word)} cannot stand here; expected {_listed(_described(names))}"
    hint = _hint(source.text, piece.start, place, end, names)
    if start == "statement" and hint is None and place == piece.start:
        hint = "a statement begins with a word such as CREATE, PUBLISH, SUBSCRIBE or SELECT"
    return GqlSyntaxError(message, span=Span(place, end), source=source, hint=hint)


def _hint(text: str, start: int, place: int, end: int, names: set[str]) -> str | None:
    word = text[place:end]
    habit = slips.hint_at(text, start, place, end)
    if habit is not None:
        return habit
    hint = did_you_mean(word, _keywords(names)) if word.isidentifier() else None
    if "FROM" in names and hint is None:
        hint = slips.forgotten_from(text, start, place)
    return hint


def _refused(source: Source, piece: scan.Piece, start: str) -> GqlSyntaxError | None:
    """The error for a word before the place that the grammar knows and never accepts; None where there is none."""
    tokens: list[Token] = []
    with suppress(UnexpectedInput):
        tokens.extend(interactive(piece.masked, start).iter_parse())
    token = next((read for read in tokens[-2:] if read.type in _NEVER), None)
    if token is None:
        return None
    first = token.start_pos or 0
    span = Span(piece.start + first, piece.start + first + len(token))
    if token.type == "UNBUILT":
        in_window = token.upper() in ("ROWS", "RANGE", "GROUPS")
        found = slips.unsupported(str(token), as_alias=not in_window)
        if found is not None:
            return GqlSyntaxError(found[0], span=span, source=source, hint=found[1])
    names = _acceptable(piece.masked[:first], start)
    before = piece.masked[:first].rstrip()
    hint = None
    if before.endswith(","):
        hint = f"is the comma before {token.upper()} one too many?"
    elif token.type == "MISPLACED" and before.upper().endswith("SELECT"):
        hint = "name what to select, or write *"
    else:
        hint = _hint(source.text, piece.start, span.start, span.end, names)
    message = f"{_shown(str(token))} cannot stand here; expected {_listed(_described(names))}"
    return GqlSyntaxError(message, span=span, source=source, hint=hint)


def _acceptable(text: str, start: str) -> set[str]:
    """The terminals that may follow the beginning of a statement; empty when that cannot be told."""
    begun = interactive(text, start)
    try:
        begun.exhaust_lexer()
    except UnexpectedInput:
        return set()
    return set(begun.accepts()) - _NEVER


def _word_before(text: str, first: int, place: int) -> tuple[str, int] | None:
    """The word that stands before a place, and where it begins."""
    found = re.search(r"[^\W\d]\w*\s*\Z", text[first:place])
    return None if found is None else (found[0].rstrip(), first + found.start())


def _keywords(names: set[str]) -> list[str]:
    return [word for word in _words(names) if word.isupper()]


def _at_end(error: UnexpectedInput) -> bool:
    return isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END")


def _token_end(error: UnexpectedInput, piece: scan.Piece) -> int:
    if isinstance(error, UnexpectedToken) and error.token.end_pos is not None:
        return piece.start + int(error.token.end_pos)
    return 0


def _expected_names(error: UnexpectedInput) -> set[str]:
    """The terminals that could have stood there."""
    match error:
        case UnexpectedToken():
            names = set(error.accepts or error.expected)
        case UnexpectedCharacters():
            names = set(error.allowed or ())
        case _:
            names = set(getattr(error, "expected", ()) or ())
    return names - _NEVER - {"WHITESPACE", "LINE_COMMENT", "BLOCK_COMMENT", "ERROR"}


def _words(names: set[str]) -> set[str]:
    return {_DESCRIPTIONS.get(name, _SIGNS.get(name, name)) for name in names}


def _described(names: set[str]) -> list[str]:
    """The same for a person: what belongs together by one name, then keywords, then signs and kinds of tokens."""
    groups = [text for text, members in _GROUPS.items() if members <= names]
    for text in groups:
        names = names - _GROUPS[text]
    return [*groups, *sorted(_words(names), key=lambda word: (not word.isupper(), word))]


def _listed(expected: list[str]) -> str:
    if not expected:
        return "nothing more"
    shown = expected[:EXPECTED_SHOWN_MAX]
    rest = len(expected) - len(shown)
    if rest:
        return ", ".join(shown) + f" or {rest} other words"
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " or " + shown[-1]


def _shown(word: str) -> str:
    return repr(word) if len(word) <= 40 else repr(word[:39] + "…")


def _trimmed(source: Source, span: Span) -> Span:
    text = source.text[span.start : span.end]
    return Span(span.start + len(text) - len(text.lstrip()), span.end - (len(text) - len(text.rstrip())))
