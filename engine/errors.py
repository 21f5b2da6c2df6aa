"""The errors of Geode, in one tree.

GeodeError
├── GqlError                    the statement is wrong (grammar/errors.py)
│   ├── GqlSyntaxError
│   └── ConstraintFailed        the user's own SQL breaks a constraint of the user's own tables
├── TopicNotFound               no topic of this name
├── TopicExists                 CREATE of one that is there
├── InvalidMessage              a value that is no JSON
│   ├── SchemaViolation         JSON that the topic's schema refuses
│   └── MessageTooLarge
├── SubscriberLimitReached      max_subscribers are there already
├── GroupNotFound               no group of this name
├── GroupMismatch               a group joined with another filter or order
├── AlreadySettled              a message settled with another word before
├── RequestFailed               a server answered with an error
├── RequestTimeout              nobody answered in time (also a builtin TimeoutError)
├── TransactionAborted          the transaction was rolled back, and says why: try it again
├── LeaseLost                   the message has passed to another consumer
├── Unsupported                 this backend cannot do it
├── CorruptData                 stored bytes are not what was written
├── Conflict                    expected_offset was not the next offset
└── StoreError                  the store cannot be opened, read or written
    └── ConnectionLost          it was open, and opening it again may help (also a builtin ConnectionError)
"""

from collections.abc import Sequence

from geode_client.grammar.errors import GeodeError, GqlError, GqlSyntaxError, did_you_mean, nearest

__all__ = [
    "AlreadySettled",
    "Conflict",
    "ConnectionLost",
    "ConstraintFailed",
    "CorruptData",
    "GeodeError",
    "GqlError",
    "GqlSyntaxError",
    "GroupMismatch",
    "GroupNotFound",
    "InvalidMessage",
    "LeaseLost",
    "MessageTooLarge",
    "RequestFailed",
    "RequestTimeout",
    "SchemaViolation",
    "StoreError",
    "SubscriberLimitReached",
    "TopicExists",
    "TopicNotFound",
    "TransactionAborted",
    "Unsupported",
    "did_you_mean",
    "nearest",
]


class ConstraintFailed(GqlError):
    """SQL on the user's own tables broke a constraint of theirs, such as UNIQUE: nothing of the statement was done."""


class TransactionAborted(GeodeError):
    """The transaction was rolled back, or is over; the message says why. Nothing of it was stored."""


class TopicNotFound(GeodeError):
    """No topic has this name; `names` are those that there are.

    Who publishes to a topic that makes itself meets this each time: the nearest name is looked for when somebody reads it.
    """

    def __init__(self, name: str, names: Sequence[str] = ()) -> None:
        super().__init__(name)
        self.name = name
        self._names = names

    @property
    def nearest(self) -> str | None:
        """The existing name that is closest, if one is close."""
        return nearest(self.name, self._names)

    @property
    def text(self) -> str:
        """The message alone; with the nearest name, if one is close."""
        close = self.nearest
        hint = f": did you mean {close}?" if close else "; CREATE TOPIC makes one, SHOW TOPICS lists them"
        return f"there is no topic {self.name}{hint}"


class TopicExists(GeodeError):
    """A topic of this name is there already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a topic {name} already: use CREATE TOPIC IF NOT EXISTS, or another name")
        self.name = name


class InvalidMessage(GeodeError):
    """A message that cannot be JSON; `message_index` counts from 0 within what was published together."""

    def __init__(self, reason: str, *, message_index: int = 0, pointer: str = "") -> None:
        place = f" at {pointer}" if pointer else ""
        super().__init__(f"message {message_index + 1}{place}: {reason}")
        self.reason = reason
        self.message_index = message_index
        self.pointer = pointer


class SchemaViolation(InvalidMessage):
    """A message that its topic's schema refuses; `pointer` is the JSON pointer of the value."""

    def __init__(self, *, message_index: int, pointer: str, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}", message_index=message_index, pointer=pointer)
        self.expected = expected
        self.found = found


class MessageTooLarge(InvalidMessage):
    """A message of more bytes than its topic takes."""

    def __init__(self, size_bytes: int, limit_bytes: int, *, message_index: int = 0) -> None:
        super().__init__(
            f"{size_bytes} bytes of JSON are more than the {limit_bytes} bytes that max_message_bytes allows",
            message_index=message_index,
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class SubscriberLimitReached(GeodeError):
    """The topic has as many subscribers as its option max_subscribers allows."""

    def __init__(self, topic: str, limit: int) -> None:
        super().__init__(
            f"topic {topic} has its {limit} subscribers (option max_subscribers): close one, or raise the option"
        )
        self.topic = topic
        self.limit = limit


class GroupNotFound(GeodeError):
    """No group has this name (on this topic); `names` are those that are there."""

    def __init__(self, name: str, topic: str | None, names: Sequence[str]) -> None:
        place = f" on {topic}" if topic is not None else ""
        hint = did_you_mean(name, names)
        super().__init__(
            f"there is no group {name}{place}: {hint or 'SHOW SUBSCRIPTIONS lists them, CREATE SUBSCRIPTION makes one'}"
        )
        self.name = name
        self.topic = topic


class GroupMismatch(GeodeError):
    """A group is there with another filter, key or order than a new member asks for."""


class AlreadySettled(GeodeError):
    """A message was acknowledged, given back or dead-lettered before: the first word counts."""


class Conflict(GeodeError):
    """`expected_offset` was not the offset that the message would get: another one was stored first. Nothing was stored.

    `next_offset` is what the next message of the partition gets.
    """

    def __init__(self, topic: str, partition: int, expected_offset: int, next_offset: int) -> None:
        super().__init__(
            f"topic {topic}, partition {partition}: the next message gets offset {next_offset}, not the expected"
            f" {expected_offset}: read what was published meanwhile, and try again"
        )
        self.topic = topic
        self.partition = partition
        self.expected_offset = expected_offset
        self.next_offset = next_offset


class RequestFailed(GeodeError):
    """A server answered a request with an error; its text is the server's."""


class RequestTimeout(GeodeError, TimeoutError):
    """No reply came in time; says whether anybody serves the topic."""


class LettersChanged(GeodeError):
    """Dead letters that were to be replayed have been replayed or deleted by somebody else."""


class LeaseLost(GeodeError):
    """The message was given to another consumer meanwhile: it cannot be settled here any more."""


class Unsupported(GeodeError):
    """What was asked for cannot be done by this backend."""

    def __init__(self, what: str, backend: str = "the embedded store") -> None:
        super().__init__(f"{what}: not supported by {backend}")
        self.what = what
        self.backend = backend


class CorruptData(GeodeError):
    """Stored bytes are not what was written; says what and where. Nothing was deleted."""


class StoreError(GeodeError):
    """The store cannot be opened, read or written."""


class ConnectionLost(StoreError, ConnectionError):
    """What was open can no longer be used, and opening it again may help.

    Causes are a directory that is gone, a failed disk, or a server that cannot be reached. Subscribing again with the same
    client opens it again.
    """
