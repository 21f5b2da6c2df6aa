"""A pager for what does not fit on the screen, and the editor for what is long to write."""

import asyncio
import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from geode_client.errors import GeodeError
from geode_client.repl.interrupts import left_to_another

LINES_KEPT = 2
"""Lines of the screen that the prompt needs."""


def pager_command(setting: str) -> list[str] | None:
    """The command that shows long text; None when none is wanted, or none is there."""
    if setting == "off" or os.environ.get("TERM") == "dumb":
        return None
    command = shlex.split(os.environ.get("PAGER") or "less" if setting == "on" else setting)
    if not command or shutil.which(command[0]) is None:
        return None
    # Colours as they are, long lines cut and moved with the arrow keys, what is left on the screen stays there.
    return [*command, "-RSX"] if command == ["less"] else command


async def page(text: str, command: list[str]) -> None:
    """Show a text in a pager and wait until its user has left it."""
    with left_to_another():
        # The text is UTF-8, whatever the locale makes less expect.
        environment = {"LESSCHARSET": "utf-8", **os.environ}
        process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, env=environment)
        assert process.stdin is not None
        # A pager that is left before it has read everything closes its end.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(text.encode())
            await process.stdin.drain()
        process.stdin.close()
        await process.wait()


async def edit(text: str, path: Path | None) -> str:
    """Let a person edit a file, or a text in a temporary one; gives what was written."""
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    if shutil.which(command[0]) is None:
        raise GeodeError(f"there is no editor {command[0]}: set $EDITOR")
    with contextlib.ExitStack() as after:
        if path is None:
            folder = after.enter_context(tempfile.TemporaryDirectory(prefix="geode-"))
            path = Path(folder) / "statement.gql"
            path.write_text(text, encoding="utf-8")
        with left_to_another():
            process = await asyncio.create_subprocess_exec(*command, str(path))
            if await process.wait():
                raise GeodeError(f"{command[0]} ended with an error: nothing is run")
        return _read(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise GeodeError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise GeodeError(f"{path}: this is no UTF-8 text (byte {error.start})") from error
