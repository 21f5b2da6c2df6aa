"""Fan-out subscriptions: who gets what, from where, in which order, and how they end."""

import asyncio
import dataclasses
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest
from reading import next_of

from geode_client import Client, GeodeError, GqlError, SubscriberLimitReached, TopicNotFound
from geode_client.local import subscriptions

PROMPT_SECONDS = 20


async def taken(subscription: Any, count: int) -> list[Any]:
    """The next `count` messages' data; fails rather than waits for ever."""
    found: list[Any] = []
    async with asyncio.timeout(PROMPT_SECONDS):
        while len(found) < count:
            message = await subscription.get()
            assert message is not None, f"it ended after {found}"
            found.append(message.data)
    return found


@pytest.fixture(params=["memory", "directory"])
def target(request: pytest.FixtureRequest, directory: Path) -> str:
    return ":memory:" if request.param == "memory" else str(directory)


async def test_every_subscriber_gets_every_message_from_now_on(target: str) -> None:
    async with Client(target) as client:
        await client.publish("t", "before")
        async with client.subscribe("t") as one, client.subscribe("t") as two:
            await client.publish("t", 1)
            await client.publish_batch("t", [2, 3])
            assert await taken(one, 3) == await taken(two, 3) == [1, 2, 3]
            assert await one.get(timeout=0.01) is None


async def test_async_for_gives_messages_as_they_come(target: str) -> None:
    async with Client(target) as client:
        found = []
        async with client.subscribe("t") as subscription:
            await client.publish("t", {"n": 0})
            async for message in subscription:
                found.append(message["n"])
                if len(found) == 5:
                    break
                await client.publish("t", {"n": len(found)})
        assert found == [0, 1, 2, 3, 4]


async def test_an_offset_that_lies_ahead_is_waited_for(target: str) -> None:
    async with Client(target) as client:
        await client.publish("t", "old")
        async with client.subscribe("t", from_offset=5, follow=True) as subscription:
            assert await subscription.get(timeout=0.01) is None
            for n in range(1, 8):
                await client.publish("t", n)
            assert await taken(subscription, 3) == [5, 6, 7]
            assert subscription.missed == 0


@pytest.mark.parametrize("commits_a_topic", [0, 16], ids=["by partition", "by commit"])
async def test_a_pattern_far_behind_reads_on_in_order(
    directory: Path, commits_a_topic: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More batches behind than are remembered, of many topics among others, with some purged meanwhile: both ways to read."""
    monkeypatch.setattr(subscriptions, "COMMITS_A_TOPIC", commits_a_topic)
    chance = random.Random(3)
    async with Client(directory) as client:
        for name in ("a", "b", "c"):
            await client.execute(f"CREATE TOPIC in/{name} WITH OPTIONS (partitions: 3)")
        async with client.subscribe("in/*") as subscription, client.subscribe("in/*", partition=1) as one:
            first = await client.publish("in/a", -1, partition_key="k1")
            assert await taken(subscription, 1) == [-1]
            expected: list[tuple[str, int]] = []
            for n in range(400):
                topic = chance.choice(("in/a", "in/b", "in/c", "out/d", "in/new"))
                if n == 200:
                    await client.execute("PURGE TOPIC in/b")
                    expected = [(name, m) for name, m in expected if name != "in/b"]
                await client.publish(topic, n, partition_key=f"k{n}")
                expected += [(topic, n)] if topic.startswith("in/") else []
            found = [await subscription.get(timeout=PROMPT_SECONDS) for _ in expected]
            assert [(m.topic, m.data) for m in found if m is not None] == expected
            assert await subscription.get(timeout=0.01) is None
            of_one = [-1] * (first.partition == 1) + [m.data for m in found if m is not None and m.partition == 1]
            assert await taken(one, len(of_one)) == of_one
            assert await one.get(timeout=0.01) is None


async def test_a_message_is_always_something() -> None:
    """`while message := await subscription.get()` must not end at an empty object."""
    async with Client(":memory:") as client:
        values: list[Any] = [{}, [], 0, None]
        for value in values:
            await client.publish("t", value)
        async with client.subscribe("t", from_beginning=True) as subscription:
            assert [bool(message) async for message in subscription] == [True] * 4


async def test_reading_in_two_ways_at_once_gives_nothing_twice(target: str) -> None:
    """`get` inside the loop takes the next message; after `close` inside the loop none follows."""
    async with Client(target) as client:
        await client.publish_batch("t", list(range(7)), batch_size=5)
        async with client.subscribe("t", from_beginning=True) as subscription:
            pairs = [(message.data, getattr(await subscription.get(), "data", None)) async for message in subscription]
            assert pairs == [(0, 1), (2, 3), (4, 5), (6, None)]
        found = []
        async with client.subscribe("t", from_beginning=True) as subscription:
            async for message in subscription:
                found.append(message.data)
                if message.data == 2:
                    await subscription.close()
        assert found == [0, 1, 2]


async def test_a_cancelled_wait_for_a_batch_loses_nothing(target: str) -> None:
    async with Client(target) as client, client.subscribe("t") as subscription:
        for first in (0, 3):
            await client.publish_batch("t", [first, first + 1, first + 2], batch_size=2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(subscription.batches(100, max_wait=PROMPT_SECONDS))
        assert subscription.received == 0
        assert await taken(subscription, 1) == [0]
        batch = await anext(subscription.batches(100, max_wait=0.01))
        assert [message.data for message in batch] == [1, 2, 3, 4, 5]


async def test_in_batches_what_came_before_a_misfit_comes_first(target: str) -> None:
    async with Client(target) as client:
        for value in (1, 2, "three", 4):
            await client.publish("t", value)
        async with client.subscribe("t", from_beginning=True, type=int) as subscription:
            assert await anext(subscription.batches()) == [1, 2]
            with pytest.raises(GeodeError, match="does not fit"):
                await anext(subscription.batches())
            assert await anext(subscription.batches()) == [4]


async def test_a_message_is_a_mapping() -> None:
    async with Client(":memory:") as client:
        await client.publish("t", {"a": 1, "b": {"c": [1]}}, partition_key="k", priority="high", ttl_seconds=60)
        async with client.subscribe("t", from_beginning=True) as subscription:
            (message,) = [message async for message in subscription]
    assert (message["a"], message.get("z"), message.get("z", 5), "b" in message, len(message)) == (1, None, 5, True, 2)
    assert dict(message) == message.data == {"a": 1, "b": {"c": [1]}}
    assert list(message.items()) == [("a", 1), ("b", {"c": [1]})]
    assert (message.topic, message.key, message.priority, message.attempt) == ("t", "k", 7, 1)
    assert message.expires_at is not None
    assert message.expires_at - message.timestamp == timedelta(seconds=60)
    with pytest.raises(KeyError):
        message["z"]
    message["b"]["c"].append(2)
    assert message.body == b'{"a":1,"b":{"c":[1]}}'


async def test_what_one_reader_does_to_a_message_no_other_sees(target: str) -> None:
    async with Client(target) as client, client.subscribe("t") as one, client.subscribe("t") as two:
        await client.publish("t", {"list": []})
        (await next_of(one))["list"].append("mine")
        assert (await next_of(two))["list"] == []


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"from_beginning": True}, [0, 1, 2, 3, 4]),
        ({"from_offset": 3}, [3, 4]),
        ({"from_offset": 99}, []),
        ({"since": timedelta(hours=1)}, [0, 1, 2, 3, 4]),
        ({"since": "1 hour"}, [0, 1, 2, 3, 4]),
        ({"since": datetime(2020, 1, 1, tzinfo=UTC)}, [0, 1, 2, 3, 4]),
        ({"since": datetime(2999, 1, 1, tzinfo=UTC)}, []),
        ({"from_beginning": True, "filter": "n % 2 = 0"}, [0, 2, 4]),
        ({"from_beginning": True, "filter": "n > $least", "params": {"least": 2}}, [3, 4]),
        ({"from_beginning": True, "limit": 2}, [0, 1]),
        ({"from_beginning": True, "partition_key_filter": "k1"}, [1, 3]),
    ],
)
async def test_replays_give_what_is_retained_and_end(target: str, options: dict[str, Any], wanted: list[int]) -> None:
    async with Client(target) as client:
        for n in range(5):
            await client.publish("t", {"n": n}, partition_key=f"k{n % 2}")
        async with client.subscribe("t", **options) as subscription:
            found = [message["n"] async for message in subscription]
        assert found == wanted


async def test_a_replay_goes_on_with_follow(target: str) -> None:
    async with Client(target) as client:
        await client.publish_batch("t", [0, 1])
        async with client.subscribe("t", from_beginning=True, follow=True) as subscription:
            await client.publish("t", 2)
            assert await taken(subscription, 3) == [0, 1, 2]


async def test_from_offset_begins_inside_a_batch_and_reads_the_future(target: str) -> None:
    async with Client(target) as client:
        await client.publish_batch("t", list(range(10)))
        async with client.subscribe("t", from_offset=7, follow=True) as subscription:
            assert await taken(subscription, 3) == [7, 8, 9]
        async with client.subscribe("t", from_offset=12, follow=True) as subscription:
            await client.publish_batch("t", list(range(10, 15)))
            assert await taken(subscription, 3) == [12, 13, 14]


async def test_patterns_cover_what_is_there_and_what_comes(target: str) -> None:
    async with Client(target) as client:
        await client.publish("users/created", "old")
        async with (
            client.subscribe("users/*") as one,
            client.subscribe("**") as every,
            client.subscribe("users/**") as deep,
        ):
            await client.publish("users/created", 1)
            await client.publish("users/deleted", 2)
            await client.publish("users/a/b", 3)
            await client.publish("orders", 4)
            await client.publish("_hidden/x", 5)
            assert await taken(one, 2) == [1, 2]
            assert await taken(deep, 3) == [1, 2, 3]
            assert await taken(every, 4) == [1, 2, 3, 4]
            for subscription in (one, deep, every):
                assert await subscription.get(timeout=0.01) is None
        async with client.subscribe("users/*", from_beginning=True) as subscription:
            assert [message.data async for message in subscription] == ["old", 1, 2]


async def test_one_partition_only(target: str) -> None:
    async with Client(target) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 4)")
        receipts = [await client.publish("t", n, partition_key=str(n)) for n in range(20)]
        wanted = [n for n, receipt in enumerate(receipts) if receipt.partition == 2]
        async with client.subscribe("t", partition=2, from_beginning=True) as subscription:
            assert [message.data async for message in subscription] == wanted
        async with client.subscribe("t", from_beginning=True) as subscription:
            assert [message.data async for message in subscription] == list(range(20))
        with pytest.raises(GqlError, match="0 to 3"):
            async with client.subscribe("t", partition=4):
                pass


async def test_filters_read_only_what_matches(target: str) -> None:
    async with Client(target) as client:
        async with client.subscribe("orders", filter="priority = 'high' AND total > 10") as subscription:
            await client.publish_batch("orders", [{"priority": "high", "total": n} for n in range(8, 13)])
            await client.publish("orders", {"priority": "low", "total": 99})
            await client.publish("orders", {"priority": "high", "total": "99"})
            await client.publish("orders", "no object")
            await client.publish("orders", {"priority": "high", "total": 50})
            assert [row["total"] for row in await taken(subscription, 3)] == [11, 12, 50]


@pytest.mark.parametrize("condition", ["a = ", "a = $missing", "nothing(a)", "a ="])
async def test_wrong_filters_are_refused_when_subscribing(condition: str) -> None:
    async with Client(":memory:") as client:
        with pytest.raises(GqlError) as caught:
            client.subscribe("t", filter=condition)
        assert caught.value.position is not None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"from_beginning": True, "from_offset": 3}, "one"),
        ({"since": "yesterday"}, "duration"),
        ({"from_offset": -1}, "offset"),
        ({"from_offset": 2**70}, "offset"),
        ({"consumer_group": ""}, "group"),
        ({"type": 5}, "decoded"),
        ({"partition": -1}, "partition"),
        ({"limit": 0}, "limit"),
        ({"timeout": -1.0}, "timeout"),
        ({"prefetch": 0}, "prefetch"),
    ],
)
async def test_wrong_options_are_named(options: dict[str, Any], says: str) -> None:
    async with Client(":memory:") as client:
        with pytest.raises(GeodeError, match=says):
            async with client.subscribe("t", **options):
                pass


class Order(msgspec.Struct):
    id: str
    total: float = 0


@dataclasses.dataclass
class Line:
    id: str


class Model(pydantic.BaseModel):
    id: str
    total: float = 1


@pytest.mark.parametrize("kind", [Order, Line, Model])
async def test_messages_become_values_of_a_type(kind: type[Any]) -> None:
    async with Client(":memory:") as client:
        await client.publish("t", {"id": "x", "total": 2})
        async with client.subscribe("t", from_beginning=True, type=kind) as subscription:
            (found,) = [value async for value in subscription]
        assert isinstance(found, kind)
        assert found.id == "x"
        await client.publish("bad", {"nothing": 1})
        async with client.subscribe("bad", from_beginning=True, type=kind) as subscription:
            with pytest.raises(GeodeError, match="id"):
                await subscription.get()
            assert await subscription.get() is None


async def test_batches_wait_only_a_little(target: str) -> None:
    async with Client(target) as client, client.subscribe("t") as subscription:
        await client.publish_batch("t", list(range(25)))
        sizes = []
        async for batch in subscription.batches(max_messages=10, max_wait=0.01):
            sizes.append(len(batch))
            if sum(sizes) == 25:
                break
        assert sizes == [10, 10, 5]


async def test_a_timeout_ends_the_loop_and_limit_counts(target: str) -> None:
    async with Client(target) as client:
        async with client.subscribe("t", timeout=0.05) as subscription:
            await client.publish_batch("t", [1, 2])
            assert [message.data async for message in subscription] == [1, 2]
        async with client.subscribe("t", limit=3) as subscription:
            await client.publish_batch("t", list(range(5)))
            assert [message.data async for message in subscription] == [0, 1, 2]
            assert await subscription.get() is None


async def test_cancelled_waits_lose_nothing(target: str) -> None:
    async with Client(target) as client, client.subscribe("t") as subscription:
        found = []
        for n in range(50):
            waiting = asyncio.create_task(subscription.get())
            await asyncio.sleep(0)
            if n % 3 == 0:
                publishing = asyncio.create_task(client.publish("t", n))
                await asyncio.sleep(0)
                waiting.cancel()
                await publishing
            else:
                waiting.cancel()
            got = (await asyncio.gather(waiting, return_exceptions=True))[0]
            if got is not None and not isinstance(got, BaseException):
                found.append(got.data)
        wanted = [n for n in range(50) if n % 3 == 0]
        found += await taken(subscription, len(wanted) - len(found))
        assert found == wanted


async def test_one_reader_at_a_time() -> None:
    async with Client(":memory:") as client, client.subscribe("t") as subscription:
        first = asyncio.create_task(subscription.get())
        await asyncio.sleep(0)
        with pytest.raises(GeodeError, match="one task at a time"):
            await subscription.get()
        await client.publish("t", 1)
        first_message = await first
        assert first_message is not None
        assert first_message.data == 1


async def test_a_slow_subscriber_misses_nothing_and_holds_little(directory: Path) -> None:
    async with Client(directory) as client, client.subscribe("t") as slow, client.subscribe("t") as quick:
        for first in range(0, 60_000, 1000):
            await client.publish_batch("t", range(first, first + 1000), batch_size=50)
        assert await taken(quick, 60_000) == await taken(slow, 60_000) == list(range(60_000))


async def test_subscribers_are_limited(directory: Path) -> None:
    async with Client(directory) as client, Client(directory) as other:
        await client.execute("CREATE TOPIC t WITH OPTIONS (max_subscribers: 2)")
        async with client.subscribe("t"), other.subscribe("t"):
            with pytest.raises(SubscriberLimitReached):
                async with client.subscribe("t"):
                    pass
        async with client.subscribe("t"):
            pass


async def test_a_dropped_topic_ends_its_subscribers(directory: Path) -> None:
    async with Client(directory) as client, Client(directory) as other:
        async with client.subscribe("t") as subscription, other.subscribe("t") as elsewhere:
            await client.publish("t", 1)
            await client.execute("DROP TOPIC t")
            assert await taken(elsewhere, 1) == [1]
            for one in (subscription, elsewhere):
                with pytest.raises(TopicNotFound):
                    await taken(one, 2)


async def test_expired_messages_are_not_delivered(target: str) -> None:
    async with Client(target) as client:
        await client.publish("t", "gone", ttl_seconds=0.000001)
        await client.publish("t", "stays", ttl_seconds=1000)
        async with client.subscribe("t", from_beginning=True) as subscription:
            assert [message.data async for message in subscription] == ["stays"]


async def test_two_clients_in_one_process_share_a_directory(directory: Path) -> None:
    async with Client(directory) as one, Client(directory) as two, one.subscribe("t") as subscription:
        for n in range(100):
            await (one if n % 2 else two).publish("t", n)
        assert await taken(subscription, 100) == list(range(100))


async def test_subscriptions_survive_purge(target: str) -> None:
    async with Client(target) as client, client.subscribe("t") as subscription:
        await client.publish("t", 1)
        assert await taken(subscription, 1) == [1]
        await client.execute("PURGE TOPIC t")
        receipt = await client.publish("t", 2)
        assert receipt.offset == 1
        assert await taken(subscription, 1) == [2]


async def test_sub_is_not_open_yet() -> None:
    async with Client(":memory:") as client:
        with pytest.raises(GeodeError, match="not open"):
            _ = client.subscribe("t").subscriber_id
        with pytest.raises(GqlError):
            client.subscribe("a b")


async def test_a_filter_knows_the_columns_of_its_topic() -> None:
    async with Client(":memory:") as client:
        await client.execute("CREATE TOPIC paid SCHEMA (id STRING, total INT, at TIMESTAMP)")
        with pytest.raises(GqlError) as caught:
            await client.subscribe("paid", filter="id = 'x' AND total = '5'").open()
        assert "column total is INT" in str(caught.value)
        assert caught.value.position == (1, 14)
        assert "^^^^^" in caught.value.render()
        # The same time, written in another way: a statement and a filter agree on it.
        async with client.subscribe("paid", filter="at = '2026-01-01T00:00:00Z'") as subscription:
            await client.publish("paid", {"id": "a", "total": 1, "at": "2026-01-01T01:00:00+01:00"})
            assert await taken(subscription, 1) == [{"id": "a", "total": 1, "at": "2026-01-01T01:00:00+01:00"}]
