"""Fan-out: one topic, 100 subscribers of one process; latency; what an idle process costs."""

import asyncio
import resource
import time
from typing import Any

from bench.table import Row, Settings, messages, rate

from geode_client import Client

SUBSCRIBERS = 100
FAN_OUT_GOAL = 1_500_000
LATENCY_GOAL_MICROSECONDS = 100.0
IDLE_GOAL = 0.01
IDLE_SECONDS = 3.0


async def rows(settings: Settings, found: list[Row]) -> None:
    """Measure and append the rows of this group."""
    async with Client(settings.directory / "fanout") as client:
        untouched = await _fan_out(client, None)
        found.append(Row("fan-out to 100, messages not looked at", rate(untouched, "deliveries/s")))
        looked = await _fan_out(client, "user_id")
        reached = looked >= FAN_OUT_GOAL
        found.append(Row("fan-out to 100, one field read", rate(looked, "deliveries/s"), "", "≥ 1,500,000", reached))
        found.append(await _replay(client))
        found.append(await _latency(client, "at_most_once", LATENCY_GOAL_MICROSECONDS))
        found.append(await _latency(client, "at_least_once"))
        found.append(await _idle(client))


async def _fan_out(client: Client, field: str | None, count: int = 30_000) -> float:
    some = messages(count)
    best = 0.0
    for repeat in range(3):
        topic = f"fan/{field or 'none'}/{repeat}"
        subscriptions = [client.subscribe(topic) for _ in range(SUBSCRIBERS)]
        for subscription in subscriptions:
            await subscription.open()
        readers = [asyncio.create_task(_read(subscription, field, count)) for subscription in subscriptions]
        started = time.perf_counter()
        await client.publish_batch(topic, some)
        await asyncio.gather(*readers)
        best = max(best, SUBSCRIBERS * count / (time.perf_counter() - started))
        for subscription in subscriptions:
            await subscription.close()
    return best


async def _read(subscription: Any, field: str | None, count: int) -> None:
    left = count
    if field is None:
        async for _ in subscription:
            left -= 1
            if not left:
                return
    else:
        async for message in subscription:
            message[field]
            left -= 1
            if not left:
                return


async def _replay(client: Client) -> Row:
    await client.publish_batch("replayed", messages(200_000))
    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        async with client.subscribe("replayed", from_beginning=True) as subscription:
            number = 0
            async for message in subscription:
                message["user_id"]
                number += 1
        best = max(best, number / (time.perf_counter() - started))
    return Row("replay from the file, one field read", rate(best))


async def _latency(client: Client, delivery: str, goal: float | None = None) -> Row:
    topic = f"latency/{delivery}"
    await client.execute(f"CREATE TOPIC {topic} WITH DELIVERY {delivery}")
    taken: list[float] = []
    async with client.subscribe(topic) as subscription:
        for message in messages(500):
            started = time.perf_counter()
            await client.publish(topic, message)
            await subscription.get()
            taken.append(time.perf_counter() - started)
    median = sorted(taken)[len(taken) // 2] * 1e6
    what, figure = f"publish and receive in a process, {delivery}", f"{median:.0f} µs (median)"
    return Row(what, figure) if goal is None else Row(what, figure, "", f"≤ {goal:.0f} µs", median <= goal)


async def _idle(client: Client) -> Row:
    """What a process costs that only waits: 100 subscribers, nothing published."""
    subscriptions = [client.subscribe("quiet") for _ in range(SUBSCRIBERS)]
    for subscription in subscriptions:
        await subscription.open()
    waiting = [asyncio.create_task(subscription.get()) for subscription in subscriptions]
    await asyncio.sleep(1.5)
    before = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(IDLE_SECONDS)
    after = resource.getrusage(resource.RUSAGE_SELF)
    for task, subscription in zip(waiting, subscriptions, strict=True):
        task.cancel()
        await subscription.close()
    used = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / IDLE_SECONDS
    return Row("idle with 100 subscribers", f"{used:.2%} of a core", "", "≤ 1 %", used <= IDLE_GOAL)
