"""Conditions and values: from the parser's tree to `sqlglot.exp` trees. Queries are in `queries.py`.

Here and there alone sqlglot nodes are made; loaded when a statement first has a condition or a query. Conventions:
paths are Column, then Dot for `.name` and Bracket for `['name']` and `[0]`; unquoted `_id`, `_topic` … are virtual columns,
which are Columns whose Identifier is not quoted; scalar functions are Anonymous with an upper-case name, aggregates have
their own classes; `+x` is two Neg around x; IS UNKNOWN is Is with Var UNKNOWN; TIMESTAMP '…' is a Cast. `SYSTEM.t` is a
Table with db SYSTEM, DEAD LETTERS OF t one with db DEAD_LETTERS. Every node has its Span in `meta["span"]`.
"""

import re
from typing import Any

from lark import Token, Tree
from sqlglot import exp

from geode_client.grammar import functions
from geode_client.grammar.calls import AGGREGATES, TYPES, CallBuilder, unquoted
from geode_client.grammar.errors import GqlError, GqlSyntaxError
from geode_client.grammar.source import CONDITION_CHARACTERS_MAX, Source, Span, number_of, too_long
from geode_client.grammar.trees import token_of, trees_of

CONDITION_TOKENS_MAX = 2_000
NESTING_MAX = 64
IN_ITEMS_MAX = 10_000

COMPARISONS: dict[str, type[exp.Expression]] = {
    "=": exp.EQ,
    "<>": exp.NEQ,
    "!=": exp.NEQ,
    "<": exp.LT,
    "<=": exp.LTE,
    ">": exp.GT,
    ">=": exp.GTE,
}

__all__ = ["AGGREGATES", "TYPES", "Builder"]

_Tree = Tree[Token]


class Builder(CallBuilder):
    """Makes expressions of one statement; `base` is where the statement begins in its source."""

    def __init__(self, source: Source, base: int) -> None:
        self._source = source
        self._base = base

    def span(self, tree: _Tree | Token) -> Span:
        if isinstance(tree, Token):
            return Span(self._base + (tree.start_pos or 0), self._base + (tree.end_pos or 0))
        meta = tree.meta
        return Span(self._base + getattr(meta, "start_pos", 0), self._base + getattr(meta, "end_pos", 0))

    def condition(self, tree: _Tree) -> exp.Expression:
        """A condition or value, after its bounds were checked."""
        self._check_nesting(tree)
        self._check_size(tree)
        return self.expression(tree)

    def _check_nesting(self, tree: _Tree) -> None:
        """What is in brackets, in a function or in a CASE is nested; operands of operators are not. No recursion."""
        waiting = [(tree, 0)]
        while waiting:
            node, depth = waiting.pop()
            if node.data == "in_items" and len(node.children) > IN_ITEMS_MAX:
                raise self._error(f"IN takes at most {IN_ITEMS_MAX} items; this list has {len(node.children)}", node)
            depth += _deepens(node)
            if depth > NESTING_MAX:
                raise self._error(f"this is nested more than {NESTING_MAX} deep", node)
            # What is computed in a list is nested in it.
            inside = depth + (node.data == "in_items")
            waiting += [(child, inside) for child in trees_of(node) if child.data not in _PLAIN_ITEMS]

    def _check_size(self, tree: _Tree) -> None:
        """Characters and tokens, but for plain values in lists after IN: such a list counts as one token."""
        span = self.span(tree)
        if span.end - span.start <= CONDITION_TOKENS_MAX:
            return
        kept, place, lists = [], span.start, 0
        for items in self._plain_runs(tree):
            kept.append(self._source.text[place : items.start])
            place, lists = items.end, lists + 1
        text = " ".join([*kept, self._source.text[place : span.end]])
        if len(text) - lists > CONDITION_CHARACTERS_MAX:
            raise self._error(too_long(len(text) - lists), tree)
        tokens = lists + sum(1 for found in _TOKEN.finditer(text) if found.lastgroup is None)
        if tokens > CONDITION_TOKENS_MAX:
            raise self._error(f"a condition has at most {CONDITION_TOKENS_MAX} tokens; this one has {tokens}", tree)

    def _plain_runs(self, tree: _Tree) -> list[Span]:
        """The places of plain values in lists after IN, those that follow each other together."""
        runs: list[Span] = []
        waiting = [tree]
        while waiting:
            node = waiting.pop()
            waiting += [child for child in trees_of(node) if child.data not in _PLAIN_ITEMS]
            if node.data != "in_items":
                continue
            first: Span | None = None
            for item in [*trees_of(node), None]:
                if item is not None and _is_plain(item):
                    span = self.span(item)
                    first = Span(first.start if first is not None else span.start, span.end)
                elif first is not None:
                    runs.append(first)
                    first = None
        return sorted(runs, key=lambda run: run.start)

    def _error(self, message: str, tree: _Tree | Token, hint: str | None = None) -> GqlError:
        span = self.span(tree)
        return GqlSyntaxError(message, span=span, source=self._source, hint=hint)

    def expression(self, tree: _Tree) -> exp.Expression:
        """The expression of any rule; `or_`, `and_` and other chains go down to the left without recursion."""
        if tree.data in _CHAINS:
            return self._chain(tree)
        made: exp.Expression = getattr(self, f"_{tree.data}")(tree)
        made.meta["span"] = self.span(tree)
        return made

    def _chain(self, tree: _Tree) -> exp.Expression:
        links: list[_Tree] = []
        while tree.data in _CHAINS:
            links.append(tree)
            tree = tree.children[0]  # type: ignore[assignment]
        made = self.expression(tree)
        for link in reversed(links):
            right = self.expression(link.children[-1])  # type: ignore[arg-type]
            kind = _CHAINS[link.data]
            if link.data == "sum_":
                kind = exp.Add if link.children[1] == "+" else exp.Sub
            elif link.data == "comparison":
                kind = COMPARISONS[str(link.children[1])]
            made = kind(this=made, expression=right)
            made.meta["span"] = self.span(link)
        return made

    # ── predicates ──
    def _not_(self, tree: _Tree) -> exp.Expression:
        return exp.Not(this=self._last(tree))

    def _like(self, tree: _Tree) -> exp.Expression:
        return self._likened(tree, exp.Like)

    def _ilike(self, tree: _Tree) -> exp.Expression:
        return self._likened(tree, exp.ILike)

    def _likened(self, tree: _Tree, kind: type[exp.Expression]) -> exp.Expression:
        subject, pattern = (self.expression(child) for child in trees_of(tree))
        made = kind(this=subject, expression=pattern)
        escape = token_of(tree, "STRING")
        if escape is not None:
            character = unquoted(escape)
            if len(character) != 1:
                raise self._error("ESCAPE takes one character", escape)
            made = exp.Escape(this=made, expression=exp.Literal.string(character))
        return self._negated(tree, made)

    def _negated(self, tree: _Tree, made: exp.Expression) -> exp.Expression:
        if token_of(tree, "NOT") is None:
            return made
        made.meta["span"] = self.span(tree)
        return exp.Not(this=made)

    def _in_list(self, tree: _Tree) -> exp.Expression:
        subject, items = trees_of(tree)
        made = exp.In(this=self.expression(subject), expressions=[self.expression(item) for item in trees_of(items)])
        return self._negated(tree, made)

    def _in_parameter(self, tree: _Tree) -> exp.Expression:
        name = token_of(tree, "PARAMETER")
        assert name is not None
        items = exp.Parameter(this=exp.Var(this=str(name)[1:]))
        items.meta["span"] = self.span(name)
        return self._negated(tree, exp.In(this=self.expression(trees_of(tree)[0]), field=items))

    def _between(self, tree: _Tree) -> exp.Expression:
        subject, low, high = (self.expression(child) for child in trees_of(tree))
        return self._negated(tree, exp.Between(this=subject, low=low, high=high))

    def _is_null(self, tree: _Tree) -> exp.Expression:
        return self._is(tree, exp.Null())

    def _is_true(self, tree: _Tree) -> exp.Expression:
        return self._is(tree, exp.Boolean(this=True))

    def _is_false(self, tree: _Tree) -> exp.Expression:
        return self._is(tree, exp.Boolean(this=False))

    def _is_unknown(self, tree: _Tree) -> exp.Expression:
        return self._is(tree, exp.Var(this="UNKNOWN"))

    def _is_distinct(self, tree: _Tree) -> exp.Expression:
        left, right = (self.expression(child) for child in trees_of(tree))
        kind = exp.NullSafeNEQ if token_of(tree, "NOT") is None else exp.NullSafeEQ
        return kind(this=left, expression=right)

    def _is(self, tree: _Tree, what: exp.Expression) -> exp.Expression:
        return self._negated(tree, exp.Is(this=self.expression(trees_of(tree)[0]), expression=what))

    # ── values ──
    def _signed(self, tree: _Tree) -> exp.Expression:
        sign, inner = tree.children
        value = self.expression(inner)  # type: ignore[arg-type]
        if sign == "-":
            return exp.Neg(this=value)
        if isinstance(value, exp.Literal) and not value.is_string:
            return value
        return exp.Neg(this=exp.Neg(this=value))

    def _number(self, tree: _Tree) -> exp.Expression:
        if number_of(str(tree.children[0])) is None:
            raise self._error("this number is too large", tree)
        return exp.Literal.number(str(tree.children[0]))

    def _string(self, tree: _Tree) -> exp.Expression:
        return exp.Literal.string(unquoted(str(tree.children[0])))

    def _true(self, tree: _Tree) -> exp.Expression:
        return exp.Boolean(this=True)

    def _false(self, tree: _Tree) -> exp.Expression:
        return exp.Boolean(this=False)

    def _null(self, tree: _Tree) -> exp.Expression:
        return exp.Null()

    def _parameter(self, tree: _Tree) -> exp.Expression:
        return exp.Parameter(this=exp.Var(this=str(tree.children[0])[1:]))

    def _parenthesised(self, tree: _Tree) -> exp.Expression:
        return exp.Paren(this=self._last(tree))

    def _case(self, tree: _Tree) -> exp.Expression:
        operand = default = None
        ifs: list[exp.Expression] = []
        for child in trees_of(tree):
            if child.data == "when":
                condition, value = (self.expression(part) for part in trees_of(child))
                ifs.append(exp.If(this=condition, true=value))
            elif ifs:
                default = self.expression(child)
            else:
                operand = self.expression(child)
        return exp.Case(this=operand, ifs=ifs, default=default)

    def _exists(self, tree: _Tree) -> exp.Expression:
        return exp.Exists(this=self._last(tree))

    def _cast(self, tree: _Tree) -> exp.Expression:
        return exp.Cast(this=self.expression(trees_of(tree)[0]), to=self._type(tree.children[-1]))  # type: ignore[arg-type]

    def _try_cast(self, tree: _Tree) -> exp.Expression:
        return exp.TryCast(this=self.expression(trees_of(tree)[0]), to=self._type(tree.children[-1]))  # type: ignore[arg-type]

    def _interval(self, tree: _Tree) -> exp.Expression:
        return exp.Interval(this=exp.Literal.string(unquoted(str(tree.children[-1]))))

    def _timestamp(self, tree: _Tree) -> exp.Expression:
        return self._literal_of(tree, exp.DataType.Type.TIMESTAMPTZ)

    def _date(self, tree: _Tree) -> exp.Expression:
        return self._literal_of(tree, exp.DataType.Type.DATE)

    def _literal_of(self, tree: _Tree, kind: Any) -> exp.Expression:
        text = exp.Literal.string(unquoted(str(tree.children[-1])))
        return exp.Cast(this=text, to=exp.DataType(this=kind))

    def _path(self, tree: _Tree) -> exp.Expression:
        head, *steps = tree.children
        if not steps and isinstance(head, Token) and head.upper() in functions.BARE:
            return exp.Anonymous(this=head.upper(), expressions=[])
        made: exp.Expression = exp.Column(this=self.identifier(head))
        made.meta["span"] = self.span(head)
        for step in steps:
            made = self._step(made, step)  # type: ignore[arg-type]
            made.meta["span"] = Span(self.span(tree).start, self.span(step).end)
        return made

    def _step(self, before: exp.Expression, step: _Tree) -> exp.Expression:
        last = step.children[-1] if step.children else None
        match step.data:
            case "step_name":
                return exp.Dot(this=before, expression=self.identifier(last))  # type: ignore[arg-type]
            case "step_star":
                return exp.Dot(this=before, expression=exp.Star())
            case "step_key":
                return exp.Bracket(this=before, expressions=[exp.Literal.string(unquoted(str(last)))])
            case "step_every":
                return exp.Bracket(this=before, expressions=[exp.Star()])
            case _:
                if not str(last).isdigit() or len(step.children) > 1 or len(str(last)) > 18:
                    raise self._error("an index is a whole number from 0", step)
                return exp.Bracket(this=before, expressions=[exp.Literal.number(str(last))])

    def identifier(self, node: _Tree | Token) -> exp.Identifier:
        if isinstance(node, Token):
            return exp.Identifier(this=str(node), quoted=False)
        return exp.Identifier(this=unquoted(str(node.children[0])), quoted=True)

    def _last(self, tree: _Tree) -> exp.Expression:
        return self.expression(trees_of(tree)[-1])


# The tokens of a text; what is no token has a name.
_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*(?s:.*?)\*/)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`"""
    r"""|\$?\w+(?:\.\d+)?|<>|!=|<=|>=|\|\||(?s:.)"""
)
_DEEPENING = frozenset("parenthesised call case cast try_cast exists over query nested_query".split())
_PLAIN_ITEMS = frozenset(("number", "string", "true", "false", "null", "parameter"))
_CHAINS: dict[str, type[exp.Expression]] = {
    "or_": exp.Or,
    "and_": exp.And,
    "sum_": exp.Add,
    "concat": exp.DPipe,
    "multiply": exp.Mul,
    "divide": exp.Div,
    "remainder": exp.Mod,
    "comparison": exp.EQ,
}


def _deepens(node: _Tree) -> bool:
    """Whether what is inside a node is nested deeper; a sign or NOT before a bracket is one with it."""
    if node.data in ("not_", "signed"):
        inner = node.children[-1]
        return isinstance(inner, Tree) and inner.data in ("not_", "signed")
    return node.data in _DEEPENING


def _is_plain(item: _Tree) -> bool:
    inner = item.children[-1] if item.data == "signed" else item
    return isinstance(inner, Tree) and inner.data in _PLAIN_ITEMS
