"""Real scripts, and how they end: the thread of aiosqlite's connection holds none of them up."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.scripts import Script, ended, hear

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks, and signals as POSIX has them")
AT_ONCE_SECONDS = 10.0
"""A script that waits for the thread would wait for ever."""


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Scripts on a fresh database."""
    made = Script(tmp_path / "home")
    # Python 3.12 warns of a fork beside threads.
    made.environment["PYTHONWARNINGS"] = "ignore::DeprecationWarning"
    yield made
    made.stop_all()


HEAD = """
import multiprocessing, os, sys, threading, time
from penstock import flow, task

@task
def step(index):
    return index

@flow
def works(count=5):
    return [step(index) for index in range(count)]

def in_child():
    works()
"""
ENDS = {
    "after its last line": ("works()", 0),
    "by an exception": ("works(); raise ValueError('no')", 1),
    "by sys.exit": ("works(); sys.exit(3)", 3),
    "while another thread goes on": (
        "works(); threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        0,
    ),
    "where a thread was the first to use the engine": (
        "thread = threading.Thread(target=works); thread.start(); thread.join()",
        0,
    ),
    "after a thread that the end waits for": ("threading.Thread(target=works).start()", 0),
}


@pytest.mark.parametrize("durability", ["relaxed", "strict"])
@pytest.mark.parametrize("end", ENDS)
def test_a_script_ends_at_once_and_all_is_on_disk(
    script: Script, end: str, durability: str
) -> None:
    if "waits for" in end and sys.version_info[:2] == (3, 12):
        pytest.skip("no thread can be started there once the main thread has ended")
    script.environment["PENSTOCK_DURABILITY"] = durability
    line, status = ENDS[end]
    done = script.run(f"{HEAD}\n{line}\n", within=AT_ONCE_SECONDS)
    assert done.status == status, done.errors
    assert ("ValueError" in done.errors) is (end == "by an exception")
    assert script.task_states() == {"Completed": 5}
    assert script.flow_states() == [("works", "Completed")]


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.004, 0.016, 0.064])
def test_ctrl_c_ends_a_script_at_once_and_leaves_a_whole_file(
    script: Script, seconds: float
) -> None:
    """Whatever its writer is at."""
    text = f"""{HEAD}
works(1)
print("ready", flush=True)
while True:
    works()
    time.sleep(float(sys.argv[1]) / 10)
    """
    process = script.start(text, str(seconds))
    assert hear(process) == "ready"
    time.sleep(0.1 + seconds)
    process.send_signal(signal.SIGINT)
    result = ended(process)
    assert result.status in (-signal.SIGINT, 130)
    assert result.errors.count("\nKeyboardInterrupt\n") == 1
    script.check_integrity()
    assert {state for _name, state in script.flow_states()} <= {"Completed", "Cancelled"}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("parent_runs", [True, False])
def test_a_child_of_multiprocessing_ends_at_once_and_writes_what_it_ran(
    script: Script, method: str, parent_runs: bool
) -> None:
    text = f"""{HEAD}
if __name__ == "__main__":
    if {parent_runs}:
        works()
    child = multiprocessing.get_context("{method}").Process(target=in_child)
    child.start()
    child.join()
    sys.exit(child.exitcode)
    """
    result = script.run(text, within=AT_ONCE_SECONDS)
    result.check()
    assert script.task_states() == {"Completed": 10 if parent_runs else 5}


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise ValueError('no')"])
def test_a_forked_child_ends_at_once_and_nothing_is_lost(script: Script, end: str) -> None:
    """It is forked while the parent has something to write."""
    text = f"""{HEAD}
for _ in range(5):
    works()
    child = os.fork()
    if child == 0:
        works()
        {end or "pass"}
        sys.exit()
    os.waitpid(child, 0)
    """
    result = script.run(text, within=AT_ONCE_SECONDS)
    assert result.status == 0, result.errors
    assert script.task_states() == {"Completed": 50}
    assert script.flow_states() == [("works", "Completed")] * 10


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="no thread starts there any more")
def test_what_runs_at_the_end_of_the_interpreter_is_written(script: Script) -> None:
    text = f"""{HEAD}
import atexit
atexit.register(works)
    """
    script.run(text, within=AT_ONCE_SECONDS).check()
    assert script.task_states() == {"Completed": 5}


def test_all_threads_of_the_engine_are_daemons(script: Script) -> None:
    text = f"""{HEAD}
works()
step.submit(1).result()
print(sorted(t.name for t in threading.enumerate() if not t.daemon))
    """
    done = script.run(text, within=AT_ONCE_SECONDS)
    done.check()
    assert done.output == "['MainThread']\n"
