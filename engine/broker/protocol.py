"""The seam: what the client and the executor ask of a backend, and nothing of how it does it.

`geode_client.local` implements this protocol on a directory; a networked backend implements the same. `docs/backends.md` says
what each promise means and in which order to build one, and `tests/contract/` checks them. Times are microseconds since 1970
where a name ends in `_us`.

What a backend cannot do it names in its `Capabilities`, and refuses with `Unsupported`. Every method but `target`,
`capabilities`, `is_lost` and `open` raises StoreError before `open` and after `close`.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

from geode_client.broker.capabilities import Capabilities
from geode_client.broker.records import (
    BatchReceipt,
    OutgoingBatch,
    OutgoingMessage,
    Receipt,
    ScanRequest,
    SeekPreview,
    StartPosition,
    SubscriptionRequest,
)
from geode_client.broker.statistics import Report, Section
from geode_client.broker.transactions import BrokerTransaction, OwnTables
from geode_client.catalog import GroupChange, Topic, TopicChange, TopicDefinition
from geode_client.delivery.slices import Slice
from geode_client.message import Chunk


class Feed(Protocol):
    """An open subscription of a broker."""

    @property
    def subscriber_id(self) -> str: ...

    @property
    def before(self) -> int:
        """Of a group that this made, and that begins at the end: how many retained messages lie before it; else 0."""
        ...

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
        """Whether the messages of a fenced slice still belong to this reader, as far as the backend can tell."""
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
    """Topics, publishing, subscriptions, groups, reading and figures: all that is needed of a backend."""

    # ── the target ──
    @property
    def target(self) -> str:
        """Where the broker is, without secrets, for messages to people. Known before `open`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do. Known before `open`, and the same until `close`."""
        ...

    async def open(self) -> None:
        """Make the target usable, or usable again after it failed. Opening an open broker does nothing."""
        ...

    @property
    def is_lost(self) -> bool:
        """Whether what was open is gone, so that `open` has to find it again."""
        ...

    async def close(self) -> None:
        """Store what was given, end all feeds and roll back open transactions. Repeating it does nothing."""
        ...

    # ── topics ──
    async def create_topic(self, definition: TopicDefinition, *, if_not_exists: bool = False) -> bool:
        """Create a topic; False when it exists and `if_not_exists`. Raises TopicExists."""
        ...

    async def alter_topic(self, name: str, change: TopicChange) -> Topic:
        """Change a topic, and return it as it is now. Raises TopicNotFound, and GqlError for a change that is not allowed."""
        ...

    async def drop_topic(self, name: str) -> None:
        """Remove a topic with its messages and groups; a later topic of the same name shares nothing with it."""
        ...

    async def purge_topic(self, name: str) -> int:
        """Remove all messages of a topic, and return how many there were. Its offsets go on where they were."""
        ...

    async def topic(self, name: str) -> Topic:
        """The topic of this name; raises TopicNotFound with the nearest known name."""
        ...

    async def topics(self, pattern: str = "**") -> list[Topic]:
        """Existing topics that the pattern covers, sorted by name; system topics only when the pattern names them."""
        ...

    # ── publishing ──
    async def publish(self, message: OutgoingMessage) -> Receipt:
        """Store one message; returns once it is as durable as its topic promises.

        Raises InvalidMessage, SchemaViolation and MessageTooLarge as `broker.validate` does, Conflict when the offset is not
        the expected one, TopicNotFound, StoreError.
        """
        ...

    async def publish_batch(self, batch: OutgoingBatch) -> BatchReceipt:
        """Store all messages of the batch, or none. Raises as `publish`, with the index of the message."""
        ...

    def transaction(self, timeout_seconds: float) -> BrokerTransaction:
        """Begin a transaction that is rolled back when it is not committed within so many seconds."""
        ...

    @property
    def tables(self) -> OwnTables | None:
        """The program's own tables, outside of a transaction; None without the capability `own_tables`."""
        ...

    # ── subscribing ──
    async def subscribe(self, request: SubscriptionRequest) -> Feed:
        """Open a subscription; what is published after this returned is delivered to it."""
        ...

    async def create_group(self, request: SubscriptionRequest) -> int:
        """Create the group that a subscription of this request would join; raises GroupMismatch when it exists.

        Returns how many retained messages lie before it where it begins at the end, else 0.
        """
        ...

    async def drop_group(self, name: str, topic: str | None, *, if_exists: bool = False) -> int:
        """Remove the groups of a name (on a topic, or all), and return how many there were. Raises GroupNotFound."""
        ...

    async def pause_group(self, name: str, topic: str | None, *, paused: bool) -> None:
        """Stop handing over messages to a group, or go on. Raises GroupNotFound."""
        ...

    async def seek_group(self, name: str, topic: str, target: StartPosition, *, dry_run: bool = False) -> SeekPreview:
        """Move a group to another position, and say what that replays and skips. `dry_run` only says so."""
        ...

    async def alter_group(self, name: str, topic: str, change: GroupChange, *, dry_run: bool = False) -> int:
        """Give a group on a topic another condition or order. It keeps its position; what is claimed keeps the old ones.

        Returns how many messages in hand must be settled before the new order takes effect and claiming continues.
        `dry_run` only says so. Raises GroupNotFound.
        """
        ...

    async def delete_messages(self, topic: Topic, partition: int, offsets: Sequence[int]) -> int:
        """Delete single messages at ascending offsets of a partition, and return how many of them there were."""
        ...

    # ── reading ──
    def scan(self, request: ScanRequest) -> AsyncIterator[Chunk]:
        """Retained chunks as of now, of which some messages may have expired; yields to other tasks between chunks."""
        ...

    async def report(self, sections: Iterable[Section], pattern: str = "**", *, window_seconds: float = 60.0) -> Report:
        """Figures about what the pattern covers, counted over all clients; only the sections that are asked for.

        `window_seconds` is how far `traffic` and `traffic_series` reach back. What this client did before the call is
        included.
        """
        ...
