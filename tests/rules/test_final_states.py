"""The rules of the final states, one by one; docs/guides/results-and-states.md states them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from penstock import Flow, Task
from penstock._calls.futures import FutureList, TaskFuture
from penstock._rules.effects import DeadlinePassed, Error, Interrupted, Outcome, Value, WaitFor
from penstock._rules.flow_run import FlowRun
from penstock.exceptions import RunNotReady, RunTimedOut
from penstock.states import (
    Cached,
    Cancelled,
    Completed,
    Crashed,
    Failed,
    Pending,
    Running,
    Scheduled,
    State,
    StateType,
)
from penstock.states import TimedOut as TimedOutState
from tests.rules.play import (
    BAD_CODE,
    FLOW,
    START,
    WORK,
    Played,
    Stage,
    flow_run,
    future,
    future_of,
    state_named,
    task_run,
    then,
    work,
)

COMPLETED, FAILED = StateType.COMPLETED, StateType.FAILED
CANCELLED, CRASHED, PENDING = StateType.CANCELLED, StateType.CRASHED, StateType.PENDING

SLOW_FLOW = Flow[..., Any](work, timeout_seconds=5)
SLOW_TASK = Task[..., Any](work, timeout_seconds=5)

Scene = Callable[[Stage], Played]


class Case(NamedTuple):
    """What happens, and the state that the run ends in, as it is logged."""

    rule: int
    title: str
    play: Scene
    type: StateType
    shown: str


def ends_with(outcome: Outcome) -> Scene:
    """A flow whose code ends so, having called nothing."""
    return lambda stage: stage.play(flow_run(SLOW_FLOW), invoke=[outcome])


def task_ends_with(outcome: Outcome) -> Scene:
    """A task whose code ends so."""
    return lambda stage: stage.play(task_run(SLOW_TASK), invoke=[outcome])


def returns(value: object) -> Scene:
    """A flow that returns this value, having called nothing."""
    return ends_with(Value(value))


def returns_made(make: Callable[[Stage], object]) -> Scene:
    """A flow that returns what `make` makes of runs that belong to no flow."""
    return lambda stage: stage.play(flow_run(FLOW), invoke=[Value(make(stage))])


def task_returns_made(make: Callable[[Stage], object]) -> Scene:
    """A task that returns what `make` makes."""
    return lambda stage: stage.play(task_run(WORK), invoke=[Value(make(stage))])


def after(*children: str, outcome: Outcome | None = None) -> Scene:
    """A flow whose tasks ended so; it returns None unless it ends otherwise."""

    def scene(stage: Stage) -> Played:
        run = flow_run(FLOW)

        def code() -> Outcome:
            for name in children:
                stage.ended(name, run)
            return outcome or Value(None)

        return stage.play(run, invoke=[code])

    return scene


def returns_completed_future_after(*children: str) -> Scene:
    """A flow whose tasks ended so, and that returns a completed future of another run."""
    return lambda stage: after(*children, outcome=Value([future("Completed", stage)]))(stage)


def after_subflows(*outcomes: Outcome) -> Scene:
    """A flow that returns None; the code of its subflows ended so."""

    def scene(stage: Stage) -> Played:
        run = flow_run(FLOW)

        def code() -> None:
            for outcome in outcomes:
                stage.play(flow_run(FLOW, parent=run), invoke=[outcome])

        return stage.play(run, invoke=[then(code, Value(None))])

    return scene


def futures_of(*names: str) -> Callable[[Stage], list[TaskFuture[Any]]]:
    return lambda stage: [future(name, stage) for name in names]


def joined_late(outcome: Outcome, name: str) -> Scene:
    """A flow with a task that ends only while the flow joins it."""

    def scene(stage: Stage) -> Played:
        run = flow_run(FLOW)
        return stage.play(run, invoke=[outcome], join=[lambda: stage.ended(name, run)])

    return scene


def with_upstream(name: str) -> Scene:
    """A task whose argument holds the future of a run that ended so."""
    return lambda stage: stage.play(task_run(WORK, [future(name, stage)]))


def with_state_as_upstream(state: State[Any]) -> Scene:
    """A task whose argument is a state."""
    return lambda stage: stage.play(task_run(WORK, state))


def subflow_with_upstream(name: str) -> Scene:
    """A subflow whose argument is the future of a run that ended so."""
    return lambda stage: stage.play(flow_run(FLOW, future(name, stage), parent=flow_run(FLOW)))


EXCEPTION = "Failed('Flow run encountered an exception. ValueError: bad code')"
TASK_EXCEPTION = "Failed('Task run encountered an exception.')"
ALL = "Completed('All states completed.')"
PLAIN = "Completed(None)"
EXIT = "Crashed('Execution was ended by SystemExit(3).')"
CTRL_C = "Cancelled('Execution was interrupted by KeyboardInterrupt.')"
STOPPED = "Cancelled('Execution was cancelled.')"
CASES: list[Case] = [
    # 1: an exception, the run's own timeout, a cancellation, the end of the process
    Case(1, "exception", ends_with(Error(BAD_CODE)), FAILED, EXCEPTION),
    Case(1, "exception of a task", task_ends_with(Error(BAD_CODE)), FAILED, TASK_EXCEPTION),
    Case(1, "exception though all tasks completed", after("Completed", outcome=Error(BAD_CODE)),
         FAILED, EXCEPTION),
    Case(1, "a TimeoutError of the user", ends_with(Error(TimeoutError("mine"))), FAILED,
         "Failed('Flow run encountered an exception. TimeoutError: mine')"),
    Case(1, "timeout", ends_with(DeadlinePassed()), FAILED,
         "TimedOut('Flow run exceeded timeout of 5.0 seconds', type=FAILED)"),
    Case(1, "timeout of a task", task_ends_with(DeadlinePassed()), FAILED,
         "TimedOut('Task run exceeded timeout of 5.0 seconds', type=FAILED)"),
    Case(1, "cancellation", ends_with(Interrupted()), CANCELLED, STOPPED),
    Case(1, "cancellation of a task", task_ends_with(Interrupted()), CANCELLED, STOPPED),
    Case(1, "Ctrl-C", ends_with(Interrupted(KeyboardInterrupt())), CANCELLED, CTRL_C),
    Case(1, "sys.exit", ends_with(Interrupted(SystemExit(3))), CRASHED, EXIT),
    Case(1, "sys.exit in a task", task_ends_with(Interrupted(SystemExit(3))), CRASHED, EXIT),
    # 2: a state made by hand
    Case(2, "Completed", returns(Completed("fine")), COMPLETED, "Completed('fine')"),
    Case(2, "Cached", returns(Cached("as before")), COMPLETED,
         "Cached('as before', type=COMPLETED)"),
    Case(2, "Failed", returns(Failed("no luck")), FAILED, "Failed('no luck')"),
    Case(2, "TimedOut", returns(TimedOutState("slow")), FAILED, "TimedOut('slow', type=FAILED)"),
    Case(2, "Cancelled", returns(Cancelled("not today")), CANCELLED, "Cancelled('not today')"),
    Case(2, "Crashed", returns(Crashed("boom")), CRASHED, "Crashed('boom')"),
    Case(2, "a name of the user's own", returns(State(COMPLETED, "Skipped", "empty", START)),
         COMPLETED, "Skipped('empty', type=COMPLETED)"),
    Case(2, "of a task", task_ends_with(Value(Failed("no luck"))), FAILED, "Failed('no luck')"),
    Case(2, "though tasks failed", after("Failed", outcome=Value(Completed("fine"))), COMPLETED,
         "Completed('fine')"),
    Case(2, "Running is not final", returns(Running("still")), FAILED,
         'Failed("The returned state Running(\'still\') is not a final one.")'),
    Case(2, "Pending is not final", returns(Pending()), FAILED,
         "Failed('The returned state Pending(None) is not a final one.')"),
    Case(2, "Scheduled is not final", returns(Scheduled()), FAILED,
         "Failed('The returned state Scheduled(None) is not a final one.')"),
    # 3: futures and states, alone or in a collection of nothing but those
    Case(3, "a completed future", returns_made(lambda s: future("Completed", s)), COMPLETED, ALL),
    Case(3, "a cached future", returns_made(lambda s: future("Cached", s)), COMPLETED, ALL),
    Case(3, "a failed future", returns_made(lambda s: future("Failed", s)), FAILED,
         "Failed('1/1 states failed.')"),
    Case(3, "a future that timed out", returns_made(lambda s: future("TimedOut", s)), FAILED,
         "Failed('1/1 states failed.')"),
    Case(3, "a crashed future", returns_made(lambda s: future("Crashed", s)), FAILED,
         "Failed('1/1 states failed.')"),
    Case(3, "a future that was never ready", returns_made(lambda s: future("NotReady", s)), FAILED,
         "Failed('1/1 states failed.')"),
    Case(3, "a cancelled future", returns_made(lambda s: future("Cancelled", s)), CANCELLED,
         "Cancelled('1/1 states cancelled.')"),
    Case(3, "the state of a completed task run",
         returns_made(lambda s: s.ended("Completed").state), COMPLETED, ALL),
    Case(3, "the state of a failed task run", returns_made(lambda s: s.ended("Failed").state),
         FAILED, "Failed('1/1 states failed.')"),
    Case(3, "the state of a task run that was never ready",
         returns_made(lambda s: s.ended("NotReady").state), FAILED,
         "Failed('1/1 states failed.')"),
    Case(3, "the state of a failed subflow run",
         returns_made(lambda s: ends_with(Error(BAD_CODE))(s).state), FAILED,
         "Failed('1/1 states failed.')"),
    Case(3, "a list, all completed", returns_made(futures_of("Completed", "Cached")), COMPLETED,
         ALL),
    Case(3, "a list, one of three failed",
         returns_made(futures_of("Completed", "Failed", "Completed")), FAILED,
         "Failed('1/3 states failed.')"),
    Case(3, "a list, whatever way they failed",
         returns_made(futures_of("Failed", "TimedOut", "Crashed", "NotReady", "Completed")),
         FAILED, "Failed('4/5 states failed.')"),
    Case(3, "a list, cancelled before failed",
         returns_made(futures_of("Failed", "Cancelled", "Completed")), CANCELLED,
         "Cancelled('1/3 states cancelled.')"),
    Case(3, "a tuple", returns_made(lambda s: tuple(futures_of("Completed", "Failed")(s))), FAILED,
         "Failed('1/2 states failed.')"),
    Case(3, "a set", returns_made(lambda s: set(futures_of("Completed", "Failed")(s))), FAILED,
         "Failed('1/2 states failed.')"),
    Case(3, "a frozenset", returns_made(lambda s: frozenset(futures_of("Completed")(s))),
         COMPLETED, ALL),
    Case(3, "what map returns", returns_made(lambda s: FutureList(futures_of("Failed")(s))),
         FAILED, "Failed('1/1 states failed.')"),
    Case(3, "states made by hand, in a list", returns([Completed(), Failed(), Failed()]), FAILED,
         "Failed('2/3 states failed.')"),
    Case(3, "futures and states mixed",
         returns_made(lambda s: [future("Completed", s), Cancelled()]), CANCELLED,
         "Cancelled('1/2 states cancelled.')"),
    Case(3, "a future, of a task",
         task_returns_made(lambda s: future("Failed", s)), FAILED,
         "Failed('1/1 states failed.')"),
    Case(3, "decides against children",
         returns_completed_future_after("Failed"), COMPLETED, ALL),
    # 4: None
    Case(4, "no children", returns(None), COMPLETED, ALL),
    Case(4, "children completed", after("Completed", "Cached"), COMPLETED, ALL),
    Case(4, "a child failed", after("Completed", "Failed", "Completed"), FAILED,
         "Failed('1/3 states failed.')"),
    Case(4, "the only child failed", after("Failed"), FAILED, "Failed('1/1 states failed.')"),
    Case(4, "a child timed out, one crashed", after("TimedOut", "Crashed"), FAILED,
         "Failed('2/2 states failed.')"),
    Case(4, "a child was cancelled", after("Completed", "Cancelled"), CANCELLED,
         "Cancelled('1/2 states cancelled.')"),
    Case(4, "cancelled before failed", after("Failed", "Cancelled", "Completed"), CANCELLED,
         "Cancelled('1/3 states cancelled.')"),
    Case(4, "a child was never ready", after("Completed", "NotReady"), FAILED,
         "Failed('1/2 states failed.')"),
    Case(4, "subflows completed", after_subflows(Value(5), Value(None)), COMPLETED, ALL),
    Case(4, "a subflow failed", after_subflows(Value(5), Error(BAD_CODE)), FAILED,
         "Failed('1/2 states failed.')"),
    Case(4, "a task that returns None", task_ends_with(Value(None)), COMPLETED, PLAIN),
    # 5: anything else is the result
    Case(5, "a number", returns(5), COMPLETED, PLAIN),
    Case(5, "False", returns(False), COMPLETED, PLAIN),
    Case(5, "though tasks failed", after("Failed", "Cancelled", outcome=Value(5)), COMPLETED,
         PLAIN),
    Case(5, "an empty list", returns([]), COMPLETED, PLAIN),
    Case(5, "an empty list, though tasks failed", after("Failed", outcome=Value([])), COMPLETED,
         PLAIN),
    Case(5, "an empty set", returns(set[int]()), COMPLETED, PLAIN),
    Case(5, "an empty tuple", returns(()), COMPLETED, PLAIN),
    Case(5, "a mixed list", returns_made(lambda s: [future("Failed", s), 5]), COMPLETED, PLAIN),
    Case(5, "a mixed tuple, the future last", returns_made(lambda s: (5, future("Failed", s))),
         COMPLETED, PLAIN),
    Case(5, "a list and None", returns_made(lambda s: [future("Failed", s), None]), COMPLETED,
         PLAIN),
    Case(5, "a nested list", returns_made(lambda s: [[future("Failed", s)]]), COMPLETED, PLAIN),
    Case(5, "a dict of futures", returns_made(lambda s: {"a": future("Failed", s)}), COMPLETED,
         PLAIN),
    Case(5, "an exception that is returned", returns(BAD_CODE), COMPLETED, PLAIN),
    Case(5, "a value of a task", task_ends_with(Value([1, 2])), COMPLETED, PLAIN),
    # 6: all that was submitted is joined first
    Case(6, "a late child decides", joined_late(Value(None), "Failed"), FAILED,
         "Failed('1/1 states failed.')"),
    Case(6, "a late child, all well", joined_late(Value(None), "Completed"), COMPLETED, ALL),
    Case(6, "after an exception", joined_late(Error(BAD_CODE), "Completed"), FAILED, EXCEPTION),
    Case(6, "before a value", joined_late(Value(5), "Failed"), COMPLETED, PLAIN),
    # 7: an upstream that did not complete
    Case(7, "a completed upstream", with_upstream("Completed"), COMPLETED, PLAIN),
    Case(7, "a cached upstream", with_upstream("Cached"), COMPLETED, PLAIN),
    *[
        Case(7, f"{name} upstream of a {kind}", scene(name), PENDING, "NotReady(")
        for name in ("Failed", "TimedOut", "Cancelled", "Crashed", "NotReady")
        for kind, scene in (("task", with_upstream), ("subflow", subflow_with_upstream))
    ],
    Case(7, "a failed state as an argument", with_state_as_upstream(Failed("x")), PENDING,
         "NotReady("),
    Case(7, "a running state as an argument", with_state_as_upstream(Running()), PENDING,
         "NotReady("),
    Case(7, "a completed state as an argument", with_state_as_upstream(Completed(data=5)),
         COMPLETED, PLAIN),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{case.rule}: {case.title}" for case in CASES])
def test_the_seven_rules(case: Case) -> None:
    played = case.play(Stage())
    state = played.state
    assert str(state).startswith(case.shown)
    assert state.type is case.type
    if case.shown != "NotReady(":
        assert str(state) == case.shown
        assert state.is_final()
    if isinstance(played.run, FlowRun) and "invoke" in played.steps:
        after_code = played.steps[played.steps.index("invoke") + 1]
        assert after_code.startswith("join"), "rule 6: a flow joins before anything is decided"


# What the states hold


def test_a_plain_value_is_the_result_and_the_very_same_object() -> None:
    for value in ([], [1, [2]], {"a": 1}, {1, 2}, (1,), object()):
        assert returns(value)(Stage()).state.result() is value


def test_the_exception_is_the_result_of_a_failed_run() -> None:
    for scene in (ends_with(Error(BAD_CODE)), task_ends_with(Error(BAD_CODE))):
        state = scene(Stage()).state
        assert state.result(raise_on_failure=False) is BAD_CODE
        assert state.details.traceback is not None
        assert "ValueError: bad code" in state.details.traceback


def test_a_timeout_raises_run_timed_out_with_the_message_of_the_state() -> None:
    state = task_ends_with(DeadlinePassed())(Stage()).state
    with pytest.raises(RunTimedOut, match=r"exceeded timeout of 5\.0 seconds"):
        state.result()


def test_a_state_made_by_hand_gives_its_data_as_the_result() -> None:
    assert returns(Completed(data=5))(Stage()).state.result() == 5
    assert returns(Completed())(Stage()).state.result() is None
    failed = returns(Failed("bad", data=BAD_CODE))(Stage()).state
    assert failed.result(raise_on_failure=False) is BAD_CODE


def test_a_state_made_by_hand_becomes_a_state_of_the_run() -> None:
    played = returns(Completed(data=5))(Stage())
    assert played.state.flow_run_id == played.run.id
    assert played.state.timestamp == START


def test_the_states_that_decided_are_the_child_states_in_their_order() -> None:
    stage = Stage()
    run = flow_run(FLOW)
    given: list[Any] = [
        future("Completed", stage, run),
        Completed("by hand"),
        future("Cached", stage, run),
    ]
    stage.play(run, invoke=[Value(given)])
    assert run.state.child_states == (given[0].state, given[1], given[2].state)


def test_a_flow_that_returned_none_has_the_states_of_its_own_calls_as_child_states() -> None:
    """What a task called in turn is joined, but it is the task that answers for it."""
    stage = Stage()
    run = flow_run(FLOW)

    def code() -> Outcome:
        first = task_run(WORK, parent=run)
        stage.play(first, invoke=[then(lambda: stage.ended("Failed", first), Value(1))])
        stage.play(flow_run(FLOW, parent=run), invoke=[Value(2)])
        return Value(None)

    stage.play(run, invoke=[code])
    assert [state.name for state in run.state.child_states] == ["Completed", "Completed"]
    assert [type(member).__name__ for member in run.members.all()] == [
        "TaskRun",
        "TaskRun",
        "FlowRun",
    ]
    assert str(run.state) == ALL


def test_the_first_exception_of_the_parts_is_that_of_the_whole() -> None:
    state = after("Completed", "Failed", "TimedOut")(Stage()).state
    with pytest.raises(ValueError, match="bad code"):
        state.result()


def test_a_run_that_was_never_ready_did_not_start_and_names_the_upstream() -> None:
    stage = Stage()
    upstream = stage.ended("Failed")
    played = stage.play(task_run(WORK, {"deep": [future_of(upstream)]}))
    assert played.steps == ["Pending", "wait", "NotReady"]
    assert upstream.name in str(played.state.message)
    assert str(upstream.state) in str(played.state.message)
    assert played.run.run_count == 0
    with pytest.raises(RunNotReady, match=upstream.name):
        played.state.result()


def test_what_the_first_upstream_of_a_chain_raised_is_the_cause_of_all_that_never_started() -> None:
    stage = Stage()
    first = stage.ended("Failed")
    second = stage.play(task_run(WORK, {"x": future_of(first)})).run
    third = stage.play(task_run(WORK, {"x": future_of(second)}))
    by_state = stage.play(task_run(WORK, {"x": first.state}))
    assert isinstance(first.error, ValueError)
    for run in (second, third.run, by_state.run):
        assert isinstance(run.error, RunNotReady)
        assert run.error.__cause__ is first.error
    assert third.state.message == second.state.message
    assert "'run' did not complete" in str(by_state.state.message)
    text = str(third.state.details.traceback)  # the run that failed has the rest
    assert text.startswith("penstock.exceptions.RunNotReady: Upstream ")
    assert text.count("\n") == 1


def test_where_the_upstream_raised_nothing_there_is_no_cause() -> None:
    stage = Stage()
    for made in (Failed("by hand"), state_named("NotReady", None, START)):
        played = stage.play(task_run(WORK, {"x": made}))
        assert isinstance(played.run.error, RunNotReady)
        assert played.run.error.__cause__ is None


def test_arguments_hold_the_values_of_the_upstreams_when_the_code_runs() -> None:
    stage = Stage()
    deep = {"deep": (future("Completed", stage, value=5), Completed(data=6)), "plain": 7}
    played = stage.play(task_run(WORK, deep))
    assert played.steps == ["Pending", "wait", "acquire", "Running", "invoke", "Completed"]
    assert played.state.result() == ({"deep": (5, 6), "plain": 7},)


def test_a_run_waits_for_its_futures_and_for_no_state() -> None:
    stage = Stage()
    first, second = future("Completed", stage), future("Completed", stage)
    played = stage.play(task_run(WORK, first, [second, first], Completed()))
    assert [list(wait.latches) for wait in played.effects_of(WaitFor)] == [
        [first._run, second._run]
    ]


def test_a_returned_future_is_waited_for() -> None:
    """A task may return the future of a run that has not ended."""
    stage = Stage()
    other = task_run(WORK)
    played = stage.play(
        task_run(WORK),
        invoke=[Value(future_of(other))],
        wait=[lambda: stage.play(other)],
    )
    assert played.steps == ["Pending", "acquire", "Running", "invoke", "wait", "Completed"]


def test_a_run_after_another_one_waits_for_its_end_whatever_it_is() -> None:
    """The order of a sequential task runner: a predecessor is no upstream."""
    stage = Stage()
    run = task_run(WORK)
    run.after = stage.ended("Failed")
    assert stage.play(run).steps == ["Pending", "wait", "acquire", "Running", "invoke", "Completed"]


def test_with_strict_durability_the_end_is_on_disk_before_anyone_sees_it() -> None:
    ends: dict[str, Outcome] = {"Completed": Value(1), "Failed": Error(BAD_CODE)}
    for name, invoke in ends.items():
        played = Stage(strict=True).play(task_run(WORK), invoke=[invoke])
        assert played.steps[-2:] == [name, "commit"]
