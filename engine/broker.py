"""The seam: what the client and the executor ask of a broker, and nothing of how it does it.

`geode_client.local` implements this protocol on a directory; a networked broker implements the same. Whatever a broker
cannot do it says by raising `Unsupported`. Times are microseconds since 1970 where a name ends in `_us`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from geode_client.catalog import Topic, TopicChange, TopicDefinition
from geode_client.conditions.zones import ScanCounts
from geode_client.delivery.fanout import ConditionLike
from geode_client.delivery.slices import Slice
from geode_client.message import Chunk


class OutgoingMessage(msgspec.Struct, frozen=True):
    """One message on its way: `body` is any value that becomes JSON, `key` the text form of the partition key.

    None for `priority`, `ttl_us` and `compression` means what the topic says.
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


class OutgoingBatch(msgspec.Struct, frozen=True):
    """Messages of one topic that are stored together or not at all; `keys`, `ids` and `headers` go by position.

    `body_lines` may hold the bodies already as JSON lines (COPY from JSON lines need not decode them); else `bodies` does.
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
        offsets: The range of offsets for each partition. Delayed messages have none yet.
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

    `follow` False ends the subscription with what was there when it started. `group` None is fan-out. `limit` counts
    messages handed over. `prefetch` bounds what one consumer holds.
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


class Feed(Protocol):
    """An open subscription of a broker."""

    @property
    def subscriber_id(self) -> str: ...

    async def next(self) -> Slice | None:
        """The next messages, waiting for them; None when the feed has ended.

        Cancellation loses nothing: what was not returned is returned by the next call.
        """
        ...

    def finish(self, one: Slice) -> None:
        """The reader has left everything behind that it took of the slice, and the slice has no rest."""
        ...

    async def settled(self, one: Slice) -> None:
        """Return once what the reader has left behind is settled as durably as its topic asks; raises LeaseLost."""
        ...

    async def is_ours(self, one: Slice) -> bool:
        """Whether the messages of a fenced slice have not passed to somebody else, as far as can be known."""
        ...

    def expired(self, one: Slice, index: int) -> None:
        """A message of the slice expired in the hand and was passed over."""
        ...

    def at_hand_failed(self, one: Slice, reason: str) -> None:
        """The reader left with an exception: what it took of the slice and has not left behind is a failed attempt."""
        ...

    async def caught_up(self) -> bool:
        """Whether everything that had been published when this was called has been returned."""
        ...

    async def close(self) -> None:
        """Give back what is not settled."""
        ...


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What SELECT, COPY and TEST FILTER read: the retained messages of these topics in commit order.

    `newest_first` gives the chunks from the newest to the oldest (the messages inside a chunk stay ascending). The rest says
    what is not needed: partitions but the one, or the one of a key; offsets before and from; what was accepted before a time;
    messages that cannot meet `condition`. It spares reading; more than that may be given. `counts` is told what was read,
    and what statistics have spared.
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


@dataclass(frozen=True, slots=True)
class TopicStatistics:
    topic: Topic
    messages_published: int
    messages_consumed: int
    messages_retained: int
    delayed_messages: int
    pending_messages: int
    subscriber_count: int
    publish_rate: float
    consume_rate: float
    error_rate: float
    bytes_stored: int
    oldest_message_us: int | None


@dataclass(frozen=True, slots=True)
class PartitionStatistics:
    topic_name: str
    partition: int
    start_offset: int
    next_offset: int
    messages_retained: int
    bytes_stored: int
    batches: int
    expired: int
    removed: int
    oldest_message_us: int | None
    newest_message_us: int | None


@dataclass(frozen=True, slots=True)
class SubscriberStatistics:
    subscriber_id: str
    topic_name: str
    consumer_group: str | None
    consumer_id: str | None
    filter: str | None
    lag_messages: int
    lag_seconds: float
    last_message_us: int | None
    in_flight: int
    redelivered: int
    messages_delivered: int
    process_id: int
    started_us: int


@dataclass(frozen=True, slots=True)
class GroupStatistics:
    """One group in one topic. `pending` counts all that it has not settled: ahead of it, in hands, waiting for a retry."""

    name: str
    pattern: str
    topic_name: str
    filter: str | None
    order_by: str
    paused: bool
    published: int
    acknowledged: int
    filtered: int
    dead_lettered: int
    expired: int
    removed: int
    ahead: int
    in_flight: int
    retrying: int
    oldest_pending_us: int | None

    @property
    def pending(self) -> int:
        return self.ahead + self.in_flight + self.retrying


@dataclass(frozen=True, slots=True)
class GroupTotals:
    """What a group name has done in a topic since it was first used; never goes down. `name` is empty for subscribers
    without a group."""

    name: str
    topic_name: str
    dead_letter_topic: str
    acknowledged: int
    filtered: int
    dead_lettered: int
    expired: int
    removed: int
    failed: int
    redelivered: int


class TableRows(msgspec.Struct, frozen=True):
    """What SQL on the user's own tables gave: columns and rows, and how many rows it wrote."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    changes: int


class JoinedSettlement(Protocol):
    """What a backend writes together with a transaction, such as acknowledgements."""

    def work(self) -> Any:
        """What is to be written, made when the commit begins; made again when the commit has to be tried again."""
        ...

    def told(self, stored: bool) -> None:
        """Told once, on the event loop, when the transaction is over."""
        ...


class BrokerTransaction(Protocol):
    """Publishes, settlements and the user's own SQL that are stored together or not at all.

    What is wrong with a call is raised by the call; the transaction stays open then, unless it says TransactionAborted.
    The time of the whole is bounded from the beginning on, and no lock is held before `execute` is first called.
    """

    @property
    def is_open(self) -> bool: ...

    @property
    def receipts(self) -> Sequence[Receipt | BatchReceipt]:
        """After the commit: what became of each publish and publish_batch, in the order of the calls."""
        ...

    async def create_topic(self, definition: TopicDefinition) -> None:
        """Make a topic at the commit, where there is none then."""
        ...

    async def publish(self, message: OutgoingMessage) -> None:
        """Check a message now and store it at the commit."""
        ...

    async def publish_batch(self, batch: OutgoingBatch) -> None: ...

    async def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> TableRows:
        """Run one statement on the user's own tables; holds up other writers until the end, within the bound."""
        ...

    async def own_tables(self) -> frozenset[str]:
        """The user's own tables and views as the transaction sees them, in lower case."""
        ...

    def settle(self, settlement: "JoinedSettlement") -> None:
        """Add something of the backend's own to the commit; adding the same object again changes nothing."""
        ...

    async def commit(self) -> None:
        """Store everything. Raises what refused it, and then nothing is stored.

        Cancelled, it is rolled back, or committed when that could not be stopped any more: `committed` tells.
        """
        ...

    @property
    def committed(self) -> bool: ...

    async def rollback(self) -> None:
        """Store nothing. Does nothing when the transaction is over."""
        ...


current_transaction: "ContextVar[BrokerTransaction | None]" = ContextVar("current_transaction", default=None)
"""The transaction that the running task is inside of; whoever opens one sets it, and a broker refuses to write past it."""


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """Messages by the time from being accepted to being handed over; `counts` has one entry more than `bounds_seconds`, for
    what was later than the last."""

    bounds_seconds: tuple[float, ...]
    counts: tuple[int, ...]
    sum_seconds: float


@dataclass(frozen=True, slots=True)
class TopicCounters:
    """What has happened in a topic since it was made; never goes down. `delivered` counts hand-overs without a group."""

    topic_name: str
    published: int
    delivered: int
    removed: int
    expired: int
    deduplicated: int
    filter_evaluated: int
    filter_matched: int
    filter_skipped: int
    latency: LatencyHistogram


@dataclass(frozen=True, slots=True)
class DeadLetterTotals:
    """Messages of a topic that became dead letters for one reason: max_retries, expired or what `nack` names."""

    name: str
    topic_name: str
    reason: str
    messages: int


@dataclass(frozen=True, slots=True)
class TrafficSeries:
    """Messages a second of one topic in the last slots of `slot_seconds`, oldest first."""

    topic_name: str
    slot_seconds: int
    published: tuple[float, ...]
    consumed: tuple[float, ...]
    failed: tuple[float, ...]


class Broker(Protocol):
    """Topics, publishing, subscriptions and statistics: all that a client needs of a backend."""

    @property
    def target(self) -> str:
        """Where the broker is, without secrets, for messages to people."""
        ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def unsupported(self) -> Mapping[str, str]:
        """What this backend lacks: capability (a word EXPLAIN shows, such as `groups`) to the reason."""
        ...

    async def create_topic(self, definition: TopicDefinition, *, if_not_exists: bool = False) -> bool:
        """Make a topic; False when it was there and `if_not_exists`. Raises TopicExists."""
        ...

    async def alter_topic(self, name: str, change: TopicChange) -> Topic: ...

    async def drop_topic(self, name: str) -> None: ...

    async def purge_topic(self, name: str) -> int:
        """Remove all messages; how many those were."""
        ...

    async def topic(self, name: str) -> Topic:
        """The topic of this name; raises TopicNotFound with the nearest known name."""
        ...

    async def topics(self, pattern: str = "**") -> list[Topic]:
        """Existing topics that the pattern covers, by name; system topics only when the pattern names them."""
        ...

    async def publish(self, message: OutgoingMessage) -> Receipt:
        """Store one message; returns once it is as durable as its topic promises."""
        ...

    async def publish_batch(self, batch: OutgoingBatch) -> BatchReceipt:
        """Store all messages of the batch or none."""
        ...

    def transaction(self, timeout_seconds: float) -> BrokerTransaction:
        """Begin a transaction that is rolled back when it is not committed within so many seconds."""
        ...

    async def subscribe(self, request: SubscriptionRequest) -> Feed:
        """Open a subscription; what is published after this returned will be seen by it."""
        ...

    # ── groups ──
    async def create_group(self, request: SubscriptionRequest) -> None:
        """Make the group that a subscription of this request would join; raises GroupMismatch when it is there."""
        ...

    async def drop_group(self, name: str, topic: str | None, *, if_exists: bool = False) -> int:
        """Forget groups of a name (on a topic, or all); how many they were. Raises GroupNotFound."""
        ...

    async def pause_group(self, name: str, topic: str | None, *, paused: bool) -> None: ...

    async def seek_group(
        self, name: str, topic: str, target: StartPosition, *, dry_run: bool = False
    ) -> tuple[int, int]:
        """Move a group in a topic; how many messages that replays and skips. With `dry_run` only says so."""
        ...

    async def replay_dead_letters(self, topic: str, condition: ConditionLike | None, target: str | None) -> int:
        """Publish the dead letters of a topic (where the condition is TRUE) to `target` or the topic itself, each once."""
        ...

    async def group_statistics(self, pattern: str = "**") -> list[GroupStatistics]:
        """One record for each group in each topic that it covers."""
        ...

    async def group_totals(self) -> list[GroupTotals]: ...

    async def topic_counters(self, pattern: str = "**") -> list[TopicCounters]:
        """One record for each topic, counted by all processes."""
        ...

    async def dead_letter_totals(self) -> list[DeadLetterTotals]: ...

    def scan(self, request: ScanRequest) -> AsyncIterator[Chunk]:
        """Retained, unexpired chunks as of now; gives way to other tasks between chunks."""
        ...

    async def topic_statistics(self, pattern: str = "**") -> list[TopicStatistics]: ...

    async def partition_statistics(self, pattern: str = "**") -> list[PartitionStatistics]: ...

    async def traffic(self, topic: str, window_seconds: float) -> tuple[int, int, int]:
        """Messages published, deliveries settled and deliveries failed over the last seconds, by all processes."""
        ...

    async def traffic_series(self, window_seconds: float) -> list[TrafficSeries]:
        """The traffic of the last seconds, for topics that had any."""
        ...

    async def subscriber_statistics(self) -> list[SubscriberStatistics]: ...
