"""What the sweeper removes, what stays, and that the file does not grow for ever."""

from dataclasses import replace
from pathlib import Path

import pytest
from reading import next_of
from settings import rounds

from geode_client import Client
from geode_client.broker.replies import reply_topic
from geode_client.local import sweeper as sweeping_task
from geode_client.options import TopicOptions


async def swept(client: Client) -> None:
    """Let the sweeper do now what it would do within seconds."""
    await client._broker._sweeper.sweep()  # type: ignore[attr-defined]


async def numbers(client: Client, topic: str = "t") -> list[int]:
    async with client.subscribe(topic, from_beginning=True) as subscription:
        return [message["n"] async for message in subscription]


async def test_messages_past_their_time_are_removed(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish_batch("t", [{"n": n} for n in range(10)], ttl_seconds=0.000001)
        await client.publish_batch("t", [{"n": n} for n in range(10, 20)], ttl_seconds=1000)
        assert await numbers(client) == list(range(10, 20))
        await swept(client)
        (row,) = (await client.query("SELECT batches, expired, start_offset FROM SYSTEM.partitions")).rows
        assert row == (1, 10, 10)
        assert await numbers(client) == list(range(10, 20))


async def test_retention_by_size_keeps_the_newest(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (retention_bytes: '20 KB', compression: 'none')")
        for first in range(0, 1000, 50):
            await client.publish_batch("t", [{"n": n, "text": "x" * 90} for n in range(first, first + 50)])
        await swept(client)
        kept = await numbers(client)
        assert 100 <= len(kept) <= 300
        assert kept == list(range(1000 - len(kept), 1000))
        stored = (await client.query("SELECT bytes_stored FROM SYSTEM.topics")).scalar()
        assert stored <= 20_000


async def test_retention_by_age(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (retention_period: '1us')")
        await client.publish_batch("t", [{"n": 1}])
        await client.publish_batch("t", [{"n": 2}])
        await swept(client)
        assert await numbers(client) == []
        receipt = await client.publish("t", {"n": 3})
        assert receipt.offset == 2, "offsets are never given twice"


async def test_purged_and_dropped_messages_leave_the_file(directory: Path) -> None:
    async with Client(directory) as client:
        for topic in ("a", "b"):
            await client.publish_batch(topic, [{"n": n} for n in range(1000)])
        assert (await client.execute("PURGE TOPIC a")).message == "topic a purged: 1000 messages removed"
        await client.execute("DROP TOPIC b")
        await swept(client)
        rows = client._broker._log.rows("SELECT count(*) FROM batches")  # type: ignore[attr-defined]
        assert rows == [(0,)]
        assert (await client.publish("a", {"n": 7})).offset == 1000
        assert (await client.publish("b", {"n": 8})).offset == 0
        assert await numbers(client, "b") == [8]


async def test_the_file_does_not_grow_for_ever(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (retention_bytes: '200 KB', compression: 'none')")
        sizes = []
        for _ in range(40):
            await client.publish_batch("t", [{"n": n, "text": "x" * 150} for n in range(5000)])
            await swept(client)
            sizes.append(sum(path.stat().st_size for path in directory.glob("geode.db*")))
        assert max(sizes[20:]) <= max(sizes[:20]) * 1.2, sizes


async def test_a_purged_id_is_unknown_again(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": 1}, message_id="a")
        await client.execute("PURGE TOPIC t")
        assert not (await client.publish("t", {"n": 2}, message_id="a")).duplicate
        await swept(client)
        assert (await client.publish("t", {"n": 3}, message_id="a")).duplicate
        assert await numbers(client) == [2]


async def test_a_subscriber_that_retention_overtakes_is_told(directory: Path) -> None:
    async with Client(directory) as client, client.subscribe("t") as subscription:
        await client.publish_batch("t", [{"n": n} for n in range(5)], batch_size=5)
        assert (await next_of(subscription))["n"] == 0
        await client.publish_batch("t", [{"n": n} for n in range(5, 400)], batch_size=1)
        await client.execute("PURGE TOPIC t")
        await client.publish("t", {"n": 400})
        seen = [message["n"] for message in [await subscription.get() for _ in range(5)] if message]
        assert seen == [1, 2, 3, 4, 400]
        assert subscription.missed == 395


async def test_idle_automatic_topics_go(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("replies", {"n": 1})
        await client.execute("ALTER TOPIC replies SET OPTIONS (expire_when_idle: '1us')")
        await client.execute("CREATE TOPIC mine WITH OPTIONS (expire_when_idle: '1us')")
        async with client.subscribe("replies"):
            await swept(client)
            assert len(await client.query("SHOW TOPICS")) == 2
        await swept(client)
        assert [row[0] for row in (await client.query("SHOW TOPICS")).rows] == ["mine"]


async def test_reply_topics_that_come_and_go_leave_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made by clients that ended, or died; their rows, ids and counts go, and the files stop growing."""
    monkeypatch.setattr(sweeping_task, "SWEEP_SECONDS", 86_400.0)  # only when the test says so
    monkeypatch.setattr(sweeping_task.Sweeper, "sweep_soon", lambda _: None)
    async with Client(directory) as client:
        sweeper = client._broker._sweeper  # type: ignore[attr-defined]
        rows = client._broker._log.rows  # type: ignore[attr-defined]
        sizes = []
        for number in range(rounds(8, soak=100)):
            for n in range(rounds(50, soak=1000)):
                definition = reply_topic(f"_replies/{number}-{n}")
                definition = replace(definition, options=TopicOptions(expire_when_idle_us=1))
                await client._broker.create_topic(definition)
                await client.publish(definition.name, {"n": n, "text": "x" * 500}, message_id="m")
                async with client.subscribe(definition.name, from_beginning=True) as subscription:
                    assert [message["n"] async for message in subscription] == [n]
            client._broker._reports.write()  # type: ignore[attr-defined]
            await swept(client)
            sweeper._counts_due_us = 0
            await swept(client)
            sizes.append(rows("PRAGMA page_count")[0][0])
        tables = ("topics", "partitions", "batches", "message_ids", "schema_versions", "delayed")
        assert [rows(f"SELECT count(*) FROM {table}") for table in tables] == [[(0,)]] * len(tables)
        assert client._broker._reports.presence.consumed() == {}  # type: ignore[attr-defined]
        assert max(sizes[2:]) <= max(sizes[:2]) * 1.3, sizes


async def test_an_idle_topic_stays_while_something_waits_or_comes(directory: Path) -> None:
    async with Client(directory) as client, Client(directory) as other:
        for name in ("waits", "comes", "read", "matched", "goes"):
            await client.publish(name, 1, delay_seconds=1000 if name == "waits" else None)
            await client.execute(f"ALTER TOPIC {name} SET OPTIONS (expire_when_idle: '1us')")
        await client.execute("ALTER TOPIC comes SET OPTIONS (expire_when_idle: '1 hour')")
        async with other.subscribe("read"), other.subscribe("matched", consumer_group="g"):
            await swept(client)
            assert {row[0] for row in (await client.query("SHOW TOPICS")).rows} == {"waits", "comes", "read", "matched"}
        await swept(client)
        assert {row[0] for row in (await client.query("SHOW TOPICS")).rows} == {"waits", "comes"}
