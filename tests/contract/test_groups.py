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


@pytest.mark.parametrize("delivery", Delivery)
async def test_what_a_member_had_not_taken_is_for_the_others(broker: Broker, delivery: Delivery) -> None:
    await topic(broker, delivery=delivery, partitions=2, **QUICK)
    await batch(broker, list(range(40)), keys=[str(n) for n in range(40)])
    async with subscribed(broker, group="g", start=FromBeginning()) as leaver:
        taken = [one.data for one in await take(leaver, 5)]
    assert (await group_of(broker)).acknowledged == 5
    async with subscribed(broker, group="g") as member:
        taken += [one.data for one in await take(member, 35)]
        assert sorted(taken) == list(range(40))
        assert await member.get(timeout=0) is None
    assert (await until_settled(broker)).acknowledged == 40


@pytest.mark.parametrize("delivery", Delivery)
async def test_a_reader_that_is_cancelled_leaves_nothing_undelivered(broker: Broker, delivery: Delivery) -> None:
    await topic(broker, delivery=delivery, **QUICK)
    await batch(broker, list(range(20)))
    seen: list[int] = []
    enough = asyncio.Event()

    async def read() -> None:
        async with subscribed(broker, group="g", start=FromBeginning()) as member:
            async for message in member:
                seen.append(message.data)
                if len(seen) == 7:
                    enough.set()
                    await asyncio.Event().wait()  # until it is cancelled, with one message in hand

    reader = asyncio.create_task(read())
    async with asyncio.timeout(WAIT_SECONDS):
        await enough.wait()
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    async with subscribed(broker, group="g") as member:
        async with asyncio.timeout(WAIT_SECONDS):
            while (await group_of(broker)).pending:
                message = await member.get(timeout=0.02)
                if message is not None:
                    seen.append(message.data)
    assert set(seen) == set(range(20))
    if delivery is Delivery.AT_MOST_ONCE:
        assert len(seen) == 20


async def test_a_new_group_says_what_lies_before_it(broker: Broker) -> None:
    await topic(broker)
    await publish(broker, 0, 1, 2)
    assert await broker.create_group(SubscriptionRequest("t", group="end")) == 3
    assert await broker.create_group(SubscriptionRequest("t", group="all", start=FromBeginning())) == 0
    for name, before in (("new", 3), ("end", 0)):  # it is said once, to whom the group is made for
        feed = await broker.subscribe(SubscriptionRequest("t", group=name))
        assert feed.before == before
        await feed.close()
    feed = await broker.subscribe(SubscriptionRequest("t"))
    assert feed.before == 0
    await feed.close()


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


ORDERED: dict[str, Any] = {"group": "g", "start": FromBeginning(), "auto_ack": False, "ordering": True}


@needs("ordering")
async def test_other_keys_go_on_while_one_waits_for_its_retry(broker: Broker) -> None:
    await topic(broker, retry_backoff_us=50_000, retry_backoff_max_us=50_000)
    await batch(broker, ["a1", "b1", "a2", "b2", "a3", "b3"], keys=["a", "b"] * 3)
    async with subscribed(broker, **ORDERED) as member:
        order: list[str] = []
        for _ in range(7):
            (message,) = await take(member)
            order.append(message.data)
            await (message.nack() if order.count("a1") == 1 and message.data == "a1" else message.ack())
    assert [one for one in order if one[0] == "a"] == ["a1", "a1", "a2", "a3"]
    assert [one for one in order if one[0] == "b"] == ["b1", "b2", "b3"]
    assert (await until_settled(broker)).acknowledged == 6


@needs("ordering")
@pytest.mark.parametrize("leaves", [False, True])
async def test_what_waits_behind_a_message_in_hand_comes_once_and_in_order(broker: Broker, leaves: bool) -> None:
    await topic(broker, **QUICK)
    await batch(broker, ["a1", "a2", "a3"], keys="a")
    async with subscribed(broker, **ORDERED) as other:
        async with subscribed(broker, **ORDERED) as holder:
            (first,) = await take(holder)
            await batch(broker, ["a4", "b1"], keys=["a", "b"])
            (passing,) = await take(other)
            assert (first.data, passing.data) == ("a1", "b1")
            await passing.ack()
            assert await other.get(timeout=0.05) is None
            found = await group_of(broker)
            assert (found.acknowledged, found.pending) == (1, 4)
            if not leaves:
                await first.ack()
        expected = ["a1", "a2", "a3", "a4"] if leaves else ["a2", "a3", "a4"]
        for body in expected:
            (message,) = await take(other)
            assert (message.data, message.attempt) == (body, 1)
            await message.ack()
    assert (await until_settled(broker)).acknowledged == 5


@needs("ordering")
async def test_a_dead_letter_lets_the_next_of_its_key_through(broker: Broker) -> None:
    await topic(broker, **QUICK)
    await batch(broker, [1, 2, 3], keys="k")
    async with subscribed(broker, **ORDERED) as member:
        (message,) = await take(member)
        await message.nack(requeue=False)
        for body in (2, 3):
            (message,) = await take(member)
            assert message.data == body
            await message.ack()
    found = await until_settled(broker)
    assert (found.acknowledged, found.dead_lettered) == (2, 1)


@needs("ordering")
async def test_after_a_purge_the_next_of_a_key_comes(broker: Broker) -> None:
    await topic(broker, **QUICK)
    await batch(broker, [1, 2, 3], keys="k")
    async with subscribed(broker, **ORDERED) as member:
        (message,) = await take(member)
        await broker.purge_topic("t")
        await message.ack()
        await publish(broker, 4, key="k")
        order: list[int] = []
        while order[-1:] != [4]:  # what was with the member already may still come
            (message,) = await take(member)
            order.append(message.data)
            await message.ack()
    assert order == sorted(order)
    found = await until_settled(broker)
    assert (found.acknowledged + found.removed, found.published) == (4, 4)


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
