"""A process that is stopped past its lease and goes on later: what it still has in hand is not its own any more."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from laws import conserved
from processes.running import worker
from reading import next_of

from geode_client import Client

PROMPT_SECONDS = 30


@pytest.mark.parametrize("acknowledging", ["auto", "manual"])
@pytest.mark.parametrize("topic", ["once", "ordered"])
async def test_what_others_have_settled_is_not_handed_over(directory: Path, topic: str, acknowledging: str) -> None:
    """It has one message in hand and more behind it when it is stopped; another process settles them all meanwhile."""
    async with Client(directory) as client:
        delivery = "exactly_once" if topic == "once" else "at_least_once"
        await client.execute(f"CREATE TOPIC t WITH OPTIONS (ack_timeout: '200ms') WITH DELIVERY {delivery}")
        how: dict[str, Any] = {"consumer_group": "g", "ordering": topic == "ordered"}
        order = " ORDER BY KEY" if topic == "ordered" else ""
        await client.execute(f"CREATE SUBSCRIPTION g ON t{order}")
        await client.publish_batch("t", list(range(10)), partition_key="k")
        async with worker("member", str(directory), topic, acknowledging) as stopped:
            assert (await stopped.until("message"))[1] == 3
            stopped.process.send_signal(signal.SIGSTOP)
            async with client.subscribe("t", **how) as member:
                found: list[int] = []
                async with asyncio.timeout(PROMPT_SECONDS):
                    while len(found) < 7:
                        found.append((await next_of(member)).data)
            assert sorted(found) == list(range(3, 10))
            stopped.process.send_signal(signal.SIGCONT)
            stopped.go()
            told = await stopped.until("end")
            # Going on promises nothing at_least_once; a word of its own, and exactly_once, are answered.
            assert told[1] == ("nothing" if (topic, acknowledging) == ("ordered", "auto") else "lost")
            assert [said for said in stopped.told if said[0] == "message"] == [["message", 3]]
        group = (await conserved(client))["g"]
        assert (group.acknowledged, group.pending) == (10, 0)
