"""What a statement gives back."""

import html
from collections.abc import AsyncIterator, Sequence
from typing import Any

from geode_client.broker.subscription import Subscription
from geode_client.errors import GeodeError
from geode_client.grammar.ast import TypeNode

SHOWN_ROWS = 40
SHOWN_CHARACTERS = 60


class Result:
    """The result of one statement: rows and columns, or a message, or the subscription that SUBSCRIBE made.

    In a notebook a result shows itself as a table, and `print` shows one as text. `async for` gives the messages of a
    SUBSCRIBE, and the rows of any other result.

    Attributes:
        columns: The names of the columns; empty if the statement gives no rows.
        count: The number of rows.
        message: What was done, for a statement that gives no rows.
        notices: What a person should know about the statement, such as an alias that hides a field.
        subscription: The subscription of a SUBSCRIBE; else None.
        types: The declared types of the columns, None where a type is not known; None if no types are known.

    Example:
        ```python
        result = await client.query("SELECT id, total FROM orders")
        for row in result.dicts():
            print(row["id"], row["total"])
        ```
    """

    __slots__ = ("_rows", "_values", "columns", "count", "message", "notices", "subscription", "types")

    def __init__(
        self,
        columns: tuple[str, ...] = (),
        rows: Sequence[tuple[Any, ...]] | None = None,
        message: str | None = None,
        notices: tuple[str, ...] = (),
        subscription: Subscription | None = None,
        *,
        values: Sequence[Sequence[Any]] | None = None,
        count: int = 0,
        types: Sequence[TypeNode | None] | None = None,
    ) -> None:
        self.columns = columns
        self.message = message
        self.notices = notices
        # What is declared of the columns, where that is known.
        self.types = types
        self.subscription = subscription
        self._values = values
        self._rows: list[tuple[Any, ...]] | None = list(rows or ()) if values is None else None
        self.count = count if self._rows is None else len(self._rows)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows, each a tuple with one value for each column."""
        if self._rows is None:
            values = self._values or ()
            self._rows = list(zip(*values, strict=True)) if values else [()] * self.count
        return self._rows

    def dicts(self) -> list[dict[str, Any]]:
        """Give the rows as dictionaries.

        Returns:
            One dictionary for each row, from column to value. If two columns have the same name, the second gets a number:
            x, x_1.
        """
        names = unique_names(self.columns)
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def scalar(self) -> Any:
        """Give the value of a result that has exactly one row and one column.

        Returns:
            The value.

        Raises:
            GeodeError: The result has another shape.
        """
        if len(self.rows) != 1 or len(self.columns) != 1:
            raise GeodeError(
                f"one value was wanted; the result has {len(self.rows)} rows and {len(self.columns)} columns"
            )
        return self.rows[0][0]

    def to_arrow(self) -> Any:
        """Convert the rows to a pyarrow Table.

        A column whose values are of different kinds becomes text: their JSON form.

        Returns:
            A `pyarrow.Table`.

        Raises:
            Unsupported: The package pyarrow is not installed (`pip install 'geode-client[arrow]'`).
        """
        from geode_client.query.arrow import table_of

        values = self._values
        if values is None:
            values = list(zip(*self.rows, strict=True)) if self.rows else [[] for _ in self.columns]
        return table_of(unique_names(self.columns), values, self.types)

    def __len__(self) -> int:
        return self.count

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The messages of a SUBSCRIBE; the rows of any other result."""
        if self.subscription is None:
            for row in self.rows:
                yield row
            return
        async with self.subscription as open_subscription:
            async for message in open_subscription:
                yield message

    def __repr__(self) -> str:
        if self.subscription is not None:
            return f"<Result subscription to {self.subscription.request.pattern}>"
        if not self.columns:
            return self.message or "<Result>"
        cells = [list(self.columns), *[[_short(value) for value in row] for row in self.rows[:SHOWN_ROWS]]]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        if len(self.rows) > SHOWN_ROWS:
            lines.append(f"… {len(self.rows) - SHOWN_ROWS} more rows")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self.columns:
            return f"<p>{html.escape(repr(self))}</p>"
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_short(value))}</td>" for value in row) + "</tr>"
            for row in self.rows[:SHOWN_ROWS]
        )
        more = f"<p>{len(self.rows) - SHOWN_ROWS} more rows</p>" if len(self.rows) > SHOWN_ROWS else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names, those that come again with the first number that makes them different."""
    taken = set(names)
    found: dict[str, None] = {}
    for name in names:
        made, number = name, 0
        while made in found or (number and made in taken):
            number += 1
            made = f"{name}_{number}"
        found[made] = None
    return tuple(found)


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 row, 2 rows."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _short(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
