"""The processes of a history: publishers, and members of every group at once, until SIGTERM or something worse.

Each writes what it is about to do, does it, and writes the answer. `run` is the whole life of a process.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from geode_client import Client, GeodeError, LeaseLost, Message
from histories.record import Recorder

JOBS, PAYMENTS, SALES, EFFECTS, PERILS, TICKS = "jobs", "payments", "sales", "effects", "perils", "ticks"
QUICK = "ack_timeout: '300ms', retry_backoff: '1ms', retry_backoff_max: '5ms'"
MAX_RETRIES = 5
PERIL_RETRIES = 3
SET_UP = (
    f"CREATE TOPIC {JOBS} WITH OPTIONS (partitions: 2, max_retries: {MAX_RETRIES}, {QUICK})",
    f"CREATE TOPIC {PAYMENTS} WITH OPTIONS (max_retries: 1000, {QUICK}) WITH DELIVERY exactly_once",
    f"CREATE TOPIC {SALES} WITH OPTIONS (message_ttl: '400ms', max_retries: 1000, {QUICK})",
    f"CREATE TOPIC {EFFECTS}",
    f"CREATE TOPIC {PERILS} WITH OPTIONS (max_retries: {PERIL_RETRIES}, {QUICK})",
    f"CREATE TOPIC {TICKS} WITH OPTIONS ({QUICK}) WITH DELIVERY at_most_once",
    f"CREATE SUBSCRIPTION perilous ON {PERILS} FROM BEGINNING ORDER BY PRIORITY",
    f"CREATE SUBSCRIPTION ticking ON {TICKS} FROM BEGINNING",
    f"CREATE SUBSCRIPTION plain ON {JOBS} FROM BEGINNING",
    f"CREATE SUBSCRIPTION odd ON {JOBS} WHERE n % 2 = 1 FROM BEGINNING",
    f"CREATE SUBSCRIPTION ordered ON {JOBS} FROM BEGINNING ORDER BY KEY",
    f"CREATE SUBSCRIPTION once ON {PAYMENTS} FROM BEGINNING",
    f"CREATE SUBSCRIPTION whole ON {PAYMENTS} FROM BEGINNING",
    f"CREATE SUBSCRIPTION hurried ON {SALES} FROM BEGINNING",
)
POISON_EVERY = 40
KEYS = 6
# One message in so many kills the process that is handed it.
DEADLY_EVERY = 150
BACKLOG_MAX = 400
GROUPS_ASKED = ((JOBS, "ordered"), (PAYMENTS, "whole"), (SALES, "hurried"), (PERILS, "perilous"), (TICKS, "ticking"))


def run(role: str, name: str, seed: int, directory: str, folder: str) -> None:
    """Live as a publisher or a member; ends by SIGTERM."""
    asyncio.run(_Process(name, seed, directory, Path(folder)).live(role))


class _Process:
    def __init__(self, name: str, seed: int, directory: str, folder: Path) -> None:
        self.name = name
        self.chance = random.Random(seed)
        self.directory = directory
        self.recorder = Recorder(folder / f"{name}.jsonl")

    async def live(self, role: str) -> None:
        ending = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
        async with Client(self.directory) as client:
            self.client = client
            self.recorder.write("begins", role=role)
            lives = (
                [self.publish]
                if role == "publisher"
                else [
                    self.plain,
                    self.odd,
                    self.ordered,
                    self.once,
                    self.whole,
                    self.hurried,
                    self.perilous,
                    self.ticking,
                ]
            )
            tasks = [asyncio.create_task(life()) for life in lives]
            waiting = asyncio.create_task(ending.wait())
            done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in (waiting, *tasks):
                task.cancel()
            await asyncio.wait({waiting, *tasks})
            for task in done - {waiting}:
                self.recorder.write("broke", error="".join(traceback.format_exception(task.exception())))
        self.recorder.write("ended")

    # ── publishers ──
    async def publish(self) -> None:
        number = 0
        while True:
            for topic, group in GROUPS_ASKED:
                if await self.client.get_consumer_lag(topic, group) < BACKLOG_MAX:
                    number = await self._publish_some(topic, number)
            await asyncio.sleep(0.01)

    async def _publish_some(self, topic: str, number: int) -> int:
        key = f"{self.name}-{self.chance.randrange(KEYS)}"
        numbers = list(range(number, number + self.chance.choice((1, 1, 2, 5))))
        bodies = [
            {
                "by": self.name,
                "n": n,
                "key": key,
                "poison": topic == JOBS and n % POISON_EVERY == 7,
                "deadly": topic == PERILS and n % DEADLY_EVERY == 11,
            }
            for n in numbers
        ]
        ids = [f"{self.name}-{n}" for n in numbers]
        self.recorder.write("publishes", topic=topic, numbers=numbers)
        receipt = await self.client.publish_batch(
            topic, bodies, partition_key=key, message_ids=ids, priority=self._priority(topic)
        )
        self.recorder.write("published", topic=topic, numbers=numbers)
        if topic == PAYMENTS and self.chance.random() < 0.2:
            again = await self.client.publish_batch(topic, bodies, partition_key=key, message_ids=ids)
            self.recorder.write("republished", topic=topic, stored=again.count)
        assert receipt.count == len(numbers)
        return number + len(numbers)

    def _priority(self, topic: str) -> int:
        return self.chance.choice((2, 5, 9)) if topic == PERILS else 5

    # ── members ──
    def sees(self, group: str, message: Message, asked_us: int = 0) -> None:
        expires = message.expires_at
        self.recorder.write(
            "sees",
            group=group,
            topic=message.topic,
            place=[message.partition, message.offset],
            attempt=message.attempt,
            by=message["by"],
            n=message["n"],
            key=message.key,
            asked_us=asked_us,
            expires_us=None if expires is None else int(expires.timestamp() * 1e6),
        )

    async def says(self, word: str, group: str, message: Message, settle: Callable[[], Awaitable[None]]) -> None:
        about = {"group": group, "topic": message.topic, "place": [message.partition, message.offset]}
        self.recorder.write(f"{word}s", **about)
        try:
            await settle()
        except LeaseLost:
            self.recorder.write("lost", **about)
            return
        self.recorder.write(f"{word}d", **about)

    async def again(self, life: Callable[[], Awaitable[None]]) -> None:
        """Subscribe anew whenever a subscription ends, by an exception of ours or a lost lease."""
        while True:
            with contextlib.suppress(LeaseLost, _HandlerFails):
                await life()

    async def plain(self) -> None:
        await self.again(lambda: self._settled_by_hand("plain", {"prefetch": self.chance.choice((1, 10, 1000))}))

    async def ordered(self) -> None:
        await self.again(lambda: self._settled_by_hand("ordered", {"ordering": True}))

    async def _settled_by_hand(self, group: str, how: dict[str, Any]) -> None:
        async with self.client.subscribe(JOBS, consumer_group=group, auto_ack=False, limit=500, **how) as member:
            async for message in member:
                self.sees(group, message)
                if message["poison"] or self.chance.random() < 0.02:
                    await self.says("refuse", group, message, message.nack)
                else:
                    await self.says("settle", group, message, message.ack)
                if self.chance.random() < 0.05:
                    await asyncio.sleep(self.chance.random() * 0.01)

    async def odd(self) -> None:
        """Acknowledges by going on, fails by an exception that leaves the loop."""

        async def life() -> None:
            async with self.client.subscribe(JOBS, consumer_group="odd") as member:
                async for message in member:
                    self.sees("odd", message)
                    if message["poison"] or self.chance.random() < 0.02:
                        raise _HandlerFails
                    about = {"group": "odd", "topic": JOBS, "place": [message.partition, message.offset]}
                    self.recorder.write("settles", **about)

        await self.again(life)

    async def once(self) -> None:
        """exactly_once: by the time that a message is handed over the one before it is acknowledged for good."""

        async def life() -> None:
            async with self.client.subscribe(PAYMENTS, consumer_group="once") as member:
                before: dict[str, Any] | None = None
                async for message in member:
                    if before is not None:
                        self.recorder.write("settled", **before)
                    self.sees("once", message)
                    before = {"group": "once", "topic": PAYMENTS, "place": [message.partition, message.offset]}
                    self.recorder.write("settles", **before)

        await self.again(life)

    async def whole(self) -> None:
        """exactly_once: effect, what it publishes and acknowledgement in one transaction."""

        async def life() -> None:
            async with self.client.subscribe(PAYMENTS, consumer_group="whole", auto_ack=False) as member:
                async for batch in member.batches(20, 0.01):
                    for message in batch:
                        self.sees("whole", message)
                    await self._in_one(batch)

        await self.again(life)

    async def _in_one(self, batch: list[Message]) -> None:
        places = [[message.partition, message.offset] for message in batch]
        self.recorder.write("commits", places=places)
        async with self.client.transaction() as tx:
            for message in batch:
                row = [message.partition, message.offset, message["by"], message["n"]]
                await tx.execute("INSERT INTO done VALUES (?, ?, ?, ?)", row)
                await tx.publish(EFFECTS, {"by": message["by"], "n": message["n"]})
            await tx.ack(*batch)
        self.recorder.write("committed", places=places)

    async def hurried(self) -> None:
        """Slower than the publishers, so that what waits for it expires."""

        async def life() -> None:
            async with self.client.subscribe(SALES, consumer_group="hurried", auto_ack=False) as member:
                while True:
                    asked_us = time.time_ns() // 1000
                    message = await member.get()
                    assert message is not None
                    self.sees("hurried", message, asked_us)
                    await self.says("settle", "hurried", message, message.ack)
                    await asyncio.sleep(self.chance.random() * 0.05)

        await self.again(life)

    async def perilous(self) -> None:
        """In priority order; some messages kill the process that is handed them."""

        async def life() -> None:
            async with self.client.subscribe(PERILS, consumer_group="perilous", priority_order=True) as member:
                async for message in member:
                    self.sees("perilous", message)
                    about = {"group": "perilous", "topic": PERILS, "place": [message.partition, message.offset]}
                    if message["deadly"]:
                        self.recorder.write("dies", **about)
                        os.kill(os.getpid(), signal.SIGKILL)
                    self.recorder.write("settles", **about)

        await self.again(life)

    async def ticking(self) -> None:
        """at_most_once, and left again and again: what was not handed over goes to the next reader."""

        async def life() -> None:
            async with self.client.subscribe(TICKS, consumer_group="ticking") as member:
                count = self.chance.randrange(30)
                async for message in member:
                    self.sees("ticking", message)
                    count -= 1
                    if count < 0:
                        break
                    if self.chance.random() < 0.01:
                        raise _HandlerFails

        await self.again(life)


class _HandlerFails(Exception):
    """What a handler raises that cannot handle a message."""


async def set_up(client: Client) -> None:
    """Topics, groups and the table of effects."""
    for statement in SET_UP:
        await client.execute(statement)
    async with client.transaction() as tx:
        await tx.execute("CREATE TABLE done (partition INT, offset INT, by TEXT, n INT)")


__all__ = ["GeodeError", "run", "set_up"]
