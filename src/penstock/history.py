"""The history of all runs, read from the database.

The functions read what the engine of this process records: they first wait until it is on disk, so
that they see all of it. They are for sync code, where a page takes milliseconds; those that end in
`_async` do the same in async code, while the event loop goes on. `open` and `open_async` read any
file, of another process or machine, too, and start no engine.

Examples:
    The failed runs of a flow since yesterday::

        for run in history.flow_runs(flow="nightly", state="FAILED", since=yesterday):
            print(run.name, run.state.message)
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

import anyio.to_thread
from typing_extensions import Unpack

from penstock._engine.engine import Engine
from penstock._engine.process import engine_of_process, settings_of_process
from penstock._model import checks
from penstock._model.publishing import publish
from penstock._model.records import FlowRunRecord, Graph, TaskRunRecord
from penstock._model.store_kinds import STORE_KINDS, split_url
from penstock._stores.port import Pruned
from penstock._stores.reading.conditions import FlowRunConditions, States, TaskRunConditions
from penstock._stores.reading.readers import AsyncReader, Reader, RunFile
from penstock._stores.reading.reads import Reads
from penstock._waiting.latch import Latch, expected
from penstock.exceptions import ConfigurationError
from penstock.pictures import Picture

__all__ = [
    "AsyncReader",
    "FlowRunConditions",
    "FlowRunRecord",
    "Graph",
    "Pruned",
    "Reader",
    "States",
    "TaskRunConditions",
    "TaskRunRecord",
    "clear",
    "clear_async",
    "clear_cache",
    "clear_cache_async",
    "flow_run",
    "flow_run_async",
    "flow_runs",
    "flow_runs_async",
    "graph",
    "graph_async",
    "open",
    "open_async",
    "picture",
    "picture_async",
    "prune",
    "prune_async",
    "task_run",
    "task_run_async",
    "task_runs",
    "task_runs_async",
]

T = TypeVar("T")
_STORAGE: Final = "storage"
"""The folder of large results, unless another one is given; it is beside the database."""


# Reading what the engine of this process records


def flow_runs(**conditions: Unpack[FlowRunConditions]) -> list[FlowRunRecord]:
    """The flow runs that meet all the conditions, newest first.

    Args:
        conditions: those of `FlowRunConditions`, as keywords.

    Raises:
        ConfigurationError: there is no such state, the limit is below 1, or a condition is of
            another type.
        ParameterError: there is no such condition.
    """
    return _reads().flow_runs(**conditions)


def task_runs(**conditions: Unpack[TaskRunConditions]) -> list[TaskRunRecord]:
    """The task runs that meet all the conditions, newest first.

    Args:
        conditions: those of `TaskRunConditions`, as keywords.

    Raises:
        ConfigurationError: there is no such state, the limit is below 1, or a condition is of
            another type.
        ParameterError: there is no such condition.
    """
    return _reads().task_runs(**conditions)


def flow_run(run_id: UUID | str) -> FlowRunRecord | None:
    """The flow run with this id; None: there is none.

    Raises:
        ConfigurationError: the id is no UUID.
    """
    return _reads().flow_run(run_id)


def task_run(run_id: UUID | str) -> TaskRunRecord | None:
    """The task run with this id; None: there is none.

    Raises:
        ConfigurationError: the id is no UUID.
    """
    return _reads().task_run(run_id)


def graph(run: FlowRunRecord | UUID | str) -> Graph | None:
    """A flow run with all that it ran; None: there is no such run.

    Args:
        run: the flow run, or its id.

    Raises:
        ConfigurationError: the id is no UUID.
    """
    return _reads().graph(run)


def picture(run: FlowRunRecord | UUID | str) -> Picture | None:
    """A flow run with all that it and its subflows ran, drawn; None: there is no such run.

    An edge is a future that a task run was given; what was given as a value leaves no trace.
    """
    return _reads().picture(run)


async def flow_runs_async(**conditions: Unpack[FlowRunConditions]) -> list[FlowRunRecord]:
    """The same as `flow_runs`, while the event loop goes on."""
    return await _in_thread(lambda: flow_runs(**conditions))


async def task_runs_async(**conditions: Unpack[TaskRunConditions]) -> list[TaskRunRecord]:
    """The same as `task_runs`, while the event loop goes on."""
    return await _in_thread(lambda: task_runs(**conditions))


async def flow_run_async(run_id: UUID | str) -> FlowRunRecord | None:
    """The same as `flow_run`, while the event loop goes on."""
    return await _in_thread(partial(flow_run, run_id))


async def task_run_async(run_id: UUID | str) -> TaskRunRecord | None:
    """The same as `task_run`, while the event loop goes on."""
    return await _in_thread(partial(task_run, run_id))


async def graph_async(run: FlowRunRecord | UUID | str) -> Graph | None:
    """The same as `graph`, while the event loop goes on."""
    return await _in_thread(partial(graph, run))


async def picture_async(run: FlowRunRecord | UUID | str) -> Picture | None:
    """The same as `picture`, while the event loop goes on."""
    return await _in_thread(partial(picture, run))


# Deleting


def prune(
    *, older_than: timedelta | None = None, until: datetime | None = None, keep_cache: bool = True
) -> Pruned:
    """Delete runs that have ended, with their stored results.

    It goes step by step, and others read and write meanwhile. The file keeps its size: what is free
    in it is used again.

    Args:
        older_than: runs submitted longer ago than this.
        until: or: runs submitted before this time; a time without a zone is a local one.
        keep_cache: keep the task runs whose results the cache still gives out.

    Raises:
        ConfigurationError: not exactly one of the two was given, or it is of another type.
    """
    if (older_than is None) == (until is None):
        raise ConfigurationError("prune() takes either older_than or until.")
    if older_than is not None:
        requirement = "a timedelta (until takes a datetime)"
        checks.instance(older_than, timedelta, "older_than", "prune()", requirement)
    until = checks.datetime_or_none(until, "until", "prune()")
    engine = _flushed()
    if older_than is not None:
        until = datetime.fromtimestamp(engine.clock.now(), UTC) - older_than
    return engine.store.prune(until, keep_cache, engine.clock.now())


def clear() -> Pruned:
    """Delete all runs that have ended, all stored results, and the whole cache.

    Runs under way, of this process and of others, stay.
    """
    engine = _flushed()
    return engine.store.prune(None, False, engine.clock.now())


def clear_cache(key: str | None = None) -> int:
    """Forget what is cached, under one key or under all; the number of keys forgotten.

    The runs and their results stay in the history. Once the call has returned, no process serves
    what was forgotten.

    Args:
        key: as in `state.details.cache_key`; None: all of them.
    """
    return _flushed().store.clear_cache(key)


async def prune_async(
    *, older_than: timedelta | None = None, until: datetime | None = None, keep_cache: bool = True
) -> Pruned:
    """The same as `prune`, while the event loop goes on; cancelled, it deletes to the end."""
    return await _in_thread(
        partial(prune, older_than=older_than, until=until, keep_cache=keep_cache)
    )


async def clear_async() -> Pruned:
    """The same as `clear`, while the event loop goes on; cancelled, it deletes to the end."""
    return await _in_thread(clear)


async def clear_cache_async(key: str | None = None) -> int:
    """The same as `clear_cache`, while the event loop goes on."""
    return await _in_thread(partial(clear_cache, key))


def _reads() -> Reads:
    engine = _flushed()
    return Reads(engine.store, engine.results)


def _flushed() -> Engine:
    engine = engine_of_process()
    engine.commit().wait()
    engine.store.check()
    return engine


async def _in_thread(call: Callable[[], T]) -> T:
    """Call it in a thread of anyio's; an awaiting task that is cancelled leaves it there."""
    ended = expected(Latch())  # no fake clock goes on before it has

    def call_and_tell() -> T:
        try:
            return call()
        finally:
            ended.set()

    return await anyio.to_thread.run_sync(call_and_tell, abandon_on_cancel=True)


# Reading any file


def open(  # noqa: A001  # it is called as history.open, as gzip's and tarfile's are
    path: str | Path | None = None, *, storage: str | Path | None = None
) -> Reader:
    """A reader of the runs in a file, of this process or of any other, for sync code.

    It makes, migrates and locks nothing, and starts no engine and no thread. It reads what is in
    the file: what this process has just recorded may come a few milliseconds later.

    Args:
        path: the database; None: the one of the settings.
        storage: the folder of large results; None: the one of the settings where the database is,
            too, and else `storage` beside the database.

    Raises:
        ConfigurationError: the settings or `path` name no file.
        NotADatabase: the file is something else.
        SchemaTooNew: a newer Penstock wrote it.
        SchemaTooOld: an older one did, and it has to be migrated before it can be read.
        StoreError: there is no such file, or it cannot be read.
    """
    return Reader(_file(path, storage, "open()"))


def open_async(path: str | Path | None = None, *, storage: str | Path | None = None) -> AsyncReader:
    """The same as `open`, for async code: `async with history.open_async() as reader`.

    What cannot be read is refused on entering. aiosqlite reads in a thread of its own. It does not
    know trio: there an asyncio loop in another thread serves the reader until that is closed.
    """
    return AsyncReader(_file(path, storage, "open_async()"))


def _file(path: object, storage: object, owner: str) -> RunFile:
    from penstock._stores.large_results import FolderOfResults
    from penstock._stores.sqlite.file import SqliteFile  # few import sqlite3 for this

    settings = settings_of_process()
    configured = settings.database_path()
    chosen = configured if path is None else _path_of(path, "path", owner)
    if chosen is None:
        raise ConfigurationError(
            f"PENSTOCK_DATABASE_URL is {settings.database_url!r}: the runs are in no file that can "
            "be opened. Those in memory are read in their process, by penstock.history.flow_runs() "
            "and the other functions."
        )
    if storage is not None:
        folder = _path_of(storage, "storage", owner)
    elif configured is not None and chosen.absolute() == configured.absolute():
        folder = settings.local_storage_path
    else:
        folder = chosen.absolute().parent / _STORAGE
    return SqliteFile(chosen, FolderOfResults(folder))


def _path_of(given: object, argument: str, owner: str) -> Path:
    chosen = checks.path(given, argument, owner)
    if ":" in str(given) and split_url(str(given))[0] in STORE_KINDS:
        raise checks.refusal(given, argument, owner, "the path of a file, and no URL")
    return chosen


publish(__name__, __all__)
