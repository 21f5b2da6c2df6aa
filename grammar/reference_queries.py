"""Entries of the language reference: queries, values, operators, calls of functions, and types of several parts."""

from geode_client.grammar.entries import Section, entry

QUERIES = Section(
    "Queries",
    (
        entry(
            "SELECT",
            "select_statement query select_core select_expression",
            "Reads the messages that topics retain now, SYSTEM tables, and other queries.",
            "SELECT DISTINCT status FROM orders WHERE total > 5;\nSELECT ALL status FROM orders",
        ),
        entry("*", "select_all", "All columns, or all fields of the messages.", "SELECT * FROM orders"),
        entry(
            "AS",
            "alias name",
            "Names a column or a source. The word AS may be left out.",
            "SELECT o.total AS amount FROM orders o",
        ),
        entry(
            "FROM a topic or pattern",
            "from_clause source_topic",
            "The messages of a topic, or of all topics that match a pattern.",
            "SELECT count(*) FROM orders;\nSELECT _topic, count(*) FROM ** GROUP BY _topic",
        ),
        entry(
            "FROM SYSTEM",
            "source_system",
            "A table about the system itself; the tables are listed below.",
            "SELECT topic_name, pending_messages FROM SYSTEM.topics",
        ),
        entry(
            "FROM DEAD LETTERS OF",
            "source_dead_letters",
            "The messages of a topic that could not be delivered.",
            "SELECT id, _group, _reason, _deaths FROM DEAD LETTERS OF orders",
        ),
        entry(
            "FROM (SELECT …)",
            "source_query names",
            "The rows of another query, whose columns may be renamed.",
            "SELECT c, n FROM (SELECT customer, count(*) FROM orders GROUP BY customer) AS t (c, n)",
        ),
        entry(
            "UNNEST",
            "source_unnest",
            "One row for each item of an array.",
            "SELECT o.id, i.item.sku FROM orders AS o, UNNEST(o.items) AS i (item)",
        ),
        entry(
            "JOIN … ON",
            "join_on inner",
            "Pairs of rows for which a condition is TRUE. INNER may be left out.",
            "SELECT o.id, c.name FROM orders AS o INNER JOIN customers AS c ON o.customer = c.id",
        ),
        entry(
            "LEFT JOIN",
            "left",
            "Also the rows of the left source that have no partner.",
            "SELECT c.name, o.id FROM customers AS c LEFT OUTER JOIN orders AS o ON o.customer = c.id",
        ),
        entry(
            "RIGHT JOIN",
            "right",
            "Also the rows of the right source that have no partner.",
            "SELECT c.name, o.id FROM orders AS o RIGHT JOIN customers AS c ON o.customer = c.id",
        ),
        entry(
            "FULL JOIN",
            "full",
            "Also the rows of either source that have no partner.",
            "SELECT c.name, o.id FROM orders AS o FULL JOIN customers AS c ON o.customer = c.id",
        ),
        entry(
            "JOIN … USING",
            "join_using",
            "Pairs of rows that have equal values in columns of the same names.",
            "SELECT a.status, b.total FROM orders AS a JOIN orders AS b USING (id)",
        ),
        entry(
            "CROSS JOIN",
            "join_cross",
            "All pairs of rows. A comma means the same.",
            "SELECT a.n, b.n FROM numbers AS a CROSS JOIN numbers AS b",
        ),
        entry(
            "WHERE",
            "",
            "Keeps the rows for which a condition is TRUE. SUBSCRIBE, groups and dead letters have it too.",
            "SELECT id FROM orders WHERE status = 'open' AND total > 10",
        ),
        entry(
            "GROUP BY and HAVING",
            "",
            "One row for each group of rows; HAVING keeps some of the groups. A whole number is the position of a column.",
            "SELECT status, count(*) AS n FROM orders GROUP BY status HAVING count(*) > 1",
        ),
        entry(
            "ORDER BY",
            "sort_item",
            "Sorts by values, aliases or positions. NULL sorts last unless NULLS FIRST is given.",
            "SELECT id, total FROM orders ORDER BY total DESC NULLS FIRST, id ASC NULLS LAST",
        ),
        entry(
            "LIMIT and OFFSET",
            "count",
            "How many rows to return, and how many to skip first.",
            "SELECT id FROM orders ORDER BY id LIMIT 2 OFFSET 1",
        ),
        entry(
            "UNION, EXCEPT, INTERSECT",
            "set_operation",
            "The rows of two queries together, those of the first only, or those of both. ALL keeps equal rows.",
            "SELECT n FROM numbers UNION ALL SELECT n FROM numbers;\n"
            "SELECT n FROM numbers EXCEPT SELECT 1;\n"
            "SELECT n FROM numbers INTERSECT SELECT 1",
        ),
        entry(
            "Queries in parentheses",
            "nested_query",
            "Parentheses say which part of a set operation comes first.",
            "SELECT 1 UNION (SELECT 2 EXCEPT SELECT 2)",
        ),
        entry(
            "WITH",
            "with_clause common_table",
            "Names a query for use in the query that follows. A query cannot refer to itself.",
            "WITH large (id) AS (SELECT id FROM orders WHERE total > 10) SELECT count(*) FROM large",
        ),
    ),
)

VALUES = Section(
    "Names and values",
    (
        entry(
            "Quoted names",
            "quoted",
            "A name that is not a plain word is written in double quotes or back-quotes.",
            'SELECT "a b" FROM customers;\nSELECT `a b` FROM customers',
        ),
        entry(
            "Paths",
            "path step_name",
            "A field of a message, and fields inside it. A missing field is NULL.",
            "SELECT o.customer FROM orders AS o",
        ),
        entry(
            "Fields by text",
            "step_key",
            "A field inside a value, by its name as text.",
            "SELECT items[0]['sku'] FROM orders",
        ),
        entry(
            "Items",
            "step_index",
            "An item of an array, counted from 0.",
            "SELECT items[0].sku FROM orders",
        ),
        entry("All fields of a source", "step_star", "All columns of one source.", "SELECT o.* FROM orders AS o"),
        entry(
            "Some item",
            "step_every",
            "In a condition: TRUE where it is TRUE for some item of the array.",
            "SELECT id FROM orders WHERE items[*].sku = 'pen'",
        ),
        entry(
            "Numbers and text",
            "number string signed",
            "Text is written in single quotes; a quote inside is doubled.",
            "SELECT 1.5, -2, +.5, 4e3, 'it''s'",
        ),
        entry("TRUE, FALSE, NULL", "true false null", "The truth values, and no value.", "SELECT TRUE, FALSE, NULL"),
        entry(
            "TRUE, FALSE, NULL in VALUES and options",
            "json_true json_false json_null",
            "The same, among the values of INSERT, in options and after DEFAULT.",
            "INSERT INTO flags (a, b, c) VALUES (TRUE, FALSE, NULL)",
        ),
        entry(
            "Parameters",
            "parameter",
            "A value that is given when the statement runs. It is never read as text of the language.",
            "SELECT id FROM orders WHERE total > $least",
        ),
        entry(
            "Parameters as messages",
            "parameter_value",
            "A parameter as a message, in a message, among VALUES or as the value of an option.",
            "PUBLISH TO orders $message;\nINSERT INTO orders (id, total) VALUES ('o-7', $least)",
        ),
        entry(
            "TIMESTAMP",
            "timestamp",
            "A time in ISO 8601. Without an offset it is UTC.",
            "SELECT id FROM orders WHERE created >= TIMESTAMP '2026-04-01T00:00:00Z'",
        ),
        entry("DATE", "date", "A date.", "SELECT id FROM orders WHERE created < DATE '2026-04-01'"),
        entry(
            "INTERVAL",
            "interval",
            "A length of time.",
            "SELECT created + INTERVAL '1 month' FROM orders WHERE created > NOW() - INTERVAL '10 years'",
        ),
    ),
)

CONDITIONS = Section(
    "Operators",
    (
        entry(
            "Comparisons",
            "comparison",
            "`=`, `<>` (or `!=`), `<`, `<=`, `>`, `>=`. The result is UNKNOWN where a side is NULL or the kinds differ.",
            "SELECT id FROM orders WHERE total >= 10",
        ),
        entry(
            "AND",
            "and_",
            "TRUE where both conditions are TRUE.",
            "SELECT id FROM orders WHERE total > 5 AND status = 'open'",
        ),
        entry(
            "OR",
            "or_",
            "TRUE where at least one condition is TRUE.",
            "SELECT id FROM orders WHERE total > 50 OR status = 'paid'",
        ),
        entry(
            "NOT",
            "not_",
            "TRUE becomes FALSE and FALSE becomes TRUE; UNKNOWN stays UNKNOWN.",
            "SELECT id FROM orders WHERE NOT status = 'open'",
        ),
        entry("( )", "parenthesised", "Groups operators.", "SELECT (1 + 2) * 3"),
        entry(
            "+ and -",
            "sum_",
            "Addition and subtraction, of numbers, times and intervals.",
            "SELECT n + 1, n - 1 FROM numbers",
        ),
        entry("*", "multiply", "Multiplication.", "SELECT n * 2 FROM numbers"),
        entry(
            "/",
            "divide",
            "The quotient, also of whole numbers. Division by zero is UNKNOWN.",
            "SELECT n / 2 FROM numbers",
        ),
        entry("%", "remainder", "The remainder, with the sign of the dividend.", "SELECT n % 2 FROM numbers"),
        entry("||", "concat", "Joins texts.", "SELECT s || '!' FROM numbers"),
        entry(
            "LIKE",
            "like",
            "Matches a pattern: `%` is any text, `_` one character. ESCAPE names the character that makes them plain.",
            "SELECT id FROM orders WHERE id LIKE 'o!_%' ESCAPE '!' OR id NOT LIKE 'x%'",
        ),
        entry("ILIKE", "ilike", "LIKE without regard to case.", "SELECT id FROM customers WHERE name ILIKE 'a%'"),
        entry(
            "IN (…)",
            "in_list in_items",
            "TRUE where a value equals an item.",
            "SELECT id FROM orders WHERE status IN ('paid', 'open')",
        ),
        entry(
            "IN (SELECT …)",
            "in_query",
            "TRUE where a value equals a row of a query.",
            "SELECT name FROM customers WHERE id NOT IN (SELECT customer FROM orders)",
        ),
        entry(
            "IN $parameter",
            "in_parameter",
            "TRUE where a value equals an item of a list that is a parameter.",
            "SELECT id FROM orders WHERE status IN $states",
        ),
        entry(
            "BETWEEN",
            "between",
            "From one value to another, both included.",
            "SELECT n FROM numbers WHERE n BETWEEN 2 AND 3",
        ),
        entry(
            "IS NULL",
            "is_null",
            "TRUE for NULL and for a missing field.",
            "SELECT id FROM customers WHERE nickname IS NULL",
        ),
        entry(
            "IS TRUE",
            "is_true",
            "TRUE where a condition is TRUE; never UNKNOWN.",
            "SELECT id FROM orders WHERE (total > 10) IS TRUE",
        ),
        entry(
            "IS FALSE",
            "is_false",
            "TRUE where a condition is FALSE.",
            "SELECT id FROM orders WHERE (total > 10) IS FALSE",
        ),
        entry(
            "IS UNKNOWN",
            "is_unknown",
            "TRUE where a condition is UNKNOWN.",
            "SELECT id FROM customers WHERE (age > 10) IS UNKNOWN",
        ),
        entry(
            "IS DISTINCT FROM",
            "is_distinct",
            "Whether two values differ, where NULL equals NULL.",
            "SELECT id FROM customers WHERE nickname IS NOT DISTINCT FROM NULL",
        ),
        entry(
            "CASE",
            "case when",
            "The value of the first branch whose condition is TRUE.",
            "SELECT CASE WHEN total > 10 THEN 'large' ELSE 'small' END FROM orders;\n"
            "SELECT CASE status WHEN 'paid' THEN 1 ELSE 0 END FROM orders",
        ),
        entry(
            "EXISTS (path)",
            "exists",
            "Whether a message has a field, even if its value is null.",
            "SELECT id FROM customers WHERE EXISTS(name)",
        ),
        entry(
            "EXISTS (SELECT …)",
            "exists_query",
            "Whether a query has a row.",
            "SELECT 1 WHERE EXISTS (SELECT id FROM orders WHERE total > 10)",
        ),
        entry(
            "(SELECT …) as a value",
            "scalar_query",
            "The one value of a query with one column and at most one row.",
            "SELECT id FROM orders WHERE total = (SELECT max(total) FROM orders)",
        ),
        entry(
            "CAST",
            "cast type_scalar",
            "Converts a value to a type; NULL where that is not possible.",
            "SELECT CAST('5' AS INT)",
        ),
        entry(
            "TRY_CAST",
            "try_cast",
            "The same as CAST.",
            "SELECT TRY_CAST('five' AS INT)",
        ),
    ),
)

CALLS = Section(
    "Calls of functions",
    (
        entry("function(…)", "call", "Calls one of the functions listed below.", "SELECT UPPER(name) FROM customers"),
        entry("function(*)", "call_star", "COUNT(*) counts rows.", "SELECT COUNT(*) FROM orders"),
        entry(
            "EXTRACT",
            "extract extract_part",
            "A part of a time, as a number.",
            "SELECT EXTRACT(YEAR FROM created) FROM orders",
        ),
        entry(
            "DISTINCT in an aggregate",
            "call_distinct",
            "Takes equal values once.",
            "SELECT COUNT(DISTINCT customer), SUM(DISTINCT total) FROM orders",
        ),
        entry(
            "ORDER BY in an aggregate",
            "call_order",
            "The order in which an aggregate takes its values.",
            "SELECT STRING_AGG(id, ',' ORDER BY total DESC) FROM orders",
        ),
        entry(
            "WITHIN GROUP",
            "call_within",
            "The values of a percentile.",
            "SELECT PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY n) FROM numbers",
        ),
        entry(
            "FILTER",
            "call_filter",
            "The rows that an aggregate takes.",
            "SELECT COUNT(*) FILTER (WHERE status = 'open') FROM orders",
        ),
        entry(
            "OVER",
            "over window window_key",
            "A window function or an aggregate over the rows of a partition; with ORDER BY, over the rows up to this one.",
            "SELECT id, SUM(total) OVER (PARTITION BY customer ORDER BY id) FROM orders",
        ),
    ),
)

TYPES = Section(
    "Types",
    (
        entry(
            "LIST",
            "type_list",
            "A list whose items have one type.",
            "CREATE TOPIC t SCHEMA (tags LIST<STRING>)",
        ),
        entry("type[]", "type_array", "Another way to write LIST.", "CREATE TOPIC t SCHEMA (tags STRING[])"),
        entry(
            "MAP",
            "type_map",
            "An object whose values have one type. Its keys are STRING.",
            "CREATE TOPIC t SCHEMA (prices MAP<STRING, DECIMAL>)",
        ),
        entry(
            "STRUCT",
            "type_struct",
            "An object with named fields.",
            "CREATE TOPIC t SCHEMA (place STRUCT<x: FLOAT, y: FLOAT>)",
        ),
        entry(
            "Types with digits",
            "type_sized",
            "DECIMAL with its number of digits, and how many of them are after the point. A length of text is not checked.",
            "CREATE TOPIC t SCHEMA (price DECIMAL(10, 2), code VARCHAR(3))",
        ),
        entry(
            "Types of two words",
            "type_two_words",
            "DOUBLE PRECISION and CHARACTER VARYING.",
            "CREATE TOPIC t SCHEMA (x DOUBLE PRECISION)",
        ),
    ),
)
