"""`client.connection()`: begin, execute, commit, rollback over the language and over own tables."""

import uuid
from pathlib import Path
from typing import Any

import pytest

import geode_client
from geode_client import Client, ConstraintFailed, GeodeError, GqlError, SyncClient, TransactionAborted, Unsupported


@pytest.fixture(params=["directory", ":memory:"])
def target(request: pytest.FixtureRequest, directory: Path) -> str:
    return str(directory) if request.param == "directory" else ":memory:"


async def count(client: Client, topic: str) -> Any:
    return (await client.query(f"SELECT count(*) FROM {topic}")).scalar()


async def test_statements_of_both_kinds_are_stored_together(target: str) -> None:
    async with Client(target) as client, client.connection() as conn:
        await conn.execute("CREATE TABLE own (a INTEGER PRIMARY KEY, b TEXT)")
        await conn.execute("CREATE TOPIC t")
        await conn.begin()
        assert conn.in_transaction
        await conn.execute('PUBLISH TO t {"n": 1}, {"n": $two}', {"two": 2})
        await conn.execute("INSERT INTO own (b) VALUES (?)", ["x"])
        await conn.execute("INSERT INTO t (n) VALUES (3)")
        assert (await conn.execute("SELECT b FROM own WHERE a = :a", {"a": 1})).scalar() == "x"
        looked = await conn.execute("SELECT count(*) FROM t")
        assert looked.scalar() == 0
        assert "before COMMIT" in looked.notices[0]
        done = await conn.commit()
        assert done.message == "committed: 3 messages published"
        assert not conn.in_transaction
        assert (await conn.execute("SELECT count(*) FROM t")).scalar() == 3
        assert (await conn.execute("SELECT count(*) FROM own")).scalar() == 1


async def test_rollback(target: str) -> None:
    async with Client(target) as client, client.connection() as conn:
        await conn.execute("CREATE TABLE own (a UNIQUE)")
        await conn.begin()
        await conn.execute("PUBLISH TO t {}")
        await conn.execute("INSERT INTO own VALUES (1)")
        # An error undoes its statement; what becomes of the rest is for the program to say.
        with pytest.raises(ConstraintFailed):
            await conn.execute("INSERT INTO own VALUES (1)")
        with pytest.raises(GeodeError, match=r"use tx\.publish"):
            await client.publish("t", 1)
        await conn.rollback()
        assert (await conn.rollback()).message == "there was no open transaction"
        await client.publish("t", 1)
        assert await count(client, "t") == 1
        assert (await conn.execute("SELECT count(*) FROM own")).scalar() == 0
        with pytest.raises(GqlError, match="no open transaction to COMMIT"):
            await conn.commit()


async def test_words_do_what_calls_do(target: str) -> None:
    async with Client(target) as client, client.connection() as conn:
        await conn.execute("BEGIN")
        assert conn.in_transaction
        with pytest.raises(GqlError, match="open already"):
            await conn.begin()
        await conn.execute("PUBLISH TO t {}")
        await conn.execute("COMMIT")
        assert not conn.in_transaction
        assert await count(client, "t") == 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TOPIC u",
        "DROP TOPIC t",
        "PURGE TOPIC t",
        "ALTER TOPIC t SET OPTIONS (max_retries: 1)",
        "SUBSCRIBE TO t",
        "COPY t FROM 'x.jsonl'",
        "COPY t TO 'x.jsonl'",
    ],
)
async def test_what_cannot_take_part_is_refused(target: str, statement: str) -> None:
    async with Client(target) as client, client.connection() as conn:
        await client.execute("CREATE TOPIC t")
        await conn.begin()
        await conn.execute("PUBLISH TO t {}")
        with pytest.raises(GqlError, match="cannot take part in a transaction"):
            await conn.execute(statement)
        await conn.commit()
        assert await count(client, "t") == 1


async def test_what_a_text_is(target: str) -> None:
    async with Client(target) as client, client.connection() as conn:
        await client.execute("CREATE TOPIC both")
        await client.execute('PUBLISH TO both {"a": 1}')
        assert (await conn.execute("SELECT count(*) FROM both")).scalar() == 1
        assert (await conn.execute("SELECT 1 + 1")).scalar() == 2
        await conn.execute('-- a comment\nCREATE TABLE "My Own" (a)')
        await conn.execute("/* another */ INSERT INTO \"My Own\" VALUES ('from both')")
        await conn.execute("REPLACE INTO [My Own] VALUES (2)")
        assert (await conn.execute("UPDATE `My Own` SET a = a")).message == "2 rows written"
        assert len(await conn.execute('SELECT * FROM (SELECT a FROM main."My Own")')) == 2
        assert len(await conn.execute("WITH x AS (SELECT 1) SELECT * FROM x")) == 1
        assert len(await conn.execute("VALUES (1), (2)")) == 2
        await conn.execute('INSERT OR IGNORE INTO "My Own" VALUES (3)')
        await conn.execute('CREATE VIEW seen AS SELECT a FROM "My Own"')
        assert len(await conn.execute("SELECT * FROM seen")) == 3
        await conn.begin()
        await conn.execute("CREATE TABLE fresh (a)")
        await conn.execute("INSERT INTO fresh VALUES (1)")
        assert (await conn.execute("SELECT a FROM fresh")).rows == [(1,)]
        await conn.rollback()
        # Now the name is that of a topic again.
        await conn.execute("INSERT INTO fresh (a) VALUES (1)")
        assert await count(client, "fresh") == 1
        with pytest.raises(GqlError, match="engine"):
            await conn.execute("DELETE FROM batches")
        with pytest.raises(GqlError, match="PRAGMA"):
            await conn.execute("PRAGMA journal_mode")
        with pytest.raises(GqlError, match="pass a dict"):
            await conn.execute("PUBLISH TO t {}", [1])
        with pytest.raises(GqlError, match="SUBSCRIBE"):
            await conn.execute("SUBSCRBE TO t")


async def test_a_statement_by_itself_is_all_or_nothing(target: str) -> None:
    async with Client(target) as client, client.connection() as conn:
        await conn.execute("CREATE TABLE own (a UNIQUE)")
        with pytest.raises(ConstraintFailed):
            await conn.execute("INSERT INTO own VALUES (1), (2), (1)")
        assert (await conn.execute("SELECT count(*) FROM own")).scalar() == 0
        await client.publish("t", 1)


async def test_leaving_it_open_is_said(target: str) -> None:
    async with Client(target) as client:
        with pytest.raises(GeodeError, match=r"rolled back: call commit\(\)"):
            async with client.connection() as conn:
                await conn.begin()
                await conn.execute("PUBLISH TO t {}")
        with pytest.raises(ZeroDivisionError):
            async with client.connection() as conn:
                await conn.begin()
                await conn.execute("PUBLISH TO t {}")
                raise ZeroDivisionError
        assert [topic.name for topic in await client._broker.topics()] == []
        await client.publish("t", 1)


async def test_the_bound(target: str) -> None:
    async with Client(target) as client, client.connection(timeout=0.02) as conn:
        await conn.begin()
        with pytest.raises(TransactionAborted, match="longer than its bound"):
            await conn.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")
        with pytest.raises(TransactionAborted, match="longer than its bound"):
            await conn.execute("PUBLISH TO t {}")
        with pytest.raises(TransactionAborted, match="longer than its bound"):
            await conn.commit()
        await client.publish("t", 1)


async def test_the_snippet_of_the_specification(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is written there: the graph statement belongs to another product, and the transaction is rolled back."""
    monkeypatch.setenv("GEODE_URL", str(directory))
    seen: list[str] = []

    async def create_user(user_data: dict[str, str]) -> str:
        user_id = str(uuid.uuid4())
        async with geode_client.connection() as conn:
            await conn.begin()
            try:
                await conn.execute(
                    """
                    CREATE (u:User {id: $id, email: $email, created_at: datetime()})
                    """,
                    {"id": user_id, "email": user_data["email"]},
                )
                await conn.commit()
            except Exception:
                seen.append("rolled back")
                await conn.rollback()
                raise
        return user_id

    with pytest.raises(Unsupported, match="graph statement"):
        await create_user({"email": "a@b.c"})
    assert seen == ["rolled back"]


async def test_the_same_with_a_table(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEODE_URL", str(directory))
    async with geode_client.connection() as conn:
        await conn.begin()
        await conn.execute("CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT)")
        await conn.execute("INSERT INTO users VALUES ($id, $email)", {"id": "u1", "email": "a@b.c"})
        await conn.execute('PUBLISH TO user_events {"type": "USER_CREATED"}')
        await conn.commit()
    async with geode_client.connection(directory) as conn:
        assert (await conn.execute("SELECT id, email FROM users")).rows == [("u1", "a@b.c")]


async def test_execute_of_the_client_begins_nothing() -> None:
    async with Client(":memory:") as client:
        for word in ("BEGIN", "COMMIT", "ROLLBACK"):
            with pytest.raises(GqlError, match="other tasks"):
                await client.execute(word)


def test_without_await(directory: Path) -> None:
    with SyncClient(directory) as client, client.connection() as conn:
        conn.execute("CREATE TABLE own (a)")
        conn.begin()
        conn.execute("INSERT INTO own VALUES (1)")
        conn.execute("PUBLISH TO t {}")
        with pytest.raises(GeodeError, match=r"use tx\.publish"):
            client.publish("t", 4)
        conn.commit()
        assert not conn.in_transaction
        assert client.publish("t", 4).offset == 1
