"""The transaction a program writes: `async with client.transaction() as tx`, over the transaction of any broker.

Leaving the block commits; an exception that leaves it, or the bound on its time, rolls back. While the block runs its task
(and tasks that it starts) may not publish past `tx`.
"""

import uuid
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from geode_client.broker import (
    BatchReceipt,
    Broker,
    BrokerTransaction,
    Capabilities,
    OutgoingBatch,
    OutgoingMessage,
    Receipt,
    SqlTransactions,
    current_transaction,
)
from geode_client.broker.outgoing import Key, outgoing_batches, outgoing_message, renumbered, together
from geode_client.catalog import TopicDefinition
from geode_client.errors import GeodeError, GqlError, InvalidMessage, TopicNotFound, Unsupported
from geode_client.grammar.names import validate_topic_name
from geode_client.message import Message
from geode_client.options import TopicOptions

if TYPE_CHECKING:
    from geode_client.query.result import Result

TRANSACTION_SECONDS = 5.0
TRANSACTION_SECONDS_MAX = 3600.0


class Transaction:
    """Publishes, acknowledgements, and SQL on tables of your own, that are stored together or not at all.

    Made by `client.transaction()`; each is used once, with `async with`. The end of the block commits; an exception that
    leaves the block, or the timeout, rolls back.

    Example:
        ```python
        async with client.transaction() as tx:
            await tx.publish("invoiced", {"order": message["id"]})
            await tx.ack(message)
        print(tx.committed, tx.receipts)
        ```
    """

    def __init__(
        self,
        broker: Broker,
        *,
        ready: Callable[[], Awaitable[Any]],
        auto_create: bool,
        timeout_seconds: float,
    ) -> None:
        self._broker = broker
        self._ready = ready
        self._auto_create = auto_create
        self._timeout_seconds = checked_timeout(timeout_seconds)
        self._begun: BrokerTransaction | None = None
        self._token: Token[BrokerTransaction | None] | None = None
        self._calls: list[int | None] = []
        self._ended = False

    async def __aenter__(self) -> Self:
        if self._begun is not None:
            raise GeodeError("a transaction is used once: call client.transaction() again")
        await self._ready()
        self._begun = self._broker.transaction(self._timeout_seconds)
        self._token = current_transaction.set(self._begun)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                await self._opened().rollback()
            elif not self._ended:
                await self._opened().commit()
        finally:
            leave(self._token)

    @property
    def begun(self) -> BrokerTransaction | None:
        """The broker's transaction; None before the block is entered."""
        return self._begun

    @property
    def committed(self) -> bool:
        """Whether everything was stored; also right after the task was cancelled during the commit."""
        return self._begun is not None and self._begun.committed

    @property
    def receipts(self) -> list[Receipt | BatchReceipt]:
        """After the commit, one receipt for each `publish` and `publish_batch`, in the order of the calls."""
        if not self.committed:
            return []
        given = iter(self._opened().receipts)
        found: list[Receipt | BatchReceipt] = []
        for batches in self._calls:
            if batches is None:
                found.append(next(given))
            else:
                some = [next(given) for _ in range(batches)]
                found.append(together([receipt for receipt in some if isinstance(receipt, BatchReceipt)]))
        return found

    # ── what belongs to it ──
    async def publish(
        self,
        topic: str,
        message: object,
        *,
        partition_key: Key = None,
        priority: str | int = 5,
        ttl_seconds: float | None = None,
        delay_seconds: float | None = None,
        compression: str | None = None,
        region: str | None = None,
        message_id: str | uuid.UUID | None = None,
        headers: Mapping[str, object] | None = None,
        expected_offset: int | None = None,
    ) -> "Pending[Receipt]":
        """Publish one message at the commit. It is checked now.

        Args:
            topic: The name of the topic.
            message: Any value that has a JSON form; see `Client.publish`.
            partition_key: The key of the message: text, a whole number or a UUID. Messages of one key stay in one
                partition, in order. Without one the topic's `partition_key` field is used, if it has such an option.
            priority: 0 to 9, or `'low'` (2), `'normal'` (5), `'high'` (7), `'critical'` (9).
            ttl_seconds: Time to live in seconds; an expired message is not delivered. None: the topic's `message_ttl`.
            delay_seconds: Append the message to the topic only after so many seconds. It is stored at once and
                survives restarts; its time to live starts when it is appended.
            compression: `'lz4'` or `'none'`. None: the topic's option.
            region: The region to publish in, for brokers that have regions.
            message_id: An id of the publisher's own. If the topic knows it already at the commit, nothing is stored for it.
            headers: Metadata beside the body, by name; the values have a JSON form.
            expected_offset: Store the message only if it becomes this offset of its partition, else Conflict. 0 is the first
                offset of a partition.

        Returns:
            A `Pending`, whose `receipt` is known after the commit.

        Raises:
            InvalidMessage: The message has no JSON form.
            SchemaViolation: The message does not fit the schema of the topic.
            MessageTooLarge: The message has more bytes than the topic's `max_message_bytes`.
            Conflict: At the commit: the message would not become `expected_offset`; nothing is stored.
            TopicNotFound: There is no such topic, and the client has `auto_create=False`.
            GqlError: An option or the name of the topic is not valid.
            TransactionAborted: The transaction is over.
        """
        outgoing = outgoing_message(
            topic,
            message,
            partition_key=partition_key,
            priority=priority,
            ttl_seconds=ttl_seconds,
            delay_seconds=delay_seconds,
            compression=compression,
            region=region,
            message_id=message_id,
            headers=headers,
            expected_offset=expected_offset,
        )
        await self._publish(outgoing)
        self._calls.append(None)
        return Pending(self, len(self._calls) - 1)

    async def publish_batch(
        self,
        topic: str,
        messages: Iterable[object] | AsyncIterable[object],
        *,
        batch_size: int = 1000,
        partition_key: Key = None,
        priority: str | int = 5,
        ttl_seconds: float | None = None,
        delay_seconds: float | None = None,
        compression: str | None = None,
        region: str | None = None,
        message_ids: Iterable[str | uuid.UUID | None] | None = None,
        headers: Mapping[str, object] | None = None,
        expected_offset: int | None = None,
    ) -> "Pending[BatchReceipt]":
        """Publish many messages at the commit. They are checked now.

        If a message is refused, the batches before it are still part of the transaction: let the exception leave the block.

        Args:
            topic: The name of the topic.
            messages: The messages, from any iterable or async iterable.
            batch_size: The number of messages in one batch.
            partition_key: One key for all messages: text, a whole number or a UUID.
            priority: 0 to 9, or `'low'`, `'normal'`, `'high'`, `'critical'`; for all messages.
            ttl_seconds: Time to live in seconds. None: the topic's `message_ttl`.
            delay_seconds: Append the messages to the topic only after so many seconds.
            compression: `'lz4'` or `'none'`. None: the topic's option.
            region: The region to publish in, for brokers that have regions.
            message_ids: One id (or None) for each message, for deduplication.
            headers: Metadata beside the body, the same for all messages.
            expected_offset: Store the messages only if the first of them becomes this offset of its partition, else
                Conflict. All messages must go to one partition.

        Returns:
            A `Pending`, whose `receipt` is known after the commit.

        Raises:
            InvalidMessage: A message has no JSON form; the error gives its position in `messages`, as the next two do.
            SchemaViolation: A message does not fit the schema of the topic.
            MessageTooLarge: A message has more bytes than the topic's `max_message_bytes`.
            Conflict: At the commit: the first message would not become `expected_offset`; nothing is stored.
            TopicNotFound: There is no such topic, and the client has `auto_create=False`.
            GqlError: An option or the name of the topic is not valid.
            TransactionAborted: The transaction is over.
        """
        batches = outgoing_batches(
            topic,
            messages,
            batch_size=batch_size,
            partition_key=partition_key,
            priority=priority,
            ttl_seconds=ttl_seconds,
            delay_seconds=delay_seconds,
            compression=compression,
            region=region,
            message_ids=message_ids,
            headers=headers,
            expected_offset=expected_offset,
        )
        place = len(self._calls)
        self._calls.append(0)
        async for first, batch in batches:
            try:
                await self._publish(batch)
            except InvalidMessage as error:
                raise renumbered(error, first) from error
            self._calls[place] = (self._calls[place] or 0) + 1
        return Pending(self, place)

    async def _publish(self, outgoing: OutgoingMessage | OutgoingBatch) -> None:
        begun = self._opened()
        give = begun.publish if isinstance(outgoing, OutgoingMessage) else begun.publish_batch
        try:
            await give(outgoing)  # type: ignore[arg-type]
        except TopicNotFound:
            if not self._auto_create:
                raise
            await begun.create_topic(automatic_topic(outgoing.topic))
            await give(outgoing)  # type: ignore[arg-type]

    async def ack(self, *messages: Message) -> None:
        """Acknowledge messages when the transaction commits.

        Args:
            messages: Messages of a subscription of the same client; for a list write `tx.ack(*messages)`.

        Raises:
            LeaseLost: At the commit: a message has passed to another consumer meanwhile; nothing is stored.
            GqlError: A value is not a message of a subscription.
            Unsupported: The backend cannot acknowledge in a transaction.
            TransactionAborted: The transaction is over.
        """
        joining = self._opened().joining
        if joining is None:
            raise Unsupported("acknowledgements in a transaction", self._broker.capabilities.backend)
        for message in messages:
            if not isinstance(message, Message):
                raise GqlError(f"tx.ack takes messages of a subscription, not {_kind_of(message)}")
        for message in messages:
            message.acknowledge_within(joining)

    async def execute(self, sql: str, params: Sequence[object] | Mapping[str, object] | None = None) -> "Result":
        """Run one statement of SQL on tables of your own, in the same store.

        From the first such statement on, other writers wait until the transaction ends.

        Args:
            sql: The statement, in the SQL of SQLite.
            params: Values for `?`, or by name for `:name` and `$name`.

        Returns:
            The rows of a query, or how many rows were written.

        Raises:
            GqlError: The statement is wrong, or touches tables that are not your own.
            ConstraintFailed: It breaks a constraint of a table. The statement is undone, and the transaction continues.
            TransactionAborted: The transaction is over.

        Example:
            ```python
            rows = (await tx.execute("SELECT amount FROM accounts WHERE owner = ?", ["b"])).rows
            ```
        """
        from geode_client.query.result import Result

        found = await sql_of(self._opened(), self._broker.capabilities).execute(sql, params)
        return Result(found.columns, found.rows, None if found.columns else written(found.changes))

    # ── ending it before the block does ──
    async def commit(self) -> None:
        """Store everything now, before the block ends. The transaction is over then.

        Raises:
            LeaseLost: A message to acknowledge has passed to another consumer meanwhile; nothing is stored.
            TransactionAborted: The transaction took too long, or is over already.
            StoreError: The store cannot be written; nothing is stored.
        """
        self._ended = True
        await self._opened().commit()

    async def rollback(self) -> None:
        """Store nothing. The transaction is over then."""
        self._ended = True
        await self._opened().rollback()

    def _opened(self) -> BrokerTransaction:
        if self._begun is None:
            raise GeodeError("the transaction has not begun: use 'async with client.transaction() as tx'")
        return self._begun


R = TypeVar("R", Receipt, BatchReceipt)


class Pending(Generic[R]):
    """What `tx.publish` and `tx.publish_batch` give: the receipt once the transaction has been committed."""

    __slots__ = ("_place", "_transaction")

    def __init__(self, transaction: Transaction, place: int) -> None:
        self._transaction = transaction
        self._place = place

    @property
    def receipt(self) -> R:
        """What became of it. Raises GeodeError before the commit, and when the transaction was rolled back."""
        if not self._transaction.committed:
            raise GeodeError("there is no receipt: it is known once the transaction has been committed")
        return cast(R, self._transaction.receipts[self._place])

    @property
    def duplicate(self) -> bool:
        """Whether nothing was stored, because the message id was known. Raises as `receipt`."""
        receipt = self.receipt
        return receipt.duplicate if isinstance(receipt, Receipt) else not receipt.count and receipt.duplicates > 0

    def __repr__(self) -> str:
        return f"Pending({self.receipt!r})" if self._transaction.committed else "Pending()"


def _kind_of(value: object) -> str:
    """What somebody gave in the place of a message, and what to do about it."""
    match value:
        case Receipt() | BatchReceipt() | Pending():
            return (
                f"a {type(value).__name__}: that belongs to a message that was published, not to one that was received"
            )
        case list() | tuple():
            return f"a {type(value).__name__}: write tx.ack(*messages)"
        case str() | int():
            return f"{value!r:.60}: give the message itself, not its id or offset"
        case _:
            return f"{type(value).__name__}; with type= a subscription hands over objects that cannot be acknowledged"


def sql_of(begun: BrokerTransaction, capabilities: Capabilities) -> SqlTransactions:
    """The port for SQL on own tables; raises Unsupported where the backend has none."""
    capabilities.require("own_tables")
    if begun.sql is None:
        raise Unsupported("own tables", capabilities.backend)
    return begun.sql


def automatic_topic(name: str) -> TopicDefinition:
    """The topic that publishing to a name makes where there is none."""
    return TopicDefinition(validate_topic_name(name), TopicOptions(), automatic=True)


def checked_timeout(seconds: float) -> float:
    """The bound on a transaction; raises GqlError when it is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= TRANSACTION_SECONDS_MAX:
        raise GqlError(f"timeout is a number of seconds above 0, up to {TRANSACTION_SECONDS_MAX:g}, not {seconds!r}")
    return float(seconds)


def leave(token: "Token[BrokerTransaction | None] | None") -> None:
    """The running task is no longer inside the transaction."""
    if token is not None:
        try:
            current_transaction.reset(token)
        except ValueError:
            # It was entered in another task; there it is recognised as ended.
            current_transaction.set(None)


def written(changes: int) -> str:
    """The message of a statement that changed so many rows."""
    return f"{changes} row{'s' * (changes != 1)} written"
