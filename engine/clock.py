"""The wall clock in microseconds since 1970, the form in which the store keeps times."""

import time
from datetime import UTC, datetime, timedelta

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


# Where there is no clock that counts sleep (macOS), a lease lasts through it.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
