"""Fields that options name: `key_field: 'user.id'`, and the formats of times in them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from geode_client.broker.outgoing import key_text
from geode_client.clock import microseconds_of
from geode_client.errors import GeodeError, GqlError, InvalidMessage
from geode_client.values import as_timestamp

_UNITS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1, "nanoseconds": 0.001}
_TIME_US_MIN, _TIME_US_MAX = -62_135_596_800_000_000, 253_402_300_799_999_999
_ABSENT = object()


class FieldPath:
    """A field of messages by name or path; a field whose name is the whole text goes first."""

    def __init__(self, text: str, option: str) -> None:
        self._text = text
        self._option = option
        self._steps = _steps_of(text)

    def value_of(self, message: Any, index: int) -> Any:
        """The value; raises InvalidMessage with `index` where there is none, or NULL."""
        value = message.get(self._text, _ABSENT) if isinstance(message, dict) else _ABSENT
        if value is _ABSENT:
            value = self._at_path(message)
        if value is _ABSENT or value is None:
            what = "no field" if value is _ABSENT else "null in field"
            raise InvalidMessage(f"{what} {self._text}, which {self._option} names", message_index=index)
        return value

    def text_of(self, message: Any, index: int) -> str:
        """The value as the text of a key or id."""
        value = self.value_of(message, index)
        try:
            return key_text(value)
        except GeodeError as error:
            reason = f"field {self._text}, which {self._option} names, must be text or a whole number: {error}"
            raise InvalidMessage(reason, message_index=index) from error

    def _at_path(self, message: Any) -> Any:
        for step in self._steps:
            if isinstance(step, str):
                message = message.get(step, _ABSENT) if isinstance(message, dict) else _ABSENT
            elif isinstance(message, list) and -len(message) <= step < len(message):
                message = message[step]
            else:
                return _ABSENT
            if message is _ABSENT:
                return _ABSENT
        return message if self._steps else _ABSENT


def _steps_of(text: str) -> Sequence[str | int]:
    """The steps of a path as conditions write it; none where the text is a name alone."""
    if text.isidentifier():
        return (text,)
    from geode_client.conditions.rows import steps_of
    from geode_client.grammar.parser import parse_condition

    try:
        head, steps = steps_of(parse_condition(text))
    except (GqlError, AttributeError, ValueError, TypeError):
        return ()
    found = [step for step in steps if isinstance(step, str | int)]
    return (head.name, *found) if len(found) == len(steps) else ()


class TimeFormat:
    """How a field says a time: ISO 8601 (None), a unit since 1970, or a format of strptime such as '%d/%m/%Y %H:%M'."""

    def __init__(self, given: str | None) -> None:
        self._given = given

    def microseconds(self, value: Any, index: int) -> int:
        """Microseconds since 1970; a time without an offset is UTC. Raises InvalidMessage."""
        found = self._found(value)
        if found is None or not _TIME_US_MIN <= found <= _TIME_US_MAX:
            wanted = self._given or "ISO 8601"
            reason = f"{value!r:.60} is not a time in the format {wanted}"
            if self._given is None and isinstance(value, int | float):
                reason += "; say what it counts: timestamp_format: 'seconds' or 'milliseconds'"
            raise InvalidMessage(reason, message_index=index)
        return found

    def _found(self, value: Any) -> int | None:
        unit = _UNITS.get(self._given or "")
        if unit is not None:
            return _counted(value, unit)
        if self._given is None:
            moment = as_timestamp(value) if isinstance(value, str | datetime | date) else None
        else:
            moment = _read(value, self._given)
        try:
            return None if moment is None else microseconds_of(moment)
        except OverflowError:
            return None


def _counted(value: Any, unit: float) -> int | None:
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except ArithmeticError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        return int(Decimal(str(value)) * Decimal(str(unit)))
    except (ArithmeticError, ValueError):
        return None


def _read(value: Any, form: str) -> datetime | None:
    if not isinstance(value, str | int):
        return None
    try:
        moment = datetime.strptime(str(value), form)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def time_format(value: object) -> str:
    """The option `timestamp_format`; raises GqlError for an invalid format."""
    if isinstance(value, str):
        word = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}.get(value, value)
        if word.casefold() in _UNITS:
            return word.casefold()
        if "%" in value:
            try:
                datetime.strptime("", value)
            except ValueError as error:
                if "bad directive" in str(error) or "stray" in str(error):
                    raise GqlError(f"{value!r} is not a format of times: {error}") from None
            return value
    raise GqlError(
        f"'seconds', 'milliseconds', 'microseconds', 'nanoseconds' or a format such as '%d/%m/%Y %H:%M' is needed,"
        f" not {value!r}"
    )
