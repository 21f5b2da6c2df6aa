"""A program with its own broker inside: publish, subscribe with a condition, ask in SQL. No server, one directory.

python examples/embed.py [DIRECTORY]
"""

import asyncio
import random
import sys
import tempfile

from geode_client import Client


async def alarms(client: Client, ready: asyncio.Event) -> list[str]:
    """Collect what is too hot until the sensors say that they are done."""
    found: list[str] = []
    async with client.subscribe("sensors/*", filter="celsius > 80 OR done") as subscription:
        ready.set()
        async for message in subscription:
            if message.get("done"):
                break
            found.append(f"{message['sensor']} at {message['celsius']} °C ({message.topic} #{message.offset})")
    return found


async def measure(client: Client, readings: int) -> None:
    """Publish readings; each batch is on the disk when publish_batch returns."""
    chance = random.Random(3)
    await client.publish_batch(
        "sensors/kiln",
        ({"sensor": f"s{n % 7}", "celsius": round(chance.gauss(60, 8), 1)} for n in range(readings)),
        batch_size=500,
    )
    await client.publish("sensors/control", {"done": True})


async def main(directory: str) -> None:
    async with Client(directory) as client:
        ready = asyncio.Event()
        watching = asyncio.create_task(alarms(client, ready))
        await ready.wait()
        await measure(client, 5000)
        hot = await watching
        print(f"{len(hot)} alarms, the first: {hot[0]}")

        print(
            await client.query("""
            SELECT sensor, count(*) AS readings, round(avg(celsius), 1) AS mean, max(celsius) AS hottest
            FROM sensors/kiln GROUP BY sensor ORDER BY hottest DESC LIMIT 3
        """)
        )

        async with client.subscribe("sensors/kiln", from_offset=4998) as replay:
            print("the last two again:", [message.data async for message in replay])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(main(temporary))
