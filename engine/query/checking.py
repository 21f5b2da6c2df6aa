"""What can be known of a query before it runs: comparisons and functions that can never have a result, and parameters
that are missing.

Only declared columns are judged. What a schema does not declare may be anything, and compares as UNKNOWN where it does not
fit.
"""

from sqlglot import exp

from geode_client.conditions.compile import Compiler
from geode_client.conditions.declared import type_at
from geode_client.conditions.kinds import UNKNOWN, Kind, Kinds, of_column
from geode_client.conditions.paths import is_path
from geode_client.conditions.rows import path_text, steps_of
from geode_client.errors import GqlError
from geode_client.grammar.functions import ARRAY, BOOLEAN, NUMBER, OBJECT, TEXT
from geode_client.query import operators as nodes
from geode_client.query.columns import position_of, shown
from geode_client.query.plan import Query
from geode_client.query.running import declared, plain_columns
from geode_client.query.vectors import ColumnReference, Fields, Places, Surroundings, Values

_NUMBERS_ONLY = frozenset(("sum", "avg", "stddev", "variance", "median", "percentile_cont"))


def check(query: Query, surroundings: Surroundings) -> None:
    """Raise GqlError with the place of the first thing in the plan that can never have a result."""
    for root in (*[inner.root for inner in query.sub_queries], query.root):
        _check_operator(root, surroundings)


def check_aggregate(call: exp.Expression, columns: nodes.Columns, surroundings: Surroundings) -> None:
    """Raise GqlError for an aggregate of a declared column that it does not take."""
    argument = call.this.expressions[0] if isinstance(call.this, exp.Distinct) else call.this
    found = _kinds(columns, surroundings).of(argument)
    name = type(call).__name__.lower()
    if found.column is None or found.kind is None:
        return
    if name in _NUMBERS_ONLY and found.kind != NUMBER:
        raise _error(f"{name.upper()} takes numbers; {found.column}", call)
    if name in ("min", "max") and found.kind in (BOOLEAN, ARRAY, OBJECT):
        raise _error(f"{name.upper()} takes what can be ordered; {found.column}", call)
    if name == "string_agg" and found.kind != TEXT:
        raise _error(f"STRING_AGG takes text; {found.column}", call, "CAST(… AS STRING) makes text of it")
    if name == "count_if" and found.kind != BOOLEAN:
        raise _error(f"COUNT_IF takes a condition; {found.column}", call)


def _check_operator(node: nodes.Operator, surroundings: Surroundings) -> None:
    for child in node.children:
        _check_operator(child, surroundings)
    match node:
        case nodes.Scan():
            Fields(node.outputs, declared(node), surroundings, whole=True)
        case nodes.Filter():
            _check_condition(node.condition, node.columns, surroundings)
        case nodes.Join() if node.condition is not None:
            _check_condition(node.condition, node.columns, surroundings)
        case nodes.Unnest():
            _check_unnest(node, surroundings)
        case nodes.Project():
            kinds = _kinds(node.source.columns, surroundings)
            for tree in node.expressions:
                kinds.check(tree)
            Values(node.expressions, surroundings, plain_columns(node.source.columns))
        case _:
            pass


def _check_unnest(node: nodes.Unnest, surroundings: Surroundings) -> None:
    kinds = _kinds(node.source.columns, surroundings)
    kinds.check(node.expression)
    found = kinds.of(node.expression)
    if found.kind not in (ARRAY, None):
        raise _error(f"UNNEST takes a list; {found.column or f'this is {found.kind}'}", node.expression)
    Values([node.expression], surroundings, plain_columns(node.source.columns))
    if node.condition is not None:
        _check_condition(node.condition, node.columns, surroundings)


def _check_condition(tree: exp.Expression, columns: nodes.Columns, surroundings: Surroundings) -> None:
    kinds = _kinds(columns, surroundings)
    kinds.check(tree)
    found = kinds.of(tree)
    if found.column is not None and found.kind not in (BOOLEAN, None):
        raise _error(f"a condition is true or false; {found.column}", tree)
    Places(tree, surroundings, plain_columns(columns))


def _kinds(columns: nodes.Columns, surroundings: Surroundings) -> Kinds:
    """What is known of expressions over some columns."""

    def of_path(node: exp.Expression) -> Kind | None:
        if not is_path(node):
            return None
        head, steps = steps_of(node)
        position = position_of(head)
        if position is None:
            return UNKNOWN
        column = columns[position]
        if column.spread:
            return UNKNOWN
        return of_column(path_text(column.name, steps), type_at(column.type, steps))

    compiler = Compiler(ColumnReference(), surroundings.parameters)
    return Kinds(of_path, compiler.constant, lambda node: shown(node, columns))


def _error(message: str, node: exp.Expression, hint: str | None = None) -> GqlError:
    return GqlError(message, span=node.meta.get("span"), hint=hint)
