"""Final states, retries and timeouts, end to end."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

from penstock import flow, history, task
from penstock.exceptions import ParameterError, RunFailed, RunTimedOut
from penstock.states import Cancelled, Completed, Failed, State
from tests.conftest import RunLoop
from tests.patience import soon

pytestmark = pytest.mark.usefixtures("engine")


@task
def succeeds() -> int:
    return 1


@task
def fails() -> int:
    raise ValueError("no")


@task
def cancelled() -> State[None]:
    return Cancelled("enough")


def names_of(task_name: str) -> list[str]:
    """The states of the newest run of a task."""
    return [state.name for state in history.task_runs(task=task_name, limit=1)[0].states]


# The rules of the final states


def raises() -> Any:
    raise KeyError("x")


def by_hand() -> Any:
    return Completed("by hand", data=5)


def failed_by_hand() -> Any:
    return Failed("by hand")


def all_good() -> Any:
    return [succeeds.submit(), succeeds.submit()]


def one_bad() -> Any:
    return succeeds.submit(), fails.submit(), succeeds.submit()


def one_cancelled() -> Any:
    return [succeeds.submit(), fails.submit(), cancelled.submit()]


def one_future() -> Any:
    return fails.submit()


def nothing() -> Any:
    return None


def nothing_after_good_tasks() -> Any:
    succeeds()
    succeeds.submit()


def nothing_after_a_bad_task() -> Any:
    fails.call_state()
    succeeds()


def nothing_after_a_bad_subflow() -> Any:
    failing: Any = flow(raises)
    failing.call_state()


def value_after_a_bad_task() -> Any:
    fails.submit()
    return 3


def not_ready() -> Any:
    return [succeeds.submit(wait_for=[fails.submit()])]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (raises, "Failed(\"Flow run encountered an exception. KeyError: 'x'\")"),
        (by_hand, "Completed('by hand')"),
        (failed_by_hand, "Failed('by hand')"),
        (all_good, "Completed('All states completed.')"),
        (one_bad, "Failed('1/3 states failed.')"),
        (one_cancelled, "Cancelled('1/3 states cancelled.')"),
        (one_future, "Failed('1/1 states failed.')"),
        (nothing, "Completed('All states completed.')"),
        (nothing_after_good_tasks, "Completed('All states completed.')"),
        (nothing_after_a_bad_task, "Failed('1/2 states failed.')"),
        (nothing_after_a_bad_subflow, "Failed('1/1 states failed.')"),
        (value_after_a_bad_task, "Completed(None)"),
        (not_ready, "Failed('1/1 states failed.')"),
    ],
)
def test_final_states(function: Any, expected: str) -> None:
    flow_of: Any = flow
    assert str(flow_of(function).call_state()) == expected


def test_a_call_gives_the_data_and_raises_what_failed() -> None:
    flow_of: Any = flow
    assert flow_of(by_hand)() == 5
    with pytest.raises(KeyError):
        flow_of(raises)()
    with pytest.raises(ValueError, match="no"):
        flow_of(one_bad)()
    with pytest.raises(RunFailed, match="by hand"):
        flow_of(failed_by_hand)()


def test_a_flow_joins_what_it_submitted_even_after_an_exception(run_loop: RunLoop) -> None:
    ended: list[str] = []

    @task
    def slow() -> None:
        time.sleep(0.03)
        ended.append("sync")

    @task
    async def slow_async() -> None:
        await anyio.sleep(0.03)
        ended.append("async")

    @flow
    def f() -> None:
        slow.submit()
        slow_async.submit()
        raise ValueError("early")

    @flow
    async def g() -> None:
        slow.submit()
        slow_async.submit()
        raise ValueError("early")

    with pytest.raises(ValueError, match="early"):
        f()
    assert sorted(ended) == ["async", "sync"]
    with pytest.raises(ValueError, match="early"):
        run_loop(g)
    assert sorted(ended) == ["async", "async", "sync", "sync"]


# Retries


def test_a_failed_task_is_tried_again_with_all_transitions_on_record() -> None:
    calls: list[int] = []

    @task(retries=2, retry_delay_seconds=[0.01, 0])
    def flaky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("no")
        return "ok"

    assert flaky() == "ok"
    expected = [
        "Pending",
        "Running",
        "AwaitingRetry",
        "Retrying",
        "AwaitingRetry",
        "Retrying",
        "Completed",
    ]
    assert names_of("flaky") == expected
    run = history.task_runs(task="flaky")[0]
    assert run.run_count == 3
    assert run.states[2].details.scheduled_time is not None
    assert "ValueError: no" in (run.states[2].details.traceback or "")
    calls.clear()
    assert flaky.submit().result() == "ok"
    assert names_of("flaky") == expected


def test_an_async_task_is_tried_again(run_loop: RunLoop) -> None:
    calls: list[int] = []

    @task(retries=1, retry_delay_seconds=0.01)
    async def flaky() -> int:
        calls.append(1)
        if len(calls) % 2:
            raise ValueError("no")
        return len(calls)

    @flow
    async def f() -> list[int]:
        return [await flaky(), await flaky.submit()]

    assert run_loop(f) == [2, 4]
    assert names_of("flaky") == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]


def test_retries_used_up_raise_the_last_exception() -> None:
    @task(retries=2)
    def failing() -> None:
        raise ValueError("bad code")

    with pytest.raises(ValueError, match="bad code"):
        failing()
    assert names_of("failing")[-1] == "Failed"
    assert history.task_runs(task="failing")[0].run_count == 3


def test_a_flow_retry_reuses_what_completed_and_runs_the_rest_again(run_loop: RunLoop) -> None:
    calls: list[str] = []

    @task
    def good(x: int) -> int:
        calls.append(f"good {x}")
        return x

    @task
    def flaky() -> int:
        calls.append("flaky")
        if calls.count("flaky") % 2:
            raise ValueError("no")
        return 7

    @flow
    def child() -> int:
        calls.append("child")
        return good(10)

    @flow(retries=1)
    def f() -> int:
        return good(1) + good.submit(2).result() + child() + flaky()

    @flow(retries=1)
    async def g() -> int:
        return good(1) + await good.submit(2) + child() + flaky()

    first = ["good 1", "good 2", "child", "good 10", "flaky", "flaky"]
    assert f() == 20
    assert calls == first
    run = history.flow_runs(flow="f")[0]
    assert [s.name for s in run.states] == [
        "Pending",
        "Running",
        "AwaitingRetry",
        "Retrying",
        "Completed",
    ]
    tasks = history.task_runs(flow_run=run)
    assert sorted((t.task, t.run_count) for t in tasks) == [("flaky", 2), ("good", 1), ("good", 1)]
    calls.clear()
    assert run_loop(g) == 20
    assert calls == first


def test_a_flow_retry_does_not_reuse_results_of_other_inputs() -> None:
    attempts: list[int] = []

    @task
    def double(x: int) -> int:
        return 2 * x

    @flow(retries=1)
    def f() -> int:
        attempts.append(1)
        result = double(len(attempts))
        if len(attempts) == 1:
            raise ValueError("once more")
        return result

    assert f() == 4


# Timeouts


def test_a_sync_task_times_out_on_time() -> None:
    release = threading.Event()

    @task(timeout_seconds=0.05)
    def stuck() -> None:
        release.wait(10)

    @flow
    def f() -> list[str]:
        future = stuck.submit()
        future.wait()
        return [stuck.call_state().name, future.state.name]

    started = time.monotonic()
    assert f() == ["TimedOut", "TimedOut"]
    assert soon(time.monotonic() - started, 5)
    release.set()
    with pytest.raises(RunTimedOut, match=r"Task run exceeded timeout of 0\.05 seconds"):
        history.task_runs(task="stuck")[0].state.result()


def test_async_code_is_cancelled_at_its_timeout(run_loop: RunLoop) -> None:
    ended: list[str] = []

    @task(timeout_seconds=0.02)
    async def stuck() -> None:
        try:
            await anyio.sleep(10)
        finally:
            ended.append("cancelled")

    @flow(timeout_seconds=0.1)
    async def f() -> None:
        state = await stuck.call_state()
        assert state.name == "TimedOut"
        future = stuck.submit()
        with pytest.raises(RunTimedOut):
            await future
        await anyio.sleep(10)

    async def main() -> State[None]:
        return await f.call_state()

    state = run_loop(main)
    assert str(state).startswith("TimedOut('Flow run exceeded timeout of 0.1 seconds'")
    assert ended == ["cancelled", "cancelled"]


def test_the_users_own_timeout_error_is_a_failure(run_loop: RunLoop) -> None:
    @task(timeout_seconds=5)
    async def own() -> None:
        with anyio.fail_after(0.01):
            await anyio.sleep(1)

    async def main() -> State[None]:
        return await own.call_state()

    assert run_loop(main).name == "Failed"


def test_a_sync_flow_times_out_and_cancels_what_it_submitted() -> None:
    release = threading.Event()

    @task
    def stuck() -> None:
        release.wait(10)

    @flow(timeout_seconds=0.05)
    def f() -> None:
        stuck.submit()
        release.wait(10)

    state = f.call_state()
    assert state.name == "TimedOut"
    assert history.task_runs(task="stuck")[0].state.name == "Cancelled"
    release.set()


# Parameters


def test_parameters_are_validated_and_converted() -> None:
    @flow
    def f(x: int, y: float | None = None, *rest: int, **more: bool) -> tuple[Any, ...]:
        return x, y, rest, more

    call: Any = f
    assert call("5") == (5, None, (), {})
    assert call("5", "2.5", "1", flag="true") == (5, 2.5, (1,), {"flag": True})
    with pytest.raises(ParameterError, match=r"flow 'f'.*Parameter 'x'.*Expected `int`.*'five'"):
        call("five")
    run = history.flow_runs(flow="f", state="FAILED")[0]
    assert "Parameter 'x'" in (run.state.message or "")
    assert run.parameters == {"x": "five", "y": None, "rest": [], "more": {}}
    assert run.run_count == 0


def test_validation_can_be_turned_off() -> None:
    @flow(validate_parameters=False)
    def f(x: int) -> Any:
        return x

    call: Any = f
    assert call("5") == "5"
