"""Plan nodes: what the executor does, as records, each with one line of text that EXPLAIN shows.

Statements that do one thing (create, publish, subscribe …) are one node. A SELECT is a tree of operators (operators.py).
`text()` is a node's own line, `children` what stands below it.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from geode_client.broker import StartPosition, SubscriptionRequest
from geode_client.catalog import AddColumn, Topic, TopicChange, TopicDefinition
from geode_client.conditions import Condition
from geode_client.grammar import ast
from geode_client.grammar.source import Span
from geode_client.grammar.unparse import column as column_text
from geode_client.query.files import CsvOptions
from geode_client.query.operators import Operator


@dataclass(frozen=True, slots=True)
class CreateTopic:
    definition: TopicDefinition
    if_not_exists: bool

    def text(self) -> str:
        return f"CreateTopic {self.definition.name}{' if not exists' * self.if_not_exists}"


@dataclass(frozen=True, slots=True)
class AlterTopic:
    name: str
    change: TopicChange

    def text(self) -> str:
        detail = f" {column_text(self.change.column)}" if isinstance(self.change, AddColumn) else ""
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

    def text(self) -> str:
        where = "" if self.condition is None else f", where {self.condition.text}"
        return f"ReplayDeadLetters of {self.topic} to {self.target or self.topic}{where}"


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
            parts.append(f"group {request.group}")
        parts.append(type(request.start).__name__.removeprefix("From").lower())
        parts += ["follow" if request.follow else "no follow"]
        for name in ("partition", "key"):
            value = getattr(request, name)
            if value is not None:
                parts.append(f"{name} {value}")
        if self.limit is not None:
            parts.append(f"limit {self.limit}")
        return ", ".join(parts)


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

    def text(self) -> str:
        return f"CopyTo {self.path!r} from {self.topic.name}"


@dataclass(frozen=True, slots=True)
class CopyQuery:
    """The rows of a query to a file."""

    query: "Query"
    path: str

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
    batch_size: int
    key_field: str | None
    csv: CsvOptions

    def text(self) -> str:
        return f"CopyFrom {self.path!r} to {self.topic}, {self.batch_size} messages a batch"


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
    | PauseGroup
    | DropGroup
    | ReplayDeadLetters
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
    | Assert
    | TestFilter
    | Explain
    | Analyze
    | Missing
    | Query
)


def lines(plan: "Plan | Operator | SubQuery", depth: int = 0) -> list[str]:
    """The plan as text, each level indented."""
    found = ["  " * depth + plan.text()]
    inner = [plan.plan] if isinstance(plan, Explain) else getattr(plan, "children", ())
    for child in inner:
        found += lines(child, depth + 1)
    return found
