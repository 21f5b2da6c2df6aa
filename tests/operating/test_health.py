"""Health: the specification's three checks, and what the command says of them."""

import json
from pathlib import Path

import pytest
from command import geode

from geode_client import Client, GeodeError, SyncClient, TopicNotFound


async def test_lag_errors_and_throughput_against_limits(directory: Path) -> None:
    async with Client(directory) as client:
        async with client.subscribe("critical_events", consumer_group="processors", auto_ack=False) as subscription:
            await client.publish_batch("critical_events", range(20))
            good = await client.health("critical_events", "processors", throughput_min=0)
            assert good
            assert [check.check for check in good.checks] == ["lag", "error rate", "throughput"]
            assert (good.checks[0].value, good.checks[2].value) == (20, 20 / 60)
            bad = await client.health("critical_events", lag_max=19)
            assert not bad.ok
            # 20 messages a minute are fewer than the 100 a second that the specification wants.
            assert [check.check for check in bad.alerts] == ["lag", "throughput"]
            assert str(bad.alerts[0]) == "critical_events, group processors: High consumer lag: 20 messages"
            message = await subscription.get()
            assert message is not None
            await message.nack(requeue=False)
        failed = await client.health()
        assert [(check.check, check.value) for check in failed.alerts] == [("error rate", 1.0)]
        assert str(failed.alerts[0]) == "critical_events: High error rate: 100.00%"


async def test_what_is_named_must_be_there(directory: Path) -> None:
    async with Client(directory) as client:
        assert await client.health()
        with pytest.raises(TopicNotFound):
            await client.health("missing")
        await client.publish("t", 1)
        with pytest.raises(GeodeError, match="no group"):
            await client.health("t", "missing")


def test_the_command_has_an_exit_code(directory: Path) -> None:
    with SyncClient(directory) as client:
        client.publish("t", 1)
        assert client.health("t", throughput_min=0)
    assert geode("-t", str(directory), "health")[0] == 0
    code, out, err = geode("-t", str(directory), "health", "t")
    assert (code, err) == (1, "t: Low throughput: 0.0 messages a second\n")
    checks = [json.loads(line) for line in out.splitlines()]
    assert [(check["check"], check["status"]) for check in checks] == [("error rate", "ok"), ("throughput", "ALERT")]
    assert geode("-t", str(directory), "health", "t", "--min-throughput", "0")[0] == 0
    code, _, err = geode("-t", str(directory), "health", "missing")
    assert code == 1
    assert "no topic missing" in err
    assert geode("-t", str(directory / "nothing"), "health")[0] == 1
