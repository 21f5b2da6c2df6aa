"""COPY: topics to and from files of JSON lines or CSV.

Files are read and written in pieces, never whole, and outside the event loop. What is loaded is stored batch by batch; a
bad line is named by its number, and nothing of its batch is stored. A file that is written appears under its name only
when it is whole.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from geode_client.broker import Broker, OutgoingBatch, ScanRequest
from geode_client.catalog import Topic
from geode_client.clock import now_us
from geode_client.errors import GeodeError, InvalidMessage
from geode_client.message import Chunk
from geode_client.query import plan
from geode_client.query.files import BadLine, CsvRows, CsvWriter, JsonLines, Reader

BATCH_BYTES_MAX = 16 * 1024 * 1024
CSV_COLUMNS_MAX = 10_000
_JSON_ENDINGS = (".jsonl", ".ndjson", ".json")

Progress = Callable[[int, int, int], None]
"""Messages copied, bytes done, bytes in all (0 where it is not known)."""


def is_csv_file(path: Path) -> bool:
    ending = path.suffix.lower()
    if ending != ".csv" and ending not in _JSON_ENDINGS:
        raise GeodeError(f"COPY knows files by their ending: {path.name} should end with .jsonl or .csv")
    return ending == ".csv"


def explained(path: Path, error: OSError) -> GeodeError:
    return GeodeError(f"{path}: {error.strerror or error}")


# ── from a file ──
async def copy_from(broker: Broker, node: plan.CopyFrom, progress: Progress | None) -> tuple[int, int]:
    """Load a file; gives the messages stored and the bytes read."""
    path = Path(node.path).expanduser()
    is_csv = is_csv_file(path)
    try:
        stream = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise explained(path, error) from error
    with stream:
        schema = (await broker.topic(node.topic)).schema
        types = {column.name: column.type for column in schema.columns} if schema is not None else {}
        reader: Reader = CsvRows(stream, types, node.csv) if is_csv else JsonLines(stream)
        return await _Loader(broker, node, path, reader, progress).load(os.fstat(stream.fileno()).st_size)


class _Loader:
    def __init__(
        self, broker: Broker, node: plan.CopyFrom, path: Path, reader: Reader, progress: Progress | None
    ) -> None:
        self._broker = broker
        self._node = node
        self._path = path
        self._reader = reader
        self._progress = progress

    async def load(self, total: int) -> tuple[int, int]:
        pieces = self._pieces()
        stored = 0
        while piece := await asyncio.to_thread(next, pieces, None):
            stored += await self._store(*piece)
            if self._progress is not None:
                self._progress(stored, self._reader.bytes_read, total)
        return stored, self._reader.bytes_read

    def _pieces(self) -> Iterator[tuple[list[int], list[Any]]]:
        """The records of one batch at a time, with the numbers of their lines."""
        numbers: list[int] = []
        records: list[Any] = []
        size = 0
        try:
            for number, length, raw in self._reader.records():
                numbers.append(number)
                records.append(raw)
                size += length
                if len(records) == self._node.batch_size or size > BATCH_BYTES_MAX:
                    yield numbers, records
                    numbers, records, size = [], [], 0
        except OSError as error:
            raise explained(self._path, error) from error
        except BadLine as error:
            since = f" (lines {numbers[0]} to {numbers[-1]} were not stored)" if numbers else ""
            raise GeodeError(f"{self._path}:{error.number}: {error}{since}") from error
        if records:
            yield numbers, records

    async def _store(self, numbers: list[int], records: list[Any]) -> int:
        try:
            bodies = [self._reader.message(raw, index) for index, raw in enumerate(records)]
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


def _key(body: object, field: str | None, index: int) -> str | None:
    value = body.get(field) if field is not None and isinstance(body, dict) else None
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise InvalidMessage(f"the key field {field} must be text or a whole number", message_index=index)
    return None if value is None else str(value)


# ── to a file ──
async def copy_to(broker: Broker, node: plan.CopyTo, progress: Progress | None) -> tuple[int, int]:
    """Write the retained messages of a topic; gives how many and the bytes written."""
    path = Path(node.path).expanduser()
    is_csv = is_csv_file(path)
    if path.is_dir():
        raise GeodeError(f"{path} is a directory: name a file")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        stream = await asyncio.to_thread(unfinished.open, "wb")
        try:
            with stream:
                write = _write_csv if is_csv else _write_json
                written = await write(broker, node.topic, stream, progress)
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise explained(path, error) from error
    return written


async def _write_json(broker: Broker, topic: Topic, stream: IO[bytes], progress: Progress | None) -> tuple[int, int]:
    messages = size = 0
    async for chunk in broker.scan(ScanRequest([topic])):
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


async def _write_csv(broker: Broker, topic: Topic, stream: IO[bytes], progress: Progress | None) -> tuple[int, int]:
    """Read twice: first for the names of all fields, then for the rows."""
    names, ends = await _fields_of(broker, topic)
    writer = CsvWriter(names)
    messages, size = 0, stream.write(writer.header())
    async for chunk in broker.scan(ScanRequest([topic])):
        if chunk.base_offset >= ends.get(chunk.partition, 0):
            continue  # published since the names were read
        places = chunk.unexpired(now_us())
        text = await asyncio.to_thread(writer.rows, [chunk.rows[place] for place in places])
        await asyncio.to_thread(stream.write, text)
        messages += len(places)
        size += len(text)
        if progress is not None:
            progress(messages, size, 0)
    return messages, size


async def _fields_of(broker: Broker, topic: Topic) -> tuple[list[str], dict[int, int]]:
    """Declared columns, then other fields as they appear; and for each partition the offset where that ends."""
    names = dict.fromkeys(topic.schema.names if topic.schema is not None else ())
    ends: dict[int, int] = {}
    others = False
    async for chunk in broker.scan(ScanRequest([topic])):
        ends[chunk.partition] = chunk.end_offset
        for body in chunk.rows:
            if isinstance(body, dict):
                names.update(dict.fromkeys(body))
            else:
                others = True
        if len(names) > CSV_COLUMNS_MAX:
            raise GeodeError(
                f"the messages of {topic.name} have more than {CSV_COLUMNS_MAX} different fields:"
                " write JSON lines (.jsonl) instead"
            )
    if others:
        names["value"] = None
    return list(names), ends
