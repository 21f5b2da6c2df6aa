"""From files to a topic: records become batches of messages with keys, ids and times, and each batch is stored whole.

Reading, checking and encoding run in a worker thread; the event loop only hands batches over. A record that is wrong ends the
load, and nothing of its batch is stored; or it is counted and put aside (`on_error: 'skip'`), and the rest of its batch is
stored. Of an input that pauses, such as a pipe, what has come so far is stored at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from geode_client import codec
from geode_client.broker import Broker, OutgoingBatch
from geode_client.catalog import Topic
from geode_client.errors import GeodeError, InvalidMessage
from geode_client.grammar.ast import TypeNode
from geode_client.query.csv_files import CsvOptions, CsvRows
from geode_client.query.fields import FieldPath, TimeFormat
from geode_client.query.formats import format_of
from geode_client.query.inputs import Input, paths_of
from geode_client.query.json_files import JsonDocuments, JsonLines
from geode_client.query.records import BadLine, Reader, Record
from geode_client.query.rejects import Reject, Rejects

BATCH_MESSAGES = 1000
BATCH_BYTES_MAX = 4 * 1024 * 1024
# Records that are decoded in one call, which no other thread can interrupt.
CHECKED_AT_ONCE = 500
NOTICES_MAX = 20

Progress = Callable[[int, int, int], None]
"""Messages copied, bytes done, bytes in all (0 where it is not known)."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What COPY FROM and `geode publish` may say of a load. `fixed` are options of a publish for all messages."""

    format: str | None = None
    batch_size: int = BATCH_MESSAGES
    key_field: str | None = None
    id_field: str | None = None
    timestamp_field: str | None = None
    timestamp_format: str | None = None
    skips_errors: bool = False
    error_file: str | None = None
    error_topic: str | None = None
    encoding: str | None = None
    expansion_max: int | None = None
    csv: CsvOptions = field(default_factory=CsvOptions)
    fixed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Loaded:
    """What a load has done: `messages` stored, `duplicates` known already, `skipped` as wrong, `bytes_read` of the files."""

    messages: int = 0
    duplicates: int = 0
    skipped: int = 0
    bytes_read: int = 0
    notices: list[str] = field(default_factory=list)


async def load(
    broker: Broker,
    topic: str,
    given: str,
    options: LoadOptions,
    ensure_topic: Callable[[str], Awaitable[None]],
    progress: Progress | None = None,
) -> Loaded:
    """Load a file, the files of a pattern, or standard input (`-`) into a topic. Raises GeodeError with the place."""
    paths = await asyncio.to_thread(paths_of, given)
    for path in paths:
        format_of(path, options.format)
    done = Loaded()
    inputs = [Input(path, encoding=options.encoding, expansion_max=options.expansion_max) for path in paths]
    try:
        size = await asyncio.to_thread(_size, inputs)
        async with Rejects(broker, options.error_file, options.error_topic, ensure_topic) as rejects:
            await ensure_topic(topic)
            known = await broker.topic(topic)
            for one in inputs:
                await _File(broker, known, one, options, rejects, done, progress, size).load()
    finally:
        for one in inputs:
            one.close()
    if done.skipped:
        done.notices.append(f"{done.skipped} bad record{'s' * (done.skipped != 1)} skipped{rejects.place}")
        done.notices += [f"skipped {reject}" for reject in rejects.first]
    return done


def _size(inputs: Sequence[Input]) -> int:
    """The bytes of all inputs, 0 when they are not known; raises GeodeError for one that cannot be opened."""
    sizes: list[int] = []
    for one in inputs:
        one.open()
        sizes.append(one.size if one.is_regular else -1)
        if len(inputs) > 1:
            one.close()
    return 0 if -1 in sizes else sum(sizes)


class _File:
    """One input on its way into the topic."""

    def __init__(
        self,
        broker: Broker,
        topic: Topic,
        source: Input,
        options: LoadOptions,
        rejects: Rejects,
        done: Loaded,
        progress: Progress | None,
        total: int,
    ) -> None:
        self._broker = broker
        self._topic = topic
        self._source = source
        self._options = options
        self._rejects = rejects
        self._done = done
        self._progress = progress
        self._total = total
        self._numbering = "line"
        self._key = None if options.key_field is None else FieldPath(options.key_field, "key_field")
        self._id = None if options.id_field is None else FieldPath(options.id_field, "id_field")
        self._time = None if options.timestamp_field is None else FieldPath(options.timestamp_field, "timestamp_field")
        self._time_format = TimeFormat(options.timestamp_format)

    async def load(self) -> None:
        before = self._done.bytes_read
        try:
            await asyncio.to_thread(self._reopen)
            batches = self._batches(reader := self._reader())
            try:
                while (batch := await self._next(batches)) is not None:
                    await self._store(reader, batch)
                    self._done.bytes_read = before + self._source.bytes_read
                    if self._progress is not None:
                        self._progress(self._done.messages, self._done.bytes_read, self._total)
            finally:
                # A worker thread may still be reading when the statement was cancelled.
                self._source.stop()
            self._done.bytes_read = before + self._source.bytes_read
        finally:
            await self._closed()
        if reader.notice is not None and len(self._done.notices) < NOTICES_MAX:
            self._done.notices.append(f"{self._source.name}: {reader.notice}")

    def _reopen(self) -> None:
        if not self._source.is_open:
            self._source.open()

    async def _closed(self) -> None:
        running = self._running
        if running is not None and not running.done():
            self._source.stop()
            await asyncio.wait({running})
        self._source.close()

    _running: "asyncio.Future[Any] | None" = None

    async def _next(self, batches: "Iterator[list[Record]]") -> "list[Record] | None":
        """The next batch. Cancelled, it is waited for no longer than one piece takes to be read."""
        self._running = asyncio.ensure_future(asyncio.to_thread(next, batches, None))
        return await asyncio.shield(self._running)

    def _reader(self) -> Reader:
        kind = format_of(self._source.path, self._options.format).name
        match kind:
            case "jsonl":
                return JsonLines(self._source)
            case "json":
                return JsonDocuments(self._source)
            case "csv" | "tsv":
                return CsvRows(self._source, self._declared(), _csv_options(self._options.csv, kind))
            case _:
                from geode_client.query.parquet_files import ParquetRows

                self._numbering = "row"
                return ParquetRows(self._source, self._options.batch_size)

    def _declared(self) -> dict[str, TypeNode]:
        schema = self._topic.schema
        return {} if schema is None else {column.name: column.type for column in schema.columns}

    def _batches(self, reader: Reader) -> Iterator[list[Record]]:
        """The records of one batch at a time."""
        batch: list[Record] = []
        size = 0
        try:
            for record in reader.records():
                if record is None:
                    if batch:
                        yield batch
                        batch, size = [], 0
                    continue
                batch.append(record)
                size += record.size
                if len(batch) >= self._options.batch_size or size > BATCH_BYTES_MAX:
                    yield batch
                    batch, size = [], 0
        except BadLine as error:
            raise GeodeError(f"{self._source.name}:{error.number}: {error}{self._not_stored(batch)}") from error
        except GeodeError as error:
            if str(error).startswith(self._source.name):
                raise
            raise GeodeError(f"{self._source.name}: {error}{self._not_stored(batch)}") from error
        if batch:
            yield batch

    def _not_stored(self, batch: Sequence[Record]) -> str:
        stored = f"; {self._done.messages:,} messages were stored before" if self._done.messages else ""
        if not batch:
            return f" ({stored[2:]})" if stored else ""
        return f" ({self._numbering}s {batch[0].number} to {batch[-1].number} were not stored{stored})"

    # ── storing ──
    async def _store(self, reader: Reader, records: list[Record]) -> None:
        left = records
        while left:
            try:
                made = await asyncio.to_thread(self._made, reader, left)
                receipt = await self._broker.publish_batch(made)
            except InvalidMessage as error:
                bad = left[error.message_index]
                reject = Reject(self._source.name, self._numbering, bad.number, _reason(error), _shown(bad.raw))
                if not self._options.skips_errors:
                    raise GeodeError(f"{reject}{self._not_stored(records)}") from error
                left = await self._without_bad(reader, left, error.message_index, reject)
                continue
            self._done.messages += receipt.count
            self._done.duplicates += receipt.duplicates
            return

    async def _without_bad(self, reader: Reader, records: list[Record], index: int, reject: Reject) -> list[Record]:
        """The records without that one, and without any other that can be found to be wrong by itself."""
        rejected = {index: reject}
        for place, error in await asyncio.to_thread(self._found_bad, reader, records, index):
            record = records[place]
            rejected[place] = Reject(
                self._source.name, self._numbering, record.number, _reason(error), _shown(record.raw)
            )
        for place in sorted(rejected):
            await self._rejects.add(rejected[place])
        self._done.skipped += len(rejected)
        return [record for place, record in enumerate(records) if place not in rejected]

    def _found_bad(self, reader: Reader, records: Sequence[Record], known: int) -> list[tuple[int, InvalidMessage]]:
        found: list[tuple[int, InvalidMessage]] = []
        options = self._topic.options
        for place, record in enumerate(records):
            if place == known:
                continue
            try:
                made = self._made(reader, [record])
                lines = codec.encode_lines(made.bodies)
                if len(lines) - 1 > options.max_message_bytes:
                    reason = f"{len(lines) - 1} bytes of JSON are more than max_message_bytes allows"
                    raise InvalidMessage(reason)
                if self._topic.schema is not None:
                    self._topic.schema.check(lines, strict=options.strict)
            except InvalidMessage as error:
                found.append((place, error))
        return found

    def _made(self, reader: Reader, records: Sequence[Record]) -> OutgoingBatch:
        """The batch of some records; raises InvalidMessage for the first that is wrong."""
        lines: list[bytes] = []
        values: list[Any] = []
        for first in range(0, len(records), CHECKED_AT_ONCE):
            try:
                some, found = reader.checked([record.raw for record in records[first : first + CHECKED_AT_ONCE]])
            except InvalidMessage as error:
                index = first + error.message_index
                raise InvalidMessage(error.reason, message_index=index, pointer=error.pointer) from error
            lines += some
            values += found
        keys = None if self._key is None else [self._key.text_of(value, i) for i, value in enumerate(values)]
        ids = None if self._id is None else [self._id.text_of(value, i) for i, value in enumerate(values)]
        times = None
        if self._time is not None:
            path = self._time
            times = [self._time_format.microseconds(path.value_of(value, i), i) for i, value in enumerate(values)]
        bodies = codec.Lines(b"".join([line + b"\n" for line in lines]), len(lines))
        fixed = dict(self._options.fixed)
        if keys is not None:
            fixed["keys"] = keys
        return OutgoingBatch(self._topic.name, bodies, ids=ids, times_us=times, **fixed)


def _csv_options(options: CsvOptions, kind: str) -> CsvOptions:
    if kind == "tsv" and options.delimiter is None:
        from dataclasses import replace

        return replace(options, delimiter="\t")
    return options


def _reason(error: InvalidMessage) -> str:
    return f"{f'at {error.pointer}: ' if error.pointer else ''}{error.reason}"


def _shown(raw: Any) -> str:
    """The text of a bad record, as far as it is kept."""
    if isinstance(raw, bytes):
        return raw[:RAW_KEPT_MAX].decode(errors="replace").rstrip("\r\n")
    if isinstance(raw, list):
        import csv
        import io

        stream = io.StringIO()
        csv.writer(stream, lineterminator="").writerow([cell.removeprefix("\x00")[:RAW_KEPT_MAX] for cell in raw])
        return stream.getvalue()[:RAW_KEPT_MAX]
    return repr(raw)[:RAW_KEPT_MAX]


RAW_KEPT_MAX = 64 * 1024
