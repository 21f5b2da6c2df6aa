"""The connection a program uses with explicit `begin`, `commit` and `rollback`: statements of the language, and SQL.

What a text is, its first words tell: definitions of tables, indexes, views and triggers, UPDATE, DELETE, REPLACE, WITH and
VALUES are SQL on the program's own tables; INSERT and SELECT are, when they name such a table; everything else is a
statement of the language.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import Any, Self

from geode_client.broker import BrokerTransaction, TableRows, current_transaction
from geode_client.errors import GeodeError, GqlError, Unsupported
from geode_client.query.result import Result
from geode_client.query.session import Session
from geode_client.transaction import checked_timeout, leave, sql_of, written

Parameters = Sequence[object] | Mapping[str, object] | None

_SKIPPED = r"(?:\s+|--[^\n]*(?:\n|$)|/\*(?s:.*?)\*/)*"
_WORDS = re.compile(rf"{_SKIPPED}(?P<first>[A-Za-z]+)\b{_SKIPPED}(?P<second>[A-Za-z]+|\()?")
_ALWAYS_SQL = frozenset(
    "UPDATE DELETE REPLACE WITH VALUES PRAGMA ATTACH DETACH VACUUM ANALYZE REINDEX SAVEPOINT RELEASE".split()
)
_DEFINED = frozenset("TABLE INDEX UNIQUE VIEW TRIGGER TEMP TEMPORARY VIRTUAL".split())
_GRAPH = frozenset("MATCH MERGE UNWIND".split())
_NOT_NAMES = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*(?s:.*?)\*/")
_NAME = r'(?:"(?:[^"]|"")+"|`[^`]+`|\[[^\]]+\]|\w+)'
_SOURCES = re.compile(rf"\b(?:FROM|JOIN|INTO)\s+({_NAME})(?:\s*\.\s*({_NAME}))?", re.IGNORECASE)


class Connection:
    """A connection with explicit `begin`, `commit` and `rollback`, over statements and SQL on tables of your own.

    Made by `client.connection()`; used with `async with`. Without `begin` each statement is stored on its own. A transaction
    that is still open at the end of the block is rolled back; that is a `GeodeError`, unless another exception leaves the block.

    Example:
        ```python
        async with client.connection() as conn:
            await conn.begin()
            await conn.execute("INSERT INTO orders (id) VALUES ('o-1')")
            await conn.execute("UPDATE stock SET count = count - 1 WHERE item = ?", ["i-7"])
            await conn.commit()
        ```
    """

    def __init__(self, session: Session, *, ready: Callable[[], Awaitable[Any]], timeout_seconds: float) -> None:
        self._timeout_seconds = checked_timeout(timeout_seconds)
        self._session = session.exclusive(timeout_seconds=self._timeout_seconds, rolls_back_on_error=False)
        self._ready = ready
        self._token: Token[BrokerTransaction | None] | None = None

    async def __aenter__(self) -> Self:
        await self._ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            was_open = await self._session.end()
        finally:
            self._leave()
        if was_open and kind is None:
            raise GeodeError("the connection was left with an open transaction, which was rolled back: call commit()")

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open: `begin` was called, and neither `commit` nor `rollback` since."""
        return self.begun is not None

    @property
    def begun(self) -> BrokerTransaction | None:
        """The broker's open transaction; None without one."""
        assert self._session.transacting is not None
        return self._session.transacting.begun

    async def begin(self) -> Result:
        """Open a transaction: everything from here to `commit` is stored together, or not at all.

        Returns:
            A result with a message.

        Raises:
            GqlError: A transaction is open already.
        """
        return await self._run("BEGIN", None)

    async def commit(self) -> Result:
        """Store everything since `begin`.

        Returns:
            A result with a message that says what was stored.

        Raises:
            TransactionAborted: The transaction took too long; nothing is stored.
            GqlError: No transaction is open.
            StoreError: The store cannot be written; nothing is stored.
        """
        return await self._run("COMMIT", None)

    async def rollback(self) -> Result:
        """Undo everything since `begin`. Without an open transaction this does nothing.

        Returns:
            A result with a message.
        """
        if not self.in_transaction:
            return Result(message="there was no open transaction")
        return await self._run("ROLLBACK", None)

    async def execute(self, statement: str, params: Parameters = None) -> Result:
        """Run one statement of the language, or of SQL on tables of your own.

        An error undoes its own statement only, and the transaction continues, unless the error is `TransactionAborted`.

        Args:
            statement: The statement.
            params: For a statement of the language: values by name for `$name`. For SQL: values for `?`, or by name for
                `:name` and `$name`.

        Returns:
            Rows and columns, or a message that says what was done.

        Raises:
            GqlSyntaxError: The text is not a statement; the error shows the place.
            GqlError: The statement has no meaning here.
            ConstraintFailed: SQL broke a constraint of a table.
            TransactionAborted: The transaction took too long; nothing of it is stored.
        """
        if await self._is_sql(statement):
            found = await self._sql(statement, params)
            return Result(found.columns, found.rows, None if found.columns else written(found.changes))
        if params is not None and not isinstance(params, Mapping):
            raise GqlError("parameters of this statement have names: pass a dict")
        return await self._run(statement, params)

    async def _run(self, text: str, params: Mapping[str, Any] | None) -> Result:
        before = self.begun
        try:
            return await self._session.execute(text, params)
        finally:
            if before is not self.begun:
                self._leave()
                if self.begun is not None:
                    self._token = current_transaction.set(self.begun)

    def _leave(self) -> None:
        token, self._token = self._token, None
        leave(token)

    async def _sql(self, sql: str, params: Parameters) -> TableRows:
        broker = self._session.broker
        if self.begun is not None:
            return await sql_of(self.begun, broker.capabilities).execute(sql, params)
        broker.capabilities.require("own_tables")
        alone = broker.transaction(self._timeout_seconds)
        try:
            found = await sql_of(alone, broker.capabilities).execute(sql, params)
            await alone.commit()
        finally:
            await alone.rollback()
        return found

    async def _is_sql(self, text: str) -> bool:
        words = _WORDS.match(text)
        if words is None:
            return False
        first, second = words["first"].upper(), (words["second"] or "").upper()
        match first:
            case "CREATE" if second == "(":
                raise Unsupported("a graph statement: CREATE (…) belongs to a graph database, not to a broker")
            case _ if first in _GRAPH:
                raise Unsupported(f"a graph statement: {first} belongs to a graph database, not to a broker")
            case "CREATE" | "DROP" | "ALTER":
                return second in _DEFINED
            case "INSERT" | "SELECT":
                return second == "OR" or await self._names_own_table(text)
            case "EXPLAIN":
                return second == "QUERY"
            case _:
                return first in _ALWAYS_SQL

    async def _names_own_table(self, text: str) -> bool:
        broker = self._session.broker
        if not broker.capabilities.own_tables:
            return False
        plain = _NOT_NAMES.sub(" ", text)
        names = {_unquoted(found[2] or found[1]) for found in _SOURCES.finditer(plain)}
        asked = self.begun or broker.transaction(self._timeout_seconds)
        return bool(names & await sql_of(asked, broker.capabilities).own_tables())


def _unquoted(name: str) -> str:
    return (name[1:-1].replace('""', '"') if name[0] in '"`[' else name).lower()
