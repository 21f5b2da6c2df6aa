"""Publishing faster than the disk: what waits is bounded, keeps its order, can be cancelled, and hears of a store that fails."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settings import long_rounds

from geode_client import Client, InvalidMessage
from geode_client.local import outbox
from geode_client.store.locks import FairLock

LIMIT = 100_000
TEXT = "x" * 1000


@pytest.fixture(autouse=True)
def small_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "BYTES_UNDER_WAY_MAX", LIMIT)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Nobody can commit meanwhile, as when another process has the store for long."""
    lock = FairLock(directory / "geode.lock", directory / "geode.turn")
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
        lock.close()


def under_way(client: Client) -> int:
    found: int = client._broker._outbox.bytes_under_way  # type: ignore[attr-defined]
    return found


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def stored(client: Client) -> list[Any]:
    async with client.subscribe("t", from_beginning=True) as subscription:
        return [message.data["n"] async for message in subscription]


async def test_what_waits_for_the_disk_is_bounded_and_keeps_its_order(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": -1, "text": TEXT})
        waiting: list[asyncio.Future[Any]] = []
        with held(directory):
            for n in range(0, 3000, 10):
                waiting += [asyncio.ensure_future(client.publish("t", {"n": n + i, "text": TEXT})) for i in range(7)]
                await asyncio.sleep(0)
                batch = [{"n": n + i, "text": TEXT} for i in range(7, 10)]
                waiting.append(asyncio.ensure_future(client.publish_batch("t", batch)))
                await turns(3)
            assert LIMIT <= under_way(client) <= 2 * LIMIT
            assert not any(one.done() for one in waiting)
        await asyncio.gather(*waiting)
        assert under_way(client) == 0
        assert await stored(client) == list(range(-1, 3000))


async def test_one_batch_larger_than_all_room_is_stored(directory: Path) -> None:
    async with Client(directory) as client:
        big = [{"n": n, "text": TEXT} for n in range(500)]
        await asyncio.gather(*[client.publish_batch("t", big, batch_size=500) for _ in range(4)])
        assert len(await stored(client)) == 2000
        assert under_way(client) == 0


async def test_what_is_cancelled_in_the_queue_is_not_stored(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": -1})
        with held(directory):
            first = [asyncio.ensure_future(client.publish("t", {"n": n, "text": TEXT})) for n in range(200)]
            await turns()
            assert under_way(client) >= LIMIT
            queued = [asyncio.ensure_future(client.publish("t", {"n": n, "text": TEXT})) for n in range(200, 400)]
            batch = asyncio.ensure_future(client.publish_batch("t", [{"n": 400}, {"n": 401}]))
            await turns()
            for one in [*queued[::2], batch]:
                one.cancel()
            await turns()
        done = await asyncio.gather(*first, *queued, batch, return_exceptions=True)
        assert [isinstance(one, BaseException) for one in done[200:]] == [True, False] * 100 + [True]
        assert await stored(client) == [-1, *range(200), *range(201, 400, 2)]
        assert under_way(client) == 0


async def test_refused_messages_take_no_room(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": 0})
        for _ in range(50):
            done = await asyncio.gather(
                client.publish("t", {"n": float("nan"), "text": TEXT}),
                client.publish_batch("t", [{"n": 1, "text": TEXT}, {"n": float("inf")}]),
                return_exceptions=True,
            )
            assert all(isinstance(one, InvalidMessage) for one in done)
        assert under_way(client) == 0


async def test_a_topic_that_changes_under_those_who_wait(directory: Path) -> None:
    async with Client(directory) as client, Client(directory) as other:
        await client.execute("CREATE TOPIC t SCHEMA (n INT)")
        await client.publish("t", {"n": -1})
        with client._broker._outbox._writer._mutex:  # type: ignore[attr-defined]
            waiting = [asyncio.ensure_future(client.publish("t", {"n": n, "text": TEXT})) for n in range(400)]
            await turns()
            await other.execute("ALTER TOPIC t ADD COLUMN m INT DEFAULT 7")
            await client.execute("DESCRIBE TOPIC t")  # the client knows; what waits in its queue does not
        await asyncio.gather(*waiting)
        sql = "SELECT schema_version, sum(count) FROM batches GROUP BY 1 ORDER BY 1"
        rows = client._broker._log.rows(sql)  # type: ignore[attr-defined]
        assert rows == [(1, 1), (2, 400)], "all are checked against the new schema"


async def test_closing_stores_what_waits(directory: Path) -> None:
    client = await Client(directory).open()
    await client.publish("t", {"n": -1})
    with held(directory):
        waiting = [asyncio.ensure_future(client.publish("t", {"n": n, "text": TEXT})) for n in range(500)]
        await turns()
        closing = asyncio.ensure_future(client.close())
        await turns()
    await asyncio.gather(*waiting, closing)
    async with Client(directory) as client:
        assert await stored(client) == list(range(-1, 500))


FULL = """
import asyncio, resource, sys
from geode_client import Client, StoreError
from geode_client.local import outbox

outbox.BYTES_UNDER_WAY_MAX = 100_000

async def main():
    async with Client(sys.argv[1]) as client:
        await client.publish("t", 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
        text = "".join(str(n * n % 9973) for n in range(3000))
        calls = [client.publish("t", {"n": n, "text": f"{n}{text}"}, compression="none") for n in range(2000)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        failed = [one for one in done if isinstance(one, BaseException)]
        print(len(done) - len(failed), len(failed), {type(one).__name__ for one in failed})
        print(client._broker._outbox.bytes_under_way)
asyncio.run(main())
"""


def test_a_store_that_fails_tells_everybody_who_waits(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(directory)], capture_output=True, encoding="utf-8", timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    figures, left = done.stdout.splitlines()
    stored_count, failed, kinds = figures.split(" ", 2)
    assert int(failed) > 1000
    assert int(stored_count) + int(failed) == 2000
    assert (kinds, left) == ("{'StoreError'}", "0")


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.integers(0, 6), st.booleans()), max_size=12))
@long_rounds(25)
def test_cancelled_at_any_await_nothing_is_lost_or_doubled(steps: list[tuple[int, bool, int, bool]]) -> None:
    asyncio.run(_cancelled(steps))


async def _cancelled(steps: list[tuple[int, bool, int, bool]]) -> None:
    async with Client(":memory:") as client:
        await client.publish("t", {"n": -1})
        number = 0
        calls: list[tuple[list[int], asyncio.Future[Any]]] = []
        for count, as_batch, after, cancel in steps:
            numbers = list(range(number, number + count))
            number += count
            bodies = [{"n": n, "text": TEXT * 3} for n in numbers]
            if as_batch:
                calls.append((numbers, asyncio.ensure_future(client.publish_batch("t", bodies))))
            else:
                calls += [
                    ([n], asyncio.ensure_future(client.publish("t", b))) for n, b in zip(numbers, bodies, strict=True)
                ]
            await turns(after)
            if cancel:
                calls[-1][1].cancel()
        outcomes = await asyncio.gather(*[call for _, call in calls], return_exceptions=True)
        await turns()
        found = await stored(client)
        assert len(found) == len(set(found))
        for (numbers, _), outcome in zip(calls, outcomes, strict=True):
            present = set(numbers) & set(found)
            assert present == set(numbers) or (isinstance(outcome, asyncio.CancelledError) and not present)
        assert under_way(client) == 0
