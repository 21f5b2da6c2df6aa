"""Request and reply: both sides, against hand-written ones, and everything that can go wrong in between."""

import asyncio
import contextlib
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from settings import rounds

from geode_client import (
    Client,
    GeodeError,
    GqlError,
    InvalidMessage,
    Request,
    RequestFailed,
    RequestTimeout,
    SyncClient,
)

Handler = Callable[[Request], Awaitable[None]]


async def add(request: Request) -> None:
    match request.method:
        case "add":
            await request.reply(sum(request.message["params"]))
        case "fail":
            await request.fail(ValueError(f"cannot do {request.params}"))
        case "ignore":
            pass
        case other:
            await request.reply({"method": other, "params": request.params})


@contextlib.asynccontextmanager
async def serving(client: Client, topic: str = "rpc", handler: Handler = add) -> AsyncIterator[None]:
    async with client.serve(topic) as requests:

        async def serve() -> None:
            async for request in requests:
                await handler(request)

        task = asyncio.create_task(serve())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def topics(client: Client) -> set[str]:
    return {topic.name for topic in [*await client._broker.topics(), *await client._broker.topics("_replies/*")]}


@pytest.mark.parametrize("target", [":memory:", "directory"])
async def test_requests_are_answered(target: str, directory: Path) -> None:
    async with Client(target if target == ":memory:" else directory) as client, serving(client):
        assert await client.request("rpc", [2, 3], method="add") == 5
        assert await client.request("rpc", {"a": None}, timeout=30) == {"method": None, "params": {"a": None}}
        assert await client.request("rpc", timeout=None) == {"method": None, "params": None}


class RPCClient:
    """As the specification writes it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.pending_requests: dict[str, asyncio.Future[Any]] = {}
        self.reply_topic = f"replies_{uuid.uuid4()}"

    async def call(self, method: str, params: Any, timeout: float = 5.0) -> Any:
        request_id = str(uuid.uuid4())
        reply_future: asyncio.Future[Any] = asyncio.Future()
        self.pending_requests[request_id] = reply_future
        await self.client.publish(
            "rpc_requests", {"id": request_id, "method": method, "params": params, "reply_to": self.reply_topic}
        )
        try:
            return await asyncio.wait_for(reply_future, timeout)
        finally:
            del self.pending_requests[request_id]

    async def listen_for_replies(self) -> None:
        async with self.client.subscribe(self.reply_topic) as sub:
            async for message in sub:
                request_id = message["request_id"]
                if request_id in self.pending_requests:
                    self.pending_requests[request_id].set_result(message["result"])


async def test_the_specifications_client_against_serve(directory: Path) -> None:
    async with Client(directory) as client, serving(client, "rpc_requests"):
        rpc = RPCClient(client)
        listening = asyncio.create_task(rpc.listen_for_replies())
        while rpc.reply_topic not in await topics(client):
            await asyncio.sleep(0)
        await client.query("SELECT * FROM SYSTEM.subscribers")
        assert await rpc.call("add", [2, 3], timeout=30) == 5
        assert await rpc.call("fail", 1, timeout=30) is None, "an error does not break those who know only results"
        assert await rpc.call("add", [4], timeout=30) == 4
        listening.cancel()


async def test_request_against_a_server_written_by_hand(directory: Path) -> None:
    async def server(client: Client, ready: asyncio.Event) -> None:
        async with client.subscribe("rpc_requests") as sub:
            ready.set()
            async for message in sub:
                result = {"request_id": message["id"], "result": [message["method"], message["params"]]}
                await client.publish(message["reply_to"], result)

    async with Client(directory) as client:
        ready = asyncio.Event()
        task = asyncio.create_task(server(client, ready))
        await ready.wait()
        assert await client.request("rpc_requests", {"x": 1}, method="get") == ["get", {"x": 1}]
        task.cancel()


@pytest.mark.parametrize("options", [{}, {"consumer_group": "g"}, {"auto_ack": False}])
async def test_message_reply_answers_on_any_subscription(directory: Path, options: dict[str, Any]) -> None:
    async with Client(directory) as client, client.subscribe("rpc", **options) as subscription:
        asked = asyncio.create_task(client.request("rpc", 1, timeout=30))
        message = await subscription.get(timeout=30)
        assert message is not None
        await message.reply({"n": 2})
        assert await asked == {"n": 2}
        for no_request in (5, {"id": 1}, {"reply_to": "t"}, {"id": 1, "reply_to": "a//b"}, {"id": [], "reply_to": "t"}):
            await client.publish("rpc", no_request)
            message = await subscription.get(timeout=30)
            assert message is not None
            with pytest.raises(GeodeError, match="is no request"):
                await message.reply(1)


async def test_errors_of_the_server_reach_the_client(directory: Path) -> None:
    async with Client(directory) as client, serving(client):
        with pytest.raises(RequestFailed, match="ValueError: cannot do it"):
            await client.request("rpc", "it", method="fail")
        assert await client.request("rpc", [1], method="add") == 1


async def test_an_exception_that_leaves_the_server_answers_the_request_at_hand(directory: Path) -> None:
    async with Client(directory) as client:

        async def server() -> None:
            async with client.serve("rpc") as requests:
                async for request in requests:
                    raise ZeroDivisionError(f"by {request.params}")

        async with client.serve("rpc"):
            pass  # the group is there now: nothing that follows comes too early
        task = asyncio.create_task(server())
        with pytest.raises(RequestFailed, match="ZeroDivisionError: by zero"):
            await client.request("rpc", "zero", timeout=30)
        with pytest.raises(ZeroDivisionError):
            await task
        assert await client.get_consumer_lag("rpc", "servers") == 0, "nobody else tries it again"


async def test_a_reply_that_is_no_json_may_be_followed_by_another(directory: Path) -> None:
    async def handler(request: Request) -> None:
        with pytest.raises(InvalidMessage):
            await request.reply(float("nan"))
        await request.reply("better")
        with pytest.raises(GeodeError, match="answered already"):
            await request.reply("again")

    async with Client(directory) as client, serving(client, handler=handler):
        assert await client.request("rpc") == "better"


async def test_timeouts_say_what_to_check_and_leave_nothing(directory: Path) -> None:
    async with Client(directory) as client:
        with pytest.raises(RequestTimeout, match=r"within 0.05 seconds: nobody serves it.*client.serve\('rpc'\)"):
            await client.request("rpc", 1, timeout=0.05)
        async with serving(client):
            with pytest.raises(TimeoutError, match=r"its subscribers \(1\) are slow"):
                await client.request("rpc", 1, timeout=0.05, method="ignore")
        assert client._requester is not None
        assert not client._requester._pending
        for wrong in (0, -1, "5"):
            with pytest.raises(GqlError, match="timeout"):
                await client.request("rpc", 1, timeout=wrong)  # type: ignore[arg-type]


async def test_nobody_does_later_what_nobody_waits_for(directory: Path) -> None:
    """A request lives as long as its timeout; one that still has time is served by whoever comes."""
    async with Client(directory) as client:
        async with client.serve("rpc"):
            pass
        with pytest.raises(RequestTimeout):
            await client.request("rpc", "old", timeout=0.05)
        expires_at = (await client.query("SELECT max(_expires_at) FROM rpc")).scalar()
        while expires_at is not None and datetime.now(UTC) <= expires_at:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(client.request("rpc", "new", timeout=30))
        async with client.serve("rpc") as requests:
            async for request in requests:
                await request.reply(request.params)
                break
        assert await waiting == "new"


async def test_cancelled_and_late_replies_are_dropped(directory: Path) -> None:
    held: list[Request] = []

    async def hold(request: Request) -> None:
        held.append(request)

    async with Client(directory) as client, serving(client, handler=hold):
        asked = [asyncio.create_task(client.request("rpc", n, timeout=30)) for n in range(3)]
        while len(held) < 3:
            await asyncio.sleep(0)
        asked[1].cancel()
        await asyncio.wait([asked[1]])
        assert client._requester is not None
        assert len(client._requester._pending) == 2
        for request in held:
            await request.reply(request.params)
        reply_to = held[0].message["reply_to"]
        for garbage in (5, {"request_id": [1]}, {"request_id": held[0].id}, {}):
            await client.publish(reply_to, garbage)
        assert [await asked[0], await asked[2]] == [0, 2]


async def test_what_is_no_request_is_passed_over(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Client(directory) as client, serving(client):
        some: tuple[Any, ...] = (
            1,
            "x",
            None,
            [],
            {"id": 1},
            {"id": {}, "reply_to": "t"},
            {"id": 1, "reply_to": "../x"},
        )
        for garbage in some:
            await client.publish("rpc", garbage)
        assert await client.request("rpc", [1, 1], method="add", timeout=30) == 2
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 7


async def test_thousands_at_once_over_one_reply_topic(directory: Path) -> None:
    async with Client(directory) as client, serving(client):
        count = rounds(3_000, soak=10_000)
        found = await asyncio.gather(*[client.request("rpc", [n, 1], method="add", timeout=100) for n in range(count)])
        assert found == list(range(1, count + 1))
        names = await topics(client)
        assert len(names) == 2
        assert {topic.split("/")[0] for topic in names} == {"rpc", "_replies"}


async def test_the_reply_topic_ends_with_its_client(directory: Path) -> None:
    async with Client(directory) as server, serving(server):
        async with Client(directory) as client:
            assert await client.request("rpc", [1], method="add", timeout=30) == 1
            assert len(await topics(server)) == 2
            left = asyncio.create_task(client.request("rpc", 1, method="ignore", timeout=30))
            while not client._requester or not client._requester._pending:
                await asyncio.sleep(0)
        with pytest.raises(GeodeError, match="closed before the reply came"):
            await left
        assert await topics(server) == {"rpc"}
        # A reply to a client that is gone makes no topic anew.
        await server.publish("rpc", {"id": 1, "method": "add", "params": [1], "reply_to": "_replies/gone"})
        assert await server.request("rpc", [2], method="add", timeout=30) == 2
        assert "_replies/gone" not in await topics(server)


async def test_a_reply_topic_that_somebody_drops_is_made_anew(directory: Path) -> None:
    async with Client(directory) as client, serving(client):
        assert await client.request("rpc", [1], method="add", timeout=30) == 1
        waiting = asyncio.create_task(client.request("rpc", 1, method="ignore", timeout=30))
        while client._requester is None or not client._requester._pending:
            await asyncio.sleep(0)
        (name,) = await topics(client) - {"rpc"}
        await client.execute(f"DROP TOPIC {name}")
        with pytest.raises(GeodeError, match="cannot be read any more"):
            await waiting
        assert await client.request("rpc", [1], method="add", timeout=30) == 1


async def test_cancelled_at_every_turn(directory: Path) -> None:
    """Wherever a request is cancelled, also while the reply topic is made, the others and the next ones are answered."""
    async with Client(directory) as client, serving(client):
        for turns in range(40):
            async with Client(directory) as asking:
                first = asyncio.create_task(asking.request("rpc", [turns], method="add", timeout=30))
                second = asyncio.create_task(asking.request("rpc", [turns, 1], method="add", timeout=30))
                for _ in range(turns):
                    await asyncio.sleep(0)
                first.cancel()
                assert await second == turns + 1
                assert asking._requester is not None
                assert not asking._requester._pending


def test_without_await(directory: Path) -> None:
    with SyncClient(directory) as server, SyncClient(directory) as client:
        with server.serve("rpc") as requests:

            def serve() -> None:
                for request in requests:
                    if request.method == "stop":
                        request.reply(None)
                        return
                    request.reply(request.message["params"] * 2)

            thread = threading.Thread(target=serve)
            thread.start()
            assert client.request("rpc", 4, timeout=30) == 8
            assert client.request("rpc", method="stop", timeout=30) is None
            thread.join()
