"""The statements of the language as records.

Every record knows its `span` in the text, which does not count when records are compared. Conditions and queries are
`sqlglot.exp` trees, whose conventions stand in `expressions.py`. Options stay as they were written: what an option means
is the engine's business. A value may be a `ParameterReference`, which is bound when the statement runs.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geode_client.grammar.source import Span

if TYPE_CHECKING:
    from sqlglot import exp

JsonValue = Any
NO_SPAN = Span(0, 0)


def _span() -> Any:
    return field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ParameterReference:
    """`$name`: a value that is given when the statement runs."""

    name: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class RawText:
    """A value that is written as it stands; never made by the parser."""

    text: str


@dataclass(frozen=True, slots=True)
class OptionEntry:
    """`name: value` inside OPTIONS."""

    name: str
    value: Any
    span: Span = _span()
    value_span: Span = _span()


@dataclass(frozen=True, slots=True)
class Scalar:
    """STRING INT FLOAT BOOL TIMESTAMP DATE DECIMAL UUID BYTES ANY."""

    name: str


@dataclass(frozen=True, slots=True)
class ListType:
    element: "TypeNode"


@dataclass(frozen=True, slots=True)
class MapType:
    """MAP<STRING, value>."""

    value: "TypeNode"


@dataclass(frozen=True, slots=True)
class StructField:
    name: str
    type: "TypeNode"


@dataclass(frozen=True, slots=True)
class StructType:
    fields: tuple[StructField, ...]


TypeNode = Scalar | ListType | MapType | StructType


@dataclass(frozen=True, slots=True)
class DefaultValue:
    """DEFAULT value; a record of its own because the value may be NULL."""

    value: JsonValue


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    name: str
    type: TypeNode
    not_null: bool = False
    default: DefaultValue | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class CreateTopic:
    name: str
    if_not_exists: bool = False
    options: tuple[OptionEntry, ...] = ()
    columns: tuple[ColumnDefinition, ...] | None = None
    delivery: str | None = None
    name_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class AlterTopicOptions:
    name: str
    options: tuple[OptionEntry, ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class AlterTopicDelivery:
    name: str
    delivery: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class AlterTopicAddColumn:
    name: str
    column: ColumnDefinition
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class AlterTopicRename:
    name: str
    new_name: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class DropTopic:
    name: str
    if_exists: bool = False
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class PurgeTopic:
    name: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Publish:
    """`messages` hold JSON values, in which a ParameterReference may stand for any value."""

    topic: str
    messages: tuple[JsonValue, ...]
    options: tuple[OptionEntry, ...] = ()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Insert:
    topic: str
    columns: tuple[str, ...]
    rows: tuple[tuple[JsonValue, ...], ...]
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class InsertQuery:
    """INSERT INTO … SELECT; `columns` None: the fields are called like the columns of the query."""

    topic: str
    columns: tuple[str, ...] | None
    query: "exp.Expression"
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class StartBeginning:
    pass


@dataclass(frozen=True, slots=True)
class StartEnd:
    pass


@dataclass(frozen=True, slots=True)
class StartOffset:
    offset: int


@dataclass(frozen=True, slots=True)
class StartTimestamp:
    text: str


@dataclass(frozen=True, slots=True)
class StartInterval:
    text: str


Start = StartBeginning | StartEnd | StartOffset | StartTimestamp | StartInterval


@dataclass(frozen=True, slots=True)
class Subscribe:
    """`order` is 'priority' or 'key', `ack` 'manual' or 'auto'; None: not said."""

    pattern: str
    where: "exp.Expression | None" = None
    group: str | None = None
    consumer: str | None = None
    start: Start | None = None
    order: str | None = None
    partition: int | None = None
    key: str | None = None
    region: str | None = None
    ack: str | None = None
    follow: bool | None = None
    limit: int | None = None
    timeout: str | None = None
    pattern_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class CreateSubscription:
    group: str
    pattern: str
    where: "exp.Expression | None" = None
    start: Start | None = None
    order: str | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class AlterSubscriptionSeek:
    group: str
    topic: str
    target: Start
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class AlterSubscriptionSet:
    """`where` None and `order` None: not given. A condition that is only TRUE takes the condition away."""

    group: str
    topic: str
    where: "exp.Expression | None" = None
    order: str | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class PauseSubscription:
    group: str
    topic: str | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ResumeSubscription:
    group: str
    topic: str | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class DropSubscription:
    group: str
    topic: str | None = None
    if_exists: bool = False
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Select:
    """A SELECT or a UNION of them."""

    query: "exp.Expression"
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Show:
    """`kind` is topics, subscriptions, subscribers or regions."""

    kind: str
    like: str | None = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class DescribeTopic:
    name: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ShowCreateTopic:
    name: str
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Explain:
    statement: "Statement"
    analyze: bool = False
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class TestFilter:
    """TEST FILTER 'condition' ON topic; `condition` is text, parsed when the statement is planned."""

    __test__ = False

    condition: str
    topic: str
    limit: int | None = None
    condition_span: Span = _span()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class ReplayDeadLetters:
    """`target` None: to the topic that they come from, and there to the group that failed or, with `to_all`, to everybody."""

    topic: str
    where: "exp.Expression | None" = None
    target: str | None = None
    to_all: bool = False
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class DeleteDeadLetters:
    topic: str
    where: "exp.Expression | None" = None
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Begin:
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Commit:
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Rollback:
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class CopyTo:
    topic: str
    path: str
    options: tuple[OptionEntry, ...] = ()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class CopyQuery:
    """COPY (SELECT …) TO a file."""

    query: "exp.Expression"
    path: str
    options: tuple[OptionEntry, ...] = ()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class CopyFrom:
    topic: str
    path: str
    options: tuple[OptionEntry, ...] = ()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class CopyBetween:
    """COPY topic TO target; `COPY target FROM topic` is the same."""

    topic: str
    target: str
    options: tuple[OptionEntry, ...] = ()
    span: Span = _span()


@dataclass(frozen=True, slots=True)
class Assert:
    """ASSERT (SELECT …) operator value [WITHIN duration]; the operator is one of = <> < <= > >=."""

    query: "exp.Expression"
    operator: str
    value: JsonValue
    within: str | None = None
    span: Span = _span()


Statement = (
    CreateTopic
    | AlterTopicOptions
    | AlterTopicDelivery
    | AlterTopicAddColumn
    | AlterTopicRename
    | DropTopic
    | PurgeTopic
    | Publish
    | Insert
    | InsertQuery
    | Subscribe
    | CreateSubscription
    | AlterSubscriptionSeek
    | AlterSubscriptionSet
    | PauseSubscription
    | ResumeSubscription
    | DropSubscription
    | Select
    | Show
    | DescribeTopic
    | ShowCreateTopic
    | Explain
    | TestFilter
    | ReplayDeadLetters
    | DeleteDeadLetters
    | Begin
    | Commit
    | Rollback
    | CopyTo
    | CopyQuery
    | CopyFrom
    | CopyBetween
    | Assert
)
