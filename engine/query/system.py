"""The SYSTEM tables: their columns, and their rows from a broker's statistics."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from geode_client.broker import Broker
from geode_client.clock import datetime_of, now_us
from geode_client.options import TOPIC_OPTIONS

Rows = list[tuple[Any, ...]]


def _time(timestamp_us: int | None) -> Any:
    return None if timestamp_us is None else datetime_of(timestamp_us)


async def _topics(broker: Broker) -> Rows:
    return [
        (
            found.topic.name,
            found.messages_published,
            found.messages_consumed,
            found.pending_messages,
            found.subscriber_count,
            found.publish_rate,
            found.consume_rate,
            found.error_rate,
            found.messages_retained,
            found.delayed_messages,
            found.topic.partitions,
            found.topic.delivery.value,
            found.bytes_stored,
            _time(found.oldest_message_us),
        )
        for found in (await broker.report(["topics"])).topics
    ]


async def _subscribers(broker: Broker) -> Rows:
    return [
        (
            found.subscriber_id,
            found.topic_name,
            found.consumer_group,
            found.consumer_id,
            found.filter,
            found.lag_messages,
            found.lag_seconds,
            _time(found.last_message_us),
            found.in_flight,
            found.redelivered,
            found.messages_delivered,
            found.process_id,
            _time(found.started_us),
        )
        for found in (await broker.report(["subscribers"])).subscribers
    ]


async def _partitions(broker: Broker) -> Rows:
    return [
        (
            found.topic_name,
            found.partition,
            found.start_offset,
            found.next_offset,
            found.messages_retained,
            found.batches,
            found.bytes_stored,
            found.expired,
            found.removed,
            _time(found.oldest_message_us),
            _time(found.newest_message_us),
        )
        for found in (await broker.report(["partitions"])).partitions
    ]


async def _options(broker: Broker) -> Rows:
    rows: Rows = []
    for topic in await broker.topics():
        for name, value, is_default in topic.options.named():
            rows.append((topic.name, name, value.strip("'"), is_default, TOPIC_OPTIONS[name].description))
    return rows


async def _subscriptions(broker: Broker) -> Rows:
    now = now_us()
    return [
        (
            one.name,
            one.pattern,
            one.topic_name,
            one.filter,
            one.order_by,
            one.paused,
            one.published,
            one.acknowledged,
            one.filtered,
            one.dead_lettered,
            one.expired,
            one.removed,
            one.pending,
            one.in_flight,
            one.retrying,
            0.0 if one.oldest_pending_us is None else max(0.0, (now - one.oldest_pending_us) / 1e6),
        )
        for one in (await broker.report(["groups"])).groups
        if not one.name.startswith("_")
    ]


async def _dead_letters(broker: Broker) -> Rows:
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for one in (await broker.report(["dead_letters"])).dead_letters:
        key = (one.topic_name, one.name, one.dead_letter_topic)
        messages, outstanding = found.get(key, (0, 0))
        found[key] = (messages + one.messages, outstanding + one.outstanding)
    return [
        (topic, group or None, place, messages, await _retained(broker, place), outstanding)
        for (topic, group, place), (messages, outstanding) in found.items()
    ]


async def _tables(broker: Broker) -> Rows:
    tables = await broker.tables.names() if broker.tables is not None else ()
    return [(one.name, one.kind, list(one.columns)) for one in tables]


async def _retained(broker: Broker, topic: str) -> int:
    return sum(one.messages_retained for one in (await broker.report(["topics"], topic)).topics)


async def _regions(broker: Broker) -> Rows:
    broker.capabilities.require("regions")
    return []


TABLES: Mapping[str, tuple[str, ...]] = {
    "topics": tuple(
        "topic_name messages_published messages_consumed pending_messages subscriber_count publish_rate consume_rate"
        " error_rate messages_retained delayed_messages partitions delivery bytes_stored oldest_message_time".split()
    ),
    "subscribers": tuple(
        "subscriber_id topic_name consumer_group consumer_id filter lag_messages lag_seconds last_message_time in_flight"
        " redelivered messages_delivered process_id started_time".split()
    ),
    "partitions": tuple(
        "topic_name partition start_offset next_offset messages_retained batches bytes_stored expired removed"
        " oldest_message_time newest_message_time".split()
    ),
    "options": ("topic_name", "option", "value", "is_default", "description"),
    "subscriptions": tuple(
        "name pattern topic_name filter order paused published acknowledged filtered dead_lettered expired removed"
        " pending_messages in_flight retrying lag_seconds".split()
    ),
    "tables": ("table_name", "kind", "columns"),
    "dead_letters": tuple(
        "topic_name consumer_group dead_letter_topic dead_lettered messages_retained outstanding".split()
    ),
    "regions": ("region",),
}
HELP: Mapping[str, str] = {
    "topics": "One row for each topic: what was published and consumed, rates, and what is stored.",
    "subscribers": "One row for each subscriber that is connected, and how far it is behind.",
    "partitions": "One row for each partition of each topic: its offsets and what it stores.",
    "options": "One row for each option of each topic.",
    "subscriptions": "One row for each durable group and topic: its position in numbers of messages.",
    "tables": "The tables that programs have created in the store.",
    "dead_letters": "One row for each topic and group that has dead letters.",
    "regions": "One row for each region.",
}
"""A line about each table."""
_READERS: Mapping[str, Callable[[Broker], Awaitable[Rows]]] = {
    "topics": _topics,
    "subscribers": _subscribers,
    "partitions": _partitions,
    "options": _options,
    "subscriptions": _subscriptions,
    "tables": _tables,
    "dead_letters": _dead_letters,
    "regions": _regions,
}


async def rows_of(broker: Broker, table: str) -> Rows:
    """The rows of a SYSTEM table as of now."""
    return await _READERS[table](broker)
