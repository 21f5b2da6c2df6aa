"""REPLAY and DELETE DEAD LETTERS: who gets a copy, what a letter remembers, what is refused, and what is left after a failure."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from geode_client import Client, TopicNotFound

REFUSE_ALL = "CREATE TOPIC {} SCHEMA (n STRING NOT NULL) WITH OPTIONS (strict: true)"


async def kill(client: Client, topic: str, numbers: list[int], group: str | None = "g", reason: str = "bad") -> None:
    """Publish messages and make each a dead letter of a group."""
    async with client.subscribe(topic, consumer_group=group, timeout=2, limit=len(numbers)) as subscription:
        await client.publish_batch(topic, [{"n": number} for number in numbers])
        async for message in subscription:
            await message.nack(requeue=False, reason=reason)


async def refuse(client: Client, topic: str, count: int, group: str, reason: str) -> None:
    async with client.subscribe(topic, consumer_group=group, timeout=2, limit=count) as subscription:
        async for message in subscription:
            await message.nack(requeue=False, reason=reason)


async def rows(client: Client, text: str) -> list[tuple[Any, ...]]:
    return (await client.query(text)).rows


async def outstanding(client: Client) -> int:
    return sum(row[0] for row in await rows(client, "SELECT outstanding FROM SYSTEM.dead_letters"))


@pytest.fixture(params=["memory", "directory"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return ":memory:" if request.param == "memory" else str(tmp_path / "store")


async def test_a_copy_is_for_the_group_that_failed(target: str) -> None:
    async with Client(target) as client:
        await client.execute("CREATE SUBSCRIPTION other ON t")
        await client.execute("CREATE SUBSCRIPTION wide ON *")
        await kill(client, "t", [1, 2])
        async with (
            client.subscribe("t", timeout=0.3) as plain,
            client.subscribe("t", filter="n > 0", timeout=0.3) as some,
        ):
            await client.execute("REPLAY DEAD LETTERS OF t")
            assert [m async for m in plain] == []
            assert [m async for m in some] == []
        async with client.subscribe("t", from_beginning=True) as again:
            assert [(m["n"], m.replayed_from) async for m in again] == [(1, None), (2, None)]
        async with client.subscribe("t", consumer_group="g", timeout=1, limit=2) as group:
            found = [(m["n"], m.replayed_from) async for m in group]
        ids = await rows(client, "SELECT _id FROM DEAD LETTERS OF t")
        assert found == [(1, ids[0][0]), (2, ids[1][0])]
        for name in ("other", "wide"):
            pattern = "*" if name == "wide" else "t"
            async with client.subscribe(pattern, consumer_group=name, timeout=0.3) as reader:
                assert [m["n"] async for m in reader] == [1, 2]
        counted = (
            "SELECT name, filtered, acknowledged, pending_messages FROM SYSTEM.subscriptions WHERE topic_name = 't'"
        )
        assert sorted(await rows(client, counted)) == [("g", 0, 2, 0), ("other", 2, 2, 0), ("wide", 2, 2, 0)]


async def test_a_group_on_a_pattern_gets_its_copies(target: str) -> None:
    async with Client(target) as client:
        await client.execute("CREATE TOPIC a/t")
        await client.execute("CREATE SUBSCRIPTION g ON a/t")
        async with client.subscribe("a/*", consumer_group="g", timeout=1, limit=1) as subscription:
            await client.publish("a/t", {"n": 1})
            async for message in subscription:
                await message.nack(requeue=False)
        assert "1 dead letter" in ((await client.execute("REPLAY DEAD LETTERS OF a/t")).message or "")
        async with client.subscribe("a/*", consumer_group="g", timeout=1, limit=1) as subscription:
            assert [m["n"] async for m in subscription] == [1]
        async with client.subscribe("a/t", consumer_group="g", timeout=0.3) as namesake:
            assert [m.replayed_from async for m in namesake] == [None]


async def test_a_letter_remembers_every_death(target: str) -> None:
    async with Client(target) as client:
        await kill(client, "t", [1], reason="first")
        await client.execute("REPLAY DEAD LETTERS OF t")
        await refuse(client, "t", 1, "g", "second")
        found = await rows(
            client, "SELECT _group, _reason, _deaths, _replayed_at IS NULL FROM DEAD LETTERS OF t ORDER BY _offset"
        )
        assert [(group, reason, waits) for group, reason, _, waits in found] == [
            ("g", "rejected", False),
            ("g", "rejected", True),
        ]
        assert [[death["error"] for death in deaths] for _, _, deaths, _ in found] == [["first"], ["first", "second"]]
        assert {frozenset(death) for death in found[1][2]} == {
            frozenset(("group", "reason", "error", "attempts", "time"))
        }
        assert await rows(client, "SELECT n FROM DEAD LETTERS OF t WHERE _deaths[1].error = 'second'") == [(1,)]
        assert await rows(client, "SELECT n FROM t WHERE _replayed_from IS NOT NULL") == [(1,)]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
async def test_copy_shows_the_copies(tmp_path: Path, ending: str) -> None:
    async with Client(":memory:") as client:
        await kill(client, "t", [1])
        await client.execute("REPLAY DEAD LETTERS OF t")
        await client.execute(f"COPY t TO '{tmp_path / 'out'}.{ending}'")
        ((source,),) = await rows(client, "SELECT _id FROM DEAD LETTERS OF t")
    lines = (tmp_path / f"out.{ending}").read_text(encoding="utf-8").splitlines()
    assert source in lines[-1]
    assert source not in lines[-2]
    assert ("_replayed_from" in lines[-1]) == (ending == "jsonl")


async def test_on_other_topics_the_columns_of_letters_are_fields() -> None:
    async with Client(":memory:") as client:
        await client.publish("t", {"_group": "x", "_reason": 7})
        assert await rows(client, "SELECT _reason FROM t WHERE _group = 'x'") == [(7,)]


async def test_what_is_refused_is_named_and_the_others_are_replayed(target: str) -> None:
    async with Client(target) as client:
        await client.execute("CREATE TOPIC small SCHEMA (n INT NOT NULL) WITH OPTIONS (max_message_bytes: '1 KiB')")
        async with client.subscribe("t", consumer_group="g", timeout=1, limit=5) as subscription:
            await client.publish_batch("t", [{"n": n if n % 2 else "x"} for n in range(5)])
            async for message in subscription:
                await message.nack(requeue=False)
        explained = [row[0] for row in (await client.execute("EXPLAIN REPLAY DEAD LETTERS OF t TO small")).rows]
        assert "would replay 2 dead letters" in explained[1]
        assert "could not replay 3" in explained[2]
        result = await client.execute("REPLAY DEAD LETTERS OF t TO small")
        assert result.message == "2 dead letters of t replayed to small; 3 not replayed"
        assert [group for _, group, _ in result.rows] == ["g"] * 3
        assert "/n" in result.rows[0][2]
        assert await rows(client, "SELECT n FROM small") == [(1,), (3,)]
        assert await outstanding(client) == 3
        assert (await client.execute("REPLAY DEAD LETTERS OF t")).message == "3 dead letters of t replayed to t"
        assert await outstanding(client) == 0


async def test_letters_without_a_group_need_to_all(target: str) -> None:
    async with Client(target) as client:
        async with client.subscribe("t", timeout=1, limit=2) as subscription:
            await client.publish_batch("t", [{"n": 1}, {"n": 2}])
            async for message in subscription:
                await message.nack(requeue=False)
        await kill(client, "t", [3], group="gone")
        await client.execute("DROP SUBSCRIPTION gone")
        result = await client.execute("REPLAY DEAD LETTERS OF t")
        assert result.message == "0 dead letters of t replayed to t; 3 not replayed"
        assert "TO ALL" in result.rows[0][2]
        assert "group gone on t is gone" in result.rows[2][2]
        async with client.subscribe("t", timeout=0.3) as everybody:
            assert (
                await client.execute("REPLAY DEAD LETTERS OF t TO ALL")
            ).message == "3 dead letters of t replayed to t"
            assert [m["n"] async for m in everybody] == [1, 2, 3]


async def test_letters_outlive_their_topic_and_a_change_of_its_dead_letter_topic(target: str) -> None:
    async with Client(target) as client:
        await kill(client, "t", [1])
        await client.execute("ALTER TOPIC t SET OPTIONS (dead_letter_topic: 'elsewhere')")
        await kill(client, "t", [2])
        assert await rows(client, "SELECT n FROM DEAD LETTERS OF t ORDER BY n") == [(1,), (2,)]
        await client.execute("DROP TOPIC t")
        assert await rows(client, "SELECT n FROM DEAD LETTERS OF t ORDER BY n") == [(1,), (2,)]
        result = await client.execute("REPLAY DEAD LETTERS OF t")
        assert result.message == "0 dead letters of t replayed to t; 2 not replayed"
        assert "is gone" in result.rows[0][2]
        await client.execute("CREATE TOPIC t2")
        assert "2 dead letters" in ((await client.execute("REPLAY DEAD LETTERS OF t TO t2")).message or "")
        with pytest.raises(TopicNotFound):
            await client.execute("REPLAY DEAD LETTERS OF never")


async def test_deleting(target: str) -> None:
    async with Client(target) as client:
        await kill(client, "t", [1, 2, 3, 4])
        await client.execute("CREATE SUBSCRIPTION watch ON _dlq/t FROM BEGINNING")
        assert (await client.execute("EXPLAIN DELETE DEAD LETTERS OF t WHERE n < 3")).rows[1] == (
            "  would delete 2 dead letters",
        )
        assert (await client.execute("DELETE DEAD LETTERS OF t WHERE n < 3")).message == "2 dead letters of t deleted"
        assert await outstanding(client) == 2
        assert await rows(client, "SELECT n FROM _dlq/t") == [(3,), (4,)]
        async with client.subscribe("_dlq/t", from_beginning=True) as letters:
            assert [m["n"] async for m in letters] == [3, 4]
        async with client.subscribe("_dlq/t", consumer_group="watch", timeout=0.3) as group:
            assert [m["n"] async for m in group] == [3, 4]
        assert await client.get_consumer_lag("_dlq/t", "watch") == 0
        await client.execute("REPLAY DEAD LETTERS OF t WHERE n = 3")
        assert (await client.execute("DELETE DEAD LETTERS OF t")).message == "2 dead letters of t deleted"
        assert (await client.execute("DELETE DEAD LETTERS OF t")).message == "0 dead letters of t deleted"
        assert await outstanding(client) == 0


async def test_two_replays_at_once_publish_each_letter_once(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    async with Client(path) as client, Client(path) as other:
        await kill(client, "t", list(range(200)))
        await client.execute("CREATE TOPIC t2")
        await asyncio.gather(*[one.execute("REPLAY DEAD LETTERS OF t TO t2") for one in (client, other)])
        assert await rows(client, "SELECT count(*), count(DISTINCT n) FROM t2") == [(200, 200)]


async def test_a_cancelled_replay_keeps_nothing(tmp_path: Path) -> None:
    async with Client(str(tmp_path / "store")) as client:
        await kill(client, "t", list(range(50)))
        for turns in range(12):
            running = asyncio.ensure_future(client.execute("REPLAY DEAD LETTERS OF t"))
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await client.execute("REPLAY DEAD LETTERS OF t")
        assert await outstanding(client) == 0
        assert await rows(
            client, "SELECT count(*), count(DISTINCT _replayed_from) FROM t WHERE _replayed_from IS NOT NULL"
        ) == [(50, 50)]


KILLED = """
import asyncio, os, sys
from geode_client import Client
from geode_client.store import letters

async def main():
    async with Client(sys.argv[1]) as client:
        letters.MarkReplayed.run = lambda self, transaction: os.kill(os.getpid(), 9)
        await client.execute("REPLAY DEAD LETTERS OF t")

asyncio.run(main())
"""


async def test_a_killed_replay_keeps_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "store")
    async with Client(path) as client:
        await kill(client, "t", [1, 2, 3])
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, path)
        assert await process.wait() == -9
        assert (await client.execute("REPLAY DEAD LETTERS OF t")).message == "3 dead letters of t replayed to t"
        assert await rows(client, "SELECT count(*) FROM t") == [(6,)]


async def test_a_new_group_at_the_end_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    async with Client(":memory:") as client:
        await client.publish_batch("t", [{"n": 1}, {"n": 2}])
        assert "2 messages lie before it" in (await client.execute("CREATE SUBSCRIPTION g ON t")).notices[0]
        assert not (await client.execute("CREATE SUBSCRIPTION all ON t FROM BEGINNING")).notices
        async with client.subscribe("t", consumer_group="h"):
            pass
        assert "group h is new and starts at the end of t" in caplog.text
        caplog.clear()
        async with client.subscribe("t", consumer_group="h"), client.subscribe("t", auto_ack=False):
            pass
        assert not caplog.text


async def test_analyzing_a_subscription_changes_nothing() -> None:
    async with Client(":memory:") as client:
        await client.execute("CREATE SUBSCRIPTION g ON t")
        await client.publish_batch("t", [{"n": n} for n in range(10)])
        before = await rows(client, "SELECT * FROM SYSTEM.subscriptions")
        for clause, matched in (("GROUP g", 4), ("FROM OFFSET 8", 2), ("FROM BEGINNING LIMIT 3", 3), ("", 4)):
            found = await client.execute(f"EXPLAIN ANALYZE SUBSCRIBE TO t WHERE n > 5 {clause}")
            assert dict(found.rows)["messages matched"] == matched, clause
        assert [row[:15] for row in await rows(client, "SELECT * FROM SYSTEM.subscriptions")] == [
            row[:15] for row in before
        ]
        with pytest.raises(Exception, match="needs an end"):
            await client.execute("EXPLAIN ANALYZE SUBSCRIBE TO t FOLLOW")
