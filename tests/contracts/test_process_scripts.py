"""Scripts whose tasks run in worker processes: how they start, are interrupted, killed, and end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.scripts import Script, ended, hear
from tests.engine.process_tasks import is_alive
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux does")


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Scripts on a fresh database."""
    made = Script(tmp_path / "home")
    yield made
    made.stop_all()


HEAD = """
import os, sys, time
from penstock import flow, task
from penstock.task_runners import ProcessTaskRunner

@task
def square(number):
    return number * number

@task
def hang(number):
    print(f"{os.getpid()}\\n", end="", flush=True)
    time.sleep(600)

@flow(task_runner=ProcessTaskRunner(max_workers=2))
def squares():
    return square.map(range(5)).result()

@flow(task_runner=ProcessTaskRunner(max_workers=2))
def hangs():
    hang.map(range(2))
"""


def until_gone(*pids: int) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while any(map(is_alive, pids)):
        assert time.monotonic() < ends_at, f"some of {pids} live on"
        time.sleep(0.01)


# How they start


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_tasks_of_a_script_that_is_guarded(script: Script, method: str) -> None:
    """By each way in which multiprocessing starts processes."""
    text = f"""{HEAD}
other = squares.with_options(task_runner=ProcessTaskRunner(start_method="{method}"))
if __name__ == "__main__":
    print(other())
    """
    # Python 3.12 warns of a fork beside threads; whoever asks for it is told so by its docs.
    script.environment["PYTHONWARNINGS"] = "ignore::DeprecationWarning"
    result = script.run(text)
    result.check()
    assert result.output == "[0, 1, 4, 9, 16]\n"
    assert script.task_states() == {"Completed": 5}


def test_what_a_worker_calls_is_the_script_s_own_task(script: Script) -> None:
    """Though the worker has imported the script under another name."""
    text = f"""{HEAD}
@task
def twice(number):
    return square(number) + square.submit(number).result()

@flow(task_runner=ProcessTaskRunner(max_workers=1))
def both():
    return square.submit(2).result() + twice.submit(2).result()

if __name__ == "__main__":
    print(both())
    """
    result = script.run(text)
    result.check()
    assert result.output == "12\n"
    assert script.rows("SELECT name, count(*) FROM definition GROUP BY name ORDER BY name") == [
        ("both", 1), ("square", 1), ("twice", 1)
    ]  # fmt: skip
    assert script.task_states() == {"Completed": 4}


def test_a_script_that_is_not_guarded_is_told_so_and_runs_its_flow_once(script: Script) -> None:
    """Its workers do not start workers of their own, and it does not hang."""
    result = script.run(f"{HEAD}\nsquares()")
    assert result.status == 1
    assert "UsageError: A worker process imports this script" in result.errors
    assert "WorkerCrashed: A worker process has exited with code 1 before it could" in result.errors
    assert "if __name__ == '__main__'" in result.errors
    assert script.flow_states() == [("squares", "Failed")]
    assert script.task_states() == {"Failed": 5}


def test_what_was_typed_in_cannot_be_found_and_the_error_says_so(script: Script) -> None:
    result = script.run(f"""
import subprocess, sys
done = subprocess.run([sys.executable, "-c", {f"{HEAD}{chr(10)}squares()"!r}], stderr=-1, text=True)
print(done.stderr)
    """)
    assert "NotTransferable: Task run 'square-" in result.output
    assert "There is no square in __main__ here" in result.output
    assert "has to go into a module" in result.output


# How they end


def test_workers_end_with_their_script(script: Script) -> None:
    """Also tasks outside of flows are waited for, and strict durability holds."""
    script.environment["PENSTOCK_DURABILITY"] = "strict"
    text = f"""{HEAD}
from penstock._engine.process import get_engine

@task
def pid(number):
    time.sleep(0.1)
    return os.getpid()

if __name__ == "__main__":
    get_engine().default_task_runner = ProcessTaskRunner(max_workers=2)
    print(squares())
    print(pid.submit(1).result())
    pid.map(range(4))  # nobody waits for these
    """
    result = script.run(text)
    result.check()
    until_gone(int(result.output.split()[-1]))
    assert script.task_states() == {"Completed": 10}


@pytest.mark.parametrize(
    ("method", "forks"), [("spawn", True), ("fork", True), ("forkserver", False)]
)
def test_no_orphan_is_left_of_a_script_that_was_killed(
    script: Script, method: str, forks: bool
) -> None:
    """Its workers end though they are busy, and though another child of it holds their pipes."""
    text = f"""{HEAD}
@flow(task_runner=ProcessTaskRunner(max_workers=2, start_method="{method}"))
def lives_on():
    futures = hang.map(range(2))
    time.sleep(1)
    if {forks} and os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    os.write(1, b"ready\\n")  # unbuffered, as a worker may be forked meanwhile
    futures.wait()

if __name__ == "__main__":
    lives_on()
    """
    script.environment["PYTHONWARNINGS"] = "ignore::DeprecationWarning"
    process = script.start(text)
    heard = [hear(process) for _ in range(3)]
    pids = [int(line) for line in heard if line != "ready"]
    assert len(pids) == 2
    assert all(map(is_alive, pids))
    process.kill()
    until_gone(*pids)


def test_a_script_may_end_while_workers_are_busy(script: Script) -> None:
    """Nobody waits for a flow in a daemon thread, nor for what it has submitted."""
    text = f"""{HEAD}
import threading

if __name__ == "__main__":
    threading.Thread(target=hangs.call_state, daemon=True).start()
    sys.stdin.readline()
    """
    process = script.start(text)
    pids = [int(hear(process)) for _ in range(2)]
    result = ended(process)  # which closes its stdin
    assert result.status == 0
    assert "Traceback" not in result.errors
    until_gone(*pids)


def test_ctrl_c_ends_the_flow_and_its_busy_workers(script: Script) -> None:
    """It goes to all processes, as in a terminal; only the script prints a traceback."""
    process = script.start(f"{HEAD}\nif __name__ == '__main__':\n    hangs()")
    pids = [int(hear(process)) for _ in range(2)]
    os.killpg(process.pid, signal.SIGINT)
    result = ended(process)
    assert result.status in (-signal.SIGINT, 130)
    assert result.errors.count("\nKeyboardInterrupt\n") == 1
    assert "Process penstock-worker" not in result.errors
    until_gone(*pids)
    assert script.flow_states() == [("hangs", "Cancelled")]
    assert script.task_states() == {"Cancelled": 2}


@pytest.mark.parametrize("patience", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_ctrl_c_while_workers_start(script: Script, patience: float) -> None:
    """However far they have come, they print no traceback and leave nothing running."""
    text = f"""{HEAD}
@flow(task_runner=ProcessTaskRunner(max_workers=2))
def starts():
    futures = square.map(range(2))
    print("now", flush=True)
    time.sleep(float(sys.argv[1]))
    print(f"{os.getpid()}\\n", end="", flush=True)
    futures.wait()
    time.sleep(600)

if __name__ == "__main__":
    starts()
    """
    process = script.start(text, str(patience))
    assert hear(process) == "now"
    hear(process)
    os.killpg(process.pid, signal.SIGINT)
    result = ended(process)
    assert result.errors.count("\nKeyboardInterrupt\n") == 1
    assert "penstock-worker" not in result.errors
    assert script.flow_states() == [("starts", "Cancelled")]


def test_a_child_that_the_script_forks_leaves_the_workers_alone(script: Script) -> None:
    """It may use workers of its own, and its end is not theirs."""
    text = f"""{HEAD}
def pids():
    pool = get_engine().executor_of(squares.task_runner)
    return {{worker.process.pid for worker in pool._schedule.workers}}

from penstock._engine.process import get_engine
import penstock
if __name__ == "__main__":
    squares()
    child = os.fork()
    if child == 0:
        print(squares())
        penstock.shutdown()
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    before = pids()
    print(squares())
    assert before and before <= pids()
    """
    script.environment["PYTHONWARNINGS"] = "ignore::DeprecationWarning"
    result = script.run(text)
    result.check()
    assert result.output == "[0, 1, 4, 9, 16]\n" * 2
    assert script.flow_states() == [("squares", "Completed")] * 3


def test_a_script_that_uses_multiprocessing_itself(script: Script) -> None:
    """Its own processes, and those that a task starts, are none of the engine's workers."""
    text = f"""{HEAD}
import multiprocessing

def twice(number):
    return 2 * number

@task
def uses_a_pool():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(twice, [1, 2])

@flow(task_runner=ProcessTaskRunner(max_workers=1))
def nests():
    assert multiprocessing.active_children() == []
    return uses_a_pool.submit().result()

if __name__ == "__main__":
    print(nests())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(twice, [3]))
    """
    result = script.run(text)
    result.check()
    assert result.output == "[2, 4]\n[6]\n"
