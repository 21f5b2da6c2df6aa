"""From outgoing messages to works of the store: the shares of a batch become rows, and what waits is grouped.

`broker.validate` encodes, checks and routes; here its shares are cut to the store's bounds. Single messages that are published
in the same turn of the event loop become one batch, so that a thousand tasks publishing at once are one work; a message that
alone is wrong is refused alone.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from geode_client import codec
from geode_client.broker import OutgoingBatch, OutgoingMessage, validate
from geode_client.broker.outgoing import batch_of, runs_of
from geode_client.broker.validate import PreparedBatch, Router, Share
from geode_client.catalog import Topic
from geode_client.errors import InvalidMessage
from geode_client.message import Attributes, expiry_bounds
from geode_client.store.batch import RAW_BYTES_MAX, ROW_BYTES_TARGET, ROW_MESSAGES_MAX
from geode_client.store.publishing import Part, PublishWork
from geode_client.store.writer import Append


def prepare(topic: Topic, batch: OutgoingBatch, catalog_version: int, router: Router) -> PublishWork:
    """The work that stores a batch; raises InvalidMessage (with the message's index) when any message is refused."""
    return _work(topic, batch, validate.prepare(topic, batch, router, RAW_BYTES_MAX), catalog_version)


def prepare_lines(
    topic: Topic, batch: OutgoingBatch, lines: bytes, count: int, catalog_version: int, router: Router
) -> PublishWork:
    """The same for bodies that are JSON lines already."""
    prepared = validate.prepare_lines(topic, batch, lines, count, router, RAW_BYTES_MAX)
    return _work(topic, batch, prepared, catalog_version)


def _work(topic: Topic, batch: OutgoingBatch, prepared: PreparedBatch, catalog_version: int) -> PublishWork:
    columns = _Columns(topic, batch.priority, batch.compression, prepared.timestamp_us)
    return PublishWork(
        topic_id=topic.topic_id,
        topic_revision=topic.revision,
        catalog_version=catalog_version,
        durable=topic.delivery.durable,
        parts=[part for share in prepared.shares for part in _rows(columns, share)],
        dedupe_after_us=prepared.known_after_us,
        due_us=prepared.due_us,
        expected_offset=batch.expected_offset,
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


def _rows(columns: _Columns, share: Share) -> list[Part]:
    """One row where the bounds allow it, else several."""
    count = len(share.positions)
    if count <= ROW_MESSAGES_MAX and len(share.lines) <= ROW_BYTES_TARGET:
        return [columns.part(share.partition, share.lines, share.attributes, share.positions)] if count else []
    bodies = codec.split_lines(share.lines)
    parts: list[Part] = []
    first = size = 0
    for index, body in enumerate(bodies):
        if index > first and (index - first >= ROW_MESSAGES_MAX or size + len(body) > ROW_BYTES_TARGET):
            parts.append(_row(columns, share, bodies, first, index))
            first, size = index, 0
        size += len(body) + 1
    parts.append(_row(columns, share, bodies, first, count))
    return parts


def _row(columns: _Columns, share: Share, bodies: list[bytes], first: int, end: int) -> Part:
    lines = b"\n".join(bodies[first:end]) + b"\n"
    attributes = share.attributes.only(range(first, end))
    return columns.part(share.partition, lines, attributes, share.positions[first:end])


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
        messages = [item.message for item in items]
        for run in runs_of(messages):
            groups += _grouped(items[run], messages[run], router)
    return groups


def _grouped(run: list[Waiting], messages: list[OutgoingMessage], router: Router) -> list[Group]:
    try:
        # As of the oldest: when the catalog has moved on since, the writer looks whether the topic is still the same.
        version = run[0].catalog_version  # they came in this order, and versions only grow
        return [Group(prepare(run[0].topic, batch_of(messages), version, router), run)]
    except InvalidMessage as error:
        if len(run) == 1:
            run[0].done.set_exception(error)
            return []
    # One of them is wrong: each by itself, so that only that one is refused.
    return [made for item in run for made in _grouped([item], [item.message], router)]
