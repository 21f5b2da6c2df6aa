"""The interactive shell in a terminal of its own."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

GEODE = str(Path(sys.executable).parent / "geode")
CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[pexpect.spawn]:
    child = pexpect.spawn(
        GEODE,
        ["-t", str(tmp_path / "store")],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "TERM": "dumb", "PROMPT_TOOLKIT_NO_CPR": "1"},
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 120),
    )
    child.expect("geode>")
    yield child
    child.close(force=True)


def test_statements_may_have_several_lines(shell: pexpect.spawn) -> None:
    shell.send('PUBLISH TO t\r{"n": 41};\r')
    shell.expect("1 message published to t")
    shell.send("SELECT n + 1 AS answer\rFROM t;\r")
    shell.expect("answer")
    shell.expect("42")
    shell.expect("1 row")


def test_errors_do_not_end_it_and_ctrl_d_does(shell: pexpect.spawn, tmp_path: Path) -> None:
    shell.send("SELCT 1;\r")
    shell.expect("<shell>:1:1: 'SELCT' cannot stand here")
    shell.expect("did you mean SELECT")
    shell.expect("geode>")
    shell.send("SELECT 1" + CTRL_C)
    shell.expect("geode>")
    shell.send(CTRL_D)
    shell.expect(pexpect.EOF)
    shell.wait()
    assert shell.exitstatus == 0
    history = tmp_path / "state" / "geode" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "SELCT 1;" in history.read_text()


def test_a_live_subscription_ends_with_ctrl_c_and_a_summary(shell: pexpect.spawn, tmp_path: Path) -> None:
    shell.send("SUBSCRIBE TO users/*;\r")
    shell.expect("Ctrl-C ends it")
    publisher = pexpect.run(f"{GEODE} -t {tmp_path / 'store'} -c \"INSERT INTO users/new (name) VALUES ('Ada')\"")
    assert b"1 message published" in publisher
    shell.expect("Ada")
    shell.send(CTRL_C)
    shell.expect("1 message received")
    shell.expect("geode>")
    shell.send("quit\r")
    shell.expect(pexpect.EOF)


def test_help_is_there(shell: pexpect.spawn) -> None:
    shell.send("help\r")
    shell.expect("Ctrl-D leaves")
    shell.expect("geode>")
