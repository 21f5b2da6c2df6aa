"""The seam between what is above a backend (client, statements, metrics) and the backends.

`protocol` is what a backend implements, over `records`, `statistics`, `capabilities` and `transactions`; what these define
can be imported from here. What all backends share is in `validate` (the rules of a message), `outgoing` (publish requests),
`subscription` (what a program reads) and `replies`.
"""

from geode_client.broker.capabilities import (
    Capabilities,
)
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
    SeekPreview,
    StartPosition,
    SubscriptionRequest,
)
from geode_client.broker.statistics import (
    DeadLetterTotals,
    GroupStatistics,
    GroupTotals,
    LatencyHistogram,
    PartitionStatistics,
    Report,
    Section,
    SubscriberStatistics,
    TopicCounters,
    TopicStatistics,
    TopicTraffic,
    TrafficSeries,
)
from geode_client.broker.transactions import (
    BrokerTransaction,
    JoinedSettlement,
    JoinsSettlements,
    OwnTable,
    OwnTables,
    SqlTransactions,
    TableRows,
    current_transaction,
)

__all__ = [
    "BatchReceipt",
    "Broker",
    "BrokerTransaction",
    "Capabilities",
    "DeadLetterTotals",
    "Feed",
    "FromBeginning",
    "FromEnd",
    "FromOffset",
    "FromTime",
    "GroupStatistics",
    "GroupTotals",
    "JoinedSettlement",
    "JoinsSettlements",
    "LatencyHistogram",
    "OutgoingBatch",
    "OutgoingMessage",
    "OwnTable",
    "OwnTables",
    "PartitionStatistics",
    "Receipt",
    "Report",
    "ScanRequest",
    "Section",
    "SeekPreview",
    "SqlTransactions",
    "StartPosition",
    "SubscriberStatistics",
    "SubscriptionRequest",
    "TableRows",
    "TopicCounters",
    "TopicStatistics",
    "TopicTraffic",
    "TrafficSeries",
    "current_transaction",
]
