"""From outgoing messages to works of the store: encode, check, route, and group what waits.

`prepare` makes the parts of one batch: bodies to JSON lines in one call, sizes and schema checked, messages routed to
partitions by key, rows cut to the store's bounds. `Outbox` gathers single messages that are published in the same turn of
the event loop, so that a thousand tasks publishing at once become one batch; a message that alone is wrong is refused
alone.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from geode_client import codec
from geode_client.broker import OutgoingBatch, OutgoingMessage
from geode_client.catalog import Delivery, Topic
from geode_client.clock import datetime_of, now_us
from geode_client.errors import InvalidMessage, MessageTooLarge
from geode_client.message import NO_ATTRIBUTES, Attributes, expiry_bounds
from geode_client.routing import partition_of
from geode_client.store.batch import RAW_BYTES_MAX, ROW_BYTES_TARGET, ROW_MESSAGES_MAX
from geode_client.store.publishing import Part, PublishWork
from geode_client.store.writer import Append

KEY_CHARACTERS_MAX = 1024
MESSAGE_ID_CHARACTERS_MAX = 256
HEADERS_BYTES_MAX = 64 * 1024
_ONLY = range(1)


def made_id() -> str:
    """An id for a message that waits for its time: there is no offset yet to make one from, so it keeps this one."""
    return uuid.uuid4().hex


class Router:
    """Gives messages without a key to the partitions in turn, a batch at a time."""

    def __init__(self) -> None:
        self._turns: dict[int, int] = {}

    def next_partition(self, topic: Topic) -> int:
        turn = self._turns.get(topic.topic_id, -1) + 1
        self._turns[topic.topic_id] = turn
        return turn % topic.partitions


def prepare(topic: Topic, batch: OutgoingBatch, catalog_version: int, router: Router) -> PublishWork:
    """The work that stores a batch; raises InvalidMessage (with the message's index) when any message is refused."""
    lines = codec.encode_lines(batch.bodies)
    return prepare_lines(topic, batch, lines, len(batch.bodies), catalog_version, router)


def check_lines(topic: Topic, batch: OutgoingBatch, lines: bytes, count: int) -> None:
    """Raise what `prepare_lines` would raise, for lines that are prepared later."""
    _check_sizes(topic, lines)
    if topic.schema is not None:
        lines = topic.schema.check(lines, strict=topic.options.strict)
    _attributes(topic, batch, lines, count, 0, now_us())


def prepare_lines(
    topic: Topic, batch: OutgoingBatch, lines: bytes, count: int, catalog_version: int, router: Router
) -> PublishWork:
    """The same for bodies that are JSON lines already."""
    _check_sizes(topic, lines)
    if topic.schema is not None:
        lines = topic.schema.check(lines, strict=topic.options.strict)
    timestamp_us = now_us()
    due_us = timestamp_us + batch.delay_us if batch.delay_us else None
    attributes = _attributes(topic, batch, lines, count, due_us or timestamp_us, timestamp_us)
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


def _dedupe_after_us(topic: Topic, timestamp_us: int) -> int | None:
    if topic.delivery is Delivery.AT_MOST_ONCE:
        return None
    window = topic.options.dedupe_window_us
    return 0 if window is None else timestamp_us - window


def _check_sizes(topic: Topic, lines: bytes) -> None:
    limit = topic.options.max_message_bytes
    if len(lines) > limit:
        for index, line in enumerate(codec.split_lines(lines)):
            if len(line) > limit:
                raise MessageTooLarge(len(line), limit, message_index=index)
    if len(lines) > RAW_BYTES_MAX:
        raise InvalidMessage(
            f"the batch has {len(lines)} bytes; at most {RAW_BYTES_MAX} are stored at once: use a smaller batch_size"
        )


def _attributes(
    topic: Topic, batch: OutgoingBatch, lines: bytes, count: int, live_from_us: int, accepted_us: int
) -> Attributes:
    keys = _keys(topic, batch, lines)
    ttl_us = batch.ttl_us if batch.ttl_us is not None else topic.options.message_ttl_us
    expires_us: int | list[int | None] | None = None if ttl_us is None else live_from_us + ttl_us
    if batch.expires_us is not None:
        expires_us = list(batch.expires_us)
    if keys is None and batch.ids is None and batch.headers is None and expires_us is None and batch.times_us is None:
        return NO_ATTRIBUTES
    if batch.ids is not None:
        _check_ids(batch.ids)
    return Attributes(
        keys=keys,
        ids=list(batch.ids) if batch.ids is not None and any(batch.ids) else None,
        headers=_checked_headers(batch.headers) if batch.headers is not None else None,
        expires_us=expires_us,
        times_us=None if batch.times_us is None else _checked_times(batch.times_us, accepted_us),
    )


def _checked_times(times_us: Sequence[int | None], accepted_us: int) -> list[int | None] | None:
    """The messages' own times. Readers pass over batches that were accepted before a time: none may be later than that."""
    for index, time_us in enumerate(times_us):
        if time_us is not None and time_us > accepted_us:
            reason = f"its own time {datetime_of(time_us).isoformat()} is in the future: it may not be later than now"
            raise InvalidMessage(reason, message_index=index)
    return list(times_us) if any(time_us is not None for time_us in times_us) else None


def _check_ids(ids: Sequence[str | None]) -> None:
    for index, message_id in enumerate(ids):
        if message_id is not None and not (
            isinstance(message_id, str) and 0 < len(message_id) <= MESSAGE_ID_CHARACTERS_MAX and _is_text(message_id)
        ):
            reason = f"a message id is text of 1 to {MESSAGE_ID_CHARACTERS_MAX} characters, not {message_id!r:.80}"
            raise InvalidMessage(reason, message_index=index)


def _checked_headers(headers: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any] | None]:
    found: list[dict[str, Any] | None] = []
    for index, header in enumerate(headers):
        if header is not None and not isinstance(header, Mapping):
            reason = f"headers are a mapping of names to values, not {type(header).__name__}"
            raise InvalidMessage(reason, message_index=index)
        try:
            text = codec.encode(dict(header)) if header else b"{}"
        except InvalidMessage as error:
            raise InvalidMessage(f"headers: {error.reason}", message_index=index, pointer=error.pointer) from error
        if len(text) > HEADERS_BYTES_MAX:
            raise InvalidMessage(f"headers of {len(text)} bytes are more than {HEADERS_BYTES_MAX}", message_index=index)
        found.append(codec.decode(text) if header else None)
    return found


def _keys(topic: Topic, batch: OutgoingBatch, lines: bytes) -> str | list[str | None] | None:
    """The keys that publish gave, and where it gave none those of the topic's partition_key field."""
    field = topic.options.partition_key
    if batch.keys is None:
        return None if field is None else _field_keys(lines, field)
    keys = batch.keys if isinstance(batch.keys, str) else list(batch.keys)
    for key in [keys] if isinstance(keys, str) else keys:
        if key is not None:
            _check_key(key)
    if isinstance(keys, str) or field is None or None not in keys:
        return keys
    # Messages that were published one by one came together here, some with a key of their own and some without.
    of_field = _field_keys(lines, field) or [None] * len(keys)
    return [other if own is None else own for own, other in zip(keys, of_field, strict=True)]


def _check_key(key: str) -> None:
    if len(key) > KEY_CHARACTERS_MAX:
        raise InvalidMessage(f"a key has at most {KEY_CHARACTERS_MAX} characters, not {len(key)}")
    if not _is_text(key):
        raise InvalidMessage("a key with a lone surrogate, which is no character")


def _is_text(text: str) -> bool:
    """Whether the text can be written down: a lone surrogate has no form in UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _field_keys(lines: bytes, field: str) -> list[str | None] | None:
    found: list[Any]
    try:
        # Raises ValueError for a name with a quotation mark, a backslash or a control character.
        struct = msgspec.defstruct("KeyOnly", [("key", Any, None)], rename={"key": field}, gc=False)
        rows: list[Any] = msgspec.json.Decoder(struct).decode_lines(lines)
        found = [row.key for row in rows]
    except (ValueError, msgspec.MsgspecError, RecursionError):
        found = [row.get(field) if isinstance(row, dict) else None for row in codec.decode_lines(lines)]
    keys: list[str | None] = []
    for index, value in enumerate(found):
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
            reason = f"the key field {field} must be text or a whole number, not {value!r:.60}"
            raise InvalidMessage(reason, message_index=index, pointer=f"/{field}")
        keys.append(None if value is None else str(value))
    return keys if any(key is not None for key in keys) else None


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


def pick(attributes: Attributes, places: Sequence[int]) -> Attributes:
    """The attributes of only these messages."""
    if attributes is NO_ATTRIBUTES:
        return attributes
    columns = msgspec.structs.astuple(attributes)
    return Attributes(*[[c[i] for i in places] if isinstance(c, list) else c for c in columns])


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
