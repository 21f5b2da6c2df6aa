"""Messages, and conditions as texts, that meet each other often: few names, few values, every operator."""

import random
from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "c", "d")
TEXTS = (
    "",
    "x",
    "xy",
    "X",
    "50%",
    "a_b",
    "2026-01-01T00:00:00Z",
    "2026-01-02",
    "6F9619FF-8B86-D011-B42D-00CF4FC964FF",
    "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
    "true",
    "7",
    "é",
    "ẞ",
)
NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    0.5,
    -0.5,
    1.0,
    2.5,
    1e300,
    9007199254740993,
    9007199254740992.0,
    1e23,
    10**23,
    99999999999999991611392,
    10**30,
)


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
EVERY = tuple(name + step for name in NAMES for step in ("[*]", "[*].a", ".k[*].b"))
EXACT_LITERALS = (
    "0.50000000000000000001",
    "0.1",
    "9007199254740993.5",
    "CAST('0.1' AS DECIMAL)",
    "CAST('2.50' AS DECIMAL)",
)
ONE = ("LOWER", "UPPER", "LENGTH", "TRIM", "ABS", "FLOOR", "CEIL", "ROUND", "COALESCE", "TYPEOF", "EPOCH", "CONCAT")
TWO = (
    "IFNULL",
    "MOD",
    "CONCAT",
    "SPLIT",
    "STARTS_WITH",
    "ENDS_WITH",
    "CONTAINS",
    "NULLIF",
    "LEAST",
    "GREATEST",
    "COALESCE",
)
KINDS = ("STRING", "INT", "FLOAT", "BOOL", "TIMESTAMP", "DATE", "DECIMAL", "UUID", "BYTES")
COMPARED = ("=", "<>", "!=", "<", "<=", ">", ">=")
PATTERNS = ("'%'", "'x%'", "'%y'", "'_'", "'x_'", "'%x%'", "'50!%'", "''", "a")
UNITS = ("microsecond", "second", "minute", "HOUR", "day", "week", "month", "quarter", "millisecond", "year")
PARTS = ("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "DOW", "ISODOW", "DOY", "HOUR", "MINUTE", "SECOND", "EPOCH")
WHATS = ("NULL", "TRUE", "FALSE", "UNKNOWN")


def condition_text(chance: random.Random, depth: int = 3) -> str:
    """The text of a condition. Drawn from a generator of our own: hypothesis would mostly vary what it had before."""
    return _condition(chance, depth)


def conditions() -> st.SearchStrategy[str]:
    """The same as a strategy."""
    return st.integers(0, 2**48).map(lambda seed: condition_text(random.Random(seed)))


def message(chance: random.Random) -> Any:
    """A message that such conditions have something to say of."""
    if chance.random() < 0.03:
        return chance.choice(([], "x", 3, None))
    return {name: _content(chance, 2) for name in chance.sample(NAMES, chance.randrange(5))}


def _content(chance: random.Random, depth: int) -> Any:
    match chance.randrange(8 if depth else 5):
        case 0:
            return chance.choice((None, True, False))
        case 1 | 2:
            return chance.choice(NUMBERS)
        case 3 | 4:
            return chance.choice(TEXTS)
        case 5:
            return [_content(chance, depth - 1) for _ in range(chance.randrange(3))]
        case _:
            return {name: _content(chance, depth - 1) for name in chance.sample((*NAMES, "k"), chance.randrange(3))}


def _value(chance: random.Random, depth: int) -> str:
    def inner() -> str:
        return _value(chance, depth - 1)

    pick = chance.choice
    match chance.randrange(12) if depth > 0 else 0:
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
        case 9:
            length = pick(("", ", 1", ", 2", f", {inner()}"))
            return f"SUBSTR({inner()}, {pick(('0', '1', '2', '(-1)', '(-9)', inner()))}{length})"
        case 10:
            return pick(
                (
                    f"DATE_TRUNC('{pick(UNITS)}', {inner()})",
                    f"EXTRACT({pick(PARTS)} FROM {inner()})",
                    pick(EXACT_LITERALS),
                    f"(INTERVAL '1 hour' {pick('*/')} {inner()})",
                    f"LEAST({inner()}, {inner()}, {inner()})",
                    f"({inner()} {pick('+-')} INTERVAL '{pick(('1 hour', '90 seconds', '2 weeks'))}')",
                    f"TIMESTAMP '{pick(('2026-01-01T00:00:00Z', '2026-01-01 01:00:00+01:00'))}'",
                    f"DATE '{pick(('2026-01-01', '2026-01-02'))}'",
                )
            )
        case _:
            case = (f"CASE WHEN {inner()} = {inner()} THEN {inner()} ELSE {inner()} END",)
            return pick((*case, f"CASE {inner()} WHEN {inner()} THEN {inner()} WHEN {inner()} THEN {inner()} END"))


def _predicate(chance: random.Random) -> str:
    def value() -> str:
        return _value(chance, 2)

    pick = chance.choice
    negation = pick(("", "NOT "))
    match chance.randrange(15):
        case 13:
            return pick(
                (
                    f"{pick(EVERY)} {pick(COMPARED)} {value()}",
                    f"{pick(EVERY)} {negation}IN ({pick(LITERALS)}, {value()})",
                    f"{pick(EVERY)} IS {negation}{pick(WHATS)}",
                    f"STARTS_WITH({pick(EVERY)}, 'x')",
                    f"{pick(EVERY)} {negation}BETWEEN {pick(LITERALS)} AND {pick(LITERALS)}",
                    f"{pick(EVERY)} {negation}LIKE 'x%'",
                    f"EXISTS({pick(EVERY)})",
                    pick(EVERY),
                )
            )
        case 14:
            return f"{pick(NAMES)} {pick(COMPARED)} {pick(EXACT_LITERALS)}"
        case 0 | 1:
            return f"{value()} {pick(COMPARED)} {value()}"
        case 2 | 3 | 4:
            return f"{pick(PATHS)} {pick(COMPARED)} {pick(LITERALS)}"
        case 5:
            return f"{value()} {negation}IN ({value()}, {value()}, {value()})"
        case 6:
            return f"{pick(PATHS)} {negation}IN ({pick(LITERALS)}, {pick(LITERALS)})"
        case 7:
            return f"{value()} {negation}BETWEEN {value()} AND {value()}"
        case 8:
            return f"{pick(NAMES)} {negation}BETWEEN {pick(LITERALS)} AND {pick(LITERALS)}"
        case 9:
            escape = pick(("", " ESCAPE '!'"))
            return f"{pick((value(), pick(NAMES)))} {negation}{pick(('LIKE', 'ILIKE'))} {pick(PATTERNS)}{escape}"
        case 10:
            return f"{value()} IS {negation}{pick((*WHATS, f'DISTINCT FROM {value()}'))}"
        case 11:
            return f"EXISTS({pick(PATHS)})"
        case _:
            return pick(PATHS)


def _condition(chance: random.Random, depth: int) -> str:
    def inner() -> str:
        return _condition(chance, depth - 1)

    match chance.randrange(7) if depth > 0 else 0:
        case 0 | 1 | 2:
            return _predicate(chance)
        case 3:
            return f"({inner()}) AND ({inner()})"
        case 4:
            return f"({inner()}) OR ({inner()})"
        case 5:
            return f"NOT ({inner()})"
        case _:
            return chance.choice(
                (f"(({inner()}) IS {chance.choice(('', 'NOT '))}UNKNOWN)", f"({inner()}) = ({inner()})")
            )
