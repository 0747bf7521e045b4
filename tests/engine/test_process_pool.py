"""`ProcessTaskRunner`: tasks in worker processes that can be killed without harm to others."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from penstock import TaskFuture, flow, history, task
from penstock._engine.engine import Engine
from penstock._engine.process import get_engine, shutdown, use_settings
from penstock._remote.pipes import schedule
from penstock._remote.pipes.pool import ProcessPool
from penstock.exceptions import (
    ConfigurationError,
    NotTransferable,
    RunCancelled,
    RunTimedOut,
    WorkerCrashed,
)
from penstock.settings import load_settings
from penstock.states import State, StateType
from penstock.task_runners import ConcurrentTaskRunner, ProcessTaskRunner
from penstock.testing import FakeClock
from penstock.testing import engine as engine_of_a_test
from penstock.waiting import wait_async
from tests.conftest import RunLoop
from tests.engine import process_tasks as tasks
from tests.engine.process_tasks import RUNNER, is_alive, until_there
from tests.patience import PATIENCE_SECONDS, soon

pytestmark = [
    pytest.mark.usefixtures("engine"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them"),
]


def in_flow(body: Callable[[], Any], runner: ProcessTaskRunner = RUNNER) -> Any:
    """Call the body as a flow whose tasks go to the runner; what it returns."""

    values: list[Any] = []

    @flow(task_runner=runner)
    def calling() -> str:  # no state and no future: they would decide how it ends
        values.append(body())
        return "done"

    calling()
    return values[0]


def ended(future: TaskFuture[Any]) -> State[Any]:
    """The final state."""
    assert future.wait(PATIENCE_SECONDS)
    return future.state


def pool_of(runner: ProcessTaskRunner) -> ProcessPool:
    """The pool of the engine that there is."""
    engine = get_engine()
    engine.workers_of(runner)
    executor = engine.executor_of(runner)
    assert isinstance(executor, ProcessPool)
    return executor


def pids_of(pool: ProcessPool) -> list[int | None]:
    """The numbers of the processes that the pool has."""
    with pool._lock:
        return [worker.process.pid for worker in pool._schedule.workers]


def pid_in(folder: Path) -> int:
    until_there(folder / "pid")
    return int((folder / "pid").read_text())


def until_gone(pid: int) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while is_alive(pid):
        assert time.monotonic() < ends_at, f"the process {pid} lives"
        time.sleep(0.005)


# Results


def test_tasks_run_in_other_processes_which_are_used_again() -> None:
    """Not in more than `max_workers`."""
    pids = in_flow(lambda: tasks.pid_of_worker.map(range(20)).result())
    assert os.getpid() not in pids
    assert 1 <= len(set(pids)) <= 2


def test_nothing_is_started_before_there_is_a_task() -> None:
    assert in_flow(lambda: [square(2), os.getpid()]) == [4, os.getpid()]
    assert pids_of(pool_of(RUNNER)) == []


square = tasks.square


def test_as_many_tasks_run_at_once_as_there_are_workers(tmp_path: Path) -> None:
    def body() -> list[str]:
        futures = [tasks.pass_gate.submit(tmp_path, name) for name in "ab"]
        until_there(tmp_path / "a is here")
        until_there(tmp_path / "b is here")
        (tmp_path / "open").touch()
        return [future.result(PATIENCE_SECONDS) for future in futures]

    assert in_flow(body) == ["a", "b"]


def test_async_flows_may_use_it_and_their_async_tasks_stay_in_the_loop(run_loop: RunLoop) -> None:
    @flow(task_runner=RUNNER)
    async def mixed() -> tuple[int, tuple[int, int], int]:
        here = tasks.async_square.submit(3)
        return await square.submit(3), await here, await tasks.pid_of_worker.run_async()

    async def main() -> tuple[int, tuple[int, int], int]:
        return await mixed()

    value, (async_value, async_pid), pid = run_loop(main)
    assert (value, async_value, async_pid) == (9, 9, os.getpid())
    assert pid != os.getpid()


def test_flows_that_are_submitted_run_in_this_process_and_their_tasks_in_workers() -> None:
    """More of them than there are workers: they hold none while they wait."""

    @flow(task_runner=RUNNER)
    def below(number: int) -> tuple[int, bool]:
        return os.getpid(), tasks.pid_of_worker.submit(number).result() == os.getpid()

    assert in_flow(lambda: below.map(range(5)).result()) == [(os.getpid(), False)] * 5


def test_futures_are_resolved_before_they_are_sent() -> None:
    def body() -> int:
        return square.submit(square.submit(square.submit(2))).result()

    assert in_flow(body) == 256


def test_large_arguments_and_results_go_through() -> None:
    """Many times what a pipe holds, in both directions at once."""

    def body() -> list[int]:
        made = [tasks.many_bytes.submit(8_000_000) for _ in range(3)]
        return [tasks.length.submit(data).result() for data in made]

    assert in_flow(body) == [8_000_000] * 3


def test_a_state_made_by_hand_decides_how_the_run_ends() -> None:
    state = in_flow(lambda: ended(tasks.by_hand.submit(3)))
    assert (state.type, state.message, state.result()) == (StateType.COMPLETED, "by hand", 3)


def test_tasks_are_found_by_name_however_they_were_made() -> None:
    """Methods, copies with other options, functions that have no decorator."""

    def body() -> list[object]:
        partial = task(name="partial")(functools.partial(tasks.plain, 7))
        futures: list[TaskFuture[Any]] = [
            tasks.Scale(3).times.submit(4),
            tasks.Scale.negative.submit(5),
            square.with_options(name="other").submit(5),
            tasks.made_of_plain.submit(1),
            partial.submit(),
        ]
        return [future.result(PATIENCE_SECONDS) for future in futures]

    assert in_flow(body) == [12, -5, 25, 2, 8]


def test_many_runs_among_which_some_kill_their_process() -> None:
    """Each of them ends as it should, whatever becomes of the others."""

    def body() -> list[str]:
        futures = [tasks.die_now_and_then.submit(number) for number in range(40)]
        return [ended(future).name for future in futures]

    names = in_flow(body, ProcessTaskRunner(max_workers=3))
    assert names == ["Failed" if number % 7 == 3 else "Completed" for number in range(40)]


# Short jobs travel together


def made_quick(kind: Any, folder: Path) -> None:
    """Let the pool know that the tasks are quick."""
    kind.map([folder] * 20, range(1000, 1020)).result()


def test_a_death_fails_one_of_those_that_travelled_together(tmp_path: Path) -> None:
    """And none begins twice."""

    def body() -> list[str]:
        made_quick(tasks.die_if_first, tmp_path)
        futures = [tasks.die_if_first.submit(tmp_path, number) for number in range(200)]
        return [ended(future).name for future in futures]

    names = in_flow(body)
    assert names == ["Failed", *["Completed"] * 199]


def test_those_behind_one_that_hangs_go_to_another_worker(tmp_path: Path) -> None:
    def body() -> tuple[int, list[int]]:
        made_quick(tasks.wait_if_first, tmp_path)
        futures = [tasks.wait_if_first.submit(tmp_path, number) for number in range(100)]
        pids = [future.result(PATIENCE_SECONDS) for future in futures[1:]]
        (tmp_path / "open").touch()
        return futures[0].result(PATIENCE_SECONDS), pids

    first, others = in_flow(body)
    assert first not in others[-10:]


def test_cancelling_one_that_hangs_leaves_those_behind_it_alone(tmp_path: Path) -> None:
    """With one worker, which is killed for it."""

    def body() -> list[str]:
        made_quick(tasks.wait_if_first, tmp_path)
        futures = [tasks.wait_if_first.submit(tmp_path, number) for number in range(50)]
        until_there(tmp_path / "0 has begun")
        futures[0].cancel()
        return [ended(future).name for future in futures]

    names = in_flow(body, ProcessTaskRunner(max_workers=1))
    assert names == ["Cancelled", *["Completed"] * 49]


def test_what_a_task_logs_is_handled_before_it_has_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def body() -> list[int]:
        missing: list[int] = []
        for number in range(30):
            tasks.log_number.submit(number).result()
            if f"number {number}" not in caplog.messages:
                missing.append(number)
        return missing

    assert in_flow(body) == []


def test_a_run_is_running_when_its_job_goes_out(tmp_path: Path) -> None:
    """And not while it waits for its turn."""

    def body() -> list[str]:
        futures = [tasks.pass_gate.submit(tmp_path, str(number)) for number in range(10)]
        until_there(tmp_path / "0 is here")
        names = [future.state.name for future in futures]
        (tmp_path / "open").touch()
        return names

    names = in_flow(body, ProcessTaskRunner(max_workers=1))
    assert names == ["Running", *["Pending"] * 9]


def test_many_flows_of_both_kinds_share_the_workers_while_some_die(run_loop: RunLoop) -> None:
    """A death fails at most one run, and everything ends.

    Two deaths: three workers in a row that die before they are ready are told to the user.
    """
    died: set[int] = set()

    def kill_some(stop: threading.Event) -> None:
        while not stop.wait(0.2):
            pids = {*pids_of(pool_of(RUNNER))} - died
            for pid in pids:
                if pid is not None and len(died) < 2:
                    died.add(pid)
                    os.kill(pid, signal.SIGKILL)
                    break

    @flow(task_runner=RUNNER)
    async def squares(first: int) -> list[str]:
        futures = [square.submit(number) for number in range(first, first + 300)]
        for future in futures[::10]:
            future.cancel()
        await wait_async(futures)
        return [future.state.name for future in futures]

    async def main() -> list[str]:
        names: list[str] = []

        async def run(first: int) -> None:
            names.extend(await squares(first))

        async with anyio.create_task_group() as group:
            for first in range(0, 1200, 300):
                group.start_soon(run, first)
        return names

    in_flow(lambda: square.map(range(4)).result())
    stop = threading.Event()
    killer = threading.Thread(target=kill_some, args=(stop,))
    killer.start()
    try:
        names = run_loop(main)
    finally:
        stop.set()
        killer.join()
    assert len(names) == 1200
    assert names.count("Cancelled") <= 120
    assert names.count("Completed") >= 1200 - 120 - len(died)


def test_closing_in_the_middle_ends_all_runs() -> None:
    """As cancelled; and no process is left."""

    @flow(task_runner=RUNNER)
    def squares() -> list[str]:
        futures = [square.submit(number) for number in range(500)]
        futures[0].wait()
        pool = pool_of(RUNNER)
        pids = pids_of(pool)
        pool.close()
        for pid in pids:
            assert pid is not None
            assert not is_alive(pid)
        return [ended(future).name for future in futures]

    names = squares()
    assert names[0] == "Completed"
    assert set(names) == {"Completed", "Cancelled"}


def test_a_fake_clock_waits_for_what_runs_elsewhere() -> None:
    """Time does not jump to the limit of a flow whose task is at a worker."""

    @flow(task_runner=RUNNER, timeout_seconds=3600)
    def slow() -> int:
        futures = [tasks.sleep_a_little.submit(number) for number in range(4)]
        return sum(future.result() for future in futures)

    clock = FakeClock(patience_seconds=30)
    with engine_of_a_test(clock):
        assert slow() == 6
        assert clock.elapsed_seconds == 0


# What the engine keeps doing


def test_retries_caching_and_hooks_stay_with_the_engine(tmp_path: Path) -> None:
    heard: list[tuple[str, int]] = []

    def hook(_task: object, _run: object, state: State[Any]) -> None:
        heard.append((state.name, os.getpid()))

    def body() -> tuple[int, bool]:
        tried = tasks.die_once.with_options(retries=1, on_completion=[hook]).submit(tmp_path)
        first = tasks.cached_pid.submit(1).result()
        return tried.result(PATIENCE_SECONDS), tasks.cached_pid.submit(1).result() == first

    pid, is_same = in_flow(body)
    assert is_same
    assert pid != os.getpid()
    assert heard == [("Completed", os.getpid())]
    (run,) = history.task_runs(task="die_once")
    assert [state.name for state in run.states] == [
        "Pending", "Running", "AwaitingRetry", "Retrying", "Completed"
    ]  # fmt: skip


def test_a_cache_key_function_is_called_by_the_engine() -> None:
    keyed = square.with_options(cache_key_fn=tasks.key_of_run)
    assert in_flow(lambda: [keyed.submit(2).result(), keyed.submit(3).result()]) == [4, 4]


def test_the_code_can_know_of_its_run(tmp_path: Path) -> None:
    def body() -> tuple[dict[str, object], TaskFuture[Any]]:
        future = tasks.look_around.submit(tmp_path)
        return future.result(PATIENCE_SECONDS), future

    seen, future = in_flow(lambda: in_flow(body))
    calling, root = sorted(history.flow_runs(flow="calling"), key=lambda run: run.id, reverse=True)
    assert seen == {
        "id": future.task_run_id,
        "name": history.task_runs(task="look_around")[0].name,
        "tags": frozenset({"heavy"}),
        "run_count": 2,
        "parameters": {"folder": tmp_path},
        "task": "look_around",
        "context": future.task_run_id,
        "flow id": calling.id,
        "flow name": calling.name,
        "flow": "calling",
        "start": calling.states[1].timestamp,
        "root": root.id,
    }


@pytest.mark.needs_file("the record of another process")
def test_runs_that_the_code_calls_are_recorded_by_its_process_under_the_flow() -> None:
    """Those that it submitted have ended when it has."""
    assert in_flow(lambda: tasks.calls_others.submit(3).result()) == 27
    shutdown()  # the workers write what they have recorded
    (calling,) = history.flow_runs(flow="calling")
    (called,) = history.flow_runs(flow="inner")
    under_flow = history.task_runs(flow_run=calling)
    assert sorted(run.task for run in under_flow) == ["calls_others"] + ["square"] * 3
    assert {run.state.name for run in under_flow} == {"Completed"}
    assert called.state.name == "Completed"


def test_a_worker_may_have_workers_which_end_with_it() -> None:
    inner, innermost = in_flow(lambda: tasks.calls_a_flow_with_workers.submit().result())
    assert len({os.getpid(), inner, innermost}) == 3
    shutdown()
    until_gone(innermost)


def test_temporary_settings_reach_the_workers(tmp_path: Path) -> None:
    elsewhere = load_settings({"PENSTOCK_HOME": str(tmp_path / "elsewhere")})
    with use_settings(elsewhere):
        assert in_flow(lambda: tasks.calls_others.submit(2).result()) == 12
    assert history.task_runs() == []
    with use_settings(elsewhere):
        assert len(history.task_runs(task="square")) == 4


def test_workers_work_in_the_folder_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "open").touch()
    assert in_flow(lambda: tasks.pass_gate.submit(Path(), "a").result()) == "a"
    assert (tmp_path / "a is here").exists()


# Errors


def test_an_exception_arrives_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    state = in_flow(lambda: ended(tasks.fail.submit("no luck")))
    error = state.result(raise_on_failure=False)
    assert isinstance(error, ValueError)
    assert error.args == ("no luck",)
    for text in (str(error.__cause__), state.details.traceback or "", caplog.text):
        assert "raise ValueError(reason)" in text
        assert "_engine" not in text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: _task_in_a_function().submit(), r"'local' is defined inside of a function.*top"),
        (lambda: tasks.length.submit(threading.Lock()), r"'length': the argument 'data' cannot"),
        (tasks.return_lock.submit, r"return_lock-.*a result of the type lock cannot"),
        (tasks.fail_for_good.submit, r"fail_for_good-.*NeedsTwo\('1 and 2'\), cannot"),
        (tasks.of_the_unfindable.submit, r"'unfindable' cannot be sent .* by name"),
    ],
)
def test_what_cannot_be_pickled_is_named(make: Callable[[], TaskFuture[Any]], words: str) -> None:
    """The attempt fails, and the worker goes on."""

    def body() -> tuple[State[Any], int]:
        return ended(make()), square.submit(3).result()

    state, value = in_flow(body)
    assert value == 9
    assert state.name == "Failed"
    with pytest.raises(NotTransferable, match=words):
        state.result()


def _task_in_a_function() -> Any:
    @task
    def local() -> None: ...

    return local


def test_sys_exit_crashes_the_run_and_not_the_worker() -> None:
    def body() -> tuple[State[Any], int]:
        return ended(tasks.leave.submit(4)), square.submit(3).result()

    state, value = in_flow(body, ProcessTaskRunner(max_workers=1))
    assert (state.type, value) == (StateType.CRASHED, 9)


@pytest.mark.parametrize(
    ("dying", "words"),
    [
        (lambda: tasks.die.submit(7), r"die-.*has exited with code 7\.$"),
        (tasks.be_killed.submit, r"be_killed-.*killed by SIGKILL; perhaps .* memory"),
    ],
)
def test_a_worker_that_dies_fails_its_attempt_alone(
    tmp_path: Path, dying: Callable[[], TaskFuture[Any]], words: str
) -> None:
    def body() -> tuple[State[Any], str, int]:
        other = tasks.pass_gate.submit(tmp_path, "other")
        until_there(tmp_path / "other is here")
        state = ended(dying())
        after = square.submit(3).result(PATIENCE_SECONDS)
        (tmp_path / "open").touch()
        return state, other.result(PATIENCE_SECONDS), after

    state, other, after = in_flow(body)
    assert (state.name, other, after) == ("Failed", "other", 9)
    with pytest.raises(WorkerCrashed, match=words):
        state.result()


def test_a_worker_that_dies_is_seen_though_its_child_holds_the_pipe(tmp_path: Path) -> None:
    try:
        state = in_flow(lambda: ended(tasks.hold_the_pipe_and_die.submit(tmp_path)))
        with pytest.raises(WorkerCrashed, match="code 5"):
            state.result()
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_worker_that_died_while_it_was_idle_is_replaced() -> None:
    def body() -> tuple[int, int]:
        first = tasks.pid_of_worker.submit().result()
        os.kill(first, signal.SIGKILL)
        until_gone(first)
        return first, tasks.pid_of_worker.submit().result(PATIENCE_SECONDS)

    first, second = in_flow(body, ProcessTaskRunner(max_workers=1))
    assert first != second


# Limits


def test_a_timeout_ends_the_code_itself(tmp_path: Path) -> None:
    def body() -> tuple[State[Any], float, int]:
        square.submit(1).result()  # a worker is there
        began = time.monotonic()
        state = ended(tasks.hang_in_time.submit(tmp_path))
        return state, time.monotonic() - began, square.submit(2).result()

    state, elapsed, after = in_flow(body, ProcessTaskRunner(max_workers=1))
    assert state.name == "TimedOut"
    with pytest.raises(RunTimedOut):
        state.result()
    assert elapsed >= 0.3 and soon(elapsed, 5)
    assert after == 4
    until_gone(pid_in(tmp_path))


def test_the_time_to_start_a_worker_does_not_count() -> None:
    quick = tasks.quick_in_time.with_options(timeout_seconds=0.2)
    assert in_flow(lambda: quick.map(range(5)).result()) == list(range(5))


def test_cancelling_kills_the_worker_at_once(tmp_path: Path) -> None:
    def body() -> tuple[State[Any], int]:
        future = tasks.report_and_hang.submit(tmp_path)
        pid = pid_in(tmp_path)
        future.cancel()
        assert future.done()
        until_gone(pid)
        return future.state, square.submit(3).result(PATIENCE_SECONDS)

    state, after = in_flow(body, ProcessTaskRunner(max_workers=1))
    assert (state.name, after) == ("Cancelled", 9)
    with pytest.raises(RunCancelled):
        state.result()


def test_cancelling_a_task_of_the_loop_kills_the_worker_that_it_waits_for(
    run_loop: RunLoop, tmp_path: Path
) -> None:
    async def cancel_when_it_runs(scope: anyio.CancelScope) -> None:
        while not (tmp_path / "pid").exists():  # noqa: ASYNC110  # another process makes it
            await anyio.sleep(0.005)
        scope.cancel()

    @flow(task_runner=RUNNER)
    async def waits() -> str:
        async with anyio.create_task_group() as group:
            group.start_soon(cancel_when_it_runs, group.cancel_scope)
            await tasks.report_and_hang.run_async(tmp_path)
        return "done"

    async def main() -> str:
        with anyio.fail_after(PATIENCE_SECONDS):
            return await waits()

    assert run_loop(main) == "done"
    until_gone(pid_in(tmp_path))
    (run,) = history.task_runs()
    assert run.state.name == "Cancelled"


def test_flows_of_many_threads_share_the_workers() -> None:
    """And each gets its own results, in their order."""

    def squares_from(first: int) -> list[int]:
        values: list[int] = in_flow(lambda: square.map(range(first, first + 25)).result())
        return values

    starts = range(0, 400, 100)
    with ThreadPoolExecutor(4) as pool:
        for first, squares in zip(starts, pool.map(squares_from, starts), strict=True):
            assert squares == [number * number for number in range(first, first + 25)]


def test_runs_can_be_cancelled_at_any_moment() -> None:
    """While their worker starts, reads, works or answers; each ends, and the pool works on."""

    def body() -> tuple[list[str], list[int]]:
        futures = [square.submit(number) for number in range(60)]
        for number, future in enumerate(futures):
            if number % 2:
                time.sleep(number % 5 / 500)
                future.cancel()
        names = [ended(future).name for future in futures]
        return names, square.map(range(4)).result()

    names, after = in_flow(body)
    assert set(names[::2]) == {"Completed"}
    assert set(names[1::2]) <= {"Completed", "Cancelled"}
    assert after == [0, 1, 4, 9]


def test_what_exceeds_the_memory_limit_fails_and_its_worker_is_replaced() -> None:
    def body() -> tuple[State[Any], int, int, int]:
        before = tasks.pid_of_worker.submit().result()
        state = ended(tasks.allocate.submit(800 << 20))
        after = tasks.pid_of_worker.submit().result()
        return state, tasks.allocate.submit(1 << 20).result(), before, after

    runner = ProcessTaskRunner(max_workers=1, memory_limit_bytes=512 << 20)
    state, size, before, after = in_flow(body, runner)
    assert (state.name, size) == ("Failed", 1 << 20)
    assert before != after
    with pytest.raises(MemoryError):
        state.result()


def test_a_worker_ends_after_its_share_of_tasks() -> None:
    runner = ProcessTaskRunner(max_workers=1, max_tasks_per_worker=3)
    pids = in_flow(lambda: [tasks.pid_of_worker.submit(n).result() for n in range(7)], runner)
    assert [len(set(part)) for part in (pids[:3], pids[3:6])] == [1, 1]
    assert len(set(pids)) == 3
    until_gone(pids[0])


def test_ctrl_c_is_no_business_of_a_worker() -> None:
    """Nor does a process that the code starts inherit that it is ignored."""

    def body() -> list[str]:
        return [
            tasks.interrupt_itself.submit().result(),
            tasks.sigint_of_subprocess.submit().result(),
        ]

    assert in_flow(body) == ["still here", "True"]


# Logging


def test_what_a_worker_logs_reaches_the_handlers_of_the_engine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    future = in_flow(lambda: _waited(tasks.talk.submit("words")))
    told = {
        record.getMessage(): record
        for record in caplog.records
        if getattr(record, "task_run_id", None) == str(future.task_run_id)
    }
    assert {"printed words", "logged words", "plain words", "went wrong"} <= told.keys()
    assert "nobody hears this" not in told
    assert told["plain words"].name == "application"
    assert "ValueError: invalid literal" in (told["went wrong"].exc_text or "")
    record = told["logged words"]
    assert record.processName is not None and record.processName.startswith("penstock-worker")
    assert vars(record)["task_name"] == "talk"
    assert vars(record)["flow_name"] == "calling"


def _waited(future: TaskFuture[Any]) -> TaskFuture[Any]:
    ended(future)
    return future


def test_copies_of_a_task_keep_their_options_apart_in_one_worker(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """One logs its prints, and one has a timeout."""
    caplog.set_level(logging.INFO)
    logged = tasks.print_words.with_options(log_prints=True)
    in_time = tasks.print_words.with_options(timeout_seconds=30)

    def body() -> None:
        for number in range(2):
            tasks.print_words.submit(f"plainly {number}").wait()
            logged.submit(f"to the log {number}").wait()
            in_time.submit(f"in time {number}").wait()

    in_flow(body, ProcessTaskRunner(max_workers=1))
    printed = [message for message in caplog.messages if message.startswith("printed")]
    assert printed == ["printed to the log 0", "printed to the log 1"]
    assert capfd.readouterr().out.splitlines() == [
        f"printed {how} {number}" for number in range(2) for how in ("plainly", "in time")
    ]


def test_what_a_worker_logs_between_its_tasks_is_heard(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def body() -> None:
        tasks.log_later.submit().wait()
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while "later" not in caplog.messages:
            assert time.monotonic() < ends_at, "nobody has heard it"
            time.sleep(0.005)

    in_flow(body)


def test_a_worker_that_takes_long_to_start_is_told_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "_SLOW_START_SECONDS", 0)
    assert in_flow(lambda: square.submit(3).result()) == 9
    assert "A worker process is not ready after 0 seconds" in caplog.text


def test_prints_are_logged_where_the_flow_wants_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    @flow(task_runner=RUNNER, log_prints=True)
    def wordy() -> None:
        tasks.print_words.submit("of the flow")

    wordy()
    assert "printed of the flow" in caplog.messages


# The end of workers


def test_workers_end_with_the_engine() -> None:
    pids = in_flow(lambda: tasks.pid_of_worker.map(range(8)).result())
    shutdown()
    for pid in set(pids):
        assert not is_alive(pid)


def test_workers_that_are_idle_for_long_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_IDLE_SECONDS", 0.05)
    first = in_flow(lambda: tasks.pid_of_worker.submit().result())
    until_gone(first)
    assert in_flow(lambda: tasks.pid_of_worker.submit().result()) != first


# Arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_workers": 0}, "max_workers must be an integer of at least 1, not 0"),
        ({"memory_limit_bytes": 1.5}, "memory_limit_bytes must be an integer of at least 1"),
        ({"max_tasks_per_worker": True}, "max_tasks_per_worker must be an integer of at least 1"),
        ({"start_method": "thread"}, "start_method must be one of 'spawn', 'forkserver', 'fork'"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ProcessTaskRunner(**arguments)


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_what_the_platform_has_not_is_refused(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(ConfigurationError, match=f"needs Linux; {platform}"):
        ProcessTaskRunner(memory_limit_bytes=1 << 30)
    if platform == "win32":
        with pytest.raises(ConfigurationError, match="only spawn"):
            ProcessTaskRunner(start_method="fork")


def test_by_default_there_are_as_many_workers_as_cpus(engine: Engine) -> None:
    workers = engine.workers_of(ProcessTaskRunner())
    assert workers.limit == len(os.sched_getaffinity(0))
    assert isinstance(engine.executor_of(ProcessTaskRunner()), ProcessPool)
    engine.workers_of(ConcurrentTaskRunner())
    assert engine.executor_of(ConcurrentTaskRunner()) is None
