"""The screen: how large it is, and how results get onto it: at once, folded, or through a pager."""

import os
import shutil
import sys
from typing import TextIO

from geode_client.query.result import Result
from geode_client.repl import tables
from geode_client.repl.errors import wants_colour
from geode_client.repl.paging import LINES_KEPT, page, pager_command


def size_of(stream: TextIO) -> os.terminal_size:
    """Columns and lines of the terminal behind a stream."""
    return shutil.get_terminal_size() if stream is sys.stdout else os.get_terminal_size(stream.fileno())


def columns_of(stream: TextIO) -> int:
    return size_of(stream).columns


async def show_result(
    result: Result, *, pager: str, vertical: bool, expanded_auto: bool, seconds: float | None = None
) -> None:
    """Show a result on the terminal.

    What fits is simply shown. The cells of a wide table are folded, unless (`expanded_auto`) not even its headings fit: then
    its rows are shown one field a line. What has more lines than the screen goes to the pager, there unfolded.
    """
    size, colour = size_of(sys.stdout), wants_colour(sys.stdout)
    command = pager_command(pager)
    is_table = bool(result.columns) and not vertical and not tables.is_text(result)
    is_wide = is_table and tables.natural_width(result) > size.columns
    if is_wide and expanded_auto and result.rows and tables.least_width(result) > size.columns:
        vertical = True
    text = tables.text_of(result, width=size.columns, colour=colour, vertical=vertical, seconds=seconds)
    if command is not None and text.count("\n") > size.lines - LINES_KEPT:
        if is_wide and not vertical:
            text = tables.text_of(result, width=None, colour=colour, seconds=seconds)
        await page(text, command)
        return
    sys.stdout.write(text)
    sys.stdout.flush()
