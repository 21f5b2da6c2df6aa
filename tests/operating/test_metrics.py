"""Metrics: what Prometheus reads is what the store says, across processes, and no counter ever goes down."""

import asyncio
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from geode_client import Client, GeodeError
from geode_client.metrics import GeodeCollector, exposition, serve
from geode_client.query import system

WORKER = Path(__file__).parent / "worker.py"
PUBLISHED_BY_EACH = 25 * 20 + 5

Samples = dict[tuple[str, tuple[str, ...]], float]


def parsed(text: str) -> Samples:
    """Every sample by its name and the values of its labels in the order of their names."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def scrape(url: str) -> Samples:
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return parsed(answer.read().decode())


def counters(samples: Samples) -> Samples:
    names = re.compile(r"_(total|bucket|count|sum)$")
    return {key: value for key, value in samples.items() if names.search(key[0])}


def start(role: str, directory: Path, name: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(WORKER), role, str(directory), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")


async def rows(client: Client, table: str) -> list[dict[str, Any]]:
    found = await system.rows_of(client._broker, table)
    return [dict(zip(system.TABLES[table], row, strict=True)) for row in found]


async def pending(client: Client) -> bool:
    """Whether a group has still something before it."""
    return any(row["pending_messages"] for row in await rows(client, "subscriptions"))


async def test_counters_of_four_processes_agree_with_the_system_tables(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (retry_backoff: '10ms')")
        consumers = [start("consume", directory, name) for name in ("one", "two")]
        for consumer in consumers:
            assert consumer.stdout is not None
            assert await asyncio.to_thread(consumer.stdout.readline) == "ready\n"
        endpoint = serve(directory)
        try:
            publishers = [start("publish", directory, name) for name in ("a", "b")]
            seen: list[Samples] = []
            while any(publisher.poll() is None for publisher in publishers):
                seen.append(await asyncio.to_thread(scrape, endpoint.url))
            while await pending(client):
                seen.append(await asyncio.to_thread(scrape, endpoint.url))
            for consumer in consumers:
                await asyncio.to_thread(consumer.communicate, "end\n")
            last = await asyncio.to_thread(scrape, endpoint.url)
            assert_only_up([*seen, last])
            await assert_agrees(client, last)
        finally:
            endpoint.close()
            for process in (*consumers, *publishers):
                process.kill()
                process.communicate()


def assert_only_up(seen: Iterable[Samples]) -> None:
    """No counter is lower, or gone, in a later scrape."""
    before: Samples = {}
    for samples in seen:
        now = counters(samples)
        assert not {key for key, value in before.items() if now.get(key, -1) < value}
        before = now


async def assert_agrees(client: Client, last: Samples) -> None:
    total = 2 * PUBLISHED_BY_EACH
    assert last["pubsub_messages_published_total", ("t",)] == total
    assert last["pubsub_messages_deduplicated_total", ("t",)] == 2 * 20
    (topic,) = [row for row in await rows(client, "topics") if row["topic_name"] == "t"]
    assert topic["messages_published"] == total
    for row in await rows(client, "subscriptions"):
        labels = (row["name"], "t")
        assert last["pubsub_messages_consumed_total", labels] == row["acknowledged"] == total
        assert last["pubsub_messages_acked_total", labels] == total
        # Each group gives back once each message whose number says so: 10 numbers by each of two publishers.
        assert last["pubsub_messages_nacked_total", labels] == 20
        assert last["pubsub_messages_redelivered_total", labels] == 20
        assert last["pubsub_consumer_lag_messages", labels] == row["pending_messages"] == 0
    # Two subscribers without a group saw the even numbers; both were there from the first message on.
    assert last["pubsub_messages_consumed_total", ("", "t")] == 2 * 500
    assert last["pubsub_filter_evaluated_total", ("t",)] == 2 * total
    assert last["pubsub_filter_matched_total", ("t",)] == 2 * 500
    delivered = 2 * 500 + 2 * (total + 20)
    assert last["pubsub_message_latency_seconds_count", ("t",)] == delivered
    assert last["pubsub_message_latency_seconds_bucket", ("+Inf", "t")] == delivered


async def test_dead_letters_are_counted_by_reason(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (max_retries: 1, retry_backoff: '1ms')")
        async with client.subscribe("t", consumer_group="g", auto_ack=False) as subscription:
            await client.publish_batch("t", [1, 2, 3])
            for requeue in (True, False, False):
                message = await subscription.get()
                assert message is not None
                await message.nack(requeue=requeue)
        found = await asyncio.to_thread(lambda: parsed(exposition(directory)))
    assert found["pubsub_messages_dead_lettered_total", ("g", "max_retries", "t")] == 1
    assert found["pubsub_messages_dead_lettered_total", ("g", "rejected", "t")] == 2


async def test_a_collector_lives_in_a_registry_of_ones_own_beside_counters_of_the_same_names(directory: Path) -> None:
    from prometheus_client import Counter

    async with Client(directory) as client:
        await client.publish("t", 1)
        own = CollectorRegistry()
        Counter("pubsub_messages_published_total", "The specification's own", ["topic"], registry=own)
        registry = CollectorRegistry()
        collector = GeodeCollector(client)
        registry.register(collector)
        text = await asyncio.to_thread(generate_latest, registry)
        # From the client's own event loop as well: the collector has one of its own.
        assert parsed(generate_latest(registry).decode())["pubsub_messages_published_total", ("t",)] == 1
        collector.close()
    assert parsed(text.decode())["pubsub_messages_published_total", ("t",)] == 1


async def test_a_store_in_memory_is_seen_through_its_own_client() -> None:
    async with Client(":memory:") as client:
        await client.publish("t", 1)
        endpoint = serve(client)
        found = await asyncio.to_thread(scrape, endpoint.url)
        await asyncio.to_thread(endpoint.close)
        with pytest.raises(GeodeError, match="own event loop"):
            list(GeodeCollector(client).collect())
    assert found["pubsub_messages_published_total", ("t",)] == 1
    with pytest.raises(GeodeError, match="own client"):
        GeodeCollector(":memory:")


def test_a_port_that_is_taken_is_named(directory: Path) -> None:
    first = serve(directory)
    with pytest.raises(GeodeError, match=f"127.0.0.1:{first.port}"):
        serve(directory, first.port)
    first.close()
