"""Golden scripts: each `golden/*.gql` runs on a new store, and what it prints is compared with `*.out`.

A line `--! fails` before a statement says that it fails; its error is part of the output.
"""

import asyncio
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from geode_client import Client, GeodeError
from geode_client.broker import Broker
from geode_client.client import wrap_broker
from geode_client.grammar.parser import parse_script
from geode_client.grammar.scan import pieces
from geode_client.grammar.source import Source
from geode_client.query.script import Listener, Script
from geode_client.repl.render import Format, output_for

FAILS = "--! fails"
SCRIPTS = sorted((Path(__file__).parent / "golden").glob("*.gql"))


def steady(text: str) -> str:
    """What differs from run to run, made the same."""
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?", "<time>", text)
    text = re.sub(r"\b[0-9a-f]{12}-(\d+-\d+-\d+)\b", r"<store>-\1", text)
    text = re.sub(r"(│ +\d+ │ +\d+ │) +\d+\.\d+ │", r"\1 <milliseconds> │", text)
    return re.sub(r"\b[0-9a-f]{16}\b", "<subscriber>", text)


def statements_of(path: Path) -> list[tuple[str, bool]]:
    """Texts of the statements, and whether each is to fail."""
    source = Source(path.read_text(encoding="utf-8"), path.name)
    texts: list[str] = []
    for piece in pieces(source):
        text = source.text[piece.start : piece.end].strip()
        # What stands between BEGIN and COMMIT is one script.
        if texts and texts[-1].startswith("BEGIN") and not texts[-1].endswith(("COMMIT", "ROLLBACK")):
            texts[-1] += f";\n{text}"
        else:
            texts.append(text)
    return [(text.removeprefix(FAILS).strip(), text.startswith(FAILS)) for text in texts]


async def transcript(path: Path, directory: Path, wrap: Callable[[Broker], Broker] | None = None) -> str:
    stream = io.StringIO()
    output = output_for(Format.TABLE, stream, width=160)
    listener = Listener(
        on_result=lambda _, result: output.result(result),
        on_message=lambda _, message: output.message(message, label=""),
        on_end=output.ended,
    )
    made = Client(directory)
    if wrap is not None:
        wrap_broker(made, wrap)
    async with made as client:
        for text, fails in statements_of(path):
            stream.write(f"> {text}\n")
            try:
                # One statement at a time, so that errors do not end the rest; SUBSCRIBE lasts as long as its script.
                await Script(Source(text, path.name)).run(client._session, listener=listener)
                assert not fails, f"this should have failed: {text}"
            except GeodeError as error:
                assert fails, error.render()
                stream.write(error.render() + "\n")
    return steady(stream.getvalue())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_golden_script(
    path: Path, directory: Path, golden: Callable[[Path, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory.parent)  # where COPY writes
    golden(path.with_suffix(".out"), asyncio.run(transcript(path, directory)))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_golden_scripts_parse(path: Path) -> None:
    for text, fails in statements_of(path):
        if not fails:
            parse_script(text)


async def test_a_live_subscription_prints_what_later_statements_publish() -> None:
    told: list[str] = []
    script = Script(
        Source("""
        PUBLISH TO t {"n": 0};
        SUBSCRIBE TO t WHERE n > 0;
        PUBLISH TO t {"n": 1}, {"n": 0}, {"n": 2};
        SUBSCRIBE TO t FROM BEGINNING LIMIT 2;
        PUBLISH TO t {"n": 3};
        DROP TOPIC t;
        """)
    )
    listener = Listener(
        on_result=lambda statement, _: told.append(type(statement).__name__),
        on_message=lambda subscription, message: told.append(f"{message['n']}"),
        on_end=lambda subscription, note: told.append(f"end {subscription.received} {note}"),
    )
    async with Client(":memory:") as client:
        await script.run(client._session, listener=listener)
    assert told == [
        *["Publish", "Subscribe", "1", "2", "Publish", "0", "1", "Subscribe", "3", "Publish", "DropTopic"],
        *["end 3 its topic was dropped", "end 2 None"],
    ]


async def test_a_subscription_with_timeout_is_waited_for() -> None:
    told: list[int] = []
    script = Script(Source("SUBSCRIBE TO t TIMEOUT '200ms';"))
    async with Client(":memory:") as client:
        running = asyncio.create_task(
            script.run(client._session, listener=Listener(on_message=lambda _, message: told.append(message.data)))
        )
        while not await client.query("SELECT 1 FROM SYSTEM.subscribers"):
            await asyncio.sleep(0)
        await client.publish("t", 5)
        await running
    assert told == [5]


async def test_a_script_is_parsed_whole_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "broken.gql"
    path.write_text("CREATE TOPIC t;\nPUBLISH TO t {'a': 1};", encoding="utf-8")
    async with Client(":memory:") as client:
        with pytest.raises(GeodeError) as caught:
            await client.run_script(path)
        assert f"{path}:2:15" in caught.value.render()
        assert len(await client.query("SHOW TOPICS")) == 0


async def test_run_script_gives_a_result_a_statement(tmp_path: Path) -> None:
    path = tmp_path / "fine.gql"
    path.write_text('PUBLISH TO t {"n": $n}; SELECT n FROM t; SUBSCRIBE TO t FROM BEGINNING;', encoding="utf-8")
    async with Client(":memory:") as client:
        results = await client.run_script(path, {"n": 7})
        assert results[1].scalar() == 7
        with pytest.raises(GeodeError, match="No such file"):
            await client.run_script(tmp_path / "missing.gql")
