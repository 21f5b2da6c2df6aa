"""Spans for OpenTelemetry, after its conventions for messaging.

    from geode_client.tracing import processed, trace

    client = trace(Client("./data"))
    await client.publish("orders", {"id": 1})                # a span "send orders"
    async with client.subscribe("orders") as subscription:
        async for message in processed(subscription):        # a span "process orders" around each message
            …

Publishing carries the context of its span in the message's headers (W3C trace context), and processing links to it, so that a
message can be followed through processes. Needs `opentelemetry-api`; without a configured provider it does nothing.
"""

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from geode_client.broker import BatchReceipt, Broker, OutgoingBatch, OutgoingMessage, Receipt
from geode_client.broker.subscription import Subscription
from geode_client.client import Client, wrap_broker
from geode_client.errors import Unsupported
from geode_client.message import Message

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

SYSTEM = "geode"


def trace(client: Client, provider: "TracerProvider | None" = None) -> Client:
    """The same client, whose publishing makes spans. Raises Unsupported without opentelemetry-api."""
    tracer = _tracer(provider)

    def wrap(broker: Broker) -> Any:
        return _TracedBroker(broker, tracer)

    wrap_broker(client, wrap)
    return client


async def processed(subscription: Subscription, provider: "TracerProvider | None" = None) -> AsyncIterator[Message]:
    """The messages of a subscription, each inside a span that ends when the next one is asked for.

    The span is current while the message is at hand; an exception that leaves the loop is not seen by it.
    """
    tracer = _tracer(provider)
    from opentelemetry import propagate
    from opentelemetry import trace as api

    async for message in subscription:
        published = propagate.extract(_texts(message.headers))
        context = api.get_current_span(published).get_span_context()
        links = [api.Link(context)] if context.is_valid else []
        attributes = {
            **_place(message.topic, "process"),
            "messaging.operation.name": "process",
            "messaging.message.id": message.id,
            "messaging.destination.partition.id": str(message.partition),
            "messaging.message.body.size": len(message.body),
            **_consumer(subscription),
        }
        with tracer.start_as_current_span(
            f"process {message.topic}", published, api.SpanKind.CONSUMER, attributes, links=links
        ):
            yield message


def _consumer(subscription: Subscription) -> dict[str, str]:
    request = subscription.request
    found = {"messaging.client.id": subscription.subscriber_id}
    if request.group is not None:
        found["messaging.consumer.group.name"] = request.group
    return found


def _place(topic: str, kind: str) -> dict[str, Any]:
    return {"messaging.system": SYSTEM, "messaging.destination.name": topic, "messaging.operation.type": kind}


def _texts(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if isinstance(value, str)}


def _tracer(provider: "TracerProvider | None") -> "Tracer":
    try:
        from opentelemetry import trace as api
    except ImportError:
        raise Unsupported(
            "tracing without the package opentelemetry-api (pip install 'geode-client[tracing]')", "this installation"
        ) from None
    return api.get_tracer("geode_client", tracer_provider=provider)


class _TracedBroker:
    """A broker whose publishing makes spans; everything else is the broker's own."""

    def __init__(self, broker: Broker, tracer: "Tracer") -> None:
        self._broker = broker
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def publish(self, message: OutgoingMessage) -> Receipt:
        """One message, inside its span and with its context."""
        # A topic that is not there yet is made by the client, which then asks again: that is no failed send.
        await self._broker.topic(message.topic)
        with self._span(message.topic, 1) as span:
            receipt = await self._broker.publish(
                msgspec.structs.replace(message, headers=_with_context(message.headers))
            )
            span.set_attribute("messaging.message.id", receipt.id)
            span.set_attribute("messaging.destination.partition.id", str(receipt.partition))
            return receipt

    async def publish_batch(self, batch: OutgoingBatch) -> BatchReceipt:
        """A batch inside one span, whose context each of its messages carries."""
        with self._span(batch.topic, len(batch.bodies)):
            headers = [_with_context(one) for one in batch.headers or [None] * len(batch.bodies)]
            return await self._broker.publish_batch(msgspec.structs.replace(batch, headers=headers))

    def _span(self, topic: str, count: int) -> Any:
        from opentelemetry import trace as api

        attributes = {**_place(topic, "send"), "messaging.operation.name": "send"}
        if count != 1:
            attributes["messaging.batch.message_count"] = count
        return self._tracer.start_as_current_span(f"send {topic}", kind=api.SpanKind.PRODUCER, attributes=attributes)


def _with_context(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    from opentelemetry import propagate

    carrier: dict[str, Any] = dict(headers or {})
    propagate.inject(carrier)
    return carrier
