"""Subscribing without a group, replay positions, and scans."""

import asyncio

from contract.helping import WAIT_SECONDS, batch, bodies, publish, retained, subscribed, take, topic

from geode_client.broker import Broker, FromBeginning, FromOffset, FromTime, ScanRequest
from geode_client.clock import microseconds_of
from geode_client.conditions import compile_filter


async def test_every_subscriber_gets_what_comes_after_it(broker: Broker) -> None:
    await topic(broker)
    await publish(broker, "before")
    async with subscribed(broker) as one, subscribed(broker) as other:
        assert one.subscriber_id != other.subscriber_id
        await publish(broker, 1, 2)
        for subscription in (one, other):
            assert [message.data for message in await take(subscription, 2)] == [1, 2]


async def test_a_wait_that_is_cancelled_loses_nothing(broker: Broker) -> None:
    await topic(broker)
    async with subscribed(broker) as subscription:
        for n in range(20):
            assert await subscription.get(timeout=0) is None
            await publish(broker, n)
            assert [message.data for message in await take(subscription)] == [n]


async def test_a_pattern_covers_topics_that_come_later(broker: Broker) -> None:
    await topic(broker, "a/x")
    async with subscribed(broker, "a/*") as subscription:
        await publish(broker, 1, name="a/x")
        assert [(one.topic, one.data) for one in await take(subscription)] == [("a/x", 1)]
        await topic(broker, "a/y")
        await topic(broker, "b/y")
        await publish(broker, 2, name="b/y")
        await publish(broker, 3, name="a/y")
        assert [(one.topic, one.data) for one in await take(subscription)] == [("a/y", 3)]


async def test_replay_positions(broker: Broker) -> None:
    await topic(broker)
    receipts = []
    for n in range(5):
        receipts += await publish(broker, n)
        await asyncio.sleep(0.002)  # so that the times differ
    third = receipts[2]
    assert third.offset is not None
    assert await bodies(broker) == [0, 1, 2, 3, 4]
    assert await bodies(broker, start=FromOffset(third.offset)) == [2, 3, 4]
    assert await bodies(broker, start=FromTime(microseconds_of(third.timestamp))) == [2, 3, 4]
    async with subscribed(broker, start=FromBeginning()) as subscription:
        assert [one.data for one in await take(subscription, 5)] == [0, 1, 2, 3, 4]
        await publish(broker, 5)
        assert [one.data for one in await take(subscription)] == [5]


async def test_conditions_keys_and_partitions_choose(broker: Broker) -> None:
    await topic(broker, partitions=4)
    await batch(broker, [{"n": n} for n in range(40)], keys=[f"k{n % 5}" for n in range(40)])
    of_condition = await bodies(broker, condition=compile_filter("n >= 38"))
    assert sorted(one["n"] for one in of_condition) == [38, 39]
    of_key = await retained(broker, key="k1")
    assert [one.data["n"] for one in of_key] == list(range(1, 40, 5))
    partition = of_key[0].partition
    assert {one.partition for one in await retained(broker, partition=partition)} == {partition}


async def test_offsets_ascend_in_a_partition(broker: Broker) -> None:
    await topic(broker, partitions=2)
    for n in range(10):
        await batch(broker, [n] * 3)
    places: dict[int, list[int]] = {}
    for message in await retained(broker):
        places.setdefault(message.partition, []).append(message.offset)
    for offsets in places.values():
        assert offsets == sorted(set(offsets))
        if broker.capabilities.dense_offsets:
            assert offsets == list(range(len(offsets)))


async def test_a_subscription_ends_with_its_topic_and_its_broker(broker: Broker) -> None:
    await topic(broker)
    async with asyncio.timeout(WAIT_SECONDS), subscribed(broker) as subscription:
        await broker.close()
        assert await subscription.get() is None


async def test_a_scan_reads_what_is_retained(broker: Broker) -> None:
    await topic(broker, partitions=2)
    await batch(broker, list(range(20)), keys=[str(n) for n in range(20)])
    request = ScanRequest([await broker.topic("t")])
    found = [body for chunk in [one async for one in broker.scan(request)] for body in chunk.rows]
    assert sorted(found) == list(range(20))
    newest = [one async for one in broker.scan(ScanRequest([await broker.topic("t")], partition=1, newest_first=True))]
    assert {chunk.partition for chunk in newest} == {1}
    assert [chunk.base_offset for chunk in newest] == sorted((c.base_offset for c in newest), reverse=True)
