"""LIKE in time linear in the text for each piece of the pattern between two `%`, without backtracking.

The pattern is cut at its `%`. The first and the last piece are bound to the ends of the text; the pieces between are found
one after the other, each at its leftmost place, which is enough. A piece with `_` is found by a bit for each of its
characters (shift-and), so that no pattern makes a short text slow.
"""

from functools import lru_cache
from itertools import takewhile


class Like:
    """A pattern, ready to be matched. `fold` ignores case, as ILIKE does."""

    __slots__ = ("_fold", "_pieces")

    def __init__(self, pattern: str, escape: str | None = None, *, fold: bool = False) -> None:
        self._fold = fold
        self._pieces = [_Piece(piece) for piece in _cut(pattern.lower() if fold else pattern, escape)]

    def matches(self, text: str) -> bool:
        """Whether the whole text has the form of the pattern."""
        if self._fold:
            text = text.lower()
        first, *rest = self._pieces
        if not rest:
            return len(text) == first.length and first.stands_at(text, 0)
        if not first.stands_at(text, 0):
            return False
        place, end = first.length, len(text) - rest[-1].length
        for piece in rest[:-1]:
            place = piece.find(text, place)
            if place < 0:
                return False
            place += piece.length
        return place <= end and rest[-1].stands_at(text, end)


@lru_cache(maxsize=256)
def compiled(pattern: str, escape: str | None, fold: bool) -> Like | None:
    """The pattern made ready; None when it ends with its escape character, which means nothing."""
    try:
        return Like(pattern, escape, fold=fold)
    except ValueError:
        return None


def literal_pieces(pattern: str, escape: str | None) -> tuple[str, list[str], bool] | None:
    """The text that the pattern begins with, the longest plain run of each piece, and whether it is one plain text.

    None when the pattern means nothing.
    """
    try:
        pieces = _cut(pattern, escape)
    except ValueError:
        return None
    prefix = "".join(takewhile(lambda character: character is not None, pieces[0]))  # type: ignore[arg-type]
    is_whole = len(pieces) == 1 and len(prefix) == len(pieces[0])
    return prefix, [max(_runs(piece), key=len) for piece in pieces], is_whole


def _runs(piece: list[str | None]) -> list[str]:
    runs = [""]
    for character in piece:
        if character is None:
            runs.append("")
        else:
            runs[-1] += character
    return runs


def _cut(pattern: str, escape: str | None) -> list[list[str | None]]:
    """Pieces of characters; None stands for any one character."""
    pieces: list[list[str | None]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            following = next(characters, None)
            if following is None:
                raise ValueError("the pattern ends with its escape character")
            pieces[-1].append(following)
        elif character == "%":
            pieces.append([])
        else:
            pieces[-1].append(None if character == "_" else character)
    return [pieces[0], *[piece for piece in pieces[1:-1] if piece], *pieces[1:][-1:]]


class _Piece:
    __slots__ = ("_characters", "_masks", "_plain", "_wild", "length")

    def __init__(self, characters: list[str | None]) -> None:
        self.length = len(characters)
        self._characters = [(i, c) for i, c in enumerate(characters) if c is not None]
        self._plain = None if None in characters else "".join(c for c in characters if c is not None)
        self._masks: dict[str, int] = {}
        self._wild = sum(1 << i for i, c in enumerate(characters) if c is None)

    def stands_at(self, text: str, place: int) -> bool:
        if place < 0 or place + self.length > len(text):
            return False
        if self._plain is not None:
            return text.startswith(self._plain, place)
        return all(text[place + index] == character for index, character in self._characters)

    def find(self, text: str, start: int) -> int:
        """The leftmost place from `start` on, or -1."""
        if self._plain is not None:
            return text.find(self._plain, start)
        if not self._characters:
            return start if start + self.length <= len(text) else -1
        if not self._masks:
            for index, character in self._characters:
                self._masks[character] = self._masks.get(character, self._wild) | 1 << index
        masks, wild, found, state = self._masks, self._wild, 1 << (self.length - 1), 0
        for place in range(start, len(text)):
            state = (state << 1 | 1) & masks.get(text[place], wild)
            if state & found:
                return place - self.length + 1
        return -1
