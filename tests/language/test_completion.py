"""What may stand at the cursor, from the grammar and the tokens before."""

import pytest

from geode_client.grammar.completion import Kind, Place, place_at
from geode_client.grammar.words import keywords, phrases


def at(text: str) -> Place:
    """The place of the mark ^ in a text; at its end where there is none."""
    cursor = text.find("^")
    return place_at(text.replace("^", ""), len(text) if cursor < 0 else cursor)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("SU", "SUBSCRIBE TO"),
        ("create topic t; des", "DESCRIBE TOPIC"),
        ("SUBSCRIBE TO t WHE", "WHERE"),
        ("SUBSCRIBE TO users/* ORD", "ORDER BY"),
        ("CREATE TOPIC t W", "WITH"),
        ("CREATE TOPIC t WITH D", "DELIVERY"),
        ("SELECT a FROM t GR", "GROUP BY"),
        ("SELECT a FROM t WHERE a IS ", "NULL"),
        ("SELECT * FROM ", "DEAD LETTERS OF"),
        ('PUBLISH TO t {"a": [1, {}]} W', "WITH OPTIONS"),
        ("EXPLAIN SUB", "SUBSCRIBE TO"),
        ("DROP TOPIC ", "IF EXISTS"),
    ],
)
def test_words_of_the_grammar(text: str, word: str) -> None:
    assert word in at(text).words


@pytest.mark.parametrize(
    ("text", "kind", "prefix"),
    [
        ("SUBSCRIBE TO users/cr", Kind.PATTERN, "users/cr"),
        ("PUBLISH TO ", Kind.TOPIC, ""),
        ("SELECT * FROM SYSTEM.to", Kind.SYSTEM_TABLE, "SYSTEM.to"),
        ("SUBSCRIBE TO t GROUP w", Kind.GROUP, "w"),
        ("DROP SUBSCRIPTION ", Kind.GROUP, ""),
        ("CREATE TOPIC t WITH OPTIONS (partitions: 4, re", Kind.OPTION, "re"),
        ("CREATE TOPIC t WITH OPTIONS (retention: 'co", Kind.OPTION_VALUE, "co"),
        ("CREATE TOPIC t SCHEMA (a ST", Kind.TYPE, "ST"),
        ("SELECT CAST(a AS ", Kind.TYPE, ""),
        ("SUBSCRIBE TO t WHERE a = 1 AND st", Kind.FIELD, "st"),
        ("SUBSCRIBE TO t WHERE LO", Kind.FUNCTION, "LO"),
        ("SELECT CO^ FROM t", Kind.AGGREGATE, "CO"),
        ("INSERT INTO t (", Kind.FIELD, ""),
        ("SELECT $na", Kind.PARAMETER, "$na"),
        ("COPY t FROM 'examples/or", Kind.FILE, "examples/or"),
        ('PUBLISH TO t {"a": {"b', Kind.JSON_FIELD, "b"),
    ],
)
def test_kinds_of_names(text: str, kind: Kind, prefix: str) -> None:
    place = at(text)
    assert kind in place.kinds
    assert place.prefix == prefix


def test_what_is_read_is_told_from_before_and_behind_the_cursor() -> None:
    place = at("SELECT o.^ FROM orders AS o JOIN SYSTEM.topics t ON 1 = 1 WHERE x")
    assert [(source.name, source.alias) for source in place.sources] == [("orders", "o"), ("SYSTEM.topics", "t")]
    assert place.path == ("o",)
    assert [source.name for source in at("SELECT ^ FROM orders WHERE a = 1").sources] == ["orders"]
    assert at("SUBSCRIBE TO t WHERE a.b['c'] = 1 AND a.").path == ("a",)
    assert at('PUBLISH TO t {"a": {"b": {"').path == ("a", "b")


@pytest.mark.parametrize(
    "text",
    [
        "SELEC FROM x WHERE ",
        "CREATE TOPIC ",
        "SELECT 'open",
        'PUBLISH TO t {"a": "tex',
        'PUBLISH TO t {"a": ',
        "SELECT a -- remark",
    ],
)
def test_nothing_is_offered_where_nothing_can_be_known(text: str) -> None:
    place = at(text)
    assert not place.kinds & {Kind.TOPIC, Kind.FIELD, Kind.JSON_FIELD, Kind.FILE}


def test_the_words_are_those_of_the_grammar() -> None:
    assert phrases()["IF_NOT_EXISTS"] == "IF NOT EXISTS"
    assert phrases()["CAST"] == "CAST"
    assert {"SUBSCRIBE", "DEAD", "LETTERS", "INTERVAL", "AT_LEAST_ONCE", "TRY_CAST"} <= keywords()
    assert "FUNCTION" not in phrases()
