"""A file with a long history, written in bulk: its rows are those that Penstock itself writes.

The runs of two years, in the order of their ids: thirty big flow runs with 1% of the task runs
each, and many small ones of 10 to 120; definitions in several versions; one tag that four in ten
task runs have, and one that a hundred have in all; 1% of failures; a cache entry for each tenth
run, and as many runs that took their result from one.
"""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from penstock._model.codecs import encode_parameters
from penstock._model.definition import Definition, RunKind, make_definition
from penstock._model.ids import id_bound
from penstock._model.names import name_of_flow_run
from penstock._model.payloads import encode_result, reference_to_run
from penstock._model.rows import CacheRow, FlowRow, TaskRow
from penstock._stores.sqlite.batch_statements import stored_definition
from penstock._stores.sqlite.schema import connect, prepare_file
from penstock.states import TYPES

BEGIN: Final = datetime(2024, 1, 1, tzinfo=UTC)
SPAN: Final = timedelta(days=730)
_BIG_FLOW_RUNS: Final = 30
_SMALL_SIZES: Final = (10, 20, 50, 120)
_ROWS_A_TRANSACTION: Final = 100_000
_TICK: Final = 0.001
_encode = msgspec.msgpack.Encoder().encode


def _task(name: str, *tags: str, version: str | None = None) -> Definition:
    return make_definition(RunKind.TASK, name, f"etl.{name}", version, f"Do {name}.", tags)


def _flow(name: str, *tags: str, version: str) -> Definition:
    digest = hashlib.sha256(version.encode()).hexdigest()[:32]
    return make_definition(RunKind.FLOW, name, f"etl.{name}", digest, None, tags)


_EXTRACT: Final = _task("extract")
_TRANSFORM: Final = [_task("transform", "etl", version=f"v{n}") for n in range(5)]
_FETCH: Final = _task("fetch", "network")
_LOAD: Final = _task("load", "network", "slow")
_LEGACY: Final = _task("legacy")
_AUDIT: Final = _task("audit", "audit")
_NIGHTLY: Final = [_flow("nightly", "prod", version=f"v{n}") for n in range(4)]
_HOURLY: Final = _flow("hourly", version="v1")
_BACKFILL: Final = _flow("backfill", "manual", version="v1")
_CHILD: Final = _flow("child", version="v1")
_TASKS: Final = (_EXTRACT, *_TRANSFORM, _FETCH, _LOAD, _LEGACY, _AUDIT)
_FLOWS: Final = (*_NIGHTLY, _HOURLY, _BACKFILL, _CHILD)

_ENDINGS: Final[Mapping[int, str]] = {
    **dict.fromkeys((30, 90, 91, 190, 191, 290, 390, 490), "Failed"),
    92: "TimedOut",
    93: "Cancelled",
    94: "NotReady",
    95: "Crashed",
}
"""How the runs end whose number has these last three digits; all are of `transform` or `load`."""
_LIVES: Final[Mapping[str, Sequence[str]]] = {
    "Cached": ("Pending", "Cached"),
    "NotReady": ("Pending", "NotReady"),
    "Running": ("Pending", "Running"),
    "Retried": ("Pending", "Running", "AwaitingRetry", "Retrying", "Completed"),
}


class _FlowRun(NamedTuple):
    """A flow run to be written, with the numbers of its task runs."""

    id: bytes
    definition: Definition
    number: int
    tasks: range


def fill(path: Path, count: int) -> None:
    """Make the file, with so many task runs, of 10,000 or more."""
    prepare_file(path, "off")
    with closing(connect(path, "off")) as connection:
        connection.execute("PRAGMA journal_mode=OFF")  # a filling that fails leaves nothing of use
        connection.execute("PRAGMA cache_size=-400000")
        _write(connection, "definition", map(stored_definition, (*_TASKS, *_FLOWS)))
        _write(connection, "flow_run", _flow_rows(count))
        _write(connection, "task_run", _task_rows(count))
        _write(connection, "cache", sorted(_cache_rows(count)))
    connect(path, "normal").close()


def _write(connection: sqlite3.Connection, table: str, rows: Iterable[Sequence[Any]]) -> None:
    iterator = iter(rows)
    while chunk := list(itertools.islice(iterator, _ROWS_A_TRANSACTION)):
        marks = ",".join("?" * len(chunk[0]))
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", chunk)
        connection.execute("COMMIT")


def _submitted_at(number: int, count: int) -> datetime:
    return BEGIN + SPAN * (number / count)


def _id(number: int, count: int, tail: int) -> bytes:
    """Of the task run with this number (tail 1), or of the flow run before it (tail 0)."""
    low = (7 << 76) | (2 << 62) | number << 1 | tail
    return id_bound(_submitted_at(number, count))[:6] + low.to_bytes(10, "big")


def task_run_id(number: int, count: int) -> bytes:
    """The id of the task run with this number, of so many."""
    return _id(number, count, 1)


def _history(states: Sequence[str], at: datetime, details: Mapping[str, object]) -> bytes:
    last = len(states) - 1
    return _encode(
        [
            (TYPES[name], name, None, at.timestamp() + _TICK * n, details if n == last else {})
            for n, name in enumerate(states)
        ]
    )


# Flow runs


def flow_run_ids(count: int, size: int) -> list[bytes]:
    """The ids of the flow runs with so many task runs."""
    return [run.id for run in _flow_runs(count) if len(run.tasks) == size]


def _flow_runs(count: int) -> Iterator[_FlowRun]:
    """The big ones at even distances, each followed by many small ones."""
    first, numbers = 0, itertools.count()
    for size in _sizes(count):
        number = next(numbers)
        tasks = range(first, min(first + size, count))
        definition = _flow_of(number, first / count, size == count // 100)
        yield _FlowRun(_id(first, count, 0), definition, number, tasks)
        first = tasks.stop


def _sizes(count: int) -> Iterator[int]:
    big, part = count // 100, count // _BIG_FLOW_RUNS
    small = itertools.cycle(_SMALL_SIZES)
    for turn in range(_BIG_FLOW_RUNS):
        yield big
        left = (count if turn == _BIG_FLOW_RUNS - 1 else part * (turn + 1)) - turn * part - big
        while left > 0:
            size = min(next(small), left)
            yield size
            left -= size


def _flow_of(number: int, age: float, is_big: bool) -> Definition:
    if is_big:
        return _BACKFILL
    if number % 50 == 7:
        return _CHILD
    return _NIGHTLY[int(age * len(_NIGHTLY))] if number % 4 == 0 else _HOURLY


def _flow_rows(count: int) -> Iterator[FlowRow]:
    """All runs of `child` are subflow runs of the first flow run."""
    for run in _flow_runs(count):
        ending = {13: "Failed", 63: "Failed", 88: "Crashed"}.get(run.number % 100, "Completed")
        ending = "TimedOut" if run.number % 500 == 499 else ending
        submitted_at = _submitted_at(run.tasks.start, count)
        yield FlowRow(
            run.id,
            run.definition.id,
            _id(0, count, 0) if run.definition is _CHILD else None,
            name_of_flow_run(run.id),
            TYPES[ending].value,
            ending,
            1,
            encode_parameters({"day": run.number, "source": "s3://bucket/landing"}),
            _history(("Pending", "Running", ending), submitted_at, {}),
            encode_result({"rows": run.number}) if ending == "Completed" else None,
        )


# Task runs


def _task_of(number: int, count: int) -> Definition:
    place = number % 100
    if number % (count // 100) == 7:
        return _AUDIT
    if place == 99 and number < count // 10:
        return _LEGACY
    if place < 25:
        return _EXTRACT
    if place < 65:
        return _TRANSFORM[number * len(_TRANSFORM) // count]
    return _FETCH if place < 85 else _LOAD


def has_cache_entry(number: int) -> bool:
    """Whether the task run with this number left one."""
    return 65 <= number % 100 < 75


def key_of(number: int) -> str:
    """The cache key of the task run with this number."""
    return hashlib.sha256(b"etl.fetch:%d" % number).hexdigest()


def _life_of(number: int, count: int) -> Sequence[str]:
    if number % (count // 20) == 31:
        return _LIVES["Running"]
    if 75 <= number % 100 < 85:
        return _LIVES["Cached"]
    if number % 100 == 96:
        return _LIVES["Retried"]
    ending = _ENDINGS.get(number % 1000, "Completed")
    return _LIVES.get(ending, ("Pending", "Running", ending))


def _task_rows(count: int) -> Iterator[TaskRow]:
    for run in _flow_runs(count):
        for number in run.tasks:
            yield _task_row(number, count, run)


def _task_row(number: int, count: int, run: _FlowRun) -> TaskRow:
    definition, life = _task_of(number, count), _life_of(number, count)
    details: Mapping[str, object] = {}
    result = encode_result(number) if life[-1] == "Completed" else None
    if life[-1] == "Cached":
        source = task_run_id(number - 10, count)
        details = {"cache_key": key_of(number - 10), "cached_from": source.hex()}
        result = reference_to_run(source)
    elif has_cache_entry(number):
        details = {"cache_key": key_of(number)}
    return TaskRow(
        task_run_id(number, count),
        definition.id,
        run.id,
        run.id,
        number,
        number - run.tasks.start,
        TYPES[life[-1]].value,
        life[-1],
        sum(TYPES[name] == "RUNNING" for name in life),
        task_run_id(number - 1, count) if number % 100 < 10 and number else None,
        _history(life, _submitted_at(number, count), details),
        result,
    )


def _cache_rows(count: int) -> Iterator[CacheRow]:
    for number in range(count):
        if has_cache_entry(number):
            created_at = _submitted_at(number, count).timestamp()
            yield CacheRow(key_of(number), task_run_id(number, count), created_at, None)
