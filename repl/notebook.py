"""Geode in a notebook: `%load_ext geode_client`, then cells that begin with `%%geode`.

    %geode ./data                     the store of the cells that follow
    %%geode
    SELECT * FROM orders LIMIT 5;

Results show as tables. A SUBSCRIBE shows its newest messages in a table that changes as they come, until its LIMIT, its TIMEOUT
or the stop button; a notebook cell blocks meanwhile. `$name` takes its value from the notebook's variable of that name.
"""

import html
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

import IPython.display as shown
from IPython.core.magic import Magics, line_cell_magic, magics_class

from geode_client.client import Client, session_of
from geode_client.errors import GeodeError
from geode_client.grammar import ast
from geode_client.grammar.source import Source
from geode_client.message import Message
from geode_client.query.result import Result
from geode_client.query.script import Script
from geode_client.repl.errors import error_text
from geode_client.repl.render import counted, json_text, safe
from geode_client.sync import SyncClient

MESSAGES_SHOWN = 20
REDRAW_SECONDS = 0.2

display: Any = shown.display
HTML: Any = shown.HTML


@magics_class
class GeodeMagics(Magics):
    """The magic `geode`, for a line and for a cell."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._target: str | None = None
        self._client: SyncClient | None = None

    @line_cell_magic
    def geode(self, line: str, cell: str | None = None) -> Any:
        """Run statements; a line alone that holds no statement names the store."""
        if cell is None:
            if " " not in line.strip() and not line.strip().endswith(";"):
                return self._use(line.strip())
            cell, line = line, ""
        if line.strip():
            self._use(line.strip())
        try:
            return self._run(Source(cell, "<cell>"))
        except GeodeError as error:
            display(HTML(f"<pre>{html.escape(error_text(error, colour=False))}</pre>"))
            return None

    def _use(self, target: str) -> None:
        """Work on this store from now on; without a name say which it is."""
        if target:
            self.close()
            self._target = target
        print(f"geode works on {safe(self._opened().target)}")

    def _opened(self) -> SyncClient:
        if self._client is None:
            self._client = SyncClient(self._target)
        return self._client

    def close(self) -> None:
        """Let go of the store."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _run(self, source: Source) -> Result | None:
        """Run the statements one after the other; the last result is the cell's value, those before are displayed."""
        client, last = self._opened(), None
        for statement, _ in Script(source).statements:
            if last is not None:
                display(last)
            last = client.run(partial(_executed, statement=statement, source=source, parameters=self._variables()))
            for notice in last.notices:
                display(HTML(f"<em>note: {html.escape(notice)}</em>"))
            if last.subscription is not None:
                self._tail(client, last)
                last = None
        return last

    def _variables(self) -> Mapping[str, Any]:
        """The notebook's variables, as parameters; only those a statement names are looked at."""
        shell: Any = self.shell
        found: Mapping[str, Any] = shell.user_ns
        return found

    def _tail(self, client: SyncClient, result: Result) -> None:
        table = LiveTable(result)
        handle = display(table, display_id=True)
        drawn = 0.0
        try:
            with client.messages(result) as messages:
                for message in messages:
                    table.add(message)
                    if time.monotonic() - drawn >= REDRAW_SECONDS:
                        drawn = time.monotonic()
                        handle.update(table)
        except KeyboardInterrupt:
            table.note = "stopped"
        else:
            table.note = "ended"
        handle.update(table)


async def _executed(
    client: Client, *, statement: ast.Statement, source: Source, parameters: Mapping[str, Any]
) -> Result:
    return await session_of(client).execute_statement(statement, source, parameters)


class LiveTable:
    """The newest messages of a subscription, as HTML."""

    def __init__(self, result: Result) -> None:
        assert result.subscription is not None
        self._pattern = result.subscription.request.pattern
        self._newest: deque[Message] = deque(maxlen=MESSAGES_SHOWN)
        self._received = 0
        self.note = "live"

    def add(self, message: Message) -> None:
        self._newest.appendleft(message)
        self._received += 1

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("topic", "offset", "key", "data"))
        rows = "".join(f"<tr>{self._cells(message)}</tr>" for message in self._newest)
        caption = f"{self._pattern}: {counted(self._received, 'message')}, {self.note}"
        return f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _cells(self, message: Message) -> str:
        shown = (message.topic, message.offset, message.key or "", json_text(message.data))
        return "".join(f"<td>{html.escape(str(value))}</td>" for value in shown)

    def __repr__(self) -> str:
        return f"{self._pattern}: {counted(self._received, 'message')}, {self.note}"


def load(shell: Any) -> None:
    """What `%load_ext geode_client` does."""
    shell.register_magics(GeodeMagics(shell))


def unload(shell: Any) -> None:
    """What `%unload_ext geode_client` does."""
    magics = shell.magics_manager.registry.pop("GeodeMagics", None)
    if magics is not None:
        magics.close()
