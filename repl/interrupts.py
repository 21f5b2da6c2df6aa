"""Ctrl-C: it cancels what runs, and never more than that.

While the shell runs one handler has the signal (`caught`) and gives it to whoever is innermost. One that comes when nothing
runs yet, because a statement has just been entered, cancels the statement as soon as it begins.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """What was awaited was ended by Ctrl-C."""


class _Signals:
    """Who is to be told of the next Ctrl-C; `early` when one came and nobody was there."""

    def __init__(self) -> None:
        self.handlers: list[Callable[[], object]] = []
        self.early = False

    def came(self) -> None:
        if self.handlers:
            self.handlers[-1]()
        else:
            self.early = True


_signals = _Signals()


@contextlib.contextmanager
def caught() -> Iterator[None]:
    """Keep Ctrl-C from ending the program inside the body."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, _signals.came)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def forget_early() -> None:
    """A new line is read: what was pressed before has nothing to do with it."""
    _signals.early = False


async def until_interrupt(work: Coroutine[Any, Any, T]) -> T:
    """Await work that Ctrl-C cancels; raises Interrupted when it was. Work that catches the cancellation goes on."""
    task = asyncio.ensure_future(work)
    with _told(task.cancel):
        try:
            return await task
        except asyncio.CancelledError:
            mine = asyncio.current_task()
            if mine is not None and mine.cancelling():
                task.cancel()
                raise
            raise Interrupted from None


@contextlib.contextmanager
def left_to_another() -> Iterator[None]:
    """While another program has the screen (a pager, an editor) Ctrl-C is for it."""
    with _told(lambda: None):
        yield


@contextlib.contextmanager
def _told(handle: Callable[[], object]) -> Iterator[None]:
    _signals.handlers.append(handle)
    if _signals.early:
        _signals.early = False
        handle()
    try:
        yield
    finally:
        _signals.handlers.remove(handle)
