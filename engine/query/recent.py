"""The fields of a topic's newest messages, for notices about names that no message has."""

from collections.abc import Sequence

import msgspec

from geode_client import codec
from geode_client.broker import Broker, ScanRequest
from geode_client.catalog import Topic

MESSAGES = 40
BYTES = 256 * 1024
TOPICS_MAX = 8
FIELDS_MAX = 1000


class RecentFields:
    """Looks at the newest messages of topics, once each."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._known: dict[str, frozenset[str] | None] = {}

    async def of(self, topics: Sequence[Topic]) -> frozenset[str] | None:
        """The fields of the newest messages of the topics and of their schemas; None where there are no messages, or more
        topics than are looked at."""
        if not topics or len(topics) > TOPICS_MAX:
            return None
        found: set[str] = set()
        for topic in topics:
            if topic.name not in self._known:
                self._known[topic.name] = await self._sample(topic)
            fields = self._known[topic.name]
            if fields is None and len(topics) == 1:
                return None
            found |= fields or frozenset()
            found |= set(topic.schema.names if topic.schema is not None else ())
        return frozenset(found)

    async def _sample(self, topic: Topic) -> frozenset[str] | None:
        found: set[str] = set()
        left, left_bytes = MESSAGES, BYTES
        empty = True
        async for chunk in self._broker.scan(ScanRequest([topic], newest_first=True)):
            for body in reversed(chunk.bodies[-left:]):
                empty = False
                left -= 1
                left_bytes -= len(body)
                if left_bytes < 0 or len(found) > FIELDS_MAX:
                    return frozenset(found)
                try:
                    value = codec.decode(body)
                except msgspec.MsgspecError:
                    continue
                found.update(value if isinstance(value, dict) else ("value",))
            if left <= 0:
                break
        return None if empty else frozenset(found)
