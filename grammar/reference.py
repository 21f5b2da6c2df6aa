"""Statements and clauses for the language reference: the grammar rules that each describes, a line of help, and an example.

Every rule of gql.lark that has a meaning of its own belongs to exactly one entry, and a clause that is part of a larger rule has an entry without rules; tests check that, and that each example
uses the rules it is the example of. The examples run on the topics that `PREPARED` makes, with `PARAMETERS`.
"""

from collections.abc import Mapping
from typing import Any

from geode_client.grammar import reference_queries, reference_statements
from geode_client.grammar.entries import Entry, Section

__all__ = ["EXPRESSIONS", "PARAMETERS", "PREPARED", "SECTIONS", "STATEMENTS", "TYPES", "Entry", "Section"]

PREPARED = """CREATE TOPIC orders SCHEMA (id STRING NOT NULL, customer STRING, status STRING, total DECIMAL(10, 2),
    items LIST<STRUCT<sku: STRING, n: INT>>, created TIMESTAMP);
PUBLISH TO orders
    {"id": "o-1", "customer": "c1", "status": "paid", "total": 12.5, "items": [{"sku": "pen", "n": 3}],
     "created": "2026-03-05T10:00:00Z"},
    {"id": "o-2", "customer": "c2", "status": "open", "total": 8, "items": [], "created": "2026-03-06T11:30:00Z"},
    {"id": "o-3", "customer": "c1", "status": "open", "total": 99.95, "items": [{"sku": "ink", "n": 1}],
     "created": "2026-04-01T09:00:00Z"};
PUBLISH TO customers {"id": "c1", "name": "Ada", "a b": 1}, {"id": "c2", "name": "Grace"},
    {"id": "c3", "name": "Edsger"};
PUBLISH TO numbers {"n": 1, "s": "a"}, {"n": 2, "s": "b"}, {"n": 3, "s": "c"};
CREATE SUBSCRIPTION workers ON orders FROM BEGINNING;
"""
"""What there is before each example."""
PARAMETERS: Mapping[str, Any] = {"least": 10, "message": {"id": "o-9"}, "states": ["paid", "open"]}
"""The parameters that examples use."""

STATEMENTS = (
    reference_statements.TOPICS,
    reference_statements.PUBLISHING,
    reference_statements.SUBSCRIBING,
    reference_statements.GROUPS,
    reference_queries.QUERIES,
    reference_statements.LOOKING,
    reference_statements.LETTERS,
    reference_statements.TRANSACTIONS,
    reference_statements.FILES,
    reference_statements.SCRIPTS,
)
EXPRESSIONS = (reference_queries.VALUES, reference_queries.CONDITIONS, reference_queries.CALLS)
TYPES = reference_queries.TYPES
SECTIONS = (*STATEMENTS, *EXPRESSIONS, TYPES)
