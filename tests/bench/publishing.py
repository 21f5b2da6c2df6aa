"""Publishing: batches, one by one, a thousand tasks, small batches against single messages."""

import asyncio
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench import peers
from bench.table import Row, Settings, best_rate, messages, rate
from processes.running import worker

from geode_client import Client

BATCH_GOAL = 800_000
REDIS_RATIO_GOAL = 15
SINGLE_RATIO_GOAL = 0.7
TASKS_GOAL = 100_000
SMALL_BATCH_RATIO_GOAL = 100


async def rows(settings: Settings, found: list[Row]) -> None:
    """Measure and append the rows of this group."""
    some = messages(200_000)
    async with Client(settings.directory / "publish") as client:
        batches = await best_rate(len(some), lambda: client.publish_batch("batch", some, batch_size=1000))
        found.append(Row("publish_batch(1000), fsync", rate(batches), "", "≥ 800,000", batches >= BATCH_GOAL))
        if settings.peers:
            await _against_peers(settings.directory, batches, found)
        single = await _one_by_one(client, settings.directory, found)
        tasks = await best_rate(20_000, lambda: _thousand_tasks(client, some))
        found.append(Row("1,000 tasks at once, fsync", rate(tasks), "", "≥ 100,000", tasks >= TASKS_GOAL))
        hundred = await best_rate(100_000, lambda: client.publish_batch("small", some[:100_000], batch_size=100))
        times = hundred / single
        against = f"{times:.0f} × one by one"
        found.append(
            Row("publish_batch(100), fsync", rate(hundred), against, "≥ 100 ×", times >= SMALL_BATCH_RATIO_GOAL)
        )
        found.append(await _compression(client))
    found.append(await _four_processes(settings.directory / "four"))


async def _against_peers(directory: Path, batches: float, found: list[Row]) -> None:
    redis = await peers.measured("Redis", peers.redis_pipelined, directory, 20_000)
    if redis is not None:
        times = batches / redis
        row = Row(
            "  Redis XADD pipelined, fsync always", rate(redis), f"{times:.1f} ×", "≥ 15 ×", times >= REDIS_RATIO_GOAL
        )
        found.append(row)
    for name, sync_always in (("every 2 minutes", False), ("always", True)):
        stream = await peers.measured("JetStream", peers.jetstream, directory, 10_000, sync_always=sync_always)
        if stream is not None:
            found.append(Row(f"  JetStream publish_async, fsync {name}", rate(stream), f"{batches / stream:.1f} ×"))
    queue = await peers.measured("litequeue", peers.litequeue, directory, 10_000)
    if queue is not None:
        found.append(Row("  litequeue put", rate(queue), f"{batches / queue:.1f} ×"))


async def _one_by_one(client: Client, directory: Path, found: list[Row]) -> float:
    """In turns with the bare operation, so that both see the same disk."""
    message = messages(1)[0]
    text = bytes(167)
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(8):
        bare.append(await asyncio.to_thread(_bare_loop, directory / "bare", text, 300))
        started = time.perf_counter()
        for _ in range(300):
            await client.publish("single", message)
        ours.append(300 / (time.perf_counter() - started))
    ratio = sorted(a / b for a, b in zip(ours, bare, strict=True))[len(ours) // 2]
    against = f"{ratio:.2f} × write + fdatasync ({rate(max(bare), '/s')})"
    reached = ratio >= SINGLE_RATIO_GOAL
    found.append(Row("publish awaited one by one, fsync", rate(max(ours)), against, "≥ 0.7 ×", reached))
    return max(ours)


def _bare_loop(path: Path, text: bytes, count: int) -> float:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        started = time.perf_counter()
        for _ in range(count):
            os.write(descriptor, text)
            os.fdatasync(descriptor)
        return count / (time.perf_counter() - started)
    finally:
        os.close(descriptor)


async def _thousand_tasks(client: Client, some: list[dict[str, Any]]) -> None:
    async def one(number: int) -> None:
        for message in some[number * 20 : number * 20 + 20]:
            await client.publish("tasks", message)

    await asyncio.gather(*[one(number) for number in range(1000)])


async def _four_processes(directory: Path, count: int = 500) -> Row:
    """Four processes that publish one message after the other: how much longer than usual anybody waits."""
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(worker("publish_singly", str(directory), f"w{i}", str(count)))
            for i in range(4)
        ]
        for one in workers:
            await one.until("ready")
        for one in workers:
            one.go()
        waits = sorted([wait for one in workers for wait in (await one.until("waits"))[1]])
    median, most, late = waits[len(waits) // 2], waits[-1], sum(wait > 10 * waits[len(waits) // 2] for wait in waits)
    figure = f"{median * 1000:.2f} ms (median)"
    against = f"longest {most / median:.0f} ×; {late} of {len(waits)} over 10 ×"
    return Row("four processes one by one, fsync", figure, against, "≤ 10 ×", most <= 10 * median)


async def _compression(client: Client) -> Row:
    sql = "SELECT bytes_stored, messages_retained FROM SYSTEM.topics WHERE topic_name = 'batch'"
    stored, count = (await client.query(sql)).rows[0]
    return Row("lz4 on batches of 1,000 of the bench's messages", f"{1 - stored / (count * 168):.0%} saved")
