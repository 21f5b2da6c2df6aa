"""A group takes another order: its lanes are made anew, and every message keeps its place in the count.

The new order is noted in `groups.next_order` first. It is taken in the first transaction that finds no claim of the group
with an owner, so nothing in hand changes its lane. In each partition:

| what | becomes |
| --- | --- |
| lanes | those of the new order, all with their frontier at the highest of the old ones; the first takes over the counters |
| messages between the old frontiers that their old lane had ahead | claims without an owner |
| parked messages, and claims without an owner | the same, with their attempts, losses and last error |
| messages that wait for a retry | still wait, in their new lane; see below |

The new claims span at most WINDOW offsets and, in one lane, do not overlap: the earliest is claimed first. In the order of keys
a retry may not overtake an earlier message of its key, so it becomes part of these claims where there is one.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import msgspec

from geode_client.clock import now_us
from geode_client.delivery.claiming import CLAIM_OFFSETS_MAX
from geode_client.delivery.lanes import KEY, LANES, PLAIN
from geode_client.routing import SLOTS, slot_of
from geode_client.store.batch import unpack_attributes
from geode_client.store.groups import Group, group_by_id, lane_numbers
from geode_client.store.writer import Transaction

WINDOW = CLAIM_OFFSETS_MAX
_NOT_STORED = b"\xff"
_IS_LANE = [bytes(value == lane for value in range(256)) for lane in range(SLOTS)]
# Base offset, count, priority, codec, attributes.
_Batch = tuple[int, int, int, int, bytes | None]


class _Past(msgspec.Struct, frozen=True):
    """What a claim knows of the earlier deliveries of its messages."""

    attempts: int = 0
    losses: int = 0
    error: str | None = None


class _Retry(msgspec.Struct, frozen=True):
    """A message that waits for its next attempt."""

    attempts: int
    not_before_us: int
    error: str | None


_FRESH = _Past()


def take_next_order(transaction: Transaction, group_id: int) -> Group | None:
    """Have a group take the order that was set for it, if one was and nobody holds a message; the group as it is then."""
    group = group_by_id(transaction, group_id)
    if group is None or group.next_order is None or _is_held(transaction, group_id):
        return group
    database = transaction.database
    sql = "SELECT DISTINCT topic_id, partition FROM lanes WHERE group_id = ?"
    for topic_id, partition in database.rows(sql, (group_id,)):
        _Partition(transaction, group, group.next_order, topic_id, partition).reorder()
    database.cursor.execute(
        "UPDATE groups SET order_by = next_order, next_order = NULL, revision = revision + 1 WHERE group_id = ?",
        (group_id,),
    )
    transaction.announce = True
    return group_by_id(transaction, group_id)


def _is_held(transaction: Transaction, group_id: int) -> bool:
    sql = "SELECT 1 FROM claims WHERE group_id = ? AND owner IS NOT NULL LIMIT 1"
    return transaction.database.row(sql, (group_id,)) is not None


class _Partition:
    """One partition of a group on its way from one order to another.

    `_marked`: by the first offset of a window and by their past, a byte for each offset, 1 where a message was in a claim or
    parked.
    """

    def __init__(self, transaction: Transaction, group: Group, new: str, topic_id: int, partition: int) -> None:
        self._database = transaction.database
        self._place = (group.group_id, topic_id, partition)
        self._old, self._new = group.order_by, new
        self._marked: dict[int, dict[_Past, bytes]] = {}
        self._retries: dict[int, _Retry] = {}
        self._frontiers: dict[int, int] = {}
        self._high = 0

    def reorder(self) -> None:
        self._read_lanes()
        self._read_claims()
        self._read_retries()
        if self._new == KEY and self._retries:
            self._fold_retries()
        for table in ("claims", "parked", "retries"):
            self._database.cursor.execute(f"DELETE FROM {table} WHERE {_HERE}", self._place)
        for base in self._windows():
            self._write_window(base)
        self._write_retries()
        self._write_lanes()

    # ── what is there ──
    def _read_lanes(self) -> None:
        row = self._database.row(
            "SELECT start_offset FROM partitions WHERE topic_id = ? AND partition = ?", self._place[1:]
        )
        start = int(row[0]) if row else 0
        rows = self._database.rows(f"SELECT lane, frontier FROM lanes WHERE {_HERE}", self._place)
        self._frontiers = {lane: max(frontier, start) for lane, frontier in rows}
        self._high = max(self._frontiers.values())

    def _read_claims(self) -> None:
        sql = f"SELECT first, pending, attempts, losses, error, retried FROM claims WHERE {_HERE}"
        for first, pending, attempts, losses, error, retried in self._database.rows(sql, self._place):
            if retried and not losses:
                offset = first + pending.index(1)
                self._retries[offset] = _Retry(attempts, now_us(), error)
            else:
                self._mark(_Past(attempts, losses, error), first, pending)
        for first, pending in self._database.rows(f"SELECT first, pending FROM parked WHERE {_HERE}", self._place):
            self._mark(_FRESH, first, pending)

    def _read_retries(self) -> None:
        sql = f"SELECT offset, attempts, not_before_us, error FROM retries WHERE {_HERE}"
        for offset, *rest in self._database.rows(sql, self._place):
            self._retries[offset] = _Retry(*rest)

    def _mark(self, past: _Past, first: int, pending: bytes) -> None:
        end = first + len(pending)
        for base in range(first - first % WINDOW, end, WINDOW):
            start, stop = max(first, base), min(end, base + WINDOW)
            of_window = self._marked.setdefault(base, {})
            before = of_window.get(past, bytes(WINDOW))
            of_window[past] = _either(before, _padded(pending[start - first : stop - first], start - base))

    # ── windows ──
    def _windows(self) -> list[int]:
        """The first offsets of the windows in which messages may be pending."""
        low = min(self._frontiers.values())
        between = range(low - low % WINDOW, self._high, WINDOW) if low < self._high else range(0)
        return sorted({*self._marked, *between})

    def _batches(self, base: int) -> Sequence[_Batch]:
        return self._database.rows(_BATCHES, (*self._place[1:], base, base + WINDOW))

    def _pending(self, base: int, batches: Sequence[_Batch]) -> dict[_Past, bytes]:
        """What is pending in a window but for the retries: a byte for each offset, by the past of the messages."""
        found = dict(self._marked.get(base, {}))
        lanes = _lanes(self._old, base, batches)
        for lane, frontier in self._frontiers.items():
            start, stop = max(frontier - base, 0), min(self._high - base, WINDOW)
            if start < stop:
                ahead = _padded(lanes[start:stop].translate(_IS_LANE[lane]), start)
                found[_FRESH] = _either(found.get(_FRESH, bytes(WINDOW)), ahead)
        return {past: pending for past, pending in found.items() if 1 in pending}

    def _write_window(self, base: int) -> None:
        batches = self._batches(base)
        pending = self._pending(base, batches)
        # Messages that are gone, and not counted yet, go into the first lane: whoever claims them counts them.
        lanes = _lanes(self._new, base, batches).replace(_NOT_STORED, b"\0")
        for lane in LANES[self._new] if pending else ():
            members = lanes.translate(_IS_LANE[lane])
            of_lane = {past: found for past, each in pending.items() if 1 in (found := _both(each, members))}
            for first, piece, past in _pieces(of_lane):
                claim = (*self._place, lane, base + first, past.attempts, past.error, piece, past.losses)
                self._database.cursor.execute(_CLAIM, claim)

    # ── retries ──
    def _fold_retries(self) -> None:
        """Retries of keys that have an earlier message pending become pending like that one."""
        keys = {offset: self._key(offset) for offset in self._retries}
        earliest = self._earliest({key for key in keys.values() if key is not None}, max(keys))
        for offset, key in keys.items():
            if key is not None and earliest.get(key, offset) < offset:
                retry = self._retries.pop(offset)
                self._mark(_Past(retry.attempts, 0, retry.error), offset, b"\x01")

    def _earliest(self, keys: set[str], end: int) -> dict[str, int]:
        """The first pending message of each of these keys, up to an offset."""
        found: dict[str, int] = {}
        for base in self._windows():
            if base >= end or len(found) == len(keys):
                break
            batches = self._batches(base)
            pending = bytes(WINDOW)
            for each in self._pending(base, batches).values():
                pending = _either(pending, each)
            for batch in batches:
                for offset, key in _keys(batch, base):
                    if key in keys and pending[offset - base]:
                        found.setdefault(key, offset)
        return found

    def _batch_at(self, offset: int) -> _Batch | None:
        rows = self._database.rows(_BATCHES, (*self._place[1:], offset, offset + 1))
        return rows[0] if rows else None

    def _key(self, offset: int) -> str | None:
        batch = self._batch_at(offset)
        return None if batch is None else dict(_keys(batch, offset, offset + 1)).get(offset)

    def _write_retries(self) -> None:
        for offset, retry in self._retries.items():
            key = self._key(offset) if self._new == KEY else None
            lane = slot_of(key, offset) if self._new == KEY else self._lane(offset)
            row = (*self._place, offset, lane, key, retry.attempts, retry.not_before_us, retry.error)
            self._database.cursor.execute("INSERT INTO retries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _lane(self, offset: int) -> int:
        batch = None if self._new == PLAIN else self._batch_at(offset)
        return 0 if batch is None else batch[2]

    # ── lanes ──
    def _write_lanes(self) -> None:
        database, place = self._database, self._place
        origin, *counters = database.rows(f"SELECT min(origin), {_SUMS} FROM lanes WHERE {_HERE}", place)[0]
        database.cursor.execute(f"DELETE FROM lanes WHERE {_HERE}", place)
        first, *others = LANES[self._new]
        for lane in (first, *others):
            counted = counters if lane == first else [0] * len(counters)
            database.cursor.execute(_LANE, (*place, lane, origin, self._high, *counted))


def _lanes(order_by: str, base: int, batches: Sequence[_Batch]) -> bytes:
    """The lane of each offset of a window; 255 where nothing is stored."""
    lanes = bytearray(_NOT_STORED * WINDOW)
    for first, count, priority, codec, attributes in batches:
        start, stop = max(first, base), min(first + count, base + WINDOW)
        lanes[start - base : stop - base] = lane_numbers(order_by, priority, codec, attributes, first, start, stop)
    return bytes(lanes)


def _keys(batch: _Batch, first: int, end: int | None = None) -> Iterator[tuple[int, str]]:
    """Offset and key of the messages of a batch at offsets from `first` on that have one; of a window, without `end`."""
    base, count, _, codec, attributes = batch
    start, stop = max(first, base), min(base + count, first + WINDOW if end is None else end)
    try:
        keys = unpack_attributes(codec, attributes).keys
    except Exception:  # noqa: BLE001 - damaged: the reader of the batch reports it with its place
        return
    for offset in range(start, stop if keys is not None else start):
        key = keys if isinstance(keys, str) else keys[offset - base]  # type: ignore[index]
        if key is not None:
            yield offset, key


def _pieces(found: Mapping[_Past, bytes]) -> Iterator[tuple[int, bytes, _Past]]:
    """Runs of messages with the same past, in the order of their offsets: where in the window one begins, its messages."""
    if len(found) == 1:
        ((past, pending),) = found.items()
        first = pending.index(1)
        yield first, pending[first : pending.rindex(1) + 1], past
        return
    places = sorted((place, past) for past, pending in enumerate(found.values()) for place in _ones(pending))
    pasts = list(found)
    for past, run in groupby(places, key=itemgetter(1)):
        members = [place for place, _ in run]
        piece = bytearray(members[-1] - members[0] + 1)
        for place in members:
            piece[place - members[0]] = 1
        yield members[0], bytes(piece), pasts[past]


def _ones(pending: bytes) -> Iterator[int]:
    return (place for place, one in enumerate(pending) if one)


def _padded(part: bytes, start: int) -> bytes:
    """A whole window of which only this part is known."""
    return bytes(start) + part + bytes(WINDOW - start - len(part))


def _either(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one) | int.from_bytes(other)).to_bytes(WINDOW)


def _both(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one) & int.from_bytes(other)).to_bytes(WINDOW)


_HERE = "group_id = ? AND topic_id = ? AND partition = ?"
_SUMS = "sum(acknowledged), sum(filtered), sum(dead_lettered), sum(expired), sum(removed)"
_LANE = "INSERT INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CLAIM = (
    "INSERT INTO claims (group_id, topic_id, partition, lane, first, attempts, retried, key, error, owner, deadline_us,"
    " pending, losses) VALUES (?, ?, ?, ?, ?, ?, 0, NULL, ?, NULL, 0, ?, ?)"
)
_BATCHES = (
    "SELECT base_offset, count, priority, codec, attributes FROM batches WHERE topic_id = ?1 AND partition = ?2"
    " AND base_offset >= coalesce((SELECT max(base_offset) FROM batches WHERE topic_id = ?1 AND partition = ?2"
    " AND base_offset <= ?3), ?3) AND base_offset < ?4 AND base_offset + count > ?3 ORDER BY base_offset"
)
