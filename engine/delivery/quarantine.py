"""One message that may have ended its consumers is handed over while its process holds nothing else, in any group.

Shared by the schedulers of one client. One scheduler at a time asks for it; meanwhile none of them claims, and all give
back what their members have not begun. Once nothing else is held the message is begun, and when it is settled the others
go on. What does not become quiet in time is given up for a while: the message goes back without a loss.

| state | `wanted_by` | `is_begun` | left by |
| --- | --- | --- | --- |
| open | None | False | `request` |
| draining | a scheduler | False | `begun`, once all are quiet; `end`, after DRAIN_US |
| alone | a scheduler | True | `end`, when the message is settled or lost |
"""

from typing import Protocol

DRAIN_US = 5_000_000
BACKOFF_FIRST_US = 2_000_000
BACKOFF_MAX_US = 300_000_000


class Holder(Protocol):
    """A scheduler, as far as it holds messages."""

    def holds_only(self, claim_id: int | None) -> bool:
        """Whether it holds no claim but this one, as far as the backend knows."""
        ...

    def quarantine_changed(self) -> None:
        """The quarantine has begun or ended: give back what is not begun, or go on."""
        ...

    def is_quiet(self) -> None:
        """Nothing else is held: the message may be begun."""
        ...


class Quarantine:
    """The state that the schedulers of a client share."""

    def __init__(self) -> None:
        self._holders: dict[Holder, None] = {}
        self._claim_id = 0
        self._since_us = 0
        self._not_before_us = 0
        self._backoff_us = BACKOFF_FIRST_US
        self.wanted_by: Holder | None = None
        self.is_begun = False
        self.touched = False  # schedulers have something to do that got no event

    def enter(self, holder: Holder) -> None:
        self._holders[holder] = None

    def leave(self, holder: Holder) -> None:
        self._holders.pop(holder, None)
        if self.wanted_by is holder:
            self.end(settled=True)
        else:
            self.look()

    @property
    def is_open(self) -> bool:
        """Whether schedulers may claim."""
        return self.wanted_by is None

    def may_request(self, boot_us: int) -> bool:
        return self.wanted_by is None and boot_us >= self._not_before_us

    def request(self, holder: Holder, claim_id: int, boot_us: int) -> bool:
        """Ask to be alone with a claim; False when another scheduler has asked, or it is too early to try again."""
        if not self.may_request(boot_us):
            return False
        self.wanted_by, self._claim_id, self._since_us = holder, claim_id, boot_us
        self.touched = True
        for one in list(self._holders):
            one.quarantine_changed()
        self.look()
        return True

    def look(self) -> None:
        """Begin as soon as nothing else is held; called after all that may have changed that."""
        asking = self.wanted_by
        if asking is None or self.is_begun:
            return
        if all(one.holds_only(self._claim_id if one is asking else None) for one in self._holders):
            self.touched = True
            asking.is_quiet()

    def begun(self) -> None:
        """The backend has noted that the message is alone."""
        self.is_begun = True
        self._backoff_us = BACKOFF_FIRST_US

    def is_overdue(self, boot_us: int) -> bool:
        """Whether it has been waited for long enough."""
        return self.wanted_by is not None and not self.is_begun and boot_us - self._since_us >= DRAIN_US

    def give_up(self, boot_us: int) -> None:
        """It did not become quiet: let the others go on, and wait longer each time before it is tried again."""
        self._not_before_us = boot_us + self._backoff_us
        self._backoff_us = min(self._backoff_us * 2, BACKOFF_MAX_US)
        self.end(settled=False)

    def end(self, *, settled: bool) -> None:
        """The message is settled, lost or given up: the others go on."""
        if settled:
            self._not_before_us = 0
        self.wanted_by, self.is_begun = None, False
        self.touched = True
        for one in list(self._holders):
            one.quarantine_changed()
