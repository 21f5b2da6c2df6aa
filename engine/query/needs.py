"""What a plan needs of a backend: asked before it runs, and named by EXPLAIN."""

from collections.abc import Iterator

from geode_client.broker import OutgoingBatch
from geode_client.broker.capabilities import needs_of_publish, needs_of_subscription
from geode_client.query import plan
from geode_client.query.operators import SystemScan

# The capability without which a SYSTEM table, or what SHOW shows, has no meaning.
_TABLES = {"regions": "regions", "subscriptions": "groups", "dead_letters": "groups"}


def needs(node: plan.Plan) -> Iterator[str]:
    """The capabilities that running the plan needs, in the order in which they are missed."""
    match node:
        case plan.Publish(topic, _, options):
            storing = {name: value for name, value in options.items() if name not in ("key", "message_id")}
            yield from needs_of_publish(OutgoingBatch(topic, (), **storing))
        case plan.AnalyzeSubscribe(subscribe):
            yield from needs(subscribe)
        case plan.Subscribe(request) | plan.CreateGroup(request):
            if isinstance(node, plan.CreateGroup):
                yield "groups"
            yield from needs_of_subscription(request)
        case plan.SeekGroup() | plan.PauseGroup() | plan.DropGroup():
            yield "groups"
        case plan.DeleteDeadLetters():
            yield "groups"
        case plan.ReplayDeadLetters():
            yield from ("groups", "transactions")
        case plan.Begin() | plan.Commit() | plan.Rollback():
            yield "transactions"
        case plan.Show(table):
            yield from _of_table(table)
        case plan.Query():
            for table in _tables(node):
                yield from _of_table(table)
        case plan.Analyze(query) | plan.Assert(query):
            yield from needs(query)
        case _:
            pass


def _of_table(table: str) -> Iterator[str]:
    if table in _TABLES:
        yield _TABLES[table]


def _tables(node: object) -> Iterator[str]:
    """The SYSTEM tables that a query reads."""
    if isinstance(node, SystemScan):
        yield node.table
    for child in getattr(node, "children", ()):
        yield from _tables(child)
