"""Types from end to end: publishing, storing, reading again, conditions of groups, joins, defaults, parameters, files, Arrow."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from geode_client import GqlError, SchemaViolation, SyncClient

EXACT = Decimal("0.123456789012345678901234567890")
TOKEN = UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff")


@pytest.fixture
def client() -> Iterator[SyncClient]:
    with SyncClient(":memory:") as made:
        yield made


def rows(client: SyncClient, text: str, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(text, params).rows]


def test_values_keep_their_types_in_a_file_and_after_a_restart(tmp_path: Path) -> None:
    with SyncClient(tmp_path / "data") as client:
        client.execute(
            "CREATE TOPIC t SCHEMA (m NUMERIC(40, 30), d DATE, at TIMESTAMP, u UUID, l DECIMAL[], p MAP<STRING, DECIMAL>,"
            " s STRUCT<m: DECIMAL, f: DOUBLE, at: TIMESTAMP, d: DATE, u: UUID>, e DECIMAL DEFAULT 0.12345678901234567890123)"
        )
        inner = {
            "m": EXACT,
            "f": 0.1,
            "at": "2026-01-01T01:00:00+01:00",
            "d": "2024-02-29",
            "u": str(TOKEN).upper(),
            "x": 0.1,
        }
        client.publish(
            "t",
            {
                "m": EXACT,
                "d": date(2024, 2, 29),
                "at": datetime(2026, 1, 1, tzinfo=UTC),
                "u": TOKEN,
                "l": [EXACT, "1.50", 2],
                "p": {"a": EXACT},
                "s": inner,
                "other": 0.1,
            },
        )
    with SyncClient(tmp_path / "data") as client:
        found = client.query("SELECT * FROM t").dicts()[0]
        midnight = datetime(2026, 1, 1, tzinfo=UTC)
        assert found["m"] == EXACT
        assert (found["d"], found["at"], found["u"]) == (date(2024, 2, 29), midnight, TOKEN)
        assert found["l"] == [EXACT, Decimal("1.50"), Decimal(2)]
        assert found["p"] == {"a": EXACT}
        wanted = {"m": EXACT, "f": 0.1, "at": midnight, "d": date(2024, 2, 29), "u": TOKEN, "x": 0.1}
        assert found["s"] == wanted
        assert isinstance(found["s"]["f"], float)
        assert isinstance(found["s"]["x"], float)
        assert found["e"] == Decimal("0.12345678901234567890123")
        assert found["other"] == 0.1
        assert isinstance(found["other"], float)
        assert rows(client, "SELECT s.m, s.f, l[0], p.a, s.u FROM t") == [(EXACT, 0.1, EXACT, EXACT, TOKEN)]


CONDITIONS = (
    "m = 0.123456789012345678901234567890",
    "m <> 0.12345678901234568",
    "m < 0.1234567890123456789012345678901 AND m > 0.12345678901234567890123456788",
    "m IN (1, 0.123456789012345678901234567890)",
    "m BETWEEN 0.12345678901234567890123456789 AND 0.12345678901234567890123456789",
    "m = $exact",
    "l[*] = 1.5",
    "s.m = $exact",
    "u = '6F9619FF8B86D011B42D00CF4FC964FF'",
    "u = $token",
    "u IN ('6F9619FF-8B86-D011-B42D-00CF4FC964FF')",
    "d = '2024-02-29' AND d = DATE '2024-02-29' AND d < TIMESTAMP '2024-02-29T00:00:01Z'",
    "d = $day",
    "TYPEOF(m) = 'DECIMAL' AND TYPEOF(d) = 'DATE' AND TYPEOF(u) = 'UUID' AND TYPEOF(at) = 'TIMESTAMP'",
    "EXISTS(l[*]) AND EXISTS(s.m) AND NOT EXISTS(s.nothing)",
    "CAST(u AS STRING) = '6f9619ff-8b86-d011-b42d-00cf4fc964ff'",
)
PARAMS = {"exact": EXACT, "token": TOKEN, "day": date(2024, 2, 29)}


@pytest.fixture(scope="module")
def typed() -> Iterator[SyncClient]:
    with SyncClient(":memory:") as client:
        client.execute(
            "CREATE TOPIC t SCHEMA (m DECIMAL, d DATE, at TIMESTAMP, u UUID, l DECIMAL[], s STRUCT<m: DECIMAL>)"
        )
        client.publish(
            "t",
            {"m": EXACT, "d": "2024-02-29", "at": "2026-01-01T00:00:00Z", "u": TOKEN, "l": [1.5], "s": {"m": EXACT}},
        )
        yield client


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_means_the_same_everywhere(typed: SyncClient, condition: str) -> None:
    where = f"WHERE {condition}"
    assert rows(typed, f"SELECT count(*) FROM t {where}", PARAMS) == [(1,)]
    assert rows(typed, f"SELECT count(*) FROM (SELECT * FROM t) x {where}", PARAMS) == [(1,)]
    assert rows(typed, f"SELECT ({condition}) FROM t", PARAMS) == [(True,)]
    with typed.subscribe("t", filter=condition, params=PARAMS, from_beginning=True) as subscription:
        assert len(list(subscription)) == 1
    name = f"g{CONDITIONS.index(condition)}"
    with typed.subscribe(
        "t", filter=condition, params=PARAMS, consumer_group=name, from_beginning=True, timeout=10, limit=1
    ) as subscription:
        assert len(list(subscription)) == 1


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("m = 'x'", "never true"),
        ("d = 5", "never true"),
        ("d = 'soon'", "never true"),
        ("u = 5", "never true"),
        ("u = 'x'", "never true"),
        ("at > TRUE", "never true"),
        ("l = 5", "never true"),
        ("l[*] = 'x'", "never true"),
        ("s.m = 'x'", "never true"),
        ("LOWER(m) = 'x'", "LOWER takes text"),
        ("m = u", "never true"),
        ("EXTRACT(YEAR FROM m) = 1", "EXTRACT takes"),
        ("m LIKE 'x'", "LIKE takes text"),
    ],
)
def test_a_declared_column_beside_another_kind_is_an_error(typed: SyncClient, text: str, what: str) -> None:
    for statement in (f"SELECT * FROM t WHERE {text}", f"SUBSCRIBE TO t WHERE {text}", f"SELECT ({text}) FROM t"):
        with pytest.raises(GqlError, match=what):
            typed.execute(statement)
    with pytest.raises(GqlError, match=what), typed.subscribe("t", filter=text):
        pass


def test_equal_numbers_join_and_group_whatever_their_type(client: SyncClient) -> None:
    client.execute("CREATE TOPIC a SCHEMA (k DECIMAL, u UUID, d DATE)")
    client.execute("CREATE TOPIC b")
    for k in ("0.10", "2", "0.12345678901234567890"):
        client.publish("a", {"k": Decimal(k), "u": TOKEN, "d": "2024-02-29"})
    for value in (0.1, 2, 2.0, 1e23, 10**23):
        client.publish("b", {"k": value, "u": str(TOKEN).upper(), "d": "2024-02-29T00:00:00Z"})
    joined = "SELECT b.k FROM a JOIN b ON a.k = b.k"
    assert sorted(row[0] for row in rows(client, joined)) == [0.1, 2, 2.0]
    assert rows(client, "SELECT count(*) FROM a WHERE k IN (SELECT k FROM b)") == [(2,)]
    assert rows(client, "SELECT count(*) FROM a JOIN b ON a.u = b.u AND a.d = b.d") == [(15,)]
    assert rows(client, "SELECT count(*) FROM a WHERE u IN (SELECT u FROM b)") == [(3,)]
    grouped = "SELECT k, count(*) FROM (SELECT k FROM a UNION ALL SELECT k FROM b) x GROUP BY k ORDER BY k"
    assert [row[1] for row in rows(client, grouped)] == [2, 1, 3, 2]
    assert rows(client, "SELECT count(DISTINCT k) FROM (SELECT k FROM a UNION ALL SELECT k FROM b) x") == [(4,)]


def test_first_and_last_go_by_the_time_of_messages(client: SyncClient) -> None:
    client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 4)")
    for number in range(40):
        client.publish("t", {"n": number, "g": number % 2}, partition_key=str(number % 7))
    assert rows(client, "SELECT g, first(n), last(n) FROM t GROUP BY g ORDER BY g") == [(0, 0, 38), (1, 1, 39)]
    found = rows(client, "SELECT array_agg(n) FROM t")[0][0]
    assert found == list(range(40))
    assert rows(client, "SELECT first(n), last(x.n) FROM t AS x WHERE n > 10") == [(11, 39)]


def test_null_sorts_last_in_both_directions(client: SyncClient) -> None:
    client.execute('PUBLISH TO t {"n": 1}, {"n": null}, {"n": 2}')
    assert rows(client, "SELECT n FROM t ORDER BY n") == [(1,), (2,), (None,)]
    assert rows(client, "SELECT n FROM t ORDER BY n DESC") == [(2,), (1,), (None,)]
    assert rows(client, "SELECT n FROM t ORDER BY n DESC NULLS FIRST") == [(None,), (2,), (1,)]


def test_numbers_of_all_types_sort_as_they_compare(client: SyncClient) -> None:
    client.execute("CREATE TOPIC a SCHEMA (k DECIMAL)")
    for k in ("0.1", "0.10000000000000000001", "2", "-1", "100000000000000000000001"):
        client.publish("a", {"k": Decimal(k)})
    for value in (0.1, 1e23, 3, 10**23 - 1, -0.5):
        client.publish("b", {"k": value})
    for direction in ("", " DESC"):
        found = rows(client, f"SELECT k FROM (SELECT k FROM b UNION ALL SELECT k FROM a) x ORDER BY k{direction}")
        values = [Decimal(repr(one)) if isinstance(one, float) else Decimal(one) for (one,) in found]
        assert values == sorted(values, reverse=bool(direction))


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(SchemaViolation) as caught:
        call()
    return str(caught.value)


def test_what_a_type_cannot_hold_is_refused_where_it_is_published(client: SyncClient) -> None:
    client.execute("CREATE TOPIC t SCHEMA (m DECIMAL, at TIMESTAMP, u UUID, l LIST<DECIMAL>)")
    assert "microseconds" in refused(lambda: client.publish("t", {"at": "2026-01-01T00:00:00.123456789Z"}))
    client.publish("t", {"at": "2026-01-01T00:00:00.123456000Z"})
    assert "at most 300 digits" in refused(lambda: client.publish("t", {"m": Decimal("1e305")}))
    assert "/m" in refused(lambda: client.publish("t", {"m": "1e999999"}))
    assert "/l/1" in refused(lambda: client.publish("t", {"l": [1, "x"]}))
    assert "/u" in refused(lambda: client.publish("t", {"u": "6F9619FF"}))
    client.publish("t", {"m": "-1e-300", "u": TOKEN.hex.upper()})


def test_times_without_an_offset_are_of_the_topics_zone(client: SyncClient) -> None:
    client.execute(
        "CREATE TOPIC t SCHEMA (at TIMESTAMP, l LIST<TIMESTAMP>, m DECIMAL) WITH OPTIONS (time_zone: 'America/New_York')"
    )
    client.publish("t", {"at": "2026-01-01T00:00:00", "l": ["2026-07-01T00:00:00", "2026-07-01T00:00:00Z"], "m": EXACT})
    expected = (
        datetime(2026, 1, 1, 5, tzinfo=UTC),
        datetime(2026, 7, 1, 4, tzinfo=UTC),
        datetime(2026, 7, 1, tzinfo=UTC),
    )
    assert rows(client, "SELECT at, l[0], l[1], m FROM t") == [(*expected, EXACT)]
    client.execute("CREATE TOPIC plain SCHEMA (at TIMESTAMP)")
    client.publish("plain", {"at": "2026-01-01T00:00:00"})
    assert rows(client, "SELECT at FROM plain") == [(datetime(2026, 1, 1, tzinfo=UTC),)]
    with pytest.raises(GqlError, match="no time zone 'Mars/Base'"):
        client.execute("CREATE TOPIC u SCHEMA (at TIMESTAMP) WITH OPTIONS (time_zone: 'Mars/Base')")


def test_usual_names_of_types_mean_ours(client: SyncClient) -> None:
    client.execute(
        "CREATE TOPIC t SCHEMA (a VARCHAR(20), b TEXT, c BIGINT, d INTEGER, e DOUBLE, f REAL, g BOOLEAN, h NUMERIC(10, 2),"
        " i JSON, j INT[], k DOUBLE PRECISION, l VARCHAR[][])"
    )
    text = client.execute("SHOW CREATE TOPIC t").scalar()
    assert "a STRING, b STRING, c INT, d INT, e FLOAT, f FLOAT, g BOOL, h DECIMAL" in " ".join(text.split())
    assert "i ANY, j LIST<INT>, k FLOAT, l LIST<LIST<STRING>>" in " ".join(text.split())
    for wrong in ("INT(5)", "DECIMAL(0)", "DECIMAL(2, 3)", "VARCHR"):
        with pytest.raises(GqlError):
            client.execute(f"CREATE TOPIC u SCHEMA (a {wrong})")


def test_arrow_has_a_type_for_each(client: SyncClient) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    client.execute("CREATE TOPIC t SCHEMA (m DECIMAL, d DATE, at TIMESTAMP, u UUID, l LIST<DECIMAL>)")
    client.publish("t", {"m": EXACT, "d": "2024-02-29", "at": "2026-01-01T00:00:00Z", "u": TOKEN, "l": [EXACT, 1]})
    client.publish("t", {"m": Decimal("12.5")})
    table = client.query("SELECT m, d, at, u, l FROM t").to_arrow()
    kinds = dict(zip(table.column_names, table.schema.types, strict=True))
    assert kinds["m"] == pyarrow.decimal128(32, 30)
    assert (kinds["d"], kinds["at"]) == (pyarrow.date32(), pyarrow.timestamp("us", tz="UTC"))
    assert table["m"].to_pylist() == [EXACT, Decimal("12.5")]
    assert [str(one) for one in table["u"].to_pylist()] == [str(TOKEN), "None"]
    assert table["l"].to_pylist()[0] == [EXACT, Decimal(1)]


def test_json_of_statements_keeps_the_digits(client: SyncClient) -> None:
    client.execute("CREATE TOPIC t SCHEMA (m DECIMAL)")
    client.execute(f'PUBLISH TO t {{"m": {EXACT}}}')
    client.execute(f"INSERT INTO t (m) VALUES ({EXACT})")
    client.execute("PUBLISH TO t $body", {"body": {"m": EXACT}})
    assert rows(client, "SELECT DISTINCT m FROM t") == [(EXACT,)]
    with client.subscribe("t", from_beginning=True) as subscription:
        bodies = [json.dumps(message.data) for message in subscription]
    assert len(bodies) == 3


def test_some_element_in_select_and_subscribe(client: SyncClient) -> None:
    client.execute(
        'PUBLISH TO t {"id": 1, "items": [{"p": 5}, {"p": 7}]}, {"id": 2, "items": []}, {"id": 3, "items": [{"p": "x"}]},'
        ' {"id": 4}, {"id": 5, "items": [{"p": 1, "t": ["a", "b"]}]}'
    )
    ids: Callable[[str], list[Any]] = lambda where: [row[0] for row in rows(client, f"SELECT id FROM t WHERE {where}")]
    assert ids("items[*].p = 5") == [1]
    assert ids("NOT items[*].p = 5") == [2, 5]
    assert ids("(items[*].p = 5) IS UNKNOWN") == [3, 4]
    assert ids("items[*].t[*] = 'b'") == [5]
    assert ids("items[*].p > 3 AND items[*].p < 6") == [1]
    assert rows(client, "SELECT items[*].p FROM t WHERE id < 3") == [([5, 7],), ([],)]
    assert rows(client, "SELECT count(*) FROM (SELECT items AS i FROM t) x WHERE i[*].p = 7") == [(1,)]
    with client.subscribe("t", filter="items[*].p = 7", from_beginning=True) as subscription:
        assert [message["id"] for message in subscription] == [1]
    with pytest.raises(GqlError, match="items of one array"):
        client.query("SELECT id FROM t WHERE items[*].p = others[*].p")


def test_topics_of_a_pattern_share_what_they_declare_alike(client: SyncClient) -> None:
    client.execute("CREATE TOPIC p/a SCHEMA (m DECIMAL, x INT)")
    client.execute("CREATE TOPIC p/b SCHEMA (m DECIMAL, x STRING)")
    client.publish("p/a", {"m": EXACT, "x": 1})
    client.publish("p/b", {"m": EXACT, "x": "one"})
    assert rows(client, f"SELECT m, x FROM p/* WHERE m = {EXACT} ORDER BY _topic") == [(EXACT, 1), (EXACT, "one")]
    assert rows(client, "SELECT sum(m) FROM p/*") == [(Decimal("0.246913578024691357802469135780"),)]


def test_arrow_columns_without_values_have_the_declared_type(client: SyncClient) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    client.execute("CREATE TOPIC t SCHEMA (m DECIMAL, d DATE, n INT, at TIMESTAMP)")
    kinds = client.query("SELECT m, d, n, at, count(*) FROM t GROUP BY m, d, n, at").to_arrow().schema.types
    assert kinds == [
        pyarrow.decimal128(38, 9),
        pyarrow.date32(),
        pyarrow.int64(),
        pyarrow.timestamp("us", tz="UTC"),
        pyarrow.int64(),
    ]
