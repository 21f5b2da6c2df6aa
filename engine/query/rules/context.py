"""What rules know beside the plan, and how they visit it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from geode_client.query import operators as nodes


@dataclass(frozen=True, slots=True)
class Context:
    """The parameters of the statement, which are bound before it is planned."""

    parameters: Mapping[str, Any] = field(default_factory=dict)


def over_sources(node: nodes.Operator, change: Callable[[nodes.Operator], nodes.Operator]) -> nodes.Operator:
    """The same operator over changed inputs; the columns of the inputs must stay what they are."""
    match node:
        case nodes.Join() | nodes.Except() | nodes.Intersect():
            return replace(node, left=change(node.left), right=change(node.right))
        case nodes.Union():
            return replace(node, sources=tuple(change(source) for source in node.sources))
        case nodes.Scan() | nodes.SystemScan() | nodes.OwnTableScan() | nodes.OneRow() | nodes.Shared():
            return node
        case _:
            return replace(node, source=change(node.source))
