"""The way of works to the writer, and of their outcomes back to those who wait.

Single messages that are published in the same turn of the event loop gather here and become one work a topic; where they
come one by one they are committed in the very call. A group is
committed in this thread when nobody else writes and the disk is quick, else by the writer's thread. When the writer is
behind, what is published waits here in one queue, in its order and not yet encoded, until commits have made room: so the
memory that waits for the disk is bounded, and whoever awaits a publish is slowed to the speed of the disk. Who gives up
waiting in the queue has stored nothing; who gives up later has, without hearing of it. Runs on the event loop, but for
`_committed_in_any_thread`.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from geode_client.broker import BatchReceipt, OutgoingBatch, OutgoingMessage, Receipt
from geode_client.broker.outgoing import batch_of
from geode_client.broker.validate import Router
from geode_client.catalog import Topic
from geode_client.clock import datetime_of, now_us
from geode_client.errors import ConnectionLost, CorruptData, GeodeError, StoreError
from geode_client.local import publisher
from geode_client.store.database import Database
from geode_client.store.locks import FairLock, NoLock
from geode_client.store.publishing import PublishWork
from geode_client.store.wake import Peers
from geode_client.store.writer import Append, Committed, Work, Writer

# While commits in the calling thread stay this short they are made there; a slow disk gets the writer's thread.
INLINE_SECONDS_MAX = 0.005
# How many of the store's own works (claims, settlements) go into one transaction.
WORKS_AT_ONCE = 64
# JSON text that waits for its commit; exceeded by no more than one batch, or by SINGLES_AT_ONCE_MAX single messages.
BYTES_UNDER_WAY_MAX = 64 * 1024 * 1024
SINGLES_AT_ONCE_MAX = 1024
# For so long at most messages that come one by one are committed without a turn of the event loop in between.
WITHOUT_A_TURN_SECONDS = 0.001

OnAppended = Callable[[Sequence[Append]], None]
OnDelayed = Callable[[int], None]


class Outbox:
    """One client's works under way. `on_appended` is told of every commit, in order, before those who wait are.

    `on_delayed` is told when messages begin to wait that are due before all others.
    """

    def __init__(
        self,
        database: Database,
        lock: FairLock | NoLock,
        peers: Peers | None,
        id_prefix: str,
        on_appended: OnAppended,
        on_delayed: OnDelayed,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(database, lock, self._committed_in_any_thread)
        self._peers = peers
        self._id_prefix = id_prefix
        self._on_appended = on_appended
        self._on_delayed = on_delayed
        self._router = Router()
        self._queue: deque[publisher.Waiting | publisher.WaitingBatch] = deque()
        self._flush_scheduled = False
        self._comes_alone = False
        self._turn_ends = 0.0
        self._inline_seconds = 0.0
        self._of_this_turn: list[Work] = []
        self._works: dict[int, tuple[Work, asyncio.Future[Any]]] = {}
        self._groups: dict[int, publisher.Group] = {}
        self._sizes: dict[int, int] = {}
        self._bytes_under_way = 0
        self._typical_bytes = 1
        self.catalog_version = 0

    @property
    def writer(self) -> Writer:
        return self._writer

    @property
    def bytes_under_way(self) -> int:
        """JSON text that is encoded and not yet committed."""
        return self._bytes_under_way

    # ── what is to be written ──
    def post(self, topic: Topic, message: OutgoingMessage) -> "Receipt | asyncio.Future[Receipt]":
        """Store one message: in this very call, or together with all others that are posted in this turn of the loop.

        At once only when the last turn had just one (those that come together are cheaper together), and not for long on
        end, since nothing else runs meanwhile. Raises, or the future does, what refuses the message.
        """
        if self._comes_alone and not self._queue and time.perf_counter() <= self._turn_ends:
            return self._post_alone(topic, message)
        done: asyncio.Future[Receipt] = self._loop.create_future()
        self._queue.append(publisher.Waiting(topic, message, self.catalog_version, done))
        self._flush_soon()
        return done

    def _post_alone(self, topic: Topic, message: OutgoingMessage) -> "Receipt | asyncio.Future[Receipt]":
        work = publisher.prepare(topic, batch_of([message]), self.catalog_version, self._router)
        if self._write_now([work]):
            if work.error is not None:
                raise _own_copy(work.error)
            return next(_receipts(work, [message], self._id_prefix))[1]
        done: asyncio.Future[Receipt] = self._loop.create_future()
        self._groups[id(work)] = publisher.Group(work, [publisher.Waiting(topic, message, self.catalog_version, done)])
        self._take_room(work)
        self._submit(work)
        return done

    def post_batch(self, topic: Topic, batch: OutgoingBatch) -> "asyncio.Future[PublishWork]":
        """Store a batch, after everything that was posted before it; gives the committed work."""
        done: asyncio.Future[PublishWork] = self._loop.create_future()
        self._queue.append(publisher.WaitingBatch(topic, batch, self.catalog_version, done))
        self.flush()
        return done

    def flush(self) -> None:
        """Hand what has gathered to the writer, in its order, as long as there is room; the rest waits for commits."""
        self._flush_scheduled = False
        self._comes_alone = len(self._queue) == 1
        works: list[Work] = []
        while self._queue and self._bytes_under_way < BYTES_UNDER_WAY_MAX:
            item = self._queue[0]
            if isinstance(item, publisher.Waiting):
                works += self._encoded(self._singles())
            else:
                self._hand_over(works)
                works = []
                self._hand_over_batch(item)
        self._hand_over(works)
        self._turn_ends = time.perf_counter() + WITHOUT_A_TURN_SECONDS

    def _flush_soon(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self.flush)

    def _singles(self) -> list[publisher.Waiting]:
        """The next single messages, about as many as there is room for."""
        room = (BYTES_UNDER_WAY_MAX - self._bytes_under_way) // self._typical_bytes
        most = min(max(1, room), SINGLES_AT_ONCE_MAX)
        queue = self._queue
        found: list[publisher.Waiting] = []
        while queue and len(found) < most and isinstance(item := queue[0], publisher.Waiting):
            del queue[0]
            if not item.done.cancelled():
                found.append(item)
        return found

    def _encoded(self, waiting: list[publisher.Waiting]) -> list[Work]:
        """The works that store single messages."""
        try:
            groups = publisher.group(waiting, self._router)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting for ever
            for item in waiting:
                if not item.done.done():
                    item.done.set_exception(error)
            return []
        works: list[Work] = []
        size = 0
        for made in groups:
            self._groups[id(made.work)] = made
            size += self._take_room(made.work)
            works.append(made.work)
        self._typical_bytes = size // (len(waiting) or 1) or 1
        return works

    def _hand_over(self, works: list[Work]) -> None:
        if works and not self._write_now(works):
            for work in works:
                self._submit(work)

    def _hand_over_batch(self, item: publisher.WaitingBatch) -> None:
        self._queue.popleft()
        if item.done.cancelled():
            return
        try:
            work = publisher.prepare(item.topic, item.batch, item.catalog_version, self._router)
        except Exception as error:  # noqa: BLE001 - told to the one who waits, whatever it is
            item.done.set_exception(error)
            return
        self._works[id(work)] = (work, item.done)
        self._take_room(work)
        self._submit(work)

    def _take_room(self, work: PublishWork) -> int:
        """Count the work until its outcome is told; whatever that is, `_outcome` gives the room back."""
        self._sizes[id(work)] = size = publisher.raw_bytes(work)
        self._bytes_under_way += size
        return size

    async def write(self, work: Work) -> None:
        """Hand a work to the writer and wait for its commit; raises what refused it. A cancelled wait undoes nothing."""
        await self.send(work)

    def send(self, work: Work, *, here: bool = False) -> "asyncio.Future[None]":
        """Hand a work to the writer; the future has its outcome. `here`: in this thread if that is quick."""
        done = self.expect(work)
        if not (here and self._write_now([work])):
            self._submit(work)
        return done

    def forget(self, work: Work, error: GeodeError) -> None:
        """Nobody hands the work to the writer after all."""
        _, done = self._works.pop(id(work), (None, None))
        if done is not None and not done.done():
            done.set_exception(error)

    def expect(self, work: Work) -> "asyncio.Future[None]":
        """The outcome of a work that somebody else hands to the writer."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._works[id(work)] = (work, done)
        return done

    async def write_together(self, works: Sequence[Work]) -> None:
        """Commit works of the store's own, with those of others in the same turn; raises what refused any of them."""
        waiting = [self.expect(work) for work in works]
        if not self._of_this_turn:
            self._loop.call_soon(self._write_turn)
        self._of_this_turn += works
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def _write_turn(self) -> None:
        """Commit what was handed over in this turn, here and now when nobody else is writing, a few works at a time."""
        works, self._of_this_turn = self._of_this_turn, []
        for first in range(0, len(works), WORKS_AT_ONCE):
            some = works[first : first + WORKS_AT_ONCE]
            if not self._write_now(some, patient=not any(work.durable for work in some)):
                for work in some:
                    self._submit(work)

    async def settle(self) -> None:
        """Return once all commits that are under way here have been told to `on_appended`."""
        self.flush()
        waiting: list[asyncio.Future[Any]] = [done for _, done in self._works.values()]
        waiting += [item.done for made in self._groups.values() for item in made.waiting]
        waiting += [item.done for item in self._queue]
        waiting = [done for done in waiting if not done.done()]
        if waiting:
            await asyncio.wait(waiting)

    async def close(self) -> None:
        """Write what waits, then stop the writer."""
        self._write_turn()
        await self.settle()
        await asyncio.to_thread(self._writer.close)

    def _write_now(self, works: list[Work], *, patient: bool = False) -> bool:
        """Commit in this thread when nobody else writes and the disk is quick; `patient`: whatever it is, nobody waits for it."""
        if not patient and self._inline_seconds > INLINE_SECONDS_MAX:
            # One slow commit must not keep the quick way shut for ever.
            self._inline_seconds *= 0.95
            return False
        started = time.perf_counter()
        try:
            if not self._writer.try_now(works):
                return False
        except GeodeError as error:
            self._outcome(Committed(works, [], error, inline=True))
            return True
        if not patient:
            self._inline_seconds += 0.2 * (time.perf_counter() - started - self._inline_seconds)
        return True

    def _submit(self, work: Work) -> None:
        try:
            self._writer.submit(work)
        except GeodeError as error:
            self._outcome(Committed([work], [], error, inline=True))

    # ── what became of it ──
    def _committed_in_any_thread(self, committed: Committed) -> None:
        if committed.announce and self._peers is not None:
            self._peers.wake()
        if committed.inline:
            self._outcome(committed)
        else:
            with contextlib.suppress(RuntimeError):  # the loop was closed without closing the client
                self._loop.call_soon_threadsafe(self._outcome, committed)

    def _outcome(self, committed: Committed) -> None:
        """Tell everybody who waits for the works of a transaction what became of them."""
        if committed.appended:
            self._on_appended(committed.appended)
        if committed.first_due_us is not None:
            self._on_delayed(committed.first_due_us)
        for work in committed.works:
            self._bytes_under_way -= self._sizes.pop(id(work), 0)
            refusal = work.error = committed.error or work.error
            made = self._groups.pop(id(work), None)
            if made is not None:
                _tell_group(made, refusal, self._id_prefix)
            _, done = self._works.pop(id(work), (None, None))
            if done is not None and not done.done():
                if refusal is None:
                    done.set_result(work)
                else:
                    done.set_exception(_own_copy(refusal) if isinstance(work, PublishWork) else _copied(refusal))
        if self._queue:
            if self._writer.failure is not None:
                self._refuse_all(self._writer.failure)
            self._flush_soon()

    def _refuse_all(self, failure: GeodeError) -> None:
        """The store writes nothing more: nobody waits for room any longer."""
        while self._queue:
            item = self._queue.popleft()
            if not item.done.done():
                item.done.set_exception(_own_copy(failure))


def batch_receipt(work: PublishWork) -> BatchReceipt:
    """What a committed work became."""
    offsets: dict[int, range] = {}
    count = 0
    for part in work.parts:
        append = part.append
        count += append.count
        if append.count and work.due_us is None:
            before = offsets.get(append.partition)
            first = append.base_offset if before is None else before.start
            offsets[append.partition] = range(first, append.base_offset + append.count)
    return BatchReceipt(count, len(work.known), offsets)


def _own_copy(error: GeodeError) -> GeodeError:
    """The error for a publisher: a store that is lost is to it a store that cannot be written."""
    if isinstance(error, ConnectionLost):
        failed = StoreError(*error.args)
        failed.__cause__ = error.__cause__
        return failed
    return _copied(error)


def _copied(error: GeodeError) -> GeodeError:
    """Errors that several wait for are raised in several tasks: each has its own traceback."""
    if isinstance(error, StoreError | CorruptData):
        copy = type(error)(*error.args)
        copy.__cause__ = error.__cause__
        return copy
    return error


def _tell_group(made: publisher.Group, error: GeodeError | None, id_prefix: str) -> None:
    """Give everybody who published a message of the group its receipt, or its error."""
    if error is not None:
        for item in made.waiting:
            if not item.done.done():
                item.done.set_exception(_own_copy(error))
        return
    for position, receipt in _receipts(made.work, [item.message for item in made.waiting], id_prefix):
        done = made.waiting[position].done
        if not done.done():
            done.set_result(receipt)


def _receipts(work: PublishWork, messages: Sequence[OutgoingMessage], id_prefix: str) -> Iterator[tuple[int, Receipt]]:
    """What became of each message of a committed work, and its position in it."""
    for part in work.parts:
        append = part.append
        accepted = datetime_of(append.timestamp_us)
        prefix = f"{id_prefix}{append.topic_id}-{append.partition}-"
        ids = append.attributes.ids
        for index, position in enumerate(part.positions):
            offset = append.base_offset + index if work.due_us is None else None
            message_id = (ids[index] if ids is not None else None) or f"{prefix}{offset}"
            yield position, Receipt(message_id, append.topic, append.partition, offset, accepted)
    for position, known in work.known.items():
        message = messages[position]
        now = datetime_of(now_us())
        yield (
            position,
            Receipt(message.message_id or "", message.topic, known.partition, known.offset, now, duplicate=True),
        )
