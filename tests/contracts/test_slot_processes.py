"""One limit and several processes: never more at once, whoever is killed, stopped or forked."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock._stores.port import Limit
from penstock._waiting.loops import LoopThread
from tests.contracts.scripts import Script, ended, hear, say
from tests.contracts.sources import open_sqlite
from tests.patience import PATIENCE_SECONDS, soon

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills and forks as POSIX has them")


@pytest.fixture
def script(tmp_path: Path, host: LoopThread) -> Iterator[Script]:
    """Scripts on a database with a limit of 3."""
    made = Script(tmp_path / "home")
    store = open_sqlite(made.database, host)
    store.slots.set_limit(Limit("shared", 3))
    store.slots.set_limit(Limit("single", 1))
    store.close()
    yield made
    made.stop_all()


# At most three of these are held at once, or there is none left to lock.
WITNESS = """
    import fcntl, os, sys, time
    from penstock import concurrency, flow, task

    folder = sys.argv[1]

    class Seat:
        def __enter__(self):
            for number in range(3):
                self.file = open(os.path.join(folder, f"seat_{number}"), "w")
                try:
                    fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    self.file.close()
                else:
                    return
            raise AssertionError("there is one too many")

        def __exit__(self, *exc):
            self.file.close()
"""
WORKER = (
    WITNESS
    + """
    @task(tags=["shared"])
    def sit(number):
        with Seat():
            time.sleep(0.002)
        return number

    @task(tags=["shared"])
    async def sit_async(number):
        with Seat():
            time.sleep(0.002)
        return number

    @flow
    def sits():
        futures = [*sit.map(range(40)), *sit_async.map(range(40))]
        for number in range(10):
            sit(number)
            with concurrency.concurrency("shared"), Seat():
                pass
        return len([future.result() for future in futures])

    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        print(sits(), flush=True)
        if len(sys.argv) == 2:
            break
"""
)
HOLDER = """
    import sys, time
    from penstock.concurrency import concurrency

    with concurrency("single"):
        print("holding", flush=True)
        sys.stdin.readline()
    print("free", flush=True)
    sys.stdin.readline()
"""
WAITER = """
    import sys
    from penstock.concurrency import concurrency

    print("asking", flush=True)
    with concurrency("single"):
        print("holding", flush=True)
        sys.stdin.readline()
"""


def test_processes_never_have_more_slots_than_there_are(script: Script, tmp_path: Path) -> None:
    """One of them is killed in the middle, again and again; the others get what it had."""
    processes = [script.start(WORKER, str(tmp_path)) for _ in range(3)]
    killed = script.start(WORKER, str(tmp_path), "forever")
    for process in [*processes, killed]:
        assert hear(process) == "ready"
    for process in [*processes, killed]:
        say(process)
    for _ in range(2):
        time.sleep(0.3)
        os.killpg(killed.pid, signal.SIGKILL)
        killed = script.start(WORKER, str(tmp_path), "forever")
        assert hear(killed) == "ready"
        say(killed)
    time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    for process in processes:
        end = ended(process)
        end.check()
        assert end.output == "80\n"
    script.check_integrity()


def test_the_slot_of_a_killed_process_is_free_at_once(script: Script) -> None:
    holder = script.start(HOLDER)
    assert hear(holder) == "holding"
    waiter = script.start(WAITER)
    assert hear(waiter) == "asking"
    time.sleep(0.2)
    began = time.monotonic()
    holder.kill()
    assert hear(waiter) == "holding"
    assert soon(time.monotonic() - began, 2)
    say(waiter)
    ended(waiter).check()
    assert script.rows("SELECT * FROM waiting_line") == []
    assert list((script.folder / "penstock.db-holders").iterdir()) == []


def test_a_slot_that_is_given_back_goes_to_another_process(script: Script) -> None:
    holder = script.start(HOLDER)
    assert hear(holder) == "holding"
    waiter = script.start(WAITER)
    assert hear(waiter) == "asking"
    time.sleep(0.2)
    say(holder)
    assert hear(holder) == "free"
    assert hear(waiter) == "holding"
    for process in (holder, waiter):
        say(process)
        ended(process).check()


def stop_while_asking(script: Script) -> subprocess.Popen[str]:
    """A process that is stopped as it waits."""
    waiter = script.start(WAITER)
    assert hear(waiter) == "asking"
    until_lines_wait(script, 1)
    os.kill(waiter.pid, signal.SIGSTOP)
    return waiter


def until_lines_wait(script: Script, count: int) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while script.rows("SELECT count(*) FROM waiting_line") != [(count,)]:
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def test_a_stopped_process_keeps_its_slot_and_loses_its_turn(script: Script) -> None:
    """Who goes on later goes on where it was."""
    holder = script.start(HOLDER)
    assert hear(holder) == "holding"
    stopped = stop_while_asking(script)
    waiter = script.start(WAITER)
    assert hear(waiter) == "asking"
    until_lines_wait(script, 2)
    os.kill(holder.pid, signal.SIGSTOP)
    time.sleep(0.3)
    assert script.rows("SELECT sum(slots) FROM taken_slots") == [(1,)]
    os.kill(holder.pid, signal.SIGCONT)
    say(holder)
    assert hear(waiter) == "holding"
    os.kill(stopped.pid, signal.SIGCONT)
    say(waiter)
    assert hear(stopped) == "holding"
    for process in (holder, stopped):
        say(process)
    for process in (holder, stopped, waiter):
        ended(process).check()


def test_a_forked_child_has_no_slot_of_its_parents_and_gives_none_back(script: Script) -> None:
    """Nor does it keep a slot of a parent that has died, however long it lives."""
    forks = """
        import os, sys, time
        from penstock.concurrency import concurrency, get_limit

        with concurrency("single"):
            child = os.fork()
            if child == 0:
                try:
                    with concurrency("single", timeout_seconds=0.2):
                        os._exit(3)
                except TimeoutError:
                    pass
        if child == 0:
            time.sleep(30)
            os._exit(0)
        with concurrency("single"):
            print("holding", get_limit("single").taken, flush=True)
            os.kill(os.getpid(), 9)
    """
    parent = script.start(forks)
    assert hear(parent) == "holding 1.0"
    waiter = script.start(WAITER)
    assert hear(waiter) == "asking"
    assert hear(waiter) == "holding"
    say(waiter)
    ended(waiter).check()


def test_a_script_that_ends_at_once_runs_what_it_has_submitted(script: Script) -> None:
    """As the interpreter ends, no thread can be started any more."""
    ends = """
        from penstock import task

        @task(tags=["single"])
        def last(number):
            return number

        last.map(range(20))
    """
    script.run(ends).check()
    assert len(script.completed("last")) == 20
