"""Groups in the store: the works that make, find, move, pause and drop them, and the lanes in which they go forward.

A group is a name on a pattern. For each topic and partition that it covers it has one or more lanes: one, or one for each
priority, or one for each slot of the key hash. Lanes are made when the group is, and when a topic that the pattern covers
appears or changes its partitions, so that what retention removes is always counted in the lane that had it before it.
docs/delivery.md has the tables and the law that every work here keeps.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from geode_client.clock import now_us
from geode_client.delivery.lanes import DEFAULT_PRIORITY, KEY, LANES, PLAIN, PRIORITY
from geode_client.errors import GeodeError, GroupMismatch, GroupNotFound
from geode_client.grammar.names import literal_prefix, matches
from geode_client.letters import Addressee
from geode_client.options import TopicOptions
from geode_client.routing import SLOTS, slot_of
from geode_client.store.batch import unpack_attributes
from geode_client.store.writer import Transaction

# Where a new group starts in a partition: at the end (None), or at this offset; by (topic id, partition) or for all.
Starts = None | int | Mapping[tuple[int, int], int]

_COLUMNS = "group_id, name, pattern, condition, key, order_by, paused, private_to, revision, next_order"


class Readable(Protocol):
    """A connection inside a transaction."""

    def each(self, sql: str, bindings: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]: ...


class Group(msgspec.Struct, frozen=True):
    """A group as the store knows it. `private_to`: the process whose subscription alone it serves, and ends with.
    `next_order`: the order that it takes once nobody holds a message of it; until then nothing is claimed.
    """

    group_id: int
    name: str
    pattern: str
    condition: str | None
    key: str | None
    order_by: str
    paused: bool
    private_to: str | None
    revision: int
    next_order: str | None = None


class GroupDefinition(msgspec.Struct, frozen=True):
    """What a subscription says of its group; None for `condition` and `key` takes what the group has."""

    name: str
    pattern: str
    condition: str | None = None
    key: str | None = None
    order_by: str = PLAIN
    private_to: str | None = None


class JoinGroup(msgspec.Struct, eq=False):
    """Find the group of this definition, or make it; after the commit `group` is it, and `before` says how many retained
    messages lie before the start of a new group that begins at the end.

    Raises GroupMismatch when it is there with another filter or order; with `create_only`, when it is there at all.
    """

    definition: GroupDefinition
    starts: Starts = None
    create_only: bool = False
    durable: bool = True
    error: GeodeError | None = None
    group: Group | None = None
    before: int = 0

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        wanted = self.definition
        found = find_group(transaction, wanted.name, wanted.pattern)
        if found is not None:
            _check_same(found, wanted, self.create_only)
            self.group = found
            return
        transaction.database.cursor.execute(
            "INSERT INTO groups (name, pattern, condition, key, order_by, private_to, created_us) VALUES (?,?,?,?,?,?,?)",
            (
                wanted.name,
                wanted.pattern,
                wanted.condition,
                wanted.key,
                wanted.order_by,
                wanted.private_to,
                now_us(),
            ),
        )
        self.group = find_group(transaction, wanted.name, wanted.pattern)
        assert self.group is not None
        for topic_id, partitions in _covered(transaction, wanted.pattern):
            _make_lanes(transaction, self.group, topic_id, range(partitions), self.starts)
            if self.starts is None:
                self.before += sum(_retained(transaction, topic_id, partition) for partition in range(partitions))


def _retained(transaction: Transaction, topic_id: int, partition: int) -> int:
    """Messages of a partition between the first that can be read and the end, but for gaps."""
    sql = "SELECT min(base_offset) FROM batches WHERE topic_id = ? AND partition = ?"
    (first,) = transaction.database.rows(sql, (topic_id, partition))[0]
    if first is None:
        return 0
    start = max(int(first), _retained_from(transaction, topic_id, partition))
    return max(0, transaction.next_offset(topic_id, partition) - start)


def _check_same(found: Group, wanted: GroupDefinition, create_only: bool) -> None:
    name = f"group {found.name} on {found.pattern}"
    if create_only:
        raise GroupMismatch(f"{name} is there already: use it, DROP SUBSCRIPTION it first, or take another name")
    for what, its, asked in (
        ("filter", found.condition, wanted.condition),
        ("key", found.key, wanted.key),
    ):
        if asked is not None and its != asked:
            has = f"has the {what} {its!r}" if its is not None else f"has no {what}"
            raise GroupMismatch(
                f"{name} {has}, and this subscription asks for {asked!r}: all members of a group share one {what};"
                f" leave it out, or use another group name"
            )
    order_by = found.next_order or found.order_by
    if wanted.order_by not in (order_by, PLAIN):
        raise GroupMismatch(
            f"{name} delivers {_ORDERS[order_by]}, and this subscription asks for delivery"
            f" {_ORDERS[wanted.order_by]}: use another group name, or change it with"
            f" ALTER SUBSCRIPTION {found.name} ON {found.pattern} SET ORDER BY {wanted.order_by.upper()}"
        )


_ORDERS = {PLAIN: "without an order", PRIORITY: "in priority order", KEY: "in the order of keys"}


def find_group(transaction: Transaction, name: str, pattern: str) -> Group | None:
    sql = f"SELECT {_COLUMNS} FROM groups WHERE name = ? AND pattern = ?"
    row = transaction.database.row(sql, (name, pattern))
    return None if row is None else group_of(row)


def group_by_id(transaction: Transaction, group_id: int) -> Group | None:
    row = transaction.database.row(f"SELECT {_COLUMNS} FROM groups WHERE group_id = ?", (group_id,))
    return None if row is None else group_of(row)


def group_of(row: Sequence[Any]) -> Group:
    """A group from its row of `groups`, whose columns are GROUP_COLUMNS."""
    group_id, name, pattern, condition, key, order_by, paused, private_to, revision, next_order = row
    return Group(group_id, name, pattern, condition, key, order_by, bool(paused), private_to, revision, next_order)


GROUP_COLUMNS = _COLUMNS


def require_groups(transaction: Transaction, name: str, topic: str | None) -> list[Group]:
    """The groups of a name, on one pattern or on all; a topic also names the groups whose pattern covers it."""
    rows = transaction.database.rows(f"SELECT {_COLUMNS} FROM groups WHERE name = ? AND private_to IS NULL", (name,))
    found = [group_of(row) for row in rows]
    if topic is not None:
        exact = [group for group in found if group.pattern == topic]
        found = exact or [group for group in found if matches(group.pattern, topic)]
    if not found:
        names = [
            row[0] for row in transaction.database.rows("SELECT name FROM groups WHERE private_to IS NULL LIMIT 1000")
        ]
        raise GroupNotFound(name, topic, names)
    return found


class DropGroup(msgspec.Struct, eq=False):
    """Remove groups and all that is known of their progress; `dropped` says how many they were."""

    name: str
    topic: str | None = None
    if_exists: bool = False
    durable: bool = True
    error: GeodeError | None = None
    dropped: int = 0

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        try:
            groups = require_groups(transaction, self.name, self.topic)
        except GroupNotFound:
            if self.if_exists:
                return
            raise
        for group in groups:
            remove_group(transaction, group.group_id)
        self.dropped = len(groups)
        transaction.announce = True


class DropPrivateGroups(msgspec.Struct, eq=False):
    """Remove private groups: one by its id, or all of processes that are gone."""

    group_ids: Sequence[int] = ()
    processes: Sequence[str] = ()
    durable: bool = False
    error: GeodeError | None = None

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        for group_id in self.group_ids:
            remove_group(transaction, group_id)
        for process in self.processes:
            sql = "SELECT group_id FROM groups WHERE private_to = ?"
            for (group_id,) in transaction.database.rows(sql, (process,)):
                remove_group(transaction, group_id)


def remove_group(transaction: Transaction, group_id: int) -> None:
    for table in ("lanes", "claims", "retries", "parked", "groups"):
        transaction.database.cursor.execute(f"DELETE FROM {table} WHERE group_id = ?", (group_id,))


class PauseGroup(msgspec.Struct, eq=False):
    """Stop or go on handing out the messages of groups; what is in hand may still be settled."""

    name: str
    topic: str | None
    paused: bool
    durable: bool = True
    error: GeodeError | None = None

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        for group in require_groups(transaction, self.name, self.topic):
            transaction.database.cursor.execute(
                "UPDATE groups SET paused = ?, revision = revision + 1 WHERE group_id = ?",
                (self.paused, group.group_id),
            )
        transaction.announce = True


class SeekGroup(msgspec.Struct, eq=False):
    """Move a group in the partitions of a topic; its claims and retries there are given up, counting begins anew.

    `starts` as for a new group. With `dry_run` nothing changes. `replayed` and `skipped` say how many messages lie between
    where the group was and where it is now.
    """

    name: str
    topic: str
    starts: Starts
    dry_run: bool = False
    durable: bool = True
    error: GeodeError | None = None
    replayed: int = 0
    skipped: int = 0

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        for group in require_groups(transaction, self.name, self.topic):
            for topic_id, partitions in _covered(transaction, self.topic, group.pattern):
                for partition in range(partitions):
                    self._move(transaction, group, topic_id, partition)
            if not self.dry_run:
                transaction.database.cursor.execute(
                    "UPDATE groups SET revision = revision + 1 WHERE group_id = ?", (group.group_id,)
                )
        transaction.announce = not self.dry_run

    def _move(self, transaction: Transaction, group: Group, topic_id: int, partition: int) -> None:
        place = (group.group_id, topic_id, partition)
        target = _start(transaction, topic_id, partition, self.starts)
        sql = "SELECT lane, frontier FROM lanes WHERE group_id = ? AND topic_id = ? AND partition = ?"
        for lane, frontier in transaction.database.rows(sql, place):
            low, high = sorted((target, frontier))
            between = stored_between(transaction.database, group.order_by, lane, topic_id, partition, low, high)
            if target < frontier:
                self.replayed += between
            else:
                self.skipped += between
        if self.dry_run:
            return
        for table in ("lanes", "claims", "retries", "parked"):
            transaction.database.cursor.execute(
                f"DELETE FROM {table} WHERE group_id = ? AND topic_id = ? AND partition = ?", place
            )
        _make_lanes(transaction, group, topic_id, [partition], target)


# ── lanes ──
def topic_appeared(transaction: Transaction, topic_id: int, name: str, partitions: int) -> None:
    """Give every group whose pattern covers a new topic (or one with new partitions) its lanes there."""
    sql = f"SELECT {_COLUMNS} FROM groups WHERE pattern = ? OR instr(pattern, '*')"
    for row in transaction.database.rows(sql, (name,)):
        group = group_of(row)
        if matches(group.pattern, name):
            sql = "SELECT DISTINCT partition FROM lanes WHERE group_id = ? AND topic_id = ?"
            known = {found[0] for found in transaction.database.rows(sql, (group.group_id, topic_id))}
            _make_lanes(transaction, group, topic_id, [p for p in range(partitions) if p not in known], 0)


def topic_renamed(transaction: Transaction, topic_id: int, old: str, new: str, partitions: int) -> None:
    """Groups on the old name alone go on under the new one; patterns cover what they match now.

    A group of a pattern that does not match the new name forgets its progress in the topic, as if it had been dropped.
    """
    rows = transaction.database.rows(f"SELECT {_COLUMNS} FROM groups WHERE pattern = ?", (old,))
    for group in map(group_of, rows):
        if find_group(transaction, group.name, new) is not None:
            raise GeodeError(
                f"group {group.name} is on {old}, and there is one of that name on {new}: DROP SUBSCRIPTION one of them first"
            )
        transaction.database.cursor.execute(
            "UPDATE groups SET pattern = ?, revision = revision + 1 WHERE group_id = ?", (new, group.group_id)
        )
    sql = "SELECT DISTINCT g.pattern, l.group_id FROM lanes AS l JOIN groups AS g USING (group_id) WHERE l.topic_id = ?"
    for pattern, group_id in transaction.database.rows(sql, (topic_id,)):
        if not matches(pattern, new):
            _forget(transaction, group_id, topic_id)
    topic_appeared(transaction, topic_id, new, partitions)


def topic_gone(transaction: Transaction, topic_id: int) -> None:
    """Forget the progress of all groups in a topic that was dropped."""
    sql = "SELECT DISTINCT group_id FROM lanes WHERE topic_id = ?"
    for (group_id,) in transaction.database.rows(sql, (topic_id,)):
        _forget(transaction, group_id, topic_id)


def _forget(transaction: Transaction, group_id: int, topic_id: int) -> None:
    for table in ("lanes", "claims", "retries", "parked"):
        transaction.database.cursor.execute(
            f"DELETE FROM {table} WHERE group_id = ? AND topic_id = ?", (group_id, topic_id)
        )


TOTAL = (
    "INSERT INTO group_totals VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO UPDATE SET"
    " acknowledged = acknowledged + ?3, filtered = filtered + ?4, dead_lettered = dead_lettered + ?5,"
    " expired = expired + ?6, removed = removed + ?7, failed = failed + ?8, redelivered = redelivered + ?9"
)
_COUNTERS = ("acknowledged", "filtered", "dead_lettered", "expired", "removed")


class Ahead(msgspec.Struct, frozen=True):
    """A lane of a group that had messages of a batch ahead, from offset `start` on. `pattern` None: of a private group."""

    name: str
    pattern: str | None
    order_by: str
    lane: int
    start: int


def pass_over(
    transaction: Transaction,
    topic_id: int,
    partition: int,
    first: int,
    end: int,
    counter: str,
    addressee: Addressee | None = None,
) -> list[Ahead]:
    """Offsets first to end - 1 are about to go: count their messages in every lane that still has them ahead.

    `counter`: removed or expired; for groups other than the `addressee`, if there is one, they are filtered. Lanes that are
    there already move past them. Gives the lanes that had any of them ahead, but for the filtered ones.
    """
    assert counter in _COUNTERS
    rows = transaction.database.rows(
        "SELECT l.group_id, l.lane, l.frontier, g.order_by, g.name, g.pattern, g.private_to FROM lanes AS l JOIN groups AS g USING (group_id)"
        " WHERE l.topic_id = ? AND l.partition = ? AND l.frontier < ?",
        (topic_id, partition, end),
    )
    ahead: list[Ahead] = []
    for group_id, lane, frontier, order_by, name, pattern, private_to in rows:
        is_meant = addressee is None or addressee == (name, pattern)
        column = counter if is_meant else "filtered"
        start = max(frontier, first)
        found = stored_between(transaction.database, order_by, lane, topic_id, partition, start, end)
        transaction.database.cursor.execute(
            f"UPDATE lanes SET {column} = {column} + ?, frontier = ? WHERE group_id = ? AND topic_id = ?"
            " AND partition = ? AND lane = ?",
            (found, end if frontier >= first else frontier, group_id, topic_id, partition, lane),
        )
        if found:
            numbers = [found if one == column else 0 for one in _COUNTERS]
            transaction.database.cursor.execute(TOTAL, (name, topic_id, *numbers, 0, 0))
            if is_meant:
                ahead.append(Ahead(name, None if private_to is not None else pattern, order_by, lane, start))
    return ahead


def _covered(transaction: Transaction, pattern: str, within: str | None = None) -> Iterator[tuple[int, int]]:
    """Topic id and partitions of each topic that a pattern covers, and that another one covers as well."""
    prefix = literal_prefix(pattern)
    sql = "SELECT topic_id, name, options FROM topics WHERE dropped = 0 AND name >= ? AND name < ?"
    for topic_id, name, options in transaction.database.rows(sql, (prefix, prefix + "\U0010ffff")):
        if matches(pattern, name) and (within is None or matches(within, name)):
            yield topic_id, TopicOptions.from_json(options).partitions


def _make_lanes(
    transaction: Transaction, group: Group, topic_id: int, partitions: Iterable[int], starts: Starts
) -> None:
    for partition in partitions:
        origin = _start(transaction, topic_id, partition, starts)
        # What is missing in the log already is counted once, in the first lane, so that the law holds from the start.
        end = transaction.next_offset(topic_id, partition)
        missing = end - origin - _stored_from(transaction, topic_id, partition, origin)
        transaction.database.cursor.executemany(
            "INSERT INTO lanes (group_id, topic_id, partition, lane, origin, frontier, removed) VALUES (?,?,?,?,?,?,?)",
            [
                (group.group_id, topic_id, partition, lane, origin, origin, missing if lane == 0 else 0)
                for lane in LANES[group.order_by]
            ],
        )


def _start(transaction: Transaction, topic_id: int, partition: int, starts: Starts) -> int:
    end = transaction.next_offset(topic_id, partition)
    if starts is None:
        return end
    wanted = starts if isinstance(starts, int) else starts.get((topic_id, partition), end)
    return min(max(wanted, _retained_from(transaction, topic_id, partition)), end)


def _retained_from(transaction: Transaction, topic_id: int, partition: int) -> int:
    sql = "SELECT start_offset FROM partitions WHERE topic_id = ? AND partition = ?"
    found = transaction.database.row(sql, (topic_id, partition))
    return int(found[0]) if found else 0


def _stored_from(transaction: Transaction, topic_id: int, partition: int, offset: int) -> int:
    """Messages stored at or after an offset."""
    sql = (
        "SELECT coalesce(sum(count), 0) - coalesce(sum(max(0, ?3 - base_offset)), 0) FROM batches"
        f" WHERE topic_id = ?1 AND partition = ?2 AND {_REACHES} AND base_offset + count > ?3"
    )
    return int(transaction.database.rows(sql, (topic_id, partition, offset))[0][0])


# Batches that may reach beyond ?3: from the one that holds it on.
_REACHES = (
    "base_offset >= coalesce((SELECT max(base_offset) FROM batches WHERE topic_id = ?1 AND partition = ?2"
    " AND base_offset <= ?3), ?3)"
)


def stored_between(
    database: Readable, order_by: str, lane: int, topic_id: int, partition: int, first: int, end: int
) -> int:
    """Messages of a lane that are stored at offsets first to end - 1."""
    return sum(
        members.count(1) for _, members, _ in lane_members(database, order_by, lane, topic_id, partition, first, end)
    )


def lane_members(
    database: Readable,
    order_by: str,
    lane: int,
    topic_id: int,
    partition: int,
    first: int,
    end: int,
    rows_max: int = -1,
) -> Iterator[tuple[int, bytes, int]]:
    """Stored batches that reach into first to end - 1, in order: offset of the first message meant, a byte for each
    message from there to the end of the batch (or `end`), 1 where it is of the lane, and the size of the whole batch.

    For priority lanes only batches of that priority come.
    """
    only, bindings = "", [topic_id, partition, first, end]
    if order_by == PRIORITY:
        only = "AND priority = ?5"
        bindings.append(lane)
        if lane != DEFAULT_PRIORITY:
            only += f" AND priority <> {DEFAULT_PRIORITY}"  # so that SQLite sees that the index has them
    inside = ", codec, attributes" if order_by == KEY else ""
    sql = (
        f"SELECT base_offset, count, raw_bytes{inside} FROM batches WHERE topic_id = ?1 AND partition = ?2 {only}"
        f" AND {_REACHES} AND base_offset < ?4 AND base_offset + count > ?3"
        f" ORDER BY base_offset LIMIT {rows_max}"
    )
    for row in database.each(sql, bindings):
        base, stop = row[0], min(row[0] + row[1], end)
        start = max(base, first)
        if order_by == KEY:
            yield start, slot_bytes(row[3], row[4], lane, base, start, stop), row[2]
        else:
            yield start, b"\x01" * (stop - start), row[2]


def lane_numbers(
    order_by: str, priority: int, codec: int, attributes: bytes | None, base: int, start: int, stop: int
) -> bytes:
    """The lane of each message at offsets start to stop - 1 of a batch, in a group of this order."""
    if order_by == KEY:
        return _slots(codec, attributes, base % SLOTS, stop - base)[start - base :]
    return bytes((priority if order_by == PRIORITY else 0,)) * (stop - start)


def slot_bytes(codec: int, attributes: bytes | None, slot: int, base: int, start: int, stop: int) -> bytes:
    """A byte for each message at offsets start to stop - 1 of a batch: 1 where its key is of the slot."""
    found = _slots(codec, attributes, base % SLOTS, stop - base)
    return found[start - base :].translate(_IS_SLOT[slot])


@functools.lru_cache(maxsize=1024)
def _slots(codec: int, attributes: bytes | None, first: int, count: int) -> bytes:
    """The slot of each message of a batch whose first offset is `first` modulo SLOTS: unpacked once for all slots."""
    try:
        keys = unpack_attributes(codec, attributes).keys
    except Exception:  # noqa: BLE001 - damaged: the reader of the batch reports it with its place
        keys = None
    if isinstance(keys, str):
        return bytes((slot_of(keys, 0),)) * count
    if keys is None:
        return bytes((first + place) % SLOTS for place in range(count))
    return bytes(slot_of(key, first + place) for place, key in enumerate(keys[:count]))


_IS_SLOT = [bytes(value == slot for value in range(256)) for slot in range(SLOTS)]
