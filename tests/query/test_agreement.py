"""Queries agree with SQLite where both mean the same, and a plan after all rules with the plan before them."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from conditions.strategies import conditions, messages
from hypothesis import given
from hypothesis import strategies as st
from query.strategies import TABLES, selects
from query.test_rules import select_of
from settings import long_rounds

from geode_client import GqlError, SyncClient
from geode_client.query import rules
from geode_client.query.running import Runner
from geode_client.query.selecting import SelectPlanner

ROWS: dict[str, list[tuple[Any, ...]]] = {
    "t": [(n % 5 if n % 4 else None, n % 3 - 1, "xyz"[n % 3] if n % 5 else None) for n in range(23)],
    "u": [(n, n * 7 % 4 if n % 3 else None, ("x", "", None)[n % 3]) for n in range(-1, 7)],
    "e": [],
}


class Both:
    """The same rows in a store of four partitions, and in SQLite."""

    def __init__(self) -> None:
        self.client = SyncClient(":memory:")
        self.sqlite = sqlite3.connect(":memory:")
        for name in TABLES:
            self.client.execute(f"CREATE TOPIC {name} WITH OPTIONS (partitions: 4)")
            self.sqlite.execute(f"CREATE TABLE {name} (a INTEGER, b INTEGER, s TEXT)")
            self.sqlite.executemany(f"INSERT INTO {name} VALUES (?, ?, ?)", ROWS[name])
            for number, row in enumerate(ROWS[name]):
                # A NULL is left out or written down.
                body = {key: value for key, value in zip("abs", row, strict=True) if value is not None or number % 2}
                self.client.publish(name, body, partition_key=str(number))

    def close(self) -> None:
        self.client.close()
        self.sqlite.close()


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    made = Both()
    yield made
    made.close()


def plain(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Booleans as SQLite has them, floats without the last digits."""
    return [
        tuple(
            round(value, 9) if isinstance(value, float) else int(value) if isinstance(value, bool) else value
            for value in row
        )
        for row in rows
    ]


@long_rounds(300)
@given(made=selects())
def test_queries_agree_with_sqlite(both: Both, made: tuple[str, bool]) -> None:
    text, is_ordered = made
    found, wanted = plain(both.client.query(text).rows), plain(both.sqlite.execute(text).fetchall())
    if is_ordered:
        assert found == wanted, text
    else:
        assert Counter(found) == Counter(wanted), text


async def run_both_ways(client: Any, text: str) -> None:
    broker = client._session.broker
    try:
        query = await SelectPlanner(broker, {}).plain(select_of(text))
    except GqlError:
        return
    rewritten = rules.optimised_query(query, rules.Context())
    results = []
    for one in (query, rewritten):
        columns, batch = await Runner(broker, {}).run(one)
        results.append((columns, batch.count, [list(column) for column in batch.columns]))
    assert results[0] == results[1], text


@st.composite
def wild_selects(draw: st.DrawFn) -> str:
    """SELECT over messages of any kind, with conditions and values of any kind."""

    def any_condition() -> str:
        return draw(conditions())

    source = draw(
        st.sampled_from(
            (
                "m AS x",
                "(SELECT * FROM m) AS x",
                "(SELECT a, b, c, d, _offset FROM m WHERE {0}) AS x",
                "(SELECT a, {0} AS b, c FROM m ORDER BY a LIMIT 4) AS x",
                "(SELECT a, b FROM m UNION ALL SELECT {0}, a FROM m) AS x",
                "(SELECT a, max(b) AS b, count(*) AS c FROM m GROUP BY a) AS x",
                "m AS x JOIN m AS y ON x.a = y.b",
                "m AS x LEFT JOIN m AS y ON x.a = y.a AND y.b IS NOT NULL",
            )
        )
    ).format(any_condition())
    one = "x.a" if "JOIN" in source else "a"
    where = f" WHERE {any_condition()}" if "JOIN" not in source and draw(st.booleans()) else ""
    what = draw(st.sampled_from(("*", f"{one} AS v, x.b AS w", f"DISTINCT {one} AS v", f"x.b AS w, {one} AS v, x.*")))
    order = draw(st.sampled_from(("", f" ORDER BY {one}", f" ORDER BY {one} DESC LIMIT 3", " LIMIT 2")))
    return f"SELECT {what} FROM {source}{where}{order}"


@long_rounds(200)
@given(text=wild_selects(), bodies=st.lists(messages, max_size=8))
def test_rules_change_no_result(text: str, bodies: list[object]) -> None:
    with SyncClient(":memory:") as client:
        client.execute("CREATE TOPIC m")
        client.publish_batch("m", bodies, batch_size=3)
        client.run(lambda within: run_both_ways(within, text))
