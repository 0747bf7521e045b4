"""The connection that the writer writes through: one of aiosqlite, which has a thread of its own.

aiosqlite hands each statement to that thread and back, which beside busy threads takes longer than
the statement. So a batch is handed over as one call that makes its statements and executes them.

Why: docs/inside/threads.md, "The thread of the writer's connection is a daemon".
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import aiosqlite
from typing_extensions import override

from penstock._model.payloads import INLINE_LIMIT, lost_payload
from penstock._model.rows import Source
from penstock._stores.large_results import LargeResults
from penstock._stores.sqlite.batch_statements import statements_of, with_storable_texts
from penstock._stores.sqlite.connection_thread import call_in_thread
from penstock._stores.sqlite.schema import connect
from penstock._stores.sqlite.statements import Statement
from penstock._stores.writing.batches import Batch
from penstock._stores.writing.target import BatchTarget
from penstock.exceptions import StoreError

_GIVE_UP_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.2
_FILE_PAUSES: Final = (0.05, 0.2, 0.5)
"""Seconds between attempts to write a large result."""
_log = logging.getLogger("penstock.store")


class SqliteTarget(BatchTarget):
    """Writes batches to a database that is there already.

    Args:
        path: the file.
        synchronous: see `SqliteStore`.
        large_results: where results go that are too large for a row.
    """

    def __init__(self, path: Path, synchronous: str, large_results: LargeResults) -> None:
        self._path = path
        self._synchronous = synchronous
        self._large_results = large_results
        self._connection: aiosqlite.Connection | None = None
        # Set and used in the connection's thread alone.
        self._database: sqlite3.Connection | None = None
        self._known_definitions: set[int] = set()

    def __str__(self) -> str:
        return str(self._path)

    @override
    async def open(self) -> None:
        # The thread of the connection is no daemon by itself, and the end of a script would wait
        # for it before it calls what atexit knows, where the engine closes the connection. But a
        # thread inherits that from the one in which it is made: the engine's loop has a daemon.
        assert threading.current_thread().daemon, "a script could not end otherwise"
        connection = aiosqlite.Connection(self._connect, iter_chunk_size=64)
        self._connection = await connection

    def _connect(self) -> sqlite3.Connection:
        threading.current_thread().name = "penstock-writer"
        self._database = connect(self._path, self._synchronous)
        return self._database

    @override
    async def call(self, function: Callable[[], None]) -> None:
        assert self._connection is not None, "it is open"
        await call_in_thread(self._connection, function)

    @override
    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    # In the connection's thread

    @override
    def write(self, batch: Batch) -> None:
        files = self._stored_files(batch.ended)
        self._write_patiently(statements_of(batch, files, self._known_definitions))
        self._known_definitions.update(run.definition.id for run in batch.latest)

    def _write_patiently(self, statements: Sequence[Statement]) -> None:
        """Try for a while where the disk or another process is in the way."""
        assert self._database is not None, "it is open"
        give_up_at = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            try:
                _transact(self._database, statements)
            except (sqlite3.Error, OSError) as error:
                self._database.rollback()
                _log.warning("Writing %s failed; trying again: %s", self._path, error)
                if time.monotonic() > give_up_at:
                    raise StoreError(f"{self._path} cannot be written: {error}.") from error
                time.sleep(_RETRY_SECONDS)
            else:
                return

    def _stored_files(self, ended: Iterable[Source]) -> dict[Source, bytes]:
        """Store the large results; what the rows of their runs hold in their place."""
        return {
            run: self._stored_file(run, payload)
            for run in ended
            if (payload := run.payload) is not None and len(payload) >= INLINE_LIMIT
        }

    def _stored_file(self, run: Source, payload: bytes) -> bytes:
        for pause in _FILE_PAUSES:
            try:
                return self._large_results.store(payload, run.run_id)
            except OSError:  # perhaps the disk is full for a moment
                time.sleep(pause)
        try:
            return self._large_results.store(payload, run.run_id)
        except OSError as error:  # one result is lost, and not the history of all runs
            _log.critical("A result of %d bytes was not stored: %s", len(payload), error)
            return lost_payload(str(error))


def _transact(connection: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    try:
        _execute(connection, statements)
    except UnicodeEncodeError:
        connection.rollback()
        _execute(connection, with_storable_texts(statements))


def _execute(connection: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    if len(statements) == 1:  # a transaction of its own
        connection.execute(*statements[0])
        return
    connection.execute("BEGIN IMMEDIATE")
    for sql, values in statements:
        connection.execute(sql, values)
    connection.execute("COMMIT")
