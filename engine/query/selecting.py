"""Planning a SELECT: from its tree to plan nodes.

The order is that of SQL: source, WHERE, GROUP BY with aggregates, HAVING, the selected values, DISTINCT, ORDER BY, LIMIT.
What can be done while messages are read is done in the scan: the condition, the values, an early end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from geode_client.broker import Broker
from geode_client.catalog import Topic
from geode_client.conditions import compile_condition
from geode_client.conditions.compile import plain_value
from geode_client.conditions.rows import TupleReference
from geode_client.errors import GqlError, Unsupported, did_you_mean
from geode_client.grammar.names import is_pattern
from geode_client.grammar.unparse import unparse_expression
from geode_client.query import plan as nodes
from geode_client.query import system

COUNT_MAX = 2**53


@dataclass(slots=True)
class _Source:
    """What is selected from: a node, how its rows are called, and whether values can be computed in the scan."""

    node: nodes.QueryNode
    alias: str | None
    columns: tuple[str, ...]

    @property
    def scan(self) -> nodes.Scan | None:
        return self.node if isinstance(self.node, nodes.Scan) else None


class SelectPlanner:
    """Plans one SELECT, with its sub-queries."""

    def __init__(self, broker: Broker, parameters: Mapping[str, Any]) -> None:
        self._broker = broker
        self._parameters = parameters
        self.notices: list[str] = []

    async def plan(self, tree: exp.Expression) -> nodes.QueryNode:
        """The plan of a query; raises GqlError with the place of what is wrong."""
        if isinstance(tree, exp.Union):
            raise Unsupported("UNION (it comes with a later release)")
        if not isinstance(tree, exp.Select):
            raise _error("this is no SELECT", tree)
        if tree.args.get("joins"):
            raise Unsupported("JOIN (it comes with a later release)")
        source = await self._source(tree)
        self._where(source, tree)
        items = self._items(tree, source)
        order = list(tree.args["order"].expressions) if tree.args.get("order") else []
        if tree.args.get("group") or tree.args.get("having") or _has_aggregate([*items, *order]):
            made = self._aggregated(tree, source, items, order)
        else:
            made = self._plain(tree, source, items, order)
        return self._limited(tree, made)

    # ── FROM and WHERE ──
    async def _source(self, tree: exp.Select) -> _Source:
        clause = tree.args.get("from_") or tree.args.get("from")
        if clause is None:
            return _Source(nodes.OneRow(), None, ())
        found = clause.this
        alias = found.args["alias"].this.name if found.args.get("alias") else None
        if isinstance(found, exp.Subquery):
            node = await self.plan(found.this)
            if isinstance(node, nodes.Spread):
                raise Unsupported("SELECT * of a topic inside a sub-query (name the fields)")
            return _Source(node, alias, node.columns)
        database = found.args.get("db")
        name = found.this.name
        if database is not None and database.name == "SYSTEM":
            return self._system(found, name, alias)
        if database is not None:
            raise Unsupported("DEAD LETTERS OF (dead letters come with the next release)")
        topics = await self._topics(name)
        return _Source(nodes.Scan(name, tuple(topics), alias), alias or (None if is_pattern(name) else name), ())

    def _system(self, node: exp.Expression, name: str, alias: str | None) -> _Source:
        columns = system.TABLES.get(name.lower())
        if columns is None:
            hint = did_you_mean(name, system.TABLES) or f"there are {', '.join(system.TABLES)}"
            raise _error(f"there is no table SYSTEM.{name}", node, hint)
        return _Source(nodes.SystemScan(name.lower(), alias, columns), alias or name.lower(), columns)

    async def _topics(self, name: str) -> Sequence[Topic]:
        if is_pattern(name):
            return await self._broker.topics(name)
        return [await self._broker.topic(name)]

    def _where(self, source: _Source, tree: exp.Select) -> None:
        where = tree.args.get("where")
        if where is None:
            return
        _refuse_aggregates(where.this, "WHERE")
        if source.scan is not None:
            topics = source.scan.topics
            schema = topics[0].schema if len(topics) == 1 else None
            columns = {column.name: column.type for column in schema.columns} if schema else None
            condition = compile_condition(where.this, parameters=self._parameters, columns=columns, alias=source.alias)
            self.notices += condition.notices
            source.node = replace(source.scan, condition=condition)
        else:
            text = unparse_expression(where.this)
            source.node = nodes.Filter(source.node, where.this, source.columns, text)

    # ── the selected values ──
    def _items(self, tree: exp.Select, source: _Source) -> list[exp.Expression]:
        items: list[exp.Expression] = []
        for item in tree.expressions:
            if isinstance(item, exp.Star) and source.scan is None:
                if not source.columns:
                    raise _error("* needs a FROM", item)
                items += [exp.Column(this=exp.Identifier(this=name, quoted=True)) for name in source.columns]
            else:
                items.append(item)
        return items

    def _plain(
        self, tree: exp.Select, source: _Source, items: list[exp.Expression], order: list[exp.Expression]
    ) -> nodes.QueryNode:
        star = any(isinstance(item, exp.Star) for item in items)
        named = [item for item in items if not isinstance(item, exp.Star)]
        values = [_unaliased(item) for item in named]
        names = _names(named)
        distinct = tree.args.get("distinct") is not None
        keys, extra = self._sort_keys(order, named, values, 1 if star else 0)
        if distinct and extra:
            raise _error("with DISTINCT, ORDER BY takes only what is selected", order[0])
        all_names = (*names, *[unparse_expression(value) for value in extra])
        made = self._computed(source, [*values, *extra], all_names, star=star)
        if star:
            columns = ("*", *all_names)
            made = self._sorted(made, keys, columns)
            schema_columns = _schema_columns(source.scan)
            spread: nodes.QueryNode = nodes.Spread(made, schema_columns, names)
            return nodes.Distinct(spread, ()) if distinct else spread
        if distinct:
            made = nodes.Distinct(made, all_names)
        made = self._sorted(made, keys, all_names)
        return nodes.Keep(made, names) if extra else made

    def _computed(
        self, source: _Source, values: list[exp.Expression], names: tuple[str, ...], *, star: bool
    ) -> nodes.QueryNode:
        if source.scan is not None:
            return replace(source.scan, alias=source.alias, expressions=tuple(values), columns=names, star=star)
        self._check_columns(values, source)
        return nodes.Project(source.node, tuple(values), names)

    def _check_columns(self, values: Sequence[exp.Expression], source: _Source) -> None:
        """Compile once now, so that a wrong column is found when the statement is planned."""
        from geode_client.conditions import compile_rows

        compile_rows(values, reference_of(source.columns, source.alias), self._parameters)

    def _sort_keys(
        self,
        order: list[exp.Expression],
        items: list[exp.Expression],
        values: list[exp.Expression],
        first: int,
    ) -> tuple[list[nodes.SortKey], list[exp.Expression]]:
        """Where each sort key stands among the values, and the values that have to be added for it."""
        extra: list[exp.Expression] = []
        keys: list[nodes.SortKey] = []
        for item in order:
            position = _position_of(item.this, items, values)
            if position is None:
                position = len(values) + len(extra)
                extra.append(item.this)
            keys.append(
                nodes.SortKey(first + position, bool(item.args.get("desc")), bool(item.args.get("nulls_first")))
            )
        return keys, extra

    def _sorted(self, made: nodes.QueryNode, keys: list[nodes.SortKey], columns: tuple[str, ...]) -> nodes.QueryNode:
        return nodes.Sort(made, tuple(keys), columns) if keys else made

    # ── GROUP BY ──
    def _aggregated(
        self, tree: exp.Select, source: _Source, items: list[exp.Expression], order: list[exp.Expression]
    ) -> nodes.QueryNode:
        star = next((item for item in items if isinstance(item, exp.Star)), None)
        if star is not None:
            raise _error("* cannot stand beside GROUP BY or an aggregate: name what you want", star)
        keys = self._group_keys(tree, items)
        having = tree.args["having"].this if tree.args.get("having") else None
        outputs = [_unaliased(item) for item in items]
        wanted = [self._dealiased(item.this, items) for item in order]
        needs = [*outputs, *wanted, *([self._dealiased(having, items)] if having is not None else [])]
        calls, arguments = _aggregates(needs)
        inputs = [*keys, *arguments]
        scanned = self._computed(source, inputs, tuple(unparse_expression(value) for value in inputs), star=False)
        columns = (*[unparse_expression(key) for key in keys], *[unparse_expression(call) for call in calls])
        records = tuple(_record(call, arguments, len(keys)) for call in calls)
        made: nodes.QueryNode = nodes.Aggregate(scanned, len(keys), records, columns)
        rewritten = [_over_aggregate(need, keys, calls) for need in needs]
        if having is not None:
            made = nodes.Filter(made, rewritten.pop(), _positions(columns), unparse_expression(having))
        names = _names(items)
        values, sorts = rewritten[: len(items)], rewritten[len(items) :]
        all_names = (*names, *[unparse_expression(item.this) for item in order])
        made = nodes.Project(made, (*values, *sorts), all_names)
        if tree.args.get("distinct") is not None and not order:
            made = nodes.Distinct(made, all_names)
        sort_keys = [
            nodes.SortKey(len(values) + i, bool(item.args.get("desc")), bool(item.args.get("nulls_first")))
            for i, item in enumerate(order)
        ]
        made = self._sorted(made, sort_keys, all_names)
        return nodes.Keep(made, names) if order else made

    def _group_keys(self, tree: exp.Select, items: list[exp.Expression]) -> list[exp.Expression]:
        group = tree.args.get("group")
        keys = [self._dealiased(key, items) for key in group.expressions] if group is not None else []
        for key in keys:
            _refuse_aggregates(key, "GROUP BY")
        return keys

    def _dealiased(self, node: exp.Expression, items: list[exp.Expression]) -> exp.Expression:
        """An alias or a position of the selected values as the value itself, also inside an expression."""
        if isinstance(node, exp.Literal) and not node.is_string:
            position = _position_of(node, items, items)
            return _unaliased(items[position]) if position is not None else node
        aliases = {item.alias: item.this for item in items if isinstance(item, exp.Alias)}

        def replaced(part: exp.Expression) -> exp.Expression:
            if isinstance(part, exp.Column) and not isinstance(part.parent, exp.Dot) and part.name in aliases:
                found: exp.Expression = aliases[part.name].copy()
                return found
            return part

        return node.transform(replaced)

    # ── LIMIT ──
    def _limited(self, tree: exp.Select, made: nodes.QueryNode) -> nodes.QueryNode:
        count = self._count(tree.args.get("limit"))
        offset = self._count(tree.args.get("offset")) or 0
        if count is None and not offset:
            return made
        columns = made.columns
        if count is not None:
            made = limited_early(made, count + offset)
        return nodes.Limit(made, count, offset, columns)

    def _count(self, clause: exp.Expression | None) -> int | None:
        if clause is None:
            return None
        node = clause.expression
        value: Any = None
        if isinstance(node, exp.Parameter):
            name = node.this.name
            if name not in self._parameters:
                raise _error(f"parameter ${name} has no value", clause)
            value = plain_value(self._parameters[name])
        else:
            value = int(str(node.this))
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= COUNT_MAX:
            raise _error(f"LIMIT and OFFSET take a whole number from 0, not {value!r}", clause)
        return value


def limited_early(node: nodes.QueryNode, count: int) -> nodes.QueryNode:
    """The same rows where only the first `count` are wanted: a sort keeps no more, a scan reads no further."""
    match node:
        case nodes.Sort():
            return replace(node, limit=count)
        case nodes.Scan():
            return replace(node, limit=count)
        case nodes.Keep() | nodes.Project() | nodes.Spread():
            return replace(node, source=limited_early(node.source, count))
        case _:
            return node


def reference_of(columns: Sequence[str], alias: str | None) -> TupleReference:
    """How expressions find the columns of tuples; the first of several with one name counts."""
    places: dict[tuple[str | None, str], int] = {}
    for position, name in enumerate(columns):
        places.setdefault((None, name), position)
        if alias is not None:
            places.setdefault((alias, name), position)
    return TupleReference(places)


def _positions(columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"#{position}" for position in range(len(columns)))


def _error(message: str, node: Any, hint: str | None = None) -> GqlError:
    return GqlError(message, span=node.meta.get("span"), hint=hint)


def _unaliased(item: exp.Expression) -> exp.Expression:
    return item.this if isinstance(item, exp.Alias) else item


def _names(items: Sequence[exp.Expression]) -> tuple[str, ...]:
    """Column names: the alias, the last word of a path, or the text of the expression."""
    names: list[str] = []
    for item in items:
        match item:
            case exp.Alias():
                names.append(item.alias)
            case exp.Column():
                names.append(item.name)
            case exp.Dot() if isinstance(item.expression, exp.Identifier):
                names.append(item.expression.name)
            case _:
                text = unparse_expression(item)
                names.append(text.lower() if isinstance(item, exp.AggFunc) else text)
    return tuple(names)


def _position_of(node: exp.Expression, items: Sequence[exp.Expression], values: Sequence[exp.Expression]) -> int | None:
    """Which of the selected values a sort key is: by position from 1, by alias, or the same expression."""
    if isinstance(node, exp.Literal) and not node.is_string:
        if not str(node.this).isdigit() or not 1 <= int(str(node.this)) <= len(items):
            raise _error(f"there is no selected value number {node.this}: there are {len(items)}", node)
        return int(str(node.this)) - 1
    for position, item in enumerate(items):
        if isinstance(item, exp.Alias) and isinstance(node, exp.Column) and item.alias == node.name:
            return position
    return next((position for position, value in enumerate(values) if _unaliased(value) == node), None)


def _schema_columns(scan: nodes.Scan | None) -> tuple[str, ...]:
    if scan is None or len(scan.topics) != 1 or scan.topics[0].schema is None:
        return ()
    return scan.topics[0].schema.names


def _has_aggregate(nodes: Sequence[exp.Expression]) -> bool:
    return any(node.find(exp.AggFunc) is not None for node in nodes)


def _refuse_aggregates(node: exp.Expression, where: str) -> None:
    found = node.find(exp.AggFunc)
    if found is not None:
        raise _error(f"an aggregate cannot stand in {where}", found, "HAVING takes conditions on aggregates")


def _aggregates(nodes: Sequence[exp.Expression]) -> tuple[list[exp.Expression], list[exp.Expression]]:
    """The different aggregates in some expressions, and their different arguments."""
    calls: list[exp.Expression] = []
    arguments: list[exp.Expression] = []
    for node in nodes:
        found: list[Any] = list(node.find_all(exp.AggFunc))
        for call in found:
            argument = _argument(call)
            if argument is not None and argument.find(exp.AggFunc) is not None:
                raise _error("an aggregate cannot stand inside another one", call)
            if call not in calls:
                calls.append(call)
            if argument is not None and argument not in arguments:
                arguments.append(argument)
    return calls, arguments


def _argument(call: exp.Expression) -> exp.Expression | None:
    inner = call.this
    if isinstance(inner, exp.Star):
        return None
    found: exp.Expression = inner.expressions[0] if isinstance(inner, exp.Distinct) else inner
    return found


def _record(call: exp.Expression, arguments: list[exp.Expression], keys: int) -> nodes.AggregateCall:
    argument = _argument(call)
    position = None if argument is None else keys + arguments.index(argument)
    return nodes.AggregateCall(type(call).__name__.lower(), position, isinstance(call.this, exp.Distinct))


def _over_aggregate(node: exp.Expression, keys: list[exp.Expression], calls: list[exp.Expression]) -> exp.Expression:
    """The expression over the rows of the aggregation: keys and aggregates become columns #0, #1, …"""
    outputs = [*keys, *calls]

    def replaced(part: exp.Expression) -> exp.Expression:
        if part in outputs:
            column = exp.Column(this=exp.Identifier(this=f"#{outputs.index(part)}", quoted=True))
            column.meta["span"] = part.meta.get("span")
            return column
        return part

    made: exp.Expression = node.transform(replaced)
    for column in made.find_all(exp.Column):
        if not column.name.startswith("#"):
            raise _error(f"{unparse_expression(column)} is neither in GROUP BY nor inside an aggregate", column)
    return made
