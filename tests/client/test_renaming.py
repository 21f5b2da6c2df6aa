"""ALTER TOPIC … RENAME TO: messages, groups and dead letters go along. COPY between topics keeps what it is told to."""

from pathlib import Path
from typing import Any

import pytest

from geode_client import Client, GeodeError


async def numbers(client: Client, topic: str, **options: Any) -> list[int]:
    found: list[int] = []
    async with client.subscribe(topic, timeout=0.2, **options) as subscription:
        async for message in subscription:
            found.append(message["n"])
    return found


async def test_messages_groups_and_offsets_go_along(tmp_path: Path) -> None:
    async with Client(tmp_path / "store") as client:
        await client.publish_batch("old", [{"n": n} for n in range(4)])
        await client.execute("CREATE SUBSCRIPTION g ON old FROM BEGINNING")
        await client.execute("CREATE SUBSCRIPTION wide ON * FROM BEGINNING")
        assert await numbers(client, "old", consumer_group="g", limit=2) == [0, 1]
        done = await client.execute("ALTER TOPIC old RENAME TO area/new")
        assert done.message == "topic old renamed to area/new"
        await client.publish("area/new", {"n": 4})
    async with Client(tmp_path / "store") as client:
        assert await numbers(client, "area/new", consumer_group="g") == [2, 3, 4]
        found = await client.query("SELECT name, pattern, topic_name FROM SYSTEM.subscriptions WHERE name = 'g'")
        assert found.rows == [("g", "area/new", "area/new")]
        assert (await client.query("SELECT count(*), max(_offset) FROM area/new")).rows == [(5, 4)]
        with pytest.raises(GeodeError, match="there is no topic old"):
            await client.query("SELECT * FROM old")
        # The name is free, and what is published under it is another topic's.
        await client.publish("old", {"n": 9})
        assert (await client.query("SELECT n FROM old")).rows == [(9,)]


async def test_another_process_sees_the_new_name(tmp_path: Path) -> None:
    async with Client(tmp_path / "store") as client, Client(tmp_path / "store") as other:
        await client.publish("old", {"n": 1})
        assert await numbers(other, "old", from_beginning=True) == [1]
        await client.execute("ALTER TOPIC old RENAME TO new")
        await other.publish("new", {"n": 2})
        assert await numbers(other, "new", from_beginning=True) == [1, 2]


async def test_dead_letters_stay_reachable() -> None:
    async with Client(":memory:") as client:
        await client.publish_batch("old", [{"n": 1}, {"n": 2}])
        async with client.subscribe(
            "old", consumer_group="g", from_beginning=True, auto_ack=False, limit=2
        ) as subscription:
            async for message in subscription:
                await message.nack(requeue=False, reason="bad")
        await client.execute("ALTER TOPIC old RENAME TO new")
        assert (await client.query("SELECT n FROM DEAD LETTERS OF new ORDER BY n")).rows == [(1,), (2,)]
        assert (await client.query("SELECT count(*) FROM _dlq/new")).scalar() == 2
        await client.execute("ALTER TOPIC new RENAME TO newer")
        await client.execute("REPLAY DEAD LETTERS OF newer WHERE n = 1")
        assert (await client.query("SELECT n FROM newer ORDER BY _offset")).rows == [(1,), (2,), (1,)]


async def test_what_cannot_be_renamed() -> None:
    async with Client(":memory:") as client:
        await client.publish("a", {"n": 1})
        await client.publish("b", {"n": 1})
        for statement, says in (
            ("ALTER TOPIC a RENAME TO b", "there is a topic b already"),
            ("ALTER TOPIC a RENAME TO a", "is called a already"),
            ("ALTER TOPIC nosuch RENAME TO c", "there is no topic nosuch"),
            ("ALTER TOPIC a RENAME TO c/*", "pattern"),
        ):
            with pytest.raises(GeodeError, match=says):
                await client.execute(statement)
        assert (await client.query("SELECT topic_name FROM SYSTEM.topics ORDER BY topic_name")).rows == [("a",), ("b",)]


@pytest.mark.parametrize("keep", ["", "keys, ids, times, headers, priorities", "all"])
async def test_a_copy_between_topics_keeps_what_it_is_told(keep: str) -> None:
    async with Client(":memory:") as client:
        await client.publish(
            "a", {"n": 1}, partition_key="k", message_id="one", headers={"h": 1}, priority="high", ttl_seconds=60
        )
        await client.publish("a", {"n": 2})
        options = f" WITH OPTIONS (keep: '{keep}')" if keep else ""
        await client.execute(f"COPY a TO b{options}")
        columns = "_id, _timestamp, _key, _headers, _priority, _expires_at"
        first = (await client.query(f"SELECT n, {columns} FROM a ORDER BY n")).rows
        second = (await client.query(f"SELECT n, {columns} FROM b ORDER BY n")).rows
        assert [row[0] for row in second] == [1, 2]
        if keep == "all":
            assert second == first
        elif keep:
            assert [row[:-1] for row in second] == [row[:-1] for row in first]
            assert second[0][-1] is None
        else:
            assert [row[3:] for row in second] == [(None, {}, 5, None)] * 2
            assert {row[1] for row in first}.isdisjoint(row[1] for row in second)


async def test_a_copy_between_topics_obeys_the_target() -> None:
    async with Client(":memory:") as client:
        await client.execute("CREATE TOPIC b SCHEMA (n INT)")
        await client.publish_batch("a", [{"n": 1}, {"n": "x"}])
        with pytest.raises(GeodeError, match="a, partition 0, offset 1: at /n: expected INT"):
            await client.execute("COPY a TO b")
        assert (await client.query("SELECT count(*) FROM b")).scalar() == 0
