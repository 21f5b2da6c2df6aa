"""Planning a SELECT: from its tree to operators, in the order in which SQL defines them.

Sources and joins, WHERE, GROUP BY with aggregates, HAVING, the selected values, DISTINCT, ORDER BY, LIMIT. The plan made
here is right and simple; rules/ make it quick. Names are resolved in scope.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from geode_client import letters
from geode_client.broker import Broker, OwnTable
from geode_client.catalog import Topic
from geode_client.conditions import compile_condition
from geode_client.conditions.parameters import plain_value
from geode_client.errors import GqlError, TopicNotFound, did_you_mean
from geode_client.grammar.names import is_pattern
from geode_client.grammar.unparse import unparse_expression
from geode_client.query import checking, rules, system
from geode_client.query import operators as nodes
from geode_client.query.aggregating import aggregated, in_message_order, refuse_aggregates
from geode_client.query.columns import bare, placed, position_of, reference
from geode_client.query.plan import Query
from geode_client.query.scope import Path, Scope, Source, outermost
from geode_client.query.vectors import Surroundings
from geode_client.replaying import places_of

COUNT_MAX = 2**53


@dataclass(frozen=True, slots=True)
class Item:
    """One selected value: as it was written, and what it is called."""

    tree: exp.Expression
    name: str
    is_alias: bool = False
    spread: bool = False


class SelectPlanner:
    """Plans one query, with its sub-queries."""

    def __init__(self, broker: Broker, parameters: Mapping[str, Any]) -> None:
        self._broker = broker
        self._parameters = parameters
        self._memberships: list[nodes.Operator] = []
        self._notices: dict[str, None] = {}

    async def query(self, tree: exp.Expression) -> Query:
        """The plan of a query, made quick; raises GqlError with the place of what is wrong."""
        plain = await self.plain(tree)
        context = rules.Context(self._parameters)
        root = rules.optimised(plain.root, context)
        memberships = tuple(rules.optimised(inner, context) for inner in plain.memberships)
        return replace(plain, root=root, memberships=memberships)

    async def plain(self, tree: exp.Expression) -> Query:
        """The plan as it follows from the statement, before any rule."""
        root = await self._plan(tree, frozenset())
        if any(column.spread for column in root.columns):
            distinct = isinstance(tree, exp.Select) and tree.args.get("distinct") is not None
            spread: nodes.Operator = nodes.Spread(root, _declared_fields(root))
            # Messages that differ in what a column does not show are the same row.
            root = nodes.Distinct(spread) if distinct and not isinstance(root, nodes.Limit) else spread
        query = Query(root, tuple(self._memberships), tuple(self._notices))
        checking.check(query, Surroundings(self._parameters))
        return query

    async def _plan(self, tree: exp.Expression, outer: frozenset[str]) -> nodes.Operator:
        if isinstance(tree, exp.Union):
            return await self._union(tree, outer)
        if not isinstance(tree, exp.Select):
            raise _error("this is no SELECT", tree)
        return await self._select(tree, outer)

    # ── UNION ──
    async def _union(self, tree: exp.Union, outer: frozenset[str]) -> nodes.Operator:
        left, right = await self._plan(tree.this, outer), await self._plan(tree.expression, outer)
        kinds = [[column.spread for column in side.columns] for side in (left, right)]
        if kinds[0] != kinds[1]:
            if any(map(any, kinds)):
                raise _error(
                    "* stands for whole messages on one side of UNION alone: name the columns", tree.expression
                )
            raise _error(
                f"both sides of UNION need the same columns: {len(kinds[0])} on the left, {len(kinds[1])} on the right",
                tree.expression,
            )
        columns = tuple(
            replace(a, type=a.type if a.type == b.type else None, plain=a.plain and b.plain)
            for a, b in zip(left.columns, right.columns, strict=True)
        )
        both = (left.sources if isinstance(left, nodes.Union) else (left,), (right,))
        made: nodes.Operator = nodes.Union((*both[0], *both[1]), columns)
        if tree.args.get("distinct"):
            made = nodes.Distinct(made)
        items = [Item(reference(position), column.name, True) for position, column in enumerate(columns)]
        scope = Scope(outer)
        scope.add(Source(made, None, columns=list(columns)), None)
        order = _ordered(tree)
        if order:
            sorts = [placed(scope.resolved(item.this), [0]) for item in order]
            made = self._arranged(tree, made, items, [item.tree for item in items], order, sorts)
        return self._limited(tree, made)

    # ── SELECT ──
    async def _select(self, tree: exp.Select, outer: frozenset[str]) -> nodes.Operator:
        scope = Scope(outer)
        joins: list[exp.Join] = list(tree.args.get("joins") or ())
        clause = tree.args.get("from_") or tree.args.get("from")
        tables = [*([clause.this] if clause is not None else []), *[join.this for join in joins]]
        for table in tables:
            scope.add(await self._source(table, outer), table.meta.get("span"))
        await self._plan_memberships(tree, outer | scope.aliases())
        ons = [self._on(scope, index, join) for index, join in enumerate(joins, 1)]
        where = tree.args["where"].this if tree.args.get("where") else None
        if where is not None:
            refuse_aggregates(where, "WHERE")
            self._notice_aliases(where, tree, scope)
        condition = None if where is None else scope.resolved(where)
        items = self._items(tree, scope)
        order = _ordered(tree)
        keys = [self._dealiased(key, items) for key in _group(tree)]
        having = tree.args["having"].this if tree.args.get("having") else None
        wanted = [
            *[item.tree for item in items],
            *[self._dealiased(item.this, items) for item in order],
            *([] if having is None else [self._dealiased(having, items)]),
        ]
        resolved_keys = [scope.resolved(key) for key in keys]
        resolved = [scope.resolved(in_message_order(part, scope)) for part in wanted]
        self._notices.update(scope.notices)

        bases = scope.bases()
        made = self._joined(scope, joins, [placed(on, bases) for on in ons])
        if condition is not None:
            made = nodes.Filter(made, placed(condition, bases))
        values = [placed(part, bases) for part in resolved]
        if keys or having is not None or any(value.find(exp.AggFunc) for value in values):
            _refuse_star(items, tree)
            known = Surroundings(self._parameters)
            grouped = aggregated(made, [placed(key, bases) for key in resolved_keys], values, known)
            made, values = grouped.node, grouped.values
        if having is not None:
            made = nodes.Filter(made, values.pop())
        sorts = values[len(items) :]
        made = self._arranged(tree, made, items, values[: len(items)], order, sorts)
        return self._limited(tree, made)

    def _joined(self, scope: Scope, joins: Sequence[exp.Join], ons: Sequence[exp.Expression]) -> nodes.Operator:
        if not scope.sources:
            return nodes.OneRow()
        made = scope.sources[0].operator()
        for source, join, on in zip(scope.sources[1:], joins, ons, strict=True):
            made = nodes.Join(made, source.operator(), on, outer=join.args.get("side") == "LEFT")
        return made

    def _on(self, scope: Scope, index: int, join: exp.Join) -> exp.Expression:
        """The condition of a join, which may read what stands before it and its own source."""
        refuse_aggregates(join.args["on"], "ON")
        before = Scope(scope.outer)
        before.sources = scope.sources[: index + 1]
        before.notices = scope.notices
        return before.resolved(join.args["on"])

    async def _plan_memberships(self, tree: exp.Select, outer: frozenset[str]) -> None:
        """Plan the sub-queries after IN; the expression keeps their numbers."""
        parts = [*tree.expressions, *_group(tree), *[item.this for item in _ordered(tree)]]
        parts += [tree.args[name].this for name in ("where", "having") if tree.args.get(name)]
        parts += [join.args["on"] for join in tree.args.get("joins") or ()]
        for part in parts:
            for node in list(outermost(part, exp.In)):
                query = node.args.get("query")
                if not isinstance(query, exp.Subquery):
                    continue
                inner = await self._plan(query.this, outer)
                if len(inner.columns) != 1 or inner.columns[0].spread:
                    raise _error("a sub-query after IN has one column: name the one", query.this)
                node.set("query", exp.Var(this=str(len(self._memberships))))
                self._memberships.append(inner)

    # ── FROM ──
    async def _source(self, table: exp.Expression, outer: frozenset[str]) -> Source:
        alias = table.args["alias"].this.name if table.args.get("alias") else None
        if isinstance(table, exp.Subquery):
            node = await self._plan(table.this, outer)
            return Source(node, alias, columns=list(node.columns))
        database = table.args.get("db")
        name = table.this.name
        match database.name if database is not None else None:
            case "SYSTEM":
                return self._system(table, name, alias)
            case "DEAD_LETTERS":
                return Source(await self._dead_letters(name), alias)
            case _:
                own = await self._own_table(name)
                try:
                    found = tuple(await self._topics(name))
                except TopicNotFound:
                    if own is None:
                        raise
                    columns = tuple(nodes.Column(column) for column in own.columns)
                    return Source(nodes.OwnTableScan(own.name, columns), alias or name, columns=list(columns))
                if own is not None:
                    self._notices[f"{name} is the topic; your own table of that name is read by tx.execute()"] = None
                return Source(nodes.Scan(name, found, (), ()), alias or (None if is_pattern(name) else name))

    def _system(self, table: exp.Expression, name: str, alias: str | None) -> Source:
        known = system.TABLES.get(name.lower())
        if known is None:
            hint = did_you_mean(name, system.TABLES) or f"there are {', '.join(system.TABLES)}"
            raise _error(f"there is no table SYSTEM.{name}", table, hint)
        columns = tuple(nodes.Column(column) for column in known)
        return Source(nodes.SystemScan(name.lower(), columns), alias or name.lower(), columns=list(columns))

    async def _own_table(self, name: str) -> OwnTable | None:
        """The user's own table of this name; names of SQLite do not tell capitals from small letters."""
        if is_pattern(name) or "/" in name:
            return None
        tables = await self._broker.tables.names() if self._broker.tables is not None else ()
        return next((table for table in tables if table.name.casefold() == name.casefold()), None)

    async def _topics(self, name: str) -> Sequence[Topic]:
        if is_pattern(name):
            return await self._broker.topics(name)
        return [await self._broker.topic(name)]

    async def _dead_letters(self, name: str) -> nodes.Scan:
        """The dead letters of these topics, in whatever topics they are, also of topics that were dropped."""
        found = await places_of(self._broker, name)
        # Several topics may share one for their dead letters, which anybody may publish to as well.
        origin = Path("_headers", True, (letters.TOPIC,), None).node()
        names = [exp.Literal.string(topic) for topic in found.origins]
        condition = compile_condition(exp.In(this=origin, expressions=names))
        return nodes.Scan(f"dead letters of {name}", tuple(found.topics), (), (), condition, letters=True)

    # ── the selected values ──
    def _items(self, tree: exp.Select, scope: Scope) -> list[Item]:
        items: list[Item] = []
        for item in tree.expressions:
            sources = _starred(item, scope)
            if sources is None:
                value = item.this if isinstance(item, exp.Alias) else item
                items.append(Item(value, _name(item), isinstance(item, exp.Alias)))
                continue
            for source in sources:
                nodes_of = source.whole(item.meta.get("span"))
                columns = source.columns if not source.is_topic else [nodes.Column("*", spread=True)]
                for node, column in zip(nodes_of, columns, strict=True):
                    items.append(Item(node, column.name, spread=column.spread))
        return items

    def _arranged(
        self,
        tree: exp.Expression,
        made: nodes.Operator,
        items: Sequence[Item],
        values: Sequence[exp.Expression],
        order: Sequence[exp.Expression],
        sorts: Sequence[exp.Expression],
    ) -> nodes.Operator:
        """The selected values, DISTINCT, and ORDER BY, which may sort by what is not selected."""
        extra: list[exp.Expression] = []
        keys: list[nodes.SortKey] = []
        for item, sort in zip(order, sorts, strict=True):
            position = _position_of(item.this, items)
            if position is None:
                position = next((i for i, value in enumerate(values) if bare(value) == bare(sort)), None)
            if position is None:
                position = len(values) + len(extra)
                extra.append(sort)
            keys.append(nodes.SortKey(position, bool(item.args.get("desc")), bool(item.args.get("nulls_first"))))
        columns = tuple(_column(value, item.name, made.columns) for item, value in zip(items, values, strict=True))
        distinct = isinstance(tree, exp.Select) and tree.args.get("distinct") is not None
        if distinct and extra:
            raise _error("with DISTINCT, ORDER BY takes only what is selected", order[0])
        sorted_by = tuple(
            _column(value, _name(item.this), made.columns) for item, value in _extras(order, sorts, extra)
        )
        made = nodes.Project(made, (*values, *extra), (*columns, *sorted_by))
        if distinct:
            made = nodes.Distinct(made)
        if keys:
            made = nodes.Sort(made, tuple(keys))
        if extra:
            made = nodes.Project(made, tuple(reference(position) for position in range(len(columns))), columns)
        return made

    def _dealiased(self, node: exp.Expression, items: Sequence[Item]) -> exp.Expression:
        """An alias or a position of the selected values as the value itself, but not inside an aggregate."""
        position = _position_of(node, items)
        if position is not None:
            return items[position].tree.copy()
        aliases = {item.name: item.tree for item in items if item.is_alias}

        def change(part: exp.Expression) -> exp.Expression:
            if isinstance(part, exp.AggFunc):
                return part.copy()
            if isinstance(part, exp.Dot | exp.Bracket):
                return part.copy()
            if isinstance(part, exp.Column) and part.name in aliases:
                return _copied(aliases[part.name])
            return part

        changed: exp.Expression = node.transform(change)
        return changed

    def _notice_aliases(self, where: exp.Expression, tree: exp.Select, scope: Scope) -> None:
        """WHERE is judged before values are computed: a name there is a field, also where it is an alias."""
        aliases = {item.alias for item in tree.expressions if isinstance(item, exp.Alias)}
        for column in outermost(where, exp.Column):
            if column.name in aliases and any(source.is_open for source in scope.sources):
                self._notices[
                    f"WHERE reads the field {column.name}, not the value that SELECT calls so (HAVING reads that)"
                ] = None

    # ── LIMIT ──
    def _limited(self, tree: exp.Expression, made: nodes.Operator) -> nodes.Operator:
        count = self._count(tree.args.get("limit"))
        offset = self._count(tree.args.get("offset")) or 0
        return made if count is None and not offset else nodes.Limit(made, count, offset)

    def _count(self, clause: Any) -> int | None:
        if clause is None:
            return None
        node = clause.expression
        value: Any = int(str(node.this)) if isinstance(node, exp.Literal) else self._parameter(node)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= COUNT_MAX:
            raise _error(f"LIMIT and OFFSET take a whole number from 0, not {value!r:.60}", node)
        return value

    def _parameter(self, node: exp.Expression) -> Any:
        name = node.this.name
        if name not in self._parameters:
            raise _error(f"parameter ${name} has no value", node, did_you_mean(name, self._parameters))
        return plain_value(self._parameters[name])


def _error(message: str, node: Any, hint: str | None = None) -> GqlError:
    return GqlError(message, span=node.meta.get("span"), hint=hint)


def _ordered(tree: exp.Expression) -> list[exp.Expression]:
    return list(tree.args["order"].expressions) if tree.args.get("order") else []


def _group(tree: exp.Expression) -> list[exp.Expression]:
    return list(tree.args["group"].expressions) if tree.args.get("group") else []


def _copied(tree: exp.Expression) -> exp.Expression:
    made = tree.copy()
    return exp.Paren(this=made) if isinstance(made, exp.Binary) and not isinstance(made, exp.Dot) else made


def _extras(
    order: Sequence[exp.Expression], sorts: Sequence[exp.Expression], extra: Sequence[exp.Expression]
) -> list[tuple[exp.Expression, exp.Expression]]:
    """The sort items whose values had to be added, with those values."""
    return [(item, sort) for item, sort in zip(order, sorts, strict=True) if any(sort is one for one in extra)]


def _starred(item: exp.Expression, scope: Scope) -> list[Source] | None:
    """The sources that `*` or `alias.*` stands for; None where the item is no star."""
    if isinstance(item, exp.Star):
        if not scope.sources:
            raise _error("* needs a FROM", item)
        return scope.sources
    if not (isinstance(item, exp.Dot) and isinstance(item.expression, exp.Star)):
        return None
    if isinstance(item.this, exp.Column):
        found = scope.called(item.this.name)
        if found is not None:
            return [found]
    known = sorted(scope.aliases())
    raise _error(f"there is no source {unparse_expression(item.this)}", item, did_you_mean(str(item.this), known))


def _refuse_star(items: Sequence[Item], tree: exp.Select) -> None:
    if any(item.spread for item in items):
        star = next(item for item in tree.expressions if item.find(exp.Star) and not item.find(exp.AggFunc))
        raise _error("* cannot stand beside GROUP BY or an aggregate: name what you want", star)


def _name(item: exp.Expression) -> str:
    """What a column is called: the alias, the last word of a path, or the text of the expression."""
    match item:
        case exp.Alias():
            return str(item.alias)
        case exp.Column():
            return str(item.name)
        case exp.Dot() if isinstance(item.expression, exp.Identifier):
            return str(item.expression.name)
        case _:
            text = unparse_expression(item)
            return text.lower() if isinstance(item, exp.AggFunc) else text


def _column(value: exp.Expression, name: str, inputs: nodes.Columns) -> nodes.Column:
    """The column of a value: what is only passed on keeps what is known of it."""
    position = position_of(bare(value))
    return nodes.Column(name) if position is None else replace(inputs[position], name=name)


def _position_of(node: exp.Expression, items: Sequence[Item]) -> int | None:
    """Which of the selected values a sort or group key is: by position from 1, or by alias."""
    if isinstance(node, exp.Literal) and not node.is_string:
        number = int(str(node.this)) if str(node.this).isdigit() else 0
        if not 1 <= number <= len(items):
            raise _error(f"there is no selected value number {node.this}: there are {len(items)}", node)
        if items[number - 1].spread:
            raise _error("* stands for many columns: name the one", node)
        return number - 1
    if isinstance(node, exp.Column):
        for position, item in enumerate(items):
            if item.is_alias and item.name == node.name:
                return position
    return None


def _declared_fields(root: nodes.Operator) -> tuple[tuple[str, ...], ...]:
    """For each column the fields that a schema declares of the messages in it."""
    return tuple(_fields_at(root, position) if column.spread else () for position, column in enumerate(root.columns))


def _fields_at(node: nodes.Operator, position: int) -> tuple[str, ...]:
    match node:
        case nodes.Scan():
            schema = node.topics[0].schema if len(node.topics) == 1 else None
            return () if schema is None else schema.names
        case nodes.Project():
            inner = position_of(bare(node.expressions[position]))
            return () if inner is None else _fields_at(node.source, inner)
        case nodes.Join():
            width = len(node.left.columns)
            return _fields_at(node.left, position) if position < width else _fields_at(node.right, position - width)
        case nodes.Union():
            return _fields_at(node.sources[0], position)
        case nodes.Filter() | nodes.Sort() | nodes.Distinct() | nodes.Limit():
            return _fields_at(node.source, position)
        case _:
            return ()
