"""What a backend can do: one record that is asked before something is run, and that EXPLAIN names.

A backend gives its `Capabilities`. Code above the seam never asks which backend it has: it asks `lacking` what a request
needs and the backend does not have. A backend refuses such a request itself as well, with `require`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields

from geode_client.broker.records import OutgoingBatch, OutgoingMessage, SubscriptionRequest
from geode_client.delivery.lanes import DEFAULT_PRIORITY
from geode_client.errors import Unsupported


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. A field that is False is a request that it refuses with `Unsupported`, unless noted otherwise.

    `backend` is its name in errors. `reasons` says for a capability that is missing why, for people.
    """

    backend: str
    groups: bool = True
    """Consumer groups: durable delivery, acknowledgements, retries and dead letters."""
    ordering: bool = True
    """Groups that deliver the messages of one key in order."""
    priorities: bool = True
    """Priorities other than the default, and delivery in their order."""
    delays: bool = True
    """Messages that become visible later."""
    expected_offsets: bool = True
    """Publishes that are refused with `Conflict` when their offset is not the expected one."""
    transactions: bool = True
    """Publishes and acknowledgements that are stored together."""
    transactions_across_topics: bool = True
    """Transactions may name any topics. False: only topics that the backend keeps together."""
    own_tables: bool = True
    """SQL on tables of the program's own, in the same transactions."""
    regions: bool = True
    """Publishing to a region, and subscribing to one."""
    dense_offsets: bool = True
    """Offsets of a partition have no holes. Nothing is refused without it: offsets ascend everywhere."""
    exact_seek_preview: bool = True
    """A seek says how many messages it replays and skips. Nothing is refused without it: the counts are None."""
    unlimited_deduplication: bool = True
    """A message id is known as long as its topic has no `dedupe_window`. Nothing is refused: the window is bounded."""
    shared: bool = True
    """Other clients, in this process or others, can open the same target. `:memory:` is seen by its own client only."""
    survives_restart: bool = True
    """What is stored is there when the target is opened again."""
    reasons: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> dict[str, str]:
        """Capabilities that this backend does not have, each with the reason (empty where there is none to give)."""
        return {name: self.reasons.get(name, "") for name in NAMES if not getattr(self, name)}

    def lacking(self, needed: Iterable[str]) -> str | None:
        """The first of the needed capabilities that is missing, as EXPLAIN and errors name it; None when all are there."""
        for name in needed:
            if not getattr(self, name):
                reason = self.reasons.get(name)
                words = name.replace("_", " ")
                return f"{words} ({reason})" if reason else words
        return None

    def require(self, *needed: str) -> None:
        """Raise Unsupported, naming it, when a needed capability is missing."""
        lacking = self.lacking(needed)
        if lacking is not None:
            raise Unsupported(lacking, self.backend)


NAMES = tuple(one.name for one in fields(Capabilities) if one.name not in ("backend", "reasons"))


def needs_of_publish(given: OutgoingMessage | OutgoingBatch) -> Iterator[str]:
    """The capabilities that storing a message or batch needs."""
    if given.region is not None:
        yield "regions"
    if given.delay_us:
        yield "delays"
    if given.priority != DEFAULT_PRIORITY:
        yield "priorities"
    if given.expected_offset is not None:
        yield "expected_offsets"


def needs_of_subscription(request: SubscriptionRequest) -> Iterator[str]:
    """The capabilities that a subscription, or the group that it joins, needs."""
    if request.region is not None:
        yield "regions"
    if request.group is not None or not request.auto_ack:
        yield "groups"
    if request.ordering:
        yield "ordering"
    if request.priority_order:
        yield "priorities"
