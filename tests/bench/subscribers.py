"""Many subscribers with conditions on one topic: what a published message costs, what a subscriber costs.

Both sizes meet the same messages: each is wanted by one subscriber (values) or by about ten (ranges), whatever their number.
"""

import asyncio
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from bench.table import MESSAGE, Row, Settings

from geode_client import Client, compile_filter
from geode_client.conditions.index import SubscriptionIndex
from geode_client.conditions.requirements import OneOf, Path, Requirement, Within
from geode_client.message import Chunk

FEW = 1_000
MANY = 100_000
BATCH = 1_000
BATCHES = 30
RANGE_WIDTH = 10
MEMORY_SUBSCRIBERS = 10_000
MEMORY_GOAL = 50 * 1024 * 1024


async def rows(settings: Settings, found: list[Row]) -> None:
    """Measure and append the rows of this group."""
    await _memory(settings, found)
    _index(found)
    for kind in KINDS:
        await _end_to_end(settings, found, kind)


@dataclass(frozen=True, slots=True)
class Kind:
    """Conditions of one kind: the n-th as text and as what it requires, and how many of them a message meets."""

    name: str
    text_of: Callable[[int], str]
    requirement_of: Callable[[int], Requirement]
    met_by: Callable[[dict[str, Any]], int]
    ratio_goal: float


KINDS = (
    Kind(
        "user_id = 'user…'",
        lambda n: f"user_id = 'user{n}'",
        lambda n: OneOf(Path("user_id"), texts=frozenset((f"user{n}",))),
        lambda _: 1,
        2.0,
    ),
    Kind(
        "amount in a range",
        lambda n: f"amount >= {n} AND amount < {n + RANGE_WIDTH}",
        lambda n: Within(Path("amount"), low=n, high=n + RANGE_WIDTH, high_included=False),
        lambda body: min(body["amount"] + 1, RANGE_WIDTH),
        4.0,
    ),
)


def _bodies(batch: int) -> list[dict[str, Any]]:
    """Messages for the first thousand subscribers, who are there in both sizes."""
    return [
        {**MESSAGE, "user_id": f"user{(n * 7 + batch) % FEW}", "amount": (n * 7 + batch) % FEW} for n in range(BATCH)
    ]


# ── the index alone ──
def _index(found: list[Row]) -> None:
    chunks = [_chunk(batch) for batch in range(BATCHES)]
    for kind in KINDS:
        assert compile_filter(kind.text_of(7)).requirement == kind.requirement_of(7)
        index: SubscriptionIndex[int] = SubscriptionIndex()
        cost: dict[int, float] = {}
        for number in range(MANY):
            if number == FEW:
                cost[FEW] = _matching(index, chunks)
            index.add(number, kind.requirement_of(number))
        cost[MANY] = _matching(index, chunks)
        found.append(_compared(f"index, {kind.name}", kind, cost))


def _compared(what: str, kind: Kind, cost: dict[int, float]) -> Row:
    times = cost[MANY] / cost[FEW]
    shown = f"{cost[FEW] * 1e6:.2f} µs, {cost[MANY] * 1e6:.2f} µs a message"
    goal = f"≤ {kind.ratio_goal:.0f} ×"
    return Row(f"{what}: 1,000 and 100,000", shown, f"{times:.1f} ×", goal, times <= kind.ratio_goal)


def _chunk(batch: int) -> Chunk:
    lines = b"".join(msgspec.json.encode(body) + b"\n" for body in _bodies(batch))
    return Chunk(
        topic="t", topic_id=1, partition=0, base_offset=0, count=BATCH, lines=lines, batch_id=1, timestamp_us=0
    )


def _matching(index: SubscriptionIndex[int], chunks: list[Chunk]) -> float:
    """Seconds a message, the best of some rounds; what was decoded is forgotten in between."""
    best = float("inf")
    for _ in range(3):
        for chunk in chunks:
            chunk.projections.clear()
        started = time.perf_counter()
        for chunk in chunks:
            assert sum(1 for _ in index.match(chunk).subscribers()) >= FEW
        best = min(best, (time.perf_counter() - started) / (len(chunks) * BATCH))
    return best


# ── publishing to them ──
async def _end_to_end(settings: Settings, found: list[Row], kind: Kind) -> None:
    """From publish_batch to the last delivery; subscribers that are not met wait as programs do."""
    async with Client(settings.directory / "subscribers") as client:
        topic = f"subscribers/{KINDS.index(kind)}"
        await client.publish(topic, {})
        subscriptions: list[Any] = []
        waiting: list[asyncio.Task[Any]] = []
        delivered = _Count()
        cost: dict[int, float] = {}
        for number in range(MANY):
            if number == FEW:
                cost[FEW] = await _publishing(client, topic, kind, delivered)
            subscription = client.subscribe(topic, filter=kind.text_of(number))
            await subscription.open()
            subscriptions.append(subscription)
            waiting.append(asyncio.create_task(_read(subscription, delivered)))
        await asyncio.sleep(0)
        cost[MANY] = await _publishing(client, topic, kind, delivered)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for subscription in subscriptions:
            await subscription.close()
    found.append(_compared(f"published and delivered, {kind.name}", kind, cost))


class _Count:
    def __init__(self) -> None:
        self.messages = 0


async def _read(subscription: Any, delivered: _Count) -> None:
    async for _ in subscription:
        delivered.messages += 1


async def _publishing(client: Client, topic: str, kind: Kind, delivered: _Count) -> float:
    best = float("inf")
    for round_number in range(5):
        batches = [_bodies(round_number * 4 + batch) for batch in range(4)]
        wanted = delivered.messages + sum(kind.met_by(body) for batch in batches for body in batch)
        started = time.perf_counter()
        for batch in batches:
            await client.publish_batch(topic, batch, batch_size=BATCH)
        while delivered.messages < wanted:
            await asyncio.sleep(0)
        best = min(best, (time.perf_counter() - started) / (4 * BATCH))
    return best


async def _memory(settings: Settings, found: list[Row]) -> None:
    async with Client(settings.directory / "subscribers") as client:
        await client.publish("memory", {})
        subscriptions = [client.subscribe("memory", filter="user_id = 'nobody'")]
        await subscriptions[0].open()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(MEMORY_SUBSCRIBERS):
            subscriptions.append(client.subscribe("memory", filter=f"user_id = 'user{number}'"))
            await subscriptions[-1].open()
        used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        for subscription in subscriptions:
            await subscription.close()
    shown = f"{used / 2**20:.0f} MiB, {used / MEMORY_SUBSCRIBERS:,.0f} bytes each"
    found.append(Row("10,000 subscribers with a condition each", shown, "", "≤ 50 MiB", used <= MEMORY_GOAL))
