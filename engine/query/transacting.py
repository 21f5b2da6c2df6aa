"""The transaction of one session: BEGIN, what may stand behind it, COMMIT and ROLLBACK.

PUBLISH and INSERT take part; what only looks is let through and sees what is stored, which the transaction's own messages
are not before COMMIT; everything else is refused.
"""

from geode_client.broker import BatchReceipt, Broker, BrokerTransaction, OutgoingBatch
from geode_client.catalog import TopicDefinition
from geode_client.errors import GeodeError, GqlError, TopicNotFound, TransactionAborted
from geode_client.grammar.names import validate_topic_name
from geode_client.options import TopicOptions
from geode_client.query import plan
from geode_client.query.result import Result, counted

_LOOKS = (
    *(plan.Query, plan.Analyze, plan.Show, plan.Describe, plan.ShowCreate, plan.Explain, plan.TestFilter, plan.Assert),
    # What cannot be done says so by itself.
    plan.Missing,
)
NOT_SEEN = "what the open transaction publishes is not seen before COMMIT"


class Transacting:
    """At most one open transaction. `timeout_seconds` bounds each."""

    def __init__(self, broker: Broker, *, auto_create: bool, timeout_seconds: float) -> None:
        self._broker = broker
        self._auto_create = auto_create
        self._timeout_seconds = timeout_seconds
        self._published = 0
        self.begun: BrokerTransaction | None = None

    @property
    def is_open(self) -> bool:
        return self.begun is not None

    async def begin(self) -> Result:
        if self.begun is not None:
            raise GqlError("a transaction is open already", hint="end it with COMMIT or ROLLBACK first")
        self.begun = self._broker.transaction(self._timeout_seconds)
        self._published = 0
        return Result(message="transaction begun")

    async def commit(self) -> Result:
        begun = self._ending("COMMIT")
        await begun.commit()
        batches = [receipt for receipt in begun.receipts if isinstance(receipt, BatchReceipt)]
        known = sum(batch.duplicates for batch in batches)
        stored = counted(sum(batch.count for batch in batches), "message")
        return Result(message=f"committed: {stored} published{f', {known} known already' if known else ''}")

    async def rollback(self) -> Result:
        await self._ending("ROLLBACK").rollback()
        return Result(message="rolled back: nothing was stored")

    def _ending(self, word: str) -> BrokerTransaction:
        begun, self.begun = self.begun, None
        if begun is None:
            raise GqlError(f"there is no open transaction to {word}", hint="BEGIN opens one")
        return begun

    async def give_up(self) -> bool:
        """Roll back what is open, because something went wrong; False when nothing is."""
        begun, self.begun = self.begun, None
        if begun is None:
            return False
        await begun.rollback()
        return True

    def admit(self, node: plan.Plan) -> None:
        """Raise when a statement cannot take part in the transaction that is open."""
        if self.begun is not None and not isinstance(
            node, (*_LOOKS, plan.Publish, plan.InsertQuery, plan.Begin, plan.Commit, plan.Rollback)
        ):
            raise GqlError(
                "this statement cannot take part in a transaction", hint="run it before BEGIN, or after COMMIT"
            )

    def notices(self, node: plan.Plan) -> tuple[str, ...]:
        """What a reader should know who looks while the transaction is open."""
        looks = isinstance(node, plan.Query | plan.Analyze | plan.Show | plan.TestFilter)
        return (NOT_SEEN,) if looks and self._published and self.begun is not None else ()

    async def publish(self, batch: OutgoingBatch) -> Result:
        """Make a batch part of the open transaction."""
        assert self.begun is not None
        try:
            await self.begun.publish_batch(batch)
        except TopicNotFound:
            if not self._auto_create:
                raise
            name = validate_topic_name(batch.topic)
            await self.begun.create_topic(TopicDefinition(name, TopicOptions(), automatic=True))
            await self.begun.publish_batch(batch)
        count = len(batch.bodies)
        self._published += count
        return Result(message=f"{counted(count, 'message')} to {batch.topic}, stored at COMMIT")


def told(error: GeodeError, place: str) -> None:
    """Note on an error that it ended the transaction."""
    if not isinstance(error, TransactionAborted):
        error.add_note(f"the transaction that began {place} was rolled back: nothing of it was stored")
