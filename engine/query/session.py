"""A session: parse, plan, execute, for one client.

The whole pipeline is on this screen. Errors get their place here: whatever a planner or compiler says of a span is shown
in the text that the statement came from.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from geode_client.broker import Broker
from geode_client.errors import GeodeError, GqlError
from geode_client.grammar import ast
from geode_client.grammar.parser import parse
from geode_client.grammar.source import Source, Span
from geode_client.query import plan as nodes
from geode_client.query.executor import Executor
from geode_client.query.loading import Progress
from geode_client.query.places import placed
from geode_client.query.planner import Planner
from geode_client.query.result import Result
from geode_client.query.transacting import Transacting, told

# No lock is held before COMMIT in a session, and a person may take time to think.
SESSION_TRANSACTION_SECONDS = 3600.0

_QUERIES = (ast.Select, ast.Show, ast.DescribeTopic, ast.ShowCreateTopic, ast.Explain, ast.TestFilter)


class Session:
    """Runs statements. `ready` opens the broker when it is first needed."""

    def __init__(
        self,
        broker: Broker,
        *,
        ensure_topic: Callable[[str], Awaitable[None]],
        ready: Callable[[], Awaitable[Any]],
        progress: Progress | None = None,
        auto_create: bool = True,
    ) -> None:
        self.broker = broker
        self._ensure_topic = ensure_topic
        self._ready = ready
        self._auto_create = auto_create
        self._begun: tuple[Source, Span] | None = None
        self._progress = progress
        self._origin = self
        self.transacting: Transacting | None = None
        self.rolls_back_on_error = True

    @property
    def progress(self) -> Progress | None:
        """Who is told how far a COPY is; all sessions of a client tell the same."""
        return self._origin._progress

    @progress.setter
    def progress(self, progress: Progress | None) -> None:
        self._origin._progress = progress

    def exclusive(
        self, *, timeout_seconds: float = SESSION_TRANSACTION_SECONDS, rolls_back_on_error: bool = True
    ) -> "Session":
        """A session of its own for one reader of statements, in which BEGIN opens a transaction.

        A statement that fails rolls it back, if `rolls_back_on_error`.
        """
        session = Session(
            self.broker,
            ensure_topic=self._ensure_topic,
            ready=self._ready,
            auto_create=self._auto_create,
        )
        session._origin = self._origin
        session.transacting = Transacting(self.broker, auto_create=self._auto_create, timeout_seconds=timeout_seconds)
        session.rolls_back_on_error = rolls_back_on_error
        return session

    @property
    def open_transaction(self) -> tuple[Source, Span] | None:
        """Where the transaction began that is open, if one is."""
        return self._begun if self.transacting is not None and self.transacting.is_open else None

    async def end(self) -> bool:
        """Roll back what is open; whether something was."""
        return self.transacting is not None and await self.transacting.give_up()

    async def execute(self, text: str, params: Mapping[str, Any] | None = None) -> Result:
        """Run the one statement of a text."""
        return await self.execute_statement(parse(text), Source(text), params)

    async def query(self, text: str, params: Mapping[str, Any] | None = None) -> Result:
        """Run the one statement of a text, which must only ask."""
        statement, source = parse(text), Source(text)
        if not isinstance(statement, _QUERIES):
            raise GqlError(
                "query() takes a SELECT, SHOW, DESCRIBE or EXPLAIN; use execute()",
                span=statement.span,
                source=source,
            )
        return await self.execute_statement(statement, source, params)

    async def execute_statement(
        self, statement: ast.Statement, source: Source, params: Mapping[str, Any] | None = None
    ) -> Result:
        """Run a statement that was parsed from `source`."""
        if isinstance(statement, ast.Begin) and self.open_transaction is None:
            self._begun = (source, statement.span)
        try:
            planned = await self.plan(statement, source, params)
            executor = Executor(self.broker, params or {}, self._ensure_topic, self.progress, self.transacting)
            return await executor.run(planned)
        except GeodeError as error:
            await self._failed(error)
            raise placed(error, source, statement.span) from error.__cause__

    async def _failed(self, error: GeodeError) -> None:
        """A statement has failed: what was to be stored together with it is not stored."""
        begun = self.open_transaction
        if begun is not None and self.rolls_back_on_error:
            await self.end()
            line, _ = begun[0].position(begun[1].start)
            told(error, f"in line {line}")

    async def plan(
        self, statement: ast.Statement, source: Source, params: Mapping[str, Any] | None = None
    ) -> nodes.Plan:
        """Plan a statement without running it."""
        await self._ready()
        try:
            return await Planner(self.broker, params).plan(statement)
        except GeodeError as error:
            raise placed(error, source, statement.span) from error.__cause__
        except RecursionError:
            raise GeodeError("the statement is nested too deeply") from None
