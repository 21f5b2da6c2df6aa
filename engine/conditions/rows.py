"""The rows that expressions are compiled over: messages of a chunk."""

import ast
from collections.abc import Mapping, Sequence

from sqlglot import exp

from geode_client import letters
from geode_client.conditions import declared, functions, kinds
from geode_client.conditions.compile import Compiler
from geode_client.conditions.fields import EVERY, Every, attribute_of
from geode_client.errors import did_you_mean
from geode_client.grammar.ast import Scalar, TypeNode

VIRTUAL_COLUMNS = frozenset(
    (*"_id _topic _partition _offset _key _priority _timestamp _expires_at _headers".split(), *letters.READERS)
)
Step = str | int | Every
_TEXT, _INT, _TIME = Scalar("STRING"), Scalar("INT"), Scalar("TIMESTAMP")
VIRTUAL_TYPES: Mapping[str, TypeNode] = {
    "_id": _TEXT,
    "_topic": _TEXT,
    "_partition": _INT,
    "_offset": _INT,
    "_key": _TEXT,
    "_priority": _INT,
    "_timestamp": _TIME,
    "_expires_at": _TIME,
    "_replayed_from": _TEXT,
    letters.COLUMNS["_group"]: _TEXT,
    letters.COLUMNS["_reason"]: _TEXT,
    letters.COLUMNS["_replayed_at"]: _TIME,
}

VIRTUAL_HELP: Mapping[str, str] = {
    "_id": "The message's id.",
    "_topic": "The topic it was published to.",
    "_partition": "The partition that holds it.",
    "_offset": "Its offset in the partition.",
    "_key": "The key it was published with; NULL where there is none.",
    "_priority": "Its priority, from 0 to 9.",
    "_timestamp": "When it was published.",
    "_expires_at": "When it expires; NULL where it does not.",
    "_headers": "Its headers, as an object.",
    "_replayed_from": "The id of the dead letter that it is a copy of; NULL for any other message.",
    "_group": "Only in DEAD LETTERS OF: the group that failed.",
    "_reason": "Only in DEAD LETTERS OF: why it became a dead letter.",
    "_deaths": "Only in DEAD LETTERS OF: each time it became a dead letter, with group, reason, error, attempts and time.",
    "_replayed_at": "Only in DEAD LETTERS OF: when it was replayed; NULL where it was not.",
}
"""A line about each virtual column, by the name that statements write."""


def steps_of(node: exp.Expression) -> tuple[exp.Column, list[Step]]:
    """The column at the head of a path, and the steps that follow."""
    steps: list[Step] = []
    while not isinstance(node, exp.Column):
        steps.append(step_of(node))
        node = node.this
    return node, steps[::-1]


def has_plain_step(node: exp.Expression) -> bool:
    """Whether the first step of a path is a name without quotes: `.name`, not `."name"` or `['name']`."""
    while not isinstance(node, exp.Column):
        if isinstance(node.this, exp.Column):
            return isinstance(node, exp.Dot) and not node.expression.args.get("quoted")
        node = node.this
    return True


def step_of(node: exp.Expression) -> Step:
    """The last step of a path that has one."""
    if isinstance(node, exp.Dot):
        return str(node.expression.name)
    inside = node.expressions[0]
    if isinstance(inside, exp.Star):
        return EVERY
    return str(inside.this) if inside.is_string else int(inside.this)


def path_text(name: str, steps: Sequence[Step]) -> str:
    """A path as people write it."""
    return name + "".join(f".{step}" if isinstance(step, str) else f"[{step}]" for step in steps)


class MessageReference:
    """Reads fields and virtual columns of messages; collects which ones.

    In the generated code a row is `r`, with an attribute for each top-level field, and a virtual column is a variable.
    `alias` is the name by which the topic may be called in front of a field.
    """

    def __init__(self, columns: Mapping[str, TypeNode] | None = None, alias: str | None = None) -> None:
        self._columns = columns
        self._alias = alias
        self.names: list[str] = []
        self.paths: dict[str, tuple[Step, ...]] = {}
        self.virtual: list[str] = []
        self.present: set[str] = set()
        # The columns that are read from their JSON text, so that no digit is lost.
        self.raw = frozenset(name for name, kind in (columns or {}).items() if declared.holds_decimal(kind))
        self.notices: list[str] = []

    def resolve(self, node: exp.Expression) -> tuple[str, bool, list[Step]]:
        """Name of the head, whether it is virtual, and the steps."""
        head, steps = steps_of(node)
        name, quoted = head.name, bool(head.this.args.get("quoted"))
        if name == self._alias and steps and isinstance(steps[0], str):
            name, steps, quoted = steps[0], steps[1:], not has_plain_step(node)
        return name, name in VIRTUAL_COLUMNS and not quoted, steps

    def is_special(self, node: exp.Expression) -> bool:
        """Whether the value may be something else than JSON: a virtual column, or of a declared type that JSON has not."""
        name, virtual, steps = self.resolve(node)
        column = self._declared(name)
        return virtual or name in self.raw or declared.holds(declared.type_at(column, steps))

    def type_of(self, node: exp.Expression) -> TypeNode | None:
        """What is declared of a path."""
        name, virtual, steps = self.resolve(node)
        if virtual:
            return None if steps else VIRTUAL_TYPES.get(name)
        return declared.type_at(self._declared(name), steps)

    def value(self, compiler: Compiler, node: exp.Expression) -> ast.expr:
        name, virtual, steps = self.resolve(node)
        if virtual:
            return compiler.stepped(self._virtual(name), steps)
        made = self._field(name, steps)
        column = self._declared(name)
        read = None if column is None else declared.reader(column, tuple(steps))
        return compiler.stepped(made, steps) if read is None else compiler.call(read, made)

    def exists(self, compiler: Compiler, node: exp.Expression) -> ast.expr:
        name, virtual, steps = self.resolve(node)
        if virtual:
            return ast.Compare(self.value(compiler, node), [ast.IsNot()], [ast.Constant(None)])
        self.present.add(name)
        field = self._attribute(name, steps)
        if name in self.raw:
            field = compiler.call(declared.decoded, field)
        return compiler.call(functions.exists, field, compiler.bind(tuple(steps)))

    def _virtual(self, name: str) -> ast.expr:
        if name not in self.virtual:
            self.virtual.append(name)
        return ast.Name(f"v{name}", ast.Load())

    def _attribute(self, name: str, steps: Sequence[Step]) -> ast.expr:
        if name not in self.names:
            self.names.append(name)
            self._notice(name)
        self.paths[path_text(name, steps)] = (name, *steps)
        return ast.Attribute(ast.Name("r", ast.Load()), attribute_of(name), ast.Load())

    def _field(self, name: str, steps: Sequence[Step]) -> ast.expr:
        field = self._attribute(name, steps)
        # Where absence is told from null, the rows hold a mark for it, which every other reader takes for NULL. That
        # is known only when everything is compiled: the name is bound at the end.
        return ast.Call(ast.Name("present", ast.Load()), [field], []) if name in self.present else field

    def _declared(self, name: str) -> TypeNode | None:
        return (self._columns or {}).get(name)

    def _notice(self, name: str) -> None:
        if self._columns and name not in self._columns:
            hint = did_you_mean(name, self._columns)
            self.notices.append(f"the schema has no column {name}" + (f": {hint}" if hint else ""))

    def kind_of(self, node: exp.Expression) -> kinds.Kind:
        """What is known of a path's values, for checks of kinds."""
        found = self.type_of(node)
        if found is None:
            return kinds.UNKNOWN
        name, virtual, steps = self.resolve(node)
        return kinds.UNKNOWN if virtual else kinds.of_column(path_text(name, steps), found)
