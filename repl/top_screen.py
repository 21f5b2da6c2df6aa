"""The live screen of `geode top`: draws what `top.py` makes of the latest look, and listens to keys."""

import asyncio
import io
import time
from contextlib import suppress

from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import FormattedTextControl, Layout, Window
from rich.console import Console, Group
from rich.text import Text

from geode_client.client import Client, broker_of
from geode_client.errors import GeodeError
from geode_client.repl import top

HEAD_LINES = 5
LOOK_SHARE = 4.0
KEYS = "q leave · t topics · g groups · s subscribers · ← → sort by · r reverse · ↑ ↓ PgUp PgDn scroll · space pause"


class TopScreen:
    """Topics, groups or subscribers, in the order of a column, looked at again every `interval` seconds."""

    def __init__(self, client: Client, pattern: str, sort: str | None, interval: float) -> None:
        self._client = client
        self._pattern = pattern
        self._interval = interval
        self._screen = "topics"
        self._sort = sort
        self._descending: bool | None = None
        self._first = 0
        self._is_paused = False
        self._picture: top.Picture | None = None
        self._error: GeodeError | None = None
        window = Window(FormattedTextControl(self._drawn), always_hide_cursor=True)
        self._application: Application[None] = Application(
            Layout(window), key_bindings=self._bindings(), full_screen=True, mouse_support=False
        )

    async def run(self) -> None:
        """Show it until its user leaves, or presses Ctrl-C."""
        self._picture = await top.look(broker_of(self._client), self._pattern)
        looking = asyncio.ensure_future(self._look_again())
        try:
            await self._application.run_async(handle_sigint=False)
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    async def _look_again(self) -> None:
        taken = 0.0
        while True:
            # Looking at very many topics takes a while, and must not become all that this machine does.
            await asyncio.sleep(max(self._interval, LOOK_SHARE * taken))
            if self._is_paused:
                continue
            began = time.monotonic()
            try:
                self._picture = await top.look(broker_of(self._client), self._pattern, self._picture)
                self._error = None
            except GeodeError as error:
                # A store that cannot be read for a moment is looked at again; what was seen stays on the screen.
                self._error = error
            taken = time.monotonic() - began
            self._application.invalidate()

    # ── drawing ──
    def _drawn(self) -> ANSI:
        size = self._application.output.get_size()
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=True, width=size.columns, color_system="256", highlight=False)
        if self._picture is not None:
            room = max(1, size.rows - HEAD_LINES)
            count = len(getattr(self._picture, self._screen))
            self._first = max(0, min(self._first, count - room))
            table = top.table_of(
                self._picture, self._screen, self._sort, first=self._first, limit=room, descending=self._descending
            )
            console.print(Group(self._head(self._picture), Text(KEYS, style="dim", no_wrap=True), Text(""), table))
        return ANSI(stream.getvalue().rstrip("\n"))

    def _head(self, picture: top.Picture) -> Text:
        head = top.head_of(picture)
        if self._is_paused:
            head.append("  paused", style="bold yellow")
        if self._error is not None:
            head.append(f"  {self._error}", style="bold red")
        head.no_wrap = True
        return head

    # ── keys ──
    def _show(self, screen: str) -> None:
        self._screen, self._first, self._descending = screen, 0, None

    def _move_sort(self, step: int) -> None:
        names = [column.name for column in top.SCREENS[self._screen]]
        place = names.index(self._sort) if self._sort in names else 0
        self._sort = names[(place + step) % len(names)]
        self._descending = None

    def _reverse(self) -> None:
        columns = {column.name: column for column in top.SCREENS[self._screen]}
        column = columns.get(self._sort or "", top.SCREENS[self._screen][0])
        self._descending = not (column.right if self._descending is None else self._descending)

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        page = 20
        actions = {
            ("t",): lambda: self._show("topics"),
            ("g",): lambda: self._show("groups"),
            ("s",): lambda: self._show("subscribers"),
            ("right", ">"): lambda: self._move_sort(1),
            ("left", "<"): lambda: self._move_sort(-1),
            ("r",): self._reverse,
            ("space",): self._pause,
            ("down",): lambda: self._scroll(1),
            ("up",): lambda: self._scroll(-1),
            ("pagedown",): lambda: self._scroll(page),
            ("pageup",): lambda: self._scroll(-page),
        }
        for keys, action in actions.items():
            for key in keys:
                bindings.add(key)(lambda event, action=action: action())

        @bindings.add("q")
        @bindings.add("c-c")
        @bindings.add("c-d")
        def _(event: KeyPressEvent) -> None:
            with suppress(Exception):  # it may be leaving already
                event.app.exit()

        return bindings

    def _pause(self) -> None:
        self._is_paused = not self._is_paused

    def _scroll(self, lines: int) -> None:
        self._first = max(0, self._first + lines)
