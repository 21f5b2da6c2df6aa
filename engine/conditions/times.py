"""Functions over times and intervals; NULL in gives NULL out, and nothing here raises for a value.

Intervals of months go by the calendar: a day that the new month does not have becomes its last one. Parts of a time are
those of UTC, or of a time zone of the IANA database that is named.
"""

import calendar
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from geode_client.clock import EPOCH
from geode_client.grammar.functions import EXTRACTED_PARTS, TIMESTAMP_UNITS, TRUNCATED_PARTS
from geode_client.values import (
    EXACT,
    NUMBERS,
    ROUNDED,
    CalendarInterval,
    as_decimal,
    as_timestamp,
    in_utc,
    interval_of,
    months_and_rest,
    plain_number,
)

FORMAT_CHARACTERS_MAX = 200
ZONE_CHARACTERS_MAX = 64
_MICROSECOND = timedelta(microseconds=1)
_MICROSECONDS_MAX = timedelta.max // _MICROSECOND
_FORMAT_CODES = frozenset("YymdHIMSfpzjbBaA%")
_FORMAT_CODE = re.compile(r"%(.?)", re.DOTALL)
# Numbers of seconds from here on lie after the year 9999.
_SECONDS_END = 253_402_300_800
MONTHS_MAX = 12 * 10_000


# ── intervals ──
def add_interval(moment: datetime | None, interval: Any) -> datetime | None:
    """The time so much later; raises OverflowError or ValueError beyond the calendar."""
    if moment is None:
        return None
    if interval.__class__ is timedelta:
        return in_utc(moment + interval)
    return in_utc(_later_by_months(in_utc(moment), interval.months) + interval.rest)


def _later_by_months(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise OverflowError("a year that the calendar does not have")
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def scale_interval(interval: Any, factor: Any, *, divide: bool = False) -> Any:
    """An interval times a number, or divided by one; months only where whole months come of it."""
    factor = plain_number(factor)
    if factor.__class__ not in NUMBERS:
        return None
    months, rest = months_and_rest(interval)
    try:
        operation = ROUNDED.divide if divide else EXACT.multiply
        scaled_months = operation(Decimal(months), as_decimal(factor))
        microseconds = operation(Decimal(rest // _MICROSECOND), as_decimal(factor))
        if abs(scaled_months) > MONTHS_MAX or scaled_months != int(scaled_months):
            return None
        if abs(microseconds) > _MICROSECONDS_MAX:
            return None
        return interval_of(int(scaled_months), timedelta(microseconds=int(EXACT.to_integral_value(microseconds))))
    except (ArithmeticError, ValueError):
        return None


# ── zones ──
@lru_cache(maxsize=512)
def zone_named(name: str) -> ZoneInfo | None:
    """The time zone of the IANA database with this name; None when there is none."""
    if not name or len(name) > ZONE_CHARACTERS_MAX:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


# ── parts ──
_ZEROS: Mapping[str, Mapping[str, int]] = {
    "second": {"microsecond": 0},
    "minute": {"microsecond": 0, "second": 0},
    "hour": {"microsecond": 0, "second": 0, "minute": 0},
    "day": {"microsecond": 0, "second": 0, "minute": 0, "hour": 0},
}
_LARGE = frozenset(("day", "week", "month", "quarter", "year"))


def date_trunc(part: Any, value: Any, zone_name: Any = "UTC") -> Any:
    moment = as_timestamp(value)
    if moment is None or part.__class__ is not str or zone_name.__class__ is not str:
        return None
    part = part.lower()
    if part not in TRUNCATED_PARTS:
        return None
    zone = UTC if zone_name == "UTC" else zone_named(zone_name)
    if zone is None:
        return None
    try:
        return in_utc(_truncated(moment.astimezone(zone), part))
    except (OverflowError, ValueError):
        return None


def _truncated(moment: datetime, part: str) -> datetime:
    if part == "microsecond":
        return moment
    if part == "millisecond":
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    if part in _LARGE:
        # A day that begins twice begins the first time.
        moment = moment.replace(**_ZEROS["day"], fold=0)  # type: ignore[arg-type]
    match part:
        case "week":
            return moment - timedelta(days=moment.weekday())
        case "month":
            return moment.replace(day=1)
        case "quarter":
            return moment.replace(day=1, month=(moment.month - 1) // 3 * 3 + 1)
        case "year":
            return moment.replace(day=1, month=1)
        case _:
            return moment.replace(**_ZEROS[part])  # type: ignore[arg-type]


_EXTRACTORS: Mapping[str, Callable[[datetime], int]] = {
    "year": lambda moment: moment.year,
    "quarter": lambda moment: (moment.month + 2) // 3,
    "month": lambda moment: moment.month,
    "week": lambda moment: moment.isocalendar().week,
    "day": lambda moment: moment.day,
    "dow": lambda moment: moment.isoweekday() % 7,
    "isodow": lambda moment: moment.isoweekday(),
    "doy": lambda moment: moment.timetuple().tm_yday,
    "hour": lambda moment: moment.hour,
    "minute": lambda moment: moment.minute,
    "second": lambda moment: moment.second,
    "millisecond": lambda moment: moment.second * 1000 + moment.microsecond // 1000,
    "microsecond": lambda moment: moment.second * 1_000_000 + moment.microsecond,
    "isoyear": lambda moment: moment.isocalendar().year,
}
assert set(_EXTRACTORS) | {"epoch"} == set(EXTRACTED_PARTS)


def extract(part: Any, value: Any) -> Any:
    if part.__class__ is not str:
        return None
    part = part.lower()
    if part == "epoch":
        return epoch(value)
    extractor = _EXTRACTORS.get(part)
    if extractor is None:
        return None
    if value.__class__ is timedelta or value.__class__ is CalendarInterval:
        return _part_of_interval(part, value)
    moment = as_timestamp(value)
    try:
        return None if moment is None else extractor(moment.astimezone(UTC))
    except (OverflowError, ValueError):
        return None


def _part_of_interval(part: str, value: Any) -> int | None:
    """Months as years and months, the rest as days, hours and so on, each with the sign of the interval."""
    months, rest = months_and_rest(value)
    total = abs(rest // _MICROSECOND)
    sign = -1 if rest < timedelta() else 1
    month_sign = -1 if months < 0 else 1
    parts = {
        "year": month_sign * (abs(months) // 12),
        "month": month_sign * (abs(months) % 12),
        "day": sign * (total // 86_400_000_000),
        "hour": sign * (total // 3_600_000_000 % 24),
        "minute": sign * (total // 60_000_000 % 60),
        "second": sign * (total // 1_000_000 % 60),
        "millisecond": sign * (total // 1_000 % 60_000),
        "microsecond": sign * (total % 60_000_000),
    }
    return parts.get(part)


def epoch(value: Any) -> Any:
    """Seconds since 1970, or of an interval; a whole number where it is one. Months have no length."""
    if value.__class__ is timedelta:
        return _seconds(value)
    moment = as_timestamp(value)
    return None if moment is None else _seconds(moment - EPOCH)


def _seconds(span: timedelta) -> int | float:
    microseconds = span // _MICROSECOND
    whole, rest = divmod(microseconds, 1_000_000)
    return whole if not rest else microseconds / 1_000_000


# ── making times ──
def to_timestamp(value: Any, form: Any = ...) -> Any:
    if value.__class__ is str:
        return _by_format(value, form) if form.__class__ is str else as_timestamp(value) if form is ... else None
    value = plain_number(value)
    if value.__class__ not in NUMBERS:
        return None
    if form is ...:
        is_late = abs(value) >= _SECONDS_END
        return _since_epoch(value, 1000 if is_late else 1)
    a_second = TIMESTAMP_UNITS.get(form.lower()) if form.__class__ is str else None
    return None if a_second is None else _since_epoch(value, a_second)


def _since_epoch(value: Any, a_second: int) -> datetime | None:
    if value.__class__ is float and not math.isfinite(value):
        return None
    try:
        microseconds = EXACT.divide(EXACT.multiply(as_decimal(value), Decimal(1_000_000)), Decimal(a_second))
        if abs(microseconds) > _MICROSECONDS_MAX:
            return None
        return EPOCH + timedelta(microseconds=math.floor(microseconds))
    except (ArithmeticError, ValueError):
        return None


def unknown_code(form: str) -> str | None:
    """The first code of a format that is not known; None when all are."""
    return next((f"%{code}" for code in _FORMAT_CODE.findall(form) if code not in _FORMAT_CODES or not code), None)


def _by_format(text: str, form: str) -> datetime | None:
    if len(text) > FORMAT_CHARACTERS_MAX or len(form) > FORMAT_CHARACTERS_MAX or unknown_code(form) is not None:
        return None
    try:
        return in_utc(datetime.strptime(text, form))
    except (ValueError, OverflowError, re.error, TypeError):
        return None


def current_date(now: datetime) -> Any:
    """Today in UTC."""
    return now.astimezone(UTC).date()
