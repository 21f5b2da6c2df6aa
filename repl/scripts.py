"""Running a script for the command line: what `geode run` and `geode -c` do."""

import sys
from collections.abc import Mapping
from typing import Any

from geode_client.broker.subscription import Subscription
from geode_client.client import Client, session_of
from geode_client.grammar import ast
from geode_client.message import Message
from geode_client.query.result import Result
from geode_client.query.script import Listener, Script, ScriptError
from geode_client.repl.errors import tell
from geode_client.repl.progress import CopyProgress
from geode_client.repl.render import Output, counted, safe

ECHO_LINES_MAX = 20


class Narrator:
    """Tells an output what a script does; names the subscription of a message where several run."""

    def __init__(self, output: Output, progress: CopyProgress, *, echo: bool) -> None:
        self._output = output
        self._progress = progress
        self._echo = echo
        self._labels: dict[int, str] = {}

    def listener(self) -> Listener:
        return Listener(
            on_statement=self._statement, on_result=self._result, on_message=self._message, on_end=self._output.ended
        )

    def _statement(self, statement: ast.Statement, text: str) -> None:
        if self._echo:
            lines = [safe(line) for line in text.splitlines()]
            more = ["…"] if len(lines) > ECHO_LINES_MAX else []
            sys.stdout.write("geode> " + "\n   ··· ".join(lines[:ECHO_LINES_MAX] + more) + "\n")

    def _result(self, statement: ast.Statement, result: Result) -> None:
        if result.subscription is not None:
            self._labels[id(result.subscription)] = f"subscription {len(self._labels) + 1}"
        self._progress.clear()
        self._output.result(result)

    def _message(self, subscription: Subscription, message: Message) -> None:
        label = self._labels.get(id(subscription), "") if len(self._labels) > 1 else ""
        self._output.message(message, label=label)
        self._output.flush()


async def run_script(client: Client, script: Script, params: Mapping[str, Any], output: Output, *, echo: bool) -> int:
    """Run a script and show what happens; gives the exit code. Raises ScriptError, unless the script keeps going."""
    failed: list[ScriptError] = []

    def note(error: ScriptError) -> None:
        failed.append(error)
        sys.stdout.flush()
        tell(error)

    async with client:
        progress = session_of(client).progress = CopyProgress()
        listener = Narrator(output, progress, echo=echo).listener()
        try:
            await script.run(session_of(client), params, listener, note if script.keep_going else None)
        finally:
            progress.clear()
    return 1 if failed else 0


async def check_script(client: Client, script: Script, params: Mapping[str, Any]) -> int:
    """Plan every statement of a script and run none; tells every error, and gives the exit code."""
    failed: list[ScriptError] = []

    def note(error: ScriptError) -> None:
        failed.append(error)
        tell(error)

    async with client:
        await script.check(session_of(client), params, note)
    wrong = f", {counted(len(failed), 'error')}" if failed else ""
    sys.stderr.write(f"{counted(len(script.steps), 'statement')}{wrong}\n")
    return 1 if failed else 0
