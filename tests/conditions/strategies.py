"""Messages, and conditions as texts, that meet each other often: few names, few values, every operator."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "c", "d")
TEXTS = ("", "x", "xy", "X", "50%", "a_b", "2026-01-01T00:00:00Z", "2026-01-02", "true", "7", "é", "ẞ")
NUMBERS = (0, 1, -1, 2, 7, 0.5, -0.5, 1.0, 2.5, 1e300, 9007199254740993, 9007199254740992.0, 10**30)

scalars = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(TEXTS))
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from((*NAMES, "k")), inner, max_size=3)
    ),
    max_leaves=6,
)
messages = st.one_of(st.dictionaries(st.sampled_from(NAMES), values, max_size=4), st.sampled_from(([], "x", 3, None)))


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


LITERALS = ("NULL", "TRUE", "FALSE", *(repr(n) if n >= 0 else f"({n!r})" for n in NUMBERS), *map(quoted, TEXTS))
PATHS = (*NAMES, *(name + step for name in NAMES for step in (".a", ".k", "['b']", "[0]", "[1]", "[0].a")))
ONE = ("LOWER", "UPPER", "LENGTH", "TRIM", "ABS", "FLOOR", "CEIL", "ROUND", "COALESCE")
TWO = ("STARTS_WITH", "ENDS_WITH", "CONTAINS", "NULLIF", "LEAST", "GREATEST", "COALESCE")
KINDS = ("STRING", "INT", "FLOAT", "BOOL", "TIMESTAMP")
COMPARED = ("=", "<>", "!=", "<", "<=", ">", ">=")
PATTERNS = ("'%'", "'x%'", "'%y'", "'_'", "'x_'", "'%x%'", "'50!%'", "''", "a")
WHATS = ("NULL", "TRUE", "FALSE", "UNKNOWN")

Pick = Callable[[tuple[str, ...]], str]


@st.composite
def conditions(draw: st.DrawFn) -> str:
    """The text of a condition."""
    return _condition(draw, lambda choices: draw(st.sampled_from(choices)), 3)


def _value(draw: st.DrawFn, pick: Pick, depth: int) -> str:
    def inner() -> str:
        return _value(draw, pick, depth - 1)

    match draw(st.integers(0, 9)) if depth > 0 else 0:
        case 0 | 1 | 2:
            return pick(PATHS)
        case 3 | 4:
            return pick(LITERALS)
        case 5:
            return f"({inner()} {pick(('+', '-', '*', '/', '%', '||'))} {inner()})"
        case 6:
            return f"{pick(ONE)}({inner()})"
        case 7:
            return f"{pick(TWO)}({inner()}, {inner()})"
        case 8:
            return pick((f"CAST({inner()} AS {pick(KINDS)})", f"- {inner()}", f"REPLACE({inner()}, 'x', {inner()})"))
        case _:
            case = (f"CASE WHEN {inner()} = {inner()} THEN {inner()} ELSE {inner()} END",)
            return pick((*case, f"CASE {inner()} WHEN {inner()} THEN {inner()} WHEN {inner()} THEN {inner()} END"))


def _predicate(draw: st.DrawFn, pick: Pick) -> str:
    def value() -> str:
        return _value(draw, pick, 2)

    negation = pick(("", "NOT "))
    match draw(st.integers(0, 9)):
        case 0 | 1:
            return f"{value()} {pick(COMPARED)} {value()}"
        case 2:
            return f"{pick(PATHS)} {pick(COMPARED)} {pick(LITERALS)}"
        case 3:
            return f"{value()} {negation}IN ({value()}, {value()}, {value()})"
        case 4:
            return f"{pick(PATHS)} {negation}IN ({pick(LITERALS)}, {pick(LITERALS)})"
        case 5:
            return f"{value()} {negation}BETWEEN {value()} AND {value()}"
        case 6:
            escape = pick(("", " ESCAPE '!'"))
            return f"{value()} {negation}{pick(('LIKE', 'ILIKE'))} {pick(PATTERNS)}{escape}"
        case 7:
            return f"{value()} IS {negation}{pick(WHATS)}"
        case 8:
            return f"EXISTS({pick(PATHS)})"
        case _:
            return pick(PATHS)


def _condition(draw: st.DrawFn, pick: Pick, depth: int) -> str:
    def inner() -> str:
        return _condition(draw, pick, depth - 1)

    match draw(st.integers(0, 6)) if depth > 0 else 0:
        case 0 | 1 | 2:
            return _predicate(draw, pick)
        case 3:
            return f"({inner()}) AND ({inner()})"
        case 4:
            return f"({inner()}) OR ({inner()})"
        case 5:
            return f"NOT ({inner()})"
        case _:
            return pick((f"(({inner()}) IS {pick(('', 'NOT '))}UNKNOWN)", f"({inner()}) = ({inner()})"))
