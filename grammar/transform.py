"""Statements: from the parser's tree to the records of `ast`. Conditions and queries are left to `expressions`."""

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lark import Token, Tree

from geode_client.grammar import ast
from geode_client.grammar.errors import GqlError, GqlSyntaxError, did_you_mean
from geode_client.grammar.names import validate_topic_name, validate_topic_pattern
from geode_client.grammar.source import Source, Span, exact_number_of
from geode_client.grammar.trees import token_of, trees_of
from geode_client.grammar.types import DECIMAL_DIGITS_MAX, SIZED, TYPE_NAMES, USUAL_NAMES, scalar_named

if TYPE_CHECKING:
    from sqlglot import exp

    from geode_client.grammar.queries import QueryBuilder

_Tree = Tree[Token]
TYPE_NESTING_MAX = 32


def unquoted(text: str) -> str:
    """The text inside quotes of any kind, doubled quotes made single."""
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote)


class Transformer:
    """Makes the record of one statement. `base` is where it begins in `source`; `values` are its JSON values by place."""

    def __init__(self, source: Source, base: int, values: dict[int, Any]) -> None:
        self._source = source
        self._base = base
        self._values = values
        self._expressions: QueryBuilder | None = None

    def statement(self, tree: _Tree) -> ast.Statement:
        """The record for the rule `statement`."""
        inner = trees_of(tree)[0]
        made: ast.Statement = getattr(self, f"_{inner.data}")(inner)
        return made

    def condition(self, tree: _Tree) -> "exp.Expression":
        return self._builder.filter(trees_of(tree)[0])

    @property
    def _builder(self) -> "QueryBuilder":
        if self._expressions is None:
            from geode_client.grammar.queries import QueryBuilder

            self._expressions = QueryBuilder(self._source, self._base)
        return self._expressions

    def _span(self, tree: _Tree | Token) -> Span:
        if isinstance(tree, Token):
            return Span(self._base + (tree.start_pos or 0), self._base + (tree.end_pos or 0))
        meta = tree.meta
        return Span(self._base + getattr(meta, "start_pos", 0), self._base + getattr(meta, "end_pos", 0))

    def _error(self, message: str, tree: _Tree | Token, hint: str | None = None) -> GqlSyntaxError:
        return GqlSyntaxError(message, span=self._span(tree), source=self._source, hint=hint)

    # ── small parts ──
    def _text(self, node: _Tree | Token) -> str:
        """A name or text, whichever way it is quoted."""
        while isinstance(node, Tree):
            node = node.children[0]
        return unquoted(node) if node.type in ("STRING", "QUOTED_NAME", "BACKQUOTED_NAME") else str(node)

    def _topic(self, tree: _Tree) -> str:
        """The name of one topic."""
        return self._checked(_child(tree, "topic"), validate_topic_name)

    def _pattern(self, tree: _Tree) -> str:
        return self._checked(_child(tree, "topic"), validate_topic_pattern)

    def _checked(self, node: _Tree, validate: Any) -> str:
        try:
            return str(validate(self._text(node)))
        except GqlError as error:
            hint = "a pattern cannot stand here" if "*" in self._text(node) else error.hint
            raise self._error(error.message, node, hint) from error

    def _number(self, token: Token | str, sign: str | None = None) -> int | float | Decimal:
        value = exact_number_of((sign or "").replace("+", "") + str(token))
        if value is None:
            raise self._error("this number is too large", token)  # type: ignore[arg-type]
        return value

    def _whole(self, tree: _Tree) -> int:
        token = token_of(tree, "NUMBER")
        assert token is not None
        if not token.isdigit() or len(token) > 18:
            raise self._error("a whole number is needed here", token)
        return int(token)

    def _scalar(self, tree: _Tree) -> Any:
        """A literal value, or a ParameterReference."""
        last = tree.children[-1] if tree.children else None
        match tree.data:
            case "scalar_string" | "option_string":
                return unquoted(str(last))
            case "scalar_number" | "option_number":
                sign = token_of(tree, "SIGN")
                return self._number(last, str(sign) if sign else None)  # type: ignore[arg-type]
            case "json_true" | "json_false":
                return tree.data == "json_true"
            case "json_null":
                return None
            case "option_types":
                return ast.StructType(tuple(self._struct_field(child, 0) for child in trees_of(tree)))
            case "parameter_value":
                assert isinstance(last, Token)
                return ast.ParameterReference(str(last)[1:], self._span(last))
            case _:
                return str(last)

    def _options(self, tree: _Tree) -> tuple[ast.OptionEntry, ...]:
        return tuple(self._option(child) for child in trees_of(tree))

    def _option(self, tree: _Tree) -> ast.OptionEntry:
        name, value = trees_of(tree)
        return ast.OptionEntry(self._text(name), self._scalar(value), self._span(name), self._span(value))

    def _column(self, tree: _Tree) -> ast.ColumnDefinition:
        name = tree.children[0]
        kind, *rules = [child for child in trees_of(tree) if child.data != "quoted"]
        not_null, default = False, None
        for rule in rules:
            if rule.data == "rule_not_null":
                not_null = self._once(not_null, True, rule, "NOT NULL")
            else:
                value = ast.DefaultValue(self._scalar(trees_of(rule)[0]))
                default = self._once(default, value, rule, "DEFAULT")
        return ast.ColumnDefinition(self._text(name), self._type(kind, 0), not_null, default, self._span(tree))

    def _once(self, before: Any, value: Any, tree: _Tree, what: str) -> Any:
        if before:
            raise self._error(f"{what} is given twice", tree)
        return value

    def _type(self, tree: _Tree, depth: int) -> ast.TypeNode:
        if depth > TYPE_NESTING_MAX:
            raise self._error(f"types are nested more than {TYPE_NESTING_MAX} deep", tree)
        match tree.data:
            case "type_list":
                return ast.ListType(self._type(trees_of(tree)[0], depth + 1))
            case "type_map":
                key = token_of(tree, "NAME")
                assert key is not None
                if key.upper() != "STRING":
                    raise self._error("the keys of a MAP are STRING", key, "write MAP<STRING, …>")
                return ast.MapType(self._type(trees_of(tree)[0], depth + 1))
            case "type_struct":
                return ast.StructType(tuple(self._struct_field(child, depth) for child in trees_of(tree)))
            case "type_array":
                return ast.ListType(self._type(trees_of(tree)[0], depth + 1))
            case _:
                return ast.Scalar(self._scalar_type(tree))

    def _scalar_type(self, tree: _Tree) -> str:
        """Our name of a type by any of its names, which may have digits behind them."""
        words = [child for child in tree.children if isinstance(child, Token) and child.type in ("NAME", "FUNCTION")]
        name = " ".join(words)
        found = scalar_named(name)
        if found is None:
            known = (*TYPE_NAMES, "LIST", "MAP", "STRUCT")
            hint = did_you_mean(name, (*known, *USUAL_NAMES)) or f"known are {', '.join(known)}"
            raise self._error(f"unknown type {name}", words[0], hint)
        self._check_sizes(tree, found)
        return found

    def _check_sizes(self, tree: _Tree, name: str) -> None:
        sizes = [child for child in tree.children if isinstance(child, Token) and child.type == "NUMBER"]
        if not sizes:
            return
        if name not in SIZED or (len(sizes) == 2 and name != "DECIMAL"):
            raise self._error(f"{name} takes no numbers in brackets", sizes[0])
        if any(not size.isdigit() or len(size) > 9 for size in sizes):
            raise self._error("whole numbers are needed here", sizes[0])
        if name == "DECIMAL" and not (
            0 < int(sizes[0]) <= DECIMAL_DIGITS_MAX and (len(sizes) == 1 or int(sizes[1]) <= int(sizes[0]))
        ):
            hint = "DECIMAL(p, s): p digits in all, s of them after the point"
            raise self._error(
                f"a DECIMAL has 1 to {DECIMAL_DIGITS_MAX} digits, and no more after the point", sizes[0], hint
            )

    def _struct_field(self, tree: _Tree, depth: int) -> ast.StructField:
        return ast.StructField(self._text(tree.children[0]), self._type(trees_of(tree)[-1], depth + 1))

    def _where(self, children: Iterable[_Tree]) -> "exp.Expression | None":
        """The condition among the children of a statement, if it has one."""
        for child in children:
            if child.data not in _NO_CONDITION and not child.data.startswith(("clause_", "start_")):
                return self._builder.filter(child)
        return None

    # ── topics ──
    def _create_topic(self, tree: _Tree) -> ast.CreateTopic:
        found: dict[str, Any] = {}
        for clause in trees_of(tree)[1:]:
            kind = clause.data.removeprefix("clause_")
            inner = trees_of(clause)[0]
            if kind in found:
                raise self._error(f"{kind.upper()} is given twice", clause)
            match kind:
                case "options":
                    found[kind] = self._options(inner)
                case "schema":
                    found[kind] = tuple(self._column(column) for column in trees_of(inner))
                case _:
                    found[kind] = self._delivery(inner)
        return ast.CreateTopic(
            self._topic(tree),
            token_of(tree, "IF_NOT_EXISTS") is not None,
            found.get("options", ()),
            found.get("schema"),
            found.get("delivery"),
            self._span(_child(tree, "topic")),
            self._span(tree),
        )

    def _delivery(self, tree: _Tree) -> str:
        return str(tree.children[0]).lower()

    def _alter_topic_options(self, tree: _Tree) -> ast.AlterTopicOptions:
        return ast.AlterTopicOptions(self._topic(tree), self._options(_child(tree, "options")), self._span(tree))

    def _alter_topic_delivery(self, tree: _Tree) -> ast.AlterTopicDelivery:
        return ast.AlterTopicDelivery(self._topic(tree), self._delivery(_child(tree, "delivery")), self._span(tree))

    def _alter_topic_rename(self, tree: _Tree) -> ast.AlterTopicRename:
        name, new_name = [self._checked(child, validate_topic_name) for child in trees_of(tree)]
        return ast.AlterTopicRename(name, new_name, self._span(tree))

    def _alter_topic_add_column(self, tree: _Tree) -> ast.AlterTopicAddColumn:
        return ast.AlterTopicAddColumn(self._topic(tree), self._column(_child(tree, "column")), self._span(tree))

    def _drop_topic(self, tree: _Tree) -> ast.DropTopic:
        return ast.DropTopic(self._topic(tree), token_of(tree, "IF_EXISTS") is not None, self._span(tree))

    def _purge_topic(self, tree: _Tree) -> ast.PurgeTopic:
        return ast.PurgeTopic(self._topic(tree), self._span(tree))

    # ── publishing ──
    def _publish(self, tree: _Tree) -> ast.Publish:
        messages: list[Any] = []
        options: tuple[ast.OptionEntry, ...] = ()
        for child in trees_of(tree)[1:]:
            if child.data == "json_message":
                messages.append(self._values[child.children[0].start_pos])  # type: ignore[index,union-attr]
            elif child.data == "parameter_value":
                messages.append(self._scalar(child))
            else:
                options = self._options(child)
        return ast.Publish(self._topic(tree), tuple(messages), options, self._span(tree))

    def _insert(self, tree: _Tree) -> ast.Insert:
        columns = self._insert_columns(tree)
        rows: list[tuple[Any, ...]] = []
        for row in trees_of(tree):
            if row.data != "insert_row":
                continue
            values = tuple(self._scalar(value) for value in trees_of(row))
            if len(values) != len(columns):
                raise self._error(f"{len(columns)} columns are named, but this row has {len(values)} values", row)
            rows.append(values)
        return ast.Insert(self._topic(tree), columns, tuple(rows), self._span(tree))

    def _insert_columns(self, tree: _Tree) -> tuple[str, ...]:
        columns: dict[str, None] = {}
        for child in trees_of(tree):
            if child.data == "insert_column":
                name = self._text(child)
                if name in columns:
                    raise self._error(f"column {name} is named twice", child)
                columns[name] = None
        return tuple(columns)

    def _insert_query(self, tree: _Tree) -> ast.InsertQuery:
        columns = self._insert_columns(tree)
        query = self._builder.query(_child(tree, "query"))
        return ast.InsertQuery(self._topic(tree), columns or None, query, self._span(tree))

    # ── subscribing ──
    def _clauses(self, children: list[_Tree]) -> dict[str, Any]:
        """What the clauses of a subscription say, each at most once."""
        found: dict[str, Any] = {}
        for clause in children:
            if clause.data.startswith("clause_"):
                for name, value in self._subscribe_clause(clause):
                    if name in found:
                        raise self._error(f"{_CLAUSE_WORDS[name]} is given twice", clause)
                    found[name] = value
        return found

    def _subscribe(self, tree: _Tree) -> ast.Subscribe:
        children = trees_of(tree)
        return ast.Subscribe(
            self._pattern(tree),
            self._where(children),
            **self._clauses(children),
            pattern_span=self._span(_child(tree, "topic")),
            span=self._span(tree),
        )

    def _subscribe_clause(self, clause: _Tree) -> list[tuple[str, Any]]:
        match clause.data.removeprefix("clause_"):
            case "group":
                words = [self._text(word) for word in trees_of(clause)]
                return list(zip(("group", "consumer"), words, strict=False))
            case "from":
                return [("start", self._start(trees_of(clause)[0]))]
            case "order_priority":
                return [("order", "priority")]
            case "order_none":
                return [("order", "none")]
            case "order_key":
                return [("order", "key")]
            case "ack_manual":
                return [("ack", "manual")]
            case "ack_auto":
                return [("ack", "auto")]
            case "follow":
                return [("follow", True)]
            case "no_follow":
                return [("follow", False)]
            case "limit" | "partition" as name:
                return [(name, self._whole(clause))]
            case name:
                return [(name, self._string(clause))]

    def _string(self, tree: _Tree) -> str:
        token = token_of(tree, "STRING")
        assert token is not None
        return unquoted(token)

    def _start(self, tree: _Tree) -> ast.Start:
        match tree.data:
            case "start_beginning":
                return ast.StartBeginning()
            case "start_end":
                return ast.StartEnd()
            case "start_offset":
                return ast.StartOffset(self._whole(tree))
            case "start_timestamp":
                return ast.StartTimestamp(self._string(tree))
            case _:
                return ast.StartInterval(self._string(tree))

    def _optional_start(self, tree: _Tree) -> ast.Start | None:
        found = next((child for child in trees_of(tree) if child.data.startswith("start_")), None)
        return None if found is None else self._start(found)

    def _group(self, tree: _Tree) -> str:
        return self._text(_child(tree, "word"))

    def _optional_topic(self, tree: _Tree) -> str | None:
        return self._pattern(tree) if any(child.data == "topic" for child in trees_of(tree)) else None

    def _create_subscription(self, tree: _Tree) -> ast.CreateSubscription:
        children = trees_of(tree)
        return ast.CreateSubscription(
            self._group(tree),
            self._pattern(tree),
            self._where(children),
            **self._clauses(children),
            span=self._span(tree),
        )

    def _alter_subscription_set(self, tree: _Tree) -> ast.AlterSubscriptionSet:
        children = trees_of(tree)
        return ast.AlterSubscriptionSet(
            self._group(tree),
            self._pattern(tree),
            self._where(children),
            **self._clauses(children),
            span=self._span(tree),
        )

    def _alter_subscription_seek(self, tree: _Tree) -> ast.AlterSubscriptionSeek:
        target = self._optional_start(tree)
        assert target is not None
        return ast.AlterSubscriptionSeek(self._group(tree), self._pattern(tree), target, self._span(tree))

    def _pause(self, tree: _Tree) -> ast.PauseSubscription:
        return ast.PauseSubscription(self._group(tree), self._optional_topic(tree), self._span(tree))

    def _resume(self, tree: _Tree) -> ast.ResumeSubscription:
        return ast.ResumeSubscription(self._group(tree), self._optional_topic(tree), self._span(tree))

    def _drop_subscription(self, tree: _Tree) -> ast.DropSubscription:
        exists = token_of(tree, "IF_EXISTS") is not None
        return ast.DropSubscription(self._group(tree), self._optional_topic(tree), exists, self._span(tree))

    # ── queries and looking ──
    def _select_statement(self, tree: _Tree) -> ast.Select:
        return ast.Select(self._builder.query(trees_of(tree)[0]), self._span(tree))

    def _show_topics(self, tree: _Tree) -> ast.Show:
        return self._shown(tree, "topics")

    def _show_subscriptions(self, tree: _Tree) -> ast.Show:
        return self._shown(tree, "subscriptions")

    def _show_subscribers(self, tree: _Tree) -> ast.Show:
        return self._shown(tree, "subscribers")

    def _show_regions(self, tree: _Tree) -> ast.Show:
        return self._shown(tree, "regions")

    def _shown(self, tree: _Tree, kind: str) -> ast.Show:
        like = token_of(tree, "STRING")
        return ast.Show(kind, None if like is None else unquoted(like), self._span(tree))

    def _describe(self, tree: _Tree) -> ast.DescribeTopic:
        return ast.DescribeTopic(self._topic(tree), self._span(tree))

    def _show_create(self, tree: _Tree) -> ast.ShowCreateTopic:
        return ast.ShowCreateTopic(self._topic(tree), self._span(tree))

    def _explain(self, tree: _Tree) -> ast.Explain:
        inner = trees_of(tree)[0]
        if trees_of(inner)[0].data == "explain":
            raise self._error("EXPLAIN cannot explain an EXPLAIN", inner)
        return ast.Explain(self.statement(inner), token_of(tree, "ANALYZE") is not None, self._span(tree))

    def _test_filter(self, tree: _Tree) -> ast.TestFilter:
        condition = token_of(tree, "STRING")
        assert condition is not None
        limit = self._whole(tree) if token_of(tree, "NUMBER") else None
        return ast.TestFilter(unquoted(condition), self._topic(tree), limit, self._span(condition), self._span(tree))

    def _replay(self, tree: _Tree) -> ast.ReplayDeadLetters:
        topics = [child for child in trees_of(tree) if child.data == "topic"]
        target = self._checked(topics[1], validate_topic_name) if len(topics) > 1 else None
        to_all = token_of(tree, "EVERYBODY") is not None
        return ast.ReplayDeadLetters(self._topic(tree), self._where(trees_of(tree)), target, to_all, self._span(tree))

    def _delete_letters(self, tree: _Tree) -> ast.DeleteDeadLetters:
        return ast.DeleteDeadLetters(self._topic(tree), self._where(trees_of(tree)), self._span(tree))

    def _begin(self, tree: _Tree) -> ast.Begin:
        return ast.Begin(self._span(tree))

    def _commit(self, tree: _Tree) -> ast.Commit:
        return ast.Commit(self._span(tree))

    def _rollback(self, tree: _Tree) -> ast.Rollback:
        return ast.Rollback(self._span(tree))

    def _copy_to(self, tree: _Tree) -> ast.CopyTo:
        return ast.CopyTo(self._topic(tree), self._string(tree), self._with_options(tree), self._span(tree))

    def _copy_query(self, tree: _Tree) -> ast.CopyQuery:
        return ast.CopyQuery(
            self._builder.query(_child(tree, "query")), self._string(tree), self._with_options(tree), self._span(tree)
        )

    def _copy_from(self, tree: _Tree) -> ast.CopyFrom:
        return ast.CopyFrom(self._topic(tree), self._string(tree), self._with_options(tree), self._span(tree))

    def _copy_between(self, tree: _Tree) -> ast.CopyBetween:
        first, second = [self._checked(child, validate_topic_name) for child in trees_of(tree) if child.data == "topic"]
        source, target = (first, second) if token_of(tree, "TO") is not None else (second, first)
        return ast.CopyBetween(source, target, self._with_options(tree), self._span(tree))

    def _with_options(self, tree: _Tree) -> tuple[ast.OptionEntry, ...]:
        found = [child for child in trees_of(tree) if child.data == "options"]
        return self._options(found[0]) if found else ()

    def _assert_statement(self, tree: _Tree) -> ast.Assert:
        query, value = trees_of(tree)
        operator = token_of(tree, "COMPARISON")
        within = token_of(tree, "STRING")
        return ast.Assert(
            self._builder.query(query),
            "<>" if operator == "!=" else str(operator),
            self._scalar(value),
            None if within is None else unquoted(within),
            self._span(tree),
        )


_NO_CONDITION = frozenset(("topic", "word", "options"))
_CLAUSE_WORDS = {
    "group": "GROUP",
    "consumer": "CONSUMER",
    "start": "FROM",
    "order": "ORDER BY",
    "partition": "PARTITION",
    "key": "KEY",
    "region": "REGION",
    "ack": "ACK",
    "follow": "FOLLOW",
    "limit": "LIMIT",
    "timeout": "TIMEOUT",
}


def _child(tree: _Tree, data: str) -> _Tree:
    return next(child for child in trees_of(tree) if child.data == data)
