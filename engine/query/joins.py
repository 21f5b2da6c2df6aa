"""Sources joined into one operator, and the columns of two queries made one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from geode_client.errors import GqlError
from geode_client.query import operators as nodes
from geode_client.query.columns import is_pending, placed, source_of
from geode_client.query.scope import Scope, Source
from geode_client.query.sources import error

KINDS = {
    None: nodes.JoinKind.INNER,
    "LEFT": nodes.JoinKind.LEFT,
    "RIGHT": nodes.JoinKind.RIGHT,
    "FULL": nodes.JoinKind.FULL,
}


@dataclass(frozen=True, slots=True)
class Joined:
    """A source after the first one of FROM: how it is joined, and its condition (None: every pair).

    `comma`: what follows up to the next comma is joined first, and then with everything before.
    """

    kind: nodes.JoinKind
    condition: exp.Expression | None
    comma: bool = False
    span: Any = None


def joined(scope: Scope, joins: Sequence[Joined], bases: Sequence[int]) -> nodes.Operator:
    """The sources of a FROM, joined; `bases` are the first positions of their columns."""
    if not scope.sources:
        return nodes.OneRow()
    joins = [Joined(nodes.JoinKind.INNER, None, True), *joins]
    starts = [place for place, join in enumerate(joins) if join.comma]
    made: nodes.Operator | None = None
    for first, end in zip(starts, [*starts[1:], len(joins)], strict=True):
        group = range(first, end)
        if made is None or not any(joins[place].kind.keeps_right for place in group):
            # One after the other gives the same rows, and UNNEST may read what is before the comma.
            for place in group:
                made = _with_source(made, scope.sources[place], joins[place], bases)
            continue
        inner: nodes.Operator | None = None
        for place in group:
            _refuse_outside(joins[place], scope, first)
            offset = [base - bases[first] for base in bases]
            inner = _with_source(inner, scope.sources[place], replace(joins[place], comma=False), offset)
        assert inner is not None
        made = nodes.Join(made, inner, None)
    assert made is not None
    return made


def _with_source(made: nodes.Operator | None, source: Source, join: Joined, bases: Sequence[int]) -> nodes.Operator:
    """What is joined so far, and one source more."""
    condition = None if join.condition is None else placed(join.condition, bases)
    if source.unnested is not None:
        expression = placed(source.unnested, bases)
        return nodes.Unnest(made or nodes.OneRow(), expression, source.columns[0], condition, join.kind.keeps_left)
    return source.operator() if made is None else nodes.Join(made, source.operator(), condition, join.kind)


def _refuse_outside(join: Joined, scope: Scope, first: int) -> None:
    """A join behind a comma is made before what is before the comma is there."""
    parts = [join.condition] if join.condition is not None else []
    parts += [source.unnested for source in scope.sources[first:] if source.unnested is not None]
    for part in parts:
        for column in part.find_all(exp.Column):
            if is_pending(column) and source_of(column) < first:
                raise GqlError(
                    "this join cannot read what is before the comma",
                    span=join.span,
                    hint="write CROSS JOIN instead of the comma",
                )


def paired_columns(tree: exp.SetOperation, left: nodes.Operator, right: nodes.Operator) -> nodes.Columns:
    """The columns of a set operation; raises GqlError where the sides do not have as many."""
    word = type(tree).__name__.upper()
    kinds = [[column.spread for column in side.columns] for side in (left, right)]
    if kinds[0] != kinds[1]:
        if any(map(any, kinds)):
            message = f"* stands for whole messages on one side of {word} alone: name the columns"
            raise error(message, tree.expression)
        raise error(
            f"both sides of {word} need the same columns: {len(kinds[0])} on the left, {len(kinds[1])} on the right",
            tree.expression,
        )
    return tuple(
        replace(a, type=a.type if a.type == b.type else None, plain=a.plain and b.plain)
        for a, b in zip(left.columns, right.columns, strict=True)
    )
