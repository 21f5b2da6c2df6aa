"""Spans after OpenTelemetry's conventions for messaging: what is sent, what is processed, and how the two belong together."""

from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from geode_client import Client, GeodeError, SchemaViolation
from geode_client.tracing import processed, trace


async def test_sending_and_processing_belong_together(directory: Path) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with trace(Client(directory), provider) as client:
        receipt = await client.publish("orders", {"n": 1}, headers={"mine": "kept"})
        await client.publish_batch("orders", [{"n": 2}, {"n": 3}])
        async with client.subscribe("orders", from_beginning=True) as subscription:
            seen = [message async for message in processed(subscription, provider)]
    assert [message["n"] for message in seen] == [1, 2, 3]
    assert seen[0].headers["mine"] == "kept"
    one, batch, *handled = exporter.get_finished_spans()
    assert (one.name, one.kind) == ("send orders", SpanKind.PRODUCER)
    assert one.attributes is not None
    assert one.attributes["messaging.system"] == "geode"
    assert one.attributes["messaging.message.id"] == receipt.id
    assert batch.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 2
    assert [span.name for span in handled] == ["process orders"] * 3
    for span, sent in zip(handled, (one, batch, batch), strict=True):
        assert span.kind is SpanKind.CONSUMER
        assert span.links[0].context.span_id == sent.context.span_id
        assert span.parent is not None
        assert span.parent.trace_id == sent.context.trace_id


async def test_a_publish_that_fails_is_a_span_that_failed(directory: Path) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with trace(Client(directory), provider) as client:
        await client.execute("CREATE TOPIC t SCHEMA (n INT)")
        with pytest.raises(SchemaViolation):
            await client.publish("t", {"n": "text"})
        with pytest.raises(GeodeError, match="in use"):
            trace(client, provider)
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR


async def test_without_a_provider_nothing_is_in_the_way(directory: Path) -> None:
    async with trace(Client(directory)) as client:
        await client.publish("t", 1)
        async with client.subscribe("t", from_beginning=True) as subscription:
            assert [message.data async for message in processed(subscription)] == [1]
