"""Words that are refused, bounds that hold, and slips that get the hint they need."""

import pytest

from geode_client.errors import GqlError, GqlSyntaxError
from geode_client.grammar import parse, parse_script
from geode_client.grammar.parser import parse_condition
from geode_client.grammar.scan import STATEMENT_CHARACTERS_MAX
from geode_client.grammar.slips import _UNSUPPORTED


@pytest.mark.parametrize("word", sorted(set(_UNSUPPORTED) - {"ROWS", "RANGE", "GROUPS"}))
def test_a_word_that_is_not_built_is_no_alias(word: str) -> None:
    for text in (f"SELECT a FROM t {word}", f"SELECT a FROM t {word} JOIN u ON a = b", f"SELECT a {word} FROM t"):
        with pytest.raises(GqlSyntaxError, match=f"{word} is not supported") as caught:
            parse(text)
        assert caught.value.position is not None
        assert f"AS {word}" in (caught.value.hint or "")
    for text in (f"SELECT a AS {word} FROM t AS {word}", f'SELECT a "{word}" FROM t "{word}"', f"SELECT {word} FROM t"):
        parse(text)


@pytest.mark.parametrize("word", ["ON", "AND", "OR", "BY", "SET", "THEN", "WHERE", "USING", "VALUES", "SELECT", "LIKE"])
def test_a_word_of_the_language_is_no_alias(word: str) -> None:
    with pytest.raises(GqlSyntaxError):
        parse(f"SELECT a FROM t {word}")


@pytest.mark.parametrize(
    "name", ["from", "or", "where", "end", "order", "group", "value", "timestamp", "rank", "window"]
)
def test_a_field_may_be_called_like_a_word(name: str) -> None:
    parse(f"SELECT {name} FROM t WHERE {name} = 1 AND {name} IS NOT NULL ORDER BY {name}, b")


@pytest.mark.parametrize("text", ["1_000", "0x1F", "0b1", "12abc", "1.5x", "1e5x", "1__", "3a4"])
def test_a_number_ends_where_a_word_would_go_on(text: str) -> None:
    with pytest.raises(GqlSyntaxError) as caught:
        parse(f"SELECT {text}")
    assert caught.value.position == (1, 8)
    with pytest.raises(GqlSyntaxError):
        parse(f"SUBSCRIBE TO t WHERE a = {text}")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("SELECT a, FROM t", "comma"),
        ("SELECT FROM t", "name what to select"),
        ("SELECT * t", "is FROM missing"),
        ("SELECT a::INT FROM t", "CAST"),
        ("SELECT a FROM t WHERE a == 1", "written ="),
        ("SELECT a FROM t WHERE a = 1 && b = 2", "AND"),
        ("SELECT a FROM t WHERE !a", "NOT"),
        ("SELECT a FROM t WHERE a = ?", r"\$name"),
        ("DELETE FROM t", "PURGE"),
        ("UPDATE t SET a = 1", "publish a new one"),
        ("SELECT a FROM t WEHRE a = 1", "did you mean WHERE"),
        ("SELECT sum(a) OVER (ORDER BY a ROWS 1 PRECEDING) FROM t", "window reaches"),
    ],
)
def test_slips_get_a_hint(text: str, hint: str) -> None:
    with pytest.raises(GqlSyntaxError) as caught:
        parse(text)
    assert caught.value.hint is not None
    assert hint.replace("\\", "") in caught.value.hint


def test_a_condition_has_at_most_2000_tokens() -> None:
    parse_condition(" OR ".join(["a = 1"] * 500))
    with pytest.raises(GqlSyntaxError, match="at most 2000 tokens; this one has 2003"):
        parse_condition(" OR ".join(["a = 1"] * 501))
    with pytest.raises(GqlSyntaxError, match="at most 2000 tokens"):
        parse("SELECT " + "+".join(["a"] * 1001) + " FROM t")


def test_a_condition_has_at_most_16_kib_but_for_lists() -> None:
    parse_condition(f"a = '{'x' * 16_000}'")
    with pytest.raises(GqlSyntaxError, match="at most 16384 characters"):
        parse_condition(f"a = '{'x' * 17_000}'")
    with pytest.raises(GqlSyntaxError, match="at most 16384 characters"):
        parse_condition(f"a IN (1, 2) AND a = '{'x' * 17_000}'")
    items = ", ".join(f"'{number:030}'" for number in range(10_000))
    parse_condition(f"a IN ({items})")
    with pytest.raises(GqlSyntaxError, match="at most 10000 items"):
        parse_condition(f"a IN ({items}, 'x')")


def test_a_statement_has_at_most_64_mib() -> None:
    body = "x" * (STATEMENT_CHARACTERS_MAX - 40)
    assert len(parse_script(f'PUBLISH TO t {{"a": "{body}"}};SELECT 1')) == 2
    with pytest.raises(GqlSyntaxError, match="a statement has at most 67108864 characters"):
        parse(f'PUBLISH TO t {{"a": "{body + "x" * 40}"}}')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (" UNION ".join(["SELECT 1"] * 101), "at most 100 queries"),
        ("SELECT 1 FROM " + ", ".join(["t"] * 65), "at most 64 sources"),
        ("WITH " + ", ".join(f"a{n} AS (SELECT 1)" for n in range(101)) + " SELECT 1", "at most 100 tables"),
        ("WITH a AS (SELECT 1), a AS (SELECT 2) SELECT 1", "names a twice"),
        ("WITH RECURSIVE a AS (SELECT 1) SELECT 1", "RECURSIVE is not supported"),
        ("SELECT " + "(SELECT " * 65 + "1" + ")" * 65, "nested more than 64 deep"),
        ("SELECT a FROM t JOIN u USING (a, a)", "a is named twice"),
        ("SELECT row_number()", "needs a window"),
        ("SELECT upper(a) OVER () FROM t", "takes no OVER"),
        ("SELECT lag() OVER () FROM t", "1 to 3 arguments"),
        ("SUBSCRIBE TO t WHERE EXISTS (SELECT 1)", "sub-query is not allowed in a filter"),
        ("SUBSCRIBE TO t WHERE count(*) OVER () = 1", "OVER is not allowed in a filter"),
    ],
)
def test_what_is_too_much_or_out_of_place_is_refused(text: str, says: str) -> None:
    with pytest.raises(GqlError, match=says):
        parse(text)
