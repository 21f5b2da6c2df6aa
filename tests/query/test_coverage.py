"""Golden scripts show every statement, every function and every operator of the language."""

import re
from pathlib import Path
from typing import get_args

from query.test_scripts import SCRIPTS, statements_of

from geode_client.grammar import ast
from geode_client.grammar.functions import BARE, FUNCTIONS
from geode_client.grammar.parser import parse_script
from geode_client.query import operators, plan

GOLDEN = Path(__file__).parent / "golden"
TEXTS = [text for path in SCRIPTS for text, fails in statements_of(path) if not fails]


def test_every_statement_is_shown() -> None:
    shown = {type(statement) for text in TEXTS for statement in parse_script(text)}
    assert set(get_args(ast.Statement)) - shown == set()


def test_every_function_is_shown() -> None:
    words = set(re.findall(r"\w+(?=\()", "\n".join(TEXTS).upper()))
    assert (FUNCTIONS.keys() - BARE | {"CAST", "TRY_CAST", "EXISTS"}) - words == set()


def test_every_operator_of_a_plan_is_shown() -> None:
    found = (GOLDEN / "rules.txt").read_text(encoding="utf-8")
    lines = {line.strip().split(" ")[0] for line in found.splitlines()}
    # Own tables are made from Python: tests/query/test_own_tables.py shows the plan.
    for operator in set(get_args(operators.Operator)) - {operators.OwnTableScan}:
        assert lines & {operator.__name__, f"Hash{operator.__name__}"}, operator.__name__


def test_every_plan_has_a_text() -> None:
    for node in get_args(plan.Plan):
        assert callable(node.text), node.__name__
