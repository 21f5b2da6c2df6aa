"""What a client tells the other processes of a store about itself: its subscribers, how far they are, and its traffic.

Counted as it happens, written to the presence file at most once a second.
"""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from typing import Protocol

from geode_client.broker import SubscriptionRequest
from geode_client.clock import boot_us, now_us
from geode_client.delivery.judged import Judged
from geode_client.delivery.slices import Slice
from geode_client.errors import GeodeError
from geode_client.local import counters
from geode_client.store.presence import Presence, SubscriberRow
from geode_client.store.traffic import Traffic

REPORT_SECONDS = 1.0
LOOKED_AT_MAX = 1_000


class Reported(Protocol):
    """What other processes are told of an open subscription."""

    @property
    def subscriber_id(self) -> str: ...

    @property
    def request(self) -> SubscriptionRequest: ...

    @property
    def position(self) -> int: ...

    @property
    def delivered(self) -> int: ...

    @property
    def last_message_us(self) -> int | None: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def redelivered(self) -> int: ...

    @property
    def judged(self) -> Judged: ...

    def report_handed_over(self) -> bool:
        """Report what was handed over since the last call; whether there is more to come without another slice."""
        ...


class Reports:
    """One client's subscribers and traffic; every method runs on the event loop."""

    def __init__(self, presence: Presence) -> None:
        self.presence = presence
        self._loop = asyncio.get_running_loop()
        self._feeds: dict[str, Reported] = {}
        self._traffic: dict[int, Traffic] = {}
        self._written: dict[str, tuple[int, int, int, int]] = {}
        self._members: dict[str, Reported] = {}
        self._moved: dict[str, Reported] = {}
        self._counters: dict[tuple[int, str], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, feed: Reported, limits: Mapping[str, int], group_id: int | None = None) -> None:
        """Make a subscriber known; raises SubscriberLimitReached (`limits`: topic name to how many it takes)."""
        condition = feed.request.condition
        row = SubscriberRow(
            subscriber_id=feed.subscriber_id,
            process=self.presence.process,
            process_id=os.getpid(),
            pattern=feed.request.pattern,
            consumer_group=feed.request.group,
            consumer_id=feed.request.consumer,
            group_id=group_id,
            filter=None if condition is None else condition.text,
            started_us=now_us(),
            position=feed.position,
        )
        self.presence.add(row, limits)
        self._feeds[feed.subscriber_id] = feed
        if group_id is not None:
            self._members[feed.subscriber_id] = feed

    def leave(self, feed: Reported) -> None:
        """The subscriber is gone; what it had is counted."""
        if self._feeds.pop(feed.subscriber_id, None) is not None:
            self._take_judged(feed)
            self._written.pop(feed.subscriber_id, None)
            self._moved.pop(feed.subscriber_id, None)
            self._members.pop(feed.subscriber_id, None)
            with contextlib.suppress(GeodeError):
                self.presence.remove(feed.subscriber_id)

    def published(self, topic_id: int, count: int) -> None:
        self._of(topic_id).published += count

    def has_slice(self, feed: Reported) -> None:
        """A subscriber has messages in hand: what it begins of them is counted within a second."""
        self._moved[feed.subscriber_id] = feed
        self.moved()

    def consumed(self, handed: Slice, count: int) -> None:
        """Messages were handed over to a subscriber without a group."""
        self._of(handed.chunk.topic_id).consumed += count
        self.handed_over(handed, count)

    def handed_over(self, handed: Slice, count: int) -> None:
        """Messages were handed over: how old they were when their slice came to its reader."""
        latency_us = max(0, handed.handed_us - handed.chunk.timestamp_us)
        topic_id = handed.chunk.topic_id
        self.count(topic_id, counters.bucket_of(latency_us), count)
        self.count(topic_id, counters.LATENCY_SUM_US, latency_us * count)

    def count(self, topic_id: int, counter: str, value: int) -> None:
        """Add to a counter of `counters.py`."""
        if value:
            self._counters[topic_id, counter] = self._counters.get((topic_id, counter), 0) + value
            self.moved()

    def _take_judged(self, feed: Reported) -> None:
        for topic_id, values in feed.judged.take().items():
            for counter, value in zip(counters.JUDGED, values, strict=True):
                self.count(topic_id, counter, value)

    def settled(self, topic_id: int, settled: int, failed: int) -> None:
        """Deliveries of a group that were acknowledged, and that failed."""
        if settled or failed:
            traffic = self._of(topic_id)
            traffic.settled += settled
            traffic.failed += failed

    def moved(self) -> None:
        """A subscriber has come further: write it down within a second."""
        if self._timer is None:
            self._timer = self._loop.call_later(REPORT_SECONDS, self.write)

    def positions(self) -> dict[str, int]:
        """How far this client's own subscribers are, by subscriber id, as batch ids."""
        return {feed.subscriber_id: feed.position for feed in self._feeds.values()}

    def write(self) -> None:
        """Write what has happened since the last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # A subscriber is further also without a message for it. Of very many only those that had one are looked at.
        looked_at = self._feeds if len(self._feeds) <= LOOKED_AT_MAX else self._moved | self._members
        self._moved = {}
        for feed in looked_at.values():
            if feed.report_handed_over():
                self._moved[feed.subscriber_id] = feed
        moved = [feed for feed in looked_at.values() if self._written.get(feed.subscriber_id) != _state(feed)]
        for feed in looked_at.values():
            self._take_judged(feed)
        if not moved and not self._traffic and not self._counters:
            self._go_on()
            return
        for feed in moved:
            self._written[feed.subscriber_id] = _state(feed)
        rows = [
            (f.position, f.delivered, f.last_message_us, f.in_flight, f.redelivered, f.subscriber_id) for f in moved
        ]
        traffic, self._traffic = self._traffic, {}
        counted, self._counters = self._counters, {}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with contextlib.suppress(GeodeError):
            self.presence.report(rows, traffic, counted, boot_us())

        self._go_on()

    def _go_on(self) -> None:
        """Look again in a second while messages are in hand."""
        if self._moved:
            self.moved()

    def close(self) -> None:
        self.write()
        self.presence.close()

    def _of(self, topic_id: int) -> Traffic:
        traffic = self._traffic.get(topic_id)
        if traffic is None:
            traffic = self._traffic[topic_id] = Traffic(since_us=boot_us())
            self.moved()
        return traffic


def _state(feed: Reported) -> tuple[int, int, int, int]:
    return feed.position, feed.delivered, feed.in_flight, feed.redelivered
