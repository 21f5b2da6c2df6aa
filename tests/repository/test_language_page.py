"""The reference of the language is up to date, names everything that the language has, and its examples run."""

import asyncio
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from repository.language_page import OPTION_TABLES, PAGE, WIDTH, alternatives, page, syntax

from geode_client import Client, GeodeError
from geode_client.client import session_of
from geode_client.conditions.rows import VIRTUAL_COLUMNS, VIRTUAL_HELP
from geode_client.grammar import ast, parse_script, reference, scan, types
from geode_client.grammar.functions import AGGREGATES, ALIASES, FUNCTIONS, SCALARS, WINDOW_FUNCTIONS
from geode_client.grammar.parser import interactive
from geode_client.grammar.reference import PARAMETERS, PREPARED, SECTIONS, Entry
from geode_client.grammar.source import Source
from geode_client.grammar.words import phrases
from geode_client.query import system
from geode_client.query.result import Result
from geode_client.query.script import Script, ScriptError

ENTRIES = [entry for section in SECTIONS for entry in section.entries]
TEXT = PAGE.read_text(encoding="utf-8")
NEEDS_REGIONS = {"region"}
# Rules that only hold others together, or that refuse what they read.
UNDESCRIBED = {"statement", "condition", "unbuilt"}


def run(text: str) -> list[Result]:
    """What each statement of a text gives, on the prepared topics."""

    async def running() -> list[Result]:
        async with Client(":memory:") as client:
            await Script(Source(PREPARED, "prepared")).run(session_of(client), PARAMETERS)
            return await Script(Source(text, "example")).run(session_of(client), PARAMETERS)

    return asyncio.run(running())


def value_of(select: str) -> str:
    found = run(select)[0].scalar()
    return found if isinstance(found, str) else json.dumps(found, separators=(",", ":"))


def rules_of(text: str) -> set[str]:
    """The rules of the grammar that statements use."""
    found: set[str] = set()
    for piece in scan.pieces(Source(text, "example")):
        parser = interactive(piece.masked)
        parser.exhaust_lexer()
        tree = parser.feed_eof()
        found |= {str(node.data) for node in tree.iter_subtrees()}
    return found


def inlined() -> set[str]:
    """Rules that have no trees of their own: those with a question mark."""
    from geode_client.grammar.tables import grammar_text

    return set(re.findall(r"^\?(\w+):", grammar_text(), re.MULTILINE))


def statements_in(statement: Any) -> Iterator[type]:
    yield type(statement)
    for one in dataclasses.fields(statement):
        if isinstance(value := getattr(statement, one.name), get_args(ast.Statement)):
            yield from statements_in(value)


# ── the page ──
def test_the_page_is_up_to_date() -> None:
    assert page() == TEXT, "run 'make reference' and read what has changed"


def test_the_contents_lead_to_every_section() -> None:
    anchors = re.findall(r"^- \[.*\]\(#(.*)\)$", TEXT, re.MULTILINE)
    titles = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)[1:]
    assert anchors == [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
    assert len(set(anchors)) == len(anchors)


def test_no_line_outside_tables_is_wider_than_the_page() -> None:
    assert [line for line in TEXT.splitlines() if len(line) > WIDTH and not line.startswith("|")] == []


# ── every part of the language has an entry ──
def test_every_rule_of_the_grammar_belongs_to_one_entry() -> None:
    described = [name for entry in ENTRIES for name in entry.rules]
    assert sorted(described) == sorted(set(described))
    assert set(described) == {name for _, name, _ in alternatives()} - UNDESCRIBED - inlined()


def test_every_statement_has_an_example() -> None:
    examples = ";\n".join(entry.example for entry in ENTRIES)
    found = {kind for statement in parse_script(examples) for kind in statements_in(statement)}
    assert found == set(get_args(ast.Statement))


def test_every_keyword_is_in_the_syntax_and_in_an_example() -> None:
    shown = "\n".join(re.findall(r"^```text\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
    examples = "\n".join(entry.example for entry in ENTRIES)
    words = [written.rstrip(" '") for name, written in phrases().items() if name != "RECURSIVE"]
    assert len(words) > 100
    assert [word for word in words if not re.search(rf"\b{word}\b", shown)] == []
    assert [word for word in words if not re.search(rf"\b{word}\b", examples, re.IGNORECASE)] == []


def test_every_function_type_option_table_and_column_has_a_row() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    functions = {**FUNCTIONS, **WINDOW_FUNCTIONS}
    counted = len(functions) + len(types.TYPE_NAMES) + sum(len(one[3]) for one in OPTION_TABLES) + len(VIRTUAL_COLUMNS)
    assert len(rows) == counted
    assert all(cell.strip() for row in rows for cell in (row.split(" | ")[1], row.rstrip(" |").split(" | ")[-1]))
    assert types.HELP.keys() == set(types.TYPE_NAMES)
    assert system.HELP.keys() == system.TABLES.keys()
    assert {name.lstrip("_") for name in VIRTUAL_HELP} == {name.lstrip("_#") for name in VIRTUAL_COLUMNS}
    assert all(f"### SYSTEM.{name}\n" in TEXT for name in system.TABLES)
    assert all(f"`{column}`" in TEXT for columns in system.TABLES.values() for column in columns)
    assert all(f"`{function.signature.replace('|', chr(92) + '|')}`" in TEXT for function in functions.values())
    assert all(re.search(rf"\b{other}\b", TEXT) for other in (*ALIASES, *types.USUAL_NAMES))


def test_syntax_is_shown_in_the_notation_of_the_page() -> None:
    assert syntax('"(" [option ("," option)* ","?] ")"') == "([option {, option}* [,]])"
    assert syntax("DROP TOPIC IF_EXISTS? topic") == "DROP TOPIC [IF EXISTS] topic"
    assert syntax('"[" SIGN? NUMBER "]"') == '"[" [sign] number "]"'
    assert syntax("SELECT (DISTINCT | UNION_ALL)? a [B (A | c)]") == "SELECT [DISTINCT | ALL] a [B {A | c}]"


# ── every example runs ──
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.title)
def test_an_example_runs_and_uses_what_it_is_the_example_of(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(entry.rules) - rules_of(entry.example) == set()
    assert entry.help.endswith(".")
    if entry.needs is None:
        assert len(run(entry.example)) == len(parse_script(entry.example))
    else:
        with pytest.raises(ScriptError, match=f"{entry.needs}.*not supported"):
            run(entry.example)


@pytest.mark.parametrize("name", [*SCALARS, *AGGREGATES])
def test_the_example_of_a_function_gives_its_value(name: str) -> None:
    text, wanted = FUNCTIONS[name].example
    assert value_of(f"SELECT {text}" + " FROM numbers" * FUNCTIONS[name].aggregate) == wanted


@pytest.mark.parametrize("name", WINDOW_FUNCTIONS)
def test_the_example_of_a_window_function_gives_its_value(name: str) -> None:
    text, wanted = WINDOW_FUNCTIONS[name].example
    assert value_of(f"SELECT v FROM (SELECT n, {text} AS v FROM numbers) AS t WHERE n = 1") == wanted
    assert WINDOW_FUNCTIONS[name].signature.startswith(name)


@pytest.mark.parametrize("name", types.TYPE_NAMES)
def test_the_example_of_a_type_gives_its_value(name: str) -> None:
    _, (text, wanted) = types.HELP[name]
    assert value_of(f"SELECT {text}") == wanted
    others = [other for other, ours in types.USUAL_NAMES.items() if ours == name]
    columns = ", ".join(f"c{place} {type_name}" for place, type_name in enumerate([name, *others]))
    run(f"CREATE TOPIC t SCHEMA ({columns})")


@pytest.mark.parametrize(
    ("statement", "name", "example"),
    [(one[2], name, option.example) for one in OPTION_TABLES for name, option in one[3].items()],
)
def test_the_example_of_an_option_runs(
    statement: str, name: str, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"COPY orders TO 'orders.csv'; {statement.format(f'{name}: {example}')}"
    if name in NEEDS_REGIONS:
        with pytest.raises(GeodeError, match=r"region.*not supported"):
            run(text)
    else:
        assert len(run(text)) == 2


@pytest.mark.parametrize("table", system.TABLES)
def test_the_example_of_a_system_table_runs(table: str) -> None:
    text = f"SELECT {system.TABLES[table][0]} FROM SYSTEM.{table};"
    assert text in TEXT
    if table == "regions":
        with pytest.raises(GeodeError, match=r"region.*not supported"):
            run(text)
    else:
        run(text)


@pytest.mark.parametrize("name", VIRTUAL_HELP)
def test_the_example_of_a_virtual_column_runs(name: str) -> None:
    shown = re.findall(rf"`(SELECT {name} FROM [A-Za-z ]+)`", TEXT)
    assert len(shown) == 1
    run(shown[0])


def test_the_prepared_topics_are_those_of_the_page() -> None:
    assert PREPARED in TEXT
    for name, value in reference.PARAMETERS.items():
        assert f"`${name}` = {json.dumps(value)}" in TEXT.replace("\n", " ")
