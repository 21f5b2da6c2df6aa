"""GROUP BY: from values with aggregates in them to an Aggregate, and the same values over its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from geode_client.errors import GqlError
from geode_client.grammar.ast import Scalar
from geode_client.query import checking
from geode_client.query import operators as nodes
from geode_client.query.columns import bare, position_of, reference, replaced, shown

_KEPT_TYPE = frozenset(("min", "max", "first", "last"))


@dataclass(frozen=True, slots=True)
class Grouped:
    """The aggregation, and values that read its rows."""

    node: nodes.Operator
    values: list[exp.Expression]


def aggregated(source: nodes.Operator, keys: Sequence[exp.Expression], values: Sequence[exp.Expression]) -> Grouped:
    """Group the rows of `source` by `keys`, and compute all aggregates that the values hold."""
    for key in keys:
        refuse_aggregates(key, "GROUP BY")
    unique = _different([bare(key) for key in keys])
    calls = _different([call for value in values for call in value.find_all(exp.AggFunc)])
    arguments = _different([argument for call in calls if (argument := argument_of(call)) is not None])
    for call in calls:
        checking.check_aggregate(call, source.columns)
    inputs = [*unique, *[argument for argument in arguments if argument not in unique]]
    columns = tuple(_input_column(tree, source.columns) for tree in inputs)
    project = nodes.Project(source, tuple(inputs), columns)
    records = tuple(record(call, inputs) for call in calls)
    made = nodes.Aggregate(
        project,
        tuple(range(len(unique))),
        records,
        (
            *columns[: len(unique)],
            *[_call_column(call, one, source.columns, columns) for call, one in zip(calls, records, strict=True)],
        ),
    )
    return Grouped(made, [_over(value, [*unique, *calls], source.columns) for value in values])


def has_aggregate(value: exp.Expression) -> bool:
    """Whether a value needs its rows to be grouped."""
    return value.find(exp.AggFunc) is not None


def refuse_aggregates(node: exp.Expression, where: str) -> None:
    """Raise GqlError where an aggregate stands where none can."""
    found: Any = node.find(exp.AggFunc)
    if found is not None:
        hint = "HAVING takes conditions on aggregates" if where == "WHERE" else None
        raise _error(f"an aggregate cannot stand in {where}", found, hint)


def _error(message: str, node: exp.Expression, hint: str | None = None) -> GqlError:
    return GqlError(message, span=node.meta.get("span"), hint=hint)


def _different(trees: Sequence[Any]) -> list[Any]:
    """Each different tree once, in order."""
    return list(dict.fromkeys(trees))


def argument_of(call: exp.Expression, *, nested: bool = False) -> exp.Expression | None:
    """What an aggregate is of; None: rows. `nested`: that may be an aggregate, as in SUM(COUNT(*)) OVER ()."""
    inner = call.this
    if isinstance(inner, exp.Star):
        return None
    found: exp.Expression = bare(inner.expressions[0] if isinstance(inner, exp.Distinct) else inner)
    if not nested and found.find(exp.AggFunc) is not None:
        raise _error("an aggregate cannot stand inside another one", call)
    return found


def _input_column(tree: exp.Expression, inputs: nodes.Columns) -> nodes.Column:
    position = position_of(tree)
    return nodes.Column(shown(tree, inputs)) if position is None else inputs[position]


def record(call: exp.Expression, inputs: Sequence[exp.Expression]) -> nodes.Call:
    """An aggregate as the plan has it; its argument is one of `inputs`."""
    argument = argument_of(call)
    position = None if argument is None else inputs.index(argument)
    return nodes.Call(type(call).__name__.lower(), position, isinstance(call.this, exp.Distinct))


def _call_column(
    call: exp.Expression, record: nodes.Call, inputs: nodes.Columns, arguments: nodes.Columns
) -> nodes.Column:
    name = shown(call, inputs)
    if record.function == "count":
        return nodes.Column(name, Scalar("INT"), plain=True)
    if record.function in _KEPT_TYPE and record.argument is not None:
        return replace(arguments[record.argument], name=name, spread=False)
    return nodes.Column(name)


def _over(value: exp.Expression, outputs: Sequence[exp.Expression], inputs: nodes.Columns) -> exp.Expression:
    """The value over the rows of the aggregation."""
    places = {tree: position for position, tree in reversed(list(enumerate(outputs)))}

    def made(node: exp.Expression) -> exp.Expression | None:
        position = places.get(bare(node)) if isinstance(node, exp.Expression) else None
        if position is None:
            if position_of(node) is not None:
                raise _error(
                    f"{shown(node, inputs)} is neither in GROUP BY nor inside an aggregate",
                    node,
                    "group by it, or take first(…) or max(…) of it",
                )
            return None
        return reference(position)

    return replaced(value, made)
