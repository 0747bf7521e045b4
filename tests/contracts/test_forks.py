"""A forked child begins anew: one list says what is set right in it, from the lowest layer up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from penstock._engine.process import AFTER_FORK_IN_CHILD
from tests.contracts.scripts import Script
from tests.test_architecture import LAYERS, PACKAGE, folder_of

has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Scripts on a fresh database."""
    made = Script(tmp_path / "home")
    yield made
    made.stop_all()


def test_one_module_registers_what_is_done_around_forks() -> None:
    registering = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "register_at_fork" in path.read_text(encoding="utf-8")
    ]
    assert registering == ["_engine/process.py"]


def test_lower_layers_are_set_right_before_those_that_use_them() -> None:
    homes = [hook.__module__ for hook in AFTER_FORK_IN_CHILD]
    assert homes == [
        "penstock._model.ids",
        "penstock._waiting.latch",
        "penstock._waiting.thread_reserve",
        "penstock._waiting.free_threads",
        "penstock._stores.reading.forks",
        "penstock._engine.process",
    ]
    heights = list(chain.from_iterable(LAYERS))
    floors = [heights.index(folder_of(home.removeprefix("penstock."))) for home in homes]
    assert floors == sorted(floors, reverse=True)


IN_CHILD = """
    import os, sys, threading, time

    # Registered first, so it is the last before the fork, and the first after it in the parent.
    about_to_fork, held, forked = threading.Event(), threading.Event(), threading.Event()
    os.register_at_fork(
        before=lambda: about_to_fork.set() or held.wait(), after_in_parent=forked.set
    )

    from penstock import flow, task
    from penstock._engine.process import present_engine
    from penstock._waiting import latch
    from penstock.task_runners import abandoned_threads

    @task
    def step(name):
        return name

    @task(timeout_seconds=0.01)
    def hangs():
        time.sleep(60)

    @flow
    def works(name):
        return step.submit(step.submit(name)).result()

    def hold():
        about_to_fork.wait()
        with latch._creating:
            held.set()
            forked.wait()

    assert works("before") == "before"
    hangs.call_state()
    assert len(abandoned_threads()) == 1
    mine = present_engine()
    threading.Thread(target=hold, daemon=True).start()
    child = os.fork()
    if child == 0:
        assert present_engine() is None
        assert mine.is_inherited
        assert abandoned_threads() == []
        assert works("in child") == "in child"
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert present_engine() is mine
    assert not mine.is_inherited
    print("done", flush=True)
    os._exit(0)
"""


IN_BETWEEN = """
    import os, sys
    from penstock import flow, task, temporary_settings

    @task
    def step(name):
        return name

    @flow
    def works(name):
        return step.submit(name).result()

    works("before")
    step.submit("beside")
    with temporary_settings(durability="strict"):
        works("inside")
        child = os.fork()
        if child == 0:
            works("child inside")
    if child == 0:
        works("child after")
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    works("after")
"""


@has_fork
def test_a_child_that_is_forked_under_other_settings_leaves_both_engines(script: Script) -> None:
    """Of the two that are open, none is paused by half, and none is taken up by the child."""
    done = script.run(IN_BETWEEN)
    done.check()
    assert sorted(map(str, script.completed("step"))) == sorted(
        ["before", "beside", "inside", "child inside", "child after", "after"]
    )


@has_fork
def test_a_child_has_nothing_that_its_parents_threads_hold(script: Script) -> None:
    """Nor does it wait for the lock that another thread holds in the moment of the fork."""
    done = script.run(IN_CHILD)
    assert done.status == 0, done.errors
    assert done.output == "done\n"
    assert "in child" in script.completed("step")
