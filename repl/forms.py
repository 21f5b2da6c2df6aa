"""Each statement of the language by an example: what `\\h` shows. A test parses them all."""

FORMS = (
    ("CREATE TOPIC [IF NOT EXISTS] users/created", "make a topic"),
    (
        "CREATE TOPIC orders SCHEMA (id STRING NOT NULL, total FLOAT, lines LIST<STRUCT<sku: STRING, n: INT>>)",
        "… whose messages are checked",
    ),
    (
        "CREATE TOPIC orders WITH OPTIONS (partitions: 4, partition_key: 'id', retention_period: '7 days')",
        "… with options",
    ),
    ("CREATE TOPIC payments WITH DELIVERY exactly_once", "… at_most_once, at_least_once, exactly_once"),
    ("ALTER TOPIC orders SET OPTIONS (message_ttl: '1 hour')", "change options; also SET DELIVERY …, ADD COLUMN …"),
    ("DROP TOPIC [IF EXISTS] orders", "remove a topic and its messages"),
    ("PURGE TOPIC orders", "remove the messages only"),
    ('PUBLISH TO orders {"id": "o-1"}, {"id": "o-2"}', "store messages"),
    (
        "PUBLISH TO orders {\"id\": 1} WITH OPTIONS (key: 'u1', priority: 'high', ttl: '1 hour', delay: '5s', id: 'x')",
        "… with options",
    ),
    ("INSERT INTO orders (id, total) VALUES ('o-1', 12.5), ('o-2', 8)", "store messages, in SQL's words"),
    ("SUBSCRIBE TO users/* WHERE plan = 'business'", "messages as they come; patterns * and **"),
    ("SUBSCRIBE TO orders FROM BEGINNING FOLLOW LIMIT 10", "FROM END, OFFSET n, TIMESTAMP '…', INTERVAL '1 hour'"),
    ("SUBSCRIBE TO orders GROUP workers CONSUMER one ACK AUTO", "as one member of a durable group"),
    (
        "SUBSCRIBE TO orders KEY 'user123' ORDER BY KEY TIMEOUT '5 seconds'",
        "also PARTITION n, REGION '…', ORDER BY PRIORITY",
    ),
    ("CREATE SUBSCRIPTION workers ON orders WHERE total > 10 FROM BEGINNING", "make a durable group"),
    ("ALTER SUBSCRIPTION workers ON orders SEEK TO OFFSET 100", "deliver again, or pass over"),
    (
        "ALTER SUBSCRIPTION workers ON orders SET WHERE total > 10 ORDER BY KEY",
        "another condition or order, same position; also ORDER BY PRIORITY, NONE; WHERE TRUE for all",
    ),
    ("PAUSE SUBSCRIPTION workers", "also RESUME SUBSCRIPTION"),
    ("DROP SUBSCRIPTION [IF EXISTS] workers", "remove a group"),
    (
        "SELECT status, count(*) AS n FROM orders WHERE total > 10 GROUP BY status ORDER BY n DESC LIMIT 5",
        "ask the messages that are retained",
    ),
    (
        "SELECT topic_name, pending_messages FROM SYSTEM.topics",
        "ask the system; SYSTEM.subscribers, partitions, options …",
    ),
    ("SHOW TOPICS LIKE 'users/%'", "also SUBSCRIPTIONS, SUBSCRIBERS, REGIONS"),
    ("DESCRIBE TOPIC orders", "columns, delivery, options"),
    ("SHOW CREATE TOPIC orders", "the statement that makes it again"),
    ("EXPLAIN SELECT count(*) FROM orders", "how a statement would run"),
    ("TEST FILTER 'total > 100' ON orders LIMIT 200", "how many of the newest messages match, and why not"),
    ("SELECT * FROM DEAD LETTERS OF orders", "messages that failed too often"),
    (
        "REPLAY DEAD LETTERS OF orders WHERE total > 10",
        "deliver them again to the group that failed; also TO ALL, TO t2",
    ),
    ("DELETE DEAD LETTERS OF orders WHERE _replayed_at IS NOT NULL", "remove dead letters"),
    ("ALTER TOPIC orders RENAME TO sales/orders", "groups and dead letters go along"),
    (
        "COPY orders TO archive/orders WITH OPTIONS (keep: 'all')",
        "from topic to topic, with keys, ids, times and headers",
    ),
    ("COPY orders TO 'orders.jsonl'", "also COPY orders FROM 'orders.jsonl' WITH OPTIONS (key_field: 'id')"),
    ("BEGIN", "begin a transaction; COMMIT and ROLLBACK end it"),
    ("ASSERT (SELECT count(*) FROM orders) = 2 WITHIN '5 seconds'", "end a script with an error when it is not so"),
)
"""Form and what it does; words in square brackets may be left out."""
