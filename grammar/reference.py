r"""Statements and clauses for the language reference: the grammar rules that each describes, a line of help, and an example.

Every rule of gql.lark that has a meaning of its own belongs to exactly one entry; tests check that, and that each example
uses the rules it is the example of. The examples run on the topics that `PREPARED` makes, with `PARAMETERS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PREPARED = """CREATE TOPIC orders SCHEMA (id STRING NOT NULL, customer STRING, status STRING, total DECIMAL(10, 2),
    items LIST<STRUCT<sku: STRING, n: INT>>, created TIMESTAMP);
PUBLISH TO orders
    {"id": "o-1", "customer": "c1", "status": "paid", "total": 12.5, "items": [{"sku": "pen", "n": 3}],
     "created": "2026-03-05T10:00:00Z"},
    {"id": "o-2", "customer": "c2", "status": "open", "total": 8, "items": [], "created": "2026-03-06T11:30:00Z"},
    {"id": "o-3", "customer": "c1", "status": "open", "total": 99.95, "items": [{"sku": "ink", "n": 1}],
     "created": "2026-04-01T09:00:00Z"};
PUBLISH TO customers {"id": "c1", "name": "Ada", "a b": 1}, {"id": "c2", "name": "Grace"}, {"id": "c3", "name": "Edsger"};
PUBLISH TO numbers {"n": 1, "s": "a"}, {"n": 2, "s": "b"}, {"n": 3, "s": "c"};
CREATE SUBSCRIPTION workers ON orders FROM BEGINNING;
"""
"""What there is before each example."""
PARAMETERS: Mapping[str, Any] = {"least": 10, "message": {"id": "o-9"}, "states": ["paid", "open"]}
"""The parameters that examples use."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One statement or clause. `rules` are names of grammar rules; `needs` names a feature that not every backend has."""

    title: str
    rules: tuple[str, ...]
    help: str
    example: str
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Entries under one heading."""

    title: str
    entries: tuple[Entry, ...]


def _entry(title: str, rules: str, help: str, example: str, needs: str | None = None) -> Entry:
    return Entry(title, tuple(rules.split()), help, example, needs)


_TOPICS = Section(
    "Topics",
    (
        _entry(
            "CREATE TOPIC",
            "create_topic topic",
            "Creates a topic. The clauses may come in any order. IF NOT EXISTS does nothing where the topic exists.",
            "CREATE TOPIC IF NOT EXISTS users/created",
        ),
        _entry(
            "WITH OPTIONS",
            "clause_options options option option_name option_string option_number option_word",
            "Options and their values. Each kind of option has a table below.",
            "CREATE TOPIC audit WITH OPTIONS (partitions: 4, retention_period: '7 days', compression: none)",
        ),
        _entry(
            "SCHEMA",
            "clause_schema columns column",
            "Columns with their types. Messages are checked when they are published; fields that the schema does not name "
            "are kept, unless the topic is `strict`.",
            "CREATE TOPIC payments WITH SCHEMA (id STRING, amount DECIMAL)",
        ),
        _entry(
            "NOT NULL",
            "rule_not_null",
            "Every message must have a value in this column.",
            "CREATE TOPIC payments SCHEMA (id STRING NOT NULL)",
        ),
        _entry(
            "DEFAULT",
            "rule_default scalar_string",
            "The value of a column that a message leaves out.",
            "CREATE TOPIC payments SCHEMA (id STRING, currency STRING DEFAULT 'EUR')",
        ),
        _entry(
            "WITH DELIVERY",
            "clause_delivery delivery",
            "The delivery guarantee: at_most_once, at_least_once (the default) or exactly_once.",
            "CREATE TOPIC samples WITH DELIVERY at_most_once;\n"
            "CREATE TOPIC tasks WITH DELIVERY at_least_once;\n"
            "CREATE TOPIC payments WITH DELIVERY exactly_once",
        ),
        _entry(
            "ALTER TOPIC … SET OPTIONS",
            "alter_topic_options",
            "Changes the named options; the others keep their values.",
            "ALTER TOPIC orders SET OPTIONS (message_ttl: '1 hour', max_retries: 5)",
        ),
        _entry(
            "ALTER TOPIC … SET DELIVERY",
            "alter_topic_delivery",
            "Changes the delivery guarantee.",
            "ALTER TOPIC orders SET DELIVERY exactly_once",
        ),
        _entry(
            "ALTER TOPIC … ADD COLUMN",
            "alter_topic_add_column",
            "Adds a column to the schema. Messages that are stored already keep the schema they were stored with.",
            "ALTER TOPIC orders ADD COLUMN currency STRING DEFAULT 'EUR'",
        ),
        _entry(
            "ALTER TOPIC … RENAME TO",
            "alter_topic_rename",
            "Renames a topic. Its groups and dead letters keep belonging to it.",
            "ALTER TOPIC orders RENAME TO sales/orders",
        ),
        _entry("DROP TOPIC", "drop_topic", "Removes a topic and its messages.", "DROP TOPIC IF EXISTS orders"),
        _entry("PURGE TOPIC", "purge_topic", "Removes the messages and keeps the topic.", "PURGE TOPIC orders"),
    ),
)

_PUBLISHING = Section(
    "Publishing",
    (
        _entry(
            "PUBLISH TO",
            "publish json_message",
            "Stores one or more JSON values as messages. They are stored together, or not at all.",
            'PUBLISH TO orders {"id": "o-4", "total": 20}, {"id": "o-5", "total": 7} WITH OPTIONS (key: \'c1\')',
        ),
        _entry(
            "INSERT INTO … VALUES",
            "insert insert_column insert_row",
            "Stores a message for each row of values.",
            "INSERT INTO orders (id, total) VALUES ('o-4', 20), ('o-5', 7)",
        ),
        _entry(
            "INSERT INTO … SELECT",
            "insert_query",
            "Stores a message for each row of a query. Without a list of columns, fields have the names of the query's columns.",
            "INSERT INTO paid SELECT id, total FROM orders WHERE status = 'paid';\n"
            "INSERT INTO paid (order_id) SELECT id FROM orders WHERE status = 'paid'",
        ),
    ),
)

_SUBSCRIBING = Section(
    "Subscribing",
    (
        _entry(
            "SUBSCRIBE TO",
            "subscribe",
            "Delivers messages as they are published, those for which the condition is TRUE. The clauses may come in any order.",
            "SUBSCRIBE TO users/* WHERE plan = 'business' TIMEOUT '10ms'",
        ),
        _entry(
            "GROUP … CONSUMER",
            "clause_group word",
            "Reads as a member of a durable group. The members share the messages, and the group keeps its position. "
            "CONSUMER names the member.",
            "SUBSCRIBE TO orders GROUP workers CONSUMER one ACK AUTO LIMIT 2",
        ),
        _entry(
            "FROM BEGINNING",
            "clause_from start_beginning",
            "Starts with the oldest message that is retained.",
            "SUBSCRIBE TO orders FROM BEGINNING LIMIT 3",
        ),
        _entry(
            "FROM END",
            "start_end",
            "Starts with the next message that is published. This is the default.",
            "SUBSCRIBE TO orders FROM END TIMEOUT '10ms'",
        ),
        _entry(
            "FROM OFFSET",
            "start_offset",
            "Starts at an offset, in each partition.",
            "SUBSCRIBE TO orders FROM OFFSET 1 LIMIT 2",
        ),
        _entry(
            "FROM TIMESTAMP",
            "start_timestamp",
            "Starts with the first message that was published at this time or later.",
            "SUBSCRIBE TO orders FROM TIMESTAMP '2026-01-01T00:00:00Z' TIMEOUT '10ms'",
        ),
        _entry(
            "FROM INTERVAL",
            "start_interval",
            "Starts with the messages of the last hour, day and so on.",
            "SUBSCRIBE TO orders FROM INTERVAL '1 hour' LIMIT 3",
        ),
        _entry(
            "ORDER BY PRIORITY",
            "clause_order_priority",
            "Delivers waiting messages of a higher priority first.",
            "SUBSCRIBE TO orders GROUP urgent FROM BEGINNING ORDER BY PRIORITY ACK AUTO LIMIT 3",
        ),
        _entry(
            "ORDER BY KEY",
            "clause_order_key",
            "Delivers the messages of one key one after the other.",
            "SUBSCRIBE TO orders GROUP ordered FROM BEGINNING ORDER BY KEY ACK AUTO LIMIT 3",
        ),
        _entry(
            "PARTITION",
            "clause_partition",
            "Reads one partition.",
            "SUBSCRIBE TO orders PARTITION 0 FROM BEGINNING LIMIT 1",
        ),
        _entry(
            "KEY",
            "clause_key",
            "Reads the messages of one key.",
            "SUBSCRIBE TO orders KEY 'c1' FROM BEGINNING TIMEOUT '10ms'",
        ),
        _entry(
            "REGION",
            "clause_region",
            "Reads in a region.",
            "SUBSCRIBE TO orders REGION 'eu-west' TIMEOUT '10ms'",
            needs="regions",
        ),
        _entry(
            "ACK MANUAL",
            "clause_ack_manual",
            "The program acknowledges each message. A message that is not acknowledged in time is delivered again.",
            "SUBSCRIBE TO orders GROUP workers ACK MANUAL LIMIT 1",
        ),
        _entry(
            "ACK AUTO",
            "clause_ack_auto",
            "A message is acknowledged when the program asks for the next one.",
            "SUBSCRIBE TO orders GROUP workers ACK AUTO LIMIT 1",
        ),
        _entry(
            "FOLLOW",
            "clause_follow",
            "Keeps waiting for new messages.",
            "SUBSCRIBE TO orders FROM BEGINNING FOLLOW LIMIT 3",
        ),
        _entry(
            "NO FOLLOW",
            "clause_no_follow",
            "Ends after the messages that are stored now.",
            "SUBSCRIBE TO orders FROM BEGINNING NO FOLLOW",
        ),
        _entry(
            "LIMIT", "clause_limit", "Ends after a number of messages.", "SUBSCRIBE TO orders FROM BEGINNING LIMIT 1"
        ),
        _entry(
            "TIMEOUT",
            "clause_timeout",
            "Ends when no message has arrived for this long.",
            "SUBSCRIBE TO orders FROM BEGINNING TIMEOUT '10ms'",
        ),
    ),
)

_GROUPS = Section(
    "Durable groups",
    (
        _entry(
            "CREATE SUBSCRIPTION",
            "create_subscription",
            "Creates a durable group. A new group starts at the end unless FROM is given.",
            "CREATE SUBSCRIPTION large ON orders WHERE total > 10 FROM BEGINNING ORDER BY KEY",
        ),
        _entry(
            "ALTER SUBSCRIPTION … SEEK TO",
            "alter_subscription",
            "Moves the group's position: back to deliver messages again, or forward to skip some.",
            "ALTER SUBSCRIPTION workers ON orders SEEK TO OFFSET 1",
        ),
        _entry(
            "PAUSE SUBSCRIPTION",
            "pause",
            "Stops delivery to a group. Messages keep waiting for it.",
            "PAUSE SUBSCRIPTION workers ON orders",
        ),
        _entry(
            "RESUME SUBSCRIPTION",
            "resume",
            "Continues delivery to a group.",
            "PAUSE SUBSCRIPTION workers;\nRESUME SUBSCRIPTION workers",
        ),
        _entry(
            "DROP SUBSCRIPTION",
            "drop_subscription",
            "Removes a group and its position. Without ON, the group is removed from every topic.",
            "DROP SUBSCRIPTION IF EXISTS workers ON orders",
        ),
    ),
)

_QUERIES = Section(
    "Queries",
    (
        _entry(
            "SELECT",
            "select_statement query select_core select_expression",
            "Reads the messages that topics retain now, SYSTEM tables, and other queries.",
            "SELECT DISTINCT status FROM orders WHERE total > 5;\nSELECT ALL status FROM orders",
        ),
        _entry("*", "select_all", "All columns, or all fields of the messages.", "SELECT * FROM orders"),
        _entry(
            "AS",
            "alias name",
            "Names a column or a source. The word AS may be left out.",
            "SELECT o.total AS amount FROM orders o",
        ),
        _entry(
            "FROM a topic or pattern",
            "from_clause source_topic",
            "The messages of a topic, or of all topics that match a pattern.",
            "SELECT count(*) FROM orders;\nSELECT _topic, count(*) FROM ** GROUP BY _topic",
        ),
        _entry(
            "FROM SYSTEM",
            "source_system",
            "A table about the system itself; the tables are listed below.",
            "SELECT topic_name, pending_messages FROM SYSTEM.topics",
        ),
        _entry(
            "FROM DEAD LETTERS OF",
            "source_dead_letters",
            "The messages of a topic that could not be delivered.",
            "SELECT id, _group, _reason, _deaths FROM DEAD LETTERS OF orders",
        ),
        _entry(
            "FROM (SELECT …)",
            "source_query names",
            "The rows of another query, whose columns may be renamed.",
            "SELECT c, n FROM (SELECT customer, count(*) FROM orders GROUP BY customer) AS t (c, n)",
        ),
        _entry(
            "UNNEST",
            "source_unnest",
            "One row for each item of an array.",
            "SELECT o.id, i.item.sku FROM orders AS o, UNNEST(o.items) AS i (item)",
        ),
        _entry(
            "JOIN … ON",
            "join_on inner",
            "Pairs of rows for which a condition is TRUE. INNER may be left out.",
            "SELECT o.id, c.name FROM orders AS o INNER JOIN customers AS c ON o.customer = c.id",
        ),
        _entry(
            "LEFT JOIN",
            "left",
            "Also the rows of the left source that have no partner.",
            "SELECT c.name, o.id FROM customers AS c LEFT OUTER JOIN orders AS o ON o.customer = c.id",
        ),
        _entry(
            "RIGHT JOIN",
            "right",
            "Also the rows of the right source that have no partner.",
            "SELECT c.name, o.id FROM orders AS o RIGHT JOIN customers AS c ON o.customer = c.id",
        ),
        _entry(
            "FULL JOIN",
            "full",
            "Also the rows of either source that have no partner.",
            "SELECT c.name, o.id FROM orders AS o FULL JOIN customers AS c ON o.customer = c.id",
        ),
        _entry(
            "JOIN … USING",
            "join_using",
            "Pairs of rows that have equal values in columns of the same names.",
            "SELECT a.status, b.total FROM orders AS a JOIN orders AS b USING (id)",
        ),
        _entry(
            "CROSS JOIN",
            "join_cross",
            "All pairs of rows. A comma means the same.",
            "SELECT a.n, b.n FROM numbers AS a CROSS JOIN numbers AS b",
        ),
        _entry(
            "GROUP BY and HAVING",
            "call_star",
            "One row for each group of rows; HAVING keeps some of the groups. A whole number is the position of a column.",
            "SELECT status, count(*) AS n FROM orders GROUP BY status HAVING count(*) > 1",
        ),
        _entry(
            "ORDER BY",
            "sort_item",
            "Sorts by values, aliases or positions. NULL sorts last unless NULLS FIRST is given.",
            "SELECT id, total FROM orders ORDER BY total DESC NULLS FIRST, id ASC NULLS LAST",
        ),
        _entry(
            "LIMIT and OFFSET",
            "count",
            "How many rows to return, and how many to skip first.",
            "SELECT id FROM orders ORDER BY id LIMIT 2 OFFSET 1",
        ),
        _entry(
            "UNION, EXCEPT, INTERSECT",
            "set_operation",
            "The rows of two queries together, those of the first only, or those of both. ALL keeps equal rows.",
            "SELECT n FROM numbers UNION ALL SELECT n FROM numbers;\n"
            "SELECT n FROM numbers EXCEPT SELECT 1;\n"
            "SELECT n FROM numbers INTERSECT SELECT 1",
        ),
        _entry(
            "Queries in parentheses",
            "nested_query",
            "Parentheses say which part of a set operation comes first.",
            "SELECT 1 UNION (SELECT 2 EXCEPT SELECT 2)",
        ),
        _entry(
            "WITH",
            "with_clause common_table",
            "Names a query for use in the query that follows. A query cannot refer to itself.",
            "WITH large (id) AS (SELECT id FROM orders WHERE total > 10) SELECT count(*) FROM large",
        ),
    ),
)

_LOOKING = Section(
    "Looking around",
    (
        _entry("SHOW TOPICS", "show_topics", "The topics, or those whose names match.", "SHOW TOPICS LIKE 'ord%'"),
        _entry("SHOW SUBSCRIPTIONS", "show_subscriptions", "The durable groups.", "SHOW SUBSCRIPTIONS"),
        _entry("SHOW SUBSCRIBERS", "show_subscribers", "The subscribers that are connected.", "SHOW SUBSCRIBERS"),
        _entry("SHOW REGIONS", "show_regions", "The regions.", "SHOW REGIONS", needs="regions"),
        _entry(
            "DESCRIBE TOPIC", "describe", "Columns, delivery guarantee and options of a topic.", "DESCRIBE TOPIC orders"
        ),
        _entry(
            "SHOW CREATE TOPIC",
            "show_create",
            "The statement that creates a topic like this one.",
            "SHOW CREATE TOPIC orders",
        ),
        _entry(
            "EXPLAIN",
            "explain",
            "How a statement would run. ANALYZE runs it and adds what was read and how long it took.",
            "EXPLAIN SELECT count(*) FROM orders;\nEXPLAIN ANALYZE SELECT count(*) FROM orders",
        ),
        _entry(
            "TEST FILTER",
            "test_filter",
            "How many of the newest messages a condition matches, and why it is UNKNOWN for others.",
            "TEST FILTER 'total > 10' ON orders LIMIT 200",
        ),
    ),
)

_LETTERS = Section(
    "Dead letters",
    (
        _entry(
            "REPLAY DEAD LETTERS OF",
            "replay",
            "Publishes dead letters again for the group that failed, for every subscriber (TO ALL), or to another topic.",
            "REPLAY DEAD LETTERS OF orders WHERE total > 10;\n"
            "REPLAY DEAD LETTERS OF orders TO ALL;\n"
            "REPLAY DEAD LETTERS OF orders TO customers",
        ),
        _entry(
            "DELETE DEAD LETTERS OF",
            "delete_letters",
            "Removes dead letters.",
            "DELETE DEAD LETTERS OF orders WHERE _replayed_at IS NOT NULL",
        ),
    ),
)

_TRANSACTIONS = Section(
    "Transactions",
    (
        _entry(
            "BEGIN",
            "begin",
            "Begins a transaction: nothing of it is visible to others until COMMIT.",
            'BEGIN;\nPUBLISH TO orders {"id": "o-4"};\nCOMMIT',
        ),
        _entry(
            "COMMIT",
            "commit",
            "Makes everything since BEGIN durable and visible at once.",
            "BEGIN;\nINSERT INTO orders (id) VALUES ('o-4');\nCOMMIT",
        ),
        _entry(
            "ROLLBACK",
            "rollback",
            "Discards everything since BEGIN.",
            "BEGIN;\nINSERT INTO orders (id) VALUES ('o-4');\nROLLBACK",
        ),
    ),
)

_FILES = Section(
    "Files",
    (
        _entry(
            "COPY … TO a file",
            "copy_to",
            "Writes the messages that a topic retains.",
            "COPY orders TO 'orders.csv' WITH OPTIONS (delimiter: ';')",
        ),
        _entry(
            "COPY (SELECT …) TO a file",
            "copy_query",
            "Writes the rows of a query.",
            "COPY (SELECT id, total FROM orders) TO 'totals.jsonl'",
        ),
        _entry(
            "COPY … FROM a file",
            "copy_from option_types struct_field",
            "Publishes what a file holds.",
            "COPY orders TO 'orders.csv';\nCOPY again FROM 'orders.csv' WITH OPTIONS (id_field: 'id', types: (total: DECIMAL))",
        ),
        _entry(
            "COPY between topics",
            "copy_between",
            "Copies messages from topic to topic. TO and FROM give the direction.",
            "COPY orders TO archive/orders WITH OPTIONS (keep: 'all');\nCOPY archive/second FROM orders",
        ),
    ),
)

_SCRIPTS = Section(
    "Scripts",
    (
        _entry(
            "ASSERT",
            "assert_statement scalar_number",
            "Fails unless a query gives the value, at once or WITHIN some time.",
            "ASSERT (SELECT count(*) FROM orders) = 3 WITHIN '5 seconds'",
        ),
    ),
)

_VALUES = Section(
    "Names and values",
    (
        _entry(
            "Quoted names",
            "quoted",
            "A name that is not a plain word is written in double quotes or back-quotes.",
            'SELECT "a b" FROM customers;\nSELECT `a b` FROM customers',
        ),
        _entry(
            "Paths",
            "path step_name",
            "A field of a message, and fields inside it. A missing field is NULL.",
            "SELECT o.customer FROM orders AS o",
        ),
        _entry(
            "Fields by text",
            "step_key",
            "A field inside a value, by its name as text.",
            "SELECT items[0]['sku'] FROM orders",
        ),
        _entry(
            "Items",
            "step_index",
            "An item of an array, counted from 0.",
            "SELECT items[0].sku FROM orders",
        ),
        _entry("All fields of a source", "step_star", "All columns of one source.", "SELECT o.* FROM orders AS o"),
        _entry(
            "Some item",
            "step_every",
            "In a condition: TRUE where it is TRUE for some item of the array.",
            "SELECT id FROM orders WHERE items[*].sku = 'pen'",
        ),
        _entry(
            "Numbers and text",
            "number string signed",
            "Text is written in single quotes; a quote inside is doubled.",
            "SELECT 1.5, -2, +.5, 4e3, 'it''s'",
        ),
        _entry("TRUE, FALSE, NULL", "true false null", "The truth values, and no value.", "SELECT TRUE, FALSE, NULL"),
        _entry(
            "TRUE, FALSE, NULL in VALUES and options",
            "json_true json_false json_null",
            "The same, among the values of INSERT, in options and after DEFAULT.",
            "INSERT INTO flags (a, b, c) VALUES (TRUE, FALSE, NULL)",
        ),
        _entry(
            "Parameters",
            "parameter",
            "A value that is given when the statement runs. It is never read as text of the language.",
            "SELECT id FROM orders WHERE total > $least",
        ),
        _entry(
            "Parameters as messages",
            "parameter_value",
            "A parameter as a message, in a message, among VALUES or as the value of an option.",
            "PUBLISH TO orders $message;\nINSERT INTO orders (id, total) VALUES ('o-7', $least)",
        ),
        _entry(
            "TIMESTAMP",
            "timestamp",
            "A time in ISO 8601. Without an offset it is UTC.",
            "SELECT id FROM orders WHERE created >= TIMESTAMP '2026-04-01T00:00:00Z'",
        ),
        _entry("DATE", "date", "A date.", "SELECT id FROM orders WHERE created < DATE '2026-04-01'"),
        _entry(
            "INTERVAL",
            "interval",
            "A length of time.",
            "SELECT created + INTERVAL '1 month' FROM orders WHERE created > NOW() - INTERVAL '10 years'",
        ),
    ),
)

_CONDITIONS = Section(
    "Operators",
    (
        _entry(
            "Comparisons",
            "comparison",
            "`=`, `<>` (or `!=`), `<`, `<=`, `>`, `>=`. The result is UNKNOWN where a side is NULL or the kinds differ.",
            "SELECT id FROM orders WHERE total >= 10",
        ),
        _entry(
            "AND",
            "and_",
            "TRUE where both conditions are.",
            "SELECT id FROM orders WHERE total > 5 AND status = 'open'",
        ),
        _entry("OR", "or_", "TRUE where a condition is.", "SELECT id FROM orders WHERE total > 50 OR status = 'paid'"),
        _entry(
            "NOT", "not_", "TRUE becomes FALSE, FALSE becomes TRUE.", "SELECT id FROM orders WHERE NOT status = 'open'"
        ),
        _entry("( )", "parenthesised", "Groups operators.", "SELECT (1 + 2) * 3"),
        _entry(
            "+ and -",
            "sum_",
            "Addition and subtraction, of numbers, times and intervals.",
            "SELECT n + 1, n - 1 FROM numbers",
        ),
        _entry("*", "multiply", "Multiplication.", "SELECT n * 2 FROM numbers"),
        _entry(
            "/",
            "divide",
            "The quotient, also of whole numbers. Division by zero is UNKNOWN.",
            "SELECT n / 2 FROM numbers",
        ),
        _entry("%", "remainder", "The remainder, with the sign of the dividend.", "SELECT n % 2 FROM numbers"),
        _entry("||", "concat", "Joins texts.", "SELECT s || '!' FROM numbers"),
        _entry(
            "LIKE",
            "like",
            "Matches a pattern: `%` is any text, `_` one character. ESCAPE names the character that makes them plain.",
            "SELECT id FROM orders WHERE id LIKE 'o!_%' ESCAPE '!' OR id NOT LIKE 'x%'",
        ),
        _entry("ILIKE", "ilike", "LIKE without regard to case.", "SELECT id FROM customers WHERE name ILIKE 'a%'"),
        _entry(
            "IN (…)",
            "in_list in_items",
            "TRUE where a value equals an item.",
            "SELECT id FROM orders WHERE status IN ('paid', 'open')",
        ),
        _entry(
            "IN (SELECT …)",
            "in_query",
            "TRUE where a value equals a row of a query.",
            "SELECT name FROM customers WHERE id NOT IN (SELECT customer FROM orders)",
        ),
        _entry(
            "IN $parameter",
            "in_parameter",
            "TRUE where a value equals an item of a list that is a parameter.",
            "SELECT id FROM orders WHERE status IN $states",
        ),
        _entry(
            "BETWEEN",
            "between",
            "From one value to another, both included.",
            "SELECT n FROM numbers WHERE n BETWEEN 2 AND 3",
        ),
        _entry(
            "IS NULL",
            "is_null",
            "TRUE for NULL and for a missing field.",
            "SELECT id FROM customers WHERE nickname IS NULL",
        ),
        _entry(
            "IS TRUE",
            "is_true",
            "TRUE where a condition is TRUE; never UNKNOWN.",
            "SELECT id FROM orders WHERE (total > 10) IS TRUE",
        ),
        _entry(
            "IS FALSE",
            "is_false",
            "TRUE where a condition is FALSE.",
            "SELECT id FROM orders WHERE (total > 10) IS FALSE",
        ),
        _entry(
            "IS UNKNOWN",
            "is_unknown",
            "TRUE where a condition is UNKNOWN.",
            "SELECT id FROM customers WHERE (age > 10) IS UNKNOWN",
        ),
        _entry(
            "IS DISTINCT FROM",
            "is_distinct",
            "Whether two values differ, where NULL equals NULL.",
            "SELECT id FROM customers WHERE nickname IS NOT DISTINCT FROM NULL",
        ),
        _entry(
            "CASE",
            "case when",
            "The value of the first branch whose condition is TRUE.",
            "SELECT CASE WHEN total > 10 THEN 'large' ELSE 'small' END FROM orders;\n"
            "SELECT CASE status WHEN 'paid' THEN 1 ELSE 0 END FROM orders",
        ),
        _entry(
            "EXISTS (path)",
            "exists",
            "Whether a message has a field, be it null.",
            "SELECT id FROM customers WHERE EXISTS(name)",
        ),
        _entry(
            "EXISTS (SELECT …)",
            "exists_query",
            "Whether a query has a row.",
            "SELECT 1 WHERE EXISTS (SELECT id FROM orders WHERE total > 10)",
        ),
        _entry(
            "(SELECT …) as a value",
            "scalar_query",
            "The one value of a query with one column and at most one row.",
            "SELECT id FROM orders WHERE total = (SELECT max(total) FROM orders)",
        ),
        _entry(
            "CAST",
            "cast type_scalar",
            "Converts a value to a type; an error where that is not possible in a query, UNKNOWN in a filter.",
            "SELECT CAST('5' AS INT)",
        ),
        _entry(
            "TRY_CAST",
            "try_cast",
            "Converts a value to a type; NULL where that is not possible.",
            "SELECT TRY_CAST('five' AS INT)",
        ),
    ),
)

_CALLS = Section(
    "Calls of functions",
    (
        _entry("function(…)", "call", "Calls one of the functions listed below.", "SELECT UPPER(name) FROM customers"),
        _entry(
            "EXTRACT",
            "extract extract_part",
            "A part of a time, as a number.",
            "SELECT EXTRACT(YEAR FROM created) FROM orders",
        ),
        _entry(
            "DISTINCT in an aggregate",
            "call_distinct",
            "Takes equal values once.",
            "SELECT COUNT(DISTINCT customer), SUM(DISTINCT total) FROM orders",
        ),
        _entry(
            "ORDER BY in an aggregate",
            "call_order",
            "The order in which an aggregate takes its values.",
            "SELECT STRING_AGG(id, ',' ORDER BY total DESC) FROM orders",
        ),
        _entry(
            "WITHIN GROUP",
            "call_within",
            "The values of a percentile.",
            "SELECT PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY n) FROM numbers",
        ),
        _entry(
            "FILTER",
            "call_filter",
            "The rows that an aggregate takes.",
            "SELECT COUNT(*) FILTER (WHERE status = 'open') FROM orders",
        ),
        _entry(
            "OVER",
            "over window window_key",
            "A window function or an aggregate over the rows of a partition; with ORDER BY, over the rows up to this one.",
            "SELECT id, SUM(total) OVER (PARTITION BY customer ORDER BY id) FROM orders",
        ),
    ),
)

_TYPES = Section(
    "Types",
    (
        _entry(
            "LIST",
            "type_list",
            "A list whose items have one type.",
            "CREATE TOPIC t SCHEMA (tags LIST<STRING>)",
        ),
        _entry("type[]", "type_array", "Another way to write LIST.", "CREATE TOPIC t SCHEMA (tags STRING[])"),
        _entry(
            "MAP",
            "type_map",
            "An object whose values have one type. Its keys are STRING.",
            "CREATE TOPIC t SCHEMA (prices MAP<STRING, DECIMAL>)",
        ),
        _entry(
            "STRUCT",
            "type_struct",
            "An object with named fields.",
            "CREATE TOPIC t SCHEMA (place STRUCT<x: FLOAT, y: FLOAT>)",
        ),
        _entry(
            "Types with digits",
            "type_sized",
            "DECIMAL with its number of digits, and how many of them are after the point. A length of text is not checked.",
            "CREATE TOPIC t SCHEMA (price DECIMAL(10, 2), code VARCHAR(3))",
        ),
        _entry(
            "Types of two words",
            "type_two_words",
            "DOUBLE PRECISION and CHARACTER VARYING.",
            "CREATE TOPIC t SCHEMA (x DOUBLE PRECISION)",
        ),
    ),
)

STATEMENTS = (
    *(_TOPICS, _PUBLISHING, _SUBSCRIBING, _GROUPS, _QUERIES, _LOOKING, _LETTERS, _TRANSACTIONS, _FILES, _SCRIPTS),
)
EXPRESSIONS = (_VALUES, _CONDITIONS, _CALLS)
TYPES = _TYPES
SECTIONS = (*STATEMENTS, *EXPRESSIONS, TYPES)
