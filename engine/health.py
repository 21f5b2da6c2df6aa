"""Whether a store's topics are healthy: consumer lag, error rate and throughput against thresholds.

The thresholds are those of the specification: more than 10,000 messages of lag, more than 1 % of failed deliveries over five
minutes, fewer than 100 messages a second over the last minute.
"""

from dataclasses import dataclass

from geode_client.broker import Broker
from geode_client.errors import GroupNotFound
from geode_client.grammar.names import is_pattern

LAG_MESSAGES_MAX = 10_000
ERROR_RATE_MAX = 0.01
THROUGHPUT_MIN = 100.0
ERROR_WINDOW_SECONDS = 300.0
THROUGHPUT_WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One measurement against its limit.

    Attributes:
        check: What was measured: `'lag'`, `'error rate'` or `'throughput'`.
        topic: The topic.
        group: The group, for `'lag'`; else None.
        value: Messages, a fraction from 0 to 1, or messages per second.
        limit: The limit, in the same unit.
        ok: Whether the value is within its limit.
    """

    check: str
    topic: str
    group: str | None
    value: float
    limit: float
    ok: bool

    def __str__(self) -> str:
        place = self.topic if self.group is None else f"{self.topic}, group {self.group}"
        match self.check:
            case "lag":
                text = f"High consumer lag: {self.value:,.0f} messages" if not self.ok else f"lag {self.value:,.0f}"
            case "error rate":
                text = f"{'error' if self.ok else 'High error'} rate: {self.value:.2%}"
            case _:
                text = f"{'throughput' if self.ok else 'Low throughput'}: {self.value:,.1f} messages a second"
        return f"{place}: {text}"


@dataclass(frozen=True, slots=True)
class Health:
    """All checks that were made; true if none of them failed.

    Attributes:
        checks: The checks.
    """

    checks: tuple[HealthCheck, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.ok for check in self.checks)

    @property
    def alerts(self) -> tuple[HealthCheck, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.ok)

    def __bool__(self) -> bool:
        return self.ok


async def health_of(
    broker: Broker,
    topic: str = "**",
    group: str | None = None,
    *,
    lag_max: int = LAG_MESSAGES_MAX,
    error_rate_max: float = ERROR_RATE_MAX,
    throughput_min: float | None = None,
) -> Health:
    """Check the topics that a name or pattern covers, and the groups on them (or the one that is named).

    `throughput_min` None: the specification's for a topic that is named, none for a pattern, under which idle topics are
    nothing unusual. Raises TopicNotFound and GroupNotFound for what is named and is not there.
    """
    if not is_pattern(topic):
        await broker.topic(topic)
        throughput_min = THROUGHPUT_MIN if throughput_min is None else throughput_min
    checks = await _lags(broker, topic, group, lag_max)
    for found in await broker.topics(topic):
        rate = (await traffic_of(broker, found.name, ERROR_WINDOW_SECONDS)).error_rate
        if rate is not None:
            checks.append(HealthCheck("error rate", found.name, None, rate, error_rate_max, rate <= error_rate_max))
        if throughput_min is not None:
            value = (await traffic_of(broker, found.name, THROUGHPUT_WINDOW_SECONDS)).throughput
            if value is not None:
                ok = value >= throughput_min
                checks.append(HealthCheck("throughput", found.name, None, value, throughput_min, ok))
    return Health(tuple(checks))


@dataclass(frozen=True, slots=True)
class TrafficFigures:
    """Rates of one topic over a window; None where the backend does not count what they are made of."""

    throughput: float | None
    error_rate: float | None


async def traffic_of(broker: Broker, topic: str, window_seconds: float) -> TrafficFigures:
    """Messages published a second, and failed deliveries as a fraction of all. Raises TopicNotFound."""
    await broker.topic(topic)
    (found,) = (await broker.report(["traffic"], topic, window_seconds=window_seconds)).traffic
    throughput = None if found.published is None else found.published / window_seconds
    if found.consumed is None or found.failed is None:
        return TrafficFigures(throughput, None)
    deliveries = found.consumed + found.failed
    return TrafficFigures(throughput, found.failed / deliveries if deliveries else 0.0)


async def _lags(broker: Broker, topic: str, group: str | None, lag_max: int) -> list[HealthCheck]:
    everyone = [one for one in (await broker.report(["groups"], topic)).groups if not one.name.startswith("_")]
    groups = [one for one in everyone if group is None or one.name == group]
    if group is not None and not groups:
        raise GroupNotFound(group, topic, [one.name for one in everyone])
    return [
        HealthCheck("lag", one.topic_name, one.name, one.pending, lag_max, one.pending <= lag_max) for one in groups
    ]
