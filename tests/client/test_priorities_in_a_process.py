"""Priorities inside one process: what is urgent goes before everything that no handler has begun."""

from pathlib import Path
from typing import Any

import pytest
from reading import next_of

from geode_client import Client

BEFORE = 20


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("publisher", ["own", "other"])
async def test_nothing_lower_is_handed_over_once_the_publish_has_returned(
    directory: Path, members: int, publisher: str
) -> None:
    async with Client(directory) as client, Client(directory) as other:
        await client.publish_batch("t", [{"n": n} for n in range(5_000)], priority="low")
        subscriptions: list[Any] = [
            await client.subscribe("t", consumer_group="g", priority_order=True, from_beginning=True).open()
            for _ in range(members)
        ]
        for _ in range(BEFORE):
            for subscription in subscriptions:
                assert (await next_of(subscription, timeout=20)).priority == 2
        chosen = client if publisher == "own" else other
        await chosen.publish_batch("t", [{"n": -1}] * members, priority="critical")
        assert [(await next_of(subscription, timeout=20)).priority for subscription in subscriptions] == [9] * members
        assert [(await next_of(subscription, timeout=20)).priority for subscription in subscriptions] == [2] * members
        for subscription in subscriptions:
            await subscription.close()


async def test_new_messages_go_on_while_many_fail(directory: Path) -> None:
    """Retries that are due take at most half of the turns of their lane."""
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (max_retries: 1000, retry_backoff: '1us')")
        await client.publish_batch("t", [{"bad": True}] * 200)
        async with client.subscribe(
            "t", consumer_group="g", from_beginning=True, auto_ack=False, prefetch=1
        ) as subscription:
            for _ in range(450):
                await (await next_of(subscription, timeout=20)).nack()
            await client.publish_batch("t", [{"bad": False}] * 10)
            good = handed = 0
            while good < 10:
                message = await next_of(subscription, timeout=20)
                handed += 1
                if message["bad"]:
                    await message.nack()
                else:
                    good += 1
                    await message.ack()
                assert handed <= 60
