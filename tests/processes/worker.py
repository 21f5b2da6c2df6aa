"""A process of its own for the tests: publishes or subscribes, and tells on standard output what happened."""

import asyncio
import json
import sys
import time
from typing import Any

from geode_client import Client, LeaseLost


def tell(*what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def publish_for_ever(directory: str, name: str, size: int) -> None:
    """Publish batches of `size` until killed; tell each batch only once it is acknowledged."""
    async with Client(directory) as client:
        tell("ready")
        number = 0
        while True:
            messages = [{"by": name, "batch": number, "n": n, "of": size} for n in range(size)]
            await client.publish_batch("t", messages, batch_size=size)
            tell("stored", number)
            number += 1


async def publish_singly(directory: str, name: str, count: int) -> None:
    """Publish messages one by one, and tell how long each wait was."""
    async with Client(directory) as client:
        tell("ready")
        sys.stdin.readline()
        waits = []
        for n in range(count):
            started = time.perf_counter()
            await client.publish("t", {"by": name, "n": n})
            waits.append(time.perf_counter() - started)
        tell("waits", waits)


async def subscribe(directory: str, pattern: str, count: int) -> None:
    """Tell every message until `count` have come."""
    async with Client(directory) as client, client.subscribe(pattern) as subscription:
        tell("ready")
        for _ in range(count):
            message = await subscription.get()
            assert message is not None
            tell("message", message.data)


async def echo(directory: str, count: int) -> None:
    """Publish to `pong` what comes on `ping`."""
    async with Client(directory) as client, client.subscribe("ping") as subscription:
        tell("ready")
        for _ in range(count):
            message = await subscription.get()
            assert message is not None
            await client.publish("pong", message.data)


async def publish_later(directory: str, name: str, delay: float) -> None:
    """Publish messages that wait, until killed; tell each only once it is acknowledged."""
    async with Client(directory) as client:
        tell("ready")
        number = 0
        while True:
            message_id = f"{name}-{number}"
            await client.publish("t", message_id, delay_seconds=delay, message_id=message_id)
            tell("stored", message_id)
            number += 1


async def serve(directory: str, name: str, seconds: float) -> None:
    """Answer requests with this name and their params; tell each before it is answered, after thinking about it."""
    async with Client(directory) as client, client.serve("rpc") as requests:
        tell("ready")
        async for request in requests:
            tell("request", request.params)
            await asyncio.sleep(seconds)
            await request.reply([name, request.params])


async def ask_for_ever(directory: str) -> None:
    """Ask until killed."""
    async with Client(directory) as client:
        while True:
            tell("answer", await client.request("rpc", 1, timeout=60))


async def stay(directory: str) -> None:
    """Have the store open until killed, with a message that waits, so that its timer is set."""
    async with Client(directory) as client:
        await client.publish("far", 1, delay_seconds=86_400)
        tell("ready")
        await asyncio.Event().wait()


async def transact_for_ever(directory: str, name: str) -> None:
    """Transactions of two publishes and a row of the worker's own until killed; tell each only once it is committed."""
    async with Client(directory) as client:
        tell("ready")
        number = 0
        while True:
            async with client.transaction(timeout=60) as tx:
                await tx.publish("t", {"by": name, "n": number})
                await tx.execute("INSERT INTO own VALUES (?, ?)", [name, number])
                await tx.publish_batch("u", [{"by": name, "n": number}] * 3)
            tell("stored", number)
            number += 1


async def hold(directory: str, timeout: float) -> None:
    """Open a transaction, write in it, and do nothing more."""
    async with Client(directory) as client, client.transaction(timeout=timeout) as tx:
        await tx.publish("t", {"by": "holder"})
        await tx.execute("INSERT INTO own VALUES ('holder', 0)")
        tell("holds")
        sys.stdin.readline()


async def member(directory: str, acknowledging: str, ordering: bool) -> None:
    """Take some messages of a group, stand still until told to go on, tell what became of the last and what comes next."""
    how: dict[str, Any] = {"consumer_group": "g", "auto_ack": acknowledging == "auto", "ordering": ordering}
    async with Client(directory) as client:
        subscription = await client.subscribe("t", **how).open()
        taken: list[Any] = []
        while (
            len(taken) < 4
        ):  # who reads quickly is given more and more at once: there are others in its hand behind the last
            if taken and acknowledging == "manual":
                await taken[-1].ack()
            taken.append(await subscription.get())
        message = taken[-1]
        feed: Any = subscription._feed
        await feed.driver.settle()  # what was left behind is acknowledged before this process stands still
        tell("message", message.data)
        sys.stdin.readline()
        answer = "nothing"
        try:
            if acknowledging == "manual":
                await message.ack()
        except LeaseLost:
            answer = "lost"
        try:
            following = await subscription.get(timeout=0.5)
        except LeaseLost:
            answer, following = "lost", None
        if following is not None:
            tell("message", following.data)
        tell("end", answer)


async def execute(directory: str, statement: str) -> None:
    """Execute a statement, and do nothing more."""
    async with Client(directory) as client:
        await client.execute(statement)
        tell("done")
        sys.stdin.readline()


async def main() -> None:
    role, directory, *rest = sys.argv[1:]
    match role:
        case "publish_for_ever":
            await publish_for_ever(directory, rest[0], int(rest[1]))
        case "publish_singly":
            await publish_singly(directory, rest[0], int(rest[1]))
        case "subscribe":
            await subscribe(directory, rest[0], int(rest[1]))
        case "publish_later":
            await publish_later(directory, rest[0], float(rest[1]))
        case "serve":
            await serve(directory, rest[0], float(rest[1]))
        case "ask_for_ever":
            await ask_for_ever(directory)
        case "stay":
            await stay(directory)
        case "transact_for_ever":
            await transact_for_ever(directory, rest[0])
        case "hold":
            await hold(directory, float(rest[0]))
        case "member":
            await member(directory, rest[1], rest[0] == "ordered")
        case "execute":
            await execute(directory, rest[0])
        case "echo":
            await echo(directory, int(rest[0]))


if __name__ == "__main__":
    asyncio.run(main())
