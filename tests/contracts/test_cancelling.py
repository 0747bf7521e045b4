"""Cancelling at every moment: one final state, one end, and nothing that is half done."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import anyio
import pytest

from penstock import TaskFuture, flow, history, task
from penstock._drivers import loop_tasks, parked, user_code
from penstock._engine.engine import Engine
from penstock._engine.process import use_settings
from penstock._rules.current_run import current_run
from penstock._rules.effects import Outcome
from penstock._rules.run import Run
from penstock._waiting.latch import Latch
from penstock.exceptions import RunCancelled
from penstock.settings import load_settings
from penstock.states import FINAL_TYPES
from penstock.task_runners import ConcurrentTaskRunner
from tests.patience import PATIENCE_SECONDS


@pytest.fixture
def strict_engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine that shows no result before it is on disk."""
    environ = {"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_DURABILITY": "strict"}
    with use_settings(load_settings(environ)) as engine:
        yield engine


def check_ended_once(future: TaskFuture[Any], ends: list[object]) -> str:
    """The run has one final state, its last one; the name of that."""
    assert future.wait(PATIENCE_SECONDS)
    record = history.task_run(future.task_run_id)
    assert record is not None
    final = [state.type in FINAL_TYPES for state in record.states]
    assert final == [False] * (len(final) - 1) + [True]
    assert record.state.name == future.state.name
    assert len(ends) == 1
    return record.state.name


def cancelled_when(engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have every run cancelled in the moment in which it enters the state."""
    record = engine.record

    def record_and_cancel(run: Run) -> None:
        entered = [transition.name for transition in run.history[run.recorded :]]
        record(run)
        if name in entered:
            run.cancel()

    monkeypatch.setattr(engine, "record", record_and_cancel)


# At random


def test_a_cancel_that_races_with_the_end_leaves_one_final_state(engine: Engine) -> None:
    """Cancels from two threads, at any moment between the submission and the end."""
    seen: set[str] = set()
    dice = random.Random(7)

    @task
    def work(number: int) -> int:
        time.sleep(0.0002)
        return number

    @flow(task_runner=ConcurrentTaskRunner(max_workers=4))
    def works() -> list[str]:
        names: list[str] = []
        for number in range(120):
            future, ends = work.submit(number), list[object]()
            future.add_done_callback(ends.append)
            delays = [dice.random() * 0.0015 for _ in range(2)]
            timers = [threading.Timer(delay, future.cancel) for delay in delays]
            for timer in timers:
                timer.start()
            assert future.wait(PATIENCE_SECONDS)
            for timer in timers:
                timer.join()
            names.append(future.state.name)
            assert len(ends) == 1
        return names

    names = works()
    records = history.task_runs(limit=1000)[::-1]
    for name, record in zip(names, records, strict=True):
        final = [state.type in FINAL_TYPES for state in record.states]
        assert final == [False] * (len(final) - 1) + [True]
        assert record.state.name == name
        seen.add(name)
    assert seen == {"Completed", "Cancelled"}


def test_an_async_cancel_that_races_with_the_end_leaves_one_final_state(
    engine: Engine, backend: str
) -> None:
    dice = random.Random(7)

    @task
    async def work(number: int) -> int:
        await anyio.sleep(0.0003)
        return number

    @flow
    async def works() -> list[str]:
        futures = [work.submit(number) for number in range(60)]
        timers = [threading.Timer(dice.random() * 0.004, f.cancel) for f in futures]
        for timer in timers:
            timer.start()
        for future in futures:
            with contextlib.suppress(RunCancelled):
                await future
        for timer in timers:
            timer.join()
        return [future.state.name for future in futures]

    async def main() -> list[str]:
        return await works()

    names = anyio.run(main, backend=backend)
    assert set(names) <= {"Completed", "Cancelled"}
    for name, record in zip(names, history.task_runs()[::-1], strict=True):
        final = [state.type in FINAL_TYPES for state in record.states]
        assert final == [False] * (len(final) - 1) + [True]
        assert record.state.name == name


# At a given moment


def test_a_sync_run_cancelled_just_before_its_code_begins_ends_cancelled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of Running is made, the call is next."""
    called: list[int] = []
    cancelled_when(engine, monkeypatch, "Running")

    @task
    def work() -> None:
        called.append(1)

    future, ends = work.submit(), list[object]()
    future.add_done_callback(ends.append)
    assert check_ended_once(future, ends) == "Cancelled"
    assert not called


def test_an_async_run_cancelled_just_before_its_code_begins_ends_cancelled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[int] = []
    cancelled_when(engine, monkeypatch, "Running")

    @task
    async def work() -> None:
        await anyio.sleep(0.02)
        finished.append(1)

    future, ends = work.submit(), list[object]()
    future.add_done_callback(ends.append)
    assert check_ended_once(future, ends) == "Cancelled"
    assert not finished


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_run_cancelled_in_the_moment_of_its_submission_never_starts(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    called: list[int] = []
    cancelled_when(engine, monkeypatch, "Pending")

    @task
    def work() -> None:
        called.append(1)

    @task
    async def async_work() -> None:
        called.append(1)

    future = (async_work if is_async else work).submit()
    ends = list[object]()
    future.add_done_callback(ends.append)
    assert check_ended_once(future, ends) == "Cancelled"
    assert not called


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_run_cancelled_in_the_moment_of_its_end_stays_completed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    cancelled_when(engine, monkeypatch, "Completed")

    @task
    def work() -> int:
        return 5

    @task
    async def async_work() -> int:
        return 5

    future = (async_work if is_async else work).submit()
    ends = list[object]()
    future.add_done_callback(ends.append)
    assert check_ended_once(future, ends) == "Completed"
    assert future.result() == 5


def test_a_run_cancelled_just_before_it_waits_for_its_retry_ends_cancelled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []
    cancelled_when(engine, monkeypatch, "AwaitingRetry")

    @task(retries=3, retry_delay_seconds=60)
    def flaky() -> None:
        attempts.append(1)
        raise ValueError("no")

    future, ends = flaky.submit(), list[object]()
    future.add_done_callback(ends.append)
    assert check_ended_once(future, ends) == "Cancelled"
    assert len(attempts) == 1


def test_the_timer_of_a_cancelled_retry_finds_nothing_to_do(engine: Engine) -> None:
    attempts: list[int] = []

    @task(retries=3, retry_delay_seconds=0.03)
    def flaky() -> None:
        attempts.append(1)
        raise ValueError("no")

    future, ends = flaky.submit(), list[object]()
    future.add_done_callback(ends.append)
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while future.state.name != "AwaitingRetry" and time.monotonic() < ends_at:
        time.sleep(0.0005)
    future.cancel()
    time.sleep(0.08)
    assert check_ended_once(future, ends) == "Cancelled"
    assert len(attempts) == 1


@pytest.mark.parametrize("is_begun", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_ctrl_c_while_a_run_is_handed_over_ends_it_once(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
    is_begun: bool,
) -> None:
    """Before a worker or a loop has it, and after its code has begun there."""
    ends: list[str] = []
    began, go_on = threading.Event(), threading.Event()

    @task
    def work() -> None:
        began.set()
        go_on.wait(PATIENCE_SECONDS)

    @task
    async def async_work() -> None:
        began.set()
        await anyio.sleep(3600)

    def interrupted(start: Callable[[Any], None]) -> Callable[[Any], None]:
        def start_and_raise(driver: Any) -> None:
            driver.run.add_callback(lambda: ends.append(driver.run.state.name))
            if is_begun:
                start(driver)
                assert began.wait(PATIENCE_SECONDS)
            raise KeyboardInterrupt

        return start_and_raise

    for driver in (parked.ParkedRun, loop_tasks.LoopRun):
        monkeypatch.setattr(driver, "start", interrupted(driver.start))

    @flow
    def submits() -> None:
        (async_work if is_async else work).submit()

    with pytest.raises(KeyboardInterrupt):
        submits()
    go_on.set()
    assert ends == ["Cancelled"]
    assert [run.state.name for run in history.task_runs()] == ["Cancelled"]
    assert not [text for text in caplog.messages if "Ended by" in text]


# Code is called with its own arguments, or not at all


def test_a_run_cancelled_while_a_worker_is_about_to_call_it_is_not_called_with_less(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has ended lets go of its arguments; a worker may be just about to use them."""
    called: list[str] = []
    capture = user_code.capture_of_attempt

    def cancel_and_call(run: Run, call: Callable[[], object]) -> Outcome:
        run.cancel()
        return capture(run, call)

    monkeypatch.setattr(parked, "capture_of_attempt", cancel_and_call)

    @task
    def remove(path: str = "everything") -> None:
        called.append(path)

    future, ends = remove.submit("one file"), list[object]()
    future.add_done_callback(ends.append)
    assert check_ended_once(future, ends) == "Cancelled"
    monkeypatch.undo()
    for _ in range(3):  # the worker is through with the cancelled one when it has done these
        remove.submit("another file").result(PATIENCE_SECONDS)
    assert "everything" not in called


def test_a_call_whose_time_was_up_before_it_began_is_not_called_with_less(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is so busy that its thread starts only after the timeout."""
    called: list[str] = []
    works: list[Callable[[], None]] = []
    monkeypatch.setattr(engine.threads, "run_soon", works.append)

    @task(timeout_seconds=0.01)
    def remove(path: str = "everything") -> None:
        called.append(path)

    assert remove.call_state("one file").name == "TimedOut"
    (work,) = works
    work()
    assert "everything" not in called


# A commit is not cancelled


class HeldBarriers:
    """While inside, the barriers of a store are set only when the test says so."""

    def __init__(self, engine: Engine) -> None:
        self._latch = Latch()
        self._asked = threading.Event()
        self._patch = pytest.MonkeyPatch()
        self._store = engine.store

    def __enter__(self) -> Self:
        self._patch.setattr(self._store, "barrier", self._barrier)
        return self

    def __exit__(self, *exc: object) -> None:
        self._patch.undo()
        self.release()

    def _barrier(self) -> Latch:
        self._asked.set()
        return self._latch

    def wait_until_asked(self) -> None:
        assert self._asked.wait(PATIENCE_SECONDS)

    def release(self) -> None:
        self._latch.set()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_strict_run_cancelled_while_it_is_committed_ends_after_the_commit(
    strict_engine: Engine, is_async: bool
) -> None:
    @task
    def work() -> int:
        return 5

    @task
    async def async_work() -> int:
        return 5

    with HeldBarriers(strict_engine) as held:
        future = (async_work if is_async else work).submit()
        held.wait_until_asked()
        future.cancel()
        future.cancel()
        ended_early = future.wait(0.05)
    assert not ended_early
    assert future.result(PATIENCE_SECONDS) == 5


def test_a_strict_async_run_cancelled_in_the_loop_of_its_flow_ends_after_the_commit(
    strict_engine: Engine, backend: str
) -> None:
    ended_early: list[bool] = []

    @task
    async def work() -> int:
        return 5

    async def main() -> int:
        with HeldBarriers(strict_engine) as held:
            future = work.submit()
            await anyio.to_thread.run_sync(held.wait_until_asked)
            future.cancel()
            await anyio.sleep(0.03)
            ended_early.append(future.done())
        return await future

    assert anyio.run(main, backend=backend) == 5
    assert ended_early == [False]


def test_a_done_callback_of_a_strict_run_may_read_the_history_and_wait_for_others(
    strict_engine: Engine,
) -> None:
    """The thread that calls it is not the one that writes."""
    seen: list[str] = []
    done = threading.Event()

    @task
    def work(number: int) -> int:
        return number

    def look(future: TaskFuture[int]) -> None:
        assert work.submit(2).wait(PATIENCE_SECONDS)
        committed = strict_engine.commit().wait(PATIENCE_SECONDS)
        seen.append("committed" if committed else "stuck")
        done.set()

    work.submit(1).add_done_callback(look)
    assert done.wait(PATIENCE_SECONDS)
    assert seen == ["committed"]


# Flows join before they end


def test_a_flow_that_is_cancelled_twice_still_joins_its_tasks(engine: Engine, backend: str) -> None:
    """Its task takes a moment to clean up; the flow ends after that, however often it is told."""
    log: list[str] = []
    began = threading.Event()

    @task
    async def work() -> None:
        began.set()
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
            log.append("task cleaned up")

    @flow
    def inner() -> int:
        future = work.submit()
        future.wait(PATIENCE_SECONDS)
        return 1

    @flow(timeout_seconds=0.1)
    async def outer() -> int:
        return await inner.run_async()

    async def main() -> str:
        state = await outer.call_state()
        log.append("outer ended")
        return state.name

    assert anyio.run(main, backend=backend) == "TimedOut"
    assert log == ["task cleaned up", "outer ended"]
    states = {run.flow: run.state.name for run in history.flow_runs()}
    assert states == {"outer": "TimedOut", "inner": "Cancelled"}


def test_a_sync_flow_on_a_worker_joins_its_tasks_however_often_it_is_cancelled(
    engine: Engine,
) -> None:
    log: list[str] = []
    began = threading.Event()
    runs: list[Any] = []

    @task
    async def work() -> None:
        began.set()
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
            log.append("task cleaned up")

    @flow
    def inner() -> int:
        run = current_run.get()
        assert run is not None
        runs.append(run)
        run.add_callback(lambda: log.append("flow ended"))
        work.submit()
        began.wait(PATIENCE_SECONDS)
        threading.Event().wait(0.2)
        return 1

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(inner.run_async_state)
            await anyio.to_thread.run_sync(began.wait)
            for _ in range(3):
                runs[0].cancel()
                await anyio.sleep(0.005)
            group.cancel_scope.cancel()

    anyio.run(main)
    assert runs[0].wait(PATIENCE_SECONDS)
    assert log == ["task cleaned up", "flow ended"]


def test_nothing_joins_a_flow_that_has_ended(engine: Engine) -> None:
    """Code that a timeout left to itself cannot bring new runs into the flow."""
    refused: list[BaseException] = []
    submitted: list[Callable[[], object]] = []
    go_on, ended = threading.Event(), threading.Event()

    @task
    def late() -> None:
        submitted.append(lambda: None)

    @flow(timeout_seconds=0.05)
    def works() -> None:
        go_on.wait(PATIENCE_SECONDS)
        try:
            late.submit()
        except RunCancelled as error:
            refused.append(error)
        ended.set()

    assert works.call_state().name == "TimedOut"
    go_on.set()
    assert ended.wait(PATIENCE_SECONDS)
    assert len(refused) == 1
    assert not submitted


@pytest.mark.parametrize("is_in_flow", [True, False], ids=["in a flow", "outside of flows"])
@pytest.mark.parametrize("seconds", [None, 0.05], ids=["cancelled", "timed out"])
def test_code_of_a_task_that_was_left_to_itself_starts_nothing_more(
    engine: Engine, seconds: float | None, is_in_flow: bool
) -> None:
    began, go_on = threading.Event(), threading.Event()
    called: list[str] = []
    refused: list[str] = []
    over = threading.Event()

    @task
    def late() -> None:
        called.append("late")

    @task(timeout_seconds=seconds)
    def works() -> None:
        began.set()
        go_on.wait(PATIENCE_SECONDS)
        starts: tuple[Callable[[], object], ...] = (late, late.submit)
        for start in starts:
            try:
                start()
            except RunCancelled as error:
                refused.append(str(error))
        over.set()

    def ends_it() -> None:
        future = works.submit()
        assert began.wait(PATIENCE_SECONDS)
        if seconds is None:
            future.cancel()
        assert future.wait(PATIENCE_SECONDS)
        go_on.set()
        assert over.wait(PATIENCE_SECONDS)

    (flow(ends_it).call_state if is_in_flow else ends_it)()
    assert not called
    assert len(refused) == 2
    assert all("works-" in text and "can start nothing more" in text for text in refused)


@pytest.mark.parametrize("ends_by", ["timeout", "failure"])
def test_code_of_an_attempt_that_was_left_to_itself_starts_nothing_in_the_next(
    engine: Engine, ends_by: str
) -> None:
    """Neither its own calls nor its hooks are mistaken for those of the other attempt."""
    attempts = itertools.count(1)
    second_is_on, first_is_over = threading.Event(), threading.Event()
    called: list[str] = []
    refused: list[str] = []

    @task
    def work(who: str) -> None:
        called.append(who)

    @task
    def fails() -> None:
        raise ValueError

    async def tidies(_flow: Any, _run: Any, _state: Any) -> None:
        work.submit("async hook")

    def tidies_too(_flow: Any, _run: Any, _state: Any) -> None:
        work.submit("hook")

    @flow(
        retries=1,
        fail_fast=ends_by == "failure",
        timeout_seconds=0.5 if ends_by == "timeout" else None,
        on_completion=[tidies, tidies_too],
    )
    def works() -> int:
        if next(attempts) == 1:
            work("kept")
            if ends_by == "failure":
                fails.submit()
            second_is_on.wait(PATIENCE_SECONDS)
            starts: tuple[Callable[[str], object], ...] = (work, work.submit)
            for start in starts:
                try:
                    start("first")
                except RunCancelled as error:
                    refused.append(str(error))
            first_is_over.set()
            return 1
        second_is_on.set()
        first_is_over.wait(PATIENCE_SECONDS)
        work("kept")
        work.submit("second")
        return 2

    assert works.submit().result(PATIENCE_SECONDS) == 2
    assert sorted(called) == ["async hook", "hook", "kept", "second"]
    assert len(refused) == 2
    assert all("left of an earlier attempt" in text for text in refused)


def test_code_of_an_attempt_that_is_over_starts_nothing_before_the_next_one_either(
    engine: Engine,
) -> None:
    """What it starts then would be taken for a run of the attempt, and begun a second time."""
    attempts = itertools.count(1)
    refused: list[RunCancelled] = []
    tried = threading.Event()

    @task
    def work() -> None: ...

    @flow(retries=1, retry_delay_seconds=0.2, timeout_seconds=0.05)
    def works() -> int:
        run = current_run.get()
        assert run is not None
        if next(attempts) == 1:
            while run.phase != "AwaitingRetry":
                time.sleep(0.001)
            for start in (work, work.submit):
                try:
                    start()
                except RunCancelled as error:
                    refused.append(error)
            tried.set()
        return 2

    assert works() == 2
    assert tried.wait(PATIENCE_SECONDS)
    assert len(refused) == 2
    assert history.task_runs() == []


def test_a_hook_beside_code_that_was_left_to_itself_raises_as_the_users_code_does(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Its traceback tells of no trouble of the engine's with the context that is still in use."""
    began, go_on = threading.Event(), threading.Event()

    def broken(_flow: Any, _run: Any, _state: Any) -> None:
        raise ValueError("of the hook")

    @flow(on_cancellation=[broken])
    def works() -> None:
        began.set()
        go_on.wait(PATIENCE_SECONDS)

    future = works.submit()
    assert began.wait(PATIENCE_SECONDS)
    future.cancel()
    assert future.wait(PATIENCE_SECONDS)
    go_on.set()
    (text,) = [text for text in caplog.messages if "hook" in text]
    assert "ValueError: of the hook" in text
    assert "another exception" not in text
