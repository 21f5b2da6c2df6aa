"""Dead letters: why they are there, that nothing of them is lost, and that each is replayed once."""

import pytest

from geode_client import Client

TARGETS = pytest.mark.parametrize("where", ["memory", "directory"])


@pytest.fixture
def target(where: str, tmp_path: object) -> str:
    return ":memory:" if where == "memory" else str(tmp_path)


async def reject(client: Client, count: int) -> None:
    async with client.subscribe("t", consumer_group="g", from_beginning=True, limit=count) as subscription:
        async for message in subscription:
            await message.nack(requeue=False, reason=f"bad {message['n']}")


async def bodies(client: Client, topic: str) -> list[int]:
    return [row[0] for row in (await client.query(f"SELECT n FROM {topic}")).rows]


@TARGETS
async def test_a_dead_letter_says_where_it_comes_from(target: str) -> None:
    async with Client(target) as client:
        receipt = await client.publish("t", {"n": 7}, partition_key="k", priority="high", headers={"trace": "x"})
        await reject(client, 1)
        async with client.subscribe("_dlq/t", from_beginning=True) as letters:
            (letter,) = [message async for message in letters]
        totals = await client.query("SELECT * FROM SYSTEM.dead_letters")
    assert (letter.data, letter.key, letter.priority) == ({"n": 7}, "k", 7)
    headers = letter.headers
    headers.pop("dead_letter_time")
    assert headers == {
        "trace": "x",
        "dead_letter_reason": "rejected",
        "dead_letter_topic": "t",
        "dead_letter_partition": 0,
        "dead_letter_offset": 0,
        "dead_letter_id": receipt.id,
        "dead_letter_group": "g",
        "dead_letter_attempts": 1,
        "dead_letter_error": "bad 7",
    }
    assert totals.rows == [("t", "g", "_dlq/t", 1, 1, 1)]


@TARGETS
async def test_each_is_replayed_once(target: str) -> None:
    async with Client(target) as client:
        await client.execute("CREATE TOPIC other")
        await client.publish_batch("t", [{"n": n} for n in range(10)], headers={"h": 1})
        await reject(client, 10)
        assert (await client.execute("REPLAY DEAD LETTERS OF t WHERE n < 4")).message == (
            "4 dead letters of t replayed to t"
        )
        await client.execute("REPLAY DEAD LETTERS OF t WHERE n < 5 TO other")
        assert await bodies(client, "t") == [*range(10), 0, 1, 2, 3]
        assert await bodies(client, "other") == [4]
        await client.execute("REPLAY DEAD LETTERS OF t TO other")
        assert await bodies(client, "other") == [4, 5, 6, 7, 8, 9]
        assert (await client.execute("REPLAY DEAD LETTERS OF t")).message == "0 dead letters of t replayed to t"
        assert [row[0] for row in (await client.query("SELECT _headers FROM other")).rows] == [{"h": 1}] * 6


async def test_without_dead_letters_nothing_is_replayed() -> None:
    async with Client(":memory:") as client:
        await client.publish("t", {"n": 1})
        assert (await client.execute("REPLAY DEAD LETTERS OF t")).message == "0 dead letters of t replayed to t"
