-- The tables of a store. docs/delivery.md says what each column of `batches` is for.
-- Columns that a reader wants without the payload come first: SQLite reads a row from its start.

CREATE TABLE store_state (
    name TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

CREATE TABLE topics (
    topic_id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    dropped INTEGER NOT NULL DEFAULT 0,
    delivery TEXT NOT NULL,
    automatic INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 1,
    schema_version INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    swept INTEGER NOT NULL,
    options BLOB NOT NULL
);

CREATE UNIQUE INDEX topics_by_name ON topics (name) WHERE dropped = 0;
-- What the sweeper looks at: topics with a retention or an idle time, and dropped ones that still have rows.
CREATE INDEX topics_swept ON topics (topic_id) WHERE swept = 1;

CREATE TABLE schema_versions (
    topic_id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    definition BLOB NOT NULL,
    PRIMARY KEY (topic_id, version)
) WITHOUT ROWID;

CREATE TABLE partitions (
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    start_offset INTEGER NOT NULL DEFAULT 0,
    next_offset INTEGER NOT NULL DEFAULT 0,
    stored_bytes INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (topic_id, partition)
) WITHOUT ROWID;

CREATE TABLE batches (
    batch_id INTEGER PRIMARY KEY,
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    base_offset INTEGER NOT NULL,
    count INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    timestamp_us INTEGER NOT NULL,
    expires_first_us INTEGER,
    expires_last_us INTEGER,
    schema_version INTEGER NOT NULL,
    slot_mask INTEGER,
    codec INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    statistics BLOB,
    attributes BLOB,
    payload BLOB NOT NULL
);

CREATE UNIQUE INDEX batches_by_offset ON batches (topic_id, partition, base_offset);
CREATE INDEX batches_by_priority ON batches (topic_id, partition, priority, base_offset) WHERE priority <> 5;
CREATE INDEX batches_by_expiry ON batches (expires_last_us) WHERE expires_last_us IS NOT NULL;

CREATE TABLE message_ids (
    topic_id INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (topic_id, message_id)
) WITHOUT ROWID;
