"""What the tests of the contract share: topics, publishing and reading through the protocol."""

import asyncio
from typing import Any

import pytest

from geode_client.broker import (
    Broker,
    FromBeginning,
    GroupStatistics,
    OutgoingBatch,
    OutgoingMessage,
    Receipt,
    SubscriptionRequest,
)
from geode_client.broker.subscription import Subscription
from geode_client.catalog import Delivery, TopicDefinition
from geode_client.message import Message
from geode_client.options import TopicOptions

WAIT_SECONDS = 20.0
needs = pytest.mark.needs
QUICK: dict[str, Any] = {"retry_backoff_us": 1000, "retry_backoff_max_us": 5000}


async def topic(
    broker: Broker, name: str = "t", delivery: Delivery = Delivery.AT_LEAST_ONCE, schema: Any = None, **options: Any
) -> None:
    await broker.create_topic(TopicDefinition(name, TopicOptions(**options), schema, delivery))


async def publish(broker: Broker, *bodies: Any, name: str = "t", **fields: Any) -> list[Receipt]:
    return [await broker.publish(OutgoingMessage(name, body, **fields)) for body in bodies]


async def batch(broker: Broker, bodies: list[Any], name: str = "t", **fields: Any) -> Any:
    return await broker.publish_batch(OutgoingBatch(name, bodies, **fields))


def subscribed(broker: Broker, pattern: str = "t", **fields: Any) -> Subscription:
    return Subscription(broker, SubscriptionRequest(pattern, **fields))


async def retained(broker: Broker, pattern: str = "t", **fields: Any) -> list[Message]:
    """What a replay from the beginning gives."""
    fields = {"start": FromBeginning(), "follow": False, **fields}
    async with asyncio.timeout(WAIT_SECONDS), subscribed(broker, pattern, **fields) as subscription:
        return [message async for message in subscription]


async def bodies(broker: Broker, pattern: str = "t", **fields: Any) -> list[Any]:
    return [message.data for message in await retained(broker, pattern, **fields)]


async def take(subscription: Subscription, count: int = 1) -> list[Message]:
    """The next messages; fails rather than waits for ever. The one before is left behind each time."""
    found: list[Message] = []
    for _ in range(count):
        message = await subscription.get(timeout=WAIT_SECONDS)
        assert message is not None, f"{len(found)} of {count} messages came"
        found.append(message)
    return found


async def group_of(broker: Broker, name: str = "g", pattern: str = "t") -> GroupStatistics:
    """The group's counts, which must add up."""
    (found,) = [one for one in (await broker.report(["groups"], pattern)).groups if one.name == name]
    settled = found.acknowledged + found.filtered + found.dead_lettered + found.expired + found.removed
    assert found.published == settled + found.pending, found
    return found


async def until_settled(broker: Broker, name: str = "g", pattern: str = "t") -> GroupStatistics:
    """Wait until a group has nothing pending."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (found := await group_of(broker, name, pattern)).pending:
            await asyncio.sleep(0.005)
    return found
