"""The command `geode` as a person runs it: output, errors with their place, exit codes."""

import json
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from command import GEODE, geode, geode_process


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def test_statements_on_the_command_line(store: str) -> None:
    code, out, err = geode(
        "-t", store, "--format", "table", "-c", 'PUBLISH TO t {"n": 1}, {"n": 2}; SELECT n FROM t ORDER BY n DESC'
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "2 messages published to t"
    assert "│ 2 │" in out


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("jsonl", '{"n":1,"s":"a,b"}\n{"n":null,"s":"q\\"\\n"}\n'),
        ("csv", 'n,s\n1,"a,b"\n,"q""\n"\n'),
        ("json", '[{"n":1,"s":"a,b"},\n {"n":null,"s":"q\\"\\n"}]\n'),
        ("markdown", '| n | s |\n| --- | --- |\n| 1 | a,b |\n| NULL | q"\\\\n |\n'),
    ],
)
def test_formats_for_programs_hold_data_only(store: str, kind: str, wanted: str) -> None:
    statements = 'PUBLISH TO t {"n": 1, "s": "a,b"}, {"s": "q\\"\\n"}; SELECT n, s FROM t ORDER BY _offset'
    assert geode("-t", store, "--format", kind, "-c", statements)[:2] == (0, wanted)


def test_messages_in_formats_for_programs(store: str) -> None:
    statements = "SUBSCRIBE TO t; PUBLISH TO t {\"n\": [1]} WITH OPTIONS (key: 'k')"
    code, out, _ = geode("-t", store, "--format", "jsonl", "-c", statements)
    found = json.loads(out)
    assert code == 0
    assert (found["topic"], found["offset"], found["key"], found["data"]) == ("t", 0, "k", {"n": [1]})
    code, out, _ = geode("-t", store, "--format", "csv", "-c", "SUBSCRIBE TO t FROM BEGINNING")
    assert out.splitlines()[0] == "topic,partition,offset,id,timestamp,key,data"
    assert out.splitlines()[1].endswith(',k,"{""n"":[1]}"')


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("CREATE TOPIC a;\n  SUBSCRBE TO a;", "2:3", "SUBSCRIBE"),
        ("SHOW TOPICS;\nSELECT * FROM missing;", "2:15", "no topic missing"),
        ("SELECT nothing FROM SYSTEM.topics;", "1:8", "no column nothing"),
        ('PUBLISH TO t {"a": };', "1:20", "JSON"),
        ("ASSERT (SELECT 1) = 2;", "1:1", "found 1"),
        ("SELECT $x;", "1:8", "--param x="),
        ("COPY t FROM 'missing.jsonl';", "1:1", "No such file"),
    ],
)
def test_errors_have_a_place_and_an_exit_code(tmp_path: Path, store: str, text: str, place: str, says: str) -> None:
    path = tmp_path / "script.gql"
    path.write_text(text, encoding="utf-8")
    code, _, err = geode("-t", store, "run", str(path))
    assert code == 1
    assert f"{path}:{place}: " in err
    assert says in err
    assert "^" in err


def test_json_lines_where_a_program_reads(store: str) -> None:
    assert geode("-t", store, "-c", "SELECT 1 AS n; CREATE TOPIC t; SELECT 2 AS n;")[1] == '{"n":1}\n{"n":2}\n'
    assert geode("-t", store, "-c", "SELECT 1 AS n", GEODE_FORMAT="csv")[1] == '{"n":1}\n'


def test_a_script_goes_on_after_errors_where_that_is_wanted(tmp_path: Path, store: str) -> None:
    path = tmp_path / "script.gql"
    path.write_text(
        "CREATE TOPIC a;\nCREATE TOPIC a;\nSELCT 1;\nSELECT n FROM b;\nSELECT 1 AS done;\n", encoding="utf-8"
    )
    code, out, err = geode("-t", store, "run", "--continue-on-error", str(path))
    assert (code, out) == (1, '{"done":1}\n')
    for place in (":2:14: ", ":3:1: ", ":4:15: "):
        assert f"{path}{place}" in err


def test_scripts_run_scripts_beside_them(tmp_path: Path, store: str) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "outer.gql").write_text("SELECT 1 AS n;\n\\i inner/middle.gql\nSELECT 4 AS n;", encoding="utf-8")
    (tmp_path / "inner" / "middle.gql").write_text("-- first\n\\i last.gql;\nSELECT 3 AS n;\n", encoding="utf-8")
    (tmp_path / "inner" / "last.gql").write_text("SELECT 2 AS n", encoding="utf-8")
    code, out, _ = geode("-t", store, "run", str(tmp_path / "outer.gql"))
    assert (code, out) == (0, "".join(f'{{"n":{n}}}\n' for n in (1, 2, 3, 4)))
    (tmp_path / "inner" / "last.gql").write_text("\n  SELECT n FROM missing", encoding="utf-8")
    code, _, err = geode("-t", store, "run", str(tmp_path / "outer.gql"))
    assert code == 1
    assert f"{tmp_path / 'inner' / 'last.gql'}:2:17: there is no topic missing" in err
    (tmp_path / "inner" / "last.gql").write_text("\\i ../outer.gql", encoding="utf-8")
    code, _, err = geode("-t", store, "run", str(tmp_path / "outer.gql"))
    assert code == 1
    assert "last.gql:1:1: " in err
    assert "again and again" in err
    (tmp_path / "outer.gql").write_text("SELECT 1;\n\\i nothing.gql", encoding="utf-8")
    code, _, err = geode("-t", store, "run", str(tmp_path / "outer.gql"))
    assert code == 1
    assert "outer.gql:2:1: " in err


def test_a_script_stops_at_its_first_error(tmp_path: Path, store: str) -> None:
    path = tmp_path / "script.gql"
    path.write_text("CREATE TOPIC a; CREATE TOPIC a; CREATE TOPIC b;", encoding="utf-8")
    assert geode("-t", store, "run", str(path))[0] == 1
    _, out, _ = geode("-t", store, "--format", "csv", "-c", "SELECT topic_name FROM SYSTEM.topics")
    assert out == "topic_name\na\n"


def test_check_runs_nothing(tmp_path: Path, store: str) -> None:
    path = tmp_path / "script.gql"
    path.write_text('CREATE TOPIC a; PUBLISH TO a {"n": 1}; SELECT n FROM a;', encoding="utf-8")
    code, _, err = geode("-t", store, "run", "--check", str(path))
    assert (code, err) == (0, "3 statements\n")
    assert not Path(store).exists()
    path.write_text("CREATE TOPIC a;\nSELECT n FROM b;", encoding="utf-8")
    code, _, err = geode("-t", store, "run", "--check", str(path))
    assert code == 1
    assert ":2:15: there is no topic b" in err
    path.write_text("SELCT 1;\nCREATE TOPIC a;\nSELECT n FROM b;", encoding="utf-8")
    code, _, err = geode("-t", store, "run", "--check", str(path))
    assert code == 1
    assert ":1:1: " in err
    assert ":3:15: " in err
    assert err.endswith("3 statements, 2 errors\n")


def test_parameters(tmp_path: Path, store: str) -> None:
    path = tmp_path / "script.gql"
    path.write_text('PUBLISH TO t {"a": $a, "b": $b, "c": $c}; SELECT a, b, c FROM t WHERE a = $a;', encoding="utf-8")
    arguments = ("--param", "a=5", "--param", "b=x'; DROP TOPIC t; --", "--param", 'c=["q"]', "--format", "jsonl")
    code, out, _ = geode("-t", store, "run", str(path), *arguments)
    assert (code, json.loads(out)) == (0, {"a": 5, "b": "x'; DROP TOPIC t; --", "c": ["q"]})
    for wrong in ("a", "=5", "1a=5"):
        code, _, err = geode("-t", store, "run", str(path), "--param", wrong)
        assert code == 2
        assert "NAME=VALUE" in err


def test_wrong_command_lines(store: str) -> None:
    for arguments in (("rnu", "x"), ("--frmat", "csv"), ("--format", "xml", "-c", "SHOW TOPICS"), ("run",)):
        code, _, err = geode("-t", store, *arguments)
        assert code == 2
        assert "Usage" in err
    code, _, err = geode("-t", store, "run", "/no/such/file.gql")
    assert code == 1
    assert "No such file" in err


def test_help_and_version() -> None:
    out = geode("--help")[1]
    for name in ("run", "publish", "subscribe", "check", "backup", "restore", "fmt", "completion"):
        assert name in out
        assert "Examples:" in geode(name, "--help")[1]
    assert geode("--version")[1].startswith("geode, version ")


def test_scripts_come_from_standard_input(store: str) -> None:
    assert "topic a created" in geode("-t", store, "--format", "table", stdin="CREATE TOPIC a;")[1]
    assert "topic b created" in geode("-t", store, "run", "--format", "table", "-", stdin="CREATE TOPIC b;")[1]
    code, _, err = geode("-t", store, stdin="CREATE TOPC c;")
    assert code == 1
    assert "<stdin>:1:8: " in err


def test_the_target_comes_from_the_environment(tmp_path: Path) -> None:
    assert geode("-c", "CREATE TOPIC a", GEODE_URL=str(tmp_path / "named"))[0] == 0
    assert (tmp_path / "named" / "geode.db").exists()


def test_a_target_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for target, says in (
        (str(tmp_path / "file"), "is a file"),
        ("nats://localhost", "not built yet"),
        ("http://x", "unknown target"),
    ):
        code, _, err = geode("-t", target, "-c", "SHOW TOPICS")
        assert code == 1
        assert says in err


def test_messages_cannot_write_to_the_terminal(store: str) -> None:
    evil = '{"n": "\\u001b[2J\\u009b31m\\u202e"}'
    statements = f"SUBSCRIBE TO t; PUBLISH TO t {evil}; SELECT n FROM t"
    code, out, _ = geode("-t", store, "--format", "table", "-c", statements)
    assert code == 0
    assert not [
        character for character in out if ord(character) in (*range(32), *range(127, 160), 0x202E) and character != "\n"
    ]
    for kind in ("jsonl", "csv", "markdown", "vertical"):
        _, out, _ = geode("-t", store, "--format", kind, "-c", "SUBSCRIBE TO t FROM BEGINNING")
        assert "\x1b" not in out


def test_a_closed_pipe_is_no_error(store: str) -> None:
    geode("-t", store, stdin="INSERT INTO t (a) VALUES " + ", ".join(["('" + "x" * 500 + "')"] * 500))
    command = f"{shlex.quote(GEODE)} -t {shlex.quote(str(store))} --format jsonl -c 'SELECT * FROM t' | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_copy_there_and_back(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "".join(json.dumps({"n": n, "s": "é\u2028"}, ensure_ascii=False) + "\n" for n in range(2500))
    (tmp_path / "in.jsonl").write_text(lines, encoding="utf-8")
    code, out, _ = geode("-t", store, "-c", "COPY t FROM 'in.jsonl'; COPY t TO 'out.jsonl'")
    assert code == 0, out
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert found == [json.loads(line) for line in lines.split("\n")[:-1]]
    (tmp_path / "bad.jsonl").write_text('{"n": 1}\n' * 1500 + "{'n': 2}\n", encoding="utf-8")
    code, _, err = geode("-t", store, "-c", "COPY u FROM 'bad.jsonl'")
    assert code == 1
    assert "bad.jsonl:1501: " in err
    assert not list(tmp_path.glob("*.unfinished"))


def test_ctrl_c_ends_a_script_that_follows(store: str) -> None:
    arguments = [GEODE, "-t", store, "--format", "table", "-c", "SUBSCRIBE TO t FOLLOW"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "subscribed to t\n"
        geode("-t", store, "-c", 'PUBLISH TO t {"n": 1}')
        assert '{"n":1}' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "1 message received" in out
    assert "Traceback" not in err


def test_the_quickstart_runs_from_the_root(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    arguments = ("-t", str(tmp_path / "demo"), "run", "--format", "table", "examples/quickstart.gql")
    code, out, err = geode_process(*arguments, cwd=root)
    assert (code, err) == (0, "")
    assert "u-2" in out
    assert "assertion holds" in out
