"""GROUP BY: from values with aggregates in them to an Aggregate, and the same values over its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from geode_client.errors import GqlError
from geode_client.grammar.ast import Scalar
from geode_client.grammar.expressions import AGGREGATES
from geode_client.grammar.functions import ORDERED
from geode_client.query import checking
from geode_client.query import operators as nodes
from geode_client.query.columns import bare, position_of, reference, replaced, shown
from geode_client.query.scope import Path, Scope
from geode_client.query.vectors import Surroundings

_RESULT_TYPES = {
    **dict.fromkeys(("count", "count_if"), Scalar("INT")),
    "string_agg": Scalar("STRING"),
}
_ORDERED = tuple(AGGREGATES[name] for name in ORDERED)
_KEPT_TYPE = frozenset(("min", "max", "first", "last"))


@dataclass(frozen=True, slots=True)
class Grouped:
    """The aggregation, and values that read its rows."""

    node: nodes.Operator
    values: list[exp.Expression]


def aggregated(
    source: nodes.Operator,
    keys: Sequence[exp.Expression],
    values: Sequence[exp.Expression],
    surroundings: Surroundings,
) -> Grouped:
    """Group the rows of `source` by `keys`, and compute all aggregates that the values hold."""
    for key in keys:
        refuse_aggregates(key, "GROUP BY")
    unique = _different([bare(key) for key in keys])
    calls = _different([call for value in values for call in value.find_all(exp.AggFunc)])
    arguments = _different([argument for call in calls for argument in arguments_of(call)])
    for call in calls:
        checking.check_aggregate(call, source.columns, surroundings)
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


def in_message_order(tree: exp.Expression, scope: Scope) -> exp.Expression:
    """The tree in which aggregates whose values come in an order go by the time, partition and offset of messages."""
    sources = [source for source in scope.sources if source.is_topic]
    if not sources or tree.find(*_ORDERED) is None:
        return tree
    tree = tree.copy()
    for call in tree.find_all(*_ORDERED):
        if call.args.get("order_by") or isinstance(call.parent, exp.Window):
            continue
        keys: list[exp.Expression] = []
        for source in sources:
            for name in ("_timestamp", "_partition", "_offset"):
                value = source.read(Path(name, True, (), call.meta.get("span")))
                keys.append(exp.Ordered(this=value, desc=False, nulls_first=False))
        call.set("order_by", keys)
        call.meta["hidden_order"] = True
    return tree


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


def argument_of(call: exp.Expression) -> exp.Expression | None:
    """What an aggregate is of; None: rows."""
    inner = call.this
    if isinstance(inner, exp.Star):
        return None
    return bare(inner.expressions[0] if isinstance(inner, exp.Distinct) else inner)


def _more(call: exp.Expression) -> list[exp.Expression]:
    return [bare(tree) for tree in call.args.get("more") or ()]


def _order(call: exp.Expression) -> list[exp.Expression]:
    return [bare(item.this) for item in call.args.get("order_by") or ()]


def arguments_of(call: exp.Expression, *, nested: bool = False) -> list[exp.Expression]:
    """All that an aggregate reads of a row; `nested`: that may have aggregates in it, as in SUM(COUNT(*)) OVER ()."""
    where = call.args.get("where")
    argument = argument_of(call)
    found = [
        *([] if argument is None else [argument]),
        *_more(call),
        *_order(call),
        *([] if where is None else [bare(where)]),
    ]
    if not nested and any(tree.find(exp.AggFunc) is not None for tree in found):
        raise _error("an aggregate cannot stand inside another one", call)
    return found


def _input_column(tree: exp.Expression, inputs: nodes.Columns) -> nodes.Column:
    position = position_of(tree)
    return nodes.Column(shown(tree, inputs)) if position is None else inputs[position]


def record(call: exp.Expression, inputs: Sequence[exp.Expression]) -> nodes.Call:
    """An aggregate as the plan has it; what it reads is among `inputs`."""
    argument = argument_of(call)
    where = call.args.get("where")
    order = tuple(
        nodes.SortKey(inputs.index(bare(item.this)), bool(item.args.get("desc")), bool(item.args.get("nulls_first")))
        for item in call.args.get("order_by") or ()
    )
    return nodes.Call(
        type(call).__name__.lower(),
        None if argument is None else inputs.index(argument),
        isinstance(call.this, exp.Distinct),
        tuple(inputs.index(tree) for tree in _more(call)),
        order,
        None if where is None else inputs.index(bare(where)),
    )


def _call_column(
    call: exp.Expression, record: nodes.Call, inputs: nodes.Columns, arguments: nodes.Columns
) -> nodes.Column:
    name = shown(call, inputs)
    result = _RESULT_TYPES.get(record.function)
    if result is not None:
        return nodes.Column(name, result, plain=True)
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
