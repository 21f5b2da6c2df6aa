"""Writes docs/language.md from the grammar and the registries: `python -m tests.repository.language_page` (`make reference`).

The syntax of each statement is that of gql.lark, with the words of the language in the place of its terminals. Everything
else comes from the registries that the engine itself uses.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from geode_client import options
from geode_client.conditions.rows import VIRTUAL_HELP
from geode_client.grammar import reference, types
from geode_client.grammar.functions import AGGREGATES, ALIASES, SCALARS, WINDOW_FUNCTIONS, Function
from geode_client.grammar.tables import grammar_text
from geode_client.grammar.words import phrases
from geode_client.query import system
from geode_client.query.csv_files import CsvOptions
from geode_client.query.exporting import WriteOptions
from geode_client.query.loading import LoadOptions

PAGE = Path(__file__).parents[2] / "docs" / "language.md"
WIDTH = 120

OPTION_TABLES: Sequence[tuple[str, str, str, Mapping[str, options.Option], Sequence[object]]] = (
    (
        "Options of topics",
        "CREATE TOPIC t WITH OPTIONS (…)` and `ALTER TOPIC t SET OPTIONS (…)",
        "CREATE TOPIC t WITH OPTIONS ({})",
        options.TOPIC_OPTIONS,
        (options.TopicOptions(),),
    ),
    (
        "Options of PUBLISH",
        "PUBLISH TO orders {…} WITH OPTIONS (…)",
        'PUBLISH TO orders {{"id": "o-4"}} WITH OPTIONS ({})',
        options.PUBLISH_OPTIONS,
        (),
    ),
    (
        "Options of COPY FROM a file",
        "COPY t FROM 'orders.csv' WITH OPTIONS (…)",
        "COPY t FROM 'orders.csv' WITH OPTIONS ({})",
        options.COPY_FROM_OPTIONS,
        (LoadOptions(), CsvOptions()),
    ),
    (
        "Options of COPY TO a file",
        "COPY orders TO 'copy.csv' WITH OPTIONS (…)",
        "COPY orders TO 'copy.csv' WITH OPTIONS ({})",
        options.COPY_TO_OPTIONS,
        (WriteOptions(),),
    ),
    (
        "Options of COPY between topics",
        "COPY orders TO t WITH OPTIONS (…)",
        "COPY orders TO t WITH OPTIONS ({})",
        options.COPY_BETWEEN_OPTIONS,
        (LoadOptions(),),
    ),
)
"""Heading, where the options are written, the statement that runs an example, the options, records with the defaults."""
FUNCTION_TABLES: Sequence[tuple[str, str, Mapping[str, Function]]] = (
    ("Functions", "Over single values. NULL gives NULL unless the table says otherwise.", SCALARS),
    (
        "Aggregates",
        "Over the rows of a group. The examples are over a topic with the numbers `n` 1, 2, 3 and the texts `s` a, b, c.",
        AGGREGATES,
    ),
    (
        "Window functions",
        "They need OVER, which aggregates may have too. The examples show the value of the row where `n` is 1.",
        WINDOW_FUNCTIONS,
    ),
)

_RULE = re.compile(r"^\??(\w+): (.*(?:\n    \|.*)*)", re.MULTILINE)
_PIECE = re.compile(r'"[^"]*"\??|\)[*+?]?|[(\[\]|]|\w+[?*+]?')
# What stands for rules and terminals that have no entry of their own.
_SHOWN = {
    **dict.fromkeys(("or_expression", "and_expression", "not_expression", "predicate", "expression"), "condition"),
    **dict.fromkeys(("sum", "term", "factor", "atom", "scalar"), "value"),
    **dict.fromkeys(
        ("set_expression", "intersection", "operand", "inner_query", "inner_set", "inner_intersection"), "query"
    ),
    "NAME": "name",
    "STRING": "'text'",
    "NUMBER": "number",
    "PARAMETER": "$name",
    "TOPIC_NAME": "topic/name",
    "COMPARISON": "comparison",
    "SIGN": "sign",
    "CONCAT": "||",
    "JSON": "json",
    "FUNCTION": "function",
    "QUOTED_NAME": '"name"',
    "BACKQUOTED_NAME": "`name`",
    "SYSTEM_TABLE": "SYSTEM.table",
    "EVERYBODY": "ALL",
}
# Read only to be refused with an error of its own.
_REFUSED = frozenset(("UNBUILT", "MISPLACED", "RECURSIVE", "[UNBUILT JSON]"))


def alternatives() -> Iterator[tuple[str, str, str]]:
    """Each alternative of the grammar: the rule, the name that its trees have, its text in Lark's notation."""
    text = re.sub(r"^//.*\n", "", grammar_text().partition("// ── terminals ──")[0], flags=re.MULTILINE)
    for rule, body in _RULE.findall(text):
        for line in re.split(r"\n    \| ", body):
            for one in _split(line.strip()):
                written, _, alias = one.partition(" -> ")
                yield rule, alias.strip() or rule, written.strip()


def _split(line: str) -> list[str]:
    """The alternatives of one line, at each | that is in no brackets and no quotes."""
    parts, depth, quoted = [""], 0, False
    for character in line:
        quoted ^= character == '"'
        depth += not quoted and (character in "([") - (character in ")]")
        if character == "|" and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def syntax(written: str) -> str:
    """An alternative in the notation of the page."""
    shown: list[str] = []
    closing: list[str] = []
    for piece in _PIECE.findall(written.replace("[UNBUILT JSON]", "")):
        bare = piece.rstrip("?*+") if not piece.startswith('"') else piece
        suffix = piece[len(bare) :]
        if piece.startswith('"'):
            literal = piece.strip('"?')
            word = f'"{literal}"' if literal in "[]" else literal
            shown.append(f"[{literal}]" if piece.endswith("?") else word)
        elif bare in ("(", "[", "|"):
            shown.append({"(": "{"}.get(bare, bare))
            closing += [] if bare == "|" else [bare]
        elif bare in (")", "]"):
            closing.pop()
            shown.append("]" if bare == "]" else "}" + suffix)
            if suffix == "?":
                place = max(index for index, one in enumerate(shown) if one == "{")
                shown[place], shown[-1] = "[", "]"
        elif bare not in _REFUSED:
            word = phrases().get(bare, "").rstrip(" '") or _SHOWN.get(bare, bare)
            shown.append(f"[{word}]" if suffix == "?" else word + suffix)
    return _spaced(" ".join(shown))


def _spaced(text: str) -> str:
    text = re.sub(r"(?<=[\[{]) | (?=[\]},])", "", text)
    text = re.sub(r"\( (?=\S)", "(", text)
    text = re.sub(r" (?=\)|:|\.|<|>)", "", text)
    return re.sub(r"(?<=<|\.) ", "", text).replace("function (", "function(")


def page() -> str:
    """The whole page."""
    body = "\n".join(_body())
    titles = re.findall(r"^## (.*)$", body, re.MULTILINE)
    contents = "\n".join(f"- [{title}](#{_anchor(title)})" for title in titles)
    return _HEAD.format(contents=contents, prepared=reference.PREPARED) + body


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _body() -> Iterator[str]:
    by_name: dict[str, list[tuple[str, str]]] = {}
    for rule, name, written in alternatives():
        by_name.setdefault(name, []).append((rule, written))
    for section in (*reference.STATEMENTS, *reference.EXPRESSIONS):
        yield from _section(section, by_name)
    yield from _types()
    for entry in reference.TYPES.entries:
        yield from _entry(entry, by_name)
    for title, about, functions in FUNCTION_TABLES:
        yield from _functions(title, about, functions)
    for title, where, _, table, defaults in OPTION_TABLES:
        yield from _options(title, where, table, defaults)
    yield from _system()
    yield from _virtual()


def _section(section: reference.Section, by_name: Mapping[str, list[tuple[str, str]]]) -> Iterator[str]:
    yield f"## {section.title}\n"
    for entry in section.entries:
        yield from _entry(entry, by_name)


def _entry(entry: reference.Entry, by_name: Mapping[str, list[tuple[str, str]]]) -> Iterator[str]:
    title = entry.title if re.search(r"\w", entry.title) else f"`{entry.title}`"
    needs = f" Needs a backend that has {entry.needs}." if entry.needs else ""
    yield f"### {title}\n\n{textwrap.fill(entry.help + needs, WIDTH)}\n"
    found: dict[str, dict[str, None]] = {}
    for name in entry.rules:
        for rule, written in by_name[name]:
            left, right = _SHOWN.get(rule, rule), syntax(written)
            if left != right:
                found.setdefault(left, {})[right] = None
    if found:
        lines = "\n".join(_wrapped(f"{left}: {_joined(list(rights))}") for left, rights in found.items())
        yield f"```text\n{lines}\n```\n"
    yield f"```sql\n{entry.example};\n```\n"


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent=" " * 8) for line in text.split("\n"))


def _joined(parts: Sequence[str]) -> str:
    line = " | ".join(parts)
    return line if len(line) <= 90 else "\n    | ".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _types() -> Iterator[str]:
    yield "## Types\n"
    usual: dict[str, list[str]] = {}
    for other, name in types.USUAL_NAMES.items():
        usual.setdefault(name, []).append(other)
    rows = [
        (_code(name), help, ", ".join(usual.get(name, ())), _code(text), _code(value))
        for name, (help, (text, value)) in types.HELP.items()
    ]
    yield from _table(("type", "values", "other names", "example", "its value"), rows)


def _functions(title: str, about: str, functions: Mapping[str, Function]) -> Iterator[str]:
    yield f"## {title}\n\n{about}\n"
    others: dict[str, list[str]] = {}
    for other, name in ALIASES.items():
        others.setdefault(name, []).append(other)
    rows = [
        (
            _code(one.signature),
            one.help + (f" Also {', '.join(others[one.name])}." if one.name in others else ""),
            one.result or "depends on the arguments",
            _code(one.example[0]),
            _code(one.example[1]),
        )
        for one in functions.values()
    ]
    yield from _table(("function", "what it gives", "result", "example", "its value"), rows)


def _options(title: str, where: str, table: Mapping[str, options.Option], defaults: Sequence[object]) -> Iterator[str]:
    yield f"## {title}\n\nWritten in `{where}`.\n"
    rows = [
        (
            _code(name),
            option.kind,
            _code(_default(option, defaults)),
            option.description,
            _code(f"{name}: {option.example}"),
        )
        for name, option in table.items()
    ]
    yield from _table(("option", "value", "default", "what it does", "example"), rows)


def _default(option: options.Option, records: Sequence[object]) -> str:
    """The default as statements write it; empty where there is none."""
    for record in records:
        value = getattr(record, option.attribute, None)
        if value is not None:
            return options.written(option, value)
    return ""


def _system() -> Iterator[str]:
    yield "## SYSTEM tables\n\nThey are read, joined, grouped and sorted as any source.\n"
    for name, columns in system.TABLES.items():
        needs = " Needs a backend that has regions." if name == "regions" else ""
        yield f"### SYSTEM.{name}\n\n{system.HELP[name]}{needs}\n"
        yield textwrap.fill("Columns: " + ", ".join(_code(column) for column in columns) + ".", WIDTH) + "\n"
        yield f"```sql\nSELECT {columns[0]} FROM SYSTEM.{name};\n```\n"


def _virtual() -> Iterator[str]:
    yield "## Virtual columns\n"
    yield 'Each message has them. A quoted name, such as `"_id"`, always means the field of the message.\n'
    rows = []
    for name, help in VIRTUAL_HELP.items():
        source = "DEAD LETTERS OF orders" if help.startswith("Only in DEAD LETTERS OF") else "orders"
        rows.append((_code(name), help, _code(f"SELECT {name} FROM {source}")))
    yield from _table(("column", "value", "example"), rows)


_HEAD = """# The language

<!-- Written by `make reference` from the grammar and the registries of the engine. Do not edit. -->

Every statement, clause, operator, type, function and option, each with an example. The tests run all examples.

{contents}

## How to read this page

Words in capitals are keywords; their case does not matter. Words in small letters are placeholders: a name, a value, or
a rule that this page describes. `[a]` is optional, `{{a | b}}` is one of several alternatives, `{{a}}*` may be repeated or
left out, and `{{a}}+` occurs at least once. A literal square bracket is in quotes: `"["`.

A statement ends with `;`. `--` begins a comment that ends with the line; `/*` and `*/` enclose one. Text is written in
single quotes. Durations are text such as `'90s'` and `'1 hour 30 minutes'`; sizes are text such as `'512 MiB'`.

The examples run on these topics, with the parameters `$least` = 10, `$states` = ["paid", "open"] and
`$message` = {{"id": "o-9"}}:

```sql
{prepared}```

"""


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
