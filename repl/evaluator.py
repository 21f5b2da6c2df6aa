"""What the shell does with a text: a command of its own, or statements one after the other.

Each statement of a text runs on its own: the shell is no script, and a SUBSCRIBE in it stays in front until it ends.
Ctrl-C cancels the statement that runs, and those behind it are not run.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from geode_client.client import Client, broker_of, session_of
from geode_client.errors import GeodeError
from geode_client.grammar import ast
from geode_client.grammar.source import Source
from geode_client.message import Message
from geode_client.query.result import Result
from geode_client.query.script import Listener, Script
from geode_client.repl.commands import read_command
from geode_client.repl.confirming import question_for
from geode_client.repl.errors import SHELL_NAME, redraws, tell
from geode_client.repl.interrupts import Interrupted, until_interrupt
from geode_client.repl.live import Tail
from geode_client.repl.paging import edit
from geode_client.repl.progress import CopyProgress
from geode_client.repl.prompt import split_command
from geode_client.repl.render import Format, Output, output_for
from geode_client.repl.screen import show_result
from geode_client.repl.settings import Settings

Ask = Callable[[str], Awaitable[bool]]
"""Puts a question to the person; True for yes."""


@dataclass(slots=True)
class State:
    """What the commands change."""

    format: Format
    expanded: str
    timing: bool
    pager: str
    parameters: dict[str, Any] = field(default_factory=dict)
    last: str = ""
    file: TextIO | None = None
    file_output: Output | None = None


class Evaluator:
    """Runs what is typed; `ask` is how it asks back, or None where nobody can answer."""

    def __init__(self, client: Client, settings: Settings, parameters: Mapping[str, Any], ask: Ask | None) -> None:
        self.client = client
        self._progress = session_of(client).progress = CopyProgress()
        # A wrong word must not undo what a person has put together so far.
        self.session = session_of(client).exclusive(rolls_back_on_error=False)
        self.state = State(
            Format(settings.format), settings.expanded, settings.timing, settings.pager, dict(parameters)
        )
        self._ask = ask if settings.confirm else None

    async def run(self, text: str) -> bool:
        """Run a text; gives whether the shell goes on. Errors are told, never raised."""
        from geode_client.repl.meta import run_command

        try:
            command = read_command(text)
            if command is not None:
                return await until_interrupt(run_command(self, *command))
            parts = split_command(text)
            if parts is not None:
                await until_interrupt(self._run_with_command(*parts))
            else:
                await self.run_statements(text)
        except Interrupted:
            # The terminal has written ^C where the cursor was.
            print("\r\x1b[Kinterrupted" if redraws(sys.stdout) else "interrupted")
        except GeodeError as error:
            tell(error)
        except OSError as error:
            tell(GeodeError(f"{error.filename or 'system'}: {error.strerror or error}"))
        except RecursionError:
            tell(GeodeError("a value or statement is nested too deeply"))
        return True

    async def _run_with_command(self, text: str, command: str) -> None:
        """A statement with a command behind it: `SELECT 1 \\watch 2`, `… \\gx`."""
        from geode_client.repl.meta import run_command

        name, _, argument = command[1:].strip().rstrip(";").partition(" ")
        self.state.last = text.strip()
        if name == "watch":
            await run_command(self, "watch", argument)
            return
        expanded = self.state.expanded
        if name in ("x", "gx", "G"):
            self.state.expanded = "on"
        try:
            await self._run_all(text)
        finally:
            self.state.expanded = expanded

    async def run_statements(self, text: str) -> None:
        """Run the statements of a text, one after the other."""
        self.state.last = text.strip() or self.state.last
        await until_interrupt(self._run_all(text))

    async def _run_all(self, text: str) -> None:
        source = Source(text, SHELL_NAME)
        for statement, _ in Script(source).statements:
            await self.run_one(statement, source)

    async def run_one(self, statement: ast.Statement, source: Source, *, quiet: bool = False) -> None:
        """Run one statement and show what it gives. Raises GeodeError."""
        question = await question_for(statement, broker_of(self.client)) if self._ask is not None else None
        if question is not None and self._ask is not None and not await self._ask(question):
            print("not done")
            return
        started = time.perf_counter()
        try:
            result = await self.session.execute_statement(statement, source, self.state.parameters)
        finally:
            self._progress.clear()
        seconds = time.perf_counter() - started
        if result.subscription is not None:
            await self.tail(result)
            return
        await self.show(result, seconds if self.state.timing and not quiet else None)

    async def show(self, result: Result, seconds: float | None = None) -> None:
        """Show a result as the commands have set it: on the screen, or into the file of \\o."""
        state = self.state
        if state.file_output is not None:
            state.file_output.result(result)
        elif state.format in (Format.TABLE, Format.VERTICAL):
            vertical, is_auto = state.format is Format.VERTICAL or state.expanded == "on", state.expanded == "auto"
            await show_result(result, pager=state.pager, vertical=vertical, expanded_auto=is_auto, seconds=seconds)
        else:
            output_for(state.format).result(result)
            if not result.columns and result.message is not None:
                print(result.message)

    async def tail(self, result: Result) -> None:
        """Show the messages of a subscription until it ends, or Ctrl-C."""
        assert result.subscription is not None
        kind = (
            Format.VERTICAL if self.state.expanded == "on" and self.state.format is Format.TABLE else self.state.format
        )
        output = self.state.file_output or output_for(kind)
        for notice in result.notices:
            print(f"note: {notice}")
        await Tail(self.client, result.subscription, output, sys.stdout).run()

    @property
    def is_in_transaction(self) -> bool:
        """Whether BEGIN has been said, and neither COMMIT nor ROLLBACK since."""
        return self.session.open_transaction is not None

    async def close(self) -> None:
        """Roll back what is open, and let go of files and the store."""
        if await self.session.end():
            print("the open transaction was rolled back")
        self.write_to(None)
        await self.client.close()

    async def include(self, path: Path) -> None:
        """Run a script: as `geode run`, but on this shell's connection."""
        if self.is_in_transaction:
            raise GeodeError("a script has transactions of its own: end this one with COMMIT or ROLLBACK first")
        script = await asyncio.to_thread(Script.read, path)
        output = self.state.file_output or output_for(self.state.format)
        listener = Listener(
            on_result=lambda _, result: output.result(result),
            on_message=lambda _, message: _show_message(output, message),
            on_end=output.ended,
        )
        await script.run(session_of(self.client).exclusive(), self.state.parameters, listener)

    async def edit(self, path: Path | None) -> str:
        """Let the person edit the last statement, or a file; gives the text."""
        return await edit(self.state.last, path)

    def write_to(self, path: Path | None) -> None:
        """Send results into a file from now on; None: to the screen again."""
        if self.state.file is not None:
            self.state.file.close()
        self.state.file = self.state.file_output = None
        if path is not None:
            # It stays open until the next \o: a context would close it.
            self.state.file = path.expanduser().open("w", encoding="utf-8")
            self.state.file_output = output_for(self.state.format, self.state.file)


def _show_message(output: Output, message: Message) -> None:
    output.message(message, label="")
    output.flush()
