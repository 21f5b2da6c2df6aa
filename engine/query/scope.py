"""Names of a SELECT: which source, and which column or field of it, a path means.

Sources with known columns (SYSTEM tables, sub-queries) are asked first, then what a topic's schema declares; any other
name is a field of the one topic there is. Between several topics a name needs the source in front of it. Fields that are
read are collected, and become the outputs of a topic's scan.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlglot import exp

from geode_client import letters
from geode_client.catalog import Topic
from geode_client.conditions import declared
from geode_client.conditions.fields import EVERY
from geode_client.conditions.rows import (
    VIRTUAL_COLUMNS,
    VIRTUAL_TYPES,
    Step,
    has_plain_step,
    path_text,
    steps_of,
)
from geode_client.errors import GqlError, did_you_mean
from geode_client.grammar.ast import Scalar, TypeNode
from geode_client.query import operators as nodes
from geode_client.query.columns import is_pending, pending, replaced

NAMES_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Path:
    """A path of a statement: its first name, whether that may be a virtual column, and the steps behind it.

    `quoted`: the first name is in quotes, and so always a field. `plain_step`: the first step is a name without quotes,
    which may be a virtual column where the name before it is a source.
    """

    name: str
    virtual: bool
    steps: tuple[Step, ...]
    span: Any
    quoted: bool = False
    plain_step: bool = True

    @classmethod
    def of(cls, node: exp.Expression) -> "Path":
        head, steps = steps_of(node)
        quoted = bool(head.this.args.get("quoted"))
        virtual = head.name in VIRTUAL_COLUMNS and not quoted
        return cls(head.name, virtual, tuple(steps), node.meta.get("span"), quoted, has_plain_step(node))

    def inside(self) -> "Path":
        """The path without the source in front of it."""
        name = str(self.steps[0])
        virtual = name in VIRTUAL_COLUMNS and self.plain_step
        return Path(name, virtual, self.steps[1:], self.span, not self.plain_step)

    def of_letters(self) -> "Path":
        """The path where it is a column that only dead letters have; else the same."""
        name = None if self.quoted else letters.COLUMNS.get(self.name)
        return self if name is None else replace(self, name=name, virtual=True)

    @property
    def text(self) -> str:
        shown = f"_{self.name[1:]}" if self.virtual and self.name.startswith("#") else self.name
        return path_text(shown, self.steps)

    def node(self) -> exp.Expression:
        """The path as a node over messages."""
        head = exp.Column(this=exp.Identifier(this=self.name, quoted=self.name in VIRTUAL_COLUMNS and not self.virtual))
        head.meta["span"] = self.span
        return stepped(head, self.steps, self.span)


def stepped(node: exp.Expression, steps: Sequence[Step], span: Any) -> exp.Expression:
    """The value at the end of some steps from a node."""
    for step in steps:
        if isinstance(step, str):
            node = exp.Dot(this=node, expression=exp.Identifier(this=step, quoted=not step.isidentifier()))
        else:
            inside = exp.Star() if step is EVERY else exp.Literal.number(str(step))
            node = exp.Bracket(this=node, expressions=[inside])
        node.meta["span"] = span
    return node


@dataclass(slots=True)
class Source:
    """Something to select from: a node, how its rows may be called, and its columns so far.

    Of a topic, `node` is a scan, and `outputs` grow as fields are asked for. `name` is what it is called where it has
    another alias. `unnested`: the list of a row whose elements the source has, as its one column. `merged` are the columns
    that USING made one with those of other sources.
    """

    node: nodes.Operator
    alias: str | None
    number: int = 0
    name: str | None = None
    unnested: exp.Expression | None = None
    merged: frozenset[str] = frozenset()
    columns: list[nodes.Column] = field(default_factory=list)
    outputs: list[exp.Expression] = field(default_factory=list)
    _places: dict[Any, int] = field(default_factory=dict)

    @property
    def topics(self) -> Sequence[Topic]:
        """The topics that are scanned, where this is a topic or a pattern."""
        return self.node.topics if isinstance(self.node, nodes.Scan) else ()

    @property
    def types(self) -> Mapping[str, TypeNode]:
        """What the schema of the topic declares; of several topics what all of them declare alike."""
        return nodes.declared_alike(self.topics)

    @property
    def is_topic(self) -> bool:
        return isinstance(self.node, nodes.Scan)

    @property
    def is_open(self) -> bool:
        """Whether any name may be a field of its rows."""
        return self.is_topic or any(column.spread for column in self.columns)

    def meant(self, path: Path) -> Path:
        """The path as it is meant of this source."""
        return path.of_letters() if isinstance(self.node, nodes.Scan) and self.node.letters else path

    def knows(self, path: Path) -> bool:
        """Whether the name is one of its columns for sure."""
        path = self.meant(path)
        if self.is_topic:
            return path.virtual or path.name in self.types
        return any(column.name == path.name and not column.spread for column in self.columns)

    def known_names(self) -> list[str]:
        return list(self.types) if self.is_topic else [column.name for column in self.columns if not column.spread]

    def read(self, path: Path) -> exp.Expression:
        """The node that reads a path; raises GqlError where there is none."""
        if self.is_topic:
            if EVERY in path.steps:
                # A condition looks at the items of the array: the scan gives the array.
                place = path.steps.index(EVERY)
                whole = replace(path, steps=path.steps[:place])
                return stepped(self.read(whole), path.steps[place:], path.span)
            return self._output(path.text + "!" * path.virtual, path.node(), self._column(path), path.span)
        for position, column in enumerate(self.columns):
            if column.name == path.name and not column.spread:
                return stepped(pending(self.number, position, path.span), path.steps, path.span)
        if self.unnested is not None:
            # A field of the elements.
            return stepped(pending(self.number, 0, path.span), (path.name, *path.steps), path.span)
        spread = [position for position, column in enumerate(self.columns) if column.spread]
        if len(spread) == 1:
            return stepped(pending(self.number, spread[0], path.span), (path.name, *path.steps), path.span)
        if spread:
            raise GqlError(
                f"{path.name} may be a field of several topics of the sub-query", span=path.span, hint="name it there"
            )
        raise unknown(path, self.known_names())

    def exists(self, path: Path) -> exp.Expression:
        """The node that tells whether the path is there."""
        if not self.is_topic:
            found = self.read(path)
            # A column is always there; what a message has is known only of its fields.
            return (
                exp.Not(this=exp.Is(this=found, expression=exp.Null())) if is_pending(found) else exp.Exists(this=found)
            )
        text = f"EXISTS({path.text})"
        return self._output(
            text, exp.Exists(this=path.node()), nodes.Column(text, Scalar("BOOL"), plain=True), path.span
        )

    def whole(self, span: Any) -> list[exp.Expression]:
        """All columns: of a topic the message, which is spread out at the end."""
        if self.is_topic:
            plain = not any(map(declared.holds, self.types.values()))
            return [self._output("*", exp.Star(), nodes.Column("*", spread=True, plain=plain), span)]
        return [pending(self.number, position, span) for position in range(len(self.columns))]

    def _output(self, key: Any, tree: exp.Expression, column: nodes.Column, span: Any) -> exp.Expression:
        if key not in self._places:
            self._places[key] = len(self.outputs)
            self.outputs.append(tree)
            self.columns.append(column)
        return pending(self.number, self._places[key], span)

    def _column(self, path: Path) -> nodes.Column:
        if path.virtual:
            return nodes.Column(path.text, None if path.steps else VIRTUAL_TYPES.get(path.name))
        column = self.types.get(path.name)
        found = declared.type_at(column, path.steps)
        return nodes.Column(path.text, found, plain=not declared.holds(column))

    def operator(self) -> nodes.Operator:
        """The source as a node of the plan, with all that was asked of it."""
        if isinstance(self.node, nodes.Scan):
            return replace(self.node, outputs=tuple(self.outputs), columns=tuple(self.columns))
        return self.node


class Scope:
    """The sources of one SELECT. `outer` are the names of sources around a sub-query, which it cannot read."""

    def __init__(self, outer: frozenset[str] = frozenset()) -> None:
        self.sources: list[Source] = []
        self.outer = outer
        self.notices: dict[str, None] = {}
        # What USING joins, by name, and fields of which nothing is known, with the topics that may have them.
        self.merged: dict[str, exp.Expression] = {}
        self.doubts: list[tuple[Source, Path]] = []
        # The last selected value's alias, where it has no AS: it may be a topic whose FROM was forgotten.
        self.bare_alias: str | None = None

    def before(self, count: int) -> "Scope":
        """The scope of the first `count` sources, which a join or an UNNEST may read."""
        made = Scope(self.outer)
        made.sources = self.sources[:count]
        made.notices, made.doubts = self.notices, self.doubts
        made.merged = dict(self.merged)
        return made

    def add(self, source: Source, span: Any) -> None:
        """Add the next source of FROM."""
        if source.alias is not None and any(source.alias == other.alias for other in self.sources):
            raise GqlError(
                f"two sources are called {source.alias}", span=span, hint=f"give one a name: … AS {source.alias[:1]}2"
            )
        source.number = len(self.sources)
        self.sources.append(source)

    def bases(self) -> list[int]:
        """The position of the first column of each source among the columns of all."""
        found, base = [], 0
        for source in self.sources:
            found.append(base)
            base += len(source.columns)
        return found

    def aliases(self) -> frozenset[str]:
        return frozenset(source.alias for source in self.sources if source.alias is not None)

    def called(self, name: str) -> Source | None:
        """The source of this name."""
        return next((source for source in self.sources if source.alias == name), None)

    def resolved(self, tree: exp.Expression) -> exp.Expression:
        """The expression with every path made a reference to a column."""

        def made(node: exp.Expression) -> exp.Expression | None:
            if isinstance(node, exp.Exists):
                source, path = self.found(Path.of(node.this))
                return source.exists(path)
            if is_pending(node) or isinstance(node, exp.Subquery):
                return node.copy()
            if isinstance(node, exp.Column | exp.Dot | exp.Bracket):
                return node.copy() if is_pending(steps_of(node)[0]) else self._read(Path.of(node))
            return None

        return replaced(tree, made)

    def _read(self, path: Path) -> exp.Expression:
        merged = self.merged.get(path.name)
        if merged is None or path.virtual or self._qualifier(path) is not None:
            source, path = self.found(path)
            return source.read(path)
        if path.steps and not is_pending(merged):
            raise GqlError(
                f"{path.text} may be of several sources", span=path.span, hint="name the source in front of it"
            )
        return stepped(merged.copy(), path.steps, path.span)

    def _qualifier(self, path: Path) -> Source | None:
        """The source that the first name of a path is."""
        return self.called(path.name) if path.steps and isinstance(path.steps[0], str) else None

    def found(self, path: Path) -> tuple[Source, Path]:
        """The source of a path, and the path inside of it; raises GqlError where there is none, or more than one."""
        source = self._qualifier(path)
        if source is not None:
            return source, self._noticed(source, path.inside())
        knowing = [source for source in self.sources if source.knows(path)]
        if len(knowing) > 1:
            raise self._ambiguous(path, knowing)
        if not knowing:
            if path.steps and path.name in self.outer:
                raise GqlError(
                    f"a sub-query cannot read {path.text} of the query around it", span=path.span, hint="use JOIN"
                )
            knowing = [source for source in self.sources if source.is_open]
        if len(knowing) > 1:
            raise self._ambiguous(path, knowing)
        if not knowing:
            raise self._unknown(path)
        return knowing[0], self._noticed(knowing[0], path)

    def _noticed(self, source: Source, path: Path) -> Path:
        """The path as the source means it; a notice where a schema does not name the field, which may be misspelt."""
        path = source.meant(path)
        types = source.types
        if path.virtual or path.name in types or not source.is_topic:
            return path
        if types:
            hint = as_text(path.name) if path.quoted else did_you_mean(path.name, types)
            self.notices[f"the schema has no column {path.name}" + (f": {hint}" if hint else "")] = None
        self.doubts.append((source, path))
        return path

    def _unknown(self, path: Path) -> GqlError:
        renamed = next((source for source in self.sources if path.steps and source.name == path.name), None)
        if renamed is not None:
            return beside_its_alias(path, renamed)
        if path.quoted and not path.steps:
            return GqlError(f"there is no column {path.text}", span=path.span, hint=as_text(path.name))
        if not self.sources:
            hint = (
                f"is FROM missing? … FROM {self.bare_alias}" if self.bare_alias else "name a topic: SELECT … FROM topic"
            )
            return GqlError(f"there is no column {path.text}: the query has no FROM", span=path.span, hint=hint)
        return unknown(path, [name for source in self.sources for name in source.known_names()])

    def _ambiguous(self, path: Path, sources: Sequence[Source]) -> GqlError:
        named = [source.alias for source in sources if source.alias is not None]
        hint = f"write {' or '.join(f'{alias}.{path.text}' for alias in named)}" if named else "give the sources names"
        return GqlError(f"{path.text} may be of several sources", span=path.span, hint=hint)


def over_letters(tree: exp.Expression) -> exp.Expression:
    """An expression over dead letters with the columns that only they have."""

    def made(node: exp.Expression) -> exp.Expression | None:
        if isinstance(node, exp.Column):
            path = Path.of(node)
            meant = path.of_letters()
            return None if meant is path else meant.node()
        return None

    return replaced(tree, made)


def as_text(name: str) -> str:
    """The hint for a name in double quotes that may be meant as a text."""
    return f"text is in single quotes: '{name}'"


def beside_its_alias(path: Path, source: Source) -> GqlError:
    """The error for the name of a topic that has an alias."""
    return GqlError(
        f"{source.name} is called {source.alias} here",
        span=path.span,
        hint=f"write {source.alias}.{path.inside().text}",
    )


def unknown(path: Path, known: Sequence[str]) -> GqlError:
    """The error for a column that is not there."""
    unique = list(dict.fromkeys(known))
    listed = f"there are {', '.join(unique[:NAMES_SHOWN])}" if unique else None
    return GqlError(f"there is no column {path.text}", span=path.span, hint=did_you_mean(path.name, unique) or listed)


def outermost(tree: exp.Expression, kind: type[exp.Expression]) -> Iterator[Any]:
    """The nodes of a kind, but for those inside sub-queries."""
    for node in tree.walk(prune=lambda node: isinstance(node, exp.Subquery)):
        if isinstance(node, kind):
            yield node
