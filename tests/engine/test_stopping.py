"""Flow runs that are stopped: by somebody, by a failure under them, or by their deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import anyio
import pytest

from penstock import TaskFuture, cancel_flow_run, flow, history, task, wait_async
from penstock._rules.current_run import current_run
from penstock._rules.flow_run import FlowRun
from penstock.context import FlowRunView
from penstock.exceptions import ConfigurationError, RunCancelled
from penstock.states import State
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("engine")


class Probe:
    """Tells the test which flow run is on, and holds its code until the test lets it go on."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.may_go_on = threading.Event()
        self.runs: list[FlowRun] = []

    def here(self) -> None:
        run = current_run.get()
        assert isinstance(run, FlowRun)
        self.runs.append(run)
        self.began.set()

    def cancel_soon(self) -> threading.Thread:
        """Cancel the run, by its id, from another thread, when its code has begun."""

        def cancel() -> None:
            assert self.began.wait(PATIENCE_SECONDS)
            assert cancel_flow_run(self.runs[-1].id)
            self.may_go_on.set()

        thread = threading.Thread(target=cancel)
        thread.start()
        return thread


@pytest.fixture
def probe() -> Probe:
    return Probe()


@task
async def forever() -> None:
    await anyio.sleep(3600)


@task
def fails(message: str = "no luck") -> None:
    raise ValueError(message)


def wait_until_it_awaits_its_retry(future: TaskFuture[None]) -> None:
    while future.state.name != "AwaitingRetry":
        time.sleep(0.001)


def types_of_runs() -> list[str]:
    return sorted(run.state.name for run in history.task_runs())


# Cancelled by somebody


def test_a_sync_flow_that_waits_for_its_task_goes_on_with_its_cancellation(probe: Probe) -> None:
    seen: list[BaseException] = []

    @flow
    def waits() -> None:
        future = forever.submit()
        probe.here()
        try:
            future.result()
        except RunCancelled as error:
            seen.append(error)
        forever.submit()

    thread = probe.cancel_soon()
    state = waits.call_state()
    thread.join()
    assert state.name == "Cancelled"
    assert len(seen) == 1
    assert types_of_runs() == ["Cancelled"]  # the second one has never been


def test_a_cancelled_sync_flow_starts_nothing_more(probe: Probe) -> None:
    called: list[int] = []

    @task
    def work(number: int) -> None:
        called.append(number)

    @flow
    def starts() -> str:
        work(1)
        probe.here()
        assert probe.may_go_on.wait(PATIENCE_SECONDS)
        for start in (work, work.submit):
            with pytest.raises(RunCancelled, match="was stopped"):
                start(2)
        return "it still returns, and nobody asks"

    thread = probe.cancel_soon()
    state = starts.call_state()
    thread.join()
    assert state.name == "Cancelled"
    assert called == [1]


def test_a_retry_that_a_sync_flow_sleeps_for_does_not_come(probe: Probe) -> None:
    @flow(retries=1, retry_delay_seconds=3600)
    def flaky() -> None:
        probe.here()
        raise ValueError

    def cancel() -> None:
        assert probe.began.wait(PATIENCE_SECONDS)
        while probe.runs[0].phase != "AwaitingRetry":
            time.sleep(0.001)
        probe.runs[0].cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    state = flaky.call_state()
    thread.join()
    assert state.name == "Cancelled"
    assert len(probe.runs) == 1


def test_a_task_that_sleeps_for_its_retry_in_a_cancelled_flow_ends(probe: Probe) -> None:
    @task(retries=1, retry_delay_seconds=3600)
    def flaky() -> None:
        raise ValueError

    @flow
    def calls() -> None:
        probe.here()
        flaky()

    def cancel() -> None:
        assert probe.began.wait(PATIENCE_SECONDS)
        while not (members := probe.runs[0].members.all()) or members[0].phase != "AwaitingRetry":
            time.sleep(0.001)
        probe.runs[0].cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    state = calls.call_state()
    thread.join()
    assert state.name == "Cancelled"
    assert types_of_runs() == ["Cancelled"]


def test_an_async_flow_is_cancelled_where_it_waits(run_loop: RunLoop, probe: Probe) -> None:
    cleaned_up: list[str] = []

    @flow
    async def waits() -> None:
        forever.submit()
        probe.here()
        try:
            await anyio.sleep(3600)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            cleaned_up.append("whole")

    async def main() -> State[None]:
        state = await waits.call_state()
        await anyio.lowlevel.checkpoint()  # the caller is not cancelled
        return state

    thread = probe.cancel_soon()
    state = run_loop(main)
    thread.join()
    assert state.name == "Cancelled"
    assert cleaned_up == ["whole"]
    assert types_of_runs() == ["Cancelled"]


def test_an_async_flow_is_cancelled_while_it_joins(run_loop: RunLoop, probe: Probe) -> None:
    @flow
    async def leaves() -> None:
        forever.submit()
        probe.here()

    thread = probe.cancel_soon()
    state = run_loop(leaves.call_state)
    thread.join()
    assert state.name == "Cancelled"


def test_a_sync_flow_on_a_thread_ends_while_it_joins(run_loop: RunLoop, probe: Probe) -> None:
    @flow
    def leaves() -> None:
        forever.submit()
        probe.here()

    thread = probe.cancel_soon()
    state = run_loop(leaves.run_async_state)
    thread.join()
    assert state.name == "Cancelled"


def test_what_a_cancelled_flow_called_is_cancelled_with_it(run_loop: RunLoop, probe: Probe) -> None:
    @flow
    async def inner() -> None:
        probe.here()
        await anyio.sleep(3600)

    @flow
    async def outer() -> None:
        run = current_run.get()
        assert isinstance(run, FlowRun)
        probe.runs.append(run)
        await inner()

    async def main() -> State[None]:
        states: list[State[None]] = []
        async with anyio.create_task_group() as group:

            async def call() -> None:
                states.append(await outer.call_state())

            group.start_soon(call)
            await anyio.to_thread.run_sync(probe.began.wait)
            assert cancel_flow_run(str(probe.runs[0].id))
        return states[0]

    assert run_loop(main).name == "Cancelled"
    assert [run.state.name for run in history.flow_runs()] == ["Cancelled", "Cancelled"]


def test_the_hooks_of_a_cancelled_flow_are_called_and_may_submit(probe: Probe) -> None:
    done: list[str] = []

    @task
    def tidy() -> None:
        done.append("tidied")

    def clean(_flow: Any, _run: FlowRunView, state: State[Any]) -> None:
        done.append(state.name)
        tidy.submit()

    @flow(on_cancellation=[clean])
    def waits() -> None:
        probe.here()
        forever.submit().wait()

    thread = probe.cancel_soon()
    assert waits.call_state().name == "Cancelled"
    thread.join()
    assert done == ["Cancelled", "tidied"]


@pytest.mark.parametrize("kind", ["in a loop", "on a worker", "not begun"])
def test_the_hooks_of_a_flow_that_was_cancelled_while_it_waited_may_submit(
    kind: str, run_loop: RunLoop
) -> None:
    """For its next attempt, or for an upstream; its code was not on."""
    done: list[str] = []

    @task
    def tidy() -> None:
        done.append("tidied")

    def clean(_flow: Any, _run: FlowRunView, _state: State[Any]) -> None:
        tidy.submit()

    @flow(retries=1, retry_delay_seconds=3600, on_cancellation=[clean])
    async def fails_in_loop() -> None:
        raise ValueError

    @flow(retries=1, retry_delay_seconds=3600, on_cancellation=[clean])
    def fails_on_worker() -> None:
        raise ValueError

    @flow(on_cancellation=[clean])
    def never_begins(_nothing: object) -> None: ...

    @flow
    async def parent() -> str:
        upstream = forever.submit()
        if kind == "not begun":
            future = never_begins.submit(upstream)
        else:
            future = (fails_in_loop if kind == "in a loop" else fails_on_worker).submit()
            await anyio.to_thread.run_sync(wait_until_it_awaits_its_retry, future)
        future.cancel()
        await wait_async([future], PATIENCE_SECONDS)
        upstream.cancel()
        return future.state.name

    assert run_loop(parent) == "Cancelled"
    assert done == ["tidied"]


def test_what_is_not_on_cannot_be_cancelled(probe: Probe) -> None:
    @flow
    def quick() -> int:
        probe.here()
        return 1

    quick()
    assert cancel_flow_run(uuid4()) is False
    assert cancel_flow_run(probe.runs[0].id) is False
    with pytest.raises(
        ConfigurationError, match="flow_run_id must be a UUID, or its text, not 'quick'"
    ):
        cancel_flow_run("quick")


def test_cancelling_at_any_moment_leaves_one_final_state_each(run_loop: RunLoop) -> None:
    """A flow of submits, calls and waits is cancelled from another thread, 40 times."""

    @task
    async def short() -> int:
        await anyio.sleep(0.0005)
        return 1

    @task
    def quick() -> int:
        return 1

    @flow
    async def busy() -> None:
        for _ in range(20):
            futures = [short.submit(), quick.submit()]
            await short()
            quick()
            await futures[0]

    for attempt in range(40):
        ids: list[FlowRun] = []

        @flow(name="outer")
        async def outer(found: list[FlowRun]) -> None:
            run = current_run.get()
            assert isinstance(run, FlowRun)
            found.append(run)
            await busy()

        def cancel(delay: float, found: list[FlowRun]) -> None:
            while not found:
                time.sleep(0.0001)
            time.sleep(delay)
            found[0].cancel()

        thread = threading.Thread(target=cancel, args=(attempt * 0.0005, ids))
        thread.start()
        state = run_loop(outer.call_state, ids)
        thread.join()
        assert state.name in {"Cancelled", "Completed"}
    names = {run.state.name for run in history.flow_runs(limit=1000)}
    names |= {run.state.name for run in history.task_runs(limit=10_000)}
    assert names <= {"Cancelled", "Completed"}


# A failure that stops the rest


def test_the_first_failure_fails_the_flow_and_cancels_the_rest(run_loop: RunLoop) -> None:
    @flow(fail_fast=True)
    async def strict() -> None:
        for _ in range(10):
            forever.submit()
        fails.submit("the first")
        await anyio.sleep(3600)

    state = run_loop(strict.call_state)
    assert state.name == "Failed"
    assert str(state.result(raise_on_failure=False)) == "the first"
    assert types_of_runs() == ["Cancelled"] * 10 + ["Failed"]


def test_a_sync_flow_that_waits_for_another_task_is_woken_by_the_failure() -> None:
    @flow(fail_fast=True)
    def strict() -> None:
        future = forever.submit()
        fails.submit("the first")
        future.result()

    state = strict.call_state()
    assert state.name == "Failed"
    assert isinstance(state.result(raise_on_failure=False), ValueError)


def test_a_failure_is_known_before_anybody_sees_that_its_run_has_ended() -> None:
    """A join that looks in between would let the flow complete."""
    seen: list[bool] = []

    @flow(fail_fast=True)
    def strict() -> int:
        run = current_run.get()
        assert isinstance(run, FlowRun)
        future = fails.submit()
        future.add_done_callback(lambda _future: seen.append(run.stopping.outcome is not None))
        while not future.done():
            pass
        assert run.stopping.outcome is not None
        return 1

    assert strict.call_state().name == "Failed"
    assert seen == [True]


def test_without_it_the_rest_goes_on() -> None:
    done: list[int] = []

    @task
    def work() -> None:
        done.append(1)

    @flow
    def lenient() -> None:
        failed = fails.submit()
        failed.wait()
        work.submit()

    assert lenient.call_state().name == "Failed"
    assert done == [1]


def test_retries_of_the_task_come_before_it_fails_the_flow() -> None:
    attempts: list[int] = []

    @task(retries=2)
    def flaky() -> int:
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError
        return 5

    @flow(fail_fast=True)
    def patient() -> int:
        return flaky.submit().result()

    assert patient() == 5


def test_a_failure_of_a_direct_call_is_the_codes_own_business() -> None:
    @flow(fail_fast=True)
    def catches() -> str:
        with pytest.raises(ValueError, match="no luck"):
            fails()
        return "mended"

    assert catches() == "mended"


@pytest.mark.parametrize("kind", ["here", "on a thread", "in a loop"])
def test_a_flow_that_failed_fast_is_tried_again(kind: str, run_loop: RunLoop) -> None:
    attempts: list[int] = []

    @task
    def first_time_fails() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError
        return "well"

    @flow(fail_fast=True, retries=1, retry_delay_seconds=0.001)
    def again() -> str:
        forever.submit().cancel()
        return first_time_fails.submit().result()

    @flow(fail_fast=True, retries=1, retry_delay_seconds=0.001)
    async def again_async() -> str:
        return await first_time_fails.submit()

    calls: dict[str, Callable[[], str]] = {
        "here": again,
        "on a thread": lambda: run_loop(again.run_async),
        "in a loop": lambda: run_loop(again_async),
    }
    assert calls[kind]() == "well"
    assert len(attempts) == 2


def test_a_submitted_flow_that_fails_stops_its_siblings(run_loop: RunLoop) -> None:
    @flow
    async def bad() -> None:
        raise ValueError("of a flow")

    @flow(fail_fast=True)
    async def parent() -> None:
        forever.submit()
        bad.submit()

    state = run_loop(parent.call_state)
    assert str(state.result(raise_on_failure=False)) == "of a flow"
    assert types_of_runs() == ["Cancelled"]


# Deadlines


def test_the_deadline_of_an_async_flow_covers_what_it_submitted(run_loop: RunLoop) -> None:
    @flow(timeout_seconds=0.05)
    async def leaves() -> None:
        forever.submit()

    state = run_loop(leaves.call_state)
    assert state.name == "TimedOut"
    assert types_of_runs() == ["Cancelled"]


def test_the_deadline_of_a_sync_flow_covers_what_it_submitted(run_loop: RunLoop) -> None:
    @flow(timeout_seconds=0.05)
    def leaves() -> None:
        forever.submit()

    assert leaves.call_state().name == "TimedOut"
    assert run_loop(leaves.run_async_state).name == "TimedOut"
    assert types_of_runs() == ["Cancelled", "Cancelled"]


def test_a_flow_whose_tasks_end_in_time_completes(run_loop: RunLoop) -> None:
    @task
    async def short() -> int:
        await anyio.sleep(0.001)
        return 1

    @flow(timeout_seconds=PATIENCE_SECONDS)
    async def leaves() -> None:
        for _ in range(5):
            short.submit()

    assert run_loop(leaves.call_state).name == "Completed"
