"""Members of groups as tasks of one event loop that are cancelled at whatever they wait for, seed by seed; then the law.

Nothing looks again once a second here (there is no time of the clock in these tests): a wake-up that is lost is a test that
hangs. Members come, read in one of several ways, fail, and go; one stays, and in the end it must have been given the rest.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from settings import rounds

from geode_client import AlreadySettled, Client, LeaseLost
from geode_client.local import broker
from geode_client.local.driver import GroupDriver

PROMPT_SECONDS = 30
MESSAGES = 120
VISITORS = 5
KEYS = "abc"
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "priority": {"priority_order": True},
    "ordered": {"ordering": True},
    "filtered": {"filter": "n % 3 <> 0"},
}


class Broken(Exception):
    """What a handler raises."""


class Crowd:
    """Tasks that use one group; `finished` are the messages that somebody has settled for good, or may have."""

    def __init__(self, seed: int, form: str) -> None:
        self.chance = random.Random(seed)
        self.options = FORMS[form]
        self.is_ordered = form == "ordered"
        self.finished: set[int] = set()
        self.handed: set[int] = set()
        self.order: list[str] = []
        self.before: dict[int, int | None] = {}

    async def publish(self, client: Client) -> None:
        latest: dict[str, int] = {}
        number = 0
        while number < MESSAGES:
            count = self.chance.randint(1, 8)
            key, priority = self.chance.choice(KEYS), self.chance.choice([2, 5, 9])
            numbers = list(range(number, number + count))
            for one in numbers:
                self.before[one] = latest.get(key)
                latest[key] = one
            await client.publish_batch("jobs", [{"n": n} for n in numbers], partition_key=key, priority=priority)
            number += count
            await self.turns(6)
        self.published = number

    async def turns(self, at_most: int) -> None:
        for _ in range(self.chance.randrange(at_most)):
            await asyncio.sleep(0)

    def subscribe(self, client: Client, **more: Any) -> Any:
        return client.subscribe("jobs", consumer_group="g", **self.options, **more)

    def take(self, message: Any) -> int:
        number: int = message["n"]
        self.handed.add(number)
        earlier = self.before[number]
        # What the condition does not want is settled without being handed to anybody.
        if self.is_ordered and earlier is not None:
            assert earlier in self.finished, f"{number} is handed over before {earlier} is settled"
        return number

    async def visit(self, client: Client) -> None:
        """Join, read some in some way, go in some way."""
        manual = self.chance.random() < 0.5
        prefetch = self.chance.choice([1, 2, 7, 1000])
        with contextlib.suppress(Broken):
            async with self.subscribe(client, auto_ack=not manual, prefetch=prefetch) as subscription:
                count = self.chance.randint(0, 12)
                async for message in _read(subscription, self.chance.random() < 0.5):
                    number = self.take(message)
                    await self.turns(4)
                    if count == 0:
                        self.finished.add(number)  # with auto_ack leaving acknowledges it
                        break
                    count -= 1
                    if self.chance.random() < 0.1:
                        raise Broken
                    self.finished.add(number)
                    if manual:
                        await self.say(message)

    async def say(self, message: Any) -> None:
        with contextlib.suppress(LeaseLost, AlreadySettled):
            if self.chance.random() < 0.15:
                self.finished.discard(message["n"])
                await message.nack(delay=0.001, reason="not now")
            else:
                await message.ack()

    async def stay(self, client: Client, until: asyncio.Event) -> None:
        """The one that is always there; slow enough for the others."""
        async with self.subscribe(client, prefetch=5) as subscription:
            until.set()
            async for message in subscription:
                number = self.take(message)
                await self.turns(3)
                self.finished.add(number)


async def _read(subscription: Any, one_by_one: bool) -> AsyncIterator[Any]:
    if not one_by_one:
        async for message in subscription:
            yield message
    while (message := await subscription.get(timeout=PROMPT_SECONDS)) is not None:
        yield message


async def settled(client: Client) -> Any:
    """Wait until nothing is pending; what the group has become."""
    async with asyncio.timeout(PROMPT_SECONDS):
        while True:
            (found,) = [row for row in (await client._broker.report(["groups"], "jobs")).groups if row.name == "g"]
            if found.ahead + found.in_flight + found.retrying == 0:
                return found
            await asyncio.sleep(0.005)


@pytest.fixture(params=["memory", "directory"])
def target(request: pytest.FixtureRequest, directory: Path) -> str:
    return ":memory:" if request.param == "memory" else str(directory)


@pytest.mark.parametrize("form", FORMS)
async def test_cancelled_at_every_await_nothing_is_lost(
    target: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "LOOK_SECONDS", 3600.0)
    for seed in range(rounds(6)):
        await _round(target, form, seed)


def answer_late(client: Client, chance: random.Random) -> None:
    """From now on some commits are heard of only after much else has happened."""
    groups: Any = client._broker._subscriptions.groups  # type: ignore[attr-defined]
    write = groups.write

    async def heard_of_late(works: Any) -> None:
        await write(works)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() * 0.01)

    groups.write = heard_of_late


async def _round(target: str, form: str, seed: int) -> None:
    crowd = Crowd(seed, form)
    async with Client(target) as client:
        if seed % 2:
            answer_late(client, crowd.chance)
        await client.execute("DROP TOPIC IF EXISTS jobs")
        await client.execute("CREATE TOPIC jobs WITH OPTIONS (partitions: 2, retry_backoff: '1ms', max_retries: 1000)")
        joined = asyncio.Event()
        staying = asyncio.create_task(crowd.stay(client, joined))
        await joined.wait()
        publishing = asyncio.create_task(crowd.publish(client))
        while not publishing.done():
            visits = [asyncio.create_task(crowd.visit(client)) for _ in range(VISITORS)]
            for visit in visits:
                await crowd.turns(40)
                visit.cancel()
            outcomes = await asyncio.gather(*visits, return_exceptions=True)
            for outcome in outcomes:
                if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
                    raise outcome
        await publishing
        found = await settled(client)
        assert not staying.done(), f"seed {seed}: the one that stays has gone: {staying}"
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)
        await client.execute("DROP SUBSCRIPTION g")
    sums = found.acknowledged + found.filtered + found.dead_lettered + found.expired + found.removed
    assert found.published == crowd.published == sums, f"seed {seed}: {found}"
    wanted = {n for n in range(crowd.published) if form != "filtered" or n % 3}
    assert crowd.handed == wanted, f"seed {seed}: never handed over: {sorted(wanted - crowd.handed)}"


async def test_whoever_is_cancelled_in_the_turn_of_its_wake_up_does_not_swallow_it(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "LOOK_SECONDS", 3600.0)
    async with Client(target) as client:
        await client.execute("CREATE TOPIC jobs")
        async with (
            client.subscribe("jobs", consumer_group="g") as first,
            client.subscribe("jobs", consumer_group="g") as second,
        ):
            leaving = asyncio.create_task(first.get())
            staying = asyncio.create_task(second.get(timeout=PROMPT_SECONDS))
            driver: Any = first._feed.driver  # type: ignore[union-attr]
            while len(driver._waiting) < 2:
                await asyncio.sleep(0)
            monkeypatch.setattr(GroupDriver, "topic_moved", _cancelling(leaving))
            await client.publish("jobs", {"n": 1})
            message = await staying
            assert message is not None
            assert message["n"] == 1
            assert leaving.cancelled()


def _cancelling(task: "asyncio.Task[Any]") -> Any:
    """News that come in the very turn in which a task that waits for them is cancelled."""
    moved = GroupDriver.topic_moved

    def topic_moved(self: GroupDriver, topic_id: int, lane: int) -> None:
        task.cancel()
        moved(self, topic_id, lane)

    return topic_moved
