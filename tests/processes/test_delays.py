"""Delayed messages of several processes: each comes once, whoever dies or stands still."""

import asyncio
import random
import signal
from pathlib import Path

from processes.running import worker
from settings import rounds

from geode_client import Client


async def test_a_message_comes_although_its_publisher_is_gone(directory: Path) -> None:
    async with Client(directory) as client, client.subscribe("t") as subscription:
        async with worker("publish_later", str(directory), "w", "0.5") as other:
            first = (await other.until("stored"))[1]
        async with asyncio.timeout(30):
            message = await subscription.get()
        assert message is not None
        assert (message.data, message.id) == (first, first)


async def test_a_message_comes_although_the_first_process_stands_still(directory: Path) -> None:
    """The one that acts on the due time is stopped, not dead: it keeps its lock, and the others do not wait for it."""
    async with worker("stay", str(directory)) as first:
        await first.until("ready")
        first.process.send_signal(signal.SIGSTOP)
        async with Client(directory) as client, client.subscribe("t") as subscription:
            await client.publish("t", 1, delay_seconds=0.05)
            async with asyncio.timeout(30):
                message = await subscription.get()
            assert message is not None
            assert message.data == 1
        first.process.send_signal(signal.SIGCONT)


async def test_kills_lose_no_waiting_message_and_repeat_none(directory: Path) -> None:
    """Publishers and bystanders, any of which may be the one that moves, are killed at random moments."""
    chance = random.Random(7)
    acknowledged: set[str] = set()
    for kill in range(rounds(8, soak=300)):
        async with (
            worker("stay", str(directory)) as bystander,
            worker("publish_later", str(directory), f"w{kill}", str(chance.choice((0.001, 0.01, 0.05)))) as publisher,
        ):
            await bystander.until("ready")
            for _ in range(chance.randrange(1, 40)):
                await publisher.until("stored")
            for victim in chance.sample([bystander, publisher], 2):
                await asyncio.sleep(chance.random() * 0.02)
                victim.process.kill()
            acknowledged |= {said[1] for said in await publisher.rest() if said[0] == "stored"}
    async with Client(directory) as client:
        seen: list[str] = []
        async with client.subscribe("t", from_beginning=True, follow=True) as subscription:
            while not acknowledged <= set(seen):
                async with asyncio.timeout(30):
                    message = await subscription.get()
                assert message is not None
                assert message.data == message.id
                seen.append(message.data)
        assert len(seen) == len(set(seen)), "a message came twice"
        assert len(set(seen) - acknowledged) <= kill + 1, "only what was under way at a kill may come unacknowledged"
