"""Trees of conditions: what brackets, chains and paths are, and the paths with `[*]`, which are looked at item by item."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from sqlglot import exp

from geode_client.grammar import functions as registry

# A path with `[*]` inside one of these is looked at item by item.
PREDICATES: frozenset[Any] = frozenset(
    (
        exp.EQ,
        exp.NEQ,
        exp.LT,
        exp.LTE,
        exp.GT,
        exp.GTE,
        exp.NullSafeEQ,
        exp.NullSafeNEQ,
        exp.In,
        exp.Between,
        exp.Like,
        exp.ILike,
        exp.Escape,
        exp.Is,
    )
)


def bare(node: exp.Expression) -> exp.Expression:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def flat(node: exp.Expression, kind: type[exp.Expression]) -> list[exp.Expression]:
    """The parts of a chain of one operator, in order, without recursion."""
    parts: list[exp.Expression] = []
    waiting = [node]
    while waiting:
        current = bare(waiting.pop())
        if type(current) is kind:
            waiting += [current.expression, current.this]
        else:
            parts.append(current)
    return parts


def is_path(node: exp.Expression) -> bool:
    return isinstance(node, exp.Column | exp.Dot | exp.Bracket)


def every_steps(node: exp.Expression) -> list[exp.Expression]:
    """The paths `…[*]` in a condition, those inside others first; not those of conditions inside it."""
    found: dict[exp.Expression, None] = {}
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if is_path(part):
            chain = []
            every = every_step(part)
            while every is not None:
                chain.append(every)
                every = every_step(every.this)
            found.update(dict.fromkeys(reversed(chain)))
            continue
        for argument in part.args.values():
            for inner in argument if isinstance(argument, list) else (argument,):
                if isinstance(inner, exp.Expression) and (isinstance(part, exp.Escape) or not _is_condition(inner)):
                    waiting.append(inner)
    return list(found)


def _is_condition(node: exp.Expression) -> bool:
    """Whether a part is a condition of its own, with items of its own."""
    return type(node) in PREDICATES or isinstance(node, exp.And | exp.Or | exp.Not) or is_boolean_call(node)


def has_every_step(node: exp.Expression) -> bool:
    """Whether there is a `[*]` somewhere in an expression."""
    return any(isinstance(bracket.expressions[0], exp.Star) for bracket in node.find_all(exp.Bracket))


def every_step(path: exp.Expression) -> exp.Expression | None:
    """The last `[*]` of a path, with what is before it."""
    while not isinstance(path, exp.Column):
        if isinstance(path, exp.Bracket) and isinstance(path.expressions[0], exp.Star):
            return path
        if not is_path(path):
            return None
        path = path.this
    return None


def steps_behind(path: exp.Expression, every: exp.Expression) -> tuple[Any, ...]:
    """The steps of a path after a `[*]` in it."""
    steps: list[Any] = []
    while path is not every:
        if isinstance(path, exp.Dot):
            steps.append(str(path.expression.name))
        else:
            literal = path.expressions[0]
            steps.append(str(literal.this) if literal.is_string else int(literal.this))
        path = path.this
    return tuple(reversed(steps))


def chain_of(everies: Sequence[exp.Expression]) -> Sequence[exp.Expression] | None:
    """The paths in order where each is inside the one before; None where they are of different arrays."""
    for before, after in pairwise(everies):
        if every_step(after.this) != before:
            return None
    return everies


def is_boolean_call(node: exp.Expression) -> bool:
    """Whether a node calls a function whose values are conditions."""
    if not isinstance(node, exp.Anonymous):
        return False
    function = registry.SCALARS.get(str(node.this))
    return function is not None and function.result == registry.BOOLEAN
