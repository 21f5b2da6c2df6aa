"""Scripts: statements one after the other, with subscriptions that run beside them.

A line `\\i other.gql` stands for the statements of another file, named from the folder of the script it stands in.

A SUBSCRIBE takes its place and the script goes on. After every statement all open subscriptions are given what has been
published before the result of the statement is told, so that the output of a script does not depend on chance. At the end
every subscription has delivered what was published before it is closed; one with LIMIT or TIMEOUT is waited for, one with
FOLLOW keeps the script running until it is cancelled.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geode_client.broker.subscription import Subscription
from geode_client.errors import GeodeError, GqlError, TopicNotFound
from geode_client.grammar import ast, scan
from geode_client.grammar.parser import parse_piece
from geode_client.grammar.source import Source, Span
from geode_client.message import Message
from geode_client.query import plan
from geode_client.query.places import name_span
from geode_client.query.result import Result
from geode_client.query.session import Session

OnStatement = Callable[[ast.Statement, str], None]
OnResult = Callable[[ast.Statement, Result], None]
OnMessage = Callable[[Subscription, Message], None]
OnEnd = Callable[[Subscription, str | None], None]
"""The subscription, and why it ended before the script did, where it did."""

INCLUDES_DEPTH_MAX = 16


def _ignore(*_: Any) -> None:
    """What nobody asked to hear."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what happens: a statement begins, a result is there, a message came, a subscription has ended."""

    on_statement: OnStatement = _ignore
    on_result: OnResult = _ignore
    on_message: OnMessage = _ignore
    on_end: OnEnd = _ignore


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a script, its text, and the text it stands in; or the error that stands in its place."""

    statement: "ast.Statement | GqlError"
    text: str
    source: Source


class ScriptError(GeodeError):
    """An error of a script, with the place of its statement; `error` is what went wrong."""

    def __init__(self, error: GeodeError, source: Source, span: Span) -> None:
        error.at(source, name_span(error, source, span))
        super().__init__(error.text)
        self.error = error
        self.source = error.source
        self.span = error.span
        self.hint = error.hint

    def render(self) -> str:
        """`file:line:column: message`, the line, the caret, the hint and the notes."""
        return self.error.render()


@dataclass(slots=True)
class _Live:
    """A subscription that runs beside the script."""

    statement: ast.Subscribe
    source: Source
    subscription: Subscription
    finite: bool
    follow: bool
    task: "asyncio.Task[None] | None" = None
    note: str | None = None
    is_told: bool = False


OnError = Callable[[ScriptError], None]


class Script:
    """The statements of a text; parsed whole before anything of it runs.

    With `keep_going` a statement that cannot be parsed is a step of its own: an error that is told when its turn comes.
    """

    def __init__(self, source: Source, *, keep_going: bool = False, path: Path | None = None) -> None:
        self.source = source
        self.keep_going = keep_going
        self._live: list[_Live] = []
        self.steps: list[Step] = list(_steps(source, path, keep_going, ()))

    @property
    def statements(self) -> list[tuple[ast.Statement, str]]:
        """The statements that could be parsed, and their texts."""
        return [(step.statement, step.text) for step in self.steps if not isinstance(step.statement, GqlError)]

    @classmethod
    def read(cls, path: Path, *, keep_going: bool = False) -> "Script":
        """The script in a file; raises GeodeError when it cannot be read, GqlSyntaxError when it is none."""
        return cls(read_source(path), keep_going=keep_going, path=path)

    async def check(
        self, session: Session, params: Mapping[str, Any] | None = None, on_error: OnError | None = None
    ) -> list[plan.Plan]:
        """Plan every statement and run none. Topics that the script itself makes are not there yet, and are let pass."""
        made: set[str] = set()
        plans: list[plan.Plan] = []
        for step in self.steps:
            try:
                plans.append(await session.plan(_parsed(step), step.source, params))
            except GeodeError as error:
                if getattr(error, "name", None) not in made or isinstance(error, GqlError):
                    _tell(_placed(error, step), on_error)
            made |= _topics_made(step.statement)
        return plans

    async def run(
        self,
        session: Session,
        params: Mapping[str, Any] | None = None,
        listener: Listener | None = None,
        on_error: OnError | None = None,
    ) -> list[Result]:
        """Run all statements; gives one Result a statement.

        The first error ends the script, as a ScriptError; with `on_error` each is told there and the script goes on.
        """
        listener = listener or Listener()
        results: list[Result] = []
        session = session.exclusive()
        try:
            for step in self.steps:
                try:
                    results.append(await self._step(session, step, params, listener))
                except ScriptError as error:
                    _tell(error, on_error)
            try:
                await self._finish()
                self._check_transaction(session)
            except ScriptError as error:
                _tell(error, on_error)
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

    async def _step(self, session: Session, step: Step, params: Mapping[str, Any] | None, listener: Listener) -> Result:
        try:
            statement = _parsed(step)
            listener.on_statement(statement, step.text)
            result = await session.execute_statement(statement, step.source, params)
        except GeodeError as error:
            raise _placed(error, step) from error
        if result.subscription is not None:
            self._start(statement, step.source, result.subscription, listener)
        await self._deliver()
        listener.on_result(statement, result)
        return result

    def _start(self, statement: ast.Statement, source: Source, subscription: Subscription, listener: Listener) -> None:
        assert isinstance(statement, ast.Subscribe)
        finite = statement.limit is not None or statement.timeout is not None or not subscription.request.follow
        live = _Live(statement, source, subscription, finite, statement.follow is True)
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
                if error is None or live.is_told:
                    continue
                live.is_told = True
                if isinstance(error, GeodeError):
                    raise ScriptError(error, live.source, live.statement.span) from error
                raise error

    async def _close(self, listener: Listener) -> None:
        for live in self._live:
            if live.task is not None:
                live.task.cancel()
                await asyncio.wait({live.task})
            await live.subscription.close()
            listener.on_end(live.subscription, live.note)
        self._live.clear()


def read_source(path: Path) -> Source:
    """The text of a file; raises GeodeError when it cannot be read."""
    try:
        return Source(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        raise GeodeError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise GeodeError(f"{path}: this is no UTF-8 text (byte {error.start})") from error


def _steps(source: Source, path: Path | None, keep_going: bool, outer: tuple[Path, ...]) -> Iterator[Step]:
    place = 0
    while place < len(source.text):
        included = scan.include_at(source, place)
        if included is not None:
            name, span, place = included
            yield from _included(source, span, name, path, keep_going, outer)
            continue
        try:
            piece, following = scan.next_piece(source, place)
            if piece is not None:
                statement = parse_piece(source, piece)
                yield Step(statement, source.text[statement.span.start : piece.end].strip(), source)
            place = following
        except GqlError as error:
            if not keep_going:
                raise
            yield Step(error.at(source), "", source)
            place = scan.after_error(source, place)


def _included(
    source: Source, span: Span, name: str, path: Path | None, keep_going: bool, outer: tuple[Path, ...]
) -> Iterator[Step]:
    found = (path.parent if path is not None else Path()) / Path(name.strip("'\"")).expanduser()
    outer = (*outer, path.resolve()) if path is not None else outer
    try:
        if found.resolve() in outer:
            raise GqlError(f"{found} would run itself again and again")
        if len(outer) >= INCLUDES_DEPTH_MAX:
            raise GqlError(f"scripts run scripts at most {INCLUDES_DEPTH_MAX} deep")
        inner = read_source(found)
    except GeodeError as error:
        wrong = GqlError(str(error), span=span, source=source)
        if not keep_going:
            raise wrong from error
        yield Step(wrong, "", source)
        return
    yield from _steps(inner, found, keep_going, outer)


def _parsed(step: Step) -> ast.Statement:
    if isinstance(step.statement, GqlError):
        raise step.statement
    return step.statement


def _placed(error: GeodeError, step: Step) -> ScriptError:
    span = step.statement.span
    return ScriptError(error, step.source, span or Span(0, 0))


def _tell(error: ScriptError, on_error: OnError | None) -> None:
    if on_error is None:
        raise error
    on_error(error)


async def _read(live: _Live, listener: Listener) -> None:
    try:
        async for message in live.subscription:
            listener.on_message(live.subscription, message)
    except TopicNotFound:
        live.note = "its topic was dropped"


def _topics_made(statement: "ast.Statement | GqlError") -> set[str]:
    match statement:
        case (
            ast.CreateTopic(name=name)
            | ast.Publish(topic=name)
            | ast.Insert(topic=name)
            | ast.InsertQuery(topic=name)
            | ast.CopyFrom(topic=name)
        ):
            return {name}
        case ast.Subscribe(pattern=pattern):
            return {pattern}
        case _:
            return set()
