"""Prune what a scan has to read at all: a partition, the partition of a key, offsets, or messages since a time.

Read from the conjuncts of the scan's condition, which still judges every message. A field that is a topic's partition key
does not prune: a publisher may give a message another key.
"""

from dataclasses import replace
from typing import Any

from sqlglot import exp

from geode_client.clock import microseconds_of
from geode_client.query import operators as nodes
from geode_client.query.columns import bare, conjuncts
from geode_client.query.rules.context import Context, over_sources
from geode_client.query.vectors import Surroundings, Values
from geode_client.values import as_timestamp

_MIRRORED: dict[type[exp.Expression], type[exp.Expression]] = {
    exp.EQ: exp.EQ,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
}
_COLUMNS = frozenset(("_partition", "_key", "_offset", "_timestamp"))


def apply(node: nodes.Operator, context: Context) -> nodes.Operator:
    """The plan with ranges for the scans whose conditions give them."""
    node = over_sources(node, lambda source: apply(source, context))
    if not isinstance(node, nodes.Scan) or node.condition is None:
        return node
    within = node.within
    for part in conjuncts(node.condition.tree):
        found = _bound(part, context)
        if found is not None:
            within = _narrowed(within, *found)
    return replace(node, within=within)


def _bound(part: exp.Expression, context: Context) -> tuple[str, type[exp.Expression], Any] | None:
    """Virtual column, comparison and constant of a conjunct; None where it has another form."""
    kind = type(part)
    if kind not in _MIRRORED:
        return None
    left, right = bare(part.this), bare(part.expression)
    if not _is_virtual(left):
        left, right, kind = right, left, _MIRRORED[kind]
    if not _is_virtual(left) or any(True for _ in right.find_all(exp.Column, exp.Subquery)):
        return None
    return left.name, kind, _constant(right, context)


def _is_virtual(node: exp.Expression) -> bool:
    return isinstance(node, exp.Column) and node.name in _COLUMNS and not node.this.args.get("quoted")


def _constant(node: exp.Expression, context: Context) -> Any:
    """The value of an expression without columns, NOW() being now."""

    return Values([node], Surroundings(context.parameters), frozenset()).of([], 1)[0][0]


def _narrowed(within: nodes.Range, column: str, kind: type[exp.Expression], value: Any) -> nodes.Range:
    is_whole = value.__class__ is int
    match column:
        case "_partition" if kind is exp.EQ and is_whole and value >= 0:
            return replace(within, partition=value)
        case "_key" if kind is exp.EQ and value.__class__ is str:
            return replace(within, key=value)
        case "_offset" if is_whole:
            return _offsets(within, kind, value)
        case "_timestamp" if kind in (exp.GT, exp.GTE, exp.EQ):
            since = as_timestamp(value)
            if since is None:
                return within
            return replace(within, since_us=max(within.since_us or 0, microseconds_of(since)))
        case _:
            return within


def _offsets(within: nodes.Range, kind: type[exp.Expression], value: int) -> nodes.Range:
    first, end = within.first_offset, within.end_offset
    if kind in (exp.EQ, exp.GTE, exp.GT):
        first = max(first, value + (kind is exp.GT))
    if kind in (exp.EQ, exp.LTE, exp.LT):
        bound = max(0, value + (kind is not exp.LT))
        end = bound if end is None else min(end, bound)
    return replace(within, first_offset=max(0, first), end_offset=end)
