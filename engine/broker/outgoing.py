"""What people write when they publish (keys, durations, priorities), turned into the broker's records.

`client.publish` and `tx.publish` both end here.
"""

import asyncio
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from geode_client.broker import BatchReceipt, Broker, OutgoingBatch, OutgoingMessage
from geode_client.broker.validate import made_id
from geode_client.errors import GeodeError, GqlError, InvalidMessage
from geode_client.options import COMPRESSIONS, parse_priority

SECONDS_MAX = 1000 * 366 * 86_400
# With the broker at a time: four batches, and of small ones more, since each has to wait for the disk.
BATCHES_ON_THE_WAY = 4
BATCHES_ON_THE_WAY_MAX = 16
MESSAGES_ON_THE_WAY = 4_000

Key = str | int | uuid.UUID | None


def outgoing_message(
    topic: str,
    message: object,
    *,
    partition_key: Key,
    priority: str | int,
    ttl_seconds: float | None,
    delay_seconds: float | None,
    compression: str | None,
    region: str | None,
    message_id: str | uuid.UUID | None,
    headers: Mapping[str, object] | None,
    expected_offset: int | None,
) -> OutgoingMessage:
    """One message; raises GqlError for an option that means nothing."""
    return OutgoingMessage(
        topic,
        message,
        None if partition_key is None else key_text(partition_key),
        priority if type(priority) is int and 0 <= priority <= 9 else parse_priority(priority),
        None if ttl_seconds is None else microseconds("ttl_seconds", ttl_seconds, above_zero=True),
        None if delay_seconds is None else microseconds("delay_seconds", delay_seconds),
        checked_compression(compression),
        None if message_id is None else str(message_id),
        headers,
        region,
        checked_expectation(expected_offset, delay_seconds),
    )


def outgoing_batches(
    topic: str,
    messages: Iterable[object] | AsyncIterable[object],
    *,
    batch_size: int,
    partition_key: Key,
    priority: str | int,
    ttl_seconds: float | None,
    delay_seconds: float | None,
    compression: str | None,
    region: str | None,
    message_ids: Iterable[str | uuid.UUID | None] | None,
    headers: Mapping[str, object] | None,
    expected_offset: int | None,
) -> "Batches":
    """Many messages, cut into batches that are made one after the other; raises as `outgoing_message`."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise GeodeError(f"batch_size is a whole number of at least 1, not {batch_size!r}")
    template = OutgoingBatch(
        topic,
        (),
        keys=None if partition_key is None else key_text(partition_key),
        priority=parse_priority(priority),
        ttl_us=None if ttl_seconds is None else microseconds("ttl_seconds", ttl_seconds, above_zero=True),
        delay_us=None if delay_seconds is None else microseconds("delay_seconds", delay_seconds),
        compression=checked_compression(compression),
        region=region,
        expected_offset=checked_expectation(expected_offset, delay_seconds),
    )
    return _batches(template, _cut(messages, batch_size), message_ids, headers)


def runs_of(messages: Sequence[OutgoingMessage]) -> list[slice]:
    """Where single messages of one topic, in their order, are cut so that each run can become one batch."""
    starts: list[int] = []
    last: tuple[Any, ...] | None = None
    for index, message in enumerate(messages):
        expected = message.expected_offset
        kind = (message.priority, message.ttl_us, message.delay_us, message.compression, message.region, expected)
        if kind != last or expected is not None:  # each expectation is refused alone
            starts.append(index)
            last = kind
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(messages)], strict=True)]


def batch_of(messages: Sequence[OutgoingMessage]) -> OutgoingBatch:
    """The batch that stores the messages of a run. A message that waits for its time gets an id, since it has no offset."""
    first = messages[0]
    if len(messages) == 1:
        return _batch_of_one(first)
    ids = [message.message_id for message in messages]
    if first.delay_us:
        ids = [message_id or made_id() for message_id in ids]
    return OutgoingBatch(
        topic=first.topic,
        bodies=[message.body for message in messages],
        keys=[message.key for message in messages] if any(m.key is not None for m in messages) else None,
        ids=ids if any(message_id is not None for message_id in ids) else None,
        headers=[message.headers for message in messages] if any(m.headers for m in messages) else None,
        priority=first.priority,
        ttl_us=first.ttl_us,
        delay_us=first.delay_us,
        compression=first.compression,
        region=first.region,
        expected_offset=first.expected_offset,
    )


def _batch_of_one(message: OutgoingMessage) -> OutgoingBatch:
    message_id = message.message_id or (made_id() if message.delay_us else None)
    return OutgoingBatch(
        message.topic,
        (message.body,),
        message.key,
        # An empty id is passed on: it is refused with the other rules.
        None if message_id is None and message.message_id is None else (message_id or message.message_id,),
        (message.headers,) if message.headers else None,
        message.priority,
        message.ttl_us,
        message.delay_us,
        message.compression,
        message.region,
        message.expected_offset,
    )


Batches = AsyncIterator[tuple[int, OutgoingBatch]]
"""Batches, each with the number of its first message among all messages."""


async def _batches(
    template: OutgoingBatch,
    pieces: AsyncIterator[list[Any]],
    message_ids: Iterable[str | uuid.UUID | None] | None,
    headers: Mapping[str, object] | None,
) -> Batches:
    ids = None if message_ids is None else iter(message_ids)
    first = 0
    async for piece in pieces:
        yield (
            first,
            OutgoingBatch(
                template.topic,
                piece,
                template.keys,
                None if ids is None else _next_ids(ids, len(piece), first),
                None if headers is None else [headers] * len(piece),
                template.priority,
                template.ttl_us,
                template.delay_us,
                template.compression,
                template.region,
                None if template.expected_offset is None else template.expected_offset + first,
            ),
        )
        first += len(piece)
    if ids is not None and next(ids, None) is not None:
        raise GeodeError("there are more message_ids than messages")


class BatchSender:
    """One publish_batch under way: a few batches are with the broker at a time, in order."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._on_the_way: list[tuple[int, asyncio.Task[BatchReceipt]]] = []
        self._receipts: list[BatchReceipt] = []

    async def publish(self, batches: Batches) -> BatchReceipt:
        """Send all; raises what refuses a batch, with the message counted among all."""
        try:
            async for first, batch in batches:
                await self._send(first, batch)
            while self._on_the_way:
                await self._await_oldest()
        except asyncio.CancelledError:
            for _, task in self._on_the_way:
                task.cancel()  # what still waits for room is not stored
            raise
        finally:
            # What the writer has is stored, or not, whatever becomes of the caller; but nobody is left to hear of it.
            for _, task in self._on_the_way:
                task.add_done_callback(_forget)
        return together(self._receipts)

    async def _send(self, first: int, batch: OutgoingBatch) -> None:
        task = asyncio.ensure_future(self._broker.publish_batch(batch))
        self._on_the_way.append((first, task))
        # Let it encode and hand itself over before the next one is made: batches are stored in their order.
        await asyncio.sleep(0)
        if task.done() and not task.cancelled() and task.exception() is not None:
            while (
                self._on_the_way
            ):  # it is refused: nothing more is sent, and errors of earlier batches are raised first
                await self._await_oldest()
        if len(self._on_the_way) >= self._at_once(len(batch.bodies)) or task.done():
            await self._await_oldest()

    @staticmethod
    def _at_once(size: int) -> int:
        return min(max(BATCHES_ON_THE_WAY, MESSAGES_ON_THE_WAY // size), BATCHES_ON_THE_WAY_MAX)

    async def _await_oldest(self) -> None:
        first, task = self._on_the_way[0]
        try:
            receipt = await asyncio.shield(task)
        except InvalidMessage as error:
            raise renumbered(error, first) from error
        del self._on_the_way[0]
        self._receipts = [together([*self._receipts, receipt])]


def together(receipts: Sequence[BatchReceipt]) -> BatchReceipt:
    """One receipt for batches that were stored one after the other."""
    offsets: dict[int, range] = {}
    for receipt in receipts:
        for partition, found in receipt.offsets.items():
            before = offsets.get(partition)
            offsets[partition] = found if before is None else range(before.start, found.stop)
    return BatchReceipt(
        sum(receipt.count for receipt in receipts), sum(receipt.duplicates for receipt in receipts), offsets
    )


def key_text(key: object) -> str:
    """The text form by which a key counts; raises GqlError when it is no key."""
    if isinstance(key, str):
        return key
    if isinstance(key, uuid.UUID) or (isinstance(key, int) and not isinstance(key, bool)):
        return str(key)
    raise GqlError(f"a key is text, a whole number or a UUID, not {type(key).__name__}")


def microseconds(name: str, seconds: float, *, above_zero: bool = False) -> int:
    """Seconds as a person gave them; raises GqlError with the name of the option."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= SECONDS_MAX:
        raise GqlError(f"{name} is a number of seconds from 0 to 1000 years, not {seconds!r}")
    if above_zero and seconds == 0:
        raise GqlError(f"{name} must be more than 0")
    return int(seconds * 1_000_000)


def checked_compression(compression: str | None) -> str | None:
    """The name of a compression; raises GqlError when there is none of this name."""
    if compression is not None and compression not in COMPRESSIONS:
        raise GqlError(f"compression is one of {', '.join(COMPRESSIONS)}, not {compression!r}")
    return compression


def checked_expectation(expected_offset: int | None, delay: float | None) -> int | None:
    """The offset that a publisher expects; raises GqlError when it is none, or when messages are to wait for their time."""
    if expected_offset is None:
        return None
    if isinstance(expected_offset, bool) or not isinstance(expected_offset, int) or not 0 <= expected_offset < 2**62:
        raise GqlError(f"expected_offset is a whole number from 0, not {expected_offset!r}")
    if delay:
        raise GqlError(
            "expected_offset and a delay cannot be combined: a delayed message gets its offset when it is due"
        )
    return expected_offset


def _forget(task: "asyncio.Task[BatchReceipt]") -> None:
    if not task.cancelled():
        task.exception()


def renumbered(error: InvalidMessage, first: int) -> InvalidMessage:
    """The same refusal with the message counted from the first of all batches."""
    if first == 0:
        return error
    copy = type(error).__new__(type(error))
    copy.__dict__.update(error.__dict__)
    copy.message_index = error.message_index + first
    text = str(error).partition(f"message {error.message_index + 1}")[2]
    Exception.__init__(copy, f"message {copy.message_index + 1}{text}")
    return copy


def _next_ids(ids: Any, count: int, first: int) -> list[str | None]:
    chosen = [None if found is None else str(found) for _, found in zip(range(count), ids, strict=False)]
    if len(chosen) < count:
        raise GeodeError(f"there are fewer message_ids than messages: none for message {first + len(chosen) + 1}")
    return chosen


async def _cut(messages: Iterable[Any] | AsyncIterable[Any], size: int) -> AsyncIterator[list[Any]]:
    """Lists of `size` messages, of any iterable."""
    if isinstance(messages, list | tuple):
        for first in range(0, len(messages), size):
            yield list(messages[first : first + size])
        return
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable | AsyncIterable):
        raise GeodeError(
            f"publish_batch takes several messages (a list, an iterator), not one {type(messages).__name__}"
        )
    piece: list[Any] = []
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            piece.append(message)
            if len(piece) == size:
                yield piece
                piece = []
    else:
        for message in messages:
            piece.append(message)
            if len(piece) == size:
                yield piece
                piece = []
    if piece:
        yield piece
