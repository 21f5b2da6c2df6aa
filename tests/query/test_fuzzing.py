"""Nothing but GeodeError comes of any text: hypothesis in every run, atheris for ten minutes in a soak."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conditions.strategies import conditions
from hypothesis import given
from hypothesis import strategies as st
from query import fuzzing
from query.strategies import selects
from settings import SOAK, long_rounds

from geode_client import Client

FUZZING_SECONDS = 600


class Asker:
    """A small store, asked from tests that do not await."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._client: Client = self._loop.run_until_complete(fuzzing.opened())

    def check(self, text: str) -> None:
        self._loop.run_until_complete(fuzzing.check(self._client, text))

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


@pytest.fixture(scope="module")
def asker() -> Iterator[Asker]:
    made = Asker()
    yield made
    made.close()


@long_rounds(300)
@given(numbers=st.lists(st.integers(0, 10_000), min_size=1, max_size=40))
def test_words_in_any_order(asker: Asker, numbers: list[int]) -> None:
    text = fuzzing.assembled(numbers)
    asker.check(text)
    asker.check(f"SELECT {text}")
    fuzzing.check_condition(text)


@long_rounds(150)
@given(
    made=selects(),
    cuts=st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 3), st.sampled_from(fuzzing.WORDS)), min_size=1, max_size=3
    ),
)
def test_mangled_queries(asker: Asker, made: tuple[str, bool], cuts: list[tuple[int, int, str]]) -> None:
    words = made[0].split(" ")
    for place, length, inserted in cuts:
        words[place : place + length] = [inserted]
    asker.check(" ".join(words))


@long_rounds(150)
@given(text=conditions())
def test_conditions_over_declared_columns(asker: Asker, text: str) -> None:
    asker.check(f"SELECT a FROM typed AS o WHERE {text}")
    asker.check(
        f"SELECT x.a, x.b FROM typed AS x JOIN (SELECT a AS k FROM typed WHERE {text}) AS y ON x.a = k ORDER BY x.b"
    )
    asker.check(f"SELECT {text} AS v, count(*) FROM (SELECT d AS a, c AS b, b AS c, a AS d FROM typed) AS x GROUP BY v")


@pytest.mark.skipif(not SOAK, reason="ten minutes: only in a soak")
def test_fuzzing_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    run: list[Any] = [sys.executable, fuzzing.__file__, f"-max_total_time={FUZZING_SECONDS}", "-timeout=60", tmp_path]
    done = subprocess.run(
        run, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False, timeout=2 * FUZZING_SECONDS
    )
    assert done.returncode == 0, done.stderr[-5000:]
