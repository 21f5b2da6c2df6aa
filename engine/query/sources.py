"""The tables of FROM: topics and patterns, SYSTEM tables, dead letters, and common tables of WITH, as sources of a scope."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from geode_client import letters
from geode_client.broker import Broker, OwnTable
from geode_client.catalog import Topic
from geode_client.conditions import compile_condition
from geode_client.errors import GqlError, TopicNotFound, did_you_mean
from geode_client.grammar.names import is_pattern
from geode_client.query import operators as nodes
from geode_client.query import system
from geode_client.query.columns import bare, position_of
from geode_client.query.scope import Path, Source
from geode_client.replaying import places_of

# Queries that name more than this may hide a common table that is read again and again.
SOURCES_MAX = 1000


@dataclass(frozen=True, slots=True)
class WithTable:
    """A common table of WITH: the operator that gives its rows, wherever it is named, and its columns."""

    node: nodes.Operator
    columns: nodes.Columns


WithTables = Mapping[str, WithTable]


class Tables:
    """Finds what the names in FROM mean."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._found = 0
        self.notices: dict[str, None] = {}

    def count(self, table: exp.Expression) -> None:
        """Count a source; raises GqlError beyond the bound."""
        self._found += 1
        if self._found > SOURCES_MAX:
            raise error(f"a query reads at most {SOURCES_MAX} sources", table)

    async def source(self, table: exp.Expression, commons: WithTables) -> Source:
        """The source that a Table node names."""
        alias = alias_of(table)
        database = table.args.get("db")
        name = table.this.name
        match database.name if database is not None else None:
            case "SYSTEM":
                return self._system(table, name, alias)
            case "DEAD_LETTERS":
                return Source(await self._dead_letters(name), alias)
            case _ if name in commons:
                common = commons[name]
                source = Source(common.node, alias or name, columns=list(common.columns))
            case _:
                source = await self._named(name, alias)
        source.name = name if source.alias != name else None
        return source

    def _system(self, table: exp.Expression, name: str, alias: str | None) -> Source:
        known = system.TABLES.get(name.lower())
        if known is None:
            hint = did_you_mean(name, system.TABLES) or f"there are {', '.join(system.TABLES)}"
            raise error(f"there is no table SYSTEM.{name}", table, hint)
        columns = tuple(nodes.Column(column) for column in known)
        return Source(nodes.SystemScan(name.lower(), columns), alias or name.lower(), columns=list(columns))

    async def _named(self, name: str, alias: str | None) -> Source:
        """A topic, a pattern, or a table of the user's own."""
        own = await self._own_table(name)
        try:
            found = tuple(await self._topics(name))
        except TopicNotFound:
            if own is None:
                raise
            columns = tuple(nodes.Column(column) for column in own.columns)
            return Source(nodes.OwnTableScan(own.name, columns), alias or name, columns=list(columns))
        if own is not None:
            self.notices[f"{name} is the topic; your own table of that name is read by tx.execute()"] = None
        return Source(nodes.Scan(name, found, (), ()), alias or (None if is_pattern(name) else name))

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


def alias_of(table: exp.Expression) -> str | None:
    """The alias of a source as it is written."""
    alias = table.args.get("alias")
    return None if alias is None else str(alias.this.name)


def renamed(columns: Sequence[nodes.Column], table: exp.Expression) -> list[nodes.Column]:
    """The columns under the names behind the alias, where there are any; raises GqlError where they are not as many."""
    alias = table.args.get("alias")
    names = [] if alias is None else alias.args.get("columns") or []
    if not names:
        return list(columns)
    if any(column.spread for column in columns):
        raise error("* stands for many columns: name them in the query instead of here", names[0])
    if len(names) != len(columns):
        raise error(f"{len(names)} names for {len(columns)} columns", names[0])
    return [replace(column, name=name.name) for column, name in zip(columns, names, strict=True)]


def declared_fields(root: nodes.Operator) -> tuple[tuple[str, ...], ...]:
    """For each column the fields that a schema declares of the messages in it."""
    return tuple(_fields_at(root, position) if column.spread else () for position, column in enumerate(root.columns))


def _fields_at(node: nodes.Operator, position: int) -> tuple[str, ...]:
    match node:
        case nodes.Scan():
            schema = node.topics[0].schema if len(node.topics) == 1 else None
            return () if schema is None else schema.names
        case nodes.Shared():
            return node.fields[position]
        case nodes.Project():
            inner = position_of(bare(node.expressions[position]))
            return () if inner is None else _fields_at(node.source, inner)
        case nodes.Join():
            width = len(node.left.columns)
            return _fields_at(node.left, position) if position < width else _fields_at(node.right, position - width)
        case nodes.Unnest() | nodes.Window():
            return _fields_at(node.source, position) if position < len(node.source.columns) else ()
        case nodes.Union():
            return _fields_at(node.sources[0], position)
        case nodes.Except() | nodes.Intersect():
            return _fields_at(node.left, position)
        case nodes.Filter() | nodes.Sort() | nodes.Distinct() | nodes.Limit():
            return _fields_at(node.source, position)
        case _:
            return ()


def error(message: str, node: Any, hint: str | None = None) -> GqlError:
    """An error with the place of a node."""
    return GqlError(message, span=node.meta.get("span"), hint=hint)
