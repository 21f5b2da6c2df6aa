"""Running a plan: one match over the nodes, which reads as the meaning of the language."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, assert_never

from geode_client.broker import Broker, OutgoingBatch
from geode_client.broker.outgoing import checked_expectation
from geode_client.broker.subscription import Subscription
from geode_client.catalog import Topic
from geode_client.errors import GeodeError, GqlError, TopicNotFound, Unsupported
from geode_client.grammar import ast
from geode_client.grammar.names import is_pattern
from geode_client.grammar.unparse import create_topic
from geode_client.grammar.written import literal, type_text
from geode_client.query import analyzing, copying, grouping, insertion, judging, loading, plan, system
from geode_client.query.measuring import Measures
from geode_client.query.planner import covers
from geode_client.query.result import Result, counted, unique_names
from geode_client.query.transacting import Transacting
from geode_client.units import format_duration
from geode_client.values import compare, equal

if TYPE_CHECKING:
    from geode_client.query.running import Runner

ASSERT_POLL_SECONDS = 0.02

EnsureTopic = Callable[[str], Awaitable[None]]


class AssertionFailed(GeodeError):
    """An ASSERT that did not come true."""


class Executor:
    """Runs plans on a broker. `ensure_topic` makes a topic that is published or subscribed to, where that is wanted."""

    def __init__(
        self,
        broker: Broker,
        parameters: Mapping[str, Any],
        ensure_topic: EnsureTopic,
        progress: loading.Progress | None = None,
        transacting: Transacting | None = None,
    ) -> None:
        self._broker = broker
        self._parameters = parameters
        self._ensure_topic = ensure_topic
        self._progress = progress
        self._transacting = transacting

    async def run(self, node: plan.Plan) -> Result:
        """Do what the plan says."""
        if self._transacting is not None:
            self._transacting.admit(node)
        match node:
            case plan.Begin() | plan.Commit() | plan.Rollback():
                return await self._transact(node)
            case plan.CreateTopic(definition, if_not_exists):
                created = await self._broker.create_topic(definition, if_not_exists=if_not_exists)
                return Result(message=f"topic {definition.name} {'created' if created else 'was there already'}")
            case plan.AlterTopic(name, change):
                altered = await self._broker.alter_topic(name, change)
                return Result(
                    message=f"topic {name} " + ("altered" if altered.name == name else f"renamed to {altered.name}")
                )
            case plan.DropTopic(name, if_exists):
                return await self._drop(name, if_exists)
            case plan.PurgeTopic(name):
                purged = await self._broker.purge_topic(name)
                return Result(message=f"topic {name} purged: {counted(purged, 'message')} removed")
            case plan.Publish():
                return await self._publish(node)
            case (
                plan.CreateGroup()
                | plan.SeekGroup()
                | plan.AlterGroup()
                | plan.PauseGroup()
                | plan.DropGroup()
                | plan.ReplayDeadLetters()
                | plan.DeleteDeadLetters()
            ):
                return await grouping.run(self._broker, node, self._ensure_topic)
            case plan.Subscribe():
                return await self._subscribe(node)
            case plan.Show(kind, like):
                return await self._show(kind, like)
            case plan.Describe(topic):
                return describe(topic)
            case plan.ShowCreate(topic):
                return Result(("create_statement",), [(create_statement(topic) + ";",)])
            case plan.CopyFrom() | plan.CopyTo() | plan.CopyBetween():
                return await self._copy(node)
            case plan.CopyQuery() | plan.InsertQuery():
                return await self._rows_elsewhere(node)
            case plan.Assert():
                return await self._assert(node)
            case plan.TestFilter():
                return await judging.test_filter(self._broker, node)
            case plan.Explain(inner):
                return Result(
                    ("plan",), [(line,) for line in [*plan.lines(inner), *await grouping.foretold(self._broker, inner)]]
                )
            case plan.Missing(what):
                raise Unsupported(what, self._broker.capabilities.backend)
            case plan.Analyze() | plan.AnalyzeSubscribe():
                return await self._analyze(node)
            case plan.Query():
                columns, found = await self._runner().run(node)
                notices = node.notices
                if self._transacting is not None:
                    notices += self._transacting.notices(node)
                types = [column.type for column in node.root.columns]
                return Result(columns, notices=notices, values=found.columns, count=found.count, types=types)
            case _:
                assert_never(node)

    async def _copy(self, node: plan.CopyFrom | plan.CopyTo | plan.CopyBetween) -> Result:
        match node:
            case plan.CopyFrom():
                return await self._load(node)
            case plan.CopyTo(topic, path):
                messages, size = await copying.copy_to(self._broker, node, self._progress)
                return Result(
                    message=f"{counted(messages, 'message')} ({size} bytes) copied from {topic.name} to {path}"
                )
            case plan.CopyBetween(topic, target):
                await self._ensure_topic(target)
                copied = await copying.copy_between(self._broker, node, self._progress)
                known = f", {copied.duplicates} known already" if copied.duplicates else ""
                return Result(
                    message=f"{counted(copied.messages, 'message')} copied from {topic.name} to {target}{known}"
                )
            case _:
                assert_never(node)

    async def _load(self, node: plan.CopyFrom) -> Result:
        done = await loading.load(self._broker, node.topic, node.path, node.options, self._ensure_topic, self._progress)
        known = f", {done.duplicates} known already" if done.duplicates else ""
        skipped = f", {done.skipped} skipped" if done.skipped else ""
        return Result(
            message=f"{counted(done.messages, 'message')} ({done.bytes_read} bytes) copied from {node.path} to"
            f" {node.topic}{known}{skipped}",
            notices=tuple(done.notices),
        )

    def _runner(self, measures: "Measures | None" = None) -> "Runner":
        # Imported here because it loads sqlglot, which other statements do not need.
        from geode_client.query.running import Runner

        return Runner(self._broker, self._parameters, measures=measures)

    async def _analyze(self, node: plan.Analyze | plan.AnalyzeSubscribe) -> Result:
        if isinstance(node, plan.AnalyzeSubscribe):
            return await analyzing.analyze(self._broker, node.subscribe)
        measures = Measures()
        await self._runner(measures).run(node.query)
        return Result(("operator", "rows", "batches", "milliseconds", "notes"), measures.rows(node.query))

    async def _drop(self, name: str, if_exists: bool) -> Result:
        try:
            await self._broker.drop_topic(name)
        except TopicNotFound:
            if not if_exists:
                raise
            return Result(message=f"there was no topic {name}")
        return Result(message=f"topic {name} dropped")

    async def _transact(self, node: plan.Begin | plan.Commit | plan.Rollback) -> Result:
        if self._transacting is None:
            raise GqlError(
                "this would take in what other tasks of the program publish",
                hint="use client.transaction() or client.connection(), or a script",
            )
        match node:
            case plan.Begin():
                return await self._transacting.begin()
            case plan.Commit():
                return await self._transacting.commit()
            case plan.Rollback():
                return await self._transacting.rollback()
            case _:
                assert_never(node)

    async def _publish(self, node: plan.Publish) -> Result:
        given = dict(node.options)
        message_id = given.pop("message_id", None)
        if message_id is not None and len(node.messages) > 1:
            raise GqlError("an id belongs to one message: publish the others without it")
        checked_expectation(given.get("expected_offset"), given.get("delay_us"))
        keys = given.pop("key", None)
        ids = [message_id] if message_id is not None else None
        batch = OutgoingBatch(node.topic, list(node.messages), keys=keys, ids=ids, **given)
        if self._transacting is not None and self._transacting.is_open:
            return await self._transacting.publish(batch)
        await self._ensure_topic(node.topic)
        receipt = await self._broker.publish_batch(batch)
        duplicates = f", {receipt.duplicates} known already" if receipt.duplicates else ""
        due = f", due in {format_duration(batch.delay_us)}" if batch.delay_us and receipt.count else ""
        return Result(message=f"{counted(receipt.count, 'message')} published to {node.topic}{duplicates}{due}")

    async def _rows_elsewhere(self, node: plan.CopyQuery | plan.InsertQuery) -> Result:
        return await (self._copy_query(node) if isinstance(node, plan.CopyQuery) else self._insert_query(node))

    async def _copy_query(self, node: plan.CopyQuery) -> Result:
        columns, found = await self._runner().run(node.query)
        names = unique_names(columns)
        size = await copying.copy_rows(names, found.columns, found.count, node.path, node.options, self._progress)
        message = f"{counted(found.count, 'row')} ({size} bytes) copied to {node.path}"
        return Result(message=message, notices=node.query.notices)

    async def _insert_query(self, node: plan.InsertQuery) -> Result:
        """All rows are there before the first one is stored: what is inserted is not read again."""
        columns, found = await self._runner().run(node.query)
        names = columns if node.names is None else node.names
        joined = self._transacting is not None and self._transacting.is_open
        if not joined:
            await self._ensure_topic(node.topic)
        stored = duplicates = 0
        for messages in insertion.messages(names, found):
            batch = OutgoingBatch(node.topic, messages)
            if joined:
                assert self._transacting is not None
                await self._transacting.publish(batch)
                stored += len(messages)
            else:
                receipt = await self._broker.publish_batch(batch)
                stored, duplicates = stored + receipt.count, duplicates + receipt.duplicates
        known = f", {duplicates} known already" if duplicates else ""
        done = f"to {node.topic}, stored at COMMIT" if joined else f"published to {node.topic}{known}"
        return Result(message=f"{counted(stored, 'message')} {done}", notices=node.query.notices)

    async def _subscribe(self, node: plan.Subscribe) -> Result:
        if not is_pattern(node.request.pattern):
            await self._ensure_topic(node.request.pattern)
        subscription = Subscription(
            self._broker, node.request, limit=node.limit, timeout_seconds=node.timeout_seconds, warns=False
        )
        await subscription.open()
        notices = (*node.notices, *subscription.notices)
        return Result(subscription=subscription, notices=notices, message=f"subscribed to {node.request.pattern}")

    async def _show(self, kind: str, like: str | None) -> Result:
        if kind == "topics":
            found = (await self._broker.report(["topics"])).topics
            rows = [
                (
                    one.topic.name,
                    one.topic.partitions,
                    one.topic.delivery.value,
                    one.messages_retained,
                    one.subscriber_count,
                )
                for one in found
                if covers(like, one.topic.name)
            ]
            return Result(("topic_name", "partitions", "delivery", "messages", "subscribers"), rows)
        columns = system.TABLES[kind]
        name = columns.index("topic_name" if kind != "subscriptions" else "name")
        rows_of_kind = await system.rows_of(self._broker, kind)
        return Result(columns, [row for row in rows_of_kind if covers(like, row[name])])

    async def _assert(self, node: plan.Assert) -> Result:
        deadline = time.monotonic() + node.within_seconds
        while True:
            columns, batch = await self._runner().run(node.query)
            if batch.count != 1 or len(columns) != 1:
                raise GqlError(
                    f"ASSERT compares one value; the query gave {counted(batch.count, 'row')} of {counted(len(columns), 'column')}"
                )
            found = batch.columns[0][0]
            if holds(found, node.operator, node.value):
                return Result(message="assertion holds")
            if time.monotonic() >= deadline:
                late = f" within {node.within_seconds:g} seconds" if node.within_seconds else ""
                raise AssertionFailed(f"assertion failed{late}: found {found!r}, wanted {node.operator} {node.value!r}")
            await asyncio.sleep(ASSERT_POLL_SECONDS)


def holds(found: Any, operator: str, wanted: Any) -> bool:
    """Whether `found operator wanted` is TRUE; NULL equals only NULL here, so that absence can be asserted."""
    if operator == "=":
        return (found is None and wanted is None) or equal(found, wanted) is True
    if operator == "<>":
        return (found is None) != (wanted is None) or equal(found, wanted) is False
    order = compare(found, wanted)
    if order is None:
        return False
    return {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[operator]


def describe(topic: Topic) -> Result:
    """The columns of a topic's schema, then its delivery and options."""
    rows: list[tuple[Any, ...]] = []
    for column in topic.schema.columns if topic.schema else ():
        default = "" if column.default is None else f"DEFAULT {literal(column.default.value)}"
        note = " ".join(filter(None, ("NOT NULL" if column.not_null else "", default)))
        rows.append(("column", column.name, type_text(column.type), note))
    rows.append(("delivery", "delivery", topic.delivery.value, ""))
    for name, value, is_default in topic.options.named():
        rows.append(("option", name, value.strip("'"), "default" if is_default else ""))
    return Result(("kind", "name", "value", "note"), rows)


def create_statement(topic: Topic) -> str:
    """The CREATE TOPIC that makes this topic again."""
    entries = tuple(
        ast.OptionEntry(name, ast.RawText(value)) for name, value, is_default in topic.options.named() if not is_default
    )
    columns = None if topic.schema is None else topic.schema.columns
    return create_topic(ast.CreateTopic(topic.name, False, entries, columns, topic.delivery.value))
