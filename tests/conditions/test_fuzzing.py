"""No text and no message makes a condition, or what is derived from it, raise anything but GeodeError."""

import random
import re
from typing import Any

from conditions.strategies import condition_text, message
from conditions.test_differential import chunk_of, spelled
from hypothesis import example, given
from hypothesis import strategies as st
from settings import long_rounds

from geode_client import GeodeError, compile_filter
from geode_client.conditions.index import SubscriptionIndex
from geode_client.conditions.simplify import simplified
from geode_client.conditions.zones import summary_of

WORD = re.compile(r"\w+|\s+|[^\w\s]")
SPLINTERS = (
    "",
    "(",
    ")",
    "'",
    '"',
    "NOT",
    "IN",
    "LIKE",
    "NULL",
    "1e999",
    "$p",
    "\x00",
    "\ud800",
    "é",
    "--",
    "/*",
    ".",
    "[0]",
    "9" * 400,
)
PARAMETERS = (
    None,
    True,
    10**400,
    -0.0,
    float("nan"),
    float("inf"),
    "x" * 3000,
    "\ud800",
    [1],
    {"a": 1},
    b"raw",
    3 + 4j,
)


def judge(text: str, parameters: dict[str, Any], bodies: list[Any]) -> None:
    """All that is done with a condition."""
    try:
        condition = compile_filter(text, parameters)
    except GeodeError as error:
        error.render() if hasattr(error, "render") else str(error)
        return
    chunk = chunk_of([spelled(body, 1) for body in bodies])
    condition.select(chunk)
    condition.truths(chunk)
    for body in bodies:
        condition.evaluate(body)
    index: SubscriptionIndex[int] = SubscriptionIndex()
    index.add(1, condition.requirement)
    index.match(chunk)
    index.remove(1)
    simplified(condition.tree)
    summary_of(bodies)


@long_rounds(300)
@given(
    seed=st.integers(0, 2**32),
    cuts=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.sampled_from(SPLINTERS)), max_size=3),
    parameter=st.sampled_from(PARAMETERS),
)
def test_mangled_conditions(seed: int, cuts: list[tuple[int, int, str]], parameter: Any) -> None:
    chance = random.Random(seed)
    words = WORD.findall(condition_text(chance))
    for place, length, inserted in cuts:
        words[place : place + length] = [inserted]
    judge("".join(words), {"p": parameter}, [message(chance) for _ in range(3)])


@long_rounds(200)
@given(text=st.text(max_size=60))
@example('"\ud800" = 1')
@example("a = '\ud800'")
@example("'\ud800' LIKE a")
@example("a['\ud800'] = 1")
@example('EXISTS("\ud800")')
@example("a LIKE '\U0010ffff%'")
def test_any_text(text: str) -> None:
    judge(text, {}, [{"a": 1}])


@long_rounds(100)
@given(
    parameter=st.sampled_from(PARAMETERS),
    form=st.sampled_from(("a = $p", "a < $p", "a IN ($p, 1)", "a LIKE $p", "$p", "a + $p = 1", "STARTS_WITH(a, $p)")),
)
def test_any_parameter(parameter: Any, form: str) -> None:
    judge(form, {"p": parameter}, [{"a": value} for value in (1, "x", None, [1], 10**400, -1e300)])
