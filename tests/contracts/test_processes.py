"""Whole processes: several on one file, killed ones, forked ones, and their exits."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import history, task
from penstock._engine.process import use_settings
from penstock.settings import load_settings
from tests.contracts.scripts import Script, ended, hear, say

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills and forks as POSIX has them")


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Scripts on a fresh database."""
    made = Script(tmp_path / "home")
    yield made
    made.stop_all()


# Several processes

WRITER = """
    import sys
    from penstock import flow, task

    first = int(sys.argv[1])

    @task
    def write(number):
        return number

    @flow
    def writes():
        for number in range(first, first + 100):
            write(number)
        return [future.result() for future in write.map(range(first + 100, first + 200))]

    print("ready", flush=True)
    sys.stdin.readline()
    writes()
"""


@pytest.mark.parametrize("count", [2, 4])
def test_processes_that_open_a_new_file_and_write_at_once_lose_nothing(
    script: Script, count: int
) -> None:
    starts = range(0, 1000 * count, 1000)
    processes = [script.start(WRITER, str(first)) for first in starts]
    for process in processes:
        assert hear(process) == "ready"
    assert not script.database.exists()
    for process in processes:
        say(process)
    for process in processes:
        ended(process).check()
    expected = [number for first in starts for number in range(first, first + 200)]
    assert sorted(map(str, script.completed("write"))) == sorted(map(str, expected))
    assert script.flow_states() == [("writes", "Completed")] * count
    script.check_integrity()


def test_one_process_reads_what_another_has_written(script: Script) -> None:
    cached = """
        import sys
        from penstock import task, history
        from penstock.tasks import task_input_hash

        @task(cache_key_fn=task_input_hash)
        def work(number):
            print("working")
            return (number, {number})

        print(work(5), len(history.task_runs()))
    """
    first, second = script.run(cached), script.run(cached)
    first.check()
    second.check()
    assert first.output == "working\n(5, {5}) 1\n"
    assert second.output == "(5, {5}) 2\n"


SQUARE = """
from penstock import task
from penstock.cache_policies import INPUTS

@task(cache_policy=INPUTS)
def square(number):
    return number * number

print(square.call_state(2).name)
"""
AS_A_MODULE = "import runpy; runpy.run_module('script_0', run_name='__main__', alter_sys=True)"


def test_scripts_share_no_results_and_a_module_started_by_name_does_with_those_who_import_it(
    script: Script,
) -> None:
    """Their tasks have one name, and are told apart by what the script is."""
    programs = [SQUARE, f"{SQUARE}# other", AS_A_MODULE, "import script_0"]
    outputs = [script.run(text).output for text in programs]
    assert outputs == ["Completed\n", "Completed\n", "Completed\n", "Cached\n"]
    keys = [f"{script.folder / name}.square" for name in ("script_0.py", "script_1.py")]
    assert script.rows("SELECT key FROM definition ORDER BY key") == [
        *((key,) for key in keys), ("script_0.square",)
    ]  # fmt: skip


# Killed processes

LOOP = """
    from penstock import flow, task

    @task
    def step(index):
        return index

    @flow
    def steps():
        index = 0
        while True:
            step(index)
            print(index, flush=True)
            index += 1

    steps()
"""


def kill_after(script: Script, lines: int) -> int:
    """Kill the loop when it has printed that many lines; the last step that it told of."""
    process = script.start(LOOP)
    while int(hear(process)) < lines:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    told = [int(line) for line in process.stdout if line.endswith("\n")]
    return told[-1] if told else lines


def check_prefix(script: Script) -> int:
    """The task runs in the file are the first ones; how many of them are complete."""
    script.check_integrity()
    rows = script.rows("SELECT state_name, id FROM task_run ORDER BY id")
    states = [state for state, _ in rows]
    complete = states.count("Completed")
    assert states[:complete] == ["Completed"] * complete
    assert len(states) <= complete + 1
    assert script.completed("step") == list(range(complete))
    return complete


@pytest.mark.parametrize("lines", [3, 50, 700])
def test_after_a_kill_the_file_holds_a_prefix_of_what_happened(script: Script, lines: int) -> None:
    """And the next process takes the file as it is."""
    kill_after(script, lines)
    complete = check_prefix(script)
    settings = load_settings({"PENSTOCK_HOME": str(script.folder)})

    @task
    def step(index: int) -> int:
        return index

    with use_settings(settings):
        assert step(-1) == -1
        assert len(history.task_runs(limit=10_000, state="COMPLETED")) == complete + 1
        killed = [run.state.name for run in history.flow_runs()]
        assert killed == ["Running"] or (not killed and not complete)


def test_after_a_kill_a_strict_history_holds_all_that_was_seen(script: Script) -> None:
    script.environment["PENSTOCK_DURABILITY"] = "strict"
    last = kill_after(script, 100)
    assert check_prefix(script) > last


def test_a_relaxed_history_is_behind_by_moments_only(script: Script) -> None:
    """What was seen before the last flush is there after a kill."""
    text = """
        import os, signal
        from penstock import history, task

        @task
        def step(index):
            return index

        for index in range(100):
            step(index)
        history.task_runs(limit=1)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert script.run(text).status == -signal.SIGKILL
    assert script.completed("step") == list(range(100))


# Forked processes

FORK = """
    import os, sys
    from penstock import flow, task

    @task
    def step(name):
        return name

    @task
    async def async_step(name):
        return name

    @flow
    def in_child():
        futures = [*step.map([f"child {i}" for i in range(20)]), async_step.submit("async child")]
        return [future.result() for future in futures]

    @flow
    def in_parent():
        step("before")
        assert step.submit("submitted before").result() == "submitted before"
        assert async_step.submit("async before").result() == "async before"
        for _ in range(2):
            child = os.fork()
            if child == 0:
                in_child()
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            assert step.submit("after").result() == "after"
        assert async_step.submit("async after").result() == "async after"

    in_parent()
"""


def test_a_fork_in_the_middle_of_a_flow_loses_and_doubles_nothing(script: Script) -> None:
    done = script.run(FORK, within=6)
    assert done.status == 0, done.errors
    assert sorted(map(str, script.completed("step"))) == sorted(
        ["before", "submitted before", "after", "after"] + [f"child {i}" for i in range(20)] * 2
    )
    assert sorted(map(str, script.completed("async_step"))) == sorted(
        ["async before", "async after", "async child", "async child"]
    )
    assert sorted(script.flow_states()) == [
        ("in-child", "Completed"),
        ("in-child", "Completed"),
        ("in-parent", "Completed"),
    ]
    script.check_integrity()


def test_a_child_forked_while_tasks_are_at_work_can_leave(script: Script) -> None:
    """The tasks are the parent's; the child has no threads for them and does not wait."""
    text = """
        import os, sys, threading
        from penstock import flow, task

        gate = threading.Event()

        @task
        def step(name):
            gate.wait(10)
            return name

        @task
        def child_step(name):
            return name

        @flow
        def in_child():
            return child_step.submit("child").result()

        @flow
        def in_parent():
            futures = step.map(["a", "b", "c"])
            child = os.fork()
            if child == 0:
                in_child()
                sys.exit(7)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            gate.set()
            return status, futures.result()

        assert in_parent() == (7, ["a", "b", "c"])
    """
    done = script.run(text, within=5)
    assert done.status == 0, done.errors
    assert sorted(map(str, script.completed("step"))) == ["a", "b", "c"]
    assert script.completed("child_step") == ["child"]


def test_a_child_forked_in_the_middle_of_a_commit_can_write(script: Script) -> None:
    """SQLite keeps its locks in the process's memory: a child must not inherit one as held."""
    text = """
        import os, sys, threading, time
        from penstock import task
        from penstock._stores.sqlite import target

        in_transaction = threading.Event()

        def execute_slowly(connection, statements):
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(*statement)
            in_transaction.set()
            time.sleep(0.2)
            connection.execute("COMMIT")

        target._execute = execute_slowly

        @task
        def step(name):
            return name

        step("parent")
        assert in_transaction.wait(5)
        child = os.fork()
        if child == 0:
            step("child")
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        step("parent again")
    """
    done = script.run(text, within=6)
    assert done.status == 0, done.errors
    assert sorted(map(str, script.completed("step"))) == ["child", "parent", "parent again"]
    script.check_integrity()


def test_several_threads_may_fork_at_the_same_time_while_others_work(script: Script) -> None:
    text = """
        import os, sys, threading
        from penstock import flow, history, task

        @task
        def step(name):
            return name

        @flow
        def works(name):
            return step.map([name] * 5).result()

        stop = threading.Event()

        def work():
            while not stop.is_set():
                works("parent")
                history.task_runs(limit=1)

        def fork(name):
            for _ in range(3):
                child = os.fork()
                if child == 0:
                    try:
                        works(name)
                        import penstock
                        penstock.shutdown()
                        os._exit(7)
                    finally:
                        os._exit(1)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

        works("parent")
        worker = threading.Thread(target=work)
        worker.start()
        forkers = [threading.Thread(target=fork, args=(f"child {i}",)) for i in range(2)]
        for thread in forkers:
            thread.start()
        for thread in forkers:
            thread.join()
        stop.set()
        worker.join()
    """
    done = script.run(text, within=15)
    assert (done.status, done.errors) == (0, "")
    results = list(map(str, script.completed("step")))
    assert [results.count(f"child {number}") for number in range(2)] == [15, 15]
    assert set(script.flow_states()) == {("works", "Completed")}
    script.check_integrity()


def test_a_fork_while_another_thread_opens_the_file_leaves_the_child_free(script: Script) -> None:
    text = """
        import os, sqlite3, sys, threading, time
        import penstock
        from penstock import task
        from penstock._stores.sqlite import store as sqlite

        opening = threading.Event()
        prepare_file = sqlite.prepare_file

        def prepare_file_slowly(path, synchronous):
            prepare_file(path, synchronous)
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            opening.set()
            time.sleep(0.2)
            connection.execute("ROLLBACK")
            connection.close()

        @task
        def step(name):
            return name

        sqlite.prepare_file = prepare_file_slowly
        thread = threading.Thread(target=step, args=("parent",))
        thread.start()
        assert opening.wait(5)
        child = os.fork()
        if child == 0:
            sqlite.prepare_file = prepare_file
            step("child")
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        thread.join()
    """
    done = script.run(text, within=6)
    assert done.status == 0, done.errors
    assert sorted(map(str, script.completed("step"))) == ["child", "parent"]
    script.check_integrity()


def test_a_fork_while_another_thread_deletes_leaves_the_child_free(script: Script) -> None:
    """Pruning and clearing have a connection and a transaction of their own."""
    text = """
        import os, sys, threading, time
        from penstock import history, task
        from penstock._stores.sqlite import store as sqlite

        inside = threading.Event()
        begin = sqlite._transaction.__enter__

        def begin_and_take_long(self):
            connection = begin(self)
            inside.set()
            time.sleep(0.2)
            return connection

        sqlite._transaction.__enter__ = begin_and_take_long

        @task
        def step(name):
            return name

        step("parent")
        thread = threading.Thread(target=history.clear_cache)
        thread.start()
        assert inside.wait(5)
        child = os.fork()
        if child == 0:
            step("child")
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        thread.join()
    """
    done = script.run(text, within=5)
    assert done.status == 0, done.errors
    assert sorted(map(str, script.completed("step"))) == ["child", "parent"]
    script.check_integrity()


def test_a_forked_child_may_outlive_its_parent(script: Script) -> None:
    """The parent closes the file while the child is using it; the child's rows stay."""
    text = """
        import os, sys
        import penstock
        from penstock import task
        from penstock._engine.process import get_engine

        @task
        def step(name):
            return name

        to_parent, to_child = os.pipe(), os.pipe()
        step("parent")
        get_engine().commit().wait()
        child = os.fork()
        if child == 0:
            step("child")
            assert len(penstock.history.task_runs()) == 2
            os.write(to_parent[1], b"x")
            os.read(to_child[0], 1)
            for index in range(20):
                step("child again")
            assert len(penstock.history.task_runs()) == 22
            sys.exit(7)
        os.read(to_parent[0], 1)
        penstock.shutdown()
        os.write(to_child[1], b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert len(penstock.history.task_runs()) == 22
    """
    done = script.run(text, within=6)
    assert done.status == 0, done.errors
    assert sorted(map(str, script.completed("step"))) == ["child"] + ["child again"] * 20 + [
        "parent"
    ]
    script.check_integrity()


def test_a_flow_in_a_forked_child_of_multiprocessing_is_flushed(script: Script) -> None:
    """Such a child leaves without the exit handlers of the interpreter."""
    text = """
        import multiprocessing
        from penstock import flow, task

        @task
        def step(name):
            return name

        @flow
        def works(name):
            return step(name)

        if __name__ == "__main__":
            works("parent")
            fork = multiprocessing.get_context("fork")
            children = [fork.Process(target=works, args=(f"child {i}",)) for i in range(2)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            assert [child.exitcode for child in children] == [0, 0]
    """
    script.run(text).check()
    assert sorted(map(str, script.completed("step"))) == ["child 0", "child 1", "parent"]
    assert script.flow_states() == [("works", "Completed")] * 3


def test_a_child_forked_by_a_task_on_a_worker_leaves_the_queue_to_the_parent(
    script: Script,
) -> None:
    """It runs a flow of its own and leaves; the parent's tasks are run once, by the parent."""
    text = """
        import os, threading, time
        import penstock
        from penstock import flow, task
        from penstock.task_runners import ConcurrentTaskRunner

        forked = threading.Event()

        @task
        def step(name):
            time.sleep(0.02)
            print(name, os.getpid(), flush=True)
            return name

        @flow
        def in_child():
            return step.submit("child").result()

        @task
        def fork(queued):
            queued.wait(5)
            child = os.fork()
            if child == 0:
                in_child()
                penstock.shutdown()
                os._exit(7)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
        def in_parent():
            queued = threading.Event()
            forking = fork.submit(queued)
            futures = step.map(["a", "b", "c"])
            queued.set()
            return forking.result(), futures.result()

        print(in_parent(), os.getpid(), flush=True)
    """
    done = script.run(text, within=6)
    assert done.status == 0, done.errors
    *lines, last = done.output.splitlines()
    parent = last.split()[-1]
    assert last.startswith("(7, ['a', 'b', 'c'])")
    ran = sorted((line.split()[0], line.split()[1] == parent) for line in lines)
    assert ran == [("a", True), ("b", True), ("c", True), ("child", False)]
    assert sorted(map(str, script.completed("step"))) == ["a", "b", "c", "child"]


def test_flows_in_a_process_pool_are_flushed(script: Script) -> None:
    text = """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        from penstock import flow, task

        @task
        def step(name):
            return name

        @flow
        def works(name):
            return step(name)

        def call(name):
            return works(name)

        if __name__ == "__main__":
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(2, mp_context=spawn) as pool:
                assert list(pool.map(call, "abcd")) == list("abcd")
    """
    script.run(text).check()
    assert sorted(map(str, script.completed("step"))) == list("abcd")


# Exits

WORKS = """
    import sys
    from penstock import flow, task

    @task
    def step(index):
        return index

    @flow
    def works(leave=None):
        for index in range(30):
            step(index)
        futures = step.map(range(30, 60))
        if leave is not None:
            raise leave
        return futures.result()
"""
ENDS: dict[str, tuple[str, int | None, str]] = {
    "right after the flow": ("works()", 0, "Completed"),
    "with sys.exit after the flow": ("works(); sys.exit(3)", 3, "Completed"),
    "with sys.exit inside of the flow": ("works(SystemExit(3))", 3, "Crashed"),
    "with an exception out of the flow": ("works(ValueError('no'))", 1, "Failed"),
    "with an exception after the flow": ("works(); raise ValueError('no')", 1, "Completed"),
    "with Ctrl-C inside of the flow": ("works(KeyboardInterrupt())", None, "Cancelled"),
}


@pytest.mark.parametrize("end", ENDS)
def test_all_is_on_disk_when_a_script_ends(script: Script, end: str) -> None:
    line, status, state = ENDS[end]
    done = script.run(WORKS + f"\n    {line}\n")
    assert done.status == status or (status is None and done.status != 0), done.errors
    assert script.flow_states() == [("works", state)]
    completed = script.completed("step")
    assert completed[:30] == list(range(30))
    states = script.task_states()
    if state in {"Completed", "Failed"}:
        assert sorted(map(str, completed)) == sorted(map(str, range(60)))
    assert sum(states.values()) == 60
    assert set(states) <= {"Completed", "Cancelled"}


def test_tasks_submitted_outside_of_flows_are_run_before_the_script_ends(script: Script) -> None:
    """Also those that they submit themselves, and those that wait for a retry."""
    text = """
        from penstock import task

        attempts = []

        @task
        def step(name):
            return name

        @task
        async def async_step(name):
            return name

        @task(retries=1, retry_delay_seconds=0.1)
        def flaky(name):
            attempts.append(name)
            if len(attempts) == 1:
                raise ValueError("not yet")
            return name

        first = step.submit("first")
        step.submit(first)
        async_step.submit("async")
        flaky.submit("flaky")
    """
    done = script.run(text)
    assert done.status == 0
    assert script.completed("step") == ["first", "first"]
    assert script.completed("async_step") == ["async"]
    assert script.completed("flaky") == ["flaky"]


def test_what_tasks_outside_of_flows_submit_is_run_before_the_script_ends(script: Script) -> None:
    text = """
        import time
        from penstock import task

        @task
        def leaf(name):
            time.sleep(0.05)
            return name

        @task
        def branch(name):
            leaf.submit(name)
            return name

        @task
        def root(name):
            time.sleep(0.05)
            branch.submit(name)
            return name

        root.submit("a")
    """
    script.run(text).check()
    completed = [script.completed(name) for name in ("root", "branch", "leaf")]
    assert completed == [["a"], ["a"], ["a"]]


def test_an_async_task_whose_loop_has_ended_does_not_hold_the_exit_up(script: Script) -> None:
    """Submitted outside of a flow, in a loop that ends at once."""
    text = """
        import sys
        import anyio
        from penstock import task

        @task
        async def step(name):
            await anyio.sleep(60)

        async def main():
            step.submit("a")

        anyio.run(main, backend=sys.argv[1])
    """
    for backend in ("asyncio", "trio"):
        done = script.run(text, backend, within=5)
        assert done.status == 0, done.errors
    assert script.task_states() == {"Cancelled": 2}


def test_a_script_that_used_workers_ends_at_once(script: Script) -> None:
    """Resting workers hold no exit up."""
    text = """
        import time
        from penstock import flow, task

        @task
        def step(index):
            time.sleep(0.02)

        @task(timeout_seconds=5)
        def in_time(index):
            pass

        @flow
        def works():
            [*step.map(range(20)), *in_time.map(range(3))]

        works()
    """
    script.run(text, within=3).check()


def test_a_result_that_waits_for_the_disk_is_not_lost_at_exit(script: Script) -> None:
    """Another process holds the file for a while when this one ends."""
    holder = """
        import sqlite3, sys, time
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        print("held", flush=True)
        sys.stdin.readline()
        connection.execute("ROLLBACK")
        connection.close()
    """
    script.run(WORKS + "\n    works()\n").check()
    other = script.start(holder, str(script.database))
    assert hear(other) == "held"
    second = script.start(WORKS + "\n    works(); print('done', flush=True)\n")
    assert hear(second) == "done"
    assert second.poll() is None
    say(other)
    ended(other).check()
    ended(second).check()
    assert len(script.completed("step")) == 120
