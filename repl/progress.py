"""How far long work has come: a bar on standard error, and nothing where nobody looks."""

import sys
import time

from geode_client.repl.errors import redraws

REDRAW_SECONDS = 0.1
BAR_WIDTH = 24
RATE_FROM_SECONDS = 0.5


class ProgressLine:
    """One line that is drawn again as work goes on, and is gone when it ends."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._drawn = 0.0
        self._began: float | None = None
        self._enabled = redraws(sys.stderr)

    def show(self, done: int, total: int, text: str) -> None:
        """`done` of `total` (0: nobody knows); drawn at most every tenth of a second."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
        if self._enabled and now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            sys.stderr.write(f"\r\x1b[K{self._what} {_bar(done, total)}{text}{speed(done, total, now - self._began)}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._enabled and self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = 0.0


def speed(done: int, total: int, seconds: float) -> str:
    """The rate of `done` bytes in so many seconds, and how long the rest takes at that rate (`total` 0: not known)."""
    if seconds < RATE_FROM_SECONDS or done <= 0:
        return ""
    rate = done / seconds
    left = f", {_time_text((total - done) / rate)} left" if total > done else ""
    return f", {rate / 1024**2:,.1f} MiB/s{left}"


def _time_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bar(done: int, total: int) -> str:
    if total <= 0:
        return ""
    share = min(1.0, done / total)
    full = int(share * BAR_WIDTH)
    return f"[{'█' * full}{'·' * (BAR_WIDTH - full)}] {share:4.0%} "


class CopyProgress:
    """How far a COPY is: messages, bytes done, bytes in all (0: nobody knows). Nothing is written where nobody looks."""

    def __init__(self) -> None:
        self._line = ProgressLine("copying")

    def __call__(self, messages: int, done_bytes: int, all_bytes: int) -> None:
        self._line.show(done_bytes, all_bytes, f"{messages:,} messages, {done_bytes / 1024 / 1024:,.1f} MiB")

    def clear(self) -> None:
        """The COPY is over, well or not."""
        self._line.clear()
        self._line = ProgressLine("copying")
