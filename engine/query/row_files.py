"""The rows of a query as messages and as files: INSERT INTO … SELECT and COPY (SELECT …) TO."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from geode_client import codec
from geode_client.errors import GqlError
from geode_client.query.batches import Batch
from geode_client.query.copying import Progress, explained, is_csv_file
from geode_client.query.files import CsvWriter
from geode_client.query.result import unique_names

MESSAGES_AT_ONCE = 10_000
ROWS_AT_ONCE = 1_000


def messages(names: Sequence[str], found: Batch) -> Iterator[list[dict[str, Any]]]:
    """A message for each row, some at a time; raises GqlError where two columns have one name."""
    for place, name in enumerate(names):
        if name in names[:place]:
            raise GqlError(f"two columns are called {name}", hint="name them: SELECT … AS a, … AS b")
    for part in found.parts(MESSAGES_AT_ONCE):
        rows = zip(*part.columns, strict=True)
        yield [dict(zip(names, row, strict=True)) for row in rows]


async def write_rows(names: Sequence[str], found: Batch, target: str, progress: Progress | None) -> tuple[int, int]:
    """Write rows to a file, by its ending JSON lines or CSV; gives how many and the bytes written. The file appears under
    its name when it is whole."""
    path = Path(target).expanduser()
    names = unique_names(names)
    writer = CsvWriter(names) if is_csv_file(path) else None
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    rows = size = 0
    try:
        stream = await asyncio.to_thread(unfinished.open, "wb")
        try:
            with stream:
                size += stream.write(writer.header()) if writer is not None else 0
                for part in found.parts(ROWS_AT_ONCE):
                    text = await asyncio.to_thread(_text, writer, names, part)
                    await asyncio.to_thread(stream.write, text)
                    rows, size = rows + part.count, size + len(text)
                    if progress is not None:
                        progress(rows, size, 0)
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise explained(path, error) from error
    return rows, size


def _text(writer: CsvWriter | None, names: Sequence[str], part: Batch) -> bytes:
    bodies = [dict(zip(names, row, strict=True)) for row in zip(*part.columns, strict=True)]
    return codec.encode_lines(bodies) if writer is None else writer.rows(bodies)
