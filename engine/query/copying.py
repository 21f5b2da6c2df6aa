"""COPY: topics to and from files of JSON lines.

Files are read and written in pieces, never whole, and outside the event loop. What is loaded is stored batch by batch; a
bad line is named by its number, and nothing of its batch is stored. A file that is written appears under its name only
when it is whole.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from geode_client.broker import Broker, OutgoingBatch, ScanRequest
from geode_client.clock import now_us
from geode_client.errors import GeodeError, InvalidMessage, Unsupported
from geode_client.message import Chunk
from geode_client.query import plan

LINE_BYTES_MAX = 64 * 1024 * 1024
BATCH_BYTES_MAX = 16 * 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Progress = Callable[[int, int, int], None]
"""Messages copied, bytes done, bytes in all (0 where it is not known)."""


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() == ".csv":
        raise Unsupported("COPY with CSV files (it comes with a later release); JSON lines (.jsonl) work")
    if path.suffix.lower() not in (".jsonl", ".ndjson", ".json"):
        raise GeodeError(f"COPY knows files by their ending: {path.name} should end with .jsonl")


def _explained(path: Path, error: OSError) -> GeodeError:
    return GeodeError(f"{path}: {error.strerror or error}")


async def copy_from(broker: Broker, node: plan.CopyFrom, progress: Progress | None) -> tuple[int, int]:
    """Load a file; gives the messages stored and the bytes read."""
    path = Path(node.path).expanduser()
    _check_suffix(path)
    try:
        stream = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise _explained(path, error) from error
    with stream:
        return await _Loader(broker, node, path, progress).load(stream)


class _Loader:
    def __init__(self, broker: Broker, node: plan.CopyFrom, path: Path, progress: Progress | None) -> None:
        self._broker = broker
        self._node = node
        self._path = path
        self._progress = progress
        self._number = 0
        self._bytes = 0

    async def load(self, stream: IO[bytes]) -> tuple[int, int]:
        total = os.fstat(stream.fileno()).st_size
        pieces = self._pieces(stream)
        stored = 0
        while piece := await asyncio.to_thread(next, pieces, None):
            numbers, lines = piece
            stored += await self._store(numbers, lines)
            if self._progress is not None:
                self._progress(stored, self._bytes, total)
        return stored, self._bytes

    def _pieces(self, stream: IO[bytes]) -> Iterator[tuple[list[int], list[bytes]]]:
        """The lines of one batch at a time, with their numbers; empty lines are passed over."""
        numbers: list[int] = []
        lines: list[bytes] = []
        size = 0
        while True:
            try:
                line = stream.readline(LINE_BYTES_MAX + 1)
            except OSError as error:
                raise _explained(self._path, error) from error
            if not line:
                break
            self._number += 1
            self._bytes += len(line)
            if len(line) > LINE_BYTES_MAX:
                raise GeodeError(f"{self._path}:{self._number}: the line has more than {LINE_BYTES_MAX} bytes")
            if self._number == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
            if not line.strip():
                continue
            numbers.append(self._number)
            lines.append(line)
            size += len(line)
            if len(lines) == self._node.batch_size or size > BATCH_BYTES_MAX:
                yield numbers, lines
                numbers, lines, size = [], [], 0
        if lines:
            yield numbers, lines

    async def _store(self, numbers: list[int], lines: list[bytes]) -> int:
        try:
            bodies = [_decoded(line, index) for index, line in enumerate(lines)]
            keys = [_key(body, self._node.key_field, index) for index, body in enumerate(bodies)]
            batch = OutgoingBatch(self._node.topic, bodies, keys=keys if self._node.key_field else None)
            return (await self._broker.publish_batch(batch)).count
        except InvalidMessage as error:
            place = f"at {error.pointer}: " if error.pointer else ""
            line = numbers[error.message_index]
            reason = str(error).partition(": ")[2]
            raise GeodeError(
                f"{self._path}:{line}: {place}{reason} (lines {numbers[0]} to {numbers[-1]} were not stored)"
            ) from error


def _decoded(line: bytes, index: int) -> object:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage(f"no JSON: {error}", message_index=index) from error
    except RecursionError as error:
        raise InvalidMessage("no JSON: it is nested too deeply", message_index=index) from error


def _key(body: object, field: str | None, index: int) -> str | None:
    value = body.get(field) if field is not None and isinstance(body, dict) else None
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise InvalidMessage(f"the key field {field} must be text or a whole number", message_index=index)
    return None if value is None else str(value)


async def copy_to(broker: Broker, node: plan.CopyTo, progress: Progress | None) -> tuple[int, int]:
    """Write the retained messages of a topic; gives how many and the bytes written."""
    path = Path(node.path).expanduser()
    _check_suffix(path)
    if path.is_dir():
        raise GeodeError(f"{path} is a directory: name a file")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        stream = await asyncio.to_thread(unfinished.open, "wb")
        try:
            with stream:
                written = await _write(broker, node, stream, progress)
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _explained(path, error) from error
    return written


async def _write(broker: Broker, node: plan.CopyTo, stream: IO[bytes], progress: Progress | None) -> tuple[int, int]:
    messages = size = 0
    async for chunk in broker.scan(ScanRequest([node.topic])):
        text, count = _text_of(chunk)
        await asyncio.to_thread(stream.write, text)
        messages += count
        size += len(text)
        if progress is not None:
            progress(messages, size, 0)
    return messages, size


def _text_of(chunk: Chunk) -> tuple[bytes, int]:
    places = chunk.unexpired(now_us())
    if len(places) == chunk.count:
        return chunk.lines, chunk.count
    return b"".join(chunk.bodies[place] + b"\n" for place in places), len(places)
