"""`geode top`: what it shows of a store, in what order, once and live."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import GEODE, geode
from terminal import CTRL_C, Terminal

from geode_client import Client, GeodeError
from geode_client.repl.top import check_column, look, rows_of, sparkline


async def fill(directory: Path) -> None:
    """Three topics; a group on one of them with messages before it, in its hands, to be retried and dead."""
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC orders WITH OPTIONS (retry_backoff: '1 hour')")
        async with client.subscribe("orders", consumer_group="billing", auto_ack=False) as subscription:
            await client.publish_batch("orders", range(10))
            for requeue in (True, False):
                message = await subscription.get()
                assert message is not None
                await message.nack(requeue=requeue)
        await client.publish_batch("users/created", range(3))
        await client.publish_batch("clicks", range(500))


async def test_a_look_has_topics_groups_and_what_became_of_messages(directory: Path) -> None:
    await fill(directory)
    async with Client(directory) as client:
        picture = await look(client._broker, "**")
        again = await look(client._broker, "**", picture)
    assert [topic.topic.name for topic in rows_of(picture, "topics", None)] == ["clicks", "orders", "users/created"]
    assert rows_of(picture, "topics", "messages")[0].topic.name == "clicks"
    (group,) = picture.groups
    assert (group.name, group.pending, group.retrying, group.dead_lettered) == ("billing", 9, 1, 1)
    assert picture.dead_letters == {"orders": 1}
    assert again.rates["clicks"] == (0.0, 0.0)
    assert sum(picture.series["clicks"].published) * picture.series["clicks"].slot_seconds == 500


def test_lines_of_bars() -> None:
    assert sparkline([]) == sparkline([0, 0]) == ""
    assert sparkline([0, 1, 4, 8]) == " ▁▄█"
    assert sparkline(range(100), width=3) == "███"


def test_a_column_that_no_screen_has_is_named() -> None:
    check_column("lag")
    with pytest.raises(GeodeError, match=r"no column lags: did you mean lag\?"):
        check_column("lags")


def test_once_as_tables_and_as_rows(directory: Path) -> None:
    asyncio.run(fill(directory))
    run = [GEODE, "-t", str(directory), "top", "--once"]
    done = subprocess.run([*run, "--format", "table"], capture_output=True, encoding="utf-8", check=True, timeout=60)
    assert "3 topics · 1 groups · 0 subscribers" in done.stdout
    assert "billing" in done.stdout
    done = subprocess.run([*run, "--sort", "messages"], capture_output=True, encoding="utf-8", check=True, timeout=60)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["topic"] for row in found if row["kind"] == "topic"] == ["clicks", "orders", "users/created"]
    assert [(row["group"], row["lag"]) for row in found if row["kind"] == "group"] == [("billing", 9)]


def test_no_store_is_made_by_looking(directory: Path) -> None:
    assert geode("-t", str(directory), "top", "--once")[0] == 1
    assert not directory.exists()


async def test_the_live_screen_listens_to_keys(directory: Path, tmp_path: Path) -> None:
    await fill(directory)
    geode_path = str(Path(sys.executable).parent / "geode")
    terminal = Terminal(geode_path, ["-t", str(directory), "top", "--interval", "0.1"], home=tmp_path, columns=160)
    try:
        terminal.sees("users/created")
        terminal.sees("in, last 5 min")
        terminal.type("g")
        terminal.sees("billing")
        terminal.type("s")
        terminal.sees("subscriber")
        terminal.type("t")
        terminal.sees("clicks")
        async with Client(directory) as client:
            await client.publish("fresh/topic", 1)
        terminal.sees("fresh/topic")
        terminal.type(" ")
        terminal.sees("paused")
        terminal.type(CTRL_C)
        assert terminal.ends() == 0
    finally:
        terminal.close()
