"""What the README and the examples show is run as it stands."""

import json
import re
import subprocess
import sys
from pathlib import Path

from geode_client.grammar import parse_script
from geode_client.metrics import exposition
from geode_client.repl.cli import geode
from geode_client.repl.forms import FORMS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    found = [text for kind, text in fenced if kind == language]
    assert found, f"the README has no {language} block"
    return found


def test_sql_of_the_readme_runs(tmp_path: Path) -> None:
    text = "\n".join(blocks("sql"))
    assert len(parse_script(text)) >= 5
    run = [str(Path(sys.executable).parent / "geode"), "-t", str(tmp_path / "s")]
    done = subprocess.run(run, input=text, capture_output=True, encoding="utf-8", check=False, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"seats":25' in done.stdout
    assert "Ada" in done.stdout
    assert (tmp_path / "sales.csv").read_text(encoding="utf-8").startswith("id,customer,amount\ns-1,c1,40\n")


def test_python_of_the_readme_runs(tmp_path: Path) -> None:
    printed = []
    for code in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        printed.append(done.stdout)
    assert "o-999 998 None" in printed[0]
    assert "999" in printed[0].splitlines()[-1]
    assert "'dead_letter_reason': 'rejected'" in printed[1]


def test_the_error_of_the_readme_is_the_one_that_comes(tmp_path: Path) -> None:
    path = tmp_path / "script.gql"
    path.write_text("SUBSCRBE TO orders;\n", encoding="utf-8")
    run = [str(Path(sys.executable).parent / "geode"), "-t", ":memory:", "run", "script.gql"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False, timeout=60)
    shown = next(block for block in blocks("") if "SUBSCRBE" in block)
    for line in shown.strip().splitlines():
        assert line.split("…")[0].rstrip() in done.stderr


def test_the_commands_of_the_readme_exist() -> None:
    named = set(re.findall(r"^geode (?:-t \S+ )?([a-z]+)\b", "\n".join(blocks("")), re.MULTILINE))
    assert named <= set(geode.commands)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`?make ([a-z]+)", README)):
        assert f"\n{target}:" in makefile


def test_the_program_that_embeds_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "embed.py"), str(tmp_path / "s")],
        capture_output=True,
        encoding="utf-8",
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


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    wanted: set[str] = set()
    dashboard = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        assert panel["targets"]
        wanted |= set(re.findall(r"pubsub_\w+", json.dumps(panel)))
    wanted |= set(re.findall(r"pubsub_\w+", (ROOT / "docs" / "alerts.yml").read_text(encoding="utf-8")))
    described = set(re.findall(r"^# TYPE (\S+)", exposition(tmp_path / "store"), re.MULTILINE))
    bare = {re.sub(r"_(total|bucket)$", "", name) for name in described}
    assert {re.sub(r"_(total|bucket)$", "", name) for name in wanted} <= bare
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    for name in bare:
        assert name in page or name.rpartition("_")[2] in page, f"{name} is not in docs/operating.md"


def test_statements_that_the_help_shows_are_statements() -> None:
    for form, _ in FORMS:
        assert parse_script(re.sub(r"\[([A-Z ]+)\] ", r"\1 ", form))
