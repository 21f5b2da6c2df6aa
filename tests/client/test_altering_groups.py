"""ALTER SUBSCRIPTION … SET WHERE / ORDER BY: a group keeps its position, its retries and its count, and delivers in its
new order from then on."""

import asyncio
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from laws import conserved
from processes.running import worker

from geode_client import Client, GqlError, GroupMismatch, GroupNotFound

PROMPT_SECONDS = 20
ORDERS = ("none", "priority", "key")
QUICK = "WITH OPTIONS (retry_backoff: '1ms', retry_backoff_max: '2ms', max_retries: 20)"
KEYS = ("a", "b", "c", "d", None)


@pytest.fixture
async def client(directory: Path) -> AsyncIterator[Client]:
    async with asyncio.timeout(100), Client(directory) as opened:
        yield opened


async def next_of(subscription: Any) -> Any:
    async with asyncio.timeout(PROMPT_SECONDS):
        message = await subscription.get()
    assert message is not None
    return message


async def order_of(client: Client, group: str = "g") -> str:
    return (await conserved(client))[group].order_by


async def publish_mixed(client: Client, count: int, first: int = 0) -> None:
    """Messages of all keys and three priorities, in small batches."""
    for start in range(first, first + count, 7):
        for n in range(start, min(start + 7, first + count)):
            await client.publish(
                "t", n, partition_key=KEYS[n % len(KEYS)], priority=("low", "normal", "critical")[n // 7 % 3]
            )


async def drain(client: Client, count: int, **options: Any) -> list[Any]:
    """What a manual member gets until so many are acknowledged."""
    found = []
    async with client.subscribe("t", consumer_group="g", auto_ack=False, **options) as member:
        for _ in range(count):
            message = await next_of(member)
            found.append(message)
            await message.ack()
        assert await member.get(timeout=0.05) is None
    return found


def check_order(order: str, found: list[Any]) -> None:
    """One member, who took one message at a time: what the order promises holds for the whole."""
    if order == "key":
        of_key = defaultdict(list)
        for message in found:
            of_key[message.key].append(message.data)
        assert all(seen == sorted(seen) for key, seen in of_key.items() if key is not None)
    if order == "priority":
        priorities = [message.priority for message in found]
        assert priorities == sorted(priorities, reverse=True)


@pytest.mark.parametrize("new", ORDERS)
@pytest.mark.parametrize("old", ORDERS)
async def test_every_order_becomes_every_other_and_nothing_is_lost_or_comes_twice(
    client: Client, old: str, new: str
) -> None:
    """Some messages acknowledged, some waiting for a retry, some parked, some given back, the rest ahead."""
    await client.execute(f"CREATE TOPIC t {QUICK}")
    await client.execute("CREATE SUBSCRIPTION g ON t")
    await client.execute(f"ALTER SUBSCRIPTION g ON t SET ORDER BY {old.upper()}")
    await publish_mixed(client, 200)
    done: list[int] = []
    attempts: dict[int, int] = {}
    async with client.subscribe("t", consumer_group="g", auto_ack=False, prefetch=50) as member:
        for number in range(60):
            message = await next_of(member)
            if number % 6 == 0:
                await message.nack(reason="again")
                attempts[message.data] = attempts.get(message.data, 1) + 1
            else:
                await message.ack()
                done.append(message.data)
    await client.execute(f"ALTER SUBSCRIPTION g ON t SET ORDER BY {new.upper()}")
    assert await order_of(client) == new
    before = (await conserved(client))["g"]
    assert before.pending == 200 - len(done)
    await asyncio.sleep(0.01)  # every retry is due, so that priorities hold for all that is left
    found = await drain(client, 200 - len(done), prefetch=1)
    assert sorted([*done, *(message.data for message in found)]) == list(range(200))
    assert all(message.attempt == attempts.get(message.data, 1) for message in found)
    check_order(new, found)
    after = (await conserved(client))["g"]
    assert (after.acknowledged, after.pending) == (200, 0)


@pytest.mark.parametrize("new", ["priority", "key"])
async def test_what_is_in_hand_is_settled_before_the_new_order_begins(client: Client, new: str) -> None:
    await client.execute("CREATE SUBSCRIPTION g ON t")
    await publish_mixed(client, 100)
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
        held = [await next_of(member) for _ in range(10)]
        result = await client.execute(f"ALTER SUBSCRIPTION g ON t SET ORDER BY {new.upper()}")
        assert "in hand" in result.notices[0]
        assert await order_of(client) == "none"
        waiting = asyncio.create_task(next_of(member))
        for message in held[:-1]:
            await message.ack()
        await asyncio.sleep(0.05)
        assert await order_of(client) == "none"
        await held[-1].ack()
        found = [await asyncio.wait_for(waiting, PROMPT_SECONDS)]
        await found[0].ack()
        assert await order_of(client) == new
        while len(found) < 90:
            found.append(await next_of(member))
            await found[-1].ack()
    assert sorted(message.data for message in [*held, *found]) == list(range(100))
    check_order(new, found)
    await conserved(client)


@pytest.mark.parametrize("new", ["priority", "key"])
async def test_readers_who_go_on_take_over_the_new_order(client: Client, new: str) -> None:
    """Several members with auto_ack and new messages meanwhile: nothing stops, is lost or comes twice."""
    await client.execute("CREATE SUBSCRIPTION g ON t")
    seen: list[int] = []

    async def read() -> None:
        async with client.subscribe("t", consumer_group="g", prefetch=20) as member:
            async for message in member:
                seen.append(message.data)
                await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(3)]
    for turn, order in enumerate((new, "none", new, "none", new)):
        await publish_mixed(client, 100, 100 * turn)
        await client.execute(f"ALTER SUBSCRIPTION g ON t SET ORDER BY {order.upper()}")
    async with asyncio.timeout(PROMPT_SECONDS):
        while len(seen) < 500 or await client.get_consumer_lag("t", "g"):
            await asyncio.sleep(0.01)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    assert sorted(seen) == list(range(500))
    assert await order_of(client) == new
    await conserved(client)


async def test_a_delay_outlives_the_new_order_unless_an_earlier_message_of_the_key_waits(client: Client) -> None:
    await client.execute("CREATE SUBSCRIPTION g ON t")
    for n, key in enumerate(("a", "b", "b", "a")):
        await client.publish("t", n, partition_key=key)
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
        messages = [await next_of(member) for _ in range(4)]
        await messages[0].nack(delay=3600)
        await messages[2].nack(delay=3600)
    await client.execute("ALTER SUBSCRIPTION g ON t SET ORDER BY KEY")
    group = (await conserved(client))["g"]
    assert (group.retrying, group.ahead) == (1, 3)
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
        found = []
        for _ in range(2):
            found.append(await next_of(member))
            await found[-1].ack()
        assert await member.get(timeout=0.05) is None
    assert [(message.data, message.attempt) for message in found] == [(1, 1), (2, 2)]


async def test_a_condition_holds_for_what_is_claimed_from_then_on(client: Client) -> None:
    await client.execute("CREATE SUBSCRIPTION g ON t WHERE n < 100")
    await client.publish_batch("t", [{"n": n} for n in (1, 200, 2)])
    async with client.subscribe("t", filter="n < 100", consumer_group="g", auto_ack=False) as member:
        held = [await next_of(member) for _ in range(2)]
        await client.execute("ALTER SUBSCRIPTION g ON t SET WHERE n >= 100")
        await client.publish_batch("t", [{"n": n} for n in (3, 300, 4)])
        found = await next_of(member)
        for message in (*held, found):
            await message.ack()
        assert await member.get(timeout=0.05) is None
        await client.execute("ALTER SUBSCRIPTION g ON t SET WHERE TRUE")
        await client.publish_batch("t", [{"n": n} for n in (5, 500)])
        last = [await next_of(member) for _ in range(2)]
        for message in last:
            await message.ack()
    assert [message["n"] for message in (*held, found, *last)] == [1, 2, 300, 5, 500]
    group = (await conserved(client))["g"]
    assert (group.acknowledged, group.filtered, group.pending, group.filter) == (5, 3, 0, None)
    with pytest.raises(GroupMismatch, match="filter"):
        await client.subscribe("t", filter="n < 100", consumer_group="g").open()


async def test_an_order_that_waits_can_be_taken_back(client: Client) -> None:
    await client.publish_batch("t", [1, 2, 3])
    async with client.subscribe("t", consumer_group="g", from_beginning=True, auto_ack=False, prefetch=1) as member:
        held = await next_of(member)
        await client.execute("ALTER SUBSCRIPTION g ON t SET ORDER BY KEY")
        with pytest.raises(GroupMismatch, match="in the order of keys"):
            await client.subscribe("t", consumer_group="g", priority_order=True).open()
        await client.execute("ALTER SUBSCRIPTION g ON t SET ORDER BY NONE")
        await held.ack()
        assert (await next_of(member)).data == 2
        assert await order_of(client) == "none"


async def test_what_cannot_be_altered(client: Client) -> None:
    await client.execute("CREATE TOPIC t SCHEMA (n INT)")
    with pytest.raises(GroupNotFound):
        await client.execute("ALTER SUBSCRIPTION g ON t SET ORDER BY KEY")
    await client.execute("CREATE SUBSCRIPTION g ON t WHERE n = 1")
    with pytest.raises(GqlError, match="n"):
        await client.execute("ALTER SUBSCRIPTION g ON t SET WHERE n = 'one' ORDER BY KEY")
    assert await order_of(client) == "none"
    await client.execute("ALTER SUBSCRIPTION g ON t SET WHERE n = $limit", {"limit": 7})
    assert (await conserved(client))["g"].filter == "n = 7"


async def test_many_messages_between_the_frontiers(client: Client) -> None:
    """A lane of a priority group has not been read while the highest one was."""
    count = 200_000
    await client.execute("CREATE SUBSCRIPTION g ON t ORDER BY PRIORITY")
    await client.publish_batch("t", range(count), batch_size=10_000, priority="low")
    await client.publish("t", count, priority="critical")
    async with client.subscribe("t", consumer_group="g", auto_ack=False, prefetch=1) as member:
        await (await next_of(member)).ack()
    await client.execute("ALTER SUBSCRIPTION g ON t SET ORDER BY KEY")
    assert (await conserved(client))["g"].pending == count
    await client.execute("ALTER SUBSCRIPTION g ON t SET ORDER BY NONE")
    seen = []
    async with client.subscribe("t", consumer_group="g") as member:
        for _ in range(count):
            seen.append((await next_of(member)).data)
    assert sorted(seen) == list(range(count))


# ── several processes ──
async def test_another_process_gives_back_what_it_has_not_begun_and_goes_on_in_the_new_order(directory: Path) -> None:
    async with Client(directory) as client, worker("member", str(directory), "plain", "manual") as other:
        await client.execute("CREATE SUBSCRIPTION g ON t")
        await publish_mixed(client, 60)
        held = await other.until("message")
        result = await client.execute("ALTER SUBSCRIPTION g ON t SET ORDER BY KEY")
        assert result.notices
        assert await order_of(client) == "none"
        other.go()
        await other.until("end")
        await other.rest()
        rest = [message.data for message in await drain(client, (await conserved(client))["g"].pending)]
        assert await order_of(client) == "key"
        group = (await conserved(client))["g"]
        assert (group.acknowledged, group.pending) == (60, 0)
        assert held[1] not in rest


async def test_a_consumer_that_dies_with_messages_in_hand_does_not_hold_up_the_new_order(directory: Path) -> None:
    async with Client(directory) as client, worker("member", str(directory), "plain", "manual") as other:
        await client.execute("CREATE SUBSCRIPTION g ON t")
        await publish_mixed(client, 60)
        await other.until("message")
        await client.execute("ALTER SUBSCRIPTION g ON t SET ORDER BY PRIORITY")
        assert await order_of(client) == "none"
        async with client.subscribe("t", consumer_group="g", auto_ack=False, prefetch=1) as member:
            waiting = asyncio.create_task(next_of(member))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            other.process.kill()
            await other.rest()
            found = [await asyncio.wait_for(waiting, PROMPT_SECONDS)]
            await found[0].ack()
            pending = (await conserved(client))["g"].pending
            for _ in range(pending):
                found.append(await next_of(member))
                await found[-1].ack()
        group = (await conserved(client))["g"]
        assert (group.acknowledged, group.pending, group.order_by) == (60, 0, "priority")
        assert len({message.data for message in found}) == len(found)


async def test_the_claims_of_a_dead_consumer_do_not_delay_the_change(directory: Path) -> None:
    async with Client(directory) as client, worker("member", str(directory), "plain", "manual") as other:
        await client.execute("CREATE SUBSCRIPTION g ON t")
        await publish_mixed(client, 60)
        await other.until("message")
        other.process.kill()
        await other.rest()
        result = await client.execute("ALTER SUBSCRIPTION g ON t SET ORDER BY KEY")
        assert not result.notices
        assert await order_of(client) == "key"
        found = await drain(client, (await conserved(client))["g"].pending, prefetch=1)
        check_order("key", found)
        group = (await conserved(client))["g"]
        assert (group.acknowledged, group.pending) == (60, 0)


async def test_a_change_outlives_the_death_of_the_process_that_asked_for_it(directory: Path) -> None:
    """The one that asks dies before the order is taken; a member of another process takes it."""
    async with Client(directory) as client:
        await client.execute("CREATE SUBSCRIPTION g ON t")
        await publish_mixed(client, 60)
        async with client.subscribe("t", consumer_group="g", auto_ack=False, prefetch=1) as member:
            held = await next_of(member)
            async with worker("execute", str(directory), "ALTER SUBSCRIPTION g ON t SET ORDER BY KEY") as other:
                await other.until("done")
                other.process.kill()
                await other.rest()
            assert await order_of(client) == "none"
            await held.ack()
            found = [held]
            while len(found) < 60:
                found.append(await next_of(member))
                await found[-1].ack()
        assert await order_of(client) == "key"
        check_order("key", found[1:])
        assert sorted(message.data for message in found) == list(range(60))
        await conserved(client)


async def test_a_late_settlement_of_a_lost_claim_changes_nothing_after_the_change(
    client: Client, directory: Path
) -> None:
    await client.execute("CREATE TOPIC t WITH OPTIONS (ack_timeout: '100ms')")
    await client.execute("CREATE SUBSCRIPTION g ON t")
    await publish_mixed(client, 20)
    async with worker("member", str(directory), "plain", "manual") as other:
        await other.until("message")
        other.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.3)
        await client.execute("ALTER SUBSCRIPTION g ON t SET ORDER BY KEY")
        assert await order_of(client) == "key"
        pending = (await conserved(client))["g"].pending
        found = await drain(client, pending, prefetch=1)
        other.process.send_signal(signal.SIGCONT)
        other.go()
        assert (await other.until("end"))[1] == "lost"
    group = (await conserved(client))["g"]
    assert (group.acknowledged, group.pending) == (20, 0)
    assert len(found) == pending
