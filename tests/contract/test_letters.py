"""Dead letters: who gets a copy, what is marked with it, and what is deleted. `replaying` does it over any backend."""

import asyncio
from typing import Any

import pytest
from contract.helping import QUICK, WAIT_SECONDS, group_of, needs, publish, retained, subscribed, take, topic

from geode_client import replaying
from geode_client.broker import Broker, FromBeginning, OutgoingBatch, ScanRequest, SubscriptionRequest
from geode_client.catalog import Delivery
from geode_client.errors import LettersChanged
from geode_client.letters import History
from geode_client.message import Chunk

pytestmark = needs("groups", "transactions")
DEAD = "dead/t"


async def make_letters(broker: Broker, *numbers: int, group: str = "g", pattern: str = "t", **fields: Any) -> None:
    """Publish messages to t and refuse them for good in a group."""
    async with subscribed(broker, pattern, group=group, auto_ack=False) as member:
        await publish(broker, *[{"n": number} for number in numbers], **fields)
        for message in await take(member, len(numbers)):
            await message.nack(requeue=False, reason="bad")


async def letters(broker: Broker) -> list[Chunk]:
    """The chunks of the dead-letter topic, with what was replayed of them."""
    request = ScanRequest([await broker.topic(DEAD)], letters=True)
    return [chunk async for chunk in broker.scan(request)]


async def outstanding(broker: Broker) -> int:
    return sum(one.outstanding for one in (await broker.report(["dead_letters"], "t")).dead_letters)


@pytest.fixture
async def broker(broker: Broker) -> Broker:
    await topic(broker, DEAD)
    await topic(broker, dead_letter_topic=DEAD, **QUICK)
    return broker


@pytest.mark.parametrize("pattern", ["t", "*"])
async def test_a_copy_is_for_the_group_that_failed_alone(broker: Broker, pattern: str) -> None:
    await broker.create_group(SubscriptionRequest(pattern, group="g"))
    await broker.create_group(SubscriptionRequest("t" if pattern == "*" else "*", group="g"))  # a namesake
    await broker.create_group(SubscriptionRequest("t", group="other"))
    await make_letters(broker, 1, 2, pattern=pattern, key="k", headers={"own": "x"})
    namesake = "t" if pattern == "*" else "*"
    for name, of in (("other", "t"), ("g", namesake)):
        async with subscribed(broker, of, group=name) as member:
            await take(member, 2)
    ids = [message.id for message in await retained(broker, DEAD)]
    async with subscribed(broker) as plain:
        done = await replaying.replay(broker, "t", None)
        assert (done.count, done.refused) == (2, [])
        await publish(broker, {"n": 3})
        assert [message.data["n"] for message in await take(plain)] == [3]
        async with subscribed(broker, pattern, group="g") as member:
            found = await take(member, 3)
        assert [(one.data["n"], one.key, one.headers, one.replayed_from) for one in found] == [
            (1, "k", {"own": "x"}, ids[0]),
            (2, "k", {"own": "x"}, ids[1]),
            (3, None, {}, None),
        ]
    for name, of in (("other", "t"), ("g", namesake)):
        async with subscribed(broker, of, group=name) as member:
            assert [message.data["n"] for message in await take(member)] == [3]
    counts = await group_of(broker, "other")
    assert (counts.acknowledged, counts.filtered, counts.pending) == (3, 2, 0)


async def test_a_letter_is_replayed_once_and_marked(broker: Broker) -> None:
    await make_letters(broker, 1, 2, 3)
    assert await outstanding(broker) == 3
    assert (await replaying.replay(broker, "t", None, dry_run=True)).count == 3
    assert await outstanding(broker) == 3
    assert (await replaying.replay(broker, "t", None)).count == 3
    assert await outstanding(broker) == 0
    assert (await replaying.replay(broker, "t", None)).count == 0
    assert sum(len(chunk.replayed) for chunk in await letters(broker)) == 3


async def test_replays_at_once_publish_each_letter_once(broker: Broker) -> None:
    await make_letters(broker, *range(20))
    async with asyncio.timeout(WAIT_SECONDS):
        done = await asyncio.gather(*[replaying.replay(broker, "t", None) for _ in range(4)])
    assert sum(one.count for one in done) == 20
    async with subscribed(broker, group="g", follow=False) as member:
        found = await take(member, 20)
        assert sorted(message.data["n"] for message in found) == list(range(20))
    assert (await group_of(broker)).pending == 0


async def test_marks_belong_to_the_transaction(broker: Broker) -> None:
    await make_letters(broker, 1)
    (chunk,) = await letters(broker)
    holder = await broker.topic(DEAD)
    copies = OutgoingBatch(
        "t", [{"n": 1}], addressee=("g", "t"), histories=[History(replayed_from=chunk.message_id(0))]
    )
    undone = broker.transaction(WAIT_SECONDS)
    await undone.publish_batch(copies)
    undone.mark_replayed(holder, chunk.partition, [chunk.base_offset])
    await undone.rollback()
    assert await outstanding(broker) == 1
    first, second = broker.transaction(WAIT_SECONDS), broker.transaction(WAIT_SECONDS)
    for begun in (first, second):
        await begun.publish_batch(copies)
        begun.mark_replayed(holder, chunk.partition, [chunk.base_offset])
    await first.commit()
    with pytest.raises(LettersChanged):
        await second.commit()
    assert not second.committed
    assert await outstanding(broker) == 0
    assert [message.replayed_from for message in await retained(broker)] == [None]
    async with subscribed(broker, group="g") as member:
        assert [message.replayed_from for message in await take(member)] == [chunk.message_id(0)]


async def test_with_a_target_the_copies_are_for_everybody(broker: Broker) -> None:
    await topic(broker, "elsewhere")
    await make_letters(broker, 1)
    assert (await replaying.replay(broker, "t", None, target="elsewhere")).count == 1
    (copy,) = await retained(broker, "elsewhere")
    assert copy.data == {"n": 1}
    assert copy.replayed_from is not None


async def test_a_letter_of_a_group_that_is_gone_is_refused_with_the_reason(broker: Broker) -> None:
    await make_letters(broker, 1)
    await broker.drop_group("g", "t")
    done = await replaying.replay(broker, "t", None)
    assert done.count == 0
    assert [(one.group, "is gone" in one.reason) for one in done.refused] == [("g", True)]
    assert await outstanding(broker) == 1
    assert (await replaying.replay(broker, "t", None, to_all=True)).count == 1
    assert [message.data for message in await retained(broker)] == [{"n": 1}, {"n": 1}]


async def test_every_death_is_remembered(broker: Broker) -> None:
    await make_letters(broker, 1)
    await replaying.replay(broker, "t", None)
    async with subscribed(broker, group="g", auto_ack=False) as member:
        await (await take(member))[0].nack(requeue=False, reason="again")
    found = [chunk.attributes.history(index) for chunk in await letters(broker) for index in range(chunk.count)]
    assert [[death.error for death in history.deaths] if history else [] for history in found] == [[], ["bad"]]


async def test_letters_are_deleted_one_by_one(broker: Broker) -> None:
    await make_letters(broker, 1, 2, 3)
    places = [(chunk.partition, chunk.base_offset + i) for chunk in await letters(broker) for i in range(chunk.count)]
    holder = await broker.topic(DEAD)
    (partition, offset) = places[1]
    assert await broker.delete_messages(holder, partition, [offset]) == 1
    assert await broker.delete_messages(holder, partition, [offset]) == 0
    assert [message.data["n"] for message in await retained(broker, DEAD)] == [1, 3]
    assert await outstanding(broker) == 2
    refused = broker.transaction(WAIT_SECONDS)
    refused.mark_replayed(holder, partition, [offset])
    with pytest.raises(LettersChanged):
        await refused.commit()
    assert await replaying.delete(broker, "t", None, dry_run=True) == 2
    assert await replaying.delete(broker, "t", None) == 2
    assert await retained(broker, DEAD) == []
    assert await outstanding(broker) == 0


async def test_deleting_is_counted_by_the_groups_that_wait_for_it(broker: Broker) -> None:
    await broker.create_group(SubscriptionRequest(DEAD, group="watch"))
    await make_letters(broker, 1, 2)
    assert await replaying.delete(broker, "t", None) == 2
    async with asyncio.timeout(WAIT_SECONDS):
        while (found := await group_of(broker, "watch", DEAD)).pending:
            await asyncio.sleep(0.005)
    assert (found.published, found.acknowledged) == (2, 0)
    async with subscribed(broker, DEAD, group="watch") as member:
        assert await member.get(timeout=0.05) is None


async def test_letters_of_a_topic_that_was_dropped_are_still_there(broker: Broker) -> None:
    await make_letters(broker, 1)
    await broker.drop_topic("t")
    (total,) = (await broker.report(["dead_letters"], "t")).dead_letters
    assert (total.dead_letter_topic, total.outstanding) == (DEAD, 1)
    await topic(broker, "elsewhere", Delivery.EXACTLY_ONCE)
    assert (await replaying.replay(broker, "t", None, target="elsewhere")).count == 1
    start = FromBeginning()
    async with subscribed(broker, "elsewhere", group="h", start=start) as member:
        assert [message.data for message in await take(member)] == [{"n": 1}]
