"""The orders in which a group delivers, and the lanes that each order needs in a partition.

A lane has one frontier: the first offset that nobody has claimed. A group without an order has one lane in a partition, a
group in priority order one for each priority, a group in the order of keys one for each slot of the key hash.
"""

from collections.abc import Mapping
from typing import Final

from geode_client.routing import SLOTS

PLAIN: Final = "none"
PRIORITY: Final = "priority"
KEY: Final = "key"

DEFAULT_PRIORITY: Final = 5
"""The priority of most messages. A store may leave it out of its index of priorities."""

LANES: Mapping[str, range] = {PLAIN: range(1), PRIORITY: range(10), KEY: range(SLOTS)}
LANES_END = LANES[PRIORITY].stop
