"""Transactions on a directory: what is published and settled in one waits here, and is one work of the store at the end.

Messages are encoded and checked when they are given, and made into rows at the commit, because the catalog may have
changed meanwhile and the time of acceptance is that of the commit. Until the user's own SQL comes in no lock is held. The
first statement borrows the write transaction (`store/holding.py`: in the writer's thread; for a store in memory, right
here), one transaction of a client at a time, and the commit then ends the borrowed one.

    open ──commit──► committing ──► committed
      │                  └────────► aborted     refused, or cancelled before it was written
      └──rollback, bound exceeded, cancelled statement, client closed──► aborted

Cancellation: while waiting for a turn nothing has happened; while a statement runs it is interrupted and the transaction
aborted, because how far it came cannot be told; while the commit waits it is withdrawn, and when it is being written
already its outcome is awaited first, so that `committed` tells the truth.
"""

import asyncio
import contextlib
import functools
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

from geode_client import broker, codec
from geode_client.broker import (
    BatchReceipt,
    JoinedSettlement,
    OutgoingBatch,
    OutgoingMessage,
    Receipt,
    TableRows,
    current_transaction,
)
from geode_client.broker.outgoing import batch_of
from geode_client.broker.validate import Router, check_lines
from geode_client.catalog import Topic, TopicDefinition
from geode_client.clock import now_us
from geode_client.errors import GeodeError, StoreError, TransactionAborted
from geode_client.grammar.names import validate_topic_name
from geode_client.local.combining import CommitWork, Entry, Publication, publications, receipts_of
from geode_client.local.outbox import Outbox
from geode_client.store.batch import RAW_BYTES_MAX
from geode_client.store.database import Database, engine_names
from geode_client.store.holding import Hold
from geode_client.store.letters import MarkReplayed
from geode_client.store.log import LogReader
from geode_client.store.own_tables import Interrupted, OwnTables, Parameters, Rows
from geode_client.store.publishing import StaleTopic
from geode_client.store.topics import CreateTopic, TopicReader
from geode_client.store.writer import Work, Writer

STALE_RETRIES = 5

_NAMES_SQL = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')"


class Held(Protocol):
    """The write transaction of the store, held for one transaction here."""

    @property
    def ended(self) -> GeodeError | None: ...

    async def ask(self, sql: str, parameters: Parameters) -> Rows: ...

    def finish(self, work: Work) -> None: ...

    def abandon(self, reason: GeodeError) -> None: ...

    async def until_over(self) -> None: ...


class Transactions:
    """All transactions of one client. `check` refuses messages that the backend cannot store."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        topics: TopicReader,
        log: LogReader,
        id_prefix: str,
        refresh_catalog: Callable[[], None],
        check: Callable[[OutgoingMessage | OutgoingBatch], None],
    ) -> None:
        self.database = database
        self.outbox = outbox
        self.topics = topics
        self.log = log
        self.id_prefix = id_prefix
        self.refresh_catalog = refresh_catalog
        self.check = check
        self.router = Router()
        self.turn = asyncio.Lock()
        self._open: weakref.WeakSet[LocalTransaction] = weakref.WeakSet()

    @functools.cached_property
    def tables(self) -> OwnTables:
        return OwnTables(self.database)

    @property
    def place(self) -> object:
        """What two clients share that write to the same store."""
        return self.database.layout.directory or self

    def begin(self, timeout_seconds: float) -> "LocalTransaction":
        self.refuse_past("a transaction inside a transaction: commit or roll back the one that is open first")
        begun = LocalTransaction(self, timeout_seconds)
        self._open.add(begun)
        return begun

    def refuse_past(self, what: str) -> None:
        """Raise GeodeError when the running task is inside a transaction on this store."""
        current = self._current()
        if current is not None and current.is_open:
            raise GeodeError(what)

    def holds_here(self) -> bool:
        """Whether the running task's own transaction is what other writers wait for."""
        current = self._current()
        return current is not None and current.is_open and current.holds

    def _current(self) -> "LocalTransaction | None":
        inside = current_transaction.get()
        current = None if inside is None else inside.identity
        return current if isinstance(current, LocalTransaction) and current.place == self.place else None

    async def close(self) -> None:
        """Roll back what is open."""
        for transaction in list(self._open):
            await transaction.abort(TransactionAborted("the client was closed: the transaction was rolled back"))


class LocalTransaction:
    """One transaction; used on the event loop, by one task or several."""

    def __init__(self, parts: Transactions, timeout_seconds: float) -> None:
        self._parts = parts
        self._deadline = time.monotonic() + timeout_seconds
        self._expired = TransactionAborted(
            f"the transaction took longer than its bound of {timeout_seconds:g} seconds and was rolled back:"
            " do less in it, or give it a larger timeout"
        )
        self._one_at_a_time = asyncio.Lock()
        self._entries: list[Entry] = []
        self._bytes = 0
        self._created: dict[str, Topic] = {}
        self._settlements: dict[int, JoinedSettlement] = {}
        self._marks: list[tuple[Topic, int, Sequence[int]]] = []
        self._held: Held | None = None
        self._ended: GeodeError | None = None
        self._committing = False
        self.committed = False
        self._stored: tuple[Sequence[Entry], Sequence[Publication]] = ((), ())

    @property
    def receipts(self) -> list[Receipt | BatchReceipt]:
        return receipts_of(*self._stored, self._parts.id_prefix)

    @property
    def identity(self) -> object:
        return self

    @property
    def place(self) -> object:
        return self._parts.place

    @property
    def is_open(self) -> bool:
        return self._reason() is None

    @property
    def holds(self) -> bool:
        """Whether other writers wait for it."""
        return self._held is not None

    def _reason(self) -> GeodeError | None:
        """Why nothing more can be done in it."""
        if self._ended is None:
            if self._committing:
                return TransactionAborted("the transaction is being committed")
            if self._held is not None and self._held.ended is not None:
                self._end(self._held.ended)
            elif time.monotonic() >= self._deadline:
                self._end(self._expired)
        return self._ended

    def _end(self, reason: GeodeError) -> None:
        """It is over without a commit."""
        self._ended = reason
        self._entries.clear()
        if self._held is not None:
            self._held.abandon(reason)
        self._tell(stored=False)

    def _tell(self, *, stored: bool) -> None:
        settlements, self._settlements = self._settlements, {}
        for settlement in settlements.values():
            settlement.told(stored)

    def _check_open(self) -> None:
        reason = self._reason()
        if reason is not None:
            raise type(reason)(str(reason)) if isinstance(reason, TransactionAborted | StoreError) else reason

    # ── publishing ──
    async def create_topic(self, definition: TopicDefinition) -> None:
        self._check_open()
        validate_topic_name(definition.name)
        self._created.setdefault(definition.name, Topic(-1, definition, 1, 1, now_us()))

    async def publish(self, message: OutgoingMessage) -> None:
        self._add(batch_of([message]), single=True)

    async def publish_batch(self, batch: OutgoingBatch) -> None:
        self._add(batch, single=False)

    def _add(self, batch: OutgoingBatch, *, single: bool) -> None:
        self._check_open()
        self._parts.check(batch)
        topic = self._topic(batch.topic)
        entry = Entry.of(batch, codec.encode_lines(batch.bodies), single=single)
        if self._bytes + len(entry.lines) > RAW_BYTES_MAX:
            raise GeodeError(f"a transaction holds at most {RAW_BYTES_MAX} bytes of messages: commit in between")
        # What is wrong with a message is said now; the rows are made at the commit.
        check_lines(topic, entry.batch, entry.lines, RAW_BYTES_MAX)
        self._entries.append(entry)
        self._bytes += len(entry.lines)

    def _topic(self, name: str) -> Topic:
        topics = self._parts.topics
        topic = topics.get(name)
        if topic is None:
            self._parts.refresh_catalog()
            topic = topics.get(name) or self._created.get(name)
        return topic or topics.require(validate_topic_name(name))

    def mark_replayed(self, topic: Topic, partition: int, offsets: Sequence[int]) -> None:
        self._check_open()
        self._marks.append((topic, partition, list(offsets)))

    @property
    def joining(self) -> Self:
        return self

    def settle(self, settlement: JoinedSettlement) -> None:
        self._check_open()
        self._settlements[id(settlement)] = settlement

    # ── the user's own tables ──
    @property
    def sql(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> TableRows:
        async with self._one_at_a_time:
            self._check_open()
            try:
                if self._held is None:
                    self._held = await self._hold()
                async with asyncio.timeout(self._seconds_left()):
                    found = await self._held.ask(sql, parameters)
            except TimeoutError:
                self._end(self._expired)
                raise self._expired from None
            except asyncio.CancelledError:
                self._end(TransactionAborted("the transaction was rolled back because a statement in it was cancelled"))
                raise
            finally:
                self._reason()
            return TableRows(found.columns, found.rows, found.changes)

    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    async def _hold(self) -> Held:
        """Wait for the turn among the transactions of this client, then ask for the write transaction."""
        parts = self._parts
        async with asyncio.timeout(self._seconds_left()):
            await parts.turn.acquire()
        try:
            if parts.database.layout.directory is None:
                return _HeldHere(parts, self._deadline, self._expired)
            return _HeldInThread(parts, self._deadline, self._expired)
        except BaseException:
            parts.turn.release()
            raise

    async def own_tables(self) -> frozenset[str]:
        self._check_open()
        names = self._parts.log.rows(_NAMES_SQL) if self._held is None else (await self.execute(_NAMES_SQL)).rows
        return frozenset(name.lower() for (name,) in names) - engine_names()

    # ── the end ──
    async def commit(self) -> None:
        async with self._one_at_a_time:
            self._check_open()
            self._committing = True
            try:
                await self._commit()
            except BaseException as error:
                if not self.committed:
                    self._end(_why(error))
                raise
            finally:
                if self._held is not None:
                    await self._held.until_over()

    async def _commit(self) -> None:
        if self._held is None and not (self._entries or self._settlements or self._created or self._marks):
            self._commit_is_done(())
            return
        for _ in range(STALE_RETRIES):
            # With the lock held the catalog stays as it is read here.
            self._parts.refresh_catalog()
            work = self._work()
            try:
                await self._written(work)
            except StaleTopic:
                continue
            return
        raise StoreError("topics of the transaction are being changed again and again: it was rolled back")

    def _work(self) -> CommitWork:
        parts = self._parts
        known = {entry.topic: parts.topics.get(entry.topic) for entry in self._entries}
        creations = [
            CreateTopic(topic.definition, if_not_exists=True)
            for name, topic in self._created.items()
            if parts.topics.get(name) is None
        ]
        made = publications(self._entries, known, parts.topics.version, parts.router)
        marks = [
            MarkReplayed(topic.topic_id, topic.name, partition, offsets) for topic, partition, offsets in self._marks
        ]
        return CommitWork(creations, made, [*marks, *[one.work() for one in self._settlements.values()]])

    async def _written(self, work: CommitWork) -> None:
        """Hand the work to the writer and wait for what becomes of it."""
        outbox = self._parts.outbox
        if self._held is None:
            outbox.flush()  # what was published before comes before
            writing = outbox.send(work, here=True)
        else:
            writing = outbox.expect(work)
            try:
                self._held.finish(work)
            except GeodeError as error:
                outbox.forget(work, error)
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            if work.withdraw():
                raise
            while not writing.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({writing})
            if writing.exception() is None:
                self._commit_is_done(work.publications)
            raise
        self._commit_is_done(work.publications)

    def _commit_is_done(self, made: Sequence[Publication]) -> None:
        self.committed = True
        self._ended = TransactionAborted("the transaction is over: it was committed")
        if self._created:
            self._parts.refresh_catalog()
        self._stored = (self._entries, made)
        self._entries = []
        self._tell(stored=True)

    async def rollback(self) -> None:
        await self.abort(TransactionAborted("the transaction is over: it was rolled back"))

    async def abort(self, reason: GeodeError) -> None:
        """End it without a commit, and say `reason` to whoever still uses it."""
        if self._reason() is None:
            self._end(reason)
        if self._held is not None:
            await self._held.until_over()


def _why(error: BaseException) -> GeodeError:
    if isinstance(error, asyncio.CancelledError):
        return TransactionAborted("the transaction was rolled back because its commit was cancelled")
    return TransactionAborted(f"the transaction was rolled back: {error}")


class _HeldInThread:
    """Held in the writer's thread, which also keeps the bound when this thread is busy."""

    def __init__(self, parts: Transactions, deadline: float, expired: TransactionAborted) -> None:
        self._loop = asyncio.get_running_loop()
        self._turn = parts.turn
        self._outbox = parts.outbox
        self._over = asyncio.Event()
        self._hold = Hold(parts.tables, deadline, expired, self._on_over)
        parts.outbox.writer.lend(self._hold)

    def _on_over(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed without closing the client
            self._loop.call_soon_threadsafe(self._let_go)

    def _let_go(self) -> None:
        if self._hold.unwritten is not None and self._hold.ended is not None:
            self._outbox.forget(self._hold.unwritten, self._hold.ended)
        self._turn.release()
        self._over.set()

    @property
    def ended(self) -> GeodeError | None:
        return self._hold.ended

    async def ask(self, sql: str, parameters: Parameters) -> Rows:
        return await asyncio.wrap_future(self._hold.ask(sql, parameters))

    def finish(self, work: Work) -> None:
        self._hold.finish(work)

    def abandon(self, reason: GeodeError) -> None:
        self._hold.abandon(reason)

    async def until_over(self) -> None:
        # What still waits for its turn ends when that comes, and nobody need wait for it.
        if self._hold.begun:
            await self._over.wait()


class _HeldHere:
    """Held in this thread: a store in memory has one connection. A statement keeps the event loop waiting."""

    def __init__(self, parts: Transactions, deadline: float, expired: TransactionAborted) -> None:
        self._writer: Writer = parts.outbox.writer
        self._turn = parts.turn
        self._tables = parts.tables
        self._deadline = deadline
        self._expired = expired
        self._writer.borrow()
        self._opened = contextlib.ExitStack()
        self._opened.enter_context(self._tables.opened(lambda: time.monotonic() >= deadline))
        self.ended: GeodeError | None = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, deadline - time.monotonic()), self.abandon, expired)

    async def ask(self, sql: str, parameters: Parameters) -> Rows:
        if self.ended is not None:
            raise self.ended
        try:
            return self._tables.run(sql, parameters)
        except Interrupted:
            self.abandon(self._expired)
            raise self._expired from None
        except GeodeError as error:
            if not self._tables.is_open:
                self.abandon(TransactionAborted(f"the transaction was rolled back by an error in it: {error}"))
            raise

    def finish(self, work: Work) -> None:
        self._give_back(work, TransactionAborted("the transaction is over"))

    def abandon(self, reason: GeodeError) -> None:
        if self.ended is None:
            self._give_back(None, reason)

    def _give_back(self, work: Work | None, reason: GeodeError) -> None:
        self.ended = reason
        self._timer.cancel()
        self._opened.close()
        self._turn.release()
        self._writer.give_back(work, inline=True)

    async def until_over(self) -> None:
        """It is over when `finish` or `abandon` returns."""


# Checked by mypy.
_transaction: type[broker.BrokerTransaction] = LocalTransaction
_sql: type[broker.SqlTransactions] = LocalTransaction
_joining: type[broker.JoinsSettlements] = LocalTransaction
