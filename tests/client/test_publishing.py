"""publish and publish_batch: what is taken, what is refused, and what is stored."""

import asyncio
import dataclasses
import uuid
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest

from geode_client import (
    Client,
    GeodeError,
    GqlError,
    InvalidMessage,
    MessageTooLarge,
    Receipt,
    SchemaViolation,
    StoreError,
    TopicNotFound,
    Unsupported,
)


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Struct(msgspec.Struct):
    name: str
    at: datetime


class Model(pydantic.BaseModel):
    total: Decimal
    tags: list[str]


async def stored(client: Client, topic: str) -> list[Any]:
    async with client.subscribe(topic, from_beginning=True) as subscription:
        return [message.data async for message in subscription]


@pytest.mark.parametrize("target", [":memory:", "directory"])
async def test_a_receipt_says_where_the_message_is(target: str, directory: Path) -> None:
    async with Client(target if target == ":memory:" else directory) as client:
        first = await client.publish("a/b", {"n": 1})
        second = await client.publish("a/b", {"n": 2}, partition_key="k", headers={"h": [1]}, message_id="mine")
        assert (first.topic, first.partition, first.offset, first.duplicate) == ("a/b", 0, 0, False)
        assert (second.offset, second.id) == (1, "mine")
        assert abs(second.timestamp - datetime.now(UTC)) < timedelta(minutes=1)
        async with client.subscribe("a/b", from_beginning=True) as subscription:
            messages = [message async for message in subscription]
        assert [m.data for m in messages] == [{"n": 1}, {"n": 2}]
        assert [m.id for m in messages] == [first.id, "mine"]
        assert (messages[1].key, messages[1].headers, messages[1].priority) == ("k", {"h": [1]}, 5)
        assert messages[0].timestamp == first.timestamp


async def test_values_become_json(directory: Path) -> None:
    some = uuid.uuid4()
    values: list[tuple[Any, Any]] = [
        (None, None),
        ([1, "x", None], [1, "x", None]),
        ("text", "text"),
        (3.5, 3.5),
        (10**30, 10**30),
        ({"at": datetime(2026, 1, 2, 3, tzinfo=UTC)}, {"at": "2026-01-02T03:00:00Z"}),
        ({"on": date(2026, 1, 2), "id": some}, {"on": "2026-01-02", "id": str(some)}),
        ({"raw": b"\x00\xff"}, {"raw": "AP8="}),
        (Point(1, 2.5), {"x": 1, "y": 2.5}),
        (Struct("n", datetime(2026, 1, 2, tzinfo=UTC)), {"name": "n", "at": "2026-01-02T00:00:00Z"}),
        (Model(total=Decimal("1.50"), tags=["a"]), {"total": 1.5, "tags": ["a"]}),
        ({"total": Decimal("12.30")}, {"total": 12.3}),
        ({"é": "日本\u2028"}, {"é": "日本\u2028"}),
    ]
    async with Client(directory) as client:
        for value, _ in values:
            await client.publish("t", value)
        assert await stored(client, "t") == [wanted for _, wanted in values]


async def test_a_naive_datetime_is_local_time(directory: Path) -> None:
    naive = datetime(2026, 6, 1, 12, 30)
    async with Client(directory) as client:
        await client.publish("t", {"at": naive})
        (found,) = await stored(client, "t")
    assert datetime.fromisoformat(found["at"]) == naive.astimezone()


class Opaque:
    pass


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": float("nan")}, "NaN"),
        ({"a": [float("inf")]}, "/a/0"),
        ({"a": "\ud800"}, "surrogate"),
        ({"a": Opaque()}, "Opaque"),
        ({(1, 2): 3}, "name of a field"),
        ({"a": Decimal("NaN")}, "NaN"),
    ],
)
async def test_what_is_no_json_is_refused_with_its_place(value: Any, says: str) -> None:
    async with Client(":memory:") as client:
        with pytest.raises(InvalidMessage) as caught:
            await client.publish("t", value)
        assert says in str(caught.value)
        with pytest.raises(InvalidMessage) as caught:
            await client.publish_batch("t", [{"a": 1}, value])
        assert "message 2" in str(caught.value)
        assert await stored(client, "t") == []


async def test_deep_nesting_is_refused_or_kept_but_never_breaks() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    async with Client(":memory:") as client:
        with pytest.raises(InvalidMessage):
            await client.publish("t", deep)


async def test_size_limits() -> None:
    async with Client(":memory:") as client:
        with pytest.raises(MessageTooLarge) as caught:
            await client.publish("t", {"a": "x" * (100 * 1024 * 1024)})
        assert caught.value.limit_bytes == 1024 * 1024
        await client.execute("CREATE TOPIC small WITH OPTIONS (max_message_bytes: '1 KiB')")
        with pytest.raises(MessageTooLarge) as caught:
            await client.publish_batch("small", [{"a": 1}, {"a": "x" * 2000}])
        assert caught.value.message_index == 1
        assert await stored(client, "small") == []
        with pytest.raises(InvalidMessage, match="1024 characters"):
            await client.publish("t", 1, partition_key="k" * 2000)


async def test_batches_are_whole_and_in_order(directory: Path) -> None:
    async with Client(directory) as client:
        receipt = await client.publish_batch("t", ({"n": n} for n in range(2500)), batch_size=1000)
        assert (receipt.count, receipt.duplicates, receipt.offsets) == (2500, 0, {0: range(2500)})
        assert [row["n"] for row in await stored(client, "t")] == list(range(2500))


async def test_a_bad_message_names_its_number_in_all_messages() -> None:
    messages: list[Any] = [{"n": n} for n in range(2500)]
    messages[1700] = {"n": float("nan")}
    async with Client(":memory:") as client:
        with pytest.raises(InvalidMessage, match="message 1701 at /n"):
            await client.publish_batch("t", messages, batch_size=1000)
        assert len(await stored(client, "t")) == 1000


async def test_any_iterable_is_taken_and_little_is_held() -> None:
    taken = 0
    committed = 0

    async def endless() -> AsyncIterator[dict[str, int]]:
        nonlocal taken
        for n in range(20_000):
            taken = n
            if n % 5_000 == 4_999:
                nonlocal committed
                committed = len(await stored(client, "t"))
                assert taken - committed <= 6 * 100, "more than a few batches were held"
            yield {"n": n}

    async with Client(":memory:") as client:
        receipt = await client.publish_batch("t", endless(), batch_size=100)
    assert receipt.count == 20_000
    assert committed > 0


@pytest.mark.parametrize("wrong", ["text", b"bytes", {"a": 1}, 5, None])
async def test_publish_batch_takes_several_messages(wrong: Any) -> None:
    async with Client(":memory:") as client:
        with pytest.raises(GeodeError, match="several messages"):
            await client.publish_batch("t", wrong)
        with pytest.raises(GeodeError, match="batch_size"):
            await client.publish_batch("t", [1], batch_size=0)


async def test_known_ids_store_nothing(directory: Path) -> None:
    async with Client(directory) as client:
        first = await client.publish("t", {"n": 1}, message_id="a")
        again = await client.publish("t", {"n": 2}, message_id="a")
        assert (again.duplicate, again.offset, again.id) == (True, first.offset, "a")
        receipt = await client.publish_batch("t", [{"n": n} for n in range(4)], message_ids=["a", "b", "b", None])
        assert (receipt.count, receipt.duplicates, receipt.offsets) == (2, 2, {0: range(1, 3)})
        assert [row["n"] for row in await stored(client, "t")] == [1, 1, 3]
    async with Client(directory) as client:
        assert (await client.publish("t", 0, message_id="b")).duplicate
        assert not (await client.publish("other", 0, message_id="b")).duplicate


async def test_at_once_publishing_of_one_id_stores_one() -> None:
    async with Client(":memory:") as client:
        receipts = await asyncio.gather(*[client.publish("t", n, message_id="same") for n in range(50)])
        assert sum(not receipt.duplicate for receipt in receipts) == 1
        assert len(await stored(client, "t")) == 1


async def test_at_most_once_and_a_window_end_deduplication(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC quick WITH DELIVERY at_most_once")
        await client.execute("CREATE TOPIC brief WITH OPTIONS (dedupe_window: '1us')")
        for topic in ("quick", "brief"):
            await client.publish(topic, 1, message_id="a")
            assert not (await client.publish(topic, 2, message_id="a")).duplicate
            assert await stored(client, topic) == [1, 2]


async def test_message_ids_match_the_messages() -> None:
    async with Client(":memory:") as client:
        with pytest.raises(GeodeError, match="fewer message_ids"):
            await client.publish_batch("t", [1, 2, 3], message_ids=["a"])
        with pytest.raises(GeodeError, match="more message_ids"):
            await client.publish_batch("t", [1], message_ids=["a", "b"])


async def test_keys_choose_partitions_for_ever(directory: Path) -> None:
    """The hash is published: CRC-32 of the key's text, modulo the partitions."""
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 8, partition_key: 'user')")
        placed = {key: (await client.publish("t", 1, partition_key=key)).partition for key in ("a", "user123", "é", 7)}
        assert placed == {"a": 3, "user123": 7, "é": 6, 7: 2}
        by_field = await client.publish("t", {"user": "user123"})
        own = await client.publish("t", {"user": "user123"}, partition_key="a")
        assert (by_field.partition, own.partition) == (7, 3)
        receipt = await client.publish_batch("t", [{"user": f"u{n}"} for n in range(100)])
        assert sum(len(found) for found in receipt.offsets.values()) == 100
        with pytest.raises(InvalidMessage, match="/user"):
            await client.publish("t", {"user": [1]})
        with pytest.raises(GqlError, match="a key is text"):
            await client.publish("t", 1, partition_key=1.5)  # type: ignore[arg-type]


async def test_schemas_are_kept(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute(
            "CREATE TOPIC t SCHEMA (id STRING NOT NULL, n INT DEFAULT 7, inner STRUCT<a: LIST<FLOAT>>, at TIMESTAMP)"
        )
        await client.publish("t", {"id": "x", "extra": True, "inner": {"a": [1, 2.5]}, "at": "2026-01-01T00:00:00Z"})
        assert await stored(client, "t") == [
            {"id": "x", "extra": True, "inner": {"a": [1, 2.5]}, "at": "2026-01-01T00:00:00Z", "n": 7}
        ]
        for wrong, pointer, expected in (
            ({}, "/id", "STRING"),
            ({"id": None}, "/id", "STRING"),
            ({"id": 5}, "/id", "STRING"),
            ({"id": "x", "n": 1.5}, "/n", "INT"),
            ({"id": "x", "inner": {"a": [1, "2"]}}, "/inner/a/1", "FLOAT"),
            ({"id": "x", "at": "yesterday"}, "/at", "TIMESTAMP"),
            ("no object", "", "object"),
        ):
            with pytest.raises(SchemaViolation) as caught:
                await client.publish_batch("t", [{"id": "fine"}, wrong])
            assert (caught.value.message_index, caught.value.pointer) == (1, pointer)
            assert expected in caught.value.expected
        assert len(await stored(client, "t")) == 1
        await client.execute("ALTER TOPIC t SET OPTIONS (strict: true)")
        with pytest.raises(SchemaViolation, match="extra"):
            await client.publish("t", {"id": "x", "extra": 1})


async def test_topics_come_by_themselves_or_not(directory: Path) -> None:
    async with Client(directory, auto_create=False) as client:
        with pytest.raises(TopicNotFound):
            await client.publish("t", 1)
        with pytest.raises(TopicNotFound):
            async with client.subscribe("t"):
                pass
        await client.execute("CREATE TOPIC orders")
        with pytest.raises(TopicNotFound, match="did you mean orders"):
            await client.publish("ordres", 1)


@pytest.mark.parametrize(
    "name", ["", "a//b", "/a", "a/", "../x", "a/../b", "a b", "a\x00", "*", "a/*", "x" * 1000, "\ud800"]
)
async def test_bad_topic_names(name: str, directory: Path) -> None:
    async with Client(directory) as client:
        before = sorted(path.name for path in directory.iterdir())
        for call in (client.publish(name, 1), client.publish_batch(name, [1])):
            with pytest.raises(GqlError):
                await call
        assert sorted(path.name for path in directory.iterdir()) == before


async def test_publish_is_awaitable_and_a_context_and_warns_when_dropped() -> None:
    async with Client(":memory:") as client:
        async with client.publish("t", 1) as receipt:
            assert receipt.offset == 0
        assert (await asyncio.create_task(client.publish("t", 2))).offset == 1
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            client.publish("t", 3)
        assert ["never awaited" in str(one.message) for one in caught] == [True]
        assert await stored(client, "t") == [1, 2]


async def test_what_is_not_built_yet_says_so() -> None:
    async with Client(":memory:") as client:
        with pytest.raises(Unsupported):
            await client.publish("t", 1, region="eu-west")
        with pytest.raises(Unsupported):
            async with client.subscribe("t", region="x"):
                pass
    with pytest.raises(Unsupported):
        Client(region="eu")
    with pytest.raises(Unsupported):
        Client("nats://localhost")
    with pytest.raises(GeodeError, match="unknown target"):
        Client("redis://localhost")


@pytest.mark.parametrize(
    "option",
    [
        {"priority": "urgent"},
        {"priority": 10},
        {"priority": -1},
        {"delay_seconds": -1},
        {"delay_seconds": 1e12},
        {"ttl_seconds": 0},
        {"ttl_seconds": -5},
        {"ttl_seconds": "5"},
        {"compression": "zip"},
        {"message_id": ""},
        {"message_id": "x" * 1000},
        {"headers": {"a": float("nan")}},
        {"headers": ["a"]},
        {"message_id": "\ud800"},
        {"partition_key": "\ud800"},
    ],
)
async def test_wrong_options_are_named(option: dict[str, Any]) -> None:
    async with Client(":memory:") as client:
        with pytest.raises(GeodeError):
            await client.publish("t", 1, **option)
        assert await stored(client, "t") == []


async def test_a_wrong_key_spoils_nothing_beside_it() -> None:
    async with Client(":memory:") as client:
        keys = ["a", "\udfff", "b"]
        found = await asyncio.gather(
            *[client.publish("t", n, partition_key=key) for n, key in enumerate(keys)], return_exceptions=True
        )
        assert [type(one) for one in found] == [Receipt, InvalidMessage, Receipt]


def test_an_empty_target_is_no_directory() -> None:
    with pytest.raises(GeodeError, match="empty"):
        Client("")


async def test_a_closed_client_says_so(directory: Path) -> None:
    client = Client(directory)
    await client.publish("t", 1)
    await client.close()
    await client.close()
    with pytest.raises(GeodeError, match="closed"):
        await client.publish("t", 2)


async def test_a_thousand_tasks_share_commits(directory: Path) -> None:
    async with Client(directory) as client:
        receipts = await asyncio.gather(*[client.publish("t", {"n": n}) for n in range(1000)])
        assert {receipt.offset for receipt in receipts} == set(range(1000))
        batches = await client.query("SELECT batches FROM SYSTEM.partitions WHERE topic_name = 't'")
        assert batches.scalar() < 100


async def test_one_wrong_message_does_not_spoil_those_beside_it() -> None:
    async with Client(":memory:") as client:
        found = await asyncio.gather(
            *[client.publish("t", float("nan") if n == 3 else n) for n in range(6)], return_exceptions=True
        )
        assert [isinstance(one, InvalidMessage) for one in found] == [n == 3 for n in range(6)]
        assert await stored(client, "t") == [0, 1, 2, 4, 5]


async def test_cancelled_publishers_harm_nobody(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", 0)
        tasks = [asyncio.create_task(client.publish("t", n)) for n in range(1, 200)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        acknowledged = {n for n, one in enumerate(found, 1) if not isinstance(one, BaseException)}
        assert acknowledged <= set(await stored(client, "t"))


async def test_a_parent_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x", encoding="utf-8")
    for target in (path, path / "below"):
        with pytest.raises(StoreError, match=r"file|directory"):
            await Client(target).open()


async def test_own_keys_and_those_of_the_field_come_together(directory: Path) -> None:
    """Single messages of one turn become one batch: one that brings its own key takes none from the others."""
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (partition_key: 'k')")
        await asyncio.gather(
            client.publish("t", {"k": "field"}),
            client.publish("t", {"k": "field"}, partition_key="own"),
            client.publish("t", {}),
        )
        async with client.subscribe("t", from_beginning=True) as subscription:
            assert [message.key async for message in subscription] == ["field", "own", None]


async def test_a_topic_that_makes_itself_is_compared_with_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of topics the comparison took longer than everything else together."""

    def compared(*_: Any, **__: Any) -> Any:
        raise AssertionError("names were compared")

    async with Client(":memory:") as client:
        await client.publish("orders", 1)
        monkeypatch.setattr("difflib.get_close_matches", compared)
        await client.publish("order", 2)
        monkeypatch.undo()
        with pytest.raises(TopicNotFound, match="did you mean order"):
            await client.query("SELECT * FROM ordr")
