"""Groups: consuming with acknowledgement, against peers in the same run; latency between processes."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bench import peers
from bench.table import Row, Settings, messages, rate

from geode_client import Client

CONSUME_GOAL = 300_000
EXACTLY_GOAL = 150_000
REDIS_RATIO_GOAL = 5
LATENCY_OVER_FSYNC_GOAL_MS = 2.0
ROUND_TRIPS = 300


async def rows(settings: Settings, found: list[Row]) -> None:
    """Measure and append the rows of this group."""
    count = 300_000
    some = messages(count)
    async with Client(settings.directory / "groups") as client:
        await client.publish_batch("work", some)
        one = await _best(client, count, lambda number: _consume(client, f"one-{number}", count))
        found.append(
            Row("group consume, decoded, auto_ack", rate(one), "", "≥ 300,000", one >= CONSUME_GOAL),
        )
        if settings.peers:
            await _against_peers(settings.directory, one, found)
        batches = await _best(client, count, lambda number: _consume_batches(client, f"batch-{number}", count))
        found.append(Row("  in lists of 500", rate(batches)))
        ten = await _best(client, count, lambda number: _ten_workers(client, f"ten-{number}", count))
        found.append(Row("  ten workers of one process", rate(ten)))
        ordered = await _best(client, count, lambda number: _consume(client, f"key-{number}", count, ordering=True))
        found.append(Row("  in the order of keys", rate(ordered)))
        filtered = await _best(
            client, count, lambda number: _consume(client, f"where-{number}", count // 900, filter="amount = 500")
        )
        found.append(Row("  with a filter that takes one of 900, messages looked at", rate(filtered)))
        exactly = await _exactly_once(client, some)
        row = Row(
            "exactly_once, decoded, in transactions of 500", rate(exactly), "", "≥ 150,000", exactly >= EXACTLY_GOAL
        )
        found.append(row)
    found.append(await _between_processes(settings.directory))


async def _best(
    client: Client, count: int, work: Callable[[int], Coroutine[Any, Any, None]], repeats: int = 3
) -> float:
    best = 0.0
    for number in range(repeats):
        started = time.perf_counter()
        await work(number)
        best = max(best, count / (time.perf_counter() - started))
    return best


async def _consume(client: Client, group: str, count: int, **options: object) -> None:
    async with client.subscribe(
        "work",
        consumer_group=group,
        from_beginning=True,
        limit=count,
        **options,  # type: ignore[arg-type]
    ) as subscription:
        async for message in subscription:
            message.data  # noqa: B018 - decoded, and not used
    assert await client.get_consumer_lag("work", group) == 0 or "filter" in options


async def _exactly_once(client: Client, some: list[dict[str, Any]]) -> float:
    """Each list of messages is acknowledged in a transaction of its own, which the disk has before the next list."""
    await client.execute("CREATE TOPIC exact WITH DELIVERY EXACTLY_ONCE")
    await client.publish_batch("exact", some)

    async def consume(number: int) -> None:
        left = len(some)
        async with client.subscribe("exact", consumer_group=f"g{number}", auto_ack=False, from_beginning=True) as group:
            async for batch in group.batches(500):
                async with client.transaction() as tx:
                    for message in batch:
                        message.data  # noqa: B018
                        await tx.ack(message)
                left -= len(batch)
                if not left:
                    return

    return await _best(client, len(some), consume)


async def _consume_batches(client: Client, group: str, count: int) -> None:
    async with client.subscribe("work", consumer_group=group, from_beginning=True, limit=count) as subscription:
        async for batch in subscription.batches(500):
            for message in batch:
                message.data  # noqa: B018


async def _ten_workers(client: Client, group: str, count: int) -> None:
    left = count
    done = asyncio.Event()

    async def work(number: int) -> None:
        nonlocal left
        async with client.subscribe(
            "work", consumer_group=group, consumer_id=f"worker-{number}", from_beginning=True
        ) as subscription:
            async for message in subscription:
                message.data  # noqa: B018
                left -= 1
                if left == 0:
                    done.set()

    workers = [asyncio.create_task(work(number)) for number in range(10)]
    await done.wait()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def _against_peers(directory: Path, ours: float, found: list[Row]) -> None:
    redis = await peers.measured("Redis", peers.redis_group, directory, 50_000)
    if redis is not None:
        times = ours / redis
        row = Row("  Redis XREADGROUP 500 + decode + XACK", rate(redis), f"{times:.1f} ×", "≥ 5 ×")
        found.append(Row(row.what, row.figure, row.against, row.goal, times >= REDIS_RATIO_GOAL))
    stream = await peers.measured("JetStream", peers.jetstream_fetch, directory, 20_000)
    if stream is not None:
        found.append(Row("  JetStream fetch(500) + decode + ack", rate(stream), f"{ours / stream:.1f} ×"))


# ── between processes ──
_ECHO = """
import asyncio, sys
from geode_client import Client

async def main():
    async with Client(sys.argv[1]) as client:
        async with client.subscribe("ping", consumer_group="echo", from_beginning=True) as subscription:
            print("ready", flush=True)
            async for message in subscription:
                await client.publish("pong", message.data)

asyncio.run(main())
"""


async def _between_processes(directory: Path) -> Row:
    """From publish in one process to a group member in another and back: half a round trip is one way."""
    place = directory / "between"
    async with Client(place) as client:
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _ECHO, str(place), stdout=asyncio.subprocess.PIPE
        )
        try:
            assert other.stdout is not None
            await other.stdout.readline()
            taken = []
            async with client.subscribe("pong") as answers:
                for number in range(ROUND_TRIPS):
                    started = time.perf_counter()
                    await client.publish("ping", number)
                    await answers.get()
                    taken.append((time.perf_counter() - started) / 2)
        finally:
            other.kill()
            await other.wait()
    way, sync = sorted(taken)[len(taken) // 2] * 1e3, _fsync_ms(directory)
    reached = way <= sync + LATENCY_OVER_FSYNC_GOAL_MS
    return Row(
        "publish to a member in another process",
        f"{way:.2f} ms (median)",
        f"fsync {sync:.2f} ms",
        "≤ fsync + 2 ms",
        reached,
    )


def _fsync_ms(directory: Path) -> float:
    taken = []
    with (directory / "fsync").open("wb", buffering=0) as file:
        for _ in range(200):
            started = time.perf_counter()
            file.write(b"x" * 167)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    return sorted(taken)[100] * 1e3
