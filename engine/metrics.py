"""Metrics of a store, as Prometheus reads them.

    from prometheus_client import REGISTRY
    from geode_client.metrics import GeodeCollector

    REGISTRY.register(GeodeCollector("./data"))      # or: serve("./data", 9464)

Nothing is registered by itself: a program may define counters of the same names. The numbers are those of all processes that
use the store. What the store counts (published, acknowledged, failed, dead letters …) is exact at every moment; what processes
report (hand-overs without a group, latencies, filters, duplicates) is exact within a second, and a killed process takes its
last second with it. Counters belong to topics and names of groups, so that none goes down when a subscriber leaves.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geode_client.broker import Broker, GroupStatistics, LatencyHistogram, SubscriberStatistics
from geode_client.client import Client, broker_of
from geode_client.clock import now_us
from geode_client.errors import GeodeError, Unsupported
from geode_client.grammar.names import matches
from geode_client.sync import SyncClient

LOOPBACK = "127.0.0.1"
ANSWER_SECONDS_MAX = 30.0
MEMORY = ":memory:"

TOPIC, GROUP = ("topic",), ("topic", "consumer_group")

Labelled = tuple[tuple[str, ...], Any]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, `counter`, `gauge` or `histogram`, what it says, its labels, and a value for each set of them."""

    name: str
    kind: str
    about: str
    labels: tuple[str, ...]
    values: list[Labelled] = field(default_factory=list)


async def families(broker: Broker, topics: str = "**") -> list[Family]:
    """All metrics of a broker, for the topics that the pattern covers; the consumer group '' is that of no group."""
    return [*await _of_topics(broker, topics), *await _of_groups(broker, topics), *await _of_now(broker, topics)]


def _known(values: Iterable[Labelled]) -> list[Labelled]:
    """The values without those that the backend does not know: they are left out, not shown as 0."""
    return [one for one in values if one[1] is not None]


async def _of_topics(broker: Broker, pattern: str) -> list[Family]:
    found = (await broker.report(["counters"], pattern)).counters

    def counter(name: str, about: str, value: Callable[[Any], int | None]) -> Family:
        return Family(name, "counter", about, TOPIC, _known([((one.topic_name,), value(one)) for one in found]))

    latency = Family(
        "pubsub_message_latency_seconds",
        "histogram",
        "Time from a message being accepted to being handed over",
        TOPIC,
        _known([((one.topic_name,), one.latency) for one in found]),
    )
    removed = Family(
        "pubsub_messages_removed",
        "counter",
        "Messages that left the log: removed by retention or PURGE, or expired",
        ("topic", "reason"),
    )
    for one in found:
        removed.values.extend(_known([((one.topic_name, "retention"), one.removed)]))
        removed.values.extend(_known([((one.topic_name, "expired"), one.expired)]))
    return [
        counter("pubsub_messages_published", "Messages published", lambda one: one.published),
        counter("pubsub_messages_deduplicated", "Publishes whose id was known", lambda one: one.deduplicated),
        removed,
        counter("pubsub_filter_evaluated", "Messages that a filter has looked at", lambda one: one.filter_evaluated),
        counter("pubsub_filter_matched", "Messages that a filter has let pass", lambda one: one.filter_matched),
        counter("pubsub_filter_skipped", "Messages passed over without being read", lambda one: one.filter_skipped),
        latency,
    ]


_TOTALS = (
    ("pubsub_messages_acked", "acknowledged", "Deliveries acknowledged by a group"),
    ("pubsub_messages_nacked", "failed", "Delivery attempts that failed"),
    ("pubsub_messages_redelivered", "redelivered", "Deliveries that were not the first of their message"),
    ("pubsub_messages_filtered", "filtered", "Messages that a group's filter did not want"),
    ("pubsub_messages_expired", "expired", "Messages whose time was over before a group had settled them"),
)


async def _of_groups(broker: Broker, pattern: str) -> list[Family]:
    report = await broker.report(["group_totals", "counters", "dead_letters"], pattern)
    totals = [one for one in report.group_totals if matches(pattern, one.topic_name)]
    consumed: dict[tuple[str, ...], int] = {}
    for counted in report.counters:
        if counted.delivered:
            consumed[counted.topic_name, ""] = counted.delivered
    for one in totals:
        key = (one.topic_name, one.name)
        consumed[key] = consumed.get(key, 0) + one.acknowledged
    made = [
        Family("pubsub_messages_consumed", "counter", "Deliveries that were settled", GROUP, list(consumed.items()))
    ]
    for name, attribute, about in _TOTALS:
        values = _known([((one.topic_name, one.name), getattr(one, attribute)) for one in totals])
        made.append(Family(name, "counter", about, GROUP, values))
    # Letters of one kind may be in several topics.
    dead: Counter[tuple[str, str, str]] = Counter()
    outstanding: Counter[tuple[str, str, str]] = Counter()
    for total in report.dead_letters:
        if matches(pattern, total.topic_name):
            dead[total.topic_name, total.name, total.reason] += total.messages
            outstanding[total.topic_name, total.name, total.reason] += total.outstanding
    about = "Messages that became dead letters, by reason"
    made.append(Family("pubsub_messages_dead_lettered", "counter", about, (*GROUP, "reason"), list(dead.items())))
    about = "Dead letters that were neither replayed nor deleted"
    made.append(
        Family("pubsub_dead_letters_outstanding", "gauge", about, (*GROUP, "reason"), list(outstanding.items()))
    )
    return made


async def _of_now(broker: Broker, pattern: str) -> list[Family]:
    report = await broker.report(["groups", "topics", "subscribers"], pattern)
    groups = [one for one in report.groups if not one.name.startswith("_")]
    topics = report.topics

    def of_group(name: str, about: str, value: Callable[[GroupStatistics], float | None]) -> Family:
        return Family(name, "gauge", about, GROUP, _known([((one.topic_name, one.name), value(one)) for one in groups]))

    def of_topic(name: str, about: str, value: Callable[[Any], float | None]) -> Family:
        return Family(name, "gauge", about, TOPIC, _known([((one.topic.name,), value(one)) for one in topics]))

    lag = of_group("pubsub_consumer_lag_messages", "Messages not settled yet", lambda one: one.pending)
    seconds = of_group("pubsub_consumer_lag_seconds", "Age of the oldest message not settled yet", _lag_seconds)
    for subscriber in _slowest(report.subscribers, pattern):
        labels = (subscriber.topic_name, "")
        lag.values.extend(_known([(labels, subscriber.lag_messages)]))
        seconds.values.extend(_known([(labels, subscriber.lag_seconds)]))
    return [
        lag,
        seconds,
        of_group("pubsub_oldest_unacknowledged_timestamp_seconds", "When the oldest of them was accepted", _oldest),
        of_group("pubsub_messages_in_flight", "Messages in the hands of consumers", lambda one: one.in_flight),
        of_group("pubsub_messages_retrying", "Messages that wait for another attempt", lambda one: one.retrying),
        of_topic("pubsub_subscribers", "Open subscriptions", lambda one: one.subscriber_count),
        of_topic("pubsub_messages_delayed", "Messages that wait for their time", lambda one: one.delayed_messages),
        of_topic("pubsub_messages_retained", "Messages in the log", lambda one: one.messages_retained),
        of_topic("pubsub_stored_bytes", "Bytes of the log", lambda one: one.bytes_stored),
    ]


def _oldest(one: GroupStatistics) -> float | None:
    return None if one.oldest_pending_us is None else one.oldest_pending_us / 1e6


def _lag_seconds(one: GroupStatistics) -> float:
    return 0.0 if one.oldest_pending_us is None else max(0.0, (now_us() - one.oldest_pending_us) / 1e6)


def _slowest(subscribers: Iterable[SubscriberStatistics], pattern: str) -> Iterator[SubscriberStatistics]:
    """Of the subscribers without a group the one that is furthest behind, for each topic or pattern they name."""
    found: dict[str, SubscriberStatistics] = {}
    for one in subscribers:
        if one.consumer_group is None and (pattern == "**" or matches(pattern, one.topic_name)):
            before = found.get(one.topic_name)
            if before is None or (one.lag_messages or 0) > (before.lag_messages or 0):
                found[one.topic_name] = one
    yield from found.values()


class GeodeCollector:
    """A collector for a prometheus_client registry; may be scraped from any thread.

    `target`: a directory, or a Client, whose directory is then observed by a client of the collector's own. A client in
    memory can only be observed through itself: from another thread than that of its event loop.
    """

    def __init__(self, target: "str | Path | Client", *, topics: str = "**") -> None:
        self._topics = topics
        self._lock = threading.Lock()
        self._own: SyncClient | None = None
        self._watched: tuple[Client, asyncio.AbstractEventLoop] | None = None
        self._target = target.target if isinstance(target, Client) else str(target)
        if self._target == MEMORY:
            if not isinstance(target, Client):
                raise GeodeError("a store in memory is seen by its own client only: give that client")
            self._watched = (target, asyncio.get_running_loop())

    def describe(self) -> Iterable[Any]:
        """Nothing: registering reads nothing."""
        return ()

    def collect(self) -> Iterator[Any]:
        """The families of prometheus_client, as of now. Raises GeodeError when the store cannot be read."""
        for family in self.families():
            yield _as_prometheus(family)

    def families(self) -> list[Family]:
        """The metrics as of now."""
        with self._lock:
            if self._watched is not None:
                return self._ask_watched(*self._watched)
            if self._own is None:
                self._own = SyncClient(self._target)
            found: list[Family] = self._own.run(lambda client: _of_client(client, self._topics))
            return found

    def _ask_watched(self, client: Client, loop: asyncio.AbstractEventLoop) -> list[Family]:
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is loop:
            raise GeodeError("a store in memory cannot be scraped from its own event loop: use serve(), or a thread")
        asked = asyncio.run_coroutine_threadsafe(_of_client(client, self._topics), loop)
        return asked.result(ANSWER_SECONDS_MAX)

    def close(self) -> None:
        """Let go of the store. Repeating it does nothing."""
        with self._lock:
            if self._own is not None:
                self._own.close()
                self._own = None


async def _of_client(client: Client, topics: str) -> list[Family]:
    await client.open()
    return await families(broker_of(client), topics)


class Endpoint:
    """An HTTP endpoint that a Prometheus server can scrape; made by `serve`."""

    def __init__(self, collector: GeodeCollector, server: Any, thread: threading.Thread) -> None:
        self._collector = collector
        self._server = server
        self._thread = thread

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/metrics"

    def close(self) -> None:
        """Answer no more, and let go of the store."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._collector.close()


def serve(target: "str | Path | Client", port: int = 0, *, topics: str = "**") -> Endpoint:
    """Serve the metrics of a store on a port of the loopback address (0: any that is free), from a thread."""
    prometheus = _prometheus()
    registry = prometheus.CollectorRegistry()
    collector = GeodeCollector(target, topics=topics)
    registry.register(collector)
    try:
        server, thread = prometheus.start_http_server(port, addr=LOOPBACK, registry=registry)
    except OSError as error:
        raise GeodeError(f"cannot listen on {LOOPBACK}:{port}: {error.strerror or error}") from error
    return Endpoint(collector, server, thread)


def exposition(target: "str | Path | Client", *, topics: str = "**") -> str:
    """The metrics as of now in Prometheus' text format."""
    prometheus = _prometheus()
    registry = prometheus.CollectorRegistry()
    collector = GeodeCollector(target, topics=topics)
    registry.register(collector)
    try:
        text: bytes = prometheus.generate_latest(registry)
        return text.decode()
    finally:
        collector.close()


def _prometheus() -> Any:
    try:
        import prometheus_client
    except ImportError:
        raise Unsupported(
            "metrics without the package prometheus-client (pip install 'geode-client[metrics]')", "this installation"
        ) from None
    return prometheus_client


def _as_prometheus(family: Family) -> Any:
    _prometheus()
    from prometheus_client import core

    match family.kind:
        case "counter":
            made: Any = core.CounterMetricFamily(family.name, family.about, labels=family.labels)
        case "gauge":
            made = core.GaugeMetricFamily(family.name, family.about, labels=family.labels)
        case _:
            made = core.HistogramMetricFamily(family.name, family.about, labels=family.labels)
    for labels, value in family.values:
        if isinstance(value, LatencyHistogram):
            made.add_metric(labels, _buckets(value), value.sum_seconds)
        else:
            made.add_metric(labels, value)
    return made


def _buckets(histogram: LatencyHistogram) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as the format wants them."""
    found, total = [], 0
    for bound, count in zip((*histogram.bounds_seconds, None), histogram.counts, strict=True):
        total += count
        found.append(("+Inf" if bound is None else repr(float(bound)), float(total)))
    return found
