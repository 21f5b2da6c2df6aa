"""Texts are looked for in raw JSON only where that finds every message that may do, however it is written."""

import json
from typing import Any

import msgspec
import pytest
from conditions.test_differential import chunk_of

from geode_client import compile_filter
from geode_client.conditions.literals import LiteralSearch, has_unicode_escapes, needles_of

WRITERS: dict[str, Any] = {
    "ours": msgspec.json.encode,
    "escaped": lambda body: json.dumps(body).encode(),
    "spaced": lambda body: json.dumps(body, ensure_ascii=False, separators=(" ,  ", " :\t")).encode(),
    "all in escapes": lambda body: escaped(json.dumps(body, ensure_ascii=False)),
}
TEXTS = ("user77", "a/b", 'say "hi"', "back\\slash", "tab\there", "Grüße", "日本", "", "x", "\x7f", "\U0001f600!")


def escaped(text: str) -> bytes:
    """Each letter of every string as \\uXXXX."""
    return "".join(
        f"\\u{ord(c):04x}" if c.isalpha() and c < "\U00010000" and c not in "utnrbf" else c for c in text
    ).encode()


@pytest.mark.parametrize("wanted", TEXTS)
@pytest.mark.parametrize("written", WRITERS)
def test_a_text_is_found_however_it_is_written(wanted: str, written: str) -> None:
    bodies = [{"a": f"other{n}", "n": n} for n in range(200)]
    bodies[3] = {"a": wanted, "n": 3}
    bodies[150] = {"a": wanted, "n": 150}
    lines = [WRITERS[written](body) for body in bodies]
    assert [msgspec.json.decode(line) for line in lines] == bodies
    for text in ("a = $p", "a IN ($p, 'nowhere')", "STARTS_WITH(a, $p)", "CONTAINS(a, $p) AND LENGTH(a) < 20"):
        condition = compile_filter(text, {"p": wanted})
        chunk = chunk_of(lines)
        assert set(condition.select(chunk)) >= {3, 150}
        assert list(condition.select(chunk_of(lines))) == [n for n, b in enumerate(bodies) if condition.matches(b)]


def test_only_lines_with_the_text_are_decoded() -> None:
    lines = [msgspec.json.encode({"a": f"user{n}"}) for n in range(200)]
    # Whoever decodes this line fails: it is no JSON.
    lines[7] = b'{"a": oops}'
    assert list(compile_filter("a = 'user77'").select(chunk_of(lines))) == [77]


def test_where_many_lines_have_the_text_all_are_decoded_at_once() -> None:
    lines = [msgspec.json.encode({"a": "same", "n": n}) for n in range(200)]
    condition = compile_filter("a = 'same' AND n > 150")
    search = LiteralSearch((b'"same"',))
    assert search.places(chunk_of(lines)) is None
    assert search.places(chunk_of(lines[:1])) is None, "and for a while nothing is searched"
    assert len(list(condition.select(chunk_of(lines)))) == 49


def test_each_array_item_counts_for_contains() -> None:
    lines = [msgspec.json.encode({"tags": ["a", f"t{n}"]}) for n in range(100)]
    assert list(compile_filter("CONTAINS(tags, 't42')").select(chunk_of(lines))) == [42]


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        ("a = 'user1'", (b'"user1"',)),
        ("a = 'a/long/path'", (b"long",)),
        ("a = 'a/b'", None),
        ("a = 5", None),
        ("a > 'user'", None),
        ("a = 'x' OR b = 'y'", (b'"x"', b'"y"')),
        ("a = 'x' OR b = 5", None),
        ("a = 'x' AND b = 5", (b'"x"',)),
        ("a = 'short' AND b = 'rather long'", (b'"rather long"',)),
        ("a IN ('x', 'y')", (b'"x"', b'"y"')),
        ("a IN ('1', '2', '3', '4', '5')", None),
        ("a LIKE '%needle%_stack'", (b"needle",)),
        ("a ILIKE '%needle%'", None),
        ("NOT (a <> 'x')", (b'"x"',)),
        ("_key = 'user1'", None),
        ("LOWER(a) = 'user1'", None),
    ],
)
def test_what_is_looked_for(text: str, needles: Any) -> None:
    assert needles_of(compile_filter(text).requirement) == needles


def test_escapes_are_seen() -> None:
    assert has_unicode_escapes(chunk_of([b'{"a": "\\u0061"}']))
    assert not has_unicode_escapes(chunk_of([b'{"a": "\\n\\\\"}']))
