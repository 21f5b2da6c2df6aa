"""Running the tree of a SELECT: each node becomes a stream of batches of tuples.

Streams give way to the event loop with every chunk that is read, so that a query can be cancelled at any time. Sorting,
grouping and DISTINCT keep at most ROWS_KEPT_MAX rows, and say so when that is not enough.
"""

import heapq
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import cmp_to_key
from itertools import count
from typing import Any, assert_never

from geode_client.broker import Broker, ScanRequest
from geode_client.clock import now_us
from geode_client.conditions import compile_rows
from geode_client.conditions.fields import Projection
from geode_client.conditions.generate import predicate
from geode_client.conditions.rows import MessageReference
from geode_client.errors import GeodeError
from geode_client.message import Chunk
from geode_client.query import plan, system
from geode_client.query.aggregates import Accumulators
from geode_client.query.selecting import reference_of
from geode_client.values import group_key, sort_key

ROWS_KEPT_MAX = 2_000_000

Row = tuple[Any, ...]
Rows = list[Row]


class QueryTooLarge(GeodeError):
    """A query would have to keep more rows than the bound allows."""


def too_large(what: str) -> QueryTooLarge:
    return QueryTooLarge(f"{what} would keep more than {ROWS_KEPT_MAX} rows: narrow it with WHERE, or add LIMIT")


class Runner:
    """Runs one query; `columns` are known when the stream has ended (SELECT * learns them from the messages)."""

    def __init__(self, broker: Broker, parameters: Mapping[str, Any]) -> None:
        self._broker = broker
        self._parameters = parameters
        self._now = datetime.now(UTC)
        self.columns: tuple[str, ...] = ()

    async def run(self, root: plan.QueryNode) -> tuple[tuple[str, ...], Rows]:
        """All rows of a query, and its columns."""
        self.columns = root.columns
        rows: Rows = []
        async for batch in self.stream(root):
            rows += batch
            if len(rows) > ROWS_KEPT_MAX:
                raise too_large("the result")
        return self.columns, rows

    def stream(self, node: plan.QueryNode) -> AsyncIterator[Rows]:
        """The rows of a node, some at a time."""
        match node:
            case plan.Scan():
                return self._scan(node)
            case plan.SystemScan(table):
                return self._system(table)
            case plan.OneRow():
                return self._one_row()
            case plan.Filter():
                return self._filter(node)
            case plan.Project():
                return self._project(node)
            case plan.Aggregate():
                return self._aggregate(node)
            case plan.Sort():
                return self._sort(node)
            case plan.Distinct():
                return self._distinct(node)
            case plan.Limit():
                return self._limit(node)
            case plan.Keep():
                return self._keep(node)
            case plan.Spread():
                return self._spread(node)
            case _:
                assert_never(node)

    # ── leaves ──
    async def _one_row(self) -> AsyncIterator[Rows]:
        yield [()]

    async def _system(self, table: str) -> AsyncIterator[Rows]:
        yield await system.rows_of(self._broker, table)

    async def _scan(self, node: plan.Scan) -> AsyncIterator[Rows]:
        if node.limit == 0:
            return
        compute = _ScanRows(node, self._parameters, self._now)
        left = node.limit
        async for chunk in self._broker.scan(ScanRequest(node.topics, condition=node.condition)):
            places = chunk.unexpired(now_us())
            if node.condition is not None and places:
                selected = node.condition.select(chunk)
                living = None if len(places) == chunk.count else set(places)
                places = selected if living is None else [place for place in selected if place in living]
            if left is not None:
                places = places[:left]
                left -= len(places)
            if places:
                yield compute.rows(chunk, places)
            if left == 0:
                return

    # ── above them ──
    async def _filter(self, node: plan.Filter) -> AsyncIterator[Rows]:
        alias = node.source.alias if isinstance(node.source, plan.SystemScan) else None
        table = node.source.table if isinstance(node.source, plan.SystemScan) else None
        holds = predicate(node.condition, reference_of(node.columns, alias or table), self._parameters)
        async for rows in self.stream(node.source):
            yield [rows[place] for place in holds(rows, self._now)]

    async def _project(self, node: plan.Project) -> AsyncIterator[Rows]:
        columns, alias = _input_of(node.source)
        compute = compile_rows(node.expressions, reference_of(columns, alias), self._parameters)
        async for rows in self.stream(node.source):
            yield compute(rows, self._now)

    async def _aggregate(self, node: plan.Aggregate) -> AsyncIterator[Rows]:
        groups = Accumulators(node, ROWS_KEPT_MAX)
        async for rows in self.stream(node.source):
            if not groups.add(rows):
                raise too_large("GROUP BY")
        yield groups.results()

    async def _sort(self, node: plan.Sort) -> AsyncIterator[Rows]:
        key = _sorting(node.keys)
        if node.limit is not None:
            yield [row async for row in self._top(node, key, node.limit)]
            return
        kept: Rows = []
        async for rows in self.stream(node.source):
            kept += rows
            if len(kept) > ROWS_KEPT_MAX:
                raise too_large("ORDER BY")
        kept.sort(key=key)
        yield kept

    async def _top(self, node: plan.Sort, key: Any, limit: int) -> AsyncIterator[Row]:
        """The first `limit` rows, never holding many more."""
        kept: list[tuple[Any, int, Row]] = []
        order = count()
        async for rows in self.stream(node.source):
            kept += [(key(row), next(order), row) for row in rows]
            if len(kept) > 2 * limit + 1000:
                kept = heapq.nsmallest(limit, kept)
            if len(kept) > ROWS_KEPT_MAX:
                raise too_large("ORDER BY")
        for _, _, row in heapq.nsmallest(limit, kept):
            yield row

    async def _distinct(self, node: plan.Distinct) -> AsyncIterator[Rows]:
        seen: set[Any] = set()
        async for rows in self.stream(node.source):
            fresh: Rows = []
            for row in rows:
                key = tuple(group_key(value) for value in row)
                if key not in seen:
                    seen.add(key)
                    fresh.append(row)
            if len(seen) > ROWS_KEPT_MAX:
                raise too_large("DISTINCT")
            yield fresh

    async def _limit(self, node: plan.Limit) -> AsyncIterator[Rows]:
        skip, left = node.offset, node.count
        async for batch in self.stream(node.source):
            rows = batch[skip:]
            skip = max(0, skip - len(batch))
            if left is not None:
                rows = rows[:left]
                left -= len(rows)
            yield rows
            if left == 0:
                return

    async def _keep(self, node: plan.Keep) -> AsyncIterator[Rows]:
        width = len(node.columns)
        async for rows in self.stream(node.source):
            yield [row[:width] for row in rows]

    async def _spread(self, node: plan.Spread) -> AsyncIterator[Rows]:
        """Whole messages to columns: those of the schema first, then others in the order of their appearance."""
        kept: Rows = []
        async for rows in self.stream(node.source):
            kept += rows
            if len(kept) > ROWS_KEPT_MAX:
                raise too_large("SELECT *")
        fields = dict.fromkeys(node.schema_columns)
        others = False
        for row in kept:
            if isinstance(row[0], dict):
                fields.update(dict.fromkeys(row[0]))
            else:
                others = True
        # A message that is no object stands in a column of its own.
        names = [*fields, *(["value"] if others and "value" not in fields else [])]
        width = len(node.named)
        self.columns = (*names, *node.named)
        yield [(*_spread_body(row[0], names), *row[1 : 1 + width]) for row in kept]


def _spread_body(body: Any, names: list[str]) -> list[Any]:
    if isinstance(body, dict):
        return [body.get(name) for name in names]
    return [body if name == "value" else None for name in names]


class _ScanRows:
    """Computes the values of a scan for chosen places of a chunk, decoding only what they read."""

    def __init__(self, node: plan.Scan, parameters: Mapping[str, Any], now: datetime) -> None:
        self._node = node
        self._now = now
        reference = MessageReference(alias=node.alias)
        self._compute = compile_rows(node.expressions, reference, parameters) if node.expressions else None
        self._virtual = tuple(reference.virtual)
        self._projection = Projection.of(reference.names, reference.present)

    def rows(self, chunk: Chunk, places: Any) -> Rows:
        values = self._values(chunk, places)
        if not self._node.star:
            return values
        bodies = chunk.rows
        return [(bodies[place], *row) for place, row in zip(places, values, strict=True)]

    def _values(self, chunk: Chunk, places: Any) -> Rows:
        if self._compute is None:
            return [()] * len(places)
        rows = self._projection.rows(chunk)
        columns = [chunk.virtual_column(name) for name in self._virtual]
        if len(places) != chunk.count:
            rows = [rows[place] for place in places]
            columns = [[column[place] for place in places] for column in columns]
        return self._compute(rows, self._now, *columns)


def _input_of(node: plan.QueryNode) -> tuple[tuple[str, ...], str | None]:
    """The columns of a node as expressions above it call them, and the alias in front of them."""
    match node:
        case plan.SystemScan():
            return node.columns, node.alias or node.table
        case plan.Filter():
            return node.columns, _input_of(node.source)[1]
        case plan.Aggregate():
            return tuple(f"#{position}" for position in range(len(node.columns))), None
        case _:
            return node.columns, None


def _sorting(keys: tuple[plan.SortKey, ...]) -> Any:
    """A key function; NULLs come last whichever way is sorted, unless they are wanted first."""
    if all(not key.descending for key in keys):
        return lambda row: [_ascending(row[key.position], key.nulls_first) for key in keys]
    return cmp_to_key(lambda left, right: _compare(left, right, keys))


def _ascending(value: Any, nulls_first: bool) -> tuple[Any, ...]:
    if value is None:
        return (0,) if nulls_first else (2,)
    return (1, sort_key(value))


def _compare(left: Row, right: Row, keys: tuple[plan.SortKey, ...]) -> int:
    for key in keys:
        a, b = left[key.position], right[key.position]
        if a is None or b is None:
            order = (a is not None) - (b is not None)
            order = order if key.nulls_first else -order
        else:
            first, second = sort_key(a), sort_key(b)
            order = (first > second) - (first < second)
            order = -order if key.descending else order
        if order:
            return order
    return 0
