"""Files of CSV as messages: a row is a message whose fields have the names of the header.

What the options leave open is found in the first 64 MiB, or in the whole file where it is smaller: the delimiter, the quote
character, whether there is a header, and one type for each column (csv_types.py). The sample is kept as
bytes, and is read a second time when the rows are. A NULL cell leaves its field out.

With `quoted: 'text'` a cell in quotes is text whatever it looks like, so '' and NULL differ; arrays and objects, which cannot
be written without quotes, stay arrays and objects, and text that looks like them is written as a JSON string.
"""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geode_client import codec
from geode_client.errors import InvalidMessage
from geode_client.grammar.ast import ColumnDefinition, TypeNode
from geode_client.query.csv_types import NO_JSON, CsvColumn, Kind, fits, json_value
from geode_client.query.inputs import BadInput, Input
from geode_client.query.records import RECORD_BYTES_MAX, BadLine, Record, too_long
from geode_client.schema import Schema

COLUMNS_MAX = 10_000
SAMPLE_BYTES = 64 * 1024 * 1024
ROWS_AT_ONCE = 2000
SNIFFED_ROWS = 100
SNIFFED_BYTES = 1024 * 1024
COLUMNS_SHOWN = 100
DELIMITERS = (",", ";", "\t", "|")
# Put before the text of quoted cells where they are told apart; what a file has of it itself is seen as quoted.
_MARK = "\x00"
_YEAR = re.compile(r"(?:1[5-9]|20|21)\d\d")


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How a CSV file is read; None for `delimiter`, `quote` and `header` is found out.

    `types` go before what is found and before the schema; `infer` False reads all other cells as text. `quoted_text`: cells
    in quotes are text.
    """

    delimiter: str | None = None
    quote: str | None = None
    header: bool | None = None
    null: str = ""
    infer: bool = True
    quoted_text: bool = False
    types: Mapping[str, TypeNode] | None = None


class CsvRows:
    """One message a row. `declared` are the columns of the topic's schema."""

    def __init__(self, source: Input, declared: Mapping[str, TypeNode], options: CsvOptions) -> None:
        self._source = source
        self._declared = declared
        self._options = options
        self._given = dict(options.types or {})
        self._columns: list[CsvColumn] = []
        self._sample: list[bytes] = []
        self._is_whole = False
        self._check = (
            Schema(tuple(ColumnDefinition(name, kind) for name, kind in self._given.items())) if self._given else None
        )
        self.notice: str | None = None

    # ── rows ──
    def records(self) -> Iterator[Record | None]:
        """The rows behind the header. Raises BadLine."""
        # The bound of the module is the process's own; a cell may be as long as a record here.
        csv.field_size_limit(max(csv.field_size_limit(), RECORD_BYTES_MAX))
        self._read_sample()
        self._find_dialect()
        has_header = self._find_columns()
        if not self._columns:
            return
        if self._options.infer:
            self._find_types(has_header)
        self.notice = self._found(has_header)
        rows = self._rows(itertools.chain(self._taken_sample(), self._rest()))
        if has_header:
            next(rows, None)
        yield from rows

    def _rows(self, pieces: Iterable[bytes]) -> Iterator[Record]:
        lines = _Lines(pieces, self._mark_quotes if self._options.quoted_text else None)
        reader = csv.reader(lines, delimiter=self._delimiter, quotechar=self._quote, strict=True)
        before = size = 0
        blank_is_null = self._options.quoted_text and len(self._columns) == 1
        while True:
            first = before + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise BadLine(first, f"not valid CSV: {error}") from error
            except BadInput as error:
                raise BadLine(lines.number + 1, str(error)) from error
            if row is None:
                return
            before = reader.line_num
            length, size = lines.bytes_read - size, lines.bytes_read
            if row:
                yield Record(first, length, row)
            elif blank_is_null:
                yield Record(first, length, [self._options.null])

    def _mark_quotes(self, line: str, inside: bool) -> tuple[str, bool]:
        """The line with a mark before the text of each quoted cell; whether a quoted cell goes on in the next line."""
        head = ""
        if inside:
            end = self._cell_end.match(line).end()  # type: ignore[union-attr]
            if end == len(line):
                return line, True
            head, line = line[: end + 1], line[end + 1 :]
        open_at_end = False

        def marked(cell: re.Match[str]) -> str:
            nonlocal open_at_end
            open_at_end = not cell.group(3)
            return f"{cell.group(1)}{self._quote}{_MARK}{cell.group(2)}{cell.group(3)}"

        return head + self._quoted_cell.sub(marked, line), open_at_end

    # ── the sample ──
    def _read_sample(self) -> None:
        """The bytes that types are decided over; without types to be found the header is enough."""
        wanted = SAMPLE_BYTES if self._options.infer else SNIFFED_BYTES
        size = 0
        try:
            while size < wanted:
                piece = self._source.read()
                if not piece:
                    self._is_whole = True
                    break
                self._sample.append(piece)
                size += len(piece)
        except BadInput as error:
            raise BadLine(_line_after(self._sample), str(error)) from error
        text = self._sample[0] if self._sample else b""
        if b"\r" in text and b"\n" not in text:
            self._source = _OldLines(self._source)  # type: ignore[assignment]
            self._sample = [piece.replace(b"\r", b"\n") for piece in self._sample]

    def _taken_sample(self) -> Iterator[bytes]:
        """The pieces of the sample, which are let go of on the way."""
        self._sample.reverse()
        while self._sample:
            yield self._sample.pop()

    def _rest(self) -> Iterator[bytes]:
        if not self._is_whole:
            while piece := self._source.read():
                yield piece

    def _find_dialect(self) -> None:
        text = _first_lines(self._sample, self._is_whole)
        self._quote = self._options.quote or ("'" if '"' not in text and text.count("'") > 1 else '"')
        self._delimiter = self._options.delimiter or _delimiter_of(text, self._quote)
        if self._options.quote is None and self._quote == "'" and not _is_quoted_by(text, self._delimiter, "'"):
            self._quote = '"'
        delimiter, quote = re.escape(self._delimiter), re.escape(self._quote)
        self._quoted_cell = re.compile(rf"(^|{delimiter}){quote}((?:[^{quote}]|{quote}{quote})*)({quote}|$)")
        self._cell_end = re.compile(rf"(?:[^{quote}]|{quote}{quote})*")

    def _find_columns(self) -> bool:
        """Name the columns; whether the first row does."""
        rows = self._first_rows(self._sniffed()) or self._first_rows(iter(self._sample), strict=True)
        if not rows:
            return False
        head = [cell.removeprefix(_MARK) for cell in rows[0]]
        if len(head) > COLUMNS_MAX:
            raise BadLine(1, f"the file has {len(head):,} columns, more than the {COLUMNS_MAX:,} that can be read")
        has_header = self._options.header
        if has_header is None:
            has_header = self._looks_like_header(head, rows[1:])
        names = _unique(head) if has_header else [f"column{place}" for place in range(1, len(head) + 1)]
        for name in self._given:
            if name not in names:
                raise BadLine(1, f"the option types names the column {name}, which the file does not have")
        for name in names:
            declared = self._given.get(name) or self._declared.get(name)
            kind = Kind.UNKNOWN if self._options.infer else Kind.STRING
            self._columns.append(CsvColumn(name, declared, kind))
        return has_header

    def _first_rows(self, pieces: Iterator[bytes], *, strict: bool = False) -> list[list[str]]:
        """Some rows; only with `strict` is it an error when the pieces end in the middle of one."""
        rows: list[list[str]] = []
        try:
            rows.extend(row.raw for row in itertools.islice(self._rows(pieces), SNIFFED_ROWS))
        except BadLine:
            if strict:
                raise
        return rows

    def _sniffed(self) -> Iterator[bytes]:
        """The beginning of the sample, up to the end of a line."""
        size = 0
        for piece in self._sample:
            size += len(piece)
            if size > SNIFFED_BYTES and b"\n" in piece:
                yield piece[: piece.rindex(b"\n") + 1]
                return
            yield piece

    def _looks_like_header(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
        """Names, unless a cell of the first row is a value as those below it are. Years may be names."""
        if any(name in self._declared or name in self._given for name in head):
            return True
        for place, cell in enumerate(head):
            cells = [row[place] for row in rows if place < len(row) and row[place] not in ("", self._options.null)]
            column = CsvColumn("")
            column.learn([one.removeprefix(_MARK) for one in cells])
            if column.kind in (Kind.STRING, Kind.UNKNOWN) and rows:
                continue
            kinds: tuple[Kind, ...] = (column.kind,)
            if column.kind is Kind.INT:
                kinds = (Kind.INT, Kind.FLOAT)
            elif column.kind is Kind.UNKNOWN:
                kinds = (Kind.INT, Kind.FLOAT, Kind.DATE)
            if cell and not _YEAR.fullmatch(cell) and any(fits(kind, (cell,)) for kind in kinds):
                return False
        return True

    def _find_types(self, has_header: bool) -> None:
        pieces: Iterator[bytes] = iter(self._sample if self._is_whole else self._sample_lines())
        rows = self._rows(pieces)
        if has_header:
            next(rows, None)
        try:
            while block := [row.raw for row in itertools.islice(rows, ROWS_AT_ONCE)]:
                self._learn(block)
        except BadLine:
            if self._is_whole:
                return  # it is met again, and named, when the rows are read
            # The sample ends inside a quoted cell of several lines: the rows before it decide.

    def _sample_lines(self) -> Iterator[bytes]:
        """The sample without the line that it ends in."""
        yield from self._sample[:-1]
        last = self._sample[-1]
        yield last[: last.rfind(b"\n") + 1]

    def _learn(self, block: Sequence[Sequence[str]]) -> None:
        width = len(self._columns)
        rows = [row for row in block if len(row) == width]
        for column, cells in zip(self._columns, zip(*rows, strict=True), strict=False):
            if column.declared is None and column.kind is not Kind.STRING:
                column.learn([cell for cell in cells if not self._is_apart(cell)])

    def _is_apart(self, cell: str) -> bool:
        """Whether a cell says nothing of its column's type: NULL, or text because of its quotes."""
        return cell == self._options.null or (self._options.quoted_text and cell.startswith(_MARK))

    def _found(self, has_header: bool) -> str:
        parts = []
        for column in self._columns[:COLUMNS_SHOWN]:
            kind = column.kind.value if column.declared is None else _type_text(column.declared)
            parts.append(f"{column.name} {kind}")
        if len(self._columns) > COLUMNS_SHOWN:
            parts.append(f"and {len(self._columns) - COLUMNS_SHOWN} more")
        how = [] if has_header else ["no header"]
        if self._delimiter != ",":
            how.append("tab-separated" if self._delimiter == "\t" else f"delimiter '{self._delimiter}'")
        if self._quote != '"':
            how.append(f"quote {self._quote}")
        described = f" ({', '.join(how)})" if how else ""
        return f"columns{described}: {', '.join(parts)}"

    # ── messages ──
    def checked(self, raws: Sequence[Any]) -> tuple[list[bytes], list[Any]]:
        """JSON text and value of the message of each row; raises InvalidMessage for the first bad one."""
        width = len(self._columns)
        for index, row in enumerate(raws):
            if len(row) != width:
                found = f"{len(row)} cell{'s' * (len(row) != 1)}"
                raise InvalidMessage(f"the row has {found}; the header has {width}", message_index=index)
        bodies: list[dict[str, Any]] = [{} for _ in raws]
        failed: InvalidMessage | None = None
        for column, cells in zip(self._columns, zip(*raws, strict=True), strict=False):
            error = self._fill(column, cells, bodies)
            if error is not None and (failed is None or error.message_index < failed.message_index):
                failed = error
        if failed is not None:
            raise failed
        lines = codec.encode_lines(bodies)
        if self._check is not None:
            self._check.check(lines, strict=False)
        return codec.split_lines(lines), bodies

    def _fill(self, column: CsvColumn, cells: Sequence[str], bodies: list[dict[str, Any]]) -> InvalidMessage | None:
        """Give the messages their field of one column; what is wrong with the first bad cell."""
        null, name = self._options.null, column.name
        places: Sequence[int] = range(len(cells))
        if null in cells or self._options.quoted_text:
            places = [place for place in places if not self._is_apart(cells[place])]
        values = column.cast([cells[place] for place in places] if len(places) < len(cells) else cells)
        if isinstance(values, int):
            place = places[values]
            hint = f"name its type: types: ({name}: STRING)"
            reason = f"{cells[place]!r:.60} is not of the type {column.kind.value} that the column has before; {hint}"
            return InvalidMessage(reason, message_index=place, pointer=f"/{name}")
        for place, value in zip(places, values, strict=True):
            if value is not None:
                bodies[place][name] = value
        if self._options.quoted_text:
            for place, cell in enumerate(cells):
                if cell.startswith(_MARK):
                    bodies[place][name] = self._quoted_value(column, cell[1:])
        return None

    def _quoted_value(self, column: CsvColumn, text: str) -> Any:
        if column.declared is not None:
            values = column.cast([text])
            assert not isinstance(values, int)
            return values[0]
        if text[:1] in ("{", "[", '"'):
            value = json_value(text)
            return text if value is NO_JSON else value
        return text


class _Lines:
    """The lines of pieces of UTF-8 text, numbered and bounded."""

    def __init__(self, pieces: Iterable[bytes], mark: Any) -> None:
        self._pieces = iter(pieces)
        self._mark = mark
        self._inside = False
        self.number = 0
        self.bytes_read = 0
        self._made = self._split()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._made)

    def _split(self) -> Iterator[str]:
        rest = b""
        for piece in self._pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield self._text(line + b"\n")
            if len(rest) > RECORD_BYTES_MAX:
                raise too_long(self.number + 1)
        if rest:
            yield self._text(rest)

    def _text(self, line: bytes) -> str:
        self.number += 1
        self.bytes_read += len(line)
        if len(line) > RECORD_BYTES_MAX:
            raise too_long(self.number)
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise BadLine(
                self.number,
                f"not UTF-8 text: {error.reason} at byte {error.start}; name the encoding of the file with the option"
                " encoding, such as 'latin-1'",
            ) from error
        if self.number == 1:
            text = text.removeprefix("\ufeff")
        if self._mark is not None:
            text, self._inside = self._mark(text, self._inside)
        return text


class _OldLines:
    """An input whose lines end with a carriage return alone."""

    def __init__(self, source: Input) -> None:
        self._source = source

    def read(self) -> bytes:
        return self._source.read().replace(b"\r", b"\n")


def _line_after(pieces: Sequence[bytes]) -> int:
    return 1 + sum(piece.count(b"\n") for piece in pieces)


def _first_lines(sample: Sequence[bytes], is_whole: bool) -> str:
    """Some whole lines from the beginning, as far as they can be read."""
    found = b"".join(itertools.islice(sample, 4))[:SNIFFED_BYTES]
    if not is_whole or len(found) == SNIFFED_BYTES:
        found = found[: found.rfind(b"\n") + 1] or found
    lines = found.decode(errors="replace").removeprefix("\ufeff").splitlines(keepends=True)
    return "".join(lines[:SNIFFED_ROWS])


def _delimiter_of(text: str, quote: str) -> str:
    """The sign that cuts most lines into the same number of cells, more than one."""
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        try:
            widths = [
                len(row) for row in csv.reader(text.splitlines(keepends=True), delimiter=delimiter, quotechar=quote)
            ]
        except csv.Error:
            continue
        widths = [width for width in widths if width]
        if not widths or widths[0] < 2:
            continue
        score = (sum(width == widths[0] for width in widths) / len(widths), widths[0])
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _is_quoted_by(text: str, delimiter: str, quote: str) -> bool:
    """Whether most lines have a cell that begins and ends with the quote character."""
    sign, mark = re.escape(delimiter), re.escape(quote)
    cell = re.compile(rf"(?:^|{sign}){mark}[^{mark}]*{mark}(?={sign}|\r?$)")
    lines = text.splitlines()
    return bool(lines) and sum(cell.search(line) is not None for line in lines) * 2 > len(lines)


def _unique(head: Sequence[str]) -> list[str]:
    """Names for all columns: one without a name gets its number, a second of one name a number behind it."""
    taken = {cell.strip() for cell in head}
    names: dict[str, None] = {}
    for place, cell in enumerate(head, 1):
        stem = cell.strip() or f"column{place}"
        name, number = stem, 1
        while name in names or (number > 1 and name in taken) or (not cell.strip() and name in taken):
            number += 1
            name = f"{stem}_{number}"
        names[name] = None
    return list(names)


def _type_text(kind: TypeNode) -> str:
    from geode_client.grammar.written import type_text

    return type_text(kind)
