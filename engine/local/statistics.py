"""What SYSTEM tables say of a store: numbers of topics, partitions and subscribers, across all processes."""

from collections.abc import Iterable, Mapping, Sequence

from geode_client.broker import PartitionStatistics, SubscriberStatistics, TopicStatistics
from geode_client.catalog import Topic
from geode_client.clock import boot_us, now_us
from geode_client.grammar.names import is_pattern, matches
from geode_client.local import progress
from geode_client.store import delays
from geode_client.store.log import LogReader
from geode_client.store.presence import Presence, SubscriberRow
from geode_client.store.topics import TopicReader
from geode_client.store.traffic import Traffic

RATE_SECONDS = 60


def of_topics(
    log: LogReader, presence: Presence, topics: Sequence[Topic], positions: Mapping[str, int]
) -> list[TopicStatistics]:
    """One record a topic; `positions` are the newest positions of this client's own subscribers."""
    traffic, consumed, subscribers = (
        presence.traffic(boot_us(), RATE_SECONDS),
        presence.consumed(),
        presence.subscribers(),
    )
    named, wild = _by_pattern(subscribers)
    waiting = delays.counts(log)
    found: list[TopicStatistics] = []
    for topic in topics:
        mine = named.get(topic.name, []) + [row for row in wild if matches(row.pattern, topic.name)]
        lags = [_lag(log, [topic], _position(row, positions)) for row in mine if row.group_id is None]
        of_groups = [one.pending for one in progress.of_topic(log, topic)]
        published, retained, stored, oldest = _log_of(log, topic)
        seen = traffic.get(topic.topic_id, Traffic())
        deliveries = seen.consumed + seen.failed
        found.append(
            TopicStatistics(
                topic=topic,
                messages_published=published,
                messages_consumed=consumed.get(topic.topic_id, 0) + progress.acknowledged(log, topic.topic_id),
                messages_retained=retained,
                delayed_messages=waiting.get(topic.topic_id, 0),
                pending_messages=max([lag[0] for lag in lags] + of_groups, default=0),
                subscriber_count=len(mine),
                publish_rate=seen.published / RATE_SECONDS,
                consume_rate=seen.consumed / RATE_SECONDS,
                error_rate=seen.failed / deliveries if deliveries else 0.0,
                bytes_stored=stored,
                oldest_message_us=oldest,
            )
        )
    return found


def of_partitions(log: LogReader, topics: Sequence[Topic]) -> list[PartitionStatistics]:
    """One record for each partition of each topic."""
    found: list[PartitionStatistics] = []
    for topic in topics:
        sql = "SELECT partition, start_offset, next_offset, stored_bytes, removed, expired FROM partitions WHERE topic_id = ?"
        ends = {row[0]: row[1:] for row in log.rows(sql, (topic.topic_id,))}
        for partition in range(topic.partitions):
            start, end, stored, removed, expired = ends.get(partition, (0, 0, 0, 0, 0))
            batches, retained, oldest, newest, first = _batches_of(log, topic.topic_id, partition, start)
            found.append(
                PartitionStatistics(
                    topic_name=topic.name,
                    partition=partition,
                    start_offset=end if first is None else first,
                    next_offset=end,
                    messages_retained=retained,
                    bytes_stored=stored,
                    batches=batches,
                    expired=expired,
                    removed=removed,
                    oldest_message_us=oldest,
                    newest_message_us=newest,
                )
            )
    return found


def of_subscribers(
    log: LogReader, presence: Presence, topics: TopicReader, positions: Mapping[str, int]
) -> list[SubscriberStatistics]:
    """One record for each subscriber of any living process."""
    found: list[SubscriberStatistics] = []
    for row in presence.subscribers():
        covered = list(topics.covered(row.pattern)) if is_pattern(row.pattern) else _one(topics, row.pattern)
        if row.group_id is None:
            lag, oldest_us = _lag(log, covered, _position(row, positions))
        else:
            lag, oldest_us = progress.lag_of(log, row.group_id, covered)
        found.append(
            SubscriberStatistics(
                subscriber_id=row.subscriber_id,
                topic_name=row.pattern,
                consumer_group=row.consumer_group,
                consumer_id=row.consumer_id,
                filter=row.filter,
                lag_messages=lag,
                lag_seconds=max(0.0, (now_us() - oldest_us) / 1e6) if oldest_us is not None else 0.0,
                last_message_us=row.last_message_us,
                in_flight=row.in_flight,
                redelivered=row.redelivered,
                messages_delivered=row.delivered,
                process_id=row.process_id,
                started_us=row.started_us,
            )
        )
    return found


def _one(topics: TopicReader, name: str) -> list[Topic]:
    topic = topics.get(name)
    return [] if topic is None else [topic]


def _by_pattern(rows: Iterable[SubscriberRow]) -> tuple[dict[str, list[SubscriberRow]], list[SubscriberRow]]:
    named: dict[str, list[SubscriberRow]] = {}
    wild: list[SubscriberRow] = []
    for row in rows:
        if is_pattern(row.pattern):
            wild.append(row)
        else:
            named.setdefault(row.pattern, []).append(row)
    return named, wild


def _position(row: SubscriberRow, positions: Mapping[str, int]) -> int:
    return max(row.position, positions.get(row.subscriber_id, 0))


def _lag(log: LogReader, topics: Iterable[Topic], position: int) -> tuple[int, int | None]:
    """Messages committed after a position, and when the oldest of them was."""
    lag, oldest_us = 0, None
    for topic in topics:
        for partition in range(topic.partitions):
            # From the newest back, and no further than the position: the work is in proportion to the lag.
            first = log.offset_after(topic.topic_id, partition, position)
            sql = (
                "SELECT coalesce(sum(count), 0), min(timestamp_us) FROM batches"
                " WHERE topic_id = ? AND partition = ? AND base_offset >= ?"
            )
            count, at = log.rows(sql, (topic.topic_id, partition, first))[0]
            lag += count
            if at is not None:
                oldest_us = at if oldest_us is None else min(oldest_us, at)
    return lag, oldest_us


def _log_of(log: LogReader, topic: Topic) -> tuple[int, int, int, int | None]:
    """Messages ever published, messages retained, bytes stored, time of the oldest message."""
    published = retained = stored = 0
    oldest: int | None = None
    sql = "SELECT partition, start_offset, next_offset, stored_bytes FROM partitions WHERE topic_id = ?"
    for partition, start, end, size in log.rows(sql, (topic.topic_id,)):
        _, count, first_us, _, _ = _batches_of(log, topic.topic_id, partition, start)
        published += end
        retained += count
        stored += size
        if first_us is not None:
            oldest = first_us if oldest is None else min(oldest, first_us)
    return published, retained, stored, oldest


def _batches_of(
    log: LogReader, topic_id: int, partition: int, start: int
) -> tuple[int, int, int | None, int | None, int | None]:
    """Batches, messages, times of the oldest and newest batch, first offset: of what is retained."""
    sql = (
        "SELECT count(*), coalesce(sum(count), 0), min(timestamp_us), max(timestamp_us), min(base_offset) FROM batches"
        " WHERE topic_id = ? AND partition = ? AND base_offset >= ?"
    )
    found = log.rows(sql, (topic_id, partition, start))[0]
    return found[0], found[1], found[2], found[3], found[4]
