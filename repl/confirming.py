"""What to ask a person before a statement that destroys: which one, and how much would be gone."""

from contextlib import suppress

from geode_client.broker import Broker
from geode_client.errors import GeodeError
from geode_client.grammar import ast


async def question_for(statement: ast.Statement, broker: Broker) -> str | None:
    """The question before this statement; None where nothing is lost by it."""
    match statement:
        case ast.DropTopic(name=name):
            return await _with_messages(broker, name, "drop topic")
        case ast.PurgeTopic(name=name):
            return await _with_messages(broker, name, "purge topic")
        case ast.DropSubscription(group=group):
            return f"drop subscription {group}, and with it what it has acknowledged?"
        case ast.AlterSubscriptionSeek(group=group, topic=topic):
            return f"move subscription {group} on {topic}? Messages may be delivered again, or passed over."
        case _:
            return None


async def _with_messages(broker: Broker, name: str, what: str) -> str | None:
    """None where the topic is not there: the statement itself says so."""
    with suppress(GeodeError):
        await broker.topic(name)
        found = (await broker.report(["topics"], name)).topics
        messages = sum(one.messages_retained for one in found)
        return f"{what} {name} with {messages:,} message{'s' * (messages != 1)}?"
    return None
