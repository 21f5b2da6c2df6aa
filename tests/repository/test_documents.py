"""What the README and the examples show is run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

from geode_client.grammar import parse_script
from geode_client.repl.cli import geode

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    found = [text for kind, text in fenced if kind == language]
    assert found, f"the README has no {language} block"
    return found


def test_sql_of_the_readme_runs(tmp_path: Path) -> None:
    text = "\n".join(blocks("sql"))
    assert len(parse_script(text)) >= 5
    run = [str(Path(sys.executable).parent / "geode"), "-t", str(tmp_path / "s")]
    done = subprocess.run(run, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"seats":25' in done.stdout


def test_python_of_the_readme_runs(tmp_path: Path) -> None:
    for code in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "o-999 998 None" in done.stdout
        assert "999" in done.stdout.splitlines()[-1]


def test_the_error_of_the_readme_is_the_one_that_comes(tmp_path: Path) -> None:
    path = tmp_path / "script.gql"
    path.write_text("SUBSCRBE TO orders;\n")
    run = [str(Path(sys.executable).parent / "geode"), "-t", ":memory:", "run", "script.gql"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    shown = next(block for block in blocks("") if "SUBSCRBE" in block)
    for line in shown.strip().splitlines():
        assert line.split("…")[0].rstrip() in done.stderr


def test_the_commands_of_the_readme_exist() -> None:
    named = set(re.findall(r"^geode (?:-t \S+ )?([a-z]+)\b", "\n".join(blocks("")), re.MULTILINE))
    assert named <= set(geode.commands)
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z]+)", README)):
        assert f"\n{target}:" in makefile


def test_the_program_that_embeds_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "embed.py"), str(tmp_path / "s")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "alarms" in done.stdout


def test_the_orders_are_those_that_the_program_makes() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "make_orders.py")], capture_output=True, check=True, timeout=60
    )
    assert done.stdout.decode() == (ROOT / "examples" / "orders.jsonl").read_text(encoding="utf-8")
