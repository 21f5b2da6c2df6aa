"""The backends that the contract is checked on. A backend joins by one entry in BACKENDS.

Tests use what `geode_client.broker` defines and nothing of a backend. `@needs("capability")` leaves a test out where the
backend's `Capabilities` say that it has not got it; nothing else may leave one out.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from contract.protocol_only import protocol_only

from geode_client.broker import Broker
from geode_client.local.broker import LocalBroker

Make = Callable[[], Broker]
"""Gives brokers, not opened yet, that all have the same target."""

BACKENDS: dict[str, Callable[[Path], Make]] = {
    "directory": lambda path: lambda: LocalBroker(str(path / "store")),
    "memory": lambda path: lambda: LocalBroker(":memory:"),
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*capabilities): left out where the backend lacks one of them")


@pytest.fixture(params=BACKENDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """What gives brokers on one target; the test is left out where it needs what they cannot do."""
    makes = BACKENDS[request.param](tmp_path)
    for mark in request.node.iter_markers("needs"):
        lacking = makes().capabilities.lacking(mark.args)
        if lacking is not None:
            pytest.skip(f"the backend lacks {lacking}")
    return lambda: protocol_only(makes())


@pytest.fixture
async def opened(make: Make) -> AsyncIterator[Callable[[], Awaitable[Broker]]]:
    """Opens one more broker on the target; all are closed at the end."""
    brokers: list[Broker] = []

    async def open_one() -> Broker:
        broker = make()
        await broker.open()
        brokers.append(broker)
        return broker

    yield open_one
    for broker in brokers:
        await broker.close()


@pytest.fixture
async def broker(opened: Callable[[], Awaitable[Broker]]) -> Broker:
    """An open broker on a target on which nothing is yet."""
    return await opened()
