"""Expressions as functions over whole columns.

An expression becomes one comprehension over the sequences that it reads: `[… for x0, x3 in zip(x0s, x3s)]`. What only
names a column costs nothing. Expressions over messages read rows of a projection in the same way. Made by the compiler of
conditions, so values mean the same everywhere.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlglot import exp

from geode_client.conditions import declared, functions, present
from geode_client.conditions.build import build
from geode_client.conditions.compile import Compiler, Constant
from geode_client.conditions.fields import Projection, attribute_of
from geode_client.conditions.rows import MessageReference, steps_of
from geode_client.errors import GqlError
from geode_client.grammar.ast import TypeNode
from geode_client.message import Chunk
from geode_client.query.columns import bare, position_of
from geode_client.query.membership import Membership

Vector = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What expressions refer to beside rows: parameters, the time of the query, and what sub-queries gave: the rows after
    IN, and single values."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    memberships: Mapping[str, Membership] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


class ColumnReference:
    """Reads columns by position: column 3 is the variable `x3` of the generated code."""

    def __init__(self, plain: frozenset[int] = frozenset()) -> None:
        self._plain = plain

    def is_special(self, node: exp.Expression) -> bool:
        """Whether the value may be something else than JSON."""
        head, _ = steps_of(node)
        return position_of(head) not in self._plain

    def type_of(self, node: exp.Expression) -> None:
        """Nothing: what is known of columns was used when the query was planned."""

    def value(self, compiler: Compiler, node: exp.Expression) -> ast.expr:
        head, steps = steps_of(node)
        position = position_of(head)
        assert position is not None, "names are resolved when the query is planned"
        return compiler.stepped(ast.Name(f"x{position}", ast.Load()), steps)

    def exists(self, compiler: Compiler, node: exp.Expression) -> ast.expr:
        head, steps = steps_of(node)
        value = self.value(compiler, head)
        return compiler.call(functions.exists, value, compiler.bind(tuple(steps)))


class _Compiler(Compiler):
    """The compiler of conditions, which also knows sub-queries: they have run when anything is compiled to be run."""

    def __init__(self, reference: Any, surroundings: Surroundings) -> None:
        super().__init__(reference, surroundings.parameters)
        self._memberships = surroundings.memberships
        self._values = surroundings.values

    def constant(self, node: exp.Expression) -> Constant | None:
        node = bare(node)
        if isinstance(node, exp.Subquery):
            return Constant(self._values.get(node.this.name))
        return super().constant(node)

    def value(self, node: exp.Expression) -> ast.expr:
        node = bare(node)
        query = node.args.get("query") if isinstance(node, exp.In) else None
        if query is None:
            return super().value(node)
        found = self._memberships.get(query.name)
        return self.call(found.holds if found is not None else Membership().holds, self.value(node.this))


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A function of the time and of the sequences behind `variables`."""

    function: Callable[..., list[Any]]
    variables: tuple[str, ...]


def _loop(name: str, element: ast.expr, test: ast.expr | None, names: dict[str, Any]) -> _Compiled:
    """`[element for … in zip(…) if test]` over the variables that are read; without any, over `rows`, a range."""
    read = {
        node.id for part in (element, test) if part is not None for node in ast.walk(part) if isinstance(node, ast.Name)
    }
    variables = sorted(read - names.keys() - {"now", "i", "ABSENT"}) or ["row"]
    target: ast.expr = _target(variables)
    source: ast.expr = _sequences(variables)
    if "i" in read:
        target = ast.Tuple([ast.Name("i", ast.Store()), target], ast.Store())
        source = ast.Call(ast.Name("enumerate", ast.Load()), [source], [])
    body = ast.ListComp(element, [ast.comprehension(target, source, [] if test is None else [test], 0)])
    return _Compiled(build(name, ["now", *[f"{name}s" for name in variables]], body, names), tuple(variables))


def _target(variables: Sequence[str]) -> ast.expr:
    made: list[ast.expr] = [ast.Name(name, ast.Store()) for name in variables]
    return made[0] if len(made) == 1 else ast.Tuple(made, ast.Store())


def _sequences(variables: Sequence[str]) -> ast.expr:
    made: list[ast.expr] = [ast.Name(f"{name}s", ast.Load()) for name in variables]
    return made[0] if len(made) == 1 else ast.Call(ast.Name("zip", ast.Load()), made, [])


def _guarded(work: Callable[[exp.Expression], ast.expr], tree: exp.Expression) -> ast.expr:
    try:
        return work(tree)
    except RecursionError:
        raise GqlError("this expression is nested too deeply", span=tree.meta.get("span")) from None


class Values:
    """Some expressions over columns: gives one new column for each."""

    def __init__(
        self, expressions: Sequence[exp.Expression], surroundings: Surroundings, plain: frozenset[int]
    ) -> None:
        self._now = surroundings.now
        self._made: list[int | _Compiled] = []
        for tree in expressions:
            position = position_of(bare(tree))
            self._made.append(_value(tree, ColumnReference(plain), surroundings) if position is None else position)

    def of(self, columns: Sequence[Vector], count: int) -> list[Vector]:
        """The columns of the expressions, for `count` rows."""
        return [
            columns[made] if isinstance(made, int) else _called(made, self._now, columns, count) for made in self._made
        ]


class Places:
    """A condition over columns: gives the places of the rows for which it is TRUE."""

    def __init__(self, condition: exp.Expression, surroundings: Surroundings, plain: frozenset[int]) -> None:
        self._now = surroundings.now
        compiler = _Compiler(ColumnReference(plain), surroundings)
        test = _guarded(compiler.true_form, condition)
        self._made = _loop("places", ast.Name("i", ast.Load()), test, dict(compiler.names))

    def of(self, columns: Sequence[Vector], count: int) -> list[int]:
        """The places, ascending."""
        return _called(self._made, self._now, columns, count)


def _value(tree: exp.Expression, reference: Any, surroundings: Surroundings) -> _Compiled:
    compiler = _Compiler(reference, surroundings)
    element = _guarded(compiler.value, tree)
    return _loop("values", element, None, {**compiler.names, "present": present})


def _called(made: _Compiled, now: datetime, columns: Sequence[Vector], count: int) -> list[Any]:
    if made.variables == ("row",):
        return made.function(now, range(count))
    return made.function(now, *[columns[int(name[1:])] for name in made.variables])


class Fields:
    """The outputs of a scan: expressions over the messages of a chunk, of which only the fields they read are decoded.

    `whole` decodes whole bodies instead, and gives the same.
    """

    def __init__(
        self, outputs: Sequence[exp.Expression], columns: Any, surroundings: Surroundings, *, whole: bool
    ) -> None:
        self._now = surroundings.now
        self._whole = whole
        reference = MessageReference(columns)
        for tree in outputs:
            for node in tree.find_all(exp.Exists):
                name, virtual, _ = reference.resolve(node.this)
                if not virtual:
                    reference.present.add(name)
        self._made = [
            None if isinstance(bare(tree), exp.Star) else _value(tree, reference, surroundings) for tree in outputs
        ]
        self._projection = Projection(reference.names, reference.present, reference.raw)
        self._bodies = _Bodies(columns or {})

    def of(self, chunk: Chunk, places: Sequence[int]) -> list[Vector]:
        """The columns of the outputs, for the messages at some places of the chunk."""
        chosen = None if len(places) == chunk.count else places
        sequences: dict[str, Sequence[Any]] = {}
        return [
            _taken(self._bodies.of(chunk), chosen) if made is None else self._column(made, chunk, chosen, sequences)
            for made in self._made
        ]

    def _column(
        self, made: _Compiled, chunk: Chunk, chosen: Sequence[int] | None, sequences: dict[str, Sequence[Any]]
    ) -> Vector:
        for name in made.variables:
            if name not in sequences:
                sequences[name] = _taken(self._sequence(name, chunk), chosen)
        return made.function(self._now, *[sequences[name] for name in made.variables])

    def _sequence(self, name: str, chunk: Chunk) -> Sequence[Any]:
        if name == "row":
            return range(chunk.count)
        if name != "r":
            return chunk.virtual_column(name[1:])
        if self._whole and not self._projection.key[2]:
            return [self._projection.row(body) for body in chunk.rows]
        return self._projection.rows(chunk)


class _Bodies:
    """Whole messages, with the values of declared columns that JSON has not."""

    def __init__(self, columns: Mapping[str, TypeNode]) -> None:
        self._readers = {
            name: (attribute_of(name), read)
            for name, kind in columns.items()
            if declared.holds(kind) and (read := declared.reader(kind)) is not None
        }
        raw = [name for name in self._readers if declared.holds_decimal(columns[name])]
        self._projection = Projection.of(self._readers, (), raw)

    def of(self, chunk: Chunk) -> Sequence[Any]:
        """One body a message."""
        if not self._readers:
            return chunk.rows
        rows = self._projection.rows(chunk)
        return [self._read(body, row) for body, row in zip(chunk.rows, rows, strict=True)]

    def _read(self, body: Any, row: Any) -> Any:
        if body.__class__ is not dict:
            return body
        values = {
            name: read(getattr(row, attribute)) for name, (attribute, read) in self._readers.items() if name in body
        }
        return {**body, **values} if values else body


def _taken(values: Sequence[Any], places: Sequence[int] | None) -> Any:
    return values if places is None else [values[place] for place in places]
