"""EXPLAIN ANALYZE SUBSCRIBE: what a subscription would read, skip, decode and match, on behalf of nobody.

The retained messages are scanned from where the subscription would begin: a group that is there from its position. With
FOLLOW what is published meanwhile is looked at as well, until LIMIT or TIMEOUT. No group is joined or moved, and nothing is
acknowledged.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from geode_client.broker import Broker, FromBeginning, FromEnd, FromOffset, FromTime, ScanRequest, SubscriptionRequest
from geode_client.broker.subscription import Subscription
from geode_client.catalog import Topic
from geode_client.clock import now_us
from geode_client.conditions.zones import ScanCounts
from geode_client.errors import TopicNotFound
from geode_client.grammar.names import is_pattern
from geode_client.letters import Addressee
from geode_client.message import Chunk
from geode_client.query.plan import Subscribe
from geode_client.query.result import Result

Starts = Mapping[tuple[str, int], int]


@dataclass(slots=True)
class _Seen:
    """What was looked at; messages where a name does not say otherwise."""

    counts: ScanCounts = field(default_factory=ScanCounts)
    read: int = 0
    before: int = 0
    expired: int = 0
    others: int = 0
    decoded: int = 0
    matched: int = 0
    seconds: float = 0.0


async def analyze(broker: Broker, node: Subscribe) -> Result:
    """One row for each number: what it counts, and the number."""
    request = node.request
    topics = (
        await broker.topics(request.pattern) if is_pattern(request.pattern) else await _one(broker, request.pattern)
    )
    starts, where = await _starts(broker, request, topics)
    seen = _Seen()
    started = time.perf_counter()
    follows = request.follow and (node.limit is not None or node.timeout_seconds is not None)
    live = Subscription(
        broker,
        SubscriptionRequest(request.pattern, partition=request.partition, key=request.key),
        timeout_seconds=node.timeout_seconds,
        warns=False,
    )
    if follows and topics:
        async with live:
            await _retained(broker, node, topics, starts, seen)
            await _following(live, node, seen)
    else:
        await _retained(broker, node, topics, starts, seen)
    seen.seconds = time.perf_counter() - started
    if node.limit is not None:
        seen.matched = min(seen.matched, node.limit)  # the last batch may hold more
    return _shown(seen, where)


async def _one(broker: Broker, name: str) -> Sequence[Topic]:
    try:
        return [await broker.topic(name)]
    except TopicNotFound:
        return []  # SUBSCRIBE would create it


async def _starts(broker: Broker, request: SubscriptionRequest, topics: Sequence[Topic]) -> tuple[Starts | None, str]:
    """Offsets to begin at (None: the first that is retained), and how that is called."""
    if request.group is not None:
        groups = (await broker.report(["groups"], request.pattern)).groups
        found = [one for one in groups if one.name == request.group and one.pattern == request.pattern]
        if found:
            positions = {(one.topic_name, p): at for one in found for p, at in one.positions.items()}
            return positions, f"the position of group {request.group}"
    match request.start:
        case FromEnd() if request.group is not None or request.follow is False:
            ends = (await broker.report(["partitions"], request.pattern)).partitions if topics else ()
            return {(one.topic_name, one.partition): one.next_offset for one in ends}, "the end"
        case FromEnd():
            return None, "the beginning, because a subscription without a start would begin at the end"
        case FromBeginning():
            return None, "the beginning"
        case FromOffset(offset):
            return {(t.name, p): offset for t in topics for p in range(t.partitions)}, f"offset {offset}"
        case FromTime():
            return None, "a time"


async def _retained(
    broker: Broker, node: Subscribe, topics: Sequence[Topic], starts: Starts | None, seen: _Seen
) -> None:
    request = node.request
    if not topics or _is_full(node, seen):
        return
    scan = ScanRequest(
        topics,
        partition=request.partition,
        key=request.key,
        first_offset=0 if not starts else min(starts.values()),
        since_us=request.start.timestamp_us if isinstance(request.start, FromTime) else None,
        condition=request.condition,
        counts=seen.counts,
    )
    async with aclosing(broker.scan(scan)) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            first = 0 if starts is None else starts.get((chunk.topic, chunk.partition), 0) - chunk.base_offset
            passed = min(max(0, first), chunk.count)
            seen.read += passed
            seen.before += passed
            _look(chunk, range(passed, chunk.count), request, seen)
            if _is_full(node, seen):
                return


async def _following(live: Subscription, node: Subscribe, seen: _Seen) -> None:
    while not _is_full(node, seen):
        message = await live.get(timeout=node.timeout_seconds)
        if message is None:
            return
        _look(message._chunk, range(message._index, message._index + 1), replace(node.request, key=None), seen)


def _is_full(node: Subscribe, seen: _Seen) -> bool:
    return node.limit is not None and seen.matched >= node.limit


def _look(chunk: Chunk, places: Sequence[int], request: SubscriptionRequest, seen: _Seen) -> None:
    """Count what a subscriber would make of some places of a chunk."""
    seen.read += len(places)
    if isinstance(request.start, FromTime) and chunk.timestamp_us < request.start.timestamp_us:
        seen.before += len(places)
        return
    addressee: Addressee | None = chunk.attributes.addressee
    if addressee is not None and addressee != (request.group, request.pattern):
        seen.others += len(places)
        return
    alive = set(chunk.unexpired(now_us()))
    living = [place for place in places if place in alive]
    seen.expired += len(places) - len(living)
    if request.key is not None:
        keyed = [place for place in living if chunk.attributes.key(place) == request.key]
        seen.others += len(living) - len(keyed)
        living = keyed
    if request.condition is None:
        seen.matched += len(living)
        return
    seen.decoded += len(living)
    seen.matched += len(request.condition.select_among(chunk, living))


def _shown(seen: _Seen, where: str) -> Result:
    rows = [
        ("batches read", seen.counts.batches_read),
        ("batches skipped by statistics", seen.counts.batches_skipped),
        ("messages read", seen.read),
        ("messages before the start", seen.before),
        ("messages expired", seen.expired),
        ("messages for others (another key, or copies of dead letters)", seen.others),
        ("messages decoded", seen.decoded),
        ("messages matched", seen.matched),
        ("milliseconds", round(seen.seconds * 1000, 2)),
    ]
    return Result(("what", "number"), rows, notices=(f"read from {where}",))
