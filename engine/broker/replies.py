"""Replies: what a request says of itself, and how it is answered.

A request is an object with `id`, `method`, `params` and `reply_to`; its reply goes to the topic that `reply_to` names and
has `request_id`, `result` and, when the server could not do it, `error`. The same form as programs write by hand.
"""

import logging
from typing import Any

from geode_client.broker import Broker, OutgoingMessage
from geode_client.catalog import Delivery, TopicDefinition
from geode_client.errors import GeodeError, GqlError, TopicNotFound
from geode_client.grammar.names import validate_topic_name
from geode_client.message import Message
from geode_client.options import TopicOptions

logger = logging.getLogger("geode_client")

# Reply topics of clients that use `request`: the system's own names, which no wildcard covers.
REPLY_PREFIX = "_replies/"
# A reply that nobody took in this time is of no use to anybody.
REPLY_TTL_US = 60_000_000
REPLY_TOPIC_IDLE_US = 60_000_000


def reply_topic(name: str) -> TopicDefinition:
    """A topic for replies: nothing in it outlives a power loss, and it goes when nobody subscribes to it."""
    options = TopicOptions(expire_when_idle_us=REPLY_TOPIC_IDLE_US)
    return TopicDefinition(name, options, delivery=Delivery.AT_MOST_ONCE, automatic=True)


def where_to(message: Message) -> tuple[str | int, str]:
    """The id of a request, and the topic for its reply; raises GeodeError when the message is no request."""
    body = message.data
    if not isinstance(body, dict):
        raise GeodeError(f"message {message.id} is no request: its body is no object")
    request_id, topic = body.get("id"), body.get("reply_to")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int):
        raise GeodeError(f"message {message.id} is no request: it has no field 'id' with a text or a whole number")
    if not isinstance(topic, str):
        raise GeodeError(f"message {message.id} is no request: it has no field 'reply_to' that names a topic")
    try:
        return request_id, validate_topic_name(topic)
    except GqlError as error:
        raise GeodeError(f"message {message.id} is no request: reply_to: {error.message}") from error


async def answer(broker: Broker, message: Message, result: Any, error: str | None = None) -> None:
    """Publish the reply to a request; `error` says why there is no result."""
    request_id, topic = where_to(message)
    body = {"request_id": request_id, "result": result}
    if error is not None:
        body["error"] = error
    outgoing = OutgoingMessage(topic, body, ttl_us=REPLY_TTL_US)
    try:
        await broker.publish(outgoing)
    except TopicNotFound:
        if topic.startswith(REPLY_PREFIX):
            logger.debug("the reply to request %s came too late: its client is gone", request_id)
            return
        await broker.create_topic(reply_topic(topic), if_not_exists=True)
        await broker.publish(outgoing)
