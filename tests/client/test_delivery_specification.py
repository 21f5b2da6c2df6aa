"""The calls of the specification about delivery, as they are written there; only what they call of others is ours."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from laws import conserved

from geode_client import Client

PROMPT_SECONDS = 20
logger = logging.getLogger("specification")


@pytest.fixture
async def client(directory: Path) -> AsyncIterator[Client]:
    async with asyncio.timeout(60), Client(directory) as opened:
        yield opened


@contextlib.asynccontextmanager
async def running(*work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Tasks that never end by themselves; what one of them raises fails the test."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def subscribed(client: Client, count: int) -> None:
    """Wait until so many subscribers are there."""
    async with asyncio.timeout(PROMPT_SECONDS):
        while len(await client.query("SELECT subscriber_id FROM SYSTEM.subscribers")) < count:
            await asyncio.sleep(0.005)


async def until(condition: Any) -> None:
    async with asyncio.timeout(PROMPT_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def test_ten_workers_share_the_load(client: Client) -> None:
    processed: list[tuple[str, int]] = []

    async def process_order(worker_id: str, data: Any) -> None:
        processed.append((worker_id, data["order"]))
        await asyncio.sleep(0)

    async def consumer_group_worker(worker_id: str, group_id: str) -> None:
        async with client.subscribe(
            "order_processing",
            consumer_group=group_id,  # Messages distributed across group
            consumer_id=worker_id,
        ) as sub:
            async for message in sub:
                logger.info(f"Worker {worker_id} processing {message.id}")
                await process_order(worker_id, message.data)
                await message.ack()

    async def main() -> None:
        workers = [
            consumer_group_worker(f"worker-{i}", "order-processors")
            for i in range(10)  # 10 workers share the load
        ]
        await asyncio.gather(*workers)

    async with running(main()):
        await subscribed(client, 10)
        await client.publish_batch("order_processing", [{"order": n} for n in range(1000)], batch_size=50)
        await until(lambda: len(processed) >= 1000)
        async with asyncio.timeout(PROMPT_SECONDS):
            while await client.get_consumer_lag("order_processing", "order-processors"):
                await asyncio.sleep(0.005)
    assert sorted(order for _, order in processed) == list(range(1000)), "each order once"
    assert len(Counter(worker for worker, _ in processed)) == 10, "everybody had some"
    assert (await conserved(client))["order-processors"].acknowledged == 1000


class ProcessingError(Exception):
    pass


class FatalError(Exception):
    pass


@pytest.mark.parametrize("group", [{}, {"consumer_group": "orders"}])
async def test_manual_acknowledgement(client: Client, group: dict[str, Any]) -> None:
    await client.execute("CREATE TOPIC orders WITH OPTIONS (retry_backoff: '1ms')")
    tried: Counter[str] = Counter()

    async def process_order(data: Any) -> None:
        tried[data["kind"]] += 1
        if data["kind"] == "unlucky" and tried["unlucky"] < 3:
            raise ProcessingError("not now")
        if data["kind"] == "wrong":
            raise FatalError("never")

    async def manual_acknowledgment() -> None:
        async with client.subscribe("orders", auto_ack=False, **group) as sub:
            async for message in sub:
                try:
                    # Process message
                    await process_order(message.data)
                    # Explicitly acknowledge
                    await message.ack()
                    logger.info(f"Processed and acked: {message.id}")
                except ProcessingError as e:
                    # Negative acknowledgment (requeue)
                    await message.nack(requeue=True)
                    logger.error(f"Failed to process {message.id}: {e}")
                except FatalError as e:
                    # Dead letter (don't requeue)
                    await message.nack(requeue=False)
                    logger.critical(f"Fatal error on {message.id}: {e}")

    async with running(manual_acknowledgment()):
        await subscribed(client, 1)
        await client.publish_batch("orders", [{"kind": kind} for kind in ("wrong", "unlucky", "fine")])
        await until(lambda: tried == {"wrong": 1, "unlucky": 3, "fine": 1})
        async with client.subscribe("_dlq/orders", from_beginning=True, follow=True) as letters:
            letter = await letters.get(timeout=PROMPT_SECONDS)
            assert letter is not None
            assert (letter["kind"], letter.headers["dead_letter_reason"]) == ("wrong", "rejected")
        await conserved(client)


async def test_messages_that_exceeded_their_retries(client: Client) -> None:
    await client.execute("""
        CREATE TOPIC payment_processing
        WITH OPTIONS (
            max_retries: 3,
            dead_letter_topic: 'payment_failures'
        )""")
    await client.execute("ALTER TOPIC payment_processing SET OPTIONS (retry_backoff: '1ms')")
    reviewed: list[Any] = []

    async def process_failed_payments(client: Client) -> None:
        async with client.subscribe("payment_failures") as sub:
            async for failed_message in sub:
                reviewed.append(failed_message.data)

    async with running(process_failed_payments(client)):
        await subscribed(client, 1)
        async with client.subscribe("payment_processing", consumer_group="g", auto_ack=False) as sub:
            await client.publish("payment_processing", {"payment": 1})
            for attempt in (1, 2, 3):
                message = await sub.get(timeout=PROMPT_SECONDS)
                assert message is not None
                assert message.attempt == attempt
                await message.nack()
        await until(lambda: reviewed == [{"payment": 1}])


async def test_ordered_processing(client: Client) -> None:
    seen: list[str] = []

    async def process_user_event(event: Any) -> None:
        seen.append(event["action"])

    async def ordered() -> None:
        async with client.subscribe(
            "user_events",
            ordering=True,
            partition_key_filter="user123",  # Process only this user's events in order
        ) as sub:
            async for event in sub:
                # Events for user123 arrive in published order
                await process_user_event(event)

    async with running(ordered()):
        await subscribed(client, 1)
        for n in range(20):
            for user in ("user123", "user456"):
                await client.publish(
                    "user_events",
                    {"user_id": user, "action": f"{user} {n}", "timestamp": datetime.now()},
                    partition_key=user,
                )
        await until(lambda: len(seen) == 20)
    assert seen == [f"user123 {n}" for n in range(20)]


async def test_high_priorities_first(client: Client) -> None:
    done: list[Any] = []

    async def process_task(task: Any) -> None:
        done.append((task["task_id"], task.priority))

    async with client.subscribe("tasks", priority_order=True) as sub:
        for n, priority in enumerate(("low", "normal", "high", "low", "critical", "high")):
            await client.publish("tasks", {"task_id": n, "action": "process_payment"}, priority=priority)
        async for message in sub:
            await process_task(message)
            if len(done) == 6:
                break
    assert done == [(4, 9), (2, 7), (5, 7), (1, 5), (0, 2), (3, 2)]


class EventSourcedEntity:
    """Entity rebuilt from event stream"""

    def __init__(self, entity_id: str, client: Client) -> None:
        self.entity_id = entity_id
        self.client = client
        self.state: dict[str, Any] = {}
        self.version = 0

    async def load(self) -> None:
        """Rebuild state from events"""
        async with self.client.subscribe(
            f"entity_{self.entity_id}",
            from_beginning=True,  # Replay all events
        ) as sub:
            async for event in sub:
                self.apply_event(event)
                self.version += 1

    def apply_event(self, event: Any) -> None:
        """Apply event to state"""
        if event["type"] == "ACCOUNT_CREATED":
            self.state["balance"] = event["initial_balance"]
            self.state["created_at"] = event["timestamp"]
        elif event["type"] == "DEPOSIT":
            self.state["balance"] += event["amount"]
        elif event["type"] == "WITHDRAWAL":
            self.state["balance"] -= event["amount"]

    async def deposit(self, amount: int) -> None:
        """Command: deposit money"""
        if amount <= 0:
            raise ValueError("Amount must be positive")
        await self.client.publish(
            f"entity_{self.entity_id}",
            {"type": "DEPOSIT", "amount": amount, "timestamp": datetime.now(), "version": self.version + 1},
        )
        self.state["balance"] += amount
        self.version += 1


async def test_an_entity_is_rebuilt_from_its_events(client: Client) -> None:
    created = {"type": "ACCOUNT_CREATED", "initial_balance": 100, "timestamp": datetime.now()}
    await client.publish("entity_a1", created)
    entity = EventSourcedEntity("a1", client)
    await entity.load()
    for amount in range(1, 11):
        await entity.deposit(amount)
    with pytest.raises(ValueError, match="positive"):
        await entity.deposit(0)
    again = EventSourcedEntity("a1", client)
    await again.load()
    assert (again.state["balance"], again.version) == (155, 11) == (entity.state["balance"], entity.version)
    nobody = EventSourcedEntity("new", client)
    await nobody.load()
    assert nobody.version == 0


async def test_a_worker_for_each_partition(client: Client) -> None:
    await client.execute("CREATE TOPIC high_volume_events WITH OPTIONS (partitions: 64, partition_key: 'user_id')")
    seen: dict[int, list[Any]] = {}

    async def process_message(msg: Any) -> None:
        seen.setdefault(msg.partition, []).append(msg["user_id"])

    async def consume_partition(partition_id: int) -> None:
        async with client.subscribe("high_volume_events", partition=partition_id) as sub:
            async for msg in sub:
                await process_message(msg)

    # 64 workers, each processing one partition
    workers = [consume_partition(i) for i in range(64)]
    async with running(*workers):
        await subscribed(client, 64)
        for user_id in range(100):
            message = {"user_id": user_id}
            await client.publish(
                "high_volume_events",
                message,
                partition_key=user_id,  # Determines which partition
            )
        await until(lambda: sum(map(len, seen.values())) == 100)
    assert sorted(user for users in seen.values() for user in users) == list(range(100))


async def test_a_robust_subscriber(client: Client) -> None:
    handled: list[Any] = []
    dead: list[tuple[Any, str]] = []

    async def process_message(message: Any) -> None:
        if message["n"] == 1:
            raise ValueError("one")
        handled.append(message["n"])

    async def send_to_dlq(message: Any, error: str) -> None:
        dead.append((message["n"], error))

    async def robust_subscriber(client: Client) -> None:
        while True:
            try:
                async with client.subscribe("events") as sub:
                    async for message in sub:
                        try:
                            await process_message(message)
                        except Exception as e:  # noqa: BLE001
                            logger.error(f"Error processing message: {e}")
                            await send_to_dlq(message, str(e))
            except ConnectionError:
                await asyncio.sleep(5)  # Reconnect delay

    async with running(robust_subscriber(client)):
        await subscribed(client, 1)
        await client.publish_batch("events", [{"n": n} for n in range(3)])
        await until(lambda: len(handled) + len(dead) == 3)
    assert (handled, dead) == ([0, 2], [(1, "one")])


class OrderSaga:
    """Distributed transaction using pub/sub"""

    def __init__(self, client: Client, fails: str) -> None:
        self.client = client
        self.fails = fails
        self.steps: list[str] = []

    async def start_order(self, order_data: Any) -> str:
        """Initiate saga"""
        saga_id = str(uuid.uuid4())
        await self.client.publish("saga_events", {"saga_id": saga_id, "type": "ORDER_CREATED", "data": order_data})
        return saga_id

    async def saga_orchestrator(self) -> None:
        """Orchestrate saga steps"""
        async with self.client.subscribe("saga_events") as sub:
            async for event in sub:
                saga_id = event.data["saga_id"]
                event_type = event.data["type"]
                if event_type == "ORDER_CREATED":
                    # Step 1: Reserve inventory
                    await self.step(saga_id, "INVENTORY_RESERVED", "INVENTORY_RESERVATION_FAILED", event.data["data"])
                elif event_type == "INVENTORY_RESERVED":
                    # Step 2: Process payment
                    await self.step(saga_id, "PAYMENT_PROCESSED", "PAYMENT_FAILED", event.data["data"])
                elif event_type == "PAYMENT_PROCESSED":
                    # Step 3: Ship order
                    await self.step(saga_id, "SHIPPING_CONFIRMED", "SHIPPING_FAILED", event.data["data"])
                elif event_type == "SHIPPING_CONFIRMED":
                    self.steps.append("complete")
                elif event_type.endswith("_FAILED"):
                    # Compensating actions
                    await self.rollback_saga(saga_id, event_type)

    async def step(self, saga_id: str, success: str, failure: str, data: Any) -> None:
        try:
            self.steps.append(success)
            if failure == self.fails:
                raise RuntimeError("out of it")
            await self.client.publish("saga_events", {"saga_id": saga_id, "type": success, "data": data})
        except RuntimeError as e:
            # Publish failure event
            await self.client.publish("saga_events", {"saga_id": saga_id, "type": failure, "error": str(e)})

    async def rollback_saga(self, saga_id: str, failed_step: str) -> None:
        """Compensating transactions"""
        if failed_step in ["PAYMENT_FAILED", "SHIPPING_FAILED"]:
            self.steps.append("release")
        if failed_step == "SHIPPING_FAILED":
            self.steps.append("refund")
        await self.client.publish(
            "saga_events", {"saga_id": saga_id, "type": "SAGA_ROLLED_BACK", "reason": failed_step}
        )


@pytest.mark.parametrize(
    ("fails", "steps"),
    [
        ("", ["INVENTORY_RESERVED", "PAYMENT_PROCESSED", "SHIPPING_CONFIRMED", "complete"]),
        ("PAYMENT_FAILED", ["INVENTORY_RESERVED", "PAYMENT_PROCESSED", "release"]),
        ("SHIPPING_FAILED", ["INVENTORY_RESERVED", "PAYMENT_PROCESSED", "SHIPPING_CONFIRMED", "release", "refund"]),
    ],
)
async def test_a_saga(client: Client, fails: str, steps: list[str]) -> None:
    saga = OrderSaga(client, fails)
    async with client.subscribe("saga_events", filter="type IN ('SAGA_ROLLED_BACK', 'SHIPPING_CONFIRMED')") as ends:
        async with running(saga.saga_orchestrator()):
            await subscribed(client, 2)
            await saga.start_order({"items": [1, 2]})
            assert await ends.get(timeout=PROMPT_SECONDS) is not None
            await until(lambda: saga.steps == steps)


async def test_metrics_and_health(client: Client) -> None:
    consumed: list[float] = []

    async def publish_with_metrics(topic: str, message: Any) -> None:
        message["_published_at"] = time.time()
        await client.publish(topic, message)

    async def consume_with_metrics(topic: str, consumer_group: str) -> None:
        async with client.subscribe(topic, consumer_group=consumer_group) as sub:
            async for msg in sub:
                consumed.append(time.time() - msg.data["_published_at"])

    async with running(consume_with_metrics("critical_events", "processors")):
        await subscribed(client, 1)
        for n in range(10):
            await publish_with_metrics("critical_events", {"n": n})
        await until(lambda: len(consumed) == 10)
    assert await client.get_consumer_lag("critical_events", "processors") <= 1, "the last one was given back"
    assert await client.get_error_rate("critical_events") == 0
    assert await client.get_throughput("critical_events") > 0
