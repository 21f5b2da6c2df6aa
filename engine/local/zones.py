"""Zone statistics of a client: asks for the columns that conditions read, and makes what is missing in the background.

The process that sweeps makes them, a zone at a time on its event loop, and rests in between: nine times as long as the zone
took while this client publishes, as long when it does not. Nothing is made for topics without such columns, and while
nothing is committed nobody looks.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from geode_client.conditions.protocol import ConditionLike
from geode_client.conditions.requirements import Path
from geode_client.conditions.zones import ColumnReader, ScanCounts, summary_of
from geode_client.errors import CorruptData, GeodeError, InvalidMessage
from geode_client.store.batch import READ_COLUMNS
from geode_client.store.log import LogReader, Skips
from geode_client.store.topics import TopicReader
from geode_client.store.writer import Work
from geode_client.store.zones import (
    ZONE_MESSAGES,
    Skipping,
    StoreZones,
    WantColumns,
    Zone,
    columns_of,
)

# Statistics are worth asking for where so many messages would be read without them.
WANTED_FROM_MESSAGES = 4 * ZONE_MESSAGES
REST_WHILE_BUSY = 9

_CANDIDATES = (
    "SELECT p.topic_id, p.partition, p.start_offset FROM (SELECT DISTINCT topic_id FROM zone_columns) AS c"
    " JOIN partitions AS p USING (topic_id) WHERE p.next_offset - p.start_offset >= ?"
)
_MADE_THROUGH = "SELECT end_offset FROM zones WHERE topic_id = ? AND partition = ? AND column_id = ? ORDER BY base_offset DESC LIMIT 1"
_FOLLOWING = (
    "SELECT base_offset, count FROM batches WHERE topic_id = ? AND partition = ? AND base_offset >= ?"
    " ORDER BY base_offset LIMIT ?"
)
_ROWS = (
    f"SELECT {READ_COLUMNS} FROM batches WHERE topic_id = ? AND partition = ? AND base_offset >= ? AND base_offset < ?"
)

_Columns = dict[Path, tuple[int, str]]
Write = Callable[[Work], Awaitable[None]]


class ZoneWishes:
    """Makes the skips of scans, and asks for the columns that would help them."""

    def __init__(self, log: LogReader, write: Write) -> None:
        self._log = log
        self._write = write
        self._asked: set[tuple[int, Path]] = set()
        self._asking: set[asyncio.Task[None]] = set()

    def skips(self, condition: ConditionLike | None, counts: ScanCounts | None = None) -> Skipping | None:
        """What a reader with this condition may pass over; None: it has to read everything."""
        if condition is None:
            return None
        made = Skipping(self._log, condition.requirement, counts)
        return made if made.is_possible else None

    def want(self, skips: Skips | None, topic_ids: Sequence[int]) -> None:
        """Ask for statistics where many messages would be read without them. Nobody waits for it, or fails with it."""
        if not isinstance(skips, Skipping):
            return
        for topic_id in topic_ids:
            wanted = [path for path in skips.paths if (topic_id, path) not in self._asked]
            if wanted and self._is_large(topic_id):
                self._asked.update((topic_id, path) for path in wanted)
                known = columns_of(self._log, topic_id)
                missing = [path for path in wanted if path not in known]
                if missing:
                    task = asyncio.create_task(self._ask(topic_id, missing), name="geode-zone-wish")
                    self._asking.add(task)
                    task.add_done_callback(self._asking.discard)

    async def settle(self) -> None:
        """Return once all that was asked for is written."""
        if self._asking:
            await asyncio.wait(self._asking)

    async def _ask(self, topic_id: int, paths: list[Path]) -> None:
        try:
            await self._write(WantColumns(topic_id, paths))
        except GeodeError:
            self._asked.difference_update((topic_id, path) for path in paths)

    def _is_large(self, topic_id: int) -> bool:
        sql = "SELECT sum(next_offset - start_offset) FROM partitions WHERE topic_id = ?"
        return (self._log.rows(sql, (topic_id,))[0][0] or 0) >= WANTED_FROM_MESSAGES


class ZoneMaker:
    """Makes the zones that are missing; one process of a store at a time does."""

    def __init__(self, log: LogReader, topics: TopicReader, write: Write, is_busy: Callable[[], bool]) -> None:
        self._log = log
        self._topics = topics
        self._write = write
        self._is_busy = is_busy
        self._looked_at = (-1, -1)
        self._damaged: set[tuple[int, int]] = set()

    async def make(self, is_stopping: Callable[[], bool]) -> bool:
        """Make the zones that can be made now; False when it was stopped before the last."""
        state = self._log.rows(
            "SELECT coalesce((SELECT max(batch_id) FROM batches), 0), (SELECT count(*) FROM zone_columns)"
        )[0]
        if state == self._looked_at:
            return True
        for topic_id, partition, start in self._log.rows(_CANDIDATES, (ZONE_MESSAGES,)):
            place = (topic_id, partition)
            while place not in self._damaged and await self._make_next(topic_id, partition, start, is_stopping):
                pass
            if is_stopping():
                return False
        self._looked_at = state
        return True

    async def _make_next(self, topic_id: int, partition: int, start: int, is_stopping: Callable[[], bool]) -> bool:
        """Make one zone, resting after each piece of work; False when there is none to be made, or it was stopped."""
        started = time.perf_counter()
        found = self._next(topic_id, partition, start)
        topic = self._topics.by_id(topic_id)
        if found is None or topic is None:
            return False
        first, end, columns = found
        try:
            values = self._values(topic_id, partition, first, end, list(columns))
        except (CorruptData, InvalidMessage):
            # Whoever reads the batch is told of it. It must not be passed over: no zone may cover it.
            self._damaged.add((topic_id, partition))
            return False
        zones: list[Zone] = []
        for path, (number, text) in columns.items():
            summary = summary_of(values.pop(path))
            zones.append(Zone(topic_id, partition, number, first, end, text, summary.to_bytes()))
            await asyncio.sleep((time.perf_counter() - started) * (REST_WHILE_BUSY if self._is_busy() else 1))
            started = time.perf_counter()
            if is_stopping():
                return False
        await self._write(StoreZones(topic_id, topic.schema_version, zones))
        return True

    def _next(self, topic_id: int, partition: int, start: int) -> tuple[int, int, _Columns] | None:
        """First and end offset of the next zone, and the columns that lack it; those that are least far come first."""
        columns = columns_of(self._log, topic_id)
        through = {
            path: max(self._made_through(topic_id, partition, number), start) for path, (number, _) in columns.items()
        }
        for first in sorted(set(through.values())):
            end = self._end_of_zone(topic_id, partition, first)
            if end is not None:
                return first, end, {path: columns[path] for path, reached in through.items() if reached == first}
        return None

    def _made_through(self, topic_id: int, partition: int, column_id: int) -> int:
        found = self._log.rows(_MADE_THROUGH, (topic_id, partition, column_id))
        return int(found[0][0]) if found else 0

    def _end_of_zone(self, topic_id: int, partition: int, first: int) -> int | None:
        """The end of the zone that begins at `first`; None when there are not enough messages yet."""
        messages, end = 0, first
        for base, count in self._log.rows(_FOLLOWING, (topic_id, partition, first, ZONE_MESSAGES + 1)):
            if messages and messages + count > ZONE_MESSAGES:
                return end
            messages += count
            end = int(base + count)
        return end if messages >= ZONE_MESSAGES else None

    def _values(self, topic_id: int, partition: int, first: int, end: int, paths: list[Path]) -> dict[Path, list[Any]]:
        values: dict[Path, list[Any]] = {path: [] for path in paths}
        reader = ColumnReader(paths)
        for row in self._log.rows(_ROWS, (topic_id, partition, first, end)):
            reader.add_values(self._log.unpacked(row), values)
        return values
