"""Counters that a store's processes add to, beside those that the store itself keeps exactly.

They live in the presence file, by topic: how old messages were when they were handed over, how many filters looked at, how
many publishes named an id that was known. They only grow, also when a subscriber leaves; a process that is killed takes at
most its last second with it, and a presence file that is lost begins them anew.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from geode_client.broker import DeadLetterTotals, LatencyHistogram, TopicCounters
from geode_client.catalog import Topic
from geode_client.letters import public_group
from geode_client.store.log import LogReader

BOUNDS_SECONDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    60.0,
)
"""Upper bounds of the latency buckets; one more holds what is later."""

LATENCY_SUM_US = "latency_sum_us"
DUPLICATES = "duplicates"
JUDGED = ("filter_evaluated", "filter_matched", "filter_skipped")

_BOUNDS_US = [int(bound * 1e6) for bound in BOUNDS_SECONDS]
_BUCKETS = [f"latency_{place}" for place in range(len(BOUNDS_SECONDS) + 1)]


def bucket_of(latency_us: int) -> str:
    """The counter of the bucket that a latency falls into."""
    return _BUCKETS[bisect_left(_BOUNDS_US, latency_us)]


def of_topics(
    log: LogReader, counters: Mapping[tuple[int, str], int], consumed: Mapping[int, int], topics: Sequence[Topic]
) -> list[TopicCounters]:
    """One record a topic; `consumed` are deliveries to subscribers without a group, by topic id."""
    sql = "SELECT topic_id, sum(next_offset), sum(removed), sum(expired) FROM partitions GROUP BY topic_id"
    ends = {row[0]: row[1:] for row in log.rows(sql)}
    found = []
    for topic in topics:
        published, removed, expired = ends.get(topic.topic_id, (0, 0, 0))

        def value(counter: str, topic_id: int = topic.topic_id) -> int:
            return counters.get((topic_id, counter), 0)

        latency = LatencyHistogram(
            BOUNDS_SECONDS, tuple(value(bucket) for bucket in _BUCKETS), value(LATENCY_SUM_US) / 1e6
        )
        judged = [value(counter) for counter in JUDGED]
        found.append(
            TopicCounters(
                topic_name=topic.name,
                published=published,
                delivered=consumed.get(topic.topic_id, 0),
                removed=removed,
                expired=expired,
                deduplicated=value(DUPLICATES),
                filter_evaluated=judged[0],
                filter_matched=judged[1],
                filter_skipped=judged[2],
                latency=latency,
            )
        )
    return found


def dead_letters(log: LogReader) -> list[DeadLetterTotals]:
    """Messages that became dead letters, by group, topic and reason."""
    sql = "SELECT name, topic, reason, letters, messages, outstanding FROM dead_letter_totals ORDER BY topic, name, reason"
    found: dict[tuple[str, str, str, str], tuple[int, int]] = {}
    for name, topic, reason, letters, messages, outstanding in log.rows(sql):
        # Private groups are those of subscribers without a group.
        key = (public_group(name) or "", topic, reason, letters)
        known = found.get(key, (0, 0))
        found[key] = (known[0] + messages, known[1] + outstanding)
    return [DeadLetterTotals(*key, *numbers) for key, numbers in found.items()]
