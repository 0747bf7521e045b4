"""What a script has submitted goes on where no thread can be started once its main thread ended.

CPython 3.12 is so. On the others, threads are refused by hand in the same moment.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from penstock._waiting import thread_reserve
from penstock._waiting.free_threads import FreeThreads
from penstock._waiting.latch import Latch
from penstock._waiting.loops import LoopThread
from penstock._waiting.thread_reserve import add_spares, forget_reserve, start_thread
from penstock._waiting.worker_lanes import Lanes
from tests.contracts.scripts import Script, ended, hear
from tests.contracts.test_lanes import until
from tests.patience import PATIENCE_SECONDS, soon


@pytest.fixture
def no_thread_starts(monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[[], None]]:
    """What refuses each thread from its call on; before it, nothing is in reserve."""
    forget_reserve()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    yield lambda: monkeypatch.setattr(threading.Thread, "start", refuse)
    forget_reserve()


@pytest.fixture
def script(tmp_path: Path) -> Generator[Script]:
    """Scripts on a fresh database."""
    made = Script(tmp_path / "home")
    yield made
    made.stop_all()


# The reserve


def test_a_thread_of_the_reserve_is_taken_where_none_can_be_started(
    no_thread_starts: Callable[[], None],
) -> None:
    add_spares(1)
    no_thread_starts()
    seen: list[str] = []
    thread = start_thread(lambda: seen.append(threading.current_thread().name), "mine")
    thread.join(PATIENCE_SECONDS)
    assert seen == ["mine"]
    assert thread.daemon
    with pytest.raises(RuntimeError, match="create new thread"):
        start_thread(lambda: None, "another")


def test_the_reserve_is_not_touched_while_threads_can_be_started(
    no_thread_starts: Callable[[], None],
) -> None:
    add_spares(1)
    start_thread(lambda: None, "mine").join(PATIENCE_SECONDS)
    no_thread_starts()
    start_thread(lambda: None, "mine").join(PATIENCE_SECONDS)


def test_an_engine_fills_the_reserve_where_it_will_be_needed(
    no_thread_starts: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_needed in (False, True):
        monkeypatch.setattr(thread_reserve, "_STARTS_NONE_AT_THE_END", is_needed)
        thread_reserve.fill_reserve()
        thread_reserve.fill_reserve()
        assert len(thread_reserve._spares) == is_needed * thread_reserve._COUNT
    no_thread_starts()
    thread_reserve.forget_reserve()
    thread_reserve.fill_reserve()  # which is no error
    assert not thread_reserve._spares


@pytest.mark.usefixtures("no_thread_starts")
def test_it_is_needed_on_python_3_12_alone() -> None:
    assert thread_reserve._STARTS_NONE_AT_THE_END is (sys.version_info[:2] == (3, 12))


def test_loops_and_workers_take_their_threads_from_the_reserve(
    no_thread_starts: Callable[[], None],
) -> None:
    host = LoopThread("test-host")
    add_spares(3)
    no_thread_starts()
    loop, lanes, threads = LoopThread("test-loop"), Lanes(host, 2), FreeThreads()
    done: list[str] = []

    async def work() -> None:
        assert loop.is_current()
        done.append("loop")

    loop.spawn(work)
    lanes.run_soon(lambda: done.append("lane"))
    threads.run_soon(lambda: done.append("thread"))
    assert until(lambda: sorted(done) == ["lane", "loop", "thread"])
    loop.stop()
    assert not loop.spawn(work)
    host.stop()


def test_a_lane_that_waits_is_replaced_from_the_reserve(
    no_thread_starts: Callable[[], None],
) -> None:
    host = LoopThread("test-host")
    add_spares(2)
    no_thread_starts()
    lanes, latch, ended = Lanes(host, 1), Latch(), Latch()

    def wait() -> None:
        lanes.run_soon(latch.set)
        latch.wait()
        ended.set()

    lanes.run_soon(wait)
    assert ended.wait(PATIENCE_SECONDS)
    host.stop()


# Scripts

HEAD = """
import threading
import time
import anyio
from penstock import flow, task
from penstock._waiting import thread_reserve

thread_reserve._STARTS_NONE_AT_THE_END = True

def refuse(thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")

@task
def part(number):
    time.sleep(0.01)
    return number

@task
async def waits(number):
    await anyio.sleep(0.01)
    return number

@task(timeout_seconds=30)
def limited(number):
    return number

@flow
def inner(number):
    return [future.result() for future in part.map(range(3))]

@flow
async def loops(number):
    return [await limited.run_async(number), await waits(number)]
"""
TAIL = "threading.Thread.start = refuse"
SUBMITTED = {
    "tasks": ("part.map(range(30))", {"Completed": 30}),
    "async tasks": ("waits.map(range(30))", {"Completed": 30}),
    "a task with a time limit": ("limited.submit(1)", {"Completed": 1}),
    "a flow that waits for its tasks": ("inner.submit(1)", {"Completed": 3}),
    "an async flow": ("loops.submit(1)", {"Completed": 2}),
    "more flows that wait than there are threads": ("inner.map(range(30))", {"Completed": 90}),
}


@pytest.mark.parametrize("submitted", SUBMITTED)
def test_what_a_script_has_submitted_ends(script: Script, submitted: str) -> None:
    line, states = SUBMITTED[submitted]
    script.run(f"{HEAD}\n{line}\n{TAIL}\n").check()
    assert script.task_states() == states


def test_flows_at_the_end_start_what_the_script_has_not_used(script: Script) -> None:
    """The loop for async code, threads for time limits, and what gets slots."""
    text = f"""{HEAD}
from penstock.concurrency import concurrency, set_limit

async def hook(flow, run, state):
    await anyio.sleep(0)
    print("hooked", flush=True)

@flow(on_completion=[hook])
def outer():
    time.sleep(0.1)
    set_limit("late", 1)
    with concurrency("late"):
        return waits.submit(1).result() + limited(1)

outer.submit()
outer.submit()
{TAIL}
"""
    done = script.run(text)
    done.check()
    assert done.output == "hooked\nhooked\n"
    assert script.flow_states() == [("outer", "Completed")] * 2


def test_ctrl_c_ends_a_script_that_waits_for_more_than_there_are_threads(script: Script) -> None:
    """The main thread runs none of it, or the interrupt would end one run and no other."""
    text = f"""{HEAD}
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)

@task
def blocks(number):
    print("blocks", flush=True)
    time.sleep(30)

@flow
def outer(number):
    return blocks.submit(number).result()

outer.map(range(20))
{TAIL}
"""
    process = script.start(text)
    assert hear(process) == "blocks"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert "KeyboardInterrupt" in ended(process).errors
    assert soon(time.monotonic() - began, 15)
    assert set(script.flow_states()) == {("outer", "Cancelled")}
