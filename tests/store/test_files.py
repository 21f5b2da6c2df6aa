"""The files of a store: who may open them, what is refused by name, and what damage looks like."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from reading import next_of

from geode_client import Client, CorruptData, GeodeError, StoreError, SyncClient
from geode_client.store import database as files

# The standard library's module is used here only to make files of other programs.


async def fill(directory: Path, count: int = 3) -> None:
    async with Client(directory) as client:
        for n in range(count):
            await client.publish("t", {"n": n, "text": "x" * 100})


async def test_everything_is_private(directory: Path) -> None:
    async with Client(directory) as client, client.subscribe("t"):
        await client.publish("t", 1)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*") if not path.is_dir()}
        assert modes
        assert set(modes.values()) == {0o600}
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "wake").stat().st_mode) == 0o700
    assert not list((directory / "wake").iterdir()), "a closed client left its pipe"


async def test_memory_is_private_and_forgotten() -> None:
    async with Client(":memory:") as one, Client(":memory:") as two:
        await one.publish("t", 1)
        assert len(await two.query("SHOW TOPICS")) == 0
    assert not Path(":memory:").exists()


async def test_the_default_target_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEODE_URL", str(tmp_path / "named"))
    async with Client() as client:
        await client.publish("t", 1)
    assert (tmp_path / "named" / "geode.db").exists()
    monkeypatch.delenv("GEODE_URL")
    monkeypatch.chdir(tmp_path)
    async with Client() as client:
        await client.publish("t", 1)
    assert (tmp_path / "geode-data" / "geode.db").exists()


async def test_foreign_and_newer_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    foreign, newer, text = tmp_path / "foreign", tmp_path / "newer", tmp_path / "text"
    for folder in (foreign, text):
        folder.mkdir()
    with closing(sqlite3.connect(foreign / "geode.db")) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    (text / "geode.db").write_text("this is no database at all, but a long text" * 100, encoding="utf-8")
    await fill(newer)
    with closing(sqlite3.connect(newer / "geode.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    for folder, says in ((foreign, "another program"), (newer, "format 99"), (text, "no Geode store")):
        before = (folder / "geode.db").read_bytes()
        with pytest.raises(GeodeError, match=says):
            await Client(folder).open()
        assert (folder / "geode.db").read_bytes() == before


async def test_network_file_systems_are_refused_by_name(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_file_system_of", lambda _: "nfs4")  # none can be mounted here
    with pytest.raises(StoreError, match="network file system \\(nfs4\\)"):
        await Client(directory).open()


def as_another_user(code: str, *arguments: str) -> str:
    """Run Python without root's power to write anywhere; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    return done.stdout + done.stderr


OPEN = """
import asyncio, os, sys
import geode_client.local.broker
from geode_client import Client, GeodeError
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
async def main():
    try:
        async with Client(sys.argv[1]) as client:
            await client.publish("t", 1)
    except GeodeError as error:
        print(type(error).__name__, error)
asyncio.run(main())
"""


async def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and len(parent.parts) > 2:
            parent.chmod(parent.stat().st_mode | 0o055)
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    for target in (locked, locked / "below"):
        told = as_another_user(OPEN, str(target))
        assert "StoreError" in told, told
        assert "Traceback" not in told
    locked.chmod(0o755)


FULL = """
import asyncio, resource, sys
from geode_client import Client, GeodeError
async def main():
    async with Client(sys.argv[1]) as client:
        await client.publish("t", 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        acknowledged, told = 1, set()
        for n in range(1, 400):
            try:
                await client.publish("t", n, headers={"h": str(n) * 20_000}, compression="none")
                acknowledged += 1
            except GeodeError as error:
                told.add(str(error))
        print(acknowledged)
        print(*told, sep="\\n")
asyncio.run(main())
"""


def test_a_full_disk_is_one_clear_error_and_loses_nothing(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(directory)], capture_output=True, encoding="utf-8", timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    acknowledged, *told = done.stdout.splitlines()
    assert 1 < int(acknowledged) < 400
    assert len(told) <= 2
    assert all("disk" in line or "write" in line for line in told), told
    with SyncClient(directory) as client:
        with client.subscribe("t", from_beginning=True) as subscription:
            found = [message.data for message in subscription]
        assert found == list(range(len(found)))
        assert len(found) == int(acknowledged)
        client.publish("t", "goes on")


CRAMPED = """
import os, resource, sys
from geode_client.store import database
layout = database.prepare(sys.argv[1])
opened = database.open_writer(layout)
opened.connection.execute("CREATE TABLE own (a)")
log = sys.argv[1] + "/geode.db-wal"
before = os.path.getsize(log)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (before + 100_000, limits[1]))
print(opened.extend_log(), os.path.getsize(log) - before)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
grown = []
while opened.extend_log():
    grown.append(os.path.getsize(log))
print(len(grown), grown[-1], database.open_reader(layout, opened).rows("SELECT count(*) FROM own"))
opened.connection.execute("INSERT INTO own VALUES (1)")
print(database.open_reader(layout, opened).rows("SELECT count(*) FROM own"))
"""


def test_the_log_is_made_longer_a_piece_at_a_time_and_only_where_there_is_room(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRAMPED, str(directory)], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.stdout.splitlines()[0] == "False 0", done.stdout + done.stderr
    assert done.stdout.splitlines()[1:] == ["8 8384032 [(0,)]", "[(1,)]"], done.stdout + done.stderr


async def test_damaged_batches_are_named_and_nothing_is_deleted(directory: Path) -> None:
    await fill(directory)
    connection = apsw.Connection(str(directory / "geode.db"))
    connection.execute("UPDATE batches SET payload = zeroblob(length(payload)) WHERE base_offset = 1")
    connection.close()
    async with Client(directory) as client:
        with pytest.raises(CorruptData, match=r"t.*offset.*1"):
            await client.query("SELECT * FROM t")
        async with client.subscribe("t", from_beginning=True) as subscription:
            assert (await next_of(subscription))["n"] == 0
            with pytest.raises(CorruptData):
                await subscription.get()
        retained = await client.query("SELECT messages_retained FROM SYSTEM.partitions")
        assert retained.scalar() == 3


async def test_a_damaged_file_is_named(directory: Path) -> None:
    await fill(directory, 300)
    path = directory / "geode.db"
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * (size - 4096))
    with pytest.raises((CorruptData, StoreError), match=r"geode\.db"):
        async with Client(directory) as client:
            await client.query("SELECT count(*) FROM t")


async def test_a_lost_presence_file_is_made_anew(directory: Path) -> None:
    await fill(directory)
    for path in directory.glob("presence.db*"):
        path.write_bytes(b"nonsense" * 1000)
    async with Client(directory) as client, client.subscribe("t"):
        assert len(await client.query("SELECT * FROM SYSTEM.subscribers")) == 1


async def test_a_forked_child_is_refused(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", 1)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            told = "nothing"
            try:
                client._broker._outbox._writer.try_now([])  # type: ignore[attr-defined]
            except GeodeError as error:
                told = str(error)
            os.write(writing, told.encode())
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as stream:
            assert "forked" in stream.read()
        await client.publish("t", 2)


async def test_two_clients_and_one_loop_after_the_other(directory: Path) -> None:
    await asyncio.to_thread(lambda: asyncio.run(fill(directory)))
    await asyncio.to_thread(lambda: asyncio.run(fill(directory)))
    async with Client(directory) as client:
        assert (await client.query("SELECT count(*) FROM t")).scalar() == 6
