"""What a golden script cannot show: bounds, cancellation, ranges of a scan, values of a result, agreement with SQLite."""

import asyncio
from typing import Any

import pytest
from query.test_rules import select_of

from geode_client import Client, GeodeError, SyncClient
from geode_client.broker import ScanRequest
from geode_client.query import plan
from geode_client.query.batches import Bounds, QueryTooLarge
from geode_client.query.running import Runner
from geode_client.query.selecting import SelectPlanner


async def planned(client: Client, text: str) -> plan.Query:
    return await SelectPlanner(client._session.broker, {}).query(select_of(text))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("SELECT n FROM t", "the result"),
        ("SELECT * FROM t", "SELECT \\*"),
        ("SELECT count(*) FROM (SELECT n FROM t ORDER BY n) x", "ORDER BY"),
        ("SELECT count(*) FROM (SELECT n FROM t GROUP BY n) x", "GROUP BY"),
        ("SELECT count(*) FROM (SELECT DISTINCT n FROM t) x", "DISTINCT"),
        ("SELECT count(DISTINCT n) FROM t", "COUNT\\(DISTINCT …\\)"),
        ("SELECT count(*) FROM t a JOIN t b ON a.n = b.n", "the right side of JOIN"),
        ("SELECT count(*) FROM t WHERE n IN (SELECT n FROM t)", "IN \\(SELECT …\\)"),
        ("SELECT count(*) FROM (SELECT rank() OVER (ORDER BY n) AS r FROM t) x WHERE r > 0", "OVER"),
        ("SELECT count(*) FROM (SELECT count(*) OVER (PARTITION BY n) AS r FROM t) x WHERE r > 0", "OVER"),
        ("SELECT count(*) FROM (SELECT n FROM t EXCEPT SELECT -1) x", "EXCEPT"),
        ("SELECT count(*) FROM (SELECT n FROM t INTERSECT SELECT n FROM t) x", "INTERSECT"),
        ("WITH x AS (SELECT n FROM t) SELECT count(*) FROM x a JOIN x b ON a.n = b.n", "WITH"),
    ],
)
@pytest.mark.parametrize("bounds", [Bounds(rows_max=4000), Bounds(bytes_max=100_000)])
async def test_what_would_keep_too_much_is_refused(text: str, what: str, bounds: Bounds) -> None:
    async with Client(":memory:") as client:
        await client.publish_batch("t", ({"n": n} for n in range(5000)))
        with pytest.raises(QueryTooLarge, match=f"^{what} would keep more than"):
            await Runner(client._session.broker, {}, bounds).run(await planned(client, text))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT n FROM t ORDER BY n DESC LIMIT 5",
        "SELECT n % 10 AS r, count(*) FROM t GROUP BY r ORDER BY r LIMIT 5",
        "SELECT n FROM t LIMIT 5",
        "SELECT count(*), sum(n) FROM t",
        "SELECT a.n FROM t a JOIN (SELECT 7 AS seven) b ON a.n = b.seven",
    ],
)
async def test_what_streams_keeps_little(text: str) -> None:
    async with Client(":memory:") as client:
        await client.publish_batch("t", ({"n": n} for n in range(20_000)))
        _, found = await Runner(client._session.broker, {}, Bounds(rows_max=8_500)).run(await planned(client, text))
        assert 1 <= found.count <= 5


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM t a JOIN t b ON a.n <> b.n JOIN t c ON a.n <> c.n",
        "SELECT a.n FROM t a JOIN t b ON a.n <> b.n ORDER BY a.n",
        "SELECT a.n % 7, count(*) FROM t a JOIN t b ON TRUE JOIN t c ON TRUE GROUP BY a.n % 7",
        "SELECT DISTINCT a.n FROM t a JOIN t b ON TRUE JOIN t c ON TRUE",
        "SELECT count(*) FROM (SELECT a.n FROM t a, t b EXCEPT SELECT c.n + 1 FROM t c, t d) AS x",
        "SELECT count(*) FROM t a FULL JOIN t b ON a.n <> b.n FULL JOIN t c ON a.n <> c.n",
    ],
)
async def test_a_query_is_cancelled_at_once(text: str) -> None:
    """Each of these runs for minutes; whoever cancels one goes on at once, and so does everybody else meanwhile."""
    async with Client(":memory:") as client:
        await client.publish_batch("t", ({"n": n} for n in range(20_000)))
        running = asyncio.create_task(client.query(text))
        turns = 0
        while turns < 20:
            await asyncio.sleep(0)
            turns += 1
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await client.query("SELECT count(*) FROM t")).scalar() == 20_000


def test_control_c_ends_a_query_of_the_client_without_await() -> None:
    with SyncClient(":memory:") as client:
        client.publish_batch("t", [{"n": n} for n in range(5_000)])

        async def interrupted(within: Client) -> None:
            task = asyncio.ensure_future(within.query("SELECT count(*) FROM t a JOIN t b ON TRUE JOIN t c ON TRUE"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

        client.run(interrupted)
        assert client.query("SELECT count(*) FROM t").scalar() == 5_000


async def test_ranges_spare_reading_and_change_nothing() -> None:
    async with Client(":memory:") as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 4)")
        for n in range(40):
            await client.publish_batch("t", [{"n": n}] * 3, partition_key=f"k{n % 7}")
        broker = client._session.broker
        topic = await broker.topic("t")

        async def read(**wanted: Any) -> int:
            return len([chunk async for chunk in broker.scan(ScanRequest([topic], **wanted))])

        everything = await read()
        assert everything == 40
        partition = (await client.query("SELECT _partition FROM t WHERE _key = 'k3' LIMIT 1")).scalar()
        assert 0 < await read(key="k3") == await read(partition=partition) < everything
        assert 0 < await read(first_offset=7, end_offset=9) < await read(first_offset=7) < everything
        assert await read(newest_first=True, first_offset=7, end_offset=9) == await read(first_offset=7, end_offset=9)
        assert await read(partition=9) == 0
        for condition, wanted in (
            ("_key = 'k3'", lambda row: row[1] == "k3"),
            ("_partition = 2 AND _offset > 6 AND 12 >= _offset", lambda row: row[2] == 2 and 6 < row[3] <= 12),
            ("_offset = 5", lambda row: row[3] == 5),
            ("_offset < 0", lambda row: False),
            ("_timestamp > NOW() - INTERVAL '1 hour'", lambda row: True),
            ("_timestamp > NOW() + INTERVAL '1 hour'", lambda row: False),
        ):
            columns = "SELECT n, _key, _partition, _offset FROM t"
            found = (await client.query(f"{columns} WHERE {condition}")).rows
            assert found == [row for row in (await client.query(columns)).rows if wanted(row)], condition


async def test_the_newest_messages_are_read_from_the_end() -> None:
    async with Client(":memory:") as client:
        await client.publish_batch("t", ({"n": n} for n in range(5000)), batch_size=100)
        analyzed = await client.execute("EXPLAIN ANALYZE SELECT n FROM t WHERE n < 4990 ORDER BY _offset DESC LIMIT 3")
        scan = analyzed.dicts()[-1]
        assert "newest first" in scan["operator"]
        assert (scan["rows"], scan["batches"]) == (3, 1)
        found = await client.query("SELECT n FROM t WHERE n < 4990 ORDER BY _offset DESC LIMIT 3 OFFSET 98")
        assert found.rows == [(4891,), (4890,), (4889,)]


async def test_explain_analyze_measures_queries_alone() -> None:
    async with Client(":memory:") as client:
        await client.publish("t", {"n": 1})
        found = await client.execute("EXPLAIN ANALYZE SELECT n FROM t WHERE n IN (SELECT n FROM t) ORDER BY n")
        assert found.columns[:4] == ("operator", "rows", "batches", "milliseconds")
        assert [row[0].strip().split(" ")[0] for row in found.rows] == ["Sort", "Filter", "Scan", "Sub-query", "Scan"]
        with pytest.raises(GeodeError, match="EXPLAIN ANALYZE runs and measures a SELECT"):
            await client.execute('EXPLAIN ANALYZE PUBLISH TO t {"n": 2}')
        assert (await client.query("SELECT count(*) FROM t")).scalar() == 1


async def test_dead_letters_are_a_source_like_any_other() -> None:
    async with Client(":memory:") as client:
        for topic in ("jobs", "tasks"):
            await client.execute(f"CREATE TOPIC {topic} WITH OPTIONS (dead_letter_topic: 'failures')")
            await client.publish_batch(topic, [{"n": n, "from": topic} for n in range(3)])
            async with client.subscribe(topic, consumer_group="g", from_beginning=True, auto_ack=False) as jobs:
                async for message in jobs:
                    await message.nack(requeue=False, reason=f"bad {message['n']}")
                    if message["n"] == 2:
                        break
        await client.publish("failures", {"n": 99})
        found = await client.query(
            "SELECT d.n, d._headers.dead_letter_error AS why FROM DEAD LETTERS OF jobs d WHERE d.n > 0 ORDER BY d.n"
        )
        assert found.rows == [(1, "bad 1"), (2, "bad 2")]
        counted = await client.query('SELECT "from", count(*) FROM DEAD LETTERS OF * GROUP BY 1 ORDER BY 1')
        assert counted.rows == [("jobs", 3), ("tasks", 3)]
        assert (await client.query("SELECT count(*) FROM failures")).scalar() == 7


async def test_a_result_becomes_an_arrow_table() -> None:
    async with Client(":memory:") as client:
        await client.publish_batch(
            "t",
            [
                {"text": "a", "n": 1, "mixed": 1, "big": 10**30, "f": 1, "list": [1, 2], "deep": {"x": 1}},
                {"text": None, "n": 2, "mixed": "x", "big": 1, "f": 2.5, "list": [], "deep": {"y": "z"}},
            ],
        )
        result = await client.query("SELECT *, _timestamp, CAST(n AS DECIMAL) AS d, n > 1 AS more FROM t")
        table = result.to_arrow()
        assert table.column_names == [*result.columns]
        found = table.to_pydict()
        assert found["text"] == ["a", None]
        assert found["n"] == [1, 2]
        assert str(table.schema.field("n").type) == "int64"
        assert found["mixed"] == ["1", "x"]
        assert found["f"] == [1.0, 2.5]
        assert found["big"] == [1e30, 1.0]
        assert found["list"] == [[1, 2], []]
        assert found["deep"] == [{"x": 1, "y": None}, {"x": None, "y": "z"}]
        assert found["more"] == [False, True]
        assert str(table.schema.field("_timestamp").type).startswith("timestamp")
        assert str(table.schema.field("d").type).startswith("decimal")
        assert (await client.query("SELECT n FROM t WHERE n > 5")).to_arrow().num_rows == 0
        assert (await client.query("SHOW TOPICS")).to_arrow().to_pydict()["topic_name"] == ["t"]


async def test_a_result_shows_itself_in_a_notebook() -> None:
    async with Client(":memory:") as client:
        await client.publish_batch("t", [{"a": "<b>&", "n": n} for n in range(50)])
        html = (await client.query("SELECT a, n FROM t"))._repr_html_()
        assert "<th>a</th><th>n</th>" in html
        assert "<td>&lt;b&gt;&amp;</td><td>0</td>" in html
        assert "10 more rows" in html
        assert "<b>" not in html
