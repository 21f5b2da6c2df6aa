"""The work that puts messages of a group into a process's hands.

In this order: retries that are due, claims that nobody holds any more (let go of, or their owner dead or silent past the
deadline), and new ranges at the frontiers of the lanes. Everything given out is a row of `claims`, whose id no settlement
can do without; taking a claim over gives it a new id. A claim that was lost by a silent or dead owner counts an attempt
for all its messages and is taken over in smaller and smaller pieces, so that one message that kills its consumers ends
alone.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from geode_client.delivery.lanes import DEFAULT_PRIORITY, KEY, PRIORITY
from geode_client.errors import GeodeError, GroupNotFound
from geode_client.store import groups
from geode_client.store.groups import Group, lane_members
from geode_client.store.writer import Transaction

CLAIM_OFFSETS_MAX = 4096
CLAIM_BYTES_MAX = 8 * 1024 * 1024
LANES_AT_ONCE = 64
ROWS_AT_ONCE = 256
BATCHES_AT_ONCE = 4096
# How far lanes may stay behind the log, and how many claims lie between two looks at those that do.
LAG_OF_LANE = 1024
CLAIMS_BETWEEN = 32
PIECES_OF_LOST = 8
HELD_MAX = 1024


class Claimed(msgspec.Struct, frozen=True):
    """Messages in our hands: those of `pending` that are 1, counted from offset `first`.

    `attempts` were made before, the last of which failed with `error`. `blocked`: keys of which earlier messages wait for a
    retry (ordered groups).
    """

    claim_id: int
    topic_id: int
    partition: int
    lane: int
    first: int
    pending: bytes
    attempts: int
    retried: bool
    key: str | None
    error: str | None
    blocked: frozenset[str] = frozenset()


class Claim(msgspec.Struct, eq=False):
    """Take up to `wanted` messages of a group for `owner`. After the commit `claimed` has them; `group` is None when it is
    gone.

    Times: `now_us` of the wall clock (retries), `boot_us` of the clock that only stops with the machine (leases).
    `dead`: owners that are known to be gone. `partition` limits it to one. `above`: only lanes beyond this one.
    `topic_ids` limits the look at frontiers (None: all lanes). `turn` decides which lane is looked at first.
    `through`: offset by (topic id, partition) at which a private group ends. `more`: a look at a frontier ended before its
    end. `lost`: claims that were taken from a dead or silent owner. `name` and `pattern` of the group are for errors.
    """

    group_id: int
    owner: str
    wanted: int
    now_us: int
    boot_us: int
    lease_us: int
    dead: Sequence[str] = ()
    partition: int | None = None
    above: int | None = None
    topic_ids: Sequence[int] | None = None
    turn: int = 0
    through: dict[tuple[int, int], int] | None = None
    name: str = ""
    pattern: str | None = None
    durable: bool = False
    error: GeodeError | None = None
    group: Group | None = None
    claimed: list[Claimed] = msgspec.field(default_factory=list)
    lost: int = 0
    more: bool = False

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        self.group = groups.group_by_id(transaction, self.group_id)
        if self.group is None:
            raise GroupNotFound(self.name or f"#{self.group_id}", self.pattern, ())
        if self.group.paused:
            return
        if self.group.order_by == PRIORITY:
            self._take_from_the_highest(transaction)
        else:
            self._take(transaction, self.wanted, None)

    def _take(self, transaction: Transaction, left: int, lane: int | None) -> int:
        """Take up to `left` messages of one lane or of all; how many those were."""
        taken = self._take_retries(transaction, left, lane)
        if taken < left:
            taken += self._take_over(transaction, left - taken, lane)
        if taken < left:
            taken += self._take_new(transaction, left - taken, lane)
        return taken

    def _take_from_the_highest(self, transaction: Transaction) -> None:
        left = self.wanted
        sql = (
            "SELECT lane FROM retries WHERE group_id = ?1 AND not_before_us <= ?2"
            " UNION SELECT lane FROM claims WHERE group_id = ?1"
            " UNION SELECT l.lane FROM lanes AS l JOIN partitions AS p USING (topic_id, partition) WHERE l.group_id = ?1"
            "  AND l.frontier < p.next_offset ORDER BY lane DESC"
        )
        lowest = -1 if self.above is None else self.above
        idle = []
        for (lane,) in transaction.database.rows(sql, (self.group_id, self.now_us)):
            # A lane that was left before its end has more for the next claim, before any lower one.
            if left > 0 and lane > lowest and not self.more:
                left -= self._take(transaction, left, lane)
            else:
                idle.append(lane)
        if idle and self.turn % CLAIMS_BETWEEN == 0:
            self._pass_over_others(transaction, idle)

    def _pass_over_others(self, transaction: Transaction, lanes: Sequence[int]) -> None:
        """Move the frontiers of lanes that had no turn over messages that are not of them: while the higher ones keep the
        group busy they would become ever more to look at, and hold back the retention of what was consumed."""
        assert self.group is not None
        rows = transaction.database.rows(
            f"{_FRONTIERS} AND l.frontier + {LAG_OF_LANE} <= p.next_offset AND l.lane IN ({', '.join('?' * len(lanes))})",
            (self.group_id, self.partition, *lanes),
        )
        turned = self.turn // CLAIMS_BETWEEN * LANES_AT_ONCE % len(rows) if rows else 0
        for lane, topic_id, partition, frontier, end in (rows[turned:] + rows[:turned])[:LANES_AT_ONCE]:
            end = self._look_end(transaction, (topic_id, partition, lane), frontier, end)
            arguments = (transaction.database, self.group.order_by, lane, topic_id, partition, frontier, end)
            reached = next((start for start, _, _ in lane_members(*arguments, rows_max=1)), end)
            if reached > frontier:
                self._move_frontier(transaction, (topic_id, partition, lane), reached)

    def _move_frontier(self, transaction: Transaction, place: tuple[int, int, int], reached: int) -> None:
        transaction.database.cursor.execute(
            "UPDATE lanes SET frontier = ? WHERE group_id = ? AND topic_id = ? AND partition = ? AND lane = ?",
            (reached, self.group_id, *place),
        )

    # ── retries that are due ──
    def _take_retries(self, transaction: Transaction, left: int, lane: int | None) -> int:
        assert self.group is not None
        rows = transaction.database.rows(
            _DUE_IN_ORDER if self.group.order_by == KEY else _DUE,
            (self.group_id, self.now_us, self.partition, left, lane),
        )
        for topic_id, partition, offset, its_lane, key, attempts, error in rows:
            transaction.database.cursor.execute(
                "DELETE FROM retries WHERE group_id = ? AND topic_id = ? AND partition = ? AND offset = ?",
                (self.group_id, topic_id, partition, offset),
            )
            self._insert(transaction, (topic_id, partition, its_lane), offset, b"\x01", attempts, True, key, error)
        return len(rows)

    # ── claims that nobody holds ──
    def _take_over(self, transaction: Transaction, left: int, lane: int | None) -> int:
        assert self.group is not None
        rows = transaction.database.rows(
            _ORPHANED.format(owners=", ".join("?" * len(self.dead)) or "NULL"),
            (self.group_id, self.partition, self.boot_us, lane, *self.dead),
        )
        busy = self._lanes_in_hand(transaction) if self.group.order_by == KEY else None
        suspects = self._holds_suspect(transaction) if rows else False
        taken = 0
        for row in rows:
            place, attempts, retried, owner = row[1:4], row[5], row[6], row[9]
            if taken >= left:
                break
            if not retried and (attempts or owner is not None):
                # What was lost with a consumer may be what ended it: one piece at a time, so that it ends alone.
                if suspects:
                    continue
                suspects = True
            if busy is not None and not retried:
                # Of a lane of an ordered group one piece at a time, the earliest first.
                if place in busy:
                    continue
                busy.add(place)
            taken += self._take_over_one(transaction, row, left - taken)
        return taken

    def _holds_suspect(self, transaction: Transaction) -> bool:
        """Whether this owner has a piece in hand that was lost before."""
        sql = "SELECT 1 FROM claims WHERE group_id = ? AND owner = ? AND attempts > 0 AND retried = 0 LIMIT 1"
        return transaction.database.row(sql, (self.group_id, self.owner)) is not None

    def _lanes_in_hand(self, transaction: Transaction) -> set[tuple[int, int, int]]:
        """Lanes of which a living consumer holds a piece."""
        marks = ", ".join("?" * len(self.dead)) or "NULL"
        sql = (
            "SELECT DISTINCT topic_id, partition, lane FROM claims WHERE group_id = ? AND retried = 0 AND owner IS NOT NULL"
            f" AND deadline_us >= ? AND owner NOT IN ({marks})"
        )
        if not self.dead:
            sql = sql.removesuffix(" AND owner NOT IN (NULL)")
        return set(transaction.database.rows(sql, (self.group_id, self.boot_us, *self.dead)))

    def _take_over_one(self, transaction: Transaction, row: tuple[Any, ...], left: int) -> int:
        claim_id, topic_id, partition, lane, first, attempts, retried, key, error, owner, pending = row
        if owner is not None:
            self.lost += 1
            attempts += 1
            error = "its consumer died or was silent for longer than ack_timeout"
        size = min(left, _piece(pending.count(1), attempts if owner is not None else 0))
        cut = _after(pending, size)
        cursor = transaction.database.cursor
        cursor.execute("DELETE FROM claims WHERE claim_id = ?", (claim_id,))
        place = (topic_id, partition, lane)
        self._insert(transaction, place, first, pending[:cut], attempts, bool(retried), key, error)
        if pending.count(1, cut):
            rest = (place, first + cut, pending[cut:], attempts, bool(retried), key, error)
            self._insert(transaction, *rest, ours=False)
            self.more |= not attempts
        return int(pending.count(1, 0, cut))

    # ── new ranges ──
    def _take_new(self, transaction: Transaction, left: int, only: int | None) -> int:
        assert self.group is not None
        taken = 0
        for lane, topic_id, partition, frontier, end in self._open_lanes(transaction, only):
            if taken >= left:
                break
            if self.group.order_by == KEY and self._is_held_back(transaction, topic_id, partition, lane):
                continue
            if self.through is not None:
                end = min(end, self.through.get((topic_id, partition), 0))
            if frontier < end:
                taken += self._advance(transaction, (topic_id, partition, lane), frontier, end, left - taken)
        return taken

    def _open_lanes(self, transaction: Transaction, only: int | None) -> list[tuple[Any, ...]]:
        """Lanes with something ahead, each in its turn."""
        topics, bindings = "", []
        if self.topic_ids is not None:
            topics = f"AND l.topic_id IN ({', '.join('?' * len(self.topic_ids))})"
            bindings = list(self.topic_ids)
        rows = transaction.database.rows(
            f"{_FRONTIERS} AND l.frontier < p.next_offset AND (?3 IS NULL OR l.lane = ?3) {topics}",
            (self.group_id, self.partition, only, *bindings),
        )
        turned = self.turn % len(rows) if rows else 0
        return rows[turned:] + rows[:turned]

    def _is_held_back(self, transaction: Transaction, topic_id: int, partition: int, lane: int) -> bool:
        """Whether a lane of an ordered group is in somebody's hands, or has too many messages waiting behind failed ones."""
        place = (self.group_id, topic_id, partition, lane)
        where = "group_id = ? AND topic_id = ? AND partition = ? AND lane = ?"
        if transaction.database.row(f"SELECT 1 FROM claims WHERE {where} AND retried = 0 LIMIT 1", place):
            return True
        held = transaction.database.rows(f"SELECT count(*) FROM retries WHERE {where}", place)[0][0]
        return bool(held >= HELD_MAX)

    def _look_end(self, transaction: Transaction, place: tuple[int, int, int], frontier: int, end: int) -> int:
        """How far to look at once: the lane of the default priority has no index, and may have many others in between."""
        assert self.group is not None
        topic_id, partition, lane = place
        if self.group.order_by != PRIORITY or lane != DEFAULT_PRIORITY:
            return end
        sql = (
            "SELECT base_offset FROM batches WHERE topic_id = ? AND partition = ? AND base_offset > ? ORDER BY base_offset"
            f" LIMIT 1 OFFSET {BATCHES_AT_ONCE}"
        )
        found = transaction.database.row(sql, (topic_id, partition, frontier))
        return end if found is None else min(end, int(found[0]))

    def _advance(
        self, transaction: Transaction, place: tuple[int, int, int], frontier: int, end: int, left: int
    ) -> int:
        """Claim what lies at the frontier of a lane and move the frontier behind it; how many messages that were."""
        assert self.group is not None
        topic_id, partition, lane = place
        taken, first, size = 0, frontier, 0
        pending = bytearray()
        lane_end, end = end, self._look_end(transaction, place, frontier, end)
        reached = end
        rows = lane_members(
            transaction.database, self.group.order_by, lane, topic_id, partition, frontier, end, rows_max=ROWS_AT_ONCE
        )
        for number, (start, members, raw_bytes) in enumerate(rows, 1):
            size += raw_bytes
            beyond = start + 1 - first > CLAIM_OFFSETS_MAX or size > CLAIM_BYTES_MAX
            # Half of what is wanted is enough where the rest would cut a batch, which is then unpacked twice.
            if pending and (beyond or (2 * taken >= left and members.count(1) > left - taken)):
                reached = start
                break
            first = start if not pending else first
            room = min(CLAIM_OFFSETS_MAX - (start - first), _after(members, left - taken))
            pending += bytes(start - first - len(pending)) + members[:room]
            taken += members.count(1, 0, room)
            if room < len(members) or taken >= left or number == ROWS_AT_ONCE:
                reached = start + room
                break
        self.more |= reached < lane_end
        self._move_frontier(transaction, place, reached)
        if taken:
            self._insert(transaction, place, first, bytes(pending), 0, False, None, None)
        return int(taken)

    def _insert(
        self,
        transaction: Transaction,
        place: tuple[int, int, int],
        first: int,
        pending: bytes,
        attempts: int,
        retried: bool,
        key: str | None,
        error: str | None,
        *,
        ours: bool = True,
    ) -> None:
        assert self.group is not None
        owner, deadline = (self.owner, self.boot_us + self.lease_us) if ours else (None, 0)
        transaction.database.cursor.execute(
            "INSERT INTO claims (group_id, topic_id, partition, lane, first, attempts, retried, key, error, owner,"
            " deadline_us, pending) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (self.group_id, *place, first, attempts, retried, key, error, owner, deadline, pending),
        )
        if not ours:
            return
        claim_id = transaction.database.connection.last_insert_rowid()
        blocked: frozenset[str] = frozenset()
        if self.group.order_by == KEY and not retried:
            blocked = _blocked_keys(transaction, self.group_id, place)
        self.claimed.append(Claimed(claim_id, *place, first, pending, attempts, retried, key, error, blocked))


def _piece(size: int, attempts: int) -> int:
    """How much of a lost claim is taken over at once: the more often it was lost, the less."""
    return max(1, int(size // PIECES_OF_LOST ** min(attempts, 8)))


def _after(members: bytes, count: int) -> int:
    """The place behind the `count`-th 1 of a row of bytes, or its end when there are no more than that."""
    if count >= len(members) or count >= members.count(1):
        return len(members)
    if members.count(1) == len(members):
        return count
    place = -1
    for _ in range(count):
        place = members.index(1, place + 1)
    return place + 1


def _blocked_keys(transaction: Transaction, group_id: int, place: tuple[int, int, int]) -> frozenset[str]:
    """Keys of which an earlier message waits for its retry, or is being retried."""
    where = "group_id = ?1 AND topic_id = ?2 AND partition = ?3 AND lane = ?4 AND key IS NOT NULL"
    sql = f"SELECT key FROM retries WHERE {where} UNION SELECT key FROM claims WHERE {where} AND retried = 1"
    return frozenset(row[0] for row in transaction.database.rows(sql, (group_id, *place)))


# Where each lane of a group (or of one partition of it) stands, and the end of its log.
_FRONTIERS = (
    "SELECT l.lane, l.topic_id, l.partition, max(l.frontier, p.start_offset), p.next_offset FROM lanes AS l"
    " JOIN partitions AS p USING (topic_id, partition) WHERE l.group_id = ?1 AND (?2 IS NULL OR l.partition = ?2)"
)
_DUE = (
    "SELECT topic_id, partition, offset, lane, key, attempts, error FROM retries"
    " WHERE group_id = ?1 AND not_before_us <= ?2 AND (?3 IS NULL OR partition = ?3) AND (?5 IS NULL OR lane = ?5)"
    " ORDER BY not_before_us, offset LIMIT ?4"
)
# Of each key only the earliest, and that only while no other message of the key is being retried.
FREE_IN_ORDER = (
    "(key IS NULL OR NOT EXISTS"
    " (SELECT 1 FROM retries AS e WHERE e.group_id = r.group_id AND e.topic_id = r.topic_id AND e.partition = r.partition"
    "  AND e.key = r.key AND e.offset < r.offset)"
    " AND NOT EXISTS (SELECT 1 FROM claims AS c WHERE c.group_id = r.group_id AND c.topic_id = r.topic_id"
    "  AND c.partition = r.partition AND c.lane = r.lane AND c.key = r.key))"
)
_DUE_IN_ORDER = (
    "SELECT topic_id, partition, offset, lane, key, attempts, error FROM retries AS r"
    " WHERE group_id = ?1 AND not_before_us <= ?2 AND (?3 IS NULL OR partition = ?3) AND (?5 IS NULL OR lane = ?5)"
    f" AND {FREE_IN_ORDER} ORDER BY not_before_us, offset LIMIT ?4"
)
_ORPHANED = (
    "SELECT claim_id, topic_id, partition, lane, first, attempts, retried, key, error, owner, pending FROM claims"
    " WHERE group_id = ?1 AND (?2 IS NULL OR partition = ?2) AND (?4 IS NULL OR lane = ?4)"
    " AND (owner IS NULL OR deadline_us < ?3 OR owner IN ({owners})) ORDER BY topic_id, partition, first"
)
