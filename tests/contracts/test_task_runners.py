"""What every task runner does, from wherever tasks are submitted to it."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from penstock import State, TaskFuture, flow, history, task, unmapped
from penstock._engine.engine import Engine
from penstock._engine.process import use_settings
from penstock.exceptions import RunCancelled, RunNotReady
from penstock.settings import load_settings
from penstock.task_runners import (
    ConcurrentTaskRunner,
    ProcessTaskRunner,
    SequentialTaskRunner,
    TaskRunner,
)
from tests.contracts.callers import (
    CALLERS,
    IN_FLOWS,
    Caller,
    Here,
    caller_at,
    get_all,
)
from tests.contracts.plain_tasks import async_double, double, fail
from tests.patience import PATIENCE_SECONDS

RUNNERS: dict[str, TaskRunner] = {
    "sequential": SequentialTaskRunner(),
    "concurrent": ConcurrentTaskRunner(max_workers=3),
}
ALL_RUNNERS: dict[str, TaskRunner] = {**RUNNERS, "processes": ProcessTaskRunner(max_workers=2)}
NARROW_RUNNERS: dict[str, TaskRunner] = {
    **RUNNERS,
    "concurrent, one worker": ConcurrentTaskRunner(max_workers=1),
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose history is in memory: these tests are about the workers."""
    environ = {"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_DATABASE_URL": "memory:"}
    with use_settings(load_settings(environ)) as engine:
        yield engine


@pytest.fixture(params=list(ALL_RUNNERS))
def any_runner(request: pytest.FixtureRequest) -> TaskRunner:
    """Each task runner, for sync tasks that share nothing with the code around them."""
    return ALL_RUNNERS[str(request.param)]


@pytest.fixture(params=list(RUNNERS))
def runner(request: pytest.FixtureRequest) -> TaskRunner:
    """Each task runner whose tasks run in this process."""
    return RUNNERS[str(request.param)]


@pytest.fixture(params=list(NARROW_RUNNERS))
def narrow_runner(request: pytest.FixtureRequest) -> TaskRunner:
    """Each task runner, also one that could not hold a second run beside one that waits."""
    return NARROW_RUNNERS[str(request.param)]


@pytest.fixture(params=list(CALLERS))
def call(request: pytest.FixtureRequest, engine: Engine) -> Caller:
    """Each place that tasks are submitted from."""
    return caller_at(str(request.param), engine)


@pytest.fixture(params=list(IN_FLOWS))
def call_in_flow(request: pytest.FixtureRequest, engine: Engine) -> Caller:
    """Each place within a flow."""
    return caller_at(str(request.param), engine)


class Gate:
    """Tasks at the gate, and the gate.

    Attributes:
        arrived: how many have come to it.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self.arrived = 0

    def pass_through(self) -> None:
        with self._lock:
            self.arrived += 1
        assert self._event.wait(PATIENCE_SECONDS), "nobody opened the gate"

    def open(self) -> None:
        self._event.set()


class Meter:
    """How many are inside at the same time.

    Attributes:
        most: the greatest number so far.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    @contextmanager
    def inside(self) -> Generator[None]:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1


# Results


def test_each_future_gives_the_result_of_its_own_run(call: Caller, any_runner: TaskRunner) -> None:
    async def body(here: Here) -> list[int]:
        return await get_all(here, [double.submit(number) for number in range(30)])

    assert call(body, any_runner) == [number * 2 for number in range(30)]


def test_async_tasks_give_their_results_too(call: Caller, any_runner: TaskRunner) -> None:
    async def body(here: Here) -> list[int]:
        futures = [
            submitted
            for number in range(10)
            for submitted in (async_double.submit(number), double.submit(number))
        ]
        return await get_all(here, futures)

    assert call(body, any_runner) == [number * 2 for number in range(10) for _ in range(2)]


def test_each_run_is_run_once_and_not_by_the_caller(call: Caller, runner: TaskRunner) -> None:
    ran: list[tuple[int, int]] = []

    @task
    def note(number: int) -> None:
        ran.append((number, threading.get_ident()))

    async def body(here: Here) -> int:
        await get_all(here, [note.submit(number) for number in range(50)])
        return threading.get_ident()

    caller = call(body, runner)
    assert Counter(number for number, _ in ran) == Counter(range(50))
    assert caller not in {thread for _, thread in ran}


def test_results_may_be_asked_for_in_any_order_and_again(
    call: Caller, any_runner: TaskRunner
) -> None:
    async def body(here: Here) -> tuple[list[int], list[int]]:
        futures = [double.submit(number) for number in range(10)]
        backwards = await get_all(here, futures[::-1])
        return backwards, await get_all(here, futures)

    backwards, again = call(body, any_runner)
    assert backwards[::-1] == again == [number * 2 for number in range(10)]


def test_done_callbacks_are_called_once_with_the_future(
    call: Caller, any_runner: TaskRunner
) -> None:
    async def body(here: Here) -> list[int]:
        seen: list[TaskFuture[int]] = []
        futures = [double.submit(number) for number in range(20)]
        for future in futures:
            future.add_done_callback(seen.append)
        await here.until(lambda: len(seen) == 20)
        futures[0].add_done_callback(seen.append)
        assert all(future.done() for future in seen)
        return sorted(future.result() for future in seen)

    assert call(body, any_runner) == sorted([0, *(number * 2 for number in range(20))])


def test_all_is_on_record_with_its_whole_history(call: Caller, any_runner: TaskRunner) -> None:
    async def body(here: Here) -> int:
        return len(await get_all(here, [double.submit(number) for number in range(10)]))

    assert call(body, any_runner) == 10
    runs = history.task_runs()
    assert [run.state.result() for run in runs[::-1]] == [number * 2 for number in range(10)]
    assert {tuple(state.name for state in run.states) for run in runs} == {
        ("Pending", "Running", "Completed")
    }


# Futures as arguments


@dataclasses.dataclass
class Box:
    content: object


@task
def show(*parts: object, **named: object) -> str:
    return repr((parts, named))


def test_futures_stand_for_their_values_at_any_depth(call: Caller, any_runner: TaskRunner) -> None:
    async def body(here: Here) -> str:
        one, two = double.submit(1), async_double.submit(2)
        nested = {"a": [one, (two, {one})], "b": Box([two]), "c": 3}
        return await here.get(show.submit(one, nested, x=[[two]]))

    expected = ((2, {"a": [2, (4, {2})], "b": Box([4]), "c": 3}), {"x": [[4]]})
    assert call(body, any_runner) == repr(expected)


def test_a_diamond_of_futures_runs_each_part_once(call: Caller, runner: TaskRunner) -> None:
    runs: Counter[str] = Counter()

    @task
    def part(name: str, *parts: int) -> int:
        runs[name] += 1
        return 1 + sum(parts)

    async def body(here: Here) -> int:
        top = part.submit("top")
        left, right = part.submit("left", top), part.submit("right", top)
        return await here.get(part.submit("bottom", left, right))

    assert call(body, runner) == 5
    assert runs == {"top": 1, "left": 1, "right": 1, "bottom": 1}


def test_wait_for_orders_runs_that_pass_nothing_on(call: Caller, runner: TaskRunner) -> None:
    gate, log = Gate(), list[str]()

    @task
    def first() -> None:
        gate.pass_through()
        log.append("first")

    @task
    def second() -> None:
        log.append("second")

    async def body(here: Here) -> None:
        before = first.submit()
        after = second.wait_for(before).submit()
        await here.until(lambda: gate.arrived == 1)
        gate.open()
        await here.get(after)

    call(body, runner)
    assert log == ["first", "second"]


def test_a_chain_of_five_hundred_futures_gives_its_value(
    call: Caller, narrow_runner: TaskRunner
) -> None:
    gate = Gate()

    @task
    def begin() -> int:
        gate.pass_through()
        return 0

    @task
    def increment(number: int) -> int:
        return number + 1

    async def body(here: Here) -> int:
        last = begin.submit()
        for _ in range(500):
            last = increment.submit(last)
        gate.open()
        return await here.get(last)

    assert call(body, narrow_runner) == 500


async def failing_chain(here: Here, length: int) -> list[State[int]]:
    """The states of a chain of runs, the first of which fails when all are there."""
    gate = Gate()

    @task
    def begin() -> int:
        gate.pass_through()
        raise ValueError("no beginning")

    chain = [begin.submit()]
    while len(chain) < length:
        chain.append(double.submit(chain[-1]))
    gate.open()
    with pytest.raises(RunNotReady):
        await here.get(chain[-1])
    return [future.state for future in chain]


def test_what_a_chain_says_of_its_first_failure_does_not_grow_along_it(engine: Engine) -> None:
    async def body(here: Here) -> int:
        states = await failing_chain(here, 12)
        return max(len(state.message or "") for state in states)

    assert caller_at("sync flow", engine)(body, RUNNERS["concurrent"]) < 1000


def test_a_chain_of_two_thousand_ends_not_ready_when_its_first_run_fails(
    call: Caller, any_runner: TaskRunner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "penstock")

    async def body(here: Here) -> list[str]:
        short = await failing_chain(here, 12)
        assert len(short[-1].message or "") < 1000, "the long chain would fill the memory"
        return [state.name for state in await failing_chain(here, 2000)]

    assert call(body, any_runner) == ["Failed", *["NotReady"] * 1999]


@pytest.mark.parametrize("runner", [RUNNERS["sequential"], RUNNERS["concurrent"]])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_may_block_for_the_end_of_a_long_chain_of_sync_tasks(
    engine: Engine, runner: TaskRunner, backend: str
) -> None:
    """They do not need the loop; to find that out takes no recursion over the chain."""
    gate = Gate()

    @task
    def begin() -> int:
        gate.pass_through()
        return 1

    @task
    def same(number: int) -> int:
        return number

    @flow(task_runner=runner)
    async def waiting() -> int:
        last = begin.submit()
        for _ in range(1500):
            last = same.submit(last)
        threading.Timer(0.05, gate.open).start()
        return last.result(PATIENCE_SECONDS)

    async def main() -> int:
        return await waiting()

    try:
        value: object = anyio.run(main, backend=backend)
    except RecursionError:
        value = "recursion"  # its traceback is of no use to anyone
    finally:
        gate.open()
    assert value == 1


# Failures


def test_a_future_raises_what_its_run_raised(call: Caller, any_runner: TaskRunner) -> None:
    async def body(here: Here) -> None:
        failed, fine = fail.submit("no"), double.submit(1)
        with pytest.raises(ValueError, match="no") as caught:
            await here.get(failed)
        assert failed.result(raise_on_failure=False) is caught.value
        assert failed.state.is_failed()
        assert await here.get(fine) == 2

    call(body, any_runner)
    assert Counter(run.state.name for run in history.task_runs()) == {"Failed": 1, "Completed": 1}


def test_what_depends_on_a_failed_run_never_starts(call: Caller, runner: TaskRunner) -> None:
    started: list[int] = []

    @task
    def depend(number: int) -> int:
        started.append(number)
        return number

    async def body(here: Here) -> list[str]:
        failed = fail.submit("no")
        below = depend.submit(failed)
        further = depend.submit(below)
        with pytest.raises(RunNotReady):
            await here.get(further)
        return [future.state.name for future in (failed, below, further)]

    assert call(body, runner) == ["Failed", "NotReady", "NotReady"]
    assert not started


def test_a_run_is_retried_as_often_as_it_says(call: Caller, runner: TaskRunner) -> None:
    attempts: Counter[int] = Counter()

    @task(retries=2)
    def flaky(number: int) -> int:
        attempts[number] += 1
        if attempts[number] <= number:
            raise ValueError(number)
        return number

    async def body(here: Here) -> list[str]:
        futures = [flaky.submit(number) for number in range(4)]
        assert await get_all(here, futures[:3]) == [0, 1, 2]
        with pytest.raises(ValueError, match="3"):
            await here.get(futures[3])
        return [future.state.name for future in futures]

    assert call(body, runner) == ["Completed"] * 3 + ["Failed"]
    assert attempts == {0: 1, 1: 2, 2: 3, 3: 3}


# Map


def test_map_gives_the_results_in_the_order_of_the_items(call: Caller, runner: TaskRunner) -> None:
    @task
    def add(left: int, right: int, more: list[int]) -> int:
        return left + right + len(more)

    async def body(here: Here) -> list[int]:
        futures = add.map(range(20), right=100, more=unmapped([1, 2]))
        return await get_all(here, futures)

    assert call(body, runner) == [number + 102 for number in range(20)]


@pytest.mark.usefixtures("engine")
def test_map_takes_apart_only_what_it_was_given() -> None:
    """Not the function's own defaults, and not arguments that the call left out."""

    @task
    def tagged(number: int, *more: int, tags: tuple[str, ...] = ("a", "b"), **options: int) -> str:
        return f"{number}{more}{tags}{options}"

    values = tagged.map([1, 2, 3]).result(PATIENCE_SECONDS)
    assert values == [f"{number}(){('a', 'b')}{{}}" for number in (1, 2, 3)]


def test_map_over_futures_waits_for_each_of_them(call: Caller, any_runner: TaskRunner) -> None:
    async def body(here: Here) -> list[int]:
        doubled = double.map(range(10))
        return await get_all(here, double.map(doubled))

    assert call(body, any_runner) == [number * 4 for number in range(10)]


def test_one_item_that_fails_leaves_the_others_alone(call: Caller, runner: TaskRunner) -> None:
    @task
    def inverse(number: int) -> float:
        return 1 / number

    async def body(here: Here) -> list[bool]:
        futures = inverse.map([1, 0, 2])
        await here.until(lambda: all(future.done() for future in futures))
        with pytest.raises(ZeroDivisionError):
            await here.get(futures[1])
        return [future.state.is_completed() for future in futures]

    assert call(body, runner) == [True, False, True]


# Nesting


def test_tasks_may_wait_for_tasks_that_they_submit(call: Caller, narrow_runner: TaskRunner) -> None:
    """However deep, and however few workers there are."""

    @task
    def descend(depth: int) -> int:
        return 0 if depth == 0 else descend.submit(depth - 1).result(PATIENCE_SECONDS) + 1

    async def body(here: Here) -> int:
        return await here.get(descend.submit(25))

    assert call(body, narrow_runner) == 25


def test_tasks_may_wait_for_many_tasks_that_they_submit(
    call: Caller, narrow_runner: TaskRunner
) -> None:
    @task
    def spread(depth: int) -> int:
        if depth == 0:
            return 1
        below = [spread.submit(depth - 1) for _ in range(3)]
        return sum(future.result(PATIENCE_SECONDS) for future in below)

    async def body(here: Here) -> list[int]:
        return await get_all(here, [spread.submit(3) for _ in range(2)])

    assert call(body, narrow_runner) == [27, 27]


def test_tasks_may_call_flows_and_tasks(call: Caller, narrow_runner: TaskRunner) -> None:
    @flow(task_runner=narrow_runner)
    def inner(number: int) -> int:
        return double(number) + double.submit(number).result(PATIENCE_SECONDS)

    @task
    def outer(number: int) -> int:
        return inner(number) + double(1)

    async def body(here: Here) -> list[int]:
        return await get_all(here, outer.map(range(5)))

    assert call(body, narrow_runner) == [number * 4 + 2 for number in range(5)]


# Cancelling


def test_a_queued_run_that_is_cancelled_never_starts(call: Caller, runner: TaskRunner) -> None:
    """It waits for an upstream; what depends on it never starts either."""
    gate, started = Gate(), list[int]()

    @task
    def begin() -> int:
        gate.pass_through()
        return 1

    @task
    def note(number: int) -> int:
        started.append(number)
        return number

    async def body(here: Here) -> list[str]:
        upstream = begin.submit()
        cancelled, fine = note.submit(upstream), note.submit(upstream)
        below = note.submit(cancelled)
        await here.until(lambda: gate.arrived == 1)
        cancelled.cancel()
        await here.until(cancelled.done)
        assert not upstream.done()
        gate.open()
        assert await here.get(fine) == 1
        with pytest.raises(RunCancelled):
            await here.get(cancelled)
        await here.until(below.done)
        return [future.state.name for future in (upstream, cancelled, fine, below)]

    assert call(body, runner) == ["Completed", "Cancelled", "Completed", "NotReady"]
    assert started == [1]


def test_a_run_without_a_free_worker_can_be_cancelled(engine: Engine) -> None:
    gate, started = Gate(), list[str]()

    @task
    def hold() -> None:
        gate.pass_through()

    @task
    def note(name: str) -> None:
        started.append(name)

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def works() -> str:
        hold.submit()
        first, second = note.submit("first"), note.submit("second")
        first.cancel()
        assert first.done()
        assert first.state.is_cancelled()
        gate.open()
        second.result(PATIENCE_SECONDS)
        return "done"

    assert works() == "done"
    assert started == ["second"]


def test_a_running_run_that_is_cancelled_ends_at_once_and_its_value_is_dropped(
    call: Caller, narrow_runner: TaskRunner
) -> None:
    """Its worker takes the next run when the code is through."""
    gate, through = Gate(), threading.Event()

    @task
    def stubborn() -> str:
        gate.pass_through()
        through.set()
        return "too late"

    async def body(here: Here) -> None:
        running = stubborn.submit()
        await here.until(lambda: gate.arrived == 1)
        running.cancel()
        assert running.done()
        assert not through.is_set()
        with pytest.raises(RunCancelled):
            await here.get(running)
        gate.open()
        await here.until(through.is_set)
        assert await here.get(double.submit(4)) == 8
        assert running.state.is_cancelled()

    call(body, narrow_runner)
    states = {tuple(state.name for state in run.states) for run in history.task_runs()}
    assert states == {("Pending", "Running", "Cancelled"), ("Pending", "Running", "Completed")}


def test_a_running_async_run_is_cancelled_in_its_loop(call: Caller, any_runner: TaskRunner) -> None:
    began, ended = threading.Event(), list[str]()

    @task
    async def sleepy() -> None:
        began.set()
        try:
            await anyio.sleep(60)
        finally:
            ended.append("cleaned up")

    async def body(here: Here) -> str:
        running = sleepy.submit()
        await here.until(began.is_set)
        running.cancel()
        with pytest.raises(RunCancelled):
            await here.get(running)
        return running.state.name

    assert call(body, any_runner) == "Cancelled"
    assert ended == ["cleaned up"]


def test_a_run_that_waits_for_its_retry_can_be_cancelled(call: Caller, runner: TaskRunner) -> None:
    attempts: list[int] = []

    @task(retries=1, retry_delay_seconds=60)
    def flaky() -> None:
        attempts.append(1)
        raise ValueError("no")

    async def body(here: Here) -> str:
        future = flaky.submit()
        await here.until(lambda: future.state.name == "AwaitingRetry")
        future.cancel()
        await here.until(future.done)
        return future.state.name

    assert call(body, runner) == "Cancelled"
    assert len(attempts) == 1


def test_cancelling_what_has_ended_changes_nothing(call: Caller, any_runner: TaskRunner) -> None:
    async def body(here: Here) -> str:
        future = double.submit(2)
        await here.get(future)
        future.cancel()
        future.cancel()
        assert await here.get(future) == 4
        return future.state.name

    assert call(body, any_runner) == "Completed"
    (run,) = history.task_runs()
    assert [state.name for state in run.states] == ["Pending", "Running", "Completed"]


# What is the sequential runner's alone


def test_sequential_tasks_run_one_by_one_in_the_order_of_their_submission(
    call_in_flow: Caller,
) -> None:
    """Sync and async ones, whatever they depend on, and also after one that failed."""
    log, meter = list[str](), Meter()

    @task
    def step(name: str, *_before: object) -> str:
        with meter.inside():
            log.append(name)
            time.sleep(0.002)
        if name == "d":
            raise ValueError(name)
        return name

    @task
    def note(name: str) -> str:
        with meter.inside():
            log.append(name)
        return name

    @task
    async def async_step(name: str) -> str:
        with meter.inside():
            log.append(name)
            await anyio.sleep(0.002)
        return name

    async def body(here: Here) -> list[bool]:
        a = step.submit("a")
        futures = [
            a,
            async_step.submit("b"),
            step.submit("c", a),
            step.submit("d"),
            async_step.submit("e"),
            *note.map(["f", "g"]),
        ]
        await here.until(lambda: all(future.done() for future in futures))
        return [future.state.is_completed() for future in futures]

    states = call_in_flow(body, RUNNERS["sequential"])
    assert log == list("abcdefg")
    assert states == [True, True, True, False, True, True, True]
    assert meter.most == 1


def test_a_sequential_task_that_waits_for_its_retry_holds_the_next_one_back(
    call_in_flow: Caller,
) -> None:
    log: list[str] = []

    @task(retries=1, retry_delay_seconds=0.05)
    def flaky() -> str:
        log.append("flaky")
        if len(log) == 1:
            raise ValueError("not yet")
        return "flaky"

    @task
    def other() -> str:
        log.append("other")
        return "other"

    async def body(here: Here) -> list[str]:
        return await get_all(here, [flaky.submit(), other.submit()])

    assert call_in_flow(body, RUNNERS["sequential"]) == ["flaky", "other"]
    assert log == ["flaky", "flaky", "other"]


def test_a_sequential_task_goes_on_after_one_that_was_cancelled(call_in_flow: Caller) -> None:
    gate, log = Gate(), list[str]()

    @task
    def hold() -> None:
        gate.pass_through()

    @task
    def note(name: str) -> str:
        log.append(name)
        return name

    async def body(here: Here) -> str:
        hold.submit()
        skipped, last = note.submit("skipped"), note.submit("last")
        await here.until(lambda: gate.arrived == 1)
        skipped.cancel()
        await here.until(skipped.done)
        assert not last.done()
        gate.open()
        return await here.get(last)

    assert call_in_flow(body, RUNNERS["sequential"]) == "last"
    assert log == ["last"]


def test_the_sequence_of_a_task_goes_on_beside_that_of_its_parent(call_in_flow: Caller) -> None:
    """Else a task could not wait for what it submits."""
    log: list[str] = []

    @task
    def child(name: str) -> str:
        log.append(name)
        return name

    @task
    def parent(name: str) -> str:
        children = child.map([f"{name}1", f"{name}2"])
        return "".join(children.result(PATIENCE_SECONDS))

    async def body(here: Here) -> list[str]:
        return await get_all(here, parent.map(["a", "b"]))

    assert call_in_flow(body, RUNNERS["sequential"]) == ["a1a2", "b1b2"]
    assert log == ["a1", "a2", "b1", "b2"]


# What is the concurrent runner's alone


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_no_more_tasks_run_at_once_than_there_are_workers(call: Caller, workers: int) -> None:
    """And, where they block, as many as there are."""
    meter, full = Meter(), threading.Event()

    @task
    def work(number: int) -> int:
        with meter.inside():
            if meter.most == workers:
                full.set()
            full.wait(PATIENCE_SECONDS)
            time.sleep(0.001)
        return number

    async def body(here: Here) -> list[int]:
        return await get_all(here, work.map(range(30)))

    assert call(body, ConcurrentTaskRunner(max_workers=workers)) == list(range(30))
    assert full.is_set()
    assert meter.most == workers


def test_flows_with_equal_runners_share_their_workers(engine: Engine) -> None:
    meter, runner = Meter(), ConcurrentTaskRunner(max_workers=2)

    @task
    def work(number: int) -> int:
        with meter.inside():
            time.sleep(0.003)
        return number

    @flow(task_runner=runner)
    def works() -> list[int]:
        return work.map(range(10)).result(PATIENCE_SECONDS)

    threads = [threading.Thread(target=works) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(history.task_runs(state="COMPLETED")) == 30
    assert meter.most <= 2


def test_a_task_that_waits_for_others_counts_again_when_it_goes_on(call: Caller) -> None:
    """With one worker, the code of two tasks never runs at the same time."""
    meter = Meter()

    @task
    def leaf(number: int) -> int:
        with meter.inside():
            time.sleep(0.002)
        return number

    @task
    def branch(number: int) -> int:
        with meter.inside():
            time.sleep(0.002)
            futures = leaf.map([number] * 3)
        values = futures.result(PATIENCE_SECONDS)
        with meter.inside():
            time.sleep(0.002)
        return sum(values)

    async def body(here: Here) -> list[int]:
        return await get_all(here, branch.map(range(8)))

    assert call(body, ConcurrentTaskRunner(max_workers=1)) == [number * 3 for number in range(8)]
    assert meter.most == 1


def test_a_run_that_waits_for_its_retry_holds_no_worker(call: Caller) -> None:
    log: list[str] = []

    @task(retries=1, retry_delay_seconds=0.05)
    def flaky() -> str:
        log.append("flaky")
        if log.count("flaky") == 1:
            raise ValueError("not yet")
        return "flaky"

    @task
    def other() -> str:
        log.append("other")
        return "other"

    async def body(here: Here) -> list[str]:
        return await get_all(here, [flaky.submit(), other.submit()])

    assert call(body, ConcurrentTaskRunner(max_workers=1)) == ["flaky", "other"]
    assert log == ["flaky", "other", "flaky"]


def test_runs_that_wait_for_an_upstream_hold_no_worker(call: Caller) -> None:
    """Fifty of them wait for an async task, which waits for a task submitted after them."""
    gate = threading.Event()

    @task
    async def slow() -> int:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not gate.is_set():  # noqa: ASYNC110  # another thread sets it
                await anyio.sleep(0.001)
        return 3

    @task
    def release() -> None:
        gate.set()

    async def body(here: Here) -> list[int]:
        upstream = slow.submit()
        waiting = [double.submit(upstream) for _ in range(50)]
        await here.get(release.submit())
        return await get_all(here, waiting)

    assert call(body, ConcurrentTaskRunner(max_workers=1)) == [6] * 50


def test_runs_that_wait_for_the_owner_of_their_cache_key_hold_no_worker(call: Caller) -> None:
    """Of ten with one key one computes; the other worker is free for what that one waits for."""
    gate, computed = threading.Event(), list[int]()

    def key(_context: object, _parameters: object) -> str:
        return "one for all"

    @task(cache_key_fn=key)
    def compute(number: int) -> int:
        computed.append(number)
        assert gate.wait(PATIENCE_SECONDS)
        return number

    @task
    def release() -> None:
        gate.set()

    async def body(here: Here) -> list[int]:
        waiting = [compute.submit(number) for number in range(10)]
        await here.until(lambda: len(computed) == 1)
        await here.get(release.submit())
        return await get_all(here, waiting)

    values = call(body, ConcurrentTaskRunner(max_workers=2))
    assert values == computed * 10
    assert len(computed) == 1
