"""Groups under bad input, bad members and bad moments: each ends in one clear error or a documented outcome, and no message
is lost to the count."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from laws import conserved

from geode_client import (
    AlreadySettled,
    Client,
    GeodeError,
    GroupMismatch,
    GroupNotFound,
    InvalidMessage,
    LeaseLost,
    SubscriberLimitReached,
    SyncClient,
    TopicNotFound,
)
from geode_client.store.groups import GroupDefinition, JoinGroup

PROMPT_SECONDS = 10
QUICK = "WITH OPTIONS (retry_backoff: '1ms', retry_backoff_max: '5ms', max_retries: 3)"


@pytest.fixture
async def client(directory: Path) -> AsyncIterator[Client]:
    async with asyncio.timeout(100), Client(directory) as opened:
        yield opened


async def next_of(subscription: Any) -> Any:
    """The next message; fails rather than waits for ever."""
    async with asyncio.timeout(PROMPT_SECONDS):
        message = await subscription.get()
    assert message is not None
    return message


async def seen(subscription: Any, count: int) -> list[Any]:
    return [(await next_of(subscription)).data for _ in range(count)]


async def drained(client: Client, group: str, *, topic: str = "t") -> None:
    """Wait until a group has nothing pending; its members must be reading."""
    async with asyncio.timeout(PROMPT_SECONDS):
        while await client.get_consumer_lag(topic, group):
            await asyncio.sleep(0.005)


# ── settling ──
async def test_the_first_word_counts(client: Client) -> None:
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
        await client.publish_batch("t", [1, 2, 3])
        first, second, third = [await next_of(member) for _ in range(3)]
        await first.ack()
        await first.ack()
        with pytest.raises(AlreadySettled, match="acknowledged already"):
            await first.nack()
        await second.nack(requeue=False, reason="no")
        await second.nack(requeue=False, reason="no")
        with pytest.raises(AlreadySettled, match="dead letter"):
            await second.ack()
        await third.nack(delay=3600)
        with pytest.raises(AlreadySettled, match="given back"):
            await third.ack()
    group = (await conserved(client, "t"))["g"]
    assert (group.acknowledged, group.dead_lettered, group.retrying) == (1, 1, 1)


async def test_settling_after_close(client: Client) -> None:
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as other:
        async with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
            await client.publish("t", 1)
            async with asyncio.timeout(PROMPT_SECONDS):
                mine, its = await asyncio.gather(member.get(timeout=0.2), other.get(timeout=0.2))
            message = mine or its
            assert message is not None
            closed, living = (member, other) if mine else (other, member)
            await closed.close()
            with pytest.raises(LeaseLost, match="closed"):
                await message.ack()
            again = await next_of(living)
            with pytest.raises(LeaseLost, match="closed"):
                await message.nack()
            await again.ack()
    group = (await conserved(client))["g"]
    assert (group.acknowledged, group.pending) == (1, 0)


async def test_settling_after_the_client_is_closed(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", 1)
        member = await client.subscribe("t", consumer_group="g", auto_ack=False, from_beginning=True).open()
        message = await next_of(member)
    for settle in (message.ack, message.nack, lambda: message.extend(1)):
        with pytest.raises(GeodeError, match="closed"):
            await settle()
    async with Client(directory) as client:
        async with client.subscribe("t", consumer_group="g") as member:
            again = await next_of(member)
            assert (again.data, again.attempt) == (1, 1)
        assert (await conserved(client))["g"].acknowledged == 1


@pytest.mark.parametrize("wrong", [-1, True, "soon", float("nan"), 1e12])
async def test_delays_that_are_none(client: Client, wrong: Any) -> None:
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
        await client.publish("t", 1)
        message = await next_of(member)
        with pytest.raises(GeodeError, match="delay is a number of seconds"):
            await message.nack(delay=wrong)
        with pytest.raises(GeodeError, match="seconds is a number"):
            await message.extend(wrong)
        await message.ack()
    async with client.subscribe("t") as alone:
        await client.publish("t", 1)
        with pytest.raises(GeodeError, match="delay is a number of seconds"):
            await (await next_of(alone)).nack(delay=wrong)


# ── members ──
async def test_a_group_joined_with_another_filter_or_order(client: Client) -> None:
    async with client.subscribe("t", consumer_group="g", filter="n > 1"):
        for wrong in ({"filter": "n > 2"}, {"ordering": True}, {"priority_order": True}, {"partition_key_filter": "k"}):
            with pytest.raises(GroupMismatch, match="g on t"):
                await client.subscribe("t", consumer_group="g", **wrong).open()
        async with client.subscribe("t", consumer_group="g", filter="n > 1"), client.subscribe("t", consumer_group="g"):
            pass
    assert len(await client.query("SELECT * FROM SYSTEM.subscribers")) == 0


async def test_max_subscribers_counts_members_and_leaves_nothing_behind(client: Client) -> None:
    await client.execute("CREATE TOPIC t WITH OPTIONS (max_subscribers: 2)")
    async with client.subscribe("t", consumer_group="g"), client.subscribe("t"):
        for refused in ({"consumer_group": "g"}, {"consumer_group": "other"}, {"auto_ack": False}, {}):
            with pytest.raises(SubscriberLimitReached):
                await client.subscribe("t", **refused).open()
    assert set(await conserved(client)) == {"g"}
    async with client.subscribe("t", consumer_group="g") as member:
        await client.publish("t", 1)
        assert (await next_of(member)).data == 1


async def test_a_member_that_never_acknowledges(client: Client) -> None:
    """Its prefetch bounds what it keeps; the others get the rest."""
    count = 50
    async with client.subscribe("t", consumer_group="g", auto_ack=False, prefetch=3) as silent:
        await client.publish_batch("t", list(range(count)))
        kept = await seen(silent, 3)
        assert await silent.get(timeout=0.02) is None
        async with client.subscribe("t", consumer_group="g") as busy:
            others = await seen(busy, count - 3)
            assert await busy.get(timeout=0.02) is None
            group = (await conserved(client))["g"]
            assert (group.acknowledged, group.in_flight) == (count - 3, 3)
    assert sorted(kept + others) == list(range(count))


async def test_a_member_that_only_looks_does_not_keep_what_it_has_not_begun(client: Client) -> None:
    """What a member has in hand and does not begin passes to those who ask, in this client and in others."""
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as slow:
        await client.publish_batch("t", list(range(20)))
        first = await next_of(slow)
        async with client.subscribe("t", consumer_group="g") as quick:
            assert sorted(await seen(quick, 19)) == list(range(1, 20))
        await first.ack()
    assert (await conserved(client))["g"].acknowledged == 20


async def test_what_is_held_without_being_begun_goes_to_other_processes(directory: Path) -> None:
    async with Client(directory) as one, Client(directory) as two:
        async with one.subscribe("t", consumer_group="g", auto_ack=False) as slow:
            await one.publish_batch("t", list(range(20)))
            first = await next_of(slow)
            async with two.subscribe("t", consumer_group="g") as quick:
                assert sorted(await seen(quick, 19)) == list(range(1, 20))
            await first.ack()
        assert (await conserved(one))["g"].acknowledged == 20


async def test_a_hundred_members_and_one_message(client: Client) -> None:
    members = [await client.subscribe("t", consumer_group="g").open() for _ in range(100)]
    readers = [asyncio.create_task(member.get(timeout=0.5)) for member in members]
    await asyncio.sleep(0)
    await client.publish("t", 1)
    found = [message.data for message in await asyncio.gather(*readers) if message is not None]
    assert found == [1]
    for member in members:
        await member.close()
    assert (await conserved(client))["g"].acknowledged == 1


async def test_a_short_lease_is_kept_alive(directory: Path) -> None:
    """A slow member of a living process keeps its message however short ack_timeout is."""
    async with Client(directory) as one, Client(directory) as two:
        await one.execute("CREATE TOPIC t WITH OPTIONS (ack_timeout: '100ms')")
        async with one.subscribe("t", consumer_group="g", auto_ack=False) as slow:
            await one.publish("t", 1)
            message = await next_of(slow)
            async with two.subscribe("t", consumer_group="g") as other:
                for _ in range(20):
                    assert await other.get(timeout=0.02) is None
                    async with two.subscribe("t", consumer_group="g"):
                        pass  # who joins looks for claims that nobody holds any more
                await message.ack()
        assert (await conserved(two))["g"].acknowledged == 1


# ── failing ──
async def test_a_handler_that_always_fails(client: Client) -> None:
    await client.execute(f"CREATE TOPIC t {QUICK}")
    await client.publish("t", {"n": 1}, partition_key="k", headers={"trace": "x"}, priority="high")
    attempts = []
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with client.subscribe("t", consumer_group="g", from_beginning=True) as member:
                message = await next_of(member)
                attempts.append(message.attempt)
                message["n"] / 0
    assert attempts == [1, 2, 3]
    async with client.subscribe("_dlq/t", from_beginning=True) as letters:
        (letter,) = [letter async for letter in letters]
    assert (letter.data, letter.key, letter.priority) == ({"n": 1}, "k", 7)
    headers = letter.headers
    assert headers.pop("dead_letter_time")
    assert headers == {
        "trace": "x",
        "dead_letter_reason": "max_retries",
        "dead_letter_topic": "t",
        "dead_letter_partition": 0,
        "dead_letter_offset": 0,
        "dead_letter_id": message.id,
        "dead_letter_group": "g",
        "dead_letter_attempts": 3,
        "dead_letter_error": "ZeroDivisionError: division by zero",
    }
    assert (await conserved(client, "t"))["g"].dead_lettered == 1


async def test_a_failing_message_of_a_topic_without_retries(client: Client) -> None:
    await client.execute("CREATE TOPIC t WITH OPTIONS (max_retries: 0)")
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
        await client.publish("t", 1)
        await (await next_of(member)).nack()
    assert (await conserved(client, "t"))["g"].dead_lettered == 1


async def test_dead_letters_that_would_come_back(client: Client) -> None:
    with pytest.raises(GeodeError, match="t → t"):
        await client.execute("CREATE TOPIC t WITH OPTIONS (dead_letter_topic: 't')")
    await client.execute("CREATE TOPIC a WITH OPTIONS (dead_letter_topic: 'b')")
    await client.execute("CREATE TOPIC b WITH OPTIONS (dead_letter_topic: 'c')")
    with pytest.raises(GeodeError, match="c → a → b → c"):
        await client.execute("CREATE TOPIC c WITH OPTIONS (dead_letter_topic: 'a')")
    await client.execute("CREATE TOPIC c")
    with pytest.raises(GeodeError, match="come back"):
        await client.execute("ALTER TOPIC c SET OPTIONS (dead_letter_topic: 'a')")


async def test_dead_letters_of_dead_letters_end(client: Client) -> None:
    """A group on the dead letters that refuses them as well fills a topic of its own; nothing turns in a circle."""
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
        await client.publish("t", 1)
        await (await next_of(member)).nack(requeue=False)
    async with client.subscribe("_dlq/t", consumer_group="g", auto_ack=False, from_beginning=True) as member:
        letter = await next_of(member)
        await letter.nack(requeue=False)
        assert await member.get(timeout=0.02) is None
    assert (await client.query("SELECT count(*) FROM _dlq/_dlq/t")).scalar() == 1
    await conserved(client, "**")


async def test_a_message_that_does_not_fit_the_type(client: Client) -> None:
    """It is a failed attempt like any other, ends among the dead letters, and the others go on."""
    await client.execute(f"CREATE TOPIC t {QUICK}")
    await client.publish_batch("t", [1, "no number", 2])
    found: list[int] = []
    failed = 0
    while len(found) < 2 or failed < 3:
        async with contextlib.AsyncExitStack() as stack:
            member = await stack.enter_async_context(
                client.subscribe("t", consumer_group="g", type=int, from_beginning=True)
            )
            try:
                found.append(await next_of(member))
            except InvalidMessage as error:
                assert "does not fit the type" in str(error)
                failed += 1
                await stack.__aexit__(type(error), error, None)
    assert sorted(found) == [1, 2]
    group = (await conserved(client, "t"))["g"]
    assert (group.acknowledged, group.dead_lettered) == (2, 1)


# ── groups that are moved, paused, dropped under their members ──
async def test_seek_beyond_the_ends(client: Client) -> None:
    await client.publish_batch("t", list(range(10)))
    async with client.subscribe("t", consumer_group="g", auto_ack=False, from_beginning=True) as member:
        held = await next_of(member)
        await client.execute("ALTER SUBSCRIPTION g ON t SEEK TO OFFSET 1000000")
        with pytest.raises(LeaseLost):
            await held.ack()
        group = (await conserved(client))["g"]
        assert (group.published, group.pending) == (0, 0)
        assert await member.get(timeout=0.02) is None
        await client.execute("ALTER SUBSCRIPTION g ON t SEEK TO BEGINNING")
        again = [await next_of(member) for _ in range(10)]
        assert [message.data for message in again] == list(range(10))
        for message in again:
            await message.ack()
    assert (await conserved(client))["g"].acknowledged == 10


async def test_drop_subscription_under_a_member(client: Client) -> None:
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
        await client.publish("t", 1)
        message = await next_of(member)
        await client.execute("DROP SUBSCRIPTION g ON t")
        with pytest.raises(LeaseLost):
            await message.ack()
        with pytest.raises(GroupNotFound, match="group g"):
            await next_of(member)
    assert not await conserved(client)


@pytest.mark.parametrize("again", [False, True])
async def test_drop_topic_under_a_member(client: Client, again: bool) -> None:
    await client.execute("CREATE TOPIC t")
    member = await client.subscribe("t", consumer_group="g", auto_ack=False).open()
    await client.publish("t", "old")
    message = await next_of(member)
    await client.execute("DROP TOPIC t")
    for settle in (message.ack, message.nack):
        with pytest.raises(GeodeError):
            await settle()
    with pytest.raises(TopicNotFound, match="no topic t"):
        await next_of(member)
    await member.close()
    if again:
        await client.publish("t", "new")
        async with client.subscribe("t", consumer_group="g") as member:
            assert (await next_of(member)).data == "new", "the group is on the name, and new topics are read whole"
    await conserved(client)


@pytest.mark.parametrize("words", ["ack", "nack", "bury", "close"])
async def test_purge_under_a_member(client: Client, words: str) -> None:
    await client.execute(f"CREATE TOPIC t {QUICK}")
    async with client.subscribe("t", consumer_group="g", auto_ack=False, prefetch=4) as member:
        await client.publish_batch("t", list(range(10)))
        held = [await next_of(member) for _ in range(4)]
        await held[0].nack(delay=0.001)
        await client.execute("PURGE TOPIC t")
        await conserved(client)
        match words:
            case "ack":
                await held[1].ack()
            case "nack":
                await held[1].nack()
            case "bury":
                await held[1].nack(requeue=False)
        await conserved(client)
        await client.publish("t", "new")
        if words != "close":
            assert (await next_of(member)).data == "new"
    async with client.subscribe("t", consumer_group="g") as member:
        async with asyncio.timeout(PROMPT_SECONDS):
            while (await conserved(client, "t"))["g"].pending:
                await member.get(timeout=0.01)
    group = (await conserved(client, "t"))["g"]
    assert group.published == 11
    assert group.acknowledged == 1 + (words == "ack")


async def test_partitions_altered_under_a_member(client: Client) -> None:
    await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 4)")
    async with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
        for n in range(8):
            await client.publish("t", n)
        held = [await next_of(member) for _ in range(8)]
        with pytest.raises(GeodeError, match="holds messages"):
            await client.execute("ALTER TOPIC t SET OPTIONS (partitions: 2)")
        await client.execute("PURGE TOPIC t")
        await client.execute("ALTER TOPIC t SET OPTIONS (partitions: 2)")
        await conserved(client)
        for message in held:
            await message.ack()
        await client.publish_batch("t", list(range(10)))
        await client.publish_batch("t", list(range(10)))
        assert len(await seen(member, 20)) == 20
        await client.execute("PURGE TOPIC t")
        await client.execute("ALTER TOPIC t SET OPTIONS (partitions: 6)")
        for n in range(6):
            await client.publish("t", n)
        assert sorted(await seen(member, 6)) == list(range(6))
        await conserved(client)


async def test_pause_and_resume_from_another_process(directory: Path) -> None:
    async with Client(directory) as one, Client(directory) as two:
        async with one.subscribe("t", consumer_group="g", auto_ack=False) as member:
            await two.publish("t", 1)
            held = await next_of(member)
            await two.execute("PAUSE SUBSCRIPTION g ON t")
            await two.publish("t", 2)
            assert await member.get(timeout=0.05) is None
            await held.ack()
            assert await member.get(timeout=0.05) is None
            await two.execute("RESUME SUBSCRIPTION g ON t")
            assert (await next_of(member)).data == 2
        await conserved(two)


async def test_topics_that_come_later_go_and_come_again(directory: Path) -> None:
    async with Client(directory) as one, Client(directory) as two:
        async with one.subscribe("users/*", consumer_group="g") as member:
            await two.publish("users/created", 1)
            assert await seen(member, 1) == [1]
            await two.publish("users/deleted", 2)
            assert await seen(member, 1) == [2]
            await two.execute("DROP TOPIC users/created")
            await two.publish("users/created", 3)
            assert await seen(member, 1) == [3]
            await conserved(two)
        await two.publish("users/renamed", 4)
        await two.publish("other/renamed", 5)
        async with two.subscribe("users/*", consumer_group="g") as member:
            assert await seen(member, 1) == [4]
            assert await member.get(timeout=0.02) is None
        assert not [group for group in (await conserved(one)).values() if group.pending]


# ── sizes ──
async def test_big_messages_and_prefetch(client: Client) -> None:
    await client.execute("CREATE TOPIC t WITH OPTIONS (max_message_bytes: '2MiB', compression: 'none')")
    body = "x" * 1024 * 1024
    async with client.subscribe("t", consumer_group="g", auto_ack=False, prefetch=100) as member:
        await client.publish_batch("t", [{"n": n, "body": body} for n in range(40)], batch_size=5)
        for n in range(40):
            message = await next_of(member)
            assert (message["n"], len(message["body"])) == (n, len(body))
            await message.ack()
    assert (await conserved(client))["g"].acknowledged == 40


# ── two clients, no await ──
def test_groups_without_await(directory: Path) -> None:
    with SyncClient(directory) as client:
        client.execute(f"CREATE TOPIC t {QUICK}")
        client.publish_batch("t", [1, 2, 3])
        with pytest.raises(ZeroDivisionError):
            with client.subscribe("t", consumer_group="g", from_beginning=True) as member:
                for message in member:
                    message.data / 0
        with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
            attempts = {}
            for message in member:
                attempts[message.data] = message.attempt
                message.ack()
                message.ack()
                if len(attempts) == 3:
                    break
        assert attempts == {1: 2, 2: 1, 3: 1}
        assert client.get_consumer_lag("t", "g") == 0
        client.publish("t", 4)
        with client.subscribe("t", consumer_group="g", auto_ack=False) as member:
            last = member.get(timeout=PROMPT_SECONDS)
            assert last is not None
            last.extend(5)
            last.nack(requeue=False, reason="no")
            with pytest.raises(AlreadySettled):
                last.ack()
        assert client.query("SELECT count(*) FROM _dlq/t").scalar() == 1


# ── order over several processes ──
async def test_a_lane_that_one_process_leaves_is_read_by_the_other(directory: Path) -> None:
    """All messages have one key; the one who waits for its turn gets it when the other goes, or has settled."""
    async with Client(directory) as one, Client(directory) as two:
        first = await one.subscribe("t", consumer_group="g", ordering=True, auto_ack=False, prefetch=1).open()
        async with two.subscribe("t", consumer_group="g", ordering=True, auto_ack=False) as second:
            await one.publish_batch("t", list(range(5)), partition_key="k")
            message = await next_of(first)
            waiting = asyncio.create_task(next_of(second))
            assert await second.caught_up() is False
            await message.ack()
            await first.close()
            async with asyncio.timeout(PROMPT_SECONDS):
                found = await waiting
            for n in range(1, 5):
                assert found.data == n
                await found.ack()
                found = await next_of(second) if n < 4 else found
        assert (await conserved(one))["g"].acknowledged == 5


async def test_who_waits_for_a_failed_message_of_another_waits_quietly(directory: Path) -> None:
    """While one process retries a message nobody asks the store again and again for those behind it."""
    async with Client(directory) as one, Client(directory) as two:
        await one.execute("CREATE TOPIC t WITH OPTIONS (retry_backoff: '1ms')")
        async with one.subscribe("t", consumer_group="g", ordering=True, auto_ack=False) as holder:
            await one.publish_batch("t", [0, 1, 2], partition_key="k")
            await (await next_of(holder)).nack()
            again = await next_of(holder)
            assert (again.data, again.attempt) == (0, 2)
            async with two.subscribe("t", consumer_group="g", ordering=True, auto_ack=False) as waiter:
                assert await waiter.get(timeout=0.2) is None
                before = written(one)
                waiting = asyncio.create_task(next_of(waiter))
                assert await holder.get(timeout=0.3) is None
                assert written(one) - before < 10
                await again.ack()
                other = asyncio.create_task(next_of(holder))
                done, _ = await asyncio.wait({waiting, other}, return_when="FIRST_COMPLETED", timeout=PROMPT_SECONDS)
                assert [task.result().data for task in done] == [1]
                for task in (waiting, other):
                    task.cancel()
                await asyncio.wait({waiting, other})
        await conserved(one)


def written(client: Client) -> int:
    """A number that each commit of another connection raises."""
    return client._broker._log.data_version()  # type: ignore[attr-defined,no-any-return]


async def test_private_groups_of_the_dead_are_removed(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", 1)
        broker: Any = client._broker
        gone = GroupDefinition("_private-x", "t", private_to="1-gone")
        await broker.write(JoinGroup(gone, starts=0))
        async with client.subscribe("t", auto_ack=False):
            assert len((await client._broker.report(["groups"], "t")).groups) == 2
            await broker._sweeper.sweep()
            (left,) = (await client._broker.report(["groups"], "t")).groups
            assert left.name != "_private-x"
