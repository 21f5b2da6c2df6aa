"""A process that publishes to a topic, or consumes it, until it is told to end: `worker.py publish|consume DIRECTORY NAME`."""

import asyncio
import sys

from geode_client import Client

BATCH = 20
ROUNDS = 25


async def publish(directory: str, name: str) -> None:
    async with Client(directory) as client:
        for number in range(ROUNDS):
            messages = [{"by": name, "n": number * BATCH + place} for place in range(BATCH)]
            await client.publish_batch("t", messages)
            await client.publish("t", {"by": name, "n": -1}, message_id=f"{name}-{number // 5}")


async def consume(directory: str, name: str) -> None:
    """A member of a group that gives every fiftieth message back once, and a subscriber with a filter beside it."""
    refused: set[str] = set()
    async with Client(directory) as client:
        group = client.subscribe("t", consumer_group=name, auto_ack=False, from_beginning=True)
        async with group, client.subscribe("t", filter="n % 2 = 0") as beside:
            print("ready", flush=True)
            reading = asyncio.ensure_future(_read(beside))
            async for message in group:
                if message["n"] % 50 == 7 and message.id not in refused:
                    refused.add(message.id)
                    await message.nack()
                else:
                    await message.ack()
            reading.cancel()


async def _read(subscription: object) -> None:
    async for _ in subscription:  # type: ignore[attr-defined]
        pass


async def main() -> None:
    role, directory, name = sys.argv[1:]
    if role == "publish":
        await publish(directory, name)
        return
    work = asyncio.ensure_future(consume(directory, name))
    await asyncio.to_thread(sys.stdin.readline)
    work.cancel()
    await asyncio.wait({work})


if __name__ == "__main__":
    asyncio.run(main())
