"""What the store says at the end: the log of each topic, the dead letters, the effects, the progress of the groups."""

import contextlib
from dataclasses import dataclass, field
from typing import Any

from geode_client import Client, TopicNotFound
from geode_client.broker import GroupStatistics
from histories.worker import EFFECTS, JOBS, PAYMENTS, PERILS, SALES, TICKS

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of the log; `poison`: nobody can handle it, or it kills the process that tries."""

    by: str
    n: int
    key: str
    poison: bool


@dataclass(frozen=True, slots=True)
class Letter:
    by: str
    n: int
    headers: dict[str, Any]


@dataclass(slots=True)
class Facts:
    """Log by topic and place; `done` are the rows of effects, `out` what was published with them."""

    logs: dict[str, dict[Place, Stored]] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    done: list[tuple[int, int, str, int]] = field(default_factory=list)
    out: list[tuple[str, int]] = field(default_factory=list)
    groups: dict[str, GroupStatistics] = field(default_factory=dict)


async def facts_of(client: Client) -> Facts:
    found = Facts()
    for topic in (JOBS, PAYMENTS, SALES, PERILS, TICKS):
        bad = "deadly" if topic == PERILS else "poison"
        rows = await client.query(f"SELECT _partition, _offset, by, n, key, {bad} FROM {topic}")
        found.logs[topic] = {(p, o): Stored(by, n, key, poison) for p, o, by, n, key, poison in rows.rows}
    for topic in (JOBS, PERILS):
        with contextlib.suppress(TopicNotFound):
            letters = await client.query(f"SELECT by, n, _headers FROM _dlq/{topic}")
            found.letters += [Letter(*row) for row in letters.rows]
    async with client.transaction() as tx:
        rows = await tx.execute("SELECT partition, offset, by, n FROM done")
        found.done = list(rows.rows)
    found.out = list((await client.query(f"SELECT by, n FROM {EFFECTS}")).rows)
    found.groups = {group.name: group for group in (await client._broker.report(["groups"])).groups}
    return found
