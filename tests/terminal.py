"""A terminal of its own for a program: what is typed goes in, and the screen can be read as a person sees it."""

import os
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pyte

CTRL_C, CTRL_D, CTRL_R, ESCAPE, TAB, ENTER, RIGHT = "\x03", "\x04", "\x12", "\x1b", "\t", "\r", "\x1b[C"
WAIT_SECONDS = 30.0


class Terminal:
    """A program on a screen of `lines` × `columns`; every wait ends with an error that shows the screen."""

    def __init__(
        self,
        command: str,
        arguments: list[str],
        *,
        home: Path,
        lines: int = 40,
        columns: int = 100,
        cwd: Path | None = None,
        **environment: str,
    ) -> None:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("GEODE_", "XDG_", "NO_COLOR"))
        }
        kept |= {"TERM": "xterm-256color", "HOME": str(home), "PAGER": "less", "LESS": "", **environment}
        self.columns = columns
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self._screen)
        self._child = pexpect.spawn(
            command, arguments, env=kept, encoding="utf-8", timeout=WAIT_SECONDS, dimensions=(lines, columns), cwd=cwd
        )
        self._child.delaybeforesend = None
        # What the program asks of a terminal (where is the cursor?) is answered as a terminal would.
        setattr(self._screen, "write_process_input", self._child.send)  # noqa: B010

    @property
    def text(self) -> str:
        """The screen, without the blanks at the ends of its lines."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    @property
    def unwrapped(self) -> str:
        """The screen as one line, as it was before the terminal broke long lines at its right edge.

        For texts that follow a path, whose length decides where the line breaks.
        """
        return "".join(self._screen.display)

    @property
    def cells(self) -> Any:
        """The characters of the screen with their colours, by line and column."""
        return self._screen.buffer

    @property
    def exit_code(self) -> int | None:
        code: int | None = self._child.exitstatus
        return code

    @property
    def process_id(self) -> int:
        return int(self._child.pid)

    def type(self, text: str) -> None:
        self._child.send(text)

    def run(self, line: str, *wanted: str) -> None:
        """Type a line once the program reads keys, press Enter, and wait for what should then be on the screen."""
        self.is_reading()
        self.type(line + ENTER)
        for one in wanted:
            self.sees(one)

    def sees(self, wanted: str) -> None:
        """Wait until the screen holds a text."""
        self.until(lambda: wanted in self.text, f"{wanted!r} never came")

    def is_running(self) -> None:
        """Wait until the program reads no keys itself: Ctrl-C is a signal then, as while a statement runs."""
        self.until(lambda: bool(termios.tcgetattr(self._child.child_fd)[3] & termios.ICANON), "it still reads keys")

    def is_reading(self) -> None:
        """Wait until the program reads keys itself again: Ctrl-D is a key for it then."""
        self.until(lambda: not termios.tcgetattr(self._child.child_fd)[3] & termios.ICANON, "it reads no keys")

    def sees_not(self, unwanted: str) -> None:
        """Wait until the screen holds a text no longer."""
        self.until(lambda: unwanted not in self.text, f"{unwanted!r} never went")

    def until(self, holds: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"{otherwise}; the screen is:\n{self.text}"
            try:
                self._stream.feed(self._child.read_nonblocking(65_536, timeout=0.2))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert holds(), f"{otherwise}; the program has ended, and the screen is:\n{self.text}"
                return

    def ends(self) -> int | None:
        """Wait until the program has ended; its exit code."""
        try:
            while True:
                self._stream.feed(self._child.read_nonblocking(65_536, timeout=WAIT_SECONDS))
        except pexpect.EOF:
            self._child.wait()
        return self.exit_code

    def close(self) -> None:
        self._child.close(force=True)
