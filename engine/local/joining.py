"""Acknowledgements that are part of a transaction."""

from collections.abc import Sequence
from typing import Protocol

from geode_client.delivery.claims import HeldClaim
from geode_client.delivery.members import GroupSlice
from geode_client.errors import LeaseLost
from geode_client.store.groups import Group
from geode_client.store.settling import Settle


class Owner(Protocol):
    """The driver of the group whose messages are acknowledged."""

    group: Group

    def transaction_ended(self, joined: "JoinedAcknowledgements", *, stored: bool) -> None: ...


class JoinedAcknowledgements:
    """The acknowledgements of one group in one transaction: written with it, or undone with it."""

    def __init__(self, owner: Owner, key: int) -> None:
        self.key = key
        self.held: list[tuple[GroupSlice, int]] = []
        self._owner = owner
        self._work: Settle | None = None

    def add(self, one: GroupSlice, index: int) -> None:
        self.held.append((one, index))

    @property
    def lost(self) -> Sequence[int]:
        """Claims that the commit found in other hands."""
        return () if self._work is None else self._work.lost

    def work(self) -> Settle:
        """One settlement a claim; when any of them has passed on the whole transaction is refused."""
        offsets: dict[int, list[int]] = {}
        claims: dict[int, HeldClaim] = {}
        durable = False
        for one, index in self.held:
            claims[one.claim.claim_id] = one.claim
            offsets.setdefault(one.claim.claim_id, []).append(one.chunk.base_offset + index)
            durable |= one.claim.rules.durable
        self._work = Settle(
            group_id=self._owner.group.group_id,
            name=self._owner.group.name,
            settlements=[claim.reserved(offsets[claim_id]) for claim_id, claim in claims.items()],
            dead_letter_topics={},
            ordered=self._owner.group.order_by == "key",
            durable=durable,
            refusal=LeaseLost(
                "messages that the transaction acknowledges have passed to another consumer: nothing of it was stored"
            ),
        )
        return self._work

    def told(self, stored: bool) -> None:
        self._owner.transaction_ended(self, stored=stored)
