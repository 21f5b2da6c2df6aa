"""From a statement to its plan: names resolved, options and schemas checked, conditions compiled. Runs nothing."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, assert_never

from geode_client import options
from geode_client.broker import Broker
from geode_client.catalog import (
    AddColumn,
    Delivery,
    GroupChange,
    Rename,
    SetDelivery,
    SetOptions,
    TopicDefinition,
    changed,
)
from geode_client.errors import GqlError, TopicNotFound, did_you_mean
from geode_client.grammar import ast
from geode_client.grammar.ast import ParameterReference
from geode_client.grammar.names import is_pattern, matches
from geode_client.grammar.source import Span
from geode_client.grammar.unparse import start as unparse_start
from geode_client.query import plan as nodes
from geode_client.query.copy_options import load_options, write_options
from geode_client.query.loading import BATCH_MESSAGES
from geode_client.query.needs import needs
from geode_client.query.subscribing import request_of, start_position
from geode_client.replaying import places_of
from geode_client.schema import Schema
from geode_client.units import parse_duration_us
from geode_client.values import parse_timestamp

if TYPE_CHECKING:
    from geode_client.conditions import Condition

GroupStatement = (
    ast.CreateSubscription
    | ast.AlterSubscriptionSeek
    | ast.AlterSubscriptionSet
    | ast.PauseSubscription
    | ast.ResumeSubscription
    | ast.DropSubscription
    | ast.ReplayDeadLetters
    | ast.DeleteDeadLetters
)

TEST_FILTER_MESSAGES = 1000
TEST_FILTER_MESSAGES_MAX = 1_000_000


class Planner:
    """Plans statements against a broker; parameters are bound here, as values."""

    def __init__(self, broker: Broker, parameters: Mapping[str, Any] | None = None) -> None:
        self._broker = broker
        self._parameters = parameters or {}

    async def plan(self, statement: ast.Statement) -> nodes.Plan:
        """The plan, or `Missing` where the backend lacks what it needs; raises GqlError and TopicNotFound."""
        planned = await self._plan(statement)
        lacking = self._broker.capabilities.lacking(needs(planned))
        return planned if lacking is None else nodes.Missing(lacking, statement)

    async def _plan(self, statement: ast.Statement) -> nodes.Plan:
        match statement:
            case ast.CreateTopic():
                return nodes.CreateTopic(self._definition(statement), statement.if_not_exists)
            case ast.AlterTopicOptions(name, entries):
                topic = await self._broker.topic(name)
                return nodes.AlterTopic(name, SetOptions(topic.options.changed(self._entries(entries))))
            case ast.AlterTopicDelivery(name, delivery):
                return nodes.AlterTopic(name, SetDelivery(Delivery(delivery)))
            case ast.AlterTopicAddColumn(name, column):
                return await self._add_column(name, column)
            case ast.AlterTopicRename(name, new_name):
                await self._broker.topic(name)
                return nodes.AlterTopic(name, Rename(new_name))
            case ast.DropTopic(name, if_exists):
                return nodes.DropTopic(name, if_exists)
            case ast.PurgeTopic(name):
                return nodes.PurgeTopic(name)
            case ast.Publish(topic_name, messages, entries):
                given = options.parse_options(self._entries(entries), options.PUBLISH_OPTIONS, "publish option")
                bound = tuple(self._bound(message) for message in messages)
                return nodes.Publish(topic_name, bound, given)
            case ast.Insert(topic_name, columns, rows):
                made = tuple(dict(zip(columns, map(self._bound, row), strict=True)) for row in rows)
                return nodes.Publish(topic_name, made)
            case ast.InsertQuery() | ast.CopyQuery():
                return await self._rows_elsewhere(statement)
            case ast.Subscribe():
                return await self._subscribe(statement)
            case ast.Select(query):
                return await self._query(query)
            case ast.Show(kind, like):
                return nodes.Show(kind, like)
            case ast.DescribeTopic(name):
                return nodes.Describe(await self._broker.topic(name))
            case ast.ShowCreateTopic(name):
                return nodes.ShowCreate(await self._broker.topic(name))
            case ast.Explain(inner, analyze):
                planned = await self.plan(inner)
                return self._analyze(planned, inner) if analyze else nodes.Explain(planned)
            case ast.TestFilter():
                return await self._test_filter(statement)
            case ast.CopyTo() | ast.CopyFrom() | ast.CopyBetween():
                return await self._copy(statement)
            case ast.Assert():
                return await self._assert(statement)
            case (
                ast.CreateSubscription()
                | ast.AlterSubscriptionSeek()
                | ast.AlterSubscriptionSet()
                | ast.PauseSubscription()
                | ast.ResumeSubscription()
                | ast.DropSubscription()
                | ast.ReplayDeadLetters()
                | ast.DeleteDeadLetters()
            ):
                return await self._group(statement)
            case ast.Begin() | ast.Commit() | ast.Rollback():
                return _transacting(statement)
            case _:
                assert_never(statement)

    async def _add_column(self, name: str, column: ast.ColumnDefinition) -> nodes.AlterTopic:
        addition = AddColumn(self._column(column))
        # Whether the column can be added is known now; it is added to the schema that is there then.
        changed((await self._broker.topic(name)).definition, addition)
        return nodes.AlterTopic(name, addition)

    async def _copy(self, statement: ast.CopyTo | ast.CopyFrom | ast.CopyBetween) -> nodes.Plan:
        entries = self._entries(statement.options)
        match statement:
            case ast.CopyTo(name, path):
                return nodes.CopyTo(await self._broker.topic(name), path, write_options(path, entries))
            case ast.CopyFrom(name, path):
                return nodes.CopyFrom(name, path, load_options(path, entries))
            case ast.CopyBetween(name, target):
                given = options.parse_options(entries, options.COPY_BETWEEN_OPTIONS, "COPY option")
                size, keep = given.get("batch_size", BATCH_MESSAGES), given.get("keep", frozenset())
                return nodes.CopyBetween(await self._broker.topic(name), target, keep, size)
            case _:
                assert_never(statement)

    # ── values ──
    def _bound(self, value: Any) -> Any:
        """The value with every parameter replaced by what it was given."""
        match value:
            case ParameterReference(name, span):
                if name not in self._parameters:
                    hint = f"give it one: params={{'{name}': …}} in Python, --param {name}=… for geode run"
                    raise GqlError(f"parameter ${name} has no value", span=span, hint=hint)
                return self._parameters[name]
            case dict():
                return {name: self._bound(item) for name, item in value.items()}
            case list():
                return [self._bound(item) for item in value]
            case _:
                return value

    def _entries(self, entries: tuple[ast.OptionEntry, ...]) -> list[ast.OptionEntry]:
        return [
            ast.OptionEntry(entry.name, self._bound(entry.value), entry.span, entry.value_span) for entry in entries
        ]

    def _column(self, column: ast.ColumnDefinition) -> ast.ColumnDefinition:
        if column.default is None:
            return column
        value = ast.DefaultValue(self._bound(column.default.value))
        return ast.ColumnDefinition(column.name, column.type, column.not_null, value, column.span)

    def _definition(self, statement: ast.CreateTopic) -> TopicDefinition:
        columns = statement.columns
        return TopicDefinition(
            name=statement.name,
            options=options.TopicOptions.parse(self._entries(statement.options)),
            schema=None if columns is None else Schema(tuple(self._column(column) for column in columns)),
            delivery=Delivery(statement.delivery or Delivery.AT_LEAST_ONCE),
        )

    # ── subscribing ──
    async def _subscribe(self, statement: ast.Subscribe) -> nodes.Subscribe:
        condition = await self._condition(statement.where, statement.pattern)
        request = request_of(
            statement.pattern,
            filter=condition,
            group=statement.group,
            consumer=statement.consumer,
            auto_ack=statement.ack != "manual",
            priority_order=statement.order == "priority",
            ordering=statement.order == "key",
            partition=statement.partition,
            key=statement.key,
            follow=statement.follow,
            region=statement.region,
            **self._start(statement.start, statement.span),
        )
        timeout_us = None if statement.timeout is None else parse_duration_us(statement.timeout)
        notices = () if condition is None else await self._notices(statement.pattern, condition)
        timeout_seconds = None if timeout_us is None else timeout_us / 1e6
        return nodes.Subscribe(request, statement.limit, timeout_seconds, statement.follow is True, notices)

    async def _condition(self, tree: Any, pattern: str | None) -> "Condition | None":
        """A WHERE, compiled for the topics of a pattern (None: for messages of which nothing is declared)."""
        if tree is None:
            return None
        from geode_client import conditions

        columns = None if pattern is None else await self._columns_of(pattern)
        return conditions.compile_condition(tree, parameters=self._parameters, columns=columns)

    async def _of_letters(self, tree: Any) -> "Condition | None":
        """A WHERE over dead letters, which have columns of their own."""
        if tree is None:
            return None
        from geode_client.query.scope import over_letters

        return await self._condition(over_letters(tree), None)

    async def _notices(self, pattern: str, condition: "Condition") -> tuple[str, ...]:
        """What a person should know of a condition: also which of its fields no recent message has."""
        from geode_client.query.recent import RecentFields

        try:
            topics = await self._broker.topics(pattern) if is_pattern(pattern) else [await self._broker.topic(pattern)]
        except TopicNotFound:
            return condition.notices
        fields = await RecentFields(self._broker).of(topics)
        found = dict.fromkeys(condition.notices)
        for name in dict.fromkeys(str(steps[0]) for steps in condition.field_steps):
            if fields is not None and name not in fields and not any(f" {name}" in notice for notice in found):
                hint = did_you_mean(name, fields)
                found[f"no recent message of {pattern} has a field {name}" + (f": {hint}" if hint else "")] = None
        return tuple(found)

    async def _group(self, statement: GroupStatement) -> nodes.Plan:
        match statement:
            case ast.CreateSubscription():
                return await self._create_group(statement)
            case ast.AlterSubscriptionSeek(group, topic_name, target):
                start = start_position(**self._start(target, statement.span))
                return nodes.SeekGroup(group, topic_name, start, unparse_start(target))
            case ast.AlterSubscriptionSet():
                return await self._alter_group(statement)
            case ast.PauseSubscription(group, on):
                return nodes.PauseGroup(group, on, True)
            case ast.ResumeSubscription(group, on):
                return nodes.PauseGroup(group, on, False)
            case ast.DropSubscription(group, on, if_exists):
                return nodes.DropGroup(group, on, if_exists)
            case ast.ReplayDeadLetters(topic_name, where, target_name, to_all):
                await places_of(self._broker, topic_name)
                if target_name is not None:
                    await self._broker.topic(target_name)
                return nodes.ReplayDeadLetters(topic_name, await self._of_letters(where), target_name, to_all)
            case ast.DeleteDeadLetters(topic_name, where):
                await places_of(self._broker, topic_name)
                return nodes.DeleteDeadLetters(topic_name, await self._of_letters(where))
            case _:
                assert_never(statement)

    async def _create_group(self, statement: ast.CreateSubscription) -> nodes.CreateGroup:
        condition = await self._condition(statement.where, statement.pattern)
        request = request_of(
            statement.pattern,
            filter=condition,
            group=statement.group,
            priority_order=statement.order == "priority",
            ordering=statement.order == "key",
            **self._start(statement.start, statement.span),
        )
        return nodes.CreateGroup(request, () if condition is None else condition.notices)

    async def _alter_group(self, statement: ast.AlterSubscriptionSet) -> nodes.AlterGroup:
        condition = await self._condition(statement.where, statement.topic)
        text = None if condition is None or condition.bound_text == "TRUE" else condition.bound_text
        change = GroupChange(sets_condition=condition is not None, condition=text, order_by=statement.order)
        notices = () if condition is None else condition.notices
        return nodes.AlterGroup(statement.group, statement.topic, change, notices)

    def _start(self, start: ast.Start | None, span: Span) -> dict[str, Any]:
        match start:
            case None | ast.StartEnd():
                return {}
            case ast.StartBeginning():
                return {"from_beginning": True}
            case ast.StartOffset(offset):
                return {"from_offset": offset}
            case ast.StartTimestamp(text):
                found = parse_timestamp(text)
                if found is None:
                    raise GqlError(
                        f"{text!r} is no time",
                        span=span,
                        hint="write TIMESTAMP '2026-01-31T12:00:00Z'",
                    )
                return {"since": found}
            case ast.StartInterval(text):
                return {"since": timedelta(microseconds=parse_duration_us(text))}
            case _:
                assert_never(start)

    async def _columns_of(self, pattern: str) -> dict[str, ast.TypeNode] | None:
        """The declared columns of the topic that a condition is for, where there is one topic and it has a schema."""
        if is_pattern(pattern):
            return None
        try:
            topic = await self._broker.topic(pattern)
        except TopicNotFound:
            return None
        return {column.name: column.type for column in topic.schema.columns} if topic.schema else None

    # ── looking ──
    def _analyze(self, planned: nodes.Plan, statement: ast.Statement) -> nodes.Plan:
        if isinstance(planned, nodes.Missing):
            return planned
        if isinstance(planned, nodes.Subscribe):
            if planned.follow_given and planned.limit is None and planned.timeout_seconds is None:
                raise GqlError(
                    "EXPLAIN ANALYZE of a SUBSCRIBE with FOLLOW needs an end",
                    span=statement.span,
                    hint="add LIMIT n or TIMEOUT '5 seconds', or leave FOLLOW out",
                )
            return nodes.AnalyzeSubscribe(planned)
        if not isinstance(planned, nodes.Query):
            hint = "EXPLAIN without ANALYZE shows the plan of any statement"
            raise GqlError("EXPLAIN ANALYZE runs and measures a SELECT or a SUBSCRIBE", span=statement.span, hint=hint)
        return nodes.Analyze(planned)

    async def _query(self, tree: Any) -> nodes.Query:
        from geode_client.query.selecting import SelectPlanner

        return await SelectPlanner(self._broker, self._parameters).query(tree)

    async def _rows_elsewhere(self, statement: ast.InsertQuery | ast.CopyQuery) -> nodes.Plan:
        if isinstance(statement, ast.CopyQuery):
            options = write_options(statement.path, self._entries(statement.options))
            return nodes.CopyQuery(await self._query(statement.query), statement.path, options)
        return await self._insert_query(statement.topic, statement.columns, statement.query)

    async def _insert_query(self, topic: str, names: tuple[str, ...] | None, tree: Any) -> nodes.InsertQuery:
        query = await self._query(tree)
        columns = query.root.columns
        if names is not None and (len(names) != len(columns) or any(column.spread for column in columns)):
            given = "*" if any(column.spread for column in columns) else f"{len(columns)} columns"
            raise GqlError(
                f"{len(names)} fields are named, and the query gives {given}",
                span=tree.meta.get("span"),
                hint="select one value for each field",
            )
        return nodes.InsertQuery(topic, names, query)

    async def _assert(self, statement: ast.Assert) -> nodes.Assert:
        from geode_client.grammar.unparse import unparse

        query = await self._query(statement.query)
        within_us = 0 if statement.within is None else parse_duration_us(statement.within)
        value = self._bound(statement.value)
        return nodes.Assert(query, statement.operator, value, within_us / 1e6, unparse(statement))

    async def _test_filter(self, statement: ast.TestFilter) -> nodes.TestFilter:
        from geode_client import conditions
        from geode_client.grammar.parser import parse_condition

        topic = await self._broker.topic(statement.topic)
        columns = {column.name: column.type for column in topic.schema.columns} if topic.schema else None
        tree = parse_condition(statement.condition)
        condition = conditions.compile_condition(tree, parameters=self._parameters, columns=columns)
        limit = TEST_FILTER_MESSAGES if statement.limit is None else statement.limit
        return nodes.TestFilter(topic, condition, min(limit, TEST_FILTER_MESSAGES_MAX))


def _transacting(statement: ast.Begin | ast.Commit | ast.Rollback) -> nodes.Plan:
    match statement:
        case ast.Begin():
            return nodes.Begin()
        case ast.Commit():
            return nodes.Commit()
        case ast.Rollback():
            return nodes.Rollback()
        case _:
            assert_never(statement)


def covers(like: str | None, name: str) -> bool:
    """Whether SHOW … LIKE shows the name: `%` and `_` as in LIKE, or a topic pattern."""
    if like is None:
        return True
    if "*" in like:
        return matches(like, name)
    from geode_client.conditions.like import Like

    return Like(like, fold=True).matches(name)
