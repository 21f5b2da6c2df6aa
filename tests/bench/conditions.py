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
    parse(SPECIFICATION[0])
    taken = [_milliseconds(partial(parse, text)) for text in SPECIFICATION for _ in range(5)]
    found.append(Row("parse a statement of the specification", f"{statistics.median(taken):.2f} ms (median)"))
    slowest = max(_milliseconds(partial(_refused, wrong)) for text in SPECIFICATION for wrong in spoiled(text))
    reached = slowest <= WRONG_MILLISECONDS_GOAL
    found.append(Row("the slowest spoiled statement", f"{slowest:.1f} ms", "", "≤ 50 ms", reached))


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
