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
from geode_client.grammar.source import Source
from geode_client.query import plan as nodes
from geode_client.query.copying import Progress
from geode_client.query.executor import Executor
from geode_client.query.planner import Planner
from geode_client.query.result import Result

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
    ) -> None:
        self.broker = broker
        self._ensure_topic = ensure_topic
        self._ready = ready
        self.progress = progress

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
        planned = await self.plan(statement, source, params)
        executor = Executor(self.broker, params or {}, self._ensure_topic, self.progress)
        try:
            return await executor.run(planned)
        except GqlError as error:
            raise error.at(source, statement.span) from error.__cause__

    async def plan(
        self, statement: ast.Statement, source: Source, params: Mapping[str, Any] | None = None
    ) -> nodes.Plan:
        """Plan a statement without running it."""
        await self._ready()
        try:
            return await Planner(self.broker, params).plan(statement)
        except GqlError as error:
            raise error.at(source, statement.span) from error.__cause__
        except RecursionError:
            raise GeodeError("the statement is nested too deeply") from None
