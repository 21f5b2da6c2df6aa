"""The client without `await` is the asynchronous one: generated, up to date, and as strictly typed."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from repository import generate_sync

from geode_client import Client, sync

INTERNAL = generate_sync.CLASSES[0].left_out
USE = """
from dataclasses import dataclass
from typing import assert_type

from geode_client import BatchReceipt, Receipt, Result, SyncClient
from geode_client.sync import SyncMessage


@dataclass
class Order:
    id: int


def use(client: SyncClient) -> None:
    assert_type(client.publish("t", {"n": 1}, priority=3), Receipt)
    assert_type(client.query("SELECT 1"), Result)
    with client.subscribe("t", limit=1) as subscription:
        assert_type(subscription.get(timeout=1), SyncMessage | None)
        for message in subscription:
            assert_type(message, SyncMessage)
            message.ack()
    with client.subscribe("t", type=Order) as orders:
        for batch in orders.batches(10):
            assert_type(batch, list[Order])
    with client.transaction() as tx:
        one, many = tx.publish("t", 1, expected_offset=0), tx.publish_batch("t", [1])
    assert_type(one.receipt, Receipt)
    assert_type(many.receipt, BatchReceipt)
"""


def test_the_file_is_up_to_date() -> None:
    found = generate_sync.TARGET.read_text(encoding="utf-8")
    assert found == generate_sync.generated(), "engine/sync.py is not up to date: run 'make generate'"


def test_every_public_call_of_the_original_is_there() -> None:
    for twin in generate_sync.CLASSES:
        module = importlib.import_module(f"geode_client.{twin.module}")
        original, made = getattr(module, twin.name), getattr(sync, f"Sync{twin.name}")
        for name in vars(original):
            if not name.startswith("_") and name not in twin.left_out:
                assert hasattr(made, name), f"Sync{twin.name} lacks {name}"


def test_every_public_attribute_of_an_instance_is_there() -> None:
    for twin in generate_sync.CLASSES:
        module = importlib.import_module(f"geode_client.{twin.module}")
        given = {
            node.attr
            for node in ast.walk(ast.parse(inspect.getsource(getattr(module, twin.name)).strip()))
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
        }
        public = {name for name in given if name[0] != "_"} - twin.left_out
        assert public <= {*dir(getattr(sync, f"Sync{twin.name}"))}, f"Sync{twin.name} lacks {public}"


@pytest.mark.parametrize("name", sorted(name for name in vars(Client) if name[0] != "_" and name not in INTERNAL))
def test_options_are_those_of_the_original(name: str) -> None:
    original, made = vars(Client)[name], getattr(sync.SyncClient, name)
    if inspect.isfunction(original):
        assert [*inspect.signature(original).parameters.values()] == [
            parameter.replace(annotation=inspect.signature(original).parameters[parameter.name].annotation)
            for parameter in inspect.signature(made).parameters.values()
        ]


def test_nothing_public_takes_or_gives_anything_at_all() -> None:
    """`Any` switches type checking off: in `SyncClient` nothing has it."""
    found: list[str] = []
    for node in ast.parse(generate_sync.TARGET.read_text(encoding="utf-8")).body:
        for function in ast.walk(node) if isinstance(node, ast.ClassDef) else ():
            if isinstance(function, ast.FunctionDef):
                parts: list[Any] = [function.args, function.returns]
                names = {name.id for part in parts if part for name in ast.walk(part) if isinstance(name, ast.Name)}
                found += [f"{function.lineno}: {function.name}"] if "Any" in names else []
    assert not found


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", ""),
        ('client.publish("t", 1, prioritty=3)', 'Unexpected keyword argument "prioritty"'),
        ('client.publish("t", 1, priority=3.5)', 'Argument "priority"'),
        ('client.subscribe("t", consumergroup="g")', 'Unexpected keyword argument "consumergroup"'),
        ("client.transaction(time_out=3)", 'Unexpected keyword argument "time_out"'),
        ('SyncClient("d", auto_craete=False)', 'Unexpected keyword argument "auto_craete"'),
        ('client.get_consumer_lag("t").real', 'Missing positional argument "group"'),
        ('client.publish_bach("t", [1])', 'has no attribute "publish_bach"'),
    ],
)
def test_a_misspelled_option_fails_type_checking(tmp_path: Path, line: str, says: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"{USE}    {line}\n", encoding="utf-8")
    cache = Path(__file__).parents[2] / "build" / "mypy"
    run = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(cache), str(program)]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert bool(says) == bool(done.returncode), done.stdout + done.stderr
    assert says in done.stdout
