"""The options of retries, end to end: delays, exceptions and conditions, sync and async."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from penstock import exponential_backoff, flow, history, task
from penstock.context import TaskRunView
from penstock.states import State
from tests.conftest import RunLoop

pytestmark = pytest.mark.usefixtures("engine")


def is_worth_it(_task: object, run: TaskRunView, state: State[Any]) -> bool:
    return run.run_count < 2 and isinstance(state.result(raise_on_failure=False), ValueError)


def breaks(_task: object, _run: TaskRunView, _state: State[Any]) -> bool:
    raise KeyError("condition")


def attempts_of(name: str) -> int:
    return history.task_runs(task=name, limit=1)[0].run_count


@task(retries=5, retry_condition_fn=is_worth_it)
def sync_task() -> int:
    raise ValueError("no")


@task(retries=5, retry_condition_fn=is_worth_it)
async def async_task() -> int:
    raise ValueError("no")


def test_a_condition_decides_direct_and_submitted_runs_of_sync_tasks() -> None:
    @flow
    def calls() -> tuple[State[int], State[int]]:
        submitted = sync_task.submit()
        submitted.wait()
        return sync_task.call_state(), submitted.state

    calls.call_state()
    runs = history.task_runs(task="sync_task")
    assert [(run.run_count, run.state.name) for run in runs] == [(2, "Failed"), (2, "Failed")]


def test_a_condition_decides_runs_of_async_tasks(run_loop: RunLoop) -> None:
    @flow
    async def calls() -> None:
        await async_task.call_state()
        for submitted in (async_task.submit(), sync_task.submit()):
            with pytest.raises(ValueError, match="no"):
                await submitted

    run_loop(calls.call_state)
    runs = [*history.task_runs(task="sync_task"), *history.task_runs(task="async_task")]
    assert [run.run_count for run in runs] == [2, 2, 2]


def test_a_condition_that_raises_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @task(retries=5, retry_condition_fn=breaks)
    def fails() -> None:
        raise ValueError("its own")

    with caplog.at_level(logging.WARNING, "penstock"), pytest.raises(ValueError, match="its own"):
        fails()
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 1
    assert warned[0].startswith("retry_condition_fn raised, so there is no retry:\nTraceback")
    assert "KeyError: 'condition'" in warned[0]


def test_flows_and_tasks_retry_after_some_exceptions_only(run_loop: RunLoop) -> None:
    calls: list[str] = []

    @flow(retries=2, retry_on=(ConnectionError, KeyError))
    def sync_flow() -> None:
        calls.append("sync")
        raise ConnectionResetError if len(calls) < 2 else IndexError

    @flow(retries=2, retry_on=TimeoutError, timeout_seconds=5)
    async def async_flow() -> None:
        calls.append("async")
        raise TimeoutError if len(calls) < 4 else IndexError

    with pytest.raises(IndexError):
        sync_flow()
    with pytest.raises(IndexError):
        run_loop(async_flow)
    assert calls == ["sync", "sync", "async", "async"]


def test_backoff_and_jitter_decide_when_a_run_goes_on() -> None:
    @task(retries=3, retry_delay_seconds=exponential_backoff(0.01), retry_jitter_factor=0.5)
    def fails() -> None:
        raise ValueError("no")

    fails.call_state()
    waits = [
        (state.details.scheduled_time - state.timestamp).total_seconds()
        for state in history.task_runs(task="fails")[0].states
        if state.details.scheduled_time is not None
    ]
    assert len(waits) == 3
    for wait, delay in zip(waits, [0.01, 0.02, 0.04], strict=True):
        assert delay * 0.49 <= wait <= delay * 1.51
    assert waits != pytest.approx([0.01, 0.02, 0.04], abs=1e-5)
