"""Following the commit order once for all subscribers of this client.

`LogFollower` keeps the watermark, the batch id through which everything is known here, and tells the followers of a topic
of each new batch. The newest chunks are kept, bounded in bytes, so that subscribers that keep up share them; the others
find theirs in the file. Its own commits are given to it as they are made; a look at the file finds those of other
processes. Runs on the event loop only.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from geode_client.errors import CorruptData
from geode_client.message import Chunk
from geode_client.store.log import FOLLOW_AT_ONCE, Header, LogReader
from geode_client.store.writer import Append

RECENT_BYTES_MAX = 64 * 1024 * 1024


class Follower(Protocol):
    """Who is told that a topic has a new batch; batches are told in commit order."""

    def notice(self, batch_id: int) -> None: ...


class LogFollower:
    """The watermark, the newest chunks, and who follows which topic.

    `adopt` is asked once for every topic id that nobody follows: it may call `follow` for subscribers whose pattern covers
    the topic.
    """

    def __init__(self, log: LogReader, adopt: Callable[[int], None]) -> None:
        self._log = log
        self._adopt = adopt
        self._followers: dict[int, dict[Follower, None]] = {}
        self._strangers: set[int] = set()
        self._recent: dict[int, Chunk] = {}
        self._recent_bytes = 0
        self.watermark = log.last_batch_id()

    def follow(self, topic_id: int, follower: Follower) -> None:
        """Tell `follower` of what is committed to the topic after the watermark."""
        followers = self._followers.get(topic_id)
        if followers is None:
            # Others may cover the topic as well, and nobody asks again for one that is followed.
            followers = self._followers[topic_id] = {}
            self._adopt(topic_id)
        followers[follower] = None
        self._strangers.discard(topic_id)

    def unfollow(self, topic_id: int, follower: Follower) -> None:
        followers = self._followers.get(topic_id, {})
        followers.pop(follower, None)
        if not followers:
            self._followers.pop(topic_id, None)

    def forget_strangers(self) -> None:
        """Ask again about topics that nobody followed: there is a new subscriber with a pattern."""
        self._strangers.clear()

    def chunk(self, batch_id: int) -> Chunk | None:
        """A batch that was told of, or None when it has been removed since; raises CorruptData."""
        return self._recent.get(batch_id) or self._log.chunk(batch_id)

    def committed_here(self, appended: Sequence[Append]) -> None:
        """Take in what this client has just committed, in order; reads the file when others committed in between."""
        if not appended or appended[-1].batch_id <= self.watermark:
            return
        if appended[0].batch_id != self.watermark + 1:
            while self.look():
                pass
            return
        for append in appended:
            followers = self._followers_of(append.topic_id)
            self.watermark = append.batch_id
            if followers:
                self._keep(self._log.appended(append))
                for follower in followers:
                    follower.notice(append.batch_id)

    def look(self) -> bool:
        """Read what was committed since; True when there may be more to read at once."""
        headers = self._log.committed_after(self.watermark)
        for header in headers:
            self._take(header)
        return len(headers) == FOLLOW_AT_ONCE

    def _take(self, header: Header) -> None:
        followers = self._followers_of(header.topic_id)
        self.watermark = header.batch_id
        if not followers:
            return
        try:
            chunk = self._log.chunk(header.batch_id)
        except CorruptData:
            chunk = None  # whoever is told of it meets the same error when asking for it
        if chunk is not None:
            self._keep(chunk)
        for follower in followers:
            follower.notice(header.batch_id)

    def _followers_of(self, topic_id: int) -> dict[Follower, None] | None:
        followers = self._followers.get(topic_id)
        if followers is None and topic_id not in self._strangers:
            self._strangers.add(topic_id)
            self._adopt(topic_id)
            followers = self._followers.get(topic_id)
        return followers

    def _keep(self, chunk: Chunk) -> None:
        self._recent[chunk.batch_id] = chunk
        self._recent_bytes += len(chunk.lines)
        while self._recent_bytes > RECENT_BYTES_MAX:
            oldest = self._recent.pop(next(iter(self._recent)))
            self._recent_bytes -= len(oldest.lines)
