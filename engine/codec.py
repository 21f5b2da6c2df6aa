"""Values to JSON and back: what a message may be, and how a batch of them becomes lines of text and is read again.

A message is any JSON value. Datetimes, dates, UUIDs, bytes (base64), Decimals (as numbers), dataclasses, msgspec Structs
and pydantic models become JSON. A datetime without offset is local time and is stored with its offset. NaN, infinity,
lone surrogates and what has no JSON form are refused with the message's number and the JSON pointer of the place.

A batch is encoded in one call. msgspec writes NaN as `null` and a datetime without offset as it stands, without asking;
so the text is searched for the only forms that these can take, and only a batch that has such a form is walked.
"""

import dataclasses
import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from geode_client.errors import InvalidMessage

_NAIVE_TIME = re.compile(rb'T\d\d:\d\d:\d\d(?:\.\d{6})?"')
POINTER_CHARACTERS_MAX = 200


def _hook(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


_encoder = msgspec.json.Encoder(enc_hook=_hook, decimal_format="number")
_decoder = msgspec.json.Decoder()


def encode(message: Any) -> bytes:
    """One value as JSON text; raises InvalidMessage."""
    return encode_lines([message])[:-1]


def encode_lines(messages: Sequence[Any]) -> bytes:
    """Each message as JSON text and a newline; raises InvalidMessage for the first that has no JSON form."""
    try:
        lines = _encoder.encode_lines(messages)
    except (TypeError, ValueError, RecursionError, OverflowError, AttributeError, msgspec.MsgspecError) as error:
        _refuse(messages, error)
        raise InvalidMessage(str(error)) from error
    if b"null" in lines:
        for index, message in enumerate(messages):
            _find(message, _is_not_finite, index, "NaN and infinity have no JSON form")
    if _NAIVE_TIME.search(lines) is not None:
        lines = _localise(messages)
    if lines.count(b"\n") != len(messages):
        raise InvalidMessage("a message of raw JSON text may not contain a line break")
    return lines


def _localise(messages: Sequence[Any]) -> bytes:
    try:
        return _encoder.encode_lines([_localised(message) for message in messages])
    except RecursionError as error:
        raise InvalidMessage("a message is nested too deeply") from error


def encode_raw_lines(lines: Sequence[bytes]) -> bytes:
    """Lines that hold JSON text already, checked and joined; raises InvalidMessage with the index of a bad one."""
    for index, line in enumerate(lines):
        try:
            _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidMessage(f"no JSON: {error}", message_index=index) from error
    return b"".join(line.strip() + b"\n" for line in lines)


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
    return msgspec.json.Decoder(kind).decode


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
        if error is not None:
            raise InvalidMessage("a message is nested too deeply to be decoded") from error
        return value


def _attempt(decode: Callable[..., Any], text: Any) -> tuple[Any, Exception | None]:
    try:
        return decode(text), None
    except Exception as error:
        return None, error


def _refuse(messages: Sequence[Any], failure: Exception) -> None:
    """Find the message and the place that cannot be encoded, and say what is wrong with it."""
    for index, message in enumerate(messages):
        try:
            _encoder.encode(message)
        except RecursionError as error:
            raise InvalidMessage("it is nested too deeply", message_index=index) from error
        except (TypeError, ValueError, OverflowError, AttributeError, msgspec.MsgspecError) as error:
            _find(message, _cannot_encode, index, None)
            raise InvalidMessage(str(error), message_index=index) from error
    raise InvalidMessage(str(failure)) from failure


def _is_not_finite(value: Any) -> bool:
    if isinstance(value, Decimal):
        return not value.is_finite()
    return isinstance(value, float) and not math.isfinite(value)


def _cannot_encode(value: Any) -> bool:
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return False
    try:
        _encoder.encode(value)
    except Exception:
        return True
    return False


def _find(message: Any, wrong: Callable[[Any], bool], index: int, reason: str | None) -> None:
    """Raise InvalidMessage for the first place of which `wrong` is true."""
    for pointer, value in _places(message):
        if wrong(value):
            raise InvalidMessage(
                reason or _reason(value), message_index=index, pointer=pointer[:POINTER_CHARACTERS_MAX]
            )


def _reason(value: Any) -> str:
    if isinstance(value, str):
        return "text with a lone surrogate, which is no character"
    return f"a value of type {type(value).__name__} has no JSON form"


def _places(message: Any) -> Iterable[tuple[str, Any]]:
    """All values inside a message with their JSON pointers, without recursion."""
    waiting: list[tuple[str, Any]] = [("", message)]
    while waiting:
        pointer, value = waiting.pop()
        inner = _inner(value)
        if inner is None:
            yield pointer, value
            continue
        for name, item in inner:
            yield f"{pointer} (a name)", name
            escaped = str(name).replace("~", "~0").replace("/", "~1")
            waiting.append((f"{pointer}/{escaped}", item))


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
    """The value with every datetime that lacks an offset made local time; containers are copied only where needed."""
    if isinstance(value, datetime):
        return value.astimezone() if value.tzinfo is None else value
    inner = _inner(value)
    if inner is None:
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_localised(item) for _, item in inner]
    if isinstance(value, Mapping):
        return {_localised(name): _localised(item) for name, item in inner}
    changed = msgspec.to_builtins(value, builtin_types=(datetime, Decimal), enc_hook=_hook)
    return _localised(changed)
