"""The figures that a backend reports: a `Report` of sections, with one record for each thing that a section is about.

A figure that a backend does not know is None, never 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from geode_client.catalog import Topic


@dataclass(frozen=True, slots=True)
class TopicStatistics:
    """One topic as of now; the rates are per second, over the last minute."""

    topic: Topic
    messages_published: int
    messages_consumed: int | None
    messages_retained: int
    delayed_messages: int | None
    pending_messages: int | None
    subscriber_count: int
    publish_rate: float | None
    consume_rate: float | None
    error_rate: float | None
    bytes_stored: int | None
    oldest_message_us: int | None


@dataclass(frozen=True, slots=True)
class PartitionStatistics:
    """One partition of a topic as of now."""

    topic_name: str
    partition: int
    start_offset: int
    next_offset: int
    messages_retained: int
    bytes_stored: int | None
    batches: int | None
    expired: int | None
    removed: int | None
    oldest_message_us: int | None
    newest_message_us: int | None


@dataclass(frozen=True, slots=True)
class SubscriberStatistics:
    """One open subscription of any client; `topic_name` is what it subscribed to, which may be a pattern."""

    subscriber_id: str
    topic_name: str
    consumer_group: str | None
    consumer_id: str | None
    filter: str | None
    lag_messages: int | None
    lag_seconds: float | None
    last_message_us: int | None
    in_flight: int | None
    redelivered: int | None
    messages_delivered: int | None
    process_id: int | None
    started_us: int


@dataclass(frozen=True, slots=True)
class GroupStatistics:
    """One group in one topic. `pending` counts all that it has not settled: ahead of it, in flight, waiting for a retry.

    These counts are exact on every backend: published = acknowledged + filtered + dead_lettered + expired + removed +
    pending, counted from where the group started or was last moved to.
    """

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
    # By partition the first offset that the group has not taken from the log.
    positions: Mapping[int, int] = field(default_factory=dict)

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
    failed: int | None
    redelivered: int | None


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
    delivered: int | None
    removed: int | None
    expired: int | None
    deduplicated: int | None
    filter_evaluated: int | None
    filter_matched: int | None
    filter_skipped: int | None
    latency: LatencyHistogram | None


@dataclass(frozen=True, slots=True)
class DeadLetterTotals:
    """Messages of a topic that became dead letters for one reason: max_retries, expired or what `nack` names.

    `name` is the group; empty for subscribers without one. `dead_letter_topic` has the letters, also when the topic itself
    was dropped. `outstanding` are retained, and neither replayed nor deleted.
    """

    name: str
    topic_name: str
    reason: str
    dead_letter_topic: str
    messages: int
    outstanding: int


@dataclass(frozen=True, slots=True)
class TrafficSeries:
    """Messages a second of one topic in the last slots of `slot_seconds`, oldest first."""

    topic_name: str
    slot_seconds: int
    published: tuple[float, ...]
    consumed: tuple[float, ...]
    failed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TopicTraffic:
    """What happened in a topic over the window that was asked for: messages, not rates.

    `consumed` are deliveries that were settled, `failed` deliveries that failed. They are estimates where the window begins
    inside what was counted together.
    """

    topic_name: str
    published: float | None
    consumed: float | None
    failed: float | None


Section = Literal[
    "topics",
    "partitions",
    "subscribers",
    "groups",
    "group_totals",
    "counters",
    "dead_letters",
    "traffic",
    "traffic_series",
]
SECTIONS: tuple[Section, ...] = get_args(Section)


@dataclass(frozen=True, slots=True)
class Report:
    """What `Broker.report` gives. A section that was not asked for is empty.

    - `topics`, `partitions`, `counters`, `traffic`: for each topic (and partition) that the pattern covers
    - `groups`: for each group in each topic that the pattern covers; names that begin with `_` are the system's own
    - `group_totals`, `dead_letters`: for each name of a group that was ever used in such a topic
    - `subscribers`: each open subscription whose name or pattern is one of these topics, or covers one
    - `traffic_series`: for topics that had traffic in the window
    """

    topics: Sequence[TopicStatistics] = ()
    partitions: Sequence[PartitionStatistics] = ()
    subscribers: Sequence[SubscriberStatistics] = ()
    groups: Sequence[GroupStatistics] = ()
    group_totals: Sequence[GroupTotals] = ()
    counters: Sequence[TopicCounters] = ()
    dead_letters: Sequence[DeadLetterTotals] = ()
    traffic: Sequence[TopicTraffic] = ()
    traffic_series: Sequence[TrafficSeries] = ()
