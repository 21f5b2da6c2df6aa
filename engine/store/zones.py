"""Zone statistics in the store: which columns have them, what they are, and which offsets a reader may pass over.

A zone is a run of whole batches of one partition, of as many as have ZONE_MESSAGES messages or less (or one that has more); for each of a topic's columns it
has a `ColumnSummary` (conditions/zones.py). Columns are those that a schema declares and those that conditions asked for,
at most COLUMNS_DECLARED_MAX and COLUMNS_USED_MAX a topic. Zones of different columns need not begin at the same offsets.

A summary decides what is not read, so it has a checksum of its own, over its place, its column and itself: one that is
damaged, or cannot be read, rules nothing out.
"""

import json
import struct
import zlib
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from geode_client.conditions.requirements import Leaf, Never, Path, Requirement
from geode_client.conditions.zones import ColumnSummary, Question, Runs, ScanCounts, askable, impossible
from geode_client.errors import GeodeError
from geode_client.grammar.ast import Scalar
from geode_client.schema import Schema
from geode_client.store.log import LogReader
from geode_client.store.writer import Transaction

ZONE_MESSAGES = 4096
COLUMNS_DECLARED_MAX = 8
COLUMNS_USED_MAX = 8
# Texts that are longer than a name are no use as one, and a path is written into every checksum.
PATH_CHARACTERS_MAX = 256

_SUMMARISED = frozenset(("STRING", "INT", "FLOAT", "BOOL", "TIMESTAMP", "DATE", "UUID"))
_PLACE = struct.Struct("<4q")
_ZONES = (
    "SELECT base_offset, end_offset, checksum, summary FROM zones WHERE topic_id = ?1 AND partition = ?2 AND column_id = ?3"
    " AND base_offset >= coalesce((SELECT max(base_offset) FROM zones WHERE topic_id = ?1 AND partition = ?2"
    " AND column_id = ?3 AND base_offset <= ?4), ?4) AND base_offset < ?5 ORDER BY base_offset"
)
_BATCHES = "SELECT count(*) FROM batches WHERE topic_id = ? AND partition = ? AND base_offset >= ? AND base_offset < ?"


class Zone(msgspec.Struct, frozen=True):
    """One column's summary, and where it belongs."""

    topic_id: int
    partition: int
    column_id: int
    base_offset: int
    end_offset: int
    path_text: str
    summary: bytes

    @property
    def checksum(self) -> int:
        return _checksum(self.topic_id, self.partition, self.base_offset, self.end_offset, self.path_text, self.summary)


def _checksum(topic_id: int, partition: int, base_offset: int, end_offset: int, path: str, summary: bytes) -> int:
    place = _PLACE.pack(topic_id, partition, base_offset, end_offset)
    return zlib.crc32(summary, zlib.crc32(path.encode(), zlib.crc32(place)))


def path_text(path: Path) -> str:
    """A path as the store writes it: a JSON array of its steps."""
    return json.dumps([path.name, *path.steps], ensure_ascii=False)


def path_of(text: str) -> Path:
    name, *steps = json.loads(text)
    return Path(name, tuple(steps))


# ── works ──
class WantColumns(msgspec.Struct, eq=False):
    """Ask for statistics of these paths; those beyond the bound are not taken."""

    topic_id: int
    paths: Sequence[Path]
    durable: bool = False
    error: GeodeError | None = None

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        texts = [text for path in self.paths if len(text := path_text(path)) <= PATH_CHARACTERS_MAX]
        _add_columns(transaction, self.topic_id, texts, declared=False, most=COLUMNS_USED_MAX)


def declare_columns(transaction: Transaction, topic_id: int, schema: Schema) -> None:
    """The scalar columns of a schema get statistics, as far as the bound goes."""
    names = [c.name for c in schema.columns if isinstance(c.type, Scalar) and c.type.name in _SUMMARISED]
    texts = [path_text(Path(name)) for name in names if len(name) < PATH_CHARACTERS_MAX]
    _add_columns(transaction, topic_id, texts, declared=True, most=COLUMNS_DECLARED_MAX)


def _add_columns(transaction: Transaction, topic_id: int, texts: Sequence[str], *, declared: bool, most: int) -> None:
    sql = "SELECT column_id, path, declared FROM zone_columns WHERE topic_id = ?"
    known = transaction.database.rows(sql, (topic_id,))
    room = most - sum(row[2] == declared for row in known)
    fresh = [text for text in texts if text not in {row[1] for row in known}][: max(room, 0)]
    first = max((row[0] for row in known), default=-1) + 1
    rows = [(topic_id, first + index, text, declared) for index, text in enumerate(fresh)]
    transaction.database.cursor.executemany("INSERT INTO zone_columns VALUES (?, ?, ?, ?)", rows)


def outdate_zones(transaction: Transaction, topic_id: int, names: Collection[str]) -> None:
    """Fields got a default: messages that lack them are read with it from now on, and are not what was summarised."""
    for column_id, text in transaction.database.rows(
        "SELECT column_id, path FROM zone_columns WHERE topic_id = ?", (topic_id,)
    ):
        if path_of(text).name in names:
            sql = "DELETE FROM zones WHERE topic_id = ? AND column_id = ?"
            transaction.database.cursor.execute(sql, (topic_id, column_id))


class StoreZones(msgspec.Struct, eq=False):
    """Write zones of one topic down, as it was read with a version of its schema; if it is gone or changed, they are not."""

    topic_id: int
    schema_version: int
    zones: Sequence[Zone]
    durable: bool = False
    error: GeodeError | None = None

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        sql = "SELECT schema_version FROM topics WHERE topic_id = ? AND dropped = 0"
        if transaction.database.row(sql, (self.topic_id,)) != (self.schema_version,):
            return
        for zone in self.zones:
            sql = "SELECT path FROM zone_columns WHERE topic_id = ? AND column_id = ?"
            if transaction.database.row(sql, (zone.topic_id, zone.column_id)) != (zone.path_text,):
                continue
            transaction.database.cursor.execute(
                "INSERT OR REPLACE INTO zones (topic_id, partition, column_id, base_offset, end_offset, checksum, summary)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*_place(zone), zone.checksum, zone.summary),
            )


def _place(zone: Zone) -> tuple[int, int, int, int, int]:
    return zone.topic_id, zone.partition, zone.column_id, zone.base_offset, zone.end_offset


def forget_zones(transaction: Transaction, topic_id: int, partition: int) -> None:
    """Remove the zones that lie wholly before the first batch that is left."""
    sql = "SELECT min(base_offset) FROM batches WHERE topic_id = ? AND partition = ?"
    first = transaction.database.rows(sql, (topic_id, partition))[0][0]
    for row in transaction.database.rows("SELECT column_id FROM zone_columns WHERE topic_id = ?", (topic_id,)):
        sql = "DELETE FROM zones WHERE topic_id = ? AND partition = ? AND column_id = ?"
        if first is None:
            transaction.database.cursor.execute(sql, (topic_id, partition, row[0]))
        else:
            sql += " AND base_offset < ? AND end_offset <= ?"
            transaction.database.cursor.execute(sql, (topic_id, partition, row[0], first, first))


# ── reading ──
def columns_of(log: LogReader, topic_id: int) -> dict[Path, tuple[int, str]]:
    """Paths with statistics: number and text of the column."""
    sql = "SELECT column_id, path FROM zone_columns WHERE topic_id = ?"
    return {path_of(text): (number, text) for number, text in log.rows(sql, (topic_id,))}


class Skipping:
    """Which offsets cannot meet a requirement; made for one scan. `counts` None: nobody wants to know how much."""

    def __init__(self, log: LogReader, requirement: Requirement, counts: ScanCounts | None = None) -> None:
        self._log = log
        self._requirement = requirement
        self._counts = counts
        self._columns: dict[int, dict[Path, tuple[int, str]]] = {}
        self._questions: dict[Path, list[Question]] = {}
        for leaf in dict.fromkeys(askable(requirement)):
            assert leaf.path is not None
            self._questions.setdefault(leaf.path, []).append(Question(leaf))

    @property
    def is_possible(self) -> bool:
        """Whether statistics can say anything about the requirement."""
        return bool(self._questions) or isinstance(self._requirement, Never)

    @property
    def paths(self) -> list[Path]:
        return list(self._questions)

    def runs(self, topic_id: int, partition: int, window: tuple[int, int]) -> Runs:
        """Runs of offsets inside the window where no message can do; ascending, and never part of a batch."""
        ruled_out: dict[Leaf, Runs] = {}
        try:
            for path, column in self._columns_of(topic_id).items():
                if path in self._questions:
                    self._ask(topic_id, partition, column, window, self._questions[path], ruled_out)
            found = impossible(self._requirement, window, ruled_out)
        except GeodeError:
            # Statistics that cannot be read rule nothing out.
            return []
        if self._counts is not None:
            for start, end in found:
                self._counts.messages_skipped += end - start
                self._counts.batches_skipped += self._log.rows(_BATCHES, (topic_id, partition, start, end))[0][0]
        return found

    def _columns_of(self, topic_id: int) -> dict[Path, tuple[int, str]]:
        found = self._columns.get(topic_id)
        if found is None:
            found = self._columns[topic_id] = columns_of(self._log, topic_id)
        return found

    def _ask(
        self,
        topic_id: int,
        partition: int,
        column: tuple[int, str],
        window: tuple[int, int],
        questions: list[Question],
        ruled_out: dict[Leaf, Runs],
    ) -> None:
        start, end = window
        number, path = column
        runs: list[Runs] = [[] for _ in questions]
        for base, zone_end, expected, text in self._log.rows(_ZONES, (topic_id, partition, number, start, end)):
            summary = _sound(topic_id, partition, base, zone_end, path, expected, text)
            first, last = max(base, start), min(zone_end, end)
            if summary is None or first >= last:
                continue
            for question, found in zip(questions, runs, strict=True):
                if not question.may_hold(summary):
                    if found and found[-1][1] == first:
                        found[-1] = (found[-1][0], last)
                    else:
                        found.append((first, last))
        ruled_out.update(zip((question.leaf for question in questions), runs, strict=True))


def _sound(
    topic_id: int, partition: int, base: int, end: int, path: str, expected: int, text: Any
) -> ColumnSummary | None:
    """The summary, unless it is damaged."""
    if not isinstance(text, bytes) or _checksum(topic_id, partition, base, end, path, text) != expected:
        return None
    try:
        return ColumnSummary.from_bytes(text)
    except msgspec.DecodeError:
        return None
