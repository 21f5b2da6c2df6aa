"""Messages that come one by one: committed in the very call, and as right there as by any other way."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from reading import next_of

from geode_client import Client, MessageTooLarge, SchemaViolation, TopicNotFound
from geode_client.delivery import claiming
from geode_client.store.database import Layout


async def alone(client: Client, topic: str = "t") -> Any:
    """Publish until messages are committed in the call; the client's outbox."""
    outbox: Any = client._broker._outbox  # type: ignore[attr-defined]
    for _ in range(50):
        await client.publish(topic, {"n": 0})
        if outbox._comes_alone:
            return outbox
    raise AssertionError("messages that come one by one go the long way")


async def test_what_is_published_alone_is_there_in_order_with_its_receipt(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t")
        await alone(client)
        receipts = [await client.publish("t", {"n": n}) for n in range(200)]
        first = receipts[0].offset
        assert first is not None
        assert [receipt.offset for receipt in receipts] == list(range(first, first + 200))
        again = [await client.publish("t", {"n": 0}, message_id="same") for _ in range(3)]
        assert [receipt.duplicate for receipt in again] == [False, True, True]
        assert len({receipt.offset for receipt in again}) == 1
        waiting = await client.publish("t", {"n": 0}, delay_seconds=60)
        assert waiting.offset is None


async def test_what_is_wrong_is_refused_to_the_one_who_published_it(directory: Path) -> None:
    async with Client(directory, auto_create=False) as client:
        await client.execute("CREATE TOPIC t SCHEMA (n INT NOT NULL)")
        await alone(client)
        told = []
        for _ in range(20):
            try:
                await client.publish("t", {"n": "text"})
            except SchemaViolation as error:
                told.append(error)
        assert len({id(error) for error in told}) == 20
        async with Client(directory) as other:
            await other.execute("DROP TOPIC t")
        with pytest.raises(TopicNotFound):
            await client.publish("t", {"n": 1})


async def test_partitions_take_turns_also_while_somebody_else_writes(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 2)")
        await alone(client)
        lock = Layout(directory).lock()
        before = (await client.publish("t", {})).partition
        for _ in range(20):
            lock.acquire()
            publishing = asyncio.ensure_future(client.publish("t", {}))
            for _ in range(5):
                await asyncio.sleep(0)
            lock.release()
            partition = (await publishing).partition
            assert partition != before
            before = partition
        lock.close()


async def test_others_have_their_turn_while_one_publishes_without_an_end(directory: Path) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with Client(directory) as client:
        await alone(client)
        other = asyncio.create_task(others())
        for n in range(10_000):
            await client.publish("t", {"n": n})
            if turns > 20:
                break
        other.cancel()
    assert turns > 20


# ── groups that are read while their own process publishes ──
async def test_a_priority_group_is_served_while_its_process_publishes(directory: Path) -> None:
    """It looks for what goes before all it has, each time something comes; that must not be all it does."""
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t")
        received = asyncio.Event()

        async def read(subscription: Any) -> None:
            count = 0
            async for _ in subscription:
                count += 1
                if count == 100:
                    received.set()

        async with client.subscribe("t", consumer_group="g", priority_order=True, prefetch=10) as subscription:
            reading = asyncio.create_task(read(subscription))
            for n in range(20_000):
                await client.publish("t", {"n": n}, priority=7)
                assert subscription._feed is not None
                assert subscription._feed.driver.core.ready_count <= 100  # type: ignore[attr-defined]
                if received.is_set():
                    break
            assert received.is_set(), "nothing was handed over while messages came"
            reading.cancel()


async def test_what_expired_after_its_reader_was_cancelled_is_settled(directory: Path) -> None:
    """Claimed for a reader that is cancelled meanwhile, and expired before another one takes it: nothing else would say so."""
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t")
        for n in range(3):
            await client.publish("t", {"n": n}, ttl_seconds=0.3)
        async with client.subscribe("t", from_beginning=True, auto_ack=False) as subscription:
            driver: Any = subscription._feed.driver  # type: ignore[union-attr]
            driver.core.window._size = 64  # as after claims that went quickly
            reading = asyncio.create_task(subscription.get())
            while driver.scheduler._claiming is None:
                await asyncio.sleep(0)
            reading.cancel()
            while not driver.core.ready_count:
                await asyncio.sleep(0)
            await asyncio.sleep(0.35)  # until they have expired
            async with asyncio.timeout(20):
                assert [message["n"] async for message in subscription] == []


async def test_lanes_without_messages_do_not_stay_behind(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "LAG_OF_LANE", 8)
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t")
        async with client.subscribe("t", consumer_group="g", priority_order=True, prefetch=1) as subscription:
            await client.publish_batch("t", [{"n": n} for n in range(100)], batch_size=1, priority=7)
            for _ in range(60):
                assert await subscription.get() is not None
            sql = "SELECT lane, frontier FROM lanes ORDER BY lane"
            frontiers = dict(client._broker._log.rows(sql))  # type: ignore[attr-defined]
            assert frontiers[5] > 50
            assert frontiers[2] > 50
            await client.publish("t", {"low": True}, priority=2)
            found = [(await next_of(subscription)).data for _ in range(41)]
    assert found[-1] == {"low": True}


async def test_a_higher_lane_comes_first_also_where_a_claim_took_a_part_of_it(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t")
        await client.publish_batch("t", [{"n": 5}] * 1000, batch_size=10, priority=5)
        options: dict[str, Any] = {"priority_order": True, "auto_ack": False, "prefetch": 500, "from_beginning": True}
        async with client.subscribe("t", consumer_group="g", **options) as subscription:
            core = subscription._feed.driver.core  # type: ignore[union-attr]

            async def next_one() -> int:
                message = await next_of(subscription, 20)
                await message.ack()
                number: int = message["n"]
                return number

            while core.ready_count < 100:
                await next_one()
            await client.publish_batch("t", [{"n": 9}] * 1000, batch_size=10, priority=9)
            found = [await next_one() for _ in range(1100)]
            # What is in the reader's hand already comes before: one slice, of one batch.
            first = found.index(9)
            assert first <= 10
            assert found[first : first + 1000] == [9] * 1000


async def test_nothing_is_stored_behind_a_batch_that_is_refused(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (max_message_bytes: 100)")
        messages = [{"n": n} if n != 100 else {"n": "x" * 200} for n in range(1000)]
        with pytest.raises(MessageTooLarge, match="message 101"):
            await client.publish_batch("t", messages, batch_size=10)
        assert (await client.query("SELECT count(*) FROM t")).rows == [(100,)]
