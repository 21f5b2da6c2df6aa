"""Parameters replaced by their values, so that a condition can be kept as text."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlglot import exp

from geode_client.conditions.parameters import plain_value
from geode_client.errors import GqlError


def bound(tree: exp.Expression, parameters: Mapping[str, Any]) -> exp.Expression:
    """A copy of the tree without parameters; raises GqlError for a value that has no text form."""

    def replace(node: exp.Expression) -> exp.Expression:
        return _node(parameters[node.this.name], node.this.name) if isinstance(node, exp.Parameter) else node

    return tree.copy().transform(replace)


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
