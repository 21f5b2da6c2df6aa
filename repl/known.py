"""What a shell can complete from the store: topics, groups, and the fields of messages.

Fields come from a topic's schema and from its newest messages. Everything is remembered for a moment only, so that typing
does not read the store at every key, and bounded, so that large messages or many topics do not slow it down.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from geode_client import codec
from geode_client.broker import Broker, ScanRequest
from geode_client.catalog import Topic
from geode_client.errors import GeodeError
from geode_client.grammar import ast
from geode_client.grammar.written import type_text
from geode_client.message import VIRTUAL_COLUMNS
from geode_client.query import system

REMEMBERED_SECONDS = 2.0
SAMPLED_MESSAGES = 40
SAMPLED_BYTES = 256 * 1024
SAMPLED_TOPICS_MAX = 8
FIELDS_MAX = 500
DEPTH_MAX = 4


@dataclass(slots=True)
class Field:
    """A field of messages: how its kind is called, and the fields inside it."""

    kind: str
    inside: "dict[str, Field]" = field(default_factory=dict)


class Known:
    """Names in a store, asked for while somebody types."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._remembered: dict[Any, tuple[float, Any]] = {}

    async def topics(self) -> list[str]:
        """Names of all topics."""
        found: list[str] = await self._once("topics", self._topics)
        return found

    async def groups(self) -> list[str]:
        """Names of durable groups, and of groups that have members now."""
        found: list[str] = await self._once("groups", self._groups)
        return found

    def tables(self) -> list[str]:
        """Names of the SYSTEM tables."""
        return list(system.TABLES)

    async def fields(self, source: str, path: Iterable[str] = ()) -> Mapping[str, Field]:
        """The fields of a topic, pattern or SYSTEM table; with a path those inside that field."""
        found = await self._once(("fields", source), lambda: self._fields(source))
        for name in path:
            inside = found.get(name)
            found = {} if inside is None else inside.inside
        return dict(found)

    async def _once(self, key: Any, ask: Callable[[], Awaitable[Any]]) -> Any:
        now = time.monotonic()
        remembered = self._remembered.get(key)
        if remembered is not None and now - remembered[0] < REMEMBERED_SECONDS:
            return remembered[1]
        found = await ask()
        if len(self._remembered) > FIELDS_MAX:
            self._remembered.clear()
        self._remembered[key] = (now, found)
        return found

    async def _topics(self) -> list[str]:
        return [topic.name for topic in await self._broker.topics()]

    async def _groups(self) -> list[str]:
        found: set[str] = set()
        for table, column in (("subscriptions", "name"), ("subscribers", "consumer_group")):
            # A backend may lack one of the tables: then there is nothing to offer from it.
            with suppress(GeodeError, ValueError):
                place = system.TABLES[table].index(column)
                found |= {row[place] for row in await system.rows_of(self._broker, table) if row[place]}
        return sorted(found)

    async def _fields(self, source: str) -> dict[str, Field]:
        head, dot, table = source.replace(" ", "").partition(".")
        if dot and head.upper() == "SYSTEM":
            return {name: Field("column") for name in system.TABLES.get(table.lower(), ())}
        found: dict[str, Field] = {}
        with suppress(GeodeError):
            for topic in (await self._broker.topics(source))[:SAMPLED_TOPICS_MAX]:
                _add_schema(found, topic)
                await self._add_sample(found, topic)
        found |= {name: Field("of every message") for name in VIRTUAL_COLUMNS}
        return found

    async def _add_sample(self, found: dict[str, Field], topic: Topic) -> None:
        left, left_bytes = SAMPLED_MESSAGES, SAMPLED_BYTES
        async for chunk in self._broker.scan(ScanRequest([topic], newest_first=True)):
            for body in reversed(chunk.bodies[-left:]):
                left -= 1
                left_bytes -= len(body)
                if left_bytes < 0:
                    return
                _add_value(found, codec.decode(body), 0)
            if left <= 0:
                return


def _add_schema(found: dict[str, Field], topic: Topic) -> None:
    for column in topic.schema.columns if topic.schema else ():
        found[column.name] = _declared(column.type)


def _declared(node: ast.TypeNode) -> Field:
    if isinstance(node, ast.StructType):
        return Field("STRUCT", {one.name: _declared(one.type) for one in node.fields})
    return Field(type_text(node))


def _add_value(found: dict[str, Field], value: Any, depth: int) -> None:
    if not isinstance(value, dict) or depth == DEPTH_MAX:
        return
    for name, inner in value.items():
        if len(found) >= FIELDS_MAX:
            return
        one = found.setdefault(name, Field(kind_of(inner)))
        _add_value(one.inside, inner, depth + 1)


def kind_of(value: Any) -> str:
    """How a person calls the kind of a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "text"
        case int() | float():
            return "number"
        case list():
            return "list"
        case _:
            return "object"
