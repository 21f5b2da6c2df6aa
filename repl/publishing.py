"""What `geode publish` does: JSON from the command line, from files and from standard input, to a topic.

Lines are stored as they come: each read becomes one batch or more, so that a slow source is not kept waiting for a full one.
A wrong line is named by its number; nothing of its batch is stored, and all batches before it are.
"""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from geode_client.broker import OutgoingBatch
from geode_client.client import Client, broker_of
from geode_client.errors import GeodeError, InvalidMessage
from geode_client.options import parse_priority
from geode_client.outgoing import key_text
from geode_client.repl.progress import ProgressLine
from geode_client.units import parse_duration_us

READ_BYTES = 1024 * 1024
LINE_BYTES_MAX = 64 * 1024 * 1024
STANDARD_INPUT = "<stdin>"


class Publisher:
    """Publishes what it is given to one topic; `count` and `duplicates` add up."""

    def __init__(
        self,
        client: Client,
        topic: str,
        *,
        key: str | None,
        key_field: str | None,
        id_field: str | None,
        priority: str | None,
        ttl: str | None,
        delay: str | None,
        batch_size: int,
    ) -> None:
        if key is not None and key_field is not None:
            raise GeodeError("--key and --key-field exclude each other: give one")
        self._client = client
        self._topic = topic
        self._key = key
        self._key_field = key_field
        self._id_field = id_field
        self._batch_size = batch_size
        self._options: dict[str, Any] = {
            "ttl_us": None if ttl is None else parse_duration_us(ttl),
            "delay_us": None if delay is None else parse_duration_us(delay),
        }
        if priority is not None:
            self._options["priority"] = parse_priority(int(priority) if priority.isdigit() else priority)
        self._progress = ProgressLine(f"publishing to {topic}")
        self.count = 0
        self.duplicates = 0

    async def take(self, given: str) -> None:
        """Publish a JSON text, the lines of a file, or with '-' those of standard input. Raises GeodeError."""
        # Makes the topic where there is none, also when no message follows.
        await self._client.publish_batch(self._topic, ())
        if given == "-":
            await self._lines(sys.stdin.buffer, STANDARD_INPUT)
            return
        path = Path(given)
        if _is_json(given):
            await self._store("<command>", [1], [given.encode()])
        elif len(given) < 4096 and path.is_file():
            with await asyncio.to_thread(path.open, "rb") as stream:
                await self._lines(stream, given)
        else:
            raise GeodeError(f"{given!r} is neither JSON nor a file; a text needs its quotes: '\"{given}\"'")

    async def _lines(self, stream: IO[bytes], name: str) -> None:
        number, rest = 0, b""
        done, total = 0, _size_of(stream)
        async for piece in _pieces(stream):
            done += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > LINE_BYTES_MAX:
                raise GeodeError(f"{name}:{number + len(lines) + 1}: the line has more than {LINE_BYTES_MAX} bytes")
            await self._store_lines(name, number, lines)
            number += len(lines)
            self._progress.show(done, total, f"{self.count:,} messages")
        await self._store_lines(name, number, [rest])
        self._progress.clear()

    async def _store_lines(self, name: str, before: int, lines: Sequence[bytes]) -> None:
        kept = [(before + place, line) for place, line in enumerate(lines, 1) if line.strip()]
        for first in range(0, len(kept), self._batch_size):
            batch = kept[first : first + self._batch_size]
            await self._store(name, [number for number, _ in batch], [line for _, line in batch])

    async def _store(self, name: str, numbers: Sequence[int], lines: Sequence[bytes]) -> None:
        try:
            bodies = [_decoded(line, place) for place, line in enumerate(lines)]
            batch = OutgoingBatch(self._topic, bodies, keys=self._keys(bodies), ids=self._ids(bodies), **self._options)
            receipt = await broker_of(self._client).publish_batch(batch)
        except InvalidMessage as error:
            self._progress.clear()
            where = f" at {error.pointer}" if error.pointer else ""
            reason = str(error).partition(": ")[2]
            stored = f" ({self.count:,} messages were stored before)" if self.count else ""
            place = f"{name}:{numbers[error.message_index]}"
            raise GeodeError(f"{place}{where}: {reason}{stored}") from error
        self.count += receipt.count
        self.duplicates += receipt.duplicates

    def _keys(self, bodies: Sequence[Any]) -> str | list[str | None] | None:
        if self._key_field is None:
            return self._key
        return [_text_of(body, self._key_field, place) for place, body in enumerate(bodies)]

    def _ids(self, bodies: Sequence[Any]) -> list[str | None] | None:
        if self._id_field is None:
            return None
        return [_text_of(body, self._id_field, place) for place, body in enumerate(bodies)]


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        # What begins as JSON is meant as JSON: the error will say what is wrong with it.
        return text.lstrip()[:1] in ("{", "[", '"')
    return True


def _decoded(line: bytes, place: int) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage(f"no JSON: {error}; one value a line is wanted", message_index=place) from error
    except RecursionError as error:
        raise InvalidMessage("no JSON: it is nested too deeply", message_index=place) from error


def _text_of(body: Any, field: str, place: int) -> str | None:
    value = body.get(field) if isinstance(body, dict) else None
    if value is None:
        return None
    try:
        return key_text(value)
    except GeodeError as error:
        raise InvalidMessage(f"field {field}: {error}", message_index=place) from error


def _size_of(stream: IO[bytes]) -> int:
    found = os.fstat(stream.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


async def _pieces(stream: IO[bytes]) -> AsyncIterator[bytes]:
    """What a stream gives, as it gives it. A wait for a pipe or terminal can be cancelled."""
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        while piece := await asyncio.to_thread(os.read, stream.fileno(), READ_BYTES):
            yield piece
        return
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), stream
    )
    try:
        while piece := await reader.read(READ_BYTES):
            yield piece
    finally:
        transport.close()
