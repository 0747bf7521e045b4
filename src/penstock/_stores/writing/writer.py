"""Group commit: all that is recorded goes through one queue to one thread that writes it.

While one transaction is committed, the next batch gathers, and what a batch says of one run becomes
one row. A barrier is set only after the transaction that holds all before it has been committed.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from penstock._model.payloads import INLINE_LIMIT, lost_payload, store_payload
from penstock._model.rows import CacheRow, Source
from penstock._stores.recent import RecentResults
from penstock._stores.sqlite.schema import BUSY_SECONDS, connect
from penstock._stores.writing.batches import RUNS_A_BATCH, Batch, Queue, Statement, storable
from penstock._waiting.latch import Latch, expected
from penstock.exceptions import StoreError

_GATHER_SECONDS: Final = 0.005
"""How long a small batch waits for company; a barrier cuts it short."""
_ITEMS_IN_QUEUE: Final = 100_000
"""Two for each event."""
_BYTES_IN_QUEUE: Final = 64 * 1024 * 1024
_HEAVY_BYTES: Final = 4096
_GIVE_UP_SECONDS: Final = 10.0
_FILE_PAUSES: Final = (0.05, 0.2, 0.5)
"""Seconds between attempts to write a large result."""
_log = logging.getLogger("penstock.store")


class Writer:
    """Writes runs to a database that is there already, in a thread of its own.

    Attributes:
        fresh: the results that are not in the file yet, by cache key.
        recent: some that are.
        is_crowded: see `Store`.

    Args:
        path: the file.
        storage: the folder of large results.
        synchronous: see `SqliteStore`.

    Raises:
        StoreError: the file cannot be opened.
    """

    def __init__(self, path: Path, storage: Path, synchronous: str) -> None:
        self.path = path
        self.storage = storage
        self.fresh: dict[str, tuple[CacheRow, bytes]] = {}
        self.recent: RecentResults = RecentResults()
        self.is_crowded: bool = False
        self._synchronous = synchronous
        self._queue: Queue = deque()
        self._lock = threading.Lock()
        self._heavy_bytes = 0
        self._relief: Latch | None = None
        self._failure: StoreError | None = None
        self._known_definitions: set[int] = set()
        self._bell: SimpleQueue[None] = SimpleQueue()  # it can be rung from any code, even by gc
        self._asleep = False
        self._hurried = False
        self._closing = False
        self._pausing = False
        self._paused = Latch()
        self._opened = Latch()
        self._ended = Latch()
        # A script may end right away, and then no thread can be started any more.
        threading.Thread(target=self._write_forever, name="penstock-writer", daemon=True).start()
        expected(self._opened).wait(releases_worker=False)
        self.check()

    # From any thread

    def record(self, source: Source, length: int) -> None:
        """See `Store`."""
        if source.payload is not None and source.is_final(length):
            self._note_result(source, source.payload)
        queue = self._queue
        queue.extend((source, length))  # in one step, and the pair is gone before any other
        if len(queue) > _ITEMS_IN_QUEUE:
            self.is_crowded = True
        if self._asleep:
            self._asleep = False
            self._bell.put(None)

    def _note_result(self, source: Source, payload: bytes) -> None:
        if source.cache_row is not None:
            self.fresh[source.cache_row.key] = (source.cache_row, payload)
        if len(payload) >= _HEAVY_BYTES:
            with self._lock:
                self._heavy_bytes += len(payload)
                if self._heavy_bytes > _BYTES_IN_QUEUE:
                    self.is_crowded = True

    def relieve(self) -> Latch | None:
        """See `Store`."""
        self.check()
        with self._lock:
            self.is_crowded = self._is_full()
            if not self.is_crowded:  # the writer was faster
                return None
            if self._relief is None:
                self._relief = expected(Latch())
            return self._relief

    def _is_full(self) -> bool:
        return len(self._queue) > _ITEMS_IN_QUEUE or self._heavy_bytes > _BYTES_IN_QUEUE

    def barrier(self) -> Latch:
        """See `Store`."""
        latch = expected(Latch())
        self._queue.extend((latch, None))
        self._hasten()
        if self._ended.is_set():
            latch.set()
        return latch

    def _hasten(self) -> None:
        self._hurried = True
        self._bell.put(None)

    def check(self) -> None:
        """See `Store`."""
        if self._failure is not None:
            raise self._failure

    def pause_writing(self) -> None:
        """Close the connection, once the batch at hand is written, until `resume_writing`."""
        self._paused = Latch()
        self._pausing = True
        self._hasten()
        if not self._ended.is_set():
            expected(self._paused).wait(timeout=BUSY_SECONDS, releases_worker=False)

    def resume_writing(self) -> None:
        """Go on."""
        self._pausing = False
        self._bell.put(None)

    def end_writing(self) -> None:
        """Write what is there, and end the thread; raises `StoreError` where it cannot."""
        self._closing = True
        self.barrier()
        expected(self._ended).wait(timeout=BUSY_SECONDS)
        self.check()

    # In the writer's thread

    def _write_forever(self) -> None:
        try:
            while True:
                connection = connect(self.path, self._synchronous)
                self._opened.set()
                try:
                    while self._gathered():
                        self._write(connection, Batch(self._queue))
                finally:
                    connection.close()
                if self._closing:
                    return
                while self._pausing:  # perhaps a second time already
                    self._paused.set()
                    self._bell.get()
        except Exception as error:
            self._failure = StoreError(f"The writer of {self.path} has stopped: {error!r}.")
            _log.exception("The writer of %s has stopped", self.path)
        finally:
            self._opened.set()
            self._paused.set()
            self._ended.set()
            self._let_go_of_all()

    def _gathered(self) -> bool:
        """Wait for something to write; False: there is nothing more to come, for now."""
        while not self._queue or self._pausing:
            if self._closing or self._pausing:
                return False
            self._asleep = True
            if not self._has_to_move():
                self._bell.get()
            self._asleep = False
        if len(self._queue) < 2 * RUNS_A_BATCH:
            self._wait_for_company()
        self._hurried = False
        return True

    def _has_to_move(self) -> bool:
        return bool(self._queue) or self._closing or self._pausing

    def _wait_for_company(self) -> None:
        ends_at = time.monotonic() + _GATHER_SECONDS
        while not self._hurried and (left := ends_at - time.monotonic()) > 0:
            try:
                self._bell.get(timeout=left)
            except Empty:
                return

    def _write(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """Write a batch, and let everybody know who waits for it, whatever comes of it."""
        try:
            if self._failure is None and batch.latest:
                files = self._stored_files(batch.ended)
                statements = batch.statements(files, self._known_definitions)
                self._write_patiently(connection, statements)
                self._known_definitions.update(run.definition.id for run in batch.latest)
        finally:
            heavy_bytes = batch.heavy_bytes(_HEAVY_BYTES)
            self._settle(batch)
            self._relax(heavy_bytes)
            for latch in batch.barriers:
                latch.set()

    def _write_patiently(
        self, connection: sqlite3.Connection, statements: Sequence[Statement]
    ) -> None:
        """Try for a while where the disk or another process is in the way."""
        give_up_at = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            try:
                _transact(connection, statements)
            except (sqlite3.Error, OSError) as error:
                connection.rollback()
                _log.warning("Writing %s failed, will be tried again: %s", self.path, error)
                if time.monotonic() > give_up_at:
                    self._failure = StoreError(f"{self.path} cannot be written: {error}.")
                    _log.critical("%s Its history is incomplete from here on.", self._failure)
                    return
                time.sleep(0.2)
            else:
                return

    def _stored_files(self, ended: Iterable[Source]) -> dict[Source, bytes]:
        """Write the large results to files; what the rows of their runs hold in their place."""
        return {
            run: self._stored_file(run, payload)
            for run in ended
            if (payload := run.payload) is not None and len(payload) >= INLINE_LIMIT
        }

    def _stored_file(self, source: Source, payload: bytes) -> bytes:
        for pause in _FILE_PAUSES:
            try:
                return store_payload(payload, self.storage, source.run_id)
            except OSError:  # perhaps the disk is full for a moment
                time.sleep(pause)
        try:
            return store_payload(payload, self.storage, source.run_id)
        except OSError as error:  # one result is lost, and not the history of all runs
            _log.critical("A result of %d bytes was not stored: %s", len(payload), error)
            return lost_payload(str(error))

    def _settle(self, batch: Batch) -> None:
        """From here on, what has ended is found in the file."""
        keys = batch.cache_keys
        if keys:  # before `fresh` lets go of them
            self.recent.drop(keys)
        for source in batch.ended:
            row = source.cache_row
            if row is not None:
                fresh = self.fresh.get(row.key)
                if fresh is not None and fresh[0] is row:
                    del self.fresh[row.key]
            source.settle()

    def _relax(self, heavy_bytes: int) -> None:
        with self._lock:
            self._heavy_bytes -= heavy_bytes
            relief = self._relief
            if relief is None or len(self._queue) > _ITEMS_IN_QUEUE // 2:
                return
            self._relief = None
        relief.set()

    def _let_go_of_all(self) -> None:
        """Nobody may wait for a writer that has ended."""
        while self._queue:
            for latch in Batch(self._queue).barriers:
                latch.set()
        if self._relief is not None:
            self._relief.set()


def _transact(connection: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    try:
        _execute(connection, statements)
    except UnicodeEncodeError:
        connection.rollback()
        _execute(connection, storable(statements))


def _execute(connection: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    if len(statements) == 1:  # a transaction of its own
        connection.execute(*statements[0])
        return
    connection.execute("BEGIN IMMEDIATE")
    for sql, values in statements:
        connection.execute(sql, values)
    connection.execute("COMMIT")
