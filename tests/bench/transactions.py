"""Transactions: publish and one row of SQL together, against the same by SQLite alone, and publishes without SQL."""

import asyncio
import time
from pathlib import Path
from typing import Any

import apsw
from bench.table import Row, Settings, messages, rate

from geode_client import Client

COUNT = 200
TURNS = 6
PUBLISHED_TOGETHER = 500


async def rows(settings: Settings, found: list[Row]) -> None:
    """Measure and append the rows of this group."""
    some = messages(PUBLISHED_TOGETHER)
    bare = await asyncio.to_thread(_bare, settings.directory / "bare.db")
    async with Client(settings.directory / "transactions") as client:
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (a INTEGER PRIMARY KEY, b TEXT)")
        # In turns with the bare operation, so that both see the same disk.
        ours: list[float] = []
        alone: list[float] = []
        for _ in range(TURNS):
            alone.append(await asyncio.to_thread(_transact_bare, bare))
            ours.append(await _transact(client, some[0]))
        ratio = sorted(a / b for a, b in zip(ours, alone, strict=True))[TURNS // 2]
        against = f"{ratio:.2f} × SQLite alone ({rate(max(alone), '/s')})"
        found.append(Row("transaction: publish + INSERT, fsync", rate(max(ours), "/s"), against))
        single = max([await _publish(client, some[:1]) for _ in range(TURNS)])
        found.append(Row("transaction: publish, fsync", rate(single, "/s")))
        together = max([await _publish(client, some) for _ in range(TURNS)])
        found.append(Row(f"transaction: publish {PUBLISHED_TOGETHER} times, fsync", rate(together, "/s")))
    bare.close()


async def _transact(client: Client, message: dict[str, Any]) -> float:
    started = time.perf_counter()
    for n in range(COUNT):
        async with client.transaction() as tx:
            await tx.publish("t", message)
            await tx.execute("INSERT INTO own (b) VALUES (?)", [str(n)])
    return COUNT / (time.perf_counter() - started)


async def _publish(client: Client, some: list[dict[str, Any]]) -> float:
    count = max(20, COUNT // len(some))
    started = time.perf_counter()
    for _ in range(count):
        async with client.transaction() as tx:
            for message in some:
                await tx.publish("t", message)
    return count / (time.perf_counter() - started)


def _bare(path: Path) -> apsw.Connection:
    """A database of SQLite's own with the two tables."""
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute("CREATE TABLE own (a INTEGER PRIMARY KEY, b TEXT)")
    connection.execute("CREATE TABLE message (a INTEGER PRIMARY KEY, body BLOB)")
    return connection


def _transact_bare(connection: apsw.Connection) -> float:
    body = bytes(167)
    started = time.perf_counter()
    for n in range(COUNT):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO message (body) VALUES (?)", (body,))
        connection.execute("INSERT INTO own (b) VALUES (?)", (str(n),))
        connection.execute("COMMIT")
    return COUNT / (time.perf_counter() - started)
