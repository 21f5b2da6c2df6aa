"""Bringing an older store to the format of this program, when it is opened.

A store is migrated in one transaction under the fair lock, so a process that is killed meanwhile leaves the old format
behind. `schema.sql` is the only description of the tables: a table that changed is built again from it and takes over the
columns that both have; the others get their defaults. What cannot be said by a default is a statement of `STEPS`.

| format | what it brought |
| --- | --- |
| 2 | the oldest format that is read |
| 3 | `claims.losses` and `claims.begun`; `groups.next_order`; messages of one key that wait behind a failed one are in `parked`; `batches.behind_us`; which dead letters were replayed is in `letter_marks`, no longer in a group; `dead_letter_totals` says where letters are, and how many are outstanding |
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import apsw

from geode_client import letters
from geode_client.store.batch import unpack_attributes

FORMAT_OLDEST = 2

# Tables that a format changed, by the format that brought the change.
CHANGED: Mapping[int, Sequence[str]] = {3: ("claims", "dead_letter_totals", "groups")}

# Statements to run once the tables are those of the new format.
STEPS: Mapping[int, Sequence[str]] = {
    3: (
        # Added at the end, because building `batches` again would copy every payload. Only batches of a clock that was
        # set back are written again.
        "ALTER TABLE batches ADD COLUMN behind_us INTEGER NOT NULL DEFAULT 0",
        (
            "UPDATE batches SET behind_us = found.highest_us - timestamp_us FROM (SELECT batch_id, max(timestamp_us) OVER"
            " (PARTITION BY topic_id, partition ORDER BY base_offset) AS highest_us FROM batches) AS found"
            " WHERE found.batch_id = batches.batch_id AND found.highest_us > timestamp_us"
        ),
        (
            "UPDATE dead_letter_totals SET letters = coalesce((SELECT CAST(t.options AS TEXT) ->> 'dead_letter_topic'"
            " FROM topics AS t WHERE t.name = dead_letter_totals.topic AND t.dropped = 0), '_dlq/' || topic)"
        ),
        # What the group `_replay` had acknowledged was replayed; when is not known.
        """INSERT INTO letter_marks
        WITH RECURSIVE settled (group_id, topic_id, partition, offset, frontier) AS (
            SELECT l.group_id, l.topic_id, l.partition, l.origin, l.frontier FROM lanes AS l JOIN groups AS g USING (group_id)
            WHERE g.name = '_replay'
            UNION ALL SELECT group_id, topic_id, partition, offset + 1, frontier FROM settled WHERE offset + 1 < frontier
        )
        SELECT s.topic_id, s.partition, s.offset, CAST(unixepoch('subsec') * 1000000 AS INTEGER) FROM settled AS s
        WHERE s.offset < s.frontier
        AND NOT EXISTS (SELECT 1 FROM claims AS c WHERE c.group_id = s.group_id AND c.topic_id = s.topic_id
            AND c.partition = s.partition AND substr(c.pending, s.offset - c.first + 1, 1) = x'01' AND s.offset >= c.first)
        AND NOT EXISTS (SELECT 1 FROM retries AS r WHERE r.group_id = s.group_id AND r.topic_id = s.topic_id
            AND r.partition = s.partition AND r.offset = s.offset)
        AND EXISTS (SELECT 1 FROM batches AS b WHERE b.topic_id = s.topic_id AND b.partition = s.partition
            AND b.base_offset <= s.offset AND b.base_offset + b.count > s.offset)""",
        "DELETE FROM claims WHERE group_id IN (SELECT group_id FROM groups WHERE name = '_replay')",
        "DELETE FROM retries WHERE group_id IN (SELECT group_id FROM groups WHERE name = '_replay')",
        "DELETE FROM lanes WHERE group_id IN (SELECT group_id FROM groups WHERE name = '_replay')",
        "DELETE FROM groups WHERE name = '_replay'",
        "DELETE FROM group_totals WHERE name = '_replay'",
    )
}


def migrate(connection: apsw.Connection, version: int, schema: str, target: int) -> None:
    """Bring a store of format `version` to format `target`, whose tables `schema` describes. The caller is in a transaction."""
    fresh = apsw.Connection(":memory:")
    fresh.execute(schema)
    wanted = [
        (str(kind), str(name), str(sql))
        for kind, name, sql in fresh.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    ]
    for table in {table for step in range(version + 1, target + 1) for table in CHANGED[step]}:
        _build_again(connection, table, wanted)
    _create_missing(connection, wanted)
    for step in range(version + 1, target + 1):
        for statement in STEPS[step]:
            connection.execute(statement)
    if version < 3:
        _count_outstanding(connection)
    connection.pragma("user_version", target)


def _count_outstanding(connection: apsw.Connection) -> None:
    """How many dead letters of each kind are retained and not replayed: what format 2 did not count."""
    sql = (
        "SELECT b.base_offset, b.codec, b.attributes, t.topic_id, b.partition, t.name FROM topics AS t JOIN batches AS b"
        " USING (topic_id) WHERE t.dropped = 0 AND t.name IN (SELECT letters FROM dead_letter_totals)"
    )
    found: Counter[tuple[str, ...]] = Counter()
    for base, codec, attributes, topic_id, partition, name in connection.execute(sql):
        try:
            headers = unpack_attributes(codec, attributes).headers or []
        except Exception:  # noqa: BLE001, S112 - damaged: whoever reads the batch is told with its place
            continue
        for place, header in enumerate(headers):
            mark = (topic_id, partition, base + place)
            marked = "SELECT 1 FROM letter_marks WHERE topic_id = ? AND partition = ? AND offset = ?"
            if header and letters.REASON in header and connection.execute(marked, mark).fetchone() is None:
                found[(*(str(header.get(key)) for key in letters.COUNTED_BY), name)] += 1
    for key, number in found.items():
        connection.execute(
            "UPDATE dead_letter_totals SET outstanding = ? WHERE name = ? AND topic = ? AND reason = ? AND letters = ?",
            (number, *key),
        )


def _build_again(connection: apsw.Connection, table: str, wanted: Sequence[tuple[str, str, str]]) -> None:
    """Make a table anew with the columns of `wanted`, keeping its rows and the numbers it has given out."""
    sql = next((sql for kind, name, sql in wanted if (kind, name) == ("table", table)), None)
    if sql is None:
        raise AssertionError(f"{table} is not in the schema")
    old = f"{table}_of_the_old_format"
    for (name,) in connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL", (table,)
    ).fetchall():
        connection.execute(f"DROP INDEX {name}")
    connection.execute(f"ALTER TABLE {table} RENAME TO {old}")
    connection.execute(sql)
    kept = ", ".join(c for c in _columns(connection, table) if c in _columns(connection, old))
    connection.execute(f"INSERT INTO {table} ({kept}) SELECT {kept} FROM {old}")
    if "AUTOINCREMENT" in sql:
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        connection.execute("UPDATE sqlite_sequence SET name = ? WHERE name = ?", (table, old))
    connection.execute(f"DROP TABLE {old}")


def _columns(connection: apsw.Connection, table: str) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]


def _create_missing(connection: apsw.Connection, wanted: Sequence[tuple[str, str, str]]) -> None:
    there = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    for _, name, sql in wanted:
        if name not in there:
            connection.execute(sql)
