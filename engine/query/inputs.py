"""Where COPY reads from: files, patterns of files and standard input, decompressed, as UTF-8 text in pieces.

An `Input` gives bytes piece by piece and never holds more than a few megabytes, whatever the file expands to. Compression is
found by the first bytes, the encoding by a byte order mark or by the option. Everything here may block and runs in a worker
thread; `stop` ends a wait for a pipe. What is wrong with the bytes is raised as BadInput, without a place: the reader of
the format knows the line.
"""

import codecs
import glob
import os
import select
import stat
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from geode_client.errors import GeodeError

STANDARD_STREAM = "-"
PIECE_BYTES = 256 * 1024
COMPRESSED_BYTES = 64 * 1024
# One call of the zstd decompressor gives up to 32 KiB for each byte that it gets.
ZSTD_BYTES = 1024
# What a file may expand to whatever its size; beyond that, `expansion_max` times its compressed bytes.
EXPANSION_FREE_BYTES = 64 * 1024 * 1024
EXPANSION_MAX = 200
POLL_MILLISECONDS = 100
FILES_MAX = 10_000
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UTF8 = frozenset(("utf-8", "ascii"))


class BadInput(GeodeError):
    """Bytes that are not what the name or the options of a file promise."""


class Stopped(GeodeError):
    """The wait for a pipe was given up because the statement was cancelled."""


def explained(name: str, error: OSError) -> GeodeError:
    """An error of the system as one that names the file."""
    return GeodeError(f"{name}: {error.strerror or error}")


def paths_of(given: str) -> list[str]:
    """The files that a path or pattern (`*`, `?`, `[…]`, `**`) names, sorted; raises GeodeError when there is none."""
    if given == STANDARD_STREAM:
        return [given]
    path = os.path.expanduser(given)
    if not glob.has_magic(path) or os.path.lexists(path):
        return [path]
    found: list[str] = []
    for one in glob.iglob(path, recursive=True):
        if not os.path.isdir(one):
            found.append(one)
        if len(found) > FILES_MAX:
            raise GeodeError(f"{given} matches more than {FILES_MAX} files: copy them in several steps")
    if not found:
        raise GeodeError(f"no file matches {given}")
    return sorted(found)


def shown_name(path: str) -> str:
    """How errors and notices name an input."""
    return "<stdin>" if path == STANDARD_STREAM else path


class _Source(Protocol):
    """Bytes, each call giving what is there, at most `size`; nothing at the end."""

    def read(self, size: int, /) -> bytes: ...

    def ready(self) -> bool: ...


class _File:
    """The bytes of a regular file, pipe or terminal."""

    def __init__(self, descriptor: int, stopped: threading.Event) -> None:
        self.descriptor = descriptor
        found = os.fstat(descriptor)
        self.is_regular = stat.S_ISREG(found.st_mode)
        self.size = found.st_size if self.is_regular else 0
        self.bytes_read = 0
        self._stopped = stopped
        self._poll = select.poll()
        if not self.is_regular:
            self._poll.register(descriptor, select.POLLIN)

    def ready(self) -> bool:
        return self.is_regular or bool(self._poll.poll(0))

    def read(self, size: int) -> bytes:
        while not self.is_regular and not self._poll.poll(POLL_MILLISECONDS):
            if self._stopped.is_set():
                raise Stopped("the statement was cancelled")
        piece = os.read(self.descriptor, size)
        self.bytes_read += len(piece)
        return piece


class Prefixed:
    """A source whose first bytes have been looked at."""

    def __init__(self, first: bytes, source: _Source) -> None:
        self._first = first
        self._source = source

    def ready(self) -> bool:
        return bool(self._first) or self._source.ready()

    def read(self, size: int) -> bytes:
        if not self._first:
            return self._source.read(size)
        piece, self._first = self._first[:size], self._first[size:]
        return piece


class _Expansion:
    """Counts what a compressed file expands to, and refuses what can only be a trap."""

    def __init__(self, ratio_max: int) -> None:
        self._ratio_max = ratio_max
        self.consumed = self.produced = 0

    def add(self, produced: int) -> None:
        self.produced += produced
        if self.produced > EXPANSION_FREE_BYTES and self.produced > self._ratio_max * self.consumed:
            raise BadInput(
                f"the compressed data expands to more than {self._ratio_max} times its size, like a decompression bomb:"
                " if it is right, raise the option expansion_max"
            )


class _Gzip:
    """Decompresses gzip, one member after the other."""

    def __init__(self, source: _Source, ratio_max: int) -> None:
        self._source = source
        self._expansion = _Expansion(ratio_max)
        self._rest = b""
        self._member: Any = None

    def ready(self) -> bool:
        return bool(self._rest) or self._source.ready()

    def read(self, size: int) -> bytes:
        while True:
            if not self._rest:
                self._rest = self._source.read(COMPRESSED_BYTES)
                self._expansion.consumed += len(self._rest)
            if not self._rest:
                if self._member is not None:
                    raise BadInput("the gzip data ends in the middle: the file was cut off")
                return b""
            piece = self._piece(size)
            self._expansion.add(len(piece))
            if piece:
                return piece

    def _piece(self, size: int) -> bytes:
        if self._member is None:
            self._rest = self._rest.lstrip(b"\0")  # padding between members
            if not self._rest:
                return b""
            self._member = zlib.decompressobj(31)
        try:
            piece: bytes = self._member.decompress(self._rest, size)
        except zlib.error as error:
            raise BadInput(f"not valid gzip data: {error}") from error
        self._rest = self._member.unconsumed_tail
        if self._member.eof:
            self._rest, self._member = self._member.unused_data, None
        return piece


class _Zstd:
    """Decompresses zstd, one frame after the other. Whether a frame is complete is known only by its own decompressor."""

    def __init__(self, source: _Source, ratio_max: int) -> None:
        import zstandard

        self._module = zstandard
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=2**27)
        self._source = source
        self._expansion = _Expansion(ratio_max)
        self._compressed = b""
        self._produced = b""
        self._frame: Any = None

    def ready(self) -> bool:
        return bool(self._produced or self._compressed) or self._source.ready()

    def read(self, size: int) -> bytes:
        pieces, room = [self._produced[:size]], size - len(self._produced)
        self._produced = self._produced[size:]
        while room > 0 and ((not pieces[0] and len(pieces) == 1) or self._compressed):
            if not self._compressed:
                self._compressed = self._source.read(COMPRESSED_BYTES)
                self._expansion.consumed += len(self._compressed)
            if not self._compressed:
                if self._frame is not None:
                    raise BadInput("the zstd data ends in the middle: the file was cut off")
                break
            piece = self._piece()
            self._expansion.add(len(piece))
            if piece:
                pieces.append(piece[:room])
                self._produced = piece[room:]
                room -= len(piece)
        return b"".join(pieces)

    def _piece(self) -> bytes:
        if self._frame is None:
            self._frame = self._decompressor.decompressobj()
        taken, self._compressed = self._compressed[:ZSTD_BYTES], self._compressed[ZSTD_BYTES:]
        try:
            piece: bytes = self._frame.decompress(taken)
        except self._module.ZstdError as error:
            raise BadInput(f"not valid zstd data: {error}") from error
        if self._frame.eof:
            self._compressed, self._frame = self._frame.unused_data + self._compressed, None
        return piece


class _Recoded:
    """Text of another encoding as UTF-8."""

    def __init__(self, source: _Source, encoding: str) -> None:
        self._source = source
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._ended = False

    def ready(self) -> bool:
        return self._source.ready()

    def read(self, size: int) -> bytes:
        while not self._ended:
            piece = self._source.read(size)
            self._ended = not piece
            try:
                text = self._decoder.decode(piece, final=self._ended)
            except UnicodeDecodeError as error:
                raise BadInput(f"not {self._encoding} text: {error.reason}") from error
            if text:
                return text.encode()
        return b""


class Input:
    """One open input. `size` in bytes as stored, 0 where it is not known; `bytes_read` of them; `name` for errors."""

    def __init__(self, path: str, *, encoding: str | None = None, expansion_max: int | None = None) -> None:
        self.name = shown_name(path)
        self.path = path
        self._encoding = encoding
        self._expansion_max = expansion_max or EXPANSION_MAX
        self._stopped = threading.Event()
        self._file: _File | None = None
        self._source: _Source | None = None

    def open(self) -> None:
        """Open the file; raises GeodeError when that fails. Nothing is read."""
        self._stopped = threading.Event()
        self._source = None
        try:
            self._file = _File(self._descriptor(), self._stopped)
        except OSError as error:
            raise explained(self.name, error) from error

    def _descriptor(self) -> int:
        if self.path == STANDARD_STREAM:
            try:
                return os.dup(sys.stdin.fileno())
            except (OSError, ValueError, AttributeError) as error:
                raise GeodeError("there is no standard input to read") from error
        if os.path.isdir(self.path):
            raise GeodeError(f"{self.path} is a directory: name a file, or a pattern such as '{self.path}/*.jsonl'")
        # A pipe without a writer must not block here: its bytes are waited for where that can be stopped.
        return os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        self.stop()
        if self._file is not None:
            os.close(self._file.descriptor)
            self._file = None

    def stop(self) -> None:
        """End a wait for a pipe, from another thread."""
        self._stopped.set()

    @property
    def is_open(self) -> bool:
        return self._file is not None

    @property
    def size(self) -> int:
        return self._opened.size

    @property
    def bytes_read(self) -> int:
        return self._opened.bytes_read

    @property
    def is_regular(self) -> bool:
        """Whether it is a file that can be read again, and not a pipe or terminal."""
        return self._opened.is_regular

    @property
    def _opened(self) -> _File:
        assert self._file is not None, "open() comes first"
        return self._file

    def ready(self) -> bool:
        """Whether `read` gives something, or the end, without waiting."""
        return self._source is None or self._source.ready()

    def read(self) -> bytes:
        """The next piece of UTF-8 text, nothing at the end. Raises BadInput, or GeodeError for errors of the system."""
        try:
            if self._source is None:
                self._source = self._text(self.binary())
            return self._source.read(PIECE_BYTES)
        except OSError as error:
            raise explained(self.name, error) from error

    def binary(self) -> _Source:
        """The decompressed bytes as they are; instead of `read`."""
        file = self._opened
        first = b""
        while len(first) < 4 and (piece := file.read(COMPRESSED_BYTES)):
            first += piece
        source: _Source = Prefixed(first, file)
        ending = Path(self.path).suffix.lower()
        if first.startswith(GZIP_MAGIC):
            return _Gzip(source, self._expansion_max)
        if first.startswith(ZSTD_MAGIC):
            return _Zstd(source, self._expansion_max)
        if first and ending in (".gz", ".zst"):
            raise BadInput(f"not {'gzip' if ending == '.gz' else 'zstd'} data, although its name ends with {ending}")
        return source

    def _text(self, source: _Source) -> _Source:
        first = b""
        while len(first) < 4 and (piece := source.read(PIECE_BYTES)):
            first += piece
        source = Prefixed(first, source)
        encoding = self._encoding or _encoding_of(first)
        return source if encoding in _UTF8 else _Recoded(source, encoding)

    def pieces(self) -> Iterator[bytes]:
        """All that is left."""
        while piece := self.read():
            yield piece


def _encoding_of(first: bytes) -> str:
    """By the byte order mark, or by the zeros between the letters of UTF-16 without one."""
    for mark, encoding in _MARKS:
        if first.startswith(mark):
            return encoding
    look = first[:1024]
    zeros = (look[0::2].count(0), look[1::2].count(0))
    if len(look) >= 4 and max(zeros) > len(look) // 4 and min(zeros) == 0:
        return "utf-16-le" if zeros[1] else "utf-16-be"
    return "utf-8"
