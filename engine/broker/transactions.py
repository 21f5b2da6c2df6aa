"""Transactions across the seam.

Every backend with the capability `transactions` gives a `BrokerTransaction`. Two ports of it are separate, because a backend
may lack either: `SqlTransactions` (SQL on the program's own tables) and `JoinsSettlements` (acknowledgements that are stored
with the transaction).
"""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import msgspec

from geode_client.broker.records import BatchReceipt, OutgoingBatch, OutgoingMessage, Receipt
from geode_client.catalog import Topic, TopicDefinition


class TableRows(msgspec.Struct, frozen=True):
    """What SQL on the user's own tables gave: columns and rows, and how many rows it wrote."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    changes: int


class OwnTable(msgspec.Struct, frozen=True):
    """A table or view of the user's own; `kind` is table or view."""

    name: str
    kind: str
    columns: tuple[str, ...]


class OwnTables(Protocol):
    """Reading the program's own tables and views, for queries."""

    async def names(self) -> Sequence[OwnTable]:
        """The tables and views, as the last commit left them."""
        ...

    async def read(self, name: str) -> TableRows:
        """All rows of one of them, as of one commit; raises GqlError beyond the backend's bounds."""
        ...


class SqlTransactions(Protocol):
    """SQL on the program's own tables, as part of one transaction."""

    async def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> TableRows:
        """Run one statement. From the first one on other writers wait until the transaction ends, within its bound.

        Raises GqlError and ConstraintFailed, which undo the statement alone, and TransactionAborted.
        """
        ...

    async def own_tables(self) -> frozenset[str]:
        """The names of the program's own tables and views as the transaction sees them, in lower case."""
        ...


class JoinedSettlement(Protocol):
    """What a backend writes together with a transaction, such as acknowledgements."""

    def work(self) -> Any:
        """What is to be written, in the backend's own form; called when the commit begins, and again for each retry of it."""
        ...

    def told(self, stored: bool) -> None:
        """Called once, on the event loop, when the transaction is over."""
        ...


class JoinsSettlements(Protocol):
    """How a backend's own settlements become part of a transaction. What calls it is the backend's side of `tx.ack`."""

    def settle(self, settlement: JoinedSettlement) -> None:
        """Add a settlement to the commit; adding the same object again changes nothing."""
        ...


class BrokerTransaction(Protocol):
    """Publishes, settlements and the user's own SQL that are stored together or not at all.

    What is wrong with a call is raised by the call; the transaction stays open then, unless it says TransactionAborted.
    The time of the whole is bounded from the beginning on, and no lock is held before `execute` is first called.
    """

    @property
    def is_open(self) -> bool: ...

    @property
    def identity(self) -> object:
        """What the backend recognises its own transaction by, also when something such as a tracer wraps it."""
        ...

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

    def mark_replayed(self, topic: Topic, partition: int, offsets: Sequence[int]) -> None:
        """Mark dead letters at ascending offsets as replayed; the commit raises LettersChanged when one is already, or gone."""
        ...

    @property
    def sql(self) -> "SqlTransactions | None":
        """SQL on the program's own tables in this transaction; None without the capability `own_tables`."""
        ...

    @property
    def joining(self) -> "JoinsSettlements | None":
        """What acknowledgements join this transaction by; None where they cannot."""
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
"""The open transaction of the running task, or None. A broker refuses writes that would bypass it."""
