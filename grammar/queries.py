"""Queries: from the parser's tree to `sqlglot.exp` trees.

Conventions beside those of `expressions.py`: set operations have `distinct`; WITH is a With of CTEs; a sub-query in an
expression is a Subquery, under In, under Exists, or alone where it stands for one value; UNNEST is an Unnest of one
expression; OVER is a Window around an aggregate, or around an Anonymous for the functions that need a window.
"""

from collections.abc import Sequence

from lark import Token, Tree
from sqlglot import exp

from geode_client.grammar.calls import unquoted
from geode_client.grammar.errors import GqlError, GqlSyntaxError
from geode_client.grammar.expressions import NESTING_MAX, Builder
from geode_client.grammar.functions import WINDOW_FUNCTIONS
from geode_client.grammar.names import validate_topic_pattern
from geode_client.grammar.trees import token_of, trees_of

OPERANDS_MAX = 100
SOURCES_MAX = 64
COMMON_TABLES_MAX = 100

_Tree = Tree[Token]
_SET_OPERATIONS: dict[str, type[exp.SetOperation]] = {
    "UNION": exp.Union,
    "EXCEPT": exp.Except,
    "INTERSECT": exp.Intersect,
}
_SIDES = {"left": "LEFT", "right": "RIGHT", "full": "FULL"}
# The names of these arguments differ between versions of sqlglot.
_FROM = "from_" if "from_" in exp.Select.arg_types else "from"
_WITH = "with_" if "with_" in exp.Select.arg_types else "with"


class QueryBuilder(Builder):
    """Makes the expressions and queries of one statement."""

    _depth = 0

    def filter(self, tree: _Tree) -> exp.Expression:
        """A condition on single messages, which cannot hold queries or windows."""
        made = self.condition(tree)
        found = made.find(exp.Subquery, exp.Window)
        if found is not None:
            what = "OVER" if isinstance(found, exp.Window) else "a sub-query"
            raise GqlSyntaxError(
                f"{what} is not allowed in a filter, which is asked about each message alone",
                span=found.meta.get("span") or self.span(tree),
                source=self._source,
                hint="a SELECT may have it",
            )
        return made

    def query(self, tree: _Tree) -> exp.Expression:
        """A SELECT or a set operation, with its WITH, ORDER BY and LIMIT."""
        if self._depth >= NESTING_MAX:
            raise self._error(f"queries are nested more than {NESTING_MAX} deep", tree)
        self._depth += 1
        made = self._query(tree)
        self._depth -= 1
        made.meta["span"] = self.span(tree)
        return made

    def _query(self, tree: _Tree) -> exp.Expression:
        parts = trees_of(tree)
        common = self._with(parts.pop(0)) if parts[0].data == "with_clause" else None
        rows, *parts = parts
        made = self._rows(rows)
        items = [part for part in parts if part.data == "sort_item"]
        if rows.data == "nested_query" and (parts or common is not None):
            # What follows the brackets is about all of their rows.
            made = exp.Select(expressions=[exp.Star()], **{_FROM: exp.From(this=exp.Subquery(this=made))})
        if common is not None:
            made.set(_WITH, common)
        if items:
            made.set("order", exp.Order(expressions=[self._sort_item(item) for item in items]))
        self._set_counts(tree, made)
        return made

    # ── WITH and set operations ──
    def _with(self, tree: _Tree) -> exp.With:
        recursive = token_of(tree, "RECURSIVE")
        if recursive is not None:
            raise self._error(
                "WITH RECURSIVE is not supported", recursive, "a common table can only read those before it"
            )
        tables = trees_of(tree)
        if len(tables) > COMMON_TABLES_MAX:
            raise self._error(f"WITH takes at most {COMMON_TABLES_MAX} tables", tables[COMMON_TABLES_MAX])
        made: dict[str, exp.Expression] = {}
        for table in tables:
            name, *names, query = trees_of(table)
            called = self._name(name)
            if called.name in made:
                raise self._error(f"WITH names {called.name} twice", name)
            cte = exp.CTE(this=self.query(query), alias=self._table_alias(called, names))
            cte.meta["span"] = self.span(name)
            made[called.name] = cte
        return exp.With(expressions=list(made.values()))

    def _rows(self, tree: _Tree) -> exp.Expression:
        """A SELECT, a query in brackets, or a chain of set operations, which goes down to the left without recursion."""
        links: list[_Tree] = []
        while tree.data == "set_operation":
            links.append(tree)
            tree = trees_of(tree)[0]
        if len(links) >= OPERANDS_MAX:
            raise self._error(f"a query combines at most {OPERANDS_MAX} queries", links[0])
        made = self.query(trees_of(tree)[0]) if tree.data == "nested_query" else self._select(tree)
        for link in reversed(links):
            word = next(str(child.type) for child in link.children if isinstance(child, Token))
            right = self._rows(trees_of(link)[1])
            distinct = token_of(link, "UNION_ALL") is None
            made = _SET_OPERATIONS[word](this=made, expression=right, distinct=distinct)
            made.meta["span"] = self.span(link)
        return made

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

    # ── SELECT ──
    def _select(self, tree: _Tree) -> exp.Expression:
        made = exp.Select(expressions=[])
        if token_of(tree, "DISTINCT") is not None:
            made.set("distinct", exp.Distinct())
        word = "SELECT"
        groups: list[exp.Expression] = []
        for child in tree.children:
            if isinstance(child, Token):
                word = child.type
            elif child.data in ("select_all", "select_expression"):
                made.append("expressions", self._item(child))
            elif child.data == "from_clause":
                self._from(child, made)
            elif word == "WHERE":
                made.set("where", exp.Where(this=self.condition(child)))
            elif word == "HAVING":
                made.set("having", exp.Having(this=self.condition(child)))
            else:
                groups.append(self.condition(child))
        if groups:
            made.set("group", exp.Group(expressions=groups))
        made.meta["span"] = self.span(tree)
        return made

    def _item(self, tree: _Tree) -> exp.Expression:
        if tree.data == "select_all":
            star = exp.Star()
            star.meta["span"] = self.span(tree)
            return star
        made = self.condition(trees_of(tree)[0])
        alias = self._alias(tree)
        if alias is None:
            return made
        named = exp.Alias(this=made, alias=alias)
        named.meta["span"] = self.span(tree)
        # A word behind a value without AS may be a topic whose FROM was forgotten.
        named.meta["bare"] = token_of(next(child for child in trees_of(tree) if child.data == "alias"), "AS") is None
        return named

    def _sort_item(self, tree: _Tree) -> exp.Expression:
        value = self.condition(trees_of(tree)[0])
        nulls_first = token_of(tree, "NULLS_FIRST") is not None
        made = exp.Ordered(this=value, desc=token_of(tree, "DESC") is not None, nulls_first=nulls_first)
        if nulls_first or token_of(tree, "NULLS_LAST") is not None:
            made.meta["nulls_given"] = True
        made.meta["span"] = self.span(tree)
        return made

    # ── names ──
    def _name(self, tree: _Tree) -> exp.Identifier:
        made = self.identifier(tree.children[0])
        made.meta["span"] = self.span(tree)
        return made

    def _names(self, tree: _Tree) -> list[exp.Identifier]:
        found: dict[str, exp.Identifier] = {}
        for name in trees_of(tree):
            made = self._name(name)
            if made.name in found:
                raise self._error(f"{made.name} is named twice", name)
            found[made.name] = made
        return list(found.values())

    def _alias(self, tree: _Tree) -> exp.Identifier | None:
        found = next((child for child in trees_of(tree) if child.data == "alias"), None)
        return None if found is None else self._name(trees_of(found)[0])

    def _table_alias(self, name: exp.Identifier, names: Sequence[_Tree]) -> exp.TableAlias:
        return exp.TableAlias(this=name, columns=self._names(names[0]) if names else [])

    # ── FROM ──
    def _from(self, tree: _Tree, made: exp.Select) -> None:
        source, *joins = trees_of(tree)
        if len(joins) >= SOURCES_MAX:
            raise self._error(f"FROM takes at most {SOURCES_MAX} sources", joins[SOURCES_MAX - 1])
        made.set(_FROM, exp.From(this=self._source_node(source)))
        for join in joins:
            made.append("joins", self._join(join))

    def _join(self, tree: _Tree) -> exp.Expression:
        made: exp.Expression
        match tree.data:
            case "join_cross":
                word = "COMMA" if token_of(tree, "CROSS") is None else "CROSS"
                made = exp.Join(this=self._source_node(trees_of(tree)[0]), kind=word)
            case "join_using":
                kind, source, names = trees_of(tree)
                made = exp.Join(this=self._source_node(source), using=self._names(names), side=_SIDES.get(kind.data))
            case _:
                kind, source, condition = trees_of(tree)
                on = self.condition(condition)
                made = exp.Join(this=self._source_node(source), on=on, side=_SIDES.get(kind.data))
        made.meta["span"] = self.span(tree)
        return made

    def _source_node(self, tree: _Tree) -> exp.Expression:
        inner = trees_of(tree)
        made: exp.Expression
        match tree.data:
            case "source_system":
                made = _table(str(tree.children[0]).partition(".")[2].strip(), "SYSTEM")
            case "source_query":
                made = exp.Subquery(this=self.query(inner[0]))
            case "source_unnest":
                made = exp.Unnest(expressions=[self.condition(inner[0])])
            case kind:
                made = _table(self.pattern(inner[0]), "DEAD_LETTERS" if kind == "source_dead_letters" else None)
        alias = self._alias(tree)
        if alias is not None:
            names = [child for child in inner if child.data == "names"]
            made.set("alias", self._table_alias(alias, names))
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

    # ── queries and windows in expressions ──
    def _in_list(self, tree: _Tree) -> exp.Expression:
        subject, items = trees_of(tree)
        only = trees_of(items)
        while len(only) == 1 and only[0].data == "parenthesised":
            only = trees_of(only[0])
        if len(only) == 1 and only[0].data == "scalar_query":
            # IN ((SELECT …)): the brackets that are too many change nothing.
            return self._in(tree, subject, trees_of(only[0])[0])
        return super()._in_list(tree)

    def _in_query(self, tree: _Tree) -> exp.Expression:
        subject, query = trees_of(tree)
        return self._in(tree, subject, query)

    def _in(self, tree: _Tree, subject: _Tree, query: _Tree) -> exp.Expression:
        made = exp.In(this=self.expression(subject), query=self._subquery(query))
        return self._negated(tree, made)

    def _exists_query(self, tree: _Tree) -> exp.Expression:
        return exp.Exists(this=self._subquery(trees_of(tree)[0]))

    def _scalar_query(self, tree: _Tree) -> exp.Expression:
        return self._subquery(trees_of(tree)[0])

    def _subquery(self, tree: _Tree) -> exp.Subquery:
        made = exp.Subquery(this=self.query(tree))
        made.meta["span"] = self.span(tree)
        return made

    def _call(self, tree: _Tree) -> exp.Expression:
        name = str(tree.children[0]).upper()
        if name in WINDOW_FUNCTIONS:
            raise self._error(f"{name} needs a window", tree, f"write {name}(…) OVER (ORDER BY …)")
        return super()._call(tree)

    def _over(self, tree: _Tree) -> exp.Expression:
        call, window = trees_of(tree)
        keys = [self.expression(trees_of(part)[0]) for part in trees_of(window) if part.data == "window_key"]
        order = [self._sort_item(part) for part in trees_of(window) if part.data == "sort_item"]
        made = exp.Window(this=self._windowed(call), partition_by=keys)
        if order:
            made.set("order", exp.Order(expressions=order))
        return made

    def _windowed(self, call: _Tree) -> exp.Expression:
        name = str(call.children[0]).upper()
        function = WINDOW_FUNCTIONS.get(name)
        if function is None or call.data != "call":
            made = self.expression(call)
            if not isinstance(made, exp.AggFunc):
                known = ", ".join(WINDOW_FUNCTIONS)
                raise self._error(f"{name} takes no OVER", call, f"OVER follows an aggregate, or {known}")
            return made
        arguments = [self.expression(child) for child in trees_of(call)]
        if not function.least <= len(arguments) <= function.most:
            wanted = "no arguments" if function.most == 0 else f"{function.least} to {function.most} arguments"
            raise self._error(f"{name} takes {wanted}, not {len(arguments)}", call)
        made = exp.Anonymous(this=name, expressions=arguments)
        made.meta["span"] = self.span(call)
        return made


def _table(name: str, database: str | None) -> exp.Table:
    db = exp.Identifier(this=database, quoted=False) if database else None
    return exp.Table(this=exp.Identifier(this=name, quoted=False), db=db)
