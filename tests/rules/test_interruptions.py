"""Timeouts, cancellation, Ctrl-C and `sys.exit` wherever they can come; any mix of outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from penstock import AsyncTask, Flow, Task
from penstock._rules.effects import (
    AcquireWorker,
    CancelMembers,
    Claim,
    Commit,
    Convert,
    DeadlinePassed,
    Effect,
    Error,
    Evaluate,
    Interrupted,
    Invoke,
    Join,
    LookUp,
    Outcome,
    ReleaseSlots,
    Sleep,
    Value,
    WaitFor,
)
from penstock._rules.run import Driver, Run
from penstock._rules.task_run import TaskRun
from penstock._rules.transitions import TRANSITIONS
from penstock.exceptions import RunCancelled, RunCrashed
from penstock.states import TYPES, Completed, Failed
from tests.rules.play import (
    BAD_CODE,
    CACHED,
    FLOW,
    WORK,
    Answer,
    Played,
    Stage,
    flow_run,
    future,
    future_of,
    names,
    put_into,
    task_run,
    work,
)

RETRIED = Task[..., Any](work, retries=3, retry_delay_seconds=60)
RETRIED_FLOW = Flow[..., Any](work, retries=3, retry_delay_seconds=60)
FAILS = Error(BAD_CODE)

Scene = Callable[[Stage, Interrupted], Played]


def rerun_waiting_for_an_upstream(stage: Stage, stop: Interrupted) -> Played:
    """A task that failed in a flow's first attempt, and whose upstream runs in the second one."""
    run = flow_run(Flow[..., Any](work, retries=1))
    upstream_task = Task[..., Any](work, name="upstream")
    played: list[Played] = []

    def first() -> Outcome:
        upstream = task_run(upstream_task, parent=run)
        stage.play(upstream)
        stage.play(task_run(WORK, future_of(upstream), parent=run), invoke=[FAILS])
        return FAILS

    def second() -> Outcome:
        upstream = task_run(upstream_task, "other inputs", parent=run)
        again = task_run(WORK, future_of(upstream), parent=run)
        played.append(stage.play(again, wait=[stop]))
        upstream.set()
        return Value("done")

    stage.play(run, invoke=[first, second])
    return played[0]


def limited_run(stage: Stage) -> TaskRun:
    stage.limits = {"limited"}
    return task_run(RETRIED.with_options(tags=["limited"]))


SCENES: dict[str, Scene] = {
    "task: waiting for an upstream": lambda stage, stop: stage.play(
        task_run(WORK, future_of(task_run(WORK))), wait=[stop]
    ),
    "task: waiting for a worker": lambda stage, stop: stage.play(task_run(WORK), acquire=[stop]),
    "task: computing its cache key": lambda stage, stop: stage.play(
        task_run(CACHED), invoke=[stop]
    ),
    "task: waiting for the owner of its key": lambda stage, stop: stage.play(
        task_run(CACHED), claim=[Value(task_run(CACHED))], wait=[stop]
    ),
    "task: in its code": lambda stage, stop: stage.play(task_run(RETRIED), invoke=[stop]),
    "task: waiting for a slot": lambda stage, stop: stage.play(limited_run(stage), wait=[stop]),
    "task: waiting for a worker with its slot": lambda stage, stop: stage.play(
        limited_run(stage), acquire=[None, stop]
    ),
    "task: waiting for a slot again": lambda stage, stop: stage.play(
        limited_run(stage), invoke=[FAILS], wait=[None, stop]
    ),
    "task: in its second attempt": lambda stage, stop: stage.play(
        task_run(RETRIED), invoke=[FAILS, stop]
    ),
    "task: between attempts": lambda stage, stop: stage.play(
        task_run(RETRIED), invoke=[FAILS], sleep=[stop]
    ),
    "task: waiting for a worker again": lambda stage, stop: stage.play(
        task_run(RETRIED), invoke=[FAILS], acquire=[None, stop]
    ),
    "task: waiting for a future that it returned": lambda stage, stop: stage.play(
        task_run(RETRIED), invoke=[Value(future_of(task_run(WORK)))], wait=[stop]
    ),
    "task: waiting for an upstream, in a flow's retry": rerun_waiting_for_an_upstream,
    "flow: waiting for an upstream": lambda stage, stop: stage.play(
        flow_run(FLOW, future_of(task_run(WORK))), wait=[stop]
    ),
    "flow: waiting for a worker": lambda stage, stop: stage.play(flow_run(FLOW), acquire=[stop]),
    "flow: in its code": lambda stage, stop: stage.play(flow_run(RETRIED_FLOW), invoke=[stop]),
    "flow: joining": lambda stage, stop: stage.play(
        flow_run(RETRIED_FLOW), invoke=[Value(1)], join=[stop]
    ),
    "flow: joining after an exception": lambda stage, stop: stage.play(
        flow_run(RETRIED_FLOW), invoke=[FAILS], join=[stop]
    ),
    "flow: joining after a timeout": lambda stage, stop: stage.play(
        flow_run(RETRIED_FLOW), invoke=[DeadlinePassed()], join=[stop]
    ),
    "flow: waiting for a future that it returned": lambda stage, stop: stage.play(
        flow_run(RETRIED_FLOW), invoke=[Value([future_of(task_run(WORK))])], wait=[stop]
    ),
    "flow: between attempts": lambda stage, stop: stage.play(
        flow_run(RETRIED_FLOW), invoke=[FAILS], sleep=[stop]
    ),
    "flow: waiting for a worker again": lambda stage, stop: stage.play(
        flow_run(RETRIED_FLOW), invoke=[FAILS], acquire=[None, stop]
    ),
}

STOPS: list[tuple[BaseException | None, str]] = [
    (None, "Cancelled('Execution was cancelled.')"),
    (asyncio.CancelledError(), "Cancelled('Execution was cancelled.')"),
    (KeyboardInterrupt(), "Cancelled('Execution was interrupted by KeyboardInterrupt.')"),
    (SystemExit(3), "Crashed('Execution was ended by SystemExit(3).')"),
    (GeneratorExit(), "Crashed('Execution was ended by GeneratorExit().')"),
]


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
@pytest.mark.parametrize(
    ("exception", "shown"), STOPS, ids=[type(stop).__name__ for stop, _ in STOPS]
)
def test_an_interrupted_run_ends_at_once_and_calls_nothing_any_more(
    scene: Scene, exception: BaseException | None, shown: str
) -> None:
    """Whatever it was at: no further attempt, no further sleep, and its end is on record."""
    stage = Stage()
    stop = Interrupted(exception)
    played = scene(stage, stop)
    assert str(played.state) == shown
    assert played.state.is_final()
    assert names(played.run).count(played.state.name) == 1


@pytest.mark.parametrize(
    ("scene", "steps"),
    [
        ("task: waiting for an upstream", ["wait"]),
        ("task: computing its cache key", ["acquire", "invoke"]),
        ("task: in its code", ["acquire", "Running", "invoke"]),
        ("flow: in its code", ["acquire", "Running", "invoke", "join cancelled"]),
        ("flow: joining", ["acquire", "Running", "invoke", "join", "join cancelled"]),
        ("flow: joining after an exception",
         ["acquire", "Running", "invoke", "join", "join cancelled"]),
        ("flow: joining after a timeout", ["acquire", "Running", "invoke", "join cancelled"]),
    ],
)  # fmt: skip
def test_all_that_comes_between_an_interruption_and_the_end_is_the_join_of_a_flow(
    scene: str, steps: list[str]
) -> None:
    """It cancels its children and joins them; interrupted at that too, it ends."""
    assert SCENES[scene](Stage(), Interrupted()).steps == ["Pending", *steps, "Cancelled"]


class Canceller(Driver):
    """Drives nothing, and can be told to stop."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    @override
    def cancel(self) -> None:
        self._act()


@pytest.mark.parametrize("invoke", [DeadlinePassed(), Interrupted()])
def test_the_children_of_a_flow_that_is_ended_are_cancelled_before_it_ends(
    invoke: Outcome,
) -> None:
    stage = Stage()
    run = flow_run(Flow[..., Any](work, timeout_seconds=1))
    child = task_run(WORK, parent=run)

    def cancel() -> None:
        stage.play(child, acquire=[Interrupted()])

    child.driver = Canceller(cancel)
    stage.play(run, invoke=[invoke])
    assert child.state.name == "Cancelled"
    assert run.state.name in {"TimedOut", "Cancelled"}


def test_a_cancelled_run_has_no_value_and_a_crashed_one_raises_what_ended_it() -> None:
    stage = Stage()
    cancelled = stage.play(task_run(WORK), invoke=[Interrupted(KeyboardInterrupt())]).state
    with pytest.raises(RunCancelled, match="KeyboardInterrupt"):
        cancelled.result()
    crashed = stage.play(task_run(WORK), invoke=[Interrupted(SystemExit(3))]).state
    with pytest.raises(SystemExit, match="3"):
        crashed.result()


# Timeouts


def test_the_code_of_an_async_function_is_awaited_and_its_key_function_is_not() -> None:
    async def double(number: int) -> int:
        return 2 * number

    task = AsyncTask[..., Any](double, cache_key_fn=lambda _context, _parameters: "key")
    played = Stage().play(task_run(task, 5))
    assert [type(effect) for effect in played.effects] == [
        AcquireWorker,
        Evaluate,
        LookUp,
        Claim,
        LookUp,
        Invoke,
    ]
    assert played.state.result() == 10


def test_a_timeout_error_of_the_user_is_a_failure_like_any_other() -> None:
    """Only the driver knows whose timeout it was, and it says so by its outcome."""
    error = TimeoutError("the server did not answer")
    state = Stage().play(task_run(WORK), invoke=[Error(error)]).state
    assert str(state) == "Failed('Task run encountered an exception.')"
    assert state.result(raise_on_failure=False) is error


# A run whose own rules can go no further

ABORTED: list[tuple[BaseException, str, str]] = [
    (ValueError("odd"), "Crashed", "The run could not go on: odd"),
    (KeyboardInterrupt(), "Cancelled", "Execution was interrupted by KeyboardInterrupt."),
    (asyncio.CancelledError(), "Cancelled", "Execution was cancelled."),
    (SystemExit(3), "Crashed", "Execution was ended by SystemExit(3)."),
]


def in_phase(run: Run, phase: str | None) -> Run:
    """The run, having entered that phase."""
    if phase is not None:
        put_into(run, phase)
    return run


@pytest.mark.parametrize("phase", [None, "Pending", "Running", "AwaitingRetry", "Retrying"])
@pytest.mark.parametrize(("error", "name", "message"), ABORTED)
@pytest.mark.parametrize("kind", ["task", "flow"])
def test_a_run_is_aborted_from_any_phase_that_is_no_end(
    kind: str, error: BaseException, name: str, message: str, phase: str | None
) -> None:
    run = in_phase(task_run(WORK) if kind == "task" else flow_run(FLOW), phase)
    played = Stage().abort(run, error)
    assert played.steps == (["Pending", name] if phase is None else [name])
    assert played.state.message == message


@pytest.mark.parametrize(
    "phase", [name for name in TYPES if name in TRANSITIONS and "Pending" in
              TRANSITIONS[name].values()]
)  # fmt: skip
@pytest.mark.parametrize("error", [error for error, _, _ in ABORTED], ids=repr)
def test_a_run_that_has_ended_is_not_aborted(phase: str, error: BaseException) -> None:
    run = in_phase(task_run(WORK), phase)
    assert Stage().abort(run, error).steps == []
    assert names(run) == [phase]


def test_an_aborted_run_keeps_what_ended_it() -> None:
    state = Stage().abort(in_phase(task_run(WORK), "Running"), BAD_CODE).state
    assert state.result(raise_on_failure=False) is BAD_CODE
    assert state.details.traceback is not None
    cancelled = Stage().abort(in_phase(task_run(WORK), "Running"), KeyboardInterrupt()).state
    assert isinstance(cancelled.result(raise_on_failure=False), RunCancelled)
    assert not isinstance(cancelled.result(raise_on_failure=False), RunCrashed)


def test_an_aborted_run_leaves_nothing_under_its_cache_key() -> None:
    stage = Stage()
    run = task_run(CACHED)

    def end() -> Outcome:
        stage.abort(run, BAD_CODE)
        assert run.cache_row is None
        return Value(1)

    with pytest.raises(Exception, match="cannot finish"):
        stage.play(run, invoke=[None, end])
    assert stage.cache == {}


# Whatever happens

stops = st.sampled_from([exception for exception, _ in STOPS]).map(Interrupted)
values = st.sampled_from(
    [None, 5, [], [1], Completed(), Failed(), [Completed()], [Failed(), Completed()], "text"]
).map(Value)
OTHER_OWNER = task_run(CACHED)
DONE: st.SearchStrategy[Answer] = st.just(Value())
OUTCOMES: dict[type[Effect], st.SearchStrategy[Answer]] = {
    Evaluate: st.one_of(st.none(), st.none(), st.just(FAILS), stops),
    Invoke: st.one_of(values, st.just(FAILS), st.just(DeadlinePassed()), stops),
    Sleep: st.one_of(DONE, DONE, stops),
    AcquireWorker: st.one_of(DONE, DONE, stops),
    WaitFor: st.one_of(DONE, DONE, stops),
    Join: st.one_of(DONE, DONE, stops),
    CancelMembers: st.one_of(DONE, DONE, stops),
    Convert: st.one_of(st.none(), st.none(), st.none(), stops),
    Claim: st.sampled_from([None, None, Value(OTHER_OWNER)]),
}


@st.composite
def runs(draw: st.DrawFn) -> tuple[Stage, Run]:
    """A run with any options, with and without upstreams and a result in the cache."""
    stage = Stage(strict=draw(st.booleans()))
    options: dict[str, Any] = {
        "retries": draw(st.integers(0, 3)),
        "retry_delay_seconds": draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)),
        "timeout_seconds": 5,
        "tags": draw(st.sampled_from([[], ["limited"], ["limited", "other"]])),
    }
    stage.limits = {"limited"}
    ends = st.sampled_from(["Completed", "Completed", "Completed", "Failed"])
    upstreams = draw(st.lists(ends, max_size=2))
    futures = [future(name, stage) for name in upstreams]
    if draw(st.booleans()):
        return stage, flow_run(Flow[..., Any](work, **options), *futures)
    if draw(st.sampled_from([True, True, False])):
        options["cache_key_fn"] = CACHED.cache_key_fn
        options["refresh_cache"] = draw(st.booleans())
        if draw(st.booleans()):
            stage.play(task_run(CACHED))
    return stage, task_run(Task[..., Any](work, **options), *futures)


@settings(max_examples=500)
@given(runs(), st.data())
def test_whatever_happens_a_run_ends_and_its_history_is_legal(
    made: tuple[Stage, Run], data: st.DataObject
) -> None:
    """Each step is in the table (the stage checks it), attempts are counted, the end is the end."""
    stage, run = made
    interrupted_at: list[int] = []
    asked: list[Effect] = []

    def answer(effect: Effect) -> Answer:
        asked.append(effect)
        outcomes = OUTCOMES.get(type(effect), st.none())
        outcome = data.draw(outcomes)
        if isinstance(outcome, Interrupted):
            interrupted_at.append(len(asked))
        return outcome

    played = stage.play_with(run, answer)
    final = [transition for transition in run.history if transition.is_final]
    assert final == [run.history[-1]]
    assert 0 <= run.run_count <= run.options.retry_policy.retries + 1
    assert run.run_count == len(played.effects_of(Invoke))
    stored = run.state.is_completed() and run.state.details.not_persisted is None
    assert (run.payload is not None) is stored
    if run.cache_row is not None:
        assert run.state.name == "Completed"
        assert stage.cache[run.cache_row.key][0] == run.cache_row
    if interrupted_at:
        assert run.state.name in {"Cancelled", "Crashed"}
        assert {type(effect) for effect in asked[interrupted_at[0] :]} <= {
            Join,
            CancelMembers,
            Convert,
            ReleaseSlots,
            Commit,
        }
    assert stage.taken["limited"] == 0, "all slots are given back"
    steps = [step for step in played.steps if step != "release slots"]
    assert steps[-1 - stage.rules.strict :] == [
        run.state.name,
        *(["commit"] if stage.rules.strict else []),
    ]
