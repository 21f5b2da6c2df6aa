"""Calls of functions and CASTs, from the parser's tree to `sqlglot.exp` trees.

Scalar functions are Anonymous with their name of the registry; aggregates have classes of their own (AGGREGATES).
"""

from typing import Any

from lark import Token, Tree
from sqlglot import exp

from geode_client.grammar import functions
from geode_client.grammar.errors import GqlError, did_you_mean
from geode_client.grammar.source import Span
from geode_client.grammar.trees import trees_of
from geode_client.grammar.types import DECIMAL_DIGITS_MAX, SIZED, USUAL_NAMES, scalar_named

_Tree = Tree[Token]
_CLAUSES = frozenset(("call_order", "call_within", "call_filter"))

# ── aggregates ──
_AGGREGATE_ARGUMENTS = {"this": True, "more": False, "order_by": False, "where": False}


def _aggregate_class(name: str) -> Any:
    """The class of an aggregate's calls: `this` is the argument (Star, or Distinct around it), `more` the other arguments,
    `order_by` the Ordered that bring the values into an order, `where` the condition of FILTER."""
    # Derived from a concrete class: in some versions of sqlglot AggFunc alone is no node.
    return type(name.capitalize(), (exp.First,), {"arg_types": _AGGREGATE_ARGUMENTS, "__module__": __name__})


AGGREGATES: dict[str, Any] = {
    name: {"COUNT": exp.Count, "SUM": exp.Sum, "AVG": exp.Avg, "MIN": exp.Min, "MAX": exp.Max}.get(name)
    or _aggregate_class(name)
    for name in functions.AGGREGATES
}
TYPES = {
    "STRING": exp.DataType.Type.TEXT,
    "INT": exp.DataType.Type.BIGINT,
    "FLOAT": exp.DataType.Type.DOUBLE,
    "BOOL": exp.DataType.Type.BOOLEAN,
    "TIMESTAMP": exp.DataType.Type.TIMESTAMPTZ,
    "DATE": exp.DataType.Type.DATE,
    "DECIMAL": exp.DataType.Type.DECIMAL,
    "UUID": exp.DataType.Type.UUID,
    "BYTES": exp.DataType.Type.VARBINARY,
}


def unquoted(text: str) -> str:
    """The text inside quotes of any kind, doubled quotes made single."""
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote)


class CallBuilder:
    """The part of the builder of expressions that makes calls; the other part makes what is inside them."""

    def span(self, tree: _Tree | Token) -> Span:
        raise NotImplementedError

    def expression(self, tree: _Tree) -> exp.Expression:
        raise NotImplementedError

    def _error(self, message: str, tree: _Tree | Token, hint: str | None = None) -> GqlError:
        raise NotImplementedError

    def _sort_item(self, tree: _Tree) -> exp.Expression:
        raise NotImplementedError

    def _call(self, tree: _Tree) -> exp.Expression:
        function = self._function(tree)
        arguments = [self.expression(child) for child in trees_of(tree) if child.data not in _CLAUSES]
        within = next((child for child in trees_of(tree) if child.data == "call_within"), None)
        if within is not None:
            arguments = self._within_group(tree, function, arguments, within)
        if not function.least <= len(arguments) <= function.most:
            least, most = function.least, function.most
            wanted = str(least) if least == most else f"{least} to {most}"
            raise self._error(
                f"{function.name} takes {wanted} argument{'s' * (wanted != '1')}, not {len(arguments)}",
                tree,
                f"write {function.signature}",
            )
        if function.aggregate:
            return self._aggregate(tree, function, arguments[0], arguments[1:])
        self._refuse_clauses(tree, function)
        return exp.Anonymous(this=function.name, expressions=arguments)

    def _function(self, tree: _Tree) -> functions.Function:
        name = str(tree.children[0]).upper()
        found = functions.FUNCTIONS.get(functions.ALIASES.get(name, name))
        if found is None:
            hint = did_you_mean(name, (*functions.FUNCTIONS, *functions.ALIASES))
            raise self._error(f"unknown function {tree.children[0]}", tree.children[0], hint)
        return found

    def _within_group(
        self, tree: _Tree, function: functions.Function, arguments: list[exp.Expression], within: _Tree
    ) -> list[exp.Expression]:
        """PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY x) as PERCENTILE_CONT(x, 0.5)."""
        if function.name != "PERCENTILE_CONT" or len(arguments) != 1:
            raise self._error("only PERCENTILE_CONT(fraction) takes WITHIN GROUP", within)
        item = self._sort_item(trees_of(within)[0])
        fraction = arguments[0]
        if item.args.get("desc"):
            fraction = exp.Sub(this=exp.Literal.number("1"), expression=exp.Paren(this=fraction))
        return [item.this, fraction]

    def _aggregate(
        self, tree: _Tree, function: functions.Function, argument: exp.Expression, more: list[exp.Expression]
    ) -> exp.Expression:
        made: exp.Expression = AGGREGATES[function.name](this=argument)
        if more:
            made.set("more", more)
        order = next((child for child in trees_of(tree) if child.data == "call_order"), None)
        if order is not None:
            if function.name not in functions.ORDERED:
                raise self._error(f"{function.name} takes no ORDER BY: its result has no order", order)
            made.set("order_by", [self._sort_item(item) for item in trees_of(order)])
        where = next((child for child in trees_of(tree) if child.data == "call_filter"), None)
        if where is not None:
            made.set("where", self.expression(trees_of(where)[0]))
        return made

    def _refuse_clauses(self, tree: _Tree, function: functions.Function) -> None:
        found = next((child for child in trees_of(tree) if child.data in ("call_order", "call_filter")), None)
        if found is not None:
            what = "ORDER BY" if found.data == "call_order" else "FILTER"
            raise self._error(f"{what} belongs to aggregates, and {function.name} is none", found)

    def _call_star(self, tree: _Tree) -> exp.Expression:
        function = self._function(tree)
        if function.name != "COUNT":
            raise self._error("only COUNT takes *", tree)
        return self._aggregate(tree, function, exp.Star(), [])

    def _call_distinct(self, tree: _Tree) -> exp.Expression:
        function = self._function(tree)
        if not function.aggregate:
            raise self._error(f"DISTINCT belongs to aggregates, and {function.name} is none", tree)
        argument, *more = [self.expression(child) for child in trees_of(tree) if child.data not in _CLAUSES]
        if 1 + len(more) != function.least:
            raise self._error(f"{function.name} takes {function.least} arguments, not {1 + len(more)}", tree)
        return self._aggregate(tree, function, exp.Distinct(expressions=[argument]), more)

    def _extract(self, tree: _Tree) -> exp.Expression:
        part, value = trees_of(tree)
        token = str(part.children[0])
        name = unquoted(token) if token.startswith("'") else token
        literal = exp.Literal.string(name.lower())
        literal.meta["span"] = self.span(part)
        return exp.Anonymous(this="EXTRACT", expressions=[literal, self.expression(value)])

    def _type(self, tree: _Tree) -> exp.DataType:
        if tree.data not in ("type_scalar", "type_two_words", "type_sized"):
            raise self._error(
                "CAST makes single values, not LIST, MAP or STRUCT", tree, "JSON(text) reads arrays and objects"
            )
        words = [child for child in tree.children if isinstance(child, Token) and child.type in ("NAME", "FUNCTION")]
        sizes = [child for child in tree.children if isinstance(child, Token) and child.type == "NUMBER"]
        name = " ".join(words)
        found = scalar_named(name)
        kind = TYPES.get(found or "")
        if kind is None or found is None:
            hint = did_you_mean(name, (*TYPES, *USUAL_NAMES)) or f"known are {', '.join(TYPES)}"
            if found == "ANY":
                hint = "JSON(text) gives the value of a JSON text"
            raise self._error(f"unknown type {name}", words[0], hint)
        return exp.DataType(this=kind, expressions=self._digits(found, sizes))

    def _digits(self, name: str, sizes: list[Token]) -> list[exp.Expression]:
        """Digits in all and after the point of a DECIMAL; a length of other types means nothing."""
        if not sizes:
            return []
        if name not in SIZED or (len(sizes) == 2 and name != "DECIMAL"):
            raise self._error(f"{name} takes no numbers in brackets", sizes[0])
        if any(not size.isdigit() or len(size) > 9 for size in sizes):
            raise self._error("whole numbers are needed here", sizes[0])
        if name != "DECIMAL":
            return []
        precision, scale = int(sizes[0]), int(sizes[1]) if len(sizes) == 2 else 0
        if not 0 < precision <= DECIMAL_DIGITS_MAX or scale > precision:
            raise self._error(f"a DECIMAL has 1 to {DECIMAL_DIGITS_MAX} digits, and no more after the point", sizes[0])
        return [exp.Literal.number(str(precision)), exp.Literal.number(str(scale))]
