"""A store in a SQLite file: one writer writes, and whoever asks reads for itself.

What is still on its way to the file is found in memory, so a look-up sees all that was recorded.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar

from typing_extensions import override

from penstock._model.ids import id_bound
from penstock._model.payloads import FileReference
from penstock._model.rows import CacheRow, Source
from penstock._model.settings import Settings
from penstock._stores.large_results import FolderOfResults, LargeResults
from penstock._stores.memory import MemoryStore
from penstock._stores.port import (
    Backlog,
    FoundFlowRun,
    FoundResult,
    FoundTaskRun,
    Pruned,
    Query,
    Store,
)
from penstock._stores.recent import LEASE_SECONDS, FreshResults, RecentResults
from penstock._stores.sqlite import reading
from penstock._stores.sqlite.pruning import Pruning
from penstock._stores.sqlite.schema import connect, connect_to_read, prepare_file
from penstock._stores.sqlite.slots import SqliteSlots
from penstock._stores.sqlite.statements import Steps, take
from penstock._stores.sqlite.target import SqliteTarget
from penstock._stores.writing.batches import Batch
from penstock._stores.writing.writer import COUNTED_BYTES, Writer
from penstock._waiting.latch import Latch
from penstock._waiting.loops import LoopThread
from penstock.exceptions import StoreError

_PRUNING_PAUSE_SECONDS: Final = 0.005
"""How long others can get at the file between two slices; they try each 0.1 s at least."""
_LAST_ID: Final = b"\xff" * 16
T = TypeVar("T")


class SqliteStore(Store):
    """Keeps the rows in a SQLite file that several processes may share.

    Args:
        path: the file; made, with its folder, where there is none.
        large_results: where results are that are too large for a row.
        synchronous: `normal`: a commit survives a killed process; `full`: and a power loss.
        host: the engine's loop, in which the writer runs.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(
        self, path: Path, large_results: LargeResults, synchronous: str, host: LoopThread
    ) -> None:
        self.path = path = path.absolute()  # the process may change its folder
        self._large_results = large_results
        self._synchronous = synchronous
        # Two, so that no look-up waits for a page of the history.
        self._points = _SharedConnection(path)
        self._pages = _SharedConnection(path)
        self._slots = SqliteSlots(path, partial(self._read, self._points))
        self._fresh = FreshResults()
        self._recent = RecentResults()
        prepare_file(path, synchronous)
        target = SqliteTarget(path, synchronous, large_results)
        self.backlog = Backlog()
        self._writer = Writer(target, host, self.backlog, self._settle)

    @property
    @override
    def slots(self) -> SqliteSlots:
        return self._slots

    # Writing

    @override
    def record(self, source: Source, length: int) -> None:
        payload = source.payload
        if payload is not None:
            is_large = len(payload) >= COUNTED_BYTES
            if (is_large or source.cache_row is not None) and source.is_final(length):
                self._fresh.note(source, payload)
                self._writer.count_result(len(payload))
        self._writer.record(source, length)

    def _settle(self, batch: Batch) -> None:
        """From here on, what has ended is found in the file."""
        keys = batch.cache_keys
        if keys:  # before the fresh ones are let go of
            self._recent.drop(keys)
        for source in batch.ended:
            if source.cache_row is not None:
                self._fresh.drop(source.cache_row)
            source.settle()

    @override
    def room(self) -> Latch | None:
        return self._writer.room()

    @override
    def barrier(self) -> Latch:
        return self._writer.barrier()

    @override
    def check(self) -> None:
        self._writer.check()

    # Reading, in the caller's thread

    def _read(
        self, reader: _SharedConnection, sql: str, values: Sequence[object]
    ) -> list[tuple[Any, ...]]:
        with self._readable():
            return reader.read(sql, values)

    @contextmanager
    def _readable(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be read: {error}.") from error

    @override
    def look_up(self, key: str, now: float) -> FoundResult | None:
        fresh = self._fresh.get(key)
        if fresh is not None:
            return None if fresh.is_expired(now) else fresh
        return self._recent.get(key, now) or self._look_into_file(key, now)

    def _look_into_file(self, key: str, now: float) -> FoundResult | None:
        reading = self._recent.about_to_read()
        for *columns, changes in self._read(self._points, _LOOK_UP, (key, now)):
            found = FoundResult(*columns)
            reading.note(changes, key, found)
            return found
        return None

    @override
    def entries_of(self, task: int, limit: int) -> Sequence[CacheRow]:
        # In this order: what is written in between is in both, and not in neither.
        fresh = {row.key: row for row in self._fresh.rows_of(task)}
        stored = [CacheRow(*row) for row in self._read(self._pages, _ENTRIES_OF, (task, limit))]
        found = [*fresh.values(), *(row for row in stored if row.key not in fresh)]
        return sorted(found, key=attrgetter("created_at"), reverse=True)[:limit]

    @override
    def flow_runs(self, query: Query) -> Sequence[FoundFlowRun]:
        return self._take(self._pages, reading.flow_runs(query))

    @override
    def task_runs(self, query: Query) -> Sequence[FoundTaskRun]:
        return self._take(self._pages, reading.task_runs(query))

    @override
    def subflow_runs(self, flow_run_id: bytes) -> Sequence[FoundFlowRun]:
        return self._take(self._pages, reading.subflow_runs(flow_run_id))

    @override
    def payload_of(self, run_id: bytes) -> bytes | None:
        return self._take(self._points, reading.payload_of(run_id))

    def _take(self, reader: _SharedConnection, steps: Steps[T]) -> T:
        with self._readable(), reader.snapshot() as connection:
            return take(connection, steps)

    @override
    def load(self, reference: FileReference) -> bytes:
        return self._large_results.load(reference)

    # Deleting, in the caller's thread

    @override
    def prune(self, until: datetime | None, keep_cache: bool, now: float) -> Pruned:
        pruning = Pruning(_LAST_ID if until is None else id_bound(until), keep_cache, now)
        while not pruning.is_done:
            self._flush()  # and let the writer write
            with self._pages.lock, self._writing() as connection:
                files = pruning.delete_slice(connection)
            for name in files:
                self._large_results.delete(name)
            time.sleep(_PRUNING_PAUSE_SECONDS)
        time.sleep(LEASE_SECONDS)
        return pruning.pruned

    def _writing(self) -> _transaction:
        """A transaction of this thread; callers hold the lock of `_pages`, so no fork meets it."""
        return _transaction(connect(self.path, self._synchronous))

    @override
    def clear_cache(self, key: str | None) -> int:
        self._flush()
        with self._pages.lock, self._writing() as connection:
            deleted = _delete_entries(connection, key)
        time.sleep(LEASE_SECONDS)
        return deleted

    def _flush(self) -> None:
        self.barrier().wait()
        self.check()

    @override
    def pause(self) -> None:
        self._slots.pause()
        self._points.pause()
        self._pages.pause()
        self._writer.pause()

    @override
    def resume(self) -> None:
        self._writer.resume()
        self._pages.resume()
        self._points.resume()
        self._slots.resume()

    @override
    def leave_behind(self) -> None:
        self._writer.leave_behind()
        self._slots.leave_behind()

    @override
    def close(self) -> None:
        self._slots.close()
        for reader in (self._points, self._pages):
            reader.pause()  # the writer is to close last, and then folds the WAL in
            reader.resume()
        self._writer.close()


def open_store(settings: Settings, host: LoopThread) -> Store:
    """The store that a `sqlite:` URL asks for."""
    path = settings.database_path()
    if path is None:
        return MemoryStore()
    large_results = FolderOfResults(settings.local_storage_path)
    return SqliteStore(path, large_results, settings.synchronous, host)


def _delete_entries(connection: sqlite3.Connection, key: str | None) -> int:
    if key is None:
        return connection.execute("DELETE FROM cache").rowcount
    return connection.execute("DELETE FROM cache WHERE key = ?", (key,)).rowcount


class _SharedConnection:
    """A read-only connection that threads share: they take turns with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def read(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self.lock:
            return self._connected().execute(sql, values).fetchall()

    @contextmanager
    def snapshot(self) -> Generator[sqlite3.Connection]:
        """The connection for statements that are to see the same rows."""
        with self.lock:
            connection = self._connected()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect_to_read(self.path)
        return self._connection

    def pause(self) -> None:
        """Close the connection, and let nobody read until `resume`."""
        self.lock.acquire()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def resume(self) -> None:
        self.lock.release()


class _transaction:  # noqa: N801  # used like a function
    """A write transaction on a connection that is closed after it, or where it cannot begin."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._connection.close()
            raise
        return self._connection

    def __exit__(self, kind: object, *exc: object) -> None:
        try:
            self._connection.execute("COMMIT" if kind is None else "ROLLBACK")
        finally:
            self._connection.close()


_LOOK_UP = """
SELECT c.run_id, t.result, c.expires_at, (SELECT number FROM cache_changes WHERE id = 1)
FROM cache c JOIN task_run t ON t.id = c.run_id
WHERE c.key = ? AND (c.expires_at IS NULL OR c.expires_at > ?) AND t.result IS NOT NULL
"""


_ENTRIES_OF = """
SELECT key, run_id, created_at, expires_at, task, parts FROM cache INDEXED BY cache_by_task
WHERE task = ? ORDER BY created_at DESC LIMIT ?
"""
