"""The rules of a message, the same for every backend: sizes, keys, ids, headers, the schema."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from geode_client import codec
from geode_client.broker.records import OutgoingBatch
from geode_client.catalog import Delivery, Topic
from geode_client.errors import InvalidMessage, MessageTooLarge
from geode_client.message import NO_ATTRIBUTES, Attributes
from geode_client.store.batch import RAW_BYTES_MAX

KEY_CHARACTERS_MAX = 1024
MESSAGE_ID_CHARACTERS_MAX = 256
HEADERS_BYTES_MAX = 64 * 1024


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


def _attributes(topic: Topic, batch: OutgoingBatch, lines: bytes, count: int, live_from_us: int) -> Attributes:
    keys = _keys(topic, batch, lines)
    ttl_us = batch.ttl_us if batch.ttl_us is not None else topic.options.message_ttl_us
    if keys is None and batch.ids is None and batch.headers is None and ttl_us is None:
        return NO_ATTRIBUTES
    if batch.ids is not None:
        _check_ids(batch.ids)
    return Attributes(
        keys=keys,
        ids=list(batch.ids) if batch.ids is not None and any(batch.ids) else None,
        headers=_checked_headers(batch.headers) if batch.headers is not None else None,
        expires_us=None if ttl_us is None else live_from_us + ttl_us,
    )


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


def pick(attributes: Attributes, places: Sequence[int]) -> Attributes:
    """The attributes of only these messages."""
    if attributes is NO_ATTRIBUTES:
        return attributes
    columns = (attributes.keys, attributes.ids, attributes.headers, attributes.expires_us)
    return Attributes(*[[c[i] for i in places] if isinstance(c, list) else c for c in columns])  # type: ignore[arg-type]
