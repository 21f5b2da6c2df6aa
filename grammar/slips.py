"""Hints for what people write out of habit from other languages, and words of SQL that are not supported.

Asked when a text does not parse; knows the text around the place, and nothing of the parser.
"""

import re

from geode_client.grammar.errors import did_you_mean

_SIGNS = (
    ("::", "a cast is written CAST(value AS TYPE)"),
    ("==", "equality is written ="),
    ("&&", "write AND"),
    ("!", "write NOT, or <> for a comparison"),
    ("?", "a parameter is written $name"),
    ("%s", "a parameter is written $name"),
    (":", "a parameter is written $name"),
    ("\\", "inside a text a quote is written twice: ''"),
    ("~", "write LIKE, or ILIKE for any case"),
)
_WORDS = {
    "DELETE": "messages are not deleted one by one: PURGE TOPIC empties a topic, retention_period deletes old messages",
    "UPDATE": "messages do not change: publish a new one",
    "TRUNCATE": "PURGE TOPIC empties a topic",
    "MERGE": "messages do not change: publish a new one",
    "USE": "a client opens one store: name it with --target, or Client(directory)",
}
_UNSUPPORTED = {
    "NATURAL": "write JOIN … USING (column)",
    "SEMI": "write WHERE a IN (SELECT …)",
    "ANTI": "write WHERE a NOT IN (SELECT …), or LEFT JOIN and IS NULL",
    "ASOF": "join on the times with <= and keep the newest",
    "POSITIONAL": "write JOIN … ON",
    "LATERAL": "UNNEST(list) reads the sources before it; other sub-queries cannot",
    "APPLY": "write JOIN … ON, or CROSS JOIN UNNEST(list)",
    "STRAIGHT_JOIN": "write JOIN … ON",
    "OUTER": "write LEFT, RIGHT or FULL JOIN",
    "MINUS": "write EXCEPT",
    "FETCH": "write LIMIT n",
    "FOR": None,
    "WINDOW": "write the window after OVER",
    "QUALIFY": "put the SELECT into FROM (…) and use WHERE",
    "FINAL": None,
    "SAMPLE": None,
    "TABLESAMPLE": None,
    "PIVOT": "use CASE inside aggregates",
    "UNPIVOT": "use UNION ALL",
    "MATCH_RECOGNIZE": None,
    "PREWHERE": "write WHERE",
    "COLLATE": "texts compare by code point: LOWER(…) folds case",
    "CONNECT": None,
    "RETURNING": None,
    "INTO": "write INSERT INTO topic SELECT …",
    "OVERLAPS": None,
    "REGEXP": "write LIKE",
    "RLIKE": "write LIKE",
    "GLOB": "write LIKE with % and _",
    "SIMILAR": "write LIKE",
    "AT": "CAST and DATE_TRUNC work in UTC",
    "DIV": "write FLOOR(a / b)",
    "XOR": "write a <> b",
    "ISNULL": "write IS NULL",
    "NOTNULL": "write IS NOT NULL",
    "WITHIN": None,
    "ROWS": "a window reaches from the start of its partition to the current row",
    "RANGE": "a window reaches from the start of its partition to the current row",
    "GROUPS": "a window reaches from the start of its partition to the current row",
}
_NUMBER = re.compile(r"[\d.][\w.]*")


def unsupported(word: str, *, as_alias: bool = True) -> tuple[str, str | None] | None:
    """Message and hint for a word of SQL that is not built; None for any other."""
    if word.upper() not in _UNSUPPORTED:
        return None
    hints = [_UNSUPPORTED[word.upper()], f"an alias of that name needs AS: AS {word}" if as_alias else None]
    return f"{word.upper()} is not supported", "; ".join(filter(None, hints)) or None


def glued(text: str, place: int) -> tuple[str, str] | None:
    """What looks like a number at a place and is none, with a hint; None where nothing does."""
    found = _NUMBER.match(text, place)
    if found is None or not any(character.isdigit() for character in found[0]):
        return None
    word = found[0]
    if re.fullmatch(r"\d[\d_]*\d", word):
        return word, f"write {word.replace('_', '')}" if "_" in word else "put a space behind the number"
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,300}", word):
        return word, f"write {int(word, 16)}"
    if re.fullmatch(r"0[bB][01]{1,300}", word):
        return word, f"write {int(word, 2)}"
    if re.fullmatch(r"\d+(?:\.\d*)?[^\W\d]\w*", word):
        return word, "put a space between the number and the word, or quote the name"
    return None


def hint_at(text: str, start: int, place: int, end: int) -> str | None:
    """The hint for a statement that begins at `start` and is wrong from `place` to `end`."""
    for sign, hint in _SIGNS:
        for first in range(max(start, place - len(sign) + 1), place + 1):
            if text.startswith(sign, first) and not (sign == "!" and text.startswith("!=", first)):
                return hint
    word, before = text[place:end], text[start:place].strip()
    if not before:
        return _WORDS.get(word.upper())
    # DELETE DEAD LETTERS is a statement, so the first word that is wrong comes after DELETE.
    if before.upper() == "DELETE" and did_you_mean(word, ["DEAD"]) is None:
        return _WORDS["DELETE"]
    return None


def forgotten_from(text: str, start: int, place: int) -> str | None:
    """The hint for a SELECT without FROM, where a topic seems to stand at the place."""
    before = text[start:place]
    if not re.match(r"\s*SELECT\b", before, re.IGNORECASE) or re.search(r"\bFROM\b", before, re.IGNORECASE):
        return None
    found = re.compile(r"[\w./*-]+").match(text, place)
    return None if found is None else f"is FROM missing? … FROM {found[0]}"
