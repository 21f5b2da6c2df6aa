"""The rows that expressions are compiled over: messages of a chunk, and tuples of a result."""

import ast
from collections.abc import Mapping, Sequence

from sqlglot import exp

from geode_client.conditions import functions
from geode_client.conditions.compile import Compiler
from geode_client.conditions.fields import attribute_of
from geode_client.errors import did_you_mean
from geode_client.grammar.ast import Scalar, TypeNode

VIRTUAL_COLUMNS = frozenset("_id _topic _partition _offset _key _priority _timestamp _expires_at _headers".split())
_TIMES = frozenset(("TIMESTAMP", "DATE"))
_KINDS: Mapping[str, tuple[type, ...]] = {
    "STRING": (str,),
    "UUID": (str,),
    "BYTES": (str,),
    "INT": (int, float),
    "FLOAT": (int, float),
    "BOOL": (bool,),
}


def steps_of(node: exp.Expression) -> tuple[exp.Column, list[str | int]]:
    """The column at the head of a path, and the steps that follow."""
    steps: list[str | int] = []
    while not isinstance(node, exp.Column):
        if isinstance(node, exp.Dot):
            steps.append(node.expression.name)
        else:
            literal = node.expressions[0]
            steps.append(str(literal.this) if literal.is_string else int(literal.this))
        node = node.this
    return node, steps[::-1]


def has_plain_step(node: exp.Expression) -> bool:
    """Whether the first step of a path is a name without quotes: `.name`, not `."name"` or `['name']`."""
    while not isinstance(node, exp.Column):
        if isinstance(node.this, exp.Column):
            return isinstance(node, exp.Dot) and not node.expression.args.get("quoted")
        node = node.this
    return True


def path_text(name: str, steps: Sequence[str | int]) -> str:
    """A path as people write it."""
    return name + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


class MessageReference:
    """Reads fields and virtual columns of messages; collects which ones.

    In the generated code a row is `r`, with an attribute for each top-level field, and a virtual column is a variable.
    `alias` is the name by which the topic may be called in front of a field.
    """

    def __init__(self, columns: Mapping[str, TypeNode] | None = None, alias: str | None = None) -> None:
        self._columns = columns
        self._alias = alias
        self.names: list[str] = []
        self.paths: dict[str, tuple[str | int, ...]] = {}
        self.virtual: list[str] = []
        self.present: set[str] = set()
        self.notices: list[str] = []

    def resolve(self, node: exp.Expression) -> tuple[str, bool, list[str | int]]:
        """Name of the head, whether it is virtual, and the steps."""
        head, steps = steps_of(node)
        name, quoted = head.name, bool(head.this.args.get("quoted"))
        if name == self._alias and steps and isinstance(steps[0], str):
            name, steps, quoted = steps[0], steps[1:], not has_plain_step(node)
        return name, name in VIRTUAL_COLUMNS and not quoted, steps

    def is_special(self, node: exp.Expression) -> bool:
        """Whether the value may be something else than JSON: a virtual column, or a declared time."""
        name, virtual, _ = self.resolve(node)
        return virtual or self._declared(name) in (*_TIMES, "DECIMAL")

    def value(self, compiler: Compiler, node: exp.Expression) -> ast.expr:
        name, virtual, steps = self.resolve(node)
        made = self._virtual(name) if virtual else self._field(compiler, name, steps)
        for step in steps:
            function = functions.step_index if isinstance(step, int) else functions.step_name
            made = compiler.call(function, made, compiler.bind(step))
        if not virtual and not steps and self._declared(name) in _TIMES:
            return compiler.call(functions.declared_timestamp, made)
        if not virtual and not steps and self._declared(name) == "DECIMAL":
            return compiler.call(functions.caster("DECIMAL"), made)
        return made

    def exists(self, compiler: Compiler, node: exp.Expression) -> ast.expr:
        name, virtual, steps = self.resolve(node)
        if virtual:
            return ast.Compare(self.value(compiler, node), [ast.IsNot()], [ast.Constant(None)])
        self.present.add(name)
        field = self._attribute(name, steps)
        return compiler.call(functions.exists, field, compiler.bind(tuple(steps)), ast.Name("ABSENT", ast.Load()))

    def _virtual(self, name: str) -> ast.expr:
        if name not in self.virtual:
            self.virtual.append(name)
        return ast.Name(f"v{name}", ast.Load())

    def _attribute(self, name: str, steps: Sequence[str | int]) -> ast.expr:
        if name not in self.names:
            self.names.append(name)
            self._notice(name)
        self.paths[path_text(name, steps)] = (name, *steps)
        return ast.Attribute(ast.Name("r", ast.Load()), attribute_of(name), ast.Load())

    def _field(self, compiler: Compiler, name: str, steps: Sequence[str | int]) -> ast.expr:
        field = self._attribute(name, steps)
        # Where absence is told from null, the rows hold a mark for it, which every other reader takes for NULL. That
        # is known only when everything is compiled: the name is bound at the end.
        return ast.Call(ast.Name("present", ast.Load()), [field], []) if name in self.present else field

    def _declared(self, name: str) -> str | None:
        kind = (self._columns or {}).get(name)
        return kind.name if isinstance(kind, Scalar) else None

    def _notice(self, name: str) -> None:
        if self._columns and name not in self._columns:
            hint = did_you_mean(name, self._columns)
            self.notices.append(f"the schema has no column {name}" + (f": {hint}" if hint else ""))

    def check(self, compiler: Compiler, node: exp.Expression, constant: object) -> None:
        """Refuse a declared column compared with a constant of another kind."""
        if not isinstance(node, exp.Column | exp.Dot | exp.Bracket):
            return
        name, virtual, steps = self.resolve(node)
        declared = None if virtual or steps else self._declared(name)
        kinds = _KINDS.get(declared or "")
        if declared is not None and kinds is not None and constant.__class__ not in kinds:
            raise compiler.error(f"column {name} is {declared}: comparing it with {constant!r:.60} is never true", node)


class TupleReference:
    """Reads columns of tuples by position; `columns` maps (source alias or None, name) to a position.

    In the generated code a row is `r`.
    """

    def __init__(self, columns: Mapping[tuple[str | None, str], int], what: str = "column") -> None:
        self._columns = columns
        self._what = what

    def position(self, node: exp.Expression) -> tuple[int | None, list[str | int]]:
        """The position of the column at the head of a path, and the steps that are left."""
        head, steps = steps_of(node)
        name = head.name
        if steps and isinstance(steps[0], str) and (name, steps[0]) in self._columns:
            return self._columns[name, steps[0]], steps[1:]
        return self._columns.get((None, name)), steps

    def is_special(self, node: exp.Expression) -> bool:
        return True

    def value(self, compiler: Compiler, node: exp.Expression) -> ast.expr:
        position, steps = self.position(node)
        if position is None:
            known = [name for _, name in self._columns]
            name = steps_of(node)[0].name
            raise compiler.error(
                f"there is no {self._what} {path_text(name, steps)}",
                node,
                did_you_mean(name, known) or _listed(known),
            )
        made: ast.expr = ast.Subscript(ast.Name("r", ast.Load()), ast.Constant(position), ast.Load())
        for step in steps:
            function = functions.step_index if isinstance(step, int) else functions.step_name
            made = compiler.call(function, made, compiler.bind(step))
        return made

    def exists(self, compiler: Compiler, node: exp.Expression) -> ast.expr:
        return ast.Compare(self.value(compiler, node), [ast.IsNot()], [ast.Constant(None)])


def _listed(names: Sequence[str]) -> str | None:
    unique = list(dict.fromkeys(names))
    return f"there are {', '.join(unique[:30])}" if unique else None
