"""The functions of the language: names, arguments, results, a line of help and an example for each.

This is the one list. The parser takes names and numbers of arguments from it, completion its names, checks of queries the
kinds of its arguments and results; what a function computes is bound to its name in `conditions`, and what an aggregate
computes in `query`. Tests hold them together, and run every example.
"""

from collections.abc import Mapping
from dataclasses import dataclass

TEXT, NUMBER, BOOLEAN, TIME, INTERVAL, ARRAY, OBJECT, UUID = (
    *("text", "a number", "a boolean", "a time", "an interval", "an array", "an object", "a UUID"),
)
ANY: frozenset[str] = frozenset()
_TEXT, _NUMBER, _TIME, _BOOLEAN = (frozenset((kind,)) for kind in (TEXT, NUMBER, TIME, BOOLEAN))


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: its name, and the kinds of values that it takes (none named: any)."""

    name: str
    kinds: frozenset[str] = ANY
    optional: bool = False
    many: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """One function. `result` is the kind of its values, None where that depends; `example` is an expression and its value."""

    name: str
    arguments: tuple[Argument, ...]
    result: str | None
    help: str
    example: tuple[str, str]
    aggregate: bool = False
    form: str | None = None

    @property
    def least(self) -> int:
        """The smallest number of arguments."""
        return sum(not argument.optional for argument in self.arguments)

    @property
    def most(self) -> int:
        """The largest number of arguments."""
        many = any(argument.many for argument in self.arguments)
        return ARGUMENTS_MAX if many else len(self.arguments)

    def kinds_at(self, place: int) -> frozenset[str]:
        """The kinds that the argument at a place takes."""
        if not self.arguments:
            return ANY
        return self.arguments[min(place, len(self.arguments) - 1)].kinds

    @property
    def signature(self) -> str:
        """How it is written."""
        if self.form is not None:
            return self.form
        parts = [
            ("[" * argument.optional) + ", " * bool(place) + argument.name + ", …" * argument.many
            for place, argument in enumerate(self.arguments)
        ]
        return f"{self.name}({''.join(parts)}{']' * sum(argument.optional for argument in self.arguments)})"


ARGUMENTS_MAX = 100
_T = Argument("text", _TEXT)
_N = Argument("number", _NUMBER)
_V = Argument("value")
_WHEN = Argument("time", frozenset((TIME, TEXT)))
_FLAGS = Argument("flags", _TEXT, optional=True)
_PATTERN = Argument("pattern", _TEXT)

_ALL = (
    # ── text ──
    Function("LOWER", (_T,), TEXT, "The text in small letters.", ("LOWER('Ab')", "ab")),
    Function("UPPER", (_T,), TEXT, "The text in capital letters.", ("UPPER('Ab')", "AB")),
    Function(
        "LENGTH",
        (Argument("value", frozenset((TEXT, ARRAY))),),
        NUMBER,
        "How many characters a text has, or items an array.",
        ("LENGTH('Ab')", "2"),
    ),
    Function("TRIM", (_T,), TEXT, "The text without blanks at its ends.", ("TRIM(' a ')", "a")),
    Function(
        "SUBSTR",
        (_T, Argument("start", _NUMBER), Argument("length", _NUMBER, optional=True)),
        TEXT,
        "Part of a text, from the character `start`, counted from 1; from the end where it is negative.",
        ("SUBSTR('abcd', 2, 2)", "bc"),
    ),
    Function(
        "REPLACE",
        (_T, Argument("old", _TEXT), Argument("new", _TEXT)),
        TEXT,
        "The text with every `old` replaced.",
        ("REPLACE('a-b', '-', '+')", "a+b"),
    ),
    Function(
        "STARTS_WITH",
        (_T, Argument("start", _TEXT)),
        BOOLEAN,
        "Whether a text starts with another one.",
        ("STARTS_WITH('abc', 'ab')", "true"),
    ),
    Function(
        "ENDS_WITH",
        (_T, Argument("end", _TEXT)),
        BOOLEAN,
        "Whether a text ends with another one.",
        ("ENDS_WITH('abc', 'bc')", "true"),
    ),
    Function(
        "CONTAINS",
        (Argument("whole", frozenset((TEXT, ARRAY))), Argument("part")),
        BOOLEAN,
        "Whether a text has another one in it, or an array an item.",
        ("CONTAINS('abc', 'b')", "true"),
    ),
    Function(
        "CONCAT",
        (Argument("value", many=True),),
        TEXT,
        "The texts of all values, one after the other; NULL is left out.",
        ("CONCAT('a', NULL, 1)", "a1"),
    ),
    Function(
        "CONCAT_WS",
        (Argument("separator", _TEXT), Argument("value", many=True)),
        TEXT,
        "The texts of all values with a separator between them; NULL is left out.",
        ("CONCAT_WS('-', 'a', NULL, 1)", "a-1"),
    ),
    Function(
        "SPLIT",
        (_T, Argument("separator", _TEXT)),
        ARRAY,
        "The pieces of a text between separators; an empty separator gives its characters.",
        ("SPLIT('a,b', ',')", '["a","b"]'),
    ),
    Function(
        "REGEXP_MATCHES",
        (_T, _PATTERN, _FLAGS),
        BOOLEAN,
        "Whether a regular expression (RE2) matches somewhere in a text; flags are i, m and s.",
        ("REGEXP_MATCHES('ab1', '[0-9]')", "true"),
    ),
    Function(
        "REGEXP_EXTRACT",
        (_T, _PATTERN, Argument("group", _NUMBER, optional=True)),
        TEXT,
        "What a regular expression matches first, or one of its groups; NULL where nothing matches.",
        ("REGEXP_EXTRACT('ab12', '([a-z]+)([0-9]+)', 2)", "12"),
    ),
    Function(
        "REGEXP_REPLACE",
        (_T, _PATTERN, Argument("new", _TEXT), _FLAGS),
        TEXT,
        r"The text with every match replaced; \1 in `new` is the first group.",
        ("REGEXP_REPLACE('a1b2', '[0-9]', '#')", "a#b#"),
    ),
    # ── NULL ──
    Function(
        "COALESCE",
        (Argument("value", many=True),),
        None,
        "The first value that is not NULL.",
        ("COALESCE(NULL, 2)", "2"),
    ),
    Function("IFNULL", (_V, Argument("other")), None, "The value, or another one for NULL.", ("IFNULL(NULL, 2)", "2")),
    Function("NULLIF", (_V, Argument("other")), None, "NULL where both are equal.", ("NULLIF(1, 2)", "1")),
    # ── numbers ──
    Function("ABS", (_N,), NUMBER, "The number without its sign.", ("ABS(-2)", "2")),
    Function(
        "ROUND",
        (_N, Argument("digits", _NUMBER, optional=True)),
        NUMBER,
        "Rounded to so many digits after the point, half away from zero.",
        ("ROUND(2.345, 2)", "2.35"),
    ),
    Function("FLOOR", (_N,), NUMBER, "The largest whole number that is not greater.", ("FLOOR(-0.5)", "-1")),
    Function("CEIL", (_N,), NUMBER, "The smallest whole number that is not less.", ("CEIL(0.5)", "1")),
    Function(
        "MOD",
        (_N, Argument("divisor", _NUMBER)),
        NUMBER,
        "The rest of a division, with the sign of the number.",
        ("MOD(-7, 3)", "-1"),
    ),
    Function("POWER", (_N, Argument("exponent", _NUMBER)), NUMBER, "The number to a power.", ("POWER(2, 10)", "1024")),
    Function("SQRT", (_N,), NUMBER, "The square root.", ("SQRT(9)", "3.0")),
    Function(
        "LEAST",
        (Argument("value", many=True),),
        None,
        "The least of the values that are not NULL.",
        ("LEAST(3, NULL, 2)", "2"),
    ),
    Function(
        "GREATEST",
        (Argument("value", many=True),),
        None,
        "The greatest of the values that are not NULL.",
        ("GREATEST(3, NULL, 2)", "3"),
    ),
    # ── times ──
    Function("NOW", (), TIME, "The time at which the statement began.", ("NOW() IS NOT NULL", "true")),
    Function(
        "CURRENT_TIMESTAMP",
        (),
        TIME,
        "The same as NOW(); parentheses may be left out.",
        ("CURRENT_TIMESTAMP = NOW()", "true"),
        form="CURRENT_TIMESTAMP",
    ),
    Function(
        "CURRENT_DATE",
        (),
        TIME,
        "Today's date in UTC; parentheses may be left out.",
        ("CURRENT_DATE = CAST(NOW() AS DATE)", "true"),
        form="CURRENT_DATE",
    ),
    Function(
        "DATE_TRUNC",
        (Argument("part", _TEXT), _WHEN, Argument("time_zone", _TEXT, optional=True)),
        TIME,
        "The start of the microsecond, millisecond, second, minute, hour, day, week, month, quarter or year, in UTC or a zone.",
        ("DATE_TRUNC('month', DATE '2026-03-05') = DATE '2026-03-01'", "true"),
    ),
    Function(
        "EXTRACT",
        (Argument("part", _TEXT), Argument("time", frozenset((TIME, TEXT, INTERVAL)))),
        NUMBER,
        "A part of a time: YEAR QUARTER MONTH WEEK DAY DOW ISODOW DOY HOUR MINUTE SECOND MILLISECOND MICROSECOND EPOCH ISOYEAR.",
        ("EXTRACT(YEAR FROM DATE '2026-03-05')", "2026"),
        form="EXTRACT(part FROM time)",
    ),
    Function(
        "EPOCH",
        (Argument("time", frozenset((TIME, TEXT, INTERVAL))),),
        NUMBER,
        "Seconds since 1970, or the seconds of an interval.",
        ("EPOCH(TIMESTAMP '1970-01-01T00:01:00Z')", "60"),
    ),
    Function(
        "TO_TIMESTAMP",
        (Argument("value", frozenset((NUMBER, TEXT))), Argument("unit_or_format", _TEXT, optional=True)),
        TIME,
        "A time from seconds since 1970 (or 'milliseconds', 'microseconds', 'nanoseconds'), or from text with a format such as "
        "'%d.%m.%Y %H:%M'. A number beyond the year 9999 in seconds counts as milliseconds.",
        ("TO_TIMESTAMP('05.03.2026', '%d.%m.%Y') = DATE '2026-03-05'", "true"),
    ),
    # ── values ──
    Function("JSON", (_T,), None, "The value of a JSON text.", ("JSON('[1, 2]')", "[1,2]")),
    Function("TYPEOF", (_V,), TEXT, "The type of a value, as CAST names it.", ("TYPEOF(1.5)", "FLOAT")),
    # ── aggregates ──
    Function(
        "COUNT",
        (_V,),
        NUMBER,
        "How many rows there are, or values that are not NULL.",
        ("COUNT(*)", "3"),
        aggregate=True,
        form="COUNT(* | [DISTINCT] value)",
    ),
    Function(
        "COUNT_IF",
        (Argument("condition", _BOOLEAN),),
        NUMBER,
        "For how many rows a condition is TRUE.",
        ("COUNT_IF(n > 1)", "2"),
        aggregate=True,
    ),
    Function("SUM", (_N,), NUMBER, "The sum of the numbers.", ("SUM(n)", "6"), aggregate=True),
    Function("AVG", (_N,), NUMBER, "The mean of the numbers.", ("AVG(n)", "2.0"), aggregate=True),
    Function("MIN", (_V,), None, "The least value.", ("MIN(n)", "1"), aggregate=True),
    Function("MAX", (_V,), None, "The greatest value.", ("MAX(n)", "3"), aggregate=True),
    Function(
        "FIRST", (_V,), None, "The value of the earliest message that has one.", ("FIRST(n)", "1"), aggregate=True
    ),
    Function("LAST", (_V,), None, "The value of the latest message that has one.", ("LAST(n)", "3"), aggregate=True),
    Function(
        "STDDEV",
        (_N,),
        NUMBER,
        "The standard deviation of a sample; NULL for fewer than two numbers.",
        ("STDDEV(n)", "1.0"),
        aggregate=True,
    ),
    Function(
        "VARIANCE",
        (_N,),
        NUMBER,
        "The variance of a sample; NULL for fewer than two numbers.",
        ("VARIANCE(n)", "1.0"),
        aggregate=True,
    ),
    Function(
        "MEDIAN",
        (_N,),
        NUMBER,
        "The middle number, or the mean of the middle two.",
        ("MEDIAN(n)", "2.0"),
        aggregate=True,
    ),
    Function(
        "PERCENTILE_CONT",
        (_N, Argument("fraction", _NUMBER)),
        NUMBER,
        "The number below which a fraction of the others lies, interpolated.",
        ("PERCENTILE_CONT(n, 0.25)", "1.5"),
        aggregate=True,
        form="PERCENTILE_CONT(number, fraction) or PERCENTILE_CONT(fraction) WITHIN GROUP (ORDER BY number)",
    ),
    Function(
        "STRING_AGG",
        (_T, Argument("separator", _TEXT)),
        TEXT,
        "The texts with a separator between them, in the order of the messages or the one given.",
        ("STRING_AGG(s, ',')", "a,b,c"),
        aggregate=True,
        form="STRING_AGG([DISTINCT] text, separator [ORDER BY …])",
    ),
    Function(
        "ARRAY_AGG",
        (_V,),
        ARRAY,
        "The values as an array, NULL too, in the order of the messages or the one given.",
        ("ARRAY_AGG(n ORDER BY n DESC)", "[3,2,1]"),
        aggregate=True,
        form="ARRAY_AGG([DISTINCT] value [ORDER BY …])",
    ),
)

FUNCTIONS: Mapping[str, Function] = {found.name: found for found in _ALL}
SCALARS: Mapping[str, Function] = {name: found for name, found in FUNCTIONS.items() if not found.aggregate}
AGGREGATES: Mapping[str, Function] = {name: found for name, found in FUNCTIONS.items() if found.aggregate}
_OFFSET, _DEFAULT = Argument("offset", _NUMBER, optional=True), Argument("default", optional=True)
_WINDOW_ONLY = (
    Function(
        "ROW_NUMBER",
        (),
        NUMBER,
        "The number of the row in its partition, from 1.",
        ("ROW_NUMBER() OVER (ORDER BY n DESC)", "3"),
        form="ROW_NUMBER() OVER (…)",
    ),
    Function(
        "RANK",
        (),
        NUMBER,
        "One more than the number of rows before this one; equal rows have one rank.",
        ("RANK() OVER (ORDER BY n > 1)", "1"),
        form="RANK() OVER (…)",
    ),
    Function(
        "DENSE_RANK",
        (),
        NUMBER,
        "As RANK, without gaps after equal rows.",
        ("DENSE_RANK() OVER (ORDER BY n DESC)", "3"),
        form="DENSE_RANK() OVER (…)",
    ),
    Function(
        "LAG",
        (_V, _OFFSET, _DEFAULT),
        None,
        "The value of an earlier row: one row before unless an offset is given; the default where there is none.",
        ("LAG(n, 1, 0) OVER (ORDER BY n)", "0"),
        form="LAG(value[, offset[, default]]) OVER (…)",
    ),
    Function(
        "LEAD",
        (_V, _OFFSET, _DEFAULT),
        None,
        "The value of a later row: one row after unless an offset is given; the default where there is none.",
        ("LEAD(n) OVER (ORDER BY n)", "2"),
        form="LEAD(value[, offset[, default]]) OVER (…)",
    ),
)
# Functions that need OVER; the value of an example is that of the row where n is 1. Aggregates take OVER as well.
WINDOW_FUNCTIONS: Mapping[str, Function] = {found.name: found for found in _WINDOW_ONLY}
# Other names that people know them by.
ALIASES: Mapping[str, str] = {
    "SUBSTRING": "SUBSTR",
    "CHAR_LENGTH": "LENGTH",
    "LEN": "LENGTH",
    "CEILING": "CEIL",
    "POW": "POWER",
    "LCASE": "LOWER",
    "UCASE": "UPPER",
    "NVL": "IFNULL",
    "DATE_PART": "EXTRACT",
    "STRING_SPLIT": "SPLIT",
    "STDDEV_SAMP": "STDDEV",
    "VAR_SAMP": "VARIANCE",
    "COUNTIF": "COUNT_IF",
    "GROUP_CONCAT": "STRING_AGG",
    "LISTAGG": "STRING_AGG",
    "LIST": "ARRAY_AGG",
}
# What may be written without brackets.
BARE = frozenset(("CURRENT_TIMESTAMP", "CURRENT_DATE"))
# Those whose values come in an order.
ORDERED = frozenset(("FIRST", "LAST", "STRING_AGG", "ARRAY_AGG"))

TRUNCATED_PARTS = ("microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year")
EXTRACTED_PARTS = (
    *("year", "quarter", "month", "week", "day", "dow", "isodow", "doy", "hour", "minute", "second"),
    *("millisecond", "microsecond", "epoch", "isoyear"),
)
TIMESTAMP_UNITS: Mapping[str, int] = {
    # How many of the unit make a second.
    **dict.fromkeys(("seconds", "second", "s"), 1),
    **dict.fromkeys(("milliseconds", "millisecond", "ms"), 1_000),
    **dict.fromkeys(("microseconds", "microsecond", "us"), 1_000_000),
    **dict.fromkeys(("nanoseconds", "nanosecond", "ns"), 1_000_000_000),
}
