"""What the history gives, to sync code and to async code, and what it takes."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import assert_type
from uuid import UUID

from penstock import history
from penstock.history import (
    AsyncReader,
    FlowRunRecord,
    Graph,
    Pruned,
    Reader,
    TaskRunConditions,
    TaskRunRecord,
)
from penstock.pictures import Picture
from penstock.states import StateType


def sync_code(run_id: UUID, since: datetime) -> None:
    assert_type(history.flow_runs(), list[FlowRunRecord])
    assert_type(history.flow_runs(flow="a", state=["FAILED"], since=since), list[FlowRunRecord])
    assert_type(history.task_runs(state=StateType.FAILED, flow_run=run_id), list[TaskRunRecord])
    assert_type(history.flow_run("a"), FlowRunRecord | None)
    assert_type(history.task_run(run_id), TaskRunRecord | None)
    assert_type(history.graph(run_id), Graph | None)
    assert_type(history.picture("a"), Picture | None)
    conditions: TaskRunConditions = {"task": "a", "limit": 3}
    assert_type(history.task_runs(**conditions), list[TaskRunRecord])
    history.flow_runs(task="a")  # type: ignore[call-arg]
    history.flow_runs(limit="3")  # type: ignore[arg-type]


async def async_code(run_id: UUID) -> None:
    assert_type(await history.flow_runs_async(flow="a"), list[FlowRunRecord])
    assert_type(await history.task_runs_async(tag="a", before=run_id), list[TaskRunRecord])
    assert_type(await history.flow_run_async("a"), FlowRunRecord | None)
    assert_type(await history.task_run_async(run_id), TaskRunRecord | None)
    assert_type(await history.graph_async(run_id), Graph | None)
    assert_type(await history.picture_async("a"), Picture | None)
    assert_type(await history.clear_async(), Pruned)
    assert_type(await history.clear_cache_async("a"), int)
    await history.task_runs_async(flow="a")  # type: ignore[call-arg]


def sync_reader(run_id: UUID) -> None:
    with history.open("runs.db", storage=Path("storage")) as reader:
        assert_type(reader, Reader)
        assert_type(reader.flow_runs(flow="a"), list[FlowRunRecord])
        assert_type(reader.task_runs(flow_run=run_id), list[TaskRunRecord])
        assert_type(reader.graph(run_id), Graph | None)
        reader.clear()  # type: ignore[attr-defined]
        reader.flow_runs(task="a")  # type: ignore[call-arg]


async def async_reader(run_id: UUID) -> None:
    async with history.open_async() as reader:
        assert_type(reader, AsyncReader)
        assert_type(await reader.flow_runs(flow="a"), list[FlowRunRecord])
        assert_type(await reader.task_run(run_id), TaskRunRecord | None)
        assert_type(await reader.picture(run_id), Picture | None)
        await reader.flow_runs(task="a")  # type: ignore[call-arg]
