"""Statements that must parse: those of the specification as it has them, and every form of the language."""

SPECIFICATION = [
    """-- Create topic for user events
CREATE TOPIC user_events
WITH OPTIONS (
    retention_period: '7 days',
    message_ttl: '24 hours',
    max_subscribers: 100
)""",
    """-- Create topic with message schema
CREATE TOPIC order_notifications
SCHEMA (
    order_id STRING,
    status STRING,
    timestamp TIMESTAMP,
    details MAP<STRING, ANY>
)""",
    "-- Subscribe only to high-priority orders\nSUBSCRIBE TO order_notifications\nWHERE priority = 'high'",
    "-- Subscribe to specific user's events\nSUBSCRIBE TO user_events\nWHERE user_id = 'user123'",
    "CREATE TOPIC notifications\nWITH DELIVERY at_most_once",
    "CREATE TOPIC orders\nWITH DELIVERY at_least_once",
    "CREATE TOPIC transactions\nWITH DELIVERY exactly_once",
    """CREATE TOPIC payment_processing
WITH OPTIONS (
    max_retries: 3,
    dead_letter_topic: 'payment_failures'
)""",
    """SELECT
    topic_name,
    messages_published,
    messages_consumed,
    pending_messages,
    subscriber_count,
    publish_rate,
    consume_rate
FROM SYSTEM.topics
WHERE pending_messages > 10000""",
    """SELECT
    subscriber_id,
    topic_name,
    lag_messages,
    lag_seconds,
    last_message_time
FROM SYSTEM.subscribers
WHERE lag_messages > 1000""",
]

FORMS = [
    "CREATE TOPIC IF NOT EXISTS a/b.c/d-e",
    'CREATE TOPIC "users-2/x"',
    "CREATE TOPIC `back`",
    "CREATE TOPIC t WITH DELIVERY exactly_once SCHEMA (a INT NOT NULL DEFAULT -1, b LIST<MAP<STRING, STRUCT<c: UUID, d: DATE>>>) WITH OPTIONS (partitions: 4, strict: true)",
    'create topic t schema ("a b" DECIMAL default 1.50, c BYTES, d BOOL DEFAULT TRUE, e TIMESTAMP, f ANY DEFAULT NULL)',
    "CREATE TOPIC t WITH OPTIONS ()",
    "ALTER TOPIC t SET OPTIONS (max_retries: 5, retention_bytes: '512 MiB')",
    "ALTER TOPIC t SET DELIVERY at_most_once",
    "ALTER TOPIC t ADD COLUMN x STRING DEFAULT 'a''b'",
    "DROP TOPIC t",
    "DROP TOPIC IF EXISTS a/b",
    "PURGE TOPIC t",
    'PUBLISH TO t {"a": 1, "b": [1, 2.5, null, true], "c": {"d": "e;--\\"/*"}}',
    "PUBLISH TO a/b {\"a\": 1}, [1, 2], \"text\", 3, null WITH OPTIONS (key: 'u1', priority: 'high', ttl: '1 hour')",
    "PUBLISH TO t {\"a\": 1} WITH OPTIONS (id: 'x', delay: '5s', compression: 'none', region: 'eu-west')",
    "PUBLISH TO t $message, $other WITH OPTIONS (key: $key, priority: 9)",
    "INSERT INTO t (a, \"b c\") VALUES (1, 'x'), (-2.5e3, NULL), ($p, TRUE)",
    "SUBSCRIBE TO *",
    "SUBSCRIBE TO users/*",
    "SUBSCRIBE TO a/**/b WHERE x > 1 GROUP g CONSUMER c1 FROM BEGINNING ORDER BY PRIORITY",
    "SUBSCRIBE TO t GROUP 'my group' FROM OFFSET 10 ACK MANUAL FOLLOW",
    "SUBSCRIBE TO t FROM TIMESTAMP '2026-01-01T00:00:00Z' PARTITION 2 NO FOLLOW LIMIT 5",
    "SUBSCRIBE TO t FROM INTERVAL '1 hour' KEY 'user123' TIMEOUT '5 seconds' ACK AUTO REGION 'eu-west'",
    "SUBSCRIBE TO t ORDER BY KEY GROUP g FROM END",
    "CREATE SUBSCRIPTION g ON users/* WHERE a = 1 FROM BEGINNING",
    "CREATE SUBSCRIPTION g ON t",
    "ALTER SUBSCRIPTION g ON t SEEK TO OFFSET 5",
    "EXPLAIN ALTER SUBSCRIPTION g ON t SEEK TO TIMESTAMP '2026-01-01T00:00:00Z'",
    "ALTER SUBSCRIPTION g ON users/* SET WHERE a = 1 AND none > 2 ORDER BY PRIORITY",
    "ALTER SUBSCRIPTION g ON t SET ORDER BY KEY",
    "EXPLAIN ALTER SUBSCRIPTION none ON t SET WHERE none ORDER BY NONE",
    "PAUSE SUBSCRIPTION g",
    "RESUME SUBSCRIPTION g ON t",
    "DROP SUBSCRIPTION IF EXISTS g ON t",
    "SELECT 1",
    "SELECT DISTINCT a AS x, b y, count(*) n FROM t AS s WHERE a IS NOT NULL GROUP BY a, b HAVING n > 1 ORDER BY n DESC NULLS LAST, 1 LIMIT 10 OFFSET 5",
    "SELECT * FROM users/* WHERE _offset >= 3 AND _key = 'k' ORDER BY _timestamp",
    "SELECT t.topic_name, s.lag_messages FROM SYSTEM.topics t JOIN SYSTEM.subscribers AS s ON s.topic_name = t.topic_name",
    "SELECT a FROM t LEFT OUTER JOIN u ON t.a = u.a",
    "SELECT a FROM (SELECT a FROM t LIMIT 3) AS x UNION ALL SELECT b FROM u ORDER BY 1 LIMIT $n",
    "(SELECT 1) UNION (SELECT 2)",
    "SELECT a FROM t WHERE a IN (SELECT b FROM u)",
    "SELECT count(DISTINCT a), sum(b) / count(*), first(c), last(c), min(d), max(d), avg(b) FROM t",
    "SELECT CASE WHEN a > 1 THEN 'x' ELSE 'y' END, CASE b WHEN 1 THEN 2 END, CAST(a AS INT), TRY_CAST(b AS DATE) FROM t",
    "SELECT a.b['c'][0].d, -a + +b * 2 % 3 - 4 / 5 || 'x' FROM t",
    "SELECT NOW() - INTERVAL '1 day', TIMESTAMP '2026-01-01T00:00:00Z', DATE '2026-01-01', DATE_TRUNC('hour', at) FROM t",
    "SELECT a FROM t WHERE NOT (a LIKE 'x%' ESCAPE '!' OR b NOT ILIKE '%y' AND c NOT BETWEEN 1 AND 2) AND EXISTS(d.e)",
    "SELECT a FROM t WHERE a IS NOT UNKNOWN AND b IS TRUE AND c IS NOT FALSE AND d IN (1, 'x', NULL) AND e NOT IN ($p)",
    "WITH a (x, y) AS (SELECT 1, 2), b AS (SELECT * FROM a) SELECT a.x, b.* FROM a, b CROSS JOIN c RIGHT OUTER JOIN d USING (x) FULL JOIN e ON TRUE",
    "SELECT 1 UNION SELECT 2 EXCEPT ALL (SELECT 3 INTERSECT SELECT 4) INTERSECT ALL SELECT 5 ORDER BY 1",
    "SELECT a, (SELECT max(b) FROM u) FROM t WHERE EXISTS (SELECT 1 FROM u) AND a IN $list AND b IS NOT DISTINCT FROM c",
    "SELECT i.sku FROM orders AS o LEFT JOIN UNNEST(o.items) AS i ON i.n IS DISTINCT FROM 1, UNNEST($list) AS u (v)",
    "SELECT row_number() OVER (), rank() OVER (ORDER BY a DESC NULLS FIRST), lag(a, 2, 0) OVER (PARTITION BY b, c ORDER BY d), sum(a) OVER (PARTITION BY b) FROM t",
    "INSERT INTO t (a, b) SELECT x, y FROM u",
    "INSERT INTO t SELECT * FROM u",
    "COPY (SELECT a FROM t ORDER BY a) TO 'file.csv'",
    "SHOW TOPICS",
    "SHOW SUBSCRIPTIONS LIKE 'a%'",
    "SHOW SUBSCRIBERS",
    "SHOW REGIONS",
    "DESCRIBE TOPIC t",
    "SHOW CREATE TOPIC t",
    "EXPLAIN SELECT * FROM t",
    "EXPLAIN ANALYZE SUBSCRIBE TO t",
    "TEST FILTER 'a = ''x''' ON t LIMIT 100",
    "SELECT * FROM DEAD LETTERS OF t WHERE attempts > 3",
    "REPLAY DEAD LETTERS OF t WHERE a = 1 TO t2",
    "REPLAY DEAD LETTERS OF t",
    "REPLAY DEAD LETTERS OF t WHERE _deaths[0].attempts > 3 TO ALL",
    "DELETE DEAD LETTERS OF t WHERE _replayed_at IS NOT NULL",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "COPY t TO 'file.jsonl'",
    "COPY t TO 'file.csv.gz' WITH OPTIONS (quoted: 'text', header: false)",
    "COPY t FROM 'file.csv' WITH OPTIONS (types: (zip: STRING, \"a b\": LIST<INT>), on_error: 'skip')",
    "COPY a/b TO c WITH OPTIONS (keep: 'keys, ids')",
    "ALTER TOPIC a RENAME TO b/c",
    "COPY t FROM 'file.csv' WITH OPTIONS (key: 'k')",
    "ASSERT (SELECT count(*) FROM t) >= 3 WITHIN '5 seconds'",
    "ASSERT (SELECT a FROM t LIMIT 1) <> 'x'",
    "SUBSCRIBE/**/TO/* a comment */users/* /* and another */WHERE a = 1 -- and the last",
]

ALL = SPECIFICATION + FORMS
