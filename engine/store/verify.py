"""Verifying a store: that every batch is what was written, that the logs have no holes, and that no message of a group is
lost or counted twice.

Everything is read in one read transaction, so that the numbers belong together while others go on writing. Nothing is
changed. What is checked:

| check | what must hold |
| --- | --- |
| file | SQLite's own integrity check |
| checksum | each batch unpacks and its checksum is right; it holds as many messages as it says |
| delayed | messages that wait for their time: the same |
| offsets | the batches of a partition neither overlap nor reach beyond its end |
| counts | stored + removed + expired = ever published, for each partition |
| bytes | the sizes of a partition's batches add up to what it says |
| ids | a message id that is remembered names a place that the partition has given out |
| times | the highest timestamp so far of a partition never descends |
| conservation | docs/delivery.md, for each group, topic and partition |
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geode_client.delivery.lanes import KEY, PLAIN
from geode_client.errors import CorruptData, StoreError
from geode_client.routing import slot_of
from geode_client.store import database as files
from geode_client.store import delays
from geode_client.store.batch import READ_COLUMNS, unpack, unpack_attributes

ROWS_AT_ONCE = 64
PROBLEMS_MAX = 1_000

# The last ones: values of another kind than were ever written.
_UNREADABLE = (CorruptData, TypeError, ValueError, OverflowError, struct.error)

Progress = Callable[[int, int], None]
"""Batches done, batches in all."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it must be: which check, where, and what was found."""

    check: str
    place: str
    found: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, and what is wrong; `problems` holds at most PROBLEMS_MAX."""

    topics: int
    batches: int
    messages: int
    bytes_stored: int
    groups: int
    problems: tuple[Problem, ...]


def verify(directory: Path, progress: Progress | None = None) -> Report:
    """Verify the store in a directory. Raises StoreError or CorruptData when it cannot be read at all."""
    if not (directory / "geode.db").exists():
        raise StoreError(f"there is no store in {directory}")
    database = files.open_writer(files.Layout(directory.absolute()))
    try:
        database.connection.execute("PRAGMA query_only = ON; BEGIN")
        return _Verification(database, progress).run()
    finally:
        database.close()


class _Verification:
    def __init__(self, database: files.Database, progress: Progress | None) -> None:
        self._database = database
        self._progress = progress
        self._problems: list[Problem] = []
        self._names = dict(database.rows("SELECT topic_id, name FROM topics"))
        self._seen: dict[tuple[int, int], tuple[int, int, int]] = {}  # end, messages, bytes by topic and partition
        self._batches = self._messages = self._bytes = 0

    def run(self) -> Report:
        self._file()
        self._all_batches()
        self._delayed()
        self._partitions()
        self._times()
        self._message_ids()
        lanes = self._groups()
        living = self._database.rows("SELECT count(*) FROM topics WHERE dropped = 0")[0][0]
        return Report(living, self._batches, self._messages, self._bytes, lanes, tuple(self._problems))

    def _note(self, check: str, place: str, found: str) -> None:
        if len(self._problems) < PROBLEMS_MAX:
            self._problems.append(Problem(check, place, found))

    def _place(self, topic_id: int, partition: int) -> str:
        return f"topic {self._names.get(topic_id, f'#{topic_id}')}, partition {partition}"

    def _file(self) -> None:
        for (text,) in self._database.rows("PRAGMA integrity_check(20)"):
            if text != "ok":
                self._note("file", self._database.layout.database, text)

    def _all_batches(self) -> None:
        total = self._database.rows("SELECT count(*) FROM batches")[0][0]
        sizes = dict(self._database.rows("SELECT batch_id, stored_bytes FROM batches"))
        sql = f"SELECT {READ_COLUMNS} FROM batches ORDER BY topic_id, partition, base_offset"
        for row in self._database.connection.execute(sql):
            self._batch(row, sizes.get(row[0], 0))
            self._batches += 1
            if self._progress is not None and self._batches % ROWS_AT_ONCE == 0:
                self._progress(self._batches, total)

    def _batch(self, row: tuple[Any, ...], stored_bytes: int) -> None:
        batch_id, topic_id, partition, base, count = row[:5]
        place = f"{self._place(topic_id, partition)}, batch {batch_id}, offsets {base} to {base + count - 1}"
        try:
            chunk = unpack(row, self._names.get(topic_id, f"#{topic_id}"), "")
            if len(chunk.bodies) != count:
                self._note("checksum", place, f"it holds {len(chunk.bodies)} messages and says {count}")
        except _UNREADABLE as error:
            self._note("checksum", place, str(error).partition(") ")[2] or f"it cannot be read: {error}")
        end, messages, size = self._seen.get((topic_id, partition), (0, 0, 0))
        if base < end:
            self._note("offsets", place, f"it overlaps the batch before it, which ends at {end - 1}")
        self._seen[topic_id, partition] = (base + count, messages + count, size + stored_bytes)
        self._messages += count
        self._bytes += stored_bytes

    def _delayed(self) -> None:
        for row in self._database.connection.execute(f"SELECT {delays.COLUMNS} FROM delayed ORDER BY delayed_id"):
            place = f"{self._place(row[1], row[2])}, row {row[0]} of the delayed messages"
            try:
                waiting = delays.unpacked(row, self._names.get(row[1], f"#{row[1]}"))
                if waiting.lines.count(b"\n") != row[4]:
                    self._note(
                        "delayed", place, f"it holds {waiting.lines.count(bytes([10]))} messages and says {row[4]}"
                    )
            except _UNREADABLE as error:
                self._note("delayed", place, str(error).partition(") ")[2] or f"it cannot be read: {error}")

    def _partitions(self) -> None:
        sql = "SELECT topic_id, partition, next_offset, stored_bytes, removed, expired FROM partitions"
        for topic_id, partition, following, stored, removed, expired in self._database.rows(sql):
            if topic_id not in self._names:
                continue
            place = self._place(topic_id, partition)
            _, stored_messages, size = self._seen.pop((topic_id, partition), (0, 0, 0))
            # Also those that PURGE put out of reach and nobody has removed yet: removing counts them.
            if stored_messages + removed + expired != following:
                text = f"{stored_messages} stored + {removed} removed + {expired} expired are not the {following} published"
                self._note("counts", place, text)
            if size != stored:
                self._note("bytes", place, f"its batches have {size} bytes and it says {stored}")
        for topic_id, partition in self._seen:
            self._note("counts", self._place(topic_id, partition), "it has batches and no end of its log is known")

    def _times(self) -> None:
        """What a search by time goes by: the highest timestamp so far, which never descends."""
        sql = (
            "SELECT topic_id, partition, batch_id FROM (SELECT *, timestamp_us + behind_us AS highest_us,"
            " lag(timestamp_us + behind_us) OVER (PARTITION BY topic_id, partition ORDER BY base_offset) AS before_us"
            " FROM batches) WHERE behind_us < 0 OR highest_us < before_us LIMIT 100"
        )
        for topic_id, partition, batch_id in self._database.rows(sql):
            place = f"{self._place(topic_id, partition)}, batch {batch_id}"
            self._note(
                "times", place, "its behind_us does not fit the timestamps before it: a search by time may miss it"
            )

    def _message_ids(self) -> None:
        sql = (
            "SELECT m.topic_id, m.partition, m.message_id, m.offset FROM message_ids AS m LEFT JOIN partitions AS p"
            " USING (topic_id, partition) WHERE m.offset >= coalesce(p.next_offset, 0) LIMIT 100"
        )
        for topic_id, partition, message_id, offset in self._database.rows(sql):
            self._note("ids", self._place(topic_id, partition), f"id {message_id!r} names offset {offset}")

    # ── groups ──
    def _groups(self) -> int:
        found = self._database.rows("SELECT group_id, name, order_by FROM groups")
        for group_id, name, order_by in found:
            for topic_id, partition in self._database.rows(
                "SELECT DISTINCT topic_id, partition FROM lanes WHERE group_id = ? ORDER BY 1, 2", (group_id,)
            ):
                for text in self._conservation(group_id, order_by, topic_id, partition):
                    self._note("conservation", f"group {name}, {self._place(topic_id, partition)}", text)
        return len(found)

    def _conservation(self, group_id: int, order_by: str, topic_id: int, partition: int) -> Iterator[str]:
        """The law of docs/delivery.md over all lanes of a partition; nothing where their origins differ."""
        key = (group_id, topic_id, partition)
        lanes = self._database.rows(
            "SELECT lane, origin, frontier, acknowledged + filtered + dead_lettered + expired + removed FROM lanes"
            " WHERE group_id = ? AND topic_id = ? AND partition = ?",
            key,
        )
        following = self._database.rows(
            "SELECT next_offset FROM partitions WHERE topic_id = ? AND partition = ?", (topic_id, partition)
        )
        end = following[0][0] if following else 0
        if len({origin for _, origin, _, _ in lanes}) != 1:
            return
        settled = sum(counted for _, _, _, counted in lanes)
        claims = self._database.rows(
            "SELECT pending FROM claims WHERE group_id = ? AND topic_id = ? AND partition = ?", key
        )
        held = sum(pending.count(1) for (pending,) in claims)
        parked = self._database.rows(
            "SELECT pending FROM parked WHERE group_id = ? AND topic_id = ? AND partition = ?", key
        )
        sql = "SELECT count(*) FROM retries WHERE group_id = ? AND topic_id = ? AND partition = ?"
        waiting = self._database.rows(sql, key)[0][0] + sum(pending.count(1) for (pending,) in parked)
        frontiers = {lane: frontier for lane, _, frontier, _ in lanes}
        ahead = self._ahead(order_by, topic_id, partition, frontiers)
        published = end - lanes[0][1]
        if published != settled + held + waiting + ahead:
            yield (
                f"{published} published since it began are not {settled} settled + {held} in claims + {waiting} to be"
                f" retried + {ahead} ahead"
            )

    def _ahead(self, order_by: str, topic_id: int, partition: int, frontiers: dict[int, int]) -> int:
        """Messages that no claim has reached, each at the frontier of the lane it belongs to."""
        sql = (
            "SELECT base_offset, count, priority, codec, attributes FROM batches WHERE topic_id = ?1 AND partition = ?2"
            " AND base_offset + count > ?3 AND base_offset >= coalesce((SELECT start_offset FROM partitions"
            " WHERE topic_id = ?1 AND partition = ?2), 0)"
        )
        ahead = 0
        for base, count, priority, codec, attributes in self._database.rows(
            sql, (topic_id, partition, min(frontiers.values()))
        ):
            if order_by == PLAIN:
                ahead += base + count - max(base, frontiers[0])
                continue
            described = unpack_attributes(codec, attributes) if order_by == KEY else None
            for offset in range(base, base + count):
                lane = priority if described is None else slot_of(described.key(offset - base), offset)
                ahead += offset >= frontiers.get(lane, 0)
        return ahead
