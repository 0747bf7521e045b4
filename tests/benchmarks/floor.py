"""The floor: the rows of Penstock's own tables, written by hand on the same libraries.

Rows are encoded with msgspec by whoever ran the work, and go through aiosqlite in batches of 1,000
in one background thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeAlias
from uuid import UUID

import aiosqlite
import msgspec

from penstock._model.ids import new_id
from penstock._model.rows import FlowRow, TaskRow
from penstock._stores.sqlite.schema import prepare_file, upsert
from penstock.settings import load_settings
from tests.benchmarks.samples import Sample, microseconds_a_task

Details: TypeAlias = Mapping[str, object]

BATCH: Final = 1000
_SYNCHRONOUS: Final = "normal"
_DEFINITION: Final = 0x7FFF_FFFF_FFFF_FFFF
_flow_run: Final = new_id()
_NO_DETAILS: Final[Details] = {}
_encode = msgspec.msgpack.Encoder().encode

# Rows


now: Final = time.time
"""The moment of a transition."""


def completed_history(
    submitted_at: float,
    started_at: float,
    message: str | None = None,
    details: Details = _NO_DETAILS,
) -> bytes:
    """Pending, Running, and Completed just now."""
    return _encode(
        (
            ("PENDING", "Pending", None, submitted_at, _NO_DETAILS),
            ("RUNNING", "Running", None, started_at, _NO_DETAILS),
            ("COMPLETED", "Completed", message, now(), details),
        )
    )


def completed_row(
    number: int,
    submitted_at: float,
    started_at: float,
    value: object,
    details: Details = _NO_DETAILS,
) -> TaskRow:
    """A task run that has returned a value just now."""
    history = completed_history(submitted_at, started_at, None, details)
    return _task_row(number, "Completed", 1, history, b"m" + _encode(value))


def cached_row(number: int, submitted_at: float, key: str, cached_from: bytes) -> TaskRow:
    """A task run that has found its result under a cache key just now."""
    details = {"cache_key": key, "cached_from": UUID(bytes=cached_from)}
    history = _encode(
        (
            ("PENDING", "Pending", None, submitted_at, _NO_DETAILS),
            ("COMPLETED", "Cached", None, now(), details),
        )
    )
    return _task_row(number, "Cached", 0, history, b"r" + cached_from)


def _task_row(number: int, state: str, attempts: int, history: bytes, result: bytes) -> TaskRow:
    return TaskRow(
        new_id(),
        _DEFINITION,
        _flow_run,
        _flow_run,
        number,
        number,
        "COMPLETED",
        state,
        attempts,
        b"",
        history,
        result,
    )


def flow_row(name: str, history: bytes) -> FlowRow:
    """A flow run that took nothing and has returned None."""
    return FlowRow(
        new_id(),
        _DEFINITION,
        None,
        name,
        "COMPLETED",
        "Completed",
        1,
        _encode({}),
        history,
        b"m" + _encode(None),
    )


# Writing


def database() -> Path:
    """The file of this process."""
    path = load_settings().database_path()
    assert path is not None, "benchmarks measure the disk too"
    return path


def prepare_database() -> Path:
    """The file of this process, with Penstock's own tables and indexes."""
    path = database()
    prepare_file(path, _SYNCHRONOUS)
    return path


class Writer:
    """Takes rows of one table from any thread; `close` returns when all are on disk."""

    def __init__(self, row_type: type[FlowRow | TaskRow] = TaskRow) -> None:
        self._path = prepare_database()
        self._row_type = row_type
        self._rows: deque[FlowRow | TaskRow] = deque()
        self._batches: SimpleQueue[list[FlowRow | TaskRow]] = SimpleQueue()
        self._lock = threading.Lock()
        self._connected = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._write()))
        self._thread.start()
        self._connected.wait()

    def add(self, row: FlowRow | TaskRow) -> None:
        """Have a row written with the batch that it completes."""
        self._rows.append(row)
        if len(self._rows) >= BATCH:
            with self._lock:
                while len(self._rows) >= BATCH:
                    self._batches.put([self._rows.popleft() for _ in range(BATCH)])

    def close(self) -> None:
        """Write the rest."""
        if self._rows:
            self._batches.put(list(self._rows))
        self._batches.put([])
        self._thread.join()

    async def _write(self) -> None:
        async with aiosqlite.connect(self._path, isolation_level=None) as connection:
            await connection.execute(f"PRAGMA synchronous={_SYNCHRONOUS}")
            self._connected.set()
            while rows := self._batches.get():  # it may block: nothing else runs in this loop
                await connection.execute("BEGIN IMMEDIATE")
                values = [value for row in rows for value in row]
                await connection.execute(upsert(self._row_type, len(rows)), values)
                await connection.commit()


def timed(work: Callable[[Writer], object], tasks: int) -> Sample:
    """Time what runs `tasks` tasks and adds a row for each, to the last row on disk."""
    writer = Writer()

    def work_and_flush() -> None:
        work(writer)
        writer.close()

    return Sample(microseconds_a_task(work_and_flush, tasks), task_runs=tasks)
