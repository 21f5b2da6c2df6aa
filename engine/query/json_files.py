"""Files of JSON as messages: lines (.jsonl), and documents (.json): an array, one value, or values one after the other.

A reader gives records with the numbers of their lines and their raw text; `checked` proves that records are JSON. The text is
stored as it stands, so that no digit of a number is lost. A document is cut by looking at its strings and brackets alone and
is never held whole.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from geode_client.errors import InvalidMessage
from geode_client.query.inputs import BadInput, Input
from geode_client.query.records import RECORD_BYTES_MAX, BadLine, Record, too_long

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_STRING_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRING = re.compile(_STRING_TEXT, re.DOTALL)
# The next token inside an array or object: whole strings and what lies between them, a bracket, or the beginning of a string
# that the buffer does not have whole.
_INSIDE = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING_TEXT + rb')++|[\[\]{}]|"', re.DOTALL)
_QUOTE = ord('"')
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")
_WORD = re.compile(rb"[^\s,\[\]{}\"]+")

_decoder = msgspec.json.Decoder()


class JsonLines:
    """One JSON value a line; empty lines are passed over."""

    notice: str | None = None

    def __init__(self, source: Input) -> None:
        self._source = source

    def records(self) -> Iterator[Record | None]:
        """The lines that are not empty; None where the input has nothing more at the moment. Raises BadLine."""
        number, rest = 0, b""
        try:
            while True:
                if not self._source.ready():
                    yield None
                if not (piece := self._source.read()):
                    break
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    number += 1
                    if len(line) > RECORD_BYTES_MAX:
                        raise too_long(number)
                    if number == 1:
                        line = line.removeprefix(BYTE_ORDER_MARK)
                    if line and not line.isspace():
                        yield Record(number, len(line), line)
                if len(rest) > RECORD_BYTES_MAX:
                    raise too_long(number + 1)
        except BadInput as error:
            raise BadLine(number + 1, str(error)) from error
        rest = rest.removeprefix(BYTE_ORDER_MARK) if number == 0 else rest
        if rest and not rest.isspace():
            yield Record(number + 1, len(rest), rest)

    def checked(self, raws: Sequence[Any]) -> tuple[list[bytes], list[Any]]:
        """JSON text and value of each record; raises InvalidMessage for the first that is not JSON."""
        return checked(raws, "; expected one JSON value a line")


class JsonDocuments:
    """An array is as many messages as it has items; other values are messages, however they are laid out."""

    notice: str | None = None

    def __init__(self, source: Input) -> None:
        self._source = source
        self._buffer = b""
        self._place = 0
        self._line = 1
        self._counted = 0
        self._ended = False
        self._want = 0

    def records(self) -> Iterator[Record | None]:
        """The values, each with the number of its first line. Raises BadLine."""
        try:
            yield from self._values()
        except BadInput as error:
            raise BadLine(self._line_at(len(self._buffer)), str(error)) from error

    def checked(self, raws: Sequence[Any]) -> tuple[list[bytes], list[Any]]:
        """JSON text and value of each record; raises InvalidMessage for the first that is not JSON."""
        return checked(raws, "")

    def _values(self) -> Iterator[Record]:
        while (first := self._peek()) is not None:
            if first == b"[":
                self._place += 1
                yield from self._items()
            elif first in b",:]}":
                raise self._unexpected(first)
            else:
                yield self._value()

    def _items(self) -> Iterator[Record]:
        """The items of an array whose bracket has been read."""
        opened = self._line_at(self._place)
        if self._after_item(opened) == b"]":
            self._place += 1
            return
        while True:
            first = self._after_item(opened)
            if first in b",:]}":
                raise self._unexpected(first)
            yield self._value()
            first = self._after_item(opened)
            if first not in b",]":
                raise self._unexpected(first, "',' or ']' after an item of the array")
            self._place += 1
            if first == b"]":
                return

    def _after_item(self, opened: int) -> bytes:
        first = self._peek()
        if first is None:
            line = self._line_at(self._place)
            raise BadLine(line, f"the array that begins in line {opened} has no end: the file was cut off")
        return first

    def _unexpected(self, found: bytes, expected: str = "a JSON value") -> BadLine:
        shown = found.decode("ascii", "replace")
        return BadLine(self._line_at(self._place), f"not valid JSON: expected {expected}, found {shown!r}")

    def _peek(self) -> bytes | None:
        """The next byte that is not a space, at `_place`; None at the end."""
        while True:
            found = _NOT_SPACE.search(self._buffer, self._place)
            if found is not None:
                self._place = found.start()
                return found.group()
            self._place = len(self._buffer)
            if not self._more():
                return None

    def _value(self) -> Record:
        start_line = self._line_at(self._place)
        end = self._end_of_value(start_line)
        raw = self._buffer[self._place : end]
        self._place = end
        return Record(start_line, len(raw), raw)

    def _end_of_value(self, line: int) -> int:
        """Where the value at `_place` ends; an incomplete one, at the end of the file, ends there."""
        at, depth = self._place, 0
        first = self._buffer[at : at + 1]
        if first not in b"[{":
            return self._end_of_scalar(line, _STRING if first == b'"' else _WORD)
        while True:
            for token in _INSIDE.finditer(self._buffer, at):
                kind = self._buffer[token.start()]
                if kind in b"[{":
                    depth += 1
                elif kind in b"]}":
                    depth -= 1
                elif kind == _QUOTE and token.end() - token.start() == 1:
                    at = token.start()
                    break
                if depth <= 0:
                    return token.end()
                at = token.end()
            else:
                at = len(self._buffer)
            before = self._place
            if not self._more_of_value(line):
                return len(self._buffer)
            at -= before - self._place

    def _end_of_scalar(self, line: int, pattern: re.Pattern[bytes]) -> int:
        while True:
            found = pattern.match(self._buffer, self._place)
            # A number or word that reaches the end of the buffer may go on behind it.
            if found is not None and (pattern is _STRING or found.end() < len(self._buffer)):
                return found.end()
            if not self._more_of_value(line):
                return len(self._buffer)

    def _more_of_value(self, line: int) -> bool:
        size = len(self._buffer) - self._place
        if size > RECORD_BYTES_MAX:
            raise too_long(line, "value")
        self._want = size  # twice as much each time, since a string is looked at again from its beginning
        return self._more()

    def _more(self) -> bool:
        """Read on; what lies before `_place` is forgotten. False at the end."""
        if self._ended:
            return False
        self._line_at(self._place)
        pieces, size = [self._buffer[self._place :]], 0
        self._place = self._counted = 0
        while size <= self._want and (piece := self._source.read()):
            pieces.append(piece)
            size += len(piece)
        self._ended = size <= self._want
        self._want = 0
        begins = self._line == 1 and not self._buffer
        self._buffer = b"".join(pieces)
        if begins:
            self._buffer = self._buffer.removeprefix(BYTE_ORDER_MARK)
        return size > 0

    def _line_at(self, place: int) -> int:
        self._line += self._buffer.count(b"\n", self._counted, place)
        self._counted = max(self._counted, place)
        return self._line


def checked(raws: Sequence[bytes], hint: str) -> tuple[list[bytes], list[Any]]:
    """The texts on one line each, and their values; raises InvalidMessage for the first that is not JSON."""
    # JSON has line breaks only between its tokens, where a space is as good.
    texts = [raw.strip(_SPACE).replace(b"\n", b" ").replace(b"\r", b" ") for raw in raws]
    try:
        values = _decoder.decode_lines(b"\n".join(texts))
        if len(values) == len(texts):
            return texts, values
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    return texts, [_decoded(text, index, hint) for index, text in enumerate(texts)]


def _decoded(text: bytes, index: int, hint: str) -> Any:
    try:
        return _decoder.decode(text)
    except RecursionError as error:
        raise InvalidMessage("not valid JSON: nested too deeply", message_index=index) from error
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text: {error.reason} at byte {error.start}; name the encoding: encoding: 'latin-1'"
        raise InvalidMessage(reason, message_index=index) from error
    except msgspec.MsgspecError as error:
        if not _is_utf8(text):
            reason = "not UTF-8 text; name the encoding of the file with the option encoding, such as 'latin-1'"
            raise InvalidMessage(reason, message_index=index) from error
        said = str(error).removeprefix("JSON is malformed: ")
        raise InvalidMessage(f"not valid JSON: {said}{hint}", message_index=index) from error


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
