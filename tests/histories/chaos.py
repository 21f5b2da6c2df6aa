"""Eight processes on one store: some are killed at random moments and replaced, some stand still for longer than a lease."""

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Self

from histories import worker
from histories.record import Recorder

PUBLISHERS, MEMBERS = 2, 6
STILL_SECONDS = (0.35, 0.6)
JOIN_SECONDS = 60
PRELOADED = ["histories.worker", "geode_client.local.broker", "geode_client.conditions", "geode_client.query.session"]


@dataclass(slots=True)
class _Place:
    """One of the eight, whoever has it now; `still_until` of the monotonic clock while it is stopped."""

    role: str
    number: int
    process: ForkServerProcess | None = None
    name: str = ""
    lives: int = 0
    still_until: float | None = None


@dataclass
class Chaos:
    """Starts, kills, stops and continues processes; what it does is a history too ("chaos")."""

    directory: Path
    folder: Path
    chance: random.Random
    kills: int = 0
    stops: int = 0
    deaths: int = 0
    places: list[_Place] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._recorder = Recorder(self.folder / "chaos.jsonl")
        self.places = [_Place("publisher", n) for n in range(PUBLISHERS)]
        self.places += [_Place("member", n) for n in range(MEMBERS)]

    def start(self, place: _Place) -> None:
        place.lives += 1
        place.name = f"{place.role[0]}{place.number}-{place.lives}"
        arguments = (place.role, place.name, self.chance.randrange(1 << 30), str(self.directory), str(self.folder))
        place.process = self._context.Process(target=worker.run, args=arguments, daemon=True)
        place.process.start()

    async def rage(self, kills: int) -> None:
        """Kill so many, and stop about as many in between."""
        for place in self.places:
            self.start(place)
        while self.kills < kills:
            await asyncio.sleep(self.chance.random() * 0.2)
            self._continue_some()
            await self.begin_again()
            victim = self.chance.choice(self.places)
            self._check(victim)
            if victim.still_until is None and self.chance.random() < 0.4:
                self._stop(victim)
            else:
                await self._kill(victim)
                self.start(victim)
        self._continue_some(all_of_them=True)

    async def begin_again(self) -> None:
        """Replace the processes that a message has killed."""
        for place in self.places:
            if place.process is not None and place.process.exitcode == -signal.SIGKILL:
                await self._join(place)
                self.deaths += 1
                place.still_until = None
                self.start(place)

    def _check(self, place: _Place) -> None:
        assert place.process is not None
        assert place.process.exitcode in (None, -signal.SIGKILL), (
            f"{place.name} ended by itself with code {place.process.exitcode}"
        )

    def _stop(self, place: _Place) -> None:
        self._signal(place, signal.SIGSTOP)
        self._recorder.write("stops", name=place.name)
        self.stops += 1
        place.still_until = time.monotonic() + self.chance.uniform(*STILL_SECONDS)

    def _continue_some(self, *, all_of_them: bool = False) -> None:
        for place in self.places:
            if place.still_until is not None and (all_of_them or place.still_until < time.monotonic()):
                place.still_until = None
                self._recorder.write("continues", name=place.name)
                self._signal(place, signal.SIGCONT)

    async def _kill(self, place: _Place) -> None:
        self._signal(place, signal.SIGKILL)
        self._recorder.write("kills", name=place.name)
        place.still_until = None
        self.kills += 1
        await self._join(place)

    def _signal(self, place: _Place, number: signal.Signals) -> None:
        assert place.process is not None
        assert place.process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # a message has killed it
            os.kill(place.process.pid, number)

    async def _join(self, place: _Place) -> None:
        assert place.process is not None
        await asyncio.to_thread(place.process.join, JOIN_SECONDS)
        assert place.process.exitcode is not None, f"{place.name} does not end"

    async def end(self, role: str) -> None:
        """Ask all of a role to end, and wait until they have."""
        for place in self.places:
            if place.role == role:
                self._signal(place, signal.SIGTERM)
        for place in self.places:
            if place.role == role:
                await self._join(place)
                assert place.process is not None
                # By the signal itself when it came before the process was ready for it.
                assert place.process.exitcode in (0, -signal.SIGTERM, -signal.SIGKILL), (
                    f"{place.name} ended with code {place.process.exitcode}"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for place in self.places:
            if place.process is not None and place.process.is_alive():
                place.process.kill()
                place.process.join(JOIN_SECONDS)
