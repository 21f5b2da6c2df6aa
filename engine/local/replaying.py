"""REPLAY DEAD LETTERS: dead letters go back to where they came from, each once.

A group of the system's own on the dead-letter topic remembers which of its messages were replayed. A run claims what that
group has not settled, publishes those that are wanted and settles them in the same transaction, and lets go of the rest,
which a later run, with another condition, finds again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from geode_client.broker import OutgoingBatch
from geode_client.catalog import Topic
from geode_client.clock import boot_us, now_us
from geode_client.delivery.claims import ACKNOWLEDGED, HeldClaim, rules_of
from geode_client.delivery.fanout import ConditionLike
from geode_client.delivery.settlement import Settlement
from geode_client.errors import LeaseLost
from geode_client.local.combining import CommitWork, Entry, publications
from geode_client.local.publisher import Router
from geode_client.message import Chunk
from geode_client.store.claiming import Claim, Claimed
from geode_client.store.groups import GroupDefinition, JoinGroup
from geode_client.store.log import LogReader
from geode_client.store.settling import Settle
from geode_client.store.writer import Work

REPLAY_GROUP = "_replay"
MESSAGES_AT_ONCE = 1000
# Nobody renews these leases; the death of this process is seen without them.
LEASE_US = 3_600_000_000
_HEADER_PREFIX = "dead_letter_"

Write = Callable[[Sequence[Work]], Awaitable[None]]


class Replay:
    """One run. `source` is the dead-letter topic, `origin` the names that the topic whose dead letters are wanted has or had."""

    def __init__(
        self,
        log: LogReader,
        write: Write,
        process: str,
        catalog_version: int,
        *,
        source: Topic,
        origin: frozenset[str],
        target: Topic,
        condition: ConditionLike | None,
    ) -> None:
        self._log = log
        self._write = write
        self._process = process
        self._catalog_version = catalog_version
        self._source = source
        self._origin = origin
        self._target = target
        self._condition = condition
        self._router = Router()
        self._rest: list[HeldClaim] = []
        self._group_id = 0

    async def run(self) -> int:
        """How many were replayed."""
        join = JoinGroup(GroupDefinition(REPLAY_GROUP, self._source.name), starts=0)
        await self._write([join])
        assert join.group is not None
        self._group_id = join.group.group_id
        replayed = 0
        try:
            while (claim := await self._claimed()).claimed or claim.more:
                for one in claim.claimed:
                    replayed += await self._replay(one)
                await asyncio.sleep(0)
        finally:
            rest = [claim.settled(let_go=True) for claim in self._rest if claim.left]
            if rest:
                await asyncio.shield(self._write([self._settle(rest)]))
        return replayed

    async def _claimed(self) -> Claim:
        claim = Claim(self._group_id, self._process, MESSAGES_AT_ONCE, now_us(), boot_us(), LEASE_US)
        await self._write([claim])
        return claim

    async def _replay(self, one: Claimed) -> int:
        held = HeldClaim(
            one.claim_id,
            (one.topic_id, one.partition, one.lane),
            one.first,
            one.pending,
            rules_of(self._source, REPLAY_GROUP),
        )
        self._rest.append(held)
        entries: list[Entry] = []
        end = one.first + len(one.pending)
        for header in self._log.reaching_into(one.topic_id, one.partition, one.first, end):
            chunk = self._log.chunk(header.batch_id)
            if chunk is None:
                continue
            wanted = [index for index in self._wanted(chunk) if _is_held(held, chunk, index)]
            if wanted:
                held.say_of_all(ACKNOWLEDGED, chunk, wanted)
                entries.append(self._entry(chunk, wanted))
        if not entries:
            return 0
        made = publications(entries, {self._target.name: self._target}, self._catalog_version, self._router)
        await self._write([CommitWork([], made, [self._settle([held.settled()])])])
        return sum(entry.count for entry in entries)

    def _wanted(self, chunk: Chunk) -> list[int]:
        headers = chunk.attributes.headers or []
        ours = {
            index
            for index, header in enumerate(headers)
            if header is not None and header.get("dead_letter_topic") in self._origin
        }
        if self._condition is None or not ours:
            return sorted(ours)
        return [index for index in self._condition.select(chunk) if index in ours]

    def _entry(self, chunk: Chunk, wanted: Sequence[int]) -> Entry:
        headers = chunk.attributes.headers or []
        batch = OutgoingBatch(
            self._target.name,
            [None] * len(wanted),
            keys=[chunk.attributes.key(index) for index in wanted],
            headers=[_own(headers[index]) for index in wanted],
            priority=chunk.priority,
        )
        lines = b"".join(chunk.bodies[index] + b"\n" for index in wanted)
        return Entry.of(batch, lines, single=False)

    def _settle(self, settlements: Sequence[Settlement]) -> Settle:
        return Settle(
            group_id=self._group_id,
            name=REPLAY_GROUP,
            settlements=settlements,
            dead_letter_topics={},
            durable=True,
            refusal=LeaseLost("the dead letters are being replayed by somebody else as well: run it again"),
        )


def _is_held(claim: HeldClaim, chunk: Chunk, index: int) -> bool:
    place = chunk.base_offset + index - claim.first
    return 0 <= place < len(claim.state) and claim.is_pending(chunk.base_offset + index)


def _own(header: dict[str, Any] | None) -> dict[str, Any] | None:
    """The headers that the message had before it died."""
    kept = {name: value for name, value in (header or {}).items() if not name.startswith(_HEADER_PREFIX)}
    return kept or None
