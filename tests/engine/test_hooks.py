"""Hooks, end to end: sync and async ones of sync and async flows and tasks, wherever they run."""

from __future__ import annotations

import logging
import threading
from typing import Any

import anyio
import pytest

from penstock import flow, get_run_logger, history, task
from penstock.context import RunView
from penstock.states import State
from tests.conftest import RunLoop

pytestmark = pytest.mark.usefixtures("engine")


class Told:
    """A sync and an async hook, and what they were told where."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.threads: list[threading.Thread] = []

    def sync(self, options: Any, _run: RunView, state: State[Any]) -> None:
        self.calls.append(f"sync {options.name} {state.name}")
        self.threads.append(threading.current_thread())

    async def asynchronous(self, options: Any, _run: RunView, state: State[Any]) -> None:
        await anyio.sleep(0.001)
        self.calls.append(f"async {options.name} {state.name}")
        self.threads.append(threading.current_thread())


@pytest.fixture
def told() -> Told:
    return Told()


def both(name: str, *states: str) -> list[str]:
    return [f"{kind} {name} {state}" for state in states for kind in ("sync", "async")]


def test_hooks_of_a_sync_flow_are_waited_for(told: Told) -> None:
    hooks = [told.sync, told.asynchronous]

    @flow(on_running=hooks, on_completion=hooks)
    def calm() -> int:
        return 5

    assert calm() == 5
    assert told.calls == both("calm", "Running", "Completed")
    assert told.threads[0] is threading.current_thread()
    assert {told.threads[1].name, told.threads[3].name} == {"penstock-async"}


def test_hooks_of_async_code_run_in_its_loop(told: Told, run_loop: RunLoop) -> None:
    hooks = [told.sync, told.asynchronous]

    @task(on_failure=hooks)
    async def fails() -> None:
        raise ValueError("no")

    @flow(on_failure=hooks, on_running=hooks)
    async def calls() -> None:
        await fails()

    with pytest.raises(ValueError, match="no"):
        run_loop(calls)
    assert told.calls == [
        *both("calls", "Running"),
        *both("fails", "Failed"),
        *both("calls", "Failed"),
    ]
    assert set(told.threads) == {threading.current_thread()}


def test_hooks_of_submitted_tasks_run_on_workers_and_with_their_future(told: Told) -> None:
    @task(on_completion=[told.sync, told.asynchronous])
    def works(x: int) -> int:
        return x

    @flow
    def submits() -> list[int]:
        return works.map(range(20)).result()

    submits()
    assert sorted(told.calls) == sorted(both("works", "Completed") * 20)
    assert threading.current_thread() not in told.threads


def test_hooks_may_be_added_by_decorators(told: Told) -> None:
    @flow
    def fails() -> None:
        raise ValueError("no")

    @task
    def works() -> None: ...

    @fails.on_failure
    def of_flow(_flow: object, _run: object, state: State[Any]) -> None:
        told.calls.append(f"flow {state.name}")

    @works.on_completion
    async def of_task(_task: object, _run: object, state: State[Any]) -> None:
        told.calls.append(f"task {state.name}")

    fails.on_running(told.sync)
    works()
    fails.call_state()
    fails.with_options(name="copy", on_running=[]).call_state()
    assert told.calls == ["task Completed", "sync fails Running", "flow Failed", "flow Failed"]
    assert [of_flow.__name__, of_task.__name__] == ["of_flow", "of_task"]


def test_a_cancelled_flow_tells_its_hooks_before_it_goes(told: Told, run_loop: RunLoop) -> None:
    @flow(on_cancellation=[told.sync, told.asynchronous])
    async def sleeps() -> None:
        await anyio.sleep(10)

    async def main() -> None:
        with anyio.move_on_after(0.05):
            await sleeps()

    run_loop(main)
    assert told.calls == both("sleeps", "Cancelled")


def test_a_sync_flow_on_a_worker_tells_its_hooks_there(told: Told, run_loop: RunLoop) -> None:
    release = threading.Event()

    @flow(on_cancellation=[told.sync, told.asynchronous])
    def blocks() -> None:
        release.wait(5)

    async def main() -> None:
        with anyio.move_on_after(0.1):
            await blocks.run_async()

    run_loop(main)
    release.set()
    assert told.calls == both("blocks", "Cancelled")
    assert threading.current_thread() not in told.threads


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt, "Cancelled"), (SystemExit, "Crashed")]
)
def test_what_interrupts_a_sync_flow_is_told_and_goes_on(
    told: Told, error: type[BaseException], state: str
) -> None:
    hooks = [told.sync, told.asynchronous]

    @flow(on_cancellation=hooks, on_crashed=hooks)
    def stops() -> None:
        raise error

    with pytest.raises(error):
        stops()
    assert told.calls == both("stops", state)


def test_an_async_hook_of_sync_code_in_the_engines_own_loop_does_not_wait_for_itself(
    told: Told,
) -> None:
    @flow(on_completion=[told.asynchronous])
    def inner() -> int:
        return 5

    @flow
    async def outer() -> int:
        return inner()

    assert outer.run_sync() == 5
    assert told.calls == ["async inner Completed"]


def test_a_hook_that_raises_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, run_loop: RunLoop
) -> None:
    def breaks(*_: object) -> None:
        raise KeyError("sync hook")

    async def breaks_too(*_: object) -> None:
        raise KeyError("async hook")

    @flow(on_running=[breaks], on_completion=[breaks_too])
    def calm() -> int:
        return 5

    @flow(on_running=[breaks], on_completion=[breaks_too])
    async def async_calm() -> int:
        return 5

    with caplog.at_level(logging.WARNING, "penstock"):
        assert calm() == run_loop(async_calm) == 5
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 4
    assert warned[0].startswith("The hook 'breaks' raised:\nTraceback")
    assert "KeyError: 'async hook'" in warned[3]
    assert {run.state.name for run in history.flow_runs()} == {"Completed"}


def test_a_hook_is_code_of_its_run_and_what_it_submits_is_joined() -> None:
    @task
    def cleans(x: int) -> int:
        return x

    def hook(_flow: object, _run: object, _state: State[Any]) -> None:
        get_run_logger().info("telling")
        cleans.submit(1)

    @flow(on_completion=[hook])
    def calm() -> int:
        return 5

    calm()
    run = history.task_runs(task="cleans")[0]
    assert run.state.is_completed()
    assert run.flow_run_id == history.flow_runs(flow="calm")[0].id


def test_what_happened_before_the_hooks_is_in_the_history() -> None:
    seen: list[str] = []

    def looks(_task: object, run: RunView, _state: State[Any]) -> None:
        seen.append(history.task_runs(task="works")[0].state.name)

    @task(on_running=[looks], on_completion=[looks])
    def works() -> None: ...

    works()
    assert seen == ["Running", "Completed"]
