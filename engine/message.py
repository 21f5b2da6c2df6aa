"""Messages as they are read: a `Chunk` of the log, and a `Message` that looks into it.

A chunk is what one batch of the store holds, unpacked once and shared by everybody who reads it; it is never changed,
only its caches grow. A message is a place in a chunk. Bodies are decoded when somebody looks: reading one field through
`message["field"]` decodes the whole chunk once for all its readers; `message.data` makes a value of the reader's own.
Knows nothing of stores, brokers or subscriptions; who settles a message is behind the `Settler` protocol.
"""

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from datetime import datetime
from typing import Any, Protocol

import msgspec

from geode_client import codec, letters
from geode_client.clock import datetime_of
from geode_client.errors import GeodeError
from geode_client.letters import Addressee, History

NOTHING = msgspec.UNSET
SECONDS_MAX = 366 * 86_400.0

VIRTUAL_COLUMNS = (
    "_id",
    "_topic",
    "_partition",
    "_offset",
    "_key",
    "_priority",
    "_timestamp",
    "_expires_at",
    "_headers",
    "_replayed_from",
)


DELETED_US = 0
"""The expiry of a message that was deleted: it was over before any message was published."""


class Attributes(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What each message of a batch has beside its body: one value that all share, a list, or None where none has any.

    `expires_us` and `times_us` are microseconds since 1970; `ids` and `times_us` (a message's own time) are only those that
    publishers gave. `addressee` is the one group that is to have the messages of the batch (copies of its dead letters); None:
    everybody.
    """

    keys: str | list[str | None] | None = None
    ids: list[str | None] | None = None
    headers: list[dict[str, Any] | None] | None = None
    expires_us: int | list[int | None] | None = None
    addressee: Addressee | None = None
    histories: list[History | None] | None = None
    times_us: list[int | None] | None = None

    def only(self, places: Sequence[int]) -> "Attributes":
        """The attributes of only these messages."""
        if self is NO_ATTRIBUTES:
            return self
        columns = [getattr(self, name) for name in self.__struct_fields__]
        return Attributes(*[[c[i] for i in places] if isinstance(c, list) else c for c in columns])  # type: ignore[arg-type]

    def key(self, index: int) -> str | None:
        """The key of the message at `index`; None without one."""
        return self.keys[index] if isinstance(self.keys, list) else self.keys

    def expiry_us(self, index: int) -> int | None:
        """When the message at `index` expires, in microseconds since 1970; None: never."""
        return self.expires_us[index] if isinstance(self.expires_us, list) else self.expires_us

    def history(self, index: int) -> History | None:
        """What the message at `index` remembers as a dead letter, or as the copy of one; None if it is neither."""
        return None if self.histories is None else self.histories[index]


NO_ATTRIBUTES = Attributes()


def expiry_bounds(attributes: Attributes) -> tuple[int | None, int | None]:
    """When the first of the messages expires, and when all have; None where that never happens."""
    expires = attributes.expires_us
    if not isinstance(expires, list):
        return expires, expires
    ends = [at for at in expires if at is not None]
    return min(ends, default=None), max(ends) if ends and len(ends) == len(expires) else None


class Chunk:
    """The messages of one stored batch: `count` JSON bodies in `lines`, one a line, and what the batch knows of them."""

    __slots__ = (
        "_bodies",
        "_rows",
        "attributes",
        "base_offset",
        "batch_id",
        "count",
        "id_prefix",
        "lines",
        "partition",
        "priority",
        "projections",
        "replayed",
        "schema_version",
        "timestamp_us",
        "topic",
        "topic_id",
    )

    def __init__(
        self,
        *,
        topic: str,
        topic_id: int,
        partition: int,
        base_offset: int,
        count: int,
        lines: bytes,
        batch_id: int,
        timestamp_us: int,
        priority: int = 5,
        schema_version: int = 0,
        attributes: Attributes = NO_ATTRIBUTES,
        id_prefix: str = "",
    ) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.base_offset = base_offset
        self.count = count
        self.lines = lines
        self.batch_id = batch_id
        self.timestamp_us = timestamp_us
        self.priority = priority
        self.schema_version = schema_version
        self.attributes = attributes
        self.id_prefix = id_prefix
        self.projections: dict[object, Any] = {}
        # When dead letters were replayed, by their place; filled in by a scan that was asked for it.
        self.replayed: Mapping[int, int] = {}
        self._bodies: list[bytes] | None = None
        self._rows: list[Any] | None = None

    @property
    def end_offset(self) -> int:
        """The offset after the last message."""
        return self.base_offset + self.count

    @property
    def bodies(self) -> list[bytes]:
        """The JSON text of each message."""
        if self._bodies is None:
            self._bodies = codec.split_lines(self.lines)
        return self._bodies

    @property
    def rows(self) -> list[Any]:
        """The decoded bodies, shared by all readers: whoever gets at one must not let its containers out."""
        if self._rows is None:
            self._rows = codec.decode_lines(self.lines)
        return self._rows

    def forget_decoded(self) -> None:
        """Let go of what was decoded; whoever asks for it decodes anew."""
        self.projections = {}
        self._bodies = None
        self._rows = None

    def message_id(self, index: int) -> str:
        """The id its publisher gave, or one made of store, topic, partition and offset."""
        ids = self.attributes.ids
        given = ids[index] if ids is not None else None
        if given is not None:
            return given
        return f"{self.id_prefix}{self.topic_id}-{self.partition}-{self.base_offset + index}"

    def time_us(self, index: int) -> int:
        """The message's own time where its publisher gave one, else when the batch was accepted."""
        times = self.attributes.times_us
        own = times[index] if times is not None else None
        return self.timestamp_us if own is None else own

    def unexpired(self, now_us: int, first: int = 0) -> Sequence[int]:
        """The places from `first` on whose time to live has not run out."""
        expires = self.attributes.expires_us
        if expires is None:
            return range(first, self.count)
        if isinstance(expires, int):
            return range(first, self.count) if expires > now_us else range(0)
        return [i for i in range(first, self.count) if (at := expires[i]) is None or at > now_us]

    def virtual_column(self, name: str) -> Sequence[Any]:
        """One value for each message; `name` is one of VIRTUAL_COLUMNS, or of those that only dead letters have."""
        return [_VIRTUAL[name](self, index) for index in range(self.count)]


def _expires_at(chunk: Chunk, index: int) -> datetime | None:
    at = chunk.attributes.expiry_us(index)
    return None if at is None else datetime_of(at)


def _headers(chunk: Chunk, index: int) -> dict[str, Any]:
    return dict(letters.headers_of(chunk, index))


_VIRTUAL: dict[str, Callable[[Chunk, int], Any]] = {
    "_id": Chunk.message_id,
    "_topic": lambda chunk, _: chunk.topic,
    "_partition": lambda chunk, _: chunk.partition,
    "_offset": lambda chunk, index: chunk.base_offset + index,
    "_key": lambda chunk, index: chunk.attributes.key(index),
    "_priority": lambda chunk, _: chunk.priority,
    "_timestamp": lambda chunk, index: datetime_of(chunk.time_us(index)),
    "_expires_at": _expires_at,
    "_headers": _headers,
    **letters.READERS,
}


class Settler(Protocol):
    """What settles a message: the subscription that delivered it."""

    async def acknowledge(self, message: "Message") -> None:
        """Settle a message as done."""
        ...

    def acknowledge_within(self, message: "Message", transaction: Any) -> None:
        """Acknowledge when the broker's transaction commits."""
        ...

    async def refuse(
        self, message: "Message", *, requeue: bool, delay_seconds: float | None, reason: str | None
    ) -> None:
        """Give a message back as a failed attempt, or make it a dead letter."""
        ...

    async def extend(self, message: "Message", seconds: float) -> None:
        """Keep a message for so many seconds from now on."""
        ...

    async def reply(self, message: "Message", value: object) -> None:
        """Publish the answer to a request."""
        ...


_SCALARS = frozenset((str, int, float, bool, type(None)))


class Message(msgspec.Struct, eq=False, gc=False):
    """One delivered message: a read-only mapping over the fields of its body, and what the store knows of it.

    `message["field"]`, `message.get("field")` and `"field" in message` read the body when it is a JSON object; `data` is any
    body, decoded. Values are what JSON has: dict, list, str, int, float, bool and None.

    Attributes:
        attempt: Which delivery of the message this is, from 1; above 1 after a failed attempt.

    Example:
        ```python
        async for message in subscription:
            print(message.topic, message.offset, message.key, message["total"])
        ```
    """

    _chunk: Chunk
    _index: int
    _settler: Settler | None = None
    attempt: int = 1
    _data: Any = NOTHING

    @property
    def data(self) -> Any:
        """The decoded body. It belongs to this reader: changing it changes nothing for others."""
        if self._data is NOTHING:
            self._data = codec.decode(self._chunk.bodies[self._index])
        return self._data

    @property
    def body(self) -> bytes:
        """The body as it is stored: JSON text in UTF-8."""
        return self._chunk.bodies[self._index]

    @property
    def id(self) -> str:
        """The id that its publisher gave, else one made of store, topic, partition and offset."""
        return self._chunk.message_id(self._index)

    @property
    def topic(self) -> str:
        """The name of its topic."""
        return self._chunk.topic

    @property
    def partition(self) -> int:
        """The number of its partition, from 0."""
        return self._chunk.partition

    @property
    def offset(self) -> int:
        """Its position in the partition, from 0; offsets ascend."""
        return self._chunk.base_offset + self._index

    @property
    def key(self) -> str | None:
        """Its partition key as text; None without one."""
        return self._chunk.attributes.key(self._index)

    @property
    def priority(self) -> int:
        """Its priority, 0 to 9; low, normal, high and critical are 2, 5, 7 and 9."""
        return self._chunk.priority

    @property
    def timestamp(self) -> datetime:
        """The message's own time where its publisher gave one, else when the store accepted it (UTC)."""
        return datetime_of(self._chunk.time_us(self._index))

    @property
    def expires_at(self) -> datetime | None:
        """When its time to live ends, in UTC; None: never."""
        return _expires_at(self._chunk, self._index)

    @property
    def headers(self) -> dict[str, Any]:
        """A copy of its headers; empty without any."""
        return _headers(self._chunk, self._index)

    @property
    def replayed_from(self) -> str | None:
        """The id of the dead letter that this message is a copy of; None for a message that is no copy."""
        return letters.replayed_from(self._chunk, self._index)

    def __getitem__(self, name: str) -> Any:
        if self._data is NOTHING:
            chunk = self._chunk
            row = (chunk._rows or chunk.rows)[self._index]  # a property costs as much as the rest
        else:
            row = self._data
        if row.__class__ is not dict:
            raise TypeError(f"message {self.id} is no object but {type(row).__name__}: use .data")
        value = row[name]
        return value if value.__class__ in _SCALARS else self.data[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Read one field of the body.

        Args:
            name: The name of the field.
            default: The value to return if the message has no such field.

        Returns:
            The value of the field, or `default`.

        Raises:
            TypeError: The body is not a JSON object: use `data`.
        """
        try:
            return self[name]
        except KeyError:
            return default

    def __contains__(self, name: object) -> bool:
        return name in self.data

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __bool__(self) -> bool:
        """Always: a message is something, also when its body is empty."""
        return True

    def keys(self) -> KeysView[str]:
        """The names of the fields of the body."""
        fields: dict[str, Any] = self.data
        return fields.keys()

    def values(self) -> ValuesView[Any]:
        """The values of the fields of the body."""
        fields: dict[str, Any] = self.data
        return fields.values()

    def items(self) -> ItemsView[str, Any]:
        """The fields of the body: pairs of name and value."""
        fields: dict[str, Any] = self.data
        return fields.items()

    def __repr__(self) -> str:
        text = self.body.decode()
        return f"<Message {self.id} {text if len(text) <= 120 else text[:119] + '…'}>"

    async def ack(self) -> None:
        """Acknowledge the message: it is done, and its group will not deliver it again.

        Returns once the acknowledgement is stored and survives the death of the process. Acknowledging again does nothing.

        Raises:
            LeaseLost: The message has passed to another consumer meanwhile.
            AlreadySettled: The message was given back before, with `nack`.
            GeodeError: The message does not come from a subscription.
        """
        await self._settled_by().acknowledge(self)

    def acknowledge_within(self, transaction: Any) -> None:
        """Acknowledge the message when a transaction of the broker commits; `tx.ack(message)` calls this.

        Args:
            transaction: What the broker's transaction offers as `joining`.
        """
        self._settled_by().acknowledge_within(self, transaction)

    async def nack(self, requeue: bool = True, *, delay: float | None = None, reason: str | None = None) -> None:
        """Give the message back as a failed attempt.

        It is delivered again later. After the `max_retries` of its topic it becomes a dead letter.

        Args:
            requeue: False: make it a dead letter at once.
            delay: How many seconds to wait before the next attempt. None: what the topic's options say.
            reason: Why it failed; kept with the message, cut to 1,000 characters.

        Raises:
            LeaseLost: The message has passed to another consumer meanwhile.
            AlreadySettled: The message was acknowledged before.
            GeodeError: An argument is not valid, or the message does not come from a subscription.

        Example:
            ```python
            await message.nack(delay=30, reason="the bank does not answer")
            ```
        """
        seconds = None if delay is None else _seconds("delay", delay)
        if reason is not None and not isinstance(reason, str):
            raise GeodeError(f"reason is text, not {type(reason).__name__}")
        shown = None if reason is None else reason_text(reason)
        await self._settled_by().refuse(self, requeue=requeue, delay_seconds=seconds, reason=shown)

    async def extend(self, seconds: float) -> None:
        """Keep the message for longer, before it passes to another consumer as if this one had failed.

        Args:
            seconds: The time to keep it from now on.

        Raises:
            LeaseLost: The message has passed to another consumer already.
            GeodeError: The number is not valid, or the message does not come from a subscription.
        """
        await self._settled_by().extend(self, _seconds("seconds", seconds))

    async def reply(self, value: object) -> None:
        """Answer a request: publish a value to the topic that the message names in its field `reply_to`.

        Args:
            value: The result, any JSON value.

        Raises:
            InvalidMessage: The value has no JSON form.
            GeodeError: The message is not a request, or does not come from a subscription.
        """
        await self._settled_by().reply(self, value)

    def _settled_by(self) -> Settler:
        if self._settler is None:
            raise GeodeError(
                f"message {self.id} was not delivered by a subscription: there is nobody to settle it with"
            )
        return self._settler


REASON_CHARACTERS_MAX = 1000


def reason_text(reason: str | BaseException) -> str:
    """Why a delivery failed, as it is stored: bounded, and of characters that can be written down."""
    if isinstance(reason, BaseException):
        try:
            reason = f"{type(reason).__name__}: {reason}"
        except Exception:  # noqa: BLE001 - whatever its own code raises
            reason = type(reason).__name__
    return reason[:REASON_CHARACTERS_MAX].encode("utf-8", "replace").decode()


def _seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= SECONDS_MAX:
        raise GeodeError(f"{name} is a number of seconds from 0 to a year, not {value!r}")
    return float(value)


Mapping.register(Message)
