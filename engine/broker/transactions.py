"""Transactions across the seam."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import msgspec

from geode_client.broker.records import BatchReceipt, OutgoingBatch, OutgoingMessage, Receipt
from geode_client.catalog import TopicDefinition


class TableRows(msgspec.Struct, frozen=True):
    """What SQL on the user's own tables gave: columns and rows, and how many rows it wrote."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    changes: int


class JoinedSettlement(Protocol):
    """What a backend writes together with a transaction, such as acknowledgements."""

    def work(self) -> Any:
        """What is to be written, made when the commit begins; made again when the commit has to be tried again."""
        ...

    def told(self, stored: bool) -> None:
        """Told once, on the event loop, when the transaction is over."""
        ...


class BrokerTransaction(Protocol):
    """Publishes, settlements and the user's own SQL that are stored together or not at all.

    What is wrong with a call is raised by the call; the transaction stays open then, unless it says TransactionAborted.
    The time of the whole is bounded from the beginning on, and no lock is held before `execute` is first called.
    """

    @property
    def is_open(self) -> bool: ...

    @property
    def receipts(self) -> Sequence[Receipt | BatchReceipt]:
        """After the commit: what became of each publish and publish_batch, in the order of the calls."""
        ...

    async def create_topic(self, definition: TopicDefinition) -> None:
        """Make a topic at the commit, where there is none then."""
        ...

    async def publish(self, message: OutgoingMessage) -> None:
        """Check a message now and store it at the commit."""
        ...

    async def publish_batch(self, batch: OutgoingBatch) -> None: ...

    async def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> TableRows:
        """Run one statement on the user's own tables; holds up other writers until the end, within the bound."""
        ...

    async def own_tables(self) -> frozenset[str]:
        """The user's own tables and views as the transaction sees them, in lower case."""
        ...

    def settle(self, settlement: "JoinedSettlement") -> None:
        """Add something of the backend's own to the commit; adding the same object again changes nothing."""
        ...

    async def commit(self) -> None:
        """Store everything. Raises what refused it, and then nothing is stored.

        Cancelled, it is rolled back, or committed when that could not be stopped any more: `committed` tells.
        """
        ...

    @property
    def committed(self) -> bool: ...

    async def rollback(self) -> None:
        """Store nothing. Does nothing when the transaction is over."""
        ...


current_transaction: "ContextVar[BrokerTransaction | None]" = ContextVar("current_transaction", default=None)
"""The transaction that the running task is inside of; whoever opens one sets it, and a broker refuses to write past it."""
