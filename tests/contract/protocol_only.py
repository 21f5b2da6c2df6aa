"""A broker that offers what the protocol names and nothing else: any other attribute raises.

What runs through it uses the seam alone, so another backend can take the place of the one behind it.
"""

from collections.abc import Mapping
from typing import Any, cast

from geode_client.broker import Broker, BrokerTransaction, Feed, JoinsSettlements, SqlTransactions


def names_of(protocol: type) -> frozenset[str]:
    """The methods and properties that a protocol defines."""
    return frozenset(name for name in vars(protocol) if not name.startswith("_"))


class Only:
    """One object behind one protocol. What `wraps` names is wrapped by a protocol of its own when it is given out."""

    def __init__(self, behind: Any, protocol: type, wraps: Mapping[str, type] | None = None) -> None:
        self.__dict__.update({"_behind": behind, "_protocol": protocol, "_wraps": wraps or {}, "_made": {}})

    def __getattr__(self, name: str) -> Any:
        if name not in names_of(self._protocol):
            raise AssertionError(f"{self._protocol.__name__} has no {name}: this goes past the seam")
        value = getattr(self._behind, name)
        protocol = self._wraps.get(name)
        if protocol is None or value is None:
            return value
        if callable(value):
            return lambda *args, **options: Only(value(*args, **options), protocol, TRANSACTION)
        # The same object each time: a backend may know it again.
        return self._made.setdefault(name, Only(value, protocol))

    def __setattr__(self, name: str, value: object) -> None:
        raise AssertionError(f"{self._protocol.__name__}.{name} is set from above the seam")


class OnlyBroker(Only):
    """The broker itself; its feeds are wrapped too."""

    def __init__(self, behind: Broker) -> None:
        super().__init__(behind, Broker, {"transaction": BrokerTransaction})

    async def subscribe(self, request: Any) -> Any:
        return Only(await self._behind.subscribe(request), Feed)


TRANSACTION = {"sql": SqlTransactions, "joining": JoinsSettlements}


def protocol_only(broker: Broker) -> Broker:
    """The broker, behind its protocol."""
    return cast(Broker, OnlyBroker(broker))
