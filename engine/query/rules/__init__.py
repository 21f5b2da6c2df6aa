"""The rules that make a plan quick, in the order in which they are applied. One file each.

A rule takes a plan and gives one with the same rows. Each leaves what it does not know alone, so that any of them can be
left out: the tests run every query with and without them.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from geode_client.query.operators import Operator
from geode_client.query.plan import Query
from geode_client.query.rules import (
    join_by_hash,
    limit_early,
    prune_partitions,
    push_conditions,
    push_projections,
    skip_by_statistics,
)
from geode_client.query.rules.context import Context

__all__ = ["RULES", "Context", "optimised", "optimised_query", "stages"]

RULES: tuple[tuple[str, Callable[[Operator, Context], Operator]], ...] = (
    ("push conditions", push_conditions.apply),
    ("join by hash", join_by_hash.apply),
    ("push projections", push_projections.apply),
    ("prune partitions", prune_partitions.apply),
    ("skip by statistics", skip_by_statistics.apply),
    ("limit early", limit_early.apply),
)


def stages(root: Operator, context: Context) -> Iterator[tuple[str, Operator]]:
    """The plan after each rule, with the rule's name."""
    for name, apply in RULES:
        root = apply(root, context)
        yield name, root


def optimised(root: Operator, context: Context) -> Operator:
    """The plan after all rules."""
    found = root
    for _, made in stages(root, context):
        found = made
    return found


def optimised_query(query: Query, context: Context) -> Query:
    """The query and its sub-queries after all rules."""
    inner = tuple(replace(one, root=optimised(one.root, context)) for one in query.sub_queries)
    return replace(query, root=optimised(query.root, context), sub_queries=inner)
