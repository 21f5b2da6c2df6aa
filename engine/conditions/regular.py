"""Regular expressions through RE2, which runs in time linear in the text whatever the pattern.

The package google-re2 is imported when a condition with such a function is compiled.
"""

import importlib
from functools import cache, lru_cache
from typing import Any

from geode_client.errors import Unsupported

PATTERN_CHARACTERS_MAX = 1_000
TEXT_CHARACTERS_MAX = 1024 * 1024
MEMORY_BYTES_MAX = 8 * 1024 * 1024
FLAGS = "gims"


class BadPattern(ValueError):
    """A text that is not a valid regular expression; the message says why."""


@cache
def engine() -> Any:
    """The module re2; raises Unsupported where it is not installed."""
    try:
        return importlib.import_module("re2")
    except ImportError:
        raise Unsupported("REGEXP functions without the package google-re2", "this installation") from None


@lru_cache(maxsize=256)
def compiled(pattern: str, flags: str = "") -> Any:
    """A pattern made ready; raises BadPattern."""
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise BadPattern(f"a regular expression has at most {PATTERN_CHARACTERS_MAX} characters, not {len(pattern)}")
    wrong = next((flag for flag in flags if flag not in FLAGS), None)
    if wrong is not None:
        raise BadPattern(
            f"unknown flag {wrong!r}: i ignores case, m matches ^ and $ at lines, s lets . match line ends"
        )
    re2 = engine()
    options = re2.Options()
    options.max_mem = MEMORY_BYTES_MAX
    options.log_errors = False
    options.case_sensitive = "i" not in flags
    prefix = "".join(flag for flag in "ms" if flag in flags)
    try:
        return re2.compile(f"(?{prefix})(?:{pattern})" if prefix else pattern, options)
    except (re2.error, UnicodeError, ValueError) as error:
        raise BadPattern(f"no regular expression: {_explained(error)}") from error


def _explained(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def _ready(text: Any, pattern: Any, flags: Any) -> Any:
    """The pattern made ready where all are texts of a bearable length, else None."""
    if text.__class__ is not str or pattern.__class__ is not str or flags.__class__ is not str:
        return None
    if len(text) > TEXT_CHARACTERS_MAX:
        return None
    try:
        return compiled(pattern, flags)
    except BadPattern:
        return None


def matches(text: Any, pattern: Any, flags: Any = "") -> Any:
    ready = _ready(text, pattern, flags)
    try:
        return None if ready is None else ready.search(text) is not None
    except UnicodeError:
        return None


def extract(text: Any, pattern: Any, group: Any = 0) -> Any:
    ready = _ready(text, pattern, "")
    if ready is None or group.__class__ is not int or not 0 <= group <= ready.groups:
        return None
    try:
        found = ready.search(text)
    except UnicodeError:
        return None
    return None if found is None else found.group(group)


def replace(text: Any, pattern: Any, new: Any, flags: Any = "") -> Any:
    ready = _ready(text, pattern, flags)
    if ready is None or new.__class__ is not str:
        return None
    try:
        pieces, size, place = [], 0, 0
        for found in ready.finditer(text):
            piece = text[place : found.start()] + _expanded(new, found)
            size += len(piece)
            if size > TEXT_CHARACTERS_MAX:
                return None
            pieces.append(piece)
            place = found.end()
        made = "".join(pieces) + text[place:]
        return made if len(made) <= TEXT_CHARACTERS_MAX else None
    except (UnicodeError, IndexError):
        return None


def _expanded(new: str, found: Any) -> str:
    r"""The replacement with \1 to \9 as the groups, \0 as all that matched and \\ as a backslash."""
    if "\\" not in new:
        return new
    made, characters = [], iter(new)
    for character in characters:
        if character != "\\":
            made.append(character)
            continue
        following = next(characters, "\\")
        made.append((found.group(int(following)) or "") if following.isdecimal() and following.isascii() else following)
    return "".join(made)
