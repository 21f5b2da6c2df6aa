"""Where a client may be used: in the event loop and the process that opened it, and nowhere else without being told."""

import asyncio
import os
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geode_client import Client, GeodeError, StoreError, SyncClient


def test_another_event_loop_is_refused(directory: Path) -> None:
    client = Client(directory)
    with asyncio.Runner() as runner:
        runner.run(opened(client))
        for call in (
            lambda: client.publish("t", 1),
            lambda: client.publish_batch("t", [1]),
            lambda: client.query("SELECT * FROM t"),
            lambda: client.subscribe("t").open(),
            client.close,
        ):
            with pytest.raises(StoreError, match="another event loop"):
                elsewhere(call)
        runner.run(client.close())


def elsewhere(call: Callable[[], Any]) -> None:
    """Run a call in the loop of another thread."""
    failure: list[Exception] = []

    async def awaited() -> None:
        try:
            async with asyncio.timeout(20):
                await call()
        except Exception as error:  # noqa: BLE001 - raised again in the thread of the test
            failure.append(error)

    thread = threading.Thread(target=lambda: asyncio.run(awaited()))
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


async def opened(client: Client) -> None:
    await client.publish("t", 0)


def test_a_closed_client_without_await_says_so(directory: Path) -> None:
    client = SyncClient(directory)
    client.publish("t", 1)
    client.close()
    client.close()
    with pytest.raises(GeodeError, match="closed"):
        client.publish("t", 2)
    with pytest.raises(GeodeError, match="closed"), client.subscribe("t"):
        pass


def test_a_client_without_await_is_refused_in_a_forked_child(directory: Path) -> None:
    with SyncClient(directory) as client:
        client.publish("t", 1)
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking beside threads
            child = os.fork()
        if child == 0:
            told = "nothing"
            try:
                client.publish("t", 2)
            except StoreError as error:
                told = str(error)
            client.close()
            os.write(writing, told.encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading, encoding="utf-8") as stream:
            assert "forked" in stream.read()
        assert client.publish("t", 3).offset == 1


async def test_a_folder_in_the_place_of_a_file_stops_no_client(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", 1)
        (directory / "geode.sweep").mkdir()
        client._broker._sweeper.sweep_soon()  # type: ignore[attr-defined]
        for _ in range(5):
            await asyncio.sleep(0)
    shutil.rmtree(directory / "wake")
    (directory / "wake").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="wake"):
        await Client(directory).open()
