"""Limit early: where only the first rows are wanted, a sort keeps no more of them, and a scan ends when it has them.

The newest messages of one partition (`ORDER BY _offset DESC LIMIT n`) are read from its end, without sorting.
"""

from dataclasses import replace

from sqlglot import exp

from geode_client.query import operators as nodes
from geode_client.query.rules.context import Context, over_sources


def apply(node: nodes.Operator, context: Context) -> nodes.Operator:
    """The plan with limits as far down as they can go."""
    if isinstance(node, nodes.Limit) and node.count is not None:
        node = replace(node, source=_limited(node.source, node.count + node.offset))
    return over_sources(node, lambda source: apply(source, context))


def _limited(node: nodes.Operator, count: int) -> nodes.Operator:
    """The same rows where only the first `count` are wanted."""
    match node:
        case nodes.Sort():
            scan = _newest(node)
            return replace(node, limit=count) if scan is None else replace(scan, limit=count)
        case nodes.Scan():
            return replace(node, limit=count if node.limit is None else min(count, node.limit))
        case nodes.Project() | nodes.Spread():
            return replace(node, source=_limited(node.source, count))
        case nodes.Union():
            sources = tuple(nodes.Limit(source, count, 0) for source in node.sources)
            return replace(node, sources=sources)
        case nodes.Limit():
            kept = count if node.count is None else min(count, node.count)
            return replace(node, count=kept, source=_limited(node.source, kept + node.offset))
        case _:
            return node


def _newest(node: nodes.Sort) -> nodes.Scan | None:
    """The scan that gives the sorted rows by itself, from the newest back; None where it would not be the same."""
    scan, key = node.source, node.keys[0]
    if len(node.keys) != 1 or not key.descending or not isinstance(scan, nodes.Scan) or scan.limit is not None:
        return None
    output = scan.outputs[key.position]
    is_offset = isinstance(output, exp.Column) and output.name == "_offset" and not output.this.args.get("quoted")
    one_partition = len(scan.topics) == 1 and scan.topics[0].partitions == 1
    return replace(scan, newest_first=True) if is_offset and one_partition else None
