"""What the store knows of a topic, as records: definition, identity, and the changes ALTER makes.

Owns no storage and no parsing; the store writes these records down and the planner makes them from statements.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from geode_client.errors import GqlError, did_you_mean
from geode_client.grammar.ast import ColumnDefinition
from geode_client.options import TopicOptions
from geode_client.schema import Schema

DEAD_LETTER_PREFIX = "_dlq/"


class Delivery(StrEnum):
    """How often a message may arrive, and therefore when a publish returns and when an acknowledgement counts."""

    AT_MOST_ONCE = "at_most_once"
    AT_LEAST_ONCE = "at_least_once"
    EXACTLY_ONCE = "exactly_once"

    @property
    def durable(self) -> bool:
        """Whether a publish waits for the disk."""
        return self is not Delivery.AT_MOST_ONCE


@dataclass(frozen=True, slots=True)
class TopicDefinition:
    """All that CREATE TOPIC says of a topic; `SHOW CREATE TOPIC` prints it back."""

    name: str
    options: TopicOptions
    schema: Schema | None = None
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    automatic: bool = False


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that exists. `topic_id` is never given to another topic, also not after DROP; ALTER raises `revision`."""

    topic_id: int
    definition: TopicDefinition
    revision: int
    schema_version: int
    created_us: int
    former_names: tuple[str, ...] = ()
    """What it was called before it was renamed, oldest first; its older dead letters have these names."""

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def options(self) -> TopicOptions:
        return self.definition.options

    @property
    def schema(self) -> Schema | None:
        return self.definition.schema

    @property
    def delivery(self) -> Delivery:
        return self.definition.delivery

    @property
    def partitions(self) -> int:
        return self.definition.options.partitions


@dataclass(frozen=True, slots=True)
class SetOptions:
    """ALTER TOPIC … SET OPTIONS: the options as they are after the change."""

    options: TopicOptions


@dataclass(frozen=True, slots=True)
class SetDelivery:
    """ALTER TOPIC … SET DELIVERY."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class AddColumn:
    """ALTER TOPIC … ADD COLUMN: a new schema version begins. Older messages without the field have its DEFAULT."""

    column: ColumnDefinition


@dataclass(frozen=True, slots=True)
class Rename:
    """ALTER TOPIC … RENAME TO. Groups on the old name alone go on under the new one; see docs/delivery.md."""

    new_name: str


@dataclass(frozen=True, slots=True)
class GroupChange:
    """ALTER SUBSCRIPTION … SET: what of a group is set anew.

    `condition`: its text, None for no condition; it counts where `sets_condition`. `order_by`: none, priority or key; None
    leaves the order as it is.
    """

    sets_condition: bool = False
    condition: str | None = None
    order_by: str | None = None


def dead_letter_topic_of(name: str, options: TopicOptions) -> str:
    """Where the dead letters of a topic go."""
    return options.dead_letter_topic or f"{DEAD_LETTER_PREFIX}{name}"


def check_partition_key(definition: TopicDefinition) -> None:
    """Raise GqlError for a partition key that no message can have."""
    schema, field = definition.schema, definition.options.partition_key
    if field is None or schema is None or not definition.options.strict or field in schema.names:
        return
    hint = did_you_mean(field, schema.names) or f"its columns are {', '.join(schema.names)}"
    raise GqlError(
        f"partition_key names {field}, and the strict schema of {definition.name} has no such column", hint=hint
    )


TopicChange = SetOptions | SetDelivery | AddColumn | Rename


def changed(definition: TopicDefinition, change: TopicChange) -> TopicDefinition:
    """The definition after `change`."""
    match change:
        case SetOptions(options):
            return replace(definition, options=options)
        case SetDelivery(delivery):
            return replace(definition, delivery=delivery)
        case AddColumn(column):
            return replace(definition, schema=(definition.schema or Schema(())).with_column(column))
        case Rename(new_name):
            return replace(definition, name=new_name, automatic=False)
        case _:
            assert_never(change)
