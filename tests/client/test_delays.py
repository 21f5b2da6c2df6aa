"""Delayed messages: when they come, in which order, what is known of them before, and what damage does to them."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import next_of
from settings import long_rounds

from geode_client import Client, GeodeError, SchemaViolation
from geode_client.broker import validate
from geode_client.local import delays as mover
from geode_client.local import feed
from geode_client.local.sweeper import Sweeper
from geode_client.store import delays


class Clock:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.us = time.time_ns() // 1000

    def __call__(self) -> int:
        return self.us


@contextmanager
def set_clock() -> Iterator[Clock]:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        for module in (delays, mover, feed, validate):
            patch.setattr(module, "now_us", clock)
        yield clock


async def moved(client: Client) -> None:
    """What the next tick does, and wait until all that is due has been appended."""
    due: Any = client._broker._delays  # type: ignore[attr-defined]
    due.tick()
    while due._moving is not None:
        await due._moving


async def stored(client: Client, topic: str = "t") -> list[Any]:
    async with client.subscribe(topic, from_beginning=True) as subscription:
        return [message.data async for message in subscription]


async def waiting(client: Client) -> list[tuple[Any, ...]]:
    sql = "SELECT topic_name, delayed_messages, messages_published FROM SYSTEM.topics ORDER BY 1"
    return (await client.query(sql)).rows


@pytest.mark.parametrize("target", [":memory:", "directory"])
async def test_they_come_by_due_time_and_not_before(target: str, directory: Path) -> None:
    with set_clock() as clock:
        async with Client(target if target == ":memory:" else directory) as client:
            async with client.subscribe("t") as subscription:
                for n, seconds in enumerate((30, 10, 20, 10)):
                    receipt = await client.publish("t", n, delay_seconds=seconds, priority=n)
                    assert (receipt.offset, receipt.partition, receipt.duplicate) == (None, 0, False)
                batch = await client.publish_batch("t", [4, 5], delay_seconds=15)
                assert (batch.count, batch.offsets) == (2, {})
                await client.publish("t", "now")
                assert await waiting(client) == [("t", 6, 1)]
                clock.us += 9_999_000
                await moved(client)
                assert await stored(client) == ["now"]
                clock.us += 10_000_000
                await moved(client)
                assert await waiting(client) == [("t", 2, 5)]
                clock.us += 3600_000_000
                await moved(client)
                messages = [await subscription.get() for _ in range(7)]
        found = [(m.data, m.offset, m.priority) for m in messages if m is not None]
        assert found == [("now", 0, 5), (1, 1, 1), (3, 2, 3), (4, 3, 5), (5, 4, 5), (2, 5, 2), (0, 6, 0)]


async def test_the_timer_brings_them_by_itself(directory: Path) -> None:
    async with Client(directory) as client, client.subscribe("t") as subscription:
        started = time.time()
        first = await client.publish("t", 1, delay_seconds=0.05)
        message = await next_of(subscription)
        assert time.time() - started >= 0.05, "never before its time"
        assert (message.data, message.id, message.offset) == (1, first.id, 0)
        await client.execute("PUBLISH TO t 2 WITH OPTIONS (delay: '20ms', key: 'k', priority: 'high')")
        message = await next_of(subscription)
        assert (message.data, message.key, message.priority) == (2, "k", 7)


async def test_everything_about_a_message_is_kept(directory: Path) -> None:
    """Rows that follow each other become one batch, whatever each of them has or lacks."""
    with set_clock() as clock:
        async with Client(directory) as client:
            await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 4)")
            wanted = []
            for n in range(40):
                clock.us += 1
                options: dict[str, Any] = {"partition_key": "k"}
                if n % 3 == 0:
                    options["headers"] = {"n": n}
                if n % 5 == 0:
                    options["ttl_seconds"] = 5.0
                if n % 7 == 0:
                    options["message_id"] = f"id-{n}"
                receipt = await client.publish("t", n, delay_seconds=10, **options)
                expires_us = clock.us + 15_000_000 if n % 5 == 0 else None
                wanted.append((n, receipt.id, "k", options.get("headers", {}), receipt.partition, expires_us))
            clock.us += 10_000_000
            await moved(client)
            async with client.subscribe("t", from_beginning=True) as subscription:
                found = [
                    (
                        m.data,
                        m.id,
                        m.key,
                        m.headers,
                        m.partition,
                        m.expires_at and round(m.expires_at.timestamp() * 1e6),
                    )
                    async for m in subscription
                ]
            assert found == wanted
            batches = (await client.query("SELECT sum(batches) FROM SYSTEM.partitions")).scalar()
            assert batches == 1


async def test_time_to_live_counts_from_the_due_time(directory: Path) -> None:
    with set_clock() as clock:
        async with Client(directory) as client:
            for n, ttl_seconds in enumerate((5, 50)):
                await client.publish("t", n, delay_seconds=100, ttl_seconds=ttl_seconds)
            clock.us += 104_000_000
            await moved(client)
            assert await stored(client) == [0, 1]
            clock.us += 2_000_000
            assert await stored(client) == [1]
        clock.us -= 106_000_000
        async with Client(directory) as client:
            await client.publish("late", 0, delay_seconds=100, ttl_seconds=5)
            await client.publish("late", 1, delay_seconds=100, ttl_seconds=50)
        clock.us += 110_000_000
        async with Client(directory) as client:
            await moved(client)
            assert await stored(client, "late") == [1], "what expired while nobody was there is not delivered"
            assert await waiting(client) == [("late", 0, 2), ("t", 0, 2)]


async def test_an_id_is_known_while_its_message_waits_and_after(directory: Path) -> None:
    with set_clock() as clock:
        async with Client(directory) as client:
            await client.execute("CREATE TOPIC t WITH OPTIONS (dedupe_window: '1 minute')")
            await client.publish("t", 1, delay_seconds=3600, message_id="a")
            clock.us += 3599_000_000
            for options in ({}, {"delay_seconds": 5}):
                again = await client.publish("t", 2, message_id="a", **options)  # type: ignore[arg-type]
                assert (again.duplicate, again.offset, again.id) == (True, None, "a")
            receipt = await client.publish_batch("t", [3, 4, 5], message_ids=["a", "b", "b"], delay_seconds=1)
            assert (receipt.count, receipt.duplicates) == (1, 2)
        async with Client(directory) as client:
            clock.us += 1_000_000
            await moved(client)
            again = await client.publish("t", 6, message_id="a", delay_seconds=1)
            assert (again.duplicate, again.offset) == (True, 0)
            assert await stored(client) == [1, 4]
            clock.us += 61_000_000
            assert not (await client.publish("t", 7, message_id="a")).duplicate, "the window counts from the due time"


async def test_purge_and_drop_remove_what_waits(directory: Path) -> None:
    with set_clock() as clock:
        async with Client(directory) as client:
            for topic in ("a", "b"):
                await client.publish(topic, "now")
                await client.publish_batch(topic, [1, 2, 3], delay_seconds=10, message_ids=["x", "y", None])
            assert (await client.execute("PURGE TOPIC a")).message == "topic a purged: 4 messages removed"
            await client.execute("DROP TOPIC b")
            assert await waiting(client) == [("a", 0, 1)]
            assert not (await client.publish("a", 4, message_id="x", delay_seconds=20)).duplicate
            assert not (await client.publish("b", 5, message_id="x", delay_seconds=20)).duplicate
            clock.us += 15_000_000
            await moved(client)
            assert await waiting(client) == [("a", 1, 1), ("b", 1, 0)]
            await client.publish("a", 0, message_id="z", delay_seconds=1000)
            await client.execute("PURGE TOPIC a")
            await client._broker._sweeper.sweep()  # type: ignore[attr-defined]
            rows = client._broker._log.rows  # type: ignore[attr-defined]
            assert rows("SELECT count(*) FROM delayed") == [(1,)]
            assert rows("SELECT message_id FROM message_ids") == [("x",)], "ids go with their messages"
            clock.us += 15_000_000
            await moved(client)
            assert await stored(client, "b") == [5]


async def test_what_was_purged_never_comes_though_nobody_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sweeper, "sweep_soon", lambda _: None)
    with set_clock() as clock:
        async with Client(":memory:") as client:
            for topic in ("a", "b"):
                await client.publish(topic, 1, delay_seconds=10, message_id="x")
            await client.execute("PURGE TOPIC a")
            await client.execute("DROP TOPIC b")
            assert not (await client.publish("a", 2, delay_seconds=10, message_id="x")).duplicate
            clock.us += 10_000_000
            await moved(client)
            assert await stored(client, "a") == [2]
            assert await waiting(client) == [("a", 0, 1)]
            assert (await client.publish("a", 3, message_id="x")).duplicate


async def test_a_topic_may_change_while_messages_wait(directory: Path) -> None:
    with set_clock() as clock:
        async with Client(directory) as client:
            await client.execute("CREATE TOPIC t SCHEMA (n INT)")
            with pytest.raises(SchemaViolation):
                await client.publish("t", {"n": "x"}, delay_seconds=10)
            await client.publish("t", {"n": 1}, delay_seconds=10)
            with pytest.raises(GeodeError, match="only while a topic is empty"):
                await client.execute("ALTER TOPIC t SET OPTIONS (partitions: 4)")
            await client.execute("ALTER TOPIC t ADD COLUMN m INT DEFAULT 7")
            await client.execute("ALTER TOPIC t SET DELIVERY at_most_once")
            await client.publish("t", {"n": 2}, delay_seconds=10)
            clock.us += 10_000_000
            async with client.subscribe("t") as live:
                await moved(client)
                assert [(await next_of(live)).data for _ in range(2)] == [{"n": 1, "m": 7}, {"n": 2, "m": 7}]
            assert await stored(client) == [{"n": 1, "m": 7}, {"n": 2, "m": 7}]
            await client.publish("t", {"n": 3}, delay_seconds=10)
            await client.execute("PURGE TOPIC t")
            await client.execute("ALTER TOPIC t SET OPTIONS (partitions: 4)")


async def test_damaged_rows_are_reported_and_stay(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    with set_clock() as clock:
        async with Client(directory) as client:
            for n in range(5):
                clock.us += 1
                await client.publish("t", n, delay_seconds=10, message_id=f"id-{n}")
        connection = apsw.Connection(str(directory / "geode.db"))
        connection.execute("UPDATE delayed SET payload = cast('7' || x'0a' AS BLOB) WHERE delayed_id = 2")
        connection.execute("UPDATE delayed SET due_us = due_us - 10 WHERE delayed_id = 4")
        connection.close()
        clock.us += 20_000_000
        async with Client(directory) as client:
            await moved(client)
            assert await stored(client) == [0, 2, 4]
            assert await waiting(client) == [("t", 2, 3)]
            errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
            assert len(errors) == 2
            assert all("of topic t (1 messages for partition 0) fails its checksum" in text for text in errors)
            assert (await client.publish("t", 9, message_id="id-1")).duplicate
        caplog.clear()
        async with Client(directory) as client:
            assert "2 delayed messages of topic t are not delivered" in caplog.text
            assert (await client.execute("PURGE TOPIC t")).message == "topic t purged: 5 messages removed"


async def test_the_clock_may_be_set(directory: Path) -> None:
    with set_clock() as clock:
        async with Client(directory) as client:
            await client.publish("t", 1, delay_seconds=3600)
            clock.us -= 86_400_000_000
            await client.publish("t", 2, delay_seconds=60)
            await moved(client)
            assert await stored(client) == []
            clock.us += 86_400_000_000
            await moved(client)
            assert await stored(client) == [2]
            clock.us += 3600_000_000
            async with client.subscribe("t") as subscription:
                assert (await next_of(subscription)).data == 1


async def test_many_at_once_leave_publishers_their_turn(directory: Path) -> None:
    """They are moved in slices, and what somebody publishes meanwhile goes in between."""
    with set_clock() as clock:
        async with Client(directory) as client, client.subscribe("t") as subscription:
            await client.publish_batch("t", list(range(100_000)), delay_seconds=1)
            clock.us += 1_000_000
            client._broker._delays.tick()  # type: ignore[attr-defined]
            assert (await next_of(subscription)).data == 0
            assert ((await client.publish("t", "mine")).offset or 0) < 50_000
            found = [
                message.data async for message in client.subscribe("t", from_beginning=True, follow=True, limit=100_001)
            ]
            found.remove("mine")
            assert found == list(range(100_000))


async def test_a_cancelled_publish_is_there_once_or_not_at_all(directory: Path) -> None:
    async with Client(directory) as client:
        tasks = [asyncio.ensure_future(client.publish("t", n, delay_seconds=0.01)) for n in range(50)]
        for turn in range(10):
            await asyncio.sleep(0)
            tasks[turn].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        kept = {n for n, outcome in enumerate(done) if not isinstance(outcome, BaseException)}
        async with client.subscribe("t", from_beginning=True, follow=True) as subscription:
            seen: list[int] = []
            while not kept <= set(seen):
                seen.append((await next_of(subscription)).data)
        assert len(seen) == len(set(seen))


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["now", "later", "later", "batch", "time", "purge", "again", "drop"]),
        st.integers(0, 5),
        st.integers(1, 9),
    ),
    max_size=25,
)


@given(STEPS)
@long_rounds(40)
def test_against_a_model(steps: list[Step]) -> None:
    asyncio.run(_compare(steps))


async def _compare(steps: list[Step]) -> None:
    """The model: a list of what is in the log, a list of what waits, and the ids of both."""
    log: list[int] = []
    held: list[tuple[int, int, int]] = []
    ids: set[str] = set()
    number = 0
    with set_clock() as clock, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sweeper, "sweep_soon", lambda _: None)  # rows out of reach stay until a step sweeps
        async with Client(":memory:") as client:
            await client.execute("CREATE TOPIC t")
            for kind, which, amount in steps:
                clock.us += 1
                message_id = f"id-{which}" if which else None
                number += 1
                if kind in ("now", "later", "batch"):
                    delay = amount if kind != "now" else None
                    if kind == "batch":
                        chosen = [message_id, None, message_id]
                        receipt = await client.publish_batch("t", [number] * 3, message_ids=chosen, delay_seconds=delay)
                        known = receipt.duplicates
                        fresh = 3 if message_id is None else 1 if message_id in ids else 2
                        assert known == 3 - fresh
                    else:
                        single = await client.publish("t", number, message_id=message_id, delay_seconds=delay)
                        fresh = int(message_id is None or message_id not in ids)
                        assert single.duplicate == (not fresh)
                    if message_id is not None:
                        ids.add(message_id)
                    if delay is None:
                        log += [number] * fresh
                    else:
                        held += [(clock.us + delay * 1_000_000, number, number)] * fresh
                elif kind == "time":
                    clock.us += amount * 500_000
                    await moved(client)
                    due = sorted(one for one in held if one[0] <= clock.us)
                    held = [one for one in held if one[0] > clock.us]
                    log += [one[2] for one in due]
                elif kind == "again":
                    await client._broker._sweeper.sweep()  # type: ignore[attr-defined]
                else:
                    statement = "PURGE TOPIC t" if kind == "purge" else "DROP TOPIC t"
                    await client.execute(statement)
                    if kind == "drop":
                        await client.execute("CREATE TOPIC t")
                    log, held, ids = [], [], set()
                assert await waiting(client) != []
                assert (await client.query("SELECT delayed_messages FROM SYSTEM.topics")).scalar() == len(held)
            assert await stored(client) == log


@pytest.mark.parametrize("target", [":memory:", "directory"])
async def test_a_transaction_may_let_messages_wait(target: str, directory: Path) -> None:
    with set_clock() as clock:
        async with Client(target if target == ":memory:" else directory) as client:
            async with client.transaction() as tx:
                await tx.publish("t", 0, delay_seconds=5, message_id="a")
                await tx.rollback()
            async with client.transaction() as tx:
                await tx.publish("t", 1, delay_seconds=5, message_id="a")
                await tx.publish("t", 2, delay_seconds=5)
                await tx.publish_batch("t", [3, 4], delay_seconds=5)
                await tx.publish("t", 5)
            first, second, batch, now = tx.receipts
            assert [one.offset for one in (first, second, now)] == [None, None, 0]  # type: ignore[union-attr]
            assert (batch.count, batch.offsets) == (2, {})  # type: ignore[union-attr]
            clock.us += 5_000_000
            await moved(client)
            async with client.subscribe("t", from_beginning=True) as subscription:
                found = [(message.data, message.id) async for message in subscription]
            assert [data for data, _ in found] == [5, 1, 2, 3, 4]
            assert [found[1][1], found[2][1]] == ["a", second.id]  # type: ignore[union-attr]
