"""Plan nodes: what the executor does, as records, each with one line of text that EXPLAIN shows.

Statements that do one thing (create, publish, subscribe …) are one node. A SELECT is a tree of operators (operators.py).
`text()` is a node's own line, `children` what stands below it.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from geode_client.broker import FromBeginning, FromEnd, FromOffset, FromTime, StartPosition, SubscriptionRequest
from geode_client.catalog import AddColumn, GroupChange, Rename, Topic, TopicChange, TopicDefinition
from geode_client.clock import datetime_of
from geode_client.conditions import Condition
from geode_client.conditions.protocol import ConditionLike
from geode_client.conditions.requirements import OneOf, Path, Within, leaves
from geode_client.grammar import ast
from geode_client.grammar.source import Span
from geode_client.grammar.unparse import column as column_text
from geode_client.query.exporting import WriteOptions
from geode_client.query.loading import LoadOptions
from geode_client.query.operators import Operator


@dataclass(frozen=True, slots=True)
class CreateTopic:
    definition: TopicDefinition
    if_not_exists: bool

    def text(self) -> str:
        definition = self.definition
        parts = [f"CreateTopic {definition.name}{' if not exists' * self.if_not_exists}"]
        if definition.schema is not None:
            parts.append(f"columns {', '.join(column_text(column) for column in definition.schema.columns) or 'none'}")
        given = [f"{name}: {value}" for name, value, is_default in definition.options.named() if not is_default]
        parts += [f"options {', '.join(given)}"] if given else []
        return ", ".join([*parts, f"delivery {definition.delivery.value}"])


@dataclass(frozen=True, slots=True)
class AlterTopic:
    name: str
    change: TopicChange

    def text(self) -> str:
        detail = f" {column_text(self.change.column)}" if isinstance(self.change, AddColumn) else ""
        if isinstance(self.change, Rename):
            detail = f" to {self.change.new_name}"
        return f"AlterTopic {self.name}: {type(self.change).__name__}{detail}"


@dataclass(frozen=True, slots=True)
class DropTopic:
    name: str
    if_exists: bool

    def text(self) -> str:
        return f"DropTopic {self.name}{' if exists' * self.if_exists}"


@dataclass(frozen=True, slots=True)
class PurgeTopic:
    name: str

    def text(self) -> str:
        return f"PurgeTopic {self.name}"


@dataclass(frozen=True, slots=True)
class Publish:
    """`options` are attributes of OutgoingBatch: priority, ttl_us …; `key` and `message_id` stand apart."""

    topic: str
    messages: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        with_options = f" with {', '.join(sorted(self.options))}" if self.options else ""
        return f"Publish {len(self.messages)} message{'s' * (len(self.messages) != 1)} to {self.topic}{with_options}"


@dataclass(frozen=True, slots=True)
class CreateGroup:
    request: SubscriptionRequest
    notices: tuple[str, ...] = ()

    def text(self) -> str:
        where = "" if self.request.condition is None else f", where {self.request.condition.text}"
        return f"CreateSubscription {self.request.group} on {self.request.pattern}{where}"


@dataclass(frozen=True, slots=True)
class SeekGroup:
    group: str
    topic: str
    target: StartPosition
    shown: str

    def text(self) -> str:
        return f"SeekSubscription {self.group} on {self.topic} to {self.shown}"


@dataclass(frozen=True, slots=True)
class AlterGroup:
    group: str
    topic: str
    change: GroupChange
    notices: tuple[str, ...] = ()

    def text(self) -> str:
        change, set_to = self.change, []
        if change.sets_condition:
            set_to.append("no condition" if change.condition is None else f"where {change.condition}")
        if change.order_by is not None:
            set_to.append(f"order by {change.order_by}")
        return f"AlterSubscription {self.group} on {self.topic}: {', '.join(set_to)}"


@dataclass(frozen=True, slots=True)
class PauseGroup:
    group: str
    topic: str | None
    paused: bool

    def text(self) -> str:
        return f"{'Pause' if self.paused else 'Resume'}Subscription {self.group}"


@dataclass(frozen=True, slots=True)
class DropGroup:
    group: str
    topic: str | None
    if_exists: bool

    def text(self) -> str:
        return f"DropSubscription {self.group}{' if exists' * self.if_exists}"


@dataclass(frozen=True, slots=True)
class ReplayDeadLetters:
    topic: str
    condition: Condition | None
    target: str | None
    to_all: bool = False

    def text(self) -> str:
        where = "" if self.condition is None else f", where {self.condition.text}"
        everybody = self.to_all or self.target is not None
        to = f"{self.target or self.topic}, for {'everybody' if everybody else 'the groups that failed'}"
        return f"ReplayDeadLetters of {self.topic} to {to}{where}"


@dataclass(frozen=True, slots=True)
class DeleteDeadLetters:
    topic: str
    condition: Condition | None

    def text(self) -> str:
        where = "" if self.condition is None else f", where {self.condition.text}"
        return f"DeleteDeadLetters of {self.topic}{where}"


@dataclass(frozen=True, slots=True)
class Begin:
    def text(self) -> str:
        return "Begin"


@dataclass(frozen=True, slots=True)
class Commit:
    def text(self) -> str:
        return "Commit"


@dataclass(frozen=True, slots=True)
class Rollback:
    def text(self) -> str:
        return "Rollback"


@dataclass(frozen=True, slots=True)
class Subscribe:
    request: SubscriptionRequest
    limit: int | None
    timeout_seconds: float | None
    follow_given: bool = False
    notices: tuple[str, ...] = ()

    def text(self) -> str:
        request = self.request
        parts = [f"Subscribe {request.pattern}"]
        if request.condition is not None:
            parts.append(f"where {request.condition.text}")
        if request.group is not None:
            consumer = f" consumer {request.consumer}" if request.consumer is not None else ""
            parts.append(f"group {request.group}{consumer}")
        parts.append(_start_text(request.start))
        parts.append("follow" if request.follow else "no follow")
        if request.priority_order or request.ordering:
            parts.append(f"order by {'priority' if request.priority_order else 'key'}")
        parts.append(f"ack {'auto' if request.auto_ack else 'manual'}")
        for name in ("partition", "key", "region"):
            value = getattr(request, name)
            if value is not None:
                parts.append(f"{name} {value}")
        if self.limit is not None:
            parts.append(f"limit {self.limit}")
        if self.timeout_seconds is not None:
            parts.append(f"timeout {self.timeout_seconds:g} seconds")
        return ", ".join([*parts, *_condition_parts(request.condition)])


def _start_text(start: StartPosition) -> str:
    match start:
        case FromEnd():
            return "from end"
        case FromBeginning():
            return "from beginning"
        case FromOffset(offset):
            return f"from offset {offset}"
        case FromTime(timestamp_us):
            return f"from {datetime_of(timestamp_us).isoformat()}"


def _condition_parts(condition: ConditionLike | None) -> list[str]:
    """What a condition reads, and how messages are found that can meet it."""
    if not isinstance(condition, Condition):
        return []
    parts = [f"fields {', '.join((*condition.fields, *condition.virtual)) or 'none'}"]
    terms = sorted({_path(leaf.path) for leaf in leaves(condition.requirement) if isinstance(leaf, OneOf | Within)})
    parts.append(f"index terms {', '.join(terms)}" if terms else "no index terms")
    if any(leaf.path is not None and not leaf.path.virtual for leaf in leaves(condition.requirement)):
        parts.append("skipping by statistics")
    return parts


def _path(path: Path) -> str:
    return path.name + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path.steps)


@dataclass(frozen=True, slots=True)
class AnalyzeSubscribe:
    """Run a subscription over what is retained on behalf of nobody, and say what it read and what matched."""

    subscribe: Subscribe

    def text(self) -> str:
        return "AnalyzeSubscribe"

    @property
    def children(self) -> "tuple[Subscribe, ...]":
        return (self.subscribe,)


@dataclass(frozen=True, slots=True)
class Show:
    kind: str
    like: str | None

    def text(self) -> str:
        return f"Show {self.kind}" + (f" like {self.like!r}" if self.like is not None else "")


@dataclass(frozen=True, slots=True)
class Describe:
    topic: Topic

    def text(self) -> str:
        return f"Describe {self.topic.name}"


@dataclass(frozen=True, slots=True)
class ShowCreate:
    topic: Topic

    def text(self) -> str:
        return f"ShowCreate {self.topic.name}"


@dataclass(frozen=True, slots=True)
class CopyTo:
    topic: Topic
    path: str
    options: WriteOptions

    def text(self) -> str:
        return f"CopyTo {self.path!r} from {self.topic.name}"


@dataclass(frozen=True, slots=True)
class CopyQuery:
    """The rows of a query to a file."""

    query: "Query"
    path: str
    options: WriteOptions = WriteOptions()

    def text(self) -> str:
        return f"CopyQuery to {self.path!r}"

    @property
    def children(self) -> "tuple[Operator | SubQuery, ...]":
        return self.query.children


@dataclass(frozen=True, slots=True)
class InsertQuery:
    """A message for each row of a query, with the fields `names` (None: the columns of the query)."""

    topic: str
    names: tuple[str, ...] | None
    query: "Query"

    def text(self) -> str:
        return f"InsertQuery into {self.topic}"

    @property
    def children(self) -> "tuple[Operator | SubQuery, ...]":
        return self.query.children


@dataclass(frozen=True, slots=True)
class CopyFrom:
    topic: str
    path: str
    options: LoadOptions

    def text(self) -> str:
        return f"CopyFrom {self.path!r} to {self.topic}, {self.options.batch_size} messages a batch"


@dataclass(frozen=True, slots=True)
class CopyBetween:
    """Topic to topic; `keep` are words of options.KEPT."""

    topic: Topic
    target: str
    keep: frozenset[str]
    batch_size: int

    def text(self) -> str:
        kept = f", keeping {', '.join(sorted(self.keep))}" if self.keep else ""
        return f"CopyBetween {self.topic.name} and {self.target}, {self.batch_size} messages a batch{kept}"


@dataclass(frozen=True, slots=True)
class Assert:
    query: "Query"
    operator: str
    value: Any
    within_seconds: float
    shown: str

    def text(self) -> str:
        return f"Assert {self.operator} {self.value!r}"

    @property
    def children(self) -> "tuple[Operator | SubQuery, ...]":
        return self.query.children


@dataclass(frozen=True, slots=True)
class TestFilter:
    __test__ = False

    topic: Topic
    condition: Condition
    limit: int

    def text(self) -> str:
        return f"TestFilter {self.condition.text} on the newest {self.limit} of {self.topic.name}"


@dataclass(frozen=True, slots=True)
class Explain:
    plan: "Plan"

    def text(self) -> str:
        return "Explain"


@dataclass(frozen=True, slots=True)
class Analyze:
    """Run the query, and say what each of its operators did."""

    query: "Query"

    def text(self) -> str:
        return "Analyze"

    @property
    def children(self) -> "tuple[Operator | SubQuery, ...]":
        return self.query.children


@dataclass(frozen=True, slots=True)
class Missing:
    """A statement that is understood, and that this backend cannot run."""

    what: str
    statement: ast.Statement

    def text(self) -> str:
        return f"{type(self.statement).__name__} (unsupported: {self.what})"


# ── queries ──
class SubQueryKind(StrEnum):
    """What an expression or a FROM makes of a sub-query."""

    MEMBERS = "the values of IN"
    VALUE = "one value"
    EXISTS = "whether there is a row"
    ROWS = "a common table"


@dataclass(frozen=True, slots=True)
class SubQuery:
    """A query that runs before the one that it is part of; its number is its place in `Query.sub_queries`."""

    kind: SubQueryKind
    root: Operator
    number: int = 0
    span: Span | None = None

    def text(self) -> str:
        return f"Sub-query {self.number}: {self.kind}"

    @property
    def children(self) -> tuple[Operator, ...]:
        return (self.root,)


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT: its operators, and the sub-queries, which run first, each after those that it needs."""

    root: Operator
    sub_queries: tuple[SubQuery, ...] = ()
    notices: tuple[str, ...] = ()

    def text(self) -> str:
        return "Query"

    @property
    def children(self) -> "tuple[Operator | SubQuery, ...]":
        return (self.root, *self.sub_queries)


Plan = (
    CreateTopic
    | AlterTopic
    | DropTopic
    | PurgeTopic
    | Publish
    | CreateGroup
    | SeekGroup
    | AlterGroup
    | PauseGroup
    | DropGroup
    | ReplayDeadLetters
    | DeleteDeadLetters
    | Begin
    | Commit
    | Rollback
    | Subscribe
    | Show
    | Describe
    | ShowCreate
    | CopyTo
    | CopyQuery
    | InsertQuery
    | CopyFrom
    | CopyBetween
    | Assert
    | TestFilter
    | Explain
    | Analyze
    | AnalyzeSubscribe
    | Missing
    | Query
)


def lines(plan: "Plan | Operator | SubQuery | Subscribe", depth: int = 0) -> list[str]:
    """The plan as text, each level indented."""
    found = ["  " * depth + plan.text()]
    inner = [plan.plan] if isinstance(plan, Explain) else getattr(plan, "children", ())
    for child in inner:
        found += lines(child, depth + 1)
    return found
