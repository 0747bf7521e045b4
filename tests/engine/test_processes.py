"""Worker processes of multiprocessing keep the history of what they run."""

from __future__ import annotations

import multiprocessing

import pytest

from penstock import flow, history, task
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("engine")


@task
def square(x: int) -> int:
    return x * x


@flow
def in_a_worker(x: int) -> int:
    return square.submit(x).result() + square(x)


def forks_while_it_runs() -> int:
    """Called in a task on a worker thread."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=in_a_worker, args=(3,))
    process.start()
    process.join(PATIENCE_SECONDS)
    return process.exitcode or 0


@pytest.mark.needs_file("the record of other processes")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_pool_of_processes_runs_flows(method: str) -> None:
    in_a_worker(1)
    assert len(history.flow_runs()) == 1  # the parent has everything on disk
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(in_a_worker, [2, 3]) == [8, 18]
        pool.close()
        pool.join()
    assert len(history.flow_runs(state="COMPLETED")) == 3
    assert len(history.task_runs(state="COMPLETED")) == 2 * 3


@pytest.mark.needs_file("the record of another process")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_task_on_a_worker_may_fork() -> None:
    @task
    def forking() -> int:
        return forks_while_it_runs()

    @flow
    def f() -> int:
        return forking.submit().result()

    assert f() == 0
    assert [run.state.name for run in history.flow_runs()] == ["Completed", "Completed"]
