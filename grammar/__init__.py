"""The language of Geode: text to statements and back. What is not used is not loaded.

`parse` gives one statement, `parse_script` all of a text, `parse_condition` a condition by itself, `unparse` the
canonical text of a statement. Wrong texts raise GqlSyntaxError, which knows the place.
"""

from typing import TYPE_CHECKING, Any

from geode_client.grammar.errors import GeodeError, GqlError, GqlSyntaxError

if TYPE_CHECKING:
    from geode_client.grammar.parser import parse, parse_condition, parse_script
    from geode_client.grammar.scan import statement_is_complete
    from geode_client.grammar.unparse import unparse
from geode_client.grammar.unparse_expressions import unparse_expression

__all__ = [
    "GeodeError",
    "GqlError",
    "GqlSyntaxError",
    "parse",
    "parse_condition",
    "parse_script",
    "statement_is_complete",
    "unparse",
    "unparse_expression",
]


def __getattr__(name: str) -> Any:
    if name in ("parse", "parse_condition", "parse_script"):
        from geode_client.grammar import parser

        return getattr(parser, name)
    if name == "statement_is_complete":
        from geode_client.grammar import scan

        return scan.statement_is_complete
    if name in ("unparse", "unparse_expression"):
        from geode_client.grammar import unparse as module

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
