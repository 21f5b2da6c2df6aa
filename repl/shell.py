"""The shell: a prompt at once, and behind it the engine, which is loaded while a person begins to type.

Ctrl-C gives up the line or the statement at hand and never leaves; Ctrl-D leaves. Everything that runs a statement is
imported after the first prompt stands on the screen.
"""

import asyncio
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prompt_toolkit.patch_stdout import patch_stdout

from geode_client.repl.commands import read_command
from geode_client.repl.completer import StatementCompleter
from geode_client.repl.interrupts import caught, forget_early
from geode_client.repl.prompt import Prompt
from geode_client.repl.settings import Settings

if TYPE_CHECKING:
    from geode_client.repl.evaluator import Evaluator

YES = ("y", "yes")


async def shell(target: str | None, settings: Settings, parameters: Mapping[str, Any]) -> None:
    """Read statements and run them until Ctrl-D. Raises GeodeError when the target cannot be opened."""
    await _Shell(target, settings, parameters).run()


class _Shell:
    def __init__(self, target: str | None, settings: Settings, parameters: Mapping[str, Any]) -> None:
        self._target = target
        self._settings = settings
        self._parameters = parameters
        self._completer = StatementCompleter()
        self._prompt = Prompt(settings, self._completer, self._is_in_transaction)
        self._engine: asyncio.Task[Evaluator] | None = None

    async def run(self) -> None:
        print("Geode. Statements end with ;  \\? explains, Tab completes, Ctrl-D leaves.")
        self._prompt.on_first_display(self._begin)
        with caught():
            try:
                while await self._step():
                    pass
            finally:
                await self._close()

    async def _step(self) -> bool:
        forget_early()
        try:
            with patch_stdout():
                text = await self._prompt.read()
        except KeyboardInterrupt:
            return True
        except EOFError:
            return False
        if not text.strip().strip(";").strip():
            return True
        if read_command(text) == ("q", ""):
            return False
        return await (await self._engine_of()).run(text)

    def _is_in_transaction(self) -> bool:
        engine = self._engine
        if engine is None or not engine.done() or engine.cancelled() or engine.exception() is not None:
            return False
        return engine.result().is_in_transaction

    def _begin(self) -> None:
        self._engine = asyncio.ensure_future(self._load())
        self._engine.add_done_callback(self._loaded)

    async def _engine_of(self) -> "Evaluator":
        if self._engine is None:
            self._begin()
        assert self._engine is not None
        return await self._engine

    async def _load(self) -> "Evaluator":
        # The modules come in on a thread, so that the line can be edited meanwhile.
        await asyncio.to_thread(_import_engine)
        from geode_client.client import Client, broker_of
        from geode_client.repl.evaluator import Evaluator
        from geode_client.repl.known import Known

        client = Client(self._target)
        await client.open()
        evaluator = Evaluator(client, self._settings, self._parameters, self._ask)
        self._completer.begin(Known(broker_of(client)), evaluator.state.parameters)
        return evaluator

    def _loaded(self, task: "asyncio.Task[Evaluator]") -> None:
        """A store that cannot be opened ends the shell at once, and not when the first statement is written."""
        error = None if task.cancelled() else task.exception()
        app = self._prompt.session.app
        if error is not None and app.is_running and not app.is_done:
            app.exit(exception=error, style="class:aborting")

    async def _ask(self, question: str) -> bool:
        """Ask the person; anything but yes is no."""
        if not sys.stdin.isatty():
            return True
        from prompt_toolkit import PromptSession

        asking: PromptSession[str] = PromptSession(message=[("bold ansiyellow", f"{question} [y/N] ")])
        try:
            return (await asking.prompt_async(handle_sigint=False)).strip().casefold() in YES
        except (KeyboardInterrupt, EOFError):
            return False

    async def _close(self) -> None:
        if self._engine is None:
            return
        if not self._engine.done():
            self._engine.cancel()
            await asyncio.wait({self._engine})
        if not self._engine.cancelled() and self._engine.exception() is None:
            await self._engine.result().close()


def _import_engine() -> None:
    """Load what statements need, most of all the parser's tables and the printer of tables."""
    from geode_client.grammar.completion import place_at
    from geode_client.local import broker  # noqa: F401
    from geode_client.query import session  # noqa: F401
    from geode_client.repl import evaluator, meta  # noqa: F401

    place_at("SELECT ", 7)
