"""Starting worker processes and reading what they tell."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

WORKER = Path(__file__).parent / "worker.py"
PROMPT_SECONDS = 60


class Worker:
    """A process under test; `told` is everything it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[list[Any]] = []

    async def next(self) -> list[Any] | None:
        """The next thing it tells; None when it has ended. A line cut off by its death counts as not said."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PROMPT_SECONDS):
            line = await self.process.stdout.readline()
        if not line.endswith(b"\n"):
            return None
        said: list[Any] = json.loads(line)
        self.told.append(said)
        return said

    async def until(self, kind: str) -> list[Any]:
        """Read on to something of this kind."""
        while True:
            said = await self.next()
            assert said is not None, f"it ended without telling {kind}: {self.told[-3:]}"
            if said[0] == kind:
                return said

    async def rest(self) -> list[list[Any]]:
        """Read to the end."""
        while await self.next() is not None:
            pass
        await self.process.wait()
        return self.told

    def go(self) -> None:
        """Let a worker that waits for its start begin."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")


@asynccontextmanager
async def worker(*arguments: str) -> AsyncIterator[Worker]:
    """A worker that is killed at the latest when the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(WORKER),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=16 * 1024 * 1024,
    )
    try:
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
