"""The seam: what the client and the executor ask of a broker, and nothing of how it does it.

`geode_client.local` implements this protocol on a directory; a networked broker implements the same. Whatever a broker
cannot do it says by raising `Unsupported`. Times are microseconds since 1970 where a name ends in `_us`.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from geode_client.broker.records import (
    BatchReceipt,
    OutgoingBatch,
    OutgoingMessage,
    Receipt,
    ScanRequest,
    StartPosition,
    SubscriptionRequest,
)
from geode_client.broker.statistics import (
    DeadLetterTotals,
    GroupStatistics,
    GroupTotals,
    PartitionStatistics,
    SubscriberStatistics,
    TopicCounters,
    TopicStatistics,
    TrafficSeries,
)
from geode_client.broker.transactions import BrokerTransaction
from geode_client.catalog import Topic, TopicChange, TopicDefinition
from geode_client.delivery.fanout import ConditionLike
from geode_client.delivery.slices import Slice
from geode_client.message import Chunk


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
