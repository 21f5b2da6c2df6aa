"""SELECT statements whose meaning SQLite shares: whole numbers, texts and NULLs in columns of one kind each."""

from collections.abc import Callable

from hypothesis import strategies as st

# Topics t, u and e have the same fields: a and b are numbers or NULL, s a text or NULL. Nothing is in e.
TABLES = ("t", "u", "e")
NUMBER_FIELDS = ("a", "b")
TEXTS = ("'x'", "'y'", "''", "NULL")
NUMBERS = ("0", "1", "2", "-1", "5", "NULL")
COMPARED = ("=", "<>", "<", "<=", ">", ">=")
AGGREGATES = (
    "count(*)",
    "count({n})",
    "count(DISTINCT {n})",
    "sum({n})",
    "avg({n})",
    "min({n})",
    "max({s})",
    "count({s})",
)

Draw = Callable[..., object]


class Maker:
    """Draws parts of a statement. `aliases` are the sources that may be read."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.aliases: list[str] = []

    def pick(self, choices: tuple[str, ...]) -> str:
        return self._draw(st.sampled_from(choices))

    def chance(self, of: int) -> bool:
        return self._draw(st.integers(1, of)) == 1

    def number(self, depth: int = 2) -> str:
        kind = self._draw(st.integers(0, 6)) if depth else 0
        match kind:
            case 0 | 1 | 2:
                return f"{self.pick(tuple(self.aliases))}.{self.pick(NUMBER_FIELDS)}"
            case 3:
                return self.pick(NUMBERS)
            case 4:
                return f"({self.number(depth - 1)} {self.pick(('+', '-', '*', '%'))} {self.number(depth - 1)})"
            case 5:
                return f"coalesce({self.number(depth - 1)}, {self.number(depth - 1)})"
            case _:
                return f"CASE WHEN {self.condition(depth - 1)} THEN {self.number(depth - 1)} ELSE {self.number(depth - 1)} END"

    def text(self, depth: int = 1) -> str:
        match self._draw(st.integers(0, 4)) if depth else 0:
            case 0 | 1 | 2:
                return f"{self.pick(tuple(self.aliases))}.s"
            case 3:
                return self.pick(TEXTS)
            case _:
                return f"({self.text(depth - 1)} || {self.text(depth - 1)})"

    def condition(self, depth: int = 2) -> str:
        match self._draw(st.integers(0, 9)) if depth else self._draw(st.integers(0, 3)):
            case 0 | 1:
                return f"{self.number(depth)} {self.pick(COMPARED)} {self.number(depth)}"
            case 2:
                return f"{self.text(depth)} {self.pick(COMPARED)} {self.text(depth)}"
            case 3:
                return f"{self.number(0)} IS {self.pick(('', 'NOT '))}NULL"
            case 4:
                return f"({self.condition(depth - 1)} AND {self.condition(depth - 1)})"
            case 5:
                return f"({self.condition(depth - 1)} OR {self.condition(depth - 1)})"
            case 6:
                return f"NOT ({self.condition(depth - 1)})"
            case 7:
                return f"{self.number(0)} {self.pick(('', 'NOT '))}IN ({self.pick(NUMBERS)}, {self.number(0)})"
            case 8:
                return f"{self.number(0)} BETWEEN {self.number(0)} AND {self.number(0)}"
            case _:
                inner = Maker(self._draw)
                return f"{self.number(0)} {self.pick(('', 'NOT '))}IN ({inner.single()})"

    def single(self) -> str:
        """A SELECT of one number."""
        table = self.pick(TABLES)
        self.aliases = ["i"]
        where = f" WHERE {self.condition(1)}" if self.chance(2) else ""
        return f"SELECT {self.number(1)} AS one FROM {table} AS i{where}"

    def source(self, alias: str) -> str:
        if self.chance(4):
            inner = Maker(self._draw)
            inner.aliases = ["w"]
            where = f" WHERE {inner.condition(1)}" if self.chance(2) else ""
            what = f"{inner.number(1)} AS a, {inner.number(1)} AS b, {inner.text(1)} AS s"
            kind = self.pick(("", "DISTINCT "))
            return f"(SELECT {kind}{what} FROM {self.pick(TABLES)} AS w{where}) AS {alias}"
        return f"{self.pick(TABLES)} AS {alias}"

    def from_clause(self) -> str:
        self.aliases = ["p"]
        text = f"FROM {self.source('p')}"
        for alias in ("q", "r")[: self._draw(st.integers(0, 2))]:
            source = self.source(alias)
            self.aliases.append(alias)
            how = self.pick((" JOIN", " LEFT JOIN"))
            on = f"p.a = {alias}.a" if self.chance(2) else self.condition(1)
            extra = f" AND {self.condition(1)}" if self.chance(3) else ""
            text += f"{how} {source} ON {on}{extra}"
        return text

    def plain(self, names: tuple[str, ...]) -> str:
        source = self.from_clause()
        values = [self.number(), self.text()][: len(names)]
        items = ", ".join(f"{value} AS {name}" for value, name in zip(values, names, strict=True))
        where = f" WHERE {self.condition()}" if self.chance(2) else ""
        return f"SELECT {self.pick(('', 'DISTINCT '))}{items} {source}{where}"

    def grouped(self, names: tuple[str, ...]) -> str:
        source = self.from_clause()
        key = self.number(1)
        calls = [self.pick(AGGREGATES).format(n=self.number(1), s=self.text(0)) for _ in names[1:]]
        items = ", ".join(f"{value} AS {name}" for value, name in zip([key, *calls], names, strict=True))
        where = f" WHERE {self.condition(1)}" if self.chance(2) else ""
        having = (
            f" HAVING {calls[0]} {self.pick(COMPARED)} 1" if calls and "s)" not in calls[0] and self.chance(3) else ""
        )
        return f"SELECT {items} {source}{where} GROUP BY {names[0]}{having}"


@st.composite
def selects(draw: st.DrawFn) -> tuple[str, bool]:
    """A statement, and whether its rows have an order."""
    maker = Maker(draw)
    names = ("x1", "x2")
    text = maker.grouped(names) if maker.chance(3) else maker.plain(names)
    if maker.chance(4):
        text += f" UNION {maker.pick(('', 'ALL '))}{Maker(draw).plain(names)}"
    if not maker.chance(2):
        return text, False
    order = ", ".join(f"{name} {maker.pick(('ASC', 'DESC'))} NULLS {maker.pick(('FIRST', 'LAST'))}" for name in names)
    limit = f" LIMIT {draw(st.integers(0, 6))} OFFSET {draw(st.integers(0, 3))}" if maker.chance(2) else ""
    return f"{text} ORDER BY {order}{limit}", True
