"""Conditions over ten million stored messages of which ten match: all decoded, searched for a text, passed over by zones."""

import time
from collections.abc import Iterator
from typing import Any

import orjson
from bench.table import MESSAGE, Row, Settings, rate

from geode_client import Client, compile_filter
from geode_client.broker import ScanRequest
from geode_client.conditions import Condition
from geode_client.conditions.zones import ScanCounts
from geode_client.local.broker import LocalBroker
from geode_client.local.zones import ZoneMaker
from geode_client.store.zones import WantColumns

STORED = 10_000_000
USERS = STORED // 10
PEER_MESSAGES = 200_000
DECODED_GOAL = 1_500_000
SEARCHED_GOAL = 2_500_000
SKIPPED_GOAL = 100_000_000
BY_TEXT = "user_id = 'user12345'"
BY_NUMBER = "amount = 12345"


async def rows(settings: Settings, found: list[Row]) -> None:
    """Measure and append the rows of this group."""
    async with Client(settings.directory / "scan") as client:
        started = time.perf_counter()
        await client.publish_batch("scan", _messages(STORED), batch_size=1000)
        took = time.perf_counter() - started
        found.append(Row("publish ten million, made as they go", rate(STORED / took)))
    broker = LocalBroker(str(settings.directory / "scan"))
    await broker.open()
    try:
        await _without_statistics(broker, found)
        await _with_statistics(broker, found)
    finally:
        await broker.close()
    async with Client(settings.directory / "scan") as client:
        started = time.perf_counter()
        counted = (await client.query(f"SELECT count(*) FROM scan WHERE {BY_TEXT}")).rows
        taken = time.perf_counter() - started
        assert counted == [(10,)], counted
        found.append(Row(f"  SELECT count(*) … WHERE {BY_TEXT}", rate(STORED / taken), f"{taken * 1000:.0f} ms"))


async def _without_statistics(broker: LocalBroker, found: list[Row]) -> None:
    decoded = await _scanned(broker, BY_NUMBER, may_skip=False)
    by_hand = _by_hand()
    against = f"{decoded / by_hand:.1f} × orjson.loads and a lambda"
    found.append(
        Row(f"{BY_NUMBER}, every message decoded", rate(decoded), against, "≥ 1,500,000", decoded >= DECODED_GOAL)
    )
    searched = await _scanned(broker, BY_TEXT, may_skip=False)
    reached = searched >= SEARCHED_GOAL
    found.append(
        Row(f"{BY_TEXT}, text searched for", rate(searched), f"{searched / by_hand:.1f} ×", "≥ 2,500,000", reached)
    )


async def _with_statistics(broker: LocalBroker, found: list[Row]) -> None:
    topic = await broker.topic("scan")
    paths = [leaf.path for text in (BY_TEXT, BY_NUMBER) for leaf in _leaves(compile_filter(text))]
    await broker.write(WantColumns(topic.topic_id, paths))
    started = time.perf_counter()
    maker = ZoneMaker(broker._log, broker._topics, broker.write, lambda: False)
    assert await maker.make(lambda: False)
    took = time.perf_counter() - started
    found.append(Row("make statistics of two columns, resting half the time", rate(STORED / took)))
    for text in (BY_TEXT, BY_NUMBER):
        skipped = max([await _scanned(broker, text, may_skip=True) for _ in range(3)])
        reached = skipped >= SKIPPED_GOAL
        found.append(Row(f"{text}, with statistics", rate(skipped), "", "≥ 100,000,000", reached))


def _leaves(condition: Condition) -> Iterator[Any]:
    from geode_client.conditions.requirements import leaves

    return leaves(condition.requirement)


async def _scanned(broker: LocalBroker, text: str, *, may_skip: bool) -> float:
    """Messages a second; what is skipped counts as looked at."""
    condition = compile_filter(text)
    topic = await broker.topic("scan")
    counts = ScanCounts()
    request = ScanRequest([topic], condition=condition if may_skip else None, counts=counts)
    started = time.perf_counter()
    matches = 0
    async for chunk in broker.scan(request):
        matches += len(condition.select(chunk))
    taken = time.perf_counter() - started
    assert matches == 10, matches
    assert counts.messages_read + counts.messages_skipped == STORED, counts
    return STORED / taken


def _by_hand() -> float:
    lines = [orjson.dumps(message) for message in _messages(PEER_MESSAGES)]
    started = time.perf_counter()
    assert sum(_is_wanted(orjson.loads(line)) for line in lines) <= 1
    return PEER_MESSAGES / (time.perf_counter() - started)


def _is_wanted(message: Any) -> bool:
    return bool(message["amount"] == 12345)


def _messages(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        user = number * 7919 % USERS
        yield {**MESSAGE, "user_id": f"user{user}", "amount": user}
