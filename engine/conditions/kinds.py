"""What can be known of an expression before it meets a message: comparisons and functions that can never have a result.

Only declared columns are judged. What a schema does not declare may be anything, and compares as UNKNOWN where it does not
fit. Knows nothing of how paths are read: `Kinds` is told what is declared of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID as UuidValue

from sqlglot import exp

from geode_client.errors import GqlError
from geode_client.grammar.ast import ListType, MapType, Scalar, StructType, TypeNode
from geode_client.grammar.functions import (
    ARRAY,
    BOOLEAN,
    FUNCTIONS,
    INTERVAL,
    NUMBER,
    OBJECT,
    TEXT,
    TIME,
    UUID,
)
from geode_client.grammar.unparse_expressions import unparse_expression
from geode_client.grammar.written import type_text
from geode_client.values import CalendarInterval, WrittenNumber, parse_timestamp, parse_uuid

_OF_SCALAR: Mapping[str, str] = {
    **dict.fromkeys(("STRING", "BYTES"), TEXT),
    **dict.fromkeys(("INT", "FLOAT", "DECIMAL"), NUMBER),
    **dict.fromkeys(("TIMESTAMP", "DATE"), TIME),
    "UUID": UUID,
    "BOOL": BOOLEAN,
}
_OF_CAST: Mapping[str, str] = {
    **dict.fromkeys(("TEXT", "VARBINARY"), TEXT),
    **dict.fromkeys(("BIGINT", "DOUBLE", "DECIMAL"), NUMBER),
    **dict.fromkeys(("TIMESTAMPTZ", "DATE"), TIME),
    "UUID": UUID,
    "BOOLEAN": BOOLEAN,
}
_OF_VALUE: Mapping[type, str] = {
    bool: BOOLEAN,
    **dict.fromkeys((int, float, Decimal, WrittenNumber), NUMBER),
    str: TEXT,
    **dict.fromkeys((datetime, date), TIME),
    **dict.fromkeys((timedelta, CalendarInterval), INTERVAL),
    UuidValue: UUID,
    list: ARRAY,
    dict: OBJECT,
}
# Kinds that text is read as, and whether a text can be.
_READ_FROM_TEXT: Mapping[str, Callable[[str], Any]] = {TIME: parse_timestamp, UUID: parse_uuid}
_ORDERING = (exp.LT, exp.LTE, exp.GT, exp.GTE)
_COMPARING = (exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ, *_ORDERING)
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
_TEXT = frozenset((TEXT,))
_NUMBERS = frozenset((NUMBER,))


@dataclass(frozen=True, slots=True)
class Kind:
    """What kind of value an expression has (None: not known), and the words for a declared column that it is."""

    kind: str | None = None
    column: str | None = None


UNKNOWN = Kind()


def of_column(name: str, declared: TypeNode | None) -> Kind:
    """The kind of a column with a declared type."""
    kind = _of_type(declared)
    if kind is None or declared is None:
        return UNKNOWN
    return Kind(kind, f"column {name} is {type_text(declared)}")


def _of_type(declared: TypeNode | None) -> str | None:
    match declared:
        case None:
            return None
        case Scalar(name):
            return _OF_SCALAR.get(name)
        case ListType():
            return ARRAY
        case MapType() | StructType():
            return OBJECT


class Kinds:
    """Judges expressions. `of_path` tells what is known of a path, and gives None for any other node; `constant` gives the
    value of a node that does not depend on a row, in a record with a `value`, else None."""

    def __init__(
        self,
        of_path: Callable[[exp.Expression], Kind | None],
        constant: Callable[[exp.Expression], Any],
        shown: Callable[[exp.Expression], str] = unparse_expression,
    ) -> None:
        self._of_path = of_path
        self._constant = constant
        self._shown = shown

    def check(self, tree: exp.Expression) -> None:
        """Raise GqlError for the first part that can never have a result because of a declared column."""
        for node in tree.walk():
            self._check_node(node)  # type: ignore[arg-type,unused-ignore]

    def _check_node(self, node: exp.Expression) -> None:
        match node:
            case exp.Between():
                self._compare(node.this, node.args["low"], ordering=True)
                self._compare(node.this, node.args["high"], ordering=True)
            case exp.In():
                for item in node.expressions:
                    self._compare(node.this, item, ordering=False)
            case exp.Like() | exp.ILike() | exp.DPipe():
                for side in (node.this, node.expression):
                    self._expect(side, _TEXT, "||" if isinstance(node, exp.DPipe) else "LIKE")
            case exp.Anonymous():
                self._check_function(node)
            case _ if isinstance(node, _COMPARING):
                self._compare(node.this, node.expression, ordering=isinstance(node, _ORDERING))
            case exp.Mul() | exp.Div():
                for side in (node.this, node.expression):
                    self._expect(side, frozenset((NUMBER, INTERVAL)), "arithmetic")
            case exp.Mod():
                for side in (node.this, node.expression):
                    self._expect(side, _NUMBERS, "arithmetic")
            case exp.Add() | exp.Sub():
                for side in (node.this, node.expression):
                    self._expect(side, frozenset((NUMBER, TIME, INTERVAL)), "arithmetic")
            case _:
                pass

    def _check_function(self, node: exp.Expression) -> None:
        function = FUNCTIONS.get(str(node.this))
        if function is None:
            return
        for place, argument in enumerate(node.expressions):
            kinds = function.kinds_at(place)
            if kinds:
                self._expect(argument, kinds, function.name)

    def _expect(self, node: exp.Expression, kinds: frozenset[str], what: str) -> None:
        found = self.of(node)
        if found.column is not None and found.kind is not None and found.kind not in kinds:
            raise _error(f"{what} takes {' or '.join(sorted(kinds))}; {found.column}", node)

    def _compare(self, left: exp.Expression, right: exp.Expression, *, ordering: bool) -> None:
        a, b = self.of(left), self.of(right)
        if not (a.column or b.column) or a.kind is None or b.kind is None:
            return
        if a.kind == b.kind:
            if a.kind in (ARRAY, OBJECT) or (ordering and a.kind == BOOLEAN):
                what = "only = and <> apply to a boolean" if a.kind == BOOLEAN else f"{a.kind} compares with nothing"
                raise _error(f"{(a.column or b.column)}: {what}", left if a.column else right)
            return
        for one, other, text in ((a, b, right), (b, a, left)):
            if (
                one.kind is not None
                and one.kind in _READ_FROM_TEXT
                and other.kind == TEXT
                and self._may_be_read(text, one.kind)
            ):
                return
        named, other, side = (a, b, right) if a.column else (b, a, left)
        place = left if a.column else right
        if other.column is not None:
            raise _error(f"{named.column} and {other.column}: comparing them is never true", place)
        raise _error(f"{named.column}: comparing it with {self._shown(side):.80} is never true", place)

    def _may_be_read(self, text: exp.Expression, kind: str) -> bool:
        """Whether a text may be a time or a UUID: any may that is not known yet."""
        constant = self._constant(text)
        return constant is None or _READ_FROM_TEXT[kind](constant.value) is not None

    def of(self, node: exp.Expression) -> Kind:
        """The kind of an expression's values."""
        while isinstance(node, exp.Paren):
            node = node.this
        found = self._of_path(node)
        if found is not None:
            return found
        constant = self._constant(node)
        if constant is not None:
            return Kind(_OF_VALUE.get(constant.value.__class__))
        match node:
            case exp.Cast() | exp.TryCast():
                return Kind(_OF_CAST.get(node.args["to"].this.name))
            case exp.DPipe():
                return Kind(TEXT)
            case exp.Anonymous():
                function = FUNCTIONS.get(str(node.this))
                return UNKNOWN if function is None else Kind(function.result)
            case exp.Mod():
                return Kind(NUMBER)
            case exp.Add() | exp.Sub() | exp.Neg() | exp.Mul() | exp.Div():
                kinds = {self.of(part).kind for part in _operands(node)}
                return Kind(NUMBER if kinds == {NUMBER} else None)
            case _ if isinstance(node, _TRUTHS):
                return Kind(BOOLEAN)
            case _:
                return UNKNOWN


def _operands(node: exp.Expression) -> Sequence[exp.Expression]:
    return [node.this] if isinstance(node, exp.Neg) else [node.this, node.expression]


def _error(message: str, node: exp.Expression) -> GqlError:
    return GqlError(message, span=node.meta.get("span"))
