"""`flow.submit` and `flow.map`: flows that run beside the code that asks for them, as tasks do."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

from penstock import allow_failure, flow, history, task, unmapped
from penstock.exceptions import ParameterError
from penstock.task_runners import ConcurrentTaskRunner, SequentialTaskRunner
from tests.conftest import RunLoop

pytestmark = pytest.mark.usefixtures("engine")


@task
def add(x: int, y: int) -> int:
    return x + y


@flow
def double(x: int) -> int:
    return add.submit(x, x).result()


@flow
async def triple(x: int) -> int:
    return await add.submit(2 * x, x)


def test_submitted_flows_run_side_by_side_under_a_sync_flow() -> None:
    meeting = threading.Barrier(3, timeout=10)

    @flow
    def meets(x: int) -> int:
        meeting.wait()
        return x

    @flow
    def parent() -> list[int]:
        return meets.map([1, 2, 3]).result()

    assert parent() == [1, 2, 3]


def test_submitted_flows_run_side_by_side_in_a_loop(run_loop: RunLoop) -> None:
    @flow
    async def parent() -> list[int]:
        began = anyio.Event()

        @flow
        async def waits() -> int:
            await began.wait()
            return 1

        @flow
        async def lets_go() -> int:
            began.set()
            return 2

        first, second = waits.submit(), lets_go.submit()
        return [await first, await second, *await double.map([3, 4]), *await triple.map([5])]

    assert run_loop(parent) == [1, 2, 6, 8, 15]


def test_futures_are_arguments_of_flows_and_their_values_are_on_record() -> None:
    @flow
    def parent() -> int:
        return double.submit(double.submit(add.submit(1, 2))).result()

    assert parent() == 12
    assert {run.parameters["x"] for run in history.flow_runs(flow="double")} == {3, 6}


def test_a_flow_is_not_started_where_its_upstream_failed() -> None:
    @task
    def fails() -> int:
        raise ValueError

    @flow
    def parent() -> str:
        return double.submit(fails.submit()).state.name or ""

    @flow
    def waits() -> str:
        future = double.submit(fails.submit())
        future.wait()
        return future.state.name or ""

    assert waits() == "NotReady"


def test_a_flow_is_submitted_outside_of_flows_too(run_loop: RunLoop) -> None:
    assert double.submit(4).result() == 8
    assert triple.submit(4).result() == 12

    async def main() -> tuple[int, int]:
        return await double.submit(4), await triple.submit(4)

    assert run_loop(main) == (8, 12)


def test_its_parent_is_on_record_and_the_id_is_that_of_the_future() -> None:
    ids: list[object] = []

    @flow
    def parent() -> None:
        ids.append(double.submit(1).run_id)

    parent()
    (run,) = history.flow_runs(flow="double")
    (above,) = history.flow_runs(flow="parent")
    assert ids == [run.id]
    assert run.parent_run_id == above.id


def test_more_flows_than_workers_that_all_wait_for_their_tasks_end() -> None:
    @flow(task_runner=ConcurrentTaskRunner(max_workers=2))
    def parent() -> list[int]:
        return double.map(range(50)).result()

    assert parent() == [2 * x for x in range(50)]


def test_a_sequential_runner_has_one_flow_after_another() -> None:
    on, most = [0], [0]

    @flow
    def counts(x: int) -> int:
        on[0] += 1
        most[0] = max(on[0], most[0])
        time.sleep(0.002)
        on[0] -= 1
        return x

    @flow(task_runner=SequentialTaskRunner())
    def parent() -> list[int]:
        return counts.map(range(5)).result()

    assert parent() == list(range(5))
    assert most == [1]


def test_a_retry_takes_the_submitted_flow_that_completed() -> None:
    calls: list[int] = []
    attempts = iter((1, 2))

    @flow
    def once(x: int) -> int:
        calls.append(x)
        return x

    @flow(retries=1)
    def parent() -> int:
        value = once.submit(7).result()
        if next(attempts) == 1:
            raise ValueError
        return value

    assert parent() == 7
    assert calls == [7]


def test_map_broadcasts_refuses_and_waits_as_that_of_tasks() -> None:
    @flow
    def named(x: int, name: str, factor: list[int]) -> str:
        return f"{name}{x * len(factor)}"

    @task
    def first() -> None: ...

    @flow
    def parent() -> list[str]:
        return named.map([1, 2], "n", unmapped([1, 2]), wait_for=[first.submit()]).result()

    assert parent() == ["n2", "n4"]
    untyped: Any = double
    with pytest.raises(ParameterError, match=r"flow 'double'.*map\(\) got no iterable argument"):
        untyped.map(1)
    with pytest.raises(ParameterError, match="double"):
        untyped.submit(1, 2)


def test_a_lazy_map_of_flows_gives_results_in_order() -> None:
    @flow
    def parent() -> int:
        return sum(double.imap(range(100)).with_window(5))

    assert parent() == 2 * sum(range(100))


def test_a_flow_may_run_after_a_failure() -> None:
    @task
    def fails() -> int:
        raise ValueError("gone")

    @flow
    def told(what: object) -> str:
        return repr(what)

    @flow
    def parent() -> str:
        return told.submit(allow_failure(fails.submit())).result()

    assert parent() == "ValueError('gone')"
