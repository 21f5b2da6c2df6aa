"""Names that topics had before ALTER TOPIC … RENAME TO, and until when.

A dead letter names its topic as it was called when the letter was written, so the letters of a renamed topic are found by
its former names.
"""

from geode_client.clock import now_us
from geode_client.store.writer import Transaction


def add(transaction: Transaction, topic_id: int, name: str) -> None:
    """Remember that a topic was called `name` until now."""
    transaction.database.cursor.execute(
        "INSERT INTO former_names VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET until_us = ?3",
        (topic_id, name, now_us()),
    )
