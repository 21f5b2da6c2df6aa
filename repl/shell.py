"""The shell: statements until `;`, a history, and a live SUBSCRIBE that Ctrl-C ends.

Ctrl-C gives up the line or the statement at hand and never leaves; Ctrl-D leaves.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout

from geode_client.client import Client
from geode_client.errors import GeodeError
from geode_client.grammar.parser import statement_is_complete
from geode_client.grammar.source import Source
from geode_client.query.result import Result
from geode_client.query.script import Script
from geode_client.repl.render import Format, Output, counted, output_for, safe
from geode_client.repl.scripts import progress_on_terminal
from geode_client.subscription import Subscription

HELP = """\
Statements end with ; and may have several lines. Ctrl-C gives up what is at hand, Ctrl-D leaves.
  CREATE TOPIC orders;                      SHOW TOPICS;          DESCRIBE TOPIC orders;
  PUBLISH TO orders {"total": 12};          SUBSCRIBE TO orders WHERE total > 10;
  SELECT * FROM orders LIMIT 5;             SELECT topic_name, pending_messages FROM SYSTEM.topics;
Words: help, quit."""


async def shell(client: Client, kind: Format, params: Mapping[str, Any]) -> None:
    """Read statements and run them until Ctrl-D."""
    async with client:
        client.session.progress = progress_on_terminal()
        await _Shell(client, output_for(kind), params).run()


class _Shell:
    def __init__(self, client: Client, output: Output, params: Mapping[str, Any]) -> None:
        self._client = client
        self._output = output
        self._params = params
        self._prompt: PromptSession[str] = PromptSession(
            history=_history(),
            multiline=Condition(self._is_unfinished),
            prompt_continuation=lambda width, line, wrapped: ANSI(" " * (width - 2) + "\x1b[2m·\x1b[0m "),
            key_bindings=_bindings(),
            enable_open_in_editor=True,
        )

    def _is_unfinished(self) -> bool:
        text = self._prompt.default_buffer.text
        return bool(text.strip()) and not _is_word(text) and not statement_is_complete(text)

    async def run(self) -> None:
        print(f"Geode at {safe(self._client.broker.target)}. Statements end with ;  help explains, Ctrl-D leaves.")
        while True:
            try:
                with patch_stdout():
                    text = await self._prompt.prompt_async(ANSI("\x1b[36mgeode>\x1b[0m "))
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            match text.strip().rstrip(";").strip().lower():
                case "":
                    continue
                case "quit" | "exit" | "\\q" | ".quit" | ".exit":
                    return
                case "help" | "?" | ".help" | "\\?":
                    print(HELP)
                case _:
                    await self._run_text(text)

    async def _run_text(self, text: str) -> None:
        source = Source(text, "<shell>")
        try:
            # Each statement runs on its own: the shell is not a script, and a SUBSCRIBE in it stays in front.
            for statement, _ in Script(source).statements:
                interrupted = await _until_interrupt(self._run_statement(statement, source))
                if interrupted:
                    print("interrupted")
                    return
        except GeodeError as error:
            _tell(error)
        except OSError as error:
            _tell(GeodeError(f"{error.filename or 'system'}: {error.strerror or error}"))

    async def _run_statement(self, statement: Any, source: Source) -> None:
        started = time.perf_counter()
        result: Result = await self._client.session.execute_statement(statement, source, self._params)
        self._output.result(result)
        if result.subscription is not None:
            await self._tail(result.subscription)
        else:
            print(
                f"\x1b[2m{(time.perf_counter() - started) * 1000:.1f} ms\x1b[0m" if sys.stdout.isatty() else "",
                end="\n",
            )

    async def _tail(self, subscription: Subscription) -> None:
        """Show messages until Ctrl-C, or until the subscription ends by itself."""
        note: str | None = None
        if subscription.request.follow:
            print("\x1b[2mwaiting for messages; Ctrl-C ends it\x1b[0m")
        try:
            async for message in subscription:
                self._output.message(message, label="")
        except asyncio.CancelledError:
            note = "ended by Ctrl-C"
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        finally:
            await subscription.close()
        if subscription.missed:
            note = f"{note or 'ended'}; {counted(subscription.missed, 'message')} had been removed before"
        self._output.ended(subscription, note)


async def _until_interrupt(work: Awaitable[None]) -> bool:
    """Await work that Ctrl-C cancels; True when it was cancelled."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return True
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return False


def _tell(error: GeodeError) -> None:
    print("\n".join(safe(line) for line in error.render().split("\n")), file=sys.stderr)


def _is_word(text: str) -> bool:
    return text.strip().lower() in ("help", "?", ".help", "\\?", "quit", "exit", "\\q", ".quit", ".exit")


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        """Run what stands there, finished or not: the error says what is missing."""
        event.current_buffer.validate_and_handle()

    return bindings


def _history() -> History:
    """The history file, readable by its owner only; kept in memory where it cannot be written."""
    state = os.environ.get("XDG_STATE_HOME")
    folder = (Path(state) if state else Path.home() / ".local" / "state") / "geode"
    path = folder / "history"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        return FileHistory(str(path))
    return InMemoryHistory()
