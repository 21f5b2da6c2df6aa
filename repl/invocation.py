"""One run of the command: where it works, and how it ends.

Errors go to standard error in words; no traceback reaches a person. Exit codes: 0 done, 1 something failed, 2 the command
line is wrong, 130 interrupted, 141 whoever read the output has gone.
"""

import asyncio
import os
import stat
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from geode_client.errors import GeodeError

if TYPE_CHECKING:
    from geode_client.client import Client
    from geode_client.repl.settings import Settings

FORMATS = ("table", "vertical", "json", "jsonl", "csv", "markdown")
DEFAULT_TARGET = "./geode-data"
FAILED, INTERRUPTED, PIPE_CLOSED = 1, 130, 141


class PipeClosed(Exception):
    """Whoever read the output has had enough."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What stands before the name of a command: the target as it was given, and the person's settings."""

    target: str | None
    settings: "Settings"

    def client(self) -> "Client":
        """A client of the target; opening it makes the store where there is none."""
        from geode_client.client import Client

        return Client(self.target)

    @property
    def directory(self) -> Path:
        """The directory that the target is. Raises GeodeError when it is none."""
        target = self.shown_target
        if target.startswith(":") or ("://" in target and not target.startswith("file://")):
            raise GeodeError(f"{target} is no directory: this command works on the files of a store")
        return Path(target.removeprefix("file://"))

    @property
    def shown_target(self) -> str:
        """The target that is meant, also where none was given."""
        return self.target or os.environ.get("GEODE_URL") or DEFAULT_TARGET

    def check_existing(self) -> None:
        """Raise GeodeError where the target is a directory without a store: looking at a store makes none."""
        target = self.shown_target
        if not target.startswith(":") and "://" not in target and not (Path(target) / "geode.db").exists():
            raise GeodeError(f"there is no store in {target}: name one with --target, or $GEODE_URL")

    def existing_client(self) -> "Client":
        """A client of a store that is there already."""
        self.check_existing()
        return self.client()

    def shown_format(self, chosen: str | None) -> str:
        """The format that was asked for; else that of the settings on a terminal, and JSON lines in a pipe."""
        if chosen is not None:
            return chosen
        return self.settings.format if sys.stdout.isatty() else "jsonl"


def guarded(work: Callable[[], Coroutine[Any, Any, int | None]], *, until_pipe_closes: bool = False) -> int:
    """Run to the end; gives the exit code, with every error told in words.

    With `until_pipe_closes` it ends as soon as nobody reads its output any more, also while it waits.
    """
    try:
        code = asyncio.run(_until_pipe_closes(work()) if until_pipe_closes else work())
        sys.stdout.flush()
    except GeodeError as error:
        return told(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BrokenPipeError, PipeClosed):
        # Python must not complain of the closed pipe when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        return told(GeodeError(f"{error.filename or 'system'}: {error.strerror or error}"))
    except RecursionError:
        return told(GeodeError("a value or statement is nested too deeply"))
    return code or 0


def told(error: GeodeError) -> int:
    """Tell an error on standard error; gives the exit code of a failure."""
    from geode_client.repl.errors import tell

    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    tell(error)
    return FAILED


async def _until_pipe_closes(work: Coroutine[Any, Any, int | None]) -> int | None:
    """Run the work; where standard output is a pipe, end it when the other end is closed, also while nothing is written."""
    task = asyncio.ensure_future(work)
    descriptor = _pipe_of_output()
    if descriptor is None:
        return await task
    loop, closed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, closed.set)
    watch = asyncio.ensure_future(closed.wait())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            raise PipeClosed
        return await task
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    finally:
        loop.remove_reader(descriptor)
        watch.cancel()


def _pipe_of_output() -> int | None:
    try:
        descriptor = sys.stdout.fileno()
        return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else None
    except (OSError, ValueError):
        return None


def parameters(given: tuple[str, ...]) -> dict[str, Any]:
    """Values by name from NAME=VALUE; a VALUE that is no JSON is text."""
    found: dict[str, Any] = {}
    for one in given:
        name, separator, value = one.partition("=")
        if not separator or not name.isidentifier():
            raise click.UsageError(f"--param takes NAME=VALUE with a plain name, not {one!r}")
        try:
            found[name] = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            found[name] = value
    return found


def examples(*lines: str) -> str:
    """The end of a command's help: examples, as they are written."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
