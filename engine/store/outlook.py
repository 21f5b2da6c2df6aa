"""What a group could claim, asked without claiming: a look costs no lock, and most looks find nothing."""

from geode_client.clock import boot_us, now_us
from geode_client.delivery.lanes import DEFAULT_PRIORITY, KEY, PRIORITY
from geode_client.store.claiming import FREE_IN_ORDER, FREE_PARKED
from geode_client.store.groups import Group
from geode_client.store.log import LogReader


def is_ahead(log: LogReader, group: Group) -> bool:
    """Whether messages lie beyond a frontier of the group, and it is not paused."""
    if group.order_by != PRIORITY:
        return bool(log.rows(_AHEAD, (group.group_id,)))
    return bool(log.rows(_AHEAD_BY_PRIORITY, (group.group_id,)))


def is_due(log: LogReader, group: Group) -> bool:
    """Whether retries are due, claims have no owner or a silent one, or parked messages may go on."""
    if log.rows(_DUE, (group.group_id, now_us(), boot_us())):
        return True
    return group.order_by == KEY and bool(log.rows(_UNPARKED, (group.group_id,)))


def may_take_order(log: LogReader, group: Group) -> bool:
    """Whether the group may take the order that was set for it: nobody who still renews its leases holds a message."""
    return not log.rows(_HELD, (group.group_id, boot_us()))


def has_orphans(log: LogReader, group: Group) -> bool:
    """Whether claims have no owner or a silent one, or parked messages may go on."""
    if log.rows(_ORPHANS, (group.group_id, boot_us())):
        return True
    return group.order_by == KEY and bool(log.rows(_UNPARKED, (group.group_id,)))


def has_rows_left(log: LogReader, group_id: int) -> bool:
    """Whether anything is in a hand or waits for a retry."""
    return bool(log.rows(_ROWS_LEFT, (group_id,)))


def next_retry_us(log: LogReader, group: Group) -> int | None:
    """When the next retry is due that nothing of its key stands before."""
    sql = _NEXT_RETRY_IN_ORDER if group.order_by == KEY else _NEXT_RETRY
    found = log.rows(sql, (group.group_id,))[0][0]
    return None if found is None else int(found)


_LANES_AHEAD = "SELECT 1 FROM lanes AS l JOIN groups AS g USING (group_id) WHERE l.group_id = ?1 AND g.paused = 0"
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
    "SELECT 1 FROM retries AS r JOIN groups AS g USING (group_id) WHERE r.group_id = ?1 AND not_before_us <= ?2"
    " AND g.paused = 0 UNION ALL SELECT 1 FROM claims WHERE group_id = ?1"
    " AND (owner IS NULL OR deadline_us < ?3) LIMIT 1"
)
_NEXT_RETRY = "SELECT min(not_before_us) FROM retries WHERE group_id = ?1"
_NEXT_RETRY_IN_ORDER = f"SELECT min(not_before_us) FROM retries AS r WHERE group_id = ?1 AND {FREE_IN_ORDER}"
_HELD = "SELECT 1 FROM claims WHERE group_id = ?1 AND owner IS NOT NULL AND deadline_us >= ?2 LIMIT 1"
_ORPHANS = "SELECT 1 FROM claims WHERE group_id = ?1 AND (owner IS NULL OR deadline_us < ?2) LIMIT 1"
_UNPARKED = (
    "SELECT 1 FROM parked AS w JOIN groups AS g USING (group_id) WHERE w.group_id = ?1 AND g.paused = 0"
    f" AND {FREE_PARKED} LIMIT 1"
)
_ROWS_LEFT = (
    "SELECT 1 FROM claims WHERE group_id = ?1 UNION ALL SELECT 1 FROM retries WHERE group_id = ?1"
    " UNION ALL SELECT 1 FROM parked WHERE group_id = ?1 LIMIT 1"
)
