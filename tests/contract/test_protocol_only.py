"""Every statement and every client call runs through the protocol alone."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from contract.protocol_only import names_of, protocol_only
from query.test_scripts import SCRIPTS, transcript
from reading import next_of

from geode_client import Client, GeodeError
from geode_client.broker import Broker, Feed
from geode_client.client import wrap_broker
from geode_client.metrics import families
from geode_client.repl import top

# What each of the client's own methods is called by below; a method that is added must be added here.
CALLED = set(
    "open close publish publish_batch subscribe request serve transaction connection execute query run_script"
    " get_throughput get_error_rate get_consumer_lag health target".split()
)


@pytest.fixture
async def client(directory: Path) -> AsyncIterator[Client]:
    made = Client(directory)
    wrap_broker(made, protocol_only)
    async with made as opened:
        yield opened


def test_the_seam_is_narrow() -> None:
    assert len(names_of(Broker)) <= 24
    assert len(names_of(Feed)) <= 10


async def test_what_is_not_in_the_protocol_raises(client: Client) -> None:
    with pytest.raises(AssertionError, match="past the seam"):
        client._broker._log  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AssertionError, match="set from above"):
        client._broker.open = None  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
async def test_every_statement(
    path: Path, directory: Path, golden: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory.parent)  # where COPY writes
    golden(path.with_suffix(".out"), await transcript(path, directory, protocol_only))


def test_every_client_call_is_below() -> None:
    methods = {name for name, _ in inspect.getmembers(Client) if not name.startswith("_")}
    assert methods == CALLED


async def test_publishing_subscribing_and_figures(client: Client) -> None:
    assert (await client.publish("t", 1, priority="high", message_id="a")).offset == 0
    assert (await client.publish("t", 1, message_id="a")).duplicate
    assert (await client.publish_batch("t", range(10), batch_size=3)).count == 10
    async with client.subscribe("*", from_beginning=True, filter="_offset > 1") as subscription:
        assert len([message async for message in subscription]) == 9
    async with client.subscribe("t", consumer_group="g", from_beginning=True) as group:
        await group.get()
        assert [len(batch) async for batch in _first(group.batches(100, 0.01))] == [10]
    assert await client.get_consumer_lag("t", "g") == 0
    assert await client.get_throughput("t") > 0
    assert await client.get_error_rate("t") == 0
    assert await client.health("t", throughput_min=0.0)
    assert await families(client._broker)
    assert (await top.look(client._broker, "**")).topics


async def _first(batches: AsyncIterator[list[Any]]) -> AsyncIterator[list[Any]]:
    async for batch in batches:
        yield batch
        return


async def test_requests(client: Client) -> None:
    async with client.serve("add") as service:
        asked = client.request("add", {"a": 1})

        task = asyncio.ensure_future(asked)
        async for request in service:
            assert isinstance(request.params, dict)
            number = request.params["a"]
            assert isinstance(number, int)
            await request.reply(number + 1)
            break
        assert await task == 2


async def test_transactions(client: Client, tmp_path: Path) -> None:
    await client.publish("t", 1)
    async with client.subscribe("t", consumer_group="g", from_beginning=True, auto_ack=False) as subscription:
        async with client.transaction() as tx:
            await tx.ack(await next_of(subscription))
            await tx.publish("u", 2)
            await tx.execute("CREATE TABLE own (a)")
            with pytest.raises(GeodeError, match="past the open transaction"):
                await client.publish("t", 3)
    assert await client.get_consumer_lag("t", "g") == 0
    async with client.connection() as connection:
        await connection.begin()
        await connection.execute("INSERT INTO own VALUES (1)")
        await connection.execute("PUBLISH TO t 4")
        await connection.commit()
        assert (await connection.execute("SELECT a FROM own")).rows == [(1,)]
    script = tmp_path / "script.gql"
    script.write_text("BEGIN; PUBLISH TO t 5; COMMIT; SELECT count(*) FROM t;")
    assert (await client.run_script(script))[-1].rows == [(3,)]
