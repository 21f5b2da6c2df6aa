"""Other projects, doing the same as their documentation recommends for speed."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import servers
from bench.table import MESSAGE, best_rate

BODY = json.dumps(MESSAGE).encode()


async def redis_pipelined(directory: Path, count: int) -> float:
    """XADD in pipelines of 1,000; the append-only file is synced before each answer."""
    from redis.asyncio import Redis

    with servers.redis_server(directory) as port:
        client = Redis(port=port)

        async def publish() -> None:
            for _ in range(count // 1000):
                pipeline = client.pipeline(transaction=False)
                for _ in range(1000):
                    pipeline.xadd("t", {"d": BODY})
                await pipeline.execute()

        try:
            return await best_rate(count, publish, 3)
        finally:
            await client.aclose()


async def redis_group(directory: Path, count: int) -> float:
    """XREADGROUP of 500, each body decoded, one XACK for them; filled before the clock starts."""
    from redis.asyncio import Redis

    with servers.redis_server(directory) as port:
        client = Redis(port=port)
        for _ in range(count // 1000):
            pipeline = client.pipeline(transaction=False)
            for _ in range(1000):
                pipeline.xadd("t", {"d": BODY})
            await pipeline.execute()
        number = 0

        async def consume() -> None:
            nonlocal number
            number += 1
            group = f"g{number}"
            await client.xgroup_create("t", group, id="0")
            left = count
            while left:
                answer: Any = await client.xreadgroup(group, "c", {"t": ">"}, count=500)
                [(_, entries)] = answer
                for _, fields in entries:
                    json.loads(fields[b"d"])
                await client.xack("t", group, *[entry for entry, _ in entries])
                left -= len(entries)

        try:
            return await best_rate(count, consume, 3)
        finally:
            await client.aclose()


async def jetstream_fetch(directory: Path, count: int) -> float:
    """A pull consumer's fetch(500), each body decoded and acknowledged."""
    import nats

    with servers.nats_server(directory) as port:
        connection = await nats.connect(f"nats://127.0.0.1:{port}")
        stream = connection.jetstream(publish_async_max_pending=4000)
        await stream.add_stream(name="t", subjects=["t"])
        await asyncio.gather(*[await stream.publish_async("t", BODY) for _ in range(count)])
        number = 0

        async def consume() -> None:
            nonlocal number
            number += 1
            subscription = await stream.pull_subscribe("t", durable=f"d{number}")
            left = count
            while left:
                for message in await subscription.fetch(500):
                    json.loads(message.data)
                    await message.ack()
                    left -= 1

        try:
            return await best_rate(count, consume, 3)
        finally:
            await connection.close()


async def jetstream(directory: Path, count: int, *, sync_always: bool) -> float:
    """publish_async with up to 4,000 acknowledgements outstanding."""
    import nats

    with servers.nats_server(directory, sync_always=sync_always) as port:
        connection = await nats.connect(f"nats://127.0.0.1:{port}")
        stream = connection.jetstream(publish_async_max_pending=4000)
        await stream.add_stream(name="t", subjects=["t"])

        async def publish() -> None:
            futures = [await stream.publish_async("t", BODY) for _ in range(count)]
            await asyncio.gather(*futures)

        try:
            return await best_rate(count, publish, 3)
        finally:
            await connection.close()


async def litequeue(directory: Path, count: int) -> float:
    """put, one after the other, in the library's own file mode."""
    from litequeue import LiteQueue

    queue = LiteQueue(str(directory / "litequeue.db"))
    text = BODY.decode()

    async def publish() -> None:
        for _ in range(count):
            queue.put(text)

    try:
        return await best_rate(count, publish, 3)
    finally:
        queue.close()


async def measured(name: str, work: Callable[..., Awaitable[float]], *arguments: Any, **options: Any) -> float | None:
    """A peer's figure; None, and said so, where it cannot be had here."""
    try:
        return await work(*arguments, **options)
    except (ImportError, RuntimeError, OSError) as error:
        print(f"{name} was not measured: {error}")
        return None
