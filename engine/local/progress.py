"""How far groups are: exact numbers from the store, for SYSTEM tables, lag and the law of conservation."""

from collections.abc import Sequence

from geode_client.broker import GroupStatistics, GroupTotals
from geode_client.catalog import Topic, dead_letter_topic_of
from geode_client.delivery.lanes import KEY, PRIORITY
from geode_client.letters import public_group
from geode_client.store import wake
from geode_client.store.groups import GROUP_COLUMNS, Group, group_of, slot_bytes
from geode_client.store.log import LogReader
from geode_client.store.topics import TopicReader

_COUNTS = "acknowledged, filtered, dead_lettered, expired, removed"


def of_groups(log: LogReader, topics: Sequence[Topic]) -> list[GroupStatistics]:
    """One record for each group in each of the topics, private ones last and under their own names."""
    found = [one for topic in topics for one in of_topic(log, topic)]
    return sorted(found, key=lambda one: (one.name.startswith("_"), one.name, one.topic_name))


def of_topic(log: LogReader, topic: Topic) -> list[GroupStatistics]:
    """One record for each group that reads a topic."""
    rows = log.rows(
        f"SELECT {GROUP_COLUMNS} FROM groups WHERE group_id IN (SELECT group_id FROM lanes WHERE topic_id = ?)",
        (topic.topic_id,),
    )
    return [of_group(log, group_of(row), topic) for row in rows]


def lag_of(log: LogReader, group_id: int, topics: Sequence[Topic]) -> tuple[int, int | None]:
    """Messages that a group has not settled in these topics, and when the oldest of them was accepted."""
    rows = log.rows(f"SELECT {GROUP_COLUMNS} FROM groups WHERE group_id = ?", (group_id,))
    found = [of_group(log, group_of(row), topic) for row in rows for topic in topics]
    oldest = [one.oldest_pending_us for one in found if one.oldest_pending_us is not None]
    return sum(one.pending for one in found), min(oldest, default=None)


def acknowledged(log: LogReader, topic_id: int) -> int:
    """Deliveries that groups have ever acknowledged in a topic."""
    sql = "SELECT coalesce(sum(acknowledged), 0) FROM group_totals WHERE topic_id = ?"
    return int(log.rows(sql, (topic_id,))[0][0])


def totals(log: LogReader, topics: TopicReader) -> list[GroupTotals]:
    """One record for each group name in each topic that is still there; private groups together under an empty name."""
    found: dict[tuple[str, int], list[int]] = {}
    for name, topic_id, *numbers in log.rows("SELECT * FROM group_totals ORDER BY name, topic_id"):
        key = (public_group(name) or "", topic_id)
        found[key] = [a + b for a, b in zip(found.get(key, [0] * len(numbers)), numbers, strict=True)]
    made = []
    for (name, topic_id), numbers in found.items():
        topic = topics.by_id(topic_id)
        if topic is not None:
            made.append(GroupTotals(name, topic.name, dead_letter_topic_of(topic.name, topic.options), *numbers))
    return made


def of_group(log: LogReader, group: Group, topic: Topic) -> GroupStatistics:
    """What became of the messages of a topic for a group. published = the sum of all others but `oldest_pending_us`."""
    place = (group.group_id, topic.topic_id)
    counts = [0, 0, 0, 0, 0]
    published = ahead = 0
    oldest: list[int] = []
    sql = "SELECT partition, next_offset FROM partitions WHERE topic_id = ?"
    ends = dict(log.rows(sql, (topic.topic_id,)))
    lanes: dict[int, list[tuple[int, int]]] = {}
    sql = f"SELECT partition, lane, origin, frontier, {_COUNTS} FROM lanes WHERE group_id = ? AND topic_id = ?"
    for partition, lane, origin, frontier, *numbers in log.rows(sql, place):
        counts = [a + b for a, b in zip(counts, numbers, strict=True)]
        if partition not in lanes:
            published += ends.get(partition, 0) - origin
        lanes.setdefault(partition, []).append((lane, frontier))
    for partition, frontiers in lanes.items():
        number, first = _ahead(log, group.order_by, topic.topic_id, partition, frontiers)
        ahead += number
        oldest += [] if first is None else [first]
    in_flight, retrying, unowned, pending = _in_hand(log, place)
    oldest += pending
    return GroupStatistics(
        name=group.name,
        pattern=group.pattern,
        topic_name=topic.name,
        filter=group.condition,
        order_by=group.order_by,
        paused=group.paused,
        published=published,
        acknowledged=counts[0],
        filtered=counts[1],
        dead_lettered=counts[2],
        expired=counts[3],
        removed=counts[4],
        ahead=ahead + unowned,
        in_flight=in_flight,
        retrying=retrying,
        oldest_pending_us=min(oldest, default=None),
        positions={partition: min(at for _, at in frontiers) for partition, frontiers in lanes.items()},
    )


def _in_hand(log: LogReader, place: tuple[int, int]) -> tuple[int, int, int, list[int]]:
    """Messages in hand and waiting (for a retry, behind one of their key, for an owner), and when the oldest were accepted."""
    claims = log.rows("SELECT partition, first, pending, owner FROM claims WHERE group_id = ? AND topic_id = ?", place)
    living = {owner: owner is not None and _is_alive(log, owner) for owner in {row[3] for row in claims}}
    in_flight = sum(pending.count(1) for _, _, pending, owner in claims if living[owner])
    parked = log.rows("SELECT partition, first, pending FROM parked WHERE group_id = ? AND topic_id = ?", place)
    unowned = sum(pending.count(1) for _, _, pending, owner in claims if not living[owner])
    sql = "SELECT partition, min(offset), count(*) FROM retries WHERE group_id = ? AND topic_id = ? GROUP BY partition"
    retries = log.rows(sql, place)
    retrying = sum(row[2] for row in retries) + sum(pending.count(1) for _, _, pending in parked)
    firsts = [(partition, first + pending.find(1)) for partition, first, pending, *_ in [*claims, *parked]]
    firsts += [(partition, offset) for partition, offset, _ in retries]
    sql = (
        "SELECT timestamp_us FROM batches WHERE topic_id = ? AND partition = ? AND base_offset <= ?"
        " ORDER BY base_offset DESC LIMIT 1"
    )
    times = [log.rows(sql, (place[1], partition, offset)) for partition, offset in firsts]
    return in_flight, retrying, unowned, [rows[0][0] for rows in times if rows]


def _is_alive(log: LogReader, owner: str) -> bool:
    return log.directory is None or wake.alive(log.directory / "wake", owner)


def _ahead(
    log: LogReader, order_by: str, topic_id: int, partition: int, frontiers: list[tuple[int, int]]
) -> tuple[int, int | None]:
    """Stored messages at or behind the frontiers of their lanes, and when the oldest of them was accepted."""
    low, high = min(f for _, f in frontiers), max(f for _, f in frontiers)
    if order_by == PRIORITY:
        parts = [_stored(log, topic_id, partition, f, None, lane) for lane, f in frontiers]
    elif order_by == KEY and low < high:
        parts = [_stored(log, topic_id, partition, high, None, None)]
        parts += [_stored_of_slot(log, topic_id, partition, f, high, lane) for lane, f in frontiers if f < high]
    else:
        parts = [_stored(log, topic_id, partition, low, None, None)]
    times = [at for _, at in parts if at is not None]
    return sum(number for number, _ in parts), min(times, default=None)


_REACHING = (
    " FROM batches WHERE topic_id = ?1 AND partition = ?2 AND base_offset >= max(coalesce((SELECT max(base_offset) FROM"
    " batches WHERE topic_id = ?1 AND partition = ?2 AND base_offset <= ?3), ?3), coalesce((SELECT start_offset FROM"
    " partitions WHERE topic_id = ?1 AND partition = ?2), 0)) AND base_offset + count > ?3"
)


def _stored(
    log: LogReader, topic_id: int, partition: int, first: int, end: int | None, priority: int | None
) -> tuple[int, int | None]:
    sql = (
        f"SELECT coalesce(sum(count - max(0, ?3 - base_offset)), 0), min(timestamp_us){_REACHING}"
        " AND (?4 IS NULL OR base_offset < ?4) AND (?5 IS NULL OR priority = ?5)"
    )
    row = log.rows(sql, (topic_id, partition, first, end, priority))[0]
    return int(row[0]), row[1]


def _stored_of_slot(
    log: LogReader, topic_id: int, partition: int, first: int, end: int, slot: int
) -> tuple[int, int | None]:
    sql = f"SELECT base_offset, count, codec, attributes, timestamp_us{_REACHING} AND base_offset < ?4 ORDER BY base_offset"
    number, oldest = 0, None
    for base, count, codec, attributes, at in log.rows(sql, (topic_id, partition, first, end)):
        start, stop = max(base, first), min(base + count, end)
        found = slot_bytes(codec, attributes, slot, base, start, stop).count(1)
        number += found
        oldest = at if found and oldest is None else oldest
    return number, oldest
