"""REPLAY and DELETE DEAD LETTERS, over any broker.

Dead letters are read by a scan. A replay publishes copies of them and marks the letters in the same transaction, a bounded
number at a time. Nothing is claimed or locked: a replay that fails, is cancelled or is killed leaves the letters that it had
not committed as they were. Two replays at once cannot publish a letter twice: the commit of the second is refused, because a
letter is marked already, and it looks again.

A copy is addressed to the group that failed, by name and pattern, unless the statement says TO ALL or names a topic.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from geode_client import letters
from geode_client.broker import Broker, BrokerTransaction, OutgoingBatch, ScanRequest
from geode_client.catalog import Topic, dead_letter_topic_of
from geode_client.clock import now_us
from geode_client.conditions.protocol import ConditionLike
from geode_client.errors import InvalidMessage, LettersChanged, TopicNotFound
from geode_client.grammar.names import is_pattern, matches
from geode_client.letters import Addressee, History
from geode_client.message import Chunk

LETTERS_AT_ONCE = 1000
BYTES_AT_ONCE = 4 * 1024 * 1024
TRANSACTION_SECONDS = 60.0
REFUSED_SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Places:
    """Where the dead letters of some topics are: `topics` hold those of the `origins`."""

    origins: Sequence[str]
    topics: Sequence[Topic]


@dataclass(frozen=True, slots=True)
class Refused:
    """A dead letter that was not replayed: its id, the group that failed (None: a plain subscriber), and the reason."""

    letter: str
    group: str | None
    reason: str


@dataclass(slots=True)
class Replayed:
    """What became of a replay. `refused` has the first of those that were refused, `reasons` counts all of them."""

    count: int = 0
    refused: list[Refused] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def refused_count(self) -> int:
        return self.reasons.total()

    def refuse(self, letter: "Letter", reason: str) -> None:
        self.reasons[reason] += 1
        if len(self.refused) < REFUSED_SHOWN:
            group = letters.group_of(letter.chunk, letter.index)
            self.refused.append(Refused(letter.chunk.message_id(letter.index), group, reason))


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter: a place in a chunk."""

    chunk: Chunk
    index: int

    @property
    def body(self) -> bytes:
        return self.chunk.bodies[self.index]

    @property
    def offset(self) -> int:
        return self.chunk.base_offset + self.index

    def history(self) -> History:
        """What a copy remembers."""
        return History(letters.deaths_of(self.chunk, self.index), self.chunk.message_id(self.index))


async def places_of(broker: Broker, name: str) -> Places:
    """Where the dead letters of a topic, or of those that a pattern covers, are or were put.

    A topic that was dropped still has its dead letters; raises TopicNotFound for one that there never was.
    """
    found: dict[str, None] = {}
    origins: dict[str, None] = {}
    for total in (await broker.report(["dead_letters"], name)).dead_letters:
        if matches(name, total.topic_name):
            origins[total.topic_name] = None
            found[total.dead_letter_topic] = None
    if is_pattern(name):
        topics = await broker.topics(name)
    else:
        try:
            topics = [await broker.topic(name)]
        except TopicNotFound:
            if not origins:
                raise
            topics = []
    for topic in topics:
        for its_name in (topic.name, *topic.former_names):
            origins[its_name] = None
        found[dead_letter_topic_of(topic.name, topic.options)] = None
    holders: list[Topic] = []
    for holder in found:
        with contextlib.suppress(TopicNotFound):
            holders.append(await broker.topic(holder))
    return Places(list(origins), holders)


async def replay(
    broker: Broker,
    topic: str,
    condition: ConditionLike | None,
    *,
    target: str | None = None,
    to_all: bool = False,
    dry_run: bool = False,
) -> Replayed:
    """Publish copies of the outstanding dead letters of a topic where the condition is TRUE, to `target` or the topic itself.

    What cannot be replayed is named in the result, and the others are replayed. With `dry_run` nothing is stored.
    """
    count = 0
    while True:
        run = _Replay(broker, topic, target, to_all=to_all, dry_run=dry_run)
        await run.prepare()
        try:
            await run.all(condition)
        except LettersChanged:
            count += run.done.count  # somebody else replays as well: what is left is looked at anew
            continue
        run.done.count += count
        return run.done


async def delete(broker: Broker, topic: str, condition: ConditionLike | None, *, dry_run: bool = False) -> int:
    """Delete the dead letters of a topic where the condition is TRUE, replayed or not; how many there were."""
    deleted = 0
    async for chunk, found in _selected(broker, topic, condition):
        if dry_run:
            deleted += len(found)
            continue
        holder = await broker.topic(chunk.topic)
        for first in range(0, len(found), LETTERS_AT_ONCE):
            offsets = [chunk.base_offset + index for index in found[first : first + LETTERS_AT_ONCE]]
            deleted += await broker.delete_messages(holder, chunk.partition, offsets)
    return deleted


async def _selected(
    broker: Broker, topic: str, condition: ConditionLike | None
) -> AsyncIterator[tuple[Chunk, list[int]]]:
    """Chunks with dead letters of the topic where the condition is TRUE, and their places."""
    places = await places_of(broker, topic)
    if not places.topics:
        return
    async for chunk in broker.scan(ScanRequest(places.topics, letters=True)):
        living = set(chunk.unexpired(now_us()))
        ours = [i for i in range(chunk.count) if i in living and _origin(chunk, i) in places.origins]
        if ours and condition is not None:
            selected = set(condition.select(chunk))
            ours = [index for index in ours if index in selected]
        if ours:
            yield chunk, ours


def _origin(chunk: Chunk, index: int) -> Any:
    """The name that the topic of a dead letter had."""
    return letters.headers_of(chunk, index).get(letters.TOPIC)


def _why(target: str, error: InvalidMessage) -> str:
    place = f" at {error.pointer}" if error.pointer else ""
    return f"{target} refuses it{place}: {error.reason}"


class _Replay:
    """One look through all letters."""

    def __init__(self, broker: Broker, topic: str, target: str | None, *, to_all: bool, dry_run: bool) -> None:
        self._broker = broker
        self._topic = topic
        self._target = target or topic
        self._for_everybody = to_all or target is not None
        self._dry_run = dry_run
        self._groups: Sequence[Addressee] = ()
        self._target_is_there = True
        self.done = Replayed()

    async def prepare(self) -> None:
        """See which groups there are that copies may be addressed to."""
        try:
            await self._broker.topic(self._target)
        except TopicNotFound:
            self._target_is_there = False
            return
        if not self._for_everybody:
            groups = (await self._broker.report(["groups"], self._topic)).groups
            self._groups = [(one.name, one.pattern) for one in groups]

    async def all(self, condition: ConditionLike | None) -> None:
        """Replay what is outstanding, in bounded transactions."""
        waiting: list[Letter] = []
        size = 0
        async for chunk, found in _selected(self._broker, self._topic, condition):
            for index in found:
                if index in chunk.replayed:
                    continue
                waiting.append(Letter(chunk, index))
                size += len(chunk.bodies[index])
                if len(waiting) >= LETTERS_AT_ONCE or size >= BYTES_AT_ONCE:
                    await self._some(waiting)
                    waiting, size = [], 0
        if waiting:
            await self._some(waiting)

    async def _some(self, waiting: Sequence[Letter]) -> None:
        """Replay some letters in one transaction."""
        refused: list[tuple[Letter, str]] = []
        runs: dict[tuple[Addressee | None, int], list[Letter]] = {}
        for letter in waiting:
            addressee, why = self._addressee(letter)
            if why is not None:
                refused.append((letter, why))
            else:
                runs.setdefault((addressee, letter.chunk.priority), []).append(letter)
        transaction = self._broker.transaction(TRANSACTION_SECONDS)
        try:
            given: list[Letter] = []
            for (addressee, priority), run in runs.items():
                given += await self._give(transaction, addressee, priority, run, refused)
            if self._dry_run:
                await transaction.rollback()
            else:
                await self._mark(transaction, given)
                await transaction.commit()
        except BaseException:
            await transaction.rollback()
            raise
        self.done.count += len(given)
        for letter, why in refused:
            self.done.refuse(letter, why)

    def _addressee(self, letter: Letter) -> tuple[Addressee | None, str | None]:
        """Whom the copy of a letter is for (None: everybody), or why it cannot be replayed."""
        if not self._target_is_there:
            return None, f"topic {self._topic} is gone: create it again, or replay TO another topic"
        if self._for_everybody:
            return None, None
        group = letters.group_of(letter.chunk, letter.index)
        if group is None:
            return None, "it comes from a subscriber without a group: replay TO ALL, or TO another topic"
        history = letter.chunk.attributes.history(letter.index)
        pattern = self._topic if history is None or history.pattern is None else history.pattern
        if (group, pattern) in self._groups:
            return (group, pattern), None
        return None, f"group {group} on {pattern} is gone: create it again, replay TO ALL, or TO another topic"

    async def _give(
        self,
        transaction: BrokerTransaction,
        addressee: Addressee | None,
        priority: int,
        run: Sequence[Letter],
        refused: list[tuple[Letter, str]],
    ) -> list[Letter]:
        """Publish the copies of letters that have one addressee and priority; those that the topic does not refuse."""
        given: list[Letter] = []
        rest = list(run)
        while rest:
            error = await self._try(transaction, addressee, priority, rest)
            if error is None:
                return given + rest
            bad = min(error.message_index, len(rest) - 1)
            if bad and await self._try(transaction, addressee, priority, rest[:bad]) is None:
                given += rest[:bad]
            refused.append((rest[bad], _why(self._target, error)))
            rest = rest[bad + 1 :]
        return given

    async def _try(
        self, transaction: BrokerTransaction, addressee: Addressee | None, priority: int, run: Sequence[Letter]
    ) -> InvalidMessage | None:
        headers: list[Mapping[str, object] | None] = [
            letters.own_headers(letters.headers_of(letter.chunk, letter.index)) for letter in run
        ]
        batch = OutgoingBatch(
            self._target,
            [msgspec.Raw(letter.body) for letter in run],
            keys=[letter.chunk.attributes.key(letter.index) for letter in run],
            headers=headers if any(headers) else None,
            priority=priority,
            addressee=addressee,
            histories=[letter.history() for letter in run],
        )
        try:
            await transaction.publish_batch(batch)
        except InvalidMessage as error:
            return error
        return None

    async def _mark(self, transaction: BrokerTransaction, given: Sequence[Letter]) -> None:
        places: dict[tuple[str, int], list[int]] = {}
        for letter in given:
            places.setdefault((letter.chunk.topic, letter.chunk.partition), []).append(letter.offset)
        for (name, partition), offsets in places.items():
            transaction.mark_replayed(await self._broker.topic(name), partition, sorted(offsets))
