"""JSON inside a statement: strict, bounded in depth, with `$name` allowed where a value may stand.

A value without parameters is read by the standard decoder. Only where that fails is the text read step by step, which
finds the parameters, or says exactly what is wrong and where.
"""

import json
import re
from typing import TYPE_CHECKING, Any

from geode_client.grammar.errors import GqlSyntaxError, Unfinished
from geode_client.grammar.source import Source, Span, exact_number_of

if TYPE_CHECKING:
    from geode_client.grammar.ast import ParameterReference

NESTING_MAX = 64
BARE_PARAMETER = object()

_STARTS = frozenset('{["-0123456789tfn')
_WORDS = {"true": True, "false": False, "null": None}
_WORD = re.compile(r"[^\W\d]\w*")
_PARAMETER = re.compile(r"\$[^\W\d]\w*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Nonsense(ValueError):
    pass


def _refuse_constant(word: str) -> Any:
    raise _Nonsense(word)


def _finite(text: str) -> Any:
    found = exact_number_of(text)
    if found is None:
        raise _Nonsense(text)
    return found


_decode = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).raw_decode


def read(source: Source, place: int) -> tuple[Any, int]:
    """The JSON value that begins at `place`, and its end; the end is `place` where no value begins there.

    A parameter that stands for the whole message is left to the parser: BARE_PARAMETER.
    """
    text = source.text
    parameter = _PARAMETER.match(text, place)
    if parameter is not None:
        return BARE_PARAMETER, parameter.end()
    if place >= len(text) or text[place] not in _STARTS:
        return None, place
    if text[place] in "tfn" and (word := _WORD.match(text, place)) and word[0] not in _WORDS:
        return None, place
    try:
        value, end = _decode(text, place)
    except (ValueError, RecursionError):
        return _Reader(source).value(place, 0)
    if text.count("{", place, end) + text.count("[", place, end) > NESTING_MAX:
        _check_depth(value, source, place)
    if _SURROGATE.search(text, place, end) or "\\u" in text[place:end]:
        _check_characters(value, source, place, end)
    return value, end


def _check_depth(value: Any, source: Source, place: int) -> None:
    level = [value]
    for _ in range(NESTING_MAX):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    if any(isinstance(item, dict | list) for item in level):
        raise _too_deep(source, place)


def _too_deep(source: Source, place: int) -> GqlSyntaxError:
    message = f"this JSON is nested more than {NESTING_MAX} deep"
    return GqlSyntaxError(message, span=Span(place, place + 1), source=source, hint="publish it from a program")


def _check_characters(value: Any, source: Source, place: int, end: int) -> None:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        found = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]").search(source.text, place, end)
        at = found.start() if found else place
        raise GqlSyntaxError("a lone surrogate is no character", span=Span(at, at + 6), source=source) from None


class _Reader:
    """Reads step by step; every method takes a place and gives the value and the place after it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._text = source.text

    def value(self, place: int, depth: int) -> tuple[Any, int]:
        if depth > NESTING_MAX:
            raise _too_deep(self._source, place)
        match self._text[place : place + 1]:
            case "{":
                return self._object(place, depth)
            case "[":
                return self._array(place, depth)
            case '"':
                return self._string(place)
            case "$":
                return self._parameter(place)
            case _:
                return self._word_or_number(place)

    def _object(self, place: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        opened, place = place, self._space(place + 1)
        if self._text.startswith("}", place):
            return found, place + 1
        while True:
            if not self._text.startswith('"', place):
                raise self._wrong(place, "a name in double quotes, or }", opened)
            name, place = self._string(place)
            place = self._expect(":", place, opened)
            found[name], place = self.value(place, depth + 1)
            place = self._space(place)
            if self._text.startswith("}", place):
                return found, place + 1
            place = self._expect(",", place, opened, "a comma or }")

    def _array(self, place: int, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        opened, place = place, self._space(place + 1)
        if self._text.startswith("]", place):
            return found, place + 1
        while True:
            value, place = self.value(place, depth + 1)
            found.append(value)
            place = self._space(place)
            if self._text.startswith("]", place):
                return found, place + 1
            place = self._expect(",", place, opened, "a comma or ]")

    def _string(self, place: int) -> tuple[str, int]:
        found = _STRING.match(self._text, place)
        if found is None:
            line_end = self._text.find("\n", place)
            span = Span(place, line_end if line_end >= 0 else len(self._text))
            hint = 'it ends with ", and \\ stands before ", \\, /, b, f, n, r, t or uXXXX'
            raise GqlSyntaxError("this JSON string is not right", span=span, source=self._source, hint=hint)
        value = json.loads(found[0])
        _check_characters(value, self._source, place, found.end())
        return value, found.end()

    def _parameter(self, place: int) -> "tuple[ParameterReference, int]":
        found = _PARAMETER.match(self._text, place)
        if found is None:
            raise self._wrong(place, "the name of a parameter after $", place)
        # The shell cuts texts before it has loaded the records of statements.
        from geode_client.grammar.ast import ParameterReference

        return ParameterReference(found[0][1:], Span(place, found.end())), found.end()

    def _word_or_number(self, place: int) -> tuple[Any, int]:
        word = _WORD.match(self._text, place)
        if word is not None and word[0] in _WORDS:
            return _WORDS[word[0]], word.end()
        number = _NUMBER.match(self._text, place)
        if (
            number is None
            or _WORD.match(self._text, number.end())
            or self._text[number.end() : number.end() + 1].isdigit()
        ):
            raise self._wrong(
                place, 'a JSON value (object, array, "text", number, true, false, null) or $parameter', place
            )
        value = exact_number_of(number[0])
        if value is None:
            span = Span(place, number.end())
            raise GqlSyntaxError("this number is too large", span=span, source=self._source)
        return value, number.end()

    def _space(self, place: int) -> int:
        found = _SPACE.match(self._text, place)
        assert found is not None
        return found.end()

    def _expect(self, wanted: str, place: int, opened: int, words: str | None = None) -> int:
        place = self._space(place)
        if not self._text.startswith(wanted, place):
            raise self._wrong(place, words or repr(wanted), opened)
        return self._space(place + 1)

    def _wrong(self, place: int, wanted: str, opened: int) -> GqlSyntaxError:
        if place >= len(self._text):
            # The text ends inside the JSON: the bracket that was opened is what a person looks for.
            return Unfinished("this JSON is not closed", span=Span(opened, opened + 1), source=self._source)
        word = re.compile(r"\w+|.", re.DOTALL).match(self._text, place)
        assert word is not None
        return GqlSyntaxError(f"in JSON, {wanted} was expected here", span=Span(place, word.end()), source=self._source)
