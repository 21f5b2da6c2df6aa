"""Join by hash: where a join asks for an equality between its sides, partners are looked up instead of tried one by one."""

from dataclasses import replace

from sqlglot import exp

from geode_client.query import operators as nodes
from geode_client.query.columns import bare, conjunction, conjuncts, has_sub_query, moved, references
from geode_client.query.rules.context import Context, over_sources


def apply(node: nodes.Operator, context: Context) -> nodes.Operator:
    """The plan with keys for every join that has an equality."""
    node = over_sources(node, lambda source: apply(source, context))
    if not isinstance(node, nodes.Join) or node.condition is None:
        return node
    width = len(node.left.columns)
    keys: list[tuple[exp.Expression, exp.Expression]] = []
    others: list[exp.Expression] = []
    for part in conjuncts(node.condition):
        pair = _pair(part, width)
        if pair is None:
            others.append(part)
        else:
            keys.append(pair)
    return replace(node, keys=(*node.keys, *keys), condition=conjunction(others))


def _pair(part: exp.Expression, width: int) -> tuple[exp.Expression, exp.Expression] | None:
    """The two sides of an equality, the left input's first; None where it is none between the inputs."""
    if not isinstance(part, exp.EQ) or has_sub_query(part):
        return None
    sides = [bare(part.this), bare(part.expression)]
    read = [references(side) for side in sides]
    if not all(read):
        return None
    if min(read[0]) >= width and max(read[1]) < width:
        sides.reverse()
        read.reverse()
    if max(read[0]) >= width or min(read[1]) < width:
        return None
    return sides[0], moved(sides[1], {position: position - width for position in read[1]})
