"""The members of a flow run, and how it is stopped: from any thread, and nothing gets lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock import Flow, Task, tags
from penstock._model.ids import new_id
from penstock._rules.admission import admit
from penstock._rules.current_run import current_run
from penstock._rules.effects import Error, Interrupted, Value
from penstock._rules.flow_run import FlowRun
from penstock._rules.run import Identity
from penstock._rules.stopping import Stopping
from penstock._rules.task_run import TaskRun
from penstock.exceptions import RunCancelled
from tests.rules.play import FLOW, WORK, Answer, Stage, flow_run, task_run, transition_named, work

FAILURE = Error(ValueError("no"))


def test_to_make_a_run_registers_nothing_and_reads_no_context() -> None:
    outer, task = flow_run(FLOW), Task[..., Any](work)
    token = current_run.set(outer)
    try:
        with tags("around"):
            made = TaskRun(task, None, (), {})
            below = TaskRun(task, outer, (), {})
    finally:
        current_run.reset(token)
    assert (made.parent, made.flow_run, made.tags) == (None, None, frozenset())
    assert below.flow_run is outer
    assert outer.members.all() == ()
    assert task.next_number() == 0


def test_an_admitted_run_has_a_position_a_number_and_is_joined() -> None:
    outer, task = flow_run(FLOW), Task[..., Any](work)
    first, second = (TaskRun(task, outer, (), {}) for _ in range(2))
    admit(second)
    admit(first)
    assert [(run.ordinal, run.number) for run in (second, first)] == [(0, 0), (1, 1)]
    assert outer.members.all() == (second, first)
    assert outer.members.not_driven() == [second, first]


def test_a_run_that_passes_is_let_go_of_and_counted() -> None:
    stage, outer = Stage(), flow_run(FLOW)
    runs = [TaskRun(WORK, outer, (), {}) for _ in range(2)]
    outcomes: list[Answer] = [Value(1), FAILURE]
    for run, outcome in zip(runs, outcomes, strict=True):
        admit(run, passes=True)
        stage.play(run, invoke=[outcome])
        outer.let_go_of(run)
        outer.let_go_of(run)  # once is enough
    assert outer.members.all() == ()
    passed = outer.members.passed
    assert passed is not None
    assert sorted(passed.types.values()) == [1, 1]
    assert passed.error is FAILURE.exception


def test_members_are_admitted_removed_and_let_go_of_by_many_threads() -> None:
    outer = flow_run(FLOW)

    def use(number: int) -> list[TaskRun]:
        stays, goes, passes = (TaskRun(WORK, outer, (), {}) for _ in range(3))
        for run in (stays, goes, passes):
            admit(run, passes=run is passes)
        outer.members.remove((goes,))
        passes.history = (transition_named("Completed"),)
        outer.let_go_of(passes)
        return [stays] if number % 2 else [stays, *use(number + 1)]

    with ThreadPoolExecutor(8) as pool:
        kept = [run for runs in pool.map(use, range(400)) for run in runs]
    assert set(outer.members.all()) == set(kept)
    assert outer.members.passed is not None
    assert outer.members.passed.types.total() == len(kept)
    assert sorted(run.ordinal for run in kept) == sorted({run.ordinal for run in kept})


def test_nothing_joins_a_flow_run_that_was_stopped() -> None:
    outer = flow_run(FLOW)
    outer.cancel()
    with pytest.raises(RunCancelled, match="was stopped"):
        task_run(WORK, parent=outer)
    assert outer.members.all() == ()


def test_a_cancellation_counts_more_than_a_failure_and_each_counts_once() -> None:
    stopping = Stopping()
    assert stopping.request(FAILURE)
    assert not stopping.request(Error(KeyError("later")))
    assert stopping.outcome is FAILURE
    assert stopping.request(Interrupted())
    assert not stopping.request(Interrupted())
    assert not stopping.request(FAILURE)
    assert stopping.take() == Interrupted()
    assert stopping.take() is None


def test_a_request_wakes_the_waits_of_its_own_attempt_alone() -> None:
    """The rules may take the outcome before the latch is set: the next attempt has another one."""
    stopping = Stopping()
    before = stopping.latch
    before.add_callback(lambda: None)
    stopping.request(FAILURE)
    assert before.is_set()
    stopping.take()
    assert stopping.latch is not before
    assert not stopping.latch.is_set()


def test_a_run_of_another_process_is_what_its_identity_says() -> None:
    task = Task[..., Any](work, tags=["own"])
    with tags("around"):
        definition = TaskRun(task, None, (), {}, frozenset({"around"})).definition
    history = (transition_named("Pending"), transition_named("Running"))
    identity = Identity(new_id(), "named", definition, history)
    flow: FlowRun = FlowRun.restored(Flow[..., Any](work), None, (), {}, identity)
    run = TaskRun.restored(task, flow, (1,), {}, identity)
    for restored in (flow, run):
        assert (restored.run_id, restored.name) == (identity.run_id, "named")
        assert restored.tags == {"own", "around"}
        assert (restored.state.name, restored.run_count) == ("Running", 1)
    assert flow.members.all() == ()
    assert task.next_number() == 0


def test_a_member_is_watched_until_it_has_ended_or_the_flow_run_has() -> None:
    outer = flow_run(FLOW)
    first, second = (TaskRun(WORK, outer, (), {}) for _ in range(2))
    members = outer.members
    members.watch(first)
    members.watch(second)
    assert members.unwatch(first)
    assert not members.unwatch(first)
    members.clear()
    assert not members.watched
