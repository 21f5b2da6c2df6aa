"""Many subscribers with conditions, keys, partitions and patterns: each gets what it must, whoever lags, comes or goes."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reading import next_of
from settings import rounds

from geode_client import Client, compile_filter
from geode_client.local import follower
from geode_client.local.feed import NOTICES_MAX

TOPICS = ("a/one", "a/two", "b")
PATTERNS = ("a/one", "a/*", "**", "b")
FILTERS = (
    None,
    "n = 7",
    "n IN (1, 2, 3) OR name = 'x5'",
    "n >= 10 AND n < 20",
    "n > 90",
    "name LIKE 'x1%' AND n < 60",
    "LENGTH(name) = 2",
    "odd AND n > 50",
    "n = 7 AND odd",
    "n = NULL",
    "_key = 'k1'",
    "_partition = 1 AND n < 5",
)
PROMPT_SECONDS = 60


class Reader:
    """A subscription, what it must get, and what it got."""

    def __init__(self, client: Client, chance: random.Random) -> None:
        self.pattern = chance.choice(PATTERNS)
        self.filter = chance.choice(FILTERS)
        self.key = chance.choice((None, None, None, "k1", "k2"))
        self.replays = chance.random() < 0.3
        self.lags = chance.random() < 0.4
        self.condition = None if self.filter is None else compile_filter(self.filter)
        start: dict[str, Any] = {"from_beginning": True, "follow": True} if self.replays else {}
        self.subscription = client.subscribe(self.pattern, filter=self.filter, partition_key_filter=self.key, **start)
        self.wanted: list[Any] = []
        self.got: list[Any] = []

    def takes(self, topic: str, key: str | None, body: Any, partition: int) -> bool:
        covered = {"a/one": ("a/one",), "a/*": ("a/one", "a/two"), "**": TOPICS, "b": ("b",)}[self.pattern]
        if topic not in covered or (self.key is not None and key != self.key):
            return False
        return self.condition is None or self.condition.matches(Seen(body, key, partition))

    async def read(self) -> None:
        """All that is there for it now."""
        async with asyncio.timeout(PROMPT_SECONDS):
            while not await self.subscription.caught_up():
                message = await self.subscription.get(timeout=0)
                if message is not None:
                    self.got.append((message.topic, message.partition, message.data["number"]))


class Seen:
    """A message as conditions see a delivered one."""

    def __init__(self, data: Any, key: str | None, partition: int) -> None:
        self.data, self.key, self.partition = data, key, partition


def made(chance: random.Random, number: int) -> dict[str, Any]:
    n = chance.randrange(100)
    return {"number": number, "n": n, "name": f"x{n}", "odd": bool(n % 2)}


@pytest.mark.parametrize("seed", range(rounds(3, soak=60)))
async def test_each_gets_what_it_must_once_and_in_order(directory: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with Client(directory) as client:
        for topic, partitions in zip(TOPICS, (1, 3, 2), strict=True):
            await client.execute(f"CREATE TOPIC {topic} WITH OPTIONS (partitions: {partitions})")
        log: list[tuple[str, str | None, Any, int]] = []
        readers: list[Reader] = []
        number = 0
        for _ in range(12):
            readers.append(Reader(client, chance))
            await readers[-1].subscription.open()
        for _ in range(45):
            match chance.randrange(6):
                case 0 | 1:
                    reader = Reader(client, chance)
                    await reader.subscription.open()
                    reader.wanted = [one for one in log if reader.replays and reader.takes(one[0], *one[1:])]
                    readers.append(reader)
                case 2 if readers:
                    await readers.pop(chance.randrange(len(readers))).subscription.close()
                case 3:
                    for reader in readers:
                        if not reader.lags:
                            await reader.read()
                case _:
                    number = await publish(client, chance, number, log, readers)
        for reader in readers:
            await reader.read()
            check(reader)
        for reader in readers:
            await reader.subscription.close()


async def publish(client: Client, chance: random.Random, number: int, log: list[Any], readers: list[Reader]) -> int:
    """A batch, or so many single messages that those who lag fall behind."""
    topic, key = chance.choice(TOPICS), chance.choice((None, "k1", "k2"))
    bodies = [made(chance, number + place) for place in range(chance.choice((1, 10, 60)))]
    if chance.random() < 0.2:
        bodies = [made(chance, number + place) for place in range(NOTICES_MAX + 20)]
        partitions = [(await client.publish(topic, body, partition_key=key)).partition for body in bodies]
    else:
        receipt = await client.publish_batch(topic, bodies, partition_key=key)
        (partition,) = receipt.offsets
        partitions = [partition] * len(bodies)
    for body, partition in zip(bodies, partitions, strict=True):
        log.append((topic, key, body, partition))
        for reader in readers:
            if reader.takes(topic, key, body, partition):
                reader.wanted.append(log[-1])
    return number + len(bodies)


def check(reader: Reader) -> None:
    wanted = [(topic, partition, body["number"]) for topic, _, body, partition in reader.wanted]
    shown = f"{reader.pattern} {reader.filter} key={reader.key} replays={reader.replays} lags={reader.lags}"
    assert reader.got == wanted, shown
    assert reader.subscription.missed == 0, shown


async def test_a_subscriber_that_is_not_met_is_as_far_as_all_others(directory: Path) -> None:
    async with Client(directory) as client:
        subscriptions = [client.subscribe("t", filter=f"n = {n}") for n in range(20)]
        for subscription in subscriptions:
            await subscription.open()
        for n in range(NOTICES_MAX + 50):
            await client.publish("t", {"n": n % 20})
        rows = (await client.query("SELECT filter, lag_messages FROM SYSTEM.subscribers")).rows
        # Nobody has read: each is met by one message in twenty, the first of them by the very first.
        assert dict(rows)["n = 0"] == NOTICES_MAX + 50
        async with asyncio.timeout(PROMPT_SECONDS):
            for n, subscription in enumerate(subscriptions):
                while not await subscription.caught_up():
                    message = await subscription.get(timeout=0)
                    assert message is None or message["n"] == n
        rows = (await client.query("SELECT lag_messages FROM SYSTEM.subscribers")).rows
        assert rows == [(0,)] * 20
        for subscription in subscriptions:
            await subscription.close()


async def test_what_was_removed_before_it_could_be_read_is_told(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (retention_bytes: '1 KiB')")
        whole, some, none = (client.subscribe("t", filter=text) for text in (None, "n % 2 = 0", "n = -1"))
        for subscription in (whole, some, none):
            await subscription.open()
        for n in range(NOTICES_MAX + 50):
            await client.publish("t", {"n": n, "text": "x" * 100})
        await client._broker._sweeper.sweep()  # type: ignore[attr-defined]
        retained = (await client.query("SELECT count(*) FROM t")).rows[0][0]
        await asyncio.gather(*(expect(one, retained) for one in (whole,)))
        assert whole.missed == NOTICES_MAX + 50 - retained
        assert await some.get(timeout=5) is not None
        assert some.missed == NOTICES_MAX + 50 - retained
        for subscription in (whole, some, none):
            await subscription.close()


async def test_what_was_removed_while_it_was_noticed_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing is kept in memory, so that what retention takes is gone for those who have only noticed it.
    monkeypatch.setattr(follower, "RECENT_BYTES_MAX", 0)
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (retention_bytes: '1 KiB')")
        async with client.subscribe("t", filter="n > 5") as subscription:
            await client.publish_batch("t", [{"n": 1}, {"n": 2}])
            for n in range(100):
                await client.publish("t", {"n": n, "text": "x" * 100})
            await client._broker._sweeper.sweep()  # type: ignore[attr-defined]
            retained = (await client.query("SELECT count(*) FROM t")).rows[0][0]
            assert 0 < retained < 100
            await expect(subscription, retained)
            assert subscription.missed == 102 - retained


async def expect(subscription: Any, count: int) -> None:
    async with asyncio.timeout(PROMPT_SECONDS):
        for _ in range(count):
            assert await subscription.get() is not None


async def test_conditions_of_several_kinds_share_one_look(directory: Path) -> None:
    async with Client(directory) as client:
        kinds: list[Callable[[int], str]] = [
            lambda n: f"n = {n}",
            lambda n: f"n >= {n} AND n < {n + 3}",
            lambda n: f"name = 'x{n}'",
            lambda n: f"n > {n} AND odd",
        ]
        subscriptions = [client.subscribe("t", filter=kinds[n % 4](n)) for n in range(100)]
        for subscription in subscriptions:
            await subscription.open()
        bodies = [{"n": n, "name": f"x{n}", "odd": bool(n % 2)} for n in range(100)]
        await client.publish_batch("t", bodies)
        for n, subscription in enumerate(subscriptions):
            condition = compile_filter(kinds[n % 4](n))
            wanted = [body for body in bodies if condition.matches(body)]
            got = []
            while not await subscription.caught_up():
                message = await subscription.get(timeout=0)
                got += [] if message is None else [message.data]
            assert got == wanted
            await subscription.close()


async def test_what_is_kept_for_those_who_keep_up_is_bounded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "RECENT_BYTES_MAX", 200_000)
    monkeypatch.setattr(follower, "FRESH_BYTES_MAX", 20_000)
    async with Client(directory) as client:
        async with client.subscribe("t", filter="n >= 0") as subscription:
            for n in range(400):
                await client.publish("t", {"n": n})
                message = await next_of(subscription)
                assert message["n"] == n
            kept = list(client._broker._subscriptions.follower._recent.values())  # type: ignore[attr-defined]
            assert len(kept) <= 200_000 // follower.CHUNK_BYTES
            decoded = [one for one in kept if one.chunk._rows is not None or one.chunk.projections]
            assert 0 < len(decoded) <= 20_000 // follower.CHUNK_BYTES
            held = [message]
            for n in range(100):
                await client.publish("t", {"n": n})
            assert held[0]["n"] == 399
            assert held[0].data == {"n": 399}
