"""What a feed hands over at once: some messages of one chunk, and how far their reader has come.

A reader takes the messages of a slice one after the other: it raises `taken` before it looks at a message, and `done` once
it asks for the next (with `auto_ack` that acknowledges). Whoever handed the slice over may take back what was not taken,
by lowering `end` to `taken`.
"""

from collections.abc import Sequence

from geode_client.message import Chunk, Settler


class Slice:
    """The places `indices[:end]` of `chunk`; `missed` messages were removed before they could be handed over.

    `attempt` counts from 1. With `settle_each` the reader waits for the settlement of a message before it takes the next;
    with `is_fenced` it makes sure that the messages are still ours before it takes one. `counted` is how far the reader has
    counted what it took, `skipped` how many behind that it took and passed over. `gathered` messages were taken for a list
    that is not handed over yet. `passed_over` messages were taken and had expired; `reported` is how many hand-overs are in the
    statistics. `handed_us`: when the feed gave the slice to its reader, by the wall clock.
    """

    __slots__ = (
        "attempt",
        "chunk",
        "counted",
        "done",
        "end",
        "gathered",
        "handed_us",
        "indices",
        "is_fenced",
        "missed",
        "passed_over",
        "reported",
        "settle_each",
        "settler",
        "skipped",
        "taken",
    )

    def __init__(
        self,
        chunk: Chunk,
        indices: Sequence[int],
        missed: int = 0,
        *,
        attempt: int = 1,
        settler: Settler | None = None,
        settle_each: bool = False,
        is_fenced: bool = False,
    ) -> None:
        self.chunk = chunk
        self.indices = indices
        self.missed = missed
        self.attempt = attempt
        self.settler = settler
        self.settle_each = settle_each
        self.is_fenced = is_fenced
        self.taken = 0
        self.done = 0
        self.counted = 0
        self.skipped = 0
        self.gathered = 0
        self.handed_us = 0
        self.passed_over = 0
        self.reported = 0
        self.end = len(indices)

    def take_handed_over(self) -> int:
        """How many messages were handed over since the last call."""
        handed = self.taken - self.gathered - self.passed_over
        new, self.reported = max(0, handed - self.reported), max(handed, self.reported)
        return new

    def is_held(self, boot_us: int) -> bool:
        """Whether the messages are certainly still ours at a time of the clock of leases, without asking the backend."""
        return True

    @property
    def rest(self) -> int:
        """Messages that nobody has taken yet."""
        return self.end - self.taken
