"""Running the plan of a query: each operator becomes a stream of batches.

Streams give way to other tasks every few milliseconds, and end at once when the query is cancelled or no more rows are
wanted. What has to keep rows (sorting, grouping, DISTINCT, the right side of a join, the result) counts them, and says so
when its bound is reached.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, assert_never

from geode_client.broker import Broker, ScanRequest
from geode_client.clock import now_us
from geode_client.conditions.zones import ScanCounts
from geode_client.errors import GqlError
from geode_client.grammar.ast import TypeNode
from geode_client.query import operators as nodes
from geode_client.query import system
from geode_client.query.aggregates import Groups
from geode_client.query.batches import ROWS_AT_ONCE, Batch, Bounds, Kept, Pace, Vector, joined
from geode_client.query.group_keys import group_keys
from geode_client.query.joining import HashTable, Joiner, elements
from geode_client.query.measuring import Measures
from geode_client.query.membership import Membership
from geode_client.query.plan import Query, SubQuery, SubQueryKind
from geode_client.query.row_sets import RowSet
from geode_client.query.sorting import Sorter
from geode_client.query.vectors import Fields, Places, Surroundings, Values
from geode_client.query.windows import Windows

Batches = AsyncIterator[Batch]


class Runner:
    """Runs one query. `measures` is told what each operator did."""

    def __init__(
        self,
        broker: Broker,
        parameters: Mapping[str, Any],
        bounds: Bounds | None = None,
        measures: Measures | None = None,
    ) -> None:
        self._broker = broker
        self._bounds = bounds or Bounds()
        self._measures = measures
        self._memberships: dict[str, Membership] = {}
        self._values: dict[str, Any] = {}
        self._shared: dict[int, Batch] = {}
        self._surroundings = Surroundings(parameters, self._memberships, self._values)
        self._pace = Pace()
        self._spread_names: tuple[str, ...] | None = None

    async def run(self, query: Query) -> tuple[tuple[str, ...], Batch]:
        """All rows of a query, and the names of its columns."""
        for inner in query.sub_queries:
            await self._run_first(inner)
        result = await self._collected(query.root, "the result")
        columns = nodes.names(query.root.columns) if self._spread_names is None else self._spread_names
        return columns, result

    async def _run_first(self, inner: SubQuery) -> None:
        number = str(inner.number)
        match inner.kind:
            case SubQueryKind.MEMBERS:
                found = await self._collected(inner.root, "IN (SELECT …)")
                self._memberships[number] = Membership(found.columns[0])
            case SubQueryKind.ROWS:
                self._shared[inner.number] = await self._collected(inner.root, "WITH")
            case SubQueryKind.EXISTS:
                self._values[number] = (await self._collected(inner.root, "EXISTS (SELECT …)")).count > 0
            case SubQueryKind.VALUE:
                found = await self._collected(inner.root, "(SELECT …)")
                if found.count > 1:
                    raise GqlError(
                        "a sub-query that stands for a value gave more than one row",
                        span=inner.span,
                        hint="narrow it with WHERE, use an aggregate such as max(…), or write IN (SELECT …)",
                    )
                self._values[number] = found.columns[0][0] if found.count else None
            case _:
                assert_never(inner.kind)

    async def _collected(self, node: nodes.Operator, what: str) -> Batch:
        kept = Kept(what, self._bounds)
        batches: list[Batch] = []
        async with aclosing(self._stream(node)) as stream:
            async for batch in stream:
                kept.add(batch)
                batches.append(batch)
        spread = self._spread_names
        return joined(batches, len(node.columns if spread is None else spread))

    def _stream(self, node: nodes.Operator) -> Any:
        """The batches of an operator; the caller closes them."""
        stream = self._operator(node)
        return stream if self._measures is None else self._measures.measured(node, stream)

    def _operator(self, node: nodes.Operator) -> Batches:
        match node:
            case nodes.Scan():
                return self._scan(node)
            case nodes.SystemScan():
                return self._system(node)
            case nodes.OwnTableScan():
                return self._own_table(node)
            case nodes.OneRow():
                return self._one_row()
            case nodes.Shared():
                return self._rows_of(node)
            case nodes.Filter():
                return self._filter(node)
            case nodes.Project():
                return self._project(node)
            case nodes.Join():
                return self._join(node)
            case nodes.Unnest():
                return self._unnest(node)
            case nodes.Aggregate():
                return self._aggregate(node)
            case nodes.Window():
                return self._window(node)
            case nodes.Sort():
                return self._sort(node)
            case nodes.Distinct():
                return self._distinct(node)
            case nodes.Union():
                return self._union(node)
            case nodes.Except() | nodes.Intersect():
                return self._compared(node)
            case nodes.Limit():
                return self._limit(node)
            case nodes.Spread():
                return self._spread(node)
            case _:
                assert_never(node)

    async def _inputs(self, node: nodes.Operator) -> Batches:
        """The batches of what stands below, with a pause where it is time for one."""
        async with aclosing(self._stream(node)) as batches:
            async for batch in batches:
                if batch.count:
                    yield batch
                await self._pace.breathe()

    # ── leaves ──
    async def _one_row(self) -> Batches:
        yield Batch([], 1)

    async def _system(self, node: nodes.SystemScan) -> Batches:
        rows = await system.rows_of(self._broker, node.table)
        if rows:
            yield Batch(list(zip(*rows, strict=True)), len(rows))

    async def _own_table(self, node: nodes.OwnTableScan) -> Batches:
        tables = self._broker.tables
        assert tables is not None, "the plan was made of tables that the backend has"
        found = await tables.read(node.table)
        for at in range(0, len(found.rows), ROWS_AT_ONCE):
            rows = found.rows[at : at + ROWS_AT_ONCE]
            yield Batch(list(zip(*rows, strict=True)), len(rows))
            await self._pace.breathe()

    async def _rows_of(self, node: nodes.Shared) -> Batches:
        for batch in self._shared[node.number].parts():
            yield batch

    async def _scan(self, node: nodes.Scan) -> Batches:
        if node.limit == 0 or not node.topics:
            return
        fields = Fields(node.outputs, declared(node), self._surroundings, whole=node.whole)
        left = node.limit
        counts = ScanCounts()
        request = ScanRequest(
            node.topics,
            partition=node.within.partition,
            key=node.within.key,
            first_offset=node.within.first_offset,
            end_offset=node.within.end_offset,
            newest_first=node.newest_first,
            since_us=node.within.since_us,
            condition=node.condition if node.skips else None,
            counts=counts,
            letters=node.letters,
        )
        async with aclosing(self._broker.scan(request)) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                places = chunk.unexpired(now_us())
                if node.condition is not None and places:
                    selected = node.condition.select(chunk)
                    living = None if len(places) == chunk.count else set(places)
                    places = selected if living is None else [place for place in selected if place in living]
                if node.newest_first:
                    places = places[::-1]
                if left is not None:
                    places = places[:left]
                    left -= len(places)
                if places:
                    yield Batch(fields.of(chunk, places), len(places))
                if left == 0:
                    break
                await self._pace.breathe()
        if self._measures is not None:
            read, skipped = counts.batches_read, counts.batches_skipped
            spared = f"statistics: {skipped:,} of {read + skipped:,} batches skipped"
            self._measures.of(node).note = spared if skipped else f"{read:,} batch{'es' * (read != 1)} read"

    # ── rows one by one ──
    async def _filter(self, node: nodes.Filter) -> Batches:
        holds = Places(node.condition, self._surroundings, plain_columns(node.columns))
        async with aclosing(self._inputs(node.source)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                yield batch.take(holds.of(batch.columns, batch.count))

    async def _project(self, node: nodes.Project) -> Batches:
        values = Values(node.expressions, self._surroundings, plain_columns(node.source.columns))
        async with aclosing(self._inputs(node.source)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                yield Batch(values.of(batch.columns, batch.count), batch.count)

    async def _limit(self, node: nodes.Limit) -> Batches:
        skip, left = node.offset, node.count
        if left == 0:
            return
        async with aclosing(self._inputs(node.source)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                part = batch.part(skip, batch.count if left is None else skip + left)
                skip = max(0, skip - batch.count)
                left = None if left is None else left - part.count
                yield part
                if left == 0:
                    return

    async def _union(self, node: nodes.Union) -> Batches:
        for source in node.sources:
            async with aclosing(self._inputs(source)) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    yield batch

    # ── what keeps rows ──
    async def _join(self, node: nodes.Join) -> Batches:
        right = await self._collected(node.right, "the right side of JOIN")
        values = Values([key for _, key in node.keys], self._surroundings, plain_columns(node.right.columns))
        table = HashTable(values.of(right.columns, right.count)) if node.keys else None
        joiner = Joiner(right, self._holding(node), node.kind)
        left_keys = Values([key for key, _ in node.keys], self._surroundings, plain_columns(node.left.columns))
        async with aclosing(self._inputs(node.left)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                partners = None if table is None else table.partners(left_keys.of(batch.columns, batch.count))
                for pairs in joiner.pairs(batch, partners):
                    yield pairs
                    await self._pace.breathe()
        for batch in joiner.lonely(len(node.left.columns)):
            yield batch

    def _holding(self, node: nodes.Join | nodes.Unnest) -> Callable[[Batch], Sequence[int]] | None:
        if node.condition is None:
            return None
        places = Places(node.condition, self._surroundings, plain_columns(node.columns))
        return lambda pairs: places.of(pairs.columns, pairs.count)

    async def _unnest(self, node: nodes.Unnest) -> Batches:
        values = Values([node.expression], self._surroundings, plain_columns(node.source.columns))
        holds = self._holding(node)
        kind = nodes.JoinKind.LEFT if node.outer else nodes.JoinKind.INNER
        async with aclosing(self._inputs(node.source)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                found, places = elements(values.of(batch.columns, batch.count)[0])
                for pairs in Joiner(found, holds, kind).pairs(batch, places):
                    yield pairs
                    await self._pace.breathe()

    async def _compared(self, node: nodes.Except | nodes.Intersect) -> Batches:
        """EXCEPT and INTERSECT: the right rows are counted by their keys, then the left ones stream."""
        kept = Kept("EXCEPT" if isinstance(node, nodes.Except) else "INTERSECT", self._bounds)
        rows = RowSet(node.every)
        async with aclosing(self._inputs(node.right)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                kept.add(batch.take(rows.count(batch)))
        async with aclosing(self._inputs(node.left)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                found = batch.take(rows.without(batch) if isinstance(node, nodes.Except) else rows.shared(batch))
                if not node.every:
                    kept.add(found)
                yield found

    async def _window(self, node: nodes.Window) -> Batches:
        kept = Kept("OVER", self._bounds)
        windows = Windows(node, kept)
        async with aclosing(self._inputs(node.source)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                for part in batch.parts():
                    windows.add(part)
                    await self._pace.breathe()
        for made in windows.results():
            if made is not None:
                yield made
            await self._pace.breathe()

    async def _aggregate(self, node: nodes.Aggregate) -> Batches:
        groups = Groups(node, Kept("GROUP BY" if node.keys else "COUNT(DISTINCT …)", self._bounds))
        waiting: list[Batch] = []
        rows = 0
        async with aclosing(self._inputs(node.source)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                waiting.append(batch)
                rows += batch.count
                if rows >= groups.rows_at_once:
                    groups.add(joined(waiting, len(node.source.columns)))
                    waiting, rows = [], 0
        if waiting:
            groups.add(joined(waiting, len(node.source.columns)))
        for batch in groups.results():
            yield batch

    async def _sort(self, node: nodes.Sort) -> Batches:
        sorter = Sorter(node, Kept("ORDER BY", self._bounds))
        async with aclosing(self._inputs(node.source)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                for part in batch.parts():
                    sorter.add(part)
                    await self._pace.breathe()
        for batch in sorter.results():
            yield batch

    async def _distinct(self, node: nodes.Distinct) -> Batches:
        kept = Kept("DISTINCT", self._bounds)
        seen: set[Any] = set()
        async with aclosing(self._inputs(node.source)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                columns = [group_keys(column) for column in batch.columns]
                fresh: list[int] = []
                for place, key in enumerate(zip(*columns, strict=True)):
                    if key not in seen:
                        seen.add(key)
                        fresh.append(place)
                found = batch.take(fresh)
                kept.add(found)
                yield found

    async def _spread(self, node: nodes.Spread) -> Batches:
        """Whole messages to columns: those of the schema first, then others in the order of their appearance."""
        kept = Kept("SELECT *", self._bounds)
        batches: list[Batch] = []
        fields = {
            position: _FieldNames(declared, column.omitted)
            for (position, column), declared in zip(enumerate(node.source.columns), node.declared, strict=True)
            if column.spread
        }
        async with aclosing(self._inputs(node.source)) as inputs:  # type: ignore[type-var]
            async for batch in inputs:
                kept.add(batch)
                batches.append(batch)
                for position, found in fields.items():
                    found.add(batch.columns[position])
        columns = node.source.columns
        named = {position: found.names() for position, found in fields.items()}
        self._spread_names = tuple(
            name for position, column in enumerate(columns) for name in named.get(position, (column.name,))
        )
        for batch in batches:
            for part in batch.parts(ROWS_AT_ONCE):
                made: list[Vector] = []
                for position, values in enumerate(part.columns):
                    made += _spread_out(values, named[position]) if position in named else [values]
                yield Batch(made, part.count)
                await self._pace.breathe()


class _FieldNames:
    """Names of the fields of the messages of a column, as they appear."""

    def __init__(self, declared: tuple[str, ...], omitted: tuple[str, ...]) -> None:
        self._names: dict[str, None] = dict.fromkeys(declared)
        self._omitted = omitted
        self._others = False

    def add(self, bodies: Vector) -> None:
        known = self._names
        for body in bodies:
            if body.__class__ is dict:
                if not body.keys() <= known.keys():
                    known.update(dict.fromkeys(body))
            elif body is not None:
                self._others = True

    def names(self) -> tuple[str, ...]:
        """The names; a message that is no object stands in a column `value`."""
        names = (*self._names, *(["value"] if self._others and "value" not in self._names else []))
        return tuple(name for name in names if name not in self._omitted)


def _spread_out(bodies: Vector, names: tuple[str, ...]) -> list[Vector]:
    objects = [body if body.__class__ is dict else {} if body is None else {"value": body} for body in bodies]
    return [[body.get(name) for body in objects] for name in names]


def declared(node: nodes.Scan) -> Mapping[str, TypeNode] | None:
    """The declared columns of what is scanned, as far as all its topics declare them alike."""
    return nodes.declared_alike(node.topics) or None


def plain_columns(columns: nodes.Columns) -> frozenset[int]:
    """The columns whose values are JSON as it came."""
    return frozenset(position for position, column in enumerate(columns) if column.plain)
