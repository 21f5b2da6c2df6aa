"""A fair lock between processes, made of two `flock`s.

Whoever wants to write first takes the turnstile, then the lock itself, and leaves the turnstile when it has the lock. A
process that has just let go of the lock and wants it back has to pass the turnstile, where the one that waited stands:
so nobody is overtaken twice. SQLite's busy handler alone gives no order at all. The kernel lets go of both when the
holder dies.
"""

import fcntl
import os
from pathlib import Path


class FairLock:
    """One process's end of the lock; not for use by several threads at once."""

    __slots__ = ("_lock", "_turnstile")

    def __init__(self, lock_path: Path, turnstile_path: Path) -> None:
        self._lock = _open(lock_path)
        self._turnstile = _open(turnstile_path)

    def acquire(self) -> None:
        """Wait in turn for the lock."""
        fcntl.flock(self._turnstile, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._turnstile, fcntl.LOCK_UN)

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it or waits for it."""
        try:
            fcntl.flock(self._turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            fcntl.flock(self._turnstile, fcntl.LOCK_UN)
        return True

    def release(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._lock)
        os.close(self._turnstile)


class NoLock:
    """The same for a store that no other process can see."""

    def acquire(self) -> None: ...

    def try_acquire(self) -> bool:
        return True

    def release(self) -> None: ...

    def close(self) -> None: ...


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
