"""Planning a SELECT: from its tree to operators, in the order in which SQL defines them.

WITH, sources and joins, WHERE, GROUP BY with aggregates, HAVING, windows, the selected values, DISTINCT, ORDER BY, LIMIT. The
plan made here is right and simple; rules/ make it quick. Names are resolved in scope.py, sources found in sources.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from geode_client.broker import Broker
from geode_client.conditions.binding import with_lists
from geode_client.conditions.parameters import plain_value
from geode_client.conditions.rows import VIRTUAL_COLUMNS
from geode_client.errors import did_you_mean
from geode_client.grammar.unparse_expressions import unparse_expression
from geode_client.query import checking, rules
from geode_client.query import operators as nodes
from geode_client.query.aggregating import aggregated, has_aggregate, in_message_order, refuse_aggregates
from geode_client.query.columns import bare, placed, position_of, reference, sub_query
from geode_client.query.joins import KINDS, Joined, joined, paired_columns
from geode_client.query.plan import Query, SubQuery, SubQueryKind
from geode_client.query.recent import RecentFields
from geode_client.query.scope import Path, Scope, Source, as_text, beside_its_alias, outermost
from geode_client.query.sources import Tables, WithTable, WithTables, alias_of, declared_fields, error, renamed
from geode_client.query.vectors import Surroundings
from geode_client.query.windowing import refuse_windows, windowed

COUNT_MAX = 2**53


@dataclass(frozen=True, slots=True)
class Item:
    """One selected value: as it was written, and what it is called. `omitted`: fields that `*` leaves out."""

    tree: exp.Expression
    name: str
    is_alias: bool = False
    spread: bool = False
    omitted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Around:
    """What a query may name: common tables, and the sources of the queries around it, which it cannot read."""

    commons: WithTables
    outer: frozenset[str] = frozenset()


class SelectPlanner:
    """Plans one query, with its sub-queries."""

    def __init__(self, broker: Broker, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._tables = Tables(broker)
        self._recent = RecentFields(broker)
        self._sub_queries: list[SubQuery] = []
        self._notices: dict[str, None] = {}
        # Aliases that a clause of the SELECT at hand has read, and the first such clause.
        self._by_alias: dict[str, str] = {}

    async def query(self, tree: exp.Expression) -> Query:
        """The plan of a query, made quick; raises GqlError with the place of what is wrong."""
        return rules.optimised_query(await self.plain(tree), rules.Context(self._parameters))

    async def plain(self, tree: exp.Expression) -> Query:
        """The plan as it follows from the statement, before any rule."""
        root = await self._plan(with_lists(tree, self._parameters), Around({}))
        if any(column.spread for column in root.columns):
            distinct = isinstance(tree, exp.Select) and tree.args.get("distinct") is not None
            spread: nodes.Operator = nodes.Spread(root, declared_fields(root))
            # Messages that differ in what a column does not show are the same row.
            root = nodes.Distinct(spread) if distinct and not isinstance(root, nodes.Limit) else spread
        query = Query(root, tuple(self._sub_queries), tuple(self._notices))
        checking.check(query, Surroundings(self._parameters))
        return query

    async def _plan(self, tree: exp.Expression, around: Around) -> nodes.Operator:
        around = await self._with(tree, around)
        if isinstance(tree, exp.SetOperation):
            return await self._set_operation(tree, around)
        if not isinstance(tree, exp.Select):
            raise error("this is no SELECT", tree)
        return await self._select(tree, around)

    # ── WITH ──
    async def _with(self, tree: exp.Expression, around: Around) -> Around:
        """Plan the common tables. One that is named once takes the place of its name; one that is named more often runs
        first, and its rows are kept, so that every reader sees the same."""
        clause = tree.args.get("with_") or tree.args.get("with")
        if clause is None:
            return around
        commons = dict(around.commons)
        for cte in clause.expressions:
            name = cte.args["alias"].this.name
            root = await self._plan(cte.this, Around(commons, around.outer))
            columns = tuple(renamed(root.columns, cte))
            if sum(table.name == name and not table.args.get("db") for table in tree.find_all(exp.Table)) > 1:
                number = self._run_first(SubQueryKind.ROWS, root)
                root = nodes.Shared(name, number, columns, declared_fields(root))
            commons[name] = WithTable(root, columns)
        return Around(commons, around.outer)

    def _run_first(self, kind: SubQueryKind, root: nodes.Operator, span: Any = None) -> int:
        number = len(self._sub_queries)
        self._sub_queries.append(SubQuery(kind, root, number, span))
        return number

    # ── UNION, EXCEPT, INTERSECT ──
    async def _set_operation(self, tree: exp.SetOperation, around: Around) -> nodes.Operator:
        made = await self._combined(tree, around)
        items = [Item(reference(position), column.name, True) for position, column in enumerate(made.columns)]
        order = _ordered(tree)
        if order:
            await self._plan_sub_queries(order, around)
            scope = Scope(around.outer)
            scope.add(Source(made, None, columns=list(made.columns)), None)
            sorts = [placed(scope.resolved(item.this), [0]) for item in _ordered(tree)]
            refuse_windows(sorts, "ORDER BY of a set operation")
            made = self._arranged(tree, made, items, [item.tree for item in items], _ordered(tree), sorts)
        return self._limited(tree, made)

    async def _combined(self, tree: exp.SetOperation, around: Around) -> nodes.Operator:
        left, right = await self._plan(tree.this, around), await self._plan(tree.expression, around)
        columns = paired_columns(tree, left, right)
        distinct = bool(tree.args.get("distinct"))
        match tree:
            case exp.Except():
                return nodes.Except(left, right, columns, not distinct)
            case exp.Intersect():
                return nodes.Intersect(left, right, columns, not distinct)
            case _:
                first = left.sources if isinstance(left, nodes.Union) else (left,)
                made = nodes.Union((*first, right), columns)
                return nodes.Distinct(made) if distinct else made

    # ── SELECT ──
    async def _select(self, tree: exp.Select, around: Around) -> nodes.Operator:
        scope = Scope(around.outer)
        if tree.expressions[-1].meta.get("bare"):
            scope.bare_alias = tree.expressions[-1].alias
        joins = await self._from(tree, scope, around)
        await self._plan_sub_queries(_parts(tree), Around(around.commons, around.outer | scope.aliases()))
        where = tree.args["where"].this if tree.args.get("where") else None
        if where is not None:
            refuse_aggregates(where, "WHERE")
            refuse_windows([where], "WHERE")
            self._notice_aliases(where, tree, scope)
        condition = None if where is None else scope.resolved(where)
        items = self._items(tree, scope)
        order = _ordered(tree)
        self._by_alias = {}
        keys = [self._dealiased(key, items, "GROUP BY", scope) for key in _group(tree)]
        having = tree.args["having"].this if tree.args.get("having") else None
        wanted = [
            *[item.tree for item in items],
            *[self._dealiased(item.this, items, "ORDER BY") for item in order],
            *([] if having is None else [self._dealiased(having, items, "HAVING", scope)]),
        ]
        refuse_windows(keys, "GROUP BY")
        refuse_windows(wanted[len(items) + len(order) :], "HAVING")
        resolved_keys = [scope.resolved(key) for key in keys]
        resolved = [scope.resolved(in_message_order(part, scope)) for part in wanted]
        self._notices.update(scope.notices)
        self._notices.update(self._tables.notices)
        await self._look_at_doubts(scope, items)

        bases = scope.bases()
        made = joined(scope, joins, bases)
        if condition is not None:
            made = nodes.Filter(made, placed(condition, bases))
        values = [placed(part, bases) for part in resolved]
        windows = windowed(values)
        values = [*windows.values, *windows.inputs]
        if keys or having is not None or any(map(has_aggregate, values)):
            _refuse_star(items, tree)
            known = Surroundings(self._parameters)
            grouped = aggregated(made, [placed(key, bases) for key in resolved_keys], values, known)
            made, values = grouped.node, grouped.values
        values, inputs = values[: len(resolved)], values[len(resolved) :]
        if having is not None:
            made = nodes.Filter(made, values.pop())
        made, values = windows.planned(made, values, inputs, Surroundings(self._parameters))
        sorts = values[len(items) :]
        made = self._arranged(tree, made, items, values[: len(items)], order, sorts)
        return self._limited(tree, made)

    # ── FROM ──
    async def _from(self, tree: exp.Select, scope: Scope, around: Around) -> list[Joined]:
        """Add the sources to the scope; gives how each but the first is joined to those before it."""
        clause = tree.args.get("from_") or tree.args.get("from")
        joins: list[Joined] = []
        if clause is None:
            return joins
        await self._add_source(clause.this, scope, around)
        for join in tree.args.get("joins") or ():
            source = await self._add_source(join.this, scope, around)
            kind = KINDS[join.args.get("side") or None]
            if source.unnested is not None and (kind.keeps_right or join.args.get("using")):
                raise error("UNNEST takes CROSS JOIN, JOIN … ON or LEFT JOIN … ON", join)
            condition = None
            if join.args.get("using"):
                condition = self._using(scope, source, join.args["using"], kind)
            elif join.args.get("on") is not None:
                on = Around(around.commons, around.outer | scope.aliases())
                await self._plan_sub_queries([join.args["on"]], on)
                refuse_aggregates(join.args["on"], "ON")
                refuse_windows([join.args["on"]], "ON")
                condition = scope.resolved(join.args["on"])
            joins.append(Joined(kind, condition, join.args.get("kind") == "COMMA", join.meta.get("span")))
        return joins

    async def _add_source(self, table: exp.Expression, scope: Scope, around: Around) -> Source:
        self._tables.count(table)
        alias = alias_of(table)
        match table:
            case exp.Subquery():
                node = await self._plan(table.this, around)
                source = Source(node, alias, columns=renamed(node.columns, table))
            case exp.Unnest():
                await self._plan_sub_queries(table.expressions, Around(around.commons, around.outer | scope.aliases()))
                expression = table.expressions[0]
                refuse_aggregates(expression, "UNNEST")
                refuse_windows([expression], "UNNEST")
                columns = renamed([nodes.Column(alias or "unnest")], table)
                source = Source(
                    nodes.OneRow(),
                    alias,
                    columns=columns,
                    unnested=scope.before(len(scope.sources)).resolved(expression),
                )
            case _:
                source = await self._tables.source(table, around.commons)
        scope.add(source, table.meta.get("span"))
        return source

    def _using(
        self, scope: Scope, source: Source, names: Sequence[exp.Identifier], kind: nodes.JoinKind
    ) -> exp.Expression:
        """The equalities of USING; from here on a name without a source means the column of both sides."""
        before = scope.before(source.number)
        made: exp.Expression | None = None
        for name in names:
            path = Path(name.name, False, (), name.meta.get("span"), bool(name.args.get("quoted")))
            left = before.merged.get(path.name)
            if left is None:
                owner, _ = before.found(path)
                left = owner.read(path)
                owner.merged |= {path.name}
            right = source.read(path)
            source.merged |= {path.name}
            same: exp.Expression = exp.EQ(this=left.copy(), expression=right)
            same.meta["span"] = name.meta.get("span")
            made = same if made is None else exp.And(this=made, expression=same)
            if kind is nodes.JoinKind.FULL:
                left = exp.Anonymous(this="COALESCE", expressions=[left.copy(), right.copy()])
            scope.merged[path.name] = right.copy() if kind is nodes.JoinKind.RIGHT else left.copy()
        assert made is not None
        return made

    # ── sub-queries in expressions ──
    async def _plan_sub_queries(self, parts: Sequence[exp.Expression], around: Around) -> None:
        """Plan what is in IN (SELECT …), EXISTS (SELECT …) and (SELECT …); the expressions keep their numbers."""
        for part in parts:
            for node in list(outermost(part, exp.Subquery)):
                if isinstance(node.this, exp.Var):
                    continue
                above = node.parent
                written = above if isinstance(above, exp.Exists) else node
                # Planning puts numbers in the place of the queries inside.
                written.meta["text"] = unparse_expression(written)
                root = await self._plan(node.this, around)
                if isinstance(above, exp.In) and node.arg_key == "query":
                    if len(root.columns) != 1 or root.columns[0].spread:
                        raise error("a sub-query after IN has one column: name the one", node.this)
                    members = exp.Var(this=str(self._run_first(SubQueryKind.MEMBERS, root)))
                    members.meta["text"] = written.meta["text"][1:-1]
                    above.set("query", members)
                elif isinstance(above, exp.Exists):
                    number = self._run_first(SubQueryKind.EXISTS, nodes.Limit(root, 1, 0))
                    above.replace(sub_query(number, above))
                else:
                    if len(root.columns) != 1 or root.columns[0].spread:
                        raise error("a sub-query that stands for a value has one column: name the one", node.this)
                    # A second row is an error, which takes no more than two rows to see.
                    number = self._run_first(SubQueryKind.VALUE, nodes.Limit(root, 2, 0), node.meta.get("span"))
                    node.replace(sub_query(number, node))

    # ── names that no message has ──
    async def _look_at_doubts(self, scope: Scope, items: Sequence[Item]) -> None:
        for source, path in scope.doubts:
            fields = await self._recent.of(source.topics)
            renamed_source = next((one for one in scope.sources if path.steps and one.name == path.name), None)
            if renamed_source is not None and path.name not in (fields or ()):
                raise beside_its_alias(path, renamed_source)
            # A schema has had its say already.
            if fields is None or path.name in fields or source.types:
                continue
            hint = (
                as_text(path.name)
                if path.quoted and path.name not in VIRTUAL_COLUMNS
                else did_you_mean(path.name, fields)
            )
            assert isinstance(source.node, nodes.Scan)
            text = f"no recent message of {source.node.pattern} has a field {path.name}"
            self._notices[text + (f": {hint}" if hint else "")] = None
        aliased = {item.name: bare(item.tree) for item in items if item.is_alias}
        for name, clause in self._by_alias.items():
            tree = aliased[name]
            if isinstance(tree, exp.Column) and tree.name == name:
                continue
            for source in scope.sources:
                fields = await self._recent.of(source.topics)
                if fields is not None and name in fields:
                    text = f"{clause} reads {name} as the value that SELECT calls so, which hides the field {name}"
                    self._notices[text] = None

    # ── the selected values ──
    def _items(self, tree: exp.Select, scope: Scope) -> list[Item]:
        items: list[Item] = []
        for item in tree.expressions:
            sources = _starred(item, scope)
            if sources is None:
                value = item.this if isinstance(item, exp.Alias) else item
                items.append(Item(value, _name(item), isinstance(item, exp.Alias)))
                continue
            merged = scope.merged if isinstance(item, exp.Star) else {}
            items += [Item(tree.copy(), name) for name, tree in merged.items()]
            for source in sources:
                items += _whole(source, item, source.merged if merged else frozenset())
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
        columns = tuple(
            replace(_column(value, item.name, made.columns), omitted=item.omitted)
            for item, value in zip(items, values, strict=True)
        )
        distinct = isinstance(tree, exp.Select) and tree.args.get("distinct") is not None
        if distinct and extra:
            raise error("with DISTINCT, ORDER BY takes only what is selected", order[0])
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

    def _dealiased(
        self, node: exp.Expression, items: Sequence[Item], clause: str, scope: Scope | None = None
    ) -> exp.Expression:
        """An alias or a position of the selected values as the value itself, but not inside an aggregate or a window.

        With a scope, which is how GROUP BY and HAVING read names, a column that is known goes before an alias.
        """
        position = _position_of(node, items) if clause != "HAVING" and isinstance(node, exp.Literal) else None
        if position is not None:
            return items[position].tree.copy()
        aliases = {item.name: item.tree for item in reversed(items) if item.is_alias}

        def is_known(column: exp.Expression) -> bool:
            path = Path.of(column)
            return scope is not None and any(source.knows(path) for source in scope.sources)

        def change(part: exp.Expression) -> exp.Expression:
            if isinstance(part, exp.AggFunc | exp.Window | exp.Dot | exp.Bracket | exp.Subquery):
                return part.copy()
            if isinstance(part, exp.Column) and part.name in aliases and not is_known(part):
                self._by_alias.setdefault(part.name, clause)
                return _copied(aliases[part.name]) if part is not node else aliases[part.name].copy()
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
            raise error(f"LIMIT and OFFSET take a whole number from 0, not {value!r:.60}", node)
        return value

    def _parameter(self, node: exp.Expression) -> Any:
        name = node.this.name
        if name not in self._parameters:
            raise error(f"parameter ${name} has no value", node, did_you_mean(name, self._parameters))
        return plain_value(self._parameters[name])


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
            raise error("* needs a FROM", item)
        return scope.sources
    if not (isinstance(item, exp.Dot) and isinstance(item.expression, exp.Star)):
        return None
    if isinstance(item.this, exp.Column):
        found = scope.called(item.this.name)
        if found is not None:
            return [found]
    known = sorted(scope.aliases())
    raise error(f"there is no source {unparse_expression(item.this)}", item, did_you_mean(str(item.this), known))


def _refuse_star(items: Sequence[Item], tree: exp.Select) -> None:
    if any(item.spread for item in items):
        star = next(item for item in tree.expressions if item.find(exp.Star) and not item.find(exp.AggFunc))
        raise error("* cannot stand beside GROUP BY or an aggregate: name what you want", star)


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
            raise error(f"there is no selected value number {node.this}: there are {len(items)}", node)
        if items[number - 1].spread:
            raise error("* stands for many columns: name the one", node)
        return number - 1
    if isinstance(node, exp.Column):
        for position, item in enumerate(items):
            if item.is_alias and item.name == node.name:
                return position
    return None


def _parts(tree: exp.Select) -> list[exp.Expression]:
    """All expressions of a SELECT but those of its FROM."""
    parts = [*tree.expressions, *_group(tree), *_ordered(tree)]
    return parts + [tree.args[name] for name in ("where", "having") if tree.args.get(name)]


def _whole(source: Source, star: exp.Expression, merged: frozenset[str]) -> list[Item]:
    """The items that `*` stands for in one source; without the columns of USING, which come before."""
    made = source.whole(star.meta.get("span"))
    columns = source.columns if not source.is_topic else [nodes.Column("*", spread=True)]
    pairs = zip(made, columns, strict=True)
    omitted = tuple(sorted(merged))
    return [
        Item(node, column.name, spread=column.spread, omitted=(*omitted, *column.omitted) if column.spread else ())
        for node, column in pairs
        if column.spread or column.name not in merged
    ]
