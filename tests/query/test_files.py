"""COPY with files as people have them: formats, compression, encodings, patterns, and input that is wrong."""

import asyncio
import gzip
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from query.reading import read_back
from reading import next_of
from settings import long_rounds

from geode_client import Client, GeodeError
from geode_client.query.csv_files import CsvOptions
from geode_client.query.exporting import CsvWriter, WriteOptions, as_columns
from geode_client.query.json_files import JsonDocuments
from geode_client.query.records import RECORD_BYTES_MAX

WEBHOOK = {
    "action": "opened",
    "issue": {"number": 7, "title": "It's “broken”", "labels": [{"name": "bug"}, {"name": "001"}], "body": None},
    "sender": {"login": "ada", "site_admin": False},
}
QUEUE_EVENT = {
    "Records": [
        {
            "messageId": "19dd0b57-b21e-4ac1-bd88-01bbb068cb78",
            "body": '{"order": 5}',
            "attributes": {"SentTimestamp": "1523232000000", "ApproximateReceiveCount": "1"},
            "eventSource": "aws:sqs",
        }
    ]
}
BUCKET_EVENT = {
    "Records": [{"eventVersion": "2.1", "s3": {"object": {"key": "a b/ü.txt", "size": 1024}}, "ratio": 0.1}]
}
MESSAGES: list[Any] = [
    WEBHOOK,
    QUEUE_EVENT,
    BUCKET_EVENT,
    {"n": 1, "zip": "00501", "empty": "", "ok": True, "code": "1E5"},
]


async def all_of(client: Client, topic: str) -> list[Any]:
    return [message.data async for message in client.subscribe(topic, from_beginning=True)]


async def refused(client: Client, statement: str) -> str:
    """The error of a COPY FROM into t, of which nothing was stored."""
    with pytest.raises(GeodeError) as caught:
        await client.execute(statement)
    assert (await client.query("SELECT count(*) FROM t")).scalar() == 0
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["m.jsonl", "m.json", "m.ndjson", "m.jsonl.gz", "m.json.gz", "m.jsonl.zst", "m.json.zst"]
)
async def test_json_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    async with Client(":memory:") as client:
        await client.publish_batch("t", [*MESSAGES, [1, 2], "text", 5, None])
        await client.execute(f"COPY t TO '{tmp_path / name}'")
        await client.execute(f"COPY u FROM '{tmp_path / name}'")
        assert await all_of(client, "u") == await all_of(client, "t")


@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.csv.gz", "m.csv.zst"])
async def test_csv_with_quoted_text_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    texts = [
        "",
        "1",
        "true",
        "007",
        "{}",
        "[1]",
        '"q"',
        "a,b\tc",
        "two\nlines",
        "it's",
        " x ",
        "-5",
        "=1+1",
        "\r",
        "2026-01-01",
    ]
    bodies: list[Any] = [{"v": text, "n": place} for place, text in enumerate(texts)]
    bodies += [{"v": value, "n": 0} for value in (1, 0.5, True, [1, "a"], {"x": None}, {"y": [""]})]
    bodies += [{"n": 1}, {"only": ""}, *MESSAGES[1:]]
    async with Client(":memory:") as client:
        await client.publish_batch("t", bodies)
        await client.execute(f"COPY t TO '{tmp_path / name}' WITH OPTIONS (quoted: 'text')")
        # Cells of different kinds in one column are text only where all of them are; ANY takes each by itself.
        await client.execute(f"COPY u FROM '{tmp_path / name}' WITH OPTIONS (quoted: 'text', types: (v: ANY))")
        found = await all_of(client, "u")
        assert [body.get("n") for body in found] == [body.get("n") for body in bodies]
        assert found[len(texts) :] == bodies[len(texts) :]


names = st.sampled_from(("a", "b b", 'c"'))
values = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6), st.just(""), st.just("{}")
)


@long_rounds(40)
@given(rows=st.lists(st.dictionaries(names, st.one_of(values, st.lists(values, max_size=2))), min_size=1, max_size=6))
def test_text_and_arrays_come_back_through_quotes(rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        return
    writer = CsvWriter(columns, WriteOptions(quoted_text=True))
    text = writer.header() + writer.rows(as_columns(rows, columns))
    assert read_back(text, CsvOptions(header=True, delimiter=",", quote='"', quoted_text=True)) == rows


@long_rounds(60)
@given(data=st.data())
def test_documents_are_cut_wherever_the_pieces_end(data: st.DataObject) -> None:
    json_values = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just('"\\[{')),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    )
    wanted = data.draw(st.lists(json_values, max_size=4))
    indent = data.draw(st.sampled_from((None, 2)))
    if data.draw(st.booleans()):
        text = json.dumps(wanted, indent=indent, ensure_ascii=False)
    else:
        wanted = [value for value in wanted if not isinstance(value, list)]
        text = "\n".join(json.dumps(value, indent=indent) for value in wanted)
    raw = text.encode("utf-8", "surrogatepass")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if a < b]

    class Source:
        def read(self) -> bytes:
            return pieces.pop(0) if pieces else b""

    reader = JsonDocuments(Source())  # type: ignore[arg-type]
    raws = [record.raw for record in reader.records() if record is not None]
    assert reader.checked(raws)[1] == wanted if raws else wanted == []


async def test_parquet_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    async with Client(":memory:") as client:
        await client.execute("CREATE TOPIC t SCHEMA (id INT, amount DECIMAL, at TIMESTAMP)")
        bodies = [
            {"id": n, "amount": n + 1, "at": "2026-01-01T00:00:00Z", "tags": ["a"], "f": 0.5} for n in range(3000)
        ]
        await client.publish_batch("t", bodies)
        for name in ("m.parquet", "m.parquet.gz"):
            await client.execute(f"COPY t TO '{tmp_path / name}'")
            await client.execute("DROP TOPIC IF EXISTS u")
            done = await client.execute(f"COPY u FROM '{tmp_path / name}'")
            assert await all_of(client, "u") == bodies
            assert "at timestamp" in done.notices[0]


async def test_patterns_take_all_files_in_their_order(tmp_path: Path) -> None:
    for number in (2, 1, 3):
        (tmp_path / f"part-{number}.jsonl").write_text(f'{{"n": {number}}}\n')
    async with Client(":memory:") as client:
        await client.execute(f"COPY t FROM '{tmp_path}/part-*.jsonl'")
        assert [body["n"] for body in await all_of(client, "t")] == [1, 2, 3]
        with pytest.raises(GeodeError, match="no file matches"):
            await client.execute(f"COPY t FROM '{tmp_path}/none-*.jsonl'")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "iata,zip,n,d,x\n0E0,00501,1,2026-01-01,NaN\n0E8,10001,.5,2026-02-01,1\n",
            "iata STRING, zip STRING, n FLOAT, d DATE, x FLOAT",
        ),
        (",a,a\n0,x,y\n", "column1 INT, a STRING, a_2 STRING"),
        ("a;b\n1;true\n", "(delimiter ';'): a INT, b BOOL"),
        ("1,Rome\n2,Oslo\n", "(no header): column1 INT, column2 STRING"),
        ("country,1990,1991\nA,1,2\nB,3,4\n", "columns: country STRING, 1990 INT, 1991 INT"),
        ("a|b\n'x|y'|'z'\n'p'|'q'\n", "(delimiter '|', quote '): a STRING, b STRING"),
        ("phone,j,e\n+49,[1],1e-05\n030,{},2\n", "phone STRING, j JSON, e FLOAT"),
        ("big\n123456789012345678901234567890123456789\n", "big STRING"),
        ("t\n2026-01-01 10:00:00\n2026-01-02\n", "t TIMESTAMP"),
    ],
)
async def test_what_is_found_of_a_csv_file_is_said(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    async with Client(":memory:") as client:
        done = await client.execute(f"COPY t FROM '{tmp_path / 'c.csv'}'")
        assert says in done.notices[0]


async def test_a_column_has_one_type_also_beyond_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geode_client.query.csv_files.SAMPLE_BYTES", 1000)
    monkeypatch.setattr("geode_client.query.inputs.PIECE_BYTES", 100)
    path = tmp_path / "c.csv"
    path.write_text("n\n" + "1\n" * 2000 + "x\n")
    async with Client(":memory:") as client:
        with pytest.raises(GeodeError, match=r"c\.csv:2002: at /n: 'x' is not of the type INT .* types: \(n: STRING\)"):
            await client.execute(f"COPY t FROM '{path}'")
        await client.execute("DROP TOPIC t")
        await client.execute(f"COPY t FROM '{path}' WITH OPTIONS (types: (n: STRING))")
        assert {type(body["n"]) for body in await all_of(client, "t")} == {str}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-16-le", "utf-32"])
async def test_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "c.csv").write_bytes("name,n\nÄpfel,1\n".encode(encoding))
    (tmp_path / "c.json").write_bytes('[{"name": "Äpfel", "n": 1}]'.encode(encoding))
    async with Client(":memory:") as client:
        for name in ("c.csv", "c.json"):
            await client.execute(f"COPY t FROM '{tmp_path / name}'")
        assert await all_of(client, "t") == [{"name": "Äpfel", "n": 1}] * 2


async def test_another_encoding_is_named_or_given(tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        for name, text in (("c.csv", "name\nx\nÄpfel\n"), ("c.jsonl", '{"name": "x"}\n\n{"name": "Äpfel"}\n')):
            (tmp_path / name).write_bytes(text.encode("latin-1"))
            said = await refused(client, f"COPY t FROM '{tmp_path / name}'")
            assert f"{name}:3: not UTF-8 text" in said
            assert "latin-1" in said
        for name in ("c.csv", "c.jsonl"):
            await client.execute(f"COPY t FROM '{tmp_path / name}' WITH OPTIONS (encoding: 'latin-1')")
        assert [body["name"] for body in await all_of(client, "t")] == ["x", "Äpfel"] * 2


async def test_files_that_are_cut_off(tmp_path: Path) -> None:
    lines = b"".join(b'{"n": %d, "text": "%s"}\n' % (n, os.urandom(20).hex().encode()) for n in range(900))
    array = b"[" + lines[:-1].replace(b"\n", b",\n") + b"]"
    files = {
        "a.jsonl": (lines[:-10], ":900: not valid JSON"),
        "b.json": (array[: len(array) // 2], "the array that begins in line 1 has no end"),
        "b2.json": (array[: array.rindex(b",\n") + 1], "the array that begins in line 1 has no end"),
        "c.jsonl.gz": (gzip.compress(lines)[:-2000], "the gzip data ends in the middle"),
        "d.jsonl.zst": (zstandard.compress(lines)[:-2000], "the zstd data ends in the middle"),
        "e.csv": (b'a,b\n1,2\n3,"x\n', ":3: not valid CSV: unexpected end of data"),
        "f.csv.gz": (gzip.compress(b"a,b\n" + b"1,2\n" * 100)[:-9], "the gzip data ends in the middle"),
        "g.parquet": (b"PAR1" + bytes(100), "not valid Parquet"),
        "h.json.gz": (b"plain", "not gzip data"),
        "i.jsonl.gz": (gzip.compress(lines)[:50] + bytes(100), "gzip data"),
    }
    async with Client(":memory:") as client:
        for name, (data, says) in files.items():
            (tmp_path / name).write_bytes(data)
            said = await refused(client, f"COPY t FROM '{tmp_path / name}'")
            assert str(tmp_path / name) in said
            assert says in said, said


async def test_bounds(tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        path = tmp_path / "long"
        for ending in (".jsonl", ".csv", ".json"):
            with path.with_suffix(ending).open("wb") as stream:
                stream.write(b'{"a": 1}\n' if ending == ".jsonl" else b"[" if ending == ".json" else b"a\n1\n")
                stream.write(b'"' + b"x" * (100 * 1024 * 1024))
            said = await refused(client, f"COPY t FROM '{path.with_suffix(ending)}'")
            place = {".jsonl": ":2: the line", ".csv": ":3: ", ".json": ":1: the value"}[ending]
            assert place in said, said
            assert "64 MiB" in said or str(RECORD_BYTES_MAX) in said
            path.with_suffix(ending).unlink()
        bomb = tmp_path / "bomb.jsonl.gz"
        bomb.write_bytes(gzip.compress(b"\n" * 200_000_000, 1))
        assert "decompression bomb" in await refused(client, f"COPY t FROM '{bomb}'")
        wide = tmp_path / "wide.csv"
        wide.write_text(",".join(f"c{n}" for n in range(1_000_000)) + "\n" + ",".join("1" * 1_000_000) + "\n")
        assert ":1: the file has 1,000,000 columns, more than the 10,000" in await refused(
            client, f"COPY t FROM '{wide}'"
        )
        assert "is a directory" in await refused(client, f"COPY t FROM '{tmp_path}' WITH OPTIONS (format: 'csv')")
        await client.publish("t", 1)
        with pytest.raises(GeodeError, match="is a directory"):
            await client.execute(f"COPY t TO '{tmp_path}' WITH OPTIONS (format: 'csv')")


async def test_deep_json_is_an_error_with_a_place(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[1,\n" + "[" * 200_000 + "]" * 200_000 + "]")
    async with Client(":memory:") as client:
        assert "deep.json:2: not valid JSON: nested too deeply" in await refused(
            client, f"COPY t FROM '{tmp_path}/deep.json'"
        )


async def test_a_pipe_gives_its_lines_as_they_come_and_may_close(tmp_path: Path) -> None:
    pipe = tmp_path / "p.jsonl"
    os.mkfifo(pipe)
    stored, close = threading.Event(), threading.Event()

    def write() -> None:
        with pipe.open("wb", buffering=0) as stream:
            stream.write(b'{"n": 1}\n{"n": 2}\n{"n"')
            stored.wait(60)
        close.set()

    async with Client(":memory:") as client:
        writer = threading.Thread(target=write)
        writer.start()
        copying = asyncio.ensure_future(client.execute(f"COPY t FROM '{pipe}'"))
        async with client.subscribe("t", from_beginning=True, follow=True) as subscription:
            assert [(await next_of(subscription, timeout=60))["n"] for _ in range(2)] == [1, 2]
        stored.set()
        with pytest.raises(GeodeError, match=r"p\.jsonl:3: not valid JSON.*2 messages were stored before"):
            await copying
        writer.join()


async def test_a_copy_from_a_pipe_without_a_writer_can_be_cancelled(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.csv")
    async with Client(":memory:") as client:
        copying = asyncio.ensure_future(client.execute(f"COPY t FROM '{tmp_path / 'p.csv'}'"))
        while not (await client.query("SELECT count(*) FROM SYSTEM.topics")).scalar():
            await asyncio.sleep(0)
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying


async def test_keys_ids_and_times_by_path(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(
        '{"user": {"id": "u1"}, "event.id": "e1", "at": 1767225600}\n{"user": {"id": 7}, "event.id": "e2", "at": "1767225601"}\n'
    )
    options = "key_field: 'user.id', id_field: 'event.id', timestamp_field: 'at', timestamp_format: 'seconds'"
    async with Client(":memory:") as client:
        await client.execute(f"COPY t FROM '{path}' WITH OPTIONS ({options})")
        again = await client.execute(f"COPY t FROM '{path}' WITH OPTIONS ({options})")
        assert again.message is not None
        assert "2 known already" in again.message
        found = await client.query("SELECT _key, _id, _timestamp FROM t ORDER BY _offset")
        assert found.rows == [
            ("u1", "e1", datetime(2026, 1, 1, tzinfo=UTC)),
            ("7", "e2", datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ]
        newer = "SELECT count(*) FROM t WHERE _timestamp > TIMESTAMP '2026-01-01T00:00:00Z'"
        assert (await client.query(newer)).scalar() == 1
        assert (await client.query("SELECT count(*) FROM t WHERE _timestamp > NOW() - INTERVAL '1 hour'")).scalar() == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("key_field: 'nosuch'", ":1: no field nosuch, which key_field names"),
        ("key_field: 'user.name'", ":1: null in field user.name"),
        ("key_field: 'user'", ":1: field user, which key_field names, must be text"),
        ("timestamp_field: 'n'", "timestamp_format: 'seconds'"),
        ("timestamp_field: 'later'", "is in the future"),
        ("timestamp_field: 'day'", "is not a time in the format ISO 8601"),
    ],
)
async def test_a_field_that_is_missing_or_wrong(tmp_path: Path, options: str, says: str) -> None:
    (tmp_path / "e.jsonl").write_text('{"user": {"name": null}, "n": 5, "later": "9999-01-01", "day": "31/01/2026"}\n')
    async with Client(":memory:") as client:
        assert says in await refused(client, f"COPY t FROM '{tmp_path}/e.jsonl' WITH OPTIONS ({options})")


async def test_bad_records_are_skipped_counted_and_put_aside(tmp_path: Path) -> None:
    lines = [f'{{"n": {n}}}' if n % 3 else f'{{"n": "{n}"}}' for n in range(30)]
    lines[1], lines[4] = "{", '{"n": 4, "big": "' + "x" * 3000 + '"}'
    (tmp_path / "e.jsonl").write_text("\n".join(lines))
    async with Client(":memory:") as client:
        await client.execute("CREATE TOPIC t SCHEMA (n INT) WITH OPTIONS (max_message_bytes: 2000)")
        options = f"on_error: 'skip', error_file: '{tmp_path / 'bad.jsonl'}', error_topic: 'bad', batch_size: 7"
        done = await client.execute(f"COPY t FROM '{tmp_path / 'e.jsonl'}' WITH OPTIONS ({options})")
        assert done.message is not None
        assert done.message.startswith("18 messages")
        assert "12 skipped" in done.message
        bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
        assert [one["line"] for one in bad] == [1, 2, 4, 5, 7, 10, 13, 16, 19, 22, 25, 28]
        assert bad == await all_of(client, "bad")
        assert bad[1]["error"].startswith("not valid JSON")
        assert bad[2]["record"] == '{"n": "3"}'


async def test_formulas_can_be_made_harmless(tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        await client.publish_batch("t", [{"v": text} for text in ("=1+1", "+49", "-5", "@x", "ok", -5)])
        await client.execute(f"COPY t TO '{tmp_path / 'o.csv'}' WITH OPTIONS (escape_formulas: true)")
        assert (tmp_path / "o.csv").read_text() == "v\n'=1+1\n'+49\n'-5\n'@x\nok\n-5\n"


async def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    async with Client(":memory:") as client:
        for options, says in (
            ("types: (a: STRING)", "types is an option of CSV files, and this one is jsonl"),
            ("error_file: 'x'", "error_file needs on_error: 'skip'"),
            ("timestamp_format: 'seconds'", "timestamp_format needs timestamp_field"),
            ("format: 'cvs'", "did you mean csv?"),
            ("encoding: 'utf-9'", "unknown encoding 'utf-9'"),
            ("types: 'x'", "columns with their types are needed"),
        ):
            with pytest.raises(GeodeError) as caught:
                await client.execute(f"COPY t FROM 'x.jsonl' WITH OPTIONS ({options})")
            assert says in str(caught.value)


async def test_digits_are_kept(tmp_path: Path) -> None:
    text = '{"d":0.123456789012345678901234567890,"i":123456789012345678901234567890}'
    (tmp_path / "d.jsonl").write_text(text)
    async with Client(":memory:") as client:
        await client.execute(f"COPY t FROM '{tmp_path / 'd.jsonl'}'")
        await client.execute(f"COPY t TO '{tmp_path / 'o.json'}'")
        await client.execute(f"COPY t TO '{tmp_path / 'o.csv'}'")
        assert text in (tmp_path / "o.json").read_text()
        assert "0.123456789012345678901234567890," in (tmp_path / "o.csv").read_text()


DIGITS = "0.123456789012345678901234567890"
NESTED_DECIMALS = (
    ("DECIMAL", (DIGITS, "123456789012345678901234567890", "-0.10", "7")),
    (
        "LIST<DECIMAL>",
        (f"[{DIGITS},1]", "[123456789012345678901234567890]", "[]", "[-12345678901234567890.0123456789]"),
    ),
    ("STRUCT<m: DECIMAL, f: FLOAT, w: INT>", (f'{{"m":{DIGITS},"f":0.5,"w":3}}', '{"m":2,"f":1.5,"w":4}')),
    ("MAP<STRING, DECIMAL>", (f'{{"a":{DIGITS},"b":1}}', '{"a":12,"b":0.5}')),
    ("LIST<STRUCT<m: DECIMAL, at: TIMESTAMP>>", (f'[{{"m":{DIGITS},"at":"2026-01-01T00:00:00Z"}}]', "[]")),
    ("LIST<LIST<DECIMAL>>", (f"[[{DIGITS}],[1,2]]", "[[3]]")),
    ("STRUCT<m: DECIMAL, u: LIST<UUID>>", (f'{{"m":{DIGITS},"u":["6f1c2f70-7a0f-4b3a-9f3e-0c2b7c1e9a11"]}}',)),
)


@pytest.mark.parametrize("name", ["m.jsonl", "m.json", "m.csv", "m.tsv", "m.csv.gz", "m.parquet"])
@pytest.mark.parametrize("source", ["t", "(SELECT id, d FROM t ORDER BY id)"])
@pytest.mark.parametrize(("kind", "values"), NESTED_DECIMALS)
async def test_decimals_come_back_with_all_their_digits(
    tmp_path: Path, kind: str, values: tuple[str, ...], source: str, name: str
) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    lines = "".join(f'{{"id":{number},"d":{value}}}\n' for number, value in enumerate(values))
    (tmp_path / "given.jsonl").write_text(lines)
    async with Client(":memory:") as client:
        for topic in ("t", "u"):
            await client.execute(f"CREATE TOPIC {topic} SCHEMA (id INT, d {kind})")
        await client.execute(f"COPY t FROM '{tmp_path / 'given.jsonl'}'")
        await client.execute(f"COPY {source} TO '{tmp_path / name}'")
        await client.execute(f"COPY u FROM '{tmp_path / name}'")
        given, found = [(await client.query(f"SELECT id, d FROM {topic} ORDER BY id")).rows for topic in ("t", "u")]
        assert DIGITS in lines
        assert found == given
        # Whatever the values compare as, the text has the digits.
        await client.execute(f"COPY u TO '{tmp_path / 'found.jsonl'}'")
        assert DIGITS in (tmp_path / "found.jsonl").read_text()


async def test_columns_of_wider_and_wider_decimals_are_written_to_parquet(tmp_path: Path) -> None:
    """The type of a column is found batch by batch; the widest one holds for all."""
    pytest.importorskip("pyarrow")
    texts = [*(f"[{n}.5]" for n in range(1500)), f"[{DIGITS}]", "[12345678901234567890]"]
    (tmp_path / "given.jsonl").write_text("".join(f'{{"d":{text}}}\n' for text in texts))
    async with Client(":memory:") as client:
        for topic in ("t", "u"):
            await client.execute(f"CREATE TOPIC {topic} SCHEMA (d LIST<DECIMAL>)")
        await client.execute(f"COPY t FROM '{tmp_path / 'given.jsonl'}'")
        await client.execute(f"COPY t TO '{tmp_path / 'd.parquet'}'")
        await client.execute(f"COPY u FROM '{tmp_path / 'd.parquet'}'")
        given, found = [(await client.query(f"SELECT d FROM {topic} ORDER BY _offset")).rows for topic in ("t", "u")]
        assert found == given
        assert len(found) == len(texts)


async def test_json_in_cells_keeps_its_digits_where_nothing_is_declared(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f'd,e\n"{{""x"":{DIGITS}}}",[1e400]\n')
    async with Client(":memory:") as client:
        await client.execute(f"COPY t FROM '{tmp_path / 'm.csv'}'")
        await client.execute(f"COPY t TO '{tmp_path / 'm.jsonl'}'")
        text = (tmp_path / "m.jsonl").read_text()
        assert f'{{"x":{DIGITS}}}' in text
        assert '"[1e400]"' in text, "a number that no message can hold makes the cell text"


async def test_the_loop_runs_while_a_copy_runs(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("a,b\n" + "".join(f"{n},text {n}\n" for n in range(50_000)))
    async with Client(":memory:") as client:
        copying = asyncio.ensure_future(client.execute(f"COPY t FROM '{tmp_path / 'm.csv'}'"))
        turns = 0
        while not copying.done():
            turns += 1
            await asyncio.sleep(0.001)
        assert turns > 20
        assert (await client.query("SELECT count(*), sum(a) FROM t")).rows == [(50_000, sum(range(50_000)))]
