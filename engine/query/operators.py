"""Operators: the nodes of a query's plan, each with one line of text that EXPLAIN shows.

Every operator gives rows with the `columns` it names. Expressions above a scan read the columns of what stands below by
position (columns.py); the `outputs` of a scan read messages. `source`, or `left` and `right`, or `sources` stand below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from geode_client.catalog import Topic
from geode_client.conditions import Condition
from geode_client.grammar.ast import TypeNode

if TYPE_CHECKING:
    from sqlglot import exp


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an operator's rows. `type` is what a schema declares; `spread`: it holds whole messages, whose fields
    become columns when the query ends, without those `omitted`. `plain`: its values are JSON as it came, so never times
    or decimals."""

    name: str
    type: TypeNode | None = None
    spread: bool = False
    plain: bool = False
    omitted: tuple[str, ...] = ()


Columns = tuple[Column, ...]


def names(columns: Columns) -> tuple[str, ...]:
    """The names of columns."""
    return tuple(column.name for column in columns)


def declared_alike(topics: Sequence[Topic]) -> dict[str, TypeNode]:
    """The columns that all of some topics declare with the same type."""
    found: dict[str, TypeNode] | None = None
    for topic in topics:
        types = {} if topic.schema is None else {column.name: column.type for column in topic.schema.columns}
        found = types if found is None else {name: kind for name, kind in found.items() if types.get(name) == kind}
    return found or {}


@dataclass(frozen=True, slots=True)
class Range:
    """What part of its topics a scan has to read at all; the condition still judges every message of it.

    Partition, key, and offsets from `first_offset` to before `end_offset`; messages accepted at or after `since_us`.
    """

    partition: int | None = None
    key: str | None = None
    first_offset: int = 0
    end_offset: int | None = None
    since_us: int | None = None

    def parts(self) -> list[str]:
        """What EXPLAIN says of it."""
        found: list[str] = []
        if self.partition is not None:
            found.append(f"only partition {self.partition}")
        if self.key is not None:
            found.append(f"only the partition of key {self.key!r}")
        if self.first_offset:
            found.append(f"from offset {self.first_offset}")
        if self.end_offset is not None:
            found.append(f"before offset {self.end_offset}")
        if self.since_us is not None:
            found.append("from a time on")
        return found


EVERYTHING = Range()


@dataclass(frozen=True, slots=True)
class Scan:
    """The retained messages of topics, in commit order. `outputs` are computed where `condition` is TRUE.

    `whole`: bodies are decoded whole, not only the fields that are read. `newest_first` turns the order round. `skips`: the
    statistics of a batch may show that nothing in it can match, and it is not read. `letters`: the messages are dead letters,
    which have columns of their own.
    """

    pattern: str
    topics: tuple[Topic, ...]
    outputs: tuple["exp.Expression", ...]
    columns: Columns
    condition: Condition | None = None
    whole: bool = True
    within: Range = EVERYTHING
    newest_first: bool = False
    limit: int | None = None
    skips: bool = False
    letters: bool = False

    def text(self) -> str:
        from geode_client.query.columns import named

        parts = [f"Scan {self.pattern}"]
        if self.condition is not None:
            parts.append(f"where {self.condition.text}")
        parts += self.within.parts()
        if self.skips:
            parts.append("skipping by statistics")
        if self.newest_first:
            parts.append("newest first")
        fields = ", ".join(named(self.outputs, self.columns, ())) or "none"
        parts.append(f"whole messages for {fields}" if self.whole else f"fields {fields}")
        if self.limit is not None:
            parts.append(f"at most {self.limit}")
        return ", ".join(parts)

    @property
    def children(self) -> "tuple[Operator, ...]":
        return ()


@dataclass(frozen=True, slots=True)
class SystemScan:
    """A SYSTEM table as of now."""

    table: str
    columns: Columns

    def text(self) -> str:
        return f"SystemScan {self.table}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return ()


@dataclass(frozen=True, slots=True)
class OwnTableScan:
    """A table or view of the user's own, whole, as of one commit."""

    table: str
    columns: Columns

    def text(self) -> str:
        return f"OwnTableScan {self.table}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return ()


@dataclass(frozen=True, slots=True)
class OneRow:
    """SELECT without FROM: one row without columns."""

    columns: Columns = ()

    def text(self) -> str:
        return "OneRow"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return ()


@dataclass(frozen=True, slots=True)
class Filter:
    """The rows for which the condition is TRUE."""

    source: "Operator"
    condition: "exp.Expression"

    @property
    def columns(self) -> Columns:
        return self.source.columns

    def text(self) -> str:
        from geode_client.query.columns import shown

        return f"Filter {shown(self.condition, self.columns)}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Project:
    """Each row becomes the values of `expressions`."""

    source: "Operator"
    expressions: tuple["exp.Expression", ...]
    columns: Columns

    def text(self) -> str:
        from geode_client.query.columns import named

        return f"Project {', '.join(named(self.expressions, self.columns, self.source.columns)) or 'nothing'}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.source,)


class JoinKind(StrEnum):
    """Which rows of a join come without a partner too, with NULLs in its place."""

    INNER = "Join"
    LEFT = "LeftJoin"
    RIGHT = "RightJoin"
    FULL = "FullJoin"

    @property
    def keeps_left(self) -> bool:
        return self in (JoinKind.LEFT, JoinKind.FULL)

    @property
    def keeps_right(self) -> bool:
        return self in (JoinKind.RIGHT, JoinKind.FULL)


@dataclass(frozen=True, slots=True)
class Join:
    """Pairs of rows for which `condition` is TRUE (None: all), and by `kind` rows without a partner.

    Expressions read the columns of `left` and then of `right`. `keys` are pairs of expressions, one for each side (the
    right one counts from its own first column), that have to be equal: partners are found by hash.
    """

    left: "Operator"
    right: "Operator"
    condition: "exp.Expression | None"
    kind: JoinKind = JoinKind.INNER
    keys: tuple[tuple["exp.Expression", "exp.Expression"], ...] = ()

    @property
    def columns(self) -> Columns:
        return (*self.left.columns, *self.right.columns)

    def text(self) -> str:
        from geode_client.query.columns import shown

        on = [f"{shown(a, self.left.columns)} = {shown(b, self.right.columns)}" for a, b in self.keys]
        also = [] if self.condition is None else [shown(self.condition, self.columns)]
        return f"{'Hash' if on else ''}{self.kind} on {' AND '.join([*on, *also]) or 'every pair'}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.left, self.right)


@dataclass(frozen=True, slots=True)
class Unnest:
    """Each row once for every element of the list that `expression` gives, with the element as one more column.

    Rows stay for which `condition`, which may read the element, is TRUE; `outer`: a row without any comes once, with NULL.
    """

    source: "Operator"
    expression: "exp.Expression"
    column: Column
    condition: "exp.Expression | None" = None
    outer: bool = False

    @property
    def columns(self) -> Columns:
        return (*self.source.columns, self.column)

    def text(self) -> str:
        from geode_client.query.columns import shown

        on = "" if self.condition is None else f" on {shown(self.condition, self.columns)}"
        word = "Unnest or NULL" if self.outer else "Unnest"
        return f"{word} {shown(self.expression, self.source.columns)} AS {self.column.name}{on}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Shared:
    """The rows of sub-query `number`, which ran first: a common table that is read more than once.

    `fields` are for each column the fields that a schema declares of the messages in it.
    """

    name: str
    number: int
    columns: Columns
    fields: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        return f"Shared {self.name} (sub-query {self.number})"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return ()


@dataclass(frozen=True, slots=True)
class Call:
    """One aggregate: `function` over column `argument` of the source rows; None: COUNT(*).

    `more` are the columns of its other arguments, `order` brings its values into an order, and only rows count where the
    column `where` is TRUE.
    """

    function: str
    argument: int | None
    distinct: bool = False
    more: tuple[int, ...] = ()
    order: "tuple[SortKey, ...]" = ()
    where: int | None = None

    @property
    def values(self) -> tuple[int, ...]:
        """The columns of its values: the argument, the other arguments, what brings them into an order."""
        if self.argument is None:
            return ()
        return (self.argument, *self.more, *[key.position for key in self.order])

    @property
    def columns(self) -> tuple[int, ...]:
        """All columns that it reads."""
        return self.values if self.where is None else (*self.values, self.where)

    def moved(self, places: Mapping[int, int]) -> "Call":
        """The same over other positions."""
        return replace(
            self,
            argument=None if self.argument is None else places[self.argument],
            more=tuple(places[position] for position in self.more),
            order=tuple(replace(key, position=places[key.position]) for key in self.order),
            where=None if self.where is None else places[self.where],
        )


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Groups the source rows by their columns `keys`; rows are the keys and then the results of `calls`."""

    source: "Operator"
    keys: tuple[int, ...]
    calls: tuple[Call, ...]
    columns: Columns

    def text(self) -> str:
        shown = names(self.columns)
        by = f" by {', '.join(shown[: len(self.keys)])}" if self.keys else ""
        return f"Aggregate {', '.join(shown[len(self.keys) :]) or 'nothing'}{by}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.source,)


@dataclass(frozen=True, slots=True)
class WindowCall:
    """One function over a window: an aggregate (`call`), or another one of `arguments`, which are columns of the source."""

    function: str
    arguments: tuple[int, ...] = ()
    call: Call | None = None

    def moved(self, places: Mapping[int, int]) -> "WindowCall":
        """The same over other positions."""
        arguments = tuple(places[position] for position in self.arguments)
        return replace(self, arguments=arguments, call=None if self.call is None else self.call.moved(places))


@dataclass(frozen=True, slots=True)
class Window:
    """The source rows, sorted, with the results of `calls` as more columns.

    The rows of a partition, which agree in the columns `partition`, are taken together, in the order `order`. An aggregate
    is over the rows of the partition up to the current one and its peers; without an order over all of them.
    """

    source: "Operator"
    partition: tuple[int, ...]
    order: "tuple[SortKey, ...]"
    calls: tuple[WindowCall, ...]
    results: Columns

    @property
    def columns(self) -> Columns:
        return (*self.source.columns, *self.results)

    def text(self) -> str:
        parts = [f"Window {', '.join(names(self.results))}"]
        if self.partition:
            parts.append(f"by {', '.join(self.columns[position].name for position in self.partition)}")
        if self.order:
            parts.append(f"in order of {', '.join(key.text(self.columns) for key in self.order)}")
        return " ".join(parts)

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.source,)


@dataclass(frozen=True, slots=True)
class SortKey:
    position: int
    descending: bool = False
    nulls_first: bool = False

    def text(self, columns: Columns) -> str:
        """The key with the name of its column."""
        return f"{columns[self.position].name}{' desc' * self.descending}{' nulls first' * self.nulls_first}"


@dataclass(frozen=True, slots=True)
class Sort:
    """Sorts by columns of the source; with `limit` only so many of the first rows are kept at any time."""

    source: "Operator"
    keys: tuple[SortKey, ...]
    limit: int | None = None

    @property
    def columns(self) -> Columns:
        return self.source.columns

    def text(self) -> str:
        shown = [key.text(self.columns) for key in self.keys]
        return f"{'Sort' if self.limit is None else f'Top {self.limit}'} by {', '.join(shown)}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Distinct:
    """Each different row once."""

    source: "Operator"

    @property
    def columns(self) -> Columns:
        return self.source.columns

    def text(self) -> str:
        return "Distinct"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Union:
    """The rows of all sources, one source after the other."""

    sources: "tuple[Operator, ...]"
    columns: Columns

    def text(self) -> str:
        return "Union"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return self.sources


@dataclass(frozen=True, slots=True)
class Except:
    """The different rows of `left` that `right` does not have; `every`: each row of `right` takes one equal row away."""

    left: "Operator"
    right: "Operator"
    columns: Columns
    every: bool = False

    def text(self) -> str:
        return f"Except{' all' * self.every}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.left, self.right)


@dataclass(frozen=True, slots=True)
class Intersect:
    """The different rows of `left` that `right` has as well; `every`: each as often as both have it."""

    left: "Operator"
    right: "Operator"
    columns: Columns
    every: bool = False

    def text(self) -> str:
        return f"Intersect{' all' * self.every}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.left, self.right)


@dataclass(frozen=True, slots=True)
class Limit:
    """`count` rows (None: all) after the first `offset`."""

    source: "Operator"
    count: int | None
    offset: int

    @property
    def columns(self) -> Columns:
        return self.source.columns

    def text(self) -> str:
        after = f" offset {self.offset}" if self.offset else ""
        return f"Limit {'all' if self.count is None else self.count}{after}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Spread:
    """Columns of whole messages become columns of their fields: those of a schema first, then others as they appear.

    `declared` are for each column of the source the fields of its schema. Which columns there are is known at the end.
    """

    source: "Operator"
    declared: tuple[tuple[str, ...], ...]
    columns: Columns = field(default=())

    def text(self) -> str:
        kept = [column.name for column in self.source.columns if not column.spread]
        return f"Spread all fields{''.join(f', {name}' for name in kept)}"

    @property
    def children(self) -> "tuple[Operator, ...]":
        return (self.source,)


Operator = (
    Scan
    | SystemScan
    | OwnTableScan
    | OneRow
    | Shared
    | Filter
    | Project
    | Join
    | Unnest
    | Aggregate
    | Window
    | Sort
    | Distinct
    | Union
    | Except
    | Intersect
    | Limit
    | Spread
)
