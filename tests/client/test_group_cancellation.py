"""Members that are cancelled at any moment: nothing is lost, nothing is kept, and the count is right afterwards."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from laws import conserved
from settings import rounds

from geode_client import Client, GeodeError

PROMPT_SECONDS = 20


async def cancelled_after(steps: int, work: Coroutine[Any, Any, Any]) -> bool:
    """Run a task for so many turns of the loop, then cancel it; False when it had ended before."""
    task = asyncio.create_task(work)
    for _ in range(steps):
        await asyncio.sleep(0)
        if task.done():
            break
    was_cancelled = task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is not None:
        raise task.exception()  # type: ignore[misc]
    return was_cancelled


async def member(client: Client, how: dict[str, Any], acknowledged: Counter[int], chance: random.Random) -> None:
    """The life of a member: each await of it is a place where it may be cancelled."""
    subscription = client.subscribe("t", consumer_group="g", auto_ack=False, **how)
    await subscription.open()
    try:
        for _ in range(chance.randrange(1, 6)):
            message = await subscription.get(timeout=0.05)
            if message is None:
                continue
            match chance.randrange(4):
                case 0:
                    await message.nack(delay=0)
                case 1:
                    await message.extend(1)
                case _:
                    await message.ack()
                    acknowledged[message["n"]] += 1
    finally:
        await subscription.close()


def held(client: Client) -> int:
    """Claims that somebody holds."""
    broker: Any = client._broker
    return int(broker._log.rows("SELECT count(*) FROM claims WHERE owner IS NOT NULL")[0][0])


@pytest.mark.parametrize(
    ("delivery", "how"),
    [
        ("at_least_once", {}),
        ("exactly_once", {"ordering": True}),
        ("at_least_once", {"priority_order": True}),
        ("exactly_once", {"prefetch": 1}),
    ],
)
async def test_cancelled_at_every_await(directory: Path, delivery: str, how: dict[str, Any]) -> None:
    """One member after the other, each cancelled a turn of the loop later than the one before, then all at random."""
    chance = random.Random(3)
    acknowledged: Counter[int] = Counter()
    count = 40
    async with Client(directory) as client:
        await client.execute(f"CREATE TOPIC t WITH OPTIONS (max_retries: 1000000) WITH DELIVERY {delivery}")
        order = {"ordering": " ORDER BY KEY", "priority_order": " ORDER BY PRIORITY"}.get(next(iter(how), ""), "")
        await client.execute(f"CREATE SUBSCRIPTION g ON t FROM BEGINNING{order}")
        for n in range(count):
            await client.publish("t", {"n": n}, partition_key=n % 5, priority=n % 3)
        for steps in range(60):
            if not await cancelled_after(steps, member(client, how, acknowledged, chance)):
                break
            await conserved(client)
        for _ in range(rounds(6)):
            crowd = [cancelled_after(chance.randrange(60), member(client, how, acknowledged, chance)) for _ in range(4)]
            await asyncio.gather(*crowd)
            await conserved(client)
        async with asyncio.timeout(PROMPT_SECONDS):
            # Who was cancelled while it opened or closed is closed by the client, a moment later.
            while len(await client.query("SELECT * FROM SYSTEM.subscribers")) or held(client):
                await asyncio.sleep(0.005)
        async with client.subscribe("t", consumer_group="g", **how) as last:
            async with asyncio.timeout(PROMPT_SECONDS * 2):
                while (await conserved(client))["g"].pending:
                    message = await last.get(timeout=0.05)
                    if message is not None:
                        assert message["n"] not in acknowledged, "it came again after its acknowledgement had returned"
        group = (await conserved(client))["g"]
        assert (group.published, group.acknowledged) == (count, count)
    assert not [n for n, times in acknowledged.items() if times > 1]


async def test_private_groups_of_the_cancelled_are_removed(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", 1)
        for steps in range(40):
            with contextlib.suppress(GeodeError):
                await cancelled_after(steps, client.subscribe("t", auto_ack=False).open())
    async with Client(directory) as client:
        assert await conserved(client) == {}
