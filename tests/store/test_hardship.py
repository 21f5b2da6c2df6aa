"""What must not hang or lose anything: parts that vanish, works that cannot be prepared, forked children, cancelled calls."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from geode_client import Client, CorruptData, StoreError
from geode_client.store import batch
from geode_client.store.locks import FairLock
from geode_client.store.wake import Peers, WakePipe

PROMPT_SECONDS = 20


async def promptly(what: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PROMPT_SECONDS):
        return await what


async def test_publishing_goes_on_without_the_folder_of_wake_ups(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", 1)
        shutil.rmtree(directory / "wake")
        assert (await promptly(client.publish("t", 2))).offset == 1
        assert (await promptly(client.publish_batch("t", [3, 4]))).count == 2


def turn_is_free(path: Path) -> bool:
    with path.open(encoding="utf-8") as turnstile:
        try:
            fcntl.flock(turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_who_waits_for_the_lock_is_not_overtaken(tmp_path: Path) -> None:
    """The one who had the lock, and wants it again at once, comes after the one who waited for it."""
    mine, other = (FairLock(tmp_path / "lock", tmp_path / "turn") for _ in range(2))
    order: list[str] = []

    def in_turn() -> None:
        other.acquire()
        order.append("other")
        other.release()

    for _ in range(20):
        mine.acquire()
        waiting = threading.Thread(target=in_turn)
        waiting.start()
        while turn_is_free(tmp_path / "turn"):
            pass  # the other does not stand at the turnstile yet
        mine.release()
        mine.acquire()
        order.append("mine")
        mine.release()
        waiting.join()
    assert order == ["other", "mine"] * 20


async def test_a_batch_that_cannot_be_packed_fails_and_holds_nobody_up(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = batch.pack

    def without_memory(lines: bytes, *rest: Any, **options: Any) -> batch.PackedBatch:
        if b"huge" in lines:
            raise MemoryError
        return pack(lines, *rest, **options)

    monkeypatch.setattr(batch, "pack", without_memory)  # no machine runs out of memory just when asked to
    async with Client(directory) as client, Client(directory) as other:
        with pytest.raises(StoreError, match="MemoryError"):
            await promptly(client.publish("t", "huge"))
        with pytest.raises(StoreError, match="MemoryError"):
            await promptly(client.publish_batch("t", ["huge", 1]))
        assert (await promptly(other.publish("t", 1))).offset == 0
        assert (await promptly(client.publish_batch("t", [2, 3]))).count == 2


FORKING = """
import asyncio, os, signal, sys, time
from geode_client import Client
async def main():
    async with Client(sys.argv[1]) as client, client.subscribe("t"):
        await client.publish("t", 1)
        child = os.fork()
        if child == 0:
            os.close(1)
            time.sleep(600)
        client._broker._outbox._writer._lock.acquire()
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_the_child_of_a_killed_process_does_not_keep_its_locks(directory: Path) -> None:
    """Killed in the middle of a commit, with a forked child that lives on."""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", FORKING, str(directory)], stdout=subprocess.PIPE, timeout=60
    )
    child = int(done.stdout)
    try:
        async with asyncio.timeout(PROMPT_SECONDS):
            await asyncio.to_thread(publish_apart, directory)
            async with Client(directory) as client:
                assert len(await client.query("SELECT * FROM SYSTEM.subscribers")) == 0
    finally:
        os.kill(child, signal.SIGKILL)


def publish_apart(directory: Path) -> None:
    code = "import sys; from geode_client import SyncClient\nwith SyncClient(sys.argv[1]) as c: c.publish('t', 2)"
    subprocess.run([sys.executable, "-c", code, str(directory)], check=True, timeout=PROMPT_SECONDS)


async def test_a_cancelled_close_lets_go_of_everything(directory: Path) -> None:
    for turns in range(1, 12):
        client = Client(directory)
        await client.subscribe("t").open()
        publishing = asyncio.ensure_future(client.publish_batch("t", range(5000)))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(client.close())
        await after_turns(turns, closing.cancel)
        await asyncio.wait([closing], timeout=PROMPT_SECONDS)
        assert closing.done()
        assert not list((directory / "wake").iterdir()), f"cancelled after {turns} turns it left its pipe"
        await asyncio.gather(publishing, return_exceptions=True)


async def after_turns(turns: int, act: Callable[[], object]) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    act()


async def test_a_cancelled_publish_is_there_whole_or_not_at_all(directory: Path) -> None:
    """Cancelled at every turn of the loop that it takes; what follows is stored as ever, and all of it is seen."""
    sizes = [1, 40]
    async with Client(directory) as client, client.subscribe("t") as subscription:
        for turns in range(10):
            for size in sizes:
                task = asyncio.ensure_future(client.publish_batch("t", [[turns, size]] * size))
                await after_turns(turns, task.cancel)
                await asyncio.wait([task])
            single = asyncio.ensure_future(client.publish("t", [turns, 0]))
            await after_turns(turns, single.cancel)
            await asyncio.wait([single])
            await client.publish("t", [turns, -1])
        seen: dict[tuple[int, int], int] = {}
        while not await subscription.caught_up():
            message = await promptly(subscription.get())
            assert message is not None
            kind = (message.data[0], message.data[1])
            seen[kind] = seen.get(kind, 0) + 1
        stored = (await client.query("SELECT count(*) FROM t")).scalar()
    assert all(seen.get((turns, -1)) == 1 for turns in range(10))
    assert all(count == size for (_, size), count in seen.items() if size > 0)
    assert sum(seen.values()) == stored


async def test_a_damaged_batch_is_told_once_and_reading_goes_on(directory: Path) -> None:
    """Also by a subscriber that keeps up: the damage happened between another process's commit and its reading."""
    async with Client(directory) as client, client.subscribe("t") as subscription:
        assert await subscription.get(timeout=0.01) is None
        for n in range(3):
            await client.publish("t", n)
        follower = client._broker._subscriptions.follower  # type: ignore[attr-defined]
        follower._recent.clear()
        client._broker._database.connection.execute(  # type: ignore[attr-defined]
            "UPDATE batches SET payload = zeroblob(length(payload)) WHERE base_offset = 1"
        )
        assert getattr(await promptly(subscription.get()), "data", None) == 0
        with pytest.raises(CorruptData, match=r"offsets 1 to 1"):
            await promptly(subscription.get())
        assert getattr(await promptly(subscription.get()), "data", None) == 2


UNSYNCED = """
import asyncio, sys
import apsw
from geode_client import Client, GeodeError


class Log(apsw.VFSFile):
    def xSync(self, flags):
        if Disk.refuses:
            raise apsw.IOError("the disk does not answer")
        super().xSync(flags)


class Disk(apsw.VFS):
    refuses = False

    def __init__(self):
        super().__init__("refusing", "unix", makedefault=True)

    def xOpen(self, name, flags):
        is_log = isinstance(name, str) and name.endswith("-wal")
        return (Log if is_log else apsw.VFSFile)("unix", name, flags)


async def main():
    disk = Disk()
    acknowledged, told = [], set()
    async with Client(sys.argv[1]) as client:
        for n in range(60):
            Disk.refuses = 40 <= n < 50  # a disk that answers again is not believed
            try:
                await client.publish("t", n)
                acknowledged.append(n)
            except GeodeError as error:
                told.add(str(error))
    async with Client(sys.argv[1]) as client:
        async with client.subscribe("t", from_beginning=True) as subscription:
            found = [message.data async for message in subscription]
        await client.publish("t", "goes on")
    print(acknowledged == list(range(40)), found[:40] == acknowledged, found[40:] in ([], [40]))
    print(*told, sep="\\n")
    del disk


asyncio.run(main())
"""


def test_what_the_disk_did_not_confirm_is_not_acknowledged(directory: Path) -> None:
    """An fsync fails, truly, below SQLite: nothing is said to be stored from there on until the store is opened again."""
    done = subprocess.run(
        [sys.executable, "-c", UNSYNCED, str(directory)], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    held, *told = done.stdout.splitlines()
    assert held == "True True True", done.stdout + done.stderr
    assert len(told) == 1
    assert "writes nothing more until it is opened again" in told[0]


def test_peers_are_woken_by_several_threads_while_others_go(directory: Path) -> None:
    directory.mkdir()
    folder = directory / "wake"
    errors: list[BaseException] = []
    peers = Peers(folder, "here")
    stopping = threading.Event()

    def wake() -> None:
        try:
            while not stopping.is_set():
                peers.wake()
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=wake) for _ in range(2)]
    pipes = [WakePipe(folder, f"p{n}") for n in range(50)]
    for thread in threads:
        thread.start()
    for pipe in pipes:
        pipe.close()
    stopping.set()
    for thread in threads:
        thread.join()
    peers.close()
    assert errors == []


CHILD = """
import asyncio, os, sys
from geode_client import Client, StoreError

async def told(client):
    try:
        await client.publish("t", 2)
    except StoreError as error:
        return str(error)

async def main():
    async with Client(sys.argv[1]) as client:
        for n in range(10):
            await client.publish("t", n)
        if os.fork() == 0:
            asyncio._set_running_loop(None)
            print(asyncio.run(told(client)), flush=True)
            os._exit(0)
        os.wait()
asyncio.run(main())
"""


def test_a_child_forked_in_the_loop_is_refused_by_name(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(directory)],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert "this process was forked after the store was opened" in done.stdout, done.stdout + done.stderr
