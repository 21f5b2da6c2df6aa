"""`geode check`, `backup` and `restore`: what is damaged is found, and what was copied is whole."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from command import GEODE, geode

from geode_client import Client
from geode_client.store import backup
from geode_client.store.verify import verify


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with three topics, keys, ids, removed and expired messages."""
    script = "".join(
        [
            "CREATE TOPIC orders WITH OPTIONS (partitions: 2);",
            *[f"INSERT INTO orders (n, s) VALUES ({n}, '{'text ' * 40}');" for n in range(20)],
            "PUBLISH TO other {\"a\": 1} WITH OPTIONS (key: 'k', id: 'i');",
            "PUBLISH TO later {\"a\": 1} WITH OPTIONS (delay: '1 hour');",
            'PUBLISH TO gone {"a": 1}, {"a": 2}; PURGE TOPIC gone; PUBLISH TO gone {"a": 3};',
        ]
    )
    assert geode("-t", str(tmp_path / "store"), stdin=script)[0] == 0
    return tmp_path / "store"


def spoil(store: Path, sql: str) -> None:
    """Change the file as nobody should."""
    connection = apsw.Connection(str(store / "geode.db"))
    connection.execute(sql)
    connection.close()


def test_a_good_store_has_no_problems(store: Path) -> None:
    code, out, err = geode("-t", str(store), "check")
    assert (code, out) == (0, "")
    assert "4 topics, 22 batches, 22 messages, 0 groups: everything is as it should be" in err


@pytest.mark.parametrize(
    ("check", "sql"),
    [
        (
            "checksum",
            "UPDATE batches SET payload = substr(payload, 1, length(payload) - 1) || x'21' WHERE batch_id = 3",
        ),
        ("checksum", "UPDATE batches SET timestamp_us = timestamp_us + 1 WHERE batch_id = 3"),
        ("offsets", "UPDATE batches SET count = count + 1 WHERE batch_id = 3"),
        ("counts", "DELETE FROM batches WHERE batch_id = 3"),
        ("counts", "UPDATE partition_marks SET removed = removed + 1 WHERE topic_id = 1"),
        ("bytes", "UPDATE partition_marks SET removed_bytes = removed_bytes + 1 WHERE topic_id = 1"),
        ("delayed", "UPDATE delayed SET due_us = due_us + 1"),
        ("ids", "UPDATE message_ids SET offset = 99"),
    ],
)
def test_damage_is_found_and_named(store: Path, check: str, sql: str) -> None:
    spoil(store, sql)
    code, out, err = geode("-t", str(store), "check")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert check in {problem["check"] for problem in found}
    assert all(problem["place"].startswith("topic ") for problem in found)
    assert f"{len(found)} problem" in err


PURGED = """
import asyncio, os, sys
from geode_client import Client
async def main():
    async with Client(sys.argv[1]) as client:
        await client.publish_batch("t", range(5))
        await client.execute("PURGE TOPIC t")
        os._exit(0)
asyncio.run(main())
"""


def test_what_purge_left_to_be_removed_is_no_damage(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PURGED, str(tmp_path / "store")], check=True)
    assert verify(tmp_path / "store").problems == ()


def test_no_store_is_made_by_looking(tmp_path: Path) -> None:
    for command in (["check"], ["backup", str(tmp_path / "copy")]):
        code, _, err = geode("-t", str(tmp_path / "nothing"), *command)
        assert code == 1
        assert "there is no store" in err
    assert not (tmp_path / "nothing").exists()
    code, _, err = geode("-t", ":memory:", "check")
    assert code == 1
    assert "no directory" in err


def test_a_copy_made_while_others_write_is_whole_and_becomes_a_store(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (
        f"while true; do echo '{{\"n\": 1}}'; done | {shlex.quote(GEODE)} -t {shlex.quote(str(store))} publish busy -"
    )
    with subprocess.Popen(
        ["bash", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as writer:
        try:
            while "busy" not in geode("-t", str(store), "-c", "SELECT topic_name FROM SYSTEM.topics")[1]:
                assert writer.poll() is None
            steps: list[int] = []
            monkeypatch.setattr(backup, "PAGES_AT_ONCE", 1)
            size = backup.back_up(store, tmp_path / "copy.geode", lambda done, _: steps.append(done))
        finally:
            os.killpg(writer.pid, signal.SIGKILL)  # the shell and both ends of its pipe
    assert len(steps) > 1
    assert (tmp_path / "copy.geode").stat().st_size == size
    assert (tmp_path / "copy.geode").stat().st_mode & 0o777 == 0o600
    assert geode("-t", str(tmp_path / "restored"), "restore", str(tmp_path / "copy.geode"))[0] == 0
    report = verify(tmp_path / "restored")
    assert (report.problems, report.topics) == ((), 5)
    code, out, _ = geode("-t", str(tmp_path / "restored"), "-c", "SELECT count(*) AS n FROM orders")
    assert (code, json.loads(out)) == (0, {"n": 20})


def test_nothing_is_written_over(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.geode"
    assert geode("-t", str(store), "backup", str(copy))[0] == 0
    code, _, err = geode("-t", str(store), "backup", str(copy))
    assert code == 1
    assert "exists already" in err
    code, _, err = geode("-t", str(store), "restore", str(copy))
    assert code == 1
    assert "holds a store already" in err
    (tmp_path / "text").write_text("no store", encoding="utf-8")
    code, _, err = geode("-t", str(tmp_path / "new"), "restore", str(tmp_path / "text"))
    assert code == 1
    assert "text" in err
    assert not list(tmp_path.glob(".*unfinished*"))


async def with_groups(directory: Path) -> None:
    """Groups of each order that have acknowledged, refused, filtered, missed and not yet seen messages."""
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 2, retry_backoff: '1 hour', max_retries: 3)")
        opened = [
            client.subscribe("t", consumer_group="plain", auto_ack=False, filter="n % 3 <> 0"),
            client.subscribe("t", consumer_group="first", auto_ack=False, priority_order=True),
            client.subscribe("t", consumer_group="keyed", auto_ack=False, ordering=True),
        ]
        async with opened[0], opened[1], opened[2]:
            for n in range(60):
                await client.publish("t", {"n": n}, partition_key=f"k{n % 7}", priority=n % 3 * 3, ttl_seconds=3600)
            for subscription in opened:
                for n in range(15):
                    message = await subscription.get()
                    assert message is not None
                    await (message.nack(requeue=n % 2 == 0) if n % 5 == 4 else message.ack())
            assert verify(directory).problems == ()
        await client.execute("PURGE TOPIC t")
        await client.publish_batch("t", [{"n": n} for n in range(10)])


async def test_groups_keep_the_law_of_conservation(directory: Path) -> None:
    await with_groups(directory)
    report = verify(directory)
    assert (report.groups, report.problems) == (3, ())


@pytest.mark.parametrize("name", ["plain", "first", "keyed"])
@pytest.mark.parametrize(
    "change",
    [
        "acknowledged = acknowledged + 1 WHERE acknowledged > 0",
        "removed = removed - 1 WHERE removed > 0",
        "frontier = frontier + 1 WHERE 1 = 1",
    ],
)
async def test_a_message_of_a_group_that_is_lost_or_counted_twice_is_found(
    directory: Path, change: str, name: str
) -> None:
    await with_groups(directory)
    spoil(directory, f"UPDATE lanes SET {change} AND group_id = (SELECT group_id FROM groups WHERE name = '{name}')")
    found = verify(directory).problems
    assert {(problem.check, problem.place.split(",")[0]) for problem in found} == {("conservation", f"group {name}")}
