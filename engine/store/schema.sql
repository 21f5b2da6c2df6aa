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
    delayed_floor INTEGER NOT NULL DEFAULT 0,
    options BLOB NOT NULL
);

CREATE UNIQUE INDEX topics_by_name ON topics (name) WHERE dropped = 0;
-- What the sweeper looks at: topics with a retention or an idle time, and dropped ones that still have rows.
CREATE INDEX topics_swept ON topics (topic_id) WHERE swept = 1;
-- Topics that were purged of waiting messages: those below the floor are out of reach.
CREATE INDEX topics_purged ON topics (topic_id) WHERE delayed_floor > 0;

-- What topics were called before they were renamed: dead letters name their topic as it was called then.
CREATE TABLE former_names (
    topic_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    until_us INTEGER NOT NULL,
    PRIMARY KEY (topic_id, name)
) WITHOUT ROWID;

CREATE TABLE schema_versions (
    topic_id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    definition BLOB NOT NULL,
    PRIMARY KEY (topic_id, version)
) WITHOUT ROWID;

-- One row a partition from its first message on. Publishing does not touch it: the newest batch tells where the log ends and
-- how many bytes were ever stored. Here is what no batch tells any more: that of those which were removed.
CREATE TABLE partition_marks (
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    start_offset INTEGER NOT NULL DEFAULT 0,
    end_offset INTEGER NOT NULL DEFAULT 0,
    appended_bytes INTEGER NOT NULL DEFAULT 0,
    removed_bytes INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (topic_id, partition)
) WITHOUT ROWID;

-- Messages that wait for their time, packed as a batch without offsets. A row that fails its checksum gets `damaged` and stays.
CREATE TABLE delayed (
    delayed_id INTEGER PRIMARY KEY AUTOINCREMENT,
    due_us INTEGER NOT NULL,
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    count INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    accepted_us INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    compress INTEGER NOT NULL,
    damaged INTEGER NOT NULL DEFAULT 0,
    codec INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    attributes BLOB,
    payload BLOB NOT NULL
);

CREATE INDEX delayed_by_due ON delayed (due_us) WHERE damaged = 0;
CREATE INDEX delayed_by_topic ON delayed (topic_id, delayed_id, count);
CREATE INDEX delayed_damaged ON delayed (topic_id, delayed_id, count) WHERE damaged = 1;

CREATE TABLE batches (
    batch_id INTEGER PRIMARY KEY,
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    base_offset INTEGER NOT NULL,
    count INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    timestamp_us INTEGER NOT NULL,
    behind_us INTEGER NOT NULL DEFAULT 0, -- how far timestamp_us is below the highest one of the partition so far
    expires_first_us INTEGER,
    expires_last_us INTEGER,
    schema_version INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    appended_bytes INTEGER NOT NULL, -- of the partition, up to the end of this batch
    checksum INTEGER NOT NULL,
    attributes BLOB,
    payload BLOB NOT NULL
);

CREATE UNIQUE INDEX batches_by_offset ON batches (topic_id, partition, base_offset);
-- Not of the default priority: most messages have it, and an index less is a page less in every commit.
CREATE INDEX batches_by_priority ON batches (topic_id, partition, priority, base_offset) WHERE priority <> 5;
CREATE INDEX batches_by_expiry ON batches (expires_last_us) WHERE expires_last_us IS NOT NULL;

CREATE VIEW partitions AS SELECT
    m.topic_id,
    m.partition,
    m.start_offset,
    max(m.end_offset, coalesce((
        SELECT b.base_offset + b.count FROM batches AS b WHERE b.topic_id = m.topic_id AND b.partition = m.partition
        ORDER BY b.base_offset DESC LIMIT 1
    ), 0)) AS next_offset,
    max(m.appended_bytes, coalesce((
        SELECT b.appended_bytes FROM batches AS b WHERE b.topic_id = m.topic_id AND b.partition = m.partition
        ORDER BY b.base_offset DESC LIMIT 1
    ), 0)) - m.removed_bytes AS stored_bytes,
    m.removed,
    m.expired
FROM partition_marks AS m;

-- Of a message that waits in `delayed` the offset is -1 - delayed_id.
CREATE TABLE message_ids (
    topic_id INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (topic_id, message_id)
) WITHOUT ROWID;

CREATE INDEX message_ids_waiting ON message_ids (topic_id, offset) WHERE offset < 0;

-- Groups. docs/delivery.md has the state of a message in each of these tables.
CREATE TABLE groups (
    group_id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    pattern TEXT NOT NULL,
    condition TEXT,
    key TEXT,
    order_by TEXT NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0,
    private_to TEXT,
    revision INTEGER NOT NULL DEFAULT 1,
    created_us INTEGER NOT NULL,
    next_order TEXT -- the order that the group takes once nobody holds a message of it
);

CREATE UNIQUE INDEX groups_by_name ON groups (name, pattern);

-- What became of a group's messages since `origin`; everything before `frontier` has been claimed or counted.
CREATE TABLE lanes (
    group_id INTEGER NOT NULL,
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    origin INTEGER NOT NULL,
    frontier INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    dead_lettered INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (group_id, topic_id, partition, lane)
) WITHOUT ROWID;

CREATE INDEX lanes_by_topic ON lanes (topic_id, partition);

-- Messages in somebody's hands, or let go of by them (owner NULL). `claim_id` is the token of every settlement.
-- `pending`: one byte for each offset from `first` on, 1 where the message is of this claim and not settled.
CREATE TABLE claims (
    claim_id INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id INTEGER NOT NULL,
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    first INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    retried INTEGER NOT NULL,
    key TEXT,
    error TEXT,
    owner TEXT,
    deadline_us INTEGER NOT NULL,
    pending BLOB NOT NULL,
    losses INTEGER NOT NULL DEFAULT 0, -- how often the messages were lost with a consumer
    begun INTEGER NOT NULL DEFAULT 0 -- 1: a message that was lost before was handed over while its owner held nothing else
);

CREATE INDEX claims_by_group ON claims (group_id, topic_id, partition, lane);

-- Messages that failed and wait for their next attempt, and in ordered groups those that wait behind one of the same key.
CREATE TABLE retries (
    group_id INTEGER NOT NULL,
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    key TEXT,
    attempts INTEGER NOT NULL,
    not_before_us INTEGER NOT NULL,
    error TEXT,
    PRIMARY KEY (group_id, topic_id, partition, offset)
) WITHOUT ROWID;

CREATE INDEX retries_by_time ON retries (group_id, not_before_us);
CREATE INDEX retries_by_key ON retries (group_id, topic_id, partition, key, offset) WHERE key IS NOT NULL;

-- Messages of an ordered group that wait behind an earlier one of their key. `pending` as in `claims`; at most 4,096 offsets.
CREATE TABLE parked (
    group_id INTEGER NOT NULL,
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    key TEXT NOT NULL,
    first INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    pending BLOB NOT NULL,
    PRIMARY KEY (group_id, topic_id, partition, key, first)
) WITHOUT ROWID;

-- Counted since the group was made, whatever is sought or dropped meanwhile; what metrics show.
CREATE TABLE group_totals (
    name TEXT NOT NULL,
    topic_id INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    dead_lettered INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    redelivered INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (name, topic_id)
) WITHOUT ROWID;

-- The same for dead letters by reason and the topic that holds them, of groups and (name '') of subscribers without one.
-- It outlives the topic that they come from, so it also says where to look for its dead letters.
CREATE TABLE dead_letter_totals (
    name TEXT NOT NULL,
    topic TEXT NOT NULL,
    reason TEXT NOT NULL,
    letters TEXT NOT NULL DEFAULT '',
    messages INTEGER NOT NULL,
    outstanding INTEGER NOT NULL DEFAULT 0, -- retained, and neither replayed nor deleted
    PRIMARY KEY (name, topic, reason, letters)
) WITHOUT ROWID;

-- Dead letters that were replayed.
CREATE TABLE letter_marks (
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    replayed_us INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition, offset)
) WITHOUT ROWID;

-- Statistics are apart from the batches: they are made later, in the background, and changing a batch's row would write its
-- payload again. A zone is a run of whole batches of a partition; offsets from base_offset to before end_offset.
CREATE TABLE zone_columns (
    topic_id INTEGER NOT NULL,
    column_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    declared INTEGER NOT NULL,
    PRIMARY KEY (topic_id, column_id),
    UNIQUE (topic_id, path)
) WITHOUT ROWID;

CREATE TABLE zones (
    zone_id INTEGER PRIMARY KEY,
    topic_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    column_id INTEGER NOT NULL,
    base_offset INTEGER NOT NULL,
    end_offset INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    summary BLOB NOT NULL
);

CREATE UNIQUE INDEX zones_by_offset ON zones (topic_id, partition, column_id, base_offset, end_offset);
