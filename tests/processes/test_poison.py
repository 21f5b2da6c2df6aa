"""A message that kills whoever takes it ends as a dead letter, and takes no other with it."""

import asyncio
import sys
from pathlib import Path

from geode_client import Client

MESSAGES = 200
POISON = 37

_CONSUMER = """
import asyncio, os, sys
from geode_client import Client

async def main():
    async with Client(sys.argv[1]) as client:
        async with client.subscribe("t", consumer_group="g", timeout=0.2) as subscription:
            async for message in subscription:
                if message.data == int(sys.argv[2]):
                    os._exit(9)

asyncio.run(main())
"""


async def test_a_message_that_kills_its_consumers_ends_alone(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (max_retries: 6)")
        await client.execute("CREATE SUBSCRIPTION g ON t")
        await client.publish_batch("t", list(range(MESSAGES)))
        codes: list[int] = []
        while not codes or codes[-1] != 0:
            consumer = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _CONSUMER, str(directory), str(POISON)
            )
            codes.append(await consumer.wait())
            assert len(codes) <= 6 + 4 + 1, "max_retries attempts, and four losses to find the message"
        (group,) = (await client._broker.report(["groups"], "t")).groups
        dead = [row[0] for row in (await client.query("SELECT _headers FROM DEAD LETTERS OF t")).rows]
    assert set(codes[:-1]) == {9}
    assert [(letter["dead_letter_offset"], letter["dead_letter_reason"]) for letter in dead] == [
        (POISON, "max_retries")
    ]
    assert (group.acknowledged, group.dead_lettered, group.pending) == (MESSAGES - 1, 1, 0)
