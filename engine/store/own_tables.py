"""Running the user's own SQL inside the open write transaction: guarded, bounded in time and in size.

One statement at a time, its parameters bound as values. What a statement may touch is decided by the `Guard`; how long it
may run by `stop`, which SQLite asks every thousand steps. Results are bounded. An error of a statement undoes that
statement; whether the transaction is still open afterwards says `is_open`.
"""

import contextlib
import datetime
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apsw
import msgspec

from geode_client.errors import ConstraintFailed, GqlError
from geode_client.grammar.source import Source, Span
from geode_client.store.database import Database
from geode_client.store.guard import Guard

RESULT_ROWS_MAX = 100_000
RESULT_BYTES_MAX = 64 * 1024 * 1024
# What a query may read of one table.
READ_ROWS_MAX = 1_000_000
READ_BYTES_MAX = 256 * 1024 * 1024
VALUE_BYTES_MAX = 64 * 1024 * 1024
STATEMENT_BYTES_MAX = 1024 * 1024
LIKE_PATTERN_BYTES_MAX = 1000
STEPS_BETWEEN_LOOKS = 1000

Parameters = Sequence[Any] | Mapping[str, Any] | None

_LIMITS = (
    (apsw.SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX),
    (apsw.SQLITE_LIMIT_SQL_LENGTH, STATEMENT_BYTES_MAX),
    (apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LIKE_PATTERN_BYTES_MAX),
    (apsw.SQLITE_LIMIT_ATTACHED, 0),
)


class Rows(msgspec.Struct, frozen=True):
    """What a statement gave: column names and rows, and how many rows it wrote."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    changes: int


class OwnTable(msgspec.Struct, frozen=True):
    """A table or view of the user: `kind` is table or view."""

    name: str
    kind: str
    columns: tuple[str, ...]


class Interrupted(Exception):
    """The statement was stopped because `stop` said so."""


class OwnTables:
    """The user's tables of one store, on the writer's connection; used while the write transaction is open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = Guard(database)

    @contextlib.contextmanager
    def opened(self, stop: Callable[[], bool]) -> Iterator[None]:
        """For one transaction: bounds are set, `stop` is asked while statements run."""
        connection = self._database.connection
        before = [(limit, connection.limit(limit, wanted)) for limit, wanted in _LIMITS]
        connection.set_progress_handler(stop, STEPS_BETWEEN_LOOKS)
        self._guard.watch()
        try:
            yield
        finally:
            connection.set_progress_handler(None)
            for limit, value in before:
                connection.limit(limit, value)

    @property
    def is_open(self) -> bool:
        """Whether the write transaction is still there: SQLite ends it by itself on some errors."""
        return self._database.connection.in_transaction

    def names(self) -> list[str]:
        """The user's tables and views."""
        return self._guard.own_tables()

    def tables(self) -> list[OwnTable]:
        """The user's tables and views with their columns."""
        kinds = dict(self._database.rows("SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view')"))
        found: list[OwnTable] = []
        for name in self._guard.own_tables():
            # The columns of a view are those of its query, which may refer to what is not there any more.
            with contextlib.suppress(apsw.Error):
                columns = self._database.rows("SELECT name FROM pragma_table_info(?)", (name,))
                found.append(OwnTable(name, str(kinds[name]), tuple(str(column) for (column,) in columns)))
        return found

    def read(self, name: str, stop: Callable[[], bool]) -> Rows:
        """All rows of a table or view, through the authorizer, within bounds. Raises GqlError."""
        quoted = name.replace('"', '""')
        with self.opened(stop):
            try:
                return self.run(f'SELECT * FROM "{quoted}"', None, rows_max=READ_ROWS_MAX, bytes_max=READ_BYTES_MAX)
            except Interrupted:
                raise GqlError(
                    f"reading the table {name} was stopped: it took too long, or the query was cancelled"
                ) from None

    def run(
        self, sql: str, parameters: Parameters, *, rows_max: int | None = None, bytes_max: int | None = None
    ) -> Rows:
        """One statement. Raises GqlError, ConstraintFailed, Interrupted; errors of the disk as SQLite's own."""
        bound = _bound(parameters)
        run = _Statement(self._database, self._guard, sql, (rows_max or RESULT_ROWS_MAX, bytes_max or RESULT_BYTES_MAX))
        try:
            found: Rows = self._guard.run(lambda: run.rows(bound))
            if self._guard.defines:
                self._guard.check_definitions()
            run.keep()
        except apsw.InterruptError:
            raise Interrupted from None
        except (apsw.FullError, apsw.IOError, apsw.CorruptError, apsw.NoMemError):
            raise
        except Exception as error:
            run.undo()
            raise self._explained(error, sql) from error
        return found

    def _explained(self, error: Exception, sql: str) -> Exception:
        if isinstance(error, apsw.Error) and self._guard.refusal is not None:
            return self._guard.refusal
        match error:
            case GqlError():
                return error
            case apsw.ConstraintError():
                return ConstraintFailed(_text(error))
            case apsw.BindingsError():
                return GqlError(f"parameters: {error}")
            case KeyError():
                return GqlError(f"parameter {error} has no value")
            case apsw.SQLError():
                return _placed(_text(error), sql, getattr(error, "error_offset", -1))
            case _:
                return GqlError(_text(error))


class _Statement:
    """One statement under way; one that writes runs inside a savepoint, so that whatever is wrong with it undoes it."""

    def __init__(self, database: Database, guard: Guard, sql: str, bounds: tuple[int, int]) -> None:
        self._bounds = bounds
        self._database = database
        self._guard = guard
        self._sql = sql
        self._columns: tuple[str, ...] = ()
        self._looked = self._saved = False

    def rows(self, bound: Any) -> Rows:
        connection = self._database.connection
        before = connection.total_changes()
        cursor = connection.cursor()
        cursor.exec_trace = self._look
        try:
            # Never from the cache: a statement that was prepared for the engine was not asked about.
            found = _bounded(cursor.execute(self._sql, bound, can_cache=False), *self._bounds)
        finally:
            cursor.close(True)
        changed = connection.total_changes() != before
        return Rows(self._columns, found, connection.changes() if changed else 0)

    def _look(self, cursor: Any, text: str, bound: Any) -> bool:
        """Before the statement runs: it must be the only one."""
        if self._looked:
            return True  # the comment behind it
        self._looked = True
        if not _without_comments(text):
            raise GqlError("there is no statement here")
        if _without_comments(self._sql[len(text) :]):
            raise GqlError("one statement at a time: run the others by themselves")
        self._columns = tuple(column[0] for column in cursor.get_description())
        if not cursor.is_readonly:
            self._guard.active = False
            self._database.cursor.execute("SAVEPOINT statement")
            self._guard.active = self._saved = True
        return True

    def keep(self) -> None:
        if self._saved:
            self._database.cursor.execute("RELEASE statement")

    def undo(self) -> None:
        if self._saved and self._database.connection.in_transaction:
            self._database.cursor.execute("ROLLBACK TO statement")
            self._database.cursor.execute("RELEASE statement")
            self._guard.watch()


def _bounded(cursor: Any, rows_max: int, bytes_max: int) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    size = 0
    for row in cursor:
        for value in row:
            size += 16 if value is None or isinstance(value, int | float) else 16 + len(value)
        if len(found) >= rows_max or size > bytes_max:
            raise GqlError(
                f"the result has more than {rows_max} rows, or {bytes_max} bytes: ask for less, with WHERE or LIMIT"
            )
        found.append(row)
    return found


def _bound(parameters: Parameters) -> Any:
    """Values as SQLite takes them; raises GqlError for what has no SQL form."""
    if parameters is None:
        return None
    if isinstance(parameters, Mapping):
        return {str(name): _value(f"parameter {name}", value) for name, value in parameters.items()}
    if isinstance(parameters, str | bytes) or not isinstance(parameters, Sequence):
        raise GqlError(f"parameters are a list or a dict of values, not {type(parameters).__name__}")
    return [_value(f"parameter {number}", value) for number, value in enumerate(parameters, 1)]


def _value(name: str, value: Any) -> Any:
    match value:
        case None | bytes() | bytearray() | memoryview():
            return value
        case str():
            if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
                raise GqlError(f"{name} is text with a lone surrogate, which is no character")
            return str(value)
        case int():
            if not -(2**63) <= value < 2**63:
                raise GqlError(f"{name} is a whole number of more than 64 bits: pass it as text")
            return int(value)
        case float():
            return float(value)
        case datetime.date() | datetime.time():
            return value.isoformat()
        case uuid.UUID():
            return str(value)
        case _:
            raise GqlError(
                f"{name} is of type {type(value).__name__}: values of SQL are None, numbers, text, bytes, times and UUIDs"
            )


def _placed(text: str, sql: str, offset: int) -> GqlError:
    """The error with its place, which SQLite gives in bytes, where it knows it."""
    if offset < 0:
        return GqlError(text)
    place = len(sql.encode()[:offset].decode(errors="ignore"))
    words = sql[place:].split(maxsplit=1)
    span = Span(place, place + (len(words[0]) if words else 1))
    return GqlError(text, span=span, source=Source(sql, "<sql>"))


def _without_comments(rest: str) -> str:
    """What stands behind a statement, but for blanks, semicolons and comments."""
    while rest := rest.lstrip("; \t\r\n\f"):
        if rest.startswith("--"):
            rest = rest.partition("\n")[2]
        elif rest.startswith("/*"):
            rest = rest.partition("*/")[2]
        else:
            return rest
    return ""


def _text(error: Exception) -> str:
    """SQLite's words, without the name of the error's class that APSW puts before some."""
    return str(error).removeprefix(f"{type(error).__name__}: ")
