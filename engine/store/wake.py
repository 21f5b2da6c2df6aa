"""Telling other processes that something was committed, and knowing which processes are alive.

Every process that opens a store makes a named pipe in `wake/` and holds it open. After a commit one byte goes to each
other pipe; whoever finds a byte looks at the log. A pipe that nobody reads belongs to a process that is gone (the kernel
closes it whatever way the process ends) and is removed by whoever finds it so. A lost byte costs no message: readers look
at the log once a second anyway. The folder is looked at only so often; whoever makes a pipe waits for longer than
that before it reads the log, so that whatever it does not find there it is woken for.
"""

import contextlib
import errno
import os
import threading
import time
from pathlib import Path

from geode_client.store.locks import PrivateFile

READ_BYTES = 4096
# Two changes of a folder within one tick of the kernel's clock leave the same time.
CLOCK_TICK_NS = 100_000_000
# So long the others may be taken to be the same; who joins them waits for longer before it counts on being woken.
LOOK_EVERY_NS = 500_000
JOIN_SECONDS = 0.001


class WakePipe:
    """This process's pipe: `descriptor` becomes readable when another process has committed."""

    __slots__ = ("_file", "name", "path")

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.name = name
        self.path = folder / name
        unnamed = folder / f".{name}"
        os.mkfifo(unnamed, 0o600)
        # Opened for writing too, so that it never reports an end; given its name only once it is open, so that nobody
        # takes it for the pipe of a dead process.
        self._file = PrivateFile(os.open(unnamed, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        unnamed.rename(self.path)
        time.sleep(JOIN_SECONDS)

    @property
    def descriptor(self) -> int:
        return self._file.descriptor

    def drain(self) -> None:
        """Take out what is in the pipe."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self.descriptor, READ_BYTES)) == READ_BYTES:
                pass

    def close(self) -> None:
        if self.descriptor >= 0:
            self.path.unlink(missing_ok=True)
        self._file.close()


class Peers:
    """The pipes of the other processes, for `wake` after a commit; used by several threads."""

    __slots__ = ("_changed_ns", "_folder", "_looked_ns", "_mutex", "_own", "_pipes")

    def __init__(self, folder: Path, own: str) -> None:
        self._folder = folder
        self._own = own
        self._changed_ns = -1
        self._looked_ns = 0
        self._mutex = threading.Lock()  # the loop's thread commits, and the writer's
        self._pipes: dict[str, int] = {}

    def wake(self) -> None:
        """Send a byte to every other process that is alive; one that cannot be reached finds out by itself within a second."""
        with self._mutex:
            now_ns = time.monotonic_ns()
            if now_ns - self._looked_ns > LOOK_EVERY_NS:
                self._looked_ns = now_ns
                with contextlib.suppress(OSError):
                    self._look()
            for name, descriptor in list(self._pipes.items()):
                self._send(name, descriptor)

    def _send(self, name: str, descriptor: int) -> None:
        try:
            os.write(descriptor, b"\n")
        except BlockingIOError:
            pass  # full: its process has more than enough reason to wake already
        except OSError:
            os.close(self._pipes.pop(name))
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def _look(self) -> None:
        changed_ns = os.stat(self._folder).st_mtime_ns
        if changed_ns != self._changed_ns:
            self._changed_ns = -1
            self._look_again()
            if time.time_ns() - changed_ns > CLOCK_TICK_NS:
                self._changed_ns = changed_ns

    def _look_again(self) -> None:
        names = {name for name in os.listdir(self._folder) if not name.startswith(".") and name != self._own}
        for name in self._pipes.keys() - names:
            os.close(self._pipes.pop(name))
        for name in names - self._pipes.keys():
            descriptor = open_for_waking(self._folder / name)
            if descriptor is not None:
                self._pipes[name] = descriptor

    def close(self) -> None:
        with self._mutex:
            for descriptor in self._pipes.values():
                os.close(descriptor)
            self._pipes.clear()


def open_for_waking(path: Path) -> int | None:
    """A descriptor that writes to the pipe; None, and the pipe is removed, when its process is gone."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENXIO:
            path.unlink(missing_ok=True)
            return None
        raise


def alive(folder: Path, name: str) -> bool:
    """Whether the process that made this pipe still holds it open; True when that cannot be found out."""
    try:
        descriptor = open_for_waking(folder / name)
    except OSError:
        return True
    if descriptor is None:
        return False
    os.close(descriptor)
    return True
