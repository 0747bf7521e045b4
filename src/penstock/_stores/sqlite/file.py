"""A file that is open to read: a sync reader and an async one, around the same looks."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import aiosqlite
from typing_extensions import override

from penstock._stores.large_results import LargeResults
from penstock._stores.reading.readers import RunFile
from penstock._stores.reading.reads import Reads
from penstock._stores.reading.results import Results
from penstock._stores.sqlite.connection_thread import call_in_thread
from penstock._stores.sqlite.looks import FileChanged, Look
from penstock._stores.sqlite.reading import Snapshot, payload_of
from penstock._stores.sqlite.statements import take

T = TypeVar("T")
_ROWS_AT_ONCE = 64
"""An argument that aiosqlite requires: how many rows it fetches at a time where it iterates over
them, which nobody does here."""
_POLL_SECONDS = 0.001


class SqliteFile(RunFile):
    """A SQLite file of any process.

    Nothing of it is open between two reads. So readers are shared by threads and loops and outlive
    forks, and the last process to write still folds its log into the file.

    Args:
        path: the file.
        large_results: where results are that are too large for a row.
    """

    def __init__(self, path: Path, large_results: LargeResults) -> None:
        self.path = path.absolute()  # the process may change its folder
        self._results = Results(large_results.load, self._payload_of)

    @override
    def read(self, call: Callable[[Reads], T]) -> T:
        return self._look(lambda connection: call(self._reads(connection)))

    @override
    async def read_async(self, call: Callable[[Reads], T]) -> T:
        while True:
            look = Look(self.path, lambda connection: call(self._reads(connection)))
            with suppress(FileChanged):
                return await _take_in_thread(look)

    def _reads(self, connection: sqlite3.Connection) -> Reads:
        return Reads(Snapshot(connection), self._results)

    def _payload_of(self, run_id: bytes) -> bytes | None:
        return self._look(lambda connection: take(connection, payload_of(run_id)))

    def _look(self, read: Callable[[sqlite3.Connection], T]) -> T:
        while True:
            look = Look(self.path, read)
            with suppress(FileChanged), closing(look.open()):
                return look.take()


async def _take_in_thread(look: Look[T]) -> T:
    """Take a look in a thread of aiosqlite's: one hand-over for all that is read and made of it."""
    threads: list[threading.Thread] = []

    def connect() -> sqlite3.Connection:
        threads.append(threading.current_thread())
        return look.open()

    try:
        async with aiosqlite.Connection(connect, _ROWS_AT_ONCE) as connection:
            return await call_in_thread(connection, look.take)
    except asyncio.CancelledError:
        # The loop is about to close. aiosqlite awaits its thread wherever it can, but for one that
        # is connecting, which would then tell a closed loop of it.
        while not threads or threads[0].is_alive():  # noqa: ASYNC110  # its end sets no event
            await asyncio.sleep(_POLL_SECONDS)
        look.close()
        raise
