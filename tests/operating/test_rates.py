"""Throughput and error rate: right for any window, over all processes, whatever the wall clock does."""

import asyncio
import logging
import sys
import time
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from settings import long_rounds

from geode_client import Client, GqlError
from geode_client.store import presence, traffic
from geode_client.store.traffic import Traffic

SECOND_US = 1_000_000


def opened() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(traffic.TABLES)
    return connection


def flow(connection: apsw.Connection, process: str, rate: int, start_us: int, end_us: int, phase_us: int) -> None:
    """One message after the other at a constant rate; reported a second after the first that was not."""
    step = SECOND_US // rate
    at = start_us + phase_us
    while at < end_us:
        written = at + SECOND_US
        messages = -(-SECOND_US // step)
        if written > end_us:
            return  # not reported yet
        counted = Traffic(published=messages, settled=messages, failed=messages / 4, since_us=at)
        traffic.report(connection, process, {1: counted}, written)
        at += messages * step


@given(
    rates=st.lists(st.integers(10, 2000), min_size=1, max_size=4),
    phases=st.lists(st.integers(0, SECOND_US), min_size=4, max_size=4),
    window=st.one_of(st.integers(1, 12), st.floats(1, 90), st.integers(60, 400)),
    end=st.integers(0, 7 * SECOND_US),
)
@long_rounds(80)
def test_a_constant_rate_is_found_in_any_window(rates: list[int], phases: list[int], window: float, end: int) -> None:
    connection = opened()
    now_us = 10_000 * SECOND_US + end
    for number, rate in enumerate(rates):
        start_us = now_us - int((window + 15) * SECOND_US)
        flow(connection, f"process-{number}", rate, start_us, now_us, phases[number])
    found = traffic.over(connection, "reader", now_us, window)[1]
    assert found.published / window == pytest.approx(sum(rates), rel=0.2)
    assert found.failed / (found.failed + found.consumed) == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize("window", [3600, 3 * 3600, 86_400, 10 * 86_400])
def test_a_constant_rate_is_found_in_long_windows(window: int) -> None:
    connection = opened()
    now_us = 50 * 86_400 * SECOND_US
    for at in range(now_us - 11 * 86_400 * SECOND_US, now_us, 60 * SECOND_US):
        traffic.report(connection, "p", {1: Traffic(published=600, since_us=at)}, at + SECOND_US)
    found = traffic.over(connection, "reader", now_us, window)[1]
    assert found.published / window == pytest.approx(10, rel=0.02)
    sql = "SELECT (SELECT count(*) FROM traffic) + (SELECT count(*) FROM traffic_long)"
    rows: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
    assert rows[0][0] < 4000, "the older part is kept in longer slots"


def test_what_is_over_is_over() -> None:
    connection = opened()
    traffic.report(connection, "p", {1: Traffic(published=100, since_us=0)}, SECOND_US)
    assert traffic.over(connection, "p", 3 * SECOND_US, 1).get(1, Traffic()).published == 0
    assert traffic.over(connection, "p", 3 * SECOND_US, 1, topic_id=2) == {}


def test_the_counts_of_an_earlier_boot_are_forgotten(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir()
    first = presence.Presence(directory, "1-a")
    first.report([], {1: Traffic(published=5, since_us=0)}, {}, SECOND_US)
    first.close()
    again = presence.Presence(directory, "1-b")
    assert again.traffic(2 * SECOND_US, 60)[1].published == 5
    again.close()
    monkeypatch.setattr("geode_client.store.traffic.boot_id", lambda: "another")
    later = presence.Presence(directory, "1-c")
    assert later.traffic(2 * SECOND_US, 60) == {}
    later.close()


PUBLISHER = """
import asyncio, sys, time
from geode_client import Client

async def main():
    async with Client(sys.argv[1]) as client:
        print("ready", flush=True)
        due = time.monotonic()
        while True:
            await client.publish_batch("t", [{"n": 1}] * 20)
            due += 0.05
            await asyncio.sleep(max(0, due - time.monotonic()))

asyncio.run(main())
"""


async def test_two_other_processes_and_this_one_are_added_up(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t")
        workers = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", PUBLISHER, str(directory), stdout=asyncio.subprocess.PIPE
            )
            for _ in range(2)
        ]
        try:
            for worker in workers:
                assert worker.stdout is not None
                await worker.stdout.readline()
            seen: list[tuple[float, float]] = []
            counted: list[tuple[float, int]] = []
            while len(counted) < 60:
                published = (await client.query("SELECT messages_published FROM SYSTEM.topics")).scalar()
                counted.append((time.monotonic(), published))
                if len(counted) > 45:
                    # The true rate is what the store itself has counted over the last seconds.
                    (then, before), (now, after) = counted[-25], counted[-1]
                    seen.append((await client.get_throughput("t", window=2), (after - before) / (now - then)))
                await client.publish_batch("t", [{"n": 1}] * 20)
                await asyncio.sleep(0.1)
        finally:
            for worker in workers:
                worker.kill()
                await worker.wait()
    ratios = sorted(found / true for found, true in seen)
    assert 0.8 <= ratios[len(ratios) // 2] <= 1.2, ratios


async def test_what_a_process_published_before_it_closed_is_counted_at_once(directory: Path) -> None:
    async with Client(directory) as reader:
        async with Client(directory) as writer:
            await writer.publish_batch("t", [{"n": n} for n in range(100)])
        assert await reader.get_throughput("t", window=60) == pytest.approx(100 / 60)


async def test_the_wall_clock_does_not_matter(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_ns = time.time_ns
    async with Client(directory) as client:
        await client.publish_batch("t", [{"n": n} for n in range(100)])
        for years in (-1, 1):
            monkeypatch.setattr(time, "time_ns", lambda years=years: true_ns() + years * 365 * 86_400 * 10**9)
            assert await client.get_throughput("t", window=60) == pytest.approx(100 / 60)


async def test_what_does_not_exist_yet_has_rates_of_0(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Client(directory) as client:
        with caplog.at_level(logging.WARNING, "geode_client"):
            assert await client.get_throughput("orders") == 0
            assert await client.get_error_rate("orders") == 0
            assert await client.get_consumer_lag("orders", "workers") == 0
            await client.execute("CREATE TOPIC orders")
            assert await client.get_consumer_lag("orders", "workers") == 0
            assert await client.get_consumer_lag("*", "workers") == 0
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 5
        assert all("orders" in text for text in told[:3])
        assert all("workers" in text for text in told[2:])
        assert [topic.name for topic in await client._broker.topics()] == ["orders"], "asking makes no topic"


@pytest.mark.parametrize("window", [0, -1, 0.5, float("nan"), float("inf"), "60", True, None])
async def test_a_window_that_is_none_is_refused(directory: Path, window: object) -> None:
    async with Client(directory) as client:
        for ask in (client.get_throughput, client.get_error_rate):
            with pytest.raises(GqlError, match="window is a number of seconds from 1 to"):
                await ask("t", window)  # type: ignore[arg-type]
