"""Plan nodes: what the executor does, as records, each with one line of text that EXPLAIN shows.

Statements that do one thing (create, publish, subscribe …) are one node. A SELECT is a tree: sources at the leaves, and
above them filter, aggregate, project, sort, limit. `text()` is a node's own line, `children` what stands below it.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geode_client.broker import StartPosition, SubscriptionRequest
from geode_client.catalog import Topic, TopicChange, TopicDefinition
from geode_client.conditions import Condition
from geode_client.grammar import ast

if TYPE_CHECKING:
    from sqlglot import exp


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
        return f"AlterTopic {self.name}: {type(self.change).__name__}"


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
class CopyFrom:
    topic: str
    path: str
    batch_size: int
    key_field: str | None

    def text(self) -> str:
        return f"CopyFrom {self.path!r} to {self.topic}, {self.batch_size} messages a batch"


@dataclass(frozen=True, slots=True)
class Assert:
    query: "QueryNode"
    operator: str
    value: Any
    within_seconds: float
    shown: str

    def text(self) -> str:
        return f"Assert {self.operator} {self.value!r}"

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return (self.query,)


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
class Missing:
    """A statement that is understood, and that this backend cannot run."""

    what: str
    statement: ast.Statement

    def text(self) -> str:
        return f"{type(self.statement).__name__} (unsupported: {self.what})"


# ── queries ──
@dataclass(frozen=True, slots=True)
class Scan:
    """The retained messages of topics. `expressions` are computed for each message where `condition` is TRUE.

    With `star` the whole messages are rows, whose columns are known only at the end. `count_only`: rows are not needed.
    """

    pattern: str
    topics: tuple[Topic, ...]
    alias: str | None
    condition: Condition | None = None
    expressions: tuple["exp.Expression", ...] = ()
    columns: tuple[str, ...] = ()
    star: bool = False
    limit: int | None = None

    def text(self) -> str:
        parts = [f"Scan {self.pattern}"]
        if self.condition is not None:
            parts.append(f"where {self.condition.text}")
        parts.append("whole messages" if self.star else f"fields {', '.join(self.columns) or 'none'}")
        if self.limit is not None:
            parts.append(f"at most {self.limit}")
        return ", ".join(parts)

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return ()


@dataclass(frozen=True, slots=True)
class SystemScan:
    table: str
    alias: str | None
    columns: tuple[str, ...]

    def text(self) -> str:
        return f"SystemScan {self.table}"

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return ()


@dataclass(frozen=True, slots=True)
class OneRow:
    """SELECT without FROM."""

    columns: tuple[str, ...] = ()

    def text(self) -> str:
        return "OneRow"

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Filter:
    source: "QueryNode"
    condition: "exp.Expression"
    columns: tuple[str, ...]
    shown: str

    def text(self) -> str:
        return f"Filter {self.shown}"

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Project:
    """Each row becomes the values of `expressions`, which read the columns of the source."""

    source: "QueryNode"
    expressions: tuple["exp.Expression", ...]
    columns: tuple[str, ...]

    def text(self) -> str:
        return f"Project {', '.join(self.columns)}"

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return (self.source,)


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """One aggregate: `function` over column `argument` of the source rows; None: COUNT(*)."""

    function: str
    argument: int | None
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Groups the source rows by their first `keys` columns; rows are the keys and then the aggregates."""

    source: "QueryNode"
    keys: int
    calls: tuple[AggregateCall, ...]
    columns: tuple[str, ...]

    def text(self) -> str:
        by = f" by {', '.join(self.columns[: self.keys])}" if self.keys else ""
        return f"Aggregate {', '.join(self.columns[self.keys :]) or 'nothing'}{by}"

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return (self.source,)


@dataclass(frozen=True, slots=True)
class SortKey:
    position: int
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class Sort:
    """Sorts by columns of the source; with `limit` only so many of the first rows are kept at any time."""

    source: "QueryNode"
    keys: tuple[SortKey, ...]
    columns: tuple[str, ...]
    limit: int | None = None

    def text(self) -> str:
        keys = ", ".join(f"{self.columns[key.position]}{' desc' * key.descending}" for key in self.keys)
        return f"{'Sort' if self.limit is None else f'Top {self.limit}'} by {keys}"

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Distinct:
    source: "QueryNode"
    columns: tuple[str, ...]

    def text(self) -> str:
        return "Distinct"

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Limit:
    source: "QueryNode"
    count: int | None
    offset: int
    columns: tuple[str, ...]

    def text(self) -> str:
        return f"Limit {'all' if self.count is None else self.count}" + (
            f" offset {self.offset}" if self.offset else ""
        )

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Keep:
    """Only the first `len(columns)` values of each row: what was computed for sorting goes."""

    source: "QueryNode"
    columns: tuple[str, ...]

    def text(self) -> str:
        return f"Keep {', '.join(self.columns)}"

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return (self.source,)


@dataclass(frozen=True, slots=True)
class Spread:
    """Rows of a whole message and further values become rows of fields: `schema_columns`, then others as they appear.

    `named` are the columns of the further values that are kept.
    """

    source: "QueryNode"
    schema_columns: tuple[str, ...]
    named: tuple[str, ...]
    columns: tuple[str, ...] = ()

    def text(self) -> str:
        return f"Spread all fields{''.join(f', {name}' for name in self.named)}"

    @property
    def children(self) -> tuple["QueryNode", ...]:
        return (self.source,)


QueryNode = Spread | Scan | SystemScan | OneRow | Filter | Project | Aggregate | Sort | Distinct | Limit | Keep


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT."""

    root: QueryNode
    notices: tuple[str, ...] = ()

    def text(self) -> str:
        return "Query"

    @property
    def children(self) -> tuple[QueryNode, ...]:
        return (self.root,)


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
    | CopyFrom
    | Assert
    | TestFilter
    | Explain
    | Missing
    | Query
)


def lines(plan: "Plan | QueryNode", depth: int = 0) -> list[str]:
    """The plan as text, each level indented."""
    found = ["  " * depth + plan.text()]
    inner = [plan.plan] if isinstance(plan, Explain) else getattr(plan, "children", ())
    for child in inner:
        found += lines(child, depth + 1)
    return found
