"""Topics: created, changed, listed, purged, dropped."""

import pytest
from contract.helping import batch, bodies, publish, topic

from geode_client import GqlError, StoreError, TopicExists, TopicNotFound
from geode_client.broker import Broker
from geode_client.catalog import AddColumn, Delivery, SetDelivery, SetOptions, TopicDefinition
from geode_client.grammar.ast import ColumnDefinition, Scalar
from geode_client.options import TopicOptions


async def test_a_topic_is_as_it_was_defined(broker: Broker) -> None:
    definition = TopicDefinition("a/b", TopicOptions(partitions=3, max_retries=2), delivery=Delivery.EXACTLY_ONCE)
    assert await broker.create_topic(definition)
    assert (await broker.topic("a/b")).definition == definition
    assert not await broker.create_topic(definition, if_not_exists=True)
    with pytest.raises(TopicExists):
        await broker.create_topic(definition)


async def test_a_topic_that_is_not_there(broker: Broker) -> None:
    await topic(broker, "orders")
    with pytest.raises(TopicNotFound, match="orders"):
        await broker.topic("order")
    with pytest.raises(TopicNotFound):
        await publish(broker, 1, name="order")
    with pytest.raises(TopicNotFound):
        await broker.drop_topic("order")
    with pytest.raises(TopicNotFound):
        await broker.purge_topic("order")
    with pytest.raises(GqlError):
        await broker.create_topic(TopicDefinition("../x", TopicOptions()))


async def test_patterns_list_topics_by_name(broker: Broker) -> None:
    for name in ("users/b", "users/a", "users/a/x", "_own/x", "z"):
        await topic(broker, name)
    assert [one.name for one in await broker.topics()] == ["users/a", "users/a/x", "users/b", "z"]
    assert [one.name for one in await broker.topics("users/*")] == ["users/a", "users/b"]
    assert [one.name for one in await broker.topics("_own/**")] == ["_own/x"]
    assert await broker.topics("nothing") == []


async def test_changes_are_seen_at_once(broker: Broker) -> None:
    await topic(broker)
    changed = await broker.alter_topic("t", SetOptions(TopicOptions(max_message_bytes=10)))
    assert changed.options.max_message_bytes == 10
    assert (await broker.alter_topic("t", SetDelivery(Delivery.AT_MOST_ONCE))).delivery is Delivery.AT_MOST_ONCE
    await broker.alter_topic("t", AddColumn(ColumnDefinition("n", Scalar("INT"), False, None)))
    schema = (await broker.topic("t")).schema
    assert schema is not None
    assert schema.names == ("n",)


async def test_purge_keeps_offsets_and_drop_does_not(broker: Broker) -> None:
    await topic(broker)
    await batch(broker, [1, 2, 3])
    before = (await broker.topic("t")).topic_id
    (last,) = await publish(broker, 4)
    assert await broker.purge_topic("t") == 4
    assert await bodies(broker) == []
    (after,) = await publish(broker, 5)
    assert last.offset is not None
    assert after.offset is not None
    assert after.offset > last.offset
    await broker.drop_topic("t")
    with pytest.raises(TopicNotFound):
        await broker.topic("t")
    await topic(broker)
    assert (await broker.topic("t")).topic_id != before
    assert await bodies(broker) == []


async def test_a_closed_broker_says_so(broker: Broker) -> None:
    await broker.close()
    await broker.close()
    with pytest.raises(StoreError):
        await broker.topics()
    with pytest.raises(StoreError):
        await broker.report(["topics"])
