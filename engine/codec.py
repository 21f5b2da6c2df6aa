"""Values to JSON and back: what a message may be, and how a batch of them becomes lines of text and is read again.

A message is any JSON value. Datetimes, dates, UUIDs, bytes (base64), Decimals (as numbers), dataclasses, msgspec Structs
and pydantic models become JSON. A datetime without offset is local time and is stored with its offset. NaN, infinity,
lone surrogates and what has no JSON form are refused with the message's number and the JSON pointer of the place.

A batch is encoded in one call. msgspec writes some values without asking: NaN as `null`, a datetime without offset as it
stands, a Decimal as any text it has, raw JSON unseen. So every batch is looked at afterwards, by the cheapest means that
cannot miss anything:

    only plain values (no time, Decimal, bytes, object)  NaN is the one danger: messages whose text has `null` are walked
    anything else                                        the same; the text is decoded once, which proves that it is JSON;
                                                         messages whose text has a time without offset are walked

What a msgspec.Raw inside a message says is believed; one that is a message is checked.
"""

import dataclasses
import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
import orjson

from geode_client.errors import GeodeError, InvalidMessage

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"
"""What JSON text becomes."""

_NAIVE_TIME = re.compile(rb'T\d\d:\d\d:\d\d(?:\.\d{6})?"')
_ENCODING_ERRORS = (
    TypeError,
    ValueError,
    RecursionError,
    OverflowError,
    AttributeError,
    msgspec.MsgspecError,
)
_ONLY_PLAIN = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
_FINITE = frozenset((str, int, bool, type(None), bytes, datetime))
_NOT_FINITE = "NaN and infinity have no JSON form"
_TOO_DEEP = "it is nested too deeply"
POINTER_CHARACTERS_MAX = 200
NAME_CHARACTERS_SHOWN = 60


def _hook(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump()
    if isinstance(value, Mapping):
        return dict(value)
    for plain in (str, int, float):
        # A subclass, such as numpy.float64: msgspec takes only the types themselves.
        if isinstance(value, plain) and not isinstance(value, bool):
            return plain(value)
    raise TypeError(_no_form(value))


def _no_form(value: Any) -> str:
    return f"a value of type {type(value).__name__} has no JSON form"


class Lines(Sequence[Any]):
    """Messages that are JSON lines already. Whoever makes them has checked that each is JSON; they are stored unchanged."""

    __slots__ = ("_count", "text")

    def __init__(self, text: bytes, count: int) -> None:
        self.text = text
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        return decode_lines(self.text)[index]


_encoder = msgspec.json.Encoder(enc_hook=_hook, decimal_format="number")
_decoder = msgspec.json.Decoder()


def encode(message: Any) -> bytes:
    """One value as JSON text; raises InvalidMessage."""
    return encode_lines([message])[:-1]


def encode_lines(messages: Sequence[Any]) -> bytes:
    """Each message as JSON text and a newline; raises InvalidMessage for the first that has no JSON form."""
    if isinstance(messages, Lines):
        return messages.text
    try:
        lines = _encoder.encode_lines(messages)
    except _ENCODING_ERRORS as error:
        _refuse(messages, error)
        raise InvalidMessage(str(error)) from error
    if b"null" in lines:
        _check_numbers(messages, lines)
    if _is_plain(messages):
        return lines
    if lines.count(b"\n") != len(messages):
        raise _raw_line_break(messages)
    return _checked(messages, lines)


def _is_plain(messages: Sequence[Any]) -> bool:
    """Whether the messages hold nothing but None, bool, int of 64 bits, float, str, list, tuple, UUID and dict.

    orjson, asked to leave everything else alone, visits a batch faster than any other library that says what it does not
    know; what it writes is thrown away.
    """
    try:
        orjson.dumps(messages, option=_ONLY_PLAIN)
    except TypeError:
        return False
    return True


def _checked(messages: Sequence[Any], lines: bytes) -> bytes:
    try:
        decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError):
        _name_unreadable(messages, lines)
    return lines if _NAIVE_TIME.search(lines) is None else _localise(messages, lines)


def _raw_line_break(messages: Sequence[Any]) -> InvalidMessage:
    breaks = (index for index, message in enumerate(messages) if b"\n" in _encoder.encode(message))
    return InvalidMessage("raw JSON text may not contain a line break", message_index=next(breaks, 0))


def _name_unreadable(messages: Sequence[Any], lines: bytes) -> None:
    for index, (message, line) in enumerate(zip(messages, split_lines(lines), strict=True)):
        try:
            decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _find_name(message, index)
            _find(message, _is_not_finite, index, _NOT_FINITE)
            _find(message, _cannot_be_read, index, "a number with too many digits, or too large an exponent")
            raise InvalidMessage(f"what it encodes to is no JSON: {error}", message_index=index) from error


def _check_numbers(messages: Sequence[Any], lines: bytes) -> None:
    """Raise InvalidMessage where a `null` of the text was no None."""
    if lines.count(b"\n") != len(messages):
        raise _raw_line_break(messages)
    for index, (message, line) in enumerate(zip(messages, split_lines(lines), strict=True)):
        if b"null" in line and not _seems_finite(message):
            _find(message, _is_not_finite, index, _NOT_FINITE)


def _seems_finite(message: Any) -> bool:
    """Whether the message holds neither NaN nor infinity; may say False of what needs a closer look."""
    try:
        return _is_finite(message)
    except RecursionError:
        return False


def _is_finite(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list and kind is not tuple:
        return kind in _FINITE or (kind is float and math.isfinite(value))
    for item in value:
        kind = type(item)
        if kind not in _FINITE and not _is_finite(item):
            return False
    return True


def _localise(messages: Sequence[Any], lines: bytes) -> bytes:
    found: list[Any] = []
    for index, (message, line) in enumerate(zip(messages, split_lines(lines), strict=True)):
        if _NAIVE_TIME.search(line) is None:
            found.append(message)
            continue
        try:
            found.append(_localised(message))
        except RecursionError as error:
            raise InvalidMessage(_TOO_DEEP, message_index=index) from error
        except (OverflowError, ValueError, OSError) as error:
            reason = "a datetime without offset that is no local time; give it an offset"
            raise InvalidMessage(reason, message_index=index) from error
    return _encoder.encode_lines(found)


def decode(text: bytes | str) -> Any:
    """The value of a JSON text that was encoded here."""
    return _shallow(_decoder.decode, text)


def decode_lines(lines: bytes) -> list[Any]:
    """The values of all lines."""
    return _shallow(_decoder.decode_lines, lines)  # type: ignore[no-any-return]


def split_lines(lines: bytes) -> list[bytes]:
    """The text of each line, without its newline."""
    split = lines.split(b"\n")
    del split[-1]
    return split


def typed_decoder(kind: type[Any]) -> Callable[[bytes], Any]:
    """A function from JSON text to an instance of a Struct, dataclass or pydantic model."""
    validate = getattr(kind, "model_validate_json", None)
    if validate is not None:
        return validate  # type: ignore[no-any-return]
    try:
        return msgspec.json.Decoder(kind).decode
    except TypeError as error:
        raise GeodeError(f"messages cannot be decoded into {kind!r:.80}: {error}") from error


def decode_with(decode: Callable[[bytes], Any], text: bytes) -> Any:
    """Decode with a decoder made elsewhere, on a fresh stack where the text is nested too deeply for this one."""
    return _shallow(decode, text)


def _shallow(decode: Callable[..., Any], text: Any) -> Any:
    # What was encoded near the bottom of a stack may be nested too deeply to be decoded near the top of another one.
    try:
        return decode(text)
    except RecursionError:
        outcome: list[Any] = []
        thread = threading.Thread(target=lambda: outcome.append(_attempt(decode, text)))
        thread.start()
        thread.join()
        value, error = outcome[0]
        if isinstance(error, RecursionError):
            raise InvalidMessage("it is nested too deeply to be decoded") from error
        if error is not None:
            raise error from None
        return value


def _attempt(decode: Callable[..., Any], text: Any) -> tuple[Any, Exception | None]:
    try:
        return decode(text), None
    except Exception as error:  # noqa: BLE001 - a decoder made elsewhere may raise anything; it is raised again
        return None, error


def _refuse(messages: Sequence[Any], failure: Exception) -> None:
    """Find the message and the place that cannot be encoded, and say what is wrong with it."""
    for index, message in enumerate(messages):
        try:
            _encoder.encode(message)
        except RecursionError as error:
            raise InvalidMessage(_TOO_DEEP, message_index=index) from error
        except _ENCODING_ERRORS as error:
            _find_name(message, index)
            _find(message, _cannot_encode, index, None)
            raise InvalidMessage(str(error), message_index=index) from error
    raise InvalidMessage(str(failure)) from failure


def _is_not_finite(value: Any) -> bool:
    if isinstance(value, Decimal):
        return not value.is_finite()
    return isinstance(value, float) and not math.isfinite(value)


def _cannot_be_read(value: Any) -> bool:
    try:
        _decoder.decode(_encoder.encode(value))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return True
    except _ENCODING_ERRORS:
        return False
    return False


def _cannot_encode(value: Any) -> bool:
    try:
        _encoder.encode(value)
    except _ENCODING_ERRORS:
        return True
    return False


def _find(message: Any, wrong: Callable[[Any], bool], index: int, reason: str | None) -> None:
    """Raise InvalidMessage for the first place of which `wrong` is true."""
    for pointer, value, inner in _places(message):
        if inner is None and wrong(value):
            raise InvalidMessage(reason or _reason(value), message_index=index, pointer=pointer)


def _find_name(message: Any, index: int) -> None:
    """Raise InvalidMessage for the first field whose name cannot be one."""
    for pointer, value, inner in _places(message):
        if not isinstance(value, Mapping):
            continue
        for name, _ in inner or ():
            if _cannot_encode({name: None}) or _cannot_be_read({name: None}):
                reason = f"{_shown(name)} cannot be the name of a field: names are text, whole numbers, dates or UUIDs"
                raise InvalidMessage(reason, message_index=index, pointer=pointer)


def _shown(name: Any) -> str:
    text = ascii(name)
    return text if len(text) <= NAME_CHARACTERS_SHOWN else f"{text[:NAME_CHARACTERS_SHOWN]}…"


def _reason(value: Any) -> str:
    if isinstance(value, str):
        return "text with a lone surrogate, which is no character"
    if isinstance(value, int):
        return "a whole number with too many digits"
    return _no_form(value)


def _places(message: Any) -> Iterable[tuple[str, Any, list[tuple[Any, Any]] | None]]:
    """All values inside a message in their order: JSON pointer, value, and what is inside it. Without recursion."""
    waiting: list[tuple[str, Any]] = [("", message)]
    while waiting:
        pointer, value = waiting.pop()
        inner = _inner(value)
        yield pointer, value, inner
        for name, item in reversed(inner or []):
            waiting.append((f"{pointer}/{_escaped(name)}"[:POINTER_CHARACTERS_MAX], item))


def _escaped(name: Any) -> str:
    text = str(name).encode(errors="backslashreplace").decode()
    return text.replace("~", "~0").replace("/", "~1")


def _inner(value: Any) -> list[tuple[Any, Any]] | None:
    """Names and values inside a container; None for what is no container."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return list(enumerate(value))
    if isinstance(value, msgspec.Struct):
        return [(name, getattr(value, name)) for name in value.__struct_fields__]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if hasattr(value, "model_dump"):
        return list(value.model_dump().items())
    return None


def _localised(value: Any) -> Any:
    """The value with every datetime that lacks an offset made local time; containers are copied."""
    if isinstance(value, datetime):
        return _with_offset(value)
    inner = _inner(value)
    if inner is None:
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_localised(item) for _, item in inner]
    if isinstance(value, Mapping):
        return {_localised(name): _localised(item) for name, item in inner}
    changed = msgspec.to_builtins(value, builtin_types=(datetime, Decimal), enc_hook=_hook)
    return _localised(changed)


def _with_offset(value: datetime) -> datetime:
    if value.tzinfo is not None:
        return value
    local = value.astimezone()
    # ISO 8601 text has offsets of whole minutes; local mean time, before zones were standardised, also has seconds.
    whole = (local.utcoffset() or timedelta()) % timedelta(minutes=1) == timedelta()
    return local if whole else local.astimezone(UTC)
