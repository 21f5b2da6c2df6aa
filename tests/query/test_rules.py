"""What each rule does to a plan, as golden text; and that no rule changes a result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from geode_client import Client
from geode_client.grammar import ast
from geode_client.grammar.parser import parse
from geode_client.query import plan, rules
from geode_client.query.running import Runner
from geode_client.query.selecting import SelectPlanner

GOLDEN = Path(__file__).parent / "golden" / "rules.txt"
TOPICS = (
    "CREATE TOPIC orders SCHEMA (id STRING, status STRING, amount FLOAT, customer STRING)",
    "CREATE TOPIC events WITH OPTIONS (partitions: 4)",
    """PUBLISH TO orders {"id": "a", "status": "new", "amount": 5, "customer": "c1"}, {"id": "b", "status": "paid",
    "amount": 8, "customer": "c2"}, {"id": "c", "amount": 1}""",
    'PUBLISH TO customers {"id": "c1", "name": "Ada"}, {"id": "c2", "name": "Bob"}, {"id": "c3"}',
    'PUBLISH TO events {"kind": "x", "n": 1}, {"kind": "y", "n": 2}, {"kind": "x", "n": null}',
)
QUERIES = (
    "SELECT 1 + 1 AS two",
    "SELECT id, amount * 2 AS twice FROM orders WHERE status = 'new' AND amount > 3",
    "SELECT status, count(*) AS n FROM orders WHERE amount > 0 GROUP BY status HAVING n > 0 AND status <> 'x' ORDER BY n",
    "SELECT o.id, c.name FROM orders o JOIN customers c ON o.customer = c.id AND c.name <> 'Eve' WHERE o.amount > 3",
    "SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON o.customer = c.id AND o.amount > 3 WHERE c.name IS NULL",
    "SELECT o.id FROM orders o JOIN customers c ON o.customer < c.id",
    "SELECT twice FROM (SELECT id, status, amount * 2 AS twice FROM orders ORDER BY id) AS x WHERE twice > 4",
    "SELECT name FROM (SELECT * FROM customers) AS x WHERE id = 'c1'",
    "SELECT * FROM orders WHERE amount > 3 ORDER BY amount LIMIT 1",
    "SELECT id FROM orders WHERE customer IN (SELECT id FROM customers WHERE name = 'Ada') AND amount > 1",
    "SELECT id FROM orders UNION SELECT id FROM customers WHERE name = 'Ada' LIMIT 2",
    "SELECT x.id FROM (SELECT id, amount FROM orders UNION ALL SELECT id, 0 FROM customers) AS x WHERE amount > 1 LIMIT 5",
    "SELECT n FROM events WHERE _partition = 2 AND _offset >= 1 AND _offset < 10",
    "SELECT n FROM events WHERE _key = 'u1' AND kind = 'x' LIMIT 3",
    "SELECT id FROM orders WHERE _timestamp >= NOW() - INTERVAL '1 hour' LIMIT 2 OFFSET 1",
    "SELECT id FROM orders ORDER BY _offset DESC LIMIT 2",
    "SELECT n FROM events ORDER BY _offset DESC LIMIT 2",
    "SELECT DISTINCT kind FROM events WHERE n > 0 LIMIT 1",
    "SELECT topic_name FROM SYSTEM.topics t WHERE t.partitions > 1 ORDER BY topic_name",
    "SELECT o.id, c.name FROM orders o RIGHT JOIN customers c ON o.customer = c.id AND o.amount > 3 WHERE c.name <> 'Eve'",
    "SELECT o.id, c.name FROM orders o FULL JOIN customers c ON o.customer = c.id AND o.amount > 3 WHERE o.amount > 1",
    "SELECT id, o.status FROM orders o JOIN customers c USING (id) WHERE id > 'a'",
    "SELECT o.id, i.n FROM orders o CROSS JOIN UNNEST(o.items) AS i WHERE o.amount > 3 AND i.n > 1",
    "WITH x AS (SELECT customer, amount FROM orders) SELECT a.customer FROM x a JOIN x b USING (customer) WHERE a.amount > 1",
    "WITH x AS (SELECT customer, amount FROM orders) SELECT customer FROM x WHERE amount > 1",
    "SELECT id FROM orders EXCEPT SELECT id FROM customers INTERSECT ALL SELECT id FROM customers",
    "SELECT id FROM orders WHERE amount > (SELECT avg(amount) FROM orders) AND EXISTS (SELECT 1 FROM customers) AND amount > 0",
    "SELECT id, rank() OVER (PARTITION BY status ORDER BY amount DESC) AS r, sum(amount) OVER () AS s FROM orders",
    "SELECT amount, sum(amount) FILTER (WHERE id <> 'o1') OVER (PARTITION BY status) AS s FROM orders",
    "SELECT amount, string_agg(id, '-' ORDER BY amount DESC) OVER (PARTITION BY status) AS s FROM orders",
    "SELECT max(n) FROM (SELECT kind, count(*) AS n, sum(n) AS s FROM events GROUP BY kind) AS x WHERE kind = 'x'",
)


def select_of(text: str) -> Any:
    statement = parse(text)
    assert isinstance(statement, ast.Select)
    return statement.query


async def rows_of(client: Client, query: plan.Query) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    columns, batch = await Runner(client._session.broker, {}).run(query)
    return columns, list(zip(*batch.columns, strict=True))


async def test_what_each_rule_does(golden: Callable[[Path, str], None]) -> None:
    told: list[str] = []
    async with Client(":memory:") as client:
        for text in TOPICS:
            await client.execute(text)
        for text in QUERIES:
            query = await SelectPlanner(client._session.broker, {}).plain(select_of(text))
            wanted = await rows_of(client, query)
            told += [f"> {text}", *plan.lines(query)]
            before = query.root
            sub_queries = rules.optimised_query(query, rules.Context()).sub_queries
            for name, root in rules.stages(query.root, rules.Context()):
                if root != before:
                    told += [f"── {name}", *plan.lines(root)]
                before = root
                assert await rows_of(client, plan.Query(root, sub_queries)) == wanted, f"{name} changes {text}"
            told.append("")
    golden(GOLDEN, "\n".join(told))
