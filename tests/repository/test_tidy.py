"""Rules of the house that a machine can hold. Each check is itself tried on something that breaks it."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import geode_client

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {
    *("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Makefile", ".gitignore", ".ci", "docs"),
    *("grammar", "engine", "repl", "tests", "examples"),
}
LINES_MAX = 560
FUNCTION_LINES_MAX = 65
FORBIDDEN_IMPORTS = {"sqlite3", "pickle", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec"}
FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|managers?|misc|common)(_|$)", re.IGNORECASE)


def kept() -> list[Path]:
    """The files that belong to the project."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if listed.returncode:
        pytest.fail("these checks need git: they are about what belongs to the project")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def sources() -> list[Path]:
    return [path for path in kept() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] != "tests"]


def wrongs_in(name: str, text: str) -> Iterator[str]:
    """What a source of the package does that none should."""
    tree = ast.parse(text)
    if ast.get_docstring(tree) in (None, ""):
        yield f"{name}: no module docstring"
    lines = text.count("\n") - documentation_lines(tree)
    if lines > LINES_MAX:
        yield f"{name}: {lines} lines"
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (f"{name}: imports {n.name}" for n in names if n.name.split(".")[0] in FORBIDDEN_IMPORTS)
            case ast.ImportFrom(module=module, level=level):
                if level or (module or "").split(".")[0] in FORBIDDEN_IMPORTS:
                    yield f"{name}: imports {'.' * level}{module}"
            case ast.Call(func=ast.Name(id=called)) if called in FORBIDDEN_CALLS:
                yield f"{name}:{node.lineno}: calls {called}"
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield from _wrongs_of_definition(name, node)


def documentation_lines(tree: ast.AST) -> int:
    """The lines of all docstrings inside: a full description makes nothing long."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node.body[0] for node in ast.walk(tree) if isinstance(node, kinds) and ast.get_docstring(node) is not None]
    return sum((one.end_lineno or 0) - one.lineno + 1 for one in found)


def _wrongs_of_definition(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[str]:
    if FORBIDDEN_NAMES.search(node.name):
        yield f"{name}:{node.lineno}: {node.name} says nothing"
    length = (node.end_lineno or node.lineno) - node.lineno + 1 - documentation_lines(node)
    if not isinstance(node, ast.ClassDef) and length > FUNCTION_LINES_MAX:
        yield f"{name}:{node.lineno}: {node.name} has {length} lines"
    is_record = bool(node.decorator_list) or (isinstance(node, ast.ClassDef) and bool(node.bases))
    if isinstance(node, ast.ClassDef) and node.name[0] != "_" and not is_record and ast.get_docstring(node) is None:
        yield f"{name}:{node.lineno}: class {node.name} has no docstring"


def test_sources_are_tidy() -> None:
    found = [
        wrong
        for path in sources()
        for wrong in wrongs_in(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        '"""D."""\nimport sqlite3',
        '"""D."""\nfrom pickle import loads',
        '"""D."""\nfrom . import x',
        '"""D."""\neval("1")',
        '"""D."""\nclass Manager:\n    """D."""',
        '"""D."""\nclass Thing:\n    pass',
        '"""D."""\ndef f():\n' + "    pass\n" * 70,
        '"""D."""\n' + "\n" * 700,
    ],
)
def test_the_check_can_fail(text: str) -> None:
    assert list(wrongs_in("x.py", text))


def test_the_top_level_is_what_was_agreed() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in kept()} <= TOP_LEVEL


def test_names_of_files_say_something() -> None:
    assert not [path for path in kept() if FORBIDDEN_NAMES.search(path.stem)]


def test_every_package_is_listed_and_installed() -> None:
    """A folder that pyproject.toml forgets, or a module that was added since the last install, is named here."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"])
    installed = Path(geode_client.__file__).parent
    for path in sources():
        folder, *inside = path.relative_to(ROOT).parts
        if folder in ("examples", "docs"):
            continue
        module = Path(*inside) if folder == "engine" else Path(folder, *inside)
        package = ".".join(("geode_client", *module.parent.parts))
        assert package in listed, f"{package} is not in pyproject.toml"
        assert (installed / module).exists(), f"{module} is not installed: run 'make dev' after 'touch pyproject.toml'"


def test_public_names_are_what_they_were() -> None:
    assert geode_client.__all__ == sorted(geode_client.__all__)
    assert set(geode_client.__all__) == {
        *(
            "BatchReceipt",
            "Client",
            "Connection",
            "ConnectionLost",
            "Conflict",
            "ConstraintFailed",
            "CorruptData",
            "GeodeError",
        ),
        *("GqlError", "GqlSyntaxError", "Transaction", "TransactionAborted", "connection"),
        *("InvalidMessage", "LeaseLost", "Message", "MessageTooLarge", "Receipt", "Result", "SchemaViolation"),
        *("StoreError", "SubscriberLimitReached", "Subscription", "SyncClient", "TopicExists", "TopicNotFound"),
        *("Unsupported", "compile_filter", "AlreadySettled", "GroupMismatch", "GroupNotFound"),
        *("Request", "RequestFailed", "RequestTimeout", "Service"),
    }
    for name in geode_client.__all__:
        assert getattr(geode_client, name).__name__ == name


@pytest.mark.parametrize(
    ("imported", "kept_out"),
    [
        ("geode_client", ("apsw", "asyncio", "lark", "sqlglot", "rich", "prompt_toolkit", "click", "lz4")),
        ("geode_client.client", ("lark", "sqlglot", "rich", "prompt_toolkit", "apsw")),
        ("geode_client.repl.cli", ("lark", "sqlglot", "rich", "prompt_toolkit", "apsw")),
    ],
)
def test_what_is_not_used_is_not_imported(imported: str, kept_out: tuple[str, ...]) -> None:
    import sys

    code = f"import sys, {imported}; print(*[m for m in {kept_out!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == []


def test_the_project_speaks_of_itself_alone() -> None:
    words = re.compile(
        r"/work/|\bissue #?\d+|\bsession notes\b|\.library|\bshared/(spec|language|api|design)", re.IGNORECASE
    )
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in kept()
        if path.suffix in (".py", ".md", ".lark", ".gql", ".toml", ".sql") and path != Path(__file__)
        for match in words.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found, found
