"""Groups: guarantees, sharing, order, priority, retries, dead letters, pause, seek, drop."""

import asyncio
import contextlib
from typing import Any

import pytest
from contract.helping import (
    QUICK,
    WAIT_SECONDS,
    batch,
    bodies,
    group_of,
    needs,
    publish,
    retained,
    subscribed,
    take,
    topic,
    until_settled,
)

from geode_client import AlreadySettled, GroupMismatch, GroupNotFound
from geode_client.broker import Broker, FromBeginning, FromEnd, FromOffset, SubscriptionRequest
from geode_client.catalog import Delivery
from geode_client.conditions import compile_filter

pytestmark = needs("groups")


@pytest.mark.parametrize("delivery", Delivery)
async def test_members_share_and_each_message_is_settled_once(broker: Broker, delivery: Delivery) -> None:
    await topic(broker, delivery=delivery, partitions=2)
    await broker.create_group(SubscriptionRequest("t", group="g"))
    await batch(broker, list(range(200)), keys=[str(n) for n in range(200)])
    seen: list[int] = []

    async def member() -> None:
        async with subscribed(broker, group="g", prefetch=20) as subscription:
            async for message in subscription:
                seen.append(message.data)

    members = [asyncio.create_task(member()) for _ in range(3)]
    async with asyncio.timeout(WAIT_SECONDS):
        while len(seen) < 200:
            await asyncio.sleep(0.005)
    found = await until_settled(broker)
    for task in members:
        task.cancel()
    await asyncio.gather(*members, return_exceptions=True)
    assert found.acknowledged == 200
    assert sorted(seen) == list(range(200))


async def test_groups_are_independent_and_start_where_they_say(broker: Broker) -> None:
    await topic(broker)
    await publish(broker, 0, 1)
    async with (
        subscribed(broker, group="all", start=FromBeginning()) as everything,
        subscribed(broker, group="new") as new,
    ):
        await publish(broker, 2)
        assert [one.data for one in await take(everything, 3)] == [0, 1, 2]
        assert [one.data for one in await take(new)] == [2]


async def test_what_is_not_acknowledged_comes_again(broker: Broker) -> None:
    await topic(broker, **QUICK)
    await publish(broker, 1, 2)
    async with subscribed(broker, group="g", start=FromBeginning(), auto_ack=False) as member:
        first, second = await take(member, 2)
        await first.ack()
        await first.ack()
        await second.nack()
        with pytest.raises(AlreadySettled):
            await second.ack()
        (again,) = await take(member)
        assert (again.data, again.attempt) == (2, 2)
        await again.ack()
    found = await group_of(broker)
    assert (found.acknowledged, found.pending) == (2, 0)


async def test_leaving_gives_back_and_an_exception_is_a_failed_attempt(broker: Broker) -> None:
    await topic(broker, **QUICK)
    await publish(broker, 1)
    async with subscribed(broker, group="g", start=FromBeginning(), auto_ack=False) as member:
        assert (await take(member))[0].attempt == 1
    with contextlib.suppress(ZeroDivisionError):
        async with subscribed(broker, group="g") as member:
            assert (await take(member))[0].attempt == 1
            raise ZeroDivisionError
    async with subscribed(broker, group="g") as member:
        assert (await take(member))[0].attempt == 2
    assert (await until_settled(broker)).acknowledged == 1


async def test_failed_too_often_it_is_a_dead_letter(broker: Broker) -> None:
    await topic(broker, "dead")
    await topic(broker, max_retries=2, dead_letter_topic="dead", **QUICK)
    await publish(broker, {"n": 1}, key="k", headers={"own": "x"})
    async with subscribed(broker, group="g", start=FromBeginning(), auto_ack=False) as member:
        while (await group_of(broker)).dead_lettered == 0:
            message = await member.get(timeout=0.02)
            if message is not None:
                await message.nack(reason="broken")
    (letter,) = await retained(broker, "dead")
    assert (letter.data, letter.key, letter.headers["own"]) == ({"n": 1}, "k", "x")
    assert letter.headers["dead_letter_topic"] == "t"
    assert "broken" in str(letter.headers)
    (total,) = (await broker.report(["dead_letters"], "t")).dead_letters
    assert (total.name, total.messages) == ("g", 1)


async def test_refused_for_good_it_is_a_dead_letter_at_once(broker: Broker) -> None:
    await topic(broker, "dead")
    await topic(broker, dead_letter_topic="dead")
    await publish(broker, 1)
    async with subscribed(broker, group="g", start=FromBeginning(), auto_ack=False) as member:
        await (await take(member))[0].nack(requeue=False)
    assert await bodies(broker, "dead") == [1]
    assert (await group_of(broker)).dead_lettered == 1


async def test_a_filter_counts_what_it_passes_over(broker: Broker) -> None:
    await topic(broker)
    await batch(broker, [{"n": n} for n in range(10)])
    condition = compile_filter("n >= 7")
    async with subscribed(broker, group="g", start=FromBeginning(), condition=condition) as member:
        assert [one.data["n"] for one in await take(member, 3)] == [7, 8, 9]
    found = await until_settled(broker)
    assert (found.filtered, found.acknowledged) == (7, 3)


async def test_what_expires_or_is_purged_is_counted(broker: Broker) -> None:
    await topic(broker)
    await broker.create_group(SubscriptionRequest("t", group="g"))
    await publish(broker, "short", ttl_us=1)
    await publish(broker, "long")
    async with subscribed(broker, group="g") as member:
        assert [one.data for one in await take(member)] == ["long"]
    assert (await until_settled(broker)).expired == 1
    await publish(broker, 1, 2)
    await broker.purge_topic("t")
    assert (await until_settled(broker)).removed == 2


@needs("ordering")
async def test_the_next_of_a_key_waits_until_the_one_before_is_settled(broker: Broker) -> None:
    await topic(broker, **QUICK)
    await batch(broker, [1, 2, 3], keys="k")
    request: dict[str, Any] = {"group": "g", "start": FromBeginning(), "auto_ack": False, "ordering": True}
    async with subscribed(broker, **request) as one, subscribed(broker, **request) as other:
        order: list[tuple[int, int]] = []
        async with asyncio.timeout(WAIT_SECONDS):
            while len(order) < 4:
                for member in (one, other):
                    message = await member.get(timeout=0.01)
                    if message is None:
                        continue
                    order.append((message.data, message.attempt))
                    await (message.nack() if len(order) == 1 else message.ack())
    assert order == [(1, 1), (1, 2), (2, 1), (3, 1)]


@needs("priorities")
async def test_higher_priorities_come_first(broker: Broker) -> None:
    await topic(broker)
    for priority in (1, 9, 5, 9):
        await publish(broker, priority, priority=priority)
    async with subscribed(broker, group="g", start=FromBeginning(), priority_order=True) as member:
        assert [one.data for one in await take(member, 4)] == [9, 9, 5, 1]


async def test_a_paused_group_gets_nothing(broker: Broker) -> None:
    await topic(broker)
    await broker.create_group(SubscriptionRequest("t", group="g"))
    await broker.pause_group("g", "t", paused=True)
    async with subscribed(broker, group="g") as member:
        await publish(broker, 1)
        assert await member.get(timeout=0.1) is None
        assert (await group_of(broker)).paused
        await broker.pause_group("g", "t", paused=False)
        assert [one.data for one in await take(member)] == [1]


async def test_seek_moves_a_group_and_says_how_far(broker: Broker) -> None:
    await topic(broker)
    receipts = await publish(broker, 0, 1, 2, 3)
    async with subscribed(broker, group="g", start=FromBeginning()) as member:
        await take(member, 4)
    await until_settled(broker)
    third = receipts[2].offset
    assert third is not None
    preview = await broker.seek_group("g", "t", FromOffset(third), dry_run=True)
    if broker.capabilities.exact_seek_preview:
        assert (preview.replayed, preview.skipped) == (2, 0)
    assert (await group_of(broker)).pending == 0
    await broker.seek_group("g", "t", FromOffset(third))
    async with subscribed(broker, group="g") as member:
        assert [one.data for one in await take(member, 2)] == [2, 3]
    await publish(broker, 4)
    await broker.seek_group("g", "t", FromEnd())
    assert (await group_of(broker)).pending == 0


async def test_groups_are_created_once_and_dropped(broker: Broker) -> None:
    await topic(broker)
    request = SubscriptionRequest("t", group="g")
    await broker.create_group(request)
    with pytest.raises(GroupMismatch):
        await broker.create_group(request)
    with pytest.raises(GroupMismatch):
        await subscribed(broker, group="g", priority_order=True).open()
    assert await broker.drop_group("g", "t") == 1
    assert await broker.drop_group("g", "t", if_exists=True) == 0
    for missing in (
        broker.drop_group("g", None),
        broker.pause_group("g", "t", paused=True),
        broker.seek_group("g", "t", FromBeginning()),
    ):
        with pytest.raises(GroupNotFound):
            await missing
    await broker.create_group(request)


async def test_without_a_group_acknowledging_works_on_a_private_one(broker: Broker) -> None:
    await topic(broker, **QUICK)
    async with subscribed(broker, auto_ack=False) as one, subscribed(broker, auto_ack=False) as other:
        await publish(broker, 1)
        (message,) = await take(one)
        await message.nack()
        assert (await take(one))[0].attempt == 2
        assert (await take(other))[0].attempt == 1
