"""Functions from Python's syntax trees; the only place where code is compiled."""

import ast
from collections.abc import Callable, Sequence
from types import CodeType, FunctionType
from typing import Any

from geode_client.conditions.fields import ABSENT
from geode_client.errors import GqlError


def build(name: str, arguments: Sequence[str], body: ast.expr, names: dict[str, Any]) -> Callable[..., Any]:
    """A function that returns `body`; `names` are what it may refer to beside its arguments."""
    signature = ast.arguments(
        posonlyargs=[],
        args=[ast.arg(argument) for argument in arguments],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    definition = ast.FunctionDef(name=name, args=signature, body=[ast.Return(body)], decorator_list=[])
    module = ast.fix_missing_locations(ast.Module([definition], []))
    scope: dict[str, Any] = {"__builtins__": {"enumerate": enumerate, "zip": zip}, **names, "ABSENT": ABSENT}
    try:
        code = compile(module, f"<{name}>", "exec")
    except RecursionError:
        raise GqlError("this is nested too deeply") from None
    inner = next(constant for constant in code.co_consts if isinstance(constant, CodeType))
    return FunctionType(inner, scope, name)
