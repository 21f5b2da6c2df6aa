"""Conditions and the parser: the cost of a message, and of a statement that is wrong."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from bench.table import Row, Settings, messages
from language.statements import SPECIFICATION
from language.test_parsing import spoiled

from geode_client import GqlError, compile_filter
from geode_client.conditions.like import Like
from geode_client.grammar import parse
from geode_client.message import Chunk

CHUNKS = 100
WRONG_MILLISECONDS_GOAL = 50


async def rows(settings: Settings, found: list[Row]) -> None:
    """Measure and append the rows of this group."""
    lines = b"".join(msgspec.json.encode(message) + b"\n" for message in messages(1000))
    for text in ("user_id = 'user123'", "priority = 'high' AND amount > 400 AND event_type IN ('login', 'signup')"):
        compiled, by_hand = _against_lambda(text, lines)
        found.append(Row(f"condition {text}", f"{compiled:.0f} ns a message, decoding included"))
        found.append(
            Row("  decoded whole, a lambda by hand", f"{by_hand:.0f} ns", f"{by_hand / compiled:.1f} × quicker")
        )
    found += _closures()
    like, reached = _slowest_like()
    found.append(Row("LIKE, 3,000 wildcards against 64 KiB, the slowest", f"{like:.0f} ms", "", "≤ 50 ms", reached))
    parse(SPECIFICATION[0])
    taken = [_milliseconds(partial(parse, text)) for text in SPECIFICATION for _ in range(5)]
    found.append(Row("parse a statement of the specification", f"{statistics.median(taken):.2f} ms (median)"))
    slowest = max(_milliseconds(partial(_refused, wrong)) for text in SPECIFICATION for wrong in spoiled(text))
    reached = slowest <= WRONG_MILLISECONDS_GOAL
    found.append(Row("the slowest spoiled statement", f"{slowest:.1f} ms", "", "≤ 50 ms", reached))


class _Read(msgspec.Struct):
    """What a projection decodes, by the names that people write."""

    user_id: Any = None
    priority: Any = None
    amount: Any = None
    event_type: Any = None


def _closures() -> list[Row]:
    """Compiled against written by hand, with the same checks for NULL and kinds, on rows that are decoded already."""
    numbers: frozenset[Any] = frozenset((int, float))
    events = frozenset(("login", "signup"))
    by_hand: dict[str, Callable[[Any], bool]] = {
        "user_id = 'user123'": lambda row: row.user_id == "user123",
        "priority = 'high' AND amount > 400": lambda row: (
            row.priority == "high" and row.amount.__class__ in numbers and row.amount > 400
        ),
        "priority = 'high' AND amount > 400 AND event_type IN ('login', 'signup')": lambda row: (
            row.priority == "high"
            and row.amount.__class__ in numbers
            and row.amount > 400
            and row.event_type.__class__ is str
            and row.event_type in events
        ),
        "amount BETWEEN 200 AND 300 OR NOT priority = 'high'": lambda row: (
            (row.amount.__class__ in numbers and row.amount >= 200 and row.amount <= 300)
            or (row.priority.__class__ is str and row.priority != "high")
        ),
    }
    lines = b"".join(msgspec.json.encode(message) + b"\n" for message in messages(1000))
    rows = msgspec.json.Decoder(_Read).decode_lines(lines)
    made: list[Row] = []
    for text, match in by_hand.items():
        condition = compile_filter(text)
        chunk = _chunk(lines)
        wanted = condition.select(chunk)
        assert wanted == [i for i, row in enumerate(rows) if match(row)]
        condition.truths(chunk)
        compiled = _quickest(partial(condition.select, chunk))
        hand = _quickest(partial(_selected_by_hand, rows, match))
        times = compiled / hand
        shown = f"{compiled:.0f} ns a message decoded before"
        made.append(Row(f"  {text}", shown, f"{times:.2f} × a lambda with the same checks", "≤ 2 ×", times <= 2))
    return made


def _selected_by_hand(rows: list[_Read], match: Callable[[Any], bool]) -> list[int]:
    return [i for i, row in enumerate(rows) if match(row)]


def _quickest(work: Callable[[], Any]) -> float:
    """Nanoseconds a message."""
    return min(_milliseconds(work) for _ in range(50)) * 1e6 / 1000


def _slowest_like() -> tuple[float, bool]:
    size = 64 * 1024
    patterns = (
        ("%a" * 1500 + "%b", "a" * size),
        ("%" + "a_" * 1499 + "b%", "a" * size),
        ("%_a" * 999 + "%_b%", "a" * size),
        ("%" + "ab_" * 1000 + "c%", "ab" * (size // 2)),
        ("%" + "_" * 2998 + "x", "a" * size),
    )
    slowest = max(min(_milliseconds(partial(Like(p).matches, t)) for _ in range(3)) for p, t in patterns)
    return slowest, slowest <= 50


def _refused(text: str) -> None:
    try:
        parse(text)
    except GqlError as error:
        error.render()


def _milliseconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _is_user(message: Any) -> bool:
    return bool(message["user_id"] == "user123")


def _is_urgent(message: Any) -> bool:
    is_login = message["event_type"] in ("login", "signup")
    return bool(message["priority"] == "high" and message["amount"] > 400 and is_login)


def _chunk(lines: bytes) -> Chunk:
    return Chunk(topic="t", topic_id=1, partition=0, base_offset=0, count=1000, lines=lines, batch_id=1, timestamp_us=0)


def _against_lambda(text: str, lines: bytes) -> tuple[float, float]:
    condition = compile_filter(text)
    chunks = [_chunk(lines) for _ in range(CHUNKS)]
    selected = _milliseconds(lambda: [condition.select(chunk) for chunk in chunks])
    rows_of = msgspec.json.Decoder().decode_lines
    match = _is_user if text.startswith("user_id") else _is_urgent
    by_hand = _milliseconds(lambda: [[i for i, m in enumerate(rows_of(lines)) if match(m)] for _ in range(CHUNKS)])
    return selected * 1e6 / (CHUNKS * 1000), by_hand * 1e6 / (CHUNKS * 1000)
