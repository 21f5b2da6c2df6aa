"""Random SELECTs give what DuckDB gives: 2,000 in every run, 200,000 in a soak."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from query.random_selects import select
from query.test_agreement import ROWS
from settings import rounds

from geode_client import GeodeError, SyncClient

LISTS: tuple[list[int | None] | None, ...] = ([1, 2], [], None, [3, None, 1], [0])
ALL_ROWS = {**ROWS, "lists": [(n, n % 2, "xy"[n % 2], LISTS[n % 5]) for n in range(9)]}
STATEMENTS = 2_000
SOAK_STATEMENTS = 200_000
PIECES = 8


class Both:
    """The same rows in a store of four partitions, and in DuckDB."""

    def __init__(self) -> None:
        self.client = SyncClient(":memory:")
        for name, rows in ALL_ROWS.items():
            self._publish(name, rows, "absl"[: len(rows[0]) if rows else 3])
        self.duck = opened_duckdb()
        self.broken = 0

    def answer(self, text: str) -> list[tuple[Any, ...]] | None:
        """What DuckDB gives; None where it fails inside, which it does now and then, and is of no use afterwards."""
        try:
            found: list[tuple[Any, ...]] = self.duck.execute(text).fetchall()
            return found
        except duckdb.Error:
            self.broken += 1
            self.duck = opened_duckdb()
            return None

    def _publish(self, name: str, rows: list[tuple[Any, ...]], names: str) -> None:
        types = "a INT, b INT, s STRING" + (", l LIST<ANY>" if "l" in names else "")
        self.client.execute(f"CREATE TOPIC {name} SCHEMA ({types}) WITH OPTIONS (partitions: 4)")
        for number, row in enumerate(rows):
            # A NULL is left out or written down.
            body = {key: value for key, value in zip(names, row, strict=True) if value is not None or number % 2}
            self.client.publish(name, body, partition_key=str(number))

    def close(self) -> None:
        self.client.close()
        self.duck.close()


def opened_duckdb() -> Any:
    """The rows in DuckDB."""
    duck = duckdb.connect(":memory:", config={"threads": 1})
    for name, rows in ALL_ROWS.items():
        lists = ", l BIGINT[]" if name == "lists" else ""
        duck.execute(f"CREATE TABLE {name} (a BIGINT, b BIGINT, s VARCHAR{lists})")
        for row in rows:
            duck.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", list(row))
    return duck


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    made = Both()
    yield made
    made.close()


def plain(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Numbers as they compare, floats without the last digits."""
    return [
        tuple(round(float(value), 9) if isinstance(value, float | Decimal) else value for value in row) for row in rows
    ]


def difference(both: Both, seed: int) -> str | None:
    """What differs for the statement of a seed; None where nothing does."""
    text, is_ordered = select(seed)
    answer = both.answer(text)
    if answer is None:
        return None
    wanted = plain(answer)
    try:
        found = plain(both.client.query(text).rows)
    except GeodeError as error:
        return f"seed {seed}: {text}\n{error!r}"
    same = found == wanted if is_ordered else Counter(found) == Counter(wanted)
    return None if same else f"seed {seed}: {text}\nfound {found}\nwanted {wanted}"


@pytest.mark.parametrize("piece", range(PIECES))
@pytest.mark.timeout(5400)
def test_random_selects_agree_with_duckdb(both: Both, piece: int) -> None:
    for seed in range(piece, rounds(STATEMENTS, SOAK_STATEMENTS), PIECES):
        assert difference(both, seed) is None
    assert both.broken <= rounds(STATEMENTS, SOAK_STATEMENTS) // 200
