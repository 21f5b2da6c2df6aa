"""The root of the error tree, and the errors that a text can have.

    GeodeError
    └── GqlError                a statement that means nothing here; knows the place where it can
        └── GqlSyntaxError      a text that is no statement; always knows the place
            └── Unfinished      a text that only lacks its end

Imports nothing heavy: whoever catches an error need not load the parser.
"""

import difflib
from collections.abc import Iterable

from geode_client.grammar.source import Source, Span

NAMES_COMPARED_MAX = 5_000


class GeodeError(Exception):
    """Whatever Geode raises on purpose."""

    def render(self) -> str:
        """The error as a person wants to read it; may have several lines."""
        return "\n".join([f"error: {self}", *notes(self)])


class GqlError(GeodeError):
    """A statement or condition that is wrong; `span` and `source` say where, `hint` what would be right."""

    def __init__(
        self,
        message: str,
        *,
        span: Span | None = None,
        source: Source | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.span = span
        self.source = source
        self.hint = hint

    def at(self, source: Source, span: Span | None = None) -> "GqlError":
        """The same error, placed in a text where it does not know its place yet."""
        self.source = self.source or source
        self.span = self.span or span
        return self

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} ({self.hint})"

    @property
    def position(self) -> tuple[int, int] | None:
        """Line and column, from 1."""
        if self.source is None or self.span is None:
            return None
        return self.source.position(self.span.start)

    def render(self) -> str:
        """The message, the line with a caret, and the hint, as a person wants to read them."""
        lines = [self.message]
        if self.source is None or self.span is None:
            lines[0] = f"error: {self.message}"
        else:
            line, column = self.source.position(self.span.start)
            lines[0] = f"{self.source.name}:{line}:{column}: {self.message}"
            lines.append(self.source.caret(self.span))
        if self.hint is not None:
            lines.append(f"hint: {self.hint}")
        lines += notes(self)
        return "\n".join(lines)


class GqlSyntaxError(GqlError):
    """A text that is no statement."""

    def __init__(self, message: str, *, span: Span, source: Source | None = None, hint: str | None = None) -> None:
        super().__init__(message, span=span, source=source, hint=hint)


class Unfinished(GqlSyntaxError):
    """A text that ends inside a string, comment or bracket: with more of it, it may be right."""


def notes(error: Exception) -> list[str]:
    """What was noted on an error on its way up (`add_note`), a line each."""
    return [f"note: {note}" for note in getattr(error, "__notes__", ())]


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that is closest to `word`, if one is close enough to be what was meant."""
    names = {name.casefold(): name for _, name in zip(range(NAMES_COMPARED_MAX), candidates, strict=False)}
    close = difflib.get_close_matches(word.casefold(), list(names), n=1, cutoff=0.6)
    return names[close[0]] if close else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """A hint with the nearest candidate, or None."""
    found = nearest(word, candidates)
    return None if found is None else f"did you mean {found}?"
