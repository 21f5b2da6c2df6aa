"""Statements about groups: made, moved, paused, dropped, and their dead letters replayed."""

from collections.abc import Awaitable, Callable
from typing import Any, assert_never

from geode_client import replaying
from geode_client.broker import Broker
from geode_client.broker.subscription import starts_at_end
from geode_client.grammar.names import is_pattern
from geode_client.query import plan
from geode_client.query.result import Result, counted

GroupPlan = (
    plan.CreateGroup
    | plan.SeekGroup
    | plan.AlterGroup
    | plan.PauseGroup
    | plan.DropGroup
    | plan.ReplayDeadLetters
    | plan.DeleteDeadLetters
)


async def run(broker: Broker, node: GroupPlan, ensure_topic: Callable[[str], Awaitable[None]]) -> Result:
    """Do what the plan says."""
    match node:
        case plan.CreateGroup(request, notices):
            if not is_pattern(request.pattern):
                await ensure_topic(request.pattern)
            before = await broker.create_group(request)
            if before and request.group is not None:
                notices += (starts_at_end(request.group, request.pattern, before),)
            return Result(message=f"subscription {request.group} on {request.pattern} created", notices=notices)
        case plan.SeekGroup(group, topic, target):
            found = await broker.seek_group(group, topic, target)
            moved = f"{_messages(found.replayed)} to be replayed, {_messages(found.skipped)} skipped"
            return Result(message=f"subscription {group} moved in {topic}: {moved}")
        case plan.AlterGroup(group, topic, change, notices):
            in_hand = await broker.alter_group(group, topic, change)
            if in_hand and change.order_by is not None:
                notices += (_settled_first(in_hand),)
            return Result(message=f"subscription {group} on {topic} altered", notices=notices)
        case plan.PauseGroup(group, on, paused):
            await broker.pause_group(group, on, paused=paused)
            return Result(message=f"subscription {group} {'paused' if paused else 'resumed'}")
        case plan.DropGroup(group, on, if_exists):
            dropped = await broker.drop_group(group, on, if_exists=if_exists)
            return Result(message=f"subscription {group} dropped" if dropped else f"there was no subscription {group}")
        case plan.ReplayDeadLetters(topic, condition, target_name, to_all):
            done = await replaying.replay(broker, topic, condition, target=target_name, to_all=to_all)
            return _replayed(done, topic, target_name or topic)
        case plan.DeleteDeadLetters(topic, condition):
            number = await replaying.delete(broker, topic, condition)
            return Result(message=f"{counted(number, 'dead letter')} of {topic} deleted")
        case _:
            assert_never(node)


def _settled_first(in_hand: int) -> str:
    return f"the new order begins once {counted(in_hand, 'message')} in hand are settled or given back"


def _replayed(done: replaying.Replayed, topic: str, target: str) -> Result:
    message = f"{counted(done.count, 'dead letter')} of {topic} replayed to {target}"
    if not done.refused_count:
        return Result(message=message)
    rows: list[tuple[Any, ...]] = [(one.letter, one.group, one.reason) for one in done.refused]
    if done.refused_count > len(rows):
        rows.append((None, None, f"and {done.refused_count - len(rows)} more"))
    return Result(("letter", "group", "why"), rows, message=f"{message}; {done.refused_count} not replayed")


async def foretold(broker: Broker, node: plan.Plan) -> list[str]:
    """What a statement would do that its plan does not show, for EXPLAIN."""
    match node:
        case plan.SeekGroup():
            found = await broker.seek_group(node.group, node.topic, node.target, dry_run=True)
            return [f"  would replay {_messages(found.replayed)}, would skip {_messages(found.skipped)}"]
        case plan.AlterGroup(group, topic, change):
            in_hand = await broker.alter_group(group, topic, change, dry_run=True)
            return [f"  {_settled_first(in_hand)}"] if in_hand else []
        case plan.ReplayDeadLetters(topic, condition, target, to_all):
            done = await replaying.replay(broker, topic, condition, target=target, to_all=to_all, dry_run=True)
            lines = [f"  would replay {counted(done.count, 'dead letter')}"]
            if done.refused_count:
                lines.append(f"  could not replay {done.refused_count}")
                lines += [f"    {number}: {reason}" for reason, number in sorted(done.reasons.items())]
            return lines
        case plan.DeleteDeadLetters(topic, condition):
            number = await replaying.delete(broker, topic, condition, dry_run=True)
            return [f"  would delete {counted(number, 'dead letter')}"]
        case _:
            return []


def _messages(count: int | None) -> str:
    return "an unknown number of messages" if count is None else counted(count, "message")
