"""Writing statements in one form: words in capitals, a space between words, a clause a line where one line is too long.

The text is cut into the tokens that the parser itself sees, and comments stay where they stand between them. Where lines
break depends on the tokens alone, so that formatting what has been formatted changes nothing. JSON, names and texts are
kept as they are written.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise

from lark import Token

from geode_client.grammar import json_text, scan
from geode_client.grammar.errors import GqlError
from geode_client.grammar.parser import interactive, parse_piece
from geode_client.grammar.source import Source
from geode_client.grammar.words import phrases

WIDTH = 120
INDENT = "    "

_COMMENT = re.compile(r"--[^\n]*|/\*(?s:.*?)\*/")
_AS_WRITTEN = frozenset("TRUE FALSE NULL AT_MOST_ONCE AT_LEAST_ONCE EXACTLY_ONCE".split())
_NO_SPACE_BEFORE = frozenset("COMMA RPAR RSQB DOT COLON LSQB LESSTHAN MORETHAN".split())
_NO_SPACE_AFTER = frozenset("LPAR LSQB DOT LESSTHAN".split())
_CALLS = frozenset("FUNCTION CAST TRY_CAST EXISTS".split())
_OPENS, _CLOSES = frozenset(("LPAR", "LSQB", "LESSTHAN")), frozenset(("RPAR", "RSQB", "MORETHAN"))
_SPREAD = frozenset(("OPTIONS", "SCHEMA"))
_CLAUSES = frozenset(
    "FROM WHERE GROUP HAVING ORDER LIMIT OFFSET JOIN LEFT INNER WITH SCHEMA OPTIONS DELIVERY VALUES SET ADD SEEK".split()
)
_UNBROKEN_AFTER = {
    "OFFSET": {"FROM", "TO"},
    "JOIN": {"LEFT", "INNER", "OUTER"},
    "OPTIONS": {"WITH", "SET"},
    "SCHEMA": {"WITH"},
    "DELIVERY": {"WITH", "SET"},
    "GROUP": {"CREATE"},
    "WHERE": {"SET"},
    "ORDER": {"SET"},
}
_VALUES = frozenset("NAME NUMBER STRING QUOTED_NAME BACKQUOTED_NAME PARAMETER RPAR RSQB TRUE FALSE NULL END".split())


class Note(Enum):
    """Where a comment stands."""

    NONE = 0
    BEHIND = 1  # something
    ALONE = 2  # on its line


@dataclass(frozen=True, slots=True)
class Piece:
    """A token or comment as it will be written; `kind` is the parser's name of it."""

    kind: str
    text: str
    note: Note = Note.NONE
    glued: bool = False
    depth: int = 0


def formatted(source: Source) -> str:
    """The text in its form. Raises GqlSyntaxError where it is none."""
    lines: list[str] = []
    place = 0
    while place < len(source.text):
        included = scan.include_at(source, place)
        if included is not None:
            start = source.text.index("\\i", place)
            lines += _leading(source.text[place:start], lines)
            lines.append(f"\\i {included[0]}")
            place = included[2]
            continue
        piece, following = scan.next_piece(source, place)
        if piece is None:
            lines += _leading(source.text[place:following].rstrip(";"), lines)
        else:
            parse_piece(source, piece)
            lines += _statement(source, piece, lines)
        place = following
        # A comment behind the ; stays behind it.
        rest = source.text[place:]
        tail = re.match(r"[ \t]*(--[^\n]*)", rest)
        if tail is not None and lines:
            lines[-1] += f"  {tail[1].rstrip()}"
            place += tail.end()
    return "\n".join(lines).strip("\n") + "\n" if any(lines) else ""


def _leading(text: str, before: Sequence[str]) -> list[str]:
    """Comments before a statement, each on its line; one empty line where there were some."""
    if before and before[-1].startswith("\\i "):
        text = f"\n{text}"  # its line took its end with it
    found: list[str] = []
    place = 0
    for comment in _COMMENT.finditer(text):
        if text.count("\n", place, comment.start()) > 1 and (found or before):
            found.append("")
        found += [line.rstrip() for line in comment[0].split("\n")]
        place = comment.end()
    if text.count("\n", place) > 1 and (found or before):
        found.append("")
    return found


def _statement(source: Source, piece: scan.Piece, before: Sequence[str]) -> list[str]:
    parser = interactive(piece.masked)
    tokens = list(parser.exhaust_lexer())
    first = tokens[0].start_pos or 0
    lines = _leading(source.text[piece.start : piece.start + first], before)
    pieces, after = _pieces(source, piece, tokens)
    written = _laid_out(pieces)
    written[-1] += ";"
    return [*lines, *written, *after]


def _pieces(source: Source, piece: scan.Piece, tokens: Sequence[Token]) -> tuple[list[Piece], list[str]]:
    """The tokens with the comments between them, and the comments that follow the last one."""
    found: list[Piece] = []
    end = piece.start + (tokens[0].start_pos or 0)
    previous: Token | None = None
    for token in tokens:
        start = piece.start + (token.start_pos or 0)
        found += _comments(source.text[end:start])
        end = piece.start + (token.end_pos or 0)
        text = _written(token)
        if token.type == "NULL" and previous is not None and previous.type in ("NOT", "IS"):
            text = "NULL"
        if token.type == "JSON":
            _, end = json_text.read(source, start)
            text = source.text[start:end]
        found.append(Piece(token.type, text, glued=_is_glued(previous, token, tokens)))
        previous = token
    rest = [replace(one, note=Note.ALONE) for one in _comments(source.text[end : piece.end])]
    return _nested(found), [line for one in rest for line in one.text.split("\n")]


def _comments(text: str) -> Iterator[Piece]:
    place = 0
    for comment in _COMMENT.finditer(text):
        is_alone = "\n" in text[place : comment.start()]
        yield Piece("COMMENT", comment[0].rstrip(), Note.ALONE if is_alone else Note.BEHIND)
        place = comment.end()


def _written(token: Token) -> str:
    if token.type == "SYSTEM_TABLE":
        return "SYSTEM." + re.sub(r"\s", "", token).partition(".")[2]
    if token.type in phrases() and token.type not in _AS_WRITTEN:
        return re.sub(r"\s+", " ", token).upper()
    return str(token)


def _is_glued(previous: Token | None, token: Token, tokens: Sequence[Token]) -> bool:
    """Whether no space stands before the token."""
    if previous is None or previous.type in _NO_SPACE_AFTER:
        return True
    if token.type in ("LESSTHAN", "MORETHAN"):
        # The brackets of types; as signs of comparison they are tokens of another name.
        return True
    if token.type in _NO_SPACE_BEFORE:
        return token.type != "LSQB" or previous.type in (*_VALUES, "RSQB")
    if token.type == "LPAR":
        return previous.type in _CALLS
    if previous.type == "SIGN":
        place = next(index for index, one in enumerate(tokens) if one is previous)
        return place == 0 or tokens[place - 1].type not in _VALUES
    return False


def _nested(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces with the number of brackets that each stands in."""
    depth, found = 0, []
    for piece in pieces:
        depth -= piece.kind in _CLOSES
        found.append(replace(piece, depth=depth))
        depth += piece.kind in _OPENS
    return found


# ── lines ──
def _laid_out(pieces: Sequence[Piece]) -> list[str]:
    line = _joined(pieces)
    if len(line) < WIDTH and "\n" not in line and not any(_breaks(piece) for piece in pieces):
        return [line]
    lines: list[str] = []
    for number, clause in enumerate(_clauses(pieces)):
        dedented = number == 0 or clause[0].kind in ("UNION", "SELECT")
        lines += _clause(clause, "" if dedented else INDENT)
    return lines


def _joined(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text if piece.glued else f" {piece.text}" for piece in pieces).lstrip(" ")


def _breaks(piece: Piece) -> bool:
    """Whether the line must end behind the piece."""
    return piece.kind == "COMMENT" and (piece.text.startswith("--") or piece.note is Note.ALONE)


def _clauses(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    clause: list[Piece] = []
    previous = ""
    for piece in pieces:
        if clause and piece.depth == 0 and _begins_clause(piece, previous):
            # Comments that stand alone before a clause belong to it.
            moved = len(clause)
            while moved and clause[moved - 1].note is Note.ALONE:
                moved -= 1
            if moved:
                yield clause[:moved]
            clause = clause[moved:]
        clause.append(piece)
        if piece.kind != "COMMENT":
            previous = piece.kind
    yield clause


def _begins_clause(piece: Piece, previous: str) -> bool:
    if piece.kind in ("JSON", "UNION"):
        return True
    if piece.kind == "SELECT":
        return previous in ("UNION", "UNION_ALL")
    return piece.kind in _CLAUSES and previous not in _UNBROKEN_AFTER.get(piece.kind, ())


def _clause(pieces: Sequence[Piece], indent: str) -> list[str]:
    """One clause: a line where it fits; else as many of its items on a line as fit, or one a line inside its bracket."""
    line = indent + _joined(pieces)
    if not any(_breaks(piece) for piece in pieces[:-1]) and (len(line) < WIDTH or pieces[0].kind == "JSON"):
        return [line]
    opened = _spread_bracket(pieces)
    lines: list[str] = []
    can_go_on = has_begun = False
    for part in _parts(pieces, opened):
        inner = indent + INDENT if has_begun and (opened is None or part[0].kind != "RPAR") else indent
        has_begun = has_begun or part[0].note is not Note.ALONE
        text = _joined(part)
        space = "" if part[0].glued else " "
        if (
            can_go_on
            and opened is None
            and part[0].note is not Note.ALONE
            and len(lines[-1]) + len(space + text) < WIDTH
        ):
            lines[-1] += space + text
        else:
            lines += (inner + text).split("\n")
        can_go_on = not _breaks(part[-1]) and part[0].note is not Note.ALONE
    return lines


def _spread_bracket(pieces: Sequence[Piece]) -> Piece | None:
    """The bracket of a clause whose items stand on lines of their own: that of OPTIONS and SCHEMA."""
    for before, piece in pairwise(pieces):
        if piece.kind == "LPAR" and before.kind in _SPREAD:
            return piece
    return None


def _parts(pieces: Sequence[Piece], opened: Piece | None) -> Iterator[list[Piece]]:
    """A clause cut behind its commas and before AND and OR; with a spread bracket behind and before that, too."""
    level = pieces[0].depth + (opened is not None)
    part: list[Piece] = []
    for index, piece in enumerate(pieces):
        closes = opened is not None and piece.kind == "RPAR" and piece.depth == opened.depth
        if part and (closes or piece.note is Note.ALONE or (piece.depth == level and piece.kind in ("AND", "OR"))):
            yield part
            part = []
        part.append(piece)
        # A comment behind a comma stays on its line.
        is_followed = index + 1 < len(pieces) and pieces[index + 1].note is Note.BEHIND
        if _breaks(piece) or (
            not is_followed and (piece is opened or (piece.depth == level and piece.kind == "COMMA"))
        ):
            yield part
            part = []
    if part:
        yield part


def check_same(before: str, after: str) -> None:
    """Raise GqlError when two texts are not the same statements: formatting must never change a meaning."""
    from geode_client.grammar.parser import parse_script

    def meant(text: str) -> object:
        return parse_script(re.sub(r"(?m)^\s*\\i[ \t][^\n]*$", "", text))

    if meant(before) != meant(after):
        raise GqlError("this text cannot be formatted without changing what it means: it is left as it is")
