"""Which format and compression a file has: by the ending of its name, or by the option `format`."""

from dataclasses import dataclass
from pathlib import PurePath

from geode_client.errors import GeodeError
from geode_client.query.inputs import STANDARD_STREAM

_BY_ENDING = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSED = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format, one of options.FILE_FORMATS, and the compression around it, one of FILE_COMPRESSIONS."""

    name: str
    compression: str = "none"


def format_of(path: str, given: str | None = None, compression: str | None = None) -> FileFormat:
    """The format of a file; what is given goes before the ending. Raises GeodeError for a name that says nothing."""
    endings = [ending.lower() for ending in PurePath(path).suffixes]
    packed = "none"
    if endings and endings[-1] in _COMPRESSED:
        packed = _COMPRESSED[endings.pop()]
    found = given or (_BY_ENDING.get(endings[-1]) if endings else None)
    if found is None and path == STANDARD_STREAM:
        found = "jsonl"
    if found is None:
        shown = f"{PurePath(path).name} should end with" if path else "a file should end with"
        raise GeodeError(
            f"COPY knows a file's format by its ending: {shown} .jsonl, .json, .csv, .tsv or .parquet, and .gz or .zst"
            f" behind it where it is compressed; or say format: 'csv'"
        )
    return FileFormat(found, compression or packed)
