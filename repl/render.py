"""How results and messages are shown: tables for people (`tables.py`), JSON, JSON lines, CSV or Markdown for programs.

Text that comes from messages never reaches a terminal raw: control characters are shown escaped, so that a message cannot
move the cursor or hide itself. In the formats for programs standard output holds data only.
"""

import csv
import io
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TextIO

from geode_client import codec
from geode_client.broker.subscription import Subscription
from geode_client.message import Message
from geode_client.query.result import Result, unique_names
from geode_client.values import CalendarInterval

CELL_CHARACTERS_MAX = 400

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_CONTROL_IN_JSON = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Format(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    VERTICAL = "vertical"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    MARKDOWN = "markdown"


class Output(Protocol):
    """Where results go."""

    def result(self, result: Result) -> None: ...

    def message(self, message: Message, *, label: str) -> None:
        """A message that a live subscription has received; `label` says which, where there are several.

        It is out when `flush` has been called.
        """
        ...

    def flush(self) -> None: ...

    def ended(self, subscription: Subscription, note: str | None) -> None: ...


def output_for(kind: Format, stream: TextIO | None = None, *, width: int | None = None) -> Output:
    """The output of a format; on standard output unless told otherwise."""
    stream = stream or sys.stdout
    match kind:
        case Format.TABLE | Format.VERTICAL:
            from geode_client.repl.tables import TableOutput

            return TableOutput(stream, width, vertical=kind is Format.VERTICAL)
        case Format.JSON:
            return JsonOutput(stream)
        case Format.JSONL:
            return JsonLinesOutput(stream)
        case Format.CSV:
            return CsvOutput(stream)
        case Format.MARKDOWN:
            return MarkdownOutput(stream)


def safe(text: str) -> str:
    """Text with its control characters, and those that turn the direction of writing, shown as escapes."""
    return _CONTROL.sub(lambda found: _escape(found.group()), text)


def _escape(character: str) -> str:
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    if short is not None:
        return short
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def json_text(value: Any) -> str:
    """A value as JSON; what could disturb a terminal is escaped in JSON's own way."""
    text = codec.encode(_plain(value)).decode()
    return _CONTROL_IN_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _plain(value: Any) -> Any:
    if isinstance(value, CalendarInterval):
        return str(value)
    return value.total_seconds() if isinstance(value, timedelta) else value


def cell_text(value: Any, *, shorten: bool = True) -> str:
    """A value in a table's cell."""
    match value:
        case None:
            return "NULL"
        case str():
            text = value
        case bool():
            text = "true" if value else "false"
        case datetime():
            text = value.isoformat(sep=" ").removesuffix("+00:00") + ("Z" if value.utcoffset() == timedelta(0) else "")
        case float():
            text = repr(value)
        case dict() | list():
            text = json_text(value)
        case _:
            text = str(value)
    shown = safe(text)
    return shown if len(shown) <= CELL_CHARACTERS_MAX or not shorten else shown[: CELL_CHARACTERS_MAX - 1] + "…"


def message_record(message: Message) -> dict[str, Any]:
    """A message with what the store knows of it, for the formats that programs read."""
    record: dict[str, Any] = {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "id": message.id,
        "timestamp": message.timestamp,
    }
    if message.key is not None:
        record["key"] = message.key
    if message.headers:
        record["headers"] = message.headers
    record["data"] = message.data
    return record


def counted(number: int, noun: str, several: str | None = None) -> str:
    """A number and its noun: 1 row, 2 rows."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


class JsonLinesOutput:
    """One JSON object a line: rows of queries, and messages."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def result(self, result: Result) -> None:
        for row in result.rows:
            self._stream.write(json_text(_record(result.columns, row)) + "\n")
        self._stream.flush()

    def message(self, message: Message, *, label: str) -> None:
        self._stream.write(json_text(message_record(message)) + "\n")

    def flush(self) -> None:
        self._stream.flush()

    def ended(self, subscription: Subscription, note: str | None) -> None:
        """Nothing: standard output holds data only."""


class BodyOutput(JsonLinesOutput):
    """The messages alone, as they are stored, one a line."""

    def message(self, message: Message, *, label: str) -> None:
        self._stream.write(message.body.decode() + "\n")


class JsonOutput(JsonLinesOutput):
    """One JSON array for each query; messages as in JSON lines."""

    def result(self, result: Result) -> None:
        if result.columns:
            rows = ",\n ".join(json_text(_record(result.columns, row)) for row in result.rows)
            self._stream.write(f"[{rows}]\n")
            self._stream.flush()


class CsvOutput:
    """RFC 4180, with a header for each query; objects and lists as JSON text, NULL as nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._message_header_written = False

    def result(self, result: Result) -> None:
        if result.columns:
            self._write([result.columns, *[[_csv_value(value) for value in row] for row in result.rows]])
            self._stream.flush()

    def message(self, message: Message, *, label: str) -> None:
        record = {"key": None, **message_record(message)}
        record.pop("headers", None)
        names = ("topic", "partition", "offset", "id", "timestamp", "key", "data")
        rows: list[Sequence[Any]] = [] if self._message_header_written else [names]
        self._message_header_written = True
        self._write([*rows, [_csv_value(record[name]) for name in names]])

    def flush(self) -> None:
        self._stream.flush()

    def ended(self, subscription: Subscription, note: str | None) -> None:
        """Nothing: standard output holds data only."""

    def _write(self, rows: Sequence[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._stream.write(text.getvalue())


def _record(columns: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in zip(unique_names(columns), row, strict=True)}


def _csv_value(value: Any) -> Any:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dict() | list():
            return json_text(value)
        case date():
            return value.isoformat()
        case _:
            return value


class MarkdownOutput:
    """Tables as Markdown writes them; messages as rows of one table."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._message_header_written = False

    def result(self, result: Result) -> None:
        if result.columns:
            self._head(result.columns)
            self._write([self._row(cell_text(value, shorten=False) for value in row) for row in result.rows])
            self._stream.flush()

    def message(self, message: Message, *, label: str) -> None:
        if not self._message_header_written:
            self._message_header_written = True
            self._head(("topic", "partition", "offset", "key", "data"))
        cells = (message.topic, message.partition, message.offset, message.key, message.body.decode())
        self._write([self._row(cell_text(cell, shorten=False) for cell in cells)])

    def ended(self, subscription: Subscription, note: str | None) -> None:
        """Nothing: standard output holds data only."""

    def _head(self, columns: Sequence[str]) -> None:
        self._write([self._row(safe(name) for name in columns), self._row("---" for _ in columns)])

    def _row(self, cells: Iterable[str]) -> str:
        escaped = (cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells)
        return "| " + " | ".join(escaped) + " |"

    def _write(self, lines: Sequence[str]) -> None:
        self._stream.writelines(f"{line}\n" for line in lines)

    def flush(self) -> None:
        self._stream.flush()
