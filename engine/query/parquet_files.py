"""Files of Parquet as messages, and messages as Parquet; needs the package pyarrow (the extra `arrow`).

A row is a message; NULL and NaN leave their field out. Times without an offset are UTC. Parquet is read from its end, so a
file that is compressed once more, or comes through a pipe, is first unpacked into a temporary file.
"""

import importlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import IO, Any

from geode_client import codec
from geode_client.errors import GeodeError, InvalidMessage, Unsupported
from geode_client.query.arrow import without_uuids
from geode_client.query.inputs import PIECE_BYTES, BadInput, Input, Prefixed
from geode_client.query.records import BadLine, Record

COLUMNS_MAX = 10_000
COLUMNS_SHOWN = 100
MAGIC = b"PAR1"


def pyarrow_module(name: str) -> Any:
    """A module of pyarrow; raises Unsupported without the package."""
    try:
        return importlib.import_module(name)
    except ImportError:
        what = "Parquet without the package pyarrow (pip install 'geode-client[arrow]')"
        raise Unsupported(what, "this installation") from None


class ParquetRows:
    """One message a row. `numbers` of records are those of rows, from 1."""

    def __init__(self, source: Input, batch_size: int) -> None:
        self._parquet = pyarrow_module("pyarrow.parquet")
        self._arrow = pyarrow_module("pyarrow")
        self._source = source
        self._batch_size = batch_size
        self.notice: str | None = None

    def records(self) -> Iterator[Record | None]:
        """The rows. Raises BadLine."""
        number = 0
        with self._seekable() as stream:
            try:
                file = self._parquet.ParquetFile(stream, memory_map=False)
                self._check(file)
                row_bytes = max(1, file.metadata.serialized_size // max(1, file.metadata.num_rows))
                for batch in file.iter_batches(batch_size=min(self._batch_size, 10_000)):
                    row_bytes = max(1, batch.nbytes // max(1, batch.num_rows))
                    for row in batch.to_pylist():
                        number += 1
                        yield Record(number, row_bytes, row)
            except (self._arrow.ArrowException, OSError, EOFError, OverflowError, ValueError) as error:
                raise BadLine(number + 1, f"not valid Parquet: {str(error).splitlines()[0]}") from error

    def _check(self, file: Any) -> None:
        names = file.schema_arrow.names
        if len(names) > COLUMNS_MAX:
            raise BadLine(1, f"the file has {len(names):,} columns, more than the {COLUMNS_MAX:,} that can be read")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise BadLine(1, f"two columns are called {twice}")
        shown = [f"{field.name} {field.type}" for field in file.schema_arrow][:COLUMNS_SHOWN]
        more = [f"and {len(names) - COLUMNS_SHOWN} more"] if len(names) > COLUMNS_SHOWN else []
        self.notice = f"columns: {', '.join(shown + more)}"

    def _seekable(self) -> IO[bytes]:
        """The file itself, where it can be read from its end; else a copy that goes when it is closed."""
        source = self._source.binary()
        first = source.read(PIECE_BYTES)
        if self._source.is_regular and first.startswith(MAGIC) and isinstance(source, Prefixed):
            return open(self._source.path, "rb")
        if not first.startswith(MAGIC):
            raise BadInput("not a Parquet file: it does not begin with PAR1")
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            while first:
                copy.write(first)
                first = source.read(PIECE_BYTES)
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return copy

    def checked(self, raws: Sequence[Any]) -> tuple[list[bytes], list[Any]]:
        """JSON text and value of the message of each row; raises InvalidMessage for the first bad one."""
        bodies = []
        for index, row in enumerate(raws):
            try:
                bodies.append({name: made for name, value in row.items() if (made := _json(value)) is not None})
            except (OverflowError, ValueError, TypeError) as error:
                raise InvalidMessage(str(error), message_index=index) from error
        return codec.split_lines(codec.encode_lines(bodies)), bodies


def _json(value: Any) -> Any:
    """A value of Arrow as one of a message."""
    match value:
        case float():
            return None if math.isnan(value) else value
        case datetime():
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        case time():
            return value.isoformat()
        case timedelta():
            return value // timedelta(microseconds=1)
        case Decimal():
            return value if value.is_finite() else None
        case dict():
            return {name: _json(item) for name, item in value.items()}
        case list():
            if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):  # a map
                return {str(name): _json(item) for name, item in value}
            return [_json(item) for item in value]
        case _:
            return value


class ParquetWriter:
    """Writes rows to a stream. `learn` sees all rows first and decides the columns' types; then `write` takes them again."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._arrow = pyarrow_module("pyarrow")
        self._parquet = pyarrow_module("pyarrow.parquet")
        self._types: dict[str, Any] = dict.fromkeys(names)
        self._as_text: set[str] = set()
        self._writer: Any = None

    def learn(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Look at the values of some rows, by column."""
        for name, values in columns.items():
            self._types.setdefault(name, None)
            if name in self._as_text:
                continue
            found = self._type_of(_nested_as_arrow(values))
            if found is None:
                self._as_text.add(name)
            elif found != self._arrow.null():
                self._widen(name, found)
        if len(self._types) > COLUMNS_MAX:
            raise GeodeError(
                f"the rows have more than {COLUMNS_MAX:,} different fields: write JSON lines (.jsonl) instead"
            )

    def _type_of(self, values: Sequence[Any]) -> Any:
        """The one type of values; None where they have none in common."""
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            return None
        try:
            return self._arrow.array(values).type
        except (self._arrow.ArrowException, OverflowError, TypeError, ValueError):
            return None

    def _widen(self, name: str, found: Any) -> None:
        known = self._types[name]
        if known is None or known == found:
            self._types[name] = found
            return
        one = [self._arrow.schema([(name, kind)]) for kind in (known, found)]
        try:
            if {str(known), str(found)} == {"int64", "double"}:
                self._types[name] = self._arrow.float64()
            else:
                self._types[name] = self._arrow.unify_schemas(one, promote_options="permissive").field(name).type
        except self._arrow.ArrowException:
            self._as_text.add(name)

    def open(self, stream: Any) -> None:
        """Begin to write, with the columns that were learnt."""
        arrow = self._arrow
        fields = []
        for name, found in self._types.items():
            kind = arrow.string() if name in self._as_text or found is None or _is_empty_struct(arrow, found) else found
            if kind is not found:
                self._as_text.add(name)
            fields.append(arrow.field(name, kind))
        self._schema = arrow.schema(fields)
        self._writer = self._parquet.ParquetWriter(stream, self._schema)

    def write(self, columns: Mapping[str, Sequence[Any]], count: int) -> None:
        """Write some rows; a column that is not there is NULL."""
        arrays = []
        for field in self._schema:
            values = columns.get(field.name) or [None] * count
            values = [_text(value) for value in values] if field.name in self._as_text else _nested_as_arrow(values)
            arrays.append(self._arrow.array(values, field.type))
        self._writer.write_batch(self._arrow.record_batch(arrays, schema=self._schema))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _nested_as_arrow(values: Sequence[Any]) -> Sequence[Any]:
    """The values with what Arrow has no type for inside arrays and objects as text."""
    return [without_uuids(value) if value.__class__ in (list, dict) else value for value in values]


def _is_empty_struct(arrow: Any, kind: Any) -> bool:
    """Whether Parquet cannot hold the type: objects without fields, anywhere in it."""
    if arrow.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return not fields or any(_is_empty_struct(arrow, field.type) for field in fields)
    if arrow.types.is_list(kind):
        return _is_empty_struct(arrow, kind.value_type)
    return bool(kind == arrow.null())


def _text(value: Any) -> str | None:
    """A value of a column of mixed kinds as text: JSON, but for text itself."""
    if value is None or isinstance(value, str):
        return value
    return codec.encode(value).decode()
