"""Times without an offset, given the offset of a time zone before they are stored.

Done when a message is published, so that all readers find instants, whatever becomes of the topic's option later.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from geode_client import codec
from geode_client.conditions.declared import decoded
from geode_client.conditions.times import zone_named
from geode_client.grammar.ast import ListType, MapType, Scalar, StructType, TypeNode

_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder(decimal_format="number")


def localised(lines: bytes, columns: Mapping[str, TypeNode], zone_name: str) -> bytes:
    """The lines with every naive time of some columns written with its offset; everything else stays as it is written."""
    zone = zone_named(zone_name)
    if zone is None:
        return lines
    found = [_localised_line(line, columns, zone) for line in codec.split_lines(lines)]
    return b"".join(line + b"\n" for line in found)


def _localised_line(line: bytes, columns: Mapping[str, TypeNode], zone: ZoneInfo) -> bytes:
    try:
        fields = _fields_decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError):
        return line
    changed = False
    for name in fields.keys() & columns.keys():
        before = decoded(fields[name])
        after = _localised(before, columns[name], zone)
        if after is not before and after != before:
            fields[name] = msgspec.Raw(_encoder.encode(after))
            changed = True
    return _encoder.encode(fields) if changed else line


def _localised(value: Any, node: TypeNode | None, zone: ZoneInfo) -> Any:
    match node:
        case Scalar("TIMESTAMP") if isinstance(value, str):
            return _with_offset(value, zone)
        case ListType(element) if isinstance(value, list):
            return [_localised(item, element, zone) for item in value]
        case MapType(inner) if isinstance(value, dict):
            return {name: _localised(item, inner, zone) for name, item in value.items()}
        case StructType(fields) if isinstance(value, dict):
            types = {field.name: field.type for field in fields}
            return {name: _localised(item, types.get(name), zone) for name, item in value.items()}
        case _:
            return value


def _with_offset(text: str, zone: ZoneInfo) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    if moment.tzinfo is not None:
        return text
    local = moment.replace(tzinfo=zone)
    offset = local.utcoffset() or timedelta()
    # ISO 8601 text has offsets of whole minutes; local mean time, before zones were standardised, also has seconds.
    if offset % timedelta(minutes=1):
        try:
            return (moment - offset).isoformat() + "Z"
        except OverflowError:
            return text
    return local.isoformat()
