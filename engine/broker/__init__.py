"""The seam between what is above a backend (client, statements, metrics) and the backends.

`protocol` is what a backend implements, over `records`, `statistics` and `transactions`; everything of these four can be
imported from here. What every backend shares is in `validate` (the rules of a message), `outgoing` (publish requests),
`subscription` (what a program reads) and `replies`.
"""

from geode_client.broker.protocol import (
    Broker,
    Feed,
)
from geode_client.broker.records import (
    BatchReceipt,
    FromBeginning,
    FromEnd,
    FromOffset,
    FromTime,
    OutgoingBatch,
    OutgoingMessage,
    Receipt,
    ScanRequest,
    StartPosition,
    SubscriptionRequest,
)
from geode_client.broker.statistics import (
    DeadLetterTotals,
    GroupStatistics,
    GroupTotals,
    LatencyHistogram,
    PartitionStatistics,
    SubscriberStatistics,
    TopicCounters,
    TopicStatistics,
    TrafficSeries,
)
from geode_client.broker.transactions import (
    BrokerTransaction,
    JoinedSettlement,
    TableRows,
    current_transaction,
)

__all__ = [
    "BatchReceipt",
    "Broker",
    "BrokerTransaction",
    "DeadLetterTotals",
    "Feed",
    "FromBeginning",
    "FromEnd",
    "FromOffset",
    "FromTime",
    "GroupStatistics",
    "GroupTotals",
    "JoinedSettlement",
    "LatencyHistogram",
    "OutgoingBatch",
    "OutgoingMessage",
    "PartitionStatistics",
    "Receipt",
    "ScanRequest",
    "StartPosition",
    "SubscriberStatistics",
    "SubscriptionRequest",
    "TableRows",
    "TopicCounters",
    "TopicStatistics",
    "TrafficSeries",
    "current_transaction",
]
