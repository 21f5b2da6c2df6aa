"""Where in a statement an error is that the statement's own parts do not place: under the name that it is about."""

import re
from typing import TypeVar

from geode_client.errors import GeodeError, GqlError, GroupNotFound, TopicExists, TopicNotFound
from geode_client.grammar.source import Source, Span

_ABOUT_A_NAME = (TopicNotFound, TopicExists, GroupNotFound)
_NOT_CODE = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_BEFORE_A_TOPIC = r"\b(?:FROM|JOIN|TO|INTO|ON|OF|TOPIC|COPY|DESCRIBE|EXISTS|IN|,)\s*"
_BEFORE_A_GROUP = r"\b(?:SUBSCRIPTION|GROUP|EXISTS)\s+"

E = TypeVar("E", bound=GeodeError)


def placed(error: E, source: Source, span: Span | None) -> E:
    """The error, with its place in a statement: its own, else that of the name it is about.

    Other errors than those of the language have no place in a statement: a full disk is not its fault.
    """
    if isinstance(error, (GqlError, *_ABOUT_A_NAME)):
        error.at(source, None if span is None else name_span(error, source, span))
    return error


def name_span(error: GeodeError, source: Source, span: Span) -> Span:
    """Where the name that an error is about is in its statement; where it is not found, the statement's own place."""
    if not isinstance(error, _ABOUT_A_NAME):
        return span
    following = _NOT_CODE.sub(lambda found: " " * len(found[0]), source.text[span.start :])
    before = _BEFORE_A_GROUP if isinstance(error, GroupNotFound) else _BEFORE_A_TOPIC
    name = rf'(?<![\w/*])(?P<name>"?{re.escape(error.name)}"?)(?![\w/*])'
    for pattern in (before + name, name):
        found = re.search(pattern, following, re.IGNORECASE)
        if found is not None:
            return Span(span.start + found.start("name"), span.start + found.end("name"))
    return span
