"""The page's section "Configuring task runners"."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field

import pytest
from typing_extensions import override

from penstock import TaskFuture, flow, history, task
from penstock._engine.engine import Engine
from penstock.task_runners import (
    ConcurrentTaskRunner,
    SequentialTaskRunner,
    TaskRunner,
)
from tests.conftest import RunLoop
from tests.patience import PATIENCE_SECONDS
from tests.spec.transcripts import Machine, code_of, normalized, without_prompts

ANYIO_THREAD = "AnyIO worker thread"
BOTH = pytest.mark.parametrize("runner", [SequentialTaskRunner(), ConcurrentTaskRunner()])


@dataclass(frozen=True)
class Watched(TaskRunner):
    """A task runner that tells how often workers were asked for that call its tasks."""

    asked: list[None] = field(default_factory=list[None], hash=False, compare=False)

    @property
    @override
    def max_threads(self) -> None:
        self.asked.append(None)


# The example

ADDED = "add: 10, square: 100"


def test_the_example_with_a_sequential_task_runner(machine: Machine) -> None:
    output = machine.run("sequential.py")

    assert output.count(ADDED) == 1
    of_the_flow = "<time> | INFO    | Flow run '<flow run 1>' - "
    created, runner, *rest = normalized(output.lines)
    assert created.endswith("Created flow run '<flow run 1>' for flow 'My Example Flow'")
    assert runner == f"{of_the_flow}Using task runner 'SequentialTaskRunner'"
    assert set(rest) == {
        f"{of_the_flow}Created task run 'first_task-<hash 1>-0' for task 'first_task'",
        f"{of_the_flow}Created task run 'second_task-<hash 2>-0' for task 'second_task'",
        "<time> | INFO    | Task run 'first_task-<hash 1>-0' - Finished in state Completed(None)",
        "<time> | INFO    | Task run 'second_task-<hash 2>-0' - Finished in state Completed(None)",
        ADDED,
        f"{of_the_flow}Finished in state Completed('All states completed.')",
    }
    assert len(rest) == 6
    assert rest[-1].endswith("Finished in state Completed('All states completed.')")
    assert machine.ask("[run.state.result() for run in history.task_runs()]") == [100, 10]


def test_the_example_in_an_interpreter(machine: Machine) -> None:
    output = machine.type_in(code_of("sequential.py"))

    assert without_prompts(output.lines).count(ADDED) == 1


def test_the_example_with_the_other_task_runner(machine: Machine) -> None:
    runner = "import SequentialTaskRunner"
    output = machine.run(
        "sequential.py",
        replace={runner: "import ConcurrentTaskRunner", "=Sequential": "=Concurrent"},
    )

    assert output.count(ADDED) == 1
    assert "Using task runner 'ConcurrentTaskRunner'" in output.lines[1]


def test_a_future_as_an_argument_is_in_the_graph_of_the_run(machine: Machine) -> None:
    machine.run("sequential.py")

    assert machine.ask(
        "[(up == g.task_runs[0].id, down == g.task_runs[1].id)"
        " for g in [history.graph(history.flow_runs()[0])] for up, down in g.edges]"
    ) == [[True, True]]


# Which one it is


def test_the_default_is_concurrent() -> None:
    @flow
    def plain() -> None: ...

    assert plain.task_runner == ConcurrentTaskRunner()


def test_task_runners_may_be_given_as_classes() -> None:
    @flow(task_runner=SequentialTaskRunner)
    def plain() -> None: ...

    assert plain.task_runner == SequentialTaskRunner()


# Direct calls


def test_a_direct_call_does_not_invoke_the_task_runner(engine: Engine) -> None:
    runner = Watched()

    @task
    def where() -> int:
        return threading.get_ident()

    @flow(task_runner=runner)
    def calls() -> list[int]:
        return [where(), where()]

    assert calls() == [threading.get_ident()] * 2
    assert runner.asked == []


def test_a_submit_does_invoke_the_task_runner(engine: Engine) -> None:
    runner = Watched()

    @task
    def where() -> int:
        return threading.get_ident()

    @flow(task_runner=runner)
    def submits() -> int:
        return where.submit().result()

    assert submits() != threading.get_ident()
    assert runner.asked == [None]


def test_direct_calls_run_one_after_another(engine: Engine) -> None:
    """Under the concurrent task runner too."""
    events: list[str] = []

    @task
    def work(name: str) -> None:
        events.append(f"{name} begins")
        time.sleep(0.005)
        events.append(f"{name} ends")

    @flow(task_runner=ConcurrentTaskRunner())
    def calls() -> None:
        work("a")
        work("b")

    calls()
    assert events == ["a begins", "a ends", "b begins", "b ends"]


@BOTH
def test_a_direct_call_returns_the_data(engine: Engine, runner: TaskRunner) -> None:
    """ "The result data you'd expect from a Python function": the very object."""
    data = {"answer": (42, "and more")}

    @task
    def give() -> dict[str, tuple[int, str]]:
        return data

    @flow(task_runner=runner)
    def calls() -> bool:
        return give() is data

    assert calls() is True
    assert give() is data


def test_a_direct_call_in_an_async_flow_does_not_invoke_the_task_runner(
    engine: Engine, run_loop: RunLoop
) -> None:
    runner = Watched()

    @task
    def where() -> int:
        return threading.get_ident()

    @task
    async def where_async() -> int:
        return threading.get_ident()

    @flow(task_runner=runner)
    async def calls() -> list[int]:
        return [where(), await where_async()]

    assert run_loop(calls) == [threading.get_ident()] * 2
    assert runner.asked == []


@BOTH
def test_submit_gives_a_future_at_once(engine: Engine, runner: TaskRunner) -> None:
    may_end = threading.Event()

    @task
    def work() -> str:
        assert may_end.wait(PATIENCE_SECONDS)
        return "done"

    @flow(task_runner=runner)
    def submits() -> str:
        future = work.submit()
        assert isinstance(future, TaskFuture)
        assert not future.done()
        may_end.set()
        return future.result()

    assert submits() == "done"


# The two task runners


def _most_at_once(runner: TaskRunner) -> int:
    """How many of four tasks that wait were seen at work together."""
    at_work = most = 0
    lock = threading.Lock()

    @task
    def work() -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.04)
        with lock:
            at_work -= 1

    @flow(task_runner=runner)
    def submits() -> None:
        for _ in range(4):
            _ = work.submit()

    submits()
    return most


def test_the_sequential_task_runner_runs_one_task_at_a_time(engine: Engine) -> None:
    assert _most_at_once(SequentialTaskRunner()) == 1


def test_the_sequential_task_runner_keeps_the_order_of_submission(engine: Engine) -> None:
    """However long each of them takes: the first ones are the slowest here."""
    ended: list[float] = []

    @task
    def work(seconds: float) -> None:
        time.sleep(seconds)
        ended.append(seconds)

    @flow(task_runner=SequentialTaskRunner())
    def submits() -> None:
        work.map(durations)

    durations = [0.05, 0.03, 0.01, 0.0]
    submits()
    assert ended == durations


def test_the_concurrent_task_runner_runs_tasks_together(engine: Engine) -> None:
    """Each task waits for all the others, so that they end only if all are at work at once."""
    together = threading.Barrier(8)

    @task
    def meet() -> str:
        together.wait(timeout=20)
        return threading.current_thread().name

    @flow
    def submits() -> list[str]:
        return [future.result() for future in [meet.submit() for _ in range(8)]]

    assert submits() == [ANYIO_THREAD] * 8


def test_a_task_that_blocks_on_io_lets_others_run(engine: Engine) -> None:
    """The reader, submitted first, ends only because the writer runs while it waits."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)

    @task
    def read() -> bytes:
        return ours.recv(5)

    @task
    def write() -> None:
        theirs.sendall(b"hello")

    @flow(task_runner=ConcurrentTaskRunner())
    def submits() -> bytes:
        reader = read.submit()
        _ = write.submit()
        return reader.result()

    with ours, theirs:
        assert submits() == b"hello"


def test_a_task_that_blocks_on_io_lets_others_run_under_an_async_flow(
    engine: Engine, run_loop: RunLoop
) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)

    @task
    def read() -> bytes:
        return ours.recv(5)

    @task
    def write() -> None:
        theirs.sendall(b"hello")

    @flow
    async def submits() -> bytes:
        reader = read.submit()
        _ = write.submit()
        return await reader

    with ours, theirs:
        assert run_loop(submits) == b"hello"


@BOTH
def test_submitted_tasks_run_on_threads_maintained_by_anyio(
    engine: Engine, runner: TaskRunner
) -> None:
    @task
    def where() -> tuple[str, str]:
        thread = threading.current_thread()
        return thread.name, type(thread).__module__

    @flow(task_runner=runner)
    def submits() -> tuple[str, str]:
        return where.submit().result()

    name, module = submits()
    assert name == ANYIO_THREAD
    assert module.partition(".")[0] == "anyio"


def test_submitted_tasks_of_async_flows_run_on_threads_maintained_by_anyio(
    engine: Engine, run_loop: RunLoop
) -> None:
    @task
    def where() -> str:
        return threading.current_thread().name

    @flow
    async def submits() -> str:
        return await where.submit()

    assert run_loop(submits) == ANYIO_THREAD


def test_results_of_submitted_tasks_are_on_record(engine: Engine) -> None:
    @task
    def work(number: int) -> int:
        return 2 * number

    @flow
    def submits() -> None:
        for number in range(5):
            _ = work.submit(number)

    submits()
    found = history.task_runs(task="work", state="COMPLETED")
    assert sorted(run.state.result() for run in found) == [0, 2, 4, 6, 8]  # type: ignore[type-var]  # numbers
