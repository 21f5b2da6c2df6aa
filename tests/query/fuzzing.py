"""Texts that may be statements, given to parser, planner and compiler: nothing but GeodeError may come of them.

As a program it runs under atheris, which looks for texts that reach new places of the code:

    python tests/query/fuzzing.py -max_total_time=600
"""

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from language.statements import ALL

from geode_client import Client, GeodeError
from geode_client.conditions import compile_filter
from geode_client.grammar import ast, parse_script
from geode_client.grammar.source import Source
from geode_client.grammar.unparse import unparse
from geode_client.query import plan
from geode_client.query.batches import Bounds
from geode_client.query.running import Runner

TOPICS = (
    """CREATE TOPIC orders SCHEMA (id STRING NOT NULL, n INT, total DECIMAL, at TIMESTAMP, ok BOOL, tags LIST<STRING>,
    inner STRUCT<x: INT>) WITH OPTIONS (partitions: 2)""",
    'PUBLISH TO orders {"id": "a", "n": 1, "at": "2026-01-01T00:00:00Z", "tags": ["x"]}, {"id": "b", "ok": true}',
    "CREATE TOPIC typed SCHEMA (a INT, b DECIMAL, c TIMESTAMP, d LIST<STRING>)",
    'PUBLISH TO typed {"a": 1, "b": 1.50, "c": "2026-01-01T00:00:00Z", "d": ["x"]}, {}',
    'PUBLISH TO t {"a": 1, "b": {"c": [1, null, "x"]}}, {"a": "x"}, 5, [], null',
    'PUBLISH TO users/created {"a": null, "x": 1.5}',
)
WORDS = tuple(
    """SELECT DISTINCT FROM WHERE GROUP BY HAVING ORDER LIMIT OFFSET UNION ALL JOIN LEFT OUTER INNER ON AS AND OR NOT IN IS NULL
    TRUE FALSE UNKNOWN LIKE ILIKE ESCAPE BETWEEN CASE WHEN THEN ELSE END EXISTS CAST TRY_CAST INTERVAL TIMESTAMP DATE NULLS
    FIRST LAST ASC DESC EXPLAIN ANALYZE TEST FILTER PUBLISH TO SUBSCRIBE CREATE TOPIC ALTER ADD COLUMN SET OPTIONS SCHEMA
    DEAD LETTERS OF SYSTEM.topics SYSTEM.options orders t users/* ** missing o x a b c id n total at ok tags inner _offset
    _key _timestamp _headers "_id" "q""r" count sum avg min max first last lower upper length substr coalesce round abs
    date_trunc now nullif contains * ( ) [ ] , . ; = <> != < <= > >= + - / % || 0 1 -1 2.5 1e300 99999999999999999999 'x'
    '%' 'hour' '1 hour' '2026-01-01' '' $p $q INT STRING DECIMAL {"a":1} -- /* */ \x00 é""".split()
)
PARAMETERS: dict[str, Any] = {"p": 1}
SAMPLES: tuple[Any, ...] = ({"a": 1, "b": {"c": [1, None]}, "n": "x"}, {}, 5, None, {"at": "2026-01-01"})
_ASKING = (ast.Select, ast.Explain, ast.TestFilter, ast.Show, ast.DescribeTopic, ast.ShowCreateTopic)
STATEMENTS = tuple(ALL)


async def opened() -> Client:
    """A client of a small store."""
    client = Client(":memory:")
    await client.open()
    for text in TOPICS:
        await client.execute(text)
    return client


async def check(client: Client, text: str) -> None:
    """Parse, plan and, where it only asks, run what the text says; any error but GeodeError is a defect."""
    try:
        statements = parse_script(text)
    except GeodeError as error:
        error.render() if hasattr(error, "render") else str(error)
        return
    for statement in statements:
        unparse(statement)
        await _plan_and_run(client, statement, Source(text))


async def _plan_and_run(client: Client, statement: ast.Statement, source: Source) -> None:
    try:
        planned = await client._session.plan(statement, source, PARAMETERS)
        plan.lines(planned)
        if isinstance(planned, plan.Query):
            await Runner(client._session.broker, PARAMETERS, Bounds(rows_max=50_000)).run(planned)
        elif isinstance(statement, _ASKING) and not isinstance(planned, plan.Analyze):
            await client._session.execute_statement(statement, source, PARAMETERS)
    except GeodeError as error:
        str(error)


def check_condition(text: str) -> None:
    """Compile and judge a condition."""
    try:
        condition = compile_filter(text, PARAMETERS)
    except GeodeError:
        return
    for sample in SAMPLES:
        condition.evaluate(sample)


def assembled(numbers: Iterable[int]) -> str:
    """A text of words that statements are made of, or of pieces of statements."""
    parts: list[str] = []
    for number in numbers:
        if number % 7 == 0:
            words = STATEMENTS[number // 7 % len(STATEMENTS)].split(" ")
            first = number // 7 % len(words)
            parts += words[first : first + 1 + number % 9]
        else:
            parts.append(WORDS[number % len(WORDS)])
    return " ".join(parts)


def main() -> None:
    """Fuzz until the time given on the command line is over."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(opened())

    def one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        how = provider.ConsumeIntInRange(0, 2)
        if how == 0:
            text = provider.ConsumeUnicodeNoSurrogates(4000)
        else:
            text = assembled(provider.ConsumeIntList(provider.ConsumeIntInRange(1, 40), 2))
        if how == 1:
            check_condition(text)
        loop.run_until_complete(check(client, ("SELECT a FROM t WHERE " if how == 1 else "") + text))

    atheris.instrument_all()
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
