"""CSV text read as COPY reads it, without a file."""

from typing import Any

from geode_client.grammar.ast import TypeNode
from geode_client.query.csv_files import CsvOptions, CsvRows


class Text:
    """A whole file as the readers take it."""

    def __init__(self, text: bytes) -> None:
        self._pieces = [text]

    def ready(self) -> bool:
        return True

    def read(self) -> bytes:
        return self._pieces.pop() if self._pieces else b""


def read_back(text: bytes, options: CsvOptions, declared: dict[str, TypeNode] | None = None) -> list[Any]:
    reader = CsvRows(Text(text), declared or {}, options)  # type: ignore[arg-type]
    raws = [record.raw for record in reader.records() if record is not None]
    return reader.checked(raws)[1]
