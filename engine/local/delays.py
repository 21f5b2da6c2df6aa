"""Appending delayed messages when they are due: a timer to the nearest due time of the store.

Every process that has the store open keeps the timer, so that nothing hangs on one of them. The one that holds a lock
(which the kernel frees when it ends) acts on the due time; the others look a moment later, and usually find that nothing
is left to do. What others publish or move is learnt from their wake-ups; `tick`, once a second, catches lost ones and a
wall clock that was set forward.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from geode_client.clock import now_us
from geode_client.errors import GeodeError
from geode_client.store import delays
from geode_client.store.locks import PrivateFile
from geode_client.store.log import LogReader
from geode_client.store.writer import Work

logger = logging.getLogger("geode_client")

# How much later than the first process the others look.
OTHERS_LATER_US = 200_000

Write = Callable[[Work], Awaitable[None]]


class DelayedMover:
    """Started and stopped by the broker; `write` hands a work to its writer. Runs on the event loop."""

    def __init__(self, log: LogReader, write: Write, directory: Path | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._write = write
        self._directory = directory
        self._lock: PrivateFile | None = None
        self._is_first = directory is None
        self._due_us: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._moving: asyncio.Task[None] | None = None
        self._stopped = False
        self._failed = False

    def start(self) -> None:
        """Move what has become due while nobody was there, and set the timer; says what is held back for damage."""
        for topic, count in delays.damaged(self._log).items():
            logger.error("%d delayed messages of topic %s are not delivered: their rows are damaged", count, topic)
        self.look()

    async def stop(self) -> None:
        """Let the slice that is being moved end, then stop."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._moving is not None:
            await self._moving
        if self._lock is not None:
            self._lock.close()

    def expect(self, due_us: int) -> None:
        """Messages have begun to wait that are due at this time."""
        if self._due_us is None or due_us < self._due_us:
            self._set(due_us)

    def look(self) -> None:
        """Learn from the file what is due next."""
        if not self._stopped:
            with contextlib.suppress(GeodeError):
                self._set(delays.first_due_us(self._log))

    def tick(self) -> None:
        """Called every second: the wall clock may have been set, which timers do not follow, or a move may have failed."""
        if self._due_us is not None and self._moving is None and self._wait_us(self._due_us) <= 0:
            self._begin()

    def _set(self, due_us: int | None) -> None:
        self._due_us = due_us
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_us is not None and not self._stopped:
            self._timer = self._loop.call_later(max(0, self._wait_us(due_us)) / 1e6, self._begin)

    def _wait_us(self, due_us: int) -> int:
        return due_us - now_us() + (0 if self._try_first() else OTHERS_LATER_US)

    def _try_first(self) -> bool:
        """Whether this process is the one that acts on the due time."""
        if self._is_first or self._directory is None:
            return True
        if self._lock is None:
            path = self._directory / "geode.due"
            self._lock = PrivateFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._is_first = True
        return self._is_first

    def _begin(self) -> None:
        if self._moving is None and not self._stopped:
            self._moving = asyncio.create_task(self._move(), name="geode-delayed")

    async def _move(self) -> None:
        try:
            while not self._stopped and self._is_something_due():
                work = delays.MoveDue()
                await self._write(work)
                for text in work.damaged:
                    logger.error("%s", text)
            self._failed = False
            self._loop.call_soon(self.look)
        except GeodeError as error:
            # The next tick tries again; that it fails again needs no second word.
            if not self._failed:
                logger.warning("delayed messages that are due cannot be moved now: %s", error)
            self._failed = True
        finally:
            self._moving = None

    def _is_something_due(self) -> bool:
        """One look at the file, so that a process that comes second does not even take the locks."""
        self._due_us = delays.first_due_us(self._log)
        return self._due_us is not None and self._due_us <= now_us()
