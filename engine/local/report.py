"""What `LocalBroker.report` gives: each section of a `Report`, from the store and from what all processes have reported."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from geode_client.broker import Report, Section, SubscriberStatistics, TopicTraffic, TrafficSeries
from geode_client.catalog import Topic
from geode_client.clock import boot_us
from geode_client.grammar.names import is_pattern, matches
from geode_client.local import counters, progress, statistics
from geode_client.local.reports import Reports
from geode_client.store.log import LogReader
from geode_client.store.topics import TopicReader
from geode_client.store.traffic import SLOT_SECONDS, Traffic

EVERYTHING = "**"


class Reporter:
    """The sections of one report on the topics that a pattern covers."""

    def __init__(
        self, log: LogReader, topics: TopicReader, reports: Reports, pattern: str, window_seconds: float
    ) -> None:
        self._log = log
        self._all_topics = topics
        self._reports = reports
        self._presence = reports.presence
        self._pattern = pattern
        self._window_seconds = window_seconds
        self._now_us = boot_us()
        self._topics: Sequence[Topic] = list(topics.covered(pattern))

    def report(self, sections: Iterable[Section]) -> Report:
        """The report; nothing is read for a section that is not named."""
        return Report(**{section: tuple(_MADE[section](self)) for section in sections})

    def topics(self) -> Iterable[Any]:
        return statistics.of_topics(self._log, self._presence, self._topics, self._reports.positions())

    def partitions(self) -> Iterable[Any]:
        return statistics.of_partitions(self._log, self._topics)

    def subscribers(self) -> Iterable[Any]:
        found = statistics.of_subscribers(self._log, self._presence, self._all_topics, self._reports.positions())
        return [one for one in found if self._is_subscribed(one)]

    def _is_subscribed(self, one: SubscriberStatistics) -> bool:
        if self._concerns(one.topic_name):
            return True
        return is_pattern(one.topic_name) and any(matches(one.topic_name, topic.name) for topic in self._topics)

    def groups(self) -> Iterable[Any]:
        with self._log.snapshot():
            return progress.of_groups(self._log, self._topics)

    def group_totals(self) -> Iterable[Any]:
        found = progress.totals(self._log, self._all_topics)
        return [one for one in found if self._concerns(one.topic_name)]

    def counters(self) -> Iterable[Any]:
        presence = self._presence
        return counters.of_topics(self._log, presence.counters(), presence.consumed(), self._topics)

    def dead_letters(self) -> Iterable[Any]:
        return [one for one in counters.dead_letters(self._log) if self._concerns(one.topic_name)]

    def traffic(self) -> Iterable[Any]:
        only = self._topics[0].topic_id if len(self._topics) == 1 else None
        seen = self._presence.traffic(self._now_us, self._window_seconds, only)
        for topic in self._topics:
            found = seen.get(topic.topic_id, Traffic())
            yield TopicTraffic(topic.name, found.published, found.consumed, found.failed)

    def traffic_series(self) -> Iterable[Any]:
        seen = self._presence.traffic_slots(self._now_us, int(self._window_seconds))
        for topic in self._topics:
            slots = seen.get(topic.topic_id)
            if slots is not None:
                yield TrafficSeries(
                    topic.name,
                    SLOT_SECONDS,
                    published=tuple(slot.published / SLOT_SECONDS for slot in slots),
                    consumed=tuple(slot.consumed / SLOT_SECONDS for slot in slots),
                    failed=tuple(slot.failed / SLOT_SECONDS for slot in slots),
                )

    def _concerns(self, name: str) -> bool:
        return self._pattern in (EVERYTHING, name) or matches(self._pattern, name)


_MADE: dict[Section, Callable[[Reporter], Iterable[Any]]] = {
    "topics": Reporter.topics,
    "partitions": Reporter.partitions,
    "subscribers": Reporter.subscribers,
    "groups": Reporter.groups,
    "group_totals": Reporter.group_totals,
    "counters": Reporter.counters,
    "dead_letters": Reporter.dead_letters,
    "traffic": Reporter.traffic,
    "traffic_series": Reporter.traffic_series,
}
