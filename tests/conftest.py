"""What all tests share: a directory for a store, golden files, and the settings of the rounds."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"


# What changes the output of a command; tests that are about one of them set it themselves.
SCREEN = (
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "COLUMNS",
    "LINES",
    "PAGER",
    "EDITOR",
    "VISUAL",
)


def pytest_configure() -> None:
    """Give the tests, and all that they start, an environment that does not depend on who runs them."""
    for name in [*os.environ]:
        if (
            name in SCREEN
            or name.startswith(("LESS", "XDG_", "TTY_"))
            or (name.startswith("GEODE_") and name != "GEODE_SOAK")
        ):
            del os.environ[name]
    os.environ["TERM"] = "xterm-256color"
    os.environ.setdefault("HOME", os.devnull)
    os.environ["XDG_CONFIG_HOME"] = os.devnull  # nobody's own settings
    # A shell that runs the tests in the background makes them ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory in which no store is yet."""
    return tmp_path / "store"


@pytest.fixture
def golden() -> Callable[[Path, str], None]:
    """Compare a text with a file that somebody has looked at; UPDATE_GOLDEN=1 writes it anew."""

    def check(path: Path, found: str) -> None:
        if UPDATE:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found, encoding="utf-8")
        assert found == path.read_text(encoding="utf-8"), f"{path.name} differs: UPDATE_GOLDEN=1 writes it anew"

    return check
