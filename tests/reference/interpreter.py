"""What a condition means, said once more and as plainly as possible: a walk over the tree, one message at a time.

Shares nothing with the compiler but the tree and the parser of ISO times. None is NULL and UNKNOWN.
"""

import json
import math
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from sqlglot import exp

from geode_client.units import parse_interval
from geode_client.values import parse_timestamp

MISSING = object()
TEXT_MAX = 1024 * 1024
BITS_MAX = 8192


class Written(float):
    """A number literal that no float has the digits of."""

    exact: Decimal


def exactly(value: Any) -> Fraction:
    """The number that counts: of a float what its shortest text says."""
    if isinstance(value, Written):
        return Fraction(float(value)) if value.exact is None else Fraction(value.exact)
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def evaluate(tree: exp.Expression, message: Any, parameters: Mapping[str, Any] | None = None) -> bool | None:
    """TRUE, FALSE or UNKNOWN for one decoded message."""
    found = Interpreter(message, parameters or {}).value(tree)
    return found if isinstance(found, bool) else None


def is_predicate(node: exp.Expression) -> bool:
    """Whether a node is a condition that looks at an array item by item."""
    kinds = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.In, exp.Between, exp.Escape, exp.Is)
    if isinstance(node, exp.Anonymous):
        return str(node.this) in ("STARTS_WITH", "ENDS_WITH", "CONTAINS")
    inside_escape = isinstance(node, exp.Like | exp.ILike) and not isinstance(node.parent, exp.Escape)
    above = node.parent
    while isinstance(above, exp.Paren):
        above = above.parent
    return isinstance(node, kinds) or inside_escape or (is_path(node) and isinstance(above, PLACES))


def is_path(node: Any) -> bool:
    return isinstance(node, exp.Column | exp.Dot | exp.Bracket)


PLACES = (exp.And, exp.Or, exp.Not, type(None))


def every_paths(node: exp.Expression) -> list[exp.Expression]:
    """The paths that end with [*] in a condition, but not in conditions inside it."""
    found: list[exp.Expression] = []
    for bracket in node.find_all(exp.Bracket):
        if not isinstance(bracket.expressions[0], exp.Star):
            continue
        above: Any = bracket
        while above is not node and not (above is not bracket and (is_predicate(above) or isinstance(above, PLACES))):
            above = above.parent
        if above is node:
            found.append(bracket)
    return found


class Interpreter:
    """One message under one condition."""

    def __init__(self, message: Any, parameters: Mapping[str, Any]) -> None:
        self.message = message
        self.parameters = parameters
        # The item of an array that a condition is looking at, by its path with [*].
        self.items: dict[exp.Expression, Any] = {}

    def value(self, node: exp.Expression) -> Any:
        if is_predicate(node):
            every = next((one for one in every_paths(node) if one not in self.items), None)
            if every is not None:
                return self.some(node, every)
        method = getattr(self, f"visit_{type(node).__name__.lower()}")
        return method(node)

    def truth(self, node: exp.Expression) -> bool | None:
        found = self.value(node)
        return found if isinstance(found, bool) else None

    # ── leaves ──
    def visit_paren(self, node: exp.Expression) -> Any:
        return self.value(node.this)

    def visit_literal(self, node: exp.Expression) -> Any:
        text = str(node.this)
        if node.is_string:
            return text
        if text.isdigit():
            return int(text)
        made = Written(text)
        made.exact = Decimal(text)
        return made if Fraction(repr(float(text))) != Fraction(text) else float(text)

    def visit_null(self, node: exp.Expression) -> Any:
        return None

    def visit_boolean(self, node: exp.Expression) -> Any:
        return bool(node.this)

    def visit_parameter(self, node: exp.Expression) -> Any:
        return self.parameters[node.this.name]

    def visit_interval(self, node: exp.Expression) -> Any:
        return parse_interval(str(node.this.this))

    def visit_column(self, node: exp.Expression) -> Any:
        return None if (found := self.at(node)) is MISSING else found

    visit_dot = visit_bracket = visit_column

    def at(self, node: exp.Expression) -> Any:
        """What stands at a path; MISSING where nothing does."""
        if isinstance(node, exp.Column):
            whole = self.message
            step: Any = node.name
            if step == "value" and not isinstance(whole, dict):
                return whole
        elif isinstance(node, exp.Dot):
            whole, step = self.at(node.this), node.expression.name
        else:
            whole, literal = self.at(node.this), node.expressions[0]
            if isinstance(literal, exp.Star):
                return self.items[node]
            step = str(literal.this) if literal.is_string else int(literal.this)
        if isinstance(step, str):
            return whole.get(step, MISSING) if isinstance(whole, dict) else MISSING
        return whole[step] if isinstance(whole, list) and 0 <= step < len(whole) else MISSING

    def visit_exists(self, node: exp.Expression) -> bool:
        every = next((one for one in every_paths(node) if one not in self.items), None)
        if every is None:
            return self.at(node.this) is not MISSING
        whole = self.at(every.this)
        found = False
        for item in whole if isinstance(whole, list) else []:
            self.items[every] = item
            found = found or self.visit_exists(node)
            del self.items[every]
        return found

    # ── logic ──
    def visit_and(self, node: exp.Expression) -> Any:
        sides = (self.truth(node.this), self.truth(node.expression))
        return False if False in sides else None if None in sides else True

    def visit_or(self, node: exp.Expression) -> Any:
        sides = (self.truth(node.this), self.truth(node.expression))
        return True if True in sides else None if None in sides else False

    def visit_not(self, node: exp.Expression) -> Any:
        inner = self.truth(node.this)
        return None if inner is None else not inner

    def visit_nullsafeneq(self, node: exp.Expression) -> bool:
        left, right = self.value(node.this), self.value(node.expression)
        if left is None or right is None:
            return (left is None) != (right is None)
        return not self.alike(left, right)

    def alike(self, left: Any, right: Any) -> bool:
        """Lists and objects do not compare, but are alike where what they hold is."""
        if isinstance(left, list) and isinstance(right, list):
            return len(left) == len(right) and all(map(self.alike, left, right))
        if isinstance(left, dict) and isinstance(right, dict):
            return left.keys() == right.keys() and all(self.alike(left[name], right[name]) for name in left)
        return (left is None and right is None) or self.equal(left, right) is True

    def visit_nullsafeeq(self, node: exp.Expression) -> bool:
        return not self.visit_nullsafeneq(node)

    def visit_is(self, node: exp.Expression) -> bool:
        match node.expression:
            case exp.Null():
                return self.value(node.this) is None
            case exp.Boolean(this=wanted):
                return self.truth(node.this) is bool(wanted)
            case _:
                return self.truth(node.this) is None

    # ── comparing ──
    def order(self, left: Any, right: Any) -> int | None:
        if is_number(left) and is_number(right):
            # The digits of a literal count beside a decimal and beside another such literal.
            beside = (Decimal, Written)
            a = exactly(left) if isinstance(right, beside) or not isinstance(left, Written) else exactly(float(left))
            b = exactly(right) if isinstance(left, beside) or not isinstance(right, Written) else exactly(float(right))
            return (a > b) - (a < b)
        if isinstance(left, str) and isinstance(right, str):
            return (left > right) - (left < right)
        if isinstance(left, date | datetime) or isinstance(right, date | datetime):
            first, second = moment_of(left), moment_of(right)
            return None if first is None or second is None else (first > second) - (first < second)
        if isinstance(left, uuid.UUID) or isinstance(right, uuid.UUID):
            one, other = uuid_of(left), uuid_of(right)
            return None if one is None or other is None else (one > other) - (one < other)
        if isinstance(left, timedelta) and isinstance(right, timedelta):
            return (left > right) - (left < right)
        return None

    def equal(self, left: Any, right: Any) -> bool | None:
        if isinstance(left, bool) and isinstance(right, bool):
            return left == right
        found = self.order(left, right)
        return None if found is None else found == 0

    def sides(self, node: exp.Expression) -> tuple[Any, Any]:
        return self.value(node.this), self.value(node.expression)

    def visit_eq(self, node: exp.Expression) -> Any:
        return self.equal(*self.sides(node))

    def visit_neq(self, node: exp.Expression) -> Any:
        same = self.equal(*self.sides(node))
        return None if same is None else not same

    def visit_lt(self, node: exp.Expression) -> Any:
        found = self.order(*self.sides(node))
        return None if found is None else found < 0

    def visit_lte(self, node: exp.Expression) -> Any:
        found = self.order(*self.sides(node))
        return None if found is None else found <= 0

    def visit_gt(self, node: exp.Expression) -> Any:
        found = self.order(*self.sides(node))
        return None if found is None else found > 0

    def visit_gte(self, node: exp.Expression) -> Any:
        found = self.order(*self.sides(node))
        return None if found is None else found >= 0

    def visit_between(self, node: exp.Expression) -> Any:
        value, low, high = self.value(node.this), self.value(node.args["low"]), self.value(node.args["high"])
        above, below = self.order(value, low), self.order(value, high)
        parts = (None if above is None else above >= 0, None if below is None else below <= 0)
        return False if False in parts else None if None in parts else True

    def visit_in(self, node: exp.Expression) -> Any:
        value = self.value(node.this)
        found = [self.equal(value, self.value(item)) for item in node.expressions]
        return True if True in found else None if None in found else False

    def visit_like(self, node: exp.Expression, escape: str | None = None) -> Any:
        text, pattern = self.sides(node)
        if not isinstance(text, str) or not isinstance(pattern, str):
            return None
        if isinstance(node, exp.ILike):
            text, pattern = text.lower(), pattern.lower()
        return like(text, pattern, escape)

    visit_ilike = visit_like

    def visit_escape(self, node: exp.Expression) -> Any:
        return self.visit_like(node.this, str(node.expression.this))

    # ── computing ──
    def visit_neg(self, node: exp.Expression) -> Any:
        value = self.value(node.this)
        if isinstance(value, Decimal):
            return value.copy_negate()
        if isinstance(value, Written):
            made = Written(-float(value))
            made.exact = value.exact.copy_negate()
            return made
        return -value if is_number(value) or isinstance(value, timedelta) else None

    def visit_add(self, node: exp.Expression) -> Any:
        left, right = self.sides(node)
        if isinstance(left, timedelta) and isinstance(right, timedelta):
            return bounded_times(lambda: left + right)
        if isinstance(right, timedelta) and isinstance(left, date):
            return bounded_times(lambda: moment_of(left) + right)
        if isinstance(left, timedelta) and isinstance(right, date):
            return bounded_times(lambda: moment_of(right) + left)
        return arithmetic(left, right, lambda a, b: a + b)

    def visit_sub(self, node: exp.Expression) -> Any:
        left, right = self.sides(node)
        if isinstance(right, timedelta):
            if isinstance(left, timedelta):
                return bounded_times(lambda: left - right)
            return bounded_times(lambda: moment_of(left) - right) if isinstance(left, date) else None
        if isinstance(left, date) or isinstance(right, date):
            first, second = moment_of(left), moment_of(right)
            return None if first is None or second is None else first - second
        return arithmetic(left, right, lambda a, b: a - b)

    def visit_mul(self, node: exp.Expression) -> Any:
        left, right = self.sides(node)
        if isinstance(left, timedelta) or isinstance(right, timedelta):
            interval, factor = (left, right) if isinstance(left, timedelta) else (right, left)
            return scaled(interval, exactly(factor)) if is_number(factor) else None
        return arithmetic(left, right, lambda a, b: a * b)

    def visit_div(self, node: exp.Expression) -> Any:
        left, right = self.sides(node)
        if isinstance(left, timedelta):
            return scaled(left, 1 / exactly(right)) if is_number(right) and exactly(right) else None
        if isinstance(left, int) and isinstance(right, int) and right and left % right == 0:
            return arithmetic(left, right, lambda a, b: a // b)
        return arithmetic(left, right, lambda a, b: a / b, digits=28)

    def visit_mod(self, node: exp.Expression) -> Any:
        return self._rest(*self.sides(node))

    def _rest(self, left: Any, right: Any) -> Any:
        def rest(a: Any, b: Any) -> Any:
            if isinstance(a, int) and isinstance(b, int):
                return int(math.copysign(1, a)) * (abs(a) % abs(b))
            if isinstance(a, Fraction):
                return a - b * int(a / b)
            return math.fmod(a, b)

        return arithmetic(left, right, rest)

    def visit_dpipe(self, node: exp.Expression) -> Any:
        left, right = self.sides(node)
        if not isinstance(left, str) or not isinstance(right, str) or len(left) + len(right) > TEXT_MAX:
            return None
        return left + right

    def visit_case(self, node: exp.Expression) -> Any:
        operand = node.args.get("this")
        for branch in node.args["ifs"]:
            if operand is None:
                chosen = self.truth(branch.this)
            else:
                chosen = self.equal(self.value(operand), self.value(branch.this))
            if chosen is True:
                return self.value(branch.args["true"])
        default = node.args.get("default")
        return None if default is None else self.value(default)

    # ── functions ──
    def visit_anonymous(self, node: exp.Expression) -> Any:
        arguments = [self.value(argument) for argument in node.expressions]
        return getattr(self, f"call_{str(node.this).lower()}")(*arguments)

    def call_lower(self, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else None

    def call_upper(self, value: Any) -> Any:
        return value.upper() if isinstance(value, str) and len(value.upper()) <= TEXT_MAX else None

    def call_length(self, value: Any) -> Any:
        return len(value) if isinstance(value, str | list) else None

    def call_trim(self, value: Any) -> Any:
        return value.strip() if isinstance(value, str) else None

    def call_starts_with(self, value: Any, part: Any) -> Any:
        return value[: len(part)] == part if isinstance(value, str) and isinstance(part, str) else None

    def call_ends_with(self, value: Any, part: Any) -> Any:
        if not isinstance(value, str) or not isinstance(part, str):
            return None
        return len(part) <= len(value) and value[len(value) - len(part) :] == part

    def call_contains(self, value: Any, part: Any) -> Any:
        if isinstance(value, str):
            return part in value if isinstance(part, str) else None
        if isinstance(value, list) and part is not None:
            found = [self.equal(part, item) for item in value]
            return True if True in found else None if None in found else False
        return None

    def call_substr(self, value: Any, start: Any, length: Any = 10**9) -> Any:
        if not isinstance(value, str) or not is_whole(start) or not is_whole(length) or length < 0:
            return None
        # Places are counted from 1; those before the first count towards the length. From the end where negative.
        begin = start if start >= 0 else max(len(value) + start + 1, 1)
        return "".join(c for place, c in enumerate(value, start=1) if begin <= place < begin + length)

    def call_date_trunc(self, unit: Any, value: Any) -> Any:
        moment = moment_of(value)
        forms = {
            "microsecond": None,
            "millisecond": "ms",
            "second": "%Y-%m-%dT%H:%M:%S",
            "minute": "%Y-%m-%dT%H:%M:00",
            "hour": "%Y-%m-%dT%H:00:00",
            "day": "%Y-%m-%dT00:00:00",
            "week": "",
            "month": "%Y-%m-01T00:00:00",
            "quarter": "quarter",
            "year": "%Y-01-01T00:00:00",
        }
        if moment is None or not isinstance(unit, str) or unit.lower() not in forms:
            return None
        utc = moment.astimezone(UTC)
        if unit.lower() == "week":
            monday = utc.date() - timedelta(days=utc.weekday())
            return datetime(monday.year, monday.month, monday.day, tzinfo=UTC)
        if unit.lower() == "quarter":
            return datetime(utc.year, (utc.month - 1) // 3 * 3 + 1, 1, tzinfo=UTC)
        if unit.lower() == "millisecond":
            return utc - timedelta(microseconds=utc.microsecond % 1000)
        form = forms[unit.lower()]
        return utc if form is None else datetime.fromisoformat(utc.strftime(form)).replace(tzinfo=UTC)

    def call_replace(self, value: Any, old: Any, new: Any) -> Any:
        if not all(isinstance(one, str) for one in (value, old, new)):
            return None
        made = value.replace(old, new) if old else value
        return made if len(made) <= TEXT_MAX else None

    def call_coalesce(self, *values: Any) -> Any:
        return next((value for value in values if value is not None), None)

    def call_nullif(self, value: Any, other: Any) -> Any:
        return None if self.equal(value, other) else value

    def call_abs(self, value: Any) -> Any:
        return abs(value) if is_number(value) else None

    def call_floor(self, value: Any) -> Any:
        return math.floor(value) if is_number(value) else None

    def call_ceil(self, value: Any) -> Any:
        return math.ceil(value) if is_number(value) else None

    def call_round(self, value: Any, digits: Any = 0) -> Any:
        if not is_number(value) or not isinstance(digits, int) or isinstance(digits, bool):
            return None
        exact = Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
        scaled = exact * Fraction(10) ** digits
        whole = math.floor(abs(scaled) + Fraction(1, 2)) * (1 if scaled >= 0 else -1)
        made = whole / Fraction(10) ** digits
        try:
            return float(made) if isinstance(value, float) else int(made)
        except OverflowError:
            return None

    def call_least(self, *values: Any) -> Any:
        return self._extreme(values, -1)

    def call_greatest(self, *values: Any) -> Any:
        return self._extreme(values, 1)

    def _extreme(self, values: tuple[Any, ...], sign: int) -> Any:
        there = [value for value in values if value is not None]
        best = there[0] if there else None
        for value in there[1:]:
            found = self.order(value, best)
            if found is None:
                return None
            best = value if found == sign else best
        if isinstance(best, Written):
            return best.exact if any(isinstance(value, Decimal) for value in there) else float(best)
        return best

    def call_ifnull(self, value: Any, other: Any) -> Any:
        return other if value is None else value

    def call_mod(self, value: Any, other: Any) -> Any:
        return self._rest(value, other)

    def call_concat(self, *values: Any) -> Any:
        return self.call_concat_ws("", *values)

    def call_concat_ws(self, separator: Any, *values: Any) -> Any:
        texts = [text_of(value) for value in values if value is not None]
        if not isinstance(separator, str) or None in texts:
            return None
        made = separator.join(texts)
        return made if len(made) <= TEXT_MAX else None

    def call_split(self, value: Any, separator: Any) -> Any:
        if not isinstance(value, str) or not isinstance(separator, str):
            return None
        return value.split(separator) if separator else [*value]

    def call_typeof(self, value: Any) -> str:
        names: tuple[tuple[Any, str], ...] = (
            *(
                (type(None), "NULL"),
                (bool, "BOOL"),
                (int, "INT"),
                (float, "FLOAT"),
                (Decimal, "DECIMAL"),
                (str, "STRING"),
            ),
            *((datetime, "TIMESTAMP"), (date, "DATE"), (timedelta, "INTERVAL"), (uuid.UUID, "UUID")),
            *((list, "LIST"), (dict, "MAP")),
        )
        return next(name for kind, name in names if isinstance(value, kind))

    def call_extract(self, part: Any, value: Any) -> Any:
        moment = moment_of(value)
        if moment is None:
            return None
        utc = moment.astimezone(UTC)
        monday = int(utc.strftime("%u"))
        return {
            "year": utc.year,
            "quarter": -(-utc.month // 3),
            "month": utc.month,
            "week": int(utc.strftime("%V")),
            "day": utc.day,
            "dow": monday % 7,
            "isodow": monday,
            "doy": (utc.date() - date(utc.year, 1, 1)).days + 1,
            "hour": utc.hour,
            "minute": utc.minute,
            "second": utc.second,
            "epoch": self.call_epoch(utc),
        }[part]

    def call_epoch(self, value: Any) -> Any:
        span = value if isinstance(value, timedelta) else None
        if span is None:
            moment = moment_of(value)
            if moment is None:
                return None
            span = moment - datetime(1970, 1, 1, tzinfo=UTC)
        seconds = Fraction(span // timedelta(microseconds=1), 1_000_000)
        return int(seconds) if seconds.denominator == 1 else float(seconds)

    # ── some element ──
    def some(self, node: exp.Expression, every: exp.Expression) -> bool | None:
        """What a condition is of the items of an array: TRUE if of one, FALSE if of all or none, else UNKNOWN."""
        whole = self.at(every.this)
        found: list[Any] = []
        for item in whole if isinstance(whole, list) else [None]:
            self.items[every] = item
            found.append(self.truth(node))
            del self.items[every]
        return True if True in found else None if None in found else False

    # ── casts ──
    def visit_cast(self, node: exp.Expression) -> Any:
        value = self.value(node.this)
        try:
            return getattr(self, f"to_{node.args['to'].this.name.lower()}")(value)
        except (ValueError, ArithmeticError):
            return None

    visit_trycast = visit_cast

    def to_text(self, value: Any) -> Any:
        return text_of(value)

    def to_bigint(self, value: Any) -> Any:
        if isinstance(value, str):
            return int(value.strip()) if "_" not in value else None
        return int(value) if isinstance(value, int | float | Decimal) else None

    def to_double(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str) or "_" in str(value):
            return None
        made = float(value)
        return made if math.isfinite(made) else None

    def to_boolean(self, value: Any) -> Any:
        if isinstance(value, str):
            return {"true": True, "false": False}.get(value.strip().lower())
        return value if isinstance(value, bool) else None

    def to_timestamptz(self, value: Any) -> Any:
        return moment_of(value)

    def to_date(self, value: Any) -> Any:
        moment = moment_of(value)
        return None if moment is None else moment.astimezone(UTC).date()

    def to_decimal(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
            return None
        if isinstance(value, str):
            text = value.strip()
            return (
                decimal_of(Fraction(text), 3000)
                if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text)
                else None
            )
        return decimal_of(exactly(value), 3000)

    def to_varbinary(self, value: Any) -> Any:
        return value if isinstance(value, str) else None

    def to_uuid(self, value: Any) -> Any:
        return uuid_of(value)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def moment_of(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return parse_timestamp(value) if isinstance(value, str) else None


def bounded_times(compute: Any) -> Any:
    try:
        return compute()
    except OverflowError:
        return None


def arithmetic(left: Any, right: Any, compute: Any, digits: int = 3000) -> Any:
    if not is_number(left) or not is_number(right):
        return None
    is_decimal = isinstance(left, Decimal) or isinstance(right, Decimal)
    try:
        if is_decimal:
            return decimal_of(compute(exactly(left), exactly(right)), digits)
        left, right = (float(one) if isinstance(one, Written) else one for one in (left, right))
        made = compute(left, right)
    except (ArithmeticError, ValueError):
        return None
    if isinstance(made, float) and not math.isfinite(made):
        return None
    return None if isinstance(made, int) and made.bit_length() > BITS_MAX else made


def decimal_of(value: Fraction, digits: int) -> Decimal | None:
    """The Decimal with so many digits, and at most 300 on either side of the point."""
    made = Context(prec=digits).divide(Decimal(value.numerator), Decimal(value.denominator))
    if abs(made) >= Decimal("1e300"):
        return None
    if made.as_tuple().exponent >= -300:  # type: ignore[operator]
        return made
    if digits > 28:
        return None
    return Context(prec=3000).quantize(made, Decimal("1e-300"))


def scaled(interval: timedelta, factor: Fraction) -> timedelta | None:
    microseconds = round(interval // timedelta(microseconds=1) * factor)
    try:
        return timedelta(microseconds=microseconds)
    except OverflowError:
        return None


def uuid_of(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def text_of(value: Any) -> Any:
    """The text that CAST and CONCAT make of a value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and value.bit_length() >= BITS_MAX:
        return None
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return str(value) if isinstance(value, int | str | uuid.UUID) else None


def like(text: str, pattern: str, escape: str | None) -> bool | None:
    """Through a regular expression: fine for the short texts of tests."""
    made, characters = "", iter(pattern)
    for character in characters:
        if character == escape:
            following = next(characters, None)
            if following is None:
                return None
            made += re.escape(following)
        else:
            made += {"%": ".*", "_": "."}.get(character) or re.escape(character)
    return re.fullmatch(made, text, re.DOTALL) is not None
