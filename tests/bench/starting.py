"""Starting: the import, the command, and opening a store that has a million messages."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.table import Row, Settings, messages

from geode_client import Client

IMPORT_MILLISECONDS_GOAL = 150
OPEN_MILLISECONDS_GOAL = 50


async def rows(settings: Settings, found: list[Row]) -> None:
    """Measure and append the rows of this group."""
    bare = _process(sys.executable, "-c", "pass")
    imported = _process(sys.executable, "-c", "import geode_client") - bare
    reached = imported <= IMPORT_MILLISECONDS_GOAL
    found.append(Row("import geode_client", f"{imported:.0f} ms", f"python itself {bare:.0f} ms", "≤ 150 ms", reached))
    command = str(Path(sys.executable).parent / "geode")
    found.append(Row("geode -c 'SELECT 1'", f"{_process(command, '-t', ':memory:', '-c', 'SELECT 1'):.0f} ms"))
    empty, full = settings.directory / "empty", settings.directory / "full"
    async with Client(empty) as client:
        await client.publish("t", 1)
    async with Client(full) as client:
        for _ in range(10):
            await client.publish_batch("t", messages(100_000))
    small, large = await _open(empty), await _open(full)
    reached = large - small <= OPEN_MILLISECONDS_GOAL
    against = f"an empty one {small:.1f} ms"
    found.append(Row("open a store of 1,000,000 messages", f"{large:.1f} ms", against, "≤ 50 ms more", reached))


def _process(*command: str) -> float:
    taken = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


async def _open(directory: Path) -> float:
    taken = []
    for _ in range(7):
        client = Client(directory)
        started = time.perf_counter()
        await client.open()
        await client.query("SELECT 1")
        taken.append((time.perf_counter() - started) * 1000)
        await client.close()
    return statistics.median(taken)
