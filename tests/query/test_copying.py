"""COPY with CSV files: there and back, cells and types, and every bad line named by its number."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from query.reading import read_back
from settings import long_rounds

from geode_client import Client, GeodeError
from geode_client.grammar.ast import ListType, Scalar
from geode_client.query.csv_files import CsvOptions
from geode_client.query.exporting import CsvWriter, WriteOptions, as_columns

SCHEMA = (
    "CREATE TOPIC t SCHEMA (id STRING, n INT, total DECIMAL, f FLOAT, ok BOOL, at TIMESTAMP, tags LIST<STRING>,"
    " rest STRUCT<a: INT>, note STRING DEFAULT 'none')"
)


async def loaded(client: Client, path: Path, text: str, options: str = "") -> list[Any]:
    path.write_text(text, encoding="utf-8", newline="")
    await client.execute(f"COPY t FROM '{path}'{options}")
    return [message.data async for message in client.subscribe("t", from_beginning=True)]


async def test_cells_become_what_their_columns_are(tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        await client.execute(SCHEMA)
        text = (
            "\ufeffid,n,total,f,ok,at,tags,rest,extra\r\n"
            '007,5,1.10,2,TRUE,2026-01-01T00:00:00Z,"[""x"",""y""]","{""a"":1}",3\r\n'
            "\r\n"
            '"a ""quoted"", word",,,,false,,,,\r\n'
            '"two\nlines",,,,,,,,+49\r\n'
        )
        found = await loaded(client, tmp_path / "in.csv", text)
        assert found == [
            {
                "id": "007",
                "n": 5,
                "total": 1.10,
                "f": 2,
                "ok": True,
                "at": "2026-01-01T00:00:00Z",
                "tags": ["x", "y"],
                "rest": {"a": 1},
                "extra": "3",
                "note": "none",
            },
            {"id": 'a "quoted", word', "ok": False, "note": "none"},
            {"id": "two\nlines", "extra": "+49", "note": "none"},
        ]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", {"a": 1, "b": "01", "c": True, "d": [1], "e": -2.5e3, "g": "x y"}),
        (" WITH OPTIONS (infer: false)", {"a": "1", "b": "01", "c": "true", "d": "[1]", "e": "-2.5e3", "g": "x y"}),
        (" WITH OPTIONS (null: 'x y')", {"a": 1, "b": "01", "c": True, "d": [1], "e": -2.5e3, "f": ""}),
    ],
)
async def test_cells_without_a_type(tmp_path: Path, options: str, wanted: dict[str, Any]) -> None:
    async with Client(":memory:") as client:
        found = await loaded(client, tmp_path / "in.csv", "a,b,c,d,e,f,g\n1,01,true,[1],-2.5e3,,x y\n", options)
        assert found == [wanted]


async def test_another_delimiter_and_a_key(tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        options = " WITH OPTIONS (delimiter: ';', key_field: 'id', batch_size: 1)"
        await loaded(client, tmp_path / "in.csv", "id;text\n1;a,b\n2;c\n", options)
        found = await client.query("SELECT _key, text FROM t")
        assert found.rows == [("1", "a,b"), ("2", "c")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n1,2,3\n", ":3: the row has 3 cells; the header has 2 (lines 2 to 3 were not stored)"),
        ("a,b\n1\n", ":2: the row has 1 cell; the header has 2"),
        ('a,b\n1,2\n"x\ny",1\n1\n', ":5: the row has 1 cell"),
        ('a,b\n1,"x', ":2: not valid CSV: unexpected end of data"),
        ('a,b\n1,"x"y\n', ":2: not valid CSV: ',' expected after '\"'"),
        ("n\n1\nx\n", ':3: at /n: expected INT, found "x" (lines 2 to 3 were not stored)'),
        ("n\n1.5\n", ":2: at /n: expected INT, found 1.5"),
        ("ok\nyes\n", ":2: at /ok: expected BOOL"),
        ("at\nnever\n", ":2: at /at: expected TIMESTAMP"),
        ("tags\n[1\n", ":2: at /tags: expected LIST<STRING>"),
    ],
)
async def test_a_bad_line_is_named_and_nothing_of_its_batch_is_stored(tmp_path: Path, text: str, says: str) -> None:
    async with Client(":memory:") as client:
        await client.execute(SCHEMA)
        path = tmp_path / "in.csv"
        with pytest.raises(GeodeError) as caught:
            await loaded(client, path, text)
        assert f"{path}{says}" in str(caught.value)
        assert (await client.query("SELECT count(*) FROM t")).scalar() == 0


async def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        path = tmp_path / "in.csv"
        path.write_bytes(b"a\nfine\n\xff\xfe\n")
        with pytest.raises(GeodeError, match=r"in\.csv:3: not UTF-8 text.*encoding"):
            await client.execute(f"COPY t FROM '{path}'")


async def test_batches_before_a_bad_line_stay(tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        path = tmp_path / "in.csv"
        path.write_text("n\n" + "".join(f"{n}\n" for n in range(25)) + "1,2\n", encoding="utf-8")
        with pytest.raises(
            GeodeError,
            match=r":27: the row has 2 cells; the header has 1 \(lines 22 to 27 were not stored; 20 messages were stored before\)",
        ):
            await client.execute(f"COPY t FROM '{path}' WITH OPTIONS (batch_size: 10)")
        assert (await client.query("SELECT count(*), max(n) FROM t")).rows == [(20, 19)]


async def test_options_that_are_wrong_are_said_so(tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        for options, says in (
            ("delimiter: ';;'", "one character is needed"),
            ("infer: 'no'", "true or false is needed"),
            ("delimter: ';'", "did you mean delimiter?"),
        ):
            with pytest.raises(GeodeError, match=says):
                await client.execute(f"COPY t FROM 'x.csv' WITH OPTIONS ({options})")
        with pytest.raises(GeodeError, match=r"x\.txt should end with \.jsonl, "):
            await client.execute("COPY t FROM 'x.txt'")


async def test_a_topic_becomes_a_file(tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        await client.execute("CREATE TOPIC t SCHEMA (id STRING, n INT)")
        await client.publish_batch(
            "t", [{"n": 1, "id": "a,b"}, {"id": 'q"', "deep": {"x": [1, None]}, "ok": True, "f": 0.5}]
        )
        told: list[tuple[int, int, int]] = []
        client._session.progress = lambda *how_far: told.append(how_far)
        done = await client.execute(f"COPY t TO '{tmp_path / 'out.csv'}'")
        text = (tmp_path / "out.csv").read_bytes()
        assert text.decode() == 'id,n,deep,ok,f\n"a,b",1,,,\n"q""",,"{""x"":[1,null]}",true,0.5\n'
        assert done.message is not None
        assert done.message.startswith(f"2 messages ({len(text)} bytes)")
        assert told == [(2, len(text), 0)]
        await client.execute(f"COPY u FROM '{tmp_path / 'out.csv'}'")
        assert told[-1] == (2, len(text), len(text))
        assert (await client.query("SELECT id, n, deep.x[0], ok, f FROM u")).rows == [
            ("a,b", 1, None, None, None),
            ('q"', None, 1, True, 0.5),
        ]


async def test_messages_that_are_no_objects_have_a_column(tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        await client.publish_batch("t", [{"a": 1}, 5, [1, 2], None])
        await client.execute(f"COPY t TO '{tmp_path / 'out.csv'}'")
        assert (tmp_path / "out.csv").read_text(encoding="utf-8") == 'a,value\n1,\n,5\n,"[1,2]"\n,\n'


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8),
    st.lists(st.integers(), max_size=2),
)


@long_rounds(40)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(("a", "b", "c d", 'e"')), cells, min_size=1), min_size=1, max_size=5)
)
def test_declared_columns_come_back(rows: list[dict[str, Any]]) -> None:
    """With types, every value but the empty text comes back as it was."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    for kind, accepts in (
        (Scalar("STRING"), str),
        (Scalar("INT"), int),
        (Scalar("FLOAT"), float),
        (Scalar("BOOL"), bool),
        (ListType(Scalar("INT")), list),
    ):
        writer = CsvWriter(names, WriteOptions())
        chosen = [
            {name: value for name, value in row.items() if type(value) is accepts and value != ""} for row in rows
        ]
        text = writer.header() + writer.rows(as_columns(chosen, names))
        found = read_back(text, CsvOptions(header=True), dict.fromkeys(names, kind))
        assert found == json.loads(json.dumps(chosen))
