"""A fair lock between processes, made of two `flock`s.

Whoever wants to write first takes the turnstile, then the lock itself, and leaves the turnstile when it has the lock. A
process that has just let go of the lock and wants it back has to pass the turnstile, where the one that waited stands:
so nobody is overtaken twice. SQLite's busy handler alone gives no order at all. The kernel lets go of both when the
holder dies: the last process that has the file open through the same `open`. A forked child has it too, without
knowing, and would keep the lock of a parent that was killed; so such descriptors are closed in a child (`PrivateFile`).
"""

import fcntl
import os
import weakref
from pathlib import Path

_private_files: "weakref.WeakSet[PrivateFile]" = weakref.WeakSet()


class PrivateFile:
    """A descriptor that a forked child does not keep: there it is -1."""

    __slots__ = ("__weakref__", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        _private_files.add(self)

    def close(self) -> None:
        """Repeating it does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class _Forks:
    """How often this process was made by a fork of one that had this module: told without a system call."""

    count = 0


def forks() -> int:
    """A number that is another one in a forked child."""
    return _Forks.count


def _close_in_child() -> None:
    _Forks.count += 1
    for file in list(_private_files):
        file.close()


os.register_at_fork(after_in_child=_close_in_child)


class FairLock:
    """One process's end of the lock; not for use by several threads at once."""

    __slots__ = ("_lock", "_turnstile")

    def __init__(self, lock_path: Path, turnstile_path: Path) -> None:
        self._lock = _open(lock_path)
        self._turnstile = _open(turnstile_path)

    def acquire(self) -> None:
        """Wait in turn for the lock."""
        turnstile = self._turnstile.descriptor
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._lock.descriptor, fcntl.LOCK_EX)
        finally:
            fcntl.flock(turnstile, fcntl.LOCK_UN)

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it or waits for it."""
        turnstile = self._turnstile.descriptor
        try:
            fcntl.flock(turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            fcntl.flock(self._lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            fcntl.flock(turnstile, fcntl.LOCK_UN)
        return True

    def release(self) -> None:
        fcntl.flock(self._lock.descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        self._lock.close()
        self._turnstile.close()


class NoLock:
    """The same for a store that no other process can see."""

    def acquire(self) -> None: ...

    def try_acquire(self) -> bool:
        return True

    def release(self) -> None: ...

    def close(self) -> None: ...


def _open(path: Path) -> PrivateFile:
    return PrivateFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
