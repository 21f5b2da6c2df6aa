"""`batches` and messages that expire: a list never holds an expired one, and what can still be handed over is."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from geode_client import Client


class Number(msgspec.Struct):
    n: int


async def read(client: Client, lists: int, max_wait: float, **options: Any) -> list[list[Any]]:
    found: list[list[Any]] = []
    async with client.subscribe("t", timeout=10, **options) as subscription:
        async for batch in subscription.batches(10, max_wait):
            now = time.time()
            assert all(
                m.expires_at is None or m.expires_at.timestamp() > now for m in batch if not isinstance(m, Number)
            )
            found.append([m.n if isinstance(m, Number) else m["n"] for m in batch])
            if len(found) == lists:
                break
    return found


@pytest.mark.parametrize(
    "options", [{"consumer_group": "g"}, {}, {"type": Number}, {"consumer_group": "g", "type": Number}]
)
async def test_a_list_is_handed_over_before_its_messages_expire(directory: Path, options: dict[str, Any]) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": 0})
        await client.publish("t", {"n": 1}, ttl_seconds=0.5)
        found = await read(
            client, 1, 60, from_beginning=True, follow=None if "consumer_group" in options else True, **options
        )
        assert found == [[0, 1]], "not after 60 seconds, and not without the one that expires"


async def test_what_expires_while_the_loop_stands_still_is_dropped(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (dead_letter_expired: true)")
        await client.execute("CREATE SUBSCRIPTION g ON t")
        for number in range(6):
            await client.publish("t", {"n": number}, ttl_seconds=0.3 if number % 2 else None)
        reading = asyncio.create_task(read(client, 1, 0.6, consumer_group="g"))
        await asyncio.sleep(0)
        while not (await client.query("SELECT sum(in_flight) FROM SYSTEM.subscriptions")).scalar():
            await asyncio.sleep(0)
        time.sleep(0.4)  # noqa: ASYNC251 - nothing else is to run: the deadline before the expiry is missed
        assert await reading == [[0, 2, 4]]
        counted = (
            await client.query("SELECT acknowledged, expired + dead_lettered, in_flight FROM SYSTEM.subscriptions")
        ).rows
        assert counted == [(3, 3, 0)]
        assert (await client.query("SELECT n FROM DEAD LETTERS OF t ORDER BY n")).rows == [(1,), (3,), (5,)]


async def test_a_list_of_which_nothing_is_left_does_not_end_the_subscription(directory: Path) -> None:
    async with Client(directory) as client:
        async with client.subscribe("t", consumer_group="g", timeout=5) as subscription:
            lists = subscription.batches(10, 0.6)
            await client.publish("t", {"n": 0}, ttl_seconds=0.2)
            reading = asyncio.ensure_future(anext(lists))
            await asyncio.sleep(0)
            while not (await client.query("SELECT sum(in_flight) FROM SYSTEM.subscriptions")).scalar():
                await asyncio.sleep(0)
            time.sleep(0.3)  # noqa: ASYNC251
            await client.publish("t", {"n": 1})
            assert [message["n"] for message in await reading] == [1]
