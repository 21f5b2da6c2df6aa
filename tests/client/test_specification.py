"""The calls of the specification that need no group, as they are written there."""

import asyncio
import contextlib
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from language.statements import SPECIFICATION
from reading import next_of

from geode_client import Client, SyncClient


async def publish_user_event(client: Client, user_id: str, event_type: str) -> None:
    message = {
        "user_id": user_id,
        "event_type": event_type,
        "timestamp": datetime.now().isoformat(),
        "metadata": {"source": "user-service", "version": "1.0"},
    }
    await client.publish("user_events", message)


async def test_publish_and_subscribe(directory: Path) -> None:
    seen: list[tuple[str, str]] = []

    async def subscribe_to_user_events(client: Client, ready: asyncio.Event) -> None:
        async with client.subscribe("user_events") as subscription:
            ready.set()
            async for message in subscription:
                seen.append((message["event_type"], message["user_id"]))
                if len(seen) == 2:
                    break

    async with Client(directory) as client:
        ready = asyncio.Event()
        task = asyncio.create_task(subscribe_to_user_events(client, ready))
        await ready.wait()
        await publish_user_event(client, "u1", "signup")
        await publish_user_event(client, "u2", "churn")
        await task
    assert seen == [("signup", "u1"), ("churn", "u2")]


async def test_fan_out_to_three(directory: Path) -> None:
    async with Client(directory) as client, contextlib.AsyncExitStack() as stack:
        subscriptions = [await stack.enter_async_context(client.subscribe("notifications")) for _ in range(3)]
        await client.publish("notifications", {"title": "t", "body": "b", "priority": "high"})
        for subscription in subscriptions:
            message = await subscription.get()
            assert message is not None
            assert message["title"] == "t"


async def test_filtered_subscription(directory: Path) -> None:
    async with Client(directory) as client:
        async with client.subscribe("order_notifications", filter="priority = 'high'") as subscription:
            await client.publish("order_notifications", {"order_id": 1, "priority": "low"})
            await client.publish("order_notifications", {"order_id": 2, "priority": "high"})
            message = await subscription.get()
            assert message is not None
            assert message["order_id"] == 2


async def test_request_reply_by_hand(directory: Path) -> None:
    """The specification's RPC client, against a server of the same kind."""
    async with Client(directory) as client:
        reply_topic = f"replies_{uuid.uuid4()}"
        async with client.subscribe("rpc_requests") as requests, client.subscribe(reply_topic) as replies:
            request_id = str(uuid.uuid4())
            request = {"id": request_id, "method": "add", "params": [2, 3], "reply_to": reply_topic}
            await client.publish("rpc_requests", request)
            message = await requests.get()
            assert message is not None
            result = {"request_id": message["id"], "result": sum(message["params"])}
            await client.publish(message["reply_to"], result)
            reply = await replies.get()
            assert reply is not None
            assert (reply["request_id"], reply["result"]) == (request_id, 5)


async def test_topic_hierarchies(directory: Path) -> None:
    async with Client(directory) as client:
        async with client.subscribe("users/*") as everything, client.subscribe("users/created") as created:
            for event in ("created", "updated", "deleted", "verified"):
                await client.publish(f"users/{event}", {"event": event})
            found = [(await next_of(everything))["event"] for _ in range(4)]
            assert found == ["created", "updated", "deleted", "verified"]
            assert (await next_of(created))["event"] == "created"
            assert await created.get(timeout=0.01) is None


async def test_priorities_expiry_keys_and_batches(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("tasks", {"task_id": "task123", "action": "process_payment"}, priority="high")
        await client.publish("flash_sales", {"sale_id": "sale123", "discount": 0.5}, ttl_seconds=3600)
        await client.publish(
            "user_events",
            {"user_id": "user123", "action": "login", "timestamp": datetime.now()},
            partition_key="user123",
        )
        messages = [{"user_id": f"user{i}", "action": "login"} for i in range(1000)]
        await client.publish_batch("user_events", messages)
        await client.publish_batch("events", messages, batch_size=1000)
        async with client.subscribe(
            "user_events", ordering=True, partition_key_filter="user123", from_beginning=True
        ) as subscription:
            assert [event["user_id"] async for event in subscription] == ["user123"]
        async with client.subscribe("events", from_beginning=True) as subscription:
            assert [event.data["action"] async for event in subscription] == ["login"] * 1000


class EventSourcedEntity:
    """Entity rebuilt from its events, as the specification has it."""

    def __init__(self, entity_id: str, client: Client) -> None:
        self.entity_id = entity_id
        self.client = client
        self.state: dict[str, Any] = {}
        self.version = 0

    async def load(self) -> None:
        async with self.client.subscribe(f"entity_{self.entity_id}", from_beginning=True) as sub:
            async for event in sub:
                self.apply_event(event)
                self.version += 1

    def apply_event(self, event: Any) -> None:
        if event["type"] == "ACCOUNT_CREATED":
            self.state["balance"] = event["initial_balance"]
            self.state["created_at"] = event["timestamp"]
        elif event["type"] == "DEPOSIT":
            self.state["balance"] += event["amount"]

    async def deposit(self, amount: int) -> None:
        await self.client.publish(
            f"entity_{self.entity_id}",
            {"type": "DEPOSIT", "amount": amount, "timestamp": datetime.now(), "version": self.version + 1},
        )
        self.state["balance"] += amount
        self.version += 1


async def test_event_sourcing(directory: Path) -> None:
    async with Client(directory) as client:
        created = {"type": "ACCOUNT_CREATED", "initial_balance": 10, "timestamp": datetime.now()}
        await client.publish("entity_7", created)
        entity, again, nobody = (EventSourcedEntity(name, client) for name in ("7", "7", "8"))
        await entity.load()
        for amount in (5, 6):
            await entity.deposit(amount)
        await again.load()
        await nobody.load()
        assert again.state == entity.state
        assert (again.state["balance"], again.version, nobody.version) == (21, 3, 0)


async def test_a_saga_by_events(directory: Path) -> None:
    """One subscriber drives the steps by publishing to the topic it reads."""
    following = {"ORDER_CREATED": "INVENTORY_RESERVED", "INVENTORY_RESERVED": "PAYMENT_FAILED"}
    async with Client(directory) as client, client.subscribe("saga_events") as sub:
        saga_id = str(uuid.uuid4())
        await client.publish("saga_events", {"saga_id": saga_id, "type": "ORDER_CREATED", "data": {"items": [1]}})
        seen = []
        async for event in sub:
            assert event.data["saga_id"] == saga_id
            seen.append(event.data["type"])
            if event.data["type"].endswith("_FAILED"):
                break
            await client.publish("saga_events", {"saga_id": saga_id, "type": following[seen[-1]], "data": {}})
        assert seen == ["ORDER_CREATED", "INVENTORY_RESERVED", "PAYMENT_FAILED"]


async def test_one_worker_a_partition(directory: Path) -> None:
    """64 workers, each reading one partition of the topic that the specification shards."""
    found: dict[int, list[str]] = {}

    async def consume_partition(client: Client, partition_id: int) -> None:
        async with client.subscribe("high_volume_events", partition=partition_id, from_beginning=True) as sub:
            async for msg in sub:
                assert msg.partition == partition_id
                found.setdefault(partition_id, []).append(msg["user_id"])

    async with Client(directory) as client:
        options = "partitions: 64, partition_key: 'user_id'"
        await client.execute(f"CREATE TOPIC high_volume_events WITH OPTIONS ({options})")
        for n in range(200):
            user_id = f"user{n % 50}"
            await client.publish("high_volume_events", {"user_id": user_id, "n": n}, partition_key=user_id)
        await client.publish_batch("high_volume_events", [{"user_id": f"user{n % 50}", "n": n} for n in range(200)])
        await asyncio.gather(*[consume_partition(client, i) for i in range(64)])
    assert sum(len(users) for users in found.values()) == 400
    assert sum(len(set(users)) for users in found.values()) == 50, "a key was in two partitions"


async def test_a_batch_of_times(directory: Path) -> None:
    async with Client(directory) as client:
        messages = [{"user_id": i, "action": "click", "timestamp": datetime.now()} for i in range(10000)]
        receipt = await client.publish_batch("user_actions", messages, batch_size=100)
        assert receipt.count == 10000
        batches = await client.query("SELECT batches FROM SYSTEM.partitions WHERE topic_name = 'user_actions'")
        assert batches.scalar() == 100


async def test_compression(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish("large_messages", {"data": "x" * 10_000}, compression="lz4")
        stored = await client.query("SELECT bytes_stored FROM SYSTEM.topics WHERE topic_name = 'large_messages'")
        assert stored.scalar() < 1000


async def test_every_statement_runs(directory: Path) -> None:
    async with Client(directory) as client:
        for text in SPECIFICATION:
            result = await client.execute(text)
            if result.subscription is not None:
                await result.subscription.close()


async def test_the_subscription_of_execute_is_a_stream(directory: Path) -> None:
    async with Client(directory) as client:
        stream = await client.execute("SUBSCRIBE TO user_events WHERE user_id = 'user123' LIMIT 1")
        await client.publish("user_events", {"user_id": "user123"})
        assert [message["user_id"] async for message in stream] == ["user123"]


async def test_figures(directory: Path) -> None:
    async with Client(directory) as client:
        await client.publish_batch("t", list(range(600)))
        assert 1 <= await client.get_throughput("t", window=60) <= 11
        assert await client.get_error_rate("t", window=300) == 0.0


def test_the_client_without_await(directory: Path) -> None:
    with SyncClient(directory) as client:
        assert client.publish("t", {"n": 1}).offset == 0
        assert client.publish_batch("t", [{"n": 2}, {"n": 3}]).count == 2
        with client.subscribe("t", from_beginning=True) as subscription:
            assert [message["n"] for message in subscription] == [1, 2, 3]
        assert client.query("SELECT sum(n) FROM t").scalar() == 6
        with pytest.raises(Exception, match="no topic nothing"):
            client.query("SELECT * FROM nothing")
        streamed: Any = client.execute("SUBSCRIBE TO t FROM BEGINNING LIMIT 2")
        with client.messages(streamed) as subscription:
            assert [message["n"] for message in subscription] == [1, 2]
