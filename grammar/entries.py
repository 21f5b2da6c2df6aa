"""The records of the language reference: entries under headings. `reference.py` has them all."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One statement or clause. `rules` are names of grammar rules; `needs` names a feature that not every backend has."""

    title: str
    rules: tuple[str, ...]
    help: str
    example: str
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Entries under one heading."""

    title: str
    entries: tuple[Entry, ...]


def entry(title: str, rules: str, help: str, example: str, needs: str | None = None) -> Entry:
    """An entry whose rules are given as one text, with spaces between them."""
    return Entry(title, tuple(rules.split()), help, example, needs)
