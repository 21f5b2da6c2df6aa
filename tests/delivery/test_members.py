"""Members of groups that hinder each other: full ones, ones that settle from elsewhere, ones that fail in odd ways."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from geode_client import Client, GeodeError
from geode_client.local import broker

PROMPT_SECONDS = 20


@pytest.fixture(autouse=True)
def _nobody_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the look once a second a wake-up that is lost is a test that hangs."""
    monkeypatch.setattr(broker, "LOOK_SECONDS", 3600.0)


async def waiting(subscription: Any) -> "asyncio.Task[Any]":
    """A task that has come to wait for the next message."""
    task = asyncio.create_task(subscription.get())
    for _ in range(50):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_a_full_member_does_not_keep_news_from_others() -> None:
    async with Client(":memory:") as client:
        options: dict[str, Any] = {"consumer_group": "g", "auto_ack": False, "prefetch": 1}
        async with client.subscribe("t", **options) as one, client.subscribe("t", **options) as two:
            await client.publish("t", 1)
            first = await one.get()
            full, free = await waiting(one), await waiting(two)
            await client.publish("t", 2)
            second = await asyncio.wait_for(free, PROMPT_SECONDS)
            await first.ack()
            await second.ack()
            full.cancel()


async def test_a_replay_ends_when_its_last_message_is_settled_from_elsewhere() -> None:
    async with Client(":memory:") as client:
        await client.publish("t", 1)
        async with client.subscribe("t", from_beginning=True, auto_ack=False) as replay:
            message = await replay.get()
            end = await waiting(replay)
            await message.ack()
            assert await asyncio.wait_for(end, PROMPT_SECONDS) is None


async def test_whoever_is_not_patient_leaves_what_comes_to_others() -> None:
    async with Client(":memory:") as client:
        async with client.subscribe("t", consumer_group="g") as one, client.subscribe("t", consumer_group="g") as two:
            hasty, patient = await waiting(one), await waiting(two)
            publishing = asyncio.create_task(client.publish("t", 1))
            for _ in range(3):
                await asyncio.sleep(0)
            hasty.cancel()
            await publishing
            assert (await asyncio.wait_for(patient, PROMPT_SECONDS)).data == 1


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("this error cannot be told")


@pytest.mark.parametrize(
    "error", [Unspeakable(), ValueError("a name from a file system: \udc80"), ValueError("x" * 10**6)]
)
@pytest.mark.parametrize("group", ["g", None])
async def test_an_error_of_any_text_counts_as_a_failed_attempt(
    error: Exception, group: str | None, directory: Path
) -> None:
    async with Client(str(directory)) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (retry_backoff: '1ms')")
        options: dict[str, Any] = {"consumer_group": group} if group else {"auto_ack": False}
        with pytest.raises(type(error)):
            async with client.subscribe("t", **options) as subscription:
                await client.publish("t", 1)
                assert await subscription.get() is not None
                raise error
        if group:
            async with client.subscribe("t", **options) as subscription:
                again = await asyncio.wait_for(subscription.get(), PROMPT_SECONDS)
                assert (again.data, again.attempt) == (1, 2)


@pytest.mark.parametrize("group", ["g", None])
async def test_a_reason_is_text(group: str | None) -> None:
    async with Client(":memory:") as client:
        async with client.subscribe("t", consumer_group=group) as subscription:
            await client.publish("t", 1)
            message = await subscription.get()
            with pytest.raises(GeodeError, match="reason is text"):
                await message.nack(reason=object())
            await message.nack(requeue=False, reason="half a character: \ud800")
        letters = await client.query("SELECT n FROM DEAD LETTERS OF t")
        assert len(letters.rows) == 1


async def test_seeking_a_pattern_moves_a_group_only_where_it_reads() -> None:
    """`in/**` seems to be covered by `in/*`, and covers more than it."""
    async with Client(":memory:") as client:
        for topic in ("in/a", "in/a/b"):
            await client.publish(topic, topic)
        async with client.subscribe("in/*", consumer_group="g", from_beginning=True) as subscription:
            assert (await subscription.get()).data == "in/a"
            await client._broker.seek_group("g", "in/**", broker.StartPosition.__args__[1]())
            assert (await asyncio.wait_for(subscription.get(), PROMPT_SECONDS)).data == "in/a"
            assert await subscription.get(timeout=0.05) is None
