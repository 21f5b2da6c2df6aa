"""From a condition's tree to what it requires of single fields (requirements.py).

Goes down with the sense in which a part is wanted, TRUE or FALSE, as the compiler does; what it cannot say anything about is
`Anything`. Paths whose values are not plain JSON (times and decimals that a schema declares) are left alone: two of their
texts may mean one value.
"""

import math
from collections.abc import Mapping
from typing import Any

from sqlglot import exp

from geode_client.conditions.compile import MIRRORED, OPPOSITE, Compiler
from geode_client.conditions.like import literal_pieces
from geode_client.conditions.paths import bare, flat, has_every_step, is_path
from geode_client.conditions.requirements import (
    ANYTHING,
    NEVER,
    Anything,
    HasText,
    Number,
    OneOf,
    Path,
    Requirement,
    Within,
    after_prefix,
    all_of,
    any_of,
)
from geode_client.conditions.rows import MessageReference
from geode_client.values import EXACT_FLOAT_MAX, exact_float

_TEXT_COLUMNS = frozenset(("_id", "_key", "_topic"))
_NUMBER_COLUMNS = frozenset(("_offset", "_partition", "_priority"))
PARTS_MAX = 256
_LOGIC = (exp.And, exp.Or, exp.Not)


def requirement_of(tree: exp.Expression, compiler: Compiler, reference: MessageReference) -> Requirement:
    """What must hold for the condition to be TRUE; `compiler` knows the values of its constants."""
    return _Derivation(compiler, reference).true(tree)


class _Derivation:
    def __init__(self, compiler: Compiler, reference: MessageReference) -> None:
        self._compiler = compiler
        self._reference = reference

    def true(self, node: exp.Expression) -> Requirement:
        """What must hold for the node to be TRUE."""
        node = bare(node)
        if not isinstance(node, _LOGIC) and has_every_step(node):
            return ANYTHING
        match node:
            case exp.And():
                return all_of([self.true(part) for part in _first(flat(node, exp.And))])
            case exp.Or():
                parts = flat(node, exp.Or)
                return ANYTHING if len(parts) > PARTS_MAX else any_of([self.true(part) for part in parts])
            case exp.Not():
                return self.false(node.this)
            case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
                return self._compared(type(node), node.this, node.expression)
            case exp.Between():
                low = self._compared(exp.GTE, node.this, node.args["low"])
                return all_of([low, self._compared(exp.LTE, node.this, node.args["high"])])
            case exp.In() if not node.args.get("query"):
                return self._listed(node)
            case exp.Is(expression=exp.Boolean(this=wanted)):
                return self.true(node.this) if wanted else self.false(node.this)
            case exp.Boolean():
                return Anything(exact=True) if node.this else NEVER
            case exp.Null():
                return NEVER
            case exp.Like():
                return self._like(node, None)
            case exp.Escape(this=exp.Like()):
                return self._like(node.this, str(node.expression.this))
            case exp.Anonymous():
                return self._called(node)
            case exp.Column() | exp.Dot() | exp.Bracket():
                path = self._path(node)
                return ANYTHING if path is None or path.virtual else OneOf(path, truths=frozenset((True,)))
            case _:
                return ANYTHING

    def false(self, node: exp.Expression) -> Requirement:
        """What must hold for the node to be FALSE."""
        node = bare(node)
        if not isinstance(node, _LOGIC) and has_every_step(node):
            return ANYTHING
        match node:
            case exp.And():
                parts = flat(node, exp.And)
                return ANYTHING if len(parts) > PARTS_MAX else any_of([self.false(part) for part in parts])
            case exp.Or():
                return all_of([self.false(part) for part in _first(flat(node, exp.Or))])
            case exp.Not():
                return self.true(node.this)
            case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
                return self._compared(OPPOSITE[type(node)], node.this, node.expression)
            case exp.Between():
                below = self._compared(exp.LT, node.this, node.args["low"])
                return any_of([below, self._compared(exp.GT, node.this, node.args["high"])])
            case exp.Boolean():
                return NEVER if node.this else Anything(exact=True)
            case exp.Null():
                return NEVER
            case exp.Column() | exp.Dot() | exp.Bracket():
                path = self._path(node)
                return ANYTHING if path is None or path.virtual else OneOf(path, truths=frozenset((False,)))
            case _:
                return ANYTHING

    # ── leaves ──
    def _path(self, node: exp.Expression) -> Path | None:
        """The path, where its values are plain: JSON, or the text or number of a virtual column."""
        node = bare(node)
        if not is_path(node):
            return None
        name, virtual, steps = self._reference.resolve(node)
        if virtual:
            return Path(name, virtual=True) if not steps and name in _TEXT_COLUMNS | _NUMBER_COLUMNS else None
        return None if self._reference.is_special(node) else Path(name, tuple(steps))

    def _compared(self, kind: type[exp.Expression], left: exp.Expression, right: exp.Expression) -> Requirement:
        constant = self._compiler.constant(right)
        if constant is None:
            constant = self._compiler.constant(left)
            if constant is None:
                return ANYTHING
            left, kind = right, MIRRORED[kind]
        if constant.value is None:
            return NEVER
        path = self._path(left)
        return ANYTHING if path is None else _meeting(kind, path, constant.value)

    def _listed(self, node: exp.Expression) -> Requirement:
        path = self._path(node.this)
        constants = [self._compiler.constant(item) for item in node.expressions]
        if path is None or None in constants:
            return ANYTHING
        texts: set[str] = set()
        numbers: set[Number] = set()
        truths: set[bool] = set()
        kinds: Mapping[type, set[Any]] = {str: texts, int: numbers, float: numbers, bool: truths}
        for value in (constant.value for constant in constants if constant is not None):
            if value is None:
                continue
            values = kinds.get(value.__class__)
            if values is None or not _compares(value):
                return ANYTHING
            if values is numbers:
                numbers |= _equal_numbers(value)
            else:
                values.add(value)
        exact = all(map(_is_small, numbers))
        made = OneOf(path, frozenset(texts), frozenset(numbers), frozenset(truths), exact=exact)
        return made if len(made) else NEVER

    def _like(self, node: exp.Expression, escape: str | None) -> Requirement:
        path, pattern = self._path(node.this), self._text(node.expression)
        if path is None or path.virtual or pattern is None:
            return ANYTHING
        pieces = literal_pieces(pattern, escape)
        if pieces is None:
            return NEVER
        prefix, inner, is_whole = pieces
        if is_whole:
            return OneOf(path, texts=frozenset((prefix,)))
        parts: list[Requirement] = [HasText(path, piece, exact=False) for piece in inner if piece]
        if prefix:
            parts += _prefixed(path, prefix)
        return all_of(parts) if parts else ANYTHING

    def _called(self, node: exp.Expression) -> Requirement:
        name = str(node.this)
        if name not in ("STARTS_WITH", "ENDS_WITH", "CONTAINS") or len(node.expressions) != 2:
            return ANYTHING
        path, text = self._path(node.expressions[0]), self._text(node.expressions[1])
        if path is None or path.virtual or not text:
            return ANYTHING
        if name == "CONTAINS":
            # It looks into arrays as well, where the text is an item.
            return HasText(None, text, exact=False)
        parts: list[Requirement] = [HasText(path, text, exact=False)]
        return all_of(parts + _prefixed(path, text) if name == "STARTS_WITH" else parts)

    def _text(self, node: exp.Expression) -> str | None:
        constant = self._compiler.constant(node)
        return constant.value if constant is not None and constant.value.__class__ is str else None


def _first(parts: list[exp.Expression]) -> list[exp.Expression]:
    """As many parts of an AND as are looked at; the rest may hold or not."""
    return parts if len(parts) <= PARTS_MAX else [*parts[:PARTS_MAX], exp.Var(this="REST")]


def _prefixed(path: Path, prefix: str) -> list[Requirement]:
    return [
        Within(path, prefix, after_prefix(prefix), high_included=False, exact=False),
        HasText(path, prefix, exact=False),
    ]


def _compares(value: Any) -> bool:
    """Whether a constant is a truth value, a text, or a number that is equal to itself."""
    return value.__class__ in (str, int, bool) or (value.__class__ is float and not math.isnan(value))


def _meeting(kind: type[exp.Expression], path: Path, value: Any) -> Requirement:
    """What a path must hold to compare so with a constant."""
    if value.__class__ is bool:
        if kind is exp.EQ or kind is exp.NEQ:
            return OneOf(path, truths=frozenset((value if kind is exp.EQ else not value,)))
        return NEVER
    if not _compares(value):
        return ANYTHING
    if path.virtual and (value.__class__ is str) != (path.name in _TEXT_COLUMNS):
        return NEVER
    if kind is exp.EQ and isinstance(value, str):
        return OneOf(path, texts=frozenset((value,)))
    if kind is exp.EQ:
        return OneOf(path, numbers=_equal_numbers(value), exact=_is_small(value))
    if not isinstance(value, str) and not _is_small(value):
        return _beyond_floats(kind, path, value)
    if kind is exp.LT or kind is exp.LTE:
        return Within(path, high=value, high_included=kind is exp.LTE)
    if kind is exp.GT or kind is exp.GTE:
        return Within(path, low=value, low_included=kind is exp.GTE)
    below, above = Within(path, high=value, high_included=False), Within(path, low=value, low_included=False)
    return any_of([below, above])


def _is_small(number: Number) -> bool:
    """Whether Python compares the number with every other one as the language does."""
    return -EXACT_FLOAT_MAX < number < EXACT_FLOAT_MAX


def _equal_numbers(value: Number) -> frozenset[Number]:
    """The numbers that JSON may hold and that are equal to a constant: one, or beyond 2**53 a whole number and a float."""
    if _is_small(value):
        return frozenset((value,))
    if isinstance(value, float):
        return frozenset((value, int(exact_float(value)))) if math.isfinite(value) else frozenset((value,))
    try:
        nearest = float(value)
    except OverflowError:
        return frozenset((value,))
    return frozenset((value, nearest)) if exact_float(nearest) == value else frozenset((value,))


def _beyond_floats(kind: type[exp.Expression], path: Path, value: Number) -> Requirement:
    """A range with a little room, because a float there may be another number than its text says."""
    if kind is exp.NEQ:
        return ANYTHING
    try:
        room = 2 * int(math.ulp(float(value)))
    except OverflowError:
        return ANYTHING
    if not math.isfinite(value):
        return ANYTHING
    if kind is exp.LT or kind is exp.LTE:
        return Within(path, high=int(value) + room, exact=False)
    return Within(path, low=int(value) - room, exact=False)
