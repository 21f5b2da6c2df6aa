"""Errors point at the place in a statement: in Python, in scripts and at the command line alike."""

from pathlib import Path

import pytest
from command import geode

from geode_client import Client, GeodeError, GqlSyntaxError, GroupNotFound, SyncClient, TopicNotFound

WRONG = [
    ("SELECT * FROM nosuch", "nosuch", 14),
    ("SELECT nosuch FROM nosuch", "nosuch", 19),
    ("SELECT 'FROM nosuch' AS a -- FROM nosuch\nFROM nosuch", "nosuch", 46),
    ("SELECT 1 FROM orders o JOIN nosuch n ON o.a = n.a", "nosuch", 28),
    ("SELECT a FROM orders WHERE a IN (SELECT x FROM nosuch)", "nosuch", 47),
    ('SELECT * FROM "nosuch/ü"', '"nosuch/ü"', 14),
    ("DESCRIBE TOPIC nosuch", "nosuch", 15),
    ("DROP TOPIC nosuch", "nosuch", 11),
    ("PURGE TOPIC nosuch", "nosuch", 12),
    ("EXPLAIN SELECT * FROM nosuch", "nosuch", 22),
    ("TEST FILTER 'nosuch > 1' ON nosuch", "nosuch", 28),
    ("COPY nosuch TO 'nosuch.csv'", "nosuch", 5),
    ("CREATE TOPIC orders", "orders", 13),
    ("PAUSE SUBSCRIPTION g ON orders", "g", 19),
    ("SELECT * FROM SYSTEM.nosuch", "SYSTEM.nosuch", 14),
    ("SELECT sum(a) FROM orders WHERE sum(a) > 1", "sum(a)", 32),
]


@pytest.mark.parametrize(("statement", "wanted", "start"), WRONG)
def test_the_caret_is_under_what_is_wrong(statement: str, wanted: str, start: int, tmp_path: Path) -> None:
    assert statement[start : start + len(wanted)] == wanted
    line = statement[:start].count("\n") + 1
    column = start - (statement[:start].rfind("\n") + 1) + 1
    shown = f"{statement.split(chr(10))[line - 1]}\n{' ' * (column - 1)}{'^' * len(wanted)}"
    script = tmp_path / "script.gql"
    script.write_text(statement + ";", encoding="utf-8")
    with SyncClient(tmp_path / "store") as client:
        client.publish("orders", {"a": 1})
        with pytest.raises(GeodeError) as raised:
            client.execute(statement)
        assert raised.value.position == (line, column)
        assert str(raised.value).startswith(f"<text>:{line}:{column}: ")
        assert shown in str(raised.value)
        with pytest.raises(GeodeError) as raised:
            client.run_script(script)
        assert str(raised.value).startswith(f"{script}:{line}:{column}: ")
    code, _, err = geode("-t", str(tmp_path / "store"), "run", str(script))
    assert code == 1
    assert shown in err.replace(";\n", "\n")


async def test_the_text_of_a_syntax_error_has_line_caret_and_hint() -> None:
    async with Client(":memory:") as client:
        with pytest.raises(GqlSyntaxError) as raised:
            await client.execute("SELECT *\nFRM orders")
        with pytest.raises(GqlSyntaxError) as filtered:
            client.subscribe("t", filter="a LKE 'b'")
    assert str(raised.value).startswith("<text>:2:1: ")
    assert str(raised.value).endswith("\nFRM orders\n^^^\nhint: did you mean FROM?")
    assert raised.value.text == raised.value.message
    assert "\na LKE 'b'\n  ^^^" in str(filtered.value)


async def test_without_a_statement_there_is_no_place(directory: Path) -> None:
    async with Client(directory, auto_create=False) as client:
        with pytest.raises(TopicNotFound) as raised:
            await client.publish("nosuch", 1)
        assert raised.value.position is None
        assert str(raised.value) == f"{raised.value.text}"
        await client.execute("CREATE TOPIC t")
        with pytest.raises(GroupNotFound) as group:
            await client.health("t", group="g")
        assert "\n" not in str(group.value)
