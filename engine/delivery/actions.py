"""What a scheduler wants done, and the time that its events carry. The driver of a backend performs these actions."""

from collections.abc import Sequence
from dataclasses import dataclass

from geode_client.delivery.settlement import Settlement
from geode_client.errors import GeodeError


@dataclass(frozen=True, slots=True)
class Now:
    """The wall clock, and the clock of leases, which only stops with the machine; in microseconds."""

    wall_us: int
    boot_us: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Look, without claiming; answered by `probed`.

    `work`: whether anything can be claimed, and when the next retry is due. `retry`: only the latter. `lost`: whether there
    are claims that nobody has, or whose owner is lost.
    """

    what: str
    looks_at_owners: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Claim up to `wanted` messages, after writing `settlements`; answered by `written` and `claimed` or `claim_failed`.

    `above`: only lanes beyond this one. `topic_ids`: only these topics have new messages (None: all may have).
    `looks_at_owners`: also claims of lost owners. `alone`: also a message that must be alone.
    """

    number: int
    wanted: int
    above: int | None
    topic_ids: Sequence[int] | None
    looks_at_owners: bool
    alone: bool
    turn: int
    settlements: Sequence[Settlement]


@dataclass(frozen=True, slots=True)
class Write:
    """Write settlements; answered by `written`."""

    number: int
    settlements: Sequence[Settlement]


@dataclass(frozen=True, slots=True)
class Settled:
    """All that these tickets waited for is written, or failed."""

    tickets: Sequence[int]
    error: GeodeError | None


@dataclass(frozen=True, slots=True)
class Renew:
    """Move the deadlines of the claims that are held; answered by `renewed`."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Note that a claim is handed over alone; answered by `begun`."""

    claim_id: int


@dataclass(frozen=True, slots=True)
class Wake:
    """A member that waits has something to take, or has to look why it has not."""

    member_id: str


Action = Probe | Claim | Write | Settled | Renew | Begin | Wake
