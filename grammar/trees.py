"""The children of a node of the parser's tree."""

from lark import Token, Tree


def trees_of(tree: Tree[Token]) -> list[Tree[Token]]:
    """The children that are trees, in order."""
    return [child for child in tree.children if isinstance(child, Tree)]


def token_of(tree: Tree[Token], kind: str) -> Token | None:
    """The first token of a kind among the children; None where there is none."""
    return next((child for child in tree.children if isinstance(child, Token) and child.type == kind), None)
