"""Records that a load has put aside: counted, and written to a file of JSON lines or to a topic.

Each becomes an object with `file`, `line` (or `row`), `error` and `record`, the text as far as 64 KiB of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from geode_client import codec
from geode_client.broker import Broker, OutgoingBatch
from geode_client.errors import GeodeError
from geode_client.query.inputs import explained

SHOWN_MAX = 5
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that was not loaded: its place, why not, and its text."""

    file: str
    numbering: str
    number: int
    error: str
    record: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.number}" if self.numbering == "line" else f"{self.file}, row {self.number}"
        return f"{place}: {self.error}"

    def message(self) -> dict[str, Any]:
        return {"file": self.file, self.numbering: self.number, "error": self.error, "record": self.record}


class Rejects:
    """Collects rejects, and writes them out where a file or topic was named for them."""

    def __init__(
        self, broker: Broker, file: str | None, topic: str | None, ensure_topic: Callable[[str], Awaitable[None]]
    ) -> None:
        self._broker = broker
        self._file = None if file is None else Path(file).expanduser()
        self._topic = topic
        self._ensure_topic = ensure_topic
        self._waiting: list[Reject] = []
        self._stream: IO[bytes] | None = None
        self.first: list[Reject] = []

    @property
    def place(self) -> str:
        """Where they are, for a notice."""
        places = [str(self._file)] if self._file is not None else []
        places += [f"topic {self._topic}"] if self._topic is not None else []
        return f" (written to {' and '.join(places)})" if places else ""

    async def add(self, reject: Reject) -> None:
        if len(self.first) < SHOWN_MAX:
            self.first.append(reject)
        if self._file is None and self._topic is None:
            return
        self._waiting.append(reject)
        if len(self._waiting) >= AT_ONCE:
            await self._flush()

    async def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        messages = [reject.message() for reject in waiting]
        if self._file is not None:
            await asyncio.to_thread(self._write, codec.encode_lines(messages))
        if self._topic is not None:
            await self._ensure_topic(self._topic)
            await self._broker.publish_batch(OutgoingBatch(self._topic, messages))

    def _write(self, text: bytes) -> None:
        assert self._file is not None
        try:
            if self._stream is None:
                self._stream = self._file.open("wb")
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            raise explained(str(self._file), error) from error

    async def __aenter__(self) -> Self:
        if self._file is not None and self._file.is_dir():
            raise GeodeError(f"{self._file} is a directory: error_file names a file")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, asyncio.CancelledError):
                await self._flush()
        finally:
            if self._stream is not None:
                self._stream.close()
