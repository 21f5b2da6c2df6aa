"""Several processes on one directory: what one publishes the others receive, in order, fairly, and after every death."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path

from processes.running import worker
from settings import rounds

from geode_client import Client


async def test_what_one_process_publishes_the_other_receives(directory: Path) -> None:
    async with Client(directory) as client, worker("subscribe", str(directory), "users/*", "250") as other:
        await other.until("ready")
        for n in range(50):
            await client.publish("users/created", n)
        await client.publish_batch("users/late", list(range(50, 250)))
        told = await other.rest()
    assert [data for kind, *rest in told if kind == "message" for data in rest] == list(range(250))


async def test_messages_go_back_and_forth_promptly(directory: Path) -> None:
    async with Client(directory) as client, worker("echo", str(directory), "200") as other:
        await other.until("ready")
        async with client.subscribe("pong") as answers:
            for n in range(200):
                await client.publish("ping", n)
                async with asyncio.timeout(30):
                    message = await answers.get()
                assert message is not None
                assert message.data == n


async def test_four_publishers_share_the_file(directory: Path) -> None:
    """Nobody is refused, and each one's order is kept; how long they wait is measured by `make bench`."""
    count = 150
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(worker("publish_singly", str(directory), f"w{i}", str(count)))
            for i in range(4)
        ]
        for one in workers:
            await one.until("ready")
        for one in workers:
            one.go()
        waits = [wait for one in workers for wait in (await one.until("waits"))[1]]
    assert len(waits) == 4 * count
    async with Client(directory) as client:
        per_worker = await client.query("SELECT by, count(*), max(n) FROM t GROUP BY by ORDER BY by")
        assert per_worker.rows == [(f"w{i}", count, count - 1) for i in range(4)]
        overtaken = await client.query("SELECT by, n FROM t")
        for i in range(4):
            assert [n for by, n in overtaken.rows if by == f"w{i}"] == list(range(count))


async def test_kill_9_loses_nothing_acknowledged_and_leaves_no_part(directory: Path) -> None:
    """Two publishers, one killed at a random moment, again and again, while a subscriber in this process reads."""
    chance = random.Random(5)
    acknowledged: set[tuple[str, int]] = set()
    async with Client(directory) as client, client.subscribe("t") as subscription:
        for kill in range(rounds(20, soak=500)):
            name = f"w{kill}"
            async with worker("publish_for_ever", str(directory), name, str(chance.choice((1, 7, 300)))) as victim:
                await victim.until("ready")
                for _ in range(chance.randrange(1, 12)):
                    await victim.next()
                await asyncio.sleep(chance.random() * 0.01)
                victim.process.kill()
                told = await victim.rest()
            acknowledged |= {(name, said[1]) for said in told if said[0] == "stored"}
            await client.publish("t", {"by": "here", "batch": kill, "n": 0, "of": 1})
            acknowledged.add(("here", kill))
        received: dict[tuple[str, int], int] = {}
        while not await subscription.caught_up():
            message = await subscription.get()
            assert message is not None
            batch = (message["by"], message["batch"])
            assert message["n"] == received.get(batch, 0), "a message came twice, or was left out"
            received[batch] = message["n"] + 1
        whole = {(row[0], row[1]): row[2:] for row in (await client.query(WHOLE)).rows}
    assert acknowledged <= whole.keys()
    assert all(found == of for found, of in whole.values()), "a batch is there in part"
    assert received == {batch: found for batch, (found, _) in whole.items()}


WHOLE = "SELECT by, batch, count(*), max(of) FROM t GROUP BY by, batch"


async def test_the_dead_are_forgotten(directory: Path) -> None:
    async with Client(directory) as client:
        async with worker("subscribe", str(directory), "t", "1000") as other:
            await other.until("ready")
            assert len(await client.query("SELECT * FROM SYSTEM.subscribers")) == 1
            other.process.kill()
            await other.rest()
        assert len(await client.query("SELECT * FROM SYSTEM.subscribers")) == 0
        await client.publish("t", 1)
        assert len(list((directory / "wake").iterdir())) == 1


async def test_counts_of_all_processes_come_together(directory: Path) -> None:
    async with Client(directory) as client, worker("subscribe", str(directory), "t", "30") as other:
        await other.until("ready")
        async with client.subscribe("t", limit=30) as subscription:
            await client.publish_batch("t", list(range(30)))
            assert len([message async for message in subscription]) == 30
            await other.rest()
        row = (await client.query("SELECT messages_published, messages_consumed FROM SYSTEM.topics")).rows[0]
        assert row == (30, 60)
