"""Statements about groups: made, moved, paused, dropped, and their dead letters replayed."""

from collections.abc import Awaitable, Callable
from typing import assert_never

from geode_client.broker import Broker
from geode_client.grammar.names import is_pattern
from geode_client.query import plan
from geode_client.query.result import Result, counted

GroupPlan = plan.CreateGroup | plan.SeekGroup | plan.PauseGroup | plan.DropGroup | plan.ReplayDeadLetters


async def run(broker: Broker, node: GroupPlan, ensure_topic: Callable[[str], Awaitable[None]]) -> Result:
    """Do what the plan says."""
    match node:
        case plan.CreateGroup(request, notices):
            if not is_pattern(request.pattern):
                await ensure_topic(request.pattern)
            await broker.create_group(request)
            return Result(message=f"subscription {request.group} on {request.pattern} created", notices=notices)
        case plan.SeekGroup(group, topic, target):
            found = await broker.seek_group(group, topic, target)
            moved = f"{_messages(found.replayed)} to be replayed, {_messages(found.skipped)} skipped"
            return Result(message=f"subscription {group} moved in {topic}: {moved}")
        case plan.PauseGroup(group, on, paused):
            await broker.pause_group(group, on, paused=paused)
            return Result(message=f"subscription {group} {'paused' if paused else 'resumed'}")
        case plan.DropGroup(group, on, if_exists):
            dropped = await broker.drop_group(group, on, if_exists=if_exists)
            return Result(message=f"subscription {group} dropped" if dropped else f"there was no subscription {group}")
        case plan.ReplayDeadLetters(topic, condition, target_name):
            number = await broker.replay_dead_letters(topic, condition, target_name)
            return Result(message=f"{counted(number, 'dead letter')} of {topic} replayed to {target_name or topic}")
        case _:
            assert_never(node)


async def foretold(broker: Broker, node: plan.Plan) -> list[str]:
    """What a statement would do that its plan does not show, for EXPLAIN."""
    if not isinstance(node, plan.SeekGroup):
        return []
    found = await broker.seek_group(node.group, node.topic, node.target, dry_run=True)
    return [f"  would replay {_messages(found.replayed)}, would skip {_messages(found.skipped)}"]


def _messages(count: int | None) -> str:
    return "an unknown number of messages" if count is None else counted(count, "message")
