"""Conditions and queries: from the parser's tree to `sqlglot.exp` trees.

The only place where sqlglot nodes are made; loaded when a statement first has a condition or a query. Conventions:
paths are Column, then Dot for `.name` and Bracket for `['name']` and `[0]`; unquoted `_id`, `_topic` … are virtual columns,
which are Columns whose Identifier is not quoted; scalar functions are Anonymous with an upper-case name, aggregates have
their own classes; `+x` is two Neg around x; IS UNKNOWN is Is with Var UNKNOWN; TIMESTAMP '…' is a Cast. `SYSTEM.t` is a
Table with db SYSTEM, DEAD LETTERS OF t one with db DEAD_LETTERS. Every node has its Span in `meta["span"]`.
"""

from typing import Any

from lark import Token, Tree
from sqlglot import exp

from geode_client.grammar import functions
from geode_client.grammar.calls import AGGREGATES, TYPES, CallBuilder, unquoted
from geode_client.grammar.errors import GqlError, GqlSyntaxError
from geode_client.grammar.names import validate_topic_pattern
from geode_client.grammar.source import CONDITION_CHARACTERS_MAX, Source, Span, number_of, too_long

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
        """A condition, after its bounds were checked."""
        span = self.span(tree)
        if span.end - span.start > CONDITION_CHARACTERS_MAX and not _has_long_list(tree):
            raise self._error(too_long(span.end - span.start), tree)
        self._check_bounds(tree)
        return self.expression(tree)

    def _check_bounds(self, tree: _Tree) -> None:
        """Tokens and nesting, without recursion; a list after IN counts as one token and its text does not count."""
        tokens = characters = 0
        # What lies in brackets, in a function or in a CASE is nested; operands of operators are not.
        waiting: list[tuple[_Tree | Token, int]] = [(tree, 0)]
        while waiting:
            node, depth = waiting.pop()
            if isinstance(node, Token):
                tokens += 1
                characters += len(node)
                continue
            if node.data == "in_items":
                # Plain values count as one, however many they are.
                self._check_items(node)
                tokens += 1
                waiting += [(child, depth + 1) for child in _trees(node) if not _is_plain(child)]
                continue
            depth += _deepens(node)
            if depth > NESTING_MAX:
                raise self._error(f"this is nested more than {NESTING_MAX} deep", node)
            waiting += [(child, depth) for child in node.children]
            tokens += 1
        if tokens > 2 * CONDITION_TOKENS_MAX:
            raise self._error(f"a condition has at most {CONDITION_TOKENS_MAX} words and signs", tree)
        if characters > CONDITION_CHARACTERS_MAX:
            raise self._error(f"a condition has at most {CONDITION_CHARACTERS_MAX} characters", tree)

    def _check_items(self, node: _Tree) -> None:
        if len(node.children) > IN_ITEMS_MAX:
            raise self._error(f"IN takes at most {IN_ITEMS_MAX} items; this list has {len(node.children)}", node)

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
        subject, pattern = (self.expression(child) for child in _trees(tree))
        made = kind(this=subject, expression=pattern)
        escape = _token(tree, "STRING")
        if escape is not None:
            character = unquoted(escape)
            if len(character) != 1:
                raise self._error("ESCAPE takes one character", escape)
            made = exp.Escape(this=made, expression=exp.Literal.string(character))
        return self._negated(tree, made)

    def _negated(self, tree: _Tree, made: exp.Expression) -> exp.Expression:
        if _token(tree, "NOT") is None:
            return made
        made.meta["span"] = self.span(tree)
        return exp.Not(this=made)

    def _in_list(self, tree: _Tree) -> exp.Expression:
        subject, items = _trees(tree)
        made = exp.In(this=self.expression(subject), expressions=[self.expression(item) for item in _trees(items)])
        return self._negated(tree, made)

    def _in_query(self, tree: _Tree) -> exp.Expression:
        subject, query = _trees(tree)
        made = exp.In(this=self.expression(subject), query=exp.Subquery(this=self.query(query)))
        return self._negated(tree, made)

    def _between(self, tree: _Tree) -> exp.Expression:
        subject, low, high = (self.expression(child) for child in _trees(tree))
        return self._negated(tree, exp.Between(this=subject, low=low, high=high))

    def _is_null(self, tree: _Tree) -> exp.Expression:
        return self._is(tree, exp.Null())

    def _is_true(self, tree: _Tree) -> exp.Expression:
        return self._is(tree, exp.Boolean(this=True))

    def _is_false(self, tree: _Tree) -> exp.Expression:
        return self._is(tree, exp.Boolean(this=False))

    def _is_unknown(self, tree: _Tree) -> exp.Expression:
        return self._is(tree, exp.Var(this="UNKNOWN"))

    def _is(self, tree: _Tree, what: exp.Expression) -> exp.Expression:
        return self._negated(tree, exp.Is(this=self.expression(_trees(tree)[0]), expression=what))

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
        for child in _trees(tree):
            if child.data == "when":
                condition, value = (self.expression(part) for part in _trees(child))
                ifs.append(exp.If(this=condition, true=value))
            elif ifs:
                default = self.expression(child)
            else:
                operand = self.expression(child)
        return exp.Case(this=operand, ifs=ifs, default=default)

    def _exists(self, tree: _Tree) -> exp.Expression:
        return exp.Exists(this=self._last(tree))

    def _cast(self, tree: _Tree) -> exp.Expression:
        return exp.Cast(this=self.expression(_trees(tree)[0]), to=self._type(tree.children[-1]))  # type: ignore[arg-type]

    def _try_cast(self, tree: _Tree) -> exp.Expression:
        return exp.TryCast(this=self.expression(_trees(tree)[0]), to=self._type(tree.children[-1]))  # type: ignore[arg-type]

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
        return self.expression(_trees(tree)[-1])

    # ── queries ──
    def query(self, tree: _Tree, depth: int = 0) -> exp.Expression:
        """A SELECT or UNION with its ORDER BY and LIMIT."""
        if depth > NESTING_MAX:
            raise self._error(f"queries are nested more than {NESTING_MAX} deep", tree)
        parts = [child for child in _trees(tree) if child.data in ("select_core", "nested_query")]
        made = self._operand(parts[0], depth)
        alls = _union_kinds(tree)
        for part, distinct in zip(parts[1:], alls, strict=True):
            made = exp.Union(this=made, expression=self._operand(part, depth), distinct=distinct)
        items = [child for child in _trees(tree) if child.data == "sort_item"]
        if (
            (items or _token(tree, "LIMIT") or _token(tree, "OFFSET"))
            and parts[0].data == "nested_query"
            and len(parts) == 1
        ):
            made = exp.Select(expressions=[exp.Star()], **{_FROM: exp.From(this=exp.Subquery(this=made))})
        if items:
            made.set("order", exp.Order(expressions=[self._sort_item(item) for item in items]))
        self._set_counts(tree, made)
        made.meta["span"] = self.span(tree)
        return made

    def _operand(self, tree: _Tree, depth: int) -> exp.Expression:
        if tree.data == "nested_query":
            return self.query(_trees(tree)[0], depth + 1)
        return self._select(tree, depth)

    def _set_counts(self, tree: _Tree, made: exp.Expression) -> None:
        word = None
        for child in tree.children:
            if isinstance(child, Token):
                word = child.type
            elif child.data == "count":
                value = self._count(child)
                if word == "LIMIT":
                    made.set("limit", exp.Limit(expression=value))
                else:
                    made.set("offset", exp.Offset(expression=value))

    def _count(self, tree: _Tree) -> exp.Expression:
        token = tree.children[0]
        assert isinstance(token, Token)
        if token.type == "PARAMETER":
            made: exp.Expression = exp.Parameter(this=exp.Var(this=str(token)[1:]))
        elif token.isdigit() and len(token) <= 18:
            made = exp.Literal.number(str(token))
        else:
            raise self._error("a whole number is needed here", token)
        made.meta["span"] = self.span(token)
        return made

    def _select(self, tree: _Tree, depth: int) -> exp.Expression:
        made = exp.Select(expressions=[])
        if _token(tree, "DISTINCT") is not None:
            made.set("distinct", exp.Distinct())
        word = "SELECT"
        groups: list[exp.Expression] = []
        for child in tree.children:
            if isinstance(child, Token):
                word = child.type
            elif child.data in ("select_all", "select_expression"):
                made.append("expressions", self._item(child))
            elif child.data == "from_clause":
                self._from(child, made, depth)
            elif word == "WHERE":
                made.set("where", exp.Where(this=self.condition(child)))
            elif word == "HAVING":
                made.set("having", exp.Having(this=self.condition(child)))
            else:
                self._check_bounds(child)
                groups.append(self.expression(child))
        if groups:
            made.set("group", exp.Group(expressions=groups))
        made.meta["span"] = self.span(tree)
        return made

    def _item(self, tree: _Tree) -> exp.Expression:
        if tree.data == "select_all":
            star = exp.Star()
            star.meta["span"] = self.span(tree)
            return star
        value = _trees(tree)[0]
        self._check_bounds(value)
        made = self.expression(value)
        alias = self._alias(tree)
        if alias is None:
            return made
        named = exp.Alias(this=made, alias=alias)
        named.meta["span"] = self.span(tree)
        return named

    def _alias(self, tree: _Tree) -> exp.Identifier | None:
        found = next((child for child in _trees(tree) if child.data == "alias"), None)
        return None if found is None else self.identifier(found.children[0])

    def _from(self, tree: _Tree, made: exp.Select, depth: int) -> None:
        source, *joins = _trees(tree)
        made.set(_FROM, exp.From(this=self._source_node(source, depth)))
        for join in joins:
            kind, joined, condition = _trees(join)
            self._check_bounds(condition)
            node = exp.Join(this=self._source_node(joined, depth), on=self.expression(condition))
            if kind.data == "join_left":
                node.set("side", "LEFT")
            node.meta["span"] = self.span(join)
            made.append("joins", node)

    def _source_node(self, tree: _Tree, depth: int) -> exp.Expression:
        match tree.data:
            case "source_system":
                name = str(tree.children[0]).partition(".")[2].strip()
                made: exp.Expression = _table(name, "SYSTEM")
            case "source_query":
                query = next(child for child in _trees(tree) if child.data == "query")
                made = exp.Subquery(this=self.query(query, depth + 1))
            case kind:
                topic = next(child for child in _trees(tree) if child.data == "topic")
                made = _table(self.pattern(topic), "DEAD_LETTERS" if kind == "source_dead_letters" else None)
        alias = self._alias(tree)
        if alias is not None:
            made.set("alias", exp.TableAlias(this=alias))
        made.meta["span"] = self.span(tree)
        return made

    def pattern(self, tree: _Tree) -> str:
        """The name or pattern of a topic."""
        node = tree.children[0]
        text = str(node) if isinstance(node, Token) else unquoted(str(node.children[0]))
        try:
            return validate_topic_pattern(text)
        except GqlError as error:
            raise self._error(error.message, tree, error.hint) from error

    def _sort_item(self, tree: _Tree) -> exp.Expression:
        value = _trees(tree)[0]
        self._check_bounds(value)
        nulls_first = _token(tree, "NULLS_FIRST") is not None
        made = exp.Ordered(this=self.expression(value), desc=_token(tree, "DESC") is not None, nulls_first=nulls_first)
        if nulls_first or _token(tree, "NULLS_LAST") is not None:
            made.meta["nulls_given"] = True
        made.meta["span"] = self.span(tree)
        return made


_FROM = "from_" if "from_" in exp.Select.arg_types else "from"
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


def _table(name: str, database: str | None) -> exp.Table:
    db = exp.Identifier(this=database, quoted=False) if database else None
    return exp.Table(this=exp.Identifier(this=name, quoted=False), db=db)


def _trees(tree: _Tree) -> list[_Tree]:
    return [child for child in tree.children if isinstance(child, Tree)]


def _token(tree: _Tree, kind: str) -> Token | None:
    return next((child for child in tree.children if isinstance(child, Token) and child.type == kind), None)


def _deepens(node: _Tree) -> bool:
    """Whether what is inside a node is nested deeper; a sign or NOT before a bracket is one with it."""
    if node.data in ("not_", "signed"):
        inner = node.children[-1]
        return isinstance(inner, Tree) and inner.data in ("not_", "signed")
    return node.data in (
        "parenthesised",
        "call",
        "call_distinct",
        "extract",
        "case",
        "cast",
        "try_cast",
        "exists",
        "query",
        "nested_query",
    )


def _is_plain(item: _Tree) -> bool:
    inner = item.children[-1] if item.data == "signed" else item
    return isinstance(inner, Tree) and inner.data in _PLAIN_ITEMS


def _has_long_list(tree: _Tree) -> bool:
    return any(node.data == "in_items" for node in tree.iter_subtrees())


def _union_kinds(tree: _Tree) -> list[bool]:
    """For each UNION whether it removes duplicates."""
    words = [child.type for child in tree.children if isinstance(child, Token)]
    return [words[index + 1 : index + 2] != ["UNION_ALL"] for index, word in enumerate(words) if word == "UNION"]
