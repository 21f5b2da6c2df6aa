"""BEGIN, COMMIT and ROLLBACK in scripts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from geode_client import Client, GqlError
from geode_client.grammar.source import Source
from geode_client.query.script import Listener, Script, ScriptError


async def run(client: Client, text: str) -> list[Any]:
    return [result.message for result in await Script(Source(text, "s.gql")).run(client._session)]


async def failing(client: Client, text: str) -> str:
    with pytest.raises(ScriptError) as caught:
        await run(client, text)
    return caught.value.render()


async def topics(client: Client) -> list[str]:
    return [topic.name for topic in await client._broker.topics()]


async def test_all_of_it_or_nothing() -> None:
    async with Client(":memory:") as client:
        told = await run(
            client,
            """
            PUBLISH TO a {"n": 0};
            BEGIN;
            PUBLISH TO a {"n": 1}, {"n": 2} WITH OPTIONS (key: 'k');
            INSERT INTO b (n) VALUES (3);
            COMMIT;
            BEGIN;
            PUBLISH TO c {"n": 4};
            ROLLBACK;
            BEGIN; COMMIT;
            """,
        )
        assert told[1:5] == [
            "transaction begun",
            "2 messages to a, stored at COMMIT",
            "1 message to b, stored at COMMIT",
            "committed: 3 messages published",
        ]
        assert told[7] == "rolled back: nothing was stored"
        assert told[-1] == "committed: 0 messages published"
        assert await topics(client) == ["a", "b"]


async def test_a_subscription_gets_it_at_the_commit() -> None:
    told: list[str] = []
    script = Script(Source("SUBSCRIBE TO t; BEGIN; PUBLISH TO t 1; PUBLISH TO t 2; COMMIT; PUBLISH TO t 3;"))
    listener = Listener(
        on_result=lambda statement, _: told.append(type(statement).__name__),
        on_message=lambda _, message: told.append(str(message.data)),
    )
    async with Client(":memory:") as client:
        await script.run(client._session, listener=listener)
    assert told == ["Subscribe", "Begin", "Publish", "Publish", "1", "2", "Commit", "3", "Publish"]


async def test_one_that_is_never_committed_is_rolled_back_and_named() -> None:
    async with Client(":memory:") as client:
        said = await failing(client, "PUBLISH TO a 1;\nBEGIN;\nPUBLISH TO b 1;")
        assert said.startswith("s.gql:2:1: the transaction that begins here is never committed: it was rolled back")
        assert "BEGIN;\n^^^^^" in said
        assert await topics(client) == ["a"]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("CREATE TOPIC x", "cannot take part in a transaction"),
        ("SUBSCRIBE TO a", "cannot take part in a transaction"),
        ("COPY a TO 'nowhere.jsonl'", "cannot take part in a transaction"),
        ("BEGIN", "a transaction is open already"),
        ("SELECT * FROM missing", "missing"),
        ('PUBLISH TO s {"n": "x"}', "expected INT"),
        ("ASSERT (SELECT count(*) FROM a) = 7", "assertion failed"),
    ],
)
async def test_an_error_inside_rolls_back_and_says_so(statement: str, says: str) -> None:
    async with Client(":memory:") as client:
        await run(client, "PUBLISH TO a 1; CREATE TOPIC s SCHEMA (n INT);")
        said = await failing(client, f"BEGIN;\nPUBLISH TO a 2;\n{statement};\nCOMMIT;")
        assert said.startswith("s.gql:3:")
        assert says in said
        assert "note: the transaction that began in line 1 was rolled back: nothing of it was stored" in said
        assert (await client.query("SELECT count(*) FROM a")).scalar() == 1


async def test_there_is_nothing_to_end() -> None:
    async with Client(":memory:") as client:
        for word in ("COMMIT", "ROLLBACK"):
            assert f"s.gql:1:1: there is no open transaction to {word}" in await failing(client, word)


async def test_looking_inside_says_what_is_not_seen() -> None:
    async with Client(":memory:") as client:
        await run(client, "PUBLISH TO a 1;")
        script = Script(
            Source("BEGIN; SELECT count(*) FROM a; PUBLISH TO a 2; SELECT count(*) FROM a; SHOW TOPICS; COMMIT")
        )
        results = await script.run(client._session)
        assert results[1].notices == ()
        assert (results[3].rows, "before COMMIT" in results[3].notices[0]) == ([(1,)], True)


async def test_two_scripts_do_not_meet(directory: Path) -> None:
    async with Client(directory) as client:
        first = client._session.exclusive()
        await first.execute("BEGIN")
        await first.execute("PUBLISH TO t 1")
        await run(client, "PUBLISH TO t 2; BEGIN; PUBLISH TO t 3; COMMIT")
        await first.execute("COMMIT")
        assert [m.data async for m in client.subscribe("t", from_beginning=True)] == [2, 3, 1]


def test_on_the_command_line(directory: Path) -> None:
    code = "from geode_client.repl.cli import main; main()"
    command = [sys.executable, "-c", code, "-t", str(directory), "--format", "table", "-c"]
    done = subprocess.run(
        [*command, "BEGIN; PUBLISH TO t {}; COMMIT"], capture_output=True, encoding="utf-8", check=True
    )
    assert "committed: 1 message published" in done.stdout
    failed = subprocess.run([*command, "BEGIN; PUBLISH TO t {}"], capture_output=True, encoding="utf-8", check=False)
    assert failed.returncode == 1
    assert "never committed" in failed.stderr
    assert "Traceback" not in failed.stderr
    seen = subprocess.run([*command, "SELECT count(*) AS n FROM t"], capture_output=True, encoding="utf-8", check=True)
    assert "1" in seen.stdout


async def test_the_session_of_a_shell_begins_one_and_the_client_goes_past_it() -> None:
    async with Client(":memory:") as client:
        for text in ("BEGIN", "PUBLISH TO t 1"):
            await client._session.execute(text)
        await client.execute("PUBLISH TO t 2")
        await client._session.execute("COMMIT")
        assert [m.data async for m in client.subscribe("t", from_beginning=True)] == [2, 1]
        await client._session.execute("BEGIN")
        with pytest.raises(GqlError, match="cannot take part") as caught:
            await client._session.execute("PURGE TOPIC t")
        assert "note: the transaction that began in line 1 was rolled back" in caught.value.render()
        with pytest.raises(GqlError, match="no open transaction"):
            await client._session.execute("COMMIT")
