"""The notebook's magics in a real IPython shell."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output


@pytest.fixture
def shell(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # whoever runs the tests may have no home
    kind: Any = InteractiveShell
    found = kind.instance()
    found.history_manager.enabled = False
    found.run_line_magic("load_ext", "geode_client")
    with capture_output() as said:
        found.run_line_magic("geode", str(directory))
    assert str(directory) in said.stdout
    yield found
    found.run_line_magic("unload_ext", "geode_client")
    kind.clear_instance()


def test_a_cell_gives_its_last_result_as_a_table_and_takes_variables(shell: Any) -> None:
    shell.user_ns["least"] = 1
    with capture_output() as said:
        result = shell.run_cell_magic(
            "geode", "", 'PUBLISH TO t {"a": 1}, {"a": 2};\nSELECT a FROM t WHERE a > $least;'
        )
    assert result.dicts() == [{"a": 2}]
    assert "<td>2</td>" in result._repr_html_()
    assert "2 messages published to t" in said.stdout + str([output.data for output in said.outputs])


def test_a_subscription_is_a_table_that_changes(shell: Any) -> None:
    shell.run_line_magic("geode", 'PUBLISH TO t {"a": "<b>"}, {"a": 2};')
    with capture_output() as said:
        assert shell.run_cell_magic("geode", "", "SUBSCRIBE TO t FROM BEGINNING") is None
    tables = [output.data["text/html"] for output in said.outputs if "text/html" in output.data]
    assert "t: 2 messages, ended" in tables[-1]
    assert len(re.findall("<tr><td>", tables[-1])) == 2
    assert "<b>" not in tables[-1]


def test_an_error_is_told_with_its_caret_and_no_traceback(shell: Any) -> None:
    with capture_output() as said:
        shell.run_cell_magic("geode", "", "SELCT 1;")
    (told,) = [output.data["text/html"] for output in said.outputs]
    assert "^^^^^" in told
    assert "did you mean SELECT?" in told
