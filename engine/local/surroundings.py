"""What the driver of a group needs of the client that it works in."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from geode_client.conditions.protocol import ConditionLike
from geode_client.delivery.members import Member
from geode_client.local.follower import LogFollower
from geode_client.store.groups import Group
from geode_client.store.log import LogReader, Skips
from geode_client.store.topics import TopicReader
from geode_client.store.writer import Work


class Reporter(Protocol):
    """Who counts deliveries."""

    def settled(self, topic_id: int, settled: int, failed: int) -> None: ...


class Waiting(Protocol):
    """A member's feed, as far as it waits."""

    @property
    def member(self) -> Member: ...

    def wake(self) -> bool:
        """Whether it was waiting, and nobody had woken or cancelled it yet."""
        ...


class Surroundings(Protocol):
    """What the driver of a group needs of the client that it works in."""

    @property
    def log(self) -> LogReader: ...

    @property
    def topics(self) -> TopicReader: ...

    @property
    def follower(self) -> LogFollower: ...

    @property
    def reports(self) -> Reporter: ...

    @property
    def process(self) -> str: ...

    @property
    def skips(self) -> Callable[[ConditionLike | None], Skips | None]:
        """What statistics say of a condition: which batches need not be read for it."""
        ...

    @property
    def write(self) -> Callable[[Sequence[Work]], Awaitable[None]]: ...

    def compiled(self, group: Group) -> ConditionLike | None:
        """The condition that a group keeps."""
        ...

    def dead_owners(self, group_id: int) -> list[str]: ...

    def act_all(self) -> None:
        """Perform what the schedulers of all groups want done."""
        ...
