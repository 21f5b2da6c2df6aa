"""Random SELECTs that mean the same to DuckDB: every clause, over whole numbers, texts, NULLs and lists of numbers.

Windows select what they sort by and nothing else, so that rows that sort the same may come in any order.
"""

import random

from query.strategies import AGGREGATES, COMPARED, NUMBER_FIELDS, NUMBERS, TABLES, TEXTS

WINDOWS = (
    "row_number()",
    "rank()",
    "dense_rank()",
    "lag({x})",
    "lead({x}, 2)",
    "lag({x}, 1, -7)",
)
WINDOW_AGGREGATES = ("count(*)", "sum({x})", "min({x})", "max({x})", "avg({x})")
SET_OPERATIONS = ("UNION", "UNION ALL", "EXCEPT", "EXCEPT ALL", "INTERSECT", "INTERSECT ALL")
NAMES = ("x1", "x2")


class Maker:
    """Makes the parts of a statement. `aliases` are the sources that may be read."""

    def __init__(self, dice: random.Random, tables: tuple[str, ...] = TABLES) -> None:
        self._dice = dice
        self._tables = tables
        self.aliases: list[str] = []

    def pick(self, choices: tuple[str, ...]) -> str:
        return self._dice.choice(choices)

    def chance(self, of: int) -> bool:
        return self._dice.randrange(of) == 0

    def number(self, depth: int = 2) -> str:
        match self._dice.randrange(8) if depth else 0:
            case 0 | 1 | 2:
                return f"{self._dice.choice(self.aliases)}.{self.pick(NUMBER_FIELDS)}"
            case 3:
                return self.pick(NUMBERS)
            case 4:
                left, right = self.number(depth - 1), self.number(depth - 1)
                # DuckDB refuses to divide by zero.
                return self.pick((f"({left} + {right})", f"({left} - {right})", f"({left} % nullif({right}, 0))"))
            case 5:
                return f"coalesce({self.number(depth - 1)}, {self.number(depth - 1)})"
            case 6:
                return f"(SELECT {self.pick(('max', 'min', 'count'))}({self.inner(1)}))"
            case _:
                return f"CASE WHEN {self.condition(depth - 1)} THEN {self.number(depth - 1)} ELSE {self.number(depth - 1)} END"

    def inner(self, width: int) -> str:
        """The value of a SELECT of its own, and its FROM."""
        made = Maker(self._dice, self._tables)
        table = self.pick(self._tables)
        made.aliases = ["i"]
        where = f" WHERE {made.condition(0)}" if self.chance(2) else ""
        value = ", ".join(made.number(0) for _ in range(width))
        return f"i.v) FROM (SELECT {value} AS v FROM {table} AS i{where}) AS i WHERE (TRUE"

    def text(self, depth: int = 1) -> str:
        match self._dice.randrange(5) if depth else 0:
            case 0 | 1 | 2:
                return f"{self._dice.choice(self.aliases)}.s"
            case 3:
                return self.pick(TEXTS)
            case _:
                return f"({self.text(depth - 1)} || {self.text(depth - 1)})"

    def condition(self, depth: int = 2) -> str:
        match self._dice.randrange(12) if depth else self._dice.randrange(5):
            case 0 | 1:
                return f"{self.number(depth)} {self.pick(COMPARED)} {self.number(depth)}"
            case 2:
                return f"{self.text(depth)} {self.pick(COMPARED)} {self.text(depth)}"
            case 3:
                return f"{self.number(0)} IS {self.pick(('', 'NOT '))}NULL"
            case 4:
                return f"{self.number(0)} IS {self.pick(('', 'NOT '))}DISTINCT FROM {self.number(0)}"
            case 5:
                return f"({self.condition(depth - 1)} AND {self.condition(depth - 1)})"
            case 6:
                return f"({self.condition(depth - 1)} OR {self.condition(depth - 1)})"
            case 7:
                return f"NOT ({self.condition(depth - 1)})"
            case 8:
                return f"{self.number(0)} {self.pick(('', 'NOT '))}IN ({self.pick(NUMBERS)}, {self.number(0)})"
            case 9:
                return f"{self.number(0)} BETWEEN {self.number(0)} AND {self.number(0)}"
            case 10:
                return f"{self.pick(('', 'NOT '))}EXISTS ({self.single()})"
            case _:
                return f"{self.number(0)} {self.pick(('', 'NOT '))}IN ({self.single()})"

    def single(self) -> str:
        made = Maker(self._dice, self._tables)
        made.aliases = ["i"]
        where = f" WHERE {made.condition(1)}" if self.chance(2) else ""
        return f"SELECT {made.number(1)} AS one FROM {self.pick(self._tables)} AS i{where}"

    def source(self, alias: str) -> str:
        if not self.chance(4):
            return f"{self.pick(self._tables)} AS {alias}"
        made = Maker(self._dice, self._tables)
        made.aliases = ["w"]
        where = f" WHERE {made.condition(1)}" if self.chance(2) else ""
        what = f"{made.number(1)} AS a, {made.number(1)} AS b, {made.text(1)} AS s"
        return f"(SELECT {self.pick(('', 'DISTINCT '))}{what} FROM {self.pick(self._tables)} AS w{where}) AS {alias}"

    def from_clause(self) -> str:
        self.aliases = ["p"]
        text = f"FROM {self.source('p')}"
        for alias in ("q", "r")[: self._dice.randrange(3)]:
            source = self.source(alias)
            if self.chance(5):
                text += f"{self.pick((' CROSS JOIN', ','))} {source}"
                self.aliases.append(alias)
                continue
            kind = self.pick((" JOIN", " LEFT JOIN", " RIGHT JOIN", " FULL JOIN", " LEFT OUTER JOIN"))
            if self.chance(4) and len(self.aliases) == 1:
                text += f"{kind} {source} USING ({self.pick(('a', 'b', 'a, s'))})"
                self.aliases.append(alias)
                continue
            self.aliases.append(alias)
            on = (
                f"{self.aliases[-2]}.a = {alias}.a"
                if self.chance(2) or "FULL" in kind or "RIGHT" in kind
                else self.condition(1)
            )
            # A join behind a comma cannot read what is before it; DuckDB allows that, and means something else by it.
            outer_after_comma = "," in text and ("FULL" in kind or "RIGHT" in kind)
            extra = f" AND {self.condition(0)}" if self.chance(3) and not outer_after_comma else ""
            text += f"{kind} {source} ON {on}{extra}"
        return text

    def where(self) -> str:
        return f" WHERE {self.condition()}" if self.chance(2) else ""

    def plain(self) -> str:
        source = self.from_clause()
        where = self.where()
        return f"SELECT {self.pick(('', 'DISTINCT '))}{self.number()} AS x1, {self.text()} AS x2 {source}{where}"

    def merged(self) -> str:
        """A column of USING without its source, which is that of both."""
        kind = self.pick(("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"))
        tables = [self.pick(self._tables) for _ in range(2)]
        order = f" WHERE a {self.pick(COMPARED)} 1" if self.chance(2) else ""
        return f"SELECT a AS x1, concat_s AS x2 FROM (SELECT a, q.s AS concat_s FROM {tables[0]} AS p {kind} {tables[1]} AS q USING (a){order}) AS m"

    def unnested(self) -> str:
        how = self.pick(
            (", UNNEST(p.l) AS u (v)", " CROSS JOIN UNNEST(p.l) AS u (v)", " LEFT JOIN UNNEST(p.l) AS u (v) ON TRUE")
        )
        where = f" WHERE u.v {self.pick(COMPARED)} {self.pick(('p.a', '1', 'p.b'))}" if self.chance(2) else ""
        return f"SELECT u.v AS x1, p.s AS x2 FROM lists AS p{how}{where}"

    def grouped(self) -> str:
        source = self.from_clause()
        key = self.number(1)
        call = self.pick(AGGREGATES).format(n=self.number(1), s=self.text(0))
        where = self.where()
        having = f" HAVING {call} {self.pick(COMPARED)} 1" if "s)" not in call and self.chance(3) else ""
        return f"SELECT {key} AS x1, {call} AS x2 {source}{where} GROUP BY {self.pick(('x1', '1'))}{having}"

    def windowed(self) -> str:
        source = self.from_clause()
        key = self.number(0)
        partition = f"PARTITION BY {self.number(0)} " if self.chance(2) else ""
        direction = f"{self.pick(('ASC', 'DESC'))} NULLS {self.pick(('FIRST', 'LAST'))}"
        call = self.pick((*WINDOWS, *WINDOW_AGGREGATES)).format(x=key)
        if self.chance(3):
            call = f"{self.pick(WINDOW_AGGREGATES).format(x=key)} FILTER (WHERE {self.condition(1)})"
        return f"SELECT {key} AS x1, {call} OVER ({partition}ORDER BY {key} {direction}) AS x2 {source}{self.where()}"

    def ranked(self) -> str:
        """Windows over groups."""
        source = self.from_clause()
        return f"SELECT count(*) AS x1, sum(count(*)) OVER (ORDER BY count(*)) AS x2 {source}{self.where()} GROUP BY {self.number(0)}"

    def body(self) -> str:
        kinds = (self.plain, self.plain, self.grouped, self.windowed, self.unnested, self.merged, self.ranked)
        return self._dice.choice(kinds)()


def select(seed: int) -> tuple[str, bool]:
    """The statement of a seed, and whether its rows have an order."""
    dice = random.Random(seed)
    head = ""
    tables: tuple[str, ...] = TABLES
    if dice.randrange(4) == 0:
        inner = Maker(dice)
        inner.aliases = ["w"]
        head = f"WITH c (a, b, s) AS (SELECT {inner.number(1)}, {inner.number(1)}, {inner.text(1)} FROM {inner.pick(TABLES)} AS w) "
        tables = (*TABLES, "c", "c")
    maker = Maker(dice, tables)
    text = maker.body()
    if maker.chance(4):
        # Texts do not compare with numbers: both sides are of the same kind.
        text = maker.plain()
        for _ in range(dice.randrange(1, 3)):
            text += f" {maker.pick(SET_OPERATIONS)} {maker.plain()}"
    if maker.chance(2):
        return head + text, False
    order = ", ".join(f"{name} {maker.pick(('ASC', 'DESC'))} NULLS {maker.pick(('FIRST', 'LAST'))}" for name in NAMES)
    limit = f" LIMIT {dice.randrange(7)} OFFSET {dice.randrange(4)}" if maker.chance(2) else ""
    return f"{head}{text} ORDER BY {order}{limit}", True
