"""Compiled conditions and the plain interpreter agree, on every condition and message that hypothesis finds."""

import msgspec
from conditions.strategies import conditions, messages
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import interpreter
from settings import long_rounds
from sqlglot import exp

from geode_client.conditions import compile_condition
from geode_client.grammar.parser import parse_condition
from geode_client.message import Chunk


def chunk_of(bodies: list[object]) -> Chunk:
    lines = b"".join(msgspec.json.encode(body) + b"\n" for body in bodies)
    return Chunk(
        topic="t", topic_id=1, partition=0, base_offset=0, count=len(bodies), lines=lines, batch_id=1, timestamp_us=0
    )


@long_rounds(400)
@given(text=conditions(), bodies=st.lists(messages, min_size=1, max_size=6))
def test_compiled_and_interpreted_agree(text: str, bodies: list[object]) -> None:
    tree = parse_condition(text)
    # CAST of a constant text to a time is checked when it is compiled: there it is a slip of whoever wrote it.
    assume(not any(cast.this.is_string and cast.to.this.name == "TIMESTAMPTZ" for cast in tree.find_all(exp.Cast)))
    condition = compile_condition(tree)
    chunk = chunk_of(bodies)
    wanted = [interpreter.evaluate(tree, body) for body in msgspec.json.decode(msgspec.json.encode(bodies))]
    assert condition.truths(chunk) == wanted
    assert list(condition.select(chunk)) == [place for place, truth in enumerate(wanted) if truth is True]
    assert [condition.evaluate(body) for body in bodies] == wanted
