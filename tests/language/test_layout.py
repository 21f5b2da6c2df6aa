"""`geode fmt`: the same statements, the same comments, and nothing more to do the second time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from language.statements import FORMS, SPECIFICATION
from settings import long_rounds

from geode_client.grammar.layout import WIDTH, check_same, formatted
from geode_client.grammar.source import Source

STATEMENTS = [*SPECIFICATION, *FORMS]


def form_of(text: str) -> str:
    """The form of a text, after what must hold of every form has been checked."""
    made = formatted(Source(text))
    check_same(text, made)
    assert "\n\n\n" not in made
    assert formatted(Source(made)) == made
    return made


@pytest.mark.parametrize("text", STATEMENTS)
def test_every_statement_keeps_its_meaning(text: str) -> None:
    form_of(text)


PLAIN = [text for text in STATEMENTS if "--" not in text and "/*" not in text]
# What is one word to the parser holds spaces, but no comments.
SPACE = re.compile(
    r" (?=(?:[A-Z]{2,}|[a-z]+\b)[^'\"`{]*$)(?<!\bIF )(?<!NOT )(?<!DEAD )(?<!LETTERS )(?<!NULLS )", re.IGNORECASE
)


@long_rounds(100)
@given(st.lists(st.sampled_from(PLAIN), min_size=1, max_size=4), st.data())
def test_spaces_and_comments_change_nothing_but_the_form(texts: list[str], data: st.DataObject) -> None:
    comments = iter(range(1_000))
    spaces = st.sampled_from([" ", "  ", "\n", "\n\n\n", "\t", " -- remark\n", "\n-- remark\n", " /* remark */ "])

    def space(found: re.Match[str]) -> str:
        chosen = data.draw(spaces)
        return chosen.replace("remark", f"remark {next(comments)}") if "remark" in chosen else chosen

    text = ";\n".join(SPACE.sub(space, one) for one in texts)
    made = form_of(text)
    assert re.findall(r"remark \d+", made) == re.findall(r"remark \d+", text)


def test_short_statements_are_one_line_and_long_ones_a_clause_a_line() -> None:
    assert (
        form_of("select a,b  from t\nwhere a=1 and b is not null")
        == "SELECT a, b FROM t WHERE a = 1 AND b IS NOT NULL;\n"
    )
    condition = " and ".join(f"field_{n} = 'some text {n}'" for n in range(6))
    assert form_of(f"select a from t where {condition} limit 1") == (
        "SELECT a\n"
        "    FROM t\n"
        "    WHERE field_0 = 'some text 0' AND field_1 = 'some text 1' AND field_2 = 'some text 2' AND field_3 = 'some text 3'\n"
        "        AND field_4 = 'some text 4' AND field_5 = 'some text 5'\n"
        "    LIMIT 1;\n"
    )


def test_comments_and_empty_lines_stay_where_they_are() -> None:
    text = (
        "-- what this is\n"
        "\n\n\n"
        "CREATE TOPIC t SCHEMA ( -- columns\n"
        "a INT, -- first\n"
        "-- the other\n"
        "b INT);   -- done\n"
        "DROP TOPIC t;\n"
        "-- the end"
    )
    assert form_of(text) == (
        "-- what this is\n"
        "\n"
        "CREATE TOPIC t\n"
        "    SCHEMA ( -- columns\n"
        "        a INT, -- first\n"
        "        -- the other\n"
        "        b INT\n"
        "    );  -- done\n"
        "DROP TOPIC t;\n"
        "-- the end\n"
    )


def test_json_names_and_other_scripts_are_kept_as_written() -> None:
    text = 'publish to t {"a":  1,\n "b": [ ]} with options (key:$k);\n\\i  other.gql\n\nselect "A b", `c` from "x-1";'
    assert form_of(text) == (
        'PUBLISH TO t\n    {"a":  1,\n "b": [ ]}\n    WITH OPTIONS (key: $k);\n\\i other.gql\n\nSELECT "A b", `c` FROM "x-1";\n'
    )


def test_nothing_is_wider_than_the_page_but_what_cannot_be_cut() -> None:
    columns = ", ".join(f"column_number_{n} STRING NOT NULL" for n in range(20))
    made = form_of(f"create topic t schema ({columns})")
    assert max(len(line) for line in made.split("\n")) <= WIDTH


def test_an_empty_text_stays_empty() -> None:
    assert form_of("") == ""
    assert form_of("\n\n") == ""
    assert form_of("-- only this") == "-- only this\n"
