"""Every function of the registry over every kind of value: a value or UNKNOWN, never an exception, and soon.

The values are the awkward ones of each kind: huge, tiny, at the edge of the calendar, half a character, deeply nested, wrong.
Examples of the registry run here too, so that no line of the reference is wrong.
"""

import itertools
import json
import math
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from geode_client import GqlError, SyncClient, compile_filter
from geode_client.conditions import casts, functions, scalars
from geode_client.conditions.declared import reader
from geode_client.grammar.ast import ListType, MapType, Scalar, StructField, StructType
from geode_client.grammar.calls import AGGREGATES as CLASSES
from geode_client.grammar.functions import AGGREGATES, ALIASES, BARE, FUNCTIONS, SCALARS
from geode_client.query.accumulators import IMPLEMENTED
from geode_client.values import CalendarInterval, WrittenNumber, compare, equal, group_key, sort_key


def deep(levels: int) -> Any:
    made: Any = 1
    for level in range(levels):
        made = [made] if level % 2 else {"a": made}
    return made


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 2**53, 10**30, -(10**400), 2**8191),
    *(0.5, -0.0, 1e300, 5e-324, 1.7976931348623157e308, 1e23, math.inf, -math.inf, math.nan),
    *(
        Decimal("0.1"),
        Decimal("1E+299"),
        Decimal("-1E-300"),
        Decimal("9" * 300),
        Decimal("1e999999"),
        Decimal("1e-999999"),
    ),
    *(WrittenNumber.of("0.12345678901234567890123"), WrittenNumber.of("4E-400")),
    *(
        "",
        "x",
        "X" * 70_000,
        "%",
        "\\1",
        "(",
        "day",
        "1e999999",
        "-1E-999999",
        "9" * 500,
        "٣",
        "1_000",
        "UTC",
        "%Y",
        "%",
    ),
    *(
        "\ud800",
        "\udfff\ud800",
        "ẞ",
        "İ" * 100,
        "\x00",
        "6F9619FF-8B86-D011-B42D-00CF4FC964FF",
        "[1, 2]",
        "[" * 5_000,
        "nan",
    ),
    *(
        "2026-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59.999999-23:59",
        "2026-02-29",
        "2026-W01-1",
    ),
    *("0001-01-01", "9999-12-31", "2026-01-01T00:00:00.123456789Z", "America/New_York", "../../etc/passwd"),
    *(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    *(
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, tzinfo=timezone(-timedelta(hours=14))),
    ),
    *(date(1, 1, 1), date(9999, 12, 31), date(2024, 2, 29)),
    *(timedelta.max, timedelta.min, timedelta(), timedelta(microseconds=1)),
    *(CalendarInterval(1), CalendarInterval(-12_000, timedelta(days=1)), CalendarInterval(10**9)),
    *(UUID(int=0), UUID(int=2**128 - 1), [], [1, None, "x"], [[]] * 1000, {}, {"a": None}, deep(300)),
)
KINDS = (str, bool, int, float, Decimal, datetime, date, timedelta, CalendarInterval, UUID, list, dict, type(None))
FEW = tuple(value for place, value in enumerate(VALUES) if place % 5 == 0 and not isinstance(value, WrittenNumber))


def is_value(value: Any) -> bool:
    return value.__class__ in KINDS


def check(name: str, call: Callable[..., Any], values: tuple[Any, ...]) -> None:
    try:
        found = call(*values)
    except Exception as error:
        error.add_note(f"{name}({', '.join(repr(value)[:60] for value in values)})")
        raise
    assert is_value(found), (name, values, found)
    if any(found is value for value in values):
        return
    assert not (isinstance(found, float) and not math.isfinite(found) and all(map(is_finite, values))), (name, values)
    assert not (isinstance(found, int) and found.bit_length() > 4 * functions.INTEGER_BITS_MAX), name
    assert not (isinstance(found, str) and len(found) > functions.TEXT_CHARACTERS_MAX), name


def is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", scalars.SCALARS)
def test_a_function_gives_a_value_for_every_value(name: str) -> None:
    function, call = FUNCTIONS[name], scalars.SCALARS[name]
    most = min(function.most, 4)
    # Only some functions are given the digits that a literal has.
    everything = [one for one in VALUES if name in scalars.EXACT_LITERALS or not isinstance(one, WrittenNumber)]
    for count in range(function.least, most + 1):
        choices = everything if count <= 2 else FEW
        for values in itertools.product(*[choices if place < 2 else FEW for place in range(count)]):
            if count <= 3 or hash(repr(values)) % 7 == 0:
                check(name, call, values)


OPERATORS: dict[str, Callable[..., Any]] = {
    **{one.__name__: one for one in (functions.add, functions.subtract, functions.multiply, functions.divide)},
    **{one.__name__: one for one in (functions.remainder, functions.concat, compare, equal, functions.distinct)},
    **{one.__name__: one for one in (functions.less, functions.greater_equal, functions.not_equal)},
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_gives_a_value_for_every_two_values(name: str) -> None:
    for values in itertools.product(VALUES, VALUES):
        check(name, OPERATORS[name], values)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", casts._CASTS)
def test_a_cast_gives_a_value_for_every_value(name: str) -> None:
    for value in VALUES:
        check(f"CAST AS {name}", casts.caster(name), (value,))
    if name == "DECIMAL":
        for value in VALUES:
            check("CAST AS DECIMAL(10, 2)", casts.caster(name, (10, 2)), (value,))


TYPES = tuple(
    Scalar(name) for name in ("STRING", "INT", "FLOAT", "BOOL", "TIMESTAMP", "DATE", "DECIMAL", "UUID", "ANY")
)


@pytest.mark.timeout(60)
def test_a_declared_column_gives_a_value_for_every_value() -> None:
    nested = (ListType(one) for one in TYPES), (MapType(one) for one in TYPES)
    struct = StructType(tuple(StructField(one.name.lower(), one) for one in TYPES))
    for column in (*TYPES, *itertools.chain(*nested), struct):
        for steps in ((), (0,), ("a",), ("decimal",)):
            read = reader(column, steps)
            for value in VALUES:
                if read is not None:
                    check(f"{column}{steps}", read, (value,))


def test_equal_values_have_equal_keys_and_sort_together() -> None:
    values = [one for one in VALUES if not isinstance(one, list | dict | WrittenNumber | type(None)) and one == one]  # noqa: PLR0124
    for one, other in itertools.product(values, values):
        texts = isinstance(one, str) != isinstance(other, str)
        same = equal(one, other)
        if same and not texts:
            assert group_key(one) == group_key(other), (one, other)
        if same is False and not texts:
            assert group_key(one) != group_key(other), (one, other)
        order = compare(one, other)
        if order is not None and not texts and CalendarInterval not in (type(one), type(other)):
            keys = sort_key(one), sort_key(other)
            assert (keys[0] > keys[1]) - (keys[0] < keys[1]) == order, (one, other)


def test_every_function_is_bound_to_its_name() -> None:
    assert {*scalars.SCALARS, "NOW", *BARE} == set(SCALARS)
    assert {name.lower() for name in AGGREGATES} == IMPLEMENTED
    assert CLASSES.keys() == AGGREGATES.keys()
    assert set(ALIASES.values()) <= FUNCTIONS.keys()
    assert not ALIASES.keys() & FUNCTIONS.keys()


@pytest.fixture(scope="module")
def client() -> Any:
    with SyncClient(":memory:") as made:
        made.execute('PUBLISH TO numbers {"n": 1, "s": "a"}, {"n": 2, "s": "b"}, {"n": 3, "s": "c"}')
        yield made


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_of_the_registry_is_right(client: Any, name: str) -> None:
    text, wanted = FUNCTIONS[name].example
    source = " FROM numbers" if FUNCTIONS[name].aggregate else ""
    found = client.query(f"SELECT {text}{source}").scalar()
    shown = found if isinstance(found, str) else json.dumps(found, separators=(",", ":"))
    assert shown == wanted, text
    assert name in FUNCTIONS[name].signature
    assert FUNCTIONS[name].help.endswith(".")


@pytest.mark.parametrize("name", [name for name in SCALARS if name != "EXTRACT"])
def test_too_few_arguments_are_an_error_that_shows_the_form(name: str) -> None:
    arguments = ", ".join("a" for _ in range(FUNCTIONS[name].most + 1))
    with pytest.raises(GqlError, match="takes") as caught:
        compile_filter(f"{name}({arguments}) = 1")
    assert name in str(caught.value.hint)


def test_a_decimal_does_not_depend_on_the_context_of_the_thread() -> None:
    condition = compile_filter("CAST(a AS DECIMAL) * 3 + 0.1 = CAST('370370367037037036703703703670.1' AS DECIMAL)")
    found: list[Any] = []

    def judge() -> None:
        import decimal

        decimal.getcontext().prec = 3
        decimal.getcontext().traps[decimal.Inexact] = True
        found.append(condition.evaluate({"a": "123456789012345678901234567890"}))

    thread = threading.Thread(target=judge)
    thread.start()
    thread.join()
    assert found == [True]
