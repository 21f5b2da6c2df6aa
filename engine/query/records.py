"""What readers of files and the loader share: a record with its place, and the ways in which one can be wrong."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from geode_client.errors import GeodeError

RECORD_BYTES_MAX = 64 * 1024 * 1024


class Record(NamedTuple):
    """One message as a file has it: the number of its first line (or row), its size in bytes, and its raw form."""

    number: int
    size: int
    raw: Any


class BadLine(GeodeError):
    """A place from which no record can be read, nor any after it; `number` counts from 1."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def too_long(number: int, what: str = "line") -> BadLine:
    """The error for a line or value that is longer than a record may be."""
    return BadLine(number, f"the {what} has more than {RECORD_BYTES_MAX // 1024**2} MiB, the most that can be read")


class Reader(Protocol):
    """Reads the records of one open input, in a worker thread. `notice` says what was found out about the file."""

    notice: str | None

    def records(self) -> Iterator[Record | None]:
        """The records; None where the input has nothing more at the moment. Raises BadLine."""
        ...

    def checked(self, raws: Sequence[Any]) -> tuple[list[bytes], list[Any]]:
        """JSON text and value of the message of each raw record; raises InvalidMessage for the first bad one."""
        ...
