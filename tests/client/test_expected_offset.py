"""`expected_offset`: of several writers that all read the same version, one stores its message and the others get Conflict."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import next_of
from settings import long_rounds

from geode_client import Client, Conflict, GeodeError, GqlError, Receipt, SyncClient


async def stored(client: Client, topic: str = "t") -> list[Any]:
    async with client.subscribe(topic, from_beginning=True) as subscription:
        return [message.data for message in [message async for message in subscription]]


async def test_of_many_tasks_one_has_each_version(directory: Path) -> None:
    async with Client(directory) as client, Client(directory) as other:
        for version in range(5):
            calls = [(client, other)[n % 2].publish("t", {"n": n}, expected_offset=version) for n in range(20)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            kept = [one for one in found if isinstance(one, Receipt)]
            refused = [one for one in found if isinstance(one, Conflict)]
            assert [one.offset for one in kept] == [version]
            assert len(refused) == 19
            assert {(one.expected_offset, one.next_offset) for one in refused} == {(version, version + 1)}
        assert len(await stored(client)) == 5


WRITER = """
import asyncio, sys
from geode_client import Client, Conflict

async def main():
    async with Client(sys.argv[1]) as client:
        done = version = 0
        while done < 50:
            try:
                await client.publish("entity", {"by": sys.argv[2], "sees": version}, expected_offset=version)
                done += 1
                version += 1
            except Conflict as error:
                version = error.next_offset

asyncio.run(main())
"""


async def test_writers_in_several_processes_never_overwrite_each_other(directory: Path) -> None:
    workers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, str(directory), str(n)) for n in range(3)
    ]
    assert [await worker.wait() for worker in workers] == [0, 0, 0]
    async with Client(directory) as client:
        assert [event["sees"] for event in await stored(client, "entity")] == list(range(150))


@given(st.lists(st.tuples(st.integers(-2, 2), st.sampled_from("pbtge"), st.integers(1, 3)), min_size=1, max_size=12))
@long_rounds(25)
def test_every_way_of_publishing_agrees_with_a_list(steps: list[tuple[int, str, int]]) -> None:
    async def run() -> None:
        async with Client(":memory:") as client:
            await client.execute("CREATE TOPIC t")
            model: list[int] = []
            for number, (distance, way, count) in enumerate(steps):
                expected = max(0, len(model) + distance)
                bodies = [{"n": number}] * (1 if way in "pte" else count)
                try:
                    await publish(client, way, bodies, expected)
                    assert expected == len(model)
                    model += [number] * len(bodies)
                except Conflict as error:
                    assert expected != len(model)
                    assert error.next_offset == len(model)
            assert [message["n"] for message in await stored(client)] == model

    asyncio.run(run())


async def publish(client: Client, way: str, bodies: list[dict[str, int]], expected: int) -> None:
    match way:
        case "p":
            await client.publish("t", bodies[0], expected_offset=expected)
        case "b":
            await client.publish_batch("t", bodies, batch_size=2, expected_offset=expected)
        case "t":
            async with client.transaction() as tx:
                await tx.publish("t", bodies[0], expected_offset=expected)
        case "g":
            messages = ", ".join(f'{{"n": {body["n"]}}}' for body in bodies)
            await client.execute(f"PUBLISH TO t {messages} WITH OPTIONS (expected_offset: {expected})")
        case _:
            await client.execute("PUBLISH TO t $m WITH OPTIONS (expected_offset: $e)", {"m": bodies[0], "e": expected})


async def test_a_transaction_that_conflicts_stores_nothing(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": 0})
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (a)")
            await tx.publish("t", {"n": 1}, expected_offset=1)
            await tx.publish("t", {"n": 2}, expected_offset=2)
            await tx.publish_batch("t", [{"n": 3}, {"n": 4}], expected_offset=3)
        with pytest.raises(Conflict, match="offset 5, not the expected 4"):
            async with client.transaction() as tx:
                await tx.execute("INSERT INTO own VALUES (1)")
                await tx.publish("other", {"n": 1})
                await tx.publish("t", {"n": 5}, expected_offset=4)
        assert [message["n"] for message in await stored(client)] == [0, 1, 2, 3, 4]
        async with client.transaction() as tx:
            assert (await tx.execute("SELECT count(*) FROM own")).rows == [(0,)]
        assert "other" not in [topic.name for topic in await client._broker.topics()]


async def test_a_known_id_is_a_duplicate_and_no_conflict(directory: Path) -> None:
    """Publishing again after an answer was lost has to say that the first time succeeded."""
    async with Client(directory) as client:
        for duplicate in (False, True):
            receipt = await client.publish("t", {"n": 0}, message_id="a", expected_offset=0)
            assert (receipt.offset, receipt.duplicate) == (0, duplicate)


async def test_offsets_are_those_of_the_keys_partition(directory: Path) -> None:
    async with Client(directory) as client:
        await client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 8)")
        for version in range(3):
            for key in ("a", "b", "c"):
                await client.publish_batch("t", [{"n": 1}], partition_key=key)
            place = (await client.publish("t", {"n": 1}, partition_key="a")).offset
            assert place is not None
            await client.publish("t", {"n": version}, partition_key="a", expected_offset=place + 1)
        await client.execute("CREATE TOPIC u WITH OPTIONS (partitions: 8, partition_key: 'k')")
        with pytest.raises(GqlError, match="one partition"):
            await client.publish_batch("u", [{"k": k} for k in "abcdefgh"], expected_offset=0)
        assert await stored(client, "u") == []


async def test_after_a_purge_offsets_go_on(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish_batch("t", [{"n": n} for n in range(3)])
        await client.execute("PURGE TOPIC t")
        with pytest.raises(Conflict):
            await client.publish("t", {"n": 3}, expected_offset=0)
        await client.publish("t", {"n": 3}, expected_offset=3)


@pytest.mark.parametrize("wrong", [-1, 1.0, "0", True, 2**62])
async def test_what_is_no_offset_is_refused(directory: Path, wrong: Any) -> None:
    async with Client(directory) as client:
        with pytest.raises(GqlError, match="expected_offset"):
            await client.publish("t", {"n": 0}, expected_offset=wrong)
        with pytest.raises(GqlError, match="expected_offset"):
            await client.publish_batch("t", [{"n": 0}], expected_offset=wrong)


async def test_a_delayed_message_has_no_offset_to_expect(directory: Path) -> None:
    async with Client(directory) as client:
        with pytest.raises(GqlError, match="delay"):
            await client.publish("t", {"n": 0}, expected_offset=0, delay_seconds=5)
        with pytest.raises(GqlError, match="delay"):
            await client.execute("PUBLISH TO t {\"n\": 0} WITH OPTIONS (expected_offset: 0, delay: '5s')")
        with pytest.raises(GqlError, match="expected_offset"):
            await client.execute('PUBLISH TO t {"n": 0} WITH OPTIONS (expected_offset: -1)')


# ── what a transaction says of its messages ──
async def test_a_transaction_says_what_became_of_each_message(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("t", {"n": 0}, message_id="known")
        async with client.transaction() as tx:
            again = await tx.publish("t", {"n": 0}, message_id="known")
            new = await tx.publish("t", {"n": 1}, message_id="new")
            many = await tx.publish_batch("t", [{"n": 0}, {"n": 2}], message_ids=["known", "third"], batch_size=1)
            with pytest.raises(GeodeError, match="once the transaction has been committed"):
                _ = new.duplicate
        assert (again.duplicate, again.receipt.offset) == (True, 0)
        assert (new.duplicate, new.receipt.offset, new.receipt.id) == (False, 1, "new")
        assert (many.duplicate, many.receipt.count, many.receipt.duplicates) == (False, 1, 1)
        assert tx.receipts == [again.receipt, new.receipt, many.receipt]
        async with client.transaction() as tx:
            dropped = await tx.publish("t", {"n": 3})
            await tx.rollback()
        with pytest.raises(GeodeError):
            _ = dropped.receipt


def test_a_transaction_without_await_says_it_too(directory: Path) -> None:
    with SyncClient(directory) as client:
        with client.transaction() as tx:
            one = tx.publish("t", {"n": 0}, message_id="a")
            two = tx.publish("t", {"n": 0}, message_id="a")
        assert (one.duplicate, two.duplicate) == (False, True)
        with pytest.raises(Conflict):
            client.publish("t", {"n": 1}, expected_offset=0)


async def test_a_wrong_object_given_to_ack_is_named(directory: Path) -> None:
    async with Client(directory) as client:
        receipt = await client.publish("t", {"n": 0})
        async with client.subscribe("t", consumer_group="g", from_beginning=True, auto_ack=False) as subscription:
            message = await next_of(subscription, timeout=5)
            for wrong, named in (
                (receipt, "Receipt"),
                ([message], r"tx\.ack\(\*messages\)"),
                (message.id, "not its id"),
                (message.data, "dict"),
                (None, "NoneType"),
            ):
                with pytest.raises(GqlError, match=named):
                    async with client.transaction() as tx:
                        await tx.ack(wrong)  # type: ignore[arg-type]
            async with client.transaction() as tx:
                await tx.ack(message)
        assert await client.get_consumer_lag("t", "g") == 0
