"""Acknowledgements inside a transaction: with everything else, or not at all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from geode_client import Client, GeodeError, LeaseLost, Message
from geode_client.broker import GroupStatistics


@pytest.fixture(params=["memory", "directory"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    async with Client(":memory:" if request.param == "memory" else tmp_path) as opened:
        await opened.execute("CREATE TOPIC t WITH OPTIONS (retry_backoff: '1ms') WITH DELIVERY exactly_once")
        yield opened


async def progress(client: Client) -> GroupStatistics:
    (one,) = (await client._broker.report(["groups"], "t")).groups
    assert one.published == one.acknowledged + one.pending + one.dead_lettered
    return one


async def test_effect_and_acknowledgement_are_one(client: Client) -> None:
    await client.publish_batch("t", [{"n": n} for n in range(6)])
    async with client.transaction() as tx:
        await tx.execute("CREATE TABLE done (n INT PRIMARY KEY)")
    tried: list[tuple[int, int]] = []
    async with client.subscribe("t", consumer_group="g", from_beginning=True) as subscription:
        async for message in subscription:
            tried.append((message["n"], message.attempt))
            try:
                async with client.transaction() as tx:
                    await tx.execute("INSERT INTO done VALUES (?)", [message["n"]])
                    await tx.publish("out", message.data)
                    await tx.ack(message)
                    if tried[-1] == (2, 1):
                        raise ZeroDivisionError
            except ZeroDivisionError:
                continue
            if len(tried) == 7:
                break
    assert sorted(tried) == [(0, 1), (1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (5, 1)]
    assert sorted(row[0] for row in (await client.query("SELECT n FROM out")).rows) == list(range(6))
    assert (await progress(client)).acknowledged == 6


async def test_a_rolled_back_acknowledgement_may_be_said_again(client: Client) -> None:
    await client.publish("t", 1)
    async with client.subscribe("t", consumer_group="g", from_beginning=True) as subscription:
        message = await subscription.get()
        assert isinstance(message, Message)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with client.transaction() as tx:
                    await tx.ack(message)
                    raise ZeroDivisionError
            assert (await progress(client)).in_flight == 1
        async with client.transaction() as tx:
            await tx.ack(message)
            await tx.ack(message)
        assert (await progress(client)).acknowledged == 1
        await message.ack()


async def test_a_lost_lease_refuses_the_whole_transaction(client: Client) -> None:
    await client.publish_batch("t", [1, 2])
    async with client.subscribe("t", consumer_group="g", from_beginning=True, auto_ack=False) as subscription:
        message = await subscription.get()
        assert isinstance(message, Message)
        await client.execute("ALTER SUBSCRIPTION g ON t SEEK TO BEGINNING")
        with pytest.raises(LeaseLost):
            async with client.transaction() as tx:
                await tx.publish("out", "never")
                await tx.ack(message)
    assert (await client.query("SHOW TOPICS LIKE 'out'")).rows == []
    assert (await progress(client)).pending == 2


async def test_settling_past_the_transaction_is_an_error(client: Client) -> None:
    await client.publish("t", 1)
    async with client.subscribe("t", consumer_group="g", from_beginning=True) as subscription:
        message = await subscription.get()
        assert isinstance(message, Message)
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE x (n INT)")
            with pytest.raises(GeodeError, match=r"use tx\.ack"):
                await message.ack()
            with pytest.raises(GeodeError, match="exception"):
                await message.nack()
            await tx.ack(message)
    assert (await progress(client)).acknowledged == 1


async def test_lists_are_acknowledged_as_a_whole(client: Client) -> None:
    await client.publish_batch("t", list(range(1000)))
    seen: list[int] = []
    async with client.subscribe("t", consumer_group="g", from_beginning=True, limit=1000) as subscription:
        async for batch in subscription.batches(300):
            async with client.transaction() as tx:
                await tx.ack(*batch)
            seen += [message.data for message in batch]
    assert seen == list(range(1000))
    assert (await progress(client)).acknowledged == 1000
