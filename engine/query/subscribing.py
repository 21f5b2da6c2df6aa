"""From what a person asks of a subscription to the one record that all of them become.

`client.subscribe(...)` and `SUBSCRIBE TO ...` both end here.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from geode_client.broker import (
    Broker,
    FromBeginning,
    FromEnd,
    FromOffset,
    FromTime,
    StartPosition,
    SubscriptionRequest,
)
from geode_client.clock import microseconds_of
from geode_client.errors import GqlError
from geode_client.grammar.names import is_pattern, validate_topic_pattern
from geode_client.units import parse_duration_us

if TYPE_CHECKING:
    from geode_client.conditions import Condition

PREFETCH_MAX = 100_000
GROUP_NAME_CHARACTERS_MAX = 255
OFFSET_MAX = 2**62


def request_of(
    pattern: str,
    *,
    filter: "str | Condition | None" = None,
    params: Mapping[str, Any] | None = None,
    group: str | None = None,
    consumer: str | None = None,
    auto_ack: bool = True,
    priority_order: bool = False,
    ordering: bool = False,
    partition: int | None = None,
    key: str | None = None,
    from_beginning: bool = False,
    from_offset: int | None = None,
    since: datetime | timedelta | str | None = None,
    follow: bool | None = None,
    region: str | None = None,
    prefetch: int = 4096,
) -> SubscriptionRequest:
    """The checked request; raises GqlError for what contradicts itself."""
    start = start_position(from_beginning, from_offset, since)
    if partition is not None and (isinstance(partition, bool) or not isinstance(partition, int) or partition < 0):
        raise GqlError(f"partition is a whole number from 0, not {partition!r:.60}")
    if isinstance(start, FromOffset) and is_pattern(pattern):
        raise GqlError("an offset belongs to one topic: it cannot be used with a pattern")
    if consumer is not None and group is None:
        raise GqlError("a consumer is a member of a group: name the group too")
    if group is not None:
        _check_group_name(group)
    if priority_order and ordering:
        raise GqlError("priority_order and ordering exclude each other: the order of keys or that of priorities")
    if isinstance(prefetch, bool) or not isinstance(prefetch, int) or not 1 <= prefetch <= PREFETCH_MAX:
        raise GqlError(f"prefetch is a whole number from 1 to {PREFETCH_MAX}, not {prefetch!r}")
    replay = not isinstance(start, FromEnd)
    return SubscriptionRequest(
        pattern=validate_topic_pattern(pattern),
        condition=_condition(filter, params),
        start=start,
        # A replay ends with what was there, unless it is to go on; a group is always live.
        follow=(group is not None or not replay) if follow is None else follow or group is not None,
        group=group,
        consumer=consumer,
        auto_ack=auto_ack,
        priority_order=priority_order,
        ordering=ordering,
        partition=partition,
        key=key,
        region=region,
        prefetch=prefetch,
    )


def _check_group_name(group: str) -> None:
    if not isinstance(group, str) or not 0 < len(group) <= GROUP_NAME_CHARACTERS_MAX or not group.isprintable():
        raise GqlError(
            f"a group's name is text of 1 to {GROUP_NAME_CHARACTERS_MAX} printable characters, not {group!r:.80}"
        )
    if group.startswith("_"):
        raise GqlError(f"group {group!r}: names that begin with '_' are the system's own")


def _condition(filter: "str | Condition | None", params: Mapping[str, Any] | None) -> "Condition | None":
    if filter is None:
        return None
    from geode_client import conditions

    return conditions.compile_filter(filter, params) if isinstance(filter, str) else filter


async def declared(broker: Broker, request: SubscriptionRequest) -> SubscriptionRequest:
    """The request with its condition compiled for the columns that its topic declares, as a statement's is."""
    from geode_client.conditions import Condition

    schema = (await broker.topic(request.pattern)).schema
    if schema is None or not isinstance(request.condition, Condition):
        return request
    columns = {column.name: column.type for column in schema.columns}
    return replace(request, condition=request.condition.declared(columns))


def start_position(
    from_beginning: bool = False, from_offset: int | None = None, since: datetime | timedelta | str | None = None
) -> StartPosition:
    """Where a subscription begins; raises GqlError when more than one is given."""
    given = [from_beginning, from_offset is not None, since is not None]
    if sum(given) > 1:
        raise GqlError("from_beginning, from_offset and since exclude each other: give one")
    if from_beginning:
        return FromBeginning()
    if from_offset is not None:
        if isinstance(from_offset, bool) or not isinstance(from_offset, int) or not 0 <= from_offset <= OFFSET_MAX:
            raise GqlError(f"from_offset is a whole number from 0 to {OFFSET_MAX}, not {from_offset!r:.60}")
        return FromOffset(from_offset)
    return FromEnd() if since is None else FromTime(since_us(since))


def since_us(since: datetime | timedelta | str) -> int:
    """Microseconds since 1970 of a time, or of so long ago."""
    if isinstance(since, datetime):
        return microseconds_of(since)
    if isinstance(since, timedelta | str):
        return time.time_ns() // 1000 - parse_duration_us(since)
    raise GqlError(f"since is a datetime, a timedelta or text such as '1 hour', not {type(since).__name__}")
