"""What is read of a database: each read is a query, made into statements, and rows, made into runs.

They are written here once, as steps; the store and the readers of files take them.

Why: docs/inside/store.md, "A page is a merge of walks".
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from typing_extensions import override

from penstock._model.definition import Definition, RunKind
from penstock._model.rows import FlowRow, TaskRow
from penstock._stores.port import FoundFlowRun, FoundTaskRun, Query, RunSource
from penstock._stores.sqlite.pages import FLOW_RUNS, SUBFLOW_RUNS, TASK_RUNS, page
from penstock._stores.sqlite.statements import Statement, Steps, take

_FLOW_COLUMNS = len(FlowRow._fields)
_TASK_COLUMNS = len(TaskRow._fields)
_PAYLOAD = "SELECT result FROM task_run WHERE id = ?"


def flow_runs(query: Query) -> Steps[Sequence[FoundFlowRun]]:
    """A page of flow runs."""
    rows = yield from page(FLOW_RUNS, query)
    return [_found_flow_run(row) for row in rows]


def task_runs(query: Query) -> Steps[Sequence[FoundTaskRun]]:
    """A page of task runs."""
    rows = yield from page(TASK_RUNS, query)
    return [_found_task_run(row) for row in rows]


def subflow_runs(flow_run_id: bytes) -> Steps[Sequence[FoundFlowRun]]:
    """The flow runs that a flow run or its task runs called."""
    rows = yield Statement(SUBFLOW_RUNS, (flow_run_id, flow_run_id))
    return [_found_flow_run(row) for row in rows]


def payload_of(run_id: bytes) -> Steps[bytes | None]:
    """The stored result of a task run."""
    rows = yield Statement(_PAYLOAD, (run_id,))
    return rows[0][0] if rows else None


def _found_flow_run(row: Sequence[Any]) -> FoundFlowRun:
    return FoundFlowRun(FlowRow(*row[:_FLOW_COLUMNS]), _definition(*row[_FLOW_COLUMNS:]))


def _found_task_run(row: Sequence[Any]) -> FoundTaskRun:
    return FoundTaskRun(TaskRow(*row[:_TASK_COLUMNS]), _definition(*row[_TASK_COLUMNS:]))


@lru_cache(maxsize=256)
def _definition(  # the runs of a page have few between them
    id_: int,
    kind: str,
    name: str,
    key: str,
    version: str | None,
    description: str | None,
    tags: str,
) -> Definition:
    stored_tags = msgspec.json.decode(tags, type=list[str])
    return Definition(id_, RunKind(kind), name, key, version, description, tuple(stored_tags))


class Snapshot(RunSource):
    """The runs in a database, on a connection that sees one moment of it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @override
    def flow_runs(self, query: Query) -> Sequence[FoundFlowRun]:
        return take(self._connection, flow_runs(query))

    @override
    def task_runs(self, query: Query) -> Sequence[FoundTaskRun]:
        return take(self._connection, task_runs(query))

    @override
    def subflow_runs(self, flow_run_id: bytes) -> Sequence[FoundFlowRun]:
        return take(self._connection, subflow_runs(flow_run_id))

    @override
    def payload_of(self, run_id: bytes) -> bytes | None:
        return take(self._connection, payload_of(run_id))
