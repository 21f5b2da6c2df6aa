"""The user's own tables in queries: read, joined with topics and SYSTEM tables, bounded, through the authorizer."""

import asyncio
from pathlib import Path

import pytest

from geode_client import Client, GeodeError


@pytest.fixture(params=["directory", "memory"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "directory" else ":memory:"


async def made(client: Client) -> None:
    async with client.transaction() as tx:
        await tx.execute("CREATE TABLE Invoices (number INTEGER PRIMARY KEY, customer TEXT, total REAL)")
        await tx.execute("INSERT INTO Invoices (customer, total) VALUES ('c1', 99.5), ('c2', 5), (NULL, 1)")
        await tx.execute("CREATE VIEW large AS SELECT customer, total FROM Invoices WHERE total > 50")


async def test_tables_and_views_are_sources(target: str) -> None:
    async with Client(target) as client:
        await made(client)
        await client.publish_batch("customers", [{"id": "c1", "name": "Ada"}, {"id": "c2", "name": "Bob"}])
        assert (await client.query("SELECT * FROM invoices ORDER BY number")).rows == [
            (1, "c1", 99.5),
            (2, "c2", 5.0),
            (3, None, 1.0),
        ]
        joined = "SELECT c.name, i.total FROM customers c JOIN invoices i ON c.id = i.customer ORDER BY i.total"
        assert (await client.query(joined)).rows == [("Bob", 5.0), ("Ada", 99.5)]
        left = "SELECT i.number, t.topic_name FROM invoices i LEFT JOIN SYSTEM.topics t ON t.topic_name = i.customer"
        assert len((await client.query(left)).rows) == 3
        assert (await client.query("SELECT l.total FROM large l")).rows == [(99.5,)]
        assert (
            await client.query("SELECT customer, count(*) FROM invoices GROUP BY customer HAVING count(*) > 1")
        ).rows == []
        inside = "SELECT name FROM customers WHERE id IN (SELECT customer FROM invoices WHERE total > 50)"
        assert (await client.query(inside)).rows == [("Ada",)]
        plan = (await client.query("EXPLAIN SELECT total FROM invoices")).rows
        assert any("OwnTableScan Invoices" in row[0] for row in plan)
        assert (await client.query("SELECT table_name, kind, columns FROM SYSTEM.tables ORDER BY table_name")).rows == [
            ("Invoices", "table", ["number", "customer", "total"]),
            ("large", "view", ["customer", "total"]),
        ]
        with pytest.raises(GeodeError, match="there is no column totl"):
            await client.query("SELECT totl FROM invoices")
        # Transactions go on afterwards, and are guarded as before.
        async with client.transaction() as tx:
            await tx.execute("UPDATE invoices SET total = 7 WHERE number = 2")
            with pytest.raises(GeodeError, match="belongs to the engine"):
                await tx.execute("SELECT * FROM batches")
        assert (await client.query("SELECT total FROM invoices WHERE number = 2")).scalar() == 7.0


async def test_the_tables_of_the_engine_are_no_sources(target: str) -> None:
    async with Client(target) as client:
        await made(client)
        for name in ("batches", "topics", "sqlite_schema", "former_names"):
            with pytest.raises(GeodeError, match=f"there is no topic {name}"):
                await client.query(f"SELECT * FROM {name}")


async def test_a_topic_goes_before_a_table_of_its_name(target: str) -> None:
    async with Client(target) as client:
        await made(client)
        await client.publish("invoices", {"a": 1})
        found = await client.query("SELECT * FROM invoices")
        assert found.rows == [(1,)]
        assert "invoices is the topic" in found.notices[0]


async def test_reading_is_bounded(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = "CREATE VIEW endless AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) AS m FROM n"
    async with Client(target) as client:
        await made(client)
        async with client.transaction() as tx:
            await tx.execute(endless)
        monkeypatch.setattr("geode_client.local.own_tables.READ_SECONDS_MAX", 0.05)
        with pytest.raises(GeodeError, match="reading the table endless was stopped"):
            await client.query("SELECT * FROM endless")
        monkeypatch.setattr("geode_client.store.own_tables.READ_ROWS_MAX", 2)
        monkeypatch.setattr("geode_client.local.own_tables.READ_SECONDS_MAX", 30)
        with pytest.raises(GeodeError, match="more than 2 rows"):
            await client.query("SELECT * FROM invoices")


async def test_a_read_that_is_cancelled_ends(tmp_path: Path) -> None:
    async with Client(tmp_path / "store") as client:
        async with client.transaction() as tx:
            await tx.execute(
                "CREATE VIEW endless AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
            )
        reading = asyncio.ensure_future(client.query("SELECT * FROM endless"))
        await asyncio.wait({reading}, timeout=0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
