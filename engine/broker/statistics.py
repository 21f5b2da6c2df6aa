"""The figures that a backend reports, one record for each thing that it reports on."""

from dataclasses import dataclass

from geode_client.catalog import Topic


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
