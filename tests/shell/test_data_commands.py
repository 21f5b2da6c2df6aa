"""`geode publish` and `geode subscribe`: pipes, files, exit codes."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from command import GEODE, geode, geode_process


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def bodies(store: str, *options: str) -> list[object]:
    """The messages of topic t as `geode subscribe` prints them."""
    code, out, err = geode("-t", store, "subscribe", "t", "--from-beginning", "--body", *options)
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def bash(line: str) -> tuple[list[str], str, str]:
    """Run a line of bash; exit codes of the last pipe, output, errors."""
    command = ["bash", "-c", f'{line}; echo "${{PIPESTATUS[@]}}" >&2']
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    *errors, codes = done.stderr.splitlines()
    return codes.split(), done.stdout, "\n".join(errors)


def test_publish_from_the_command_line_files_and_pipes(tmp_path: Path, store: str) -> None:
    (tmp_path / "m.jsonl").write_text('{"n": 2}\n\n{"n": 3}', encoding="utf-8")
    code, out, _ = geode_process(
        "-t", store, "publish", "t", '{"n": 1}', str(tmp_path / "m.jsonl"), "-", stdin="4\n5\n"
    )
    assert (code, json.loads(out)) == (0, {"topic": "t", "published": 5, "duplicates": 0})
    assert bodies(store) == [{"n": 1}, {"n": 2}, {"n": 3}, 4, 5]
    assert geode("-t", store, "publish", "t", "--format", "table", "6")[1] == "1 published to t\n"
    assert bodies(store, "--limit", "1") == [{"n": 1}]


def test_keys_ids_and_priorities(store: str) -> None:
    lines = '{"id": "a", "user": "u1"}\n{"id": "b", "user": 7}\n{"id": "a", "user": "u1"}\n'
    options = ("--key-field", "user", "--id-field", "id", "--priority", "high", "--ttl", "1 hour")
    _, out, _ = geode_process("-t", store, "publish", "t", *options, stdin=lines)
    assert json.loads(out) == {"topic": "t", "published": 2, "duplicates": 1}
    statement = "SELECT _key, _priority, _expires_at IS NULL AS kept FROM t ORDER BY _offset"
    _, out, _ = geode("-t", store, "--format", "csv", "-c", statement)
    assert out == "_key,_priority,kept\nu1,7,false\n7,7,false\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (("foo",), "", "'foo' is neither JSON nor a file"),
        (('{"a": }',), "", "<command>:1: not valid JSON"),
        (("-",), '1\n{"a"\n', "<stdin>:2: not valid JSON"),
        (("--key-field", "k"), '{"k": "a"}\n{"k": [1]}\n', "<stdin>:2: field k, which key_field names, must be text"),
        (("--priority", "highest", "1"), "", "unknown priority 'highest'"),
        (("--ttl", "soon", "1"), "", "'soon'"),
        (("--key", "a", "--key-field", "b", "1"), "", "exclude each other"),
    ],
)
def test_what_cannot_be_published_is_named(store: str, arguments: tuple[str, ...], stdin: str, says: str) -> None:
    code, out, err = geode_process("-t", store, "publish", "t", *arguments, stdin=stdin)
    assert (code, out) == (1, "")
    assert says in err


def test_subscribe_into_head_ends_quietly(store: str) -> None:
    geode_process("-t", store, "publish", "t", stdin="".join(f"{n}\n" for n in range(20_000)))
    codes, out, err = bash(
        f"{shlex.quote(GEODE)} -t {shlex.quote(str(store))} subscribe t --from-beginning --follow | head -3"
    )
    assert ([json.loads(line)["data"] for line in out.splitlines()], err) == ([0, 1, 2], "")
    assert codes[1] == "0"


def test_a_live_subscription_ends_when_its_reader_has_gone_though_nothing_comes(store: str) -> None:
    geode("-t", store, "-c", "CREATE TOPIC t")
    codes, out, err = bash(f"{shlex.quote(GEODE)} -t {shlex.quote(str(store))} subscribe t | true")
    assert (codes, out, err) == (["141", "0"], "", "")


def test_filters_formats_and_ends(store: str) -> None:
    geode_process("-t", store, "publish", "t", stdin="".join(f'{{"n": {n}}}\n' for n in range(10)))
    assert bodies(store, "--where", "n >= $least", "--param", "least=8") == [{"n": 8}, {"n": 9}]
    _, out, _ = geode("-t", store, "subscribe", "t", "--from-offset", "8", "--format", "csv")
    assert out.splitlines()[0] == "topic,partition,offset,id,timestamp,key,data"
    assert len(out.splitlines()) == 3
    _, out, _ = geode("-t", store, "subscribe", "*", "--since", "1 hour", "--limit", "2", "--format", "table")
    assert [line[:7] for line in out.splitlines()] == ["→ t 0/0", "→ t 0/1"]
    assert geode("-t", store, "subscribe", "t", "--timeout", "0.1")[:2] == (0, "")
    code, _, err = geode("-t", store, "subscribe", "t", "--where", "n >")
    assert code == 1
    assert "^" in err
    assert geode("-t", store, "subscribe", "t", "--since", "yesterday")[0] == 1


def test_json_for_jq(store: str) -> None:
    geode("-t", store, "publish", "t", '{"n": 1}', '{"n": 2}')
    _, out, _ = geode("-t", store, "--format", "json", "-c", "SELECT n FROM t ORDER BY n")
    assert json.loads(out) == [{"n": 1}, {"n": 2}]


def test_the_completion_of_shells_knows_topics(store: str) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_GEODE_COMPLETE" in geode("completion", shell)[1]
    geode("-t", store, "-c", "CREATE TOPIC orders/new; CREATE TOPIC users")
    words = {"_GEODE_COMPLETE": "bash_complete", "COMP_WORDS": f"geode -t {store} subscribe or", "COMP_CWORD": "4"}
    assert geode_process(environment=words)[1] == "plain,orders/new\n"
    words["COMP_WORDS"] = "geode -t /no/such/store subscribe or"
    assert geode_process(environment=words)[1].strip() == ""
