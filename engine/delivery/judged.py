"""How many messages filters have looked at: counted where they are judged, taken now and then by whoever reports it."""


class Judged:
    """Messages judged by filters since they were last taken, by topic id: evaluated, matched, and skipped unread."""

    __slots__ = ("_by_topic",)

    def __init__(self) -> None:
        self._by_topic: dict[int, list[int]] = {}

    def note(self, topic_id: int, evaluated: int, matched: int, skipped: int = 0) -> None:
        found = self._by_topic.get(topic_id)
        if found is None:
            self._by_topic[topic_id] = [evaluated, matched, skipped]
            return
        found[0] += evaluated
        found[1] += matched
        found[2] += skipped

    def take(self) -> dict[int, list[int]]:
        """What has been noted since the last time."""
        taken, self._by_topic = self._by_topic, {}
        return taken
