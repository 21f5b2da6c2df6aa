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
GREATEST(3, NULL) IS NULL                    T
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
