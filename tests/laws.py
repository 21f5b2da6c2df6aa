"""What must be true of every group at every commit."""

from geode_client import Client
from geode_client.broker import GroupStatistics


def difference(group: GroupStatistics) -> int:
    """Messages published since the group's origin of which nothing is known; the law says 0."""
    settled = group.acknowledged + group.filtered + group.dead_lettered + group.expired + group.removed
    return group.published - settled - group.ahead - group.in_flight - group.retrying


async def conserved(client: Client, pattern: str = "**") -> dict[str, GroupStatistics]:
    """The groups by name, after the law of conservation was checked for each in each topic."""
    found = (await client._broker.report(["groups"], pattern)).groups
    wrong = [group for group in found if difference(group)]
    assert not wrong, f"messages that nobody knows of: {wrong}"
    return {group.name: group for group in found}
