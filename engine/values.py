"""The values of the language: their kinds, how they compare, how they sort and group.

A value is None (NULL, UNKNOWN), a bool, a number (int, float, Decimal), text, a timestamp (aware datetime), a date, a UUID,
an interval (timedelta, or CalendarInterval where it has months), or a JSON array or object. Values of different kinds do
not compare: UNKNOWN, which is None here. The exceptions are times and UUIDs with text: the text is read as ISO 8601 (UTC
where it has no offset) or as a UUID. Booleans are equal or not, and neither greater nor less; arrays and objects do not
compare at all.

Numbers. A float counts by its shortest text wherever it meets a whole number or a Decimal, so that equality is transitive.
Below 2**53 that is what Python does with whole numbers; beyond, and beside a Decimal, the text decides. A Decimal has at most
DECIMAL_PLACES_MAX digits before the point and as many after it: what goes beyond is NULL.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

NUMBERS: frozenset[Any] = frozenset((int, float, Decimal))
JSON_NUMBERS: frozenset[Any] = frozenset((int, float))
TIMES: frozenset[Any] = frozenset((datetime, date))
TIMESTAMP_CHARACTERS_MAX = 64
UUID_CHARACTERS_MAX = 64
DECIMAL_PLACES_MAX = 300
DECIMAL_CHARACTERS_MAX = 2 * DECIMAL_PLACES_MAX + 20
# Every whole number up to here is a float, and its shortest text is the number itself.
EXACT_FLOAT_MAX = 2**53

# Operations on two bounded Decimals never need more digits than this.
EXACT = Context(prec=8 * DECIMAL_PLACES_MAX, traps=[InvalidOperation, DivisionByZero, Overflow])
# Quotients, roots and powers.
ROUNDED = Context(prec=28, traps=[InvalidOperation, DivisionByZero, Overflow])
_SMALLEST = Decimal(1).scaleb(-DECIMAL_PLACES_MAX)
_DECIMAL_TEXT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,6})?", re.ASCII)
_FINER_DIGITS = re.compile(r"[.,]\d{6}(\d+)")
_UUID_DIGITS = re.compile(r"[0-9a-fA-F]{32}")


class WrittenNumber(float):
    """A number literal whose digits no float has: a float, but beside a Decimal the number as it is written."""

    __slots__ = ("exact",)

    exact: Decimal

    @classmethod
    def of(cls, text: str) -> float:
        """The number of a literal; a plain float where that has all the digits."""
        made = float(text)
        written = Decimal(text)
        if Decimal(repr(made)) == written:
            return made
        found = cls(made)
        found.exact = written
        return found


@dataclass(frozen=True, slots=True)
class CalendarInterval:
    """An interval of months, whose length depends on where it starts, and of a fixed rest."""

    months: int
    rest: timedelta = timedelta()

    def __neg__(self) -> "CalendarInterval":
        return CalendarInterval(-self.months, -self.rest)

    def __str__(self) -> str:
        """Such as '14 months' or '1 month 1 day, 0:00:00'."""
        months = f"{self.months} month{'s' * (abs(self.months) != 1)}"
        return f"{months} {self.rest}" if self.rest else months


def interval_of(months: int, rest: timedelta) -> CalendarInterval | timedelta:
    """The interval of so many months and a rest."""
    return CalendarInterval(months, rest) if months else rest


INTERVALS: frozenset[Any] = frozenset((timedelta, CalendarInterval))


# ── numbers ──
def bounded_decimal(value: Decimal) -> Decimal | None:
    """The value where a DECIMAL can hold it, else None."""
    if not value.is_finite():
        return None
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if not value:
        return value if -DECIMAL_PLACES_MAX <= exponent <= 0 else Decimal(0)
    if value.adjusted() >= DECIMAL_PLACES_MAX:
        return None
    if exponent < -DECIMAL_PLACES_MAX:
        shortened = EXACT.quantize(value, _SMALLEST)
        return shortened if shortened == value else None
    return value


def rounded_decimal(value: Decimal) -> Decimal | None:
    """The result of a division or root, with no more places than a DECIMAL has."""
    if value.is_finite() and value.adjusted() < DECIMAL_PLACES_MAX:
        exponent = value.as_tuple().exponent
        assert isinstance(exponent, int)
        if exponent < -DECIMAL_PLACES_MAX:
            value = EXACT.quantize(value, _SMALLEST)
        return value or Decimal(0)
    return None


def parse_decimal(text: str) -> Decimal | None:
    """A DECIMAL from text such as '-12.50' or '1e3'; None when it is none, or has too many digits."""
    if len(text) > DECIMAL_CHARACTERS_MAX:
        return None
    text = text.strip()
    return bounded_decimal(Decimal(text)) if _DECIMAL_TEXT.fullmatch(text) else None


def exact_float(value: float) -> Decimal:
    """The number that the shortest text of a float means."""
    return Decimal(float.__repr__(value))


def as_decimal(value: Any) -> Decimal:
    """A number as a Decimal, exactly."""
    kind = value.__class__
    if kind is float:
        return exact_float(value)
    return value.exact if kind is WrittenNumber else Decimal(value)


def plain_number(value: Any) -> Any:
    """A written number as a float; any other value as it is."""
    return float(value) if value.__class__ is WrittenNumber else value


def _compare_numbers(left: Any, right: Any) -> int | None:
    a, b = left.__class__, right.__class__
    if (a is float and math.isnan(left)) or (b is float and math.isnan(right)):
        return None
    if a is float and (b is Decimal or not -EXACT_FLOAT_MAX < left < EXACT_FLOAT_MAX):
        left = exact_float(left)
    if b is float and (a is Decimal or not -EXACT_FLOAT_MAX < right < EXACT_FLOAT_MAX):
        right = exact_float(right)
    return int(left > right) - int(left < right)


# ── times and UUIDs ──
@lru_cache(maxsize=4096)
def parse_timestamp(text: str) -> datetime | None:
    """An aware datetime from ISO 8601 text (a date alone is its midnight), cut to microseconds; None when it is none.

    The datetime is in UTC unless it lies at an edge of the calendar where UTC has no year for it.
    """
    if len(text) > TIMESTAMP_CHARACTERS_MAX or len(text) < 8:
        return None
    try:
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        return None
    return in_utc(found)


def in_utc(moment: datetime) -> datetime:
    """The same instant in UTC, where UTC has a year for it; a datetime without offset is UTC."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment


def finer_digits(text: str) -> str:
    """The digits of a time beyond microseconds, without zeros at their end."""
    found = _FINER_DIGITS.search(text)
    return "" if found is None else found[1].rstrip("0")


def as_timestamp(value: Any) -> datetime | None:
    """A timestamp from a timestamp, date or text; None from anything else."""
    kind = value.__class__
    if kind is str:
        return parse_timestamp(value)
    if kind is datetime:
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)  # type: ignore[no-any-return]
    if kind is date:
        return midnight_of(value)
    return None


def midnight_of(day: date) -> datetime:
    """The start of a date in UTC."""
    return datetime.combine(day, time(), UTC)


@lru_cache(maxsize=4096)
def parse_date(text: str) -> date | None:
    """A date from ISO 8601 text; of a timestamp its date in UTC; None when it is neither."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        moment = parse_timestamp(text)
        return None if moment is None or moment.tzinfo is not UTC else moment.date()


@lru_cache(maxsize=4096)
def parse_uuid(text: str) -> UUID | None:
    """A UUID from text with or without hyphens, in any case; also in braces or as a URN. None when it is none."""
    if len(text) > UUID_CHARACTERS_MAX or not text.isascii():
        return None
    try:
        return msgspec.convert(text, UUID)
    except msgspec.ValidationError:
        digits = text.lower().removeprefix("urn:uuid:").strip("{}").replace("-", "")
        return UUID(digits) if _UUID_DIGITS.fullmatch(digits) else None


def timestamp_text(moment: datetime) -> str:
    """A timestamp as text: ISO 8601, UTC as Z."""
    text = moment.isoformat()
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


# ── comparing ──
def compare(left: Any, right: Any) -> int | None:
    """-1, 0 or 1; None where the values do not compare. Booleans do not; see `equal`."""
    a, b = left.__class__, right.__class__
    if a is b and a in _OWN_ORDER:
        return int(left > right) - int(left < right)
    if a in NUMBERS and b in NUMBERS:
        return _compare_numbers(left, right)
    if a in TIMES or b in TIMES:
        return _compare_times(left, right)
    if a is WrittenNumber or b is WrittenNumber:
        return compare(_beside(left, right), _beside(right, left))
    if a is UUID or b is UUID:
        return _compare_uuids(left, right)
    if a in INTERVALS and b in INTERVALS:
        return _compare_intervals(left, right)
    return None


_OWN_ORDER = frozenset((str, int, Decimal, timedelta, UUID))


def _beside(value: Any, other: Any) -> Any:
    """A value as it counts beside another one: a written number has its digits beside a Decimal."""
    if value.__class__ is not WrittenNumber:
        return value
    return value.exact if other.__class__ is Decimal or other.__class__ is WrittenNumber else float(value)


def _compare_times(left: Any, right: Any) -> int | None:
    first, second = as_timestamp(left), as_timestamp(right)
    if first is None or second is None:
        return None
    order = (first > second) - (first < second)
    if order == 0 and (left.__class__ is str or right.__class__ is str):
        # Digits that a timestamp does not hold still count.
        one, other = (finer_digits(side) if side.__class__ is str else "" for side in (left, right))
        return (one > other) - (one < other)
    return order


def _compare_uuids(left: Any, right: Any) -> int | None:
    first, second = as_uuid(left), as_uuid(right)
    return None if first is None or second is None else (first > second) - (first < second)


def as_uuid(value: Any) -> UUID | None:
    """A UUID from a UUID or text; None from anything else."""
    return value if value.__class__ is UUID else parse_uuid(value) if value.__class__ is str else None


def _compare_intervals(left: Any, right: Any) -> int | None:
    """Months and days do not compare; intervals of equal months, or of an equal rest, do."""
    first, second = months_and_rest(left), months_and_rest(right)
    if first[0] == second[0] or first[1] == second[1]:
        return (first > second) - (first < second)
    months, rests = first[0] > second[0], first[1] > second[1]
    return None if months != rests else 1 if months else -1


def months_and_rest(value: Any) -> tuple[int, timedelta]:
    """The months of an interval, and what is not months."""
    return (0, value) if value.__class__ is timedelta else (value.months, value.rest)


def equal(left: Any, right: Any) -> bool | None:
    """Whether two values are equal; None where they do not compare."""
    if left.__class__ is bool and right.__class__ is bool:
        return left is right
    order = compare(left, right)
    return None if order is None else order == 0


# ── sorting ──
class _DecimalKey:
    """Sorts a Decimal among numbers as `compare` orders them."""

    __slots__ = ("value",)

    def __init__(self, value: Decimal) -> None:
        self.value = value

    def _order(self, other: Any) -> int:
        return _compare_numbers(self.value, other.value if other.__class__ is _DecimalKey else other) or 0

    def __lt__(self, other: Any) -> bool:
        return self._order(other) < 0

    def __gt__(self, other: Any) -> bool:
        return self._order(other) > 0

    def __eq__(self, other: object) -> bool:
        return self._order(other) == 0

    def __neg__(self) -> "_DecimalKey":
        return _DecimalKey(self.value.copy_negate())

    __hash__ = None  # type: ignore[assignment]


_RANKS = {
    bool: 0,
    int: 1,
    float: 1,
    WrittenNumber: 1,
    Decimal: 1,
    str: 2,
    datetime: 3,
    date: 3,
    timedelta: 4,
    CalendarInterval: 4,
    UUID: 5,
    list: 6,
    dict: 7,
}
_DAYS_A_MONTH = 30


def sort_key(value: Any) -> tuple[Any, ...]:
    """A key that orders values of all kinds: booleans, numbers, text, times, intervals, UUIDs, arrays, objects. Not for NULL."""
    kind = value.__class__
    rank = _RANKS.get(kind, 8)
    match rank:
        case 1:
            return (rank, _number_key(value))
        case 3:
            return (rank, as_timestamp(value))
        case 4:
            months, rest = months_and_rest(value)
            return (rank, (months * _DAYS_A_MONTH * 86_400_000_000 + rest // timedelta(microseconds=1), months))
        case 6:
            return (rank, [(1, ()) if item is None else (0, sort_key(item)) for item in value])
        case 7 | 8:
            return (rank, repr(value))
        case _:
            return (rank, value)


def _number_key(value: Any) -> Any:
    if value.__class__ is int:
        return value
    if value.__class__ is Decimal:
        return _DecimalKey(value)
    return value if -EXACT_FLOAT_MAX < value < EXACT_FLOAT_MAX else _large_float_key(value)


# ── grouping ──
def is_small(values: Any) -> bool:
    """Whether floats, of which there are some, are all below 2**53: then they are equal to what Python calls equal."""
    return bool(min(values) > -EXACT_FLOAT_MAX and max(values) < EXACT_FLOAT_MAX)


def group_key(value: Any) -> Any:
    """A hashable key under which equal values fall together: 1 with 1.0 and 1.00, but not with true."""
    kind = value.__class__
    if kind is float:
        return value if -EXACT_FLOAT_MAX < value < EXACT_FLOAT_MAX else _large_float_key(value)
    if kind is Decimal:
        return _decimal_key(value)
    if kind is bool:
        return (bool, value)
    if kind is list:
        return (list, tuple(group_key(item) for item in value))
    if kind is dict:
        return (dict, frozenset((name, group_key(item)) for name, item in value.items()))
    if kind in TIMES:
        return as_timestamp(value)
    return plain_number(value)


def _large_float_key(value: float) -> Any:
    exact = exact_float(value)
    return int(exact) if exact.is_finite() else value


@lru_cache(maxsize=65_536)
def _decimal_key(value: Decimal) -> Any:
    """A whole number, or a float where its shortest text is the value, since these are equal; else the value, marked."""
    if not value.is_finite() or value.adjusted() > DECIMAL_PLACES_MAX:
        return (Decimal, value)
    if value == value.to_integral_value():
        return int(value)
    nearest = float(value)
    return nearest if exact_float(nearest) == value else (Decimal, value)
