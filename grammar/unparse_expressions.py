"""Canonical text of expressions and queries."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from geode_client.grammar.functions import BARE
from geode_client.grammar.written import PLAIN_NAME, identifier, quoted, topic

if TYPE_CHECKING:
    from sqlglot import exp


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
        return _aggregate(node)
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
    "NullSafeEQ": "IS NOT DISTINCT FROM",
    "NullSafeNEQ": "IS DISTINCT FROM",
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
    query, given = node.args.get("query"), node.args.get("field")
    if given is not None:
        return f"{unparse_expression(node.this)} IN {unparse_expression(given)}"
    inside = _list(node.expressions) if query is None else query.meta.get("text") or unparse_expression(query.this)
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
    to = node.args["to"]
    kind = to.this.name
    word = "TRY_CAST" if type(node).__name__ == "TryCast" else "CAST"
    digits = f"({_list(to.expressions)})" if to.expressions else ""
    return f"{word}({unparse_expression(node.this)} AS {_TYPE_WORDS.get(kind, kind)}{digits})"


def _aggregate(node: Any) -> str:
    arguments = ", ".join(
        [unparse_expression(node.this), *[unparse_expression(one) for one in node.args.get("more") or ()]]
    )
    # An order that the planner has added is not part of the text.
    order = None if node.meta.get("hidden_order") else node.args.get("order_by")
    ordered = f" ORDER BY {_list(order)}" if order else ""
    where = node.args.get("where")
    filtered = f" FILTER (WHERE {unparse_expression(where)})" if where is not None else ""
    return f"{type(node).__name__.upper()}({arguments}{ordered}){filtered}"


def _call(node: Any) -> str:
    name = str(node.this)
    if name == "EXTRACT" and getattr(node.expressions[0], "is_string", False):
        part = str(node.expressions[0].this)
        if PLAIN_NAME.fullmatch(part):
            return f"EXTRACT({part.upper()} FROM {unparse_expression(node.expressions[1])})"
    if name in BARE:
        return name
    return f"{name}({_list(node.expressions)})"


def _select(node: Any) -> str:
    distinct = "DISTINCT " if node.args.get("distinct") is not None else ""
    parts = [f"{_with(node)}SELECT {distinct}{_list(node.expressions)}"]
    source = node.args.get("from_") or node.args.get("from")
    if source is not None:
        parts.append(f"FROM {unparse_expression(source.this)}")
    for join in node.args.get("joins") or ():
        if join.args.get("kind") == "COMMA":
            parts[-1] += f", {unparse_expression(join.this)}"
        else:
            parts.append(_join(join))
    for name, word in (("where", "WHERE"), ("group", "GROUP BY"), ("having", "HAVING")):
        found = node.args.get(name)
        if found is not None:
            parts.append(f"{word} {_list(found.expressions) if name == 'group' else unparse_expression(found.this)}")
    return " ".join(parts) + _ending(node)


def _join(node: Any) -> str:
    source = unparse_expression(node.this)
    if node.args.get("kind") == "CROSS":
        return f"CROSS JOIN {source}"
    side = f"{node.args['side']} " if node.args.get("side") else ""
    using = node.args.get("using")
    if using:
        return f"{side}JOIN {source} USING ({_list(using)})"
    return f"{side}JOIN {source} ON {unparse_expression(node.args['on'])}"


def _with(node: Any) -> str:
    found = node.args.get("with_") or node.args.get("with")
    return "" if found is None else f"WITH {_list(found.expressions)} "


def _with_table(node: Any) -> str:
    return f"{_named(node.args['alias'])} AS ({unparse_expression(node.this)})"


def _named(alias: Any) -> str:
    names = alias.args.get("columns")
    return unparse_expression(alias.this) + (f" ({_list(names)})" if names else "")


def _window(node: Any) -> str:
    parts = [f"PARTITION BY {_list(node.args['partition_by'])}"] if node.args.get("partition_by") else []
    order = node.args.get("order")
    if order is not None:
        parts.append(f"ORDER BY {_list(order.expressions)}")
    return f"{unparse_expression(node.this)} OVER ({' '.join(parts)})"


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


_SET_WORDS = {"Union": "UNION", "Except": "EXCEPT", "Intersect": "INTERSECT"}


def _set_operation(node: Any) -> str:
    """Chains to the left are written without recursion, and without brackets where INTERSECT needs none."""
    links = []
    inner = node
    while inner is node or (type(inner).__name__ in _SET_WORDS and not _has_ending(inner)):
        links.append(inner)
        if type(inner).__name__ == "Intersect" and type(inner.this).__name__ in ("Union", "Except"):
            inner = inner.this
            break
        inner = inner.this
    text = _operand(inner)
    for link in reversed(links):
        word = _SET_WORDS[type(link).__name__] + ("" if link.args.get("distinct") else " ALL")
        bare = type(link.expression).__name__ == "Intersect" and type(link).__name__ != "Intersect"
        right = unparse_expression(link.expression) if bare and not _has_ending(link.expression) else None
        text = f"{text} {word} {right or _operand(link.expression)}"
    return f"{_with(node)}{text}{_ending(node)}"


def _operand(node: Any) -> str:
    text = unparse_expression(node)
    return f"({text})" if type(node).__name__ in _SET_WORDS or _has_ending(node) else text


def _has_ending(node: Any) -> bool:
    return any(node.args.get(name) for name in ("order", "limit", "offset", "with_", "with"))


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
    return "" if alias is None else f" AS {_named(alias)}"


def _sub_query(node: Any) -> str:
    # A planner that puts a number in the place of a query keeps its text.
    return node.meta.get("text") or f"({unparse_expression(node.this)}){_alias(node)}"


def _exists(node: Any) -> str:
    inside = node.this.this if type(node.this).__name__ == "Subquery" else node.this
    return f"EXISTS({unparse_expression(inside)})"


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
    "Exists": _exists,
    "Cast": _cast,
    "TryCast": _cast,
    "Interval": lambda node: f"INTERVAL {unparse_expression(node.this)}",
    "Anonymous": _call,
    "Distinct": lambda node: f"DISTINCT {_list(node.expressions)}",
    "Alias": lambda node: f"{unparse_expression(node.this)} AS {unparse_expression(node.args['alias'])}",
    "Select": _select,
    **dict.fromkeys(("Union", "Except", "Intersect"), _set_operation),
    "CTE": _with_table,
    "Unnest": lambda node: f"UNNEST({_list(node.expressions)}){_alias(node)}",
    "Window": _window,
    "Subquery": _sub_query,
    "Table": _table,
    "Ordered": _ordered,
}
