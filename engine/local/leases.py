"""Keeping the claims of a dispatcher: their deadlines are moved long before they pass."""

import asyncio
from collections.abc import Callable, Sequence

from geode_client.clock import boot_us
from geode_client.delivery.claims import HeldClaim
from geode_client.delivery.group import GroupCore
from geode_client.local.surroundings import Surroundings
from geode_client.store.settling import Renew

LEASE_RENEWALS = 3
RENEWAL_SECONDS_MAX = 10.0


class Leases:
    """The heartbeat of what one group holds here; `lost` is told of claims that have passed to somebody else."""

    def __init__(self, core: GroupCore, around: Surroundings, lost: Callable[[Sequence[int]], None]) -> None:
        self._core = core
        self._around = around
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.renewing: asyncio.Task[None] | None = None

    def expect(self) -> None:
        """Something is held: renew it in time."""
        lease_us = self._core.shortest_lease_us()
        if self._timer is None and lease_us is not None:
            wait = min(lease_us / LEASE_RENEWALS / 1e6, RENEWAL_SECONDS_MAX)
            self._timer = self._loop.call_later(wait, self._due)

    def _due(self) -> None:
        self._timer = None
        if self.renewing is None:
            self.renewing = self._loop.create_task(self.renew(), name="geode-renew")
            self.renewing.add_done_callback(self._renewed)

    def _renewed(self, task: "asyncio.Task[None]") -> None:
        self.renewing = None
        if not task.cancelled():
            task.exception()  # what cannot be renewed is lost, and whoever settles it is told
        self.expect()

    async def renew(self) -> None:
        """Move the deadlines of all that is held; what has passed to somebody else is found to be lost."""
        renew = Renew(self._core.deadlines(boot_us()))
        await self._around.write([renew])
        self._lost(renew.lost)
        self._core.renewed(renew.deadlines)

    async def extend(self, claim: HeldClaim, until_us: int) -> None:
        """Hold a claim at least until a time of the boot clock."""
        claim.extended_us = max(claim.extended_us, until_us)
        await self.renew()

    def stop(self) -> None:
        """Nothing is held any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
