"""Names of topics and patterns over them.

A name is made of segments joined by `/`; a segment holds letters, digits, `_`, `-` and `.`, but is not `.` or `..`. In a
pattern a segment `*` matches exactly one segment, `**` any number of them. A wildcard never matches a first segment that
begins with `_`: those names are the system's own.
"""

import re

from geode_client.grammar.errors import GqlError

NAME_CHARACTERS_MAX = 255

_SEGMENT = re.compile(r"[\w\-.]+")
_RIGHT = "a name is segments of letters, digits, '_', '-' and '.' joined by '/', such as orders or users/created"


def validate_topic_name(name: str) -> str:
    """The name itself; raises GqlError when no topic can have it."""
    _check(name, "topic name", wildcards=False)
    return name


def validate_topic_pattern(pattern: str) -> str:
    """The pattern itself; raises GqlError when it is neither a name nor a pattern."""
    _check(pattern, "topic pattern", wildcards=True)
    return pattern


def _check(text: str, what: str, *, wildcards: bool) -> None:
    if not isinstance(text, str):
        raise GqlError(f"a {what} is text, not {type(text).__name__}")
    shown = text if len(text) <= 60 else text[:59] + "…"
    if not text:
        raise GqlError(f"a {what} cannot be empty", hint=_RIGHT)
    if len(text) > NAME_CHARACTERS_MAX:
        raise GqlError(f"{what} '{shown}' has {len(text)} characters; at most {NAME_CHARACTERS_MAX} are allowed")
    for segment in text.split("/"):
        if wildcards and segment in ("*", "**"):
            continue
        if not segment:
            raise GqlError(f"{what} '{shown}' has an empty segment", hint=_RIGHT)
        if segment in (".", ".."):
            raise GqlError(f"{what} '{shown}' has the segment '{segment}', which is a path, no name", hint=_RIGHT)
        if not _SEGMENT.fullmatch(segment) or not segment.isprintable():
            raise GqlError(f"{what} {shown!r} has a segment with other characters", hint=_RIGHT)


def is_pattern(text: str) -> bool:
    """Whether the text is a pattern with wildcards rather than the name of one topic."""
    return "*" in text


def matches(pattern: str, name: str) -> bool:
    """Whether the pattern covers the topic; at most segments of pattern × segments of name steps."""
    if "*" not in pattern:
        return pattern == name
    if pattern[0] == "*" and name[0] == "_":
        return False
    return _match_segments(pattern.split("/"), name.split("/"))


def _match_segments(wanted: list[str], given: list[str]) -> bool:
    # Each ** first takes nothing; on a mismatch only the latest one takes one segment more, which is enough: whatever an
    # earlier one could take, the latest can take too.
    at_wanted = at_given = 0
    retry: tuple[int, int] | None = None
    while at_given < len(given):
        if at_wanted < len(wanted) and wanted[at_wanted] == "**":
            retry = (at_wanted + 1, at_given)
            at_wanted += 1
        elif at_wanted < len(wanted) and wanted[at_wanted] in ("*", given[at_given]):
            at_wanted += 1
            at_given += 1
        elif retry is not None:
            at_wanted, at_given = retry[0], retry[1] + 1
            retry = (at_wanted, at_given)
        else:
            return False
    return all(segment == "**" for segment in wanted[at_wanted:])


def literal_prefix(pattern: str) -> str:
    """The text with which every name that the pattern covers begins."""
    return pattern.partition("*")[0].rstrip("/") if "*" in pattern else pattern
