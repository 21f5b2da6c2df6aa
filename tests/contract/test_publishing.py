"""Publishing: receipts, batches, the rules of a message, ids, time to live, delays."""

import asyncio
from typing import Any

import pytest
from contract.helping import WAIT_SECONDS, batch, bodies, needs, publish, retained, subscribed, take, topic

from geode_client import Conflict, GqlError, InvalidMessage, MessageTooLarge, SchemaViolation, Unsupported
from geode_client.broker import BatchReceipt, Broker, OutgoingBatch, OutgoingMessage, Receipt
from geode_client.catalog import Delivery
from geode_client.grammar.ast import ColumnDefinition, Scalar
from geode_client.schema import Schema


async def test_a_receipt_says_where_the_message_is(broker: Broker) -> None:
    await topic(broker, partitions=4)
    receipts = [(await publish(broker, n, key=f"k{n % 3}"))[0] for n in range(12)]
    found = {(message.partition, message.offset): message for message in await retained(broker)}
    for n, receipt in enumerate(receipts):
        message = found[receipt.partition, receipt.offset]  # type: ignore[index]
        assert (message.data, message.id, message.key, message.timestamp) == (
            n,
            receipt.id,
            f"k{n % 3}",
            receipt.timestamp,
        )
    of_one_key = [receipt for n, receipt in enumerate(receipts) if n % 3 == 0]
    assert len({receipt.partition for receipt in of_one_key}) == 1
    offsets = [receipt.offset for receipt in of_one_key]
    assert offsets == sorted(offsets)  # type: ignore[type-var]


async def test_everything_of_a_message_comes_back(broker: Broker) -> None:
    await topic(broker)
    body: dict[str, Any] = {"text": "ä\u2028\n", "list": [1, -2.5, None, True], "deep": {"a": {"b": []}}, "big": 2**62}
    await publish(broker, body, key="k", headers={"h": [1]}, message_id="m", ttl_us=3_600_000_000)
    (message,) = await retained(broker)
    assert (message.data, message.key, message.headers, message.id) == (body, "k", {"h": [1]}, "m")
    assert message.expires_at is not None


async def test_a_batch_is_stored_whole_or_not_at_all(broker: Broker) -> None:
    await topic(broker, partitions=2, max_message_bytes=100)
    receipt = await batch(broker, list(range(10)), keys=[f"k{n}" for n in range(10)])
    assert (receipt.count, receipt.duplicates) == (10, 0)
    with pytest.raises(MessageTooLarge) as refused:
        await batch(broker, [1, "x" * 200, 2])
    assert refused.value.message_index == 1
    assert sorted(await bodies(broker)) == list(range(10))
    assert (await batch(broker, [])).count == 0


async def test_what_is_no_message_is_refused(broker: Broker) -> None:
    await topic(broker)
    refused: list[dict[str, Any]] = [
        {"body": float("nan")},
        {"body": object()},
        {"body": 1, "key": "k" * 1025},
        {"body": 1, "message_id": ""},
        {"body": 1, "message_id": "m" * 257},
        {"body": 1, "headers": {"h": "x" * 70_000}},
        {"body": 1, "headers": {"h": float("inf")}},
    ]
    for fields in refused:
        shown = f"{fields!r:.60}"
        try:
            await publish(broker, fields.pop("body"), **fields)
        except InvalidMessage:
            continue
        pytest.fail(f"this was stored: {shown}")
    assert await bodies(broker) == []


async def test_a_schema_is_kept(broker: Broker) -> None:
    await topic(broker, schema=Schema((ColumnDefinition("n", Scalar("INT"), True, None),)))
    await publish(broker, {"n": 1})
    with pytest.raises(SchemaViolation):
        await publish(broker, {"n": "one"})
    with pytest.raises(SchemaViolation):
        await batch(broker, [{"n": 2}, {}])
    assert await bodies(broker) == [{"n": 1}]


async def test_a_known_id_stores_nothing(broker: Broker) -> None:
    await topic(broker, partitions=3)
    (first,) = await publish(broker, "once", key="a", message_id="m")
    (again,) = await publish(broker, "twice", key="a", message_id="m")
    assert again.duplicate
    assert not first.duplicate
    receipt = await batch(broker, ["m", "n", "n"], keys="a", ids=["m", "n", "n"])
    assert (receipt.count, receipt.duplicates) == (1, 2)
    assert await bodies(broker) == ["once", "n"]


async def test_at_most_once_compares_no_ids(broker: Broker) -> None:
    await topic(broker, delivery=Delivery.AT_MOST_ONCE)
    for receipt in await publish(broker, 1, 1, message_id="m"):
        assert not receipt.duplicate


async def test_nothing_is_delivered_after_its_time(broker: Broker) -> None:
    await topic(broker)
    await publish(broker, "short", ttl_us=1)
    await publish(broker, "long", ttl_us=3_600_000_000)
    await publish(broker, "ever")
    assert await bodies(broker) == ["long", "ever"]


@needs("delays")
async def test_a_delayed_message_comes_when_it_is_due(broker: Broker) -> None:
    await topic(broker)
    async with subscribed(broker) as subscription:
        (late,) = await publish(broker, "late", delay_us=50_000)
        assert late.offset is None
        await publish(broker, "now")
        assert [message.data for message in await take(subscription, 2)] == ["now", "late"]
        (found,) = [one for one in await retained(broker) if one.data == "late"]
        assert found.id == late.id


async def test_publishers_at_once_lose_nothing(broker: Broker) -> None:
    await topic(broker, partitions=3)
    async with asyncio.timeout(WAIT_SECONDS):
        receipts = await asyncio.gather(*[publish(broker, n) for n in range(300)])
    assert len({(one.partition, one.offset) for (one,) in receipts}) == 300
    assert sorted(await bodies(broker)) == list(range(300))


async def next_offset(broker: Broker, **fields: Any) -> int:
    """The offset that the next message gets. Offsets may have holes: only a refusal says it."""
    with pytest.raises(Conflict) as refused:
        await publish(broker, "never", expected_offset=2**61, **fields)
    assert (refused.value.topic, refused.value.expected_offset) == ("t", 2**61)
    return refused.value.next_offset


@needs("expected_offsets")
async def test_only_the_expected_offset_is_stored(broker: Broker) -> None:
    await topic(broker)
    for version in range(3):
        expected = await next_offset(broker)
        (receipt,) = await publish(broker, version, expected_offset=expected)
        assert receipt.offset == expected
        with pytest.raises(Conflict) as refused:
            await publish(broker, "late", expected_offset=expected)
        assert refused.value.next_offset > expected
        with pytest.raises(Conflict):
            await batch(broker, ["late", "later"], expected_offset=expected)
    expected = await next_offset(broker)
    many = await batch(broker, [3, 4], expected_offset=expected)
    assert many.offsets[0][0] == expected
    assert await bodies(broker) == [0, 1, 2, 3, 4]


@needs("expected_offsets")
async def test_of_writers_at_once_one_stores(broker: Broker) -> None:
    await topic(broker)
    # Several at once here too: a backend may store messages together that are published in one turn, and not one that
    # comes alone.
    refused = [next_offset(broker) for _ in range(3)]
    expected = (await asyncio.gather(*refused))[0]
    calls = [broker.publish(OutgoingMessage("t", n, expected_offset=expected)) for n in range(5)]
    batches = [broker.publish_batch(OutgoingBatch("t", [n], expected_offset=expected)) for n in range(5, 10)]
    others = [broker.publish(OutgoingMessage("t", "any")) for _ in range(2)]
    async with asyncio.timeout(WAIT_SECONDS):
        found = await asyncio.gather(*calls, *batches, *others, return_exceptions=True)
    assert len([one for one in found[:10] if isinstance(one, Receipt | BatchReceipt)]) == 1
    assert len([one for one in found[:10] if isinstance(one, Conflict)]) == 9
    stored = await bodies(broker)
    assert len(stored) == 3
    assert stored.count("any") == 2


@needs("expected_offsets")
async def test_an_expected_offset_is_one_of_a_partition(broker: Broker) -> None:
    await topic(broker, partitions=4)
    keys = [f"k{n}" for n in range(20)]
    with pytest.raises(GqlError, match="one partition"):
        await batch(broker, keys, keys=keys, expected_offset=0)
    expected = await next_offset(broker, key="k1")
    receipt = await batch(broker, [1, 2], keys="k1", expected_offset=expected)
    (partition,) = receipt.offsets
    assert (await publish(broker, 3, key="k1"))[0].partition == partition
    assert [message.data for message in await retained(broker, key="k1")] == [1, 2, 3]


@needs("expected_offsets")
async def test_a_known_id_is_a_duplicate_and_no_conflict(broker: Broker) -> None:
    await topic(broker)
    expected = await next_offset(broker)
    first, again = await publish(broker, 1, 1, message_id="m", expected_offset=expected)
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.offset == first.offset == expected


async def test_what_a_backend_lacks_is_refused_by_name(broker: Broker) -> None:
    await topic(broker)
    if not broker.capabilities.regions:
        with pytest.raises(Unsupported, match="regions"):
            await publish(broker, 1, region="eu")
        with pytest.raises(Unsupported, match="regions"):
            await subscribed(broker, region="eu").open()
    if not broker.capabilities.delays:
        with pytest.raises(Unsupported, match="delays"):
            await publish(broker, 1, delay_us=1)
    if not broker.capabilities.priorities:
        with pytest.raises(Unsupported, match="priorities"):
            await publish(broker, 1, priority=9)
    if not broker.capabilities.expected_offsets:
        with pytest.raises(Unsupported, match="expected offsets"):
            await publish(broker, 1, expected_offset=0)
