"""Results and messages for people: tables that fit the screen, one field a line, one line a message.

A table that is wider than the screen has its cells folded; whoever shows it may ask for its natural width instead. Colours
appear only on a terminal that wants them (NO_COLOR is heeded).
"""

import io
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TextIO

import msgspec
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from geode_client.broker.subscription import Subscription
from geode_client.message import Message
from geode_client.query.result import Result
from geode_client.repl.errors import wants_colour
from geode_client.repl.render import cell_text, counted, json_text, safe

TABLE_ROWS_MAX = 1000
VERTICAL_ROWS_MAX = 10_000
PRETTY_CHARACTERS_MIN = 60
WIDTH_MAX = 100_000

_JSON = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*"(?=\s*:))|(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>-?\d[\d.eE+-]*)|(?P<word>true|false|null)'
)
_JSON_CODES = {"key": "36", "string": "32", "number": "35", "word": "35"}
_JSON_STYLES = {"key": "cyan", "string": "green", "number": "magenta", "word": "magenta"}


def console_on(stream: TextIO, width: int | None = None, *, colour: bool | None = None) -> Console:
    """A console without any rewriting of its own; `colour` None: what the user of the stream wants."""
    return Console(
        file=stream,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
        force_terminal=wants_colour(stream) if colour is None else colour,
    )


def coloured_json(text: str) -> Text:
    """JSON text with keys, texts and numbers in colours; control characters escaped."""
    shown = Text(safe(text))
    for found in _JSON.finditer(shown.plain):
        shown.stylize(_JSON_STYLES[found.lastgroup or "word"], found.start(), found.end())
    return shown


def natural_width(result: Result) -> int:
    """How wide the table is when nothing in it is folded."""
    cells = [[safe(name) for name in result.columns]]
    cells += [[cell_text(value) for value in row] for row in result.rows[:TABLE_ROWS_MAX]]
    widths = [max(cell_len(row[place]) for row in cells) for place in range(len(result.columns))]
    return sum(widths) + 3 * len(widths) + 1


def least_width(result: Result) -> int:
    """How narrow the table can be with its headings whole."""
    return sum(cell_len(safe(name)) for name in result.columns) + 3 * len(result.columns) + 1


def is_text(result: Result) -> bool:
    """Whether the result is one text of several lines, such as a statement, which is shown as it is."""
    return len(result.columns) == 1 and len(result.rows) == 1 and "\n" in str(result.rows[0][0])


def show(console: Console, result: Result, *, vertical: bool, seconds: float | None = None) -> None:
    """Write a result with its notices; `seconds` is how long it took, where that is to be told."""
    taken = "" if seconds is None else f" · {spoken(seconds)}"
    for notice in result.notices:
        console.print(f"note: {safe(notice)}", style="yellow", soft_wrap=True)
    if not result.columns:
        if result.message is not None:
            console.print(
                Text(safe(result.message), style="green").append(taken, style="dim not green"), soft_wrap=True
            )
    elif is_text(result):
        console.print("\n".join(safe(line) for line in str(result.rows[0][0]).split("\n")), soft_wrap=True)
        if taken:
            console.print(taken.removeprefix(" · "), style="dim")
    else:
        limit = VERTICAL_ROWS_MAX if vertical else TABLE_ROWS_MAX
        if vertical:
            _show_vertical(console, result, limit)
        elif result.rows or least_width(result) <= console.width:
            console.print(_table(result, console.width))
        shown = min(len(result.rows), limit)
        more = f" (the first {shown:,} are shown; LIMIT, or another format)" if shown < len(result.rows) else ""
        console.print(f"{counted(len(result.rows), 'row')}{more}{taken}", style="dim", soft_wrap=True)


def text_of(
    result: Result, *, width: int | None, colour: bool, vertical: bool = False, seconds: float | None = None
) -> str:
    """A result as text, folded to `width`, or in its natural width where that is None."""
    stream = io.StringIO()
    show(console_on(stream, width or WIDTH_MAX, colour=colour), result, vertical=vertical, seconds=seconds)
    return stream.getvalue()


def spoken(seconds: float) -> str:
    """A duration as a person says it."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    minutes, rest = divmod(seconds, 60)
    return f"{seconds:.2f} s" if minutes == 0 else f"{minutes:.0f} min {rest:.1f} s"


def _table(result: Result, width: int) -> Table:
    table = Table(box=box.ROUNDED, header_style="bold", show_lines=False, safe_box=True)
    rows = result.rows[:TABLE_ROWS_MAX]
    for index, name in enumerate(result.columns):
        numbers = bool(rows) and all(_is_number(row[index]) for row in rows)
        heading = Text(safe(name))
        # A heading is folded only where the screen is narrower than all headings together.
        least = heading.cell_len if least_width(result) <= width else None
        table.add_column(heading, justify="right" if numbers else "left", overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*[_cell(value) for value in row])
    return table


def _cell(value: Any) -> Text:
    text = cell_text(value)
    match value:
        case None:
            return Text(text, style="dim")
        case dict() | list():
            return coloured_json(text)
        case _:
            return Text(text)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float | Decimal) and not isinstance(value, bool))


def _show_vertical(console: Console, result: Result, limit: int) -> None:
    names = [safe(name) for name in result.columns]
    width = max((cell_len(name) for name in names), default=0)
    for number, row in enumerate(result.rows[:limit], 1):
        console.print(f"─── row {number:,} ───", style="dim")
        for name, value in zip(names, row, strict=True):
            head = Text(name.rjust(width) + " ", style="cyan").append("│ ", style="dim")
            margin = " " * (width + 1)
            for line in _lines_of(value):
                console.print(Text.assemble(head, line), soft_wrap=True)
                head = Text(margin).append("│ ", style="dim")


def _lines_of(value: Any) -> Sequence[Text]:
    if isinstance(value, dict | list):
        text = json_text(value)
        if len(text) > PRETTY_CHARACTERS_MIN:
            text = msgspec.json.format(text, indent=2)
        return [coloured_json(line) for line in text.split("\n")]
    shown = "NULL" if value is None else value if isinstance(value, str) else cell_text(value, shorten=False)
    return [Text(safe(line), style="dim" if value is None else "") for line in str(shown).split("\n")]


class TableOutput:
    """For people: tables with a line of their size, one line for each message."""

    def __init__(self, stream: TextIO, width: int | None, *, vertical: bool = False) -> None:
        self.console = console_on(stream, width)
        self._vertical = vertical
        self._is_coloured = wants_colour(stream)

    def result(self, result: Result) -> None:
        if not self.console.file.isatty():
            # Nobody's screen is too narrow here: a program reads, or a file keeps it.
            self.console.width = WIDTH_MAX
        show(self.console, result, vertical=self._vertical)

    def message(self, message: Message, *, label: str) -> None:
        # Written without the console: messages come by the thousand, and rich takes a millisecond for a line.
        paint = self._paint
        line = paint(f"→ {safe(message.topic)}", "36") + paint(f" {message.partition}/{message.offset}", "2")
        if message.key is not None:
            line += paint(f" [{safe(message.key)}]", "35")
        if message.attempt > 1:
            line += paint(f" attempt {message.attempt}", "33")
        if label:
            line += paint(f" ({safe(label)})", "2")
        if not self._vertical:
            self.console.file.write(f"{line} {self._json(message.body.decode())}\n")
            return
        self.console.file.write(f"{line}\n")
        for text in _lines_of(message.data):
            self.console.print(Text("  ").append_text(text), soft_wrap=True)

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._is_coloured else text

    def _json(self, text: str) -> str:
        shown = safe(text)
        return _JSON.sub(_painted, shown) if self._is_coloured else shown

    def flush(self) -> None:
        self.console.file.flush()

    def ended(self, subscription: Subscription, note: str | None) -> None:
        missed = f", {counted(subscription.missed, 'message')} missed" if subscription.missed else ""
        why = f" ({note})" if note else ""
        text = f"{subscription.request.pattern}: {counted(subscription.received, 'message')} received{missed}{why}"
        self.console.print(safe(text), style="dim", soft_wrap=True)


def _painted(found: re.Match[str]) -> str:
    return f"\x1b[{_JSON_CODES[found.lastgroup or 'word']}m{found[0]}\x1b[0m"
