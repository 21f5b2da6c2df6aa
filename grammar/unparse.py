"""The canonical text of statements and expressions: parsing it again gives the same record."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from geode_client.grammar import ast
from geode_client.grammar.ast import ParameterReference

if TYPE_CHECKING:
    from sqlglot import exp

_PLAIN_TOPIC = re.compile(r"(?:\w+(?:[-.]\w+)*|\*\*?)(?:/(?:\w+(?:[-.]\w+)*|\*\*?))*")
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")
_KEYWORDS = frozenset(
    "AND AS ASC BETWEEN CASE CAST DATE DEFAULT DESC DISTINCT ELSE END ESCAPE EXISTS FALSE FROM GROUP HAVING ILIKE IN"
    " INNER INTERVAL IS JOIN LEFT LIKE LIMIT NOT NULL NULLS OFFSET ON OR ORDER SELECT THEN TIMESTAMP TRUE TRY_CAST"
    " UNION UNKNOWN WHEN WHERE WITH IF SYSTEM DEAD LIST MAP STRUCT CONSUMER OUTER".split()
)


def unparse(statement: ast.Statement) -> str:
    """Canonical text of a statement, without its `;`."""
    match statement:
        case ast.CreateTopic():
            return create_topic(statement)
        case ast.AlterTopicOptions(name, options):
            return f"ALTER TOPIC {topic(name)} SET OPTIONS {_options(options)}"
        case ast.AlterTopicDelivery(name, delivery):
            return f"ALTER TOPIC {topic(name)} SET DELIVERY {delivery}"
        case ast.AlterTopicAddColumn(name, added):
            return f"ALTER TOPIC {topic(name)} ADD COLUMN {column(added)}"
        case ast.DropTopic(name, if_exists):
            return f"DROP TOPIC {'IF EXISTS ' * if_exists}{topic(name)}"
        case ast.PurgeTopic(name):
            return f"PURGE TOPIC {topic(name)}"
        case ast.Publish(name, messages, options):
            bodies = ", ".join(json_text(message) for message in messages)
            return f"PUBLISH TO {topic(name)} {bodies}" + (f" WITH OPTIONS {_options(options)}" if options else "")
        case ast.Insert(name, columns, rows):
            values = ", ".join("(" + ", ".join(literal(value) for value in row) + ")" for row in rows)
            return f"INSERT INTO {topic(name)} ({', '.join(identifier(c) for c in columns)}) VALUES {values}"
        case ast.Subscribe():
            return _subscribe(statement)
        case ast.CreateSubscription(group, pattern, where, first, order):
            tail = _where(where) + (f" FROM {start(first)}" if first else "") + _order(order)
            return f"CREATE SUBSCRIPTION {identifier(group)} ON {topic(pattern)}{tail}"
        case ast.AlterSubscriptionSeek(group, name, target):
            return f"ALTER SUBSCRIPTION {identifier(group)} ON {topic(name)} SEEK TO {start(target)}"
        case ast.AlterSubscriptionSet(group, name, where, order):
            return f"ALTER SUBSCRIPTION {identifier(group)} ON {topic(name)} SET{_where(where)}{_order(order)}"
        case ast.PauseSubscription(group, name):
            return f"PAUSE SUBSCRIPTION {identifier(group)}{_on(name)}"
        case ast.ResumeSubscription(group, name):
            return f"RESUME SUBSCRIPTION {identifier(group)}{_on(name)}"
        case ast.DropSubscription(group, name, if_exists):
            return f"DROP SUBSCRIPTION {'IF EXISTS ' * if_exists}{identifier(group)}{_on(name)}"
        case ast.Select(query):
            return unparse_expression(query)
        case ast.Show(kind, like):
            return f"SHOW {kind.upper()}" + (f" LIKE {quoted(like)}" if like is not None else "")
        case ast.DescribeTopic(name):
            return f"DESCRIBE TOPIC {topic(name)}"
        case ast.ShowCreateTopic(name):
            return f"SHOW CREATE TOPIC {topic(name)}"
        case ast.Explain(inner, analyze):
            return f"EXPLAIN {'ANALYZE ' * analyze}{unparse(inner)}"
        case ast.TestFilter(condition, name, limit):
            return f"TEST FILTER {quoted(condition)} ON {topic(name)}" + _tail("LIMIT", limit)
        case ast.ReplayDeadLetters(name, where, target, to_all):
            to = " TO ALL" if to_all else f" TO {_target(target)}" if target else ""
            return f"REPLAY DEAD LETTERS OF {topic(name)}{_where(where)}{to}"
        case ast.DeleteDeadLetters(name, where):
            return f"DELETE DEAD LETTERS OF {topic(name)}{_where(where)}"
        case ast.Begin() | ast.Commit() | ast.Rollback():
            return type(statement).__name__.upper()
        case ast.CopyTo(name, path):
            return f"COPY {topic(name)} TO {quoted(path)}"
        case ast.CopyFrom(name, path, options):
            return f"COPY {topic(name)} FROM {quoted(path)}" + (f" WITH OPTIONS {_options(options)}" if options else "")
        case ast.Assert(query, operator, value, within):
            tail = f" WITHIN {quoted(within)}" if within is not None else ""
            return f"ASSERT ({unparse_expression(query)}) {operator} {literal(value)}{tail}"
        case _:
            assert_never(statement)


def create_topic(statement: ast.CreateTopic) -> str:
    """CREATE TOPIC over several lines, as SHOW CREATE TOPIC shows it."""
    lines = [f"CREATE TOPIC {'IF NOT EXISTS ' * statement.if_not_exists}{topic(statement.name)}"]
    if statement.columns is not None:
        columns = ",\n".join(f"    {column(found)}" for found in statement.columns)
        lines.append(f"SCHEMA (\n{columns}\n)")
    if statement.options:
        entries = ",\n".join(f"    {_option(found)}" for found in statement.options)
        lines.append(f"WITH OPTIONS (\n{entries}\n)")
    if statement.delivery is not None:
        lines.append(f"WITH DELIVERY {statement.delivery}")
    return "\n".join(lines)


# ── small parts ──
def topic(name: str) -> str:
    """A topic or pattern, quoted where it must be."""
    plain = _PLAIN_TOPIC.fullmatch(name) and name.upper() not in _KEYWORDS
    return name if plain else '"' + name.replace('"', '""') + '"'


def _order(order: str | None) -> str:
    return f" ORDER BY {order.upper()}" if order else ""


def _target(name: str) -> str:
    """The topic that dead letters are replayed to; a bare ALL means everybody."""
    return f'"{name}"' if name.upper() == "ALL" else topic(name)


def identifier(name: str, *, quote: bool = False) -> str:
    """A name, quoted where it must be or was."""
    if not quote and _PLAIN_NAME.fullmatch(name) and name.upper() not in _KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def literal(value: Any) -> str:
    """A value of SQL: text in single quotes."""
    match value:
        case ParameterReference(name):
            return f"${name}"
        case ast.RawText(text):
            return text
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case str():
            return quoted(value)
        case float():
            return _float(value)
        case int() | Decimal():
            return str(value)
        case _:
            return json_text(value)


def _float(value: float) -> str:
    text = repr(value)
    return text if "." in text or "e" in text else f"{text}.0"


def json_text(value: Any) -> str:
    """JSON with `$name` where a parameter stands."""
    match value:
        case ParameterReference(name):
            return f"${name}"
        case dict():
            return "{" + ", ".join(f"{json_text(str(name))}: {json_text(item)}" for name, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(json_text(item) for item in value) + "]"
        case float():
            return _float(value)
        case _:
            return msgspec.json.encode(value).decode()


def _options(options: tuple[ast.OptionEntry, ...]) -> str:
    return "(" + ", ".join(_option(entry) for entry in options) + ")"


def _option(entry: ast.OptionEntry) -> str:
    value = literal(entry.value)
    return f"{identifier(entry.name)}: {value.lower() if value in ('TRUE', 'FALSE', 'NULL') else value}"


def column(found: ast.ColumnDefinition) -> str:
    default = "" if found.default is None else f" DEFAULT {literal(found.default.value)}"
    return f"{identifier(found.name)} {type_text(found.type)}{' NOT NULL' * found.not_null}{default}"


def type_text(node: ast.TypeNode) -> str:
    """A type as it is written."""
    match node:
        case ast.Scalar(name):
            return name
        case ast.ListType(element):
            return f"LIST<{type_text(element)}>"
        case ast.MapType(value):
            return f"MAP<STRING, {type_text(value)}>"
        case ast.StructType(fields):
            return "STRUCT<" + ", ".join(f"{identifier(field.name)}: {type_text(field.type)}" for field in fields) + ">"
        case _:
            assert_never(node)


def _tail(word: str, value: int | None) -> str:
    return "" if value is None else f" {word} {value}"


def _on(name: str | None) -> str:
    return "" if name is None else f" ON {topic(name)}"


def _where(where: "exp.Expression | None") -> str:
    return "" if where is None else f" WHERE {unparse_expression(where)}"


def start(start: ast.Start) -> str:
    match start:
        case ast.StartBeginning():
            return "BEGINNING"
        case ast.StartEnd():
            return "END"
        case ast.StartOffset(offset):
            return f"OFFSET {offset}"
        case ast.StartTimestamp(text):
            return f"TIMESTAMP {quoted(text)}"
        case ast.StartInterval(text):
            return f"INTERVAL {quoted(text)}"
        case _:
            assert_never(start)


def _subscribe(statement: ast.Subscribe) -> str:
    parts = [f"SUBSCRIBE TO {topic(statement.pattern)}{_where(statement.where)}"]
    if statement.group is not None:
        consumer = f" CONSUMER {identifier(statement.consumer)}" if statement.consumer is not None else ""
        parts.append(f"GROUP {identifier(statement.group)}{consumer}")
    if statement.start is not None:
        parts.append(f"FROM {start(statement.start)}")
    if statement.order is not None:
        parts.append(f"ORDER BY {statement.order.upper()}")
    if statement.partition is not None:
        parts.append(f"PARTITION {statement.partition}")
    for word, text in (("KEY", statement.key), ("REGION", statement.region)):
        if text is not None:
            parts.append(f"{word} {quoted(text)}")
    if statement.ack is not None:
        parts.append(f"ACK {statement.ack.upper()}")
    if statement.follow is not None:
        parts.append("FOLLOW" if statement.follow else "NO FOLLOW")
    if statement.limit is not None:
        parts.append(f"LIMIT {statement.limit}")
    if statement.timeout is not None:
        parts.append(f"TIMEOUT {quoted(statement.timeout)}")
    return " ".join(parts)


# ── expressions ──
def unparse_expression(node: "exp.Expression") -> str:
    """Canonical text of a condition, expression or query."""
    from sqlglot import exp

    chain = _CHAIN_WORDS.get(type(node).__name__)
    if chain is not None:
        return _chain(node)
    writer = _WRITERS.get(type(node).__name__)
    if writer is not None:
        return writer(node)
    if isinstance(node, exp.AggFunc):
        return f"{type(node).__name__.upper()}({unparse_expression(node.this)})"
    raise TypeError(f"no text for {type(node).__name__}")


_CHAIN_WORDS = {
    "And": "AND",
    "Or": "OR",
    "Add": "+",
    "Sub": "-",
    "Mul": "*",
    "Div": "/",
    "Mod": "%",
    "DPipe": "||",
    "EQ": "=",
    "NEQ": "<>",
    "LT": "<",
    "LTE": "<=",
    "GT": ">",
    "GTE": ">=",
}


def _chain(node: Any) -> str:
    """Left-deep chains are written without recursion to the left."""
    parts: list[str] = []
    while type(node).__name__ in _CHAIN_WORDS:
        parts.append(f"{_CHAIN_WORDS[type(node).__name__]} {unparse_expression(node.expression)}")
        node = node.this
    return " ".join([unparse_expression(node), *reversed(parts)])


def _list(nodes: Any) -> str:
    return ", ".join(unparse_expression(node) for node in nodes)


def _literal(node: Any) -> str:
    return quoted(str(node.this)) if node.is_string else str(node.this)


def _identifier(node: Any) -> str:
    if node.name.startswith("#") and not node.args.get("quoted"):
        return f"_{node.name[1:]}"  # a virtual column that only dead letters have
    return identifier(node.name, quote=bool(node.args.get("quoted")))


def _bracket(node: Any) -> str:
    return f"{unparse_expression(node.this)}[{unparse_expression(node.expressions[0])}]"


def _not(node: Any) -> str:
    inner = node.this
    negated = {"In": " IN ", "Between": " BETWEEN ", "Like": " LIKE ", "ILike": " ILIKE ", "Is": " IS "}
    name = type(inner.this).__name__ if type(inner).__name__ == "Escape" else type(inner).__name__
    if name not in negated:
        return f"NOT {unparse_expression(inner)}"
    subject = inner.this.this if type(inner).__name__ == "Escape" else inner.this
    head = unparse_expression(subject)
    tail = unparse_expression(inner)[len(head) :]
    return head + (f" IS NOT{tail.removeprefix(' IS')}" if name == "Is" else f" NOT{tail}")


def _in(node: Any) -> str:
    query = node.args.get("query")
    inside = unparse_expression(query.this) if query is not None else _list(node.expressions)
    return f"{unparse_expression(node.this)} IN ({inside})"


def _between(node: Any) -> str:
    low, high = unparse_expression(node.args["low"]), unparse_expression(node.args["high"])
    return f"{unparse_expression(node.this)} BETWEEN {low} AND {high}"


def _case(node: Any) -> str:
    operand = f" {unparse_expression(node.this)}" if node.args.get("this") is not None else ""
    branches = "".join(
        f" WHEN {unparse_expression(branch.this)} THEN {unparse_expression(branch.args['true'])}"
        for branch in node.args["ifs"]
    )
    default = node.args.get("default")
    return f"CASE{operand}{branches}{f' ELSE {unparse_expression(default)}' if default is not None else ''} END"


_TYPE_WORDS = {
    "TEXT": "STRING",
    "BIGINT": "INT",
    "DOUBLE": "FLOAT",
    "BOOLEAN": "BOOL",
    "TIMESTAMPTZ": "TIMESTAMP",
    "VARBINARY": "BYTES",
}


def _cast(node: Any) -> str:
    kind = node.args["to"].this.name
    word = "TRY_CAST" if type(node).__name__ == "TryCast" else "CAST"
    return f"{word}({unparse_expression(node.this)} AS {_TYPE_WORDS.get(kind, kind)})"


def _select(node: Any) -> str:
    distinct = "DISTINCT " if node.args.get("distinct") is not None else ""
    parts = [f"SELECT {distinct}{_list(node.expressions)}"]
    source = node.args.get("from_") or node.args.get("from")
    if source is not None:
        parts.append(f"FROM {unparse_expression(source.this)}")
    parts += [_join(join) for join in node.args.get("joins") or ()]
    for name, word in (("where", "WHERE"), ("group", "GROUP BY"), ("having", "HAVING")):
        found = node.args.get(name)
        if found is not None:
            parts.append(f"{word} {_list(found.expressions) if name == 'group' else unparse_expression(found.this)}")
    return " ".join(parts) + _ending(node)


def _join(node: Any) -> str:
    left = "LEFT " if node.args.get("side") == "LEFT" else ""
    return f"{left}JOIN {unparse_expression(node.this)} ON {unparse_expression(node.args['on'])}"


def _ending(node: Any) -> str:
    parts = [""]
    order = node.args.get("order")
    if order is not None:
        parts.append(f"ORDER BY {_list(order.expressions)}")
    for name in ("limit", "offset"):
        found = node.args.get(name)
        if found is not None:
            parts.append(f"{name.upper()} {unparse_expression(found.expression)}")
    return " ".join(parts)


def _union(node: Any) -> str:
    def side(operand: Any, *, last: bool) -> str:
        nested = any(operand.args.get(name) for name in ("order", "limit", "offset"))
        nested = nested or (last and type(operand).__name__ == "Union")
        text = unparse_expression(operand)
        return f"({text})" if nested else text

    word = "UNION" if node.args.get("distinct") else "UNION ALL"
    return f"{side(node.this, last=False)} {word} {side(node.expression, last=True)}{_ending(node)}"


def _ordered(node: Any) -> str:
    nulls = ""
    if node.meta.get("nulls_given"):
        nulls = " NULLS FIRST" if node.args.get("nulls_first") else " NULLS LAST"
    elif node.args.get("nulls_first"):
        nulls = " NULLS FIRST"
    return f"{unparse_expression(node.this)}{' DESC' if node.args.get('desc') else ''}{nulls}"


def _table(node: Any) -> str:
    database = node.args.get("db")
    match database.name if database is not None else None:
        case "SYSTEM":
            text = f"SYSTEM.{node.this.name}"
        case "DEAD_LETTERS":
            text = f"DEAD LETTERS OF {topic(node.this.name)}"
        case _:
            text = topic(node.this.name)
    return text + _alias(node)


def _alias(node: Any) -> str:
    alias = node.args.get("alias")
    return "" if alias is None else f" AS {unparse_expression(alias.this)}"


_WRITERS: Mapping[str, Callable[[Any], str]] = {
    "Literal": _literal,
    "Null": lambda node: "NULL",
    "Boolean": lambda node: "TRUE" if node.this else "FALSE",
    "Identifier": _identifier,
    "Column": lambda node: _identifier(node.this),
    "Dot": lambda node: f"{unparse_expression(node.this)}.{unparse_expression(node.expression)}",
    "Bracket": _bracket,
    "Star": lambda node: "*",
    "Parameter": lambda node: f"${node.this.name}",
    "Paren": lambda node: f"({unparse_expression(node.this)})",
    "Neg": lambda node: f"- {unparse_expression(node.this)}",
    "Not": _not,
    "In": _in,
    "Between": _between,
    "Like": lambda node: f"{unparse_expression(node.this)} LIKE {unparse_expression(node.expression)}",
    "ILike": lambda node: f"{unparse_expression(node.this)} ILIKE {unparse_expression(node.expression)}",
    "Escape": lambda node: f"{unparse_expression(node.this)} ESCAPE {unparse_expression(node.expression)}",
    "Is": lambda node: f"{unparse_expression(node.this)} IS {unparse_expression(node.expression)}",
    "Var": lambda node: str(node.this),
    "Case": _case,
    "Exists": lambda node: f"EXISTS({unparse_expression(node.this)})",
    "Cast": _cast,
    "TryCast": _cast,
    "Interval": lambda node: f"INTERVAL {unparse_expression(node.this)}",
    "Anonymous": lambda node: f"{node.this}({_list(node.expressions)})",
    "Distinct": lambda node: f"DISTINCT {_list(node.expressions)}",
    "Alias": lambda node: f"{unparse_expression(node.this)} AS {unparse_expression(node.args['alias'])}",
    "Select": _select,
    "Union": _union,
    "Subquery": lambda node: f"({unparse_expression(node.this)}){_alias(node)}",
    "Table": _table,
    "Ordered": _ordered,
}
