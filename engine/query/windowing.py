"""OVER: from values with windows in them to Window operators, and the same values over their rows.

Windows are taken out of the values first. What they read (arguments, PARTITION BY, ORDER BY) goes through GROUP BY as the
selected values do; then each different window becomes an operator that adds the results of its functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from geode_client.errors import GqlError
from geode_client.grammar.ast import Scalar
from geode_client.query import checking
from geode_client.query import operators as nodes
from geode_client.query.aggregating import argument_of, arguments_of, record
from geode_client.query.columns import position_of, reference, replaced, shown
from geode_client.query.vectors import Surroundings

_MARK = "#w"
_COUNTS = frozenset(("row_number", "rank", "dense_rank", "count"))


def refuse_windows(parts: Sequence[exp.Expression], where: str) -> None:
    """Raise GqlError for a window where there can be none."""
    for part in parts:
        found: Any = part.find(exp.Window)
        if found is not None:
            raise GqlError(
                f"OVER is not allowed in {where}",
                span=found.meta.get("span"),
                hint="compute it in a sub-query: SELECT … FROM (SELECT …, rank() OVER (…) AS r FROM …) AS x WHERE r = 1",
            )


@dataclass(frozen=True, slots=True)
class Windows:
    """Values with a mark for each window, the windows, and what they read, in the order of `_parts_of`."""

    values: list[exp.Expression]
    windows: list[exp.Window]
    inputs: list[exp.Expression]

    def planned(
        self,
        made: nodes.Operator,
        values: list[exp.Expression],
        inputs: Sequence[exp.Expression],
        surroundings: Surroundings,
    ) -> tuple[nodes.Operator, list[exp.Expression]]:
        """The operators of the windows, and the values over their rows; `inputs` are what they read, over the rows of `made`."""
        if not self.windows:
            return made, values
        width = len(made.columns)
        unique = list(dict.fromkeys(inputs))
        columns = [_column(tree, made.columns) for tree in unique]
        expressions = (*[reference(position) for position in range(width)], *unique)
        over = [reference(width + unique.index(tree)) for tree in inputs]
        made = nodes.Project(made, expressions, (*made.columns, *columns))
        results: dict[int, int] = {}
        for (partition, order), numbers in self._grouped(over).items():
            start = len(made.columns)
            calls = tuple(
                _call(self.windows[number], self._mine(number, over), made.columns, surroundings) for number in numbers
            )
            made = nodes.Window(made, partition, order, calls, tuple(map(_result, calls)))
            results.update({number: start + place for place, number in enumerate(numbers)})

        def change(node: exp.Expression) -> exp.Expression | None:
            return reference(results[int(node.name)]) if _is_mark(node) else None

        return made, [replaced(value, change) for value in values]

    def _mine(self, number: int, over: Sequence[exp.Expression]) -> list[exp.Expression]:
        start = sum(len(_parts_of(window)) for window in self.windows[:number])
        return list(over[start : start + len(_parts_of(self.windows[number]))])

    def _grouped(self, over: Sequence[exp.Expression]) -> dict[tuple[Any, Any], list[int]]:
        """Windows of the same partitions and order are computed together."""
        found: dict[tuple[Any, Any], list[int]] = {}
        for number, window in enumerate(self.windows):
            mine = [position_of(tree) for tree in self._mine(number, over)]
            arguments, partition = len(_arguments(window)), len(window.args.get("partition_by") or ())
            positions = [position for position in mine[arguments:] if position is not None]
            order = tuple(
                nodes.SortKey(position, bool(item.args.get("desc")), bool(item.args.get("nulls_first")))
                for position, item in zip(positions[partition:], _order(window), strict=True)
            )
            found.setdefault((tuple(positions[:partition]), order), []).append(number)
        return found


def windowed(values: Sequence[exp.Expression]) -> Windows:
    """Take the windows out of values."""
    windows: list[exp.Window] = []

    def change(node: exp.Expression) -> exp.Expression | None:
        if not isinstance(node, exp.Window):
            return None
        for part in _parts_of(node):
            refuse_windows([part], "another window")
        if node not in windows:
            windows.append(node)
        return exp.Column(this=exp.Identifier(this=str(windows.index(node))), table=exp.Identifier(this=_MARK))

    marked = [replaced(value, change) for value in values]
    return Windows(marked, windows, [part for window in windows for part in _parts_of(window)])


def _is_mark(node: exp.Expression) -> bool:
    return isinstance(node, exp.Column) and node.table == _MARK


def _is_aggregate(call: exp.Expression) -> bool:
    return isinstance(call, exp.AggFunc)


def _order(window: exp.Expression) -> list[exp.Expression]:
    order = window.args.get("order")
    return [] if order is None else list(order.expressions)


def _arguments(window: exp.Expression) -> list[exp.Expression]:
    call: exp.Expression = window.this
    if not _is_aggregate(call):
        return list(call.expressions)
    return arguments_of(call, nested=True)


def _parts_of(window: exp.Expression) -> list[exp.Expression]:
    """What a window reads: arguments, keys of the partition, keys of the order."""
    keys = list(window.args.get("partition_by") or ())
    return [*_arguments(window), *keys, *[item.this for item in _order(window)]]


def _call(
    window: exp.Expression, parts: Sequence[exp.Expression], columns: nodes.Columns, surroundings: Surroundings
) -> nodes.WindowCall:
    call: exp.Expression = window.this
    arguments = list(parts[: len(_arguments(window))])
    positions = tuple(position for tree in arguments if (position := position_of(tree)) is not None)
    if not _is_aggregate(call):
        return nodes.WindowCall(str(call.this).lower(), positions)
    made = _reading(call, arguments)
    checking.check_aggregate(made, columns, surroundings)
    inputs = [reference(position) for position in range(len(columns))]
    return nodes.WindowCall(type(call).__name__.lower(), positions, record(made, inputs))


def _reading(call: exp.Expression, arguments: Sequence[exp.Expression]) -> exp.Expression:
    """An aggregate that reads `arguments`, in the order of `arguments_of`."""
    made: exp.Expression = call.copy()
    made.meta["span"] = call.meta.get("span")
    left = iter(arguments)
    if argument_of(call) is not None:
        inner = next(left)
        made.set("this", exp.Distinct(expressions=[inner]) if isinstance(call.this, exp.Distinct) else inner)
    if call.args.get("more"):
        made.set("more", [next(left) for _ in call.args["more"]])
    for item in made.args.get("order_by") or ():
        item.set("this", next(left))
    if call.args.get("where") is not None:
        made.set("where", next(left))
    return made


def _column(tree: exp.Expression, columns: nodes.Columns) -> nodes.Column:
    position = position_of(tree)
    return nodes.Column(shown(tree, columns)) if position is None else columns[position]


def _result(call: nodes.WindowCall) -> nodes.Column:
    name = f"{call.function}()"
    return nodes.Column(name, Scalar("INT"), plain=True) if call.function in _COUNTS else nodes.Column(name)
