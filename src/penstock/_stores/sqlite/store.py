"""A store in a SQLite file: one thread writes, and whoever asks reads for itself.

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
from typing import Any, Final

import msgspec

from penstock._model.definition import Definition, RunKind
from penstock._model.ids import id_bound
from penstock._model.rows import CacheRow, FlowRow, TaskRow
from penstock._stores.port import FoundFlowRun, FoundResult, FoundTaskRun, Pruned, Query
from penstock._stores.recent import LEASE_SECONDS
from penstock._stores.sqlite.pages import FLOW_RUNS, SUBFLOW_RUNS, TASK_RUNS, Table, read_page
from penstock._stores.sqlite.pruning import Pruning
from penstock._stores.sqlite.schema import connect, connect_to_read, prepare_file
from penstock._stores.sqlite.slots import SqliteSlots
from penstock._stores.writing.writer import Writer
from penstock.exceptions import StoreError

_PRUNING_PAUSE_SECONDS: Final = 0.005
"""How long others can get at the file between two slices; they try each 0.1 s at least."""
_LAST_ID: Final = b"\xff" * 16


class SqliteStore(Writer):
    """Keeps the rows in a SQLite file that several processes may share.

    Args:
        path: the file; made, with its folder, where there is none.
        storage: the folder of large results.
        synchronous: `normal`: a commit survives a killed process; `full`: and a power loss.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(self, path: Path, storage: Path, synchronous: str) -> None:
        path = path.absolute()  # the process may change its folder
        # Two, so that no look-up waits for a page of the history.
        self._points = _Reader(path)
        self._pages = _Reader(path)
        self.slots: SqliteSlots = SqliteSlots(path, partial(self._read, self._points))
        prepare_file(path, synchronous)
        super().__init__(path, storage.absolute(), synchronous)

    # Reading, in the caller's thread

    def _read(self, reader: _Reader, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._readable():
            return reader.read(sql, values)

    @contextmanager
    def _readable(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be read: {error}.") from error

    def look_up(self, key: str, now: float) -> FoundResult | None:
        """See `Store`."""
        fresh = self.fresh.get(key)
        if fresh is not None:
            row, payload = fresh
            alive = row.expires_at is None or row.expires_at > now
            return FoundResult(row.run_id, payload, row.expires_at) if alive else None
        return self.recent.get(key, now) or self._look_into_file(key, now)

    def _look_into_file(self, key: str, now: float) -> FoundResult | None:
        reading = self.recent.about_to_read()
        for *columns, changes in self._read(self._points, _LOOK_UP, (key, now)):
            found = FoundResult(*columns)
            reading.note(changes, key, found)
            return found
        return None

    def entries_of(self, task: int, limit: int) -> Sequence[CacheRow]:
        """See `Store`."""
        # In this order: what is written in between is in both, and not in neither.
        fresh = {row.key: row for row, _payload in tuple(self.fresh.values()) if row.task == task}
        stored = [CacheRow(*row) for row in self._read(self._pages, _ENTRIES_OF, (task, limit))]
        found = [*fresh.values(), *(row for row in stored if row.key not in fresh)]
        return sorted(found, key=attrgetter("created_at"), reverse=True)[:limit]

    def flow_runs(self, query: Query) -> Sequence[FoundFlowRun]:
        """See `Store`."""
        return [_found_flow_run(row) for row in self._read_page(FLOW_RUNS, query)]

    def task_runs(self, query: Query) -> Sequence[FoundTaskRun]:
        """See `Store`."""
        return [_found_task_run(row) for row in self._read_page(TASK_RUNS, query)]

    def _read_page(self, table: Table, query: Query) -> Sequence[tuple[Any, ...]]:
        with self._readable(), self._pages.snapshot() as connection:
            return read_page(connection, table, query)

    def subflow_runs(self, flow_run_id: bytes) -> Sequence[FoundFlowRun]:
        """See `Store`."""
        rows = self._read(self._pages, SUBFLOW_RUNS, (flow_run_id, flow_run_id))
        return [_found_flow_run(row) for row in rows]

    def payload_of(self, run_id: bytes) -> bytes | None:
        """See `Store`."""
        for (payload,) in self._read(self._points, _PAYLOAD, (run_id,)):
            found: bytes | None = payload
            return found
        return None

    # Deleting, in the caller's thread

    def prune(self, until: datetime | None, keep_cache: bool, now: float) -> Pruned:
        """See `Store`; others read and write between the transactions that it takes."""
        pruning = Pruning(_LAST_ID if until is None else id_bound(until), keep_cache, now)
        while not pruning.is_done:
            self._flush()  # and let the writer write
            with self._pages.lock, self._writing() as connection:
                files = pruning.delete_slice(connection)
            for name in files:
                (self.storage / name).unlink(missing_ok=True)
            time.sleep(_PRUNING_PAUSE_SECONDS)
        time.sleep(LEASE_SECONDS)
        return pruning.pruned

    def _writing(self) -> _transaction:
        """A transaction of this thread; under the readers' lock, as a fork must not meet it."""
        return _transaction(connect(self.path, self._synchronous))

    def clear_cache(self, key: str | None) -> int:
        """See `Store`."""
        self._flush()
        with self._pages.lock, self._writing() as connection:
            deleted = _delete_entries(connection, key)
        time.sleep(LEASE_SECONDS)
        return deleted

    def _flush(self) -> None:
        self.barrier().wait()
        self.check()

    def pause(self) -> None:
        """See `Store`."""
        self.slots.pause()
        self._points.pause()
        self._pages.pause()
        self.pause_writing()

    def resume(self) -> None:
        """See `Store`."""
        self.resume_writing()
        self._pages.resume()
        self._points.resume()
        self.slots.resume()

    def leave_behind(self) -> None:
        """See `Store`."""
        self.is_crowded = False  # nobody would relieve it
        self.slots.leave_behind()

    def close(self) -> None:
        """See `Store`."""
        self.slots.close()
        for reader in (self._points, self._pages):
            reader.pause()  # the writer is to close last, and then folds the WAL in
            reader.resume()
        self.end_writing()


def _delete_entries(connection: sqlite3.Connection, key: str | None) -> int:
    if key is None:
        return connection.execute("DELETE FROM cache").rowcount
    return connection.execute("DELETE FROM cache WHERE key = ?", (key,)).rowcount


class _Reader:
    """The read-only connection; threads take turns."""

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


_FLOW_COLUMNS = len(FlowRow._fields)
_TASK_COLUMNS = len(TaskRow._fields)
_PAYLOAD = "SELECT result FROM task_run WHERE id = ?"
_LOOK_UP = """
SELECT c.run_id, t.result, c.expires_at, (SELECT number FROM cache_changes WHERE id = 1)
FROM cache c JOIN task_run t ON t.id = c.run_id
WHERE c.key = ? AND (c.expires_at IS NULL OR c.expires_at > ?) AND t.result IS NOT NULL
"""


_ENTRIES_OF = """
SELECT key, run_id, created_at, expires_at, task, parts FROM cache INDEXED BY cache_by_task
WHERE task = ? ORDER BY created_at DESC LIMIT ?
"""


def _found_flow_run(row: Sequence[Any]) -> FoundFlowRun:
    return FoundFlowRun(FlowRow(*row[:_FLOW_COLUMNS]), _definition(row[_FLOW_COLUMNS:]))


def _found_task_run(row: Sequence[Any]) -> FoundTaskRun:
    return FoundTaskRun(TaskRow(*row[:_TASK_COLUMNS]), _definition(row[_TASK_COLUMNS:]))


def _definition(columns: Sequence[Any]) -> Definition:
    id_, kind, name, key, version, description, tags = columns
    stored_tags = msgspec.json.decode(tags, type=list[str])
    return Definition(id_, RunKind(kind), name, key, version, description, tuple(stored_tags))
