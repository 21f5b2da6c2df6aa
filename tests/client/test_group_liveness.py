"""Groups that have nothing to do do nothing, and members that come while others go are served."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from laws import conserved

from geode_client import Client
from geode_client.clock import boot_us
from geode_client.routing import partition_of
from geode_client.store import outlook
from geode_client.store.groups import GROUP_COLUMNS, Group, group_of

PROMPT_SECONDS = 20
# A key of each partition of two.
KEYS = [next(key for key in "abcdefghij" if partition_of(key, 2) == partition) for partition in range(2)]


@pytest.fixture
async def client(directory: Path) -> AsyncIterator[Client]:
    async with asyncio.timeout(100), Client(directory) as opened:
        yield opened


def groups(client: Client) -> Any:
    return client._broker._subscriptions.groups  # type: ignore[attr-defined]


def stored(client: Client) -> Group:
    return group_of(groups(client).log.rows(f"SELECT {GROUP_COLUMNS} FROM groups")[0])


async def next_of(subscription: Any) -> Any:
    async with asyncio.timeout(PROMPT_SECONDS):
        message = await subscription.get()
    assert message is not None
    return message


# ── nothing to do ──
async def test_a_retry_that_is_due_in_a_paused_group_is_not_looked_for(client: Client) -> None:
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
        await client.publish_batch("t", [1, 2])
        message = await next_of(member)
        await client.execute("PAUSE SUBSCRIPTION g ON t")
        await message.nack(delay=0)
        log, group = groups(client).log, stored(client)
        assert not outlook.is_due(log, group)
        assert outlook.next_retry_us(log, group) is None
        await client.execute("RESUME SUBSCRIPTION g ON t")
        assert outlook.next_retry_us(log, stored(client)) is not None
        assert sorted([(await next_of(member)).data for _ in range(2)]) == [1, 2]


@pytest.mark.parametrize("ordering", [False, True])
async def test_what_is_due_in_another_partition_is_not_looked_for(client: Client, ordering: bool) -> None:
    await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 2)")
    async with client.subscribe("t", consumer_group="g", ordering=ordering, auto_ack=False, partition=0) as member:
        for number in range(4):
            await client.publish("t", number, partition_key=KEYS[number % 2])
        message = await next_of(member)
        await message.nack(delay=0)
    log, group = groups(client).log, stored(client)
    assert outlook.is_due(log, group, 0)
    assert outlook.next_retry_us(log, group, 0) is not None
    assert not outlook.is_due(log, group, 1)
    assert outlook.next_retry_us(log, group, 1) is None
    await client.execute("ALTER SUBSCRIPTION g ON t SEEK TO END")
    assert not outlook.is_ahead(log, group, 1)


async def test_one_that_waits_beside_retries_it_cannot_have_does_not_look_without_end(client: Client) -> None:
    await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 2)")
    async with client.subscribe("t", consumer_group="g", auto_ack=False, partition=0) as member:
        await client.publish_batch("t", [0], partition_key=KEYS[0])
        await client.publish_batch("t", [1], partition_key=KEYS[1])
        first = await next_of(member)
        await first.nack(delay=0)
    async with client.subscribe("t", consumer_group="g", auto_ack=False, partition=1) as member:
        await (await next_of(member)).ack()
        waiting = asyncio.ensure_future(member.get())
        (driver,) = [found.driver for found in groups(client)._open.values()]
        await client.publish("t", 2, partition_key=KEYS[0])  # has the driver look, and find nothing of its partition
        while driver._tasks or not driver.scheduler._waiting:
            await asyncio.sleep(0)
        next_time_us = driver.scheduler.next_time_us()
        assert next_time_us is None or next_time_us > boot_us()  # one that has passed would have it look without end
        waiting.cancel()


# ── coming and going ──
@pytest.mark.parametrize("turns", range(12))
async def test_a_member_that_joins_while_the_last_one_leaves_is_served(client: Client, turns: int) -> None:
    await client.execute("CREATE TOPIC t")
    first = await client.subscribe("t", consumer_group="g").open()
    await client.publish_batch("t", list(range(5)))
    assert (await next_of(first)).data == 0
    leaving = asyncio.ensure_future(first.close())
    for _ in range(turns):
        await asyncio.sleep(0)
    async with client.subscribe("t", consumer_group="g") as second:
        assert [(await next_of(second)).data for _ in range(4)] == [1, 2, 3, 4]
        await leaving
    assert (await conserved(client, "t"))["g"].pending == 0


async def test_many_groups_whose_members_come_and_go_at_random(client: Client) -> None:
    chance, count, messages = random.Random(7), 30, 40
    names = [f"g{number}" for number in range(count)]
    await client.execute("CREATE TOPIC t")
    for name in names:
        await client.execute(f"CREATE SUBSCRIPTION {name} ON t")
    await client.publish_batch("t", list(range(messages)))

    async def serve(name: str) -> set[int]:
        seen: set[int] = set()
        while len(seen) < messages:
            async with client.subscribe("t", consumer_group=name, prefetch=7) as member:
                for _ in range(chance.randint(1, 12)):
                    seen.add((await next_of(member)).data)
                    if len(seen) == messages:
                        break
        return seen

    async with asyncio.timeout(60):
        found = await asyncio.gather(*(serve(name) for name in names))
    assert all(seen == set(range(messages)) for seen in found)
    assert all(group.pending == 0 for group in (await conserved(client, "t")).values())


# ── the order of keys ──
class Broken(Exception):
    """What a handler raises."""


async def _read_until(client: Client, count: int, fails: Callable[[int], bool], **more: Any) -> list[int]:
    """What was done, in order; a failure ends the subscription, and the next one goes on."""
    done: list[int] = []
    while len(done) < count:
        try:
            async with client.subscribe("t", consumer_group="g", ordering=True, **more) as member:
                while len(done) < count:
                    number = (await next_of(member)).data
                    if fails(number):
                        raise Broken
                    done.append(number)
        except Broken:
            continue
    return done


@pytest.mark.parametrize("prefetch", [1, 3, 1000])
async def test_a_key_keeps_its_order_when_failures_end_the_only_consumer(client: Client, prefetch: int) -> None:
    await client.execute(
        "CREATE TOPIC t WITH OPTIONS (retry_backoff: '20ms', retry_backoff_max: '20ms', max_retries: 100)"
    )
    async with client.subscribe("t", consumer_group="g", ordering=True):
        await client.publish_batch("t", list(range(12)), partition_key="a")
    left = {0: 1, 1: 2, 2: 1, 5: 2, 9: 1, 10: 1}

    def fails(number: int) -> bool:
        left[number] = left.get(number, 0) - 1
        return left[number] >= 0

    assert await _read_until(client, 12, fails, prefetch=prefetch) == list(range(12))
    assert (await conserved(client, "t"))["g"].pending == 0
