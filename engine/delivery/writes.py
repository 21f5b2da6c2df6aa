"""Which writes of settlements are under way, and who waits for them.

A flush is served once every write that was under way when it began has ended. One flush is under way at a time; who asks
meanwhile is served by the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from geode_client.errors import GeodeError


@dataclass(slots=True)
class Flush:
    """Tickets to be served, the writes that they still wait for, and the first error of these."""

    tickets: Sequence[int]
    needs: set[int]
    error: GeodeError | None = None


class Writes:
    """The writes of one scheduler, by number; tickets are numbers too."""

    def __init__(self) -> None:
        self._numbers = 0
        self._asked: list[int] = []
        self._flush: Flush | None = None
        self.under_way: set[int] = set()

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def begin(self) -> int:
        """A write begins: its number."""
        number = self._next()
        self.under_way.add(number)
        return number

    def end(self, number: int, error: GeodeError | None) -> None:
        """A write has ended."""
        self.under_way.discard(number)
        if self._flush is not None and number in self._flush.needs:
            self._flush.needs.discard(number)
            self._flush.error = self._flush.error or error

    def ask(self) -> int:
        """Ask for a flush: a ticket."""
        ticket = self._next()
        self._asked.append(ticket)
        return ticket

    @property
    def is_asked(self) -> bool:
        """Whether a ticket waits for a flush that has not begun."""
        return bool(self._asked)

    @property
    def may_flush(self) -> bool:
        return self._flush is None

    def flush(self) -> None:
        """Begin a flush for all who asked, of everything that is under way."""
        self._flush = Flush(self._asked, set(self.under_way))
        self._asked = []

    def finished(self) -> Flush | None:
        """The flush that has come to its end, once."""
        if self._flush is None or self._flush.needs:
            return None
        done, self._flush = self._flush, None
        return done
