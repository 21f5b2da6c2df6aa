"""Bringing an older store to the format of this program, when it is opened.

A store is migrated in one transaction under the fair lock, so a process that is killed meanwhile leaves the old format
behind. `schema.sql` is the only description of the tables: a table that changed is built again from it and takes over the
columns that both have; the others get their defaults. What cannot be said by a default is a statement of `STEPS`.

| format | what it brought |
| --- | --- |
| 2 | the oldest format that is read |
| 3 | `claims.losses` and `claims.begun`; messages of one key that wait behind a failed one are in `parked`; `batches.behind_us` |
"""

from collections.abc import Mapping, Sequence

import apsw

FORMAT_OLDEST = 2

# Tables that a format changed, by the format that brought the change.
CHANGED: Mapping[int, Sequence[str]] = {3: ("claims",)}

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
    connection.pragma("user_version", target)


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
