"""What a group could claim, asked without claiming: a look costs no lock, and most looks find nothing."""

from geode_client.clock import boot_us, now_us
from geode_client.delivery.lanes import DEFAULT_PRIORITY, KEY, PRIORITY
from geode_client.store.claiming import FREE_IN_ORDER, FREE_PARKED
from geode_client.store.groups import Group
from geode_client.store.log import LogReader


def is_ahead(log: LogReader, group: Group, partition: int | None = None) -> bool:
    """Whether messages lie beyond a frontier of the group (or of one partition of it), and it is not paused."""
    sql = _AHEAD if group.order_by != PRIORITY else _AHEAD_BY_PRIORITY
    return bool(log.rows(sql, (group.group_id, partition)))


def is_due(log: LogReader, group: Group, partition: int | None = None) -> bool:
    """Whether retries are due, claims have no owner or a silent one, or parked messages may go on; not while paused."""
    if log.rows(_DUE, (group.group_id, partition, now_us())):
        return True
    return has_orphans(log, group, partition)


def may_take_order(log: LogReader, group: Group) -> bool:
    """Whether the group may take the order that was set for it: nobody who still renews its leases holds a message."""
    return not log.rows(_HELD, (group.group_id, boot_us()))


def has_orphans(log: LogReader, group: Group, partition: int | None = None) -> bool:
    """Whether claims have no owner or a silent one, or parked messages may go on; not while the group is paused."""
    if log.rows(_ORPHANS, (group.group_id, partition, boot_us())):
        return True
    return group.order_by == KEY and bool(log.rows(_UNPARKED, (group.group_id, partition)))


def has_rows_left(log: LogReader, group_id: int) -> bool:
    """Whether anything is in a hand or waits for a retry."""
    return bool(log.rows(_ROWS_LEFT, (group_id,)))


def next_retry_us(log: LogReader, group: Group, partition: int | None = None) -> int | None:
    """When the next retry can be claimed; None when there is none, or the group is paused.

    Only what a claim would take counts. A time that has passed and cannot be acted on would have its caller look again
    at once, without end.
    """
    sql = _NEXT_RETRY_IN_ORDER if group.order_by == KEY else _NEXT_RETRY
    found = log.rows(sql, (group.group_id, partition))[0][0]
    return None if found is None else int(found)


_NOT_PAUSED = "EXISTS (SELECT 1 FROM groups WHERE group_id = ?1 AND paused = 0)"
_LANES_AHEAD = (
    "SELECT 1 FROM lanes AS l JOIN groups AS g USING (group_id) WHERE l.group_id = ?1 AND g.paused = 0"
    " AND (?2 IS NULL OR l.partition = ?2)"
)
# The batches from the frontier on, or the one that reaches beyond it: what the group has behind it is never looked at.
_STORED_AHEAD = (
    " AND (EXISTS (SELECT 1 FROM batches AS b WHERE b.topic_id = l.topic_id AND b.partition = l.partition"
    " AND b.base_offset >= l.frontier AND {only})"
    " OR l.frontier < (SELECT CASE WHEN {only} THEN b.base_offset + b.count ELSE 0 END FROM batches AS b"
    " WHERE b.topic_id = l.topic_id AND b.partition = l.partition AND b.base_offset < l.frontier"
    " ORDER BY b.base_offset DESC LIMIT 1))"
)
_AHEAD = f"{_LANES_AHEAD}{_STORED_AHEAD.format(only='true')} LIMIT 1"
# The default priority has no index: it comes last, and claims keep its frontier near where the first of them may be.
_AHEAD_BY_PRIORITY = (
    f"{_LANES_AHEAD} AND l.lane <> {DEFAULT_PRIORITY}"
    f"{_STORED_AHEAD.format(only=f'b.priority = l.lane AND b.priority <> {DEFAULT_PRIORITY}')}"
    f" UNION ALL {_LANES_AHEAD} AND l.lane = {DEFAULT_PRIORITY}"
    f"{_STORED_AHEAD.format(only=f'b.priority = {DEFAULT_PRIORITY}')} LIMIT 1"
)
_DUE = (
    "SELECT 1 FROM retries WHERE group_id = ?1 AND (?2 IS NULL OR partition = ?2) AND not_before_us <= ?3"
    f" AND {_NOT_PAUSED} LIMIT 1"
)
_NEXT_RETRY = (
    "SELECT min(not_before_us) FROM retries AS r WHERE group_id = ?1 AND (?2 IS NULL OR partition = ?2)"
    f" AND {_NOT_PAUSED}"
)
_NEXT_RETRY_IN_ORDER = f"{_NEXT_RETRY} AND {FREE_IN_ORDER}"
_ORPHANS = (
    "SELECT 1 FROM claims WHERE group_id = ?1 AND (?2 IS NULL OR partition = ?2)"
    f" AND (owner IS NULL OR deadline_us < ?3) AND {_NOT_PAUSED} LIMIT 1"
)
_HELD = "SELECT 1 FROM claims WHERE group_id = ?1 AND owner IS NOT NULL AND deadline_us >= ?2 LIMIT 1"
_UNPARKED = (
    f"SELECT 1 FROM parked AS w WHERE group_id = ?1 AND (?2 IS NULL OR partition = ?2) AND {_NOT_PAUSED}"
    f" AND {FREE_PARKED} LIMIT 1"
)
_ROWS_LEFT = (
    "SELECT 1 FROM claims WHERE group_id = ?1 UNION ALL SELECT 1 FROM retries WHERE group_id = ?1"
    " UNION ALL SELECT 1 FROM parked WHERE group_id = ?1 LIMIT 1"
)
