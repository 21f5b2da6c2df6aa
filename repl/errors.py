"""Errors as a person reads them: the message, the line with its caret, the hint; in colours on a terminal."""

import os
import sys
from typing import TextIO

from geode_client.grammar.errors import GeodeError

_RED, _BOLD, _CYAN, _END = "\x1b[31m", "\x1b[1m", "\x1b[36m", "\x1b[0m"
SHELL_NAME = "<shell>"


def tell(error: GeodeError, stream: TextIO | None = None) -> None:
    """Write an error on standard error."""
    stream = stream or sys.stderr
    stream.write(error_text(error, colour=wants_colour(stream)) + "\n")
    stream.flush()


def wants_colour(stream: TextIO) -> bool:
    """Whether to write colours: never with NO_COLOR, always with FORCE_COLOR, else on a terminal that has them."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or redraws(stream)


def redraws(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which a line can be drawn again."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def error_text(error: GeodeError, *, colour: bool) -> str:
    """The lines of an error. Where it comes from a line of the shell, the place is told by the caret alone."""
    from geode_client.repl.render import safe

    first, *rest = [safe(line.expandtabs(4)) for line in error.render().split("\n")]
    if first.startswith(SHELL_NAME):
        first = f"error: {first.partition(': ')[2]}"
    if not colour:
        return "\n".join([first, *rest])
    place, colon, message = first.partition(": ")
    lines = [f"{_BOLD}{_RED}{place}{colon}{_END}{_BOLD}{message}{_END}"]
    for line in rest:
        if line.strip() and not line.strip().strip("^"):
            line = f"{_BOLD}{_RED}{line}{_END}"
        elif line.startswith("hint: "):
            line = f"{_CYAN}hint:{_END} {line.removeprefix('hint: ')}"
        lines.append(line)
    return "\n".join(lines)
