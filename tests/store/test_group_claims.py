"""What a claim takes of what lies unowned, how long its lease is, and what a loss is blamed on, in a real store."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from geode_client import Client, StoreError
from geode_client.delivery.claiming import LOSSES_ALONE, Claimed, ClaimRequest
from geode_client.delivery.settlement import Settlement
from geode_client.local.driver import clocks
from geode_client.store.claiming import UNOWNED_AT_ONCE, Begin, Claim
from geode_client.store.settling import Settle

LEASE_US = 1_000_000


class Store:
    """Claims as several owners make them, without a consumer."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._broker: Any = client._broker

    def rows(self, sql: str) -> list[Any]:
        found: list[Any] = self.groups.log.rows(sql)
        return found

    async def write(self, work: Any) -> Any:
        await self._broker._outbox.write(work)
        return work

    @property
    def groups(self) -> Any:
        return self._broker._subscriptions.groups

    def group_id(self, group: str = "g") -> int:
        return int(self.rows(f"SELECT group_id FROM groups WHERE name = '{group}'")[0][0])

    async def claim(self, owner: str, wanted: int, group: str = "g", **more: Any) -> list[Claimed]:
        options = {"own_leases": more.pop("own_leases")} if "own_leases" in more else {}
        request = ClaimRequest(owner=owner, wanted=wanted, now_us=0, **{"boot_us": 0, **more})
        made: Claim = await self.write(Claim(self.group_id(group), request, LEASE_US, **options))
        return made.claimed

    async def lose(self, owner: str, group: str = "g") -> None:
        """Another process notices that an owner is dead, and claims nothing."""
        assert await self.claim("other-1", 0, group, dead=[owner]) == []


@pytest.fixture
async def store(directory: Path) -> AsyncIterator[Store]:
    async with Client(directory) as opened:
        yield Store(opened)


async def test_a_message_is_not_to_blame_when_its_process_held_more_as_another_client(store: Store) -> None:
    """Whichever of the two clients of the dead process is found lost first."""
    for group in ("a", "b"):
        await store.client.execute(f"CREATE TOPIC of_{group}")
        await store.client.execute(f"CREATE SUBSCRIPTION {group} ON of_{group}")
        await store.client.publish_batch(f"of_{group}", [0])
    (alone,) = await store.claim("7-first", 1, "a")
    assert (await store.write(Begin(alone.claim_id, "7-first"))).began
    assert await store.claim("7-second", 1, "b")
    await store.lose("7-second", "b")
    await store.lose("7-first", "a")
    assert store.rows("SELECT attempts, losses FROM claims") == [(0, 1), (0, 1)]


async def test_what_was_only_given_back_does_not_wait_behind_what_must_be_alone(store: Store) -> None:
    count = UNOWNED_AT_ONCE + 1
    await store.client.execute("CREATE TOPIC t")
    await store.client.execute("CREATE SUBSCRIPTION g ON t")
    await store.client.publish_batch("t", list(range(count + 1)))
    for _ in range(LOSSES_ALONE):  # each message in a claim of its own, and each claim of another owner
        owners = [f"{number}-first" for number in range(count)]
        for owner in owners:
            assert len(await store.claim(owner, 1)) == 1
        assert await store.claim("other-1", 0, dead=owners) == []
    assert store.rows("SELECT count(*), min(losses) FROM claims WHERE owner IS NULL") == [(count, LOSSES_ALONE)]
    (last,) = await store.claim("other-1", 1, alone=False)
    await store.write(
        Settle(store.group_id(), "g", [Settlement(last.claim_id, 1, 0, 0, b"", let_go=True)], {last.topic_id: "d"})
    )
    (again,) = await store.claim("other-2", 1, alone=False)
    assert (again.first, again.losses) == (count, 0)
    assert [one.losses for one in await store.claim("other-3", 1, alone=True)] == [LOSSES_ALONE]


async def test_claims_of_a_pattern_have_the_lease_of_their_topic(store: Store) -> None:
    await store.client.execute("CREATE TOPIC x/quick WITH OPTIONS (ack_timeout: '200ms')")
    await store.client.execute("CREATE TOPIC x/slow WITH OPTIONS (ack_timeout: '5m')")
    async with store.client.subscribe("x/*", consumer_group="g"):
        pass
    for topic in ("x/quick", "x/slow"):
        await store.client.publish(topic, 0)
    claimed = await store.claim("7-first", 10, own_leases=True)
    assert sorted(one.deadline_us for one in claimed) == [200_000, 300_000_000]


async def test_a_suspect_of_one_partition_holds_back_nothing_of_another(store: Store) -> None:
    await store.client.execute("CREATE TOPIC t WITH OPTIONS (partitions: 2)")
    await store.client.execute("CREATE SUBSCRIPTION g ON t")
    for _ in range(4):
        await store.client.publish_batch("t", [0])
    (first,) = await store.claim("7-first", 1, partition=0)
    await store.lose("7-first")
    (suspect,) = await store.claim("8-first", 1, partition=0)
    assert (suspect.first, suspect.losses) == (first.first, 1)
    assert await store.claim("8-first", 1, partition=0) == []
    assert await store.claim("8-first", 1, partition=1)


async def test_who_waits_for_a_settlement_hears_of_a_claim_that_could_not_be_made(store: Store) -> None:
    """Settlements go with the next claim: whatever goes wrong on the way to it, nobody waits for ever."""
    async with asyncio.timeout(30), store.client.subscribe("t", consumer_group="g", auto_ack=False) as member:
        await store.client.publish_batch("t", [1, 2])
        message = await member.get()
        assert message is not None
        groups = store.groups
        (driver,) = [found.driver for found in groups._open.values()]
        driver.scheduler._start_claim(clocks())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(groups, "dead_owners", _unreadable)
            driver.act()  # the claim is under way: what is settled now waits for it
            with pytest.raises(StoreError, match="cannot be read"):
                await message.ack()


def _unreadable(group_id: int) -> list[str]:
    raise StoreError("the log cannot be read")
