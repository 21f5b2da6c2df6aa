"""How a batch of messages is packed into one row, and how a row is checked and unpacked.

Payload: the JSON bodies, each followed by a newline; lz4 block format when that is smaller. Attributes: msgpack of
`Attributes`, likewise. `codec` is a set of bits: 1 the payload is compressed, 2 the attributes are (their own size stands
before them, four bytes little-endian). The checksum is CRC-32 over the row's identity (all integers as signed 64 bit,
little-endian, in the order of `identity`), then the attributes, then the payload as stored, so that a row that was
damaged, or moved to another place, is found out before anything of it is delivered.
"""

import struct
import zlib
from typing import Any

import lz4.block
import msgspec

from geode_client.errors import CorruptData
from geode_client.message import NO_ATTRIBUTES, Attributes, Chunk

PAYLOAD_LZ4 = 1
ATTRIBUTES_LZ4 = 2
COMPRESS_FROM_BYTES = 256
RAW_BYTES_MAX = 256 * 1024 * 1024
ROW_BYTES_TARGET = 4 * 1024 * 1024
ROW_MESSAGES_MAX = 4096

_IDENTITY = struct.Struct("<11q")
_ABSENT = -1

# What a reader selects, in the order `unpack` takes it.
READ_COLUMNS = (
    "batch_id, topic_id, partition, base_offset, count, priority, timestamp_us, expires_first_us, expires_last_us,"
    " schema_version, codec, raw_bytes, checksum, attributes, payload"
)

_encode_attributes = msgspec.msgpack.Encoder().encode
_decode_attributes = msgspec.msgpack.Decoder(Attributes).decode


class PackedBatch(msgspec.Struct, frozen=True):
    """A batch as it goes into a row; the checksum follows once its place is known."""

    codec: int
    raw_bytes: int
    attributes: bytes | None
    payload: bytes

    @property
    def stored_bytes(self) -> int:
        return len(self.payload) + (len(self.attributes) if self.attributes else 0)


def pack(lines: bytes, attributes: Attributes, *, compress: bool = True) -> PackedBatch:
    """Pack JSON lines and their attributes; compression is dropped where it does not make them smaller."""
    codec = 0
    payload = lines
    if compress and len(lines) >= COMPRESS_FROM_BYTES:
        smaller = lz4.block.compress(lines, store_size=False)
        if len(smaller) < len(lines):
            codec, payload = PAYLOAD_LZ4, smaller
    packed = None if attributes is NO_ATTRIBUTES else _encode_attributes(attributes)
    if packed is not None and len(packed) >= COMPRESS_FROM_BYTES:
        smaller = lz4.block.compress(packed, store_size=True)
        if len(smaller) < len(packed):
            codec, packed = codec | ATTRIBUTES_LZ4, smaller
    return PackedBatch(codec, len(lines), packed, payload)


def checksum(
    identity: tuple[int, int, int, int, int, int, int, int | None, int | None, int, int],
    attributes: bytes | None,
    payload: bytes,
) -> int:
    """CRC-32 of a row.

    `identity`: batch id, topic id, partition, base offset, count, priority, timestamp, first and last expiry (or None),
    schema version, raw bytes · 256 + codec.
    """
    numbers = [_ABSENT if number is None else number for number in identity]
    start = zlib.crc32(_IDENTITY.pack(*numbers))
    return zlib.crc32(payload, zlib.crc32(attributes, start) if attributes else start)


def unpack(row: tuple[Any, ...], topic: str, id_prefix: str) -> Chunk:
    """Check and unpack a row of READ_COLUMNS; raises CorruptData with its place and delivers nothing of it."""
    codec, raw_bytes, expected, attributes, payload = row[10:15]
    identity = (*row[:10], raw_bytes * 256 + codec)
    place = f"batch {row[0]} of topic {topic} (partition {row[2]}, offsets {row[3]} to {row[3] + row[4] - 1})"
    if checksum(identity, attributes, payload) != expected:
        raise CorruptData(
            f"{place} fails its checksum: the file was damaged; the batch is not delivered and not deleted"
        )
    try:
        lines = unpack_payload(codec, raw_bytes, payload)
        described = unpack_attributes(codec, attributes)
    except (lz4.block.LZ4BlockError, msgspec.DecodeError, MemoryError, ValueError) as error:
        raise CorruptData(f"{place} cannot be unpacked: {error}") from error
    return Chunk(
        batch_id=row[0],
        topic=topic,
        topic_id=row[1],
        partition=row[2],
        base_offset=row[3],
        count=row[4],
        priority=row[5],
        timestamp_us=row[6],
        schema_version=row[9],
        lines=lines,
        attributes=described,
        id_prefix=id_prefix,
    )


def unpack_payload(codec: int, raw_bytes: int, payload: bytes) -> bytes:
    """The JSON lines of a row; raises an error of lz4 or ValueError when they are damaged."""
    if not codec & PAYLOAD_LZ4:
        return payload
    if raw_bytes > RAW_BYTES_MAX:
        raise ValueError(f"it says to unpack to {raw_bytes} bytes, more than {RAW_BYTES_MAX}")
    lines: bytes = lz4.block.decompress(payload, uncompressed_size=raw_bytes)
    if len(lines) != raw_bytes:
        raise ValueError(f"it unpacks to {len(lines)} bytes, not {raw_bytes}")
    return lines


def unpack_attributes(codec: int, attributes: bytes | None) -> Attributes:
    """The attributes of a row; raises an error of lz4, msgspec or ValueError when they are damaged."""
    if attributes is None:
        return NO_ATTRIBUTES
    if codec & ATTRIBUTES_LZ4:
        if int.from_bytes(attributes[:4], "little") > RAW_BYTES_MAX:
            raise ValueError("its attributes say to unpack to more than the bound")
        attributes = lz4.block.decompress(attributes)
    return _decode_attributes(attributes)
