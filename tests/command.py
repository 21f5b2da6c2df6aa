"""The command `geode` as tests run it: in this process, which is quick, or in one of its own."""

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

GEODE = str(Path(sys.executable).parent / "geode")

_SETTINGS = {"NO_COLOR": "1", "COLUMNS": "120", "XDG_CONFIG_HOME": "/nowhere"}


def geode(*arguments: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error of a run in this process; standard input holds a text."""
    from geode_client.repl.cli import geode as command

    unset = dict.fromkeys((name for name in os.environ if name.startswith("GEODE_")), None)
    done = CliRunner().invoke(
        command, arguments, input=stdin, env={**unset, **_SETTINGS, **environment}, prog_name="geode"
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def geode_process(
    *arguments: str, stdin: str = "", cwd: Path | None = None, environment: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """The same in a process of its own, with pipes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GEODE_")}
    done = subprocess.run(
        [GEODE, *arguments],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        cwd=cwd,
        env={**kept, **_SETTINGS, **(environment or {})},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr
