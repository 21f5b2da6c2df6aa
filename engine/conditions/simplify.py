"""Conditions made simpler without changing what they are of any message: TRUE, FALSE or UNKNOWN.

Rewrites that are right in two-valued logic often are not in three: `a = a` is UNKNOWN where a is missing, `a AND NOT a` too.
These hold in three, for a tree that stands where a condition stands (its value counts as truth value):

    NOT NOT x, NOT (x AND y), NOT a < b      the negation goes down to what it is about
    TRUE AND x, FALSE AND x, …, x AND x      absorbed, or the same said once
    1 = 2, 3 * 100, LOWER('X')               computed, where nothing of a message is read
    a IN (1), a IN (1, 1)                    a = 1
    (x), x IS NOT UNKNOWN                    brackets go; tests of two-valued parts are known
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from geode_client.conditions.compile import OPPOSITE
from geode_client.conditions.paths import bare, flat, has_every_step, is_path
from geode_client.errors import GqlError

_TWO_VALUED = (exp.Is, exp.Exists, exp.Boolean)
_READS_SOMETHING = (exp.Column, exp.Parameter, exp.Subquery, exp.Select, exp.AggFunc)
FOLDED_CHARACTERS_MAX = 200
_OF_THE_TIME = frozenset(("NOW", "CURRENT_TIMESTAMP", "CURRENT_DATE"))


def simplified(tree: exp.Expression) -> exp.Expression:
    """An equal, simpler condition; the given tree is left as it is."""
    return _condition(tree.copy(), wanted=True)


def _condition(node: exp.Expression, *, wanted: bool) -> exp.Expression:
    """The condition, or its negation where `wanted` is False."""
    node = bare(node)
    match node:
        case exp.And() | exp.Or():
            is_and = isinstance(node, exp.And) == wanted
            parts = [_condition(part, wanted=wanted) for part in flat(node, type(node))]
            return _joined(parts, exp.And if is_and else exp.Or, neutral=is_and, like=node)
        case exp.Not():
            return _condition(node.this, wanted=not wanted)
        case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE() if not has_every_step(node):
            kind = type(node) if wanted else OPPOSITE[type(node)]
            made = kind(this=_value(node.this), expression=_value(node.expression))
            return _folded(_like(node, made))
        case exp.In() if not node.args.get("query") and not has_every_step(node):
            return _listed(node, wanted=wanted)
        case exp.Boolean():
            return _like(node, exp.Boolean(this=bool(node.this) == wanted))
        case exp.Null():
            return node
        case exp.Is(expression=exp.Boolean(this=is_true)) if _is_two_valued(node.this):
            return _condition(node.this, wanted=wanted == bool(is_true))
        case _:
            value = _value(node)
            return _folded(value if wanted else _like(node, exp.Not(this=_bracketed(value))))


def _is_two_valued(node: exp.Expression) -> bool:
    node = bare(node)
    while isinstance(node, exp.Not):
        node = bare(node.this)
    return isinstance(node, _TWO_VALUED)


def _joined(
    parts: list[exp.Expression], kind: type[exp.Expression], *, neutral: bool, like: exp.Expression
) -> exp.Expression:
    """AND (`neutral` TRUE) or OR (`neutral` FALSE) of the parts, each once."""
    kept: list[exp.Expression] = []
    for part in parts:
        for inner in flat(part, kind):
            if isinstance(inner, exp.Boolean):
                if bool(inner.this) != neutral:
                    return _like(like, exp.Boolean(this=not neutral))
            elif inner not in kept:
                kept.append(inner)
    if not kept:
        return _like(like, exp.Boolean(this=neutral))
    made = _operand(kept[0], kind) if len(kept) > 1 else kept[0]
    for part in kept[1:]:
        made = _like(like, kind(this=made, expression=_operand(part, kind)))
    return made


def _operand(node: exp.Expression, kind: type[exp.Expression]) -> exp.Expression:
    return _bracketed(node) if isinstance(node, exp.Or) and kind is exp.And else node


def _bracketed(node: exp.Expression) -> exp.Expression:
    return _like(node, exp.Paren(this=node)) if isinstance(node, exp.Connector | exp.Binary | exp.Predicate) else node


def _listed(node: exp.Expression, *, wanted: bool) -> exp.Expression:
    subject = _value(node.this)
    items: dict[exp.Expression, None] = dict.fromkeys(_value(item) for item in node.expressions)
    if len(items) == 1:
        equal = exp.EQ if wanted else exp.NEQ
        return _folded(_like(node, equal(this=subject, expression=next(iter(items)))))
    made = _like(node, exp.In(this=subject, expressions=list(items)))
    return _folded(made if wanted else _like(node, exp.Not(this=made)))


def _value(node: exp.Expression) -> exp.Expression:
    """The same value; what reads nothing of a message is computed."""
    inner = bare(node)
    if is_path(inner):
        return inner
    made = _folded(inner)
    return _like(node, exp.Paren(this=made)) if made is inner and isinstance(node, exp.Paren) else made


def _folded(node: exp.Expression) -> exp.Expression:
    """The value of an expression that reads nothing, as a literal; the expression where it has no short one."""
    if isinstance(node, exp.Literal | exp.Boolean | exp.Null | exp.Parameter) or _reads(node):
        return node
    from geode_client.conditions import Condition

    try:
        value = Condition(node).value({})
    except GqlError:
        return node
    made = _literal(value)
    return node if made is None else _like(node, made)


def _reads(node: exp.Expression) -> bool:
    """Whether the value depends on the message, the time, or parameters, or is of a kind that has no literal."""
    if any(True for _ in node.find_all(*_READS_SOMETHING)):
        return True
    return any(str(call.this) in _OF_THE_TIME for call in node.find_all(exp.Anonymous))


def _literal(value: Any) -> exp.Expression | None:
    make = _LITERALS.get(value.__class__)
    return None if make is None else make(value)


def _text(value: str) -> exp.Expression | None:
    return exp.Literal.string(value) if len(value) <= FOLDED_CHARACTERS_MAX else None


def _number(value: float) -> exp.Expression | None:
    text = repr(abs(value))
    if len(text) > FOLDED_CHARACTERS_MAX or "inf" in text or "nan" in text:
        return None
    made: exp.Expression = exp.Literal.number(text)
    return exp.Neg(this=made) if value < 0 else made


_LITERALS: Mapping[type, Callable[[Any], exp.Expression | None]] = {
    type(None): lambda _: exp.Null(),
    bool: lambda value: exp.Boolean(this=value),
    str: _text,
    int: _number,
    float: _number,
}


def _like(node: exp.Expression, made: exp.Expression) -> exp.Expression:
    """`made`, at the place in the text where `node` stands."""
    if "span" in node.meta:
        made.meta.setdefault("span", node.meta["span"])
    return made
