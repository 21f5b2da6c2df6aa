"""A statement that needs what the backend cannot do: EXPLAIN names it, and running it raises Unsupported."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from geode_client import Client, Unsupported
from geode_client.broker import Broker, Capabilities
from geode_client.broker.capabilities import NAMES
from geode_client.client import wrap_broker

NEEDS = {
    "PUBLISH TO t {\"n\": 1} WITH OPTIONS (delay: '5s')": "delays",
    'PUBLISH TO t {"n": 1} WITH OPTIONS (priority: high)': "priorities",
    'PUBLISH TO t {"n": 1} WITH OPTIONS (expected_offset: 0)': "expected_offsets",
    "SUBSCRIBE TO t GROUP g": "groups",
    "SUBSCRIBE TO t ORDER BY PRIORITY": "priorities",
    "EXPLAIN ANALYZE SUBSCRIBE TO t GROUP g": "groups",
    "EXPLAIN ANALYZE SELECT * FROM SYSTEM.regions": "regions",
    "CREATE SUBSCRIPTION g ON t": "groups",
    "ALTER SUBSCRIPTION g ON t SEEK TO BEGINNING": "groups",
    "PAUSE SUBSCRIPTION g": "groups",
    "DROP SUBSCRIPTION IF EXISTS g": "groups",
    "REPLAY DEAD LETTERS OF t": "groups",
    "DELETE DEAD LETTERS OF t": "groups",
    "SHOW SUBSCRIPTIONS": "groups",
    "SHOW REGIONS": "regions",
    "SELECT * FROM SYSTEM.dead_letters": "groups",
    "SELECT * FROM t WHERE n IN (SELECT region FROM SYSTEM.regions)": "regions",
    "BEGIN": "transactions",
}
"""A capability that a statement needs, and that is named when the backend has none."""


class Bare:
    """A broker that says it can do nothing but what every backend has to."""

    def __init__(self, behind: Broker) -> None:
        self._behind = behind
        lacks: dict[str, Any] = dict.fromkeys(NAMES, False)
        self.capabilities = Capabilities("a bare backend", **lacks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    made = Client(":memory:")
    wrap_broker(made, lambda broker: cast(Broker, Bare(broker)))
    async with made as opened:
        await opened.execute("CREATE TOPIC t")
        yield opened


@pytest.mark.parametrize("statement", NEEDS)
async def test_what_is_missing_is_named(client: Client, statement: str) -> None:
    named = NEEDS[statement].replace("_", " ")
    with pytest.raises(Unsupported, match=f"{named}.*not supported by a bare backend"):
        await client.execute(statement)
    if not statement.startswith("EXPLAIN"):
        shown = "\n".join(row[0] for row in (await client.execute(f"EXPLAIN {statement}")).rows)
        assert named in shown


async def test_what_every_backend_has_runs(client: Client) -> None:
    await client.execute('PUBLISH TO t {"n": 1}')
    assert (await client.query("SELECT n FROM t")).rows == [(1,)]
    await client.execute("SHOW TOPICS")
    assert (await client.query("SELECT topic_name FROM SYSTEM.topics")).rows == [("t",)]
    with pytest.raises(Unsupported, match="own tables"):
        async with client.transaction() as tx:
            await tx.execute("CREATE TABLE own (a)")
