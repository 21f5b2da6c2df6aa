"""Random aggregates and functions over DECIMAL, DATE and TIMESTAMP columns agree with DuckDB."""

import math
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from settings import SOAK, rounds

from geode_client import SyncClient

duckdb = pytest.importorskip("duckdb")

QUERIES = rounds(400, soak=100_000)
SEED = random.SystemRandom().randrange(2**32) if SOAK else 7
COLUMNS = "id INT, g STRING, n INT, f FLOAT, m DECIMAL(12, 4), d DATE, ts TIMESTAMP, s STRING"
DUCK_COLUMNS = "id BIGINT, g VARCHAR, n BIGINT, f DOUBLE, m DECIMAL(12, 4), d DATE, ts TIMESTAMP, s VARCHAR"


def row(chance: random.Random, number: int) -> tuple[Any, ...]:
    def maybe(value: Any) -> Any:
        return None if chance.random() < 0.15 else value

    day = date(2023, 12, 1) + timedelta(days=chance.randrange(500))
    moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(milliseconds=chance.randrange(10**10))
    return (
        number,
        chance.choice("abc"),
        maybe(chance.randrange(-5, 6)),
        maybe(chance.randrange(-40, 40) / 8),
        maybe(Decimal(chance.randrange(-(10**7), 10**7)).scaleb(-4)),
        maybe(day),
        maybe(moment),
        maybe(chance.choice(("x", "xy", "", "Ab-cd", "12a", "é-1"))),
    )


ROWS = [row(random.Random(n), n) for n in range(60)]


class Both:
    def __init__(self) -> None:
        self.client = SyncClient(":memory:")
        self.client.execute(f"CREATE TOPIC t SCHEMA ({COLUMNS})")
        names = [column.split()[0] for column in COLUMNS.replace("(12, 4)", "").split(", ")]
        self.client.publish_batch("t", [dict(zip(names, one, strict=True)) for one in ROWS], batch_size=7)
        self.duck = duckdb.connect()
        self.duck.execute("SET TimeZone = 'UTC'")
        self.duck.execute(f"CREATE TABLE t ({DUCK_COLUMNS})")
        naive = [tuple(v.replace(tzinfo=None) if isinstance(v, datetime) else v for v in one) for one in ROWS]
        self.duck.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?)", naive)


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    made = Both()
    yield made
    made.client.close()
    made.duck.close()


class Maker:
    """Draws expressions; each method gives ours and DuckDB's text."""

    def __init__(self, chance: random.Random) -> None:
        self.pick = chance.choice
        self.chance = chance

    def number(self, depth: int = 2) -> str:
        def inner() -> str:
            return self.number(depth - 1)

        match self.chance.randrange(8) if depth else 0:
            case 0 | 1:
                return self.pick(("n", "m", "id", "m"))
            case 2:
                return self.pick(("0", "1", "2.5", "-3", "0.0001", "19.99"))
            case 3:
                return f"({inner()} {self.pick('+-*')} {self.pick(('n', 'm', '2', '0.5'))})"
            case 4:
                return f"{self.pick(('abs', 'floor', 'ceil'))}({inner()})"
            case 5:
                return (
                    f"{self.pick(('least', 'greatest', 'coalesce', 'ifnull'))}({inner()}, {self.pick(('n', 'm', '0'))})"
                )
            case 6:
                return f"extract({self.pick(('year', 'quarter', 'month', 'week', 'day', 'dow', 'isodow', 'doy'))} FROM {self.pick(('d', 'ts'))})"
            case _:
                return f"mod({self.pick(('n', 'id'))}, {self.pick(('3', '-2', 'nullif(n, 0)'))})"

    def text(self) -> str:
        return self.pick(
            (
                "s",
                "concat(s, '-', n)",
                "concat_ws('/', g, s, n)",
                "CAST(d AS STRING)",
                "CAST(n AS STRING)",
                "upper(s)",
                "regexp_replace(s, '[a-z]', '#', 'g')",
                "regexp_extract(s, '[0-9]+')",
                "substr(s, 2)",
            )
        )

    def time(self) -> str:
        part = self.pick(("year", "quarter", "month", "week", "day", "hour", "minute", "second"))
        span = self.pick(("1 month", "2 years", "3 days", "90 minutes", "13 months"))
        return self.pick(
            (
                "ts",
                f"date_trunc('{part}', ts)",
                f"ts {self.pick('+-')} INTERVAL '{span}'",
                f"ts + INTERVAL '1 hour' * {self.pick(('n', '2'))}",
            )
        )

    def condition(self) -> str:
        compare = self.pick(("=", "<>", "<", "<=", ">", ">="))
        return self.pick(
            (
                f"{self.number(1)} {compare} {self.number(1)}",
                f"m {compare} {self.pick(('0', '12.5', '-19.99', 'n', '0.0001'))}",
                f"d {compare} DATE '{self.pick(('2024-02-29', '2024-06-01'))}'",
                "regexp_matches(s, '[0-9]')",
                f"d BETWEEN DATE '2024-01-01' AND DATE '2024-{self.pick(('03', '12'))}-01'",
                f"extract(month FROM ts) IN (1, {self.pick('234')})",
            )
        )

    def aggregate(self) -> str:
        inner = self.number(1)
        where = f" FILTER (WHERE {self.condition()})" if self.chance.random() < 0.4 else ""
        call = self.pick(
            (
                "count(*)",
                f"count({inner})",
                f"count(DISTINCT {inner})",
                "sum(m)",
                "sum(n)",
                "sum(DISTINCT m)",
                "avg(n)",
                "avg(m)",
                "min(m)",
                "max(d)",
                "min(ts)",
                "stddev(n)",
                "variance(m)",
                "median(CAST(m AS DOUBLE))",
                "median(n)",
                "stddev(f)",
                "avg(f)",
                f"count_if({self.condition()})",
                "string_agg(s, ',' ORDER BY id)",
                "array_agg(n ORDER BY id DESC)",
            )
        )
        # DuckDB's count_if is NULL for no rows.
        return call if call.startswith("count_if") else call + where

    def query(self) -> str:
        where = f" WHERE {self.condition()}" if self.chance.random() < 0.5 else ""
        if self.chance.random() < 0.5:
            key = self.pick(("g", "d", "n", "date_trunc('month', ts)", "m > 0"))
            return f"SELECT {key} AS k, {self.aggregate()} AS x1, {self.aggregate()} AS x2 FROM t{where} GROUP BY {key}"
        values = ", ".join(f"{one} AS x{i}" for i, one in enumerate((self.number(), self.text(), self.time())))
        return f"SELECT id, {values} FROM t{where}"


def plain(value: Any) -> Any:
    """Numbers as floats, times in UTC, an empty match as NULL."""
    match value:
        case bool():
            return value
        case int() | float() | Decimal():
            return float(value)
        case datetime():
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        case date():
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        case list():
            return tuple(plain(one) for one in value)
        case "":
            return None
        case _:
            return value


def are_equal(found: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]]) -> bool:
    """Whether two results have the same rows; the first column tells them apart."""
    ours, theirs = (
        sorted([[plain(one) for one in row] for row in rows], key=lambda row: repr(row[0])) for rows in (found, wanted)
    )
    return len(ours) == len(theirs) and all(
        is_close(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)
    )


def is_close(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)


@pytest.mark.parametrize("bundle", range(4))
def test_types_agree_with_duckdb(both: Both, bundle: int) -> None:
    compared = 0
    for number in range(bundle, QUERIES, 4):
        text = Maker(random.Random(SEED * 1_000_003 + number)).query()
        try:
            wanted = both.duck.execute(
                text.replace("AS STRING", "AS VARCHAR").replace("count_if(", "count(*) FILTER (WHERE ")
            ).fetchall()
        except duckdb.OutOfRangeException:
            continue
        found = both.client.query(text).rows
        assert are_equal(found, wanted), (text, found, wanted)
        compared += 1
    assert compared > QUERIES // 8


def test_decimals_are_equal_to_the_last_digit(both: Both) -> None:
    for text in ("sum(m)", "min(m)", "max(m)", "sum(m * n)", "sum(m) FILTER (WHERE n > 0)", "sum(DISTINCT m)"):
        query = f"SELECT g, {text} FROM t GROUP BY g ORDER BY g"
        assert both.client.query(query).rows == both.duck.execute(query).fetchall(), text
