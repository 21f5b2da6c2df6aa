"""Entries of the language reference: all statements but queries."""

from geode_client.grammar.entries import Section, entry

TOPICS = Section(
    "Topics",
    (
        entry(
            "CREATE TOPIC",
            "create_topic topic",
            "Creates a topic. The clauses may come in any order. IF NOT EXISTS does nothing where the topic exists.",
            "CREATE TOPIC IF NOT EXISTS users/created",
        ),
        entry(
            "WITH OPTIONS",
            "clause_options options option option_name option_string option_number option_word",
            "Options and their values. Each kind of option has a table below.",
            "CREATE TOPIC audit WITH OPTIONS (partitions: 4, retention_period: '7 days', compression: none)",
        ),
        entry(
            "SCHEMA",
            "clause_schema columns column",
            "Columns with their types. Messages are checked when they are published; fields that the schema does not name "
            "are kept, unless the topic is `strict`.",
            "CREATE TOPIC payments WITH SCHEMA (id STRING, amount DECIMAL)",
        ),
        entry(
            "NOT NULL",
            "rule_not_null",
            "Every message must have a value in this column.",
            "CREATE TOPIC payments SCHEMA (id STRING NOT NULL)",
        ),
        entry(
            "DEFAULT",
            "rule_default scalar_string",
            "The value of a column that a message leaves out.",
            "CREATE TOPIC payments SCHEMA (id STRING, currency STRING DEFAULT 'EUR')",
        ),
        entry(
            "WITH DELIVERY",
            "clause_delivery delivery",
            "The delivery guarantee: at_most_once, at_least_once (the default) or exactly_once.",
            "CREATE TOPIC samples WITH DELIVERY at_most_once;\n"
            "CREATE TOPIC tasks WITH DELIVERY at_least_once;\n"
            "CREATE TOPIC payments WITH DELIVERY exactly_once",
        ),
        entry(
            "ALTER TOPIC … SET OPTIONS",
            "alter_topic_options",
            "Changes the named options; the others keep their values.",
            "ALTER TOPIC orders SET OPTIONS (message_ttl: '1 hour', max_retries: 5)",
        ),
        entry(
            "ALTER TOPIC … SET DELIVERY",
            "alter_topic_delivery",
            "Changes the delivery guarantee.",
            "ALTER TOPIC orders SET DELIVERY exactly_once",
        ),
        entry(
            "ALTER TOPIC … ADD COLUMN",
            "alter_topic_add_column",
            "Adds a column to the schema. Messages that are stored already keep the schema they were stored with.",
            "ALTER TOPIC orders ADD COLUMN currency STRING DEFAULT 'EUR'",
        ),
        entry(
            "ALTER TOPIC … RENAME TO",
            "alter_topic_rename",
            "Renames a topic. Its groups and dead letters keep belonging to it.",
            "ALTER TOPIC orders RENAME TO sales/orders",
        ),
        entry("DROP TOPIC", "drop_topic", "Removes a topic and its messages.", "DROP TOPIC IF EXISTS orders"),
        entry("PURGE TOPIC", "purge_topic", "Removes the messages and keeps the topic.", "PURGE TOPIC orders"),
    ),
)

PUBLISHING = Section(
    "Publishing",
    (
        entry(
            "PUBLISH TO",
            "publish json_message",
            "Stores one or more JSON values as messages. They are stored together, or not at all.",
            'PUBLISH TO orders {"id": "o-4", "total": 20}, {"id": "o-5", "total": 7} WITH OPTIONS (key: \'c1\')',
        ),
        entry(
            "INSERT INTO … VALUES",
            "insert insert_column insert_row",
            "Stores a message for each row of values.",
            "INSERT INTO orders (id, total) VALUES ('o-4', 20), ('o-5', 7)",
        ),
        entry(
            "INSERT INTO … SELECT",
            "insert_query",
            "Stores a message for each row of a query. Without a list of columns, fields have the names of the query's columns.",
            "INSERT INTO paid SELECT id, total FROM orders WHERE status = 'paid';\n"
            "INSERT INTO paid (order_id) SELECT id FROM orders WHERE status = 'paid'",
        ),
    ),
)

SUBSCRIBING = Section(
    "Subscribing",
    (
        entry(
            "SUBSCRIBE TO",
            "subscribe",
            "Delivers messages as they are published, those for which the condition is TRUE. The clauses may come in any order.",
            "SUBSCRIBE TO users/* WHERE plan = 'business' TIMEOUT '10ms'",
        ),
        entry(
            "GROUP … CONSUMER",
            "clause_group word",
            "Reads as a member of a durable group. The members share the messages, and the group keeps its position. "
            "CONSUMER names the member.",
            "SUBSCRIBE TO orders GROUP workers CONSUMER one ACK AUTO LIMIT 2",
        ),
        entry(
            "FROM BEGINNING",
            "clause_from start_beginning",
            "Starts with the oldest message that is retained.",
            "SUBSCRIBE TO orders FROM BEGINNING LIMIT 3",
        ),
        entry(
            "FROM END",
            "start_end",
            "Starts with the next message that is published. This is the default.",
            "SUBSCRIBE TO orders FROM END TIMEOUT '10ms'",
        ),
        entry(
            "FROM OFFSET",
            "start_offset",
            "Starts at an offset, in each partition.",
            "SUBSCRIBE TO orders FROM OFFSET 1 LIMIT 2",
        ),
        entry(
            "FROM TIMESTAMP",
            "start_timestamp",
            "Starts with the first message that was published at this time or later.",
            "SUBSCRIBE TO orders FROM TIMESTAMP '2026-01-01T00:00:00Z' TIMEOUT '10ms'",
        ),
        entry(
            "FROM INTERVAL",
            "start_interval",
            "Starts with the messages of the last hour, day and so on.",
            "SUBSCRIBE TO orders FROM INTERVAL '1 hour' LIMIT 3",
        ),
        entry(
            "ORDER BY PRIORITY",
            "clause_order_priority",
            "Delivers waiting messages of a higher priority first.",
            "SUBSCRIBE TO orders GROUP urgent FROM BEGINNING ORDER BY PRIORITY ACK AUTO LIMIT 3",
        ),
        entry(
            "ORDER BY KEY",
            "clause_order_key",
            "Delivers the messages of one key one after the other.",
            "SUBSCRIBE TO orders GROUP ordered FROM BEGINNING ORDER BY KEY ACK AUTO LIMIT 3",
        ),
        entry(
            "ORDER BY NONE",
            "clause_order_none",
            "Gives up the order of a group; only in ALTER SUBSCRIPTION.",
            "ALTER SUBSCRIPTION workers ON orders SET ORDER BY NONE",
        ),
        entry(
            "PARTITION",
            "clause_partition",
            "Reads one partition.",
            "SUBSCRIBE TO orders PARTITION 0 FROM BEGINNING LIMIT 1",
        ),
        entry(
            "KEY",
            "clause_key",
            "Reads the messages of one key.",
            "SUBSCRIBE TO orders KEY 'c1' FROM BEGINNING TIMEOUT '10ms'",
        ),
        entry(
            "REGION",
            "clause_region",
            "Reads in a region.",
            "SUBSCRIBE TO orders REGION 'eu-west' TIMEOUT '10ms'",
            needs="regions",
        ),
        entry(
            "ACK MANUAL",
            "clause_ack_manual",
            "The program acknowledges each message. A message that is not acknowledged in time is delivered again.",
            "SUBSCRIBE TO orders GROUP workers ACK MANUAL LIMIT 1",
        ),
        entry(
            "ACK AUTO",
            "clause_ack_auto",
            "A message is acknowledged when the program asks for the next one.",
            "SUBSCRIBE TO orders GROUP workers ACK AUTO LIMIT 1",
        ),
        entry(
            "FOLLOW",
            "clause_follow",
            "Keeps waiting for new messages.",
            "SUBSCRIBE TO orders FROM BEGINNING FOLLOW LIMIT 3",
        ),
        entry(
            "NO FOLLOW",
            "clause_no_follow",
            "Ends after the messages that are stored now.",
            "SUBSCRIBE TO orders FROM BEGINNING NO FOLLOW",
        ),
        entry(
            "LIMIT", "clause_limit", "Ends after a number of messages.", "SUBSCRIBE TO orders FROM BEGINNING LIMIT 1"
        ),
        entry(
            "TIMEOUT",
            "clause_timeout",
            "Ends when no message has arrived for this long.",
            "SUBSCRIBE TO orders FROM BEGINNING TIMEOUT '10ms'",
        ),
    ),
)

GROUPS = Section(
    "Durable groups",
    (
        entry(
            "CREATE SUBSCRIPTION",
            "create_subscription",
            "Creates a durable group. A new group starts at the end unless FROM is given.",
            "CREATE SUBSCRIPTION large ON orders WHERE total > 10 FROM BEGINNING ORDER BY KEY",
        ),
        entry(
            "ALTER SUBSCRIPTION … SEEK TO",
            "alter_subscription_seek",
            "Moves the group's position: back to deliver messages again, or forward to skip some.",
            "ALTER SUBSCRIPTION workers ON orders SEEK TO OFFSET 1",
        ),
        entry(
            "ALTER SUBSCRIPTION … SET",
            "alter_subscription_set",
            "Changes the group's condition or order and keeps its position. Messages in hand are settled first. SET WHERE TRUE"
            " removes the condition.",
            "ALTER SUBSCRIPTION workers ON orders SET WHERE total > 10 ORDER BY NONE;\n"
            "ALTER SUBSCRIPTION workers ON orders SET ORDER BY PRIORITY",
        ),
        entry(
            "PAUSE SUBSCRIPTION",
            "pause",
            "Stops delivery to a group. Messages keep waiting for it.",
            "PAUSE SUBSCRIPTION workers ON orders",
        ),
        entry(
            "RESUME SUBSCRIPTION",
            "resume",
            "Continues delivery to a group.",
            "PAUSE SUBSCRIPTION workers;\nRESUME SUBSCRIPTION workers",
        ),
        entry(
            "DROP SUBSCRIPTION",
            "drop_subscription",
            "Removes a group and its position. Without ON, the group is removed from every topic.",
            "DROP SUBSCRIPTION IF EXISTS workers ON orders",
        ),
    ),
)

LOOKING = Section(
    "Looking around",
    (
        entry("SHOW TOPICS", "show_topics", "The topics, or those whose names match.", "SHOW TOPICS LIKE 'ord%'"),
        entry("SHOW SUBSCRIPTIONS", "show_subscriptions", "The durable groups.", "SHOW SUBSCRIPTIONS"),
        entry("SHOW SUBSCRIBERS", "show_subscribers", "The subscribers that are connected.", "SHOW SUBSCRIBERS"),
        entry("SHOW REGIONS", "show_regions", "The regions.", "SHOW REGIONS", needs="regions"),
        entry(
            "DESCRIBE TOPIC", "describe", "Columns, delivery guarantee and options of a topic.", "DESCRIBE TOPIC orders"
        ),
        entry(
            "SHOW CREATE TOPIC",
            "show_create",
            "The statement that creates a topic like this one.",
            "SHOW CREATE TOPIC orders",
        ),
        entry(
            "EXPLAIN",
            "explain",
            "How a statement would run. ANALYZE runs it and adds what was read and how long it took.",
            "EXPLAIN SELECT count(*) FROM orders;\nEXPLAIN ANALYZE SELECT count(*) FROM orders",
        ),
        entry(
            "TEST FILTER",
            "test_filter",
            "How many of the newest messages a condition matches, and why it is UNKNOWN for others.",
            "TEST FILTER 'total > 10' ON orders LIMIT 200",
        ),
    ),
)

LETTERS = Section(
    "Dead letters",
    (
        entry(
            "REPLAY DEAD LETTERS OF",
            "replay",
            "Publishes dead letters again for the group that failed, for every subscriber (TO ALL), or to another topic.",
            "REPLAY DEAD LETTERS OF orders WHERE total > 10;\n"
            "REPLAY DEAD LETTERS OF orders TO ALL;\n"
            "REPLAY DEAD LETTERS OF orders TO customers",
        ),
        entry(
            "DELETE DEAD LETTERS OF",
            "delete_letters",
            "Removes dead letters.",
            "DELETE DEAD LETTERS OF orders WHERE _replayed_at IS NOT NULL",
        ),
    ),
)

TRANSACTIONS = Section(
    "Transactions",
    (
        entry(
            "BEGIN",
            "begin",
            "Begins a transaction: nothing of it is visible to others until COMMIT.",
            'BEGIN;\nPUBLISH TO orders {"id": "o-4"};\nCOMMIT',
        ),
        entry(
            "COMMIT",
            "commit",
            "Makes everything since BEGIN durable and visible at once.",
            "BEGIN;\nINSERT INTO orders (id) VALUES ('o-4');\nCOMMIT",
        ),
        entry(
            "ROLLBACK",
            "rollback",
            "Discards everything since BEGIN.",
            "BEGIN;\nINSERT INTO orders (id) VALUES ('o-4');\nROLLBACK",
        ),
    ),
)

FILES = Section(
    "Files",
    (
        entry(
            "COPY … TO a file",
            "copy_to",
            "Writes the messages that a topic retains.",
            "COPY orders TO 'orders.csv' WITH OPTIONS (delimiter: ';')",
        ),
        entry(
            "COPY (SELECT …) TO a file",
            "copy_query",
            "Writes the rows of a query.",
            "COPY (SELECT id, total FROM orders) TO 'totals.jsonl'",
        ),
        entry(
            "COPY … FROM a file",
            "copy_from option_types struct_field",
            "Publishes what a file holds.",
            "COPY orders TO 'orders.csv';\nCOPY again FROM 'orders.csv' WITH OPTIONS (id_field: 'id', types: (total: DECIMAL))",
        ),
        entry(
            "COPY between topics",
            "copy_between",
            "Copies messages from topic to topic. TO and FROM give the direction.",
            "COPY orders TO archive/orders WITH OPTIONS (keep: 'all');\nCOPY archive/second FROM orders",
        ),
    ),
)

SCRIPTS = Section(
    "Scripts",
    (
        entry(
            "ASSERT",
            "assert_statement scalar_number",
            "Fails unless a query gives the value, at once or WITHIN some time.",
            "ASSERT (SELECT count(*) FROM orders) = 3 WITHIN '5 seconds'",
        ),
    ),
)
