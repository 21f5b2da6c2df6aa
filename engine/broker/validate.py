"""The rules of a message, the same for every backend: sizes, keys, ids, headers, the schema, and the way to a partition.

A backend calls `prepare` (or `prepare_lines`) for each batch, with the topic as it knows it, and stores the shares that it
gets: JSON text, one line for each message, and what belongs to the messages beside their bodies. It does so when it has room
to store them, because it is encoded text that waits for a disk or a network that takes memory; and again when the topic has
changed since. Single messages that arrive together become one batch (`outgoing.runs_of`), because one call that encodes and
checks a thousand messages takes a tenth of a thousand calls.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from geode_client import codec
from geode_client.broker.records import OutgoingBatch
from geode_client.catalog import Delivery, Topic
from geode_client.clock import datetime_of, now_us
from geode_client.errors import GqlError, InvalidMessage, MessageTooLarge
from geode_client.message import NO_ATTRIBUTES, Attributes
from geode_client.routing import partition_of

KEY_CHARACTERS_MAX = 1024
MESSAGE_ID_CHARACTERS_MAX = 256
HEADERS_BYTES_MAX = 64 * 1024


class Share(msgspec.Struct, frozen=True):
    """The messages of a batch that go to one partition, and their positions in the batch, ascending."""

    partition: int
    lines: bytes
    attributes: Attributes
    positions: Sequence[int]


class PreparedBatch(msgspec.Struct, frozen=True):
    """A batch whose messages have passed all checks.

    `timestamp_us` is when it was accepted, `due_us` when its messages become visible (None: at once). A message whose id was
    stored at or after `known_after_us` is a duplicate; 0 means ever, None that ids are not compared.
    """

    shares: Sequence[Share]
    timestamp_us: int
    due_us: int | None
    known_after_us: int | None


def prepare(topic: Topic, batch: OutgoingBatch, router: "Router", bytes_max: int) -> PreparedBatch:
    """Encode, check and route a batch.

    `bytes_max` is how much JSON text the backend stores at once. Raises InvalidMessage, SchemaViolation and MessageTooLarge,
    with the index of the first message that is refused, and GqlError for an expected offset of messages of several partitions.
    """
    lines = codec.encode_lines(batch.bodies)
    return prepare_lines(topic, batch, lines, len(batch.bodies), router, bytes_max)


def prepare_lines(
    topic: Topic, batch: OutgoingBatch, lines: bytes, count: int, router: "Router", bytes_max: int
) -> PreparedBatch:
    """The same for `count` bodies that were encoded before; those of `batch` are not looked at."""
    lines = _checked_lines(topic, lines, bytes_max)
    timestamp_us = now_us()
    due_us = timestamp_us + batch.delay_us if batch.delay_us else None
    attributes = _attributes(topic, batch, lines, due_us or timestamp_us, timestamp_us)
    shares = _shares(topic, lines, count, attributes, router)
    _check_one_partition(batch, shares)
    return PreparedBatch(shares, timestamp_us, due_us, _known_after_us(topic, timestamp_us))


def _check_one_partition(batch: OutgoingBatch, shares: Sequence[Share]) -> None:
    if batch.expected_offset is not None and len(shares) > 1:
        raise GqlError("expected_offset needs messages of one partition: give them one partition_key")


def check_lines(topic: Topic, batch: OutgoingBatch, lines: bytes, bytes_max: int) -> None:
    """Raise what `prepare_lines` would raise, for messages that are prepared later."""
    _attributes(topic, batch, _checked_lines(topic, lines, bytes_max), 0, now_us())


def _checked_lines(topic: Topic, lines: bytes, bytes_max: int) -> bytes:
    """The text as it is stored: with the defaults that the schema fills in."""
    _check_sizes(topic, lines, bytes_max)
    return (
        lines
        if topic.schema is None
        else topic.schema.check(lines, strict=topic.options.strict, time_zone=topic.options.time_zone)
    )


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


def _known_after_us(topic: Topic, timestamp_us: int) -> int | None:
    if topic.delivery is Delivery.AT_MOST_ONCE:
        return None
    window = topic.options.dedupe_window_us
    return 0 if window is None else timestamp_us - window


def _check_sizes(topic: Topic, lines: bytes, bytes_max: int) -> None:
    limit = topic.options.max_message_bytes
    if len(lines) > limit:
        for index, line in enumerate(codec.split_lines(lines)):
            if len(line) > limit:
                raise MessageTooLarge(len(line), limit, message_index=index)
    if len(lines) > bytes_max:
        raise InvalidMessage(
            f"the batch has {len(lines)} bytes; at most {bytes_max} are stored at once: use a smaller batch_size"
        )


def _attributes(topic: Topic, batch: OutgoingBatch, lines: bytes, live_from_us: int, accepted_us: int) -> Attributes:
    keys = _keys(topic, batch, lines)
    ttl_us = batch.ttl_us if batch.ttl_us is not None else topic.options.message_ttl_us
    expires_us: int | list[int | None] | None = None if ttl_us is None else live_from_us + ttl_us
    if batch.expires_us is not None:
        expires_us = list(batch.expires_us)
    if keys is None and batch.ids is None and batch.headers is None and expires_us is None and not _has_more(batch):
        return NO_ATTRIBUTES
    if batch.ids is not None:
        _check_ids(batch.ids)
    return Attributes(
        keys=keys,
        ids=list(batch.ids) if batch.ids is not None and any(batch.ids) else None,
        headers=_checked_headers(batch.headers) if batch.headers is not None else None,
        expires_us=expires_us,
        addressee=batch.addressee,
        histories=None if batch.histories is None else list(batch.histories),
        times_us=None if batch.times_us is None else _checked_times(batch.times_us, accepted_us),
    )


def _has_more(batch: OutgoingBatch) -> bool:
    """Whether the messages are copies of dead letters, or have times of their own."""
    return batch.addressee is not None or batch.histories is not None or batch.times_us is not None


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


def _shares(topic: Topic, lines: bytes, count: int, attributes: Attributes, router: Router) -> list[Share]:
    """A message with a key goes to the partition of the key; those without go to one partition together."""
    keys = attributes.keys
    if topic.partitions == 1:
        return [Share(0, lines, attributes, range(count))]
    if keys is None or isinstance(keys, str):
        partition = router.next_partition(topic) if keys is None else partition_of(keys, topic.partitions)
        return [Share(partition, lines, attributes, range(count))]
    places: dict[int, list[int]] = {}
    keyless = router.next_partition(topic)
    for index, key in enumerate(keys):
        partition = keyless if key is None else partition_of(key, topic.partitions)
        places.setdefault(partition, []).append(index)
    bodies = codec.split_lines(lines)
    return [
        Share(partition, b"".join([bodies[index] + b"\n" for index in chosen]), attributes.only(chosen), chosen)
        for partition, chosen in places.items()
    ]
