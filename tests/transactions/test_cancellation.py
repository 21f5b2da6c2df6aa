"""A transaction that is cancelled at each of its awaits: no lock stays, and `committed` tells the truth."""

import asyncio
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from geode_client import Client, Transaction, TransactionAborted
from geode_client.broker import current_transaction
from geode_client.local import outbox

STEPS_MAX = 60
SECONDS_MAX = 30


class Cancelled:
    """Awaits a coroutine and cancels it at its `step`-th await: before what it waits for has happened, or after.

    `reached` says whether it had that many.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], step: int, *, after: bool) -> None:
        self._work = work
        self._step = step
        self._after = after
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = 0
        throw = False
        while True:
            try:
                waited = self._work.throw(asyncio.CancelledError()) if throw else self._work.send(None)
            except StopIteration as end:
                return end.value
            steps += 1
            throw = steps == self._step
            self.reached = self.reached or throw
            if throw and not self._after:
                waited.cancel()  # as a task does that is cancelled while it waits
            else:
                yield waited


async def transact(client: Client, made: list[Transaction], *, sql: bool) -> None:
    made.append(client.transaction(timeout=SECONDS_MAX))
    async with made[-1] as tx:
        await tx.publish("t", len(made))
        await tx.publish_batch("new", [len(made)] * 3)
        if sql:
            await tx.execute("INSERT INTO own VALUES (?)", [len(made)])
            await tx.execute("SELECT count(*) FROM own")


async def check(client: Client, made: list[Transaction]) -> None:
    """What is stored is what the transactions say; and others can write."""
    current_transaction.set(None)
    async with asyncio.timeout(SECONDS_MAX):
        await client.publish("others", 1)
        async with client.transaction(timeout=SECONDS_MAX) as tx:
            in_table = [n for (n,) in (await tx.execute("SELECT n FROM own ORDER BY n")).rows]
    for topic, times in (("t", 1), ("new", 3)):
        async with client.subscribe(topic, from_beginning=True) as subscription:
            found = [message.data async for message in subscription]
        wanted = [n for n, tx in enumerate(made, 1) for _ in range(times) if tx.committed]
        assert sorted(found) == wanted
    assert set(in_table) <= {n for n, tx in enumerate(made, 1) if tx.committed}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("sql", [False, True])
@pytest.mark.parametrize("target", ["directory", ":memory:"])
async def test_cancelled_at_every_await(
    directory: Path, target: str, sql: bool, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is committed in the calling thread, where there is no await.
    monkeypatch.setattr(outbox, "INLINE_SECONDS_MAX", -1)
    async with Client(directory if target == "directory" else target) as client:
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (n)")
        made: list[Transaction] = []
        for step in range(1, STEPS_MAX):
            cancelled = Cancelled(transact(client, made, sql=sql), step, after=after)
            try:
                await cancelled
            except asyncio.CancelledError:
                assert cancelled.reached
            await check(client, made)
            if not cancelled.reached:
                break
        assert step < STEPS_MAX
        assert made[-1].committed
        if not after and target == "directory":
            assert not made[0].committed


@pytest.mark.parametrize("after", [False, True])
async def test_cancelled_while_it_waits_for_another_one(directory: Path, after: bool) -> None:
    async with Client(directory) as client, Client(directory) as other:
        async with other.transaction(timeout=SECONDS_MAX) as blocking:
            await blocking.execute("CREATE TABLE own (n)")
            current_transaction.set(None)
            made: list[Transaction] = []
            for sql in (True, False):
                work = Cancelled(transact(client, made, sql=sql), 1, after=False)
                with pytest.raises(asyncio.CancelledError):
                    await work
        assert blocking.committed
        assert [tx.committed for tx in made] == [False, False]
        await client.publish("t", 1)
        await client.publish("new", 1)
        async with client.subscribe("t", from_beginning=True) as subscription:
            assert [message.data async for message in subscription] == [1]


async def test_a_statement_that_is_cancelled_is_interrupted_and_ends_the_transaction(directory: Path) -> None:
    async with Client(directory) as client:
        with pytest.raises(TransactionAborted, match="a statement in it was cancelled"):
            async with client.transaction(timeout=SECONDS_MAX) as tx:
                await tx.execute("CREATE TABLE own (n)")
                for_ever = (
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO own SELECT i FROM n"
                )
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await tx.execute(for_ever)
                with pytest.raises(TransactionAborted, match="a statement in it was cancelled"):
                    await tx.execute("SELECT 1")
        async with asyncio.timeout(SECONDS_MAX):
            await client.publish("t", 1)
