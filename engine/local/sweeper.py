"""The task that removes what retention, expiry, PURGE and DROP let go, and then makes the zone statistics that are missing.

One process of a store sweeps: the one that holds a lock which the kernel frees when it ends. It looks every few seconds,
and at once after a PURGE or DROP of its own. A clock that was just set forward removes nothing yet: see PatientClock.
"""

import asyncio
import contextlib
import fcntl
import functools
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from geode_client.clock import PatientClock, boot_us
from geode_client.errors import GeodeError
from geode_client.grammar.names import is_pattern, matches
from geode_client.local.zones import ZoneMaker
from geode_client.store import delays, sweeping, wake
from geode_client.store.groups import DropPrivateGroups
from geode_client.store.locks import PrivateFile
from geode_client.store.log import LogReader
from geode_client.store.presence import Presence
from geode_client.store.topics import TopicReader
from geode_client.store.writer import Work

SWEEP_SECONDS = 5.0
COUNTS_SECONDS = 60

Write = Callable[[Work], Awaitable[None]]


class Sweeper:
    """Started and stopped by the broker; `write` hands a work to its writer."""

    def __init__(
        self,
        log: LogReader,
        topics: TopicReader,
        presence: Presence,
        write: Write,
        zones: ZoneMaker,
        directory: Path | None,
    ) -> None:
        self._log = log
        self._topics = topics
        self._presence = presence
        self._write = write
        self._zones = zones
        self._directory = directory
        self._lock: PrivateFile | None = None
        self._wanted = asyncio.Event()
        self._stopping = False
        self._counts_due_us = 0
        self._clock = PatientClock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="geode-sweeper")

    def sweep_soon(self) -> None:
        """Sweep without waiting for the next turn."""
        self._wanted.set()

    async def stop(self) -> None:
        """Let the slice that is being removed end, then stop."""
        self._stopping = True
        self._wanted.set()
        if self._task is not None:
            await self._task
        if self._lock is not None:
            self._lock.close()

    async def _run(self) -> None:
        while not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._wanted.wait()
            self._wanted.clear()
            # What fails is tried again at the next turn; publishers are told of a broken store by their own works.
            with contextlib.suppress(GeodeError):
                if not self._stopping and self._is_ours():
                    await self.sweep()
                    await self._make_zones()

    async def _make_zones(self) -> None:
        """For as long as a turn; what is left then has the next one at once."""
        loop = asyncio.get_running_loop()
        turn_ends = loop.time() + SWEEP_SECONDS
        if not await self._zones.make(lambda: self._stopping or self._wanted.is_set() or loop.time() > turn_ends):
            self._wanted.set()

    def _is_ours(self) -> bool:
        if self._directory is None or self._lock is not None:
            return True
        try:
            file = PrivateFile(os.open(self._directory / "geode.sweep", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            return False  # such as no descriptor left: tried again at the next turn, here or in another process
        try:
            fcntl.flock(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._lock = file
        return True

    async def sweep(self) -> None:
        """Remove all that is to be removed now."""
        await self._remove_all(lambda: sweeping.unreachable(self._log), "removed")
        await self._remove_all(lambda: sweeping.expired(self._log, self._clock.now_us()), "expired")
        await self._remove_waiting(lambda: delays.unreachable(self._log))
        await self._forget_dropped()
        await self._drop_private_groups()
        for topic_id in sweeping.retained_topics(self._log):
            topic = self._topics.by_id(topic_id)
            if topic is not None:
                choose = functools.partial(sweeping.beyond_retention, self._log, topic, self._clock.now_us())
                await self._remove_all(choose, "removed")
        await self._drop_idle()
        self._forget_counts()

    async def _forget_dropped(self) -> None:
        """Remove the rows of dropped topics, then what is left of the topics, many at a time."""
        dropped = sweeping.dropped_topics(self._log)
        for first in range(0, len(dropped), sweeping.PAGE_TOPICS):
            page = dropped[first : first + sweeping.PAGE_TOPICS]
            for topic_id in page:
                await self._remove_all(functools.partial(sweeping.of_dropped, self._log, topic_id), "removed")
                await self._remove_waiting(functools.partial(delays.of_dropped, self._log, topic_id))
            if self._stopping:
                return
            await self._write(sweeping.ForgetTopics(page))

    async def _drop_private_groups(self) -> None:
        """Of processes that are gone."""
        if self._directory is None:
            return
        folder = self._directory / "wake"
        gone = [process for process in sweeping.private_owners(self._log) if not wake.alive(folder, process)]
        if gone:
            await self._write(DropPrivateGroups(processes=gone))

    async def _drop_idle(self) -> None:
        """Drop automatic topics to which nobody subscribes, in any process, and nothing has come for their idle time."""
        after: int | None = 0
        while after is not None and not self._stopping:
            idle, after = sweeping.idle_topics(self._log, after, self._clock.now_us())
            idle = [one for one in idle if sweeping.still_idle(self._log, one)] if idle else []
            idle = self._without_subscribers(idle) if idle else []
            if idle:
                await self._write(sweeping.DropIdle(idle))
                self.sweep_soon()  # their rows
            await asyncio.sleep(0)

    def _without_subscribers(self, idle: list[sweeping.Idle]) -> list[sweeping.Idle]:
        patterns = {row.pattern for row in self._presence.subscribers()}
        wild = [pattern for pattern in patterns if is_pattern(pattern)]
        return [
            one for one in idle if one.name not in patterns and not any(matches(pattern, one.name) for pattern in wild)
        ]

    def _forget_counts(self) -> None:
        """Once in a while: what was counted of topics that are gone would stay for ever."""
        if boot_us() < self._counts_due_us:
            return
        self._counts_due_us = boot_us() + COUNTS_SECONDS * 1_000_000
        counted = list(self._presence.consumed())
        gone = set(counted) - sweeping.existing(self._log, counted)
        if gone:
            self._presence.forget_counts(gone)

    async def _remove_all(self, choose: Callable[[], list[int]], counter: str) -> None:
        # A slice each turn, so that publishers get theirs in between.
        while not self._stopping and (batch_ids := choose()):
            await self._write(sweeping.RemoveBatches(batch_ids, counter))
            await asyncio.sleep(0)

    async def _remove_waiting(self, choose: Callable[[], list[tuple[int, int]]]) -> None:
        while not self._stopping and (rows := choose()):
            await self._write(delays.RemoveWaiting(rows))
            await asyncio.sleep(0)
