"""What conditions mean, one line a rule. T, F and U: TRUE, FALSE, UNKNOWN."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from geode_client import GqlError, GqlSyntaxError, compile_filter
from geode_client.conditions.like import Like
from geode_client.conditions.simplify import simplified

MESSAGE: dict[str, Any] = {
    "status": "paid",
    "total": 12.5,
    "count": 3,
    "express": True,
    "gift": False,
    "note": None,
    "details": {"total": 5, "deep": {"er": "x"}, "odd name": 1},
    "items": [{"sku": "KB-1"}, {"sku": "MS-2"}],
    "tags": ["a", "b", 1],
    "at": "2026-01-31T12:00:00Z",
    "_id": "mine",
}

RULES = """
status = 'paid'                              T
status = 'PAID'                              F
status = paid                                U
STATUS = 'paid'                              U
missing = 'x'                                U
missing IS NULL                              T
note IS NULL                                 T
note IS NOT NULL                             F
EXISTS(note)                                 T
EXISTS(missing)                              F
EXISTS(details.deep.er)                      T
EXISTS(details.deep.nothing)                 F
NOT missing = 'x'                            U
missing = 'x' OR status = 'paid'             T
missing = 'x' AND status = 'paid'            U
missing = 'x' AND status = 'new'             F
details.total = 5                            T
details['total'] = 5                         T
details['odd name'] = 1                      T
items[0].sku = 'KB-1'                        T
items[1].sku = 'MS-2'                        T
items[2].sku = 'MS-2'                        U
details.total.deeper = 5                     U
express                                      T
gift                                         F
status                                       U
NOT express                                  F
NOT status                                   U
express = TRUE                               T
express <> FALSE                             T
express > FALSE                              U
express = 1                                  U
count = TRUE                                 U
count = 3.0                                  T
count = '3'                                  U
NOT count = '3'                              U
count <> '3'                                 U
total > 12                                   T
total >= 12.5                                T
total BETWEEN 12 AND 13                      T
total NOT BETWEEN 12 AND 13                  F
total BETWEEN 13 AND NULL                    F
total BETWEEN 12 AND NULL                    U
1 = 1.0                                      T
1. = 1                                       T
.5 = 1 / 2                                   T
1.E1 = 10                                    T
4E-10 > 0                                    T
7 / 2 = 3.5                                  T
4 / 2 = 2                                    T
7 % 3 = 1                                    T
-7 % 3 = -1                                  T
7 % -3 = 1                                   T
1 / 0 = 1                                    U
1 / 0 IS NULL                                T
1 % 0 IS NULL                                T
- - 3 = 3                                    T
+count = 3                                   T
2 + 3 * 4 = 14                               T
(2 + 3) * 4 = 20                             T
count + NULL IS NULL                         T
status + 1 IS NULL                           T
9007199254740993 = 9007199254740992.0        F
'a' < 'b'                                    T
'Z' < 'a'                                    T
'a' || 'b' = 'ab'                            T
'a' || 1 IS NULL                             T
status LIKE 'p%'                             T
status LIKE 'P%'                             F
status ILIKE 'P%'                            T
status LIKE '%ai%'                           T
status LIKE 'p__d'                           T
status LIKE 'p_d'                            F
status NOT LIKE 'x%'                         T
count LIKE '3'                               U
'50%' LIKE '50!%' ESCAPE '!'                 T
'505' LIKE '50!%' ESCAPE '!'                 F
status IN ('new', 'paid')                    T
status NOT IN ('new', 'paid')                F
status IN ('new', NULL)                      U
status IN ('paid', NULL)                     T
status NOT IN ('new', NULL)                  U
count IN (1, 2, 3.0)                         T
count IN ('3', 4)                            U
express IS TRUE                              T
express IS NOT TRUE                          F
missing IS TRUE                              F
missing IS NOT TRUE                          T
missing IS UNKNOWN                           T
gift IS FALSE                                T
(total > 'x') IS UNKNOWN                     T
(total > 1) IS NOT UNKNOWN                   T
CASE WHEN total > 10 THEN 'big' ELSE 'small' END = 'big'    T
CASE status WHEN 'new' THEN 1 WHEN 'paid' THEN 2 END = 2    T
CASE WHEN missing THEN 1 END IS NULL         T
LOWER('ÄB') = 'äb'                           T
UPPER(status) = 'PAID'                       T
LENGTH(status) = 4                           T
LENGTH(tags) = 3                             T
TRIM('  x ') = 'x'                           T
SUBSTR(status, 2) = 'aid'                    T
SUBSTR(status, 2, 2) = 'ai'                  T
SUBSTR(status, -2) = 'id'                    T
REPLACE(status, 'a', 'o') = 'poid'           T
STARTS_WITH(status, 'pa')                    T
ENDS_WITH(status, 'id')                      T
CONTAINS(status, 'ai')                       T
CONTAINS(tags, 'a')                          T
CONTAINS(tags, 1)                            T
CONTAINS(tags, 'z')                          U
COALESCE(missing, note, 'x') = 'x'           T
NULLIF(count, 3) IS NULL                     T
ABS(-2) = 2                                  T
ROUND(2.5) = 3                               T
ROUND(-2.5) = -3                             T
ROUND(total, 0) = 13                         T
FLOOR(-0.5) = -1                             T
CEIL(0.2) = 1                                T
LEAST(3, 1, 2) = 1                           T
GREATEST(3, 1, 2) = 3                        T
GREATEST(3, NULL) = 3                        T
LEAST(NULL, 3, 2) = 2                        T
LEAST(NULL, NULL) IS NULL                    T
GREATEST(1, 'a') IS NULL                     T
CAST('12' AS INT) = 12                       T
CAST('x' AS INT) IS NULL                     T
TRY_CAST('1.5' AS FLOAT) = 1.5               T
CAST(total AS STRING) = '12.5'               T
CAST(TRUE AS STRING) = 'true'                T
at > TIMESTAMP '2026-01-31T11:00:00Z'        T
at = TIMESTAMP '2026-01-31T13:00:00+01:00'   T
TIMESTAMP '2026-01-31 12:00:00' = at         T
status > TIMESTAMP '2026-01-31T11:00:00Z'    U
CAST(at AS TIMESTAMP) + INTERVAL '1 hour' = TIMESTAMP '2026-01-31T13:00:00Z'    T
CAST(at AS TIMESTAMP) - TIMESTAMP '2026-01-31T11:00:00Z' = INTERVAL '60 minutes'    T
DATE_TRUNC('day', at) = TIMESTAMP '2026-01-31T00:00:00Z'    T
DATE_TRUNC('month', at) = DATE '2026-01-01'  T
NOW() > at                                   T
at = DATE '2026-01-31'                       F
at > '2026-01-31T11:00:00Z'                  T
'2026-01-31T12:00:00.123456789Z' > TIMESTAMP '2026-01-31T12:00:00.123456Z'    T
'2026-01-31T12:00:00.123456000Z' = TIMESTAMP '2026-01-31T12:00:00.123456Z'    T
CAST(at AS STRING) = '2026-01-31T12:00:00Z'  T
CAST(at AS DATE) = '2026-01-31'              T
CAST(CAST('2024-02-29' AS DATE) AS STRING) = '2024-02-29'    T
DATE '2024-01-31' + INTERVAL '1 month' = DATE '2024-02-29'    T
DATE '2024-02-29' - INTERVAL '1 year' = DATE '2023-02-28'    T
DATE '2024-01-01' + INTERVAL '1 year 2 months 3 days' = DATE '2025-03-04'    T
DATE '9999-12-31' + INTERVAL '1 month' IS NULL    T
INTERVAL '1 hour' * 2 = INTERVAL '2 hours'   T
0.5 * INTERVAL '1 hour' = INTERVAL '30 minutes'    T
INTERVAL '1 month' * 12 = INTERVAL '1 year'  T
INTERVAL '1 hour' / 4 = INTERVAL '15 minutes'    T
INTERVAL '1 hour' / 0 IS NULL                T
INTERVAL '1 month' = INTERVAL '30 days'      U
INTERVAL '1 month' > INTERVAL '1 week'       U
INTERVAL '1 month 1 day' > INTERVAL '1 week' U
INTERVAL '2 months' > INTERVAL '1 month'     T
DATE_TRUNC('quarter', at) = DATE '2026-01-01'    T
DATE_TRUNC('day', TIMESTAMP '2026-01-31T03:00:00Z', 'America/New_York') = TIMESTAMP '2026-01-30T05:00:00Z'    T
DATE_TRUNC('hour', '2026-10-25T01:30:00Z', 'Europe/Berlin') = TIMESTAMP '2026-10-25T01:00:00Z'    T
DATE_TRUNC('day', '0001-01-01T00:00:00+01:00') IS NULL    T
'0001-01-01T00:00:00+01:00' < TIMESTAMP '0001-01-01T00:00:00Z'    T
EXTRACT(YEAR FROM at) = 2026                 T
EXTRACT(quarter FROM DATE '2026-05-01') = 2  T
EXTRACT(DOW FROM DATE '2026-02-01') = 0      T
EXTRACT(ISODOW FROM DATE '2026-02-01') = 7   T
EXTRACT(EPOCH FROM INTERVAL '90 minutes') = 5400    T
DATE_PART('month', at) = 1                   T
EPOCH(TIMESTAMP '1970-01-01T00:00:01.5Z') = 1.5    T
TO_TIMESTAMP(0) = DATE '1970-01-01'          T
TO_TIMESTAMP(1767225600000) = TO_TIMESTAMP(1767225600)    T
TO_TIMESTAMP(1767225600123, 'milliseconds') = TIMESTAMP '2026-01-01T00:00:00.123Z'    T
TO_TIMESTAMP('31.01.2026 12:00', '%d.%m.%Y %H:%M') = at    T
TO_TIMESTAMP('31.01.2026', '%Y') IS NULL     T
CURRENT_TIMESTAMP = NOW()                    T
CURRENT_DATE <= NOW()                        T
CURRENT_DATE = CAST(NOW() AS DATE)           T
MOD(-7, 3) = -1                              T
POWER(2, 10) = 1024                          T
POWER(-8, 0.5) IS NULL                       T
POWER(10, 100000) IS NULL                    T
SQRT(16) = 4                                 T
SQRT(-1) IS NULL                             T
CONCAT('a', NULL, 1, TRUE) = 'a1true'        T
CONCAT_WS('-', 'a', NULL, 'b') = 'a-b'       T
IFNULL(missing, 3) = 3                       T
CONTAINS(SPLIT('a,b', ','), 'b')             T
LENGTH(SPLIT('abc', '')) = 3                 T
REGEXP_MATCHES(status, '^p.+d$')             T
REGEXP_MATCHES(status, 'PAID')               F
REGEXP_MATCHES(status, 'PAID', 'i')          T
REGEXP_MATCHES(count, '3')                   U
REGEXP_EXTRACT('ab12', '([a-z]+)([0-9]+)', 2) = '12'    T
REGEXP_EXTRACT('ab', '[0-9]') IS NULL        T
REGEXP_REPLACE('a1b22', '[0-9]+', '#') = 'a#b#'    T
REGEXP_REPLACE('ab', '(a)(b)', '\\2\\1') = 'ba'    T
JSON('[1, {"a": 2}]') IS NOT NULL            T
JSON('not json') IS NULL                     T
TYPEOF(count) = 'INT'                        T
TYPEOF(total) = 'FLOAT'                      T
TYPEOF(missing) = 'NULL'                     T
TYPEOF(items) = 'LIST'                       T
TYPEOF(CAST('1' AS DECIMAL)) = 'DECIMAL'     T
CAST('0.1' AS DECIMAL) + 0.2 = 0.3           T
0.1 + 0.2 = 0.3                              F
CAST('0.30000000000000000001' AS DECIMAL) = 0.30000000000000000001    T
CAST('0.30000000000000000001' AS DECIMAL) > 0.3    T
CAST('0.1' AS DECIMAL) = 0.1                 T
CAST('1' AS DECIMAL) / 3 = CAST('0.3333333333333333333333333333' AS DECIMAL)    T
CAST('12.345' AS DECIMAL(10, 2)) = 12.35     T
CAST('1234.5' AS NUMERIC(5, 2)) IS NULL      T
CAST('1e999999' AS DECIMAL) IS NULL          T
CAST('1e3' AS DECIMAL) || '' IS NULL         T
CAST(CAST('1e3' AS DECIMAL) AS STRING) = '1000'    T
1e23 = 100000000000000000000000              T
1e23 = 99999999999999991611392               F
1e23 IN (1, 100000000000000000000000)        T
9007199254740993 IN (9007199254740992.0, 9007199254740993)    T
CAST('6F9619FF-8B86-D011-B42D-00CF4FC964FF' AS UUID) = '6f9619ff-8b86-d011-b42d-00cf4fc964ff'    T
CAST('x' AS VARCHAR) = 'x'                   T
CAST('7' AS BIGINT) = 7                      T
CAST('7' AS DOUBLE PRECISION) = 7            T
items[*].sku = 'MS-2'                        T
items[*].sku = 'XX'                          F
items[*].sku <> 'KB-1'                       T
NOT (items[*].sku = 'KB-1')                  F
NOT items[*].sku = 'XX'                      T
items[*].nothing = 1                         U
items[*].sku IN ('MS-2')                     T
items[*].sku NOT IN ('KB-1')                 F
items[*].sku LIKE 'K%'                       T
STARTS_WITH(items[*].sku, 'MS')              T
NOT STARTS_WITH(items[*].sku, 'XX')          T
EXISTS(items[*].sku)                         T
EXISTS(items[*].nothing)                     F
tags[*] = 1                                  T
tags[*] = 'z'                                U
missing[*].x = 1                             U
items[*].sku = 'MS-2' AND tags[*] = 'a'      T
LENGTH(items[*].sku) = 4                     T
(items[*].sku = 'XX') IS FALSE               T
"_id" = 'mine'                               T
_id = 'mine'                                 U
"status" = 'paid'                            T
`status` = 'paid'                            T
"Select" IS NULL                             T
"""


@pytest.mark.parametrize("rule", RULES.strip().splitlines())
def test_rule(rule: str) -> None:
    text, wanted = rule.rstrip()[:-1].rstrip(), rule.rstrip()[-1]
    assert compile_filter(text).evaluate(MESSAGE) is {"T": True, "F": False, "U": None}[wanted]


def test_evaluate_matches_fields() -> None:
    condition = compile_filter("details.total > $least AND NOT gift AND items[0].sku LIKE 'K%'", {"least": 4})
    assert condition.evaluate(MESSAGE) is True
    assert condition.matches(MESSAGE) is True
    assert condition.matches({"details": {"total": 4}}) is False
    assert condition.fields == ("details.total", "gift", "items[0].sku")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x' OR 'a' = 'a", "status = $p"),
        (Decimal("12.50"), "total = $p"),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "at = $p"),
        (None, "note = $p"),
    ],
)
def test_parameters_are_values_never_text(value: Any, text: str) -> None:
    wanted = {"status = $p": False, "note = $p": None}.get(text, True)
    assert compile_filter(text, {"p": value}).evaluate(MESSAGE) is wanted


@pytest.mark.parametrize(
    ("text", "what", "column"),
    [
        ("total >", "go on with an expression", 8),
        ("total > > 3", "'>' cannot stand here; expected an expression", 9),
        ("totl(3) = 1", "unknown function totl", 1),
        ("LOWER(a, b) = 'x'", "takes 1 argument", 1),
        ("a = 'open", "string", 5),
        ("count(*) > 3", "aggregate", 1),
        ("a = 1;", "no ;", 6),
        ("a = INTERVAL '3 parsecs'", "unknown unit", 5),
        ("a = TIMESTAMP 'yesterday'", "no time", 5),
        ("CAST(a AS NUMBR) = 1", "unknown type NUMBR", 11),
        ("CAST(a AS LIST<INT>) = 1", "single values", 11),
        ("CAST(a AS DECIMAL(2, 3)) = 1", "no more after the point", 19),
        ("CAST('x' AS UUID) = a", "no UUID", 1),
        ("DATE_TRUNC('weeek', a) = b", "no part 'weeek'", 12),
        ("DATE_TRUNC('day', a, 'Mars/Base') = b", "no time zone", 22),
        ("EXTRACT(YEARS FROM a) = 1", "no part 'years'", 9),
        ("TO_TIMESTAMP(a, '%Q') = b", "unknown code '%Q'", 17),
        ("TO_TIMESTAMP(a, 'milisecond') = b", "neither a unit nor a format", 17),
        ("REGEXP_MATCHES(a, '(')", "no regular expression", 19),
        ("REGEXP_MATCHES(a, '" + "x" * 10_000 + "')", "at most 1000 characters", 19),
        ("REGEXP_MATCHES(a, 'x', 'q')", "unknown flag", 19),
        ("a = TIMESTAMP '2026-01-31T12:00:00.123456789Z'", "microseconds", 5),
        ("a = INTERVAL '1.5 months'", "months are whole", 5),
        ("a[*].b = c[*].d", "items of one array", 1),
        ("LOWER(a) FILTER (WHERE a = 1) = 'x'", "FILTER belongs to aggregates", 10),
        ("a LIKE 'x' ESCAPE 'xy'", "one character", 19),
        ("a = $missing", "no value", 5),
        ("", "no condition", 1),
    ],
)
def test_errors_name_their_place(text: str, what: str, column: int) -> None:
    with pytest.raises(GqlError) as caught:
        compile_filter(text)
    assert what in str(caught.value)
    assert caught.value.position == (1, column)
    assert "^" in caught.value.render() or not text


@pytest.mark.parametrize(
    "text",
    [
        "a = '" + "x" * 17_000 + "'",
        " AND ".join(["a = 1"] * 1_100),
        "(" * 65 + "a = 1" + ")" * 65,
        "(" * 100_000 + "a = 1" + ")" * 100_000,
        "NOT " * 100_000 + "a",
        "a IN (" + ", ".join(["1"] * 10_001) + ")",
        "-" * 5_000 + "1 = 1",
    ],
    ids=["characters", "tokens", "nesting", "huge nesting", "huge not", "items", "signs"],
)
def test_bounds_are_errors_of_their_own(text: str) -> None:
    with pytest.raises(GqlSyntaxError):
        compile_filter(text)


def test_what_is_within_the_bounds_works() -> None:
    assert compile_filter(" AND ".join(["a = 1"] * 400)).matches({"a": 1})
    assert compile_filter("a IN (" + ", ".join(str(i) for i in range(10_000)) + ")").matches({"a": 9_999})
    assert compile_filter("a = '" + "x" * (16 * 1024 - 6) + "'").matches({"a": "x" * (16 * 1024 - 6)})


NESTED = {
    "brackets": ("(", "a = 1", ")"),
    "not": ("NOT (", "a = 1", ")"),
    "functions": ("COALESCE(", "a", ", 2) = 1"),
    "case": ("CASE WHEN ", "a = 1", " THEN a = 1 END"),
    "arithmetic": ("(0 + ", "a", ")"),
    "everything": ("(b = 2 OR c = 3 OR NOT b = 1 + 2 * 3 AND ", "a = 1", ")"),
    "lists": ("a IN (2, ", "a", ")"),
    "between": ("(a BETWEEN 0 AND ", "a", ")"),
}


@pytest.mark.parametrize("form", NESTED)
def test_nesting_of_64_works_and_of_65_is_an_error(form: str) -> None:
    before, inner, after = NESTED[form]
    if form == "functions":
        text = "COALESCE(" * 64 + "a" + ", 2)" * 64 + " = 1"
        beyond = "COALESCE(" * 65 + "a" + ", 2)" * 65 + " = 1"
    else:
        text, beyond = before * 64 + inner + after * 64, before * 65 + inner + after * 65
    assert compile_filter(text).evaluate({"a": 1, "b": 2}) in (True, False, None)
    assert simplified(compile_filter(text).tree) is not None
    with pytest.raises(GqlSyntaxError, match="nested more than 64 deep"):
        compile_filter(beyond)


def test_what_is_far_beyond_the_bounds_is_refused_before_it_is_parsed() -> None:
    for text in (
        "(" * 500_000 + "a",
        "NOT " * 500_000 + "a",
        "a IN ('" + "x" * 2_000_000 + "')",
        "a = " + "9" * 50_000,
    ):
        with pytest.raises(GqlSyntaxError):
            compile_filter(text)


def test_no_condition_runs_code() -> None:
    for text in ("__import__('os') = 1", "a.__class__ = 'x'", '"__builtins__" IS NULL', "a = '); import os; ('"):
        try:
            condition = compile_filter(text)
        except GqlError:
            continue
        assert condition.evaluate({"a": 1}) in (True, None, False)
    assert compile_filter("a.__class__ IS NULL").matches({"a": 1})


def test_like_is_linear() -> None:
    text = "a" * 100_000
    for pattern in ("%a" * 40 + "%b", "%" + "_a" * 50 + "%b", "%" * 5_000 + "b"):
        assert not Like(pattern).matches(text)
