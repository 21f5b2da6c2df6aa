"""The wall clock in microseconds since 1970, the form in which the store keeps times."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

JUMP_US = 60_000_000
JUMP_BELIEVED_US = 600_000_000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """Now, in microseconds since 1970."""
    return time.time_ns() // 1000


def datetime_of(timestamp_us: int) -> datetime:
    """UTC datetime of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=timestamp_us)


def microseconds_of(moment: datetime) -> int:
    """Microseconds since 1970; a datetime without offset is local time."""
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return (moment - EPOCH) // timedelta(microseconds=1)


def boot_us() -> int:
    """Microseconds since the machine started, also while it slept: the clock of leases, which no clock step moves."""
    return time.clock_gettime_ns(_BOOT_CLOCK) // 1000


def boot_id() -> str:
    """A text that is another one once the machine has been started again, when `boot_us` begins anew."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{round((now_us() - boot_us()) / 3.6e9)}"  # the hour of the start; a step of the clock only loses rates


# Where there is no clock that counts sleep (macOS), a lease lasts through it.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class PatientClock:
    """The wall clock for what deletes: it follows a jump forward only once that has lasted JUMP_BELIEVED_US.

    A clock that is a year ahead for a moment must not remove what a retention of a week keeps. A jump backward is followed at
    once: it only keeps things longer.
    """

    __slots__ = ("_jumped_us", "_offset_us")

    def __init__(self) -> None:
        self._offset_us = now_us() - boot_us()
        self._jumped_us: int | None = None  # when the clock was first seen ahead, by the boot clock

    def now_us(self) -> int:
        """Microseconds since 1970."""
        boot = boot_us()
        offset_us = now_us() - boot
        if offset_us <= self._offset_us + JUMP_US:
            self._offset_us, self._jumped_us = offset_us, None
        elif self._jumped_us is None:
            self._jumped_us = boot
        elif boot - self._jumped_us >= JUMP_BELIEVED_US:
            self._offset_us, self._jumped_us = offset_us, None
        return boot + self._offset_us
