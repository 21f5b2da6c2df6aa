"""Parameters replaced by their values, so that a condition can be kept as text."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlglot import exp

from geode_client.conditions.parameters import plain_value
from geode_client.errors import GqlError, did_you_mean


def bound(tree: exp.Expression, parameters: Mapping[str, Any]) -> exp.Expression:
    """A copy of the tree without parameters; raises GqlError for a value that has no text form."""

    def replace(node: exp.Expression) -> exp.Expression:
        return _node(parameters[node.this.name], node.this.name) if isinstance(node, exp.Parameter) else node

    return tree.copy().transform(replace)


LIST_ITEMS_MAX = 10_000


def with_lists(tree: exp.Expression, parameters: Mapping[str, Any]) -> exp.Expression:
    """The tree with every `IN $list` written out; raises GqlError where the parameter is no list."""
    if not any(node.args.get("field") is not None for node in tree.find_all(exp.In)):
        return tree

    def replace(node: exp.Expression) -> exp.Expression:
        given = node.args.get("field") if isinstance(node, exp.In) else None
        if given is None:
            return node
        items = _items(given, parameters)
        # Nothing is in an empty list, not even NULL.
        inside = exp.In(this=node.this.transform(replace), expressions=items)
        made: exp.Expression = inside if items else exp.Boolean(this=False)
        made.meta.update(node.meta)
        return made

    written: exp.Expression = tree.copy().transform(replace)
    return written


def _items(given: exp.Expression, parameters: Mapping[str, Any]) -> list[exp.Expression]:
    name, span = given.this.name, given.meta.get("span")
    if name not in parameters:
        hint = did_you_mean(name, parameters) or f"give it a list: params={{'{name}': […]}}"
        raise GqlError(f"parameter ${name} has no value", span=span, hint=hint)
    items = parameters[name]
    if not isinstance(items, list | tuple | set | frozenset):
        hint = f"write IN (${name}) for a single value"
        raise GqlError(f"IN ${name} takes a list, not a {type(items).__name__}", span=span, hint=hint)
    if len(items) > LIST_ITEMS_MAX:
        raise GqlError(f"IN takes at most {LIST_ITEMS_MAX} items; ${name} has {len(items)}", span=span)
    return [_node(item, name) for item in items]


def _node(value: Any, name: str) -> exp.Expression:
    value = plain_value(value)
    match value:
        case None:
            return exp.Null()
        case bool():
            return exp.Boolean(this=value)
        case str():
            return exp.Literal.string(value)
        case int() | float() | Decimal():
            return _number(value)
        case UUID():
            return exp.cast(exp.Literal.string(str(value)), exp.DataType.Type.UUID)
        case datetime():
            moment = value.astimezone(UTC) if value.tzinfo else value
            return exp.cast(exp.Literal.string(moment.isoformat()), exp.DataType.Type.TIMESTAMPTZ)
        case date():
            return exp.cast(exp.Literal.string(value.isoformat()), exp.DataType.Type.DATE)
        case _:
            raise GqlError(
                f"parameter ${name}: a {type(value).__name__} cannot be kept in the filter of a durable group",
                hint="write the values into the condition",
            )


def _number(value: float | Decimal) -> exp.Expression:
    if isinstance(value, Decimal):
        # A literal alone would be a float beside anything but a DECIMAL.
        return exp.cast(exp.Literal.string(format(value, "f")), exp.DataType.Type.DECIMAL)
    number = exp.Literal.number(repr(abs(value)))
    return exp.Neg(this=number) if value < 0 else number
