"""SELECT over stored messages, against DuckDB reading the same messages from a file of JSON lines on one thread."""

import importlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.table import Row, Settings, best_rate, rate

from geode_client import Client

MESSAGES = 1_000_000
STATUSES = ("new", "paid", "shipped", "done", "failed")
GROUPED = "SELECT status, count(*), avg(amount) FROM {source} GROUP BY status"
OTHERS = (
    (
        "filtered: WHERE status = 'paid' AND amount > 1000, count(*)",
        "SELECT count(*) FROM {source} WHERE status = 'paid' AND amount > 1000",
    ),
    (
        "the 10 largest: ORDER BY amount DESC LIMIT 10",
        "SELECT order_id, amount FROM {source} ORDER BY amount DESC LIMIT 10",
    ),
    ("900 groups: GROUP BY customer", "SELECT customer, sum(amount), max(amount) FROM {source} GROUP BY customer"),
)
REPEATS = 5
GOAL = 2.0


def orders(count: int) -> Any:
    """Orders of about 115 bytes, with 5 statuses and 900 customers."""
    return (
        {
            "order_id": f"o-{n}",
            "status": STATUSES[n * 7 % 5],
            "amount": (n * 37 % 10007) / 4,
            "customer": f"c{n % 900}",
            "note": {"source": "web", "version": "1.0"},
        }
        for n in range(count)
    )


async def rows(settings: Settings, found: list[Row]) -> None:
    """Measure and append the rows of this group."""
    path = settings.directory / "orders.jsonl"
    async with Client(settings.directory / "queries") as client:
        await client.publish_batch("orders", orders(MESSAGES))
        await client.execute(f"COPY orders TO '{path}'")
        duck = _duck(path) if settings.peers else None
        for what, text, goal in (
            ("GROUP BY status, count(*), avg(amount)", GROUPED, GOAL),
            *((*other, None) for other in OTHERS),
        ):
            ours = await best_rate(MESSAGES, partial(client.query, text.format(source="orders")), repeats=REPEATS)
            found.append(_row(what, ours, None if duck is None else duck(text), goal))
        newest = "SELECT order_id FROM orders ORDER BY _offset DESC LIMIT 10"
        seconds = 1 / await best_rate(1, lambda: client.query(newest), repeats=REPEATS)
        found.append(Row("the 10 newest of them: ORDER BY _offset DESC LIMIT 10", f"{seconds * 1000:.1f} ms"))


def _row(what: str, ours: float, theirs: float | None, goal: float | None) -> Row:
    if theirs is None:
        return Row(what, rate(ours))
    times = theirs / ours
    wanted = "" if goal is None else f"≤ {goal:g} × its time"
    return Row(
        what,
        rate(ours),
        f"DuckDB {rate(theirs)}, {times:.2f} × its time",
        wanted,
        None if goal is None else times <= goal,
    )


def _duck(path: Path) -> Callable[[str], float]:
    duckdb: Any = importlib.import_module("duckdb")
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    source = f"read_json('{path}', format = 'newline_delimited')"

    def measured(text: str) -> float:
        best = 0.0
        for _ in range(REPEATS):
            started = time.perf_counter()
            connection.execute(text.format(source=source)).fetchall()
            best = max(best, MESSAGES / (time.perf_counter() - started))
        return best

    return measured
