"""`geode top`: a live screen of topics, groups and subscribers.

A look at the store gives a `Picture`; pure functions make lines of it (`lines_of`), and a full-screen application draws them
and listens to keys. `--once` and the picture for the documentation use the same lines.
"""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from geode_client.broker import Broker, GroupStatistics, Section, SubscriberStatistics, TopicStatistics, TrafficSeries
from geode_client.client import Client, broker_of
from geode_client.clock import now_us
from geode_client.errors import GeodeError, did_you_mean
from geode_client.query.result import Result
from geode_client.repl.render import Format, output_for, safe
from geode_client.repl.tables import console_on
from geode_client.units import format_size

SPARK_SECONDS = 300
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 30
ROWS_MAX = 2_000


Rates = tuple[float | None, float | None]
"""Messages published and consumed a second; None where the backend does not count them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What one look has found; `rates` of publishing and consuming a second by topic, measured since the look before."""

    at: float
    target: str
    topics: Sequence[TopicStatistics]
    groups: Sequence[GroupStatistics]
    subscribers: Sequence[SubscriberStatistics]
    series: Mapping[str, TrafficSeries]
    redelivered: Mapping[str, int]
    dead_letters: Mapping[str, int]
    rates: Mapping[str, "Rates"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a screen: its heading, its value for a row (what is sorted by), and how that is written."""

    name: str
    value: Callable[[Any, Picture], Any]
    shown: Callable[[Any], str] = str
    right: bool = True


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,.0f}"


def _rate(value: Any) -> str:
    return "" if not value else f"{value:,.0f}" if value >= 10 else f"{value:,.1f}"


def _seconds(value: Any) -> str:
    if not value:
        return ""
    if value < 60:
        return f"{value:.1f}s"
    minutes = int(value) // 60
    return f"{minutes}m" if minutes < 120 else f"{minutes // 60}h" if minutes < 2880 else f"{minutes // 1440}d"


def _bytes(value: Any) -> str:
    if value is None:
        return ""
    return format_size(int(value)) if value < 1024 else _rounded_size(float(value))


def _rounded_size(value: float) -> str:
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024 or unit == "TiB":
            break
    return f"{value:,.1f} {unit}"


def _percent(value: Any) -> str:
    return "" if not value else f"{value:.1%}"


def _group_lag_seconds(one: GroupStatistics) -> float:
    return 0.0 if one.oldest_pending_us is None else max(0.0, (now_us() - one.oldest_pending_us) / 1e6)


def _lag_seconds_of_topic(one: TopicStatistics, picture: Picture) -> float:
    groups = [_group_lag_seconds(group) for group in picture.groups if group.topic_name == one.topic.name]
    readers = [s for s in picture.subscribers if s.topic_name == one.topic.name and s.consumer_group is None]
    known = [reader.lag_seconds for reader in readers if reader.lag_seconds is not None]
    return max((*groups, *known), default=0.0)


def _in_flight_of_topic(one: TopicStatistics, picture: Picture) -> int:
    return sum(group.in_flight for group in picture.groups if group.topic_name == one.topic.name)


def _published_rate(one: TopicStatistics, picture: Picture) -> float | None:
    return picture.rates.get(one.topic.name, (one.publish_rate, one.consume_rate))[0]


def _consumed_rate(one: TopicStatistics, picture: Picture) -> float | None:
    return picture.rates.get(one.topic.name, (one.publish_rate, one.consume_rate))[1]


TOPIC_COLUMNS = (
    Column("topic", lambda one, _: one.topic.name, safe, right=False),
    Column("in/s", _published_rate, _rate),
    Column("out/s", _consumed_rate, _rate),
    Column("lag", lambda one, _: one.pending_messages, _number),
    Column("lag time", _lag_seconds_of_topic, _seconds),
    Column("in flight", _in_flight_of_topic, _number),
    Column("redelivered", lambda one, p: p.redelivered.get(one.topic.name, 0), _number),
    Column("dead", lambda one, p: p.dead_letters.get(one.topic.name, 0), _number),
    Column("errors", lambda one, _: one.error_rate, _percent),
    Column("subs", lambda one, _: one.subscriber_count, _number),
    Column("messages", lambda one, _: one.messages_retained, _number),
    Column("disk", lambda one, _: one.bytes_stored, _bytes),
)
GROUP_COLUMNS = (
    Column("group", lambda one, _: one.name, safe, right=False),
    Column("topic", lambda one, _: one.topic_name, safe, right=False),
    Column("lag", lambda one, _: one.pending, _number),
    Column("lag time", lambda one, _: _group_lag_seconds(one), _seconds),
    Column("in flight", lambda one, _: one.in_flight, _number),
    Column("retrying", lambda one, _: one.retrying, _number),
    Column("acked", lambda one, _: one.acknowledged, _number),
    Column("filtered", lambda one, _: one.filtered, _number),
    Column("dead", lambda one, _: one.dead_lettered, _number),
    Column("expired", lambda one, _: one.expired, _number),
    Column(
        "state",
        lambda one, _: "paused" if one.paused else one.order_by if one.order_by != "none" else "",
        str,
        right=False,
    ),
)
SUBSCRIBER_COLUMNS = (
    Column("subscriber", lambda one, _: one.consumer_id or one.subscriber_id, safe, right=False),
    Column("topic", lambda one, _: one.topic_name, safe, right=False),
    Column("group", lambda one, _: one.consumer_group or "", safe, right=False),
    Column("lag", lambda one, _: one.lag_messages, _number),
    Column("lag time", lambda one, _: one.lag_seconds, _seconds),
    Column("in flight", lambda one, _: one.in_flight, _number),
    Column("delivered", lambda one, _: one.messages_delivered, _number),
    Column("redelivered", lambda one, _: one.redelivered, _number),
    Column("process", lambda one, _: one.process_id, lambda value: "" if value is None else str(value)),
    Column("filter", lambda one, _: one.filter or "", safe, right=False),
)
SCREENS: Mapping[str, tuple[Column, ...]] = {
    "topics": TOPIC_COLUMNS,
    "groups": GROUP_COLUMNS,
    "subscribers": SUBSCRIBER_COLUMNS,
}


# ── looking ──
_SECTIONS: tuple[Section, ...] = ("topics", "groups", "subscribers", "group_totals", "dead_letters", "traffic_series")


async def look(broker: Broker, pattern: str, before: Picture | None = None) -> Picture:
    """One look at the store; with the picture before it the rates are those since then."""
    now = time.monotonic()
    found = await broker.report(_SECTIONS, pattern, window_seconds=SPARK_SECONDS)
    topics = found.topics
    redelivered: dict[str, int] = {}
    dead: dict[str, int] = {}
    for total in found.group_totals:
        if total.redelivered is not None:
            redelivered[total.topic_name] = redelivered.get(total.topic_name, 0) + total.redelivered
    for letters in found.dead_letters:
        dead[letters.topic_name] = dead.get(letters.topic_name, 0) + letters.messages
    return Picture(
        at=now,
        target=broker.target,
        topics=topics[:ROWS_MAX],
        groups=[one for one in found.groups if not one.name.startswith("_")][:ROWS_MAX],
        subscribers=found.subscribers[:ROWS_MAX],
        series={one.topic_name: one for one in found.traffic_series},
        redelivered=redelivered,
        dead_letters=dead,
        rates={} if before is None else _rates(before, topics, now),
    )


def _rates(before: Picture, topics: Sequence[TopicStatistics], now: float) -> dict[str, Rates]:
    seconds = max(0.001, now - before.at)
    known = {one.topic.name: one for one in before.topics}
    return {
        one.topic.name: (
            _rate_between(known[one.topic.name].messages_published, one.messages_published, seconds),
            _rate_between(known[one.topic.name].messages_consumed, one.messages_consumed, seconds),
        )
        for one in topics
        if one.topic.name in known
    }


def _rate_between(before: int | None, now: int | None, seconds: float) -> float | None:
    return None if before is None or now is None else max(0, now - before) / seconds


# ── showing ──
def sparkline(values: Iterable[float], width: int = SPARK_WIDTH) -> str:
    """The values as a line of small bars, the last ones where there are more than fit; nothing where all are 0."""
    kept = list(values)[-width:]
    largest = max(kept, default=0.0)
    if largest <= 0:
        return ""
    return "".join(" " if value <= 0 else SPARKS[min(7, int(value / largest * 7.999))] for value in kept)


def rows_of(picture: Picture, screen: str, sort: str | None, *, descending: bool | None = None) -> list[Any]:
    """The rows of a screen in the order of a column: numbers from the largest, names from the first."""
    columns = SCREENS[screen]
    rows: Sequence[Any] = getattr(picture, screen)
    column = next((one for one in columns if one.name == sort), columns[0])
    down = column.right if descending is None else descending

    def place(row: Any) -> tuple[bool, Any]:
        value = column.value(row, picture)
        return value is not None, 0 if value is None else value

    return sorted(rows, key=place, reverse=down)


def check_column(name: str | None) -> None:
    """Raise GeodeError where no screen has such a column."""
    known = dict.fromkeys(column.name for columns in SCREENS.values() for column in columns)
    if name is not None and name not in known:
        raise GeodeError(f"there is no column {name}: {did_you_mean(name, known) or 'there are ' + ', '.join(known)}")


def head_of(picture: Picture) -> Text:
    """The line above the tables: where, how much, how fast."""
    incoming = sum(_published_rate(one, picture) or 0 for one in picture.topics)
    outgoing = sum(_consumed_rate(one, picture) or 0 for one in picture.topics)
    stored = sum(one.bytes_stored or 0 for one in picture.topics)
    text = Text("geode top ", style="bold cyan").append(safe(picture.target), style="bold")
    numbers = (
        f"  {len(picture.topics):,} topics · {len(picture.groups):,} groups · {len(picture.subscribers):,} subscribers"
    )
    return text.append(f"{numbers} · {incoming:,.0f} in/s · {outgoing:,.0f} out/s · {_bytes(stored)}", style="default")


def table_of(
    picture: Picture,
    screen: str,
    sort: str | None,
    *,
    first: int = 0,
    limit: int = ROWS_MAX,
    descending: bool | None = None,
) -> Table:
    """One screen as a table; of the topics with the traffic of the last minutes as a line of bars."""
    columns = SCREENS[screen]
    table = Table(box=box.SIMPLE_HEAD, expand=False, pad_edge=False, show_edge=False)
    sorted_by = sort if any(column.name == sort for column in columns) else columns[0].name
    for column in columns:
        heading = Text(column.name, style="bold reverse" if column.name == sorted_by else "bold")
        table.add_column(heading, justify="right" if column.right else "left", no_wrap=True, overflow="ellipsis")
    if screen == "topics":
        table.add_column(Text(f"in, last {SPARK_SECONDS // 60} min", style="bold"), no_wrap=True)
    for row in rows_of(picture, screen, sort, descending=descending)[first : first + limit]:
        cells = [
            Text(column.shown(column.value(row, picture)), style=_style(column.name, column.value(row, picture)))
            for column in columns
        ]
        if screen == "topics":
            found = picture.series.get(row.topic.name)
            cells.append(Text(sparkline(found.published) if found else "", style="green"))
        table.add_row(*cells)
    return table


_ALARMS = {"lag": 10_000, "dead": 1, "errors": 0.01}


def _style(name: str, value: Any) -> str:
    if name in _ALARMS and value is not None and value >= _ALARMS[name]:
        return "bold red"
    if name in ("topic", "group", "subscriber"):
        return "cyan"
    return "yellow" if name in ("redelivered", "retrying", "state") and value else "default"


def snapshot(picture: Picture, sort: str | None) -> Group:
    """All screens below each other."""
    parts: list[Any] = [head_of(picture)]
    for screen in SCREENS:
        if getattr(picture, screen):
            parts += [Text(""), table_of(picture, screen, sort)]
    return Group(*parts)


async def print_once(client: Client, pattern: str, sort: str | None, kind: str) -> None:
    """Print one look: tables for people, rows for programs."""
    check_column(sort)
    picture = await look(broker_of(client), pattern)
    if kind == Format.TABLE:
        console = console_on(sys.stdout)
        if not sys.stdout.isatty():
            console.width = 240
        console.print(snapshot(picture, sort))
        return
    output = output_for(Format(kind))
    for screen, columns in SCREENS.items():
        rows = [
            (screen.removesuffix("s"), *[column.value(row, picture) for column in columns])
            for row in rows_of(picture, screen, sort)
        ]
        if rows:
            output.result(Result(("kind", *[column.name.replace(" ", "_") for column in columns]), rows))


async def run(client: Client, pattern: str, sort: str | None, interval: float) -> None:
    """Show the live screen until its user leaves it."""
    from geode_client.repl.top_screen import TopScreen

    check_column(sort)
    await TopScreen(client, pattern, sort, interval).run()
