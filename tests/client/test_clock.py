"""A wall clock that is set back or forward: nothing is hidden from a search by time, and nothing is removed too early."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import next_of
from settings import long_rounds

from geode_client import Client
from geode_client.broker import OutgoingBatch
from geode_client.clock import JUMP_BELIEVED_US, PatientClock, datetime_of, microseconds_of
from geode_client.store import verify

HOUR, DAY, YEAR = 3600, 86_400, 365 * 86_400


class WallClock:
    """The wall clock of this process, shifted by `seconds`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.true_ns = time.time_ns

    def time_ns(self) -> int:
        return self.true_ns() + int(self.seconds * 1e9)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    clock = WallClock()
    monkeypatch.setattr(time, "time_ns", clock.time_ns)
    return clock


async def stamps(client: Client) -> dict[int, datetime]:
    """The time of each message by its number."""
    return dict((await client.query("SELECT n, _timestamp FROM t")).rows)


async def since(client: Client, moment: datetime, **options: object) -> list[int]:
    async with client.subscribe("t", since=moment, **options) as subscription:  # type: ignore[arg-type]
        return sorted([message["n"] async for message in subscription])


steps = st.lists(
    st.one_of(st.integers(-5, 5), st.integers(-900, 900), st.sampled_from([-YEAR, YEAR, -70, -61, -59])),
    min_size=1,
    max_size=12,
)


@given(steps=steps, partitions=st.integers(1, 3), after=st.integers(0, 11), nudge=st.sampled_from([-1, 0, 1]))
@long_rounds(40)
def test_a_search_by_time_finds_what_a_look_at_everything_finds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], partitions: int, after: int, nudge: int
) -> None:
    asyncio.run(search(tmp_path_factory.mktemp("clock") / "store", steps, partitions, after, nudge))


async def search(directory: Path, steps: list[int], partitions: int, after: int, nudge: int) -> None:
    clock = WallClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", clock.time_ns)
        async with Client(directory) as client:
            await client.execute(f"CREATE TOPIC t WITH OPTIONS (partitions: {partitions})")
            for number, step in enumerate(steps):
                clock.seconds += step
                await client.publish("t", {"n": number})
                if number == len(steps) // 2:
                    async with Client(directory) as other:  # another writer, which knows the log from the file
                        await other.publish("t", {"n": 100})
            when = await stamps(client)
            moment = when[after % len(steps)] + timedelta(microseconds=nudge)
            wanted = sorted(number for number, at in when.items() if at >= moment)
            found = (await client.query("SELECT n FROM t WHERE _timestamp >= $m", {"m": moment})).rows
            assert sorted(n for (n,) in found) == wanted
            assert await since(client, moment) == wanted
            grouped = await since(client, moment, consumer_group="g", timeout=0.1)
            assert set(grouped) >= set(wanted)
    assert not verify.verify(directory).problems


@given(steps=steps, partitions=st.integers(1, 3), after=st.integers(0, 23), nudge=st.sampled_from([-1, 0, 1]))
@long_rounds(30)
def test_times_of_messages_and_a_clock_that_is_set_agree(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], partitions: int, after: int, nudge: int
) -> None:
    asyncio.run(own_times(tmp_path_factory.mktemp("clock") / "store", steps, partitions, after, nudge))


async def own_times(directory: Path, steps: list[int], partitions: int, after: int, nudge: int) -> None:
    """Conditions on _timestamp, FIRST and LAST go by a message's own time; `since` goes by when it was accepted."""
    clock = WallClock()
    own: dict[int, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", clock.time_ns)
        async with Client(directory) as client:
            await client.execute(f"CREATE TOPIC t WITH OPTIONS (partitions: {partitions})")
            accepted: dict[int, int] = {}
            for number, step in enumerate(steps):
                clock.seconds += step
                before_us = clock.time_ns() // 1000
                # In one batch: one message is older than the other, which has no time of its own.
                times = [before_us - abs(step) * 1_000_000, None]
                bodies = [{"n": 2 * number}, {"n": 2 * number + 1}]
                await client._broker.publish_batch(OutgoingBatch("t", bodies, times_us=times))
                own[2 * number] = times[0] or 0
            shown = {number: microseconds_of(at) for number, at in (await stamps(client)).items()}
            assert {number: shown[number] for number in own} == own
            async with client.subscribe("t", from_beginning=True) as subscription:
                async for message in subscription:
                    accepted[message["n"]] = message._chunk.timestamp_us
            moment_us = shown[after % len(shown)] + nudge
            moment = datetime_of(moment_us)
            for sign, meant in (
                (">=", {n for n, at in shown.items() if at >= moment_us}),
                (">", {n for n, at in shown.items() if at > moment_us}),
                ("=", {n for n, at in shown.items() if at == moment_us}),
                ("<", {n for n, at in shown.items() if at < moment_us}),
            ):
                found = (await client.query(f"SELECT n FROM t WHERE _timestamp {sign} $m", {"m": moment})).rows
                assert {n for (n,) in found} == meant, sign
            assert await since(client, moment) == sorted(n for n, at in accepted.items() if at >= moment_us)
            ends = (await client.query("SELECT first(n), last(n) FROM t")).rows[0]
            assert (shown[ends[0]], shown[ends[1]]) == (min(shown.values()), max(shown.values()))
    assert not verify.verify(directory).problems


async def test_new_messages_of_a_clock_set_back_reach_a_live_subscriber(directory: Path, wall: WallClock) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": 0})
        async with client.subscribe("t", since=timedelta(minutes=1), follow=True) as subscription:
            assert (await next_of(subscription, timeout=5))["n"] == 0
            wall.seconds = -YEAR
            await client.publish("t", {"n": 1})
            assert (await next_of(subscription, timeout=5))["n"] == 1


async def test_a_step_is_remembered_when_the_store_is_opened_again(directory: Path, wall: WallClock) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": 0})
    wall.seconds = -HOUR
    for number in range(1, 40):
        async with Client(directory) as client:
            await client.publish("t", {"n": number})
    wall.seconds = 0
    async with Client(directory) as client:
        moment = datetime.now(UTC) - timedelta(minutes=5)
        assert await since(client, moment) == [0]
        found = await client.query("SELECT n FROM t WHERE _timestamp > NOW() - INTERVAL '5 minutes'")
        assert found.rows == [(0,)]


async def test_check_names_a_batch_whose_place_in_time_is_wrong(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": 0})
        await client.publish("t", {"n": 1})
        client._broker._database.cursor.execute(  # type: ignore[attr-defined]
            "UPDATE batches SET timestamp_us = timestamp_us - 1000000 WHERE batch_id = 2"
        )
    assert "times" in {problem.check for problem in verify.verify(directory).problems}


# ── what is removed ──
async def sweep(client: Client) -> None:
    await client._broker._sweeper.sweep()  # type: ignore[attr-defined]


async def kept(client: Client) -> list[int]:
    return [n for (n,) in (await client.query("SELECT n FROM t ORDER BY _offset")).rows]


async def weekly(client: Client) -> None:
    await client.execute("CREATE TOPIC t WITH OPTIONS (retention_period: '7 days')")


async def test_a_clock_that_is_ahead_for_a_moment_removes_nothing(directory: Path, wall: WallClock) -> None:
    async with Client(directory) as client:
        await weekly(client)
        await client.publish("t", {"n": 0})
        await client.publish("t", {"n": 1}, ttl_seconds=DAY)
        wall.seconds = YEAR
        await sweep(client)
        wall.seconds = 0
        await sweep(client)
        assert await kept(client) == [0, 1]


async def test_retention_goes_on_behind_messages_from_the_future(directory: Path, wall: WallClock) -> None:
    async with Client(directory) as client:
        await weekly(client)
        wall.seconds = YEAR - 10 * DAY
        await client.publish("t", {"n": 0})
        wall.seconds = -10 * DAY
        await client.publish("t", {"n": 1})
        wall.seconds = 0
        await client.publish("t", {"n": 2})
    async with Client(directory) as client:
        await sweep(client)
        assert await kept(client) == [2]


async def test_retention_goes_on_behind_very_many_messages_from_the_future(directory: Path, wall: WallClock) -> None:
    async with Client(directory) as client:
        await weekly(client)
        wall.seconds = YEAR
        for number in range(1200):
            await client.publish("t", {"n": number})
        wall.seconds = -8 * DAY
        await client.publish_batch("t", [{"n": number} for number in range(1200, 3200)], batch_size=1)
        wall.seconds = 0
        await client.publish("t", {"n": 9999})
    async with Client(directory) as client:
        await sweep(client)
        assert await kept(client) == [9999]


@pytest.mark.parametrize("wrong", [-YEAR, YEAR])
async def test_a_new_message_with_a_wrong_time_is_not_removed(directory: Path, wall: WallClock, wrong: int) -> None:
    async with Client(directory) as client:
        await weekly(client)
        wall.seconds = -8 * DAY
        await client.publish("t", {"n": 0})
        wall.seconds = wrong
        await client.publish("t", {"n": 1})
        wall.seconds = 0
    async with Client(directory) as client:
        await sweep(client)
        assert await kept(client) == [1]
        await client.publish("t", {"n": 2})
        await sweep(client)
        assert await kept(client) == [1, 2]
        wall.seconds = 8 * DAY
    async with Client(directory) as client:
        await sweep(client)
        assert await kept(client) == []


async def test_a_jump_is_believed_in_the_end(wall: WallClock, monkeypatch: pytest.MonkeyPatch) -> None:
    boot_us = [10_000_000]
    monkeypatch.setattr("geode_client.clock.boot_us", lambda: boot_us[0])
    monkeypatch.setattr(wall, "true_ns", lambda: 1_700_000_000 * 10**9 + boot_us[0] * 1000)
    clock = PatientClock()
    true_us = clock.now_us()
    wall.seconds = YEAR
    assert clock.now_us() == true_us
    boot_us[0] += JUMP_BELIEVED_US // 2
    assert clock.now_us() == true_us + JUMP_BELIEVED_US // 2
    boot_us[0] += JUMP_BELIEVED_US // 2
    assert clock.now_us() == true_us + JUMP_BELIEVED_US + YEAR * 10**6
    wall.seconds = 0
    assert datetime_of(clock.now_us()).year == datetime_of(true_us).year
