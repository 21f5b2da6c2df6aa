"""Request and reply over topics: the asking side (`Requester`) and the answering side (`Service`).

A client has one topic for all its replies, made when it first asks and dropped when it closes, and one subscription to it;
replies find their requests by id. A request lives as long as its caller waits: its time to live is the timeout, so no
server does later what nobody waits for any more. Servers of a topic are a group: each request goes to one of them.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from geode_client.broker import Broker, OutgoingMessage, SubscriptionRequest
from geode_client.broker.replies import REPLY_PREFIX, answer, reply_topic, where_to
from geode_client.broker.subscription import Subscription
from geode_client.codec import JsonValue
from geode_client.errors import GeodeError, RequestFailed, RequestTimeout, StoreError
from geode_client.message import Message

logger = logging.getLogger("geode_client")

SERVER_PREFETCH = 16
ERROR_CHARACTERS_MAX = 2000

Publish = Callable[[OutgoingMessage], Awaitable[Any]]


class Requester:
    """The asking side of one client. `publish` stores a message, and makes its topic where that is wanted."""

    def __init__(self, broker: Broker, publish: Publish) -> None:
        self._broker = broker
        self._publish = publish
        self._pending: dict[str, asyncio.Future[Any]] = {}
        self._asked = 0
        self._topic = ""
        self._opening: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._looking: dict[str, asyncio.Task[str]] = {}
        self._is_closed = False

    async def request(self, topic: str, params: Any, timeout: float | None, method: str | None) -> Any:
        """The result of a request; raises RequestTimeout, RequestFailed, and whatever publishing raises."""
        request_id = ""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._listening()
                request_id, reply = self._expected()
                body = {"id": request_id, "method": method, "params": params, "reply_to": self._topic}
                ttl_us = None if deadline is None else max(1, int((deadline - loop.time()) * 1_000_000))
                await self._publish(OutgoingMessage(topic, body, ttl_us=ttl_us))
                return await reply
        except TimeoutError:
            why = await self._shared_look(topic)
            raise RequestTimeout(f"no reply from {topic} within {timeout:g} seconds: {why}") from None
        finally:
            self._pending.pop(request_id, None)

    def _expected(self) -> tuple[str, "asyncio.Future[Any]"]:
        self._asked += 1
        request_id = f"{self._topic.removeprefix(REPLY_PREFIX)}-{self._asked}"
        reply = self._pending[request_id] = asyncio.get_running_loop().create_future()
        return request_id, reply

    # ── the reply topic ──
    async def _listening(self) -> None:
        """The reply topic is there and read. The first who asks makes it; all who ask meanwhile wait for that."""
        if self._is_closed:
            raise GeodeError("the client is closed: make a new one")
        if self._reading is not None:
            return
        if self._opening is None:
            self._opening = asyncio.create_task(self._listen(), name="geode-replies-opening")
            self._opening.add_done_callback(self._opened)
        # Whoever gives up waiting does not stop it for the others.
        await asyncio.shield(self._opening)

    def _opened(self, opening: "asyncio.Task[None]") -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # told to all who waited; the next request tries again

    async def _listen(self) -> None:
        topic = f"{REPLY_PREFIX}{uuid.uuid4().hex}"
        await self._broker.create_topic(reply_topic(topic))
        subscription = await Subscription(self._broker, SubscriptionRequest(topic)).open()
        self._topic = topic
        self._reading = asyncio.create_task(self._read(subscription), name="geode-replies")

    async def _read(self, subscription: Subscription) -> None:
        failure = GeodeError("the client was closed before the reply came")
        try:
            async with subscription:
                async for message in subscription:
                    self._deliver(message)
        except GeodeError as error:
            failure = StoreError(f"replies cannot be read any more: {error}")
            failure.__cause__ = error
        finally:
            self._reading = None
            for reply in self._pending.values():
                if not reply.done():
                    reply.set_exception(failure)

    def _deliver(self, message: Message) -> None:
        body = message.data
        request_id = body.get("request_id") if isinstance(body, dict) else None
        reply = self._pending.get(request_id) if isinstance(request_id, str) else None
        if reply is None or reply.done():
            logger.debug("a reply to %r was dropped: nobody waits for it", request_id)
        elif body.get("error") is not None:
            reply.set_exception(RequestFailed(str(body["error"])))
        else:
            reply.set_result(body.get("result"))

    async def close(self) -> None:
        """Tell those who still wait, and drop the reply topic."""
        self._is_closed = True
        if self._opening is not None:
            with contextlib.suppress(GeodeError):
                await asyncio.shield(self._opening)
        reading, self._reading = self._reading, None
        if reading is None:
            return
        reading.cancel()
        await asyncio.wait([reading])
        with contextlib.suppress(GeodeError):
            await self._broker.drop_topic(self._topic)

    # ── why nobody answered ──
    async def _shared_look(self, topic: str) -> str:
        """What to check; many that time out together look once."""
        looking = self._looking.get(topic)
        if looking is None:
            looking = self._looking[topic] = asyncio.create_task(self._look(topic))
            looking.add_done_callback(lambda _: self._looking.pop(topic, None))
        return await asyncio.shield(looking)

    async def _look(self, topic: str) -> str:
        try:
            subscribers = sum(
                [found.subscriber_count for found in (await self._broker.report(["topics"], topic)).topics]
            )
        except GeodeError as error:
            return f"whether anybody serves it cannot be seen ({error})"
        if not subscribers:
            return (
                f"nobody serves it; start a server with client.serve({topic!r}), and check that both sides name the same"
                f" topic and open the same store ({self._broker.target})"
            )
        return (
            f"its subscribers ({subscribers}) are slow, stand still, or do not answer this request: give a longer"
            " timeout or more servers, or look into the log of the server"
        )


class Request:
    """One request, as a server receives it.

    Attributes:
        id: The id of the request, as its client chose it.
        message: The message that carries the request.
    """

    __slots__ = ("_answered", "_broker", "id", "message")

    id: str | int
    message: Message

    def __init__(self, broker: Broker, message: Message) -> None:
        self._broker = broker
        self._answered = False
        self.message = message
        self.id = where_to(message)[0]

    @property
    def method(self) -> JsonValue:
        """What is requested; None if the client named no method."""
        method: JsonValue = self.message.data.get("method")
        return method

    @property
    def params(self) -> JsonValue:
        """The parameters of the request, decoded from JSON; None without any."""
        params: JsonValue = self.message.data.get("params")
        return params

    @property
    def is_answered(self) -> bool:
        """Whether it was answered with `reply` or `fail`."""
        return self._answered

    async def reply(self, result: object) -> None:
        """Answer the request with a result. A request is answered once.

        Args:
            result: Any value that has a JSON form.

        Raises:
            InvalidMessage: The result has no JSON form; the request may be answered with something else.
            GeodeError: The request was answered already.
        """
        await self._answer(result, None)

    async def fail(self, reason: object) -> None:
        """Answer the request with an error: `request` raises `RequestFailed` in the client.

        Args:
            reason: A text or an exception; cut to 2,000 characters.

        Raises:
            GeodeError: The request was answered already.
        """
        text = f"{type(reason).__name__}: {reason}" if isinstance(reason, BaseException) else str(reason)
        await self._answer(None, text[:ERROR_CHARACTERS_MAX])

    async def _answer(self, result: Any, error: str | None) -> None:
        if self._answered:
            raise GeodeError(f"request {self.id} was answered already")
        self._answered = True
        try:
            await answer(self._broker, self.message, result, error)
        except BaseException:
            self._answered = False  # such as a result that is no JSON: the server may answer something else
            raise

    def __repr__(self) -> str:
        return f"<Request {self.id} {self.method!r}>"


class Service:
    """The requests of a topic, as one server receives them; made by `client.serve`.

    A request is done when the next one is requested. An exception that leaves the block answers the request at hand with an
    error; cancellation gives it to another server. Messages that are not requests are skipped with a warning in the log.

    Example:
        ```python
        async with client.serve("echo") as requests:
            async for request in requests:
                await request.reply(request.params)
        ```
    """

    def __init__(self, broker: Broker, subscription: Subscription) -> None:
        self._broker = broker
        self._subscription = subscription
        self._at_hand: Request | None = None

    async def open(self) -> Self:
        """Start to receive requests. Opening it again does nothing.

        Returns:
            The service itself.
        """
        await self._subscription.open()
        return self

    async def close(self) -> None:
        """Stop to receive requests. Closing it again does nothing."""
        await self._subscription.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        at_hand = self._at_hand
        if isinstance(error, Exception) and at_hand is not None and not at_hand.is_answered:
            with contextlib.suppress(GeodeError):
                await at_hand.fail(error)
                await at_hand.message.ack()
        await self._subscription.__aexit__(kind, error, traceback)

    async def __aiter__(self) -> AsyncIterator[Request]:
        async for message in self._subscription:
            try:
                request = Request(self._broker, message)
            except GeodeError as error:
                logger.warning("passed over: %s", error)
                continue
            self._at_hand = request
            yield request
            self._at_hand = None
