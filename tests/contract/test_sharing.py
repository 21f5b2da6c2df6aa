"""Several brokers on one target, and what is there after it was closed."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from contract.conftest import Make
from contract.helping import batch, bodies, group_of, needs, publish, subscribed, take, topic, until_settled

from geode_client.broker import Broker, FromBeginning
from geode_client.catalog import Delivery

Open = Callable[[], Awaitable[Broker]]


@needs("survives_restart")
@pytest.mark.parametrize("delivery", Delivery)
async def test_what_was_stored_is_there_after_a_restart(make: Make, delivery: Delivery) -> None:
    first = make()
    await first.open()
    await topic(first, delivery=delivery, partitions=2)
    await batch(first, list(range(10)), keys="k")
    async with subscribed(first, group="g", start=FromBeginning()) as member:
        assert [one.data for one in await take(member, 4)] == [0, 1, 2, 3]
    (receipt,) = await publish(first, "last", key="k", message_id="m")
    before = await group_of(first)
    assert before.acknowledged == 4
    await first.close()
    second = make()
    await second.open()
    try:
        assert await bodies(second) == [*range(10), "last"]
        assert await group_of(second) == before
        async with subscribed(second, group="g") as member:
            assert [one.data for one in await take(member, 7)] == [4, 5, 6, 7, 8, 9, "last"]
        (again,) = await publish(second, "last", key="k", message_id="m")
        assert again.duplicate == (delivery is not Delivery.AT_MOST_ONCE)
        if again.duplicate:
            assert (again.partition, again.offset) == (receipt.partition, receipt.offset)
    finally:
        await second.close()


@needs("shared")
async def test_what_one_does_the_others_see(opened: Open) -> None:
    one, other = await opened(), await opened()
    await topic(one)
    async with subscribed(other) as subscription:
        await publish(one, 1)
        assert [message.data for message in await take(subscription)] == [1]
        assert len((await one.report(["subscribers"], "t")).subscribers) == 1
    assert (await other.topic("t")).topic_id == (await one.topic("t")).topic_id
    await one.purge_topic("t")
    assert await bodies(other) == []


@needs("shared", "groups")
async def test_a_group_is_shared_by_brokers(opened: Open) -> None:
    one, other = await opened(), await opened()
    await topic(one)
    await publish(one, *range(20))
    request: dict[str, Any] = {"group": "g", "start": FromBeginning(), "prefetch": 5}
    seen: list[int] = []
    async with subscribed(one, **request) as first, subscribed(other, **request) as second:
        while len(seen) < 20:
            for member in (first, second):
                message = await member.get(timeout=0.01)
                if message is not None:
                    seen.append(message.data)
    assert sorted(seen) == list(range(20))
    assert (await until_settled(other)).acknowledged == 20


@needs("shared", "groups")
async def test_what_a_closed_broker_held_goes_to_the_others(opened: Open) -> None:
    one, other = await opened(), await opened()
    await topic(one)
    await publish(one, 1, 2, 3)
    held = await subscribed(one, group="g", start=FromBeginning(), auto_ack=False).open()
    await take(held, 2)
    await one.close()
    async with subscribed(other, group="g") as member:
        assert sorted([message.data for message in await take(member, 3)]) == [1, 2, 3]
    assert (await until_settled(other)).acknowledged == 3


@needs("shared")
async def test_ids_are_known_to_all(opened: Open) -> None:
    one, other = await opened(), await opened()
    await topic(one)
    (first,) = await publish(one, 1, message_id="m")
    (second,) = await publish(other, 1, message_id="m")
    assert not first.duplicate
    assert second.duplicate
