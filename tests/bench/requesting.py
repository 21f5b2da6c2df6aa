"""Request and reply: the round trip in a process and across two, and many requests at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.table import Row, Settings, rate
from processes.running import worker

from geode_client import Client

ROUND_TRIPS = 500
AT_ONCE = 10_000


async def rows(settings: Settings, found: list[Row]) -> None:
    """Measure and append the rows of this group."""
    for delivery in ("at_most_once", "at_least_once"):
        async with Client(settings.directory / f"requests-{delivery}") as client:
            await client.execute(f"CREATE TOPIC rpc WITH DELIVERY {delivery}")
            async with client.serve("rpc") as requests:

                async def serve(requests: Any = requests) -> None:
                    async for request in requests:
                        await request.reply(request.params)

                task = asyncio.create_task(serve())
                what = f"request, {delivery}, in a process"
                found.append(await _round_trip(what, lambda: client.request("rpc", 1, timeout=60)))
                if delivery == "at_most_once":
                    found.append(await _at_once(client))
                task.cancel()
                await asyncio.wait([task])
        found.append(await _across(settings.directory, delivery))


async def _across(directory: Path, delivery: str) -> Row:
    target = directory / f"requests-across-{delivery}"
    async with Client(target) as client:
        await client.execute(f"CREATE TOPIC rpc WITH DELIVERY {delivery}")
        async with worker("serve", str(target), "other", "0") as other:
            await other.until("ready")
            return await _round_trip(
                f"request, {delivery}, to another process", lambda: client.request("rpc", 1, timeout=60)
            )


async def _round_trip(what: str, ask: Callable[[], Awaitable[object]]) -> Row:
    waits: list[float] = []
    for _ in range(ROUND_TRIPS):
        started = time.perf_counter()
        await ask()
        waits.append(time.perf_counter() - started)
    waits.sort()
    middle, late = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    return Row(what, f"p50 {middle * 1e6:,.0f} µs", f"p99 {late * 1e6:,.0f} µs")


async def _at_once(client: Client) -> Row:
    started = time.perf_counter()
    await asyncio.gather(*[client.request("rpc", n, timeout=120) for n in range(AT_ONCE)])
    return Row(f"{AT_ONCE:,} requests at once", rate(AT_ONCE / (time.perf_counter() - started), "requests/s"))
