"""Durations and sizes as people write them: '7 days', '1 hour 30 minutes', '250ms'; '512 MiB', '64KB'."""

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from geode_client.errors import GqlError, did_you_mean
from geode_client.values import CalendarInterval, interval_of

_MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_DURATION_WORDS = {
    "us": ("us", "µs", "microsecond", "microseconds"),
    "ms": ("ms", "millisecond", "milliseconds"),
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
    "w": ("w", "week", "weeks"),
}
_DURATION_UNITS = {word: _MICROSECONDS[unit] for unit, words in _DURATION_WORDS.items() for word in words}
_INTERVAL_UNITS: Mapping[str, tuple[str, int]] = {
    **{word: ("us", size) for word, size in _DURATION_UNITS.items()},
    **dict.fromkeys(("month", "months", "mon", "mons"), ("month", 1)),
    **dict.fromkeys(("quarter", "quarters"), ("month", 3)),
    **dict.fromkeys(("y", "year", "years"), ("month", 12)),
}
INTERVAL_MONTHS_MAX = 12_000
_DURATION_NAMES = (("day", "d"), ("hour", "h"), ("minute", "m"), ("second", "s"))
_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "byte": 1,
    "bytes": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}
_PIECE = re.compile(r"\s*(\d{1,40}(?:\.\d{0,9})?)\s*([^\d\s.]*)\s*")
DURATION_US_MAX = 1000 * 366 * _MICROSECONDS["d"]
SIZE_BYTES_MAX = 2**60


def parse_duration_us(value: object) -> int:
    """Microseconds of a duration text or timedelta; raises GqlError with a right example."""
    if isinstance(value, timedelta):
        total = value // timedelta(microseconds=1)
    elif isinstance(value, str):
        total = _sum_of_pieces(value, _DURATION_UNITS, "duration", "'90s', '250ms' or '1 hour 30 minutes'")
    else:
        raise GqlError(f"a duration is text with a unit, such as '90s' or '7 days', not {value!r}")
    if not 0 <= total <= DURATION_US_MAX:
        raise GqlError(f"duration {value!r} is out of range: from 0 to 1000 years")
    return total


def parse_interval(text: str) -> CalendarInterval | timedelta:
    """An interval of a condition: a duration that may have months, quarters and years; raises GqlError."""
    sums = {"month": 0, "us": 0}
    for number, unit in _pieces(text.strip().removeprefix("-"), _INTERVAL_UNITS, "interval", "'3 months' or '1 hour'"):
        kind, size = _INTERVAL_UNITS[unit]
        amount = number * size
        if kind == "month" and amount != int(amount):
            raise GqlError(f"{text[:80]!r}: months are whole in an interval")
        sums[kind] += int(amount)
    if sums["us"] > DURATION_US_MAX or sums["month"] > INTERVAL_MONTHS_MAX:
        raise GqlError(f"interval {text!r:.80} is out of range: up to 1000 years")
    made = interval_of(sums["month"], timedelta(microseconds=sums["us"]))
    return -made if text.strip().startswith("-") else made


def parse_size_bytes(value: object) -> int:
    """Bytes of a size text, or of a whole number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        total = value
    elif isinstance(value, str):
        total = _sum_of_pieces(value, _SIZE_UNITS, "size", "'512 MiB', '64 KB' or a number of bytes")
    else:
        raise GqlError(f"a size is text such as '512 MiB', or a whole number of bytes, not {value!r}")
    if not 0 <= total <= SIZE_BYTES_MAX:
        raise GqlError(f"size {value!r} is out of range: from 0 to 1024 PiB")
    return total


def _sum_of_pieces(text: str, units: dict[str, int], what: str, examples: str) -> int:
    return int(sum((number * units[unit] for number, unit in _pieces(text, units, what, examples)), Decimal(0)))


def _pieces(text: str, units: Mapping[str, object], what: str, examples: str) -> list[tuple[Decimal, str]]:
    """Numbers and units of a text; raises GqlError with a right example."""
    found: list[tuple[Decimal, str]] = []
    place = 0
    while place < len(text) or not text.strip():
        piece = _PIECE.match(text, place)
        if piece is None:
            raise GqlError(f"{text[:80]!r} is no {what}: write {examples}")
        number, unit = piece[1], piece[2].casefold()
        if unit not in units:
            hint = did_you_mean(unit, [name for name in units if name]) or f"write {examples}"
            missing = f"unknown unit '{piece[2]}'" if unit else "a unit is missing"
            raise GqlError(f"{missing} in the {what} {text[:80]!r}", hint=hint)
        found.append((Decimal(number), unit))
        place = piece.end()
    return found


def format_duration(duration_us: int) -> str:
    """Canonical text: the largest units that are exact, such as '1 hour 30 minutes' or '250ms'."""
    if duration_us % 1000:
        return f"{duration_us}us"
    if duration_us % _MICROSECONDS["s"]:
        return f"{duration_us // 1000}ms"
    parts: list[str] = []
    for name, unit in _DURATION_NAMES:
        count, duration_us = divmod(duration_us, _MICROSECONDS[unit])
        if count:
            parts.append(f"{count} {name}{'s' * (count != 1)}")
    return " ".join(parts) or "0 seconds"


def format_size(size_bytes: int) -> str:
    """Canonical text: whole binary units where they are exact, else bytes."""
    for name in ("TiB", "GiB", "MiB", "KiB"):
        unit = _SIZE_UNITS[name.casefold()]
        if size_bytes and size_bytes % unit == 0:
            return f"{size_bytes // unit} {name}"
    return f"{size_bytes} bytes"
