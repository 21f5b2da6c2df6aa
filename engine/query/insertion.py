"""The rows of a query as messages: INSERT INTO … SELECT."""

from collections.abc import Iterator, Sequence
from typing import Any

from geode_client.errors import GqlError
from geode_client.query.batches import Batch

MESSAGES_AT_ONCE = 10_000


def messages(names: Sequence[str], found: Batch) -> Iterator[list[dict[str, Any]]]:
    """A message for each row, some at a time; raises GqlError where two columns have one name."""
    for place, name in enumerate(names):
        if name in names[:place]:
            raise GqlError(f"two columns are called {name}", hint="name them: SELECT … AS a, … AS b")
    for part in found.parts(MESSAGES_AT_ONCE):
        rows = zip(*part.columns, strict=True)
        yield [dict(zip(names, row, strict=True)) for row in rows]
