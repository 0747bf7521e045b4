"""`imap`: results as they come, for iterables of any length, holding a window of runs."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from penstock import State, flow, history, task, unmapped
from penstock._engine.engine import Engine
from penstock._rules.current_run import current_run
from penstock._rules.flow_run import FlowRun
from penstock.exceptions import ConfigurationError, ParameterError, UsageError, WouldDeadlock
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS


@task
def double(number: int) -> int:
    return 2 * number


@task
async def triple(number: int) -> int:
    await anyio.lowlevel.checkpoint()
    return 3 * number


@task
def invert(number: int) -> float:
    return 1 / number


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await anyio.lowlevel.checkpoint()
        yield number


# Order


def test_results_come_in_the_order_of_the_items(engine: Engine) -> None:
    @task
    def slower_first(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number

    @flow
    def works() -> list[int]:
        return list(slower_first.imap(range(50)))

    assert works() == list(range(50))


def test_unordered_results_come_as_the_runs_end(engine: Engine) -> None:
    gate = threading.Event()

    @task
    def opens_last(number: int) -> int:
        if number == 0:
            assert gate.wait(PATIENCE_SECONDS)
        return number

    @flow
    def works() -> list[int]:
        seen: list[int] = []
        for number in opens_last.imap_unordered(range(5)):
            seen.append(number)
            if len(seen) == 4:
                gate.set()
        return seen

    seen = works()
    assert sorted(seen) == list(range(5))
    assert seen[-1] == 0


def test_every_run_is_on_record(engine: Engine) -> None:
    @flow
    def works() -> int:
        return sum(double.imap(range(2500)))

    assert works() == 2 * sum(range(2500))
    assert len(history.task_runs(limit=10_000, state="Completed")) == 2500


# In an event loop


@pytest.mark.parametrize("unordered", [False, True], ids=["in order", "as they come"])
@pytest.mark.parametrize("source", ["list", "generator", "async"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_results_are_iterated_in_an_event_loop(
    engine: Engine, run_loop: RunLoop, kind: str, source: str, unordered: bool
) -> None:
    work, factor = (double, 2) if kind == "sync" else (triple, 3)

    @flow
    async def works() -> list[int]:
        items: dict[str, Any] = {
            "list": list(range(30)),
            "generator": (number for number in range(30)),
            "async": numbers(30),
        }
        verb = work.imap_unordered if unordered else work.imap
        return [value async for value in verb(items[source]).with_window(7)]

    values = run_loop(works)
    assert (sorted(values) if unordered else values) == [factor * n for n in range(30)]


def test_a_result_is_seen_while_the_next_item_is_still_to_come(
    engine: Engine, run_loop: RunLoop
) -> None:
    @flow
    async def works() -> list[int]:
        first_seen = anyio.Event()

        async def slow() -> AsyncIterator[int]:
            yield 1
            with anyio.fail_after(PATIENCE_SECONDS):
                await first_seen.wait()
            yield 2

        seen: list[int] = []
        async for value in triple.imap(slow()):
            first_seen.set()
            seen.append(value)
        return seen

    assert run_loop(works) == [3, 6]


def test_what_an_async_iterable_raises_comes_after_the_results_before_it(
    engine: Engine, run_loop: RunLoop
) -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise OSError("the source is gone")

    @flow
    async def works() -> list[int]:
        seen: list[int] = []
        with pytest.raises(OSError, match="the source is gone"):  # noqa: PT012  # at its turn
            async for value in triple.imap(broken()):
                seen.append(value)  # noqa: PERF401  # what came before the error counts
        return seen

    assert run_loop(works) == [3]


def test_what_an_iterable_raises_comes_after_the_results_before_it(engine: Engine) -> None:
    def broken() -> Iterator[int]:
        yield from (1, 2, 3)
        raise OSError("the source is gone")

    @flow
    def works() -> list[int]:
        seen: list[int] = []
        with pytest.raises(OSError, match="the source is gone"):  # noqa: PT012  # at its turn
            for value in double.imap(broken()).with_window(2):
                seen.append(value)  # noqa: PERF402  # what came before the error counts
        return seen

    assert works() == [2, 4, 6]


def test_streams_work_outside_of_flows_and_inside_of_tasks(engine: Engine) -> None:
    @task
    def total(count: int) -> int:
        return sum(double.imap(range(count)).with_window(3))

    @flow
    def works() -> int:
        return total.submit(50).result()

    assert sum(double.imap_unordered(range(50))) == works() == 2 * sum(range(50))


def test_leaving_an_async_iteration_stops_reading(engine: Engine, run_loop: RunLoop) -> None:
    read: list[int] = []

    async def endless() -> AsyncIterator[int]:
        number = 0
        while True:
            read.append(number)
            yield number
            number += 1
            await anyio.lowlevel.checkpoint()

    @flow
    async def works() -> int:
        stream = aiter(triple.imap(endless()).with_window(5))
        value = await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
        await anyio.sleep(0.01)
        before = len(read)
        await anyio.sleep(0.01)
        assert len(read) == before
        return value

    assert run_loop(works) == 0


# Bounds


def test_no_more_than_the_window_is_submitted_ahead(engine: Engine) -> None:
    taken = 0
    ahead: list[int] = []

    def items() -> Iterator[int]:
        for number in range(200):
            ahead.append(number - taken)
            yield number

    @flow
    def works() -> None:
        nonlocal taken
        for _ in double.imap(items()).with_window(10):
            taken += 1

    works()
    assert max(ahead) <= 10


def test_a_flow_lets_go_of_the_runs_whose_results_were_taken(engine: Engine) -> None:
    class Big:
        pass

    made: list[weakref.ref[Big]] = []

    @task(persist_result=False)
    def make(_number: int) -> Big:
        big = Big()
        made.append(weakref.ref(big))
        return big

    @flow
    def works() -> int:
        for _ in make.imap(range(300)).with_window(10):
            pass
        engine.commit().wait()
        gc.collect()
        run = current_run.get()
        assert isinstance(run, FlowRun)
        assert run.members.all() == ()
        return sum(ref() is not None for ref in made)

    assert works() <= 2


@pytest.mark.parametrize("runs", [0, -1, 1.5, True, "10"])
def test_a_window_is_a_number_of_runs(runs: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"with_window\(\): runs must be an integer of at least 1"
    ):
        double.imap([1]).with_window(runs)


# Failures, and what they mean to the flow


def test_a_failed_run_raises_at_its_turn(engine: Engine) -> None:
    @flow
    def works() -> list[float]:
        seen: list[float] = []
        with pytest.raises(ZeroDivisionError):  # noqa: PT012  # at its turn
            for value in invert.imap([1, 2, 0, 4]):
                seen.append(value)  # noqa: PERF402  # what came before the error counts
        return seen

    assert works() == [1, 0.5]


def test_states_do_not_raise(engine: Engine) -> None:
    @flow
    def works() -> list[str]:
        states: list[State[float]] = list(invert.imap([1, 0, 2]).states())
        return [state.name for state in states]

    assert works() == ["Completed", "Failed", "Completed"]


def test_a_flow_that_returns_none_is_decided_by_the_runs_it_let_go_of_too(engine: Engine) -> None:
    @flow
    def works() -> None:
        for _ in invert.imap([1, 0, 2]).states():
            pass
        double(1)

    state = works.call_state()
    assert (state.name, state.message) == ("Failed", "1/4 states failed.")
    assert len(state.child_states) == 1
    with pytest.raises(ZeroDivisionError):
        state.result()


def test_a_flow_that_returns_none_completes_with_all_that_it_let_go_of(engine: Engine) -> None:
    @flow
    def works() -> None:
        for _ in double.imap(range(5)):
            pass

    assert works.call_state().message == "All states completed."


def test_runs_that_nobody_took_are_joined(engine: Engine) -> None:
    ended: list[int] = []

    @task
    def work(number: int) -> None:
        time.sleep(0.005)
        ended.append(number)

    @flow
    def works() -> int:
        for _ in work.imap(range(1000)).with_window(20):
            break
        return 1

    assert works() == 1
    assert 20 <= len(ended) <= 21
    assert len(history.task_runs(state="Completed")) == len(ended)


def test_a_retry_of_the_flow_takes_the_results_that_there_are(engine: Engine) -> None:
    called: list[int] = []

    @task
    def work(number: int) -> int:
        called.append(number)
        return number

    @flow(retries=1)
    def works() -> int:
        total = sum(work.imap(range(20)).with_window(5))
        if len(called) == 20:
            called.append(-1)
            raise ValueError("once more")
        return total

    assert works() == sum(range(20))
    assert called == [*range(20), -1]


# Arguments


def test_streams_take_what_map_takes(engine: Engine) -> None:
    @task
    def add(left: int, right: int, offset: int = 0) -> int:
        return left + right + offset

    @flow
    def works() -> list[list[int]]:
        listed = add.submit(1, 1)
        return [
            list(add.imap([1, 2], range(2))),
            list(add.imap([1, 2], 5, offset=unmapped(1))),
            list(add.imap([listed, 3], right=5)),
            list(add.imap(left=[1, 2], right=[1, 2], wait_for=[listed])),
        ]

    assert works() == [[1, 3], [7, 8], [7, 8], [2, 4]]


def test_a_future_of_an_iterable_is_waited_for(engine: Engine, run_loop: RunLoop) -> None:
    @task
    def listed() -> list[int]:
        return [1, 2, 3]

    @flow
    async def works() -> list[int]:
        return [value async for value in double.imap(listed.submit())]

    assert run_loop(works) == [2, 4, 6]


def test_iterables_of_different_lengths_are_refused_where_one_ends(engine: Engine) -> None:
    @task
    def add(left: int, right: int) -> int:
        return left + right

    @flow
    def works() -> None:
        list(add.imap([1, 2, 3], iter([1])))

    with pytest.raises(ParameterError, match=r"right ended after 1 items.*unmapped"):
        works()


def test_nothing_to_map_over_is_refused_at_once() -> None:
    five: Any = 5
    with pytest.raises(ParameterError, match=r"imap\(\) got no iterable argument; use submit\(\)"):
        double.imap(five)


def test_async_iterables_cannot_be_iterated_in_sync_code(engine: Engine) -> None:
    with pytest.raises(UsageError, match="async for"):
        list(double.imap(numbers(3)))


def test_blocking_the_loop_that_the_runs_need_is_refused(engine: Engine, run_loop: RunLoop) -> None:
    @flow
    async def works() -> None:
        with pytest.raises(WouldDeadlock, match=r"use `async for`\.$"):
            list(triple.imap([1, 2]))
        with pytest.raises(WouldDeadlock, match=r"use `async for`\.$"):
            list(triple.imap_unordered([1, 2]))

    run_loop(works)
