"""Compiled conditions, and all that skips messages for them, agree with the plain interpreter.

Each example is a condition and messages; what the interpreter says of each pair is compared with the compiled condition, with
its simplified tree, with what statistics rule out, with the subscription index, and with the search for texts in the raw JSON.
"""

import json
import random
from typing import Any

import msgspec
import pytest
from conditions.strategies import condition_text, message
from reference import interpreter
from settings import SOAK, rounds
from sqlglot import exp

from geode_client.conditions import Condition, compile_condition
from geode_client.conditions.index import SubscriptionIndex
from geode_client.conditions.literals import has_unicode_escapes, needles_of
from geode_client.conditions.simplify import simplified
from geode_client.conditions.zones import ColumnReader, Question, askable, impossible, summary_of
from geode_client.errors import GqlError
from geode_client.grammar.ast import Scalar
from geode_client.grammar.parser import parse_condition
from geode_client.message import Chunk

MESSAGES = 20
ZONE = 3
EXAMPLES = rounds(500, soak=1_000_000 // MESSAGES)
BUNDLES = 10
# In a soak each run tries other ones.
SEED = random.SystemRandom().randrange(2**32) if SOAK else 1

POOL = [message(random.Random(number)) for number in range(400)]


def chunk_of(lines: list[bytes]) -> Chunk:
    return Chunk(
        topic="t",
        topic_id=1,
        partition=0,
        base_offset=0,
        count=len(lines),
        lines=b"".join(line + b"\n" for line in lines),
        batch_id=1,
        timestamp_us=0,
    )


@pytest.mark.parametrize("bundle", range(BUNDLES))
def test_everything_agrees_with_the_interpreter(bundle: int) -> None:
    for number in range(bundle, EXAMPLES, BUNDLES):
        chance = random.Random(SEED * 1_000_003 + number)
        text = condition_text(chance)
        bodies = [chance.choice(POOL) for _ in range(MESSAGES)]
        try:
            all_agree(text, bodies, spelling=chance.randrange(3))
        except Exception as error:
            error.add_note(f"condition: {text}\nmessages: {json.dumps(bodies)}")
            raise


def all_agree(text: str, bodies: list[Any], spelling: int) -> None:
    tree = parse_condition(text)
    if any(
        cast.this.is_string and cast.to.this.name in ("TIMESTAMPTZ", "DATE", "UUID") for cast in tree.find_all(exp.Cast)
    ):
        # CAST of a constant text to a time or a UUID is checked when it is compiled: there it is a slip of whoever wrote it.
        return
    condition = compile_condition(tree)
    wanted = [interpreter.evaluate(tree, body) for body in bodies]
    chosen = [place for place, truth in enumerate(wanted) if truth is True]
    lines = [spelled(body, spelling) for body in bodies]

    assert list(condition.select(chunk_of(lines))) == chosen
    assert condition.truths(chunk_of(lines)) == wanted
    assert condition.evaluate(bodies[0]) is wanted[0]
    agrees_when_simplified(condition, bodies, wanted)
    agrees_when_skipping(condition, lines, chosen)
    agrees_in_the_index(condition, chunk_of(lines), chosen)
    agrees_in_raw_json(condition, lines, chosen)


DECLARED = {"a": Scalar("TIMESTAMP"), "b": Scalar("DECIMAL"), "c": Scalar("DATE"), "d": Scalar("UUID")}


@pytest.mark.parametrize("bundle", range(2))
def test_declared_times_and_decimals_agree_with_the_interpreter(bundle: int) -> None:
    for number in range(bundle, EXAMPLES // 5, 2):
        chance = random.Random(SEED * 1_000_033 + number)
        text = condition_text(chance)
        bodies = [body for body in (chance.choice(POOL) for _ in range(MESSAGES)) if fits(body)]
        tree = parse_condition(text)
        try:
            condition = compile_condition(tree, columns=DECLARED)
        except GqlError:
            continue
        wanted = [interpreter.evaluate(tree, as_declared(body)) for body in bodies]
        chosen = [place for place, truth in enumerate(wanted) if truth is True]
        lines = [msgspec.json.encode(body) for body in bodies]
        assert condition.truths(chunk_of(lines)) == wanted, (text, bodies)
        assert list(condition.select(chunk_of(lines))) == chosen
        agrees_when_skipping(condition, lines, chosen)
        agrees_in_the_index(condition, chunk_of(lines), chosen)
        agrees_in_raw_json(condition, lines, chosen)


def fits(body: Any) -> bool:
    """Whether a schema with these columns might take the message, as far as containers go."""
    return isinstance(body, dict) and not any(isinstance(body.get(name), list | dict) for name in DECLARED)


def as_declared(body: dict[str, Any]) -> dict[str, Any]:
    read = interpreter.Interpreter(None, {})
    made = dict(body)
    for name in body.keys() & DECLARED.keys():
        if name == "d":
            made[name] = interpreter.uuid_of(body[name])
        elif name == "c":
            moment = interpreter.moment_of(body[name])
            made[name] = None if moment is None else moment.date()
        elif name == "b":
            try:
                made[name] = read.to_decimal(body[name])
            except ArithmeticError:
                made[name] = None
        else:
            made[name] = interpreter.moment_of(body[name])
    return made


def spelled(body: Any, spelling: int) -> bytes:
    """A message as JSON: as we write it, with escapes, and with blanks."""
    if spelling == 0:
        return msgspec.json.encode(body)
    separators = (" , ", " : ") if spelling == 2 else None
    return json.dumps(body, ensure_ascii=True, separators=separators).encode()


def agrees_when_simplified(condition: Condition, bodies: list[Any], wanted: list[bool | None]) -> None:
    simpler = simplified(condition.tree)
    assert [interpreter.evaluate(simpler, body) for body in bodies] == wanted, simpler
    again = compile_condition(simpler)
    assert [again.evaluate(body) for body in bodies] == wanted
    # The canonical text of the simpler tree means the same.
    assert parse_condition(again.text) == parse_condition(compile_condition(simplified(simpler)).text)


def agrees_when_skipping(condition: Condition, lines: list[bytes], chosen: list[int]) -> None:
    leaves = dict.fromkeys(askable(condition.requirement))
    reader = ColumnReader(list({leaf.path for leaf in leaves if leaf.path is not None}))
    ruled_out: dict[Any, list[tuple[int, int]]] = {leaf: [] for leaf in leaves}
    for first in range(0, len(lines), ZONE):
        values: dict[Any, list[Any]] = {leaf.path: [] for leaf in leaves}
        reader.add_values(chunk_of(lines[first : first + ZONE]), values)
        for leaf in leaves:
            if not Question(leaf).may_hold(summary_of(values[leaf.path])):
                ruled_out[leaf].append((first, min(first + ZONE, len(lines))))
    runs = impossible(condition.requirement, (0, len(lines)), ruled_out)
    assert not [place for place in chosen for start, end in runs if start <= place < end]
    assert all(start < end for start, end in runs)
    assert runs == sorted(runs)


def agrees_in_the_index(condition: Condition, chunk: Chunk, chosen: list[int]) -> None:
    index: SubscriptionIndex[str] = SubscriptionIndex()
    index.add("somebody", condition.requirement)
    matches = index.match(chunk)
    found = matches.places("somebody")
    if found is None:
        assert "somebody" in index.unfiled
        return
    places, is_certain = found
    assert list(places) == sorted(set(places))
    assert set(chosen) <= set(places)
    assert bool(places) == ("somebody" in set(matches.subscribers()))
    if is_certain:
        assert list(places) == chosen
    assert list(condition.select_among(chunk, places)) == chosen
    index.remove("somebody")
    assert not index
    assert not index.match(chunk).hits


def agrees_in_raw_json(condition: Condition, lines: list[bytes], chosen: list[int]) -> None:
    needles = needles_of(condition.requirement)
    if needles is not None:
        for place in chosen:
            line = lines[place]
            assert has_unicode_escapes(chunk_of([line])) or any(needle in line for needle in needles)
