"""TEST FILTER: how a condition judges the newest messages of a topic, and why some are UNKNOWN."""

from typing import Any

from sqlglot import exp

from geode_client.broker import Broker, ScanRequest
from geode_client.clock import now_us
from geode_client.conditions import Condition
from geode_client.message import Message
from geode_client.query import plan
from geode_client.query.result import Result

EXAMPLES_MAX = 3
REASONS_MAX = 20

_KINDS = {str: "a string", bool: "a boolean", int: "a number", float: "a number", dict: "an object", list: "an array"}


async def test_filter(broker: Broker, node: plan.TestFilter) -> Result:
    """Count TRUE, FALSE and UNKNOWN; for UNKNOWN one row for each different reason, with offsets of examples."""
    condition = node.condition
    doubts = _Doubts(condition)
    counts = {True: 0, False: 0, None: 0}
    left = node.limit
    async for chunk in broker.scan(ScanRequest([node.topic], newest_first=True)):
        alive = set(chunk.unexpired(now_us()))
        judged = [(place, truth) for place, truth in enumerate(condition.truths(chunk)) if place in alive][-left:]
        for place, truth in judged:
            counts[truth] += 1
            if truth is None:
                doubts.add(Message(chunk, place), f"{chunk.partition}/{chunk.base_offset + place}")
        left -= len(judged)
        if left <= 0:
            break
    rows: list[tuple[Any, ...]] = [("TRUE", counts[True], None, None), ("FALSE", counts[False], None, None)]
    rows += [("UNKNOWN", number, why, examples) for why, number, examples in doubts.summary()]
    return Result(("outcome", "messages", "why", "examples"), rows, notices=condition.notices)


class _Doubts:
    """The reasons for which messages are UNKNOWN, counted."""

    def __init__(self, condition: Condition) -> None:
        self._leaves = [condition.part(leaf) for leaf in _leaves(condition.tree)]
        self._reasons: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def add(self, message: Any, place: str) -> None:
        why = self._why(message)
        if why not in self._counts and len(self._counts) >= REASONS_MAX:
            why = "other reasons"
        self._counts[why] = self._counts.get(why, 0) + 1
        examples = self._reasons.setdefault(why, [])
        if len(examples) < EXAMPLES_MAX:
            examples.append(place)

    def _why(self, message: Any) -> str:
        for leaf in self._leaves:
            if leaf.evaluate(message) is None:
                read = zip(leaf.fields, leaf.field_steps, strict=True)
                found = [f"{path} is {_kind(message.data, steps)}" for path, steps in read]
                return (
                    f"{leaf.text}: {', '.join(found)}" if found else f"{leaf.text} compares values of different kinds"
                )
        return "its parts together"

    def summary(self) -> list[tuple[str | None, int, str | None]]:
        """Reason, messages, examples; the most frequent first."""
        if not self._counts:
            return [(None, 0, None)]
        ordered = sorted(self._counts.items(), key=lambda item: -item[1])
        return [(why, number, ", ".join(self._reasons[why])) for why, number in ordered]


def _kind(value: Any, steps: tuple[str | int, ...]) -> str:
    """What stands at the end of a path."""
    for step in steps:
        match value, step:
            case dict(), str() if step in value:
                value = value[step]
            case list(), int() if step < len(value):
                value = value[step]
            case _:
                return "missing"
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


def _leaves(tree: exp.Expression) -> list[exp.Expression]:
    """The predicates that AND, OR and NOT put together."""
    if isinstance(tree, exp.And | exp.Or):
        return [*_leaves(tree.this), *_leaves(tree.expression)]
    if isinstance(tree, exp.Not | exp.Paren):
        return _leaves(tree.this)
    return [tree]
