"""The public interface: what completion shows of it, and that all of it is described."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import geode_client
from geode_client import Client, SyncClient

CALLS = {
    *("open", "close", "publish", "publish_batch", "subscribe", "request", "serve", "transaction", "connection"),
    *("execute", "query", "run_script", "get_throughput", "get_error_rate", "get_consumer_lag", "health", "target"),
}
DESCRIBED = (
    *("Client", "SyncClient", "Subscription", "Message", "Transaction", "Connection", "Result"),
    "Request",
    "Service",
)


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions, and those of the public classes."""
    for name in geode_client.__all__:
        found = getattr(geode_client, name)
        if inspect.isfunction(found):
            yield name, found
    for name in DESCRIBED:
        for attribute, found in vars(getattr(geode_client, name)).items():
            if attribute[0] != "_" and inspect.isfunction(found):
                yield f"{name}.{attribute}", found


def lacks(found: Callable[..., Any]) -> list[str]:
    """What the docstring of a function does not say."""
    text, signature = found.__doc__ or "", inspect.signature(found)
    missing = [
        name for name in signature.parameters if name != "self" and not re.search(rf"^ +{name}: \S", text, re.MULTILINE)
    ]
    gives = str(signature.return_annotation) not in ("None", "<class 'inspect._empty'>")
    if gives and not re.search(r"^ +(Returns|Yields):$", text, re.MULTILINE) and "\n" in text:
        missing.append("Returns")
    return missing if text else ["everything"]


def test_completion_shows_what_a_program_calls_and_no_internals() -> None:
    assert {name for name in dir(Client) if name[0] != "_"} == CALLS
    assert {name for name in dir(SyncClient) if name[0] != "_"} == CALLS | {"run", "messages"}


@pytest.mark.parametrize(("name", "found"), [*functions()], ids=[name for name, _ in functions()])
def test_arguments_and_results_are_described(name: str, found: Callable[..., Any]) -> None:
    assert not lacks(found), name


def test_the_check_can_fail() -> None:
    def bad(one: int, two: int) -> int:
        """Do it.

        Args:
            one: The first.
        """
        return one + two

    assert lacks(bad) == ["two", "Returns"]
