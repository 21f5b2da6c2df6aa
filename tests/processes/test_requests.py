"""Requests between processes: shared among servers, passed on when one dies, and clients that die leave nothing for ever."""

import asyncio
from pathlib import Path
from typing import Any

from processes.running import worker

from geode_client import Client


async def test_servers_of_several_processes_share_the_requests(directory: Path) -> None:
    async with (
        Client(directory) as client,
        worker("serve", str(directory), "a", "0.005") as a,
        worker("serve", str(directory), "b", "0.005") as b,
    ):
        await a.until("ready")
        await b.until("ready")
        answers: list[Any] = await asyncio.gather(*[client.request("rpc", n, timeout=60) for n in range(200)])
        assert [n for _, n in answers] == list(range(200))
        assert {name for name, _ in answers} == {"a", "b"}
        a.process.kill()
        b.process.kill()
        asked = [said[1] for one in (a, b) for said in await one.rest() if said[0] == "request"]
        assert sorted(asked) == list(range(200)), "each request goes to one server"


async def test_another_server_answers_when_one_dies(directory: Path) -> None:
    async with Client(directory) as client, worker("serve", str(directory), "dies", "3600") as first:
        await first.until("ready")
        asked = [asyncio.create_task(client.request("rpc", n, timeout=60)) for n in range(3)]
        await first.until("request")
        first.process.kill()
        await first.rest()
        async with worker("serve", str(directory), "lives", "0") as second:
            await second.until("ready")
            answers: list[Any] = await asyncio.gather(*asked)
    assert answers == [["lives", n] for n in range(3)]


async def test_the_reply_topic_of_a_client_that_was_killed_goes(directory: Path) -> None:
    async with Client(directory) as client, worker("serve", str(directory), "s", "0") as server:
        await server.until("ready")
        async with worker("ask_for_ever", str(directory)) as asking:
            await asking.until("answer")
            assert len(await client._broker.topics("_replies/*")) == 1
            (topic,) = await client._broker.topics("_replies/*")
            await client.execute(f"ALTER TOPIC {topic.name} SET OPTIONS (expire_when_idle: '1us')")
            await client._broker._sweeper.sweep()  # type: ignore[attr-defined]
            assert len(await client._broker.topics("_replies/*")) == 1, "somebody subscribes to it"
            asking.process.kill()
            await asking.rest()
        await client._broker._sweeper.sweep()  # type: ignore[attr-defined]
        assert await client._broker.topics("_replies/*") == []
