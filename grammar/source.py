"""A text and places in it: offsets, lines and columns, and the caret that shows a person where something is."""

from dataclasses import dataclass
from decimal import Decimal

CARET_LINE_MAX = 160
NUMBER_CHARACTERS_MAX = 400
CONDITION_CHARACTERS_MAX = 16 * 1024
# What the lists after IN may have besides.
LISTS_CHARACTERS_MAX = 1024 * 1024


def too_long(characters: int) -> str:
    """What is said of a condition beyond the bound."""
    return f"a condition has at most {CONDITION_CHARACTERS_MAX} characters; this one has {characters}"


def number_of(text: str) -> int | float | None:
    """The number that a literal means; None when it is too long or too large to be one."""
    if len(text) > NUMBER_CHARACTERS_MAX:
        return None
    if text.lstrip("-").isdigit():
        return int(text)
    found = float(text)
    return None if found in (float("inf"), float("-inf")) else found


def exact_number_of(text: str) -> int | float | Decimal | None:
    """The same for a value that is stored: a Decimal where no float has the digits that are written."""
    found = number_of(text)
    if isinstance(found, float):
        written = Decimal(text)
        return found if Decimal(repr(found)) == written else written
    return found


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text: code points from `start` up to, not with, `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Source:
    """A text that statements come from, and the name by which errors call it."""

    text: str
    name: str = "<text>"

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1."""
        offset = min(offset, len(self.text))
        line = self.text.count("\n", 0, offset) + 1
        return line, offset - (self.text.rfind("\n", 0, offset) + 1) + 1

    def caret(self, span: Span) -> str:
        """The line of the span, and under it carets below what the span covers of that line."""
        start = min(span.start, len(self.text))
        first = self.text.rfind("\n", 0, start) + 1
        last = self.text.find("\n", start)
        line = self.text[first : last if last >= 0 else len(self.text)]
        column = start - first
        width = max(1, min(span.end, first + len(line)) - start)
        # A long line (a message of a megabyte, say) is shown around the place only.
        cut = max(0, column - CARET_LINE_MAX // 2)
        shown = line[cut : cut + CARET_LINE_MAX]
        column -= cut
        width = max(1, min(width, len(shown) - column))
        padding = "".join("\t" if character == "\t" else " " for character in shown[:column])
        return f"{shown}\n{padding}{'^' * width}"
