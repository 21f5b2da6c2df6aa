"""Texts become records, records become text again, and wrong texts become errors with a place."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from conditions.strategies import conditions
from hypothesis import given
from hypothesis import strategies as st
from language.statements import ALL, FORMS, SPECIFICATION
from settings import long_rounds
from sqlglot import exp

from geode_client.errors import GqlError, GqlSyntaxError
from geode_client.grammar import ast, parse, parse_script
from geode_client.grammar.parser import parse_condition
from geode_client.grammar.scan import statement_is_complete
from geode_client.grammar.source import Span
from geode_client.grammar.tables import digest, stored_digest
from geode_client.grammar.unparse import unparse
from geode_client.grammar.unparse_expressions import unparse_expression


def without_places(node: Any) -> Any:
    """A record with all spans taken out, to be compared."""
    if isinstance(node, Span):
        return None
    if isinstance(node, exp.Expression):
        return node.sql()
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        inside = [without_places(getattr(node, field.name)) for field in dataclasses.fields(node)]
        return (type(node).__name__, *inside)
    if isinstance(node, tuple):
        return tuple(without_places(item) for item in node)
    return node


@pytest.mark.parametrize("text", ALL)
def test_every_form_parses_and_comes_back(text: str) -> None:
    first = parse(text)
    canonical = unparse(first)
    assert without_places(parse(canonical)) == without_places(first)
    assert unparse(parse(canonical)) == canonical


@pytest.mark.parametrize("text", ALL)
def test_records_know_their_place(text: str) -> None:
    statement = parse(text)
    assert re.match(r"[A-Za-z(]", text[statement.span.start :])
    assert statement.span.end <= len(text)


@long_rounds(150)
@given(text=conditions())
def test_conditions_come_back(text: str) -> None:
    first = parse_condition(text)
    assert unparse_expression(parse_condition(unparse_expression(first))) == unparse_expression(first)


def test_scripts_are_cut_at_semicolons() -> None:
    text = ";\n".join(ALL) + ";"
    assert [type(one) for one in parse_script(text)] == [type(parse(one)) for one in ALL]
    assert parse_script("  -- nothing\n ; ; /* here */ ") == ()


def test_a_pattern_is_no_comment() -> None:
    statement = parse("SUBSCRIBE TO users/* WHERE a = 1 /* this is one */")
    assert isinstance(statement, ast.Subscribe)
    assert statement.pattern == "users/*"
    script = parse_script("SUBSCRIBE TO a/*;SUBSCRIBE TO b/*/c;")
    assert [one.pattern for one in script if isinstance(one, ast.Subscribe)] == ["a/*", "b/*/c"]


def tokens_of(text: str) -> list[tuple[int, int]]:
    found = re.finditer(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|\w+|\S", text)
    return [match.span() for match in found]


def spoiled(text: str) -> list[str]:
    """The text with one token removed, doubled, or misspelled."""
    made = []
    for start, end in tokens_of(text):
        word = text[start:end]
        made += [text[:start] + text[end:], f"{text[:end]} {word}{text[end:]}", text[:start] + word[:-1] + text[end:]]
        if len(word) > 2:
            made.append(text[:start] + word[1] + word[0] + word[2:] + text[end:])
        made.append(text[:start] + "§" + text[end:])
    return made


@pytest.mark.parametrize("text", ALL)
def test_spoiled_statements_parse_or_are_syntax_errors(text: str) -> None:
    for wrong in spoiled(text):
        try:
            parse(wrong)
        except GqlSyntaxError as error:
            assert error.position is not None, wrong
            assert "^" in error.render(), wrong
        except GqlError as error:
            # A name or an option may be wrong in a text that is a statement: the place is known all the same.
            assert error.position is not None, wrong


@long_rounds(150)
@given(
    text=st.sampled_from(ALL),
    cuts=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 20), st.text(max_size=5)), min_size=1, max_size=4),
)
def test_mangled_statements_never_raise_anything_else(text: str, cuts: list[tuple[int, int, str]]) -> None:
    for place, length, inserted in cuts:
        text = text[:place] + inserted + text[place + length :]
    try:
        for statement in parse_script(text):
            unparse(statement)
    except GqlError as error:
        assert error.position is not None


@pytest.mark.parametrize(
    ("text", "position", "says", "hint"),
    [
        ("SUBSCRBE TO t", (1, 1), "'SUBSCRBE' cannot stand here", "SUBSCRIBE"),
        ("SELECT a FORM t", (1, 10), "'FORM' cannot stand here", "FROM"),
        ("CREATE TOPIC t\nWITH OPTINS (a: 1)", (2, 6), "'OPTINS'", "OPTIONS"),
        ("SUBSCRIBE TO t WHERE a = 1 ADN b = 2", (1, 28), "'ADN'", "AND"),
        ("SUBSCRIBE TO", (1, 13), "ends here", None),
        ("SUBSCRIBE TO t WHERE a = 'x", (1, 26), "not closed", None),
        ('PUBLISH TO t {"a": 1', (1, 14), "JSON", None),
        ('PUBLISH TO t {"a": NaN}', (1, 20), "JSON", None),
        ("PUBLISH TO t {'a': 1}", (1, 15), "JSON", None),
        ("CREATE TOPIC ../etc/passwd", (1, 14), "cannot stand here", None),
        ('CREATE TOPIC "../etc"', (1, 14), "topic", None),
        ('CREATE TOPIC ""', (1, 14), "topic", None),
        ("CREATE TOPIC a//b", (1, 15), "", None),
        ("CREATE TOPIC t WITH OPTIONS (a: 1) WITH OPTIONS (b: 2)", (1, 36), "twice", None),
        ("SUBSCRIBE TO t LIMIT 1 LIMIT 2", (1, 24), "twice", None),
        ("SUBSCRIBE TO t WHERE a = 1 OR", (1, 30), "go on with an expression", None),
        ("SELECT * FROM t; SELECT", (1, 18), "one statement", None),
        ("", (1, 1), "no statement", None),
        ("-- only a comment", (1, 1), "no statement", None),
    ],
)
def test_errors_say_where_and_what_would_be_right(
    text: str, position: tuple[int, int], says: str, hint: str | None
) -> None:
    with pytest.raises(GqlSyntaxError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert caught.value.position == position
    if hint is not None:
        assert caught.value.hint == f"did you mean {hint}?"


def test_the_caret_stands_under_the_token() -> None:
    with pytest.raises(GqlSyntaxError) as caught:
        parse("SELECT a,\n\tb FORM t")
    assert caught.value.render().splitlines()[1:3] == ["\tb FORM t", "\t  ^^^^"]


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("SELECT 1", False),
        ("SELECT 1;", True),
        ("SELECT 1; SELECT", False),
        ("SELECT ';", False),
        ("SELECT ';';", True),
        ("SELECT 1 -- ;", False),
        ("SELECT 1 /* ;", False),
        ('PUBLISH TO t {"a": ";"}', False),
        ('PUBLISH TO t {"a": ";"};', True),
        ('PUBLISH TO t {"a":\n', False),
        ("SUBSCRIBE TO users/*;", True),
        ("nonsense ' ;", False),
        ("nonsense;", True),
    ],
)
def test_the_shell_knows_when_a_statement_is_whole(text: str, complete: bool) -> None:
    assert statement_is_complete(text) is complete


@pytest.mark.parametrize(
    "text",
    [
        "PUBLISH TO t " + "[" * 100_000,
        "PUBLISH TO t " + "[" * 100_000 + "]" * 100_000,
        "SELECT " + "(" * 100_000,
        "CREATE TOPIC t SCHEMA (a " + "LIST<" * 100_000 + "INT" + ">" * 100_000 + ")",
        "SELECT 1 FROM " + "(SELECT 1 FROM " * 5_000 + "t" + ") x" * 5_000,
        "EXPLAIN " * 50_000 + "SELECT 1",
        'PUBLISH TO t {"a": "\\ud800"}',
        'PUBLISH TO t {"a": 1e400}',
        "SELECT 'a\x00b' FROM t WHERE \x01 = 1",
        "SELECT " + "9" * 10_000,
        "\ufeff\ufeff§",
        "SELECT " + "a." * 50_000 + "§",
        "SELECT " + "-." * 50_000,
        "SELECT " + "*" * 100_000 + "/",
        "SELECT '" + "''" * 50_000,
    ],
    ids=range(15),
)
def test_hostile_texts_are_errors_like_any_other(text: str) -> None:
    with pytest.raises(GqlError):
        parse(text)


@pytest.mark.parametrize("space", [" ", "\n", "\ufeff", "-- x\n", "/**/", "/* x */ "])
def test_any_amount_of_space_may_stand_before_a_statement(space: str) -> None:
    """As deep as a statement is indented: cutting it out takes time in proportion."""
    assert isinstance(parse(space * 10_000 + "SELECT 1"), ast.Select)
    assert isinstance(parse(space * 10_000 + "PUBLISH" + space * 10_000 + "TO t 1"), ast.Publish)


def test_the_tables_belong_to_the_grammar() -> None:
    assert stored_digest() == digest(), "grammar/gql.lark has changed: run 'make tables'"


def test_nothing_of_the_specification_is_forgotten() -> None:
    assert len(SPECIFICATION) == 10
    kinds = {type(parse(text)) for text in FORMS}
    assert kinds == set(ast.Statement.__args__), "a statement of the language has no example here"


def test_golden_records(golden: Any) -> None:
    """The records of the specification's statements, as they were when somebody last looked at them."""
    shown = "\n".join(f"{' '.join(text.split())}\n    {without_places(parse(text))}" for text in SPECIFICATION)
    golden(Path(__file__).parent / "golden" / "specification.txt", shown + "\n")
