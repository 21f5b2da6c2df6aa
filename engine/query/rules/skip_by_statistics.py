"""Skip by statistics: a scan leaves out batches of which the store's statistics say that nothing in them can match.

Which fields can be asked about follows from what the condition requires; which batches those are is decided by the store
when the query runs, and EXPLAIN ANALYZE counts them.
"""

from dataclasses import replace

from geode_client.conditions.zones import askable
from geode_client.query import operators as nodes
from geode_client.query.rules.context import Context, over_sources


def apply(node: nodes.Operator, context: Context) -> nodes.Operator:
    """The plan in which scans ask statistics where their conditions require something of a field."""
    node = over_sources(node, lambda source: apply(source, context))
    if not isinstance(node, nodes.Scan) or node.condition is None:
        return node
    return replace(node, skips=bool(askable(node.condition.requirement)))
