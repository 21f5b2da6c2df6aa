"""The options of topics, of publishing and of COPY: one table each, read from statements and from Python alike.

A table row says what the option is called, what kind of value it takes, and its bounds; everything else (checking, the
nearest right name, canonical text, storage) follows from the table.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from geode_client.errors import GqlError, did_you_mean
from geode_client.grammar.ast import StructType, TypeNode
from geode_client.grammar.names import validate_topic_name
from geode_client.grammar.source import Span
from geode_client.units import format_duration, format_size, parse_duration_us, parse_size_bytes

PRIORITY_NAMES = {"low": 2, "normal": 5, "high": 7, "critical": 9}
COMPRESSIONS = ("lz4", "none")
FILE_FORMATS = ("jsonl", "json", "csv", "tsv", "parquet")
FILE_COMPRESSIONS = ("gzip", "zstd", "none")
# What COPY from topic to topic can keep of a message beside its body.
KEPT = ("keys", "ids", "times", "headers", "priorities", "expiry")
RETRY_FOR_EVER = -1
TIME_ZONE_CHARACTERS_MAX = 64


class Entry(Protocol):
    """An option as a statement gives it."""

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> Any: ...

    @property
    def span(self) -> Span: ...

    @property
    def value_span(self) -> Span: ...


@dataclass(frozen=True, slots=True)
class Given:
    """An option as Python gives it: without a place in a text."""

    name: str
    value: Any
    span: Span | None = None
    value_span: Span | None = None


def parse_priority(value: object) -> int:
    """0 to 9, or low, normal, high, critical."""
    if isinstance(value, str):
        if value.casefold() in PRIORITY_NAMES:
            return PRIORITY_NAMES[value.casefold()]
        hint = did_you_mean(value, PRIORITY_NAMES) or "low, normal, high, critical, or a number from 0 to 9"
        raise GqlError(f"unknown priority {value!r}", hint=hint)
    return _whole(0, 9)(value)


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise GqlError(f"a whole number from {low} to {high} is needed, not {value!r}")
        if not low <= value <= high:
            raise GqlError(f"{value} is out of range: a whole number from {low} to {high} is needed")
        return value

    return parse


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise GqlError(f"true or false is needed, not {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise GqlError(f"a text is needed, not {value!r}")
    return value


def _any_text(value: object) -> str:
    if not isinstance(value, str):
        raise GqlError(f"a text is needed, not {value!r}")
    return value


def _one_character(value: object) -> str:
    if not isinstance(value, str) or len(value) != 1 or value in '"\r\n\0':
        raise GqlError(f"one character is needed, such as ';', not {value!r}")
    return value


def _quote_character(value: object) -> str:
    if not isinstance(value, str) or len(value) != 1 or value in " \r\n\0":
        raise GqlError(f"one character is needed, such as '\"', not {value!r}")
    return value


def _encoding(value: object) -> str:
    import codecs

    try:
        found = codecs.lookup(_text(value))
        b"".decode(found.name)  # raises LookupError for a codec that is not of text
    except (LookupError, ValueError):
        raise GqlError(
            f"unknown encoding {value!r}: known are 'utf-8', 'utf-16', 'latin-1', 'cp1252' and others"
        ) from None
    return found.name


def _types(value: object) -> dict[str, TypeNode]:
    if not isinstance(value, StructType):
        raise GqlError(f"columns with their types are needed, such as (zip: STRING), not {value!r}")
    found: dict[str, TypeNode] = {}
    for one in value.fields:
        if one.name in found:
            raise GqlError(f"column {one.name} is given twice")
        found[one.name] = one.type
    return found


def _word(words: tuple[str, ...], others: Mapping[str, str]) -> Callable[[object], str]:
    """One of some words, some of which have another form."""
    parse = _one_of(*words)
    return lambda value: parse(others.get(value.casefold(), value) if isinstance(value, str) else value)


def _words(words: tuple[str, ...]) -> Callable[[object], frozenset[str]]:
    """Some of the words, separated by commas; 'all' is all of them."""

    def parse(value: object) -> frozenset[str]:
        given = [one.strip().casefold() for one in _text(value).split(",")]
        if given == ["all"]:
            return frozenset(words)
        for one in given:
            if one not in words:
                hint = did_you_mean(one, words)
                raise GqlError(f"'all', or some of '{', '.join(words)}' is needed, not {value!r}", hint=hint)
        return frozenset(given)

    return parse


def _one_of(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if isinstance(value, str) and value.casefold() in words:
            return value.casefold()
        right = " or ".join(f"'{word}'" for word in words)
        hint = did_you_mean(value, words) if isinstance(value, str) else None
        raise GqlError(f"{right} is needed, not {value!r}", hint=hint)

    return parse


def _positive_duration(value: object) -> int:
    duration_us = parse_duration_us(value)
    if duration_us == 0:
        raise GqlError("a duration of more than 0 is needed")
    return duration_us


def _key_text(value: object) -> str:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise GqlError(f"a key is text or a whole number, not {value!r}")


@dataclass(frozen=True, slots=True)
class Option:
    """One row of a table: the attribute that holds the value, how it is read, how it is written.

    `kind` says in words what value it takes; `example` is a value as statements write it.
    """

    attribute: str
    parse: Callable[[object], Any]
    description: str
    format: Callable[[Any], str | int] | None = None
    kind: str = "text"
    example: str = ""


def _retries(value: object) -> int:
    if isinstance(value, str) and value.casefold() == "forever":
        return RETRY_FOR_EVER
    try:
        return _whole(0, 10**6)(value)
    except GqlError as error:
        raise GqlError(f"{error.message} (or 'forever')", hint=error.hint) from error


def _time_zone(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > TIME_ZONE_CHARACTERS_MAX:
        raise GqlError(f"a time zone is text such as 'America/New_York', not {value!r:.60}")
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint = "write a zone of the IANA database, such as 'America/New_York'"
        raise GqlError(f"there is no time zone {value!r}", hint=hint) from None
    return value


def _duration(attribute: str, description: str, example: str) -> Option:
    return Option(attribute, _positive_duration, description, format_duration, "duration", example)


def _size(attribute: str, description: str, example: str) -> Option:
    return Option(attribute, parse_size_bytes, description, format_size, "size", example)


TOPIC_OPTIONS: Mapping[str, Option] = {
    "partitions": Option(
        "partitions", _whole(1, 4096), "logs that the topic is spread over", kind="number", example="4"
    ),
    "partition_key": Option(
        "partition_key", _text, "field whose value is the key where publish gives none", example="'customer'"
    ),
    "retention_period": _duration("retention_period_us", "older messages are removed", "'7 days'"),
    "retention_bytes": _size("retention_bytes", "the oldest messages are removed beyond this size", "'512 MiB'"),
    "retention": Option(
        "retention",
        _one_of("all", "consumed"),
        "'consumed' removes what every group has settled",
        kind="word",
        example="'consumed'",
    ),
    "message_ttl": _duration("message_ttl_us", "messages are not delivered after this time", "'24 hours'"),
    "max_subscribers": Option(
        "max_subscribers", _whole(1, 10**9), "how many may subscribe at a time", kind="number", example="100"
    ),
    "max_retries": Option(
        "max_retries",
        _retries,
        "failed attempts before a message is a dead letter; 'forever': never",
        lambda value: "forever" if value == RETRY_FOR_EVER else int(value),
        kind="number or word",
        example="3",
    ),
    "dead_letter_topic": Option(
        "dead_letter_topic",
        validate_topic_name,  # type: ignore[arg-type]
        "where dead letters go",
        kind="topic",
        example="'payment_failures'",
    ),
    "dead_letter_expired": Option(
        "dead_letter_expired", _truth, "expired messages of groups become dead letters", kind="boolean", example="true"
    ),
    "ack_timeout": _duration("ack_timeout_us", "how long a silent consumer keeps a message", "'1 minute'"),
    "retry_backoff": _duration("retry_backoff_us", "wait before the first retry; doubles", "'250ms'"),
    "retry_backoff_max": _duration("retry_backoff_max_us", "longest wait before a retry", "'5 minutes'"),
    "compression": Option(
        "compression", _one_of(*COMPRESSIONS), "how batches are stored", kind="word", example="'none'"
    ),
    "dedupe_window": _duration("dedupe_window_us", "how long a message id is remembered", "'1 day'"),
    "max_message_bytes": _size("max_message_bytes", "largest message as JSON text", "'64 KiB'"),
    "expire_when_idle": _duration(
        "expire_when_idle_us", "drops an automatically made topic that is not used", "'1 hour'"
    ),
    "strict": Option(
        "strict", _truth, "fields that the schema does not name are refused", kind="boolean", example="true"
    ),
    "time_zone": Option(
        "time_zone",
        _time_zone,
        "zone of declared times that are published without an offset",
        kind="time zone",
        example="'America/New_York'",
    ),
}


class TopicOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """The options of a topic; times in microseconds; None: not set. docs: TOPIC_OPTIONS."""

    partitions: int = 1
    partition_key: str | None = None
    retention_period_us: int | None = None
    retention_bytes: int | None = None
    retention: str = "all"
    message_ttl_us: int | None = None
    max_subscribers: int | None = None
    max_retries: int = 20
    dead_letter_topic: str | None = None
    dead_letter_expired: bool = False
    ack_timeout_us: int = 30_000_000
    retry_backoff_us: int = 1_000_000
    retry_backoff_max_us: int = 60_000_000
    compression: str = "lz4"
    dedupe_window_us: int | None = None
    max_message_bytes: int = 1024 * 1024
    expire_when_idle_us: int | None = None
    strict: bool = False
    time_zone: str | None = None

    @classmethod
    def parse(cls, entries: Iterable[Entry | Given] | Mapping[str, Any]) -> Self:
        """Options from a statement or a mapping; those not named have their defaults."""
        return cls().changed(entries)

    def changed(self, entries: Iterable[Entry | Given] | Mapping[str, Any]) -> Self:
        """The same options but for those that are named, as ALTER TOPIC changes them."""
        return msgspec.structs.replace(self, **parse_options(entries, TOPIC_OPTIONS, "topic option"))

    def named(self) -> list[tuple[str, str, bool]]:
        """All options that are set or have a default: name, value as GQL text, whether it is the default."""
        plain = TopicOptions()
        found = []
        for name, option in TOPIC_OPTIONS.items():
            value = getattr(self, option.attribute)
            if value is not None:
                found.append((name, written(option, value), value == getattr(plain, option.attribute)))
        return found

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        return msgspec.json.decode(text, type=cls)


PUBLISH_OPTIONS: Mapping[str, Option] = {
    "key": Option("key", _key_text, "messages of one key stay in order", kind="text or number", example="'c1'"),
    "priority": Option(
        "priority", parse_priority, "0 to 9, or low, normal, high, critical", kind="number or word", example="'high'"
    ),
    "ttl": _duration("ttl_us", "not delivered after this time", "'1 hour'"),
    "delay": _duration("delay_us", "not delivered before this time", "'5 seconds'"),
    "id": Option("message_id", _text, "a known id stores nothing", example="'o-4'"),
    "compression": Option(
        "compression", _one_of(*COMPRESSIONS), "how the messages are stored", kind="word", example="'none'"
    ),
    "region": Option("region", _text, "where to publish", example="'eu-west'"),
    "expected_offset": Option(
        "expected_offset",
        _whole(0, 2**62 - 1),
        "the offset that the first message has to get",
        kind="number",
        example="3",
    ),
}

_FORMAT = {
    "format": Option(
        "format",
        _word(FILE_FORMATS, {"ndjson": "jsonl"}),
        "jsonl, json, csv, tsv or parquet; default: by the ending",
        kind="word",
        example="'csv'",
    ),
    "delimiter": Option(
        "delimiter", _one_character, "what separates the cells of a CSV file", kind="character", example="';'"
    ),
    "quote": Option("quote", _quote_character, "the quotation mark of a CSV file", kind="character", example="'\"'"),
    "null": Option("null", _any_text, "cells of a CSV file with this text leave the field out", example="'NULL'"),
    "header": Option(
        "header", _truth, "whether the first row of a CSV file names the columns", kind="boolean", example="true"
    ),
    "quoted": Option(
        "quoted",
        _one_of("any", "text"),
        "'text': quoted cells of a CSV file, and only they, are text, so '' is not NULL",
        kind="word",
        example="'text'",
    ),
}

COPY_FROM_OPTIONS: Mapping[str, Option] = {
    "batch_size": Option("batch_size", _whole(1, 100_000), "messages stored together", kind="number", example="500"),
    "key_field": Option(
        "key_field",
        _text,
        "field or path whose value is the key; a message without it is an error",
        example="'customer'",
    ),
    "id_field": Option(
        "id_field", _text, "field or path whose value is the id; a known id stores nothing", example="'id'"
    ),
    "timestamp_field": Option(
        "timestamp_field", _text, "field or path whose value is the message's time", example="'created'"
    ),
    "timestamp_format": Option(
        "timestamp_format",
        _any_text,
        "'seconds', 'milliseconds', … since 1970, or '%d/%m/%Y %H:%M'; default: ISO 8601",
        example="'%Y-%m-%dT%H:%M:%SZ', timestamp_field: 'created'",
    ),
    "on_error": Option(
        "on_error",
        _one_of("stop", "skip"),
        "'skip': bad records are counted and put aside",
        kind="word",
        example="'skip'",
    ),
    "error_file": Option(
        "error_file",
        _text,
        "file of JSON lines that bad records are written to",
        example="'bad.jsonl', on_error: 'skip'",
    ),
    "error_topic": Option(
        "error_topic",
        validate_topic_name,  # type: ignore[arg-type]
        "topic that bad records are published to",
        kind="topic",
        example="'bad', on_error: 'skip'",
    ),
    **_FORMAT,
    "encoding": Option(
        "encoding", _encoding, "such as 'latin-1'; default: by the byte order mark, else UTF-8", example="'utf-8'"
    ),
    "infer": Option(
        "infer",
        _truth,
        "columns of a CSV file without a declared type may be numbers, booleans or JSON",
        kind="boolean",
        example="false",
    ),
    "types": Option(
        "types",
        _types,
        "types of columns of a CSV file: (zip: STRING, at: TIMESTAMP)",
        kind="columns",
        example="(total: DECIMAL, id: STRING)",
    ),
    "expansion_max": Option(
        "expansion_max",
        _whole(1, 1_000_000),
        "how many times its size a compressed file may expand to (200)",
        kind="number",
        example="1000",
    ),
}

COPY_TO_OPTIONS: Mapping[str, Option] = {
    **_FORMAT,
    "compression": Option(
        "compression",
        _word(FILE_COMPRESSIONS, {"gz": "gzip", "zst": "zstd"}),
        "gzip, zstd or none; default: by the ending",
        kind="word",
        example="'none'",
    ),
    "escape_formulas": Option(
        "escape_formulas",
        _truth,
        "text in a CSV file that a spreadsheet would compute gets an apostrophe before it",
        kind="boolean",
        example="true",
    ),
}

COPY_BETWEEN_OPTIONS: Mapping[str, Option] = {
    "keep": Option(
        "keep",
        _words(KEPT),
        f"what goes along with the bodies: 'all', or some of '{', '.join(KEPT)}'",
        example="'keys, ids'",
    ),
    "batch_size": COPY_FROM_OPTIONS["batch_size"],
}

# What completion offers after COPY, whichever way it goes.
COPY_OPTIONS: Mapping[str, Option] = {**COPY_FROM_OPTIONS, **COPY_TO_OPTIONS, **COPY_BETWEEN_OPTIONS}


def parse_options(
    entries: Iterable[Entry | Given] | Mapping[str, Any], table: Mapping[str, Option], what: str
) -> dict[str, Any]:
    """Attribute to value for the options given; raises GqlError with the place and the nearest right name."""
    if isinstance(entries, Mapping):
        entries = [Given(name, value) for name, value in entries.items()]
    found: dict[str, Any] = {}
    for entry in entries:
        option = table.get(entry.name.casefold())
        if option is None:
            hint = did_you_mean(entry.name, table) or f"known are {', '.join(table)}"
            raise GqlError(f"unknown {what} {entry.name}", span=entry.span, hint=hint)
        if option.attribute in found:
            raise GqlError(f"{what} {entry.name} is given twice", span=entry.span)
        found[option.attribute] = _value(entry, option, what)
    return found


def _value(entry: Entry | Given, option: Option, what: str) -> Any:
    try:
        return option.parse(entry.value)
    except GqlError as error:
        raise GqlError(f"{what} {entry.name}: {error.message}", span=entry.value_span, hint=error.hint) from error


def written(option: Option, value: Any) -> str:
    if option.format is not None:
        value = option.format(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
