"""A store whose directory goes away under a client: it is noticed, and the same client goes on once the directory is back."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from geode_client import Client, ConnectionLost, StoreError


async def take_away(directory: Path) -> Path:
    aside = directory.with_name("aside")
    directory.rename(aside)
    return aside


async def replace(directory: Path) -> Path:
    aside = await take_away(directory)
    async with Client(directory) as other:
        await other.publish("t", {"other": True})
    return aside


def put_back(directory: Path, aside: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    aside.rename(directory)


@pytest.fixture(params=[take_away, replace], ids=["gone", "replaced"])
def change(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_no_receipt_is_given_for_what_nobody_will_find(directory: Path, change: Any) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": 0})
        await change(directory)
        for store in (
            lambda: client.publish("t", {"n": 1}),
            lambda: client.publish_batch("t", [{"n": 1}]),
            lambda: client.execute("CREATE TOPIC u"),
        ):
            with pytest.raises(StoreError, match=r"geode\.db"):
                await store()


async def test_a_batch_or_a_transaction_notices_it_too(directory: Path) -> None:
    for way in ("batch", "transaction", "statement"):
        path = directory / way
        async with Client(path) as client:
            await client.publish("t", {"n": 0})
            await take_away(path)
            with pytest.raises(StoreError, match="is gone"):
                if way == "batch":
                    await client.publish_batch("t", [{"n": 1}])
                elif way == "statement":
                    await client.execute('PUBLISH TO t {"n": 1}')
                else:
                    async with client.transaction() as tx:
                        await tx.publish("t", {"n": 1})
            shutil.rmtree(directory / "aside")


@pytest.mark.parametrize("group", [None, "g"])
async def test_an_idle_subscriber_is_told(directory: Path, change: Any, group: str | None) -> None:
    async with Client(directory) as client:
        async with client.subscribe("t", consumer_group=group) as subscription:
            waiting = asyncio.ensure_future(subscription.get(timeout=60))
            await asyncio.sleep(0)
            await change(directory)
            with pytest.raises(ConnectionLost, match=r"geode\.db"):
                await waiting


@pytest.mark.parametrize("options", [{}, {"consumer_group": "g"}, {"auto_ack": False}])
async def test_the_robust_subscriber_of_the_specification_recovers(
    directory: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As written there, but for the length of its delay."""
    received: list[int] = []
    lost = asyncio.Event()

    async def process_message(message: Any) -> None:
        received.append(message["n"])

    async def robust_subscriber(client: Client) -> None:
        while True:
            try:
                async with client.subscribe("events", **options) as sub:
                    async for message in sub:
                        await process_message(message)
                        if options.get("auto_ack") is False:
                            await message.ack()
            except ConnectionError:
                lost.set()
                await asyncio.sleep(0.01)

    async with Client(directory) as client, Client(directory) as publisher:
        running = asyncio.create_task(robust_subscriber(client))
        while not received:
            await publisher.publish("events", {"n": 0})
            await asyncio.sleep(0.01)
        aside = await take_away(directory)
        await asyncio.wait_for(lost.wait(), 30)
        assert not running.done()
        assert not directory.exists(), "no empty store in the place of the lost one"
        with pytest.raises(StoreError):
            await publisher.publish("events", {"n": 1})
        put_back(directory, aside)
        while 2 not in received:
            await publisher.publish("events", {"n": 2})
            await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_another_store_is_refused_and_the_own_one_accepted(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": 0})
        aside = await replace(directory)
        with pytest.raises(StoreError):
            await client.publish("t", {"n": 1})
        for ask in (
            lambda: client.publish("t", {"n": 1}),
            lambda: client.query("SELECT n FROM t"),
            lambda: client.subscribe("t").open(),
        ):
            with pytest.raises(StoreError, match="is another store") as refused:
                await ask()
            assert not isinstance(refused.value, ConnectionLost), "trying again does not help"
        async with Client(directory) as other:
            assert (await other.query("SELECT count(*) FROM t")).rows == [(1,)]
        put_back(directory, aside)
        assert (
            await client.publish("t", {"n": 2})
        ).offset == 1 + 1  # what was written without a receipt is in the file
        assert (await client.query("SELECT n FROM t")).rows[0] == (0,)


async def test_a_lost_store_is_not_founded_anew(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": 0})
        shutil.rmtree(directory)
        for _ in range(3):
            with pytest.raises(StoreError):
                await client.publish("t", {"n": 1})
            with pytest.raises(ConnectionError):
                async with client.subscribe("t"):
                    pass
        assert not directory.exists()
