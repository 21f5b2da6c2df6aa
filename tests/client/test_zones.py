"""Zone statistics on a store: what they pass over never changes a result, is counted, and goes when its messages go."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from reading import next_of

from geode_client import Client, compile_filter
from geode_client.broker import ScanRequest
from geode_client.conditions.requirements import Path as FieldPath
from geode_client.conditions.requirements import leaves
from geode_client.conditions.zones import ScanCounts
from geode_client.local.broker import LocalBroker
from geode_client.local.sweeper import Sweeper
from geode_client.local.zones import ZoneMaker
from geode_client.store import log
from geode_client.store.zones import COLUMNS_USED_MAX, ZONE_MESSAGES, StoreZones, WantColumns, Zone, columns_of

MESSAGES = 6 * ZONE_MESSAGES
BATCH = 500
CONDITIONS = (
    "id = 'u77'",
    "n = 20000",
    "n >= 9000 AND n < 9010",
    "n < 10 OR id = 'u500'",
    "n < 10 AND id = 'u500'",
    "NOT (n > 5)",
    "late",
    "NOT late",
    "id LIKE 'u1234%'",
    "deep.er = 4242",
    "id IN ('u1', 'nobody', 'u24000')",
    "n = 1 AND LENGTH(id) = 2",
    "id = 'nobody'",
    "n = NULL",
    "n IS NULL",
    "LENGTH(id) = 2",
)


def body(n: int) -> Any:
    if n % 997 == 0:
        return [n]
    return {"id": f"u{n}", "n": n, "deep": {"er": n * 3}, **({"late": n > MESSAGES - 100} if n % 3 else {})}


async def made(broker: LocalBroker) -> None:
    """All zones that can be made."""
    assert await ZoneMaker(broker._log, broker._topics, broker.write, lambda: False).make(lambda: False)


async def published(directory: Path) -> None:
    """A topic of two partitions with zones of every column that the conditions read."""
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 2)")
        for partition_key in ("a", "b"):
            await client.publish_batch("t", map(body, range(MESSAGES)), batch_size=BATCH, partition_key=partition_key)
    broker = LocalBroker(str(directory))
    await broker.open()
    topic = await broker.topic("t")
    paths = {leaf.path: None for text in CONDITIONS for leaf in leaves(compile_filter(text).requirement) if leaf.path}
    await broker.write(WantColumns(topic.topic_id, list(paths)))
    await made(broker)
    await broker.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that the tests begin with, made once."""
    directory = tmp_path_factory.mktemp("zones") / "store"
    asyncio.run(published(directory))
    return directory


@pytest.fixture
async def broker(template: Path, directory: Path) -> AsyncIterator[LocalBroker]:
    shutil.copytree(template, directory)
    opened = LocalBroker(str(directory))
    await opened.open()
    yield opened
    await opened.close()


async def found(
    broker: LocalBroker, text: str, *, may_skip: bool, newest_first: bool = False
) -> tuple[list[tuple[int, int]], ScanCounts]:
    condition = compile_filter(text)
    counts = ScanCounts()
    request = ScanRequest(
        [await broker.topic("t")],
        condition=condition if may_skip else None,
        counts=counts,
        newest_first=newest_first,
    )
    chosen = []
    async for chunk in broker.scan(request):
        chosen += [(chunk.partition, chunk.base_offset + place) for place in condition.select(chunk)]
    return chosen, counts


@pytest.mark.parametrize("window", [log.WINDOW, 3_000])
async def test_what_is_passed_over_never_changes_a_result(
    broker: LocalBroker, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "WINDOW", window)
    for text in CONDITIONS:
        for newest_first in (False, True):
            wanted, everything = await found(broker, text, may_skip=False, newest_first=newest_first)
            chosen, counts = await found(broker, text, may_skip=True, newest_first=newest_first)
            assert chosen == wanted, text
            assert everything.messages_read == 2 * MESSAGES
            assert counts.messages_read + counts.messages_skipped == 2 * MESSAGES
            assert counts.batches_read + counts.batches_skipped == everything.batches_read


async def test_little_is_read_for_what_is_rare(broker: LocalBroker) -> None:
    for text, batches_max in (("id = 'u77'", 40), ("n >= 9000 AND n < 9010", 40), ("n = NULL", 0), ("late", 60)):
        _, counts = await found(broker, text, may_skip=True)
        assert counts.batches_read <= batches_max, text
    _, counts = await found(broker, "LENGTH(id) = 2", may_skip=True)
    assert counts.batches_skipped == 0


async def test_a_replay_passes_over_what_cannot_do_and_misses_nothing(broker: LocalBroker, directory: Path) -> None:
    async with Client(directory) as client:
        for text in ("n >= 9000 AND n < 9010", "id = 'u24000'", "n < 3", "id = 'nobody'"):
            wanted, _ = await found(broker, text, may_skip=False)
            async with client.subscribe("t", filter=text, from_beginning=True) as subscription:
                chosen = [(message.partition, message.offset) async for message in subscription]
                assert sorted(chosen) == sorted(wanted)
                assert subscription.missed == 0


async def test_a_replay_that_goes_on_live_is_whole(broker: LocalBroker, directory: Path) -> None:
    async with Client(directory) as client:
        async with client.subscribe("t", filter="n < 2", from_beginning=True, follow=True) as subscription:
            assert [dict(await subscription.get() or {}) for _ in range(2)] == [body(1), body(1)]
            for n in range(300):
                await client.publish("t", {"n": n % 100})
            rest = [(await next_of(subscription))["n"] for _ in range(6)]
            assert rest == [0, 1, 0, 1, 0, 1]
            assert subscription.missed == 0


def changed(directory: Path, sql: str) -> int:
    """Change the file behind the store's back; how many rows."""
    connection = apsw.Connection(str(directory / "geode.db"))
    connection.execute(sql)
    count = connection.changes()
    connection.close()
    return count


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE zones SET summary = (SELECT summary FROM zones AS z ORDER BY zone_id DESC LIMIT 1)",
        "UPDATE zones SET summary = substr(summary, 1, 40)",
        "UPDATE zones SET summary = 'text'",
        "UPDATE zones SET end_offset = end_offset + 4000",
        "UPDATE zones SET base_offset = base_offset - 3 WHERE base_offset > 5",
        "UPDATE zones SET checksum = checksum + 1",
        "UPDATE zones SET partition = partition + 2; UPDATE zones SET partition = 3 - partition",
        "DELETE FROM zones WHERE zone_id % 2",
        """UPDATE zone_columns SET path = '["m"]' WHERE path = '["n"]';
        UPDATE zone_columns SET path = '["n"]' WHERE path = '["id"]'""",
    ],
)
async def test_damaged_statistics_hide_nothing(broker: LocalBroker, directory: Path, damage: str) -> None:
    assert changed(directory, damage)
    for text in ("id = 'u77'", "n >= 9000 AND n < 9010", "n = 24000"):
        wanted, _ = await found(broker, text, may_skip=False)
        chosen, _ = await found(broker, text, may_skip=True)
        assert chosen == wanted


async def test_a_damaged_batch_is_in_no_zone(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish_batch("t", map(body, range(MESSAGES)), batch_size=BATCH)
    changed(directory, "UPDATE batches SET payload = zeroblob(length(payload)) WHERE batch_id = 10")
    broker = LocalBroker(str(directory))
    await broker.open()
    topic = await broker.topic("t")
    await broker.write(WantColumns(topic.topic_id, [FieldPath("n")]))
    await made(broker)
    zones = broker._log.rows("SELECT base_offset, end_offset FROM zones")
    assert all(not base <= 9 * BATCH < end for base, end in zones)
    await broker.close()


async def test_columns_are_those_declared_and_those_asked_for(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t SCHEMA (id STRING, n INT, tags LIST<STRING>, at TIMESTAMP)")
        await client.execute("ALTER TOPIC t ADD COLUMN late BOOL")
        await client.publish_batch("t", ({"id": "x", "n": n, "other": n} for n in range(MESSAGES)))
        assert len(await client.query("SELECT n FROM t WHERE other = 5")) == 1
        async with client.subscribe("t", filter="more = 5 OR further.on[0] = 1", from_beginning=True):
            pass
        await client.publish_batch("small", ({"n": n} for n in range(100)))
        await client.query("SELECT n FROM small WHERE n = 5")
    broker = LocalBroker(str(directory))
    await broker.open()
    columns = columns_of(broker._log, (await broker.topic("t")).topic_id)
    assert list(columns) == [
        *map(FieldPath, ("id", "n", "at", "late", "other", "more")),
        FieldPath("further", ("on", 0)),
    ]
    assert not columns_of(broker._log, (await broker.topic("small")).topic_id)
    many = [FieldPath(f"c{number}") for number in range(50)]
    await broker.write(WantColumns(1, many))
    assert len(columns_of(broker._log, 1)) == 4 + COLUMNS_USED_MAX
    await broker.close()


async def test_zones_go_with_their_messages(broker: LocalBroker) -> None:
    def zones() -> int:
        return int(broker._log.rows("SELECT count(*) FROM zones")[0][0])

    def sweeper() -> Sweeper:
        return broker._sweeper

    before = zones()
    assert before
    await broker.purge_topic("t")
    await sweeper().sweep()
    assert zones() == 0
    topic = await broker.topic("t")
    # What is written for a topic after it is gone stays away as well.
    number, text = columns_of(broker._log, topic.topic_id)[FieldPath("n")]
    zone = Zone(topic.topic_id, 0, number, 0, 10, text, b"")
    await broker.drop_topic("t")
    await sweeper().sweep()
    await broker.write(StoreZones(topic.topic_id, topic.schema_version, [zone]))
    assert zones() == 0
    assert broker._log.rows("SELECT count(*) FROM zone_columns")[0][0] == 0


async def test_retention_takes_the_oldest_zones_only(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t SCHEMA (n INT)")
        await client.publish_batch("t", ({"n": n, "text": str(n) * 20} for n in range(MESSAGES)), batch_size=BATCH)
        await client.execute("ALTER TOPIC t SET OPTIONS (retention_bytes: '200 KiB')")
    broker = LocalBroker(str(directory))
    await broker.open()
    await made(broker)
    before = broker._log.rows("SELECT base_offset FROM zones ORDER BY base_offset")
    await broker._sweeper.sweep()
    after = broker._log.rows("SELECT base_offset, end_offset FROM zones ORDER BY base_offset")
    first = broker._log.rows("SELECT min(base_offset) FROM batches")[0][0]
    assert 0 < len(after) < len(before)
    assert all(end > first for _, end in after)
    chosen, counts = await found(broker, f"n = {MESSAGES - 5}", may_skip=True)
    assert chosen == [(0, MESSAGES - 5)]
    assert counts.messages_read < MESSAGES - first
    await broker.close()


async def test_a_column_with_a_default_changes_what_old_messages_are(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t SCHEMA (n INT)")
        await client.publish_batch("t", ({"n": n} for n in range(MESSAGES)), batch_size=BATCH)
        assert (await client.query("SELECT count(*) FROM t WHERE place = 'home'")).rows == [(0,)]
        broker: Any = client._broker
        await made(broker)
        topic = await broker.topic("t")
        assert FieldPath("place") in columns_of(broker._log, topic.topic_id)
        number, text = columns_of(broker._log, topic.topic_id)[FieldPath("place")]
        late = StoreZones(
            topic.topic_id, topic.schema_version, [Zone(topic.topic_id, 0, number, 0, MESSAGES, text, b"")]
        )
        await client.execute("ALTER TOPIC t ADD COLUMN place STRING DEFAULT 'home'")
        # What was summarised before the change and is written after it is not believed.
        await broker.write(late)
        for _ in range(2):
            assert (await client.query("SELECT count(*) FROM t WHERE place = 'home'")).rows == [(MESSAGES,)]
            assert (await client.query("SELECT count(*) FROM t WHERE place = 'away'")).rows == [(0,)]
            await made(broker)


async def test_explain_analyze_says_how_much_was_passed_over(broker: LocalBroker, directory: Path) -> None:
    async with Client(directory) as client:
        shown = (await client.query("EXPLAIN ANALYZE SELECT count(*) FROM t WHERE n = 20000")).dicts()
        (note,) = [row["notes"] for row in shown if row["notes"]]
        assert note.startswith("statistics: ")
        assert note.endswith(f" of {2 * MESSAGES // BATCH + 2} batches skipped")


@pytest.mark.parametrize("how", [{}, {"ordering": True}, {"priority_order": True}])
async def test_a_group_passes_over_what_cannot_do_and_misses_nothing(
    broker: LocalBroker, directory: Path, how: dict[str, Any]
) -> None:
    """With two members, so that claims begin and end inside batches and zones."""
    async with Client(directory) as client:
        for number, text in enumerate(("n >= 9000 AND n < 9010", "id = 'u24000'", "n < 3", "id = 'nobody'", "late")):
            wanted, _ = await found(broker, text, may_skip=False)
            group = f"g{number}"
            options: dict[str, Any] = {"consumer_group": group, "filter": text, "from_beginning": True, **how}
            chosen = []
            async with client.subscribe("t", **options) as one, client.subscribe("t", **options) as other:
                while await client.get_consumer_lag("t", group):
                    for member in (one, other):
                        while (message := await member.get(timeout=0.01)) is not None:
                            chosen.append((message.partition, message.offset))
            assert sorted(chosen) == sorted(wanted), text
            (row,) = [one for one in (await client._broker.report(["groups"], "t")).groups if one.name == group]
            assert row.published == row.filtered + row.acknowledged == 2 * MESSAGES
        (counted,) = (await client._broker.report(["counters"], "t")).counters
        assert counted.filter_skipped is not None
        assert counted.filter_skipped > 0
