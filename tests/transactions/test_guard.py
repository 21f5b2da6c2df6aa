"""What the user's own SQL may touch: each statement by itself, allowed or refused with words."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from geode_client import Client, GqlError, SyncClient
from geode_client.store.database import engine_names

ENGINE = "belongs to the engine"
TEMPORARY = "would shadow"

SETUP = [
    "CREATE TABLE own (a INTEGER PRIMARY KEY AUTOINCREMENT, b TEXT, unused)",
    "CREATE TABLE other (x REFERENCES own(a), y, UNIQUE (x, y))",
    "CREATE VIEW seen AS SELECT b FROM own",
    "CREATE TRIGGER noted AFTER INSERT ON own WHEN new.b = 'note' BEGIN INSERT INTO other VALUES (new.a, 1); END",
    "CREATE TRIGGER reaching AFTER INSERT ON own WHEN new.b = 'reach' BEGIN DELETE FROM batches; END",
]
# The trigger that reaches is refused when it would run, so inserts into `own` are refused once it is there.
UNDO_REACHING = "DROP TRIGGER reaching"

ALLOWED = [
    "INSERT INTO own (b) VALUES ('x') RETURNING a",
    "INSERT INTO own (b) VALUES ('note')",
    "INSERT INTO own (a, b) VALUES (1, 'y') ON CONFLICT DO UPDATE SET b = excluded.b",
    "INSERT OR IGNORE INTO own (a, b) VALUES (1, 'y')",
    "REPLACE INTO own (a, b) VALUES (1, 'y')",
    "UPDATE own SET b = 'z' WHERE a = 1",
    "DELETE FROM own WHERE a IN (SELECT x FROM other)",
    "SELECT count(*) FROM own",
    "SELECT * FROM main.own JOIN other ON x = a",
    "SELECT * FROM seen",
    "WITH n(i) AS (SELECT 1) SELECT count(*) FROM n, own",
    "WITH topics(name) AS (SELECT 'mine') SELECT name FROM topics",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT sum(i) FROM n",
    "SELECT value FROM json_each('[1, 2]')",
    "SELECT name FROM sqlite_schema",
    "VALUES (1), (2)",
    "EXPLAIN QUERY PLAN SELECT * FROM own",
    "CREATE TABLE strict_one (a INTEGER, b TEXT, UNIQUE (a)) STRICT",
    "CREATE TABLE copy AS SELECT * FROM own",
    "CREATE TABLE IF NOT EXISTS own (a)",
    "CREATE UNIQUE INDEX by_b ON own (b)",
    "CREATE INDEX part ON own (b) WHERE b > 'm'",
    "CREATE VIEW more AS SELECT * FROM seen",
    "CREATE TRIGGER t2 AFTER DELETE ON own BEGIN DELETE FROM other WHERE x = old.a; END",
    "CREATE TRIGGER t3 INSTEAD OF INSERT ON seen BEGIN INSERT INTO own (b) VALUES (new.b); END",
    "ALTER TABLE own RENAME TO renamed",
    "ALTER TABLE own RENAME COLUMN b TO c",
    "ALTER TABLE own ADD COLUMN c INTEGER NOT NULL DEFAULT 1 CHECK (c > 0)",
    "ALTER TABLE own DROP COLUMN unused",
    "CREATE VIEW later AS SELECT * FROM not_yet",
    "DROP TABLE other",
    "DROP VIEW seen",
    "DROP TRIGGER noted",
    "SELECT 1; -- a comment behind it",
    "/* before */ SELECT 1 /* behind */ ;;",
]
REFUSED = [
    # the engine's tables, read or written, and whatever the way there
    ("SELECT name FROM topics", ENGINE),
    ("SELECT count(*) FROM topics", ENGINE),
    ("SELECT 1 FROM main.batches", ENGINE),
    ("SELECT * FROM own, Topics", ENGINE),
    ("SELECT (SELECT max(topic_id) FROM topics)", ENGINE),
    ("WITH n AS (SELECT name FROM topics) SELECT * FROM n", ENGINE),
    ("INSERT INTO topics DEFAULT VALUES", ENGINE),
    ("INSERT INTO own (a, b) SELECT topic_id, name FROM topics", ENGINE),
    ("UPDATE partition_marks SET end_offset = 0", ENGINE),
    ("UPDATE own SET b = name FROM topics", ENGINE),
    ("DELETE FROM batches", ENGINE),
    ("REPLACE INTO store_state VALUES ('batch_id_floor', 0)", ENGINE),
    ("SELECT * FROM sqlite_sequence", ENGINE),
    ("DELETE FROM sqlite_sequence", ENGINE),
    ("CREATE TABLE taken AS SELECT * FROM sqlite_sequence", ENGINE),
    ("EXPLAIN SELECT * FROM topics", ENGINE),
    # definitions on them, or under their names
    ("CREATE TRIGGER t AFTER INSERT ON topics BEGIN SELECT 1; END", "a trigger on topics"),
    ("CREATE INDEX i ON batches (topic_id)", "an index on batches"),
    ("CREATE VIEW v AS SELECT * FROM topics", ENGINE),
    ("CREATE TABLE topics (a)", ENGINE),
    ('CREATE TABLE "Batches" (a)', ENGINE),
    ("CREATE VIEW message_ids AS SELECT 1", ENGINE),
    ("CREATE INDEX topics_by_name ON own (b)", "already exists"),
    ("CREATE TABLE geode_anything (a)", "kept for the engine"),
    ("CREATE TABLE sqlite_mine (a)", "reserved"),
    ("ALTER TABLE own RENAME TO geode_own", "kept for the engine"),
    ("ALTER TABLE own RENAME TO topics", "already another table"),
    ("ALTER TABLE topics RENAME TO mine", ENGINE),
    ("ALTER TABLE batches ADD COLUMN a", ENGINE),
    ("DROP TABLE batches", ENGINE),
    ("DROP INDEX topics_by_name", ENGINE),
    ("CREATE TABLE child (p REFERENCES topics(topic_id) ON DELETE CASCADE)", "may not refer to topics"),
    ("ALTER TABLE own ADD COLUMN t REFERENCES batches(batch_id)", "may not refer to batches"),
    # the way around SQLite's own checks
    ("INSERT INTO sqlite_schema VALUES ('table', 't', 't', 0, '')", "may not be modified"),
    ("UPDATE sqlite_schema SET sql = ''", "may not be modified"),
    ("DELETE FROM sqlite_master", "may not be modified"),
    ("PRAGMA writable_schema = 1", "PRAGMA"),
    ("PRAGMA user_version", "PRAGMA"),
    ("SELECT * FROM pragma_table_info('own')", "not one of your own"),
    ("SELECT count(*) FROM pragma_table_list", "not one of your own"),
    ("SELECT * FROM dbstat", "not one of your own"),
    ("SELECT count(*) FROM dbstat", "not one of your own"),
    # the transaction
    ("BEGIN", "commit and rollback"),
    ("COMMIT", "commit and rollback"),
    ("END", "commit and rollback"),
    ("ROLLBACK", "commit and rollback"),
    ("SAVEPOINT s", "savepoints"),
    ("RELEASE statement", "savepoints"),
    ("ROLLBACK TO statement", "savepoints"),
    # other files, other code, temporary objects, upkeep
    ("ATTACH ':memory:' AS elsewhere", "ATTACH"),
    ("DETACH main", "DETACH"),
    ("VACUUM", "VACUUM"),
    ("VACUUM INTO 'copy.db'", "VACUUM"),
    ("ANALYZE", "ANALYZE"),
    ("ANALYZE own", "ANALYZE"),
    ("REINDEX", "REINDEX"),
    ("REINDEX other", "REINDEX"),
    ("CREATE VIRTUAL TABLE words USING fts5(word)", "virtual tables"),
    ("SELECT load_extension('x')", "load_extension"),
    ("SELECT * FROM fts3tokenize('simple', 'a b')", "not one of your own"),
    ("CREATE TEMP TABLE t (a)", TEMPORARY),
    ("CREATE TABLE temp.t (a)", TEMPORARY),
    ("CREATE TEMP VIEW own AS SELECT 1", TEMPORARY),
    ("CREATE TEMP TRIGGER t AFTER INSERT ON own BEGIN SELECT 1; END", TEMPORARY),
    ("SELECT * FROM sqlite_temp_schema", TEMPORARY),
    # texts
    ("SELECT 1; SELECT 2", "one statement at a time"),
    ("UPDATE own SET b = 'x'; DELETE FROM batches", "one statement at a time"),
    ("", "no statement"),
    (" -- nothing", "no statement"),
    (";", "no statement"),
    ("SELECT missing FROM own", "no such column: missing"),
    ("SELEC 1", "syntax error"),
    ("SELECT '\x00'", ""),
    ("SELECT '\ud800'", ""),
    ("SELECT zeroblob(100000000)", "too big"),
    ("SELECT ?", "parameters"),
    ("SELECT :name", "parameters"),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncClient]:
    with SyncClient(tmp_path_factory.mktemp("guard") / "store") as opened:
        opened.publish("t", {"n": 1}, message_id="x")
        with opened.transaction() as tx:
            for sql in SETUP:
                tx.execute(sql)
        yield opened


class Undo(Exception):
    pass


@pytest.mark.parametrize("sql", ALLOWED)
def test_allowed(client: SyncClient, sql: str) -> None:
    with pytest.raises(Undo):
        with client.transaction() as tx:
            tx.execute(UNDO_REACHING)
            tx.execute(sql)
            raise Undo


@pytest.mark.parametrize(("sql", "says"), REFUSED)
def test_refused(client: SyncClient, sql: str, says: str) -> None:
    with client.transaction() as tx:
        with pytest.raises(GqlError) as caught:
            tx.execute(sql)
        assert says in str(caught.value)
        # Only the statement was refused: the transaction goes on, and nothing was left behind.
        before = tx.execute("SELECT count(*) FROM sqlite_schema").rows
        tx.publish("t", {"n": 2})
    with client.transaction() as tx:
        assert tx.execute("SELECT count(*) FROM sqlite_schema").rows == before
    assert client.query("SELECT count(*) FROM t WHERE n = 1").scalar() == 1


@pytest.mark.parametrize("table", sorted(engine_names()))
def test_no_table_of_the_engine_can_be_used_or_taken(client: SyncClient, table: str) -> None:
    """Also those that are added one day: the names come from the schema."""
    with client.transaction() as tx:
        for sql in (
            f"SELECT * FROM {table}",
            f"DELETE FROM {table}",
            f"DROP TABLE {table}",
            f"CREATE TABLE {table} (a)",
            f"CREATE VIEW {table} AS SELECT 1",
            f"CREATE INDEX {table} ON own (b)",
            f"CREATE TRIGGER t AFTER INSERT ON {table} BEGIN SELECT 1; END",
        ):
            with pytest.raises(GqlError):
                tx.execute(sql)


def test_a_trigger_that_reaches_out_is_refused_when_it_would_run(client: SyncClient) -> None:
    with pytest.raises(GqlError, match=r"batches belongs to the engine.*through reaching"):
        with client.transaction() as tx:
            tx.execute("INSERT INTO own (b) VALUES ('reach')")


def test_a_statement_that_the_engine_has_prepared_is_asked_about_all_the_same(client: SyncClient) -> None:
    """A statement out of the connection's cache would pass unasked."""
    sql = "SELECT value FROM store_state WHERE name = 'catalog_version'"
    client.publish("t", {"n": 3})
    with client.transaction() as tx, pytest.raises(GqlError, match=ENGINE):
        tx.execute(sql)


async def test_the_engine_goes_on_unasked_while_the_guard_is_there(directory: Path) -> None:
    async with Client(directory) as client:
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (a)")
        await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 2)")
        await asyncio.gather(*[client.publish("t", n, message_id=str(n)) for n in range(10)])
        await client.execute("PURGE TOPIC t")
        await client.execute("DROP TOPIC t")
        async with client.transaction() as tx:
            await tx.publish("u", 1)
            await tx.execute("INSERT INTO own VALUES (1)")
    found = apsw.Connection(str(directory / "geode.db"))
    assert found.pragma("integrity_check") == "ok"
    assert found.execute("SELECT a FROM own").fetchall() == [(1,)]
    found.close()


async def test_an_error_shows_its_place(directory: Path) -> None:
    async with Client(directory) as client:
        with pytest.raises(GqlError) as caught:
            async with client.transaction() as tx:
                await tx.execute("SELECT 'é',\n  missing")
    assert caught.value.position == (2, 3)
    assert "^^^^^^^" in caught.value.render()
