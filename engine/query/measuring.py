"""EXPLAIN ANALYZE: what each operator of a query did, measured while it runs."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from geode_client.query import operators as nodes
from geode_client.query.batches import Batch
from geode_client.query.plan import Query


@dataclass(slots=True)
class Measure:
    """Rows and batches that an operator gave; seconds spent in it and in all below it."""

    rows: int = 0
    batches: int = 0
    seconds: float = 0.0
    note: str | None = None


class Measures:
    """The measures of all operators of one query."""

    def __init__(self) -> None:
        self._of: dict[int, Measure] = {}

    def of(self, node: nodes.Operator) -> Measure:
        """The measure of one operator of the plan."""
        return self._of.setdefault(id(node), Measure())

    async def measured(self, node: nodes.Operator, stream: AsyncIterator[Batch]) -> Any:
        """The same batches, counted and timed."""
        measure = self.of(node)
        async with aclosing(stream) as batches:  # type: ignore[type-var]
            while True:
                started = time.perf_counter()
                try:
                    batch = await anext(batches)
                except StopAsyncIteration:
                    return
                finally:
                    measure.seconds += time.perf_counter() - started
                measure.rows += batch.count
                measure.batches += 1
                yield batch

    def rows(self, query: Query) -> list[tuple[Any, ...]]:
        """For each operator: indented text, rows, batches, milliseconds of its own, and a note."""
        found = self._below(query.root, 0)
        for inner in query.children[1:]:
            found.append((inner.text(), None, None, None, None))
            found += self._below(inner.children[0], 1)
        return found

    def _below(self, node: nodes.Operator, depth: int) -> list[tuple[Any, ...]]:
        measure = self.of(node)
        own = max(0.0, measure.seconds - sum(self.of(child).seconds for child in node.children))
        text = "  " * depth + node.text()
        found: list[tuple[Any, ...]] = [(text, measure.rows, measure.batches, round(own * 1000, 2), measure.note)]
        for child in node.children:
            found += self._below(child, depth + 1)
        return found
