"""A write transaction that is held open for the user's own SQL, from the first statement to commit or rollback.

It runs in the writer's thread, which has the locks and serves nobody else meanwhile: statements come in one by one from
another thread and their outcomes go back as futures. The bound on its time holds whatever the other thread does: a
statement that runs is interrupted at the deadline, and when none comes the thread rolls back by itself. Whatever ends it
early is kept as `ended`, and told to whoever asks afterwards.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import msgspec

from geode_client.errors import GeodeError, StoreError, TransactionAborted
from geode_client.store.own_tables import Interrupted, OwnTables, Parameters, Rows
from geode_client.store.writer import Transaction, Work


class _Statement(msgspec.Struct, eq=False):
    sql: str
    parameters: Parameters
    done: "Future[Rows]"


class Hold:
    """One held transaction; a `Borrower` of the writer. `deadline` in seconds of the monotonic clock.

    `on_over` is called once in the writer's thread, when the locks are free again.
    """

    def __init__(
        self, tables: OwnTables, deadline: float, expired: TransactionAborted, on_over: Callable[[], None]
    ) -> None:
        self._tables = tables
        self._deadline = deadline
        self._expired = expired
        self._on_over = on_over
        self._news = threading.Condition()
        self._statements: deque[_Statement] = deque()
        self._last: Work | None = None
        self._running: _Statement | None = None
        self.ended: GeodeError | None = None
        self.begun = False
        self.unwritten: Work | None = None

    # ── from the other thread ──
    def ask(self, sql: str, parameters: Parameters) -> "Future[Rows]":
        """Have one statement run; raises what has ended the transaction."""
        done: Future[Rows] = Future()
        with self._news:
            self._raise_ended()
            self._statements.append(_Statement(sql, parameters, done))
            self._news.notify()
        return done

    def finish(self, work: Work) -> None:
        """Commit, together with `work`, whose outcome the writer tells; raises what has ended the transaction."""
        with self._news:
            self._raise_ended()
            self._last = work
            self._news.notify()

    def abandon(self, reason: GeodeError) -> None:
        """Roll back, and interrupt the statement that runs; nothing happens when it has ended already."""
        with self._news:
            self.ended = self.ended or reason
            self._news.notify()

    def _raise_ended(self) -> None:
        if self.ended is not None:
            raise self.ended

    # ── in the writer's thread ──
    def is_wanted(self) -> bool:
        with self._news:
            if self.ended is None and time.monotonic() >= self._deadline:
                self.ended = self._expired
            return self.ended is None

    def serve(self, transaction: Transaction) -> Work | None:
        self.begun = True
        with self._tables.opened(self._must_stop):
            while (statement := self._next()) is not None:
                self._run(statement)
        with self._news:
            # What was handed over to be committed has its outcome told, also when it was taken back since.
            work, self._last = self._last, None
            self.ended = self.ended or TransactionAborted("the transaction is over")
            return work

    def over(self, error: GeodeError | None) -> None:
        with self._news:
            # The reason that is known is better than what followed from it.
            self.ended = self.ended or error or StoreError("the transaction was given up")
            self.unwritten, self._last = self._last, None
            waiting = [self._running, *self._statements]
            self._statements.clear()
        for statement in waiting:
            if statement is not None and not statement.done.done():
                statement.done.set_exception(self.ended)
        self._on_over()

    def _must_stop(self) -> bool:
        return self.ended is not None or time.monotonic() >= self._deadline

    def _next(self) -> _Statement | None:
        """The next statement; None when there is to be no more."""
        with self._news:
            while self.ended is None and self._last is None:
                if self._statements:
                    return self._statements.popleft()
                left = self._deadline - time.monotonic()
                if left <= 0:
                    self.ended = self._expired
                    break
                self._news.wait(left)
            return None

    def _run(self, statement: _Statement) -> None:
        if not statement.done.set_running_or_notify_cancel():
            return
        self._running = statement
        try:
            outcome: Rows | GeodeError = self._tables.run(statement.sql, statement.parameters)
        except Interrupted:
            outcome = self.ended = self.ended or self._expired
        except GeodeError as error:
            outcome = error
            if not self._tables.is_open:
                self.ended = TransactionAborted(f"the transaction was rolled back by an error in it: {error}")
        # What fails with the disk stays in `_running`, and is told when all is over.
        self._running = None
        if isinstance(outcome, GeodeError):
            statement.done.set_exception(outcome)
        else:
            statement.done.set_result(outcome)
