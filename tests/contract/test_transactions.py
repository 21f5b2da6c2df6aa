"""Transactions: whole or not at all, with acknowledgements and SQL where the backend has them."""

import asyncio

import pytest
from contract.helping import WAIT_SECONDS, bodies, group_of, needs, publish, subscribed, take, topic

from geode_client import Conflict, GeodeError, MessageTooLarge, TopicNotFound, TransactionAborted
from geode_client.broker import (
    BatchReceipt,
    Broker,
    FromBeginning,
    OutgoingBatch,
    OutgoingMessage,
    Receipt,
    current_transaction,
)
from geode_client.catalog import TopicDefinition
from geode_client.options import TopicOptions

pytestmark = needs("transactions")


async def test_committed_it_is_stored_whole(broker: Broker) -> None:
    await topic(broker)
    begun = broker.transaction(WAIT_SECONDS)
    await begun.publish(OutgoingMessage("t", 1))
    await begun.publish_batch(OutgoingBatch("t", [2, 3]))
    assert begun.is_open
    assert await bodies(broker) == []
    await begun.commit()
    assert begun.committed
    assert not begun.is_open
    assert await bodies(broker) == [1, 2, 3]
    single, batch = begun.receipts
    assert isinstance(single, Receipt)
    assert isinstance(batch, BatchReceipt)
    assert batch.count == 2


async def test_rolled_back_nothing_is_stored(broker: Broker) -> None:
    await topic(broker)
    begun = broker.transaction(WAIT_SECONDS)
    await begun.publish(OutgoingMessage("t", 1))
    await begun.create_topic(TopicDefinition("new", TopicOptions()))
    await begun.rollback()
    await begun.rollback()
    assert not begun.committed
    with pytest.raises(TransactionAborted):
        await begun.publish(OutgoingMessage("t", 2))
    with pytest.raises(TransactionAborted):
        await begun.commit()
    assert await bodies(broker) == []
    with pytest.raises(TopicNotFound):
        await broker.topic("new")


async def test_a_refused_message_leaves_the_transaction_open(broker: Broker) -> None:
    await topic(broker, max_message_bytes=10)
    begun = broker.transaction(WAIT_SECONDS)
    with pytest.raises(MessageTooLarge):
        await begun.publish(OutgoingMessage("t", "x" * 20))
    with pytest.raises(TopicNotFound):
        await begun.publish(OutgoingMessage("nothing", 1))
    await begun.publish(OutgoingMessage("t", 1))
    await begun.commit()
    assert await bodies(broker) == [1]


@needs("expected_offsets")
async def test_a_conflict_refuses_all_of_it(broker: Broker) -> None:
    await topic(broker)
    await publish(broker, 0)
    begun = broker.transaction(WAIT_SECONDS)
    await begun.publish(OutgoingMessage("t", 1))
    await begun.publish(OutgoingMessage("t", 2, expected_offset=0))
    with pytest.raises(Conflict):
        await begun.commit()
    assert not begun.committed
    assert await bodies(broker) == [0]


@needs("transactions_across_topics")
async def test_topics_and_new_topics_together(broker: Broker) -> None:
    await topic(broker)
    begun = broker.transaction(WAIT_SECONDS)
    await begun.create_topic(TopicDefinition("new", TopicOptions()))
    await begun.publish(OutgoingMessage("new", 1))
    await begun.publish(OutgoingMessage("t", 2))
    await begun.commit()
    assert (await bodies(broker, "new"), await bodies(broker)) == ([1], [2])


async def test_publishing_past_an_open_transaction_is_refused(broker: Broker) -> None:
    await topic(broker)
    begun = broker.transaction(WAIT_SECONDS)
    token = current_transaction.set(begun)
    try:
        with pytest.raises(GeodeError, match="past the open transaction"):
            await publish(broker, 1)
        with pytest.raises(GeodeError):
            broker.transaction(WAIT_SECONDS)
    finally:
        current_transaction.reset(token)
        await begun.rollback()
    await publish(broker, 2)
    assert await bodies(broker) == [2]


async def test_the_time_is_bounded(broker: Broker) -> None:
    await topic(broker)
    begun = broker.transaction(0.01)
    await begun.publish(OutgoingMessage("t", 1))
    async with asyncio.timeout(WAIT_SECONDS):
        while begun.is_open:
            await asyncio.sleep(0.001)
    with pytest.raises(TransactionAborted):
        await begun.commit()
    assert await bodies(broker) == []


@needs("groups")
@pytest.mark.parametrize("commits", [True, False])
async def test_acknowledgements_are_stored_with_it(broker: Broker, commits: bool) -> None:
    await topic(broker)
    await publish(broker, 1)
    begun = broker.transaction(WAIT_SECONDS)
    assert begun.joining is not None
    async with subscribed(broker, group="g", start=FromBeginning(), auto_ack=False) as member:
        (message,) = await take(member)
        message.acknowledge_within(begun.joining)
        await begun.publish(OutgoingMessage("t", 2))
        await (begun.commit() if commits else begun.rollback())
    found = await group_of(broker)
    assert (found.acknowledged, found.published) == ((1, 2) if commits else (0, 1))


@needs("own_tables")
async def test_own_tables_are_part_of_it(broker: Broker) -> None:
    await topic(broker)
    begun = broker.transaction(WAIT_SECONDS)
    assert begun.sql is not None
    await begun.sql.execute("CREATE TABLE own (a)")
    assert (await begun.sql.execute("INSERT INTO own VALUES (?)", (1,))).changes == 1
    assert "own" in await begun.sql.own_tables()
    await begun.publish(OutgoingMessage("t", 1))
    await begun.commit()
    undone = broker.transaction(WAIT_SECONDS)
    assert undone.sql is not None
    await undone.sql.execute("DELETE FROM own")
    await undone.rollback()
    read = broker.transaction(WAIT_SECONDS)
    assert read.sql is not None
    assert (await read.sql.execute("SELECT a FROM own")).rows == [(1,)]
    await read.rollback()


async def test_without_own_tables_there_is_no_sql(broker: Broker) -> None:
    begun = broker.transaction(WAIT_SECONDS)
    assert (begun.sql is not None) == broker.capabilities.own_tables
    await begun.rollback()
