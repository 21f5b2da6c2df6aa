"""How many messages went through each topic lately, over all processes: what rates are computed from.

Tables of the presence file. Times are by the clock since boot, which no step of the wall clock moves; what was counted
before the machine was started is removed.

| table | a row | kept |
| --- | --- | --- |
| `recent` | what one process counted between two of its reports | KEPT_SECONDS[0], for short windows |
| `traffic` | SLOT_SECONDS of a topic, all processes together | KEPT_SECONDS[1] |
| `traffic_long` | LONG_SLOT_SECONDS of a topic, all processes together | KEPT_SECONDS[2] |
| `reporters` | until when an open process has reported | until it is closed |

A window rarely begins where a row does: of the row at its edge it takes the part that lies inside. A process reports once a
second, so the window of another process ends where its reports do, and not now.
"""

from collections.abc import Mapping
from typing import Any

import apsw
import msgspec

from geode_client.clock import boot_id

SLOT_SECONDS = 5
LONG_SLOT_SECONDS = 300
KEPT_SECONDS = (75, 3600, 31 * 86_400)
SHORT_WINDOW_SECONDS = 60
"""Windows below this are answered from `recent`."""
REPORT_LAG_US = 1_200_000
"""What an open process has not reported after this time did not happen."""

TABLES = """
CREATE TABLE IF NOT EXISTS presence_state (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS recent (
    to_us INTEGER NOT NULL,
    topic_id INTEGER NOT NULL,
    process TEXT NOT NULL,
    from_us INTEGER NOT NULL,
    published INTEGER NOT NULL,
    consumed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    PRIMARY KEY (to_us, topic_id, process)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reporters (process TEXT PRIMARY KEY, reported_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS traffic (
    topic_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    published INTEGER NOT NULL,
    consumed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    PRIMARY KEY (topic_id, slot)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS traffic_by_slot ON traffic (slot);
CREATE TABLE IF NOT EXISTS traffic_long (
    topic_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    published INTEGER NOT NULL,
    consumed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    PRIMARY KEY (topic_id, slot)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS traffic_long_by_slot ON traffic_long (slot);
"""
COUNTED = ("recent", "traffic", "traffic_long")

_ADD = (
    "INSERT INTO {table} (topic_id, slot, published, consumed, failed) {rows} ON CONFLICT DO UPDATE SET"
    " published = published + excluded.published, consumed = consumed + excluded.consumed, failed = failed + excluded.failed"
)
_ADD_SLOT = _ADD.format(table="traffic", rows="VALUES (?, ?, ?, ?, ?)")
_ROLL_UP = _ADD.format(
    table="traffic_long",
    rows="SELECT topic_id, slot / ?2, sum(published), sum(consumed), sum(failed) FROM traffic WHERE slot < ?1 GROUP BY 1, 2",
)


class Traffic(msgspec.Struct):
    """Messages of one topic, counted from `since_us` on; `settled` are the deliveries of groups, which the store counts."""

    published: float = 0
    consumed: float = 0
    settled: float = 0
    failed: float = 0
    since_us: int = 0

    def add(self, part: float, published: float, consumed: float, failed: float) -> None:
        self.published += part * published
        self.consumed += part * consumed
        self.failed += part * failed


def forget_earlier_boots(connection: apsw.Connection) -> None:
    """Remove what was counted before the machine was started: its clock has begun anew. The caller is in a transaction."""
    boot = boot_id()
    known = connection.execute("SELECT value FROM presence_state WHERE name = 'boot_id'").fetchall()
    if known != [(boot,)]:
        for table in (*COUNTED, "reporters"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("INSERT OR REPLACE INTO presence_state VALUES ('boot_id', ?)", (boot,))


def report(connection: apsw.Connection, process: str, traffic: Mapping[int, Traffic], now_us: int) -> None:
    """Add what a process has counted since its last report, by topic id. The caller is in a transaction."""
    rows = [(topic_id, t.published, t.consumed + t.settled, t.failed, t.since_us) for topic_id, t in traffic.items()]
    connection.execute("INSERT OR REPLACE INTO reporters VALUES (?, ?)", (process, now_us))
    connection.executemany(
        "INSERT OR REPLACE INTO recent VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(now_us, topic_id, process, since_us, *counts) for topic_id, *counts, since_us in rows],
    )
    slot = now_us // (SLOT_SECONDS * 1_000_000)
    connection.executemany(_ADD_SLOT, [(topic_id, slot, *counts) for topic_id, *counts, _ in rows])
    connection.execute("DELETE FROM recent WHERE to_us < ?", (now_us - KEPT_SECONDS[0] * 1_000_000,))
    oldest = slot - KEPT_SECONDS[1] // SLOT_SECONDS
    if connection.execute("SELECT 1 FROM traffic WHERE slot < ? LIMIT 1", (oldest,)).fetchall():
        connection.execute(_ROLL_UP, (oldest, LONG_SLOT_SECONDS // SLOT_SECONDS))
        connection.execute("DELETE FROM traffic WHERE slot < ?", (oldest,))
        longest = (now_us // 1_000_000 - KEPT_SECONDS[2]) // LONG_SLOT_SECONDS
        connection.execute("DELETE FROM traffic_long WHERE slot < ?", (longest,))


def over(
    connection: apsw.Connection, process: str, now_us: int, window_seconds: float, topic_id: int | None = None
) -> dict[int, Traffic]:
    """By topic id (or for one topic) what was counted in the last `window_seconds`, as seen by `process`."""
    found: dict[int, Traffic] = {}
    window_us = int(window_seconds * 1_000_000)
    if window_seconds < SHORT_WINDOW_SECONDS:
        rows = _recent_parts(connection, process, now_us, window_us, topic_id)
    else:
        rows = _slot_parts(connection, "traffic", SLOT_SECONDS, now_us - window_us, topic_id)
        if window_seconds > KEPT_SECONDS[1]:
            rows += _slot_parts(connection, "traffic_long", LONG_SLOT_SECONDS, now_us - window_us, topic_id)
    for topic, part, published, consumed, failed in rows:
        found.setdefault(topic, Traffic()).add(part, published, consumed, failed)
    return found


def _slot_parts(
    connection: apsw.Connection, table: str, slot_seconds: int, start_us: int, topic_id: int | None
) -> list[tuple[Any, ...]]:
    """Topic id, which part of a slot lies after the start, and its counts; full slots of a topic together."""
    first, inside_us = divmod(start_us, slot_seconds * 1_000_000)
    part = 1 - inside_us / (slot_seconds * 1_000_000)
    sql = (
        "SELECT topic_id, CASE WHEN slot = ?1 THEN ?2 ELSE 1.0 END AS part, sum(published), sum(consumed), sum(failed)"
        f" FROM {table} WHERE slot >= ?1 AND (?3 IS NULL OR topic_id = ?3) GROUP BY topic_id, part"
    )
    return connection.execute(sql, (first, part, topic_id)).fetchall()


def _recent_parts(
    connection: apsw.Connection, process: str, now_us: int, window_us: int, topic_id: int | None
) -> list[tuple[Any, ...]]:
    """The same for the intervals between reports."""
    ends = {
        name: now_us if name == process else max(reported_us, now_us - REPORT_LAG_US)
        for name, reported_us in connection.execute("SELECT process, reported_us FROM reporters")
    }
    sql = (
        "SELECT topic_id, process, from_us, to_us, published, consumed, failed FROM recent"
        " WHERE to_us > ?1 AND (?2 IS NULL OR topic_id = ?2)"
    )
    rows: list[tuple[Any, ...]] = connection.execute(sql, (now_us - window_us - REPORT_LAG_US, topic_id)).fetchall()
    return [
        (topic, _part_inside(from_us, to_us, ends.get(name, now_us), window_us), *counts)
        for topic, name, from_us, to_us, *counts in rows
    ]


def _part_inside(from_us: int, to_us: int, end_us: int, window_us: int) -> float:
    """Which part of an interval lies in the window that ends at `end_us`."""
    start_us = end_us - window_us
    if to_us <= from_us:
        return float(start_us < to_us <= end_us)
    return max(0, min(to_us, end_us) - max(from_us, start_us)) / (to_us - from_us)
