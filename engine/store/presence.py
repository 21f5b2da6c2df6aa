"""Who is here: processes, their subscribers and positions, and the traffic of the last minutes.

A second SQLite file beside the store, written without waiting for the disk: nothing in it must survive a power loss, and
a file that cannot be read is thrown away and made anew. Rows of processes whose wake pipe is closed are removed by
whoever looks.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

from geode_client.errors import StoreError, SubscriberLimitReached
from geode_client.grammar.names import matches
from geode_client.store import traffic as counted
from geode_client.store import wake
from geode_client.store.traffic import SLOT_SECONDS, Traffic

BUSY_TIMEOUT_MILLISECONDS = 5_000

_TABLES = """
CREATE TABLE IF NOT EXISTS subscribers (
    subscriber_id TEXT PRIMARY KEY,
    process TEXT NOT NULL,
    process_id INTEGER NOT NULL,
    pattern TEXT NOT NULL,
    consumer_group TEXT,
    consumer_id TEXT,
    group_id INTEGER,
    filter TEXT,
    started_us INTEGER NOT NULL,
    position INTEGER NOT NULL,
    delivered INTEGER NOT NULL DEFAULT 0,
    last_message_us INTEGER,
    in_flight INTEGER NOT NULL DEFAULT 0,
    redelivered INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS subscribers_by_pattern ON subscribers (pattern);
CREATE TABLE IF NOT EXISTS counters (
    topic_id INTEGER NOT NULL,
    counter TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (topic_id, counter)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumed (topic_id INTEGER PRIMARY KEY, messages INTEGER NOT NULL);
"""


class SubscriberRow(msgspec.Struct, frozen=True):
    """One open subscription of any process; `position` is the batch id through which it has delivered."""

    subscriber_id: str
    process: str
    process_id: int
    pattern: str
    consumer_group: str | None
    consumer_id: str | None
    group_id: int | None
    filter: str | None
    started_us: int
    position: int
    delivered: int = 0
    last_message_us: int | None = None
    in_flight: int = 0
    redelivered: int = 0


_FIELDS = SubscriberRow.__struct_fields__
_COLUMNS = ", ".join(_FIELDS)


class Presence:
    """One client's end of the presence file; `directory` None keeps it in memory for a private store."""

    def __init__(self, directory: Path | None, process: str) -> None:
        self._directory = directory
        self._process = process
        self._connection = _open(directory)

    @property
    def process(self) -> str:
        return self._process

    def add(self, subscriber: SubscriberRow, limits: Mapping[str, int]) -> None:
        """Enter a subscriber; `limits` are the topics it covers that take only so many subscribers.

        Raises SubscriberLimitReached when one of them has as many living ones already.
        """
        self.check(limits, remove_dead=True)
        row = [getattr(subscriber, name) for name in _FIELDS]
        with self._transaction():
            self.check(limits)
            sql = f"INSERT INTO subscribers ({_COLUMNS}) VALUES ({', '.join('?' * len(row))})"
            self._connection.execute(sql, row)

    def check(self, limits: Mapping[str, int], *, remove_dead: bool = False) -> None:
        """Raise SubscriberLimitReached when a topic has as many subscribers as it takes."""
        if limits and remove_dead:
            self._remove_dead()
        for topic, limit in limits.items():
            if self._count(topic) >= limit:
                raise SubscriberLimitReached(topic, limit)

    def _count(self, topic: str) -> int:
        """Subscribers of a topic: those that name it, and those whose pattern covers it."""
        sql = "SELECT count(*) FROM subscribers WHERE pattern = ?"
        named: int = self._rows(sql, (topic,))[0][0]
        sql = "SELECT pattern, count(*) FROM subscribers WHERE instr(pattern, '*') GROUP BY pattern"
        wild = self._rows(sql)
        covering: int = sum(count for pattern, count in wild if matches(pattern, topic))
        return named + covering

    def remove(self, subscriber_id: str) -> None:
        self._rows("DELETE FROM subscribers WHERE subscriber_id = ?", (subscriber_id,))

    def report(
        self,
        positions: Iterable[tuple[int, int, int | None, int, int, str]],
        traffic: dict[int, Traffic],
        counters: Mapping[tuple[int, str], int],
        now_us: int,
    ) -> None:
        """Write down how far subscribers have come (position, delivered, time of the last message, in flight, redelivered, id) and
        add traffic and counters (by topic id and name). `now_us` is by the clock since boot."""
        with self._transaction():
            self._connection.executemany(
                "UPDATE subscribers SET position = ?, delivered = ?, last_message_us = ?, in_flight = ?, redelivered = ?"
                " WHERE subscriber_id = ?",
                positions,
            )
            counted.report(self._connection, self._process, traffic, now_us)
            self._connection.executemany(
                "INSERT INTO consumed VALUES (?, ?) ON CONFLICT DO UPDATE SET messages = messages + excluded.messages",
                [(topic, t.consumed) for topic, t in traffic.items() if t.consumed],
            )
            self._connection.executemany(
                "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                [(topic, counter, value) for (topic, counter), value in counters.items()],
            )

    def subscribers(self) -> list[SubscriberRow]:
        """All subscribers of living processes."""
        self._remove_dead()
        return [SubscriberRow(*row) for row in self._rows(f"SELECT {_COLUMNS} FROM subscribers")]

    def consumed(self) -> dict[int, int]:
        """Messages handed over to subscribers without a group, by topic id, since the presence file was made."""
        return dict(self._rows("SELECT topic_id, messages FROM consumed"))

    def forget_counts(self, topic_ids: Iterable[int]) -> None:
        """Remove what was counted of topics that are gone."""
        with self._transaction():
            for table in ("consumed", "counters", *counted.COUNTED):
                sql = f"DELETE FROM {table} WHERE topic_id = ?"
                self._connection.executemany(sql, [(topic_id,) for topic_id in topic_ids])

    def counters(self) -> dict[tuple[int, str], int]:
        """All counters by topic id and name, since the presence file was made."""
        return {(row[0], row[1]): row[2] for row in self._rows("SELECT topic_id, counter, value FROM counters")}

    def traffic_slots(self, now_us: int, window_seconds: int) -> dict[int, list[Traffic]]:
        """By topic id the traffic of the last slots of SLOT_SECONDS, oldest first; the one that is not over comes last.

        `now_us` is by the clock since boot.
        """
        last = now_us // (SLOT_SECONDS * 1_000_000)
        slots = max(1, window_seconds // SLOT_SECONDS)
        found: dict[int, list[Traffic]] = {}
        sql = "SELECT topic_id, slot, published, consumed, failed FROM traffic WHERE slot > ? AND slot <= ?"
        for topic_id, slot, published, consumed, failed in self._rows(sql, (last - slots, last)):
            series = found.setdefault(topic_id, [Traffic() for _ in range(slots)])
            series[slot - last + slots - 1] = Traffic(published, consumed, failed=failed)
        return found

    def traffic(self, now_us: int, window_seconds: float, topic_id: int | None = None) -> dict[int, Traffic]:
        """By topic id (or for one topic) what was counted over the last seconds; `now_us` is by the clock since boot."""
        try:
            return counted.over(self._connection, self._process, now_us, window_seconds, topic_id)
        except apsw.Error as error:
            raise self._explained(error) from error

    def close(self) -> None:
        with contextlib.suppress(apsw.Error):
            for table in ("subscribers", "reporters"):
                self._connection.execute(f"DELETE FROM {table} WHERE process = ?", (self._process,))
        self._connection.close()

    def _rows(self, sql: str, bindings: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._connection.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise self._explained(error) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._connection:
                yield
        except apsw.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: apsw.Error) -> StoreError:
        path = f"{self._directory or 'memory'}/presence.db"
        if isinstance(error, apsw.NotADBError | apsw.CorruptError):
            return StoreError(
                f"{path} is damaged ({error}): nothing in it must survive; close all clients of this store, and the next"
                " one that is opened makes it anew"
            )
        return StoreError(f"{path}: {error}")

    def _remove_dead(self) -> None:
        if self._directory is None:
            return
        for (process,) in self._rows("SELECT DISTINCT process FROM subscribers"):
            if process != self._process and not wake.alive(self._directory / "wake", process):
                self._rows("DELETE FROM subscribers WHERE process = ?", (process,))
                self._rows("DELETE FROM reporters WHERE process = ?", (process,))


def _open(directory: Path | None) -> apsw.Connection:
    path = ":memory:" if directory is None else str(directory / "presence.db")
    for attempt in range(2):
        try:
            return _connect(path)
        except (apsw.NotADBError, apsw.CorruptError) as error:
            if attempt or directory is None:
                raise StoreError(f"{path} cannot be read ({error}) nor made anew") from error
            for suffix in ("", "-wal", "-shm"):
                (directory / f"presence.db{suffix}").unlink(missing_ok=True)
        except apsw.Error as error:
            raise StoreError(f"cannot open {path}: {error}") from error
    raise AssertionError("unreachable")


def _connect(path: str) -> apsw.Connection:
    if path != ":memory:":
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection = apsw.Connection(path)
    connection.set_busy_timeout(BUSY_TIMEOUT_MILLISECONDS)
    connection.transaction_mode = "IMMEDIATE"  # what is read first is still so when it is written
    if path != ":memory:":
        connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "normal")
    connection.execute(_TABLES + counted.TABLES)
    with connection:
        counted.forget_earlier_boots(connection)
    return connection
