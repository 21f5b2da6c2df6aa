"""Reading the user's own tables for queries: a connection of its own in a worker thread, read-only, bounded in time.

A table is read whole, as of one commit, and its read transaction ends before anything is awaited. A store in memory has one
connection: there the reading happens in the calling thread, and not while a transaction is open on it.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from functools import cached_property

from geode_client.broker import OwnTable, TableRows
from geode_client.errors import GqlError
from geode_client.store import database as files
from geode_client.store.database import Database
from geode_client.store.own_tables import OwnTables

READ_SECONDS_MAX = 30.0


class OwnTableReader:
    """Finds and reads the tables of one store. `database` is the writer's connection."""

    def __init__(self, database: Database, reader: Database) -> None:
        self._database = database
        self._reader = reader

    @cached_property
    def _known(self) -> OwnTables:
        """Made when it is needed: its guard lists the engine's own names, and most programs have no tables."""
        return OwnTables(self._reader)

    async def names(self) -> list[OwnTable]:
        """The user's tables and views."""
        return [OwnTable(found.name, found.kind, found.columns) for found in self._known.tables()]

    async def read(self, name: str) -> TableRows:
        """All rows of a table or view; raises GqlError."""
        cancelled = threading.Event()
        deadline = time.monotonic() + READ_SECONDS_MAX
        stop = lambda: cancelled.is_set() or time.monotonic() > deadline
        if self._database.layout.directory is None:
            if self._database.connection.in_transaction:
                raise GqlError(
                    f"a transaction is open on the only connection of a store in memory: read {name} with its execute()"
                )
            connection = self._database.connection
            before = connection.authorizer
            try:
                return _read(self._database, name, stop)
            finally:
                # The guard of transactions has set its own, once for all of them.
                connection.authorizer = before
        reading = asyncio.ensure_future(asyncio.to_thread(self._read_beside, name, stop))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait({reading})
            raise

    def _read_beside(self, name: str, stop: Callable[[], bool]) -> TableRows:
        database = files.open_reader(self._database.layout, self._database)
        try:
            return _read(database, name, stop)
        finally:
            database.close()


def _read(database: Database, name: str, stop: Callable[[], bool]) -> TableRows:
    found = OwnTables(database).read(name, stop)
    return TableRows(found.columns, found.rows, 0)
