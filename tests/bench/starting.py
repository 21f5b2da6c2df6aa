"""Starting: the import, the command, and opening a store that has a million messages."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.table import Row, Settings, messages
from terminal import Terminal

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
    _first_prompt(settings, found, command)
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


def _first_prompt(settings: Settings, found: list[Row], command: str) -> None:
    """From starting a shell to its prompt on the screen, in turns with litecli's in a terminal of the same size."""
    taken: dict[str, list[float]] = {"geode": [], "litecli": []}
    started = {
        "geode": ([command, "-t", str(settings.directory / "shell")], "geode>"),
        "litecli": (
            [str(Path(command).with_name("litecli")), str(settings.directory / "shell.sqlite")],
            "shell.sqlite>",
        ),
    }
    for _ in range(9):
        for name, (arguments, prompt) in started.items():
            if name == "geode" or settings.peers:
                taken[name].append(_seconds_until(prompt, arguments, settings.directory) * 1000)
    ours = statistics.median(taken["geode"])
    theirs = statistics.median(taken["litecli"]) if settings.peers else None
    against = "" if theirs is None else f"litecli {theirs:.0f} ms"
    reached = None if theirs is None else ours <= theirs
    found.append(Row("first prompt of the shell", f"{ours:.0f} ms", against, "≤ litecli", reached))


def _seconds_until(prompt: str, arguments: list[str], home: Path) -> float:
    begun = time.perf_counter()
    terminal = Terminal(arguments[0], arguments[1:], home=home)
    terminal.sees(prompt)
    seconds = time.perf_counter() - begun
    terminal.close()
    return seconds


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
