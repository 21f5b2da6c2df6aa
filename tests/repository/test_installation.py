"""The package installs into an empty environment with what it declares, and an embedding program pays for no shell."""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from repository.clone import ROOT, copy_to

IMPORTED_AS = {"google-re2": "re2", "prompt-toolkit": "prompt_toolkit"}
EMBED = """
import asyncio, sys
from geode_client import Client, SyncClient, compile_filter

async def main():
    async with Client(":memory:") as client:
        await client.publish("t", {"n": 1})
        async with client.subscribe("t", filter="n > 0", from_beginning=True) as subscription:
            assert [message["n"] async for message in subscription] == [1]
        assert (await client.query("SELECT count(*) FROM t")).scalar() == 1
        async with client.transaction() as tx:
            await tx.publish("t", {"n": 2})

asyncio.run(main())
with SyncClient(":memory:") as client:
    client.publish("t", 1)
print(*[m for m in ("rich", "prompt_toolkit", "click", "pygments") if m in sys.modules])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment in which there is only the package."""
    folder = tmp_path_factory.mktemp("installation")
    copy_to(folder / "source")
    venv.create(folder / "environment", with_pip=True)
    binaries = folder / "environment" / "bin"
    command = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "."]
    done = subprocess.run(command, cwd=folder / "source", capture_output=True, encoding="utf-8", check=False)
    if "No matching distribution" in done.stderr and "setuptools" in done.stderr and not os.environ.get("CI"):
        pytest.skip("there is no package index to install the dependencies from")
    assert done.returncode == 0, done.stderr
    return binaries


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, encoding="utf-8", check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.timeout(300)
def test_an_empty_environment_is_enough(installed: Path, tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert run(installed / "geode", "--version", cwd=tmp_path) == f"geode, version {version}\n"
    assert version in run(
        installed / "python", "-c", "import geode_client; print(geode_client.__version__)", cwd=tmp_path
    )
    assert run(installed / "geode", "-t", ":memory:", "-c", "SELECT 6 * 7 AS n", cwd=tmp_path) == '{"n":42}\n'
    shown = run(installed / "geode", "-t", ":memory:", "--format", "table", "-c", "SELECT 1 AS n", cwd=tmp_path)
    assert "│ 1 │" in shown


def test_a_program_that_embeds_it_loads_no_shell(tmp_path: Path) -> None:
    assert run(sys.executable, "-c", EMBED, cwd=tmp_path).split() == []


def test_every_dependency_is_imported_somewhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sources = [path for folder in ("engine", "grammar", "repl") for path in (ROOT / folder).rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    for dependency in project["dependencies"]:
        name = dependency.partition(">")[0]
        module = IMPORTED_AS.get(name, name)
        forms = (f"import {module}", f"from {module}", f'import_module("{module}")')
        assert any(form in text for form in forms), f"{name} is never imported"
