"""What a statement gives back."""

import html
import importlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from geode_client.errors import GeodeError, Unsupported
from geode_client.subscription import Subscription

SHOWN_ROWS = 40
SHOWN_CHARACTERS = 60


@dataclass(slots=True)
class Result:
    """Columns and rows of a query, or a message of what was done, or the subscription that SUBSCRIBE opened."""

    columns: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    message: str | None = None
    notices: tuple[str, ...] = ()
    subscription: Subscription | None = None

    def dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def scalar(self) -> Any:
        """The one value of a result of one row and one column."""
        if len(self.rows) != 1 or len(self.columns) != 1:
            raise GeodeError(
                f"one value was wanted; the result has {len(self.rows)} rows and {len(self.columns)} columns"
            )
        return self.rows[0][0]

    def to_arrow(self) -> Any:
        """A pyarrow Table; needs the package pyarrow."""
        try:
            pyarrow: Any = importlib.import_module("pyarrow")
        except ImportError:
            raise Unsupported(
                "to_arrow() without the package pyarrow (pip install pyarrow)", "this installation"
            ) from None
        return pyarrow.table({name: [row[i] for row in self.rows] for i, name in enumerate(self.columns)})

    def __len__(self) -> int:
        return len(self.rows)

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


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _short(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
