"""From rows to files: the writers of the formats, and files that appear under their name only when they are whole.

A writer takes rows by column and gives bytes. CSV and Parquet need to know all columns before the first row: they are given
the rows twice, or the names. A pipe, a device or standard output is written as the rows come.
"""

import asyncio
import contextlib
import io
import os
import select
import stat
import sys
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from geode_client.errors import GeodeError
from geode_client.query.formats import FileFormat
from geode_client.query.inputs import STANDARD_STREAM, explained

PIPE_BYTES = 4096
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")

_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How files are written. `quoted_text`: text is put in quotes, and nothing else is, so that reading tells them apart;
    `escape_formulas`: text that a spreadsheet would compute gets an apostrophe before it."""

    format: str | None = None
    compression: str | None = None
    delimiter: str | None = None
    quote: str = '"'
    header: bool = True
    null: str = ""
    quoted_text: bool = False
    escape_formulas: bool = False


class CsvWriter:
    """Makes rows of CSV of columns with these names."""

    def __init__(self, names: Sequence[str], options: WriteOptions, delimiter: str = ",") -> None:
        self._options = options
        self._quote = options.quote
        self._delimiter = options.delimiter or delimiter
        self._unsafe = frozenset((self._delimiter, self._quote, "\n", "\r"))
        self.names = tuple(names)

    def header(self) -> bytes:
        """The first line, nothing where none is wanted."""
        if not self._options.header:
            return b""
        return self._lines([[self._cell(name) for name in self.names]])

    def rows(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """The text of some rows, given by column in the order of `names`."""
        made = [[self._cell(value) for value in column] for column in columns]
        return self._lines(zip(*made, strict=True))

    def _lines(self, rows: Any) -> bytes:
        lines = [self._delimiter.join(row) for row in rows]
        if len(self.names) == 1 and not self._options.quoted_text:
            # An empty line is no row to those who read it.
            lines = [line or self._quote * 2 for line in lines]
        return "".join([line + "\n" for line in lines]).encode()

    def _cell(self, value: Any) -> str:
        if value is None:
            return self._options.null
        if not isinstance(value, str):
            text = value if isinstance(value, bytes) else _encode(value)
            if text[:1] == b'"':  # a time, UUID or the like: its text form
                return self._text(msgspec.json.decode(text))
            return self._in_quotes(text.decode(), always=False)
        return self._text(value)

    def _text(self, text: str) -> str:
        if self._options.escape_formulas and text.startswith(FORMULA_SIGNS):
            text = f"'{text}"
        if self._options.quoted_text and text[:1] in ("{", "[", '"'):
            text = _encode(text).decode()
        return self._in_quotes(text, always=self._options.quoted_text or text == self._options.null != "")

    def _in_quotes(self, text: str, *, always: bool) -> str:
        if not always and self._unsafe.isdisjoint(text) and not text.startswith(" ") and not text.endswith(" "):
            return text
        return f"{self._quote}{text.replace(self._quote, self._quote * 2)}{self._quote}"


# ── where it goes ──
class Output:
    """Takes bytes in worker threads. `size`: how many so far, before compression."""

    def __init__(self, stream: IO[bytes], compression: str) -> None:
        self._stream = stream
        self._pack = _packer(compression)
        self.size = 0

    async def write(self, data: bytes) -> None:
        if data:
            await asyncio.to_thread(self.write_now, data)

    def write_now(self, data: bytes) -> None:
        self.size += len(data)
        self._stream.write(self._pack.compress(data) if self._pack is not None else data)

    def finish(self) -> None:
        """Write what is still held back."""
        if self._pack is not None:
            self._stream.write(self._pack.flush())
        self._stream.flush()


class OutputStream(io.RawIOBase):
    """An Output as a stream, for libraries that write to one."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._output.write_now(bytes(data))
        return len(data)

    def tell(self) -> int:
        return self._output.size


def _packer(compression: str) -> Any:
    match compression:
        case "gzip":
            return zlib.compressobj(6, zlib.DEFLATED, 31)
        case "zstd":
            import zstandard

            return zstandard.ZstdCompressor().compressobj()
        case _:
            return None


class _Pipe(io.RawIOBase):
    """Standard output or another pipe: never waits for longer than a moment, so that a wait can be given up."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self.stopped = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        while view:
            if self._poll.poll(100):
                view = view[os.write(self._descriptor, view[:PIPE_BYTES]) :]
            elif self.stopped:
                raise BrokenPipeError("the statement was cancelled")
        return len(data)


@contextlib.asynccontextmanager
async def output_to(path: str, form: FileFormat) -> AsyncIterator[Output]:
    """Open where a path (or `-`) leads; a file appears under its name when the block ends without an exception."""
    opened = _standard_output if path == STANDARD_STREAM else _file_at
    with opened(os.path.expanduser(path)) as stream:
        output = Output(stream, form.compression)
        try:
            yield output
        except BaseException:
            if isinstance(stream, _Pipe):
                stream.stopped = True
            raise
        await asyncio.to_thread(output.finish)


@contextlib.contextmanager
def _standard_output(path: str) -> Iterator[Any]:
    try:
        sys.stdout.flush()
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise GeodeError("there is no standard output to write to") from error
    # What goes wrong with it is not explained: a reader that has gone ends the command quietly.
    yield _Pipe(descriptor)


@contextlib.contextmanager
def _file_at(given: str) -> Iterator[Any]:
    path = Path(os.path.realpath(given))
    if path.is_dir():
        raise GeodeError(f"{given} is a directory: name a file")
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            descriptor = os.open(path, os.O_WRONLY)
            try:
                yield _Pipe(descriptor)
            finally:
                os.close(descriptor)
            return
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
        try:
            with unfinished.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise explained(given, error) from error


def as_columns(bodies: Sequence[Any], names: Sequence[str]) -> list[list[Any]]:
    """Messages by column; one that is no object has its value in the column `value`."""
    objects = [body if isinstance(body, dict) else {"value": body} for body in bodies]
    return [[body.get(name) for body in objects] for name in names]
