"""Dead letters: what they remember, and how their columns are read from a chunk.

A dead letter is a message of a dead-letter topic whose headers describe its last death. Earlier deaths, and what a copy made
by REPLAY knows of the dead letter it was made of, are in the `History` of a message, which is no header: nobody can write
it by publishing. Knows nothing of stores and brokers.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec

from geode_client.clock import datetime_of

PREFIX = "dead_letter_"
REASON, TOPIC, GROUP, ERROR, ATTEMPTS, TIME = (
    PREFIX + name for name in ("reason", "topic", "group", "error", "attempts", "time")
)
COUNTED_BY = (GROUP, TOPIC, REASON)
EXPIRED = "expired"
PRIVATE_PREFIX = "_"
"""Groups of this prefix serve one subscription that has no group of its own."""


class Death(msgspec.Struct, frozen=True, array_like=True):
    """One time a message became a dead letter. `group` is None for a subscriber without a group."""

    group: str | None
    reason: str
    error: str | None
    attempts: int
    time: str


class History(msgspec.Struct, frozen=True, array_like=True):
    """What a dead letter, or the copy of one, remembers.

    `deaths` are the earlier ones: a dead letter's own headers describe the last. `replayed_from` is the id of the dead letter
    that a copy was made of. `pattern` is that of the group that failed, where it is not the topic's own name.
    """

    deaths: list[Death] = []
    replayed_from: str | None = None
    pattern: str | None = None


# Name and pattern of the group that the messages of a batch are for.
Addressee = tuple[str, str]


class LetterAttributes(Protocol):
    @property
    def headers(self) -> list[dict[str, Any] | None] | None: ...

    def history(self, index: int) -> History | None: ...


class LetterChunk(Protocol):
    """What is read of a chunk of dead letters."""

    @property
    def attributes(self) -> LetterAttributes: ...

    @property
    def replayed(self) -> Mapping[int, int]: ...


def headers_of(chunk: LetterChunk, index: int) -> Mapping[str, Any]:
    """The headers of a message; empty where it has none."""
    headers = chunk.attributes.headers
    return (headers[index] if headers is not None else None) or {}


def group_of(chunk: LetterChunk, index: int) -> str | None:
    """The group that failed; None for a subscriber without one, and for what is no dead letter."""
    return public_group(headers_of(chunk, index).get(GROUP))


def public_group(name: Any) -> str | None:
    """The name of a group as people know it; None for subscribers without one."""
    return name if isinstance(name, str) and name and not name.startswith(PRIVATE_PREFIX) else None


def last_death(chunk: LetterChunk, index: int) -> Death | None:
    """The death that made a message a dead letter; None for any other message."""
    headers = headers_of(chunk, index)
    if REASON not in headers:
        return None
    return Death(
        group=public_group(headers.get(GROUP)),
        reason=str(headers[REASON]),
        error=headers.get(ERROR),
        attempts=headers.get(ATTEMPTS, 0),
        time=str(headers.get(TIME, "")),
    )


def deaths_of(chunk: LetterChunk, index: int) -> list[Death]:
    """All deaths of a message, the earliest first."""
    history, last = chunk.attributes.history(index), last_death(chunk, index)
    return [*(history.deaths if history is not None else ()), *([last] if last is not None else ())]


def own_headers(headers: Mapping[str, Any]) -> dict[str, Any] | None:
    """The headers that a message had before it died."""
    kept = {name: value for name, value in headers.items() if not name.startswith(PREFIX)}
    return kept or None


def replayed_from(chunk: LetterChunk, index: int) -> str | None:
    """The id of the dead letter that a message is a copy of."""
    history = chunk.attributes.history(index)
    return None if history is None else history.replayed_from


def _replayed_at(chunk: LetterChunk, index: int) -> datetime | None:
    at_us = chunk.replayed.get(index)
    return None if at_us is None else datetime_of(at_us)


def _deaths(chunk: LetterChunk, index: int) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(death) for death in deaths_of(chunk, index)]


# Columns that only DEAD LETTERS OF has. In expressions over messages they have names that nobody can write, because on any
# other topic `_group` is a field.
COLUMNS: Mapping[str, str] = {
    "_group": "#group",
    "_reason": "#reason",
    "_deaths": "#deaths",
    "_replayed_at": "#replayed_at",
}

READERS: Mapping[str, Callable[[Any, int], Any]] = {
    "_replayed_from": replayed_from,
    "#group": group_of,
    "#reason": lambda chunk, index: headers_of(chunk, index).get(REASON),
    "#deaths": _deaths,
    "#replayed_at": _replayed_at,
}
