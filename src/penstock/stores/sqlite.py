"""A store in a SQLite file, with group commit.

All that is recorded goes through one queue to one writer in the engine's loop; while one commit
runs, the next batch gathers, and what a batch says of one run becomes one row. A barrier is set
only after the transaction that holds all before it has been committed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiosqlite
import anyio.to_thread

from penstock._engine.ids import id_bound
from penstock._engine.latch import Latch
from penstock._engine.loops import LoopThread
from penstock.exceptions import StoreError
from penstock.records import (
    CacheRow,
    Definition,
    FlowRow,
    Row,
    RunKind,
    Source,
    TaskRow,
    storable_text,
)
from penstock.results import INLINE_LIMIT, lost_payload, store_payload
from penstock.stores import FoundFlowRun, FoundResult, FoundTaskRun, Pruned, Query
from penstock.stores.pages import FLOW_RUNS, SUBFLOW_RUNS, TASK_RUNS, Table, read_page
from penstock.stores.pruning import Pruning
from penstock.stores.schema import (
    BUSY_SECONDS,
    DEFINITION_COLUMNS,
    STATEMENT_SIZES,
    connect,
    connect_to_read,
    insert,
    prepare_file,
    upsert,
    upsert_cache,
)

_GATHER_SECONDS: Final = 0.003
"""How long a woken writer waits for company; a barrier cuts it short."""
_EVENTS_A_BATCH: Final = 4000
_EVENTS_IN_QUEUE: Final = 50_000
_BYTES_IN_QUEUE: Final = 64 * 1024 * 1024
_HEAVY_BYTES: Final = 4096
_GIVE_UP_SECONDS: Final = 10.0
_FILE_PAUSES: Final = (0.05, 0.2, 0.5)
"""Seconds between attempts to write a large result."""
_PRUNING_PAUSE_SECONDS: Final = 0.005
"""How long others can get at the file between two slices; they try each 0.1 s at least."""
_LAST_ID: Final = b"\xff" * 16

_Event: TypeAlias = tuple[Source, int] | tuple[Latch, None]
"""A run and the length of its history; or a barrier."""
_log = logging.getLogger("penstock.store")


class _Batch:
    """What one transaction writes: of each run its latest row, and who waits for it."""

    def __init__(self, events: Iterable[_Event]) -> None:
        self.latest: dict[Source, int] = {}
        self.barriers: list[Latch] = []
        # A run stands where it came first, with the length that came last.
        for key, length in dict[Any, int | None](events).items():
            if length is None:
                self.barriers.append(key)
            else:
                self.latest[key] = length
        self.ended = [run for run, length in self.latest.items() if run.is_final(length)]

    def heavy_bytes(self) -> int:
        """How long its large results are."""
        payloads = (run.payload for run in self.ended)
        sizes = (len(payload) for payload in payloads if payload is not None)
        return sum(size for size in sizes if size >= _HEAVY_BYTES)


_Statement: TypeAlias = tuple[str, list[Any]]


class _Rows:
    """The rows of a batch, by table."""

    def __init__(self) -> None:
        self.definitions: dict[int, Definition] = {}
        self._flow_runs: list[Row] = []
        self._task_runs: list[Row] = []
        self._cache: list[CacheRow] = []

    def add(self, source: Source, length: int, payload: bytes | None) -> None:
        """Take what a run was after its first `length` states."""
        row = source.row(length, payload)
        (self._flow_runs if type(row) is FlowRow else self._task_runs).append(row)
        definition = source.definition
        self.definitions[definition.id] = definition

    def add_cached(self, ended: Iterable[Source]) -> None:
        """Take the cache entries of runs that have ended; of two for a key, the newer will stay."""
        self._cache += [row for run in ended if (row := run.cache_row) is not None]

    def statements(self) -> Iterator[_Statement]:
        """What writes them."""
        definitions = list(map(_stored, self.definitions.values()))
        yield from _in_chunks(definitions, partial(insert, "definition", DEFINITION_COLUMNS))
        yield from _in_chunks(self._flow_runs, partial(upsert, FlowRow))
        yield from _in_chunks(self._task_runs, partial(upsert, TaskRow))
        yield from _in_chunks(self._cache, upsert_cache)


def _in_chunks(rows: Sequence[Sequence[Any]], sql: Callable[[int], str]) -> Iterator[_Statement]:
    """Few sizes, as SQLite compiles each text once: 1000s, 100s, and the rest."""
    start = 0
    while start < len(rows):
        left = len(rows) - start
        size = next((size for size in STATEMENT_SIZES if size <= left), left)
        chunk = rows[start : start + size]
        # sqlite3 looks for an adapter for each bytes, which takes longer than binding it; it knows
        # that a bytearray has none.
        yield (
            sql(size),
            [bytearray(value) if type(value) is bytes else value for row in chunk for value in row],
        )
        start += size


def _storable(statements: list[_Statement]) -> list[_Statement]:
    return [
        (sql, [storable_text(value) if isinstance(value, str) else value for value in values])
        for sql, values in statements
    ]


class SqliteStore:
    """Keeps the rows in a SQLite file that several processes may share.

    Args:
        path: the file; made, with its folder, where there is none.
        storage: the folder of large results.
        synchronous: `normal`: a commit survives a killed process; `full`: and a power loss.
        host: the loop that the writer runs in.

    Raises:
        StoreError: the file cannot be used.
    """

    def __init__(self, path: Path, storage: Path, synchronous: str, host: LoopThread) -> None:
        path = path.absolute()  # the process may change its folder
        self.storage: Path = storage.absolute()
        self._path = path
        self._synchronous = synchronous
        self._host = host
        self.is_crowded = False
        self._queue: deque[_Event] = deque()
        self._lock = threading.Lock()
        self._heavy_bytes = 0
        self._asleep = True
        self._closing = False
        self._relief: Latch | None = None
        self._failure: StoreError | None = None
        self._fresh: dict[str, tuple[CacheRow, bytes]] = {}
        self._written_definitions: set[int] = set()
        # Two, so that no look-up waits for a page of the history.
        self._points = _Reader(path)
        self._pages = _Reader(path)
        self._opened = Latch()
        self._ended = Latch()
        prepare_file(path, synchronous)
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._resumed = asyncio.Event()
        self._pausing = False
        self._paused = Latch()
        host.spawn(self._write_forever)
        # A script may end right away, and then no thread can be started for the connection.
        self._opened.wait(gives_up_place=False)
        self.check()

    # Recording, from any thread

    def record(self, source: Source, length: int) -> None:
        """See `Store`."""
        if source.payload is not None and source.is_final(length):
            self._note_result(source, source.payload)
        queue = self._queue
        queue.append((source, length))
        if len(queue) > _EVENTS_IN_QUEUE:
            self.is_crowded = True
        if self._asleep:
            self._rouse()

    def _note_result(self, source: Source, payload: bytes) -> None:
        if source.cache_row is not None:
            self._fresh[source.cache_row.key] = (source.cache_row, payload)
        if len(payload) >= _HEAVY_BYTES:
            with self._lock:
                self._heavy_bytes += len(payload)
                if self._heavy_bytes > _BYTES_IN_QUEUE:
                    self.is_crowded = True

    def _rouse(self) -> None:
        self._asleep = False
        self._host.port.call_soon(self._wake.set)

    def _hasten(self) -> None:
        self._wake.set()
        self._hurry.set()

    def relieve(self) -> Latch | None:
        """See `Store`."""
        self.check()
        with self._lock:
            self.is_crowded = self._is_full()
            if not self.is_crowded:  # the writer was faster
                return None
            if self._relief is None:
                self._relief = Latch()
            return self._relief

    def _is_full(self) -> bool:
        return len(self._queue) > _EVENTS_IN_QUEUE or self._heavy_bytes > _BYTES_IN_QUEUE

    def barrier(self) -> Latch:
        """See `Store`."""
        latch = Latch()
        self._queue.append((latch, None))
        self._host.port.call_soon(self._hasten)
        if self._ended.is_set():
            latch.set()
        return latch

    def check(self) -> None:
        """See `Store`."""
        if self._failure is not None:
            raise self._failure

    # The writer, in the host's loop

    async def _write_forever(self) -> None:
        try:
            while True:
                connection = await self._connect()
                try:
                    while await self._gathered():
                        await self._write(connection, self._drained())
                finally:
                    await connection.close()
                if self._closing:
                    return
                while self._pausing:  # perhaps a second time already
                    self._paused.set()
                    self._resumed.clear()
                    await self._resumed.wait()
        except Exception as error:
            self._failure = StoreError(f"The writer of {self._path} has stopped: {error!r}.")
            _log.exception("The writer of %s has stopped", self._path)
        finally:
            self._opened.set()
            self._paused.set()
            self._ended.set()
            self._let_go_of_all()

    async def _connect(self) -> aiosqlite.Connection:
        connection = await aiosqlite.connect(
            self._path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            cached_statements=5 * STATEMENT_SIZES[-1],
        )
        await connection.execute(f"PRAGMA synchronous={self._synchronous.upper()}")
        self._opened.set()
        return connection

    async def _gathered(self) -> bool:
        """Wait for something to write; False: there is nothing more to come, for now."""
        while not self._queue or self._pausing:
            if self._closing or self._pausing:
                return False
            self._wake.clear()
            self._hurry.clear()
            self._asleep = True
            if not self._has_to_move():
                await self._wake.wait()
                self._host.call_later(_GATHER_SECONDS, self._hurry.set)
                await self._hurry.wait()
            self._asleep = False
        return True

    def _has_to_move(self) -> bool:
        return bool(self._queue) or self._closing or self._pausing

    def _drained(self) -> _Batch:
        take = self._queue.popleft
        return _Batch(take() for _ in range(min(len(self._queue), _EVENTS_A_BATCH)))

    async def _write(self, connection: aiosqlite.Connection, batch: _Batch) -> None:
        """Write a batch, and let everybody know who waits for it, whatever comes of it."""
        try:
            if self._failure is None and batch.latest:
                await self._write_patiently(connection, batch)
        finally:
            heavy_bytes = batch.heavy_bytes()
            self._settle(batch)
            self._relax(heavy_bytes)
            for latch in batch.barriers:
                latch.set()

    async def _write_patiently(self, connection: aiosqlite.Connection, batch: _Batch) -> None:
        """Try for a while where the disk or another process is in the way."""
        give_up_at = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            try:
                await self._transact(connection, batch)
            except (sqlite3.Error, OSError) as error:
                await connection.rollback()
                _log.warning("Writing %s failed, will be tried again: %s", self._path, error)
                if time.monotonic() > give_up_at:
                    self._failure = StoreError(f"{self._path} cannot be written: {error}.")
                    _log.critical("%s Its history is incomplete from here on.", self._failure)
                    return
                await asyncio.sleep(0.2)
            else:
                return

    async def _transact(self, connection: aiosqlite.Connection, batch: _Batch) -> None:
        rows = _Rows()
        stored = await self._stored_files(batch.ended)
        ended = set(batch.ended)
        for source, length in batch.latest.items():
            payload = source.payload if source in ended else None
            rows.add(source, length, stored.get(source, payload))
        rows.add_cached(batch.ended)
        rows.definitions = {
            id_: definition
            for id_, definition in rows.definitions.items()
            if id_ not in self._written_definitions
        }
        statements = list(rows.statements())
        try:
            await _execute(connection, statements)
        except UnicodeEncodeError:
            await connection.rollback()
            await _execute(connection, _storable(statements))
        self._written_definitions.update(rows.definitions)

    async def _stored_files(self, ended: Iterable[Source]) -> dict[Source, bytes]:
        """Write the large results to files; what the rows of their runs hold in their place."""
        return {
            run: await self._stored_file(run, payload)
            for run in ended
            if (payload := run.payload) is not None and len(payload) >= INLINE_LIMIT
        }

    async def _stored_file(self, source: Source, payload: bytes) -> bytes:
        for pause in _FILE_PAUSES:
            try:
                return await self._store_file(payload, source)
            except OSError:  # perhaps the disk is full for a moment
                await asyncio.sleep(pause)
        try:
            return await self._store_file(payload, source)
        except OSError as error:  # one result is lost, and not the history of all runs
            _log.critical("A result of %d bytes was not stored: %s", len(payload), error)
            return lost_payload(str(error))

    async def _store_file(self, payload: bytes, source: Source) -> bytes:
        return await anyio.to_thread.run_sync(store_payload, payload, self.storage, source.run_id)

    def _settle(self, batch: _Batch) -> None:
        """From here on, what has ended is found in the file."""
        for source in batch.ended:
            row = source.cache_row
            if row is not None:
                fresh = self._fresh.get(row.key)
                if fresh is not None and fresh[0] is row:
                    del self._fresh[row.key]
            source.settle()

    def _relax(self, heavy_bytes: int) -> None:
        with self._lock:
            self._heavy_bytes -= heavy_bytes
            relief = self._relief
            if relief is None or len(self._queue) > _EVENTS_IN_QUEUE // 2:
                return
            self._relief = None
        relief.set()

    def _let_go_of_all(self) -> None:
        """Nobody may wait for a writer that has ended."""
        while self._queue:
            for latch in _Batch((self._queue.popleft(),)).barriers:
                latch.set()
        if self._relief is not None:
            self._relief.set()

    # Reading, in the caller's thread

    def _read(self, reader: _Reader, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._readable():
            return reader.read(sql, values)

    @contextmanager
    def _readable(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} cannot be read: {error}.") from error

    def look_up(self, key: str, now: float) -> FoundResult | None:
        """See `Store`."""
        fresh = self._fresh.get(key)
        if fresh is not None:
            row, payload = fresh
            alive = row.expires_at is None or row.expires_at > now
            return FoundResult(row.run_id, payload, row.expires_at) if alive else None
        for found in self._read(self._points, _LOOK_UP, (key, now)):
            return FoundResult(*found)
        return None

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
        return pruning.pruned

    def _writing(self) -> _transaction:
        """A transaction of this thread; under the readers' lock, as a fork must not meet it."""
        return _transaction(connect(self._path, self._synchronous))

    def clear_cache(self, key: str | None) -> int:
        """See `Store`."""
        self._flush()
        with self._pages.lock, self._writing() as connection:
            if key is None:
                return connection.execute("DELETE FROM cache").rowcount
            return connection.execute("DELETE FROM cache WHERE key = ?", (key,)).rowcount

    def _flush(self) -> None:
        self.barrier().wait()
        self.check()

    def pause(self) -> None:
        """See `Store`."""
        self._points.pause()
        self._pages.pause()
        self._paused = Latch()
        self._pausing = True
        self._host.port.call_soon(self._hasten)
        if not self._ended.is_set():
            self._paused.wait(timeout=BUSY_SECONDS, gives_up_place=False)

    def resume(self) -> None:
        """See `Store`."""
        self._pausing = False
        self._host.port.call_soon(self._resumed.set)
        self._pages.resume()
        self._points.resume()

    def close(self) -> None:
        """See `Store`."""
        self._closing = True
        for reader in (self._points, self._pages):
            reader.pause()  # the writer is to close last, and then folds the WAL in
            reader.resume()
        self.barrier()
        self._ended.wait(timeout=BUSY_SECONDS)
        self.check()


async def _execute(connection: aiosqlite.Connection, statements: Sequence[_Statement]) -> None:
    if len(statements) == 1:  # a transaction of its own, in one hop to the thread
        await connection.execute(*statements[0])
        return
    await connection.execute("BEGIN IMMEDIATE")
    for sql, values in statements:
        await connection.execute(sql, values)
    await connection.commit()


class _Reader:
    """The read-only connection; threads take turns."""

    def __init__(self, path: Path) -> None:
        self._path = path
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
            self._connection = connect_to_read(self._path)
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
    """A write transaction on a connection that is closed after it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
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
SELECT c.run_id, t.result, c.expires_at FROM cache c JOIN task_run t ON t.id = c.run_id
WHERE c.key = ? AND (c.expires_at IS NULL OR c.expires_at > ?) AND t.result IS NOT NULL
"""


def _stored(definition: Definition) -> tuple[object, ...]:
    return (
        definition.id,
        definition.kind.value,
        definition.name,
        definition.key,
        definition.version,
        definition.description,
        json.dumps(definition.tags),
    )


def _found_flow_run(row: Sequence[Any]) -> FoundFlowRun:
    return FoundFlowRun(FlowRow(*row[:_FLOW_COLUMNS]), _definition(row[_FLOW_COLUMNS:]))


def _found_task_run(row: Sequence[Any]) -> FoundTaskRun:
    return FoundTaskRun(TaskRow(*row[:_TASK_COLUMNS]), _definition(row[_TASK_COLUMNS:]))


def _definition(columns: Sequence[Any]) -> Definition:
    id_, kind, name, key, version, description, tags = columns
    stored_tags: list[str] = json.loads(tags)
    return Definition(id_, RunKind(kind), name, key, version, description, tuple(stored_tags))
