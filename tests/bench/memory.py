"""What much of something costs: a backlog of ten million, ten thousand subscribers, a hundred thousand topics.

Each is measured in a process of its own, `python memory.py KIND DIRECTORY`, which prints its figures as JSON.
"""

import asyncio
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.table import Row, Settings, messages

from geode_client import Client

BACKLOG_MILLIONS = (1, 5, 10)
SUBSCRIBERS = 10_000
TOPICS = 100_000
TOPICS_AT_ONCE = 1_000
PUBLISHED = 400
MEBIBYTE = 1024 * 1024


async def rows(settings: Settings, found: list[Row]) -> None:
    """Measure and append the rows of this group."""
    first, half, full = (await _measured("backlog", settings))["resident"]
    found.append(
        Row(
            "resident with a backlog of 1, 5 and 10 M, two stalled consumers",
            f"{first:.0f}, {half:.0f}, {full:.0f} MiB",
            f"10 M {full / half:.2f} × 5 M",
            "≤ 1.05 ×",
            full <= 1.05 * half,
        )
    )
    used = (await _measured("subscribers", settings))["used"]
    found.append(Row("10,000 subscribers without a condition", f"{used:.0f} MiB", "", "≤ 50 MiB", used <= 50))
    topics = await _measured("topics", settings)
    more = topics["open_many"] - topics["open_empty"]
    against = f"an empty one {topics['open_empty']:.1f} ms"
    found.append(Row("open 100,000 topics", f"{topics['open_many']:.1f} ms", against, "≤ 100 ms more", more <= 100))
    times = topics["random"] / topics["one"]
    shown = f"{topics['random'] * 1e6:.0f} µs (median)"
    found.append(Row("publish to a random one of them", shown, f"{times:.1f} × one topic", "≤ 2 ×", times <= 2))


async def _measured(kind: str, settings: Settings) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, kind, str(settings.directory / kind), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"measuring {kind} failed"
    found: dict[str, Any] = json.loads(out)
    return found


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE


async def _backlog(directory: Path) -> dict[str, Any]:
    some = messages(100_000)
    resident = []
    async with Client(directory) as client:
        await client.publish_batch("t", some[:1000])
        async with client.subscribe("t", consumer_group="stalled", auto_ack=False) as member, client.subscribe("t"):
            published = 0
            for millions in BACKLOG_MILLIONS:
                while published < millions * 1_000_000:
                    await client.publish_batch("t", some)
                    published += len(some)
                assert await member.get() is not None
                resident.append(_resident())
    return {"resident": resident}


async def _subscribers(directory: Path) -> dict[str, Any]:
    async with Client(directory) as client:
        await client.publish("t", {})
        async with client.subscribe("t"):
            before = _resident()
            subscriptions = [client.subscribe("t") for _ in range(SUBSCRIBERS)]
            for subscription in subscriptions:
                await subscription.open()
            return {"used": _resident() - before}


async def _topics(directory: Path) -> dict[str, Any]:
    empty, many = directory / "empty", directory / "many"
    async with Client(empty) as client:
        await client.publish("t", 1)
    async with Client(many) as client:
        for first in range(0, TOPICS, TOPICS_AT_ONCE):
            numbers = range(first, first + TOPICS_AT_ONCE)
            await asyncio.gather(*[client.execute(f"CREATE TOPIC many/t{n}") for n in numbers])
    opened = [(await _open(empty), await _open(many)) for _ in range(7)]
    async with Client(many) as client:
        chance = random.Random(1)
        one = [await _publish(client, "many/t7") for _ in range(PUBLISHED)]
        other = [await _publish(client, f"many/t{chance.randrange(TOPICS)}") for _ in range(PUBLISHED)]
    return {
        "open_empty": statistics.median(a for a, _ in opened),
        "open_many": statistics.median(b for _, b in opened),
        "one": statistics.median(one),
        "random": statistics.median(other),
    }


async def _open(directory: Path) -> float:
    started = time.perf_counter()
    async with Client(directory):
        return (time.perf_counter() - started) * 1000


async def _publish(client: Client, topic: str) -> float:
    started = time.perf_counter()
    await client.publish(topic, messages(1)[0])
    return time.perf_counter() - started


KINDS = {"backlog": _backlog, "subscribers": _subscribers, "topics": _topics}

if __name__ == "__main__":
    print(json.dumps(asyncio.run(KINDS[sys.argv[1]](Path(sys.argv[2])))))
