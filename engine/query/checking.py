"""What can be known of a query before it runs: comparisons and functions that can never have a result, and parameters
that are missing.

Only declared columns are judged. What a schema does not declare may be anything, and compares as UNKNOWN where it does not
fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from geode_client.errors import GqlError
from geode_client.grammar.ast import ListType, Scalar, TypeNode
from geode_client.query import operators as nodes
from geode_client.query.columns import bare, position_of, shown
from geode_client.query.plan import Query
from geode_client.query.running import declared, plain_columns
from geode_client.query.vectors import Fields, Places, Surroundings, Values
from geode_client.schema import type_text
from geode_client.values import parse_timestamp

TEXT, NUMBER, BOOLEAN, TIME, INTERVAL, ARRAY, OBJECT = (
    *("text", "a number", "a boolean", "a time", "an interval", "an array", "an object"),
)
_OF_SCALAR = {
    **dict.fromkeys(("STRING", "UUID", "BYTES"), TEXT),
    **dict.fromkeys(("INT", "FLOAT", "DECIMAL"), NUMBER),
    **dict.fromkeys(("TIMESTAMP", "DATE"), TIME),
    "BOOL": BOOLEAN,
}
_OF_CAST = {
    **dict.fromkeys(("TEXT", "UUID", "VARBINARY"), TEXT),
    **dict.fromkeys(("BIGINT", "DOUBLE", "DECIMAL"), NUMBER),
    **dict.fromkeys(("TIMESTAMPTZ", "DATE"), TIME),
    "BOOLEAN": BOOLEAN,
}
_ORDERING = (exp.LT, exp.LTE, exp.GT, exp.GTE)
_COMPARING = (exp.EQ, exp.NEQ, *_ORDERING)
_TRUTHS = (
    *_COMPARING,
    exp.And,
    exp.Or,
    exp.Not,
    exp.Is,
    exp.In,
    exp.Between,
    exp.Like,
    exp.ILike,
    exp.Escape,
    exp.Exists,
)
# For each function what its arguments have to be, and what it gives; None: anything.
_FUNCTIONS: dict[str, tuple[tuple[frozenset[str] | None, ...], str | None]] = {
    **dict.fromkeys(("LOWER", "UPPER", "TRIM"), ((frozenset((TEXT,)),), TEXT)),
    "LENGTH": ((frozenset((TEXT, ARRAY)),), NUMBER),
    "SUBSTR": ((frozenset((TEXT,)), frozenset((NUMBER,)), frozenset((NUMBER,))), TEXT),
    "REPLACE": ((frozenset((TEXT,)),) * 3, TEXT),
    **dict.fromkeys(("STARTS_WITH", "ENDS_WITH"), ((frozenset((TEXT,)),) * 2, BOOLEAN)),
    "CONTAINS": ((frozenset((TEXT, ARRAY)), None), BOOLEAN),
    **dict.fromkeys(("ABS", "FLOOR", "CEIL"), ((frozenset((NUMBER,)),), NUMBER)),
    "ROUND": ((frozenset((NUMBER,)), frozenset((NUMBER,))), NUMBER),
    "DATE_TRUNC": ((frozenset((TEXT,)), frozenset((TIME, TEXT))), TIME),
    "NOW": ((), TIME),
}
_NUMBERS_ONLY = frozenset(("sum", "avg"))


@dataclass(frozen=True, slots=True)
class _Kind:
    """What kind of value an expression has (None: not known), and the words for a declared column that it is."""

    kind: str | None = None
    column: str | None = None


def check(query: Query, surroundings: Surroundings) -> None:
    """Raise GqlError with the place of the first thing in the plan that can never have a result."""
    for root in (*[inner.root for inner in query.sub_queries], query.root):
        _check_operator(root, surroundings)


def check_aggregate(call: exp.Expression, columns: nodes.Columns) -> None:
    """Raise GqlError for SUM and AVG of a declared column that is no number."""
    found = kind_of(call.this, columns)
    name = type(call).__name__.lower()
    if name in _NUMBERS_ONLY and found.column is not None and found.kind not in (NUMBER, None):
        raise _error(f"{name.upper()} takes numbers; {found.column}", call)
    if name in ("min", "max") and found.column is not None and found.kind in (BOOLEAN, ARRAY, OBJECT):
        raise _error(f"{name.upper()} takes what can be ordered; {found.column}", call)


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
            for tree in node.expressions:
                check_expression(tree, node.source.columns)
            Values(node.expressions, surroundings, plain_columns(node.source.columns))
        case _:
            pass


def _check_unnest(node: nodes.Unnest, surroundings: Surroundings) -> None:
    check_expression(node.expression, node.source.columns)
    found = kind_of(node.expression, node.source.columns)
    if found.kind not in (ARRAY, None):
        raise _error(f"UNNEST takes a list; {found.column or f'this is {found.kind}'}", node.expression)
    Values([node.expression], surroundings, plain_columns(node.source.columns))
    if node.condition is not None:
        _check_condition(node.condition, node.columns, surroundings)


def _check_condition(tree: exp.Expression, columns: nodes.Columns, surroundings: Surroundings) -> None:
    check_expression(tree, columns)
    found = kind_of(tree, columns)
    if found.column is not None and found.kind not in (BOOLEAN, None):
        raise _error(f"a condition is true or false; {found.column}", tree)
    Places(tree, surroundings, plain_columns(columns))


def check_expression(tree: exp.Expression, columns: nodes.Columns) -> None:
    """Raise GqlError for the first part that can never have a result because of a declared column."""
    for node in tree.walk():
        match node:
            case exp.Between():
                _compare(node.this, node.args["low"], node, columns, ordering=True)
                _compare(node.this, node.args["high"], node, columns, ordering=True)
            case exp.In():
                for item in node.expressions:
                    _compare(node.this, item, node, columns, ordering=False)
            case exp.Like() | exp.ILike() | exp.DPipe():
                for side in (node.this, node.expression):
                    _expect(side, frozenset((TEXT,)), "LIKE" if not isinstance(node, exp.DPipe) else "||", columns)
            case exp.Anonymous():
                _check_function(node, columns)
            case _ if isinstance(node, _COMPARING):
                _compare(node.this, node.expression, node, columns, ordering=isinstance(node, _ORDERING))
            case exp.Mul() | exp.Div() | exp.Mod():
                for side in (node.this, node.expression):
                    _expect(side, frozenset((NUMBER,)), "arithmetic", columns)
            case exp.Add() | exp.Sub():
                for side in (node.this, node.expression):
                    _expect(side, frozenset((NUMBER, TIME, INTERVAL)), "arithmetic", columns)
            case _:
                pass


def _check_function(node: exp.Expression, columns: nodes.Columns) -> None:
    wanted = _FUNCTIONS.get(str(node.this), ((), None))[0]
    for argument, kinds in zip(node.expressions, wanted, strict=False):
        if kinds is not None:
            _expect(argument, kinds, str(node.this), columns)


def _expect(node: exp.Expression, kinds: frozenset[str], what: str, columns: nodes.Columns) -> None:
    found = kind_of(node, columns)
    if found.column is not None and found.kind is not None and found.kind not in kinds:
        raise _error(f"{what} takes {' or '.join(sorted(kinds))}; {found.column}", node)


def _compare(
    left: exp.Expression, right: exp.Expression, node: exp.Expression, columns: nodes.Columns, *, ordering: bool
) -> None:
    kinds = [kind_of(side, columns) for side in (left, right)]
    if not any(kind.column for kind in kinds) or any(kind.kind is None for kind in kinds):
        return
    a, b = kinds
    if a.kind == b.kind:
        if a.kind in (ARRAY, OBJECT) or (ordering and a.kind == BOOLEAN):
            what = "only = and <> apply to a boolean" if a.kind == BOOLEAN else f"{a.kind} compares with nothing"
            raise _error(f"{(a.column or b.column)}: {what}", left if a.column else right)
        return
    if {a.kind, b.kind} == {TIME, TEXT}:
        text = right if b.kind == TEXT else left
        literal = bare(text)
        if not (isinstance(literal, exp.Literal) and parse_timestamp(str(literal.this)) is None):
            return
    named, other, side = (a, b, right) if a.column else (b, a, left)
    place = left if a.column else right
    if other.column is not None:
        raise _error(f"{named.column} and {other.column}: comparing them is never true", place)
    raise _error(f"{named.column}: comparing it with {shown(side, columns):.80} is never true", place)


def kind_of(node: exp.Expression, columns: nodes.Columns) -> _Kind:
    """The kind of an expression's values."""
    node = bare(node)
    position = position_of(node)
    if position is not None:
        column = columns[position]
        kind = _kind_of_type(column.type)
        return _Kind(
            kind, None if kind is None or column.type is None else f"column {column.name} is {type_text(column.type)}"
        )
    match node:
        case exp.Literal():
            return _Kind(TEXT if node.is_string else NUMBER)
        case exp.Interval():
            return _Kind(INTERVAL)
        case exp.Cast() | exp.TryCast():
            return _Kind(_OF_CAST.get(node.args["to"].this.name))
        case exp.DPipe():
            return _Kind(TEXT)
        case exp.Anonymous():
            return _Kind(_FUNCTIONS.get(str(node.this), ((), None))[1])
        case exp.Boolean():
            return _Kind(BOOLEAN)
        case exp.Mul() | exp.Div() | exp.Mod():
            return _Kind(NUMBER)
        case exp.Add() | exp.Sub() | exp.Neg():
            kinds = {kind_of(part, columns).kind for part in _operands(node)}
            return _Kind(NUMBER if kinds == {NUMBER} else None)
        case _ if isinstance(node, _TRUTHS):
            return _Kind(BOOLEAN)
        case _:
            return _Kind()


def _operands(node: exp.Expression) -> Sequence[exp.Expression]:
    return [node.this] if isinstance(node, exp.Neg) else [node.this, node.expression]


def _kind_of_type(declared_type: TypeNode | None) -> str | None:
    match declared_type:
        case None:
            return None
        case Scalar(name):
            return _OF_SCALAR.get(name)
        case ListType():
            return ARRAY
        case _:
            return OBJECT


def _error(message: str, node: exp.Expression) -> GqlError:
    return GqlError(message, span=node.meta.get("span"))
