"""What a backend writes together with a transaction: it is asked at the commit, and told how that ended."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from geode_client import Client, GeodeError, LeaseLost, StoreError
from geode_client.local import outbox
from geode_client.store.writer import Transaction


class Settlement:
    """Writes a value into the store's state; then it is refused, or fails, or not."""

    durable = False

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure
        self.error: GeodeError | None = None
        self.heard: list[bool] = []

    def work(self) -> "Settlement":
        return self

    def told(self, stored: bool) -> None:
        self.heard.append(stored)

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        transaction.database.cursor.execute("INSERT INTO store_state VALUES ('settled', 1)")
        if self._failure is not None:
            raise self._failure


async def run(client: Client, settlement: Settlement, *, sql: bool) -> None:
    async with client.transaction() as tx:
        assert tx.begun is not None
        assert tx.begun.joining is not None
        await tx.publish("t", "in it")
        await tx.publish("new", "in it")
        if sql:
            await tx.execute("CREATE TABLE own (a)")
        tx.begun.joining.settle(settlement)
        tx.begun.joining.settle(settlement)


@pytest.fixture(params=["directory", ":memory:"])
def target(request: pytest.FixtureRequest, directory: Path) -> str:
    return str(directory) if request.param == "directory" else ":memory:"


@pytest.mark.parametrize("sql", [False, True])
async def test_it_is_stored_with_the_rest(target: str, sql: bool) -> None:
    async with Client(target) as client:
        settlement = Settlement()
        await run(client, settlement, sql=sql)
        assert settlement.heard == [True]
        with pytest.raises(StoreError, match="UNIQUE"):
            await run(client, again := Settlement(), sql=False)
        assert again.heard == [False]
        assert (await client.publish("t", 1)).offset == 1


@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize("sql", [False, True])
async def test_refused_it_refuses_everything_and_nobody_else(
    target: str, sql: bool, here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "INLINE_SECONDS_MAX", 3600 if here else -1)
    async with Client(target) as client:
        assert (await client.publish("t", "before")).offset == 0
        settlement = Settlement(LeaseLost("it has passed on"))
        found: Any = await asyncio.gather(
            run(client, settlement, sql=sql),
            client.publish_batch("t", ["beside"]),
            client.publish_batch("others", ["beside"]),
            return_exceptions=True,
        )
        assert isinstance(found[0], LeaseLost)
        assert [batch.count for batch in found[1:]] == [1, 1]
        assert settlement.heard == [False]
        # Neither its messages nor its topic are there, and the offsets go on as if it had never been.
        assert (await client.publish("t", "after")).offset == 2
        async with client.subscribe("t", from_beginning=True) as subscription:
            assert [message.data async for message in subscription] == ["before", "beside", "after"]
        assert [topic.name for topic in await client._broker.topics()] == ["others", "t"]
        batches = (await client._broker.report(["partitions"])).partitions
        assert client._broker._log.last_batch_id() == sum(one.batches or 0 for one in batches)  # type: ignore[attr-defined]
        settled = Settlement()
        await run(client, settled, sql=sql)
        assert settled.heard == [True]
        assert (await client.publish("new", 1)).offset == 1


@pytest.mark.parametrize("sql", [False, True])
async def test_rolled_back_it_is_told(target: str, sql: bool) -> None:
    async with Client(target) as client:
        settlement = Settlement()
        with pytest.raises(ZeroDivisionError):
            async with client.transaction() as tx:
                assert tx.begun is not None
                assert tx.begun.joining is not None
                tx.begun.joining.settle(settlement)
                if sql:
                    await tx.execute("SELECT 1")
                raise ZeroDivisionError
        assert settlement.heard == [False]
        await run(client, Settlement(), sql=sql)
