"""Several futures at once: as they complete, for so long, and where some of them fail."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from penstock import (
    FutureList,
    TaskFuture,
    allow_failure,
    as_completed,
    flow,
    history,
    task,
    wait,
    wait_async,
    waiting,
)
from penstock._rules.run import Run
from penstock.exceptions import (
    ConfigurationError,
    RunCancelled,
    RunCrashed,
    RunNotReady,
    WouldDeadlock,
)
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("engine")


class Gates:
    """Lets tasks end one by one."""

    def __init__(self, count: int) -> None:
        self.events = [threading.Event() for _ in range(count)]

    def open(self, number: int) -> None:
        self.events[number].set()


@task
def gated(gates: Gates, number: int) -> int:
    assert gates.events[number].wait(PATIENCE_SECONDS)
    return number


@task
async def forever() -> int:
    await anyio.sleep(3600)
    return 0


@task
def fails() -> int:
    raise ValueError("no luck")


@task
def told(*what: object) -> str:
    return repr(list(what))


def test_futures_come_in_the_order_of_their_ends() -> None:
    gates = Gates(3)

    @flow
    def parent() -> list[int]:
        futures = [gated.submit(gates, number) for number in range(3)]
        came: list[int] = []
        order = iter((1, 0))
        gates.open(2)
        for future in as_completed([*futures, futures[0]]):
            came.append(future.result(0))
            following = next(order, None)
            if following is not None:
                gates.open(following)
        return came

    assert parent() == [2, 1, 0]


def test_futures_come_in_the_order_of_their_ends_in_a_loop(run_loop: RunLoop) -> None:
    gates = Gates(3)

    @flow
    async def parent() -> list[int]:
        futures = [gated.submit(gates, number) for number in range(3)]
        came: list[int] = []
        order = iter((1, 0))
        gates.open(2)
        async for future in as_completed(futures):
            came.append(await future)
            following = next(order, None)
            if following is not None:
                gates.open(following)
        return came

    assert run_loop(parent) == [2, 1, 0]


def test_a_failed_run_is_a_future_like_the_others() -> None:
    @flow
    def parent() -> list[str]:
        return [future.state.name or "" for future in as_completed([fails.submit()])]

    assert parent() == ["Failed"]


def test_the_time_of_an_iteration_is_up_once(run_loop: RunLoop) -> None:
    @flow
    def parent() -> None:
        future = forever.submit()
        with pytest.raises(TimeoutError, match="1 of the runs had not ended in time"):
            list(as_completed([future], timeout=0.01))
        future.cancel()

    @flow
    async def async_parent() -> None:
        future = forever.submit()
        with pytest.raises(TimeoutError, match="1 of the runs had not ended in time"):
            _ = [f async for f in as_completed([future], timeout=0.01)]
        assert not future.done()
        future.cancel()

    parent.call_state()
    run_loop(async_parent.call_state)
    assert len(history.task_runs(state="Cancelled")) == 2


def test_a_result_that_is_late_is_called_by_the_name_of_its_run() -> None:
    @flow
    def parent() -> None:
        futures = FutureList(forever.submit() for _ in range(2))
        with pytest.raises(TimeoutError, match=r"'forever-.* within 0\.01 seconds"):
            futures[1].result(0.01)
        with pytest.raises(TimeoutError, match=r"'forever-.* within 0\.01 seconds"):
            futures.result(0.01)
        for future in futures:
            future.cancel()

    parent.call_state()
    assert len(history.task_runs(state="Cancelled")) == 2


def test_wait_parts_the_done_from_the_others_in_their_order(run_loop: RunLoop) -> None:
    def check(futures: Sequence[TaskFuture[int]], parts: Any) -> None:
        assert parts.done == [futures[1], futures[2]]
        assert parts.not_done == [futures[0]]
        futures[0].cancel()

    @flow
    def parent() -> None:
        futures = [forever.submit(), fails.submit(), fails.submit()]
        futures[1].wait()
        futures[2].wait()
        check(futures, wait(futures, timeout=0.01))
        assert wait(futures).not_done == []

    @flow
    async def async_parent() -> None:
        futures = [forever.submit(), fails.submit(), fails.submit()]
        await wait_async(futures[1:])
        check(futures, await wait_async(futures, timeout=0.01))
        assert (await wait_async(futures)).done == futures

    parent.call_state()
    run_loop(async_parent.call_state)
    assert len(history.flow_runs(state="Cancelled")) == 2  # a check that failed would be Failed


def test_blocking_the_loop_that_a_run_needs_is_refused(run_loop: RunLoop) -> None:
    @flow
    async def parent() -> None:
        future = forever.submit()
        with pytest.raises(WouldDeadlock, match=r"use `await wait_async\(...\)`\.$"):
            wait([future])
        with pytest.raises(WouldDeadlock, match=r"use `async for`\.$"):
            next(iter(as_completed([future])))
        future.cancel()

    run_loop(parent.call_state)
    assert len(history.flow_runs(state="Cancelled")) == 1


def test_many_futures_are_each_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not each time that one is taken: that would be days for a million."""
    looks: list[Run] = []

    def look(run: Run, _remedy: str) -> None:
        looks.append(run)

    monkeypatch.setattr(waiting, "refuse_deadlock", look)

    @task
    def work(number: int) -> int:
        return number

    @flow
    def parent() -> int:
        futures = work.map(range(100))
        wait(futures)
        return sum(future.result() for future in as_completed(futures))

    assert parent() == sum(range(100))
    assert len(looks) == 100


def test_what_is_no_future_is_refused() -> None:
    numbers: Any = [1]
    refusal = r"^wait\(\): futures must be a list of futures, not \[1\]\. 1 is not one\."
    with pytest.raises(ConfigurationError, match=refusal):
        wait(numbers)
    with pytest.raises(ConfigurationError, match=r"^as_completed\(\): .* 1 is not one"):
        as_completed(numbers)
    future: Any = fails.submit()
    for waits in (wait, as_completed):
        with pytest.raises(ConfigurationError, match=r"a list of futures, not <TaskFuture"):
            waits(future)
    with pytest.raises(ConfigurationError, match=r"allow_failure\(\) takes a future.*, not 1"):
        allow_failure(numbers[0])
    with pytest.raises(ConfigurationError, match=r"allow_failure\(\) takes a future.*, not 1"):
        allow_failure(numbers)


# allow_failure


def test_a_task_is_given_the_exception_or_the_value() -> None:
    @task
    def works() -> int:
        return 3

    @flow
    def parent() -> str:
        futures = fails.submit(), works.submit()
        return told.submit(*map(allow_failure, futures)).result()

    assert parent() == "[ValueError('no luck'), 3]"


def test_at_any_depth_and_of_a_whole_map() -> None:
    @task
    def inverse(x: int) -> float:
        return 1 / x

    @task
    def count(results: list[float | Exception], more: dict[str, object]) -> list[str]:
        return [type(result).__name__ for result in (*results, *more.values())]

    @flow
    def parent() -> list[str]:
        futures = inverse.map([0, 1])
        more = {"a": allow_failure(futures[0])}
        return count.submit(allow_failure(futures), more).result()

    assert parent() == ["ZeroDivisionError", "float", "ZeroDivisionError"]


def test_what_was_cancelled_crashed_or_not_started_counts_as_failed(run_loop: RunLoop) -> None:
    @task
    def exits() -> int:
        raise SystemExit(3)

    @task
    def kinds(*what: object) -> list[type]:
        return [type(one) for one in what]

    @flow
    def parent() -> list[type]:
        cancelled = forever.submit()
        cancelled.cancel()
        unready = told.submit(fails.submit())
        futures: list[TaskFuture[Any]] = [cancelled, exits.submit(), unready]
        return kinds.submit(*map(allow_failure, futures)).result()

    assert parent() == [RunCancelled, RunCrashed, RunNotReady]


def test_a_task_that_cleans_up_runs_after_what_failed() -> None:
    done: list[str] = []

    @task
    def clean_up() -> None:
        done.append("clean")

    @flow
    def parent() -> None:
        clean_up.submit(wait_for=[allow_failure(fails.submit())])
        clean_up.wait_for(allow_failure(fails.submit())).submit()

    parent.call_state()
    assert done == ["clean", "clean"]


def test_map_over_allowed_failures_takes_them_one_by_one() -> None:
    @task
    def inverse(x: int) -> float:
        return 1 / x

    @flow
    def parent() -> list[str]:
        return told.map(allow_failure(inverse.map([0, 2]))).result()

    assert parent() == ["[ZeroDivisionError('division by zero')]", "[0.5]"]


def test_it_says_what_it_is() -> None:
    future = fails.submit()
    future.wait()
    assert repr(allow_failure(future)).startswith("allow_failure(<TaskFuture of 'fails-")
