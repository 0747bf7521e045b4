"""Loops that end while runs are on: every run ends, and nobody waits for a loop that is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from penstock import TaskFuture, flow, history, task
from penstock._engine.engine import Engine
from penstock._engine.process import use_settings
from penstock.settings import load_settings
from tests.patience import PATIENCE_SECONDS


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose history is in memory."""
    environ = {"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_DATABASE_URL": "memory:"}
    with use_settings(load_settings(environ)) as engine:
        yield engine
        for run in tuple(engine._unjoined._runs):  # else a test that fails would hang here
            run.cancel()
            run.set()


pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No callback and no worker may meet an error at the end of a loop."""
    yield
    errors = [r.getMessage() for r in caplog.records if r.exc_info and "Ended by" not in r.msg]
    assert not errors


def test_a_sync_task_goes_on_after_the_loop_that_waited_for_it(backend: str) -> None:
    gate = threading.Event()
    futures: list[TaskFuture[int]] = []

    @task
    def work() -> int:
        gate.wait(PATIENCE_SECONDS)
        return 5

    async def main() -> None:
        futures.append(work.submit())
        with anyio.move_on_after(0.02):
            await futures[0]

    anyio.run(main, backend=backend)
    assert not futures[0].done()
    gate.set()
    assert futures[0].result(PATIENCE_SECONDS) == 5


def test_a_sync_task_that_ends_while_its_loop_ends_hurts_neither(backend: str) -> None:
    for index in range(25):
        futures: list[TaskFuture[int]] = []

        @task
        def work() -> int:
            time.sleep(0.002)
            return 5

        async def main(index: int = index, futures: list[TaskFuture[int]] = futures) -> None:
            futures.append(work.submit())
            with anyio.move_on_after(0.0018 + index * 0.00003):
                await futures[0]

        anyio.run(main, backend=backend)
        assert futures[0].result(PATIENCE_SECONDS) == 5


def test_an_async_task_of_a_loop_that_ends_at_once_is_cancelled(backend: str) -> None:
    """It has been submitted outside of a flow and has not begun."""
    futures: list[TaskFuture[None]] = []

    @task
    async def work() -> None:
        await anyio.sleep(60)

    async def main() -> None:
        futures.append(work.submit())

    anyio.run(main, backend=backend)
    assert futures[0].wait(PATIENCE_SECONDS)
    assert futures[0].state.is_cancelled()


def test_an_async_task_at_work_is_cancelled_when_its_loop_ends(backend: str) -> None:
    futures, log = list[TaskFuture[None]](), list[str]()

    @task
    async def work() -> None:
        try:
            log.append("began")
            await anyio.sleep(60)
        finally:
            log.append("cleaned up")

    async def main() -> None:
        futures.append(work.submit())
        while not log:  # noqa: ASYNC110  # the simplest of tasks
            await anyio.sleep(0.001)

    anyio.run(main, backend=backend)
    assert log == ["began", "cleaned up"]
    assert futures[0].wait(PATIENCE_SECONDS)
    assert futures[0].state.is_cancelled()
    (record,) = history.task_runs()
    assert [state.name for state in record.states] == ["Pending", "Running", "Cancelled"]


def test_an_async_task_that_waits_for_an_upstream_is_cancelled_when_its_loop_ends(
    backend: str,
) -> None:
    gate = threading.Event()
    futures: list[TaskFuture[int]] = []

    @task
    def upstream() -> int:
        gate.wait(PATIENCE_SECONDS)
        return 1

    @task
    async def work(number: int) -> int:
        return number

    async def main() -> None:
        futures.append(upstream.submit())
        futures.append(work.submit(futures[0]))
        await anyio.sleep(0.005)

    anyio.run(main, backend=backend)
    assert futures[1].wait(PATIENCE_SECONDS)
    assert futures[1].state.is_cancelled()
    gate.set()
    assert futures[0].result(PATIENCE_SECONDS) == 1


def test_a_cancelled_async_flow_joins_and_records_what_it_submitted(backend: str) -> None:
    gate = threading.Event()

    @task
    def stubborn() -> int:
        gate.wait(PATIENCE_SECONDS)
        return 1

    @task
    async def sleepy() -> None:
        await anyio.sleep(60)

    @flow
    async def works() -> int:
        stubborn.submit()
        sleepy.submit()
        await anyio.sleep(60)
        return 1

    async def main() -> None:
        with anyio.move_on_after(0.03):
            await works()

    anyio.run(main, backend=backend)
    assert [run.state.name for run in history.flow_runs()] == ["Cancelled"]
    assert [run.state.name for run in history.task_runs()] == ["Cancelled", "Cancelled"]
    gate.set()
    time.sleep(0.01)
    assert [run.state.name for run in history.task_runs()] == ["Cancelled", "Cancelled"]


def test_a_thread_that_submits_to_a_flow_whose_loop_has_ended_is_told(backend: str) -> None:
    """The thread outlives the flow; what it submits does not run unseen, and does not hang."""
    ended, outcomes = threading.Event(), list[object]()
    threads: list[threading.Thread] = []

    @task
    async def work() -> int:
        return 1

    @flow
    async def works() -> int:
        import contextvars

        context = contextvars.copy_context()

        def submit_late() -> None:
            ended.wait(PATIENCE_SECONDS)
            try:
                future = work.submit()
                outcomes.append(future.wait(PATIENCE_SECONDS))
            except Exception as error:
                outcomes.append(type(error).__name__)

        threads.append(threading.Thread(target=context.run, args=(submit_late,)))
        threads[0].start()
        return 1

    async def main() -> int:
        return await works()

    assert anyio.run(main, backend=backend) == 1
    ended.set()
    threads[0].join(2 * PATIENCE_SECONDS)
    assert outcomes == ["RunCancelled"]


@pytest.mark.parametrize("count", [10])
def test_many_loops_one_after_another_leave_nothing_behind(backend: str, count: int) -> None:
    @task
    async def work(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return number

    @task
    def sync_work(number: int) -> int:
        return number

    @flow
    async def works(number: int) -> int:
        return await work.submit(sync_work.submit(number))

    async def main(number: int) -> int:
        return await works(number)

    before = threading.active_count()
    for number in range(count):
        assert anyio.run(main, number, backend=backend) == number
    assert threading.active_count() <= before + 2


def test_loops_of_many_threads_at_the_same_time_do_not_meet(backend: str) -> None:
    values: list[int] = []

    @task
    async def work(number: int) -> int:
        await anyio.sleep(0.001)
        return number

    @task
    def sync_work(number: int) -> int:
        return number

    @flow
    async def works(number: int) -> int:
        futures = [work.submit(sync_work.submit(number)) for _ in range(10)]
        return sum([await future for future in futures])

    async def main(number: int) -> int:
        return await works(number)

    def run(number: int) -> Callable[[], None]:
        return lambda: values.append(anyio.run(main, number, backend=backend))

    threads = [threading.Thread(target=run(number)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE_SECONDS)
    assert sorted(values) == [number * 10 for number in range(6)]
