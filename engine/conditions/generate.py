"""Functions over whole batches, made of the expressions that the compiler gives.

Generated functions take the rows, the time for NOW(), and one sequence for each virtual column.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from geode_client.conditions import present
from geode_client.conditions.build import build
from geode_client.conditions.compile import Compiler
from geode_client.conditions.kinds import Kinds
from geode_client.conditions.normal import requirement_of
from geode_client.conditions.paths import is_path
from geode_client.conditions.requirements import Requirement
from geode_client.conditions.rows import MessageReference
from geode_client.errors import GqlError
from geode_client.grammar.ast import TypeNode


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of a condition before its functions are made."""

    reference: MessageReference
    requirement: Requirement


@dataclass(frozen=True, slots=True)
class Functions:
    """`select`: rows to places where the condition is TRUE. `value`: one row to its value."""

    select: Callable[..., list[int]]
    value: Callable[..., Any]


class _Forms:
    """The two forms of a condition as syntax trees, and what their names are bound to."""

    def __init__(
        self,
        tree: exp.Expression,
        parameters: Mapping[str, Any] | None,
        columns: Mapping[str, TypeNode] | None,
        alias: str | None,
    ) -> None:
        self.reference = reference = MessageReference(columns, alias)
        _find_present(tree, reference)
        self.compiler = compiler = Compiler(reference, parameters)
        if columns:
            Kinds(lambda node: reference.kind_of(node) if is_path(node) else None, compiler.constant).check(tree)
        try:
            self.holds = compiler.true_form(tree)
            self.value = compiler.truth(tree)
        except RecursionError:
            raise GqlError("this condition is nested too deeply") from None


def checked(
    tree: exp.Expression,
    parameters: Mapping[str, Any] | None,
    columns: Mapping[str, TypeNode] | None,
    alias: str | None,
) -> Checked:
    """What a condition reads and requires; raises GqlError for what is wrong in it."""
    forms = _Forms(tree, parameters, columns, alias)
    return Checked(forms.reference, requirement_of(tree, forms.compiler, forms.reference))


def functions_of(
    tree: exp.Expression,
    parameters: Mapping[str, Any] | None,
    columns: Mapping[str, TypeNode] | None,
    alias: str | None,
) -> Functions:
    """The functions of a condition over messages."""
    forms = _Forms(tree, parameters, columns, alias)
    names = {**forms.compiler.names, "present": present}
    virtual = [f"v{name}" for name in forms.reference.virtual]
    arguments = ["rows", "now", *[f"{name}s" for name in virtual]]
    select = build("select", arguments, _places(forms.holds, virtual), names)
    single = build("value", ["r", "now", *virtual], forms.value, names)
    return Functions(select, single)


def _find_present(tree: exp.Expression, reference: MessageReference) -> None:
    """Fields under EXISTS have to be known before anything that reads them is compiled."""
    for node in tree.find_all(exp.Exists):
        name, virtual, _ = reference.resolve(node.this)
        if not virtual:
            reference.present.add(name)


def _places(holds: ast.expr, virtual: Sequence[str]) -> ast.expr:
    """`[i for i, r in enumerate(rows) if holds]`, with the virtual columns beside the rows."""
    return ast.ListComp(ast.Name("i", ast.Load()), [_loop(virtual, test=holds)])


def _loop(virtual: Sequence[str], *, test: ast.expr) -> ast.comprehension:
    row: ast.expr = ast.Name("r", ast.Store())
    source: ast.expr = ast.Name("rows", ast.Load())
    if virtual:
        row = ast.Tuple([row, *[ast.Name(name, ast.Store()) for name in virtual]], ast.Store())
        columns = [ast.Name(f"{name}s", ast.Load()) for name in virtual]
        source = ast.Call(ast.Name("zip", ast.Load()), [source, *columns], [])
    row = ast.Tuple([ast.Name("i", ast.Store()), row], ast.Store())
    source = ast.Call(ast.Name("enumerate", ast.Load()), [source], [])
    return ast.comprehension(row, source, [test], 0)
