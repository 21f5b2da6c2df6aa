"""`client.transaction()`: all of it or nothing, on a directory and in memory."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from geode_client import (
    BatchReceipt,
    Client,
    ConstraintFailed,
    GeodeError,
    GqlError,
    InvalidMessage,
    Receipt,
    SchemaViolation,
    SyncClient,
    TopicNotFound,
    TransactionAborted,
    Unsupported,
)
from geode_client.broker import current_transaction

FOR_EVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture(params=["directory", ":memory:"])
def target(request: pytest.FixtureRequest, directory: Path) -> str:
    return str(directory) if request.param == "directory" else ":memory:"


async def stored(client: Client, topic: str) -> list[Any]:
    async with client.subscribe(topic, from_beginning=True) as subscription:
        return [message.data async for message in subscription]


async def rows(client: Client, sql: str) -> list[tuple[Any, ...]]:
    async with client.transaction() as tx:
        return (await tx.execute(sql)).rows


async def topics(client: Client) -> list[str]:
    return [topic.name for topic in await client._broker.topics()]


async def test_everything_is_stored_together(target: str) -> None:
    async with Client(target) as client:
        await client.execute("CREATE TOPIC there WITH OPTIONS (partitions: 2)")
        async with client.transaction() as tx:
            await tx.publish("orders", {"n": 1}, partition_key="k", headers={"h": 1}, message_id="first")
            await tx.execute("CREATE TABLE balance (owner TEXT PRIMARY KEY, amount INTEGER NOT NULL)")
            inserted = await tx.execute("INSERT INTO balance VALUES (?, ?), (?, ?)", ["a", 5, "b", 7])
            await tx.publish_batch("there", [{"n": n} for n in range(5)], batch_size=2, partition_key="x")
            await tx.publish("orders", {"n": 2}, message_id="first")
            found = await tx.execute("SELECT * FROM balance WHERE owner = :who", {"who": "b"})
            assert (tx.committed, tx.receipts) == (False, [])
        assert inserted.message == "2 rows written"
        assert (found.columns, found.rows) == (("owner", "amount"), [("b", 7)])
        assert tx.committed
        one, batch, again = tx.receipts
        assert isinstance(one, Receipt)
        assert (one.id, one.topic, one.offset, one.duplicate) == ("first", "orders", 0, False)
        assert isinstance(batch, BatchReceipt)
        assert (batch.count, list(batch.offsets.values())) == (5, [range(5)])
        assert isinstance(again, Receipt)
        assert (again.offset, again.duplicate) == (0, True)
        assert await stored(client, "orders") == [{"n": 1}]
        assert await stored(client, "there") == [{"n": n} for n in range(5)]
        assert await rows(client, "SELECT sum(amount) FROM balance") == [(12,)]
        async with client.subscribe("orders", from_beginning=True) as subscription:
            message = await subscription.get()
            assert message is not None
            assert (message.key, message.headers, message.id) == ("k", {"h": 1}, "first")


async def test_an_exception_rolls_back_everything(target: str) -> None:
    async with Client(target) as client:
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (a UNIQUE)")
            await tx.execute("INSERT INTO own VALUES (1)")
        with pytest.raises(ConstraintFailed, match=r"UNIQUE constraint failed: own\.a"):
            async with client.transaction() as tx:
                await tx.publish("new", {"n": 1})
                await tx.execute("CREATE TABLE other (b)")
                await tx.execute("INSERT INTO own VALUES (2)")
                await tx.execute("INSERT INTO own VALUES (1)")
        assert not tx.committed
        assert await topics(client) == []
        assert await rows(client, "SELECT a FROM own") == [(1,)]
        with pytest.raises(GqlError, match="no such table"):
            await rows(client, "SELECT * FROM other")
        assert (await client.publish("new", 1)).offset == 0


async def test_a_statement_that_fails_is_undone_alone(target: str) -> None:
    async with Client(target) as client:
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (a PRIMARY KEY)")
            with pytest.raises(ConstraintFailed):
                await tx.execute("INSERT INTO own VALUES (1), (2), (1)")
            await tx.execute("INSERT INTO own VALUES (3)")
        assert await rows(client, "SELECT a FROM own") == [(3,)]


async def test_an_error_that_ends_the_transaction_says_so_afterwards(target: str) -> None:
    async with Client(target) as client:
        with pytest.raises(TransactionAborted, match="rolled back by an error in it: UNIQUE"):
            async with client.transaction() as tx:
                await tx.execute("CREATE TABLE own (a UNIQUE)")
                await tx.execute("INSERT INTO own VALUES (1)")
                with pytest.raises(ConstraintFailed):
                    await tx.execute("INSERT OR ROLLBACK INTO own VALUES (1)")
        assert not tx.committed
        assert (await client.publish("t", 1)).offset == 0


async def test_foreign_keys_hold_at_the_end(target: str) -> None:
    async with Client(target) as client:
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
            await tx.execute("CREATE TABLE child (p REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)")
        async with client.transaction() as tx:
            await tx.execute("INSERT INTO child VALUES (1)")
            await tx.execute("INSERT INTO parent VALUES (1)")
        with pytest.raises(ConstraintFailed, match="FOREIGN KEY"):
            async with client.transaction() as tx:
                await tx.publish("t", 1)
                await tx.execute("INSERT INTO child VALUES (2)")
        assert await rows(client, "SELECT p FROM child") == [(1,)]
        assert await topics(client) == []


async def test_what_is_wrong_is_said_at_the_call(target: str) -> None:
    async with Client(target, auto_create=False) as client:
        await client.execute("CREATE TOPIC s SCHEMA (n INT NOT NULL)")
        async with client.transaction() as tx:
            for call, error, says in [
                (tx.publish("s", {"n": "x"}), SchemaViolation, "/n"),
                (tx.publish("s", {"n": float("nan")}), InvalidMessage, "NaN"),
                (tx.publish("s", {"n": 1}, priority="urgent"), GqlError, "priority"),
                (tx.publish("nowhere", 1), TopicNotFound, "nowhere"),
                (tx.publish("s", {"n": 1}, region="eu"), Unsupported, "region"),
                (tx.publish_batch("s", [{"n": 1}, {"n": 2}, {"n": None}], batch_size=1), SchemaViolation, "message 3"),
                (tx.execute("SELECT ?", [object()]), GqlError, "parameter 1 is of type object"),
            ]:
                with pytest.raises(error, match=says):
                    await call
            await tx.publish("s", {"n": 5})
        assert await stored(client, "s") == [{"n": 1}, {"n": 2}, {"n": 5}]


async def test_what_is_given_can_be_changed_afterwards(target: str) -> None:
    async with Client(target) as client:
        async with client.transaction() as tx:
            message, headers = {"n": 1}, {"h": [1]}
            await tx.publish("t", message, headers=headers)
            message["n"], headers["h"] = 2, [2]
            await tx.publish("t", message, headers=headers)
        async with client.subscribe("t", from_beginning=True) as subscription:
            assert [(m.data, m.headers) async for m in subscription] == [
                ({"n": 1}, {"h": [1]}),
                ({"n": 2}, {"h": [2]}),
            ]


async def test_single_messages_share_a_row_and_keep_their_order(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (partition_key: 'k')")
        async with client.transaction() as tx:
            for n in range(100):
                own = None if n % 7 else f"k{n % 3}"
                await tx.publish(
                    "t", {"n": n, "k": f"k{n % 3}"}, partition_key=own, message_id=None if n % 2 else f"id{n}"
                )
            await tx.publish("t", {"n": 100, "k": "z"}, priority=9, ttl_seconds=60)
            await tx.publish_batch("t", [{"n": 101, "k": "q"}, {"n": 102, "k": "q"}], message_ids=["x", None])
        (found,) = (await client._broker.report(["partitions"], "t")).partitions
        assert found.batches == 3
        async with client.subscribe("t", from_beginning=True) as subscription:
            messages = [message async for message in subscription]
        assert [message["n"] for message in messages] == list(range(103))
        assert [message.key for message in messages] == [message["k"] for message in messages]
        assert [receipt.id for receipt in tx.receipts[:101] if isinstance(receipt, Receipt)] == [
            message.id for message in messages[:101]
        ]


async def test_a_topic_that_changes_meanwhile_is_seen_at_the_commit(target: str) -> None:
    async with Client(target) as client:
        await client.publish("t", {"n": "text"})
        with pytest.raises(SchemaViolation):
            async with client.transaction() as tx:
                await tx.publish("t", {"n": "text"})
                await tx.publish("u", {"n": 1})
                await beside(client.execute("ALTER TOPIC t ADD COLUMN n INT"))
        assert await topics(client) == ["t"]
        async with client.transaction() as tx:
            await tx.publish("t", {"n": 1})
            await tx.publish("new", {"n": 1})
            await beside(client.execute("ALTER TOPIC t SET OPTIONS (max_retries: 3)"))
            await beside(client.execute("CREATE TOPIC new WITH OPTIONS (partitions: 4)"))
        assert len(await stored(client, "t")) == 2
        assert (await client._broker.topic("new")).partitions == 4


async def test_a_topic_that_another_process_changes_before_the_lock_is_seen_at_the_commit(directory: Path) -> None:
    async with Client(directory) as client, Client(directory) as other:
        await client.publish("t", {"n": 1})
        async with client.transaction() as tx:
            await tx.publish("t", {"n": 2})
            await beside(other.execute("ALTER TOPIC t SET OPTIONS (max_retries: 3)"))
            await tx.execute("CREATE TABLE own (a)")
        assert await stored(client, "t") == [{"n": 1}, {"n": 2}]


async def beside(work: Any) -> Any:
    """Await something as a task that is not inside the transaction."""
    token = current_transaction.set(None)
    try:
        return await asyncio.ensure_future(work)
    finally:
        current_transaction.reset(token)


async def test_a_pattern_sees_the_topic_that_a_transaction_made(target: str) -> None:
    async with Client(target) as client, client.subscribe("a/*") as subscription:
        async with client.transaction() as tx:
            await tx.publish("a/new", 1)
            assert await subscription.get(timeout=0) is None
        message = await subscription.get()
        assert message is not None
        assert (message.topic, message.data) == ("a/new", 1)


async def test_publishing_past_it_is_an_error_and_no_deadlock(target: str) -> None:
    async with Client(target) as client:
        await client.publish("t", 0)
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (a)")
            for call in (
                lambda: client.publish("t", 1),
                lambda: client.publish_batch("t", [1]),
                lambda: client.execute('PUBLISH TO t {"n": 1}'),
                lambda: asyncio.create_task(client.publish_batch("t", [1])),
            ):
                with pytest.raises(GeodeError, match=r"use tx\.publish"):
                    await call()
            with pytest.raises(GeodeError, match="before it begins"):
                await client.execute("CREATE TOPIC u")
            with pytest.raises(GeodeError, match="inside a transaction: commit"):
                async with client.transaction():
                    pass
            # What only looks sees what is stored.
            assert (await client.query("SELECT count(*) FROM t")).scalar() == 1
            assert await stored(client, "t") == [0]
        await client.publish("t", 1)
        assert await stored(client, "t") == [0, 1]


async def test_another_client_of_the_store_is_no_way_around(directory: Path) -> None:
    async with Client(directory) as client, Client(directory) as other, Client(":memory:") as elsewhere:
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (a)")
            with pytest.raises(GeodeError, match=r"use tx\.publish"):
                await other.publish("t", 1)
            await elsewhere.publish("t", 1)


async def test_others_wait_for_it_and_go_on(target: str) -> None:
    async with Client(target) as client:
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (a)")
            waiting = asyncio.create_task(outside(client.publish("t", "other")))
            batch = asyncio.create_task(outside(client.publish_batch("t", ["batch"])))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await tx.publish("t", "tx")
            assert not waiting.done()
            # Looking does not wait for those that wait for this transaction.
            assert (await client.query("SELECT count(*) FROM SYSTEM.partitions")).scalar() == 0
            assert not waiting.done()
        await asyncio.gather(waiting, batch)
        assert sorted(await stored(client, "t")) == ["batch", "other", "tx"]


async def outside(work: Any) -> Any:
    current_transaction.set(None)
    return await work


async def test_many_at_once_take_turns(target: str) -> None:
    async with Client(target) as client:
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE counter (n)")
            await tx.execute("INSERT INTO counter VALUES (0)")

        async def raise_it() -> None:
            async with client.transaction(timeout=60) as tx:
                ((n,),) = (await tx.execute("SELECT n FROM counter")).rows
                await tx.execute("UPDATE counter SET n = ?", [n + 1])
                await tx.publish("t", n)

        await asyncio.gather(*[raise_it() for _ in range(50)])
        assert await rows(client, "SELECT n FROM counter") == [(50,)]
        assert await stored(client, "t") == list(range(50))


# ── the bound ──
async def test_a_statement_is_interrupted_at_the_bound(target: str) -> None:
    async with Client(target) as client:
        await client.publish("t", 0)
        with pytest.raises(TransactionAborted, match=r"longer than its bound of 0\.01 seconds"):
            async with client.transaction(timeout=0.01) as tx:
                await tx.publish("t", 1)
                await tx.execute(FOR_EVER)
        assert not tx.committed
        await client.publish("t", 2)
        assert await stored(client, "t") == [0, 2]


async def test_one_that_is_idle_is_rolled_back_at_the_bound(target: str) -> None:
    async with Client(target) as client:
        with pytest.raises(TransactionAborted, match="longer than its bound"):
            async with client.transaction(timeout=0.02) as tx:
                await tx.execute("CREATE TABLE own (a)")
                # Others go on although this block does not end.
                await asyncio.create_task(outside(client.publish("t", 1)))
                with pytest.raises(TransactionAborted, match="longer than its bound"):
                    await tx.execute("INSERT INTO own VALUES (1)")
                with pytest.raises(TransactionAborted, match="longer than its bound"):
                    await tx.publish("t", 2)
        assert await stored(client, "t") == [1]
        with pytest.raises(GqlError, match="no such table"):
            await rows(client, "SELECT * FROM own")


async def test_the_bound_holds_while_the_program_is_busy(directory: Path) -> None:
    """Another process's writes go on although the event loop of this one does not."""
    async with Client(directory) as client:
        with SyncClient(directory) as other:
            with pytest.raises(TransactionAborted, match="longer than its bound"):
                async with client.transaction(timeout=0.05) as tx:
                    await tx.execute("CREATE TABLE own (a)")
                    current_transaction.set(None)
                    assert other.publish("t", 1).offset == 0  # in this thread, which runs the event loop


async def test_without_sql_nobody_waits(directory: Path) -> None:
    async with Client(directory) as client, client.transaction() as tx:
        await tx.publish("t", 1)
        assert (await outside(client.publish("t", 2))).offset == 0


async def test_one_without_sql_ends_at_its_bound_too(target: str) -> None:
    async with Client(target) as client:
        with pytest.raises(TransactionAborted, match="longer than its bound"):
            async with client.transaction(timeout=0.001) as tx:
                await tx.publish("t", 1)
                end = time.monotonic() + 0.001
                while time.monotonic() < end:
                    pass
        assert await topics(client) == []


async def test_waiting_for_the_turn_is_bounded(target: str) -> None:
    async with Client(target) as client:
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (a)")

            async def second() -> None:
                current_transaction.set(None)
                async with client.transaction(timeout=0.01) as other:
                    await other.execute("SELECT 1")

            with pytest.raises(TransactionAborted, match="longer than its bound"):
                await asyncio.create_task(second())
        assert tx.committed


# ── ways to end it ──
async def test_it_can_be_ended_before_its_block(target: str) -> None:
    async with Client(target) as client:
        async with client.transaction() as tx:
            await tx.publish("t", 1)
            await tx.commit()
            with pytest.raises(TransactionAborted, match="over: it was committed"):
                await tx.publish("t", 2)
        async with client.transaction() as tx:
            await tx.publish("t", 3)
            await tx.rollback()
            with pytest.raises(TransactionAborted, match="over: it was rolled back"):
                await tx.execute("SELECT 1")
        assert not tx.committed
        assert await stored(client, "t") == [1]
        with pytest.raises(GeodeError, match="used once"):
            await tx.__aenter__()
        with pytest.raises(GeodeError, match="has not begun"):
            await client.transaction().publish("t", 1)


async def test_an_empty_one_is_nothing(target: str) -> None:
    async with Client(target) as client:
        async with client.transaction() as tx:
            pass
        assert (tx.committed, tx.receipts) == (True, [])
        async with client.transaction() as tx:
            await tx.publish_batch("t", [])
        assert tx.receipts == [BatchReceipt(0, 0, {})]


async def test_closing_the_client_rolls_back(target: str) -> None:
    client = Client(target)
    with pytest.raises(TransactionAborted, match="client was closed"):
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (a)")
            await client.close()
    if target != ":memory:":
        async with Client(target) as again:
            with pytest.raises(GqlError, match="no such table"):
                await rows(again, "SELECT * FROM own")


@pytest.mark.parametrize("timeout", [0, -1, True, "5", float("nan"), 10_000])
def test_a_bound_is_a_number_of_seconds(timeout: Any) -> None:
    with pytest.raises(GqlError, match="timeout is a number of seconds"):
        Client(":memory:").transaction(timeout=timeout)


async def test_results_are_bounded(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from geode_client.store import own_tables

    monkeypatch.setattr(own_tables, "RESULT_ROWS_MAX", 10)
    async with Client(target) as client, client.transaction() as tx:
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {}) SELECT i FROM n"
        assert len((await tx.execute(numbers.format(10))).rows) == 10
        with pytest.raises(GqlError, match="more than 10 rows"):
            await tx.execute(numbers.format(11))
        await tx.execute("CREATE TABLE own (a)")
        with pytest.raises(GqlError, match="more than 10 rows"):
            await tx.execute(f"INSERT INTO own {numbers.format(11)} RETURNING a")
        # … and the statement is undone, as every other that fails.
        assert (await tx.execute("SELECT count(*) FROM own")).rows == [(0,)]


async def test_the_size_of_what_is_gathered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from geode_client.local import transactions

    monkeypatch.setattr(transactions, "RAW_BYTES_MAX", 100)
    async with Client(":memory:") as client, client.transaction() as tx:
        await tx.publish("t", "x" * 50)
        with pytest.raises(GeodeError, match="at most 100 bytes"):
            await tx.publish("t", "x" * 50)


def test_without_await(directory: Path) -> None:
    with SyncClient(directory) as client:
        with client.transaction() as tx:
            tx.execute("CREATE TABLE own (a)")
            tx.execute("INSERT INTO own VALUES (?)", [1])
            tx.publish("t", 1)
            tx.publish_batch("t", [2, 3])
            with pytest.raises(GeodeError, match=r"use tx\.publish"):
                client.publish("t", 4)
        assert tx.committed
        assert len(tx.receipts) == 2
        with pytest.raises(ZeroDivisionError), client.transaction() as tx:
            tx.publish("t", 5)
            raise ZeroDivisionError
        assert client.publish("t", 4).offset == 3
