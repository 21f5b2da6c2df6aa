"""What is handed across the seam: publish requests and receipts, subscription and scan requests.

Times are microseconds since 1970 where a name ends in `_us`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from geode_client.catalog import Topic
from geode_client.conditions.protocol import ConditionLike
from geode_client.conditions.zones import ScanCounts
from geode_client.letters import Addressee, History


class OutgoingMessage(msgspec.Struct, frozen=True):
    """One message on its way: `body` is any value that becomes JSON, `key` the text form of the partition key.

    None for `ttl_us` and `compression` means the topic's option. With `expected_offset` the message is stored
    only if it gets this offset; else Conflict is raised.
    """

    topic: str
    body: Any
    key: str | None = None
    priority: int = 5
    ttl_us: int | None = None
    delay_us: int | None = None
    compression: str | None = None
    message_id: str | None = None
    headers: Mapping[str, Any] | None = None
    region: str | None = None
    expected_offset: int | None = None


class OutgoingBatch(msgspec.Struct, frozen=True):
    """Messages of one topic that are stored together or not at all; `keys`, `ids`, `headers`, `times_us`, `expires_us` and
    `histories` go by position.

    One key as text is the key of all messages. What is None means the same as in `OutgoingMessage`. With `expected_offset`
    they are stored only if the first of them gets this offset, and all are of one partition; else Conflict is raised.

    `bodies` may be `codec.Lines`: JSON text that is stored as it is. `times_us` are the messages' own times, which `_timestamp`
    shows; None, and a message without one, has the time of its acceptance. None of them may be later than now. `expires_us`
    are points in time; they go before `ttl_us`.

    `addressee` is the one group that is to have them; None: everybody. `histories` says which messages are copies of dead
    letters.
    """

    topic: str
    bodies: Sequence[Any]
    keys: str | Sequence[str | None] | None = None
    ids: Sequence[str | None] | None = None
    headers: Sequence[Mapping[str, Any] | None] | None = None
    priority: int = 5
    ttl_us: int | None = None
    delay_us: int | None = None
    compression: str | None = None
    region: str | None = None
    expected_offset: int | None = None
    addressee: Addressee | None = None
    histories: Sequence[History | None] | None = None
    times_us: Sequence[int | None] | None = None
    expires_us: Sequence[int | None] | None = None


class Receipt(msgspec.Struct, frozen=True):
    """Where a published message is stored.

    Attributes:
        id: The id of the message.
        topic: The name of its topic.
        partition: The number of its partition, from 0.
        offset: Its position in the partition; None for a delayed message, which gets its offset when it is due.
        timestamp: When the store accepted it, a datetime in UTC.
        duplicate: The message id was known already: nothing was stored, and this is where the first one is.
    """

    id: str
    topic: str
    partition: int
    offset: int | None
    timestamp: Any
    duplicate: bool = False


class BatchReceipt(msgspec.Struct, frozen=True):
    """What became of a batch.

    Attributes:
        count: The number of messages that were stored, delayed ones included.
        duplicates: The number of messages that were not stored, because their ids were known already.
        offsets: For each partition a range from the first offset to the last. Its length is a number of messages only if
            offsets are dense (`Capabilities.dense_offsets`). Delayed messages have no offsets yet.
    """

    count: int
    duplicates: int
    offsets: dict[int, range]


@dataclass(frozen=True, slots=True)
class FromEnd:
    """Only what is published from now on."""


@dataclass(frozen=True, slots=True)
class FromBeginning:
    """All that is retained."""


@dataclass(frozen=True, slots=True)
class FromOffset:
    """From this offset of each partition on."""

    offset: int


@dataclass(frozen=True, slots=True)
class FromTime:
    """From the first message accepted at or after this time."""

    timestamp_us: int


StartPosition = FromEnd | FromBeginning | FromOffset | FromTime


@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """What SUBSCRIBE and `client.subscribe` both become.

    `follow` False ends the subscription with what was there when it started. `group` None is fan-out. `prefetch` bounds what one consumer holds.
    """

    pattern: str
    condition: ConditionLike | None = None
    start: StartPosition = field(default_factory=FromEnd)
    follow: bool = True
    group: str | None = None
    consumer: str | None = None
    auto_ack: bool = True
    priority_order: bool = False
    ordering: bool = False
    partition: int | None = None
    key: str | None = None
    region: str | None = None
    prefetch: int = 4096


@dataclass(frozen=True, slots=True)
class SeekPreview:
    """What a seek does, or would do: messages that are delivered again, and messages that are passed over.

    None where the backend does not know (`Capabilities.exact_seek_preview`).
    """

    replayed: int | None
    skipped: int | None


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What SELECT, COPY and TEST FILTER read: the retained messages of these topics in commit order.

    `newest_first` gives the chunks from the newest to the oldest (the messages inside a chunk stay ascending). The other
    fields limit what is read: to one partition, or the one of a key; to offsets from `first_offset` up to, not including,
    `end_offset`; to what was accepted since a time; to messages that may meet `condition`. They only save reading: a backend
    may return more. `counts` is updated with what was read, and what statistics allowed to skip. With `letters` the chunks say which of their messages are dead letters that were replayed.
    """

    topics: Sequence[Topic]
    partition: int | None = None
    key: str | None = None
    first_offset: int = 0
    end_offset: int | None = None
    newest_first: bool = False
    since_us: int | None = None
    condition: ConditionLike | None = None
    counts: ScanCounts | None = None
    letters: bool = False
