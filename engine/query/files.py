"""Files that COPY reads and writes: lines of JSON, and CSV with a header.

A reader gives records with their line numbers, and makes each into a message; a writer makes the text of a chunk. Neither
knows of brokers. What is wrong with a record is said by raising InvalidMessage.

CSV: a cell becomes what its declared column is; without a schema, numbers, true, false and JSON objects and arrays become
such, everything else text (`infer: false`: everything is text). A cell with the text of `null` (nothing, unless the option
says otherwise) leaves the field out. Nested values are written as JSON.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, Any, Protocol

import msgspec

from geode_client.errors import GeodeError, InvalidMessage
from geode_client.grammar.ast import Scalar, TypeNode

LINE_BYTES_MAX = 64 * 1024 * 1024
COLUMNS_MAX = 10_000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# As JSON writes numbers: what has a leading zero or a plus sign, such as a telephone number, is text.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_TRUTHS = {"true": True, "false": False}
_WHOLE_DIGITS_MAX = 4000

_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How cells are parted, what stands for NULL, and whether cells without a declared type are guessed at."""

    delimiter: str = ","
    null: str = ""
    infer: bool = True


class BadLine(GeodeError):
    """A line that no record can be made of; `number` counts from 1."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Reader(Protocol):
    """Reads the records of an open file. `bytes_read` tells how far it is."""

    @property
    def bytes_read(self) -> int: ...

    def records(self) -> Iterator[tuple[int, int, Any]]:
        """Number of the first line, size in bytes, and the raw record; raises BadLine."""
        ...

    def message(self, raw: Any, index: int) -> Any:
        """The message of a raw record; raises InvalidMessage with `index`."""
        ...


class _Lines:
    """The lines of a file, numbered and bounded."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.number = 0
        self.bytes_read = 0

    def __iter__(self) -> Iterator[bytes]:
        while line := self._stream.readline(LINE_BYTES_MAX + 1):
            self.number += 1
            self.bytes_read += len(line)
            if len(line) > LINE_BYTES_MAX:
                raise BadLine(self.number, f"the line has more than {LINE_BYTES_MAX} bytes")
            yield line.removeprefix(BYTE_ORDER_MARK) if self.number == 1 else line


class JsonLines:
    """One JSON value a line; empty lines are passed over."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines = _Lines(stream)

    @property
    def bytes_read(self) -> int:
        return self._lines.bytes_read

    def records(self) -> Iterator[tuple[int, int, bytes]]:
        for line in self._lines:
            if line.strip():
                yield self._lines.number, len(line), line

    def message(self, raw: Any, index: int) -> Any:
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidMessage(f"no JSON: {error}", message_index=index) from error
        except RecursionError as error:
            raise InvalidMessage("no JSON: it is nested too deeply", message_index=index) from error


class CsvRows:
    """One message a row, with the names of the first row."""

    def __init__(self, stream: IO[bytes], types: Mapping[str, TypeNode], options: CsvOptions) -> None:
        self._lines = _Lines(stream)
        self._types = types
        self._options = options
        self._columns: list[tuple[str, Callable[[str], Any]]] = []

    @property
    def bytes_read(self) -> int:
        return self._lines.bytes_read

    def records(self) -> Iterator[tuple[int, int, list[str]]]:
        # The bound of the module is the process's own; a cell may be as long as a line here.
        csv.field_size_limit(max(csv.field_size_limit(), LINE_BYTES_MAX))
        rows = csv.reader(self._texts(), delimiter=self._options.delimiter, strict=True)
        before = 0
        while True:
            first = self._lines.number + 1
            try:
                row = next(rows, None)
            except csv.Error as error:
                raise BadLine(first, f"no CSV: {error}") from error
            if row is None:
                return
            size, before = self._lines.bytes_read - before, self._lines.bytes_read
            if not row:
                continue
            if not self._columns:
                self._columns = self._header(row, first)
            else:
                yield first, size, row

    def _texts(self) -> Iterator[str]:
        for line in self._lines:
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise BadLine(self._lines.number, f"no UTF-8 text: {error.reason} at byte {error.start}") from error

    def _header(self, row: list[str], number: int) -> list[tuple[str, Callable[[str], Any]]]:
        if len(row) > COLUMNS_MAX:
            raise BadLine(number, f"a file has at most {COLUMNS_MAX} columns, not {len(row)}")
        for place, name in enumerate(row):
            if not name:
                raise BadLine(number, f"column {place + 1} of the header has no name")
            if name in row[:place]:
                raise BadLine(number, f"the header has column {name} twice")
        guess = _guessed if self._options.infer else _as_it_is
        return [(name, _caster(self._types.get(name), guess)) for name in row]

    def message(self, raw: Any, index: int) -> Any:
        if len(raw) != len(self._columns):
            found = f"{len(raw)} cell{'s' * (len(raw) != 1)}"
            raise InvalidMessage(f"it has {found}; the header has {len(self._columns)}", message_index=index)
        null = self._options.null
        return {name: cast(cell) for (name, cast), cell in zip(self._columns, raw, strict=True) if cell != null}


def _as_it_is(cell: str) -> Any:
    return cell


def _number(cell: str) -> Any:
    """The number that the cell is, or the cell."""
    if _NUMBER.fullmatch(cell) is None or len(cell) > _WHOLE_DIGITS_MAX:
        return cell
    try:
        return msgspec.json.decode(cell)
    except msgspec.DecodeError:  # out of range
        return cell


def _decimal(cell: str) -> Any:
    return Decimal(cell) if _NUMBER.fullmatch(cell) is not None and len(cell) <= _WHOLE_DIGITS_MAX else cell


def _truth(cell: str) -> Any:
    return _TRUTHS.get(cell.lower(), cell)


def _nested(cell: str) -> Any:
    try:
        return msgspec.json.decode(cell)
    except (msgspec.DecodeError, RecursionError):
        return cell


def _guessed(cell: str) -> Any:
    if cell in _TRUTHS:
        return _TRUTHS[cell]
    return _nested(cell) if cell[:1] in ("{", "[") else _number(cell)


def _caster(kind: TypeNode | None, guess: Callable[[str], Any]) -> Callable[[str], Any]:
    """How cells of a column become values; what does not fit stays text, and is refused by the schema."""
    match kind:
        case None | Scalar("ANY"):
            return guess
        case Scalar("INT" | "FLOAT"):
            return _number
        case Scalar("DECIMAL"):
            return _decimal
        case Scalar("BOOL"):
            return _truth
        case Scalar():
            return _as_it_is
        case _:
            return _nested


class CsvWriter:
    """Makes rows of messages; `names` are the columns. A message that is no object stands in the column `value`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    def header(self) -> bytes:
        return self._text([self._names])

    def rows(self, bodies: Iterable[Any]) -> bytes:
        """The text of some messages."""
        objects = [body if isinstance(body, dict) else {"value": body} for body in bodies]
        return self._text([[_cell(body.get(name)) for name in self._names] for body in objects])

    def _text(self, rows: Sequence[Sequence[str]]) -> bytes:
        stream = io.StringIO()
        # The module leaves a lone carriage return without quotes where lines end with a line feed.
        lone = any("\r" in cell for row in rows for cell in row)
        csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL if lone else csv.QUOTE_MINIMAL).writerows(rows)
        return stream.getvalue().encode()


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else _encode(value).decode()
