"""The work that puts messages of a group into a process's hands: `delivery/claiming.py` decides, this answers from SQL.

Everything given out is a row of `claims`, whose id no settlement can do without; taking a claim over gives it a new id.
"""

from collections.abc import Iterator, Sequence

import msgspec

from geode_client.delivery.claiming import (
    LOSSES_ALONE,
    Claimed,
    ClaimOutcome,
    ClaimRequest,
    Frontier,
    LostClaim,
    Place,
    Run,
    Stretch,
    Unowned,
    after,
    claim,
    release_lost,
)
from geode_client.delivery.claims import LEASE_SHORTEST_US
from geode_client.delivery.lanes import DEFAULT_PRIORITY, KEY, PRIORITY
from geode_client.errors import GeodeError, GroupNotFound
from geode_client.store import groups
from geode_client.store.groups import TOTAL, Group, lane_members
from geode_client.store.reordering import take_next_order
from geode_client.store.settling import PARK
from geode_client.store.writer import Transaction

BATCHES_AT_ONCE = 4096
UNOWNED_AT_ONCE = 256
# The claims of at_most_once topics last as long as their process: a lease that ends would lose what was not handed over.
FOR_EVER_US = 2**62


class Claim(msgspec.Struct, eq=False):
    """Claim messages of a group. After the commit `claimed` has them; `group` is None when it is gone.

    The lease is `lease_us`; with `own_leases`, for groups of several topics, that of the topic of each claim, where it has
    one. `name` and `pattern` of the group are for errors.
    """

    group_id: int
    request: ClaimRequest
    lease_us: int
    name: str = ""
    pattern: str | None = None
    own_leases: bool = False
    durable: bool = False
    error: GeodeError | None = None
    group: Group | None = None
    claimed: list[Claimed] = msgspec.field(default_factory=list)
    outcome: ClaimOutcome = msgspec.field(default_factory=ClaimOutcome)

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        self.group = groups.group_by_id(transaction, self.group_id)
        if self.group is None:
            raise GroupNotFound(self.name or f"#{self.group_id}", self.pattern, ())
        if self.group.next_order is not None:
            release_lost(SqlClaims(transaction, self.group, self.request, self.lease_us), self.request)
            self.group = take_next_order(transaction, self.group_id)
            assert self.group is not None
        if self.group.paused or self.group.next_order is not None:
            return
        port = SqlClaims(transaction, self.group, self.request, self.lease_us, own_leases=self.own_leases)
        self.outcome = claim(port, self.request)
        self.claimed = port.claimed


class SqlClaims:
    """One group's tables inside a transaction, as `ClaimPort` asks for them."""

    def __init__(
        self,
        transaction: Transaction,
        group: Group,
        request: ClaimRequest,
        lease_us: int,
        *,
        own_leases: bool = False,
    ) -> None:
        self._transaction = transaction
        self._database = transaction.database
        self._group_id = group.group_id
        self._request = request
        self._lease_us = lease_us
        self._own_leases = own_leases
        self._topics: dict[int, tuple[bool, int]] = {}
        self.order_by = group.order_by
        self.claimed: list[Claimed] = []

    # ── losses ──
    def lost(self, dead: Sequence[str], boot_us: int) -> Sequence[LostClaim]:
        marks = ", ".join("?" * len(dead)) or "NULL"
        sql = (
            "SELECT DISTINCT owner FROM claims WHERE group_id = ? AND owner IS NOT NULL"
            f" AND owner <> ? AND (deadline_us < ? OR owner IN ({marks}))"
        )
        bindings = (self._group_id, self._request.owner, boot_us, *dead)
        owners = [row[0] for row in self._database.rows(sql, bindings)]
        gone = set(dead)
        found = [
            one for owner in owners for one in self._claims_of(owner, FOR_EVER_US + 1 if owner in gone else boot_us)
        ]
        for process in {one.process for one in found}:
            # What it holds besides, as other clients or with a longer lease, is lost later and was not alone either.
            self._database.cursor.execute(
                "UPDATE claims SET begun = 0 WHERE begun = 1 AND owner >= ? AND owner < ?",
                (f"{process}-", f"{process}."),
            )
        return found

    def _claims_of(self, owner: str, before_us: int) -> Iterator[LostClaim]:
        """The claims of an owner, of all groups, whose deadline is before a time."""
        for claim_id, begun, topic_id, *rest in self._database.rows(
            f"SELECT claim_id, begun, {_RUN} FROM claims WHERE owner = ? AND deadline_us < ?", (owner, before_us)
        ):
            run = _run(topic_id, *rest)
            yield LostClaim(claim_id, process_of(owner), run, bool(begun), self._settles(topic_id))

    def held_by(self, process: str) -> int:
        sql = "SELECT pending FROM claims WHERE owner >= ? AND owner < ?"
        rows = self._database.rows(sql, (f"{process}-", f"{process}."))
        return sum(row[0].count(1) for row in rows)

    def settle_lost(self, claim: LostClaim) -> None:
        cursor = self._database.cursor
        group_id, name = self._database.rows(
            "SELECT group_id, name FROM claims JOIN groups USING (group_id) WHERE claim_id = ?", (claim.claim_id,)
        )[0]
        topic_id, partition, lane = claim.run.place
        count = claim.run.pending.count(1)
        cursor.execute("DELETE FROM claims WHERE claim_id = ?", (claim.claim_id,))
        cursor.execute(
            "UPDATE lanes SET acknowledged = acknowledged + ? WHERE group_id = ? AND topic_id = ? AND partition = ?"
            " AND lane = ?",
            (count, group_id, topic_id, partition, lane),
        )
        cursor.execute(TOTAL, (name, topic_id, count, 0, 0, 0, 0, 0, 0))

    def release(self, claim: LostClaim, runs: Sequence[Run]) -> None:
        group_id = self._database.rows("SELECT group_id FROM claims WHERE claim_id = ?", (claim.claim_id,))[0][0]
        self._database.cursor.execute("DELETE FROM claims WHERE claim_id = ?", (claim.claim_id,))
        for run in runs:
            self._insert(group_id, run, None, 0)
        self._transaction.announce = True

    def suspect_lanes(self, owner: str) -> Sequence[int]:
        sql = (
            "SELECT DISTINCT lane FROM claims WHERE group_id = ?1 AND owner = ?2 AND losses > 0"
            " AND (?3 IS NULL OR partition = ?3)"
        )
        return [row[0] for row in self._database.rows(sql, (self._group_id, owner, self._request.partition))]

    # ── what waits ──
    def lanes_with_something(self, now_us: int) -> Sequence[int]:
        return [row[0] for row in self._database.rows(_LANES_WITH_SOMETHING, (self._group_id, now_us))]

    def take_retries(self, now_us: int, partition: int | None, lane: int | None, limit: int) -> Sequence[Run]:
        sql = _DUE_IN_ORDER if self.order_by == KEY else _DUE
        found = []
        for topic_id, part, offset, its_lane, key, attempts, error in self._database.rows(
            sql, (self._group_id, now_us, partition, limit, lane)
        ):
            self._database.cursor.execute(_DELETE_RETRY, (self._group_id, topic_id, part, offset))
            found.append(
                Run((topic_id, part, its_lane), offset, b"\x01", attempts=attempts, retried=True, key=key, error=error)
            )
        return found

    def take_parked(self, partition: int | None, limit: int) -> Sequence[Run]:
        found, taken = [], 0
        for topic_id, part, key, first, lane, pending in self._database.rows(
            _FREE_PARKED, (self._group_id, partition, limit)
        ):
            if taken >= limit:
                break
            end = after(pending, limit - taken)
            place = (self._group_id, topic_id, part, key, first)
            self._database.cursor.execute(_DELETE_PARKED, place)
            if pending.count(1, end):
                self._database.cursor.execute(PARK, (*place[:4], first + end, lane, pending[end:]))
            taken += pending.count(1, 0, end)
            found.append(Run((topic_id, part, lane), first, pending[:end], key=key))
        return found

    def unowned(self, partition: int | None, lane: int | None) -> Sequence[Unowned]:
        if self.order_by == KEY:
            rows = self._database.rows(_UNOWNED_IN_ORDER, (self._group_id, partition, lane))
        else:
            rows = self._database.rows(_UNOWNED, (self._group_id, partition, lane, self._request.alone))
        return [Unowned(claim_id, _run(*rest)) for claim_id, *rest in rows]

    def lanes_in_hand(self) -> set[Place]:
        sql = (
            "SELECT DISTINCT topic_id, partition, lane FROM claims WHERE group_id = ? AND retried = 0 AND key IS NULL"
            " AND owner IS NOT NULL"
        )
        return set(self._database.rows(sql, (self._group_id,)))

    def keys_in_hand(self) -> set[tuple[int, int, str]]:
        sql = (
            "SELECT DISTINCT topic_id, partition, key FROM claims WHERE group_id = ? AND key IS NOT NULL"
            " AND owner IS NOT NULL"
        )
        return set(self._database.rows(sql, (self._group_id,)))

    def adopt(self, claim: Unowned, end: int) -> None:
        run = claim.run
        self._database.cursor.execute("DELETE FROM claims WHERE claim_id = ?", (claim.claim_id,))
        self.claim(msgspec.structs.replace(run, pending=run.pending[:end]))
        if run.pending.count(1, end):
            rest = msgspec.structs.replace(run, first=run.first + end, pending=run.pending[end:])
            self._insert(self._group_id, rest, None, 0)

    # ── new messages ──
    def frontiers(
        self, partition: int | None, lane: int | None, topic_ids: Sequence[int] | None, ahead: int = 1
    ) -> Sequence[Frontier]:
        only = "" if topic_ids is None else f" AND l.topic_id IN ({', '.join('?' * len(topic_ids))})"
        rows = self._database.rows(
            f"{_FRONTIERS}{only}", (self._group_id, partition, lane, ahead, *(() if topic_ids is None else topic_ids))
        )
        return [Frontier(row[:3], row[3], row[4]) for row in rows]

    def is_held_back(self, place: Place) -> bool:
        sql = (
            "SELECT 1 FROM claims WHERE group_id = ? AND topic_id = ? AND partition = ? AND lane = ? AND retried = 0"
            " AND key IS NULL LIMIT 1"
        )
        return self._database.row(sql, (self._group_id, *place)) is not None

    def look_end(self, place: Place, offset: int, end: int) -> int:
        """The lane of the default priority has no index, and may have many batches of others in between."""
        topic_id, partition, lane = place
        if self.order_by != PRIORITY or lane != DEFAULT_PRIORITY:
            return end
        sql = (
            "SELECT base_offset FROM batches WHERE topic_id = ? AND partition = ? AND base_offset > ? ORDER BY base_offset"
            f" LIMIT 1 OFFSET {BATCHES_AT_ONCE}"
        )
        found = self._database.row(sql, (topic_id, partition, offset))
        return end if found is None else min(end, int(found[0]))

    def stored(self, place: Place, offset: int, end: int, runs_max: int) -> Iterator[Stretch]:
        topic_id, partition, lane = place
        for row in lane_members(self._database, self.order_by, lane, topic_id, partition, offset, end, runs_max):
            yield Stretch(*row)

    def move_frontier(self, place: Place, offset: int) -> None:
        self._database.cursor.execute(
            "UPDATE lanes SET frontier = ? WHERE group_id = ? AND topic_id = ? AND partition = ? AND lane = ?",
            (offset, self._group_id, *place),
        )

    # ── claims ──
    def claim(self, run: Run) -> None:
        settles_first, lease_us = self._topic(run.place[0])
        deadline_us = FOR_EVER_US if settles_first else self._request.boot_us + lease_us
        claim_id = self._insert(self._group_id, run, self._request.owner, deadline_us)
        blocked: frozenset[str] = frozenset()
        if self.order_by == KEY and not run.retried and run.key is None:
            rows = self._database.rows(_BLOCKED, (self._group_id, *run.place))
            blocked = frozenset(row[0] for row in rows)
        self.claimed.append(
            Claimed(
                claim_id,
                *run.place,
                run.first,
                run.pending,
                run.attempts,
                run.losses,
                run.retried,
                run.key,
                run.error,
                blocked,
                deadline_us,
            )
        )

    def _insert(self, group_id: int, run: Run, owner: str | None, deadline_us: int) -> int:
        self._database.cursor.execute(
            _INSERT,
            (
                group_id,
                *run.place,
                run.first,
                run.attempts,
                run.retried,
                run.key,
                run.error,
                owner,
                deadline_us,
                run.pending,
                run.losses,
            ),
        )
        return self._database.connection.last_insert_rowid()

    def _settles(self, topic_id: int) -> bool:
        """Whether messages of a topic are settled before they are handed over."""
        return self._topic(topic_id)[0]

    def _topic(self, topic_id: int) -> tuple[bool, int]:
        """Whether messages of a topic are settled before they are handed over, and the lease of its claims."""
        found = self._topics.get(topic_id)
        if found is None:
            sql = "SELECT delivery, options ->> 'ack_timeout_us' FROM topics WHERE topic_id = ?"
            delivery, own_us = self._database.row(sql, (topic_id,)) or (None, None)
            has_own = self._own_leases and own_us is not None
            lease_us = max(LEASE_SHORTEST_US, own_us) if has_own else self._lease_us
            found = self._topics[topic_id] = delivery == "at_most_once", lease_us
        return found


class Begin(msgspec.Struct, eq=False):
    """Mark a claim as begun, if its process holds nothing else; `began` says whether it was."""

    claim_id: int
    owner: str
    durable: bool = False
    error: GeodeError | None = None
    began: bool = False

    def prepare(self) -> None: ...

    def run(self, transaction: Transaction) -> None:
        process = process_of(self.owner)
        others = transaction.database.row(
            "SELECT 1 FROM claims WHERE owner >= ? AND owner < ? AND claim_id <> ? LIMIT 1",
            (f"{process}-", f"{process}.", self.claim_id),
        )
        if others is not None:
            return
        transaction.database.cursor.execute(
            "UPDATE claims SET begun = 1 WHERE claim_id = ? AND owner = ?", (self.claim_id, self.owner)
        )
        self.began = transaction.database.connection.changes() == 1


def process_of(owner: str) -> str:
    """The process that an owner belongs to: every client of a process is an owner of its own (`<process>-<client>`)."""
    return owner.rpartition("-")[0]


def _run(
    topic_id: int,
    partition: int,
    lane: int,
    first: int,
    pending: bytes,
    attempts: int,
    losses: int,
    retried: int,
    key: str | None,
    error: str | None,
) -> Run:
    return Run((topic_id, partition, lane), first, pending, attempts, losses, bool(retried), key, error)


_RUN = "topic_id, partition, lane, first, pending, attempts, losses, retried, key, error"
_INSERT = (
    "INSERT INTO claims (group_id, topic_id, partition, lane, first, attempts, retried, key, error, owner, deadline_us,"
    " pending, losses) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_DELETE_RETRY = "DELETE FROM retries WHERE group_id = ? AND topic_id = ? AND partition = ? AND offset = ?"
_DELETE_PARKED = "DELETE FROM parked WHERE group_id = ? AND topic_id = ? AND partition = ? AND key = ? AND first = ?"
_LANES_WITH_SOMETHING = (
    "SELECT lane FROM retries WHERE group_id = ?1 AND not_before_us <= ?2"
    " UNION SELECT lane FROM claims WHERE group_id = ?1 AND owner IS NULL"
    " UNION SELECT l.lane FROM lanes AS l JOIN partitions AS p USING (topic_id, partition) WHERE l.group_id = ?1"
    "  AND l.frontier < p.next_offset ORDER BY lane DESC"
)
# Where each lane of a group (or of one partition or lane of it) has its next message, and the end of its log.
_FRONTIERS = (
    "SELECT l.topic_id, l.partition, l.lane, max(l.frontier, p.start_offset), p.next_offset FROM lanes AS l"
    " JOIN partitions AS p USING (topic_id, partition) WHERE l.group_id = ?1 AND (?2 IS NULL OR l.partition = ?2)"
    " AND (?3 IS NULL OR l.lane = ?3) AND l.frontier + ?4 <= p.next_offset"
)
_DUE = (
    "SELECT topic_id, partition, offset, lane, key, attempts, error FROM retries"
    " WHERE group_id = ?1 AND not_before_us <= ?2 AND (?3 IS NULL OR partition = ?3) AND (?5 IS NULL OR lane = ?5)"
    " ORDER BY not_before_us, offset LIMIT ?4"
)
# The first offset of a claim, and of a parked run, that is still pending: what was settled before it stays in the row.
_EARLIEST_C = "c.first + instr(c.pending, x'01') - 1"
_EARLIEST_W = "w.first + instr(w.pending, x'01') - 1"
# Of each key only the earliest, and that only while no other message of the key is in hand, and no earlier one unowned.
FREE_IN_ORDER = (
    "(key IS NULL OR NOT EXISTS"
    " (SELECT 1 FROM retries AS e WHERE e.group_id = r.group_id AND e.topic_id = r.topic_id AND e.partition = r.partition"
    "  AND e.key = r.key AND e.offset < r.offset)"
    " AND NOT EXISTS (SELECT 1 FROM claims AS c WHERE c.group_id = r.group_id AND c.topic_id = r.topic_id"
    "  AND c.partition = r.partition AND c.lane = r.lane AND c.key = r.key"
    f"  AND (c.owner IS NOT NULL OR {_EARLIEST_C} < r.offset)))"
)
_DUE_IN_ORDER = (
    "SELECT topic_id, partition, offset, lane, key, attempts, error FROM retries AS r"
    " WHERE group_id = ?1 AND not_before_us <= ?2 AND (?3 IS NULL OR partition = ?3) AND (?5 IS NULL OR lane = ?5)"
    f" AND {FREE_IN_ORDER} ORDER BY not_before_us, offset LIMIT ?4"
)
# Of each key the earliest run, while nothing of the key waits for a retry or is in hand, and nothing earlier is unowned.
FREE_PARKED = (
    "NOT EXISTS (SELECT 1 FROM retries AS r WHERE r.group_id = w.group_id AND r.topic_id = w.topic_id"
    "  AND r.partition = w.partition AND r.key = w.key)"
    " AND NOT EXISTS (SELECT 1 FROM claims AS c WHERE c.group_id = w.group_id AND c.topic_id = w.topic_id"
    "  AND c.partition = w.partition AND c.lane = w.lane AND c.key = w.key"
    f"  AND (c.owner IS NOT NULL OR {_EARLIEST_C} < {_EARLIEST_W}))"
)
_FREE_PARKED = (
    "SELECT topic_id, partition, key, first, lane, pending FROM parked AS w WHERE group_id = ?1"
    " AND (?2 IS NULL OR partition = ?2)"
    " AND NOT EXISTS (SELECT 1 FROM parked AS e WHERE e.group_id = w.group_id AND e.topic_id = w.topic_id"
    "  AND e.partition = w.partition AND e.key = w.key AND e.first < w.first)"
    f" AND {FREE_PARKED} LIMIT ?3"
)
# Suspects come last, so that a page full of those that have to wait does not hide what was only given back.
_UNOWNED = (
    f"SELECT claim_id, {_RUN} FROM claims WHERE group_id = ?1 AND owner IS NULL AND (?2 IS NULL OR partition = ?2)"
    " AND (?3 IS NULL OR lane = ?3) ORDER BY losses > 0,"
    f" NOT ?4 AND losses >= {LOSSES_ALONE} AND length(pending) = 1, topic_id, partition, first LIMIT {UNOWNED_AT_ONCE}"
)
# Messages of a single key were claimed apart from their lane because earlier ones had failed. When they are given back, or
# lost, an earlier one may wait for a retry again, or be parked: it goes first.
_UNOWNED_IN_ORDER = (
    f"SELECT claim_id, {_RUN} FROM claims AS c WHERE group_id = ?1 AND owner IS NULL AND (?2 IS NULL OR partition = ?2)"
    " AND (?3 IS NULL OR lane = ?3) AND (key IS NULL OR retried OR NOT EXISTS"
    " (SELECT 1 FROM retries AS r WHERE r.group_id = c.group_id AND r.topic_id = c.topic_id"
    f"  AND r.partition = c.partition AND r.key = c.key AND r.offset < {_EARLIEST_C})"
    " AND NOT EXISTS (SELECT 1 FROM parked AS w WHERE w.group_id = c.group_id AND w.topic_id = c.topic_id"
    f"  AND w.partition = c.partition AND w.key = c.key AND {_EARLIEST_W} < {_EARLIEST_C}))"
    f" ORDER BY topic_id, partition, first LIMIT {UNOWNED_AT_ONCE}"
)
# Keys of which an earlier message waits, or is claimed apart from its lane.
_BLOCKED = (
    "SELECT key FROM retries WHERE group_id = ?1 AND topic_id = ?2 AND partition = ?3 AND lane = ?4 AND key IS NOT NULL"
    " UNION SELECT key FROM claims WHERE group_id = ?1 AND topic_id = ?2 AND partition = ?3 AND lane = ?4"
    "  AND key IS NOT NULL"
    " UNION SELECT key FROM parked WHERE group_id = ?1 AND topic_id = ?2 AND partition = ?3 AND lane = ?4"
)
