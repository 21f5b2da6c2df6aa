"""Histories: what a process did and saw, one JSON record a line, written before it does it and after it has the answer.

A record is with the kernel once `Recorder.write` returns, so that it survives the death of the process; a line that its
death cut off counts as not written. Times are nanoseconds of the monotonic clock, which all processes share.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Recorder:
    """Appends to the history of one process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, what: str, **more: Any) -> None:
        record = {"what": what, "at": time.monotonic_ns(), **more}
        os.write(self._file, json.dumps(record).encode() + b"\n")


def history(path: Path) -> list[Record]:
    """The records of one process, in order."""
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


def histories(folder: Path) -> dict[str, list[Record]]:
    """The histories of all processes, by the name of the process."""
    return {path.stem: history(path) for path in sorted(folder.glob("*.jsonl"))}
