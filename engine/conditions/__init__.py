"""Conditions and expressions: compiled once, run over batches.

`compile_filter(text)` is public: a condition as text. `compile_condition(tree)` is the same for a tree, with the columns
that a schema declares. A `Condition` selects the places of a chunk where it is TRUE, decoding only the fields it reads; it
also judges a single mapping. Nothing here loads sqlglot before something is compiled.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from geode_client.conditions.fields import ABSENT, MessageChunk, Projection
from geode_client.conditions.literals import LiteralSearch, needles_of

if TYPE_CHECKING:
    from sqlglot import exp

    from geode_client.conditions import generate
    from geode_client.grammar.ast import TypeNode

__all__ = ["Condition", "compile_condition", "compile_filter"]


def present(value: Any) -> Any:
    """A field that may be marked as absent, as a value."""
    return None if value is ABSENT else value


class Condition:
    """A compiled condition. `fields` are the paths it reads, `virtual` the virtual columns, `notices` what a person
    should know of it, `text` its canonical text, `tree` what it was compiled from, `requirement` what must hold of single
    fields for it to be TRUE."""

    __slots__ = (
        "_functions",
        "_given",
        "_meaning",
        "_projection",
        "_search",
        "field_steps",
        "fields",
        "notices",
        "requirement",
        "text",
        "tree",
        "virtual",
    )

    def __init__(
        self,
        tree: "exp.Expression",
        parameters: Mapping[str, Any] | None = None,
        columns: "Mapping[str, TypeNode] | None" = None,
        alias: str | None = None,
    ) -> None:
        from geode_client.conditions import generate
        from geode_client.conditions.binding import with_lists
        from geode_client.grammar.unparse_expressions import unparse_expression

        tree = with_lists(tree, parameters or {})
        made = generate.checked(tree, parameters, columns, alias)
        self.tree = tree
        self.text = unparse_expression(tree)
        self.fields: tuple[str, ...] = tuple(made.reference.paths)
        self.field_steps: tuple[tuple[Any, ...], ...] = tuple(made.reference.paths.values())
        self.virtual: tuple[str, ...] = tuple(made.reference.virtual)
        self.notices: tuple[str, ...] = tuple(made.reference.notices)
        self._projection = Projection.of(made.reference.names, made.reference.present, made.reference.raw)
        self.requirement = made.requirement
        needles = needles_of(made.requirement)
        self._search = None if needles is None else LiteralSearch(needles)
        self._meaning = (parameters, columns, alias)
        self._given: str | None = None
        # Made when they are first needed: of a hundred thousand subscribers most are never asked.
        self._functions: generate.Functions | None = None

    @property
    def _made(self) -> "generate.Functions":
        if self._functions is None:
            from geode_client.conditions import generate

            self._functions = generate.functions_of(self.tree, *self._meaning)
        return self._functions

    def declared(self, columns: "Mapping[str, TypeNode]") -> "Condition":
        """The same condition over messages with declared columns; raises GqlError where a type does not fit."""
        if not any(steps[0] in columns for steps in self.field_steps):
            return self
        made = _placed(self._given, lambda: Condition(self.tree, self._meaning[0], columns, self._meaning[2]))
        made._given = self._given
        return made

    @property
    def bound_text(self) -> str:
        """The canonical text with every parameter replaced by its value; compiling it gives the same condition."""
        from geode_client.conditions.binding import bound
        from geode_client.grammar.unparse_expressions import unparse_expression

        return unparse_expression(bound(self.tree, self._meaning[0] or {}))

    def select(self, chunk: MessageChunk) -> list[int]:
        """The places of a chunk where the condition is TRUE, ascending."""
        if self._search is not None and not self._projection.is_decoded(chunk):
            places = self._search.places(chunk)
            if places is not None:
                return self._select_of(chunk, [place for place, _ in places], [body for _, body in places])
        rows = self._projection.rows(chunk)
        found: list[int] = self._made.select(rows, datetime.now(UTC), *self._virtual_columns(chunk))
        return found

    def select_among(self, chunk: MessageChunk, places: Sequence[int]) -> list[int]:
        """Those of the places (ascending) where the condition is TRUE; decodes only them, where nobody decoded more."""
        if self._projection.is_decoded(chunk):
            rows = self._projection.rows(chunk)
            return self._chosen(chunk, places, [rows[place] for place in places])
        return self._select_of(chunk, places, [chunk.bodies[place] for place in places])

    def _select_of(self, chunk: MessageChunk, places: Sequence[int], bodies: Sequence[bytes]) -> list[int]:
        return self._chosen(chunk, places, self._projection.rows_of(bodies)) if places else []

    def _chosen(self, chunk: MessageChunk, places: Sequence[int], rows: Sequence[Any]) -> list[int]:
        columns = [[column[place] for place in places] for column in self._virtual_columns(chunk)]
        return [places[index] for index in self._made.select(rows, datetime.now(UTC), *columns)]

    def _virtual_columns(self, chunk: MessageChunk) -> list[Sequence[Any]]:
        return [chunk.virtual_column(name) for name in self.virtual]

    def truths(self, chunk: MessageChunk) -> list[bool | None]:
        """TRUE, FALSE or UNKNOWN (None) for each message of a chunk."""
        rows = self._projection.rows(chunk)
        columns = self._virtual_columns(chunk)
        now, value = datetime.now(UTC), self._made.value
        return [_truth(value(row, now, *[column[i] for column in columns])) for i, row in enumerate(rows)]

    def evaluate(self, message: Any) -> bool | None:
        """TRUE, FALSE or UNKNOWN (None) for one message; virtual columns are taken from a delivered Message."""
        return _truth(self.value(message))

    def value(self, message: Any) -> Any:
        """What the expression gives for one message, be it a truth value or not."""
        virtual = [getattr(message, name[1:], None) for name in self.virtual]
        body = getattr(message, "data", message)
        return self._made.value(self._projection.row(_plain(body)), datetime.now(UTC), *virtual)

    def part(self, tree: "exp.Expression") -> "Condition":
        """A part of this condition's tree by itself, with the same parameters and declared columns."""
        return Condition(tree, *self._meaning)

    def matches(self, message: Any) -> bool:
        """Whether the condition is TRUE for one message."""
        return self.evaluate(message) is True

    def __repr__(self) -> str:
        return f"<Condition {self.text}>"


def _truth(value: Any) -> bool | None:
    return value if value.__class__ is bool else None


def _plain(body: Any) -> Any:
    return dict(body) if isinstance(body, Mapping) and not isinstance(body, dict) else body


def compile_condition(
    tree: "exp.Expression",
    *,
    parameters: Mapping[str, Any] | None = None,
    columns: "Mapping[str, TypeNode] | None" = None,
    alias: str | None = None,
) -> Condition:
    """A condition from its tree; raises GqlError with the place of what is wrong in it."""
    return Condition(tree, parameters, columns, alias)


def compile_filter(text: str, parameters: Mapping[str, Any] | None = None) -> Condition:
    """Compile a condition for use in Python, with the meaning that it has in SUBSCRIBE.

    Args:
        text: The condition, such as `total > 100 AND status IN ('paid', 'sent')`.
        parameters: Values for its `$name` parameters.

    Returns:
        The compiled condition: `evaluate(mapping)` gives True, False or None (unknown), `matches(mapping)` a bool, `fields`
        the paths that it reads.

    Raises:
        GqlSyntaxError: The text is not a condition; the error shows the place.
        GqlError: A function or parameter is unknown, or the condition exceeds a limit.

    Example:
        ```python
        large = compile_filter("total > $least", {"least": 100})
        large.matches({"total": 250})  # True
        ```
    """
    from geode_client.errors import GqlError
    from geode_client.grammar.parser import parse_condition

    if not isinstance(text, str):
        raise GqlError(f"a condition is text, not {type(text).__name__}")
    made = _placed(text, lambda: Condition(parse_condition(text), parameters))
    made._given = text
    return made


def _placed(text: str | None, make: "Callable[[], Condition]") -> "Condition":
    """What `make` gives; its errors show their place in the text."""
    from geode_client.errors import GqlError
    from geode_client.grammar.source import Source

    try:
        return make()
    except GqlError as error:
        raise (error if text is None else error.at(Source(text, "<condition>"))) from error.__cause__
