"""Push conditions down: a row that is not wanted is left out as early as possible, best of all while a topic is read.

A condition moves through what does not change which rows there are; below GROUP BY only where it reads nothing but keys,
and below a join to the side that it reads (an outer join keeps conditions on its right side above it, since they judge the
rows without a partner as well). What arrives at the scan of a topic is compiled for messages.
"""

from dataclasses import replace

from sqlglot import exp

from geode_client.conditions import compile_condition
from geode_client.query import operators as nodes
from geode_client.query.columns import (
    conjunction,
    conjuncts,
    fits,
    has_sub_query,
    moved,
    references,
    substituted,
)
from geode_client.query.rules.context import Context, over_sources
from geode_client.query.running import declared

Parts = list[exp.Expression]


def apply(node: nodes.Operator, context: Context) -> nodes.Operator:
    """The plan with every condition as far down as it can go."""
    return _pushed(node, [], context)


def _pushed(node: nodes.Operator, parts: Parts, context: Context) -> nodes.Operator:
    """The operator with some more conditions on its rows."""
    match node:
        case nodes.Filter():
            return _pushed(node.source, [*conjuncts(node.condition), *parts], context)
        case nodes.Project():
            return _through_project(node, parts, context)
        case nodes.Join():
            return _through_join(node, parts, context)
        case nodes.Unnest():
            return _through_unnest(node, parts, context)
        case nodes.Aggregate():
            return _through_aggregate(node, parts, context)
        case nodes.Union():
            return replace(node, sources=tuple(_pushed(source, parts, context) for source in node.sources))
        case nodes.Distinct():
            return replace(node, source=_pushed(node.source, parts, context))
        case nodes.Sort() if node.limit is None:
            return replace(node, source=_pushed(node.source, parts, context))
        case nodes.Scan():
            return _into_scan(node, parts, context)
        case _:
            return _filtered(over_sources(node, lambda source: _pushed(source, [], context)), parts)


def _filtered(node: nodes.Operator, parts: Parts) -> nodes.Operator:
    condition = conjunction(parts)
    return node if condition is None else nodes.Filter(node, condition)


def _through_project(node: nodes.Project, parts: Parts, context: Context) -> nodes.Operator:
    """Conditions on values become conditions on what the values are made of; those of sub-queries stay cheap to move."""
    down = [substituted(part, node.expressions) for part in parts if fits(part, node.expressions)]
    above = [part for part in parts if not fits(part, node.expressions)]
    return _filtered(replace(node, source=_pushed(node.source, down, context)), above)


def _through_join(node: nodes.Join, parts: Parts, context: Context) -> nodes.Operator:
    width = len(node.left.columns)
    on = [] if node.condition is None else conjuncts(node.condition)
    left: Parts = []
    right: Parts = []
    above: Parts = []
    between: Parts = []
    for part in parts:
        side = _side(part, width)
        # A side whose missing partners come as NULLs is judged after that.
        if side == "left" and not node.kind.keeps_right:
            left.append(part)
        elif side == "right" and not node.kind.keeps_left:
            right.append(part)
        elif node.kind is nodes.JoinKind.INNER:
            between.append(part)
        else:
            above.append(part)
    for part in on:
        side = _side(part, width)
        # A row that is kept without a partner stays, whatever ON says of it.
        if side == "right" and not node.kind.keeps_right:
            right.append(part)
        elif side == "left" and not node.kind.keeps_left:
            left.append(part)
        else:
            between.append(part)
    places = {width + position: position for position in range(len(node.right.columns))}
    made = replace(
        node,
        left=_pushed(node.left, left, context),
        right=_pushed(node.right, [moved(part, places) for part in right], context),
        condition=conjunction(between),
    )
    return _filtered(made, above)


def _through_unnest(node: nodes.Unnest, parts: Parts, context: Context) -> nodes.Operator:
    """What reads no element is asked before the elements are dealt out."""
    width = len(node.source.columns)
    down = [part for part in parts if _side(part, width) == "left"]
    above = [part for part in parts if _side(part, width) != "left"]
    return _filtered(replace(node, source=_pushed(node.source, down, context)), above)


def _side(part: exp.Expression, width: int) -> str:
    """Which side of a join a condition reads: left, right, or both (also where it reads none)."""
    found = references(part)
    if found and max(found) < width:
        return "left"
    if found and min(found) >= width:
        return "right"
    return "both"


def _through_aggregate(node: nodes.Aggregate, parts: Parts, context: Context) -> nodes.Operator:
    keys = len(node.keys)
    down = [part for part in parts if references(part) and max(references(part)) < keys]
    above = [part for part in parts if part not in down]
    places = dict(enumerate(node.keys))
    made = replace(node, source=_pushed(node.source, [moved(part, places) for part in down], context))
    return _filtered(made, above)


def _into_scan(node: nodes.Scan, parts: Parts, context: Context) -> nodes.Operator:
    inside = [part for part in parts if fits(part, node.outputs) and not has_sub_query(part)]
    above = [part for part in parts if part not in inside]
    trees = [substituted(part, node.outputs) for part in inside]
    if node.condition is not None:
        trees.insert(0, node.condition.tree)
    tree = conjunction(trees)
    if tree is not None and inside:
        condition = compile_condition(tree, parameters=context.parameters, columns=declared(node))
        node = replace(node, condition=condition)
    return _filtered(node, above)
