"""Following the commit order once for all subscribers of this client.

`LogFollower` keeps the watermark, the batch id through which everything is known here, and tells the followers of a topic
of each new batch, but for those whose conditions none of its messages can meet: these are found by an index, once a batch,
and cost nothing then. Those who have fallen behind are not told at all. The newest chunks are kept, bounded in bytes, so that subscribers that keep up share them; the others
find theirs in the file. Its own commits are given to it as they are made; a look at the file finds those of other
processes. Runs on the event loop only.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from geode_client.conditions.index import Matches, SubscriptionIndex
from geode_client.conditions.requirements import Requirement
from geode_client.delivery.fanout import Candidates
from geode_client.errors import CorruptData, GeodeError
from geode_client.message import Chunk
from geode_client.store.log import FOLLOW_AT_ONCE, Header, LogReader
from geode_client.store.writer import Append

RECENT_BYTES_MAX = 64 * 1024 * 1024
# What a chunk takes besides its text: of small ones that is most.
CHUNK_BYTES = 1_400
# Only those that were read last keep what was decoded of them, which is several times as much.
FRESH_BYTES_MAX = 8 * 1024 * 1024
# Older chunks that the claims of groups have read last; several lanes or groups read the same.
CLAIMED_BYTES_MAX = 4 * 1024 * 1024
# With fewer conditions on a topic than this each reader looks for itself, when it reads.
FILED_MIN = 4


class Follower(Protocol):
    """Who is told that a topic has a new batch; batches are told in commit order."""

    @property
    def requirement(self) -> Requirement | None:
        """What must hold of a message for this follower; None: nothing in particular."""
        ...

    def notice(self, batch: Header) -> None: ...

    def __hash__(self) -> int: ...


class _Recent(msgspec.Struct, frozen=True):
    """A chunk of the shared tail, and whom its messages may meet where that was looked up."""

    chunk: Chunk
    matches: Matches | None
    size_bytes: int


class _Audience:
    """Those who follow one topic; those of them who keep up are in the index."""

    __slots__ = ("index", "members")

    def __init__(self) -> None:
        self.members: dict[Follower, None] = {}
        self.index: SubscriptionIndex[Follower] = SubscriptionIndex()


class LogFollower:
    """The watermark, the newest chunks, and who follows which topic.

    `adopt` is asked once for every topic id that nobody follows: it may call `follow` for subscribers whose pattern covers
    the topic.
    """

    def __init__(self, log: LogReader, adopt: Callable[[int], None]) -> None:
        self._log = log
        self._adopt = adopt
        self._audiences: dict[int, _Audience] = {}
        self._strangers: set[int] = set()
        self._recent: OrderedDict[int, _Recent] = OrderedDict()
        self._recent_bytes = 0
        self._fresh: OrderedDict[int, _Recent] = OrderedDict()
        self._fresh_bytes = 0
        self._claimed: OrderedDict[int, Chunk] = OrderedDict()
        self._claimed_bytes = 0
        self.watermark = log.last_batch_id()

    def follow(self, topic_id: int, follower: Follower, *, keeps_up: bool) -> None:
        """Have a new follower of a topic; one that `keeps_up` is told of what is committed after the watermark."""
        audience = self._audiences.get(topic_id)
        if audience is None:
            # Others may cover the topic as well, and nobody asks again for one that is followed.
            audience = self._audiences[topic_id] = _Audience()
            self._adopt(topic_id)
        audience.members[follower] = None
        if keeps_up and follower not in audience.index:
            audience.index.add(follower, follower.requirement)
        self._strangers.discard(topic_id)

    def unfollow(self, topic_id: int, follower: Follower) -> None:
        audience = self._audiences.get(topic_id)
        if audience is None:
            return
        audience.members.pop(follower, None)
        audience.index.remove(follower)
        if not audience.members:
            del self._audiences[topic_id]

    def keep_up(self, topic_ids: Iterable[int], follower: Follower) -> None:
        """From now on tell `follower` of what these topics get."""
        for topic_id in topic_ids:
            audience = self._audiences.get(topic_id)
            if audience is not None and follower in audience.members and follower not in audience.index:
                audience.index.add(follower, follower.requirement)

    def fall_behind(self, topic_ids: Iterable[int], follower: Follower) -> None:
        """Tell `follower` nothing more, until it keeps up again: it costs nothing."""
        for topic_id in topic_ids:
            audience = self._audiences.get(topic_id)
            if audience is not None:
                audience.index.remove(follower)

    def forget_strangers(self) -> None:
        """Ask again about topics that nobody followed: there is a new subscriber with a pattern."""
        self._strangers.clear()

    def chunk(self, batch_id: int) -> Chunk | None:
        """A batch that was told of, or None when it has been removed since; raises CorruptData."""
        recent = self._recent.get(batch_id)
        if recent is None:
            return self._log.chunk(batch_id)
        self._refresh(recent)
        return recent.chunk

    def shared(self, batch_id: int) -> Chunk | None:
        """A batch that several claims may read: unpacked and split once for all of them; raises CorruptData."""
        if batch_id in self._recent:
            return self.chunk(batch_id)
        found = self._claimed.pop(batch_id, None)
        if found is None:
            found = self._log.chunk(batch_id)
            if found is None:
                return None
            self._claimed_bytes += len(found.lines) + CHUNK_BYTES
        self._claimed[batch_id] = found
        while self._claimed_bytes > CLAIMED_BYTES_MAX and len(self._claimed) > 1:
            _, oldest = self._claimed.popitem(last=False)
            self._claimed_bytes -= len(oldest.lines) + CHUNK_BYTES
        return found

    def forget(self, batch_ids: Iterable[int]) -> None:
        """Batches whose contents have changed are read anew by whoever needs them next."""
        for batch_id in batch_ids:
            claimed = self._claimed.pop(batch_id, None)
            if claimed is not None:
                self._claimed_bytes -= len(claimed.lines) + CHUNK_BYTES
            recent = self._recent.pop(batch_id, None)
            if recent is not None:
                self._recent_bytes -= recent.size_bytes
                if self._fresh.pop(batch_id, None) is not None:
                    self._fresh_bytes -= recent.size_bytes

    def candidates(self, batch_id: int, follower: Follower) -> Candidates | None:
        """Which messages of a batch may be for a follower that was told of it; None: that is not known."""
        recent = self._recent.get(batch_id)
        return None if recent is None or recent.matches is None else recent.matches.places(follower)

    def committed_here(self, appended: Sequence[Append]) -> None:
        """Take in what this client has just committed, in order; reads the file when others committed in between."""
        if not appended or appended[-1].batch_id <= self.watermark:
            return
        if appended[0].batch_id != self.watermark + 1:
            while self.look():
                pass
            return
        for append in appended:
            audience = self._audience_of(append.topic_id)
            self.watermark = append.batch_id
            if audience is not None:
                place = (append.batch_id, append.topic_id, append.partition, append.base_offset, append.count)
                self._tell(audience, Header(*place, append.priority), self._log.appended(append))

    def look(self) -> bool:
        """Read what was committed since; True when there may be more to read at once."""
        headers = self._log.committed_after(self.watermark)
        for header in headers:
            self._take(header)
        return len(headers) == FOLLOW_AT_ONCE

    def _take(self, header: Header) -> None:
        audience = self._audience_of(header.topic_id)
        self.watermark = header.batch_id
        if audience is None or not audience.index:
            return
        try:
            chunk = self._log.chunk(header.batch_id)
        except CorruptData:
            chunk = None  # whoever is told of it meets the same error when asking for it
        self._tell(audience, header, chunk)

    def _tell(self, audience: _Audience, header: Header, chunk: Chunk | None) -> None:
        """Tell those who keep up of a batch, but for those whom none of its messages can meet."""
        index = audience.index
        if not index:
            return
        matches = None
        if chunk is not None:
            if len(index.filed) >= FILED_MIN:
                # A message that is nested too deeply to be decoded here is found out by those who read it.
                with contextlib.suppress(GeodeError):
                    matches = index.match(chunk)
            self._keep(chunk, matches)
        told = [*index.unfiled, *matches.subscribers()] if matches is not None else list(index.subscribers())
        for follower in told:
            follower.notice(header)

    def _audience_of(self, topic_id: int) -> _Audience | None:
        audience = self._audiences.get(topic_id)
        if audience is None and topic_id not in self._strangers:
            self._strangers.add(topic_id)
            self._adopt(topic_id)
            audience = self._audiences.get(topic_id)
        return audience

    def _keep(self, chunk: Chunk, matches: Matches | None) -> None:
        size = CHUNK_BYTES + len(chunk.lines) + (0 if matches is None else matches.size_bytes)
        recent = self._recent[chunk.batch_id] = _Recent(chunk, matches, size)
        self._recent_bytes += size
        while self._recent_bytes > RECENT_BYTES_MAX:
            self._recent_bytes -= self._recent.popitem(last=False)[1].size_bytes
        self._refresh(recent)

    def _refresh(self, recent: _Recent) -> None:
        """A chunk is about to be decoded: those that were longest ago let go of what was decoded of them."""
        number = recent.chunk.batch_id
        if number in self._fresh:
            self._fresh.move_to_end(number)
            return
        self._fresh[number] = recent
        self._fresh_bytes += recent.size_bytes
        while self._fresh_bytes > FRESH_BYTES_MAX and len(self._fresh) > 1:
            _, old = self._fresh.popitem(last=False)
            self._fresh_bytes -= old.size_bytes
            old.chunk.forget_decoded()
