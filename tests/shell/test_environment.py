"""What the command does in environments that are not the developer's: locales, terminals, colour settings."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import GEODE
from terminal import ENTER, Terminal

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
TABLE = ("--format", "table", "-c", "SELECT 'ü→' AS word, 1 AS n")


# Before Python 3.13 an interpreter at a path that is not ASCII does not start in an ASCII locale.
starts_everywhere = pytest.mark.skipif(
    not sys.prefix.isascii() and sys.version_info < (3, 13), reason="this interpreter needs a UTF-8 locale"
)


def run(environment: dict[str, str], *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    done = subprocess.run(
        [GEODE, "-t", ":memory:", *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"NO_COLOR": "1", "CLICOLOR_FORCE": "1", "TTY_COMPATIBLE": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_a_pipe_is_coloured_only_on_demand(environment: dict[str, str], coloured: bool) -> None:
    code, out, err = run(environment, *TABLE)
    assert (code, err) == (0, "")
    assert ("\x1b" in out) == coloured
    _, _, err = run(environment, "-c", "SELCT 1")
    assert "did you mean SELECT?" in err.replace("\x1b[0m", "")
    assert ("\x1b" in err) == coloured


@starts_everywhere
@pytest.mark.parametrize("environment", [{}, ASCII, {"LC_ALL": "C"}], ids=["own", "ascii", "C"])
def test_pipes_are_utf_8_in_every_locale(environment: dict[str, str]) -> None:
    code, out, err = run(environment, stdin="SELECT 'ü→🎉' AS word".encode())
    assert (code, out, err) == (0, '{"word":"ü→🎉"}\n', "")
    code, out, err = run(environment, stdin=b"SELECT '\xff' AS word")
    assert code == 1
    assert "UTF-8" in err


@starts_everywhere
def test_files_are_utf_8_in_every_locale(tmp_path: Path) -> None:
    script = tmp_path / "script.gql"
    script.write_text('PUBLISH TO t {"s": "ü→"}; COPY t TO \'out.csv\'; SELECT s FROM t;', encoding="utf-8")
    done = subprocess.run(
        [GEODE, "-t", str(tmp_path / "store"), "run", str(script)],
        capture_output=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={**os.environ, **ASCII},
    )
    assert done.returncode == 0, done.stderr
    assert '{"s":"ü→"}' in done.stdout.decode("utf-8")
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "s\nü→\n"


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for one in opened:
        one.close()


@starts_everywhere
def test_the_pager_shows_what_is_not_ascii_in_every_locale(tmp_path: Path, terminals: list[Terminal]) -> None:
    shell = Terminal(GEODE, ["-t", ":memory:"], home=tmp_path, lines=10, LC_ALL="C")
    terminals.append(shell)
    values = ", ".join(f'{{"n": {n}, "s": "ü→"}}' for n in range(30))
    shell.run(f"PUBLISH TO t {values};", "30 messages")
    shell.run("SELECT n, s FROM t ORDER BY n;", "│ ü→ │")
    shell.until(lambda: shell.text.endswith(":"), "no pager")
    assert "<E2>" not in shell.text


def test_a_terminal_that_cannot_redraw_gets_no_status_line_and_no_pager(
    tmp_path: Path, terminals: list[Terminal]
) -> None:
    values = ", ".join(f'{{"n": {n}}}' for n in range(30))
    statements = f"PUBLISH TO t {values}; SELECT n FROM t ORDER BY n; SUBSCRIBE TO t FROM BEGINNING LIMIT 30;"
    shell = Terminal(GEODE, ["-t", ":memory:", "-c", statements], home=tmp_path, lines=20, TERM="dumb")
    terminals.append(shell)
    assert shell.ends() == 0
    assert '{"n":29}' in shell.text
    assert "received" in shell.text
    assert ENTER not in shell.text
