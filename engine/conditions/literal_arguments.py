"""Mistakes in the constant arguments of functions, found when a condition is compiled: an unknown part of a time, time zone,
unit, format, or an invalid regular expression."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from geode_client.conditions import regular, times
from geode_client.errors import did_you_mean
from geode_client.grammar.functions import EXTRACTED_PARTS, TIMESTAMP_UNITS, TRUNCATED_PARTS

# For each argument its value in a tuple of one, or None where it depends on the row.
Known = Sequence[tuple[Any] | None]
Mistake = tuple[int, str, str | None]


def mistake(name: str, known: Known) -> Mistake | None:
    """The place of the first argument that can never be right, what is wrong with it, and a hint."""
    check = _CHECKS.get(name)
    return None if check is None else check(known)


def _text_at(known: Known, place: int) -> str | None:
    found = known[place] if place < len(known) else None
    return found[0] if found is not None and isinstance(found[0], str) else None


def _part(known: Known, parts: Sequence[str]) -> Mistake | None:
    part = _text_at(known, 0)
    if part is None or part.lower() in parts:
        return None
    return (
        0,
        f"there is no part {part!r} of a time",
        did_you_mean(part.lower(), parts) or f"parts are {', '.join(parts)}",
    )


def _date_trunc(known: Known) -> Mistake | None:
    wrong = _part(known, TRUNCATED_PARTS)
    zone = _text_at(known, 2)
    if wrong is None and zone is not None and zone != "UTC" and times.zone_named(zone) is None:
        return 2, f"there is no time zone {zone!r}", "write one of the IANA database, such as 'America/New_York'"
    return wrong


def _extract(known: Known) -> Mistake | None:
    return _part(known, EXTRACTED_PARTS)


def _to_timestamp(known: Known) -> Mistake | None:
    form = _text_at(known, 1)
    if form is None:
        return None
    value = known[0]
    is_number = value is not None and value[0] is not None and not isinstance(value[0], str)
    if "%" in form and not is_number:
        code = times.unknown_code(form)
        if code is None and len(form) <= times.FORMAT_CHARACTERS_MAX:
            return None
        hint = "codes are %Y %y %m %d %H %I %M %S %f %p %z %j %b %B %a %A and %%"
        return 1, f"unknown code {code!r} in the format" if code else "the format is too long", hint
    if form.lower() in TIMESTAMP_UNITS:
        return None
    hint = did_you_mean(form.lower(), TIMESTAMP_UNITS) or (
        "a unit is 'seconds', 'milliseconds', 'microseconds' or 'nanoseconds'; a format has codes such as '%Y-%m-%d'"
    )
    return 1, f"{form!r} is neither a unit nor a format", hint


def _pattern(flags_place: int | None) -> Callable[[Known], Mistake | None]:
    def check(known: Known) -> Mistake | None:
        regular.engine()
        pattern = _text_at(known, 1)
        flags = "" if flags_place is None else _text_at(known, flags_place) or ""
        try:
            regular.compiled("" if pattern is None else pattern, flags)
        except regular.BadPattern as error:
            return (1 if pattern is not None else flags_place or 1), str(error), None
        return None

    return check


_CHECKS: Mapping[str, Callable[[Known], Mistake | None]] = {
    "DATE_TRUNC": _date_trunc,
    "EXTRACT": _extract,
    "TO_TIMESTAMP": _to_timestamp,
    "REGEXP_MATCHES": _pattern(2),
    "REGEXP_EXTRACT": _pattern(None),
    "REGEXP_REPLACE": _pattern(3),
}
