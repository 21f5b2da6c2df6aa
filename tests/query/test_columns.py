"""ADD COLUMN: two at a time, seen by other clients of the store, and defaults that leave everything else as it was written."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conditions.strategies import messages, values
from hypothesis import given
from hypothesis import strategies as st
from settings import long_rounds

from geode_client import Client, SchemaViolation
from geode_client.schema import fill_missing


@long_rounds(200)
@given(
    bodies=st.lists(messages, max_size=5),
    defaults=st.dictionaries(
        st.sampled_from(("a", "b", "q ü", "z")), values.filter(lambda value: value is not None), max_size=3
    ),
)
def test_missing_fields_are_filled_in(bodies: list[Any], defaults: dict[str, Any]) -> None:
    lines = b"".join(msgspec.json.encode(body) + b"\n" for body in bodies)
    found = fill_missing(lines, defaults)
    wanted = [{**defaults, **body} if isinstance(body, dict) else body for body in bodies]
    assert [msgspec.json.decode(line) for line in found.splitlines()] == msgspec.json.decode(
        msgspec.json.encode(wanted)
    )


def test_what_is_there_stays_as_it_was_written() -> None:
    lines = b'{"n":1.10,"big":123456789012345678901234567890.5}\n{ }\n5\n'
    assert (
        fill_missing(lines, {"x": "y"}) == b'{"n":1.10,"big":123456789012345678901234567890.5,"x":"y"}\n{"x":"y"}\n5\n'
    )
    assert fill_missing(lines[:-6], {"n": 1}) == lines[:-6]


async def test_columns_added_at_the_same_time_are_both_there(directory: Path) -> None:
    async with Client(directory) as one, Client(directory) as other:
        await one.execute("CREATE TOPIC t SCHEMA (id INT)")
        await one.publish("t", {"id": 1})
        await other.query("SELECT id FROM t")
        await asyncio.gather(
            *[
                client.execute(f"ALTER TOPIC t ADD COLUMN {name} INT DEFAULT {n}")
                for n, (client, name) in enumerate([(one, "a"), (other, "b"), (one, "c"), (other, "d")])
            ]
        )
        for client in (one, other):
            assert (await client.query("SELECT a, b, c, d FROM t")).rows == [(0, 1, 2, 3)]
            with pytest.raises(SchemaViolation, match="/d"):
                await client.publish("t", {"id": 2, "d": "x"})
        async with other.subscribe("t", from_beginning=True, filter="c = 2") as subscription:
            assert [message.data async for message in subscription] == [{"id": 1, "a": 0, "b": 1, "c": 2, "d": 3}]
