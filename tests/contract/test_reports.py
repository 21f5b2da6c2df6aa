"""Figures: a section holds what it is asked about, and a figure that is not known is None."""

import pytest
from contract.helping import batch, needs, publish, subscribed, take, topic, until_settled

from geode_client import GqlError
from geode_client.broker import Broker, FromBeginning
from geode_client.broker.capabilities import NAMES
from geode_client.broker.statistics import SECTIONS


async def test_only_what_is_asked_for(broker: Broker) -> None:
    await topic(broker, "a/x")
    await topic(broker, "b")
    found = await broker.report(["topics"], "a/*")
    assert [one.topic.name for one in found.topics] == ["a/x"]
    for section in SECTIONS:
        if section != "topics":
            assert getattr(found, section) == ()
    assert await broker.report([]) == type(found)()
    assert (await broker.report(["topics", "partitions"], "nothing")).topics == ()
    with pytest.raises(GqlError):
        await broker.report(["topics"], "a//b")


async def test_topics_and_partitions_count_messages(broker: Broker) -> None:
    await topic(broker, partitions=2)
    await batch(broker, list(range(10)), keys=[str(n) for n in range(10)])
    found = await broker.report(["topics", "partitions", "counters", "traffic", "traffic_series"], "t")
    (one,) = found.topics
    assert (one.messages_published, one.messages_retained, one.subscriber_count) == (10, 10, 0)
    assert one.bytes_stored is None or one.bytes_stored > 0
    assert [part.partition for part in found.partitions] == [0, 1]
    assert sum(part.messages_retained for part in found.partitions) == 10
    (counted,) = found.counters
    assert counted.published == 10
    (traffic,) = found.traffic
    assert traffic.published in (None, 10)
    await broker.purge_topic("t")
    (after,) = (await broker.report(["topics"], "t")).topics
    assert after.messages_retained == 0


async def test_subscribers_are_seen_while_they_are_open(broker: Broker) -> None:
    await topic(broker)
    await topic(broker, "u")
    async with subscribed(broker) as one, subscribed(broker, "*") as wild, subscribed(broker, "u"):
        found = {
            subscriber.subscriber_id: subscriber
            for subscriber in (await broker.report(["subscribers"], "t")).subscribers
        }
        assert found.keys() == {one.subscriber_id, wild.subscriber_id}
        assert found[one.subscriber_id].topic_name == "t"
        await publish(broker, 1, 2)
        (lagging,) = [
            subscriber
            for subscriber in (await broker.report(["subscribers"])).subscribers
            if subscriber.subscriber_id == one.subscriber_id
        ]
        assert lagging.lag_messages in (None, 2)
    assert (await broker.report(["subscribers"])).subscribers == ()


@needs("groups")
async def test_totals_outlive_their_group(broker: Broker) -> None:
    await topic(broker)
    await publish(broker, 1, 2)
    async with subscribed(broker, group="g", start=FromBeginning()) as member:
        await take(member, 2)
    await until_settled(broker)
    await broker.drop_group("g", "t")
    found = await broker.report(["groups", "group_totals"], "t")
    assert found.groups == ()
    (total,) = found.group_totals
    assert (total.name, total.acknowledged) == ("g", 2)


async def test_capabilities_name_what_is_missing(broker: Broker) -> None:
    found = broker.capabilities
    assert set(found.missing()) == {name for name in NAMES if not getattr(found, name)}
    assert set(found.reasons) <= set(found.missing())
    assert found.lacking(name for name in NAMES if getattr(found, name)) is None
    assert broker.target
