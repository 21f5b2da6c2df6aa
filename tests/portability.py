"""Runs the tests in places and environments that are not the developer's: `make portability`.

    python tests/portability.py                 # everything
    python tests/portability.py hostile place   # what CI runs, in about three minutes

A variation that this machine cannot have, such as another Python, is skipped and says why. Each one runs the tests that
start processes, draw on terminals, read and write files, or deal with time; `place` and `python…` run in a copy of the
project with an installation of its own.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from repository.clone import ROOT, copy_to

TESTS: tuple[str, ...] = (
    "tests/shell",
    "tests/operating",
    "tests/language",
    "tests/repository",
    "tests/query/test_scripts.py",
)
TESTS += (
    "tests/query/test_copying.py",
    "tests/processes",
    "tests/store/test_files.py",
    "tests/client/test_subscribing.py",
)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
NOBODY = 65534


class Skipped(Exception):
    """This machine cannot have the variation; the text says why."""


@dataclass(frozen=True)
class Variation:
    """One way to run the tests: another environment, and perhaps another place or interpreter."""

    name: str
    set: dict[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    prepare: Callable[[Path], tuple[list[str], Path]] | None = None
    """Makes what the tests run with in a new folder: the command that is Python, and the directory."""


SETTINGS = {"GEODE_URL": "/nowhere/store", "GEODE_CONFIG": "/nowhere/config", "GEODE_FORMAT": "csv"}
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "time-zone": {"TZ": "America/New_York"},
    "c-locale": {"LC_ALL": "C"},
    "dumb": {"TERM": "dumb"},
    "small-screen": {"COLUMNS": "40", "LINES": "10"},
    "colours": {"NO_COLOR": "1", "FORCE_COLOR": "1"},
    "settings": SETTINGS,
    # Reading or writing a text without naming its encoding is a warning, and warnings are errors.
    "encodings": {"PYTHONWARNDEFAULTENCODING": "1"},
}
ALL_AT_ONCE = {name: value for one in ENVIRONMENTS.values() for name, value in one.items()}


def installed(folder: Path, python: str) -> list[str]:
    """The command that is Python in an environment of its own, with the project of this folder."""
    quiet = ("--quiet", "--disable-pip-version-check")
    subprocess.run([python, "-m", "venv", str(folder / ".venv")], check=True)
    own = str(folder / ".venv" / "bin" / "python")
    for what in (("setuptools>=77", "pip", "--upgrade"), ("--editable", ".[test,check]")):
        subprocess.run([own, "-m", "pip", "install", *quiet, *what], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    return [own]


def failed(python: str, code: str) -> bool:
    """Whether an interpreter cannot run some code."""
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode != 0


def in_a_place(name: str) -> Callable[[Path], tuple[list[str], Path]]:
    """A copy of the project in a folder of this name."""

    def prepare(folder: Path) -> tuple[list[str], Path]:
        place = folder / name
        copy_to(place)
        return installed(place, sys.executable), place

    return prepare


def long_path(folder: Path) -> tuple[list[str], Path]:
    """A copy of the project at a path of 150 characters."""
    return in_a_place("x" * max(1, 149 - len(str(folder))))(folder)


def with_python(version: str) -> Callable[[Path], tuple[list[str], Path]]:
    """A copy of the project with another interpreter, from PATH or pyenv."""

    def prepare(folder: Path) -> tuple[list[str], Path]:
        known = sorted(
            Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
        )
        for candidate in (*map(str, reversed(known)), f"python{version}"):
            if shutil.which(candidate) and not failed(candidate, ""):
                copy_to(folder / "copy")
                return installed(folder / "copy", candidate), folder / "copy"
        raise Skipped(f"there is no Python {version} on PATH or in pyenv")

    return prepare


def as_nobody(folder: Path) -> tuple[list[str], Path]:
    """A copy of the project that belongs to a user who is not root."""
    if os.getuid() != 0:
        raise Skipped("the tests run as a user who is not root anyway")
    python = next((one for one in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(one).exists()), None)
    if python is None or shutil.which("setpriv") is None:
        raise Skipped("there is no setpriv, or no Python that other users may run")
    if failed(python, "import ensurepip, sys; assert sys.version_info >= (3, 11)"):
        raise Skipped(f"{python} is too old, or has no ensurepip")
    copy_to(folder / "copy")
    command = installed(folder / "copy", python)
    folder.chmod(0o755)
    subprocess.run(["chown", "-R", str(NOBODY), str(folder)], check=True)
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [*drop, *command], folder / "copy"


VARIATIONS = (
    Variation("hostile", ALL_AT_ONCE, unset=("HOME",)),
    Variation("place", prepare=in_a_place("a place with spaces, ünïcode and 'quotes'")),
    Variation("long-path", prepare=long_path),
    Variation("no-home", unset=("HOME",)),
    *(Variation(name, values) for name, values in ENVIRONMENTS.items()),
    Variation("user", {"HOME": "/nonexistent"}, prepare=as_nobody),
    *(Variation(f"python{version}", prepare=with_python(version)) for version in PYTHONS),
)


def run(variation: Variation) -> str:
    """Run one variation; gives 'passed', 'FAILED', or why it was skipped."""
    with tempfile.TemporaryDirectory(prefix="geode-") as made:
        try:
            python, place = ([sys.executable], ROOT) if variation.prepare is None else variation.prepare(Path(made))
        except Skipped as reason:
            return f"skipped: {reason}"
        kept = {name: value for name, value in os.environ.items() if name not in variation.unset}
        command = [*python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={made}/temporary", *TESTS]
        done = subprocess.run(command, cwd=place, env={**kept, **variation.set}, check=False)
    return "FAILED" if done.returncode else "passed"


def main(names: list[str]) -> int:
    """Run the named variations, else all; the exit code is 1 when one fails."""
    known = {variation.name: variation for variation in VARIATIONS}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    results = []
    for name in names or known:
        print(f"── {name}", flush=True)
        began = time.monotonic()
        results.append((name, run(known[name]), time.monotonic() - began))
    print(*(f"{name:14} {result} ({seconds:.0f} s)" for name, result, seconds in results), sep="\n")
    return int(any(result == "FAILED" for _, result, _ in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
