"""From a `sqlglot.exp` tree to a Python function over a batch of rows, through Python's `ast`.

Nothing of a condition ever becomes source text: nodes of the tree become nodes of Python's syntax tree, constants and field
names are bound to generated names. Every expression has a value form, which is None for NULL and UNKNOWN; a condition has
besides a *true form*, which holds exactly when the condition is TRUE, and a *false form*, exactly when it is FALSE. WHERE
needs only the true form: AND and OR become Python's `and` and `or`, and NOT changes the form, so that three-valued logic
costs nothing where no value is needed. Comparisons with constants are written out with the check of the value's class.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from sqlglot import exp

from geode_client.conditions import functions, literal_arguments, scalars
from geode_client.conditions.casts import caster
from geode_client.conditions.fields import EVERY
from geode_client.conditions.parameters import plain_value
from geode_client.conditions.paths import (
    PREDICATES,
    bare,
    chain_of,
    every_step,
    every_steps,
    flat,
    is_boolean_call,
    is_path,
    steps_behind,
)
from geode_client.conditions.times import current_date
from geode_client.errors import GqlError, did_you_mean
from geode_client.grammar.ast import Scalar, TypeNode
from geode_client.grammar.source import Span
from geode_client.units import parse_interval
from geode_client.values import (
    EXACT_FLOAT_MAX,
    JSON_NUMBERS,
    CalendarInterval,
    WrittenNumber,
    as_decimal,
    equal,
    finer_digits,
    plain_number,
)

_COMPARE: Mapping[type[exp.Expression], tuple[type[ast.cmpop], Callable[[Any, Any], bool | None]]] = {
    exp.EQ: (ast.Eq, equal),
    exp.NEQ: (ast.NotEq, functions.not_equal),
    exp.LT: (ast.Lt, functions.less),
    exp.LTE: (ast.LtE, functions.less_equal),
    exp.GT: (ast.Gt, functions.greater),
    exp.GTE: (ast.GtE, functions.greater_equal),
}
OPPOSITE: Mapping[type[exp.Expression], type[exp.Expression]] = {
    exp.EQ: exp.NEQ,
    exp.NEQ: exp.EQ,
    exp.LT: exp.GTE,
    exp.GTE: exp.LT,
    exp.GT: exp.LTE,
    exp.LTE: exp.GT,
}
MIRRORED: Mapping[type[exp.Expression], type[exp.Expression]] = {
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
    exp.LT: exp.GT,
    exp.GT: exp.LT,
    exp.LTE: exp.GTE,
    exp.GTE: exp.LTE,
}
_ARITHMETIC: Mapping[type[exp.Expression], Callable[[Any, Any], Any]] = {
    exp.Add: functions.add,
    exp.Sub: functions.subtract,
    exp.Mul: functions.multiply,
    exp.Div: functions.divide,
    exp.Mod: functions.remainder,
    exp.DPipe: functions.concat,
}


class Reference(Protocol):
    """How a path or column is read from a row."""

    def value(self, compiler: "Compiler", node: exp.Expression) -> ast.expr:
        """The Python expression of a Column, Dot or Bracket; raises GqlError for what is not there."""
        ...

    def exists(self, compiler: "Compiler", node: exp.Expression) -> ast.expr: ...

    def is_special(self, node: exp.Expression) -> bool:
        """Whether the value may be something else than JSON."""
        ...

    def type_of(self, node: exp.Expression) -> TypeNode | None:
        """What is declared of a path."""
        ...


class Constant:
    """A value known when the condition is compiled."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Compiler:
    """Compiles expressions over one kind of row; `names` collects what the generated code is bound to."""

    def __init__(self, reference: Reference, parameters: Mapping[str, Any] | None = None) -> None:
        self._reference = reference
        self._parameters = parameters or {}
        # The variables that hold an item of an array, by the path `…[*]` that they stand for.
        self._items: dict[exp.Expression, str] = {}
        self.names: dict[str, Any] = {}

    # ── binding ──
    def bind(self, value: Any) -> ast.expr:
        """A name for a value that is known now."""
        if value is None or value is True or value is False:
            return ast.Constant(value)
        name = f"c{len(self.names)}"
        self.names[name] = value
        return ast.Name(name, ast.Load())

    def call(self, function: Callable[..., Any], *arguments: ast.expr) -> ast.expr:
        return ast.Call(self.bind(function), list(arguments), [])

    def temporary(self, value: ast.expr) -> tuple[ast.expr, ast.expr]:
        """An expression that computes and keeps a value, and one that reads what was kept."""
        name = f"t{len(self.names)}"
        self.names[name] = None
        return ast.NamedExpr(ast.Name(name, ast.Store()), value), ast.Name(name, ast.Load())

    def error(self, message: str, node: exp.Expression, hint: str | None = None) -> GqlError:
        span = node.meta.get("span")
        return GqlError(message, span=span if isinstance(span, Span) else None, hint=hint)

    # ── the three forms ──
    def true_form(self, node: exp.Expression) -> ast.expr:
        """Holds exactly when the condition is TRUE."""
        node = bare(node)
        some = self._some(node)
        if some is not None:
            return ast.Compare(some, [ast.Is()], [ast.Constant(True)])
        match node:
            case exp.And():
                return ast.BoolOp(ast.And(), [self.true_form(part) for part in flat(node, exp.And)])
            case exp.Or():
                return ast.BoolOp(ast.Or(), [self.true_form(part) for part in flat(node, exp.Or)])
            case exp.Not():
                return self.false_form(node.this)
            case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
                return self._holds(type(node), node.this, node.expression)
            case exp.In() if not node.args.get("query"):
                return self._in_true(node)
            case exp.Is():
                return self._is(node)
            case exp.Exists():
                return self._reference.exists(self, node.this)
            case exp.Between() if is_path(bare(node.this)):
                low = self._holds(exp.GTE, node.this, node.args["low"])
                return ast.BoolOp(ast.And(), [low, self._holds(exp.LTE, node.this, node.args["high"])])
            case exp.Boolean():
                return ast.Constant(bool(node.this))
            case _:
                return ast.Compare(self.value(node), [ast.Is()], [ast.Constant(True)])

    def false_form(self, node: exp.Expression) -> ast.expr:
        """Holds exactly when the condition is FALSE."""
        node = bare(node)
        some = self._some(node)
        if some is not None:
            return ast.Compare(some, [ast.Is()], [ast.Constant(False)])
        match node:
            case exp.And():
                return ast.BoolOp(ast.Or(), [self.false_form(part) for part in flat(node, exp.And)])
            case exp.Or():
                return ast.BoolOp(ast.And(), [self.false_form(part) for part in flat(node, exp.Or)])
            case exp.Not():
                return self.true_form(node.this)
            case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
                return self._holds(OPPOSITE[type(node)], node.this, node.expression)
            case exp.Is() | exp.Exists():
                return ast.UnaryOp(ast.Not(), self.true_form(node))
            case exp.Boolean():
                return ast.Constant(not node.this)
            case _:
                return ast.Compare(self.value(node), [ast.Is()], [ast.Constant(False)])

    def value(self, node: exp.Expression) -> ast.expr:
        """The value, None for NULL and UNKNOWN."""
        node = bare(node)
        constant = self.constant(node)
        if constant is not None:
            return self.bind(plain_number(constant.value))
        kind = type(node)
        if kind in _ARITHMETIC:
            return self._chain(node)
        if kind in PREDICATES or is_boolean_call(node):
            some = self._some(node)
            if some is not None:
                return some
        if kind in _COMPARE:
            return self.call(_COMPARE[kind][1], self.operand(node.this), self.operand(node.expression))
        method = _VALUES.get(kind)
        if method is None:
            if isinstance(node, exp.AggFunc):
                raise self.error(
                    f"{kind.__name__.upper()} is an aggregate: it stands in SELECT, HAVING or ORDER BY", node
                )
            raise self.error("this cannot stand in a condition", node)
        return method(self, node)

    # ── constants ──
    def constant(self, node: exp.Expression) -> Constant | None:
        """The value of an expression that does not depend on the row, for the simple ones; else None."""
        node = bare(node)
        match node:
            case exp.Literal():
                return Constant(str(node.this) if node.is_string else _number(str(node.this)))
            case exp.Null():
                return Constant(None)
            case exp.Boolean():
                return Constant(bool(node.this))
            case exp.Parameter():
                return Constant(self._parameter(node))
            case exp.Neg():
                inner = self.constant(node.this)
                return None if inner is None else Constant(functions.negate(inner.value))
            case exp.Interval():
                return Constant(self._interval(node))
            case exp.Cast() | exp.TryCast() if isinstance(node.this, exp.Literal):
                return Constant(self._cast_literal(node))
            case _:
                return None

    def _parameter(self, node: exp.Expression) -> Any:
        name = node.this.name
        if name not in self._parameters:
            hint = (
                did_you_mean(name, self._parameters) or f"give it a value: params={{'{name}': …}}, or --param {name}=…"
            )
            raise self.error(f"parameter ${name} has no value", node, hint)
        return plain_value(self._parameters[name])

    def operand(self, node: exp.Expression) -> ast.expr:
        """The value for a comparison or computation: a number literal keeps the digits that are written."""
        constant = self.constant(node)
        return self.value(node) if constant is None else self.bind(constant.value)

    def _interval(self, node: exp.Expression) -> CalendarInterval | timedelta:
        try:
            return parse_interval(str(node.this.this))
        except GqlError as failure:
            raise self.error(failure.message, node, failure.hint) from failure

    def _cast_literal(self, node: exp.Expression) -> Any:
        kind = node.args["to"].this
        value = _caster(node)(self.constant(node.this).value)  # type: ignore[union-attr]
        if not node.this.is_string or isinstance(node, exp.TryCast):
            return value
        text = str(node.this.this)
        if kind in (exp.DataType.Type.TIMESTAMPTZ, exp.DataType.Type.DATE):
            if value is None:
                raise self.error(f"{text!r} is no time", node, "write TIMESTAMP '2026-01-31T12:00:00Z'")
            if kind is exp.DataType.Type.TIMESTAMPTZ and finer_digits(text):
                raise self.error(f"a TIMESTAMP has microseconds, and {text!r} has finer digits", node)
        elif kind is exp.DataType.Type.UUID and value is None:
            raise self.error(f"{text!r} is no UUID", node)
        return value

    # ── comparisons ──
    def _holds(self, kind: type[exp.Expression], left: exp.Expression, right: exp.Expression) -> ast.expr:
        """Holds exactly when `left kind right` is TRUE."""
        left, right = bare(left), bare(right)
        constant = self.constant(right)
        if constant is None and self.constant(left) is not None:
            left, right, kind = right, left, MIRRORED[kind]
            constant = self.constant(right)
        if constant is not None and is_path(left):
            written_out = self._with_constant(kind, left, constant.value)
            if written_out is not None:
                return written_out
            if constant.value.__class__ in _FLOATS and self._reference.type_of(left) == Scalar("DECIMAL"):
                # What the comparison would make of it for every message.
                compared = self.call(_COMPARE[kind][1], self.value(left), self.bind(as_decimal(constant.value)))
                return ast.Compare(compared, [ast.Is()], [ast.Constant(True)])
        compared = self.call(_COMPARE[kind][1], self.operand(left), self.operand(right))
        return ast.Compare(compared, [ast.Is()], [ast.Constant(True)])

    def _with_constant(self, kind: type[exp.Expression], path: exp.Expression, constant: Any) -> ast.expr | None:
        """A path compared with a constant, written out where the path holds plain JSON values."""
        operator = _COMPARE[kind][0]()
        value = self.value(path)
        if constant is None:
            return ast.Constant(False)
        if self._reference.is_special(path):
            return None
        if constant.__class__ is str and kind is exp.EQ:
            return ast.Compare(value, [ast.Eq()], [self.bind(constant)])
        if constant.__class__ is bool:
            if kind not in (exp.EQ, exp.NEQ):
                return ast.Constant(False)
            return ast.Compare(value, [ast.Is()], [ast.Constant(constant if kind is exp.EQ else not constant)])
        keep, kept = self.temporary(value) if not isinstance(value, ast.Name | ast.Attribute) else (value, value)
        cls = ast.Attribute(keep, "__class__", ast.Load())
        if constant.__class__ is str:
            right_kind: ast.expr = ast.Compare(cls, [ast.Is()], [self.bind(str)])
        elif constant.__class__ in JSON_NUMBERS and _is_small(constant):
            right_kind = ast.Compare(cls, [ast.In()], [self.bind(JSON_NUMBERS)])
        else:
            return None
        return ast.BoolOp(ast.And(), [right_kind, ast.Compare(kept, [operator], [self.bind(constant)])])

    def _in_true(self, node: exp.Expression) -> ast.expr:
        constants = [self.constant(item) for item in node.expressions]
        if is_path(bare(node.this)) and not self._reference.is_special(bare(node.this)) and None not in constants:
            values = [constant.value for constant in constants if constant is not None and constant.value is not None]
            kinds = {value.__class__ for value in values}
            if kinds <= {str}:
                subject = self.value(node.this)
                keep, kept = self.temporary(subject)
                cls = ast.Compare(ast.Attribute(keep, "__class__", ast.Load()), [ast.Is()], [self.bind(str)])
                return ast.BoolOp(ast.And(), [cls, ast.Compare(kept, [ast.In()], [self.bind(frozenset(values))])])
            if kinds <= {str, int, float} and all(_is_small(value) for value in values if value.__class__ is not str):
                keep, kept = self.temporary(self.value(node.this))
                accepted = self.bind(frozenset((str, int, float)))
                cls = ast.Compare(ast.Attribute(keep, "__class__", ast.Load()), [ast.In()], [accepted])
                return ast.BoolOp(ast.And(), [cls, ast.Compare(kept, [ast.In()], [self.bind(frozenset(values))])])
        return ast.Compare(self._in_value(node), [ast.Is()], [ast.Constant(True)])

    def _in_value(self, node: exp.Expression) -> ast.expr:
        if node.args.get("query"):
            raise self.error("a sub-query cannot stand in a condition yet", node)
        constants = [self.constant(item) for item in node.expressions]
        if None not in constants:
            items = tuple(constant.value for constant in constants if constant is not None)
            return self.call(functions.in_constants(items), self.value(node.this))
        return self.call(functions.in_list, self.operand(node.this), *[self.operand(item) for item in node.expressions])

    def _is(self, node: exp.Expression) -> ast.expr:
        match node.expression:
            case exp.Null():
                return ast.Compare(self.value(node.this), [ast.Is()], [ast.Constant(None)])
            case exp.Boolean(this=True):
                return self.true_form(node.this)
            case exp.Boolean():
                return self.false_form(node.this)
            case _:
                truth = self.call(functions.truth, self.value(node.this))
                return ast.Compare(truth, [ast.Is()], [ast.Constant(None)])

    # ── values of single kinds of nodes ──
    def _chain(self, node: exp.Expression) -> ast.expr:
        links: list[tuple[Callable[[Any, Any], Any], exp.Expression]] = []
        inner = node
        while type(inner) in _ARITHMETIC:
            links.append((_ARITHMETIC[type(inner)], inner.expression))
            inner = bare(inner.this)
        first = self.operand(inner)
        if len(links) == 1:
            return self.call(links[0][0], first, self.operand(links[0][1]))
        arguments = [first]
        for function, right in reversed(links):
            arguments += [self.bind(function), self.operand(right)]
        return self.call(functions.fold, *arguments)

    def _path(self, node: exp.Expression) -> ast.expr:
        every = every_step(node)
        if every is None:
            return self._reference.value(self, node)
        item = self._items.get(every)
        steps = steps_behind(node, every)
        if item is not None:
            return self.stepped(ast.Name(item, ast.Load()), steps)
        if every_step(every.this) is None:
            return self.call(functions.stepped, self._path(every.this), self.bind((EVERY, *steps)))
        outer = every_step(every.this)
        assert outer is not None
        whole = (EVERY, *steps_behind(every.this, outer), EVERY, *steps)
        base = self._items.get(outer)
        if base is not None:
            return self.call(functions.stepped, ast.Name(base, ast.Load()), self.bind(whole[1:]))
        head, more = outer, whole
        while (further := every_step(head.this)) is not None:
            more = (EVERY, *steps_behind(head.this, further), *more)
            head = further
        return self.call(functions.stepped, self._path(head.this), self.bind(more))

    def stepped(self, made: ast.expr, steps: Sequence[Any]) -> ast.expr:
        """The value at the end of some steps."""
        for step in steps:
            function = functions.step_name if isinstance(step, str) else functions.step_index
            made = self.call(function, made, self.bind(step))
        return made

    # ── some element ──
    def _some(self, node: exp.Expression) -> ast.expr | None:
        """A condition on the items of an array: TRUE if it is of one of them. None where it has no path with `[*]`."""
        is_condition = type(node) in PREDICATES or is_path(node) or is_boolean_call(node)
        if not is_condition:
            return None
        everies = [every for every in every_steps(node) if every not in self._items]
        if not everies:
            return None
        chain = chain_of(everies)
        if chain is None:
            raise self.error("a condition looks at the items of one array: [*] of two arrays cannot be combined", node)
        generators: list[ast.comprehension] = []
        kept = dict(self._items)
        for every in chain:
            name = f"e{len(self.names)}"
            self.names[name] = None
            source = self.call(functions.elements, self._path(every.this))
            self._items[every] = name
            generators.append(ast.comprehension(ast.Name(name, ast.Store()), source, [], 0))
        truth = self.value(node)
        self._items = kept
        return self.call(functions.some, ast.GeneratorExp(truth, generators))

    def truth(self, node: exp.Expression) -> ast.expr:
        """A part of a condition as a value."""
        some = self._some(bare(node))
        return self.value(node) if some is None else some

    def _logic(self, node: exp.Expression) -> ast.expr:
        kind = type(node)
        function = functions.and3 if kind is exp.And else functions.or3
        parts = [self.truth(part) for part in flat(node, kind)]
        return self.call(function, *parts)

    def _not(self, node: exp.Expression) -> ast.expr:
        return self.call(functions.not3, self.truth(node.this))

    def _two_valued(self, node: exp.Expression) -> ast.expr:
        return self.true_form(node)

    def _between(self, node: exp.Expression) -> ast.expr:
        low, high = self.operand(node.args["low"]), self.operand(node.args["high"])
        return self.call(functions.between, self.operand(node.this), low, high)

    def _like(self, node: exp.Expression, escape: str | None = None) -> ast.expr:
        subject, pattern = self.value(node.this), self.value(node.expression)
        fold = isinstance(node, exp.ILike)
        return self.call(functions.like, subject, pattern, self.bind(escape), ast.Constant(fold))

    def _escape(self, node: exp.Expression) -> ast.expr:
        return self._like(node.this, str(node.expression.this))

    def _negative(self, node: exp.Expression) -> ast.expr:
        return self.call(functions.negate, self.value(node.this))

    def _case(self, node: exp.Expression) -> ast.expr:
        operand = node.args.get("this")
        keep = kept = None
        if operand is not None:
            keep, kept = self.temporary(self.value(operand))
        default = node.args.get("default")
        made: ast.expr = ast.Constant(None) if default is None else self.value(default)
        branches: list[tuple[ast.expr, ast.expr]] = []
        for index, branch in enumerate(node.args["ifs"]):
            if kept is None:
                test = self.true_form(branch.this)
            else:
                subject = keep if index == 0 else kept
                assert subject is not None
                same = self.call(equal, subject, self.operand(branch.this))
                test = ast.Compare(same, [ast.Is()], [ast.Constant(True)])
            branches.append((test, self.value(branch.args["true"])))
        for test, value in reversed(branches):
            made = ast.IfExp(test, value, made)
        return made

    def _function(self, node: exp.Expression) -> ast.expr:
        name = str(node.this)
        if name in ("NOW", "CURRENT_TIMESTAMP"):
            return ast.Name("now", ast.Load())
        if name == "CURRENT_DATE":
            return self.call(current_date, ast.Name("now", ast.Load()))
        constants = [self.constant(argument) for argument in node.expressions]
        wrong = literal_arguments.mistake(name, [None if one is None else (one.value,) for one in constants])
        if wrong is not None:
            place, message, hint = wrong
            raise self.error(message, node.expressions[place], hint)
        made = self.operand if name in scalars.EXACT_LITERALS else self.value
        return self.call(scalars.SCALARS[name], *[made(argument) for argument in node.expressions])

    def _cast(self, node: exp.Expression) -> ast.expr:
        return self.call(_caster(node), self.operand(node.this))

    def _distinct(self, node: exp.Expression) -> ast.expr:
        function = functions.distinct if isinstance(node, exp.NullSafeNEQ) else functions.not_distinct
        return self.call(function, self.operand(node.this), self.operand(node.expression))


_VALUES: Mapping[type[exp.Expression], Callable[[Compiler, Any], ast.expr]] = {
    exp.Column: Compiler._path,
    exp.Dot: Compiler._path,
    exp.Bracket: Compiler._path,
    exp.And: Compiler._logic,
    exp.Or: Compiler._logic,
    exp.Not: Compiler._not,
    exp.Is: Compiler._two_valued,
    exp.Exists: Compiler._two_valued,
    exp.NullSafeEQ: Compiler._distinct,
    exp.NullSafeNEQ: Compiler._distinct,
    exp.In: Compiler._in_value,
    exp.Between: Compiler._between,
    exp.Like: Compiler._like,
    exp.ILike: Compiler._like,
    exp.Escape: Compiler._escape,
    exp.Neg: Compiler._negative,
    exp.Case: Compiler._case,
    exp.Anonymous: Compiler._function,
    exp.Cast: Compiler._cast,
    exp.TryCast: Compiler._cast,
}


_FLOATS = frozenset((float, WrittenNumber))


def _is_small(number: float) -> bool:
    """Whether Python compares a number with every other one as the language does."""
    return -EXACT_FLOAT_MAX < number < EXACT_FLOAT_MAX


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else WrittenNumber.of(text)


def _caster(node: exp.Expression) -> Callable[[Any], Any]:
    to = node.args["to"]
    digits = tuple(int(str(size.this)) for size in to.expressions)
    return caster(to.this.name, (digits[0], digits[1]) if len(digits) == 2 else None)
