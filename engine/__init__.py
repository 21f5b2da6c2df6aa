"""Geode: an embeddable, SQL-speaking, durable publish-subscribe engine. A directory is the broker.

    from geode_client import Client

    async with Client("./data") as client:
        await client.publish("orders", {"id": 1, "total": 99.5})

What a program does not use is not imported.
"""

from typing import TYPE_CHECKING, Any

from geode_client.errors import (
    AlreadySettled,
    Conflict,
    ConnectionLost,
    ConstraintFailed,
    CorruptData,
    GeodeError,
    GqlError,
    GqlSyntaxError,
    GroupMismatch,
    GroupNotFound,
    InvalidMessage,
    LeaseLost,
    MessageTooLarge,
    RequestFailed,
    RequestTimeout,
    SchemaViolation,
    StoreError,
    SubscriberLimitReached,
    TopicExists,
    TopicNotFound,
    TransactionAborted,
    Unsupported,
)

if TYPE_CHECKING:
    from geode_client.broker import BatchReceipt, Receipt
    from geode_client.broker.subscription import Subscription
    from geode_client.client import Client, connection
    from geode_client.conditions import compile_filter
    from geode_client.connecting import Connection
    from geode_client.message import Message
    from geode_client.query.result import Result
    from geode_client.requesting import Request, Service
    from geode_client.sync import SyncClient
    from geode_client.transaction import Transaction

__version__ = "0.1.0"

_LAZY = {
    "BatchReceipt": "broker",
    "Client": "client",
    "Connection": "connecting",
    "Message": "message",
    "Receipt": "broker",
    "Request": "requesting",
    "Result": "query.result",
    "Service": "requesting",
    "Subscription": "broker.subscription",
    "SyncClient": "sync",
    "Transaction": "transaction",
    "compile_filter": "conditions",
    "connection": "client",
}

__all__ = [
    "AlreadySettled",
    "BatchReceipt",
    "Client",
    "Conflict",
    "Connection",
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
    "Message",
    "MessageTooLarge",
    "Receipt",
    "Request",
    "RequestFailed",
    "RequestTimeout",
    "Result",
    "SchemaViolation",
    "Service",
    "StoreError",
    "SubscriberLimitReached",
    "Subscription",
    "SyncClient",
    "TopicExists",
    "TopicNotFound",
    "Transaction",
    "TransactionAborted",
    "Unsupported",
    "compile_filter",
    "connection",
]


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext geode_client` in a notebook calls: the magics `%geode` and `%%geode`."""
    from geode_client.repl import notebook

    notebook.load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """What `%unload_ext geode_client` calls."""
    from geode_client.repl import notebook

    notebook.unload(shell)


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"geode_client.{module}"), name)
