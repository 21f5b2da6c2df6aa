"""Statistics rule out nothing that is there, and enough of what is not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settings import long_rounds

from geode_client import compile_filter
from geode_client.conditions.requirements import All, Any_, HasText, OneOf, Path, Within, after_prefix, leaves
from geode_client.conditions.zones import ColumnSummary, Question, impossible, summary_of

A = Path("a")
PIECE = "y" * 60
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.text(alphabet="x\U0010ffff", min_size=38, max_size=44),
    st.sampled_from((10**400, -(10**400), 2**63, -(2**63), 2**63 - 1, 1.0, 1, [], {})),
)


def meets(leaf: Any, value: Any) -> bool:
    """The leaf, asked of one value in the plainest way."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match leaf:
        case OneOf(_, texts, numbers, truths):
            if isinstance(value, bool):
                return value in truths
            return value in texts if isinstance(value, str) else is_number and value in numbers
        case Within():
            return (isinstance(value, str) if leaf.is_text else is_number) and leaf.holds(value)
        case HasText(_, piece):
            return isinstance(value, str) and piece in value
    raise AssertionError


scalars = values.filter(lambda value: isinstance(value, str | int | float) and not isinstance(value, bool))
asked = st.one_of(
    scalars.map(lambda v: OneOf(A, texts=frozenset((v,))) if isinstance(v, str) else OneOf(A, numbers=frozenset((v,)))),
    st.booleans().map(lambda v: OneOf(A, truths=frozenset((v,)))),
    st.builds(lambda v, i: Within(A, low=v, low_included=i), scalars, st.booleans()),
    st.builds(lambda v, i: Within(A, high=v, high_included=i), scalars, st.booleans()),
    st.text(min_size=1, max_size=2).map(lambda piece: HasText(A, piece)),
)


@long_rounds(300)
@given(held=st.lists(values, max_size=12), more=st.integers(0, 40), leaf=asked)
def test_what_is_there_is_never_ruled_out(held: list[Any], more: int, leaf: Any) -> None:
    # Many values more, so that there is a filter instead of a list.
    held = [*held, *(f"filler{number}" for number in range(more))]
    summary = ColumnSummary.from_bytes(summary_of(held).to_bytes())
    if any(meets(leaf, value) for value in held):
        assert Question(leaf).may_hold(summary)


@long_rounds(100)
@given(held=st.lists(scalars, min_size=1, max_size=30))
def test_each_value_is_found_again(held: list[Any]) -> None:
    summary = ColumnSummary.from_bytes(summary_of([*held, *range(1000, 1030)]).to_bytes())
    for value in held:
        leaf = OneOf(A, texts=frozenset((value,))) if isinstance(value, str) else OneOf(A, numbers=frozenset((value,)))
        assert Question(leaf).may_hold(summary)


@pytest.mark.parametrize(
    ("held", "text", "may"),
    [
        ([1, 2, 3], "a = 2", True),
        ([1, 3], "a = 2", False),
        ([1, 2.0, 3], "a = 2", True),
        ([1, 2, 3], "a = '2'", False),
        ([1, 2, 3], "a > 3", False),
        ([1, 2, 3], "a >= 3", True),
        (["a", "c"], "a = 'b'", False),
        (["a", "c"], "a > 5", False),
        ([True], "a", True),
        ([True], "NOT a", False),
        ([True, 1], "a = FALSE", False),
        ([None, [], {}], "a <> 1", False),
        (["x" * 50], "a = '" + "x" * 50 + "'", True),
        (["x" * 50], "a > '" + "x" * 45 + "'", True),
        (["x" * 50], "a > 'y'", False),
        (["abc", "abd"], "a LIKE 'ab%'", True),
        (["abc", "abd"], "a LIKE 'ac%'", False),
        (["abc", "abd"], "a LIKE '%d'", True),
        (["abc", "abd"], "a LIKE '%e%'", False),
        ([10**400], "a > 5", True),
        ([2**63], f"a = {2**63}", True),
        (list(range(100)), "a = 100", False),
        (list(range(100)), "a IN (100, 5)", True),
        (list(range(0, 200, 2)), "a = 1.5", False),
    ],
)
def test_what_a_summary_says(held: list[Any], text: str, may: bool) -> None:
    summary = ColumnSummary.from_bytes(summary_of(held).to_bytes())
    requirement = compile_filter(text).requirement
    window = (0, len(held))
    ruled_out = {leaf: [] if Question(leaf).may_hold(summary) else [window] for leaf in leaves(requirement)}
    assert bool(impossible(requirement, window, ruled_out)) is not may


def test_a_filter_rules_out_nearly_all_of_what_is_not_there() -> None:
    summary = summary_of([f"user{number}" for number in range(4000)])
    asked_for = [f"user{number}" for number in range(4000, 5000)]
    seems = sum(Question(OneOf(A, texts=frozenset((text,)))).may_hold(summary) for text in asked_for)
    assert seems <= 20


runs = st.lists(st.integers(0, 60), unique=True, max_size=10).map(
    lambda ends: [(start, end) for start, end in zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False)]
)


@long_rounds(200)
@given(one=runs, other=runs, third=runs)
def test_runs_are_joined_as_sets_are(one: Any, other: Any, third: Any) -> None:
    first, second, last = (HasText(A, name) for name in "xyz")
    ruled_out: dict[Any, Any] = {first: one, second: other, last: third}
    covered = {leaf: {n for start, end in found for n in range(start, end)} for leaf, found in ruled_out.items()}
    for requirement, wanted in (
        (All((first, second)), covered[first] | covered[second]),
        (Any_((first, second)), covered[first] & covered[second]),
        (All((Any_((first, last)), second)), (covered[first] & covered[last]) | covered[second]),
    ):
        found = impossible(requirement, (0, 61), ruled_out)
        assert [n for start, end in found for n in range(start, end)] == sorted(wanted)


@given(st.text(min_size=1, max_size=4), st.text(max_size=3))
def test_after_a_prefix_comes_nothing_that_begins_with_it(prefix: str, rest: str) -> None:
    above = after_prefix(prefix)
    assert above is None or prefix + rest < above
