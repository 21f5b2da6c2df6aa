"""What became of messages of a claim, in the form in which a backend writes it down."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from geode_client import letters
from geode_client.letters import History
from geode_client.message import Chunk

ERROR_CHARACTERS_MAX = 1000


class Failed(msgspec.Struct, frozen=True):
    """A message that is to be tried again."""

    offset: int
    key: str | None
    attempts: int
    not_before_us: int
    error: str | None


class Parked(msgspec.Struct, frozen=True):
    """Messages of one key that wait behind an earlier one: those of `pending` that are 1, counted from offset `first`."""

    key: str
    first: int
    pending: bytes


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that goes to the dead-letter topic: its body as stored, and what is said of it there."""

    offset: int
    body: bytes
    key: str | None
    priority: int
    headers: Mapping[str, Any]
    history: History | None = None

    @property
    def is_expired(self) -> bool:
        """Whether the message expired: then it is counted as that, and is a dead letter besides."""
        return bool(self.headers[letters.REASON] == letters.EXPIRED)


class Settlement(msgspec.Struct, frozen=True):
    """What became of messages of one claim: those where `settled` is 1, counted from the claim's first offset.

    A settlement concerns no other message, so settlements of different messages may be written in any order (in an ordered
    group in the order in which they were made: what is parked behind a failed message must not come before it). The claim
    ends with its last message. `let_go`: the messages that are left have no owner from now on. `tail_from`: those from this
    place on have none, the ones before it stay ours.
    """

    claim_id: int
    topic_id: int
    partition: int
    lane: int
    settled: bytes
    acknowledged: int = 0
    filtered: int = 0
    expired: int = 0
    removed: int = 0
    redelivered: int = 0
    failed: int = 0
    failures: Sequence[Failed] = ()
    parked: Sequence[Parked] = ()
    dead_letters: Sequence[DeadLetter] = ()
    let_go: bool = False
    tail_from: int | None = None


def dead_letter(
    chunk: Chunk, index: int, *, group: str, reason: str, attempts: int, error: str | None, pattern: str | None = None
) -> DeadLetter:
    """The dead letter of a message: its headers, and which message it was, of which group, and why it is here.

    `pattern` is that of the group; None for a subscriber without one. A copy that REPLAY made takes its earlier deaths along.
    """
    history = chunk.attributes.history(index)
    deaths = [] if history is None else history.deaths
    pattern = None if pattern == chunk.topic else pattern
    return DeadLetter(
        offset=chunk.base_offset + index,
        body=chunk.bodies[index],
        key=chunk.attributes.key(index),
        priority=chunk.priority,
        headers={
            **letters.headers_of(chunk, index),
            letters.REASON: reason,
            letters.TOPIC: chunk.topic,
            "dead_letter_partition": chunk.partition,
            "dead_letter_offset": chunk.base_offset + index,
            "dead_letter_id": chunk.message_id(index),
            letters.GROUP: group,
            letters.ATTEMPTS: attempts,
            letters.ERROR: None if error is None else error[:ERROR_CHARACTERS_MAX],
        },
        history=History(deaths, pattern=pattern) if deaths or pattern is not None else None,
    )


def without(pending: bytes, settled: bytes) -> bytes:
    """What is pending and not settled: bytes of 0 and 1, of which `settled` may be the shorter one."""
    mask = int.from_bytes(settled, "little")
    return (int.from_bytes(pending, "little") & ~mask).to_bytes(len(pending), "little")
