"""How many messages a group claims at once: about as many as its members are likely to handle in a fifth of a second.

That is judged by how long members held messages before, not by the time between claims: a group that has to wait for the
others of its process is not slow. So quick readers get thousands at once, and slow ones no more than they can begin, which
leaves the rest to other processes.
"""

HOLD_WANTED_US = 200_000
PACE_SHORTEST_US = 0.5
GROWTH_MAX = 16
HELD_LONG_US = 1_000_000
SIZE_FIRST = 2
SIZE_MAX = 65_536
KEPT_LEAST = 1 / 4096
KEPT_FEW = 0.9


class Window:
    """The size of the next claim, in messages."""

    def __init__(self) -> None:
        self._size = SIZE_FIRST
        self._pace_us: float | None = None
        self._kept = 1.0  # the share of what was claimed that members are given
        self._claimed_us = 0

    def note(self, count: int, held_us: int) -> None:
        """A member has gone through `count` messages, which it held for so long in all."""
        if count > 0:
            pace_us = max(held_us / count, PACE_SHORTEST_US)
            self._pace_us = pace_us if self._pace_us is None else (self._pace_us + pace_us) / 2

    def received(self, claimed: int, kept: int) -> None:
        """Of so many claimed messages members are given `kept`; the others were filtered out, expired or removed."""
        if claimed > 0:
            self._kept = max((self._kept + kept / claimed) / 2, KEPT_LEAST)

    def claimed(self, now_us: int) -> None:
        """A claim is made now."""
        self._claimed_us = now_us

    def size(self, members: int) -> int:
        """The size of a claim for so many members: at least one message each."""
        # What the condition does not want costs the members no time.
        if self._pace_us is not None:
            likely = int(HOLD_WANTED_US / self._pace_us / self._kept) * members
            self._size = min(likely, self._size * GROWTH_MAX)
        elif self._kept < KEPT_FEW:
            self._size = min(int(self._size / self._kept), self._size * GROWTH_MAX, SIZE_MAX)
        self._size = max(self._size, members)
        return self._size

    def is_held_long(self, now_us: int) -> bool:
        """Whether the last claim is so old that what nobody has begun of it belongs to other processes; claim less then."""
        if now_us - self._claimed_us < HELD_LONG_US:
            return False
        self._size = max(1, self._size // 2)
        return True
