"""What `geode fmt` does: files, or standard input, in the one form of `grammar/layout.py`."""

import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from geode_client.errors import GeodeError
from geode_client.grammar.layout import check_same, formatted
from geode_client.grammar.source import Source
from geode_client.query.script import read_source
from geode_client.repl.invocation import told


def format_files(files: Sequence[Path], standard_input: Callable[[], str], *, check: bool) -> int:
    """Format files in place, and '-' from standard input to standard output; gives the exit code.

    With `check` nothing is written; what would change is named. A file that is no script is told and left as it is.
    """
    code = 0
    for path in files:
        try:
            changed = _standard(standard_input(), check) if str(path) == "-" else _file(path, check)
        except GeodeError as error:
            code = told(error)
            continue
        if changed and check:
            sys.stdout.write(f"{path} would be formatted\n")
            code = 1
    return code


def _standard(text: str, check: bool) -> bool:
    made = _formatted(Source(text, "<stdin>"))
    if not check:
        sys.stdout.write(made)
    return made != text


def _file(path: Path, check: bool) -> bool:
    source = read_source(path)
    made = _formatted(source)
    if made == source.text:
        return False
    if not check:
        _replace(path, made)
        sys.stderr.write(f"{path} formatted\n")
    return True


def _formatted(source: Source) -> str:
    made = formatted(source)
    check_same(source.text, made)
    return made


def _replace(path: Path, text: str) -> None:
    """Write a file anew, whole or not at all, with the permissions it had."""
    mode = stat.S_IMODE(path.stat().st_mode)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        unfinished.chmod(mode)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
