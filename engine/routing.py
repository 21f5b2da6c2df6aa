"""Where a message goes by its key: the partition of a topic, and the slot of an ordered group inside it.

Both are part of the stored format: a change would send the messages of one key to two places.
"""

import zlib

SLOTS = 16


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: CRC-32 of its UTF-8 text, modulo the number of partitions."""
    return zlib.crc32(key.encode()) % partitions


def slot_of(key: str | None, offset: int) -> int:
    """The lane of a message in an ordered group. Messages without a key have no order; their offsets spread them."""
    return offset % SLOTS if key is None else (zlib.crc32(key.encode()) >> 16) % SLOTS
