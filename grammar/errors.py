"""The root of the error tree, and the errors that a text can have.

    GeodeError
    └── GqlError                a statement that means nothing here; knows the place where it can
        └── GqlSyntaxError      a text that is no statement; always knows the place
            └── Unfinished      a text that only lacks its end

Imports nothing heavy: whoever catches an error need not load the parser.
"""

import difflib
from collections.abc import Iterable
from typing import Self

from geode_client.grammar.source import Source, Span

NAMES_COMPARED_MAX = 5_000


class GeodeError(Exception):
    """Any error that Geode raises on purpose.

    `str` is the message. If the error has a place in a text, such as a statement, it begins with name, line and column of
    the text, and the line with a caret and the hint follow.

    Attributes:
        source: The text in which the error is; None if it has no place.
        span: The part of the text that is wrong.
        hint: What would be right, if that is known.
    """

    source: Source | None = None
    span: Span | None = None
    hint: str | None = None

    @property
    def text(self) -> str:
        """The message alone, without place and hint."""
        return super().__str__()

    @property
    def position(self) -> tuple[int, int] | None:
        """Line and column of the place, both from 1; None without a place."""
        if self.source is None or self.span is None:
            return None
        return self.source.position(self.span.start)

    def at(self, source: Source, span: Span | None = None) -> Self:
        """Give the error a place, unless it has one.

        Args:
            source: The text.
            span: The part of it that is wrong.

        Returns:
            The error itself.
        """
        if self.source is None:
            self.source = source
        if self.span is None:
            self.span = span
        return self

    def __str__(self) -> str:
        if self.source is None or self.span is None:
            return self.text if self.hint is None else f"{self.text} ({self.hint})"
        line, column = self.source.position(self.span.start)
        lines = [f"{self.source.name}:{line}:{column}: {self.text}", self.source.caret(self.span)]
        return "\n".join([*lines, *self._hints()])

    def render(self) -> str:
        """The message, the line with a caret, the hint and the notes, on lines of their own."""
        shown = [str(self)] if self.position is not None else [f"error: {self.text}", *self._hints()]
        return "\n".join([*shown, *notes(self)])

    def _hints(self) -> list[str]:
        return [] if self.hint is None else [f"hint: {self.hint}"]


class GqlError(GeodeError):
    """A statement or condition that is wrong.

    Args:
        message: What is wrong.
        span: Where, in the text.
        source: The text.
        hint: What would be right.
    """

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
