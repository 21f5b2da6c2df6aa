"""Expressions over the columns of an operator: a column is read by its position, as a Column of the table `#`.

Names are resolved once, when a statement is planned; afterwards a rule can move an expression to another place by
replacing positions. Spans stay in the nodes' `meta`, so that an error still shows the place in the statement.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlglot import exp

from geode_client.conditions.rows import VIRTUAL_COLUMNS
from geode_client.grammar.unparse_expressions import unparse_expression
from geode_client.query.operators import Columns

# What needs no brackets when it is put in the place of a column.
_PATHS = (exp.Column, exp.Dot, exp.Bracket)
_PLACED, _PENDING = "#", "#?"
_CLOSED = (exp.Column, exp.Dot, exp.Bracket, exp.Literal, exp.Anonymous, exp.Cast, exp.Case, exp.Paren, exp.Star)


def reference(position: int, span: Any = None) -> exp.Expression:
    """A node that reads column `position`."""
    return _marked(str(position), _PLACED, span)


def pending(source: int, position: int, span: Any = None) -> exp.Expression:
    """A node that reads a column of a source of a FROM, whose place among all columns is not known yet."""
    return _marked(f"{source}.{position}", _PENDING, span)


def _marked(name: str, table: str, span: Any) -> exp.Expression:
    made = exp.Column(this=exp.Identifier(this=name), table=exp.Identifier(this=table))
    made.meta["span"] = span
    return made


def position_of(node: exp.Expression) -> int | None:
    """The position that a node reads; None for any other node."""
    return int(node.name) if isinstance(node, exp.Column) and node.table == _PLACED else None


def is_pending(node: exp.Expression) -> bool:
    """Whether a node reads a column whose place is not known yet."""
    return isinstance(node, exp.Column) and node.table == _PENDING


def source_of(node: exp.Expression) -> int:
    """The number of the source whose column a pending reference reads."""
    return int(node.name.partition(".")[0])


def bare(node: exp.Expression) -> exp.Expression:
    """The expression without brackets around it."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def references(tree: exp.Expression) -> set[int]:
    """The positions that an expression reads."""
    found = (position_of(node) for node in tree.find_all(exp.Column))
    return {position for position in found if position is not None}


def replaced(tree: exp.Expression, made: Callable[[exp.Expression], exp.Expression | None]) -> exp.Expression:
    """The tree with nodes replaced where `made` gives another one; a replacement keeps the span of what it replaces."""

    def change(node: exp.Expression) -> exp.Expression:
        found = made(node)
        if found is None:
            return node
        span = node.meta.get("span")
        if span is not None:
            found.meta["span"] = span
        return found

    changed: exp.Expression = tree.transform(change)
    return changed


def placed(tree: exp.Expression, bases: Sequence[int]) -> exp.Expression:
    """The tree with pending references made final: `bases` are the first positions of the sources."""

    def made(node: exp.Expression) -> exp.Expression | None:
        if is_pending(node):
            source, _, position = node.name.partition(".")
            return reference(bases[int(source)] + int(position))
        return None

    return replaced(tree, made)


def moved(tree: exp.Expression, places: Mapping[int, int]) -> exp.Expression:
    """The tree over other positions."""

    def made(node: exp.Expression) -> exp.Expression | None:
        position = position_of(node)
        return None if position is None else reference(places[position])

    return replaced(tree, made)


def substituted(tree: exp.Expression, outputs: Sequence[exp.Expression]) -> exp.Expression:
    """The tree with each reference replaced by the expression that makes that column."""

    def made(node: exp.Expression) -> exp.Expression | None:
        if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
            position = position_of(node.this)
            if position is not None and isinstance(bare(outputs[position]), exp.Star):
                # A field of a whole message.
                name = node.expression.name
                return exp.Column(this=exp.Identifier(this=name, quoted=name in VIRTUAL_COLUMNS))
        position = position_of(node)
        if position is None:
            return None
        found = outputs[position].copy()
        return found if isinstance(found, _CLOSED) else exp.Paren(this=found)

    return replaced(tree, made)


def fits(tree: exp.Expression, outputs: Sequence[exp.Expression]) -> bool:
    """Whether references can be replaced by the expressions that make those columns: steps need a path to go on from."""
    for node in tree.find_all(exp.Column):
        position = position_of(node)
        if position is None:
            continue
        output, above = bare(outputs[position]), node.parent
        if isinstance(output, exp.Star):
            if not isinstance(above, exp.Dot):
                return False
        elif isinstance(above, exp.Dot | exp.Bracket | exp.Exists) and not isinstance(output, _PATHS):
            return False
    return True


def conjuncts(tree: exp.Expression) -> list[exp.Expression]:
    """The parts that all have to be TRUE for the condition to be."""
    found: list[exp.Expression] = []
    waiting = [tree]
    while waiting:
        node = bare(waiting.pop())
        if isinstance(node, exp.And):
            waiting += [node.expression, node.this]
        else:
            found.append(node)
    return found


def conjunction(parts: Sequence[exp.Expression]) -> exp.Expression | None:
    """The condition that all parts hold; None when there are none."""
    made: exp.Expression | None = None
    for part in parts:
        wrapped = exp.Paren(this=part) if isinstance(part, exp.Or) else part
        made = wrapped if made is None else exp.And(this=made, expression=wrapped)
    return made


def sub_query(number: int, written: exp.Expression) -> exp.Expression:
    """A node that stands for what sub-query `number` gave: one value, or whether it has rows. It keeps the text and the
    place of what was written there."""
    made = exp.Subquery(this=exp.Var(this=str(number)))
    made.meta["text"] = written.meta.get("text") or unparse_expression(written)
    made.meta["span"] = written.meta.get("span")
    return made


def has_sub_query(tree: exp.Expression) -> bool:
    """Whether the expression needs the result of a sub-query."""
    return any(isinstance(node, exp.Subquery) or node.args.get("query") is not None for node in tree.walk())


def shown(tree: exp.Expression, columns: Columns) -> str:
    """The text of an expression, with the names of its columns."""

    def made(node: exp.Expression) -> exp.Expression | None:
        if isinstance(node, exp.In) and isinstance(node.args.get("query"), exp.Var):
            query = exp.Paren(this=exp.Var(this=f"sub-query {node.args['query'].name}"))
            return exp.In(this=replaced(node.this, made), query=query)
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Var):
            return exp.Paren(this=exp.Var(this=f"sub-query {node.this.name}"))
        position = position_of(node)
        if position is None:
            return None
        return exp.Var(this=columns[position].name)

    return unparse_expression(replaced(tree, made))


def named(expressions: Sequence[exp.Expression], columns: Columns, inputs: Columns) -> list[str]:
    """The texts of expressions, each with the name of its column where that is another one."""
    texts = [shown(expression, inputs) for expression in expressions]
    return [
        text
        if text == column.name or column.spread or text.lower() == column.name.lower()
        else f"{text} AS {column.name}"
        for text, column in zip(texts, columns, strict=True)
    ]
