"""The canonical text of statements and expressions: parsing it again gives the same record."""

from typing import TYPE_CHECKING, assert_never

from geode_client.grammar import ast
from geode_client.grammar.unparse_expressions import unparse_expression
from geode_client.grammar.written import identifier, json_text, literal, quoted, topic, type_text

if TYPE_CHECKING:
    from sqlglot import exp


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
        case ast.AlterTopicRename(name, new_name):
            return f"ALTER TOPIC {topic(name)} RENAME TO {topic(new_name)}"
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
        case ast.InsertQuery():
            return _insert_query(statement)
        case ast.Subscribe():
            return _subscribe(statement)
        case ast.CreateSubscription(group, pattern, where, first, order):
            tail = _where(where) + (f" FROM {start(first)}" if first else "") + _order(order)
            return f"CREATE SUBSCRIPTION {identifier(group)} ON {topic(pattern)}{tail}"
        case ast.AlterSubscriptionSeek(group, name, target):
            return f"ALTER SUBSCRIPTION {identifier(group)} ON {topic(name)} SEEK TO {start(target)}"
        case ast.AlterSubscriptionSet(group, name, where, order):
            return f"ALTER SUBSCRIPTION {identifier(group)} ON {topic(name)} SET{_where(where)}{_order(order)}"
        case ast.PauseSubscription(group, name) | ast.ResumeSubscription(group, name):
            word = "PAUSE" if isinstance(statement, ast.PauseSubscription) else "RESUME"
            return f"{word} SUBSCRIPTION {identifier(group)}{_on(name)}"
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
        case ast.CopyTo() | ast.CopyQuery() | ast.CopyFrom() | ast.CopyBetween():
            return f"COPY {_copied(statement)}{_with_options(statement.options)}"
        case ast.Assert(query, operator, value, within):
            tail = f" WITHIN {quoted(within)}" if within is not None else ""
            return f"ASSERT ({unparse_expression(query)}) {operator} {literal(value)}{tail}"
        case _:
            assert_never(statement)


def _copied(statement: ast.CopyTo | ast.CopyQuery | ast.CopyFrom | ast.CopyBetween) -> str:
    match statement:
        case ast.CopyTo(name, path):
            return f"{topic(name)} TO {quoted(path)}"
        case ast.CopyQuery(query, path):
            return f"({unparse_expression(query)}) TO {quoted(path)}"
        case ast.CopyFrom(name, path):
            return f"{topic(name)} FROM {quoted(path)}"
        case ast.CopyBetween(name, target):
            return f"{topic(name)} TO {topic(target)}"
        case _:
            assert_never(statement)


def _insert_query(statement: ast.InsertQuery) -> str:
    names = "" if statement.columns is None else f" ({', '.join(map(identifier, statement.columns))})"
    return f"INSERT INTO {topic(statement.topic)}{names} {unparse_expression(statement.query)}"


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


def _order(order: str | None) -> str:
    return f" ORDER BY {order.upper()}" if order else ""


def _target(name: str) -> str:
    """The topic that dead letters are replayed to; a bare ALL means everybody."""
    return f'"{name}"' if name.upper() == "ALL" else topic(name)


def _with_options(options: tuple[ast.OptionEntry, ...]) -> str:
    return f" WITH OPTIONS {_options(options)}" if options else ""


def _options(options: tuple[ast.OptionEntry, ...]) -> str:
    return "(" + ", ".join(_option(entry) for entry in options) + ")"


def _option(entry: ast.OptionEntry) -> str:
    value = literal(entry.value)
    return f"{identifier(entry.name)}: {value.lower() if value in ('TRUE', 'FALSE', 'NULL') else value}"


def column(found: ast.ColumnDefinition) -> str:
    default = "" if found.default is None else f" DEFAULT {literal(found.default.value)}"
    return f"{identifier(found.name)} {type_text(found.type)}{' NOT NULL' * found.not_null}{default}"


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
