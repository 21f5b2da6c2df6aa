"""Eight processes, killed and stopped at random moments; afterwards their histories and the store must agree."""

import asyncio
import random
from pathlib import Path

import pytest
from laws import conserved
from settings import SOAK, rounds

from geode_client import Client
from histories.chaos import Chaos
from histories.checker import Evidence, violations
from histories.facts import facts_of
from histories.record import histories
from histories.replays import outstanding, wrong_replays
from histories.worker import set_up

DRAIN_SECONDS = 60
KILLS = 40


@pytest.mark.timeout(5400 if SOAK else 110)
async def test_what_they_saw_is_what_was_promised(directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "histories"
    async with Client(directory) as client:
        await set_up(client)
        with Chaos(directory, folder, random.Random(7)) as chaos:
            raging = asyncio.create_task(chaos.rage(rounds(KILLS, soak=1000)))
            while not raging.done():
                await conserved(client)  # at any commit, whatever happens meanwhile
                await asyncio.wait({raging}, timeout=0.5)
            await raging
            await chaos.end("publisher")
            async with asyncio.timeout(DRAIN_SECONDS):
                while any(group.pending for group in (await conserved(client)).values()) or await outstanding(client):
                    await chaos.begin_again()  # what kills them does so until it is a dead letter
                    await asyncio.sleep(0.05)
            await chaos.end("member")
        facts = await facts_of(client)
        seen = histories(folder)
        found = violations(seen, facts)
        replays = await wrong_replays(client)
    evidence = Evidence(seen, facts)
    print(told(chaos, evidence))
    assert not found, "\n".join(f"{name}: {wrongs[:5]} ({len(wrongs)})" for name, wrongs in found.items())
    assert all(evidence.seen.values())
    assert not replays, replays[:5]


def told(chaos: Chaos, evidence: Evidence) -> str:
    """The run in a few words, for who reports a soak."""
    logs = ", ".join(f"{len(log)} {topic}" for topic, log in evidence.facts.logs.items())
    seen = ", ".join(f"{len(deliveries)} {group}" for group, deliveries in evidence.seen.items())
    letters = len(evidence.facts.letters)
    return f"{chaos.kills} kills, {chaos.stops} stops, {chaos.deaths} deaths by a message; stored: {logs}; seen: {seen}; {letters} dead letters"
