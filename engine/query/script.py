"""Scripts: statements one after the other, with subscriptions that run beside them.

A SUBSCRIBE takes its place and the script goes on. After every statement all open subscriptions are given what has been
published before the result of the statement is told, so that the output of a script does not depend on chance. At the end
every subscription has delivered what was published before it is closed; one with LIMIT or TIMEOUT is waited for, one with
FOLLOW keeps the script running until it is cancelled.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geode_client.errors import GeodeError, GqlError, TopicNotFound
from geode_client.grammar import ast
from geode_client.grammar.errors import notes
from geode_client.grammar.parser import parse_piece
from geode_client.grammar.scan import pieces
from geode_client.grammar.source import Source, Span
from geode_client.message import Message
from geode_client.query import plan
from geode_client.query.result import Result
from geode_client.query.session import Session
from geode_client.subscription import Subscription

OnStatement = Callable[[ast.Statement, str], None]
OnResult = Callable[[ast.Statement, Result], None]
OnMessage = Callable[[Subscription, Message], None]
OnEnd = Callable[[Subscription, str | None], None]
"""The subscription, and why it ended before the script did, where it did."""


def _ignore(*_: Any) -> None:
    """What nobody asked to hear."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what happens: a statement begins, a result is there, a message came, a subscription has ended."""

    on_statement: OnStatement = _ignore
    on_result: OnResult = _ignore
    on_message: OnMessage = _ignore
    on_end: OnEnd = _ignore


class ScriptError(GeodeError):
    """An error of a script, with the place of its statement; `error` is what went wrong."""

    def __init__(self, error: GeodeError, source: Source, span: Span) -> None:
        super().__init__(str(error))
        self.error = error
        self.source = source
        self.span = span

    def render(self) -> str:
        """`file:line:column: message`, the line, the caret and the hint."""
        if isinstance(self.error, GqlError):
            return self.error.at(self.source, self.span).render()
        line, column = self.source.position(self.span.start)
        lines = [f"{self.source.name}:{line}:{column}: {self.error}", self.source.caret(self.span), *notes(self.error)]
        return "\n".join(lines)


@dataclass(slots=True)
class _Live:
    """A subscription that runs beside the script."""

    statement: ast.Subscribe
    subscription: Subscription
    finite: bool
    follow: bool
    task: "asyncio.Task[None] | None" = None
    note: str | None = None


class Script:
    """The statements of a text; parsed whole before anything of it runs."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._live: list[_Live] = []
        self.statements: list[tuple[ast.Statement, str]] = []
        for piece in pieces(source):
            statement = parse_piece(source, piece)
            self.statements.append((statement, source.text[statement.span.start : piece.end].strip()))

    @classmethod
    def read(cls, path: Path) -> "Script":
        """The script in a file; raises GeodeError when it cannot be read, GqlSyntaxError when it is none."""
        try:
            return cls(Source(path.read_text(encoding="utf-8-sig"), str(path)))
        except OSError as error:
            raise GeodeError(f"{path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise GeodeError(f"{path}: this is no UTF-8 text (byte {error.start})") from error

    async def check(self, session: Session, params: Mapping[str, Any] | None = None) -> list[plan.Plan]:
        """Plan every statement and run none. Topics that the script itself makes are not there yet, and are let pass."""
        made: set[str] = set()
        plans: list[plan.Plan] = []
        for statement, _ in self.statements:
            try:
                plans.append(await session.plan(statement, self.source, params))
            except GeodeError as error:
                if getattr(error, "name", None) not in made or isinstance(error, GqlError):
                    raise ScriptError(error, self.source, statement.span) from error
            made |= _topics_made(statement)
        return plans

    async def run(
        self, session: Session, params: Mapping[str, Any] | None = None, listener: Listener | None = None
    ) -> list[Result]:
        """Run all statements; gives one Result a statement. The first error ends the script, as a ScriptError."""
        listener = listener or Listener()
        results: list[Result] = []
        session = session.exclusive()
        try:
            for statement, text in self.statements:
                listener.on_statement(statement, text)
                result = await self._step(session, statement, params)
                if result.subscription is not None:
                    self._start(statement, result.subscription, listener)
                await self._deliver()
                listener.on_result(statement, result)
                results.append(result)
            await self._finish()
            self._check_transaction(session)
        finally:
            await session.end()
            await self._close(listener)
        return results

    def _check_transaction(self, session: Session) -> None:
        begun = session.open_transaction
        if begun is not None:
            error = GqlError(
                "the transaction that begins here is never committed: it was rolled back",
                hint="COMMIT; stores what stands between",
            )
            raise ScriptError(error, *begun)

    async def _step(self, session: Session, statement: ast.Statement, params: Mapping[str, Any] | None) -> Result:
        try:
            return await session.execute_statement(statement, self.source, params)
        except GeodeError as error:
            raise ScriptError(error, self.source, statement.span) from error

    def _start(self, statement: ast.Statement, subscription: Subscription, listener: Listener) -> None:
        assert isinstance(statement, ast.Subscribe)
        finite = statement.limit is not None or statement.timeout is not None or not subscription.request.follow
        live = _Live(statement, subscription, finite, statement.follow is True)
        live.task = asyncio.create_task(_read(live, listener))
        self._live.append(live)

    async def _deliver(self) -> None:
        """Return when every open subscription has told all that was published before."""
        for live in self._live:
            # A reader that is behind never waits for anything but its turn, so this ends.
            while live.task is not None and not live.task.done() and not await live.subscription.caught_up():
                await asyncio.sleep(0)
        self._raise_failures()

    async def _finish(self) -> None:
        waited = [live.task for live in self._live if (live.finite or live.follow) and live.task is not None]
        if waited:
            await asyncio.wait(waited)
        await self._deliver()

    def _raise_failures(self) -> None:
        for live in self._live:
            if live.task is not None and live.task.done() and not live.task.cancelled():
                error = live.task.exception()
                if isinstance(error, GeodeError):
                    raise ScriptError(error, self.source, live.statement.span) from error
                if error is not None:
                    raise error

    async def _close(self, listener: Listener) -> None:
        for live in self._live:
            if live.task is not None:
                live.task.cancel()
                await asyncio.wait({live.task})
            await live.subscription.close()
            listener.on_end(live.subscription, live.note)
        self._live.clear()


async def _read(live: _Live, listener: Listener) -> None:
    try:
        async for message in live.subscription:
            listener.on_message(live.subscription, message)
    except TopicNotFound:
        live.note = "its topic was dropped"


def _topics_made(statement: ast.Statement) -> set[str]:
    match statement:
        case ast.CreateTopic(name=name) | ast.Publish(topic=name) | ast.Insert(topic=name) | ast.CopyFrom(topic=name):
            return {name}
        case ast.Subscribe(pattern=pattern):
            return {pattern}
        case _:
            return set()
