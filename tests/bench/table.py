"""Rows of the bench's table, what is measured, and how it is shown."""

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MESSAGE: dict[str, Any] = {
    "user_id": "user123",
    "event_type": "login",
    "timestamp": "2026-01-01T00:00:00+00:00",
    "amount": 412,
    "priority": "high",
    "metadata": {"source": "user-service", "version": "1.0"},
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Where stores are made, and whether other projects are measured as well."""

    directory: Path
    peers: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what was measured, the figure, and against what; `reached` None: there is no goal."""

    what: str
    figure: str
    against: str = ""
    goal: str = ""
    reached: bool | None = None


def messages(count: int) -> list[dict[str, Any]]:
    """Messages of 167 bytes with a few different values."""
    return [
        {**MESSAGE, "user_id": f"user{n % 900 + 100}", "amount": n % 900 + 100, "metadata": dict(MESSAGE["metadata"])}
        for n in range(count)
    ]


async def best_rate(count: int, work: Callable[[], Awaitable[Any]], repeats: int = 5) -> float:
    """Items a second: the best of some repeats, because other work on the machine only ever slows one down."""
    best = 0.0
    for _ in range(repeats):
        started = time.perf_counter()
        await work()
        best = max(best, count / (time.perf_counter() - started))
    return best


def rate(value: float, unit: str = "msg/s") -> str:
    return f"{value:,.0f} {unit}"


def shown(name: str, rows: list[Row]) -> str:
    """The table as text."""
    return "\n".join([f"── {name} ──", *_lines(rows), ""])


def _lines(rows: list[Row]) -> Iterator[str]:
    marks = {True: "reached", False: "NOT REACHED", None: ""}
    cells = [(row.what, row.figure, row.against, row.goal, marks[row.reached]) for row in rows]
    widths = [max((len(line[i]) for line in cells), default=0) for i in range(5)]
    for line in cells:
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
