"""What the words of SELECT mean where a golden script does not show it: values of Python, several readers, own names."""

import pytest

from geode_client import Client, GqlError, SyncClient


def rows(client: SyncClient, text: str, **params: object) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = client.query(text, params).rows
    return found


@pytest.fixture
def client() -> SyncClient:
    made = SyncClient(":memory:")
    made.execute('PUBLISH TO t {"a": 1, "s": "x"}, {"a": 2, "s": "y"}, {"a": 3}, {"a": null}')
    return made


def test_in_takes_a_list_as_a_parameter(client: SyncClient) -> None:
    text = "SELECT a FROM t WHERE a IN $list ORDER BY a"
    assert rows(client, text, list=[1, 3, 9]) == [(1,), (3,)]
    assert rows(client, text, list=[]) == []
    assert rows(client, "SELECT a FROM t WHERE a NOT IN $list ORDER BY a", list=[]) == [(1,), (2,), (3,), (None,)]
    assert rows(client, "SELECT a FROM t WHERE a NOT IN $list ORDER BY a", list=[1, None]) == []
    assert rows(client, "SELECT s FROM t WHERE s IN $list", list=("x", 1)) == [("x",)]
    assert rows(client, "SELECT a IN $list AS found FROM t WHERE a = 1", list={1}) == [(True,)]
    with pytest.raises(GqlError, match="takes a list, not a int"):
        rows(client, text, list=1)
    with pytest.raises(GqlError, match="at most 10000 items"):
        rows(client, text, list=list(range(10_001)))
    with pytest.raises(GqlError, match=r"\$list has no value"):
        rows(client, text)


async def test_a_subscription_takes_a_list_too() -> None:
    async with Client(":memory:") as client:
        await client.publish_batch("t", [{"a": n} for n in range(10)])
        found = []
        async with client.subscribe("t", filter="a IN $list", params={"list": [2, 7]}, from_beginning=True) as messages:
            async for message in messages:
                found.append(message["a"])
        assert found == [2, 7]


def test_a_quoted_name_is_the_field(client: SyncClient) -> None:
    client.execute('PUBLISH TO v {"_id": "mine", "_offset": 99}')
    assert rows(client, 'SELECT v."_id", w FROM v JOIN (SELECT 1 AS w) AS x ON TRUE WHERE v."_offset" = 99') == [
        ("mine", 1)
    ]
    assert rows(client, 'SELECT y."_id" FROM (SELECT * FROM v) AS y WHERE y."_offset" = 99') == [("mine",)]
    assert rows(client, "SELECT v._offset FROM v WHERE v._offset = 0") == [(0,)]
    assert rows(client, "SELECT v['_offset'] FROM v") == [(99,)]


def test_columns_of_one_name_are_all_there(client: SyncClient) -> None:
    result = client.query("SELECT a, s AS a, 7 AS a_1, 8 AS a FROM t WHERE a = 1")
    assert result.columns == ("a", "a", "a_1", "a")
    assert result.dicts() == [{"a": 1, "a_2": "x", "a_1": 7, "a_3": 8}]
    assert result.to_arrow().column_names == ["a", "a_2", "a_1", "a_3"]
    with pytest.raises(GqlError, match="two columns are called a"):
        client.execute("INSERT INTO u SELECT a, s AS a FROM t")


def test_a_message_that_is_no_object_is_its_value(client: SyncClient) -> None:
    client.publish_batch("n", [1, 2, "x", [3], {"value": 4}, None, {"a": 5}])
    assert rows(client, "SELECT value FROM n WHERE value > 1") == [(2,), (4,)]
    assert rows(client, "SELECT count(value), max(value) FROM n WHERE value < 100") == [(3, 4)]
    assert rows(client, "SELECT _offset FROM n WHERE value IS NULL") == [(5,), (6,)]


def test_sub_queries_name_their_columns(client: SyncClient) -> None:
    result = client.query("SELECT (SELECT max(a) FROM t), a IN (SELECT 1), EXISTS (SELECT 2) FROM t WHERE a = 1")
    assert result.columns == ("(SELECT MAX(a) FROM t)", "a IN (SELECT 1)", "EXISTS(SELECT 2)")
    assert result.rows == [(3, True, True)]


def test_insert_does_not_read_what_it_stores(client: SyncClient) -> None:
    client.execute("INSERT INTO t SELECT a + 10 AS a FROM t WHERE a > 0")
    assert rows(client, "SELECT a FROM t WHERE a > 5 ORDER BY a") == [(11,), (12,), (13,)]
    client.execute("INSERT INTO t SELECT * FROM t")
    assert rows(client, "SELECT count(*) FROM t") == [(14,)]


def test_fields_that_no_message_has_are_named(client: SyncClient) -> None:
    assert client.query("SELECT aa FROM t").notices == ("no recent message of t has a field aa: did you mean a?",)
    assert client.query('SELECT a FROM t WHERE s = "x"').notices == (
        "no recent message of t has a field x: text is in single quotes: 'x'",
    )
    assert client.query("SELECT a, s FROM t").notices == ()
    client.execute("CREATE TOPIC empty")
    assert client.query("SELECT anything FROM empty").notices == ()
    assert client.query("SELECT a * 2 AS a FROM t ORDER BY a").notices == (
        "ORDER BY reads a as the value that SELECT calls so, which hides the field a",
    )
    with pytest.raises(GqlError, match="t is called u here"):
        client.query("SELECT t.a FROM t AS u")


def test_a_name_means_a_declared_column_before_an_alias(client: SyncClient) -> None:
    client.execute("CREATE TOPIC d SCHEMA (a INT)")
    client.execute('PUBLISH TO d {"a": 1, "b": 1}, {"a": 3, "b": 3}')
    assert rows(client, "SELECT a % 2 AS a, count(*) FROM d GROUP BY a ORDER BY 2") == [(1, 1), (1, 1)]
    assert rows(client, "SELECT b % 2 AS b, count(*) FROM d GROUP BY b") == [(1, 2)]
    assert rows(client, "SELECT -a AS a FROM d ORDER BY a") == [(-3,), (-1,)]
    assert rows(client, "SELECT -max(a) AS b FROM d HAVING b < 0") == [(-3,)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SELECT * FROM t, t AS u RIGHT JOIN t AS v ON t.a = v.a", "cannot read what is before the comma"),
        ("SELECT 1 FROM t RIGHT JOIN UNNEST(t.a) AS x ON TRUE", "UNNEST takes CROSS JOIN"),
        ("SELECT 1 FROM t WHERE a = (SELECT a, s FROM t)", "has one column"),
        ("SELECT * EXCEPT SELECT 1", "\\* needs a FROM"),
        ("WITH x (p, q) AS (SELECT a FROM t) SELECT p FROM x", "2 names for 1 columns"),
        ("SELECT sum(rank() OVER (ORDER BY a)) OVER () FROM t", "not allowed in another window"),
        ("SELECT a FROM t GROUP BY rank() OVER (ORDER BY a)", "not allowed in GROUP BY"),
        ("SELECT a FROM t ORDER BY 3", "no selected value number 3"),
        ("SELECT a", "has no FROM"),
    ],
)
def test_what_has_no_meaning_is_refused(client: SyncClient, text: str, says: str) -> None:
    with pytest.raises(GqlError, match=says):
        client.query(text)
