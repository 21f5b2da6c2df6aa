"""What the user's own SQL may touch: an SQLite authorizer that allows what is listed and refuses everything else.

The user's tables live beside the engine's in one file, so that both change in one transaction. Nothing that the user runs
may read or write the engine's tables, hang a trigger, an index, a view or a foreign key on them, take a name of theirs (or
one that begins with `geode_`, kept for later), end the transaction, reach other files, change settings, or make objects
that shadow others. SQLite asks while it prepares a statement; the engine's own statements pass unasked. What SQLite does
not ask about (new names of ALTER TABLE … RENAME, foreign keys, the query of a view) is looked at after the statement, and
undone with it.
"""

from collections.abc import Callable
from typing import Any

import apsw

from geode_client.errors import GqlError
from geode_client.store.database import Database, engine_names

RESERVED_PREFIX = "geode_"

_SCHEMA_TABLES = frozenset(("sqlite_master", "sqlite_schema"))
_TEMPORARY_SCHEMA_TABLES = frozenset(("sqlite_temp_master", "sqlite_temp_schema"))
_TABLE_FUNCTIONS = frozenset(("json_each", "json_tree"))
_REFUSED_FUNCTIONS = frozenset(("load_extension", "fts3_tokenizer"))
_CREATES = {
    apsw.SQLITE_CREATE_TABLE: "table",
    apsw.SQLITE_CREATE_INDEX: "index",
    apsw.SQLITE_CREATE_VIEW: "view",
    apsw.SQLITE_CREATE_TRIGGER: "trigger",
}
_DROPS = {
    apsw.SQLITE_DROP_TABLE: "table",
    apsw.SQLITE_DROP_INDEX: "index",
    apsw.SQLITE_DROP_VIEW: "view",
    apsw.SQLITE_DROP_TRIGGER: "trigger",
}
_TEMPORARY = frozenset(
    (
        *(apsw.SQLITE_CREATE_TEMP_TABLE, apsw.SQLITE_CREATE_TEMP_INDEX, apsw.SQLITE_CREATE_TEMP_VIEW),
        *(apsw.SQLITE_CREATE_TEMP_TRIGGER, apsw.SQLITE_DROP_TEMP_TABLE, apsw.SQLITE_DROP_TEMP_INDEX),
        *(apsw.SQLITE_DROP_TEMP_VIEW, apsw.SQLITE_DROP_TEMP_TRIGGER),
    )
)
_REFUSALS = {
    apsw.SQLITE_TRANSACTION: "the transaction is ended by commit and rollback of its own, not by a statement",
    apsw.SQLITE_SAVEPOINT: "a transaction has no savepoints",
    apsw.SQLITE_ATTACH: "ATTACH would reach another file",
    apsw.SQLITE_DETACH: "DETACH would let go of another file",
    apsw.SQLITE_PRAGMA: "PRAGMA would change or show settings of the store",
    apsw.SQLITE_ANALYZE: "ANALYZE would change how the engine's own queries run",
    apsw.SQLITE_REINDEX: "REINDEX would rebuild indexes of the engine",
    apsw.SQLITE_CREATE_VTABLE: "virtual tables run code beside the store",
    apsw.SQLITE_DROP_VTABLE: "virtual tables run code beside the store",
}


class Guard:
    """The authorizer of one connection. `active` while a statement of the user is prepared and run."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._engine = engine_names()
        self._modules = frozenset(name.lower() for (name,) in database.rows("PRAGMA module_list"))
        self._own: frozenset[str] = frozenset()
        self.active = False
        self._begin()
        database.connection.authorizer = self._authorize

    def _begin(self) -> None:
        self.refusal: GqlError | None = None
        self._created: set[str] = set()
        self._views: list[str] = []
        self._defines = self._drops = self._alters = False

    def watch(self) -> None:
        """A new transaction: learn which tables are the user's."""
        self._own = frozenset(name.lower() for name in self.own_tables())

    def own_tables(self) -> list[str]:
        """The user's tables and views, as the connection sees them."""
        sql = (
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        return [name for (name,) in self._database.rows(sql) if name.lower() not in self._engine]

    def run(self, statement: Callable[[], Any]) -> Any:
        """Call what prepares and runs one statement of the user."""
        self._begin()
        self.active = True
        try:
            return statement()
        finally:
            self.active = False

    @property
    def defines(self) -> bool:
        """Whether the statement at hand makes, changes or drops a table, index, view or trigger."""
        return self._defines

    def check_definitions(self) -> None:
        """After a statement that defines: raise GqlError when it did what SQLite does not ask about."""
        self.watch()
        for name in self._own:
            if name.startswith(RESERVED_PREFIX):
                raise _reserved(name)
        sql = (
            'SELECT m.name, f."table" FROM sqlite_schema AS m, pragma_foreign_key_list(m.name) AS f'
            " WHERE m.type = 'table'"
        )
        for table, parent in self._database.rows(sql):
            if parent.lower() in self._engine:
                raise GqlError(f"table {table} may not refer to {parent}, which belongs to the engine")
        for view in self._views:
            self._check_view(view)

    def _check_view(self, view: str) -> None:
        quoted = view.replace('"', '""')
        self.refusal = None
        self.active = True
        try:
            self._database.connection.execute(f'EXPLAIN SELECT * FROM "{quoted}"', can_cache=False)
        except apsw.Error:
            # What it refers to need not be there yet; only what is refused counts.
            if self.refusal is not None:
                raise self.refusal from None
        finally:
            self.active = False

    # ── what SQLite asks ──
    def _authorize(self, code: int, first: Any, second: Any, schema: Any, through: Any) -> int:
        if not self.active:
            return apsw.SQLITE_OK
        refusal = self._refused(
            code, first, second, schema, bookkeeping=through is None and (self._drops or self._alters)
        )
        if refusal is None:
            return apsw.SQLITE_OK
        if self.refusal is None:
            inside = f" (through {through})" if through else ""
            self.refusal = refusal if isinstance(refusal, GqlError) else GqlError(f"{refusal}{inside}")
        return apsw.SQLITE_DENY

    def _refused(self, code: int, first: Any, second: Any, schema: Any, *, bookkeeping: bool) -> str | GqlError | None:
        """Why an action is refused; None allows it. `first` and `second` mean what SQLite's documentation says.

        `bookkeeping`: DROP or ALTER itself may be asking, for what it has to note in tables of SQLite's own.
        """
        if code in (apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE):
            return None
        if code == apsw.SQLITE_FUNCTION:
            refused = str(second).lower() in _REFUSED_FUNCTIONS
            return f"the function {second} would run code beside the store" if refused else None
        if code == apsw.SQLITE_READ:
            known = _TABLE_FUNCTIONS | _SCHEMA_TABLES
            if not second and schema is None and self._may_be_query(str(first).lower()):
                return None
            return self._refused_use(str(first), schema, known, bookkeeping=bookkeeping)
        if code in (apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE):
            # SQLite itself refuses to write to its schema but for definitions, which have been asked about.
            return self._refused_use(str(first), schema, _SCHEMA_TABLES, bookkeeping=bookkeeping)
        if code in _CREATES or code in _DROPS or code == apsw.SQLITE_ALTER_TABLE:
            return self._refused_definition(code, first, second, schema)
        if code in _TEMPORARY:
            return _temporary()
        if code == apsw.SQLITE_PRAGMA and self._alters and first == "quick_check":
            return None  # how ALTER TABLE … ADD COLUMN looks whether a new constraint holds
        if code == apsw.SQLITE_REINDEX and str(first).lower() in self._created:
            return None  # how CREATE INDEX fills it
        return _REFUSALS.get(code, f"this statement is not one for the user's own tables (action {code})")

    def _refused_use(self, shown: str, schema: Any, known: frozenset[str], *, bookkeeping: bool) -> str | None:
        """Reading and writing tables."""
        name = shown.lower()
        if schema == "temp":
            return None if bookkeeping and self._alters and name in _TEMPORARY_SCHEMA_TABLES else _temporary()
        if name in self._own or name in self._created or name in known:
            return None
        if bookkeeping and (name.startswith("sqlite_") or name == "pragma_quick_check"):
            return None
        return self._not_own(shown)

    def _refused_definition(self, code: int, first: Any, second: Any, schema: Any) -> str | GqlError | None:
        if code == apsw.SQLITE_ALTER_TABLE:
            self._defines = self._alters = True
            return self._not_own(str(second)) if self._is_foreign(str(second)) else None
        if schema != "main":
            return _temporary()
        name = str(first).lower()
        kind = _CREATES.get(code) or _DROPS[code]
        if kind in ("index", "trigger") and self._is_foreign(str(second)):
            return f"{'an' if kind == 'index' else 'a'} {kind} on {second}: that table belongs to the engine"
        if code in _DROPS:
            self._defines = self._drops = True
            return self._not_own(str(first)) if self._is_foreign(str(first)) else None
        if name in self._engine:
            return f"{first} belongs to the engine: take another name"
        if name.startswith(RESERVED_PREFIX):
            return _reserved(str(first))
        if name.startswith("sqlite_stat"):
            return _REFUSALS[apsw.SQLITE_ANALYZE]
        self._defines = True
        self._created.add(name)
        if kind == "view":
            self._views.append(str(first))
        return None

    def _may_be_query(self, name: str) -> bool:
        """Whether a name of which no column is read may be that of a WITH: SQLite asks for it as for a table."""
        return not self._is_foreign(name) and name not in self._modules and not name.startswith("pragma_")

    def _is_foreign(self, name: str) -> bool:
        return name.lower() in self._engine or name.lower().startswith("sqlite_")

    def _not_own(self, name: str) -> str:
        if self._is_foreign(name):
            return f"{name} belongs to the engine: only your own tables can be used here"
        return f"{name} is not one of your own tables"


def _temporary() -> str:
    return "temporary tables, views and triggers would shadow others: use tables of your own"


def _reserved(name: str) -> GqlError:
    return GqlError(f"{name}: names that begin with {RESERVED_PREFIX} are kept for the engine: take another name")
