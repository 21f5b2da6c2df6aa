"""COPY: topics from and to files (loading.py, exporting.py), rows of a query to a file, and one topic to another.

Files are read and written in pieces, never whole, and outside the event loop. What is loaded is stored batch by batch. A file
that is written appears under its name only when it is whole.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from geode_client import codec, letters
from geode_client.broker import Broker, OutgoingBatch, ScanRequest
from geode_client.catalog import Topic
from geode_client.clock import now_us
from geode_client.conditions.declared import floated
from geode_client.errors import GeodeError, InvalidMessage
from geode_client.grammar.ast import ListType, MapType, Scalar, StructType, TypeNode
from geode_client.message import Chunk
from geode_client.query import plan
from geode_client.query.exporting import (
    CsvWriter,
    Output,
    OutputStream,
    WriteOptions,
    as_columns,
    output_to,
)
from geode_client.query.formats import format_of
from geode_client.query.loading import BATCH_BYTES_MAX, Progress
from geode_client.values import as_timestamp

CSV_COLUMNS_MAX = 10_000
ROWS_AT_ONCE = 1000

Told = Callable[[int, int], None]
"""Rows and bytes written so far."""

# Numbers keep the digits that they have in the JSON text.
_exact = msgspec.json.Decoder(float_hook=Decimal)


# ── a topic to a file ──
async def copy_to(broker: Broker, node: plan.CopyTo, progress: Progress | None) -> tuple[int, int]:
    """Write the retained messages of a topic; gives how many and the bytes written, before compression."""
    form = format_of(node.path, node.options.format, node.options.compression)
    told = _teller(progress)
    async with output_to(node.path, form) as output:
        match form.name:
            case "jsonl":
                messages = await _write_lines(broker, node.topic, output, told)
            case "json":
                messages = await _write_array(broker, node.topic, output, told)
            case "parquet":
                messages = await _write_parquet(broker, node.topic, output, told)
            case kind:
                messages = await _write_csv(broker, node, output, told, "\t" if kind == "tsv" else ",")
    return messages, output.size


def _teller(progress: Progress | None) -> Told:
    return lambda rows, size: None if progress is None else progress(rows, size, 0)


async def _write_lines(broker: Broker, topic: Topic, output: Output, told: Told) -> int:
    messages = 0
    async for chunk in broker.scan(ScanRequest([topic])):
        text, count = _text_of(chunk)
        await output.write(text)
        messages += count
        told(messages, output.size)
    return messages


async def _write_array(broker: Broker, topic: Topic, output: Output, told: Told) -> int:
    """One JSON array, an item a line."""
    messages = 0
    await output.write(b"[")
    async for chunk in broker.scan(ScanRequest([topic])):
        text, count = _text_of(chunk)
        if count:
            await output.write((b",\n" if messages else b"\n") + text[:-1].replace(b"\n", b",\n"))
        messages += count
        told(messages, output.size)
    await output.write(b"\n]\n" if messages else b"]\n")
    return messages


def _text_of(chunk: Chunk) -> tuple[bytes, int]:
    places = chunk.unexpired(now_us())
    if chunk.attributes.histories is not None:
        return b"".join(_line(chunk, place) for place in places), len(places)
    if len(places) == chunk.count:
        return chunk.lines, chunk.count
    return b"".join(chunk.bodies[place] + b"\n" for place in places), len(places)


def _line(chunk: Chunk, place: int) -> bytes:
    is_copy = letters.replayed_from(chunk, place) is not None
    return (codec.encode(_row(chunk, place)) if is_copy else chunk.bodies[place]) + b"\n"


def _row(chunk: Chunk, place: int) -> Any:
    """A message with exact numbers, as it is written to a file: the copy of a dead letter also says what it was made of."""
    source, body = letters.replayed_from(chunk, place), _exact.decode(chunk.bodies[place])
    return {**body, "_replayed_from": source} if source is not None and isinstance(body, dict) else body


async def _write_csv(broker: Broker, node: plan.CopyTo, output: Output, told: Told, delimiter: str) -> int:
    """Read twice: first for the names of all fields, then for the rows."""
    names, ends = await _fields_of(broker, node.topic)
    writer = CsvWriter(names, node.options, delimiter)
    messages = 0
    await output.write(writer.header())
    async for bodies in _bodies(broker, node.topic, ends):
        columns = await asyncio.to_thread(as_columns, bodies, names)
        await output.write(await asyncio.to_thread(writer.rows, columns))
        messages += len(bodies)
        told(messages, output.size)
    return messages


async def _write_parquet(broker: Broker, topic: Topic, output: Output, told: Told) -> int:
    """Read three times: for the names, for the types of the columns, for the rows."""
    from geode_client.query.parquet_files import ParquetWriter

    names, ends = await _fields_of(broker, topic)
    writer = ParquetWriter(names)
    arrow = _ArrowValues(topic)
    messages = 0
    async for bodies in _bodies(broker, topic, ends):
        await asyncio.to_thread(writer.learn, await asyncio.to_thread(arrow.of, bodies, names))
    await asyncio.to_thread(writer.open, OutputStream(output))
    async for bodies in _bodies(broker, topic, ends):
        columns = await asyncio.to_thread(arrow.of, bodies, names)
        await asyncio.to_thread(writer.write, columns, len(bodies))
        messages += len(bodies)
        told(messages, output.size)
    await asyncio.to_thread(writer.close)
    return messages


class _ArrowValues:
    """Values of messages as Parquet has them: declared decimals, times and dates as such, also inside lists, maps and
    structs; other numbers as floats."""

    def __init__(self, topic: Topic) -> None:
        columns = topic.schema.columns if topic.schema is not None else ()
        self._types: dict[str, TypeNode] = {column.name: column.type for column in columns}

    def of(self, bodies: Sequence[Any], names: Sequence[str]) -> dict[str, list[Any]]:
        """The values of messages by column."""
        columns = zip(names, as_columns(bodies, names), strict=True)
        return {name: [_as_declared(self._types.get(name), one) for one in found] for name, found in columns}


def _as_declared(kind: TypeNode | None, value: Any) -> Any:
    match kind:
        case Scalar("DECIMAL") if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return Decimal(value)
        case Scalar("TIMESTAMP") if isinstance(value, str):
            return as_timestamp(value) or value
        case Scalar("DATE") if isinstance(value, str):
            return _date(value)
        case ListType(element) if isinstance(value, list):
            return [_as_declared(element, item) for item in value]
        case MapType(inner) if isinstance(value, dict):
            return {name: _as_declared(inner, item) for name, item in value.items()}
        case StructType(fields) if isinstance(value, dict):
            types = {field.name: field.type for field in fields}
            return {name: _as_declared(types.get(name), item) for name, item in value.items()}
        case _:
            return floated(value)


def _date(text: str) -> date | str:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return text


async def _bodies(broker: Broker, topic: Topic, ends: Mapping[int, int]) -> AsyncIterator[list[Any]]:
    """The messages from before `ends`, with exact numbers, some at a time."""
    async for chunk in broker.scan(ScanRequest([topic])):
        if chunk.base_offset >= ends.get(chunk.partition, 0):
            continue  # published since the names were read
        places = chunk.unexpired(now_us())
        for first in range(0, len(places), ROWS_AT_ONCE):
            some = places[first : first + ROWS_AT_ONCE]
            yield await asyncio.to_thread(_decoded, chunk, some)


def _decoded(chunk: Chunk, places: Sequence[int]) -> list[Any]:
    return [_row(chunk, place) for place in places]


async def _fields_of(broker: Broker, topic: Topic) -> tuple[list[str], dict[int, int]]:
    """Declared columns, then other fields as they appear; and for each partition the offset where that ends."""
    names = dict.fromkeys(topic.schema.names if topic.schema is not None else ())
    ends: dict[int, int] = {}
    others = False
    async for chunk in broker.scan(ScanRequest([topic])):
        ends[chunk.partition] = chunk.end_offset
        found, has_others = await asyncio.to_thread(_names_in, chunk)
        names.update(found)
        others = others or has_others
        if len(names) > CSV_COLUMNS_MAX:
            raise GeodeError(
                f"the messages of {topic.name} have more than {CSV_COLUMNS_MAX:,} different fields:"
                " write JSON lines (.jsonl) instead"
            )
    if others:
        names["value"] = None
    return list(names), ends


def _names_in(chunk: Chunk) -> tuple[dict[str, None], bool]:
    found: dict[str, None] = {}
    others = False
    for place, body in enumerate(codec.decode_lines(chunk.lines)):
        if letters.replayed_from(chunk, place) is not None:
            body = _row(chunk, place)
        if isinstance(body, dict):
            if not body.keys() <= found.keys():
                found.update(dict.fromkeys(body))
        else:
            others = True
    return found, others


# ── rows of a query to a file ──
async def copy_rows(
    names: Sequence[str],
    columns: Sequence[Sequence[Any]],
    count: int,
    path: str,
    options: WriteOptions,
    progress: Progress | None = None,
) -> int:
    """Write rows that are given by column; gives the bytes written, before compression."""
    form = format_of(path, options.format, options.compression)
    writer = _RowWriter(form.name, tuple(names), options)
    parts = [[column[at : at + ROWS_AT_ONCE] for column in columns] for at in range(0, count, ROWS_AT_ONCE)]
    told = _teller(progress)
    async with output_to(path, form) as output:
        await asyncio.to_thread(writer.begin, output, columns)
        written = 0
        for part in parts:
            size = min(ROWS_AT_ONCE, count - written)
            await asyncio.to_thread(writer.write, part, size)
            written += size
            told(written, output.size)
        await asyncio.to_thread(writer.end)
    return output.size


class _RowWriter:
    """Rows by column in any of the formats; every method may block."""

    def __init__(self, form: str, names: tuple[str, ...], options: WriteOptions) -> None:
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise GeodeError(f"two columns are called {twice}: name them with AS, so that the file can tell them apart")
        self._form = form
        self._names = names
        self._options = options
        self._written = 0

    def begin(self, output: Output, columns: Sequence[Sequence[Any]]) -> None:
        self._output = output
        match self._form:
            case "csv" | "tsv":
                self._csv = CsvWriter(self._names, self._options, "\t" if self._form == "tsv" else ",")
                output.write_now(self._csv.header())
            case "parquet":
                from geode_client.query.parquet_files import ParquetWriter

                self._parquet = ParquetWriter(self._names)
                self._parquet.learn(dict(zip(self._names, columns, strict=True)))
                self._parquet.open(OutputStream(output))
            case "json":
                output.write_now(b"[")

    def write(self, columns: Sequence[Sequence[Any]], count: int) -> None:
        match self._form:
            case "csv" | "tsv":
                self._output.write_now(self._csv.rows(columns))
            case "parquet":
                self._parquet.write(dict(zip(self._names, columns, strict=True)), count)
            case form:
                rows = zip(*columns, strict=True)
                lines = codec.encode_lines([dict(zip(self._names, row, strict=True)) for row in rows])
                if form == "json":
                    lines = (b",\n" if self._written else b"\n") + lines[:-1].replace(b"\n", b",\n")
                self._output.write_now(lines)
        self._written += count

    def end(self) -> None:
        match self._form:
            case "json":
                self._output.write_now(b"\n]\n" if self._written else b"]\n")
            case "parquet":
                self._parquet.close()


# ── from topic to topic ──
@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy between topics has stored, and how many ids the target knew already."""

    messages: int
    duplicates: int


async def copy_between(broker: Broker, node: plan.CopyBetween, progress: Progress | None) -> Copied:
    """Publish the retained messages of a topic to another, as they are when the copy begins.

    Bodies alone, and what `keep` names: keys, ids, times, headers, priorities, expiry.
    """
    if node.target == node.topic.name:
        raise GeodeError(f"{node.target} is the topic itself: name another one to copy to")
    ends = {
        found.partition: found.next_offset
        for found in (await broker.report(["partitions"], node.topic.name)).partitions
        if found.topic_name == node.topic.name
    }
    messages = duplicates = size = 0
    async for chunk in broker.scan(ScanRequest([node.topic])):
        places = [
            place for place in chunk.unexpired(now_us()) if chunk.base_offset + place < ends.get(chunk.partition, 0)
        ]
        for some in _cut(chunk, places, node.batch_size):
            batch = await asyncio.to_thread(_outgoing, chunk, some, node)
            try:
                receipt = await broker.publish_batch(batch)
            except InvalidMessage as error:
                offset = chunk.base_offset + some[error.message_index]
                where = f"{node.topic.name}, partition {chunk.partition}, offset {offset}"
                place = f"at {error.pointer}: " if error.pointer else ""
                raise GeodeError(
                    f"{where}: {place}{error.reason} (nothing of its batch was stored; {messages:,} messages were copied"
                    " before)"
                ) from error
            messages += receipt.count
            duplicates += receipt.duplicates
            size += len(batch.bodies.text) if isinstance(batch.bodies, codec.Lines) else 0
            if progress is not None:
                progress(messages, size, 0)
    return Copied(messages, duplicates)


def _cut(chunk: Chunk, places: Sequence[int], count: int) -> list[Sequence[int]]:
    """Places in runs of at most so many messages and BATCH_BYTES_MAX bytes."""
    runs: list[Sequence[int]] = []
    run: list[int] = []
    size = 0
    for place in places:
        length = len(chunk.bodies[place])
        if run and (len(run) >= count or size + length > BATCH_BYTES_MAX):
            runs.append(run)
            run, size = [], 0
        run.append(place)
        size += length
    return [*runs, run] if run else runs


def _outgoing(chunk: Chunk, places: Sequence[int], node: plan.CopyBetween) -> OutgoingBatch:
    given, kept = chunk.attributes, node.keep
    text = b"".join([chunk.bodies[place] + b"\n" for place in places])
    return OutgoingBatch(
        node.target,
        codec.Lines(text, len(places)),
        keys=[given.key(place) for place in places] if "keys" in kept else None,
        ids=[chunk.message_id(place) for place in places] if "ids" in kept else None,
        headers=[dict(given.headers[place] or {}) for place in places] if "headers" in kept and given.headers else None,
        times_us=[chunk.time_us(place) for place in places] if "times" in kept else None,
        expires_us=[given.expiry_us(place) for place in places] if "expiry" in kept and given.expires_us else None,
        priority=chunk.priority if "priorities" in kept else 5,
    )
