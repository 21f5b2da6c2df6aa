"""Stores of older formats: opening one migrates it, and nothing that it held is lost."""

import gzip
import os
from pathlib import Path
from typing import Any

import apsw
import pytest
from laws import conserved

from geode_client import Client, StoreError
from geode_client.store import database as files
from geode_client.store.backup import restore
from geode_client.store.migration import FORMAT_OLDEST
from geode_client.store.verify import verify
from geode_client.store.wake import WakePipe

FORMATS = sorted(Path(__file__).with_name("formats").glob("format-*.gz"))


@pytest.fixture(params=FORMATS, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, directory: Path) -> Path:
    """A store that a former version left behind, with claims of a killed process, retries, dead letters and own tables."""
    directory.mkdir(mode=0o700)
    (directory / "geode.db").write_bytes(gzip.decompress(request.param.read_bytes()))
    (directory / "geode.db").chmod(0o600)
    return directory


def shape(path: Path) -> set[tuple[str, ...]]:
    """Tables with their columns, and the indexes and views, as SQLite understands them; the user's own table apart."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    columns = connection.execute(
        "SELECT t.name, c.name, c.type, c.'notnull', coalesce(c.dflt_value, ''), c.pk FROM pragma_table_list AS t"
        " JOIN pragma_table_info(t.name) AS c WHERE t.name NOT LIKE 'sqlite_%' AND t.name <> 'mine'"
    ).fetchall()
    indexes = connection.execute(
        "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    connection.close()
    return {tuple(map(str, row)) for row in columns + indexes}


async def test_every_format_since_the_oldest_is_kept() -> None:
    kept = [int(path.stem.partition("-")[2]) for path in FORMATS]
    assert kept == list(range(FORMAT_OLDEST, files.FORMAT_VERSION)), "keep a store of each format that was released"


async def test_opening_migrates_and_keeps_everything(old: Path, tmp_path: Path) -> None:
    async with Client(tmp_path / "new"):
        pass
    async with Client(old) as client:
        assert (await client.query("SELECT count(*) FROM orders")).rows == [(51,)]
        assert (await client.query("SELECT currency FROM orders WHERE id = 'o-1'")).rows == [("EUR",)]
        assert (await client.query("SELECT count(*) FROM DEAD LETTERS OF orders")).rows == [(4,)]
        assert (await client.publish("exact", {"n": 1}, message_id="once")).duplicate
        groups = await conserved(client)
        assert set(groups) == {"held-plain", "held-priority_order", "held-ordering", "waiting", "paused"}
        async with client.transaction() as tx:
            assert (await tx.execute("SELECT * FROM mine")).rows == [(1, "one")]
    assert shape(old / "geode.db") == shape(tmp_path / "new" / "geode.db")


@pytest.mark.parametrize("group", ["held-plain", "held-priority_order", "held-ordering", "waiting"])
async def test_groups_go_on_where_they_were(old: Path, group: str) -> None:
    async with Client(old) as client:
        before = (await conserved(client))[group]
        by_priority, by_key = group == "held-priority_order", group == "held-ordering"
        seen: list[tuple[int, int]] = []
        async with client.subscribe(
            "orders", consumer_group=group, timeout=2, priority_order=by_priority, ordering=by_key
        ) as subscription:
            async for message in subscription:
                seen.append((message.partition, message.offset))
        assert len(seen) == len(set(seen))
        after = (await conserved(client))[group]
        assert after.acknowledged == before.acknowledged + len(seen)
        assert after.ahead == 0
        assert after.in_flight == 0


def highest_claim(path: Path) -> int:
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    found = int(str(reader.execute("SELECT max(claim_id) FROM claims").fetchall()[0][0]))
    reader.close()
    return found


async def test_claim_numbers_are_not_given_again(old: Path) -> None:
    highest = highest_claim(old / "geode.db")
    async with Client(old) as client, client.subscribe("orders", consumer_group="waiting") as subscription:
        assert await subscription.get(timeout=5) is not None
        assert highest_claim(old / "geode.db") > highest


async def test_a_store_that_is_open_elsewhere_is_not_migrated(old: Path) -> None:
    before = shape(old / "geode.db")
    pipe = WakePipe(old / "wake", "4711-other")
    try:
        with pytest.raises(StoreError, match="open in another process \\(process id 4711\\)"):
            await Client(old).open()
    finally:
        pipe.close()
    assert shape(old / "geode.db") == before
    async with Client(old) as client:
        assert len(await client.query("SHOW TOPICS")) > 0


async def test_backups_of_older_formats_are_restored(old: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.geode"
    os.rename(old / "geode.db", copy)
    restore(copy, tmp_path / "restored")
    async with Client(tmp_path / "restored") as client:
        assert (await client.query("SELECT count(*) FROM orders")).rows == [(51,)]


async def test_a_clock_that_was_set_back_before_the_migration_is_noted(old: Path) -> None:
    connection = apsw.Connection(str(old / "geode.db"))
    sql = "SELECT batch_id, timestamp_us FROM batches WHERE topic_id = 1 AND partition = 0 ORDER BY base_offset DESC LIMIT 2"
    rows: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
    (newest, _), (_, before_us) = rows
    connection.execute("UPDATE batches SET timestamp_us = ? WHERE batch_id = ?", (before_us - 3_600_000_000, newest))
    connection.close()
    async with Client(old) as client:
        found = client._broker._log.rows("SELECT behind_us FROM batches WHERE batch_id = ?", (newest,))  # type: ignore[attr-defined]
    assert found[0][0] >= 3_600_000_000
    assert "times" not in {problem.check for problem in verify(old).problems}
