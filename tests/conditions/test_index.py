"""The subscription index finds whom asking everybody finds, whoever comes and goes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settings import long_rounds

from geode_client import compile_filter
from geode_client.conditions.index import SubscriptionIndex
from geode_client.conditions.requirements import Path, Within
from geode_client.message import Attributes, Chunk

NUMBERS = (-3, -1, 0, 0.5, 1, 1.5, 2, 3, 7, 1e300, -1e300, 10**400, 2**60, 2**60 + 1)
TEXTS = ("", "a", "ab", "abc", "b", "ba", "é", "\U0001f600", "x" * 40, "x" * 40 + "y")
PATHS = ("a", "b", "a.c")


def quoted(value: Any) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else f"({value!r})"


constants = st.sampled_from((*(n for n in NUMBERS if abs(n) <= 1e300), *TEXTS)).map(quoted)
paths = st.sampled_from(PATHS)
simple = st.one_of(
    st.builds("{} {} {}".format, paths, st.sampled_from(("=", "<>", "<", "<=", ">", ">=")), constants),
    st.builds("{} BETWEEN {} AND {}".format, paths, constants, constants),
    st.builds("{} IN ({}, {}, TRUE)".format, paths, constants, constants),
    st.builds("NOT ({} < {} OR {} >= {})".format, st.just("a"), constants, st.just("a"), constants),
    st.builds("{} LIKE {}".format, paths, st.sampled_from(("'a%'", "'ab'", "'%b%'", "'_b%'"))),
    st.sampled_from(("b", "NOT b", "TRUE", "a = NULL", "a IS NULL", "_key = 'k1'")),
)
texts = st.one_of(
    simple, st.builds("({}) AND ({})".format, simple, simple), st.builds("({}) OR ({})".format, simple, simple)
)
values = st.sampled_from((*NUMBERS, *TEXTS, True, False, None, [1], {"c": 1}, {"c": "ab"}))
bodies = st.fixed_dictionaries({}, optional={"a": values, "b": values})


def chunk_of(messages: list[Any]) -> Chunk:
    return Chunk(
        topic="t",
        topic_id=1,
        partition=0,
        base_offset=0,
        count=len(messages),
        lines=b"".join(json.dumps(message).encode() + b"\n" for message in messages),
        batch_id=1,
        timestamp_us=0,
        attributes=Attributes(keys=[f"k{place % 3}" for place in range(len(messages))]),
    )


@long_rounds(150)
@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 7), texts), min_size=1, max_size=14),
    messages=st.lists(bodies, min_size=1, max_size=8),
)
def test_those_who_come_and_go_are_found_while_they_are_there(
    steps: list[tuple[bool, int, str]], messages: list[Any]
) -> None:
    index: SubscriptionIndex[int] = SubscriptionIndex()
    there: dict[int, Any] = {}
    for comes, who, text in steps:
        if comes:
            there[who] = compile_filter(text)
            index.add(who, there[who].requirement)
        else:
            there.pop(who, None)
            index.remove(who)
        assert set(index.subscribers()) == set(there)
        assert len(index) == len(there)
    matches = index.match(chunk_of(messages))
    met = set(index.unfiled) | set(matches.subscribers())
    for who, condition in there.items():
        wanted = list(condition.select(chunk_of(messages)))
        found = matches.places(who)
        if wanted:
            assert who in met
        if found is None:
            assert who in index.unfiled
        elif found[1]:
            assert list(found[0]) == wanted
        else:
            assert set(wanted) <= set(found[0])
    for who in there:
        index.remove(who)
    assert not index.match(chunk_of(messages)).hits
    assert not index._columns


@pytest.mark.parametrize(
    ("text", "is_filed", "is_certain"),
    [
        ("a = 1", True, True),
        ("a IN (1, 'x', TRUE)", True, True),
        ("a = 1 OR b = 2", True, True),
        ("a > 1 AND a <= 5", True, True),
        ("a BETWEEN 1 AND 5", True, True),
        ("NOT (a <> 'x')", True, True),
        ("a = 1 AND b = 2", True, False),
        ("a = 1 AND LENGTH(b) > 2", True, False),
        ("(a = 1 AND b = 2) OR c = 3", True, False),
        ("a LIKE 'ab%'", True, False),
        ("a = 1 OR LENGTH(b) > 2", False, False),
        ("a IS NULL", False, False),
        ("a = b", False, False),
        ("at > TIMESTAMP '2026-01-01T00:00:00Z'", False, False),
    ],
)
def test_what_is_filed(text: str, is_filed: bool, is_certain: bool) -> None:
    index: SubscriptionIndex[str] = SubscriptionIndex()
    index.add("s", compile_filter(text).requirement)
    assert ("s" in index.filed) == is_filed
    if is_filed:
        found = index.match(chunk_of([{"a": 1}])).places("s")
        assert found is not None
        assert found[1] == is_certain


def test_the_most_selective_part_of_an_and_is_taken() -> None:
    index: SubscriptionIndex[str] = SubscriptionIndex()
    index.add("s", compile_filter("express AND total > 5 AND id = 'x' AND place BETWEEN 1 AND 3").requirement)
    assert [path.name for path in index._columns] == ["id"]
    index.add("s", compile_filter("express AND total > 5 AND place BETWEEN 1 AND 3").requirement)
    assert [path.name for path in index._columns] == ["place"]
    index.add("s", compile_filter("express AND total > 5").requirement)
    assert [path.name for path in index._columns] == ["total"]


def test_a_message_looks_at_few_ranges() -> None:
    index: SubscriptionIndex[int] = SubscriptionIndex()
    for number in range(20_000):
        index.add(number, Within(Path("a"), low=number, high=number + 3, high_included=False))
    (column,) = index._columns.values()
    grids = column.numbers.grids
    assert len(grids) == 1
    assert max(len(cell) for grid in grids.values() for cell in grid.values()) <= 8
    assert sorted(index.match(chunk_of([{"a": 500}])).subscribers()) == [498, 499, 500]


@pytest.mark.parametrize("pool", [(-1, 0, 0.5, 1, 2, 2.5, 3), ("a", "ab", "abc", "b")], ids=["numbers", "texts"])
def test_bounds_belong_to_a_range_or_not_as_it_says(pool: tuple[Any, ...]) -> None:
    index: SubscriptionIndex[str] = SubscriptionIndex()
    conditions: dict[str, None] = {}
    for low in pool:
        for operator in ("<", "<=", ">", ">=", "=", "<>"):
            conditions[f"a {operator} {quoted(low)}"] = None
        for high in pool:
            for text in ("a BETWEEN {} AND {}", "a > {} AND a < {}", "a >= {} AND a < {}", "a > {} AND a <= {}"):
                conditions[text.format(quoted(low), quoted(high))] = None
    for text in conditions:
        index.add(text, compile_filter(text).requirement)
    chunk = chunk_of([{"a": value} for value in pool])
    matches = index.match(chunk)
    for text in conditions:
        found = matches.places(text)
        assert found is not None
        assert list(found[0]) == compile_filter(text).select(chunk), text
        assert found[1] or not found[0], text
