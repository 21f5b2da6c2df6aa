"""Parameters as values of the language."""

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from geode_client.errors import GqlError
from geode_client.values import CalendarInterval, bounded_decimal


def plain_value(value: Any) -> Any:
    """A parameter as a value of the language."""
    if isinstance(value, datetime):
        if getattr(value, "nanosecond", 0):
            raise GqlError("a parameter with nanoseconds: a TIMESTAMP has microseconds")
        return value.astimezone(UTC) if value.tzinfo is None else value
    if isinstance(value, Decimal):
        if bounded_decimal(value) is None:
            raise GqlError(f"a parameter of {value!s:.40}: a DECIMAL has at most 300 digits before and after the point")
        return value
    if isinstance(value, float) and math.isnan(value):
        raise GqlError("a parameter that is not a number (NaN) equals nothing")
    if isinstance(value, UUID):
        return value
    if isinstance(value, str) and not value.isascii() and _is_broken(value):
        raise GqlError("a parameter with half a character in it (a lone surrogate) equals nothing")
    if value is None or isinstance(value, bool | int | float | str | date | timedelta | CalendarInterval | list | dict):
        return value
    raise GqlError(f"a parameter cannot be a {type(value).__name__}")


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
