"""From outgoing messages to works of the store: encode, check, route, and group what waits.

`prepare` makes the parts of one batch: bodies to JSON lines in one call, sizes and schema checked, messages routed to
partitions by key, rows cut to the store's bounds. `Outbox` gathers single messages that are published in the same turn of
the event loop, so that a thousand tasks publishing at once become one batch; a message that alone is wrong is refused
alone.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from geode_client import codec
from geode_client.broker import OutgoingBatch, OutgoingMessage
from geode_client.broker.validate import Router, _attributes, _check_sizes, _dedupe_after_us, made_id, pick
from geode_client.catalog import Topic
from geode_client.clock import now_us
from geode_client.errors import InvalidMessage
from geode_client.message import NO_ATTRIBUTES, Attributes, expiry_bounds
from geode_client.routing import partition_of
from geode_client.store.batch import ROW_BYTES_TARGET, ROW_MESSAGES_MAX
from geode_client.store.publishing import Part, PublishWork
from geode_client.store.writer import Append

_ONLY = range(1)


def prepare(topic: Topic, batch: OutgoingBatch, catalog_version: int, router: Router) -> PublishWork:
    """The work that stores a batch; raises InvalidMessage (with the message's index) when any message is refused."""
    lines = codec.encode_lines(batch.bodies)
    return prepare_lines(topic, batch, lines, len(batch.bodies), catalog_version, router)


def check_lines(topic: Topic, batch: OutgoingBatch, lines: bytes, count: int) -> None:
    """Raise what `prepare_lines` would raise, for lines that are prepared later."""
    _check_sizes(topic, lines)
    if topic.schema is not None:
        lines = topic.schema.check(lines, strict=topic.options.strict)
    _attributes(topic, batch, lines, count, 0)


def prepare_lines(
    topic: Topic, batch: OutgoingBatch, lines: bytes, count: int, catalog_version: int, router: Router
) -> PublishWork:
    """The same for bodies that are JSON lines already."""
    _check_sizes(topic, lines)
    if topic.schema is not None:
        lines = topic.schema.check(lines, strict=topic.options.strict)
    timestamp_us = now_us()
    due_us = timestamp_us + batch.delay_us if batch.delay_us else None
    attributes = _attributes(topic, batch, lines, count, due_us or timestamp_us)
    columns = _Columns(topic, batch.priority, batch.compression, timestamp_us)
    parts = _parts(columns, lines, count, attributes, router)
    return PublishWork(
        topic_id=topic.topic_id,
        topic_revision=topic.revision,
        catalog_version=catalog_version,
        durable=topic.delivery.durable,
        parts=parts,
        dedupe_after_us=_dedupe_after_us(topic, timestamp_us),
        due_us=due_us,
    )


class _Columns(msgspec.Struct, frozen=True):
    """What all rows of a batch share."""

    topic: Topic
    priority: int
    compression: str | None
    timestamp_us: int

    def part(self, partition: int, lines: bytes, attributes: Attributes, positions: Sequence[int]) -> Part:
        expires_first_us, expires_last_us = expiry_bounds(attributes)
        append = Append(
            topic=self.topic.name,
            topic_id=self.topic.topic_id,
            partition=partition,
            priority=self.priority,
            count=len(positions),
            lines=lines,
            attributes=attributes,
            timestamp_us=self.timestamp_us,
            schema_version=self.topic.schema_version,
            compress=(self.compression or self.topic.options.compression) == "lz4",
            expires_first_us=expires_first_us,
            expires_last_us=expires_last_us,
        )
        return Part(append, positions)


def _parts(columns: _Columns, lines: bytes, count: int, attributes: Attributes, router: Router) -> list[Part]:
    topic, keys = columns.topic, attributes.keys
    if topic.partitions == 1 or isinstance(keys, str):
        partition = 0 if topic.partitions == 1 else partition_of(str(keys), topic.partitions)
        return _rows(columns, partition, lines, attributes, range(count))
    if keys is None:
        return _rows(columns, router.next_partition(topic), lines, attributes, range(count))
    places: dict[int, list[int]] = {}
    keyless = router.next_partition(topic)
    for index, key in enumerate(keys):
        partition = keyless if key is None else partition_of(key, topic.partitions)
        places.setdefault(partition, []).append(index)
    bodies = codec.split_lines(lines)
    parts: list[Part] = []
    for partition, chosen in places.items():
        text = b"".join([bodies[index] + b"\n" for index in chosen])
        parts += _rows(columns, partition, text, pick(attributes, chosen), chosen)
    return parts


def _rows(
    columns: _Columns, partition: int, lines: bytes, attributes: Attributes, positions: Sequence[int]
) -> list[Part]:
    """One row where the bounds allow it, else several."""
    count = len(positions)
    if count <= ROW_MESSAGES_MAX and len(lines) <= ROW_BYTES_TARGET:
        return [columns.part(partition, lines, attributes, positions)] if count else []
    bodies = codec.split_lines(lines)
    parts: list[Part] = []
    first = size = 0
    for index, body in enumerate(bodies):
        if index > first and (index - first >= ROW_MESSAGES_MAX or size + len(body) > ROW_BYTES_TARGET):
            parts.append(_row(columns, partition, bodies, attributes, positions, first, index))
            first, size = index, 0
        size += len(body) + 1
    parts.append(_row(columns, partition, bodies, attributes, positions, first, count))
    return parts


def _row(
    columns: _Columns,
    partition: int,
    bodies: list[bytes],
    attributes: Attributes,
    positions: Sequence[int],
    first: int,
    end: int,
) -> Part:
    lines = b"\n".join(bodies[first:end]) + b"\n"
    return columns.part(partition, lines, pick(attributes, range(first, end)), positions[first:end])


class Waiting(msgspec.Struct, frozen=True, eq=False):
    """A single message and who waits for it; `topic` is as of `catalog_version`."""

    topic: Topic
    message: OutgoingMessage
    catalog_version: int
    done: "asyncio.Future[Any]"


class WaitingBatch(msgspec.Struct, frozen=True, eq=False):
    """A batch and who waits for it; `topic` is as of `catalog_version`."""

    topic: Topic
    batch: OutgoingBatch
    catalog_version: int
    done: "asyncio.Future[PublishWork]"


class Group(msgspec.Struct, eq=False):
    """Single messages of one topic that are stored by one work, in their order."""

    work: PublishWork
    waiting: list[Waiting]


def raw_bytes(work: PublishWork) -> int:
    """The JSON text that a work holds until it is committed."""
    return sum([len(part.append.lines) for part in work.parts])


def group(waiting: list[Waiting], router: Router) -> list[Group]:
    """Works for single messages: runs of one topic, priority and compression each; refused ones are told so at once."""
    groups: list[Group] = []
    by_topic: dict[int, list[Waiting]] = {}
    for item in waiting:
        by_topic.setdefault(item.topic.topic_id, []).append(item)
    for items in by_topic.values():
        for run in _runs(items):
            groups += _grouped(run, router)
    return groups


def _runs(items: list[Waiting]) -> list[list[Waiting]]:
    """Cut where what belongs to a row changes (priority, time to live …); order is kept across rows."""
    runs: list[list[Waiting]] = []
    last: tuple[Any, ...] | None = None
    for item in items:
        message = item.message
        kind = (message.priority, message.ttl_us, message.delay_us, message.compression)
        if kind != last:
            runs.append([])
            last = kind
        runs[-1].append(item)
    return runs


def _grouped(run: list[Waiting], router: Router) -> list[Group]:
    try:
        # As of the oldest: when the catalog has moved on since, the writer looks whether the topic is still the same.
        version = run[0].catalog_version  # they came in this order, and versions only grow
        batch = _batch_of([item.message for item in run])
        return [Group(prepare(run[0].topic, batch, version, router), run)]
    except InvalidMessage as error:
        if len(run) == 1:
            run[0].done.set_exception(error)
            return []
    # One of them is wrong: each by itself, so that only that one is refused.
    return [made for item in run for made in _grouped([item], router)]


def prepare_single(topic: Topic, message: OutgoingMessage, catalog_version: int, router: Router) -> PublishWork:
    """The work that stores one message; raises InvalidMessage when it is refused."""
    if not _is_bare(topic, message):
        return prepare(topic, _batch_of([message]), catalog_version, router)
    lines = codec.encode_lines((message.body,))
    _check_sizes(topic, lines)
    timestamp_us = now_us()
    partition = 0 if topic.partitions == 1 else router.next_partition(topic)
    columns = _Columns(topic, message.priority, message.compression, timestamp_us)
    return PublishWork(
        topic_id=topic.topic_id,
        topic_revision=topic.revision,
        catalog_version=catalog_version,
        durable=topic.delivery.durable,
        parts=[columns.part(partition, lines, NO_ATTRIBUTES, _ONLY)],
        dedupe_after_us=None,
    )


def _is_bare(topic: Topic, message: OutgoingMessage) -> bool:
    """Whether nothing is to be stored of the message but its body, and nothing asked of that."""
    options = topic.options
    return (
        message.key is None
        and message.message_id is None
        and message.headers is None
        and message.ttl_us is None
        and not message.delay_us
        and topic.schema is None
        and options.partition_key is None
        and options.message_ttl_us is None
    )


def _batch_of(messages: list[OutgoingMessage]) -> OutgoingBatch:
    first = messages[0]
    ids = [message.message_id for message in messages]
    if first.delay_us:
        ids = [message_id or made_id() for message_id in ids]
    return OutgoingBatch(
        topic=first.topic,
        bodies=[message.body for message in messages],
        keys=[message.key for message in messages] if any(m.key is not None for m in messages) else None,
        ids=ids if any(message_id is not None for message_id in ids) else None,
        headers=[message.headers for message in messages] if any(m.headers for m in messages) else None,
        priority=first.priority,
        ttl_us=first.ttl_us,
        delay_us=first.delay_us,
        compression=first.compression,
    )
