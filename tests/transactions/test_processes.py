"""Transactions of several processes: killed at any moment, and one that holds the others up."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import apsw
from processes.running import worker
from settings import rounds

from geode_client import Client


async def prepare(directory: Path) -> None:
    async with Client(directory) as client, client.transaction() as tx:
        await tx.execute("CREATE TABLE own (name TEXT, n INTEGER, PRIMARY KEY (name, n))")


async def stored(client: Client, topic: str) -> list[Any]:
    async with client.subscribe(topic, from_beginning=True) as subscription:
        return [message.data async for message in subscription]


async def check(directory: Path, told: dict[str, list[int]]) -> None:
    """Each transaction is there whole or not at all; those that were told of are there."""
    async with Client(directory) as client:
        async with client.transaction() as tx:
            in_table = (await tx.execute("SELECT name, n FROM own ORDER BY name, n")).rows
        published = [(message["by"], message["n"]) for message in await stored(client, "t")]
        batched = [(message["by"], message["n"]) for message in await stored(client, "u")]
    assert sorted(published) == in_table
    assert sorted(batched) == sorted(published * 3)
    for name, numbers in told.items():
        own = [n for by, n in published if by == name]
        assert own == list(range(len(own)))
        assert set(numbers) <= set(own)
    found = apsw.Connection(str(directory / "geode.db"))
    assert found.pragma("integrity_check") == "ok"
    found.close()


async def test_killed_at_any_moment(directory: Path) -> None:
    await prepare(directory)
    told: dict[str, list[int]] = {}
    for turn in range(rounds(4, 200)):
        async with AsyncExitStack() as stack:
            names = [f"{turn}-{i}" for i in range(2)]
            workers = [
                await stack.enter_async_context(worker("transact_for_ever", str(directory), name)) for name in names
            ]
            for one in workers:
                await one.until("stored")
            for one in workers:
                for _ in range(random.randrange(15)):
                    await one.next()
                one.process.kill()
            for name, one in zip(names, workers, strict=True):
                told[name] = [number for kind, *rest in await one.rest() if kind == "stored" for number in rest]
    assert sum(map(len, told.values())) >= len(told)
    await check(directory, told)


async def test_killed_in_the_middle_of_one(directory: Path) -> None:
    """The dead process's locks are free at once, and nothing of its transaction is there."""
    await prepare(directory)
    async with Client(directory) as client, worker("hold", str(directory), "3600") as holder:
        await holder.until("holds")
        waiting = asyncio.create_task(client.publish("t", {"by": "other"}))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        holder.process.kill()
        async with asyncio.timeout(30):
            await waiting
        assert await stored(client, "t") == [{"by": "other"}]
        async with client.transaction() as tx:
            assert (await tx.execute("SELECT * FROM own")).rows == []


async def test_others_go_on_at_the_bound(directory: Path) -> None:
    await prepare(directory)
    async with Client(directory) as client, worker("hold", str(directory), "0.3") as holder:
        await holder.until("holds")
        async with asyncio.timeout(30):
            await client.publish("t", {"by": "other"})
            async with client.transaction() as tx:
                assert (await tx.execute("SELECT * FROM own")).rows == []
        assert await stored(client, "t") == [{"by": "other"}]
