"""Retries: how often a run is tried again, after how long, and what a flow's retry runs anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Flow, Task
from penstock._model.records import state_of
from penstock._model.retry_policy import RetryPolicy, retry_policy
from penstock._rules.effects import DeadlinePassed, Error, Interrupted, Outcome, Sleep, Value
from penstock._rules.flow_run import FlowRun
from penstock._rules.run import Run
from penstock._rules.run_views import TaskRunView
from penstock._rules.task_run import TaskRun
from penstock.exceptions import ConfigurationError
from penstock.retries import exponential_backoff
from penstock.states import Cancelled, Crashed, Failed, Running, State
from tests.rules.play import (
    BAD_CODE,
    CACHED,
    FLOW,
    START,
    WORK,
    Played,
    Stage,
    flow_run,
    future_of,
    names,
    task_run,
    work,
)
from tests.strategies import numbers

FAILS = Error(BAD_CODE)
delays = st.floats(0, 1e6) | st.integers(0, 1000)


def tried(*attempts: Outcome, **options: Any) -> Played:
    """A task run whose attempts end so."""
    return Stage().play(task_run(Task[..., Any](work, **options)), invoke=attempts)


# The policy


@given(retries=st.integers(0, 20), waits=st.lists(delays, min_size=1, max_size=5))
def test_n_retries_are_n_more_attempts_and_the_last_delay_repeats(
    retries: int, waits: list[float]
) -> None:
    policy = retry_policy(retries, waits, "task 'work'")
    attempts = 1
    asked: list[float] = []
    while policy.allows(attempts):
        asked.append(policy.delay_after(attempts))
        attempts += 1
    assert attempts == retries + 1
    assert asked == (waits + [waits[-1]] * retries)[:retries]


@given(delays)
def test_one_number_is_the_delay_before_every_retry(delay: float) -> None:
    policy = retry_policy(3, delay, "task 'work'")
    assert [policy.delay_after(attempts) for attempts in (1, 2, 3)] == [delay] * 3


def test_without_arguments_nothing_is_tried_again() -> None:
    assert not RetryPolicy().allows(1)
    assert RetryPolicy(2).delay_after(1) == 0


@pytest.mark.parametrize("retries", [-1, 1.5, "2", None, True, [1]])
def test_retries_that_are_no_whole_number_are_refused_by_name(retries: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        retry_policy(retries, 0, "task 'work'")
    assert (
        str(raised.value)
        == f"task 'work': retries must be an integer of at least 0, not {retries!r}."
    )


@pytest.mark.parametrize(
    "delay", [-1, [1, -1], [], "10", ["1"], None, True, float("nan"), float("inf"), [None]]
)
def test_delays_that_are_no_seconds_are_refused_by_name(delay: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        retry_policy(1, delay, "flow 'work'")
    assert "flow 'work': retry_delay_seconds must be a number of seconds of at least 0" in str(
        raised.value
    )
    assert repr(delay) in str(raised.value)


# Tasks


def test_a_task_that_always_fails_goes_through_the_states_of_the_spec() -> None:
    played = tried(FAILS, FAILS, FAILS, retries=2, retry_delay_seconds=60)
    assert played.steps == [
        *("Pending", "acquire", "Running", "invoke"),
        *("AwaitingRetry", "sleep 60", "acquire", "Retrying", "invoke"),
        *("AwaitingRetry", "sleep 60", "acquire", "Retrying", "invoke"),
        "Failed",
    ]
    assert str(played.state) == "Failed('Task run encountered an exception.')"
    assert played.state.result(raise_on_failure=False) is BAD_CODE


def test_a_task_stops_trying_once_it_has_completed() -> None:
    played = tried(FAILS, Value(5), retries=5)
    assert names(played.run) == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    assert played.state.result() == 5


def test_the_run_counts_its_attempts() -> None:
    assert tried(Value(1)).run.run_count == 1
    assert tried(FAILS, FAILS, FAILS, retries=2).run.run_count == 3


@pytest.mark.parametrize(
    ("delay", "asked"),
    [(0, []), (5, [5, 5, 5]), ([1, 10], [1, 10, 10]), ([7, 0], [7]), ((1, 2, 3, 4), [1, 2, 3])],
)
def test_the_delays_asked_for_are_those_of_the_policy(
    delay: float | Sequence[float], asked: list[float]
) -> None:
    """A delay of 0 asks for no sleep at all."""
    played = tried(*[FAILS] * 4, retries=3, retry_delay_seconds=delay)
    assert [sleep.seconds for sleep in played.effects_of(Sleep)] == asked


@pytest.mark.parametrize("delay", [0.01, 0.1, 3])
def test_a_retry_is_due_exactly_its_delay_after_the_moment_that_the_state_shows(
    delay: float,
) -> None:
    """A sum of two numbers of seconds may be rounded to the microsecond beside that."""
    for number in range(200):
        stage = Stage()
        stage.clock.advance(number * 0.0123456789)
        run = stage.play(
            task_run(Task[..., Any](work, retries=1, retry_delay_seconds=delay)),
            invoke=[FAILS, Value(1)],
        ).run
        waiting = state_of(run.history[2], None, None)
        assert waiting.details.scheduled_time == waiting.timestamp + timedelta(seconds=delay)


def test_an_awaiting_retry_state_says_when_it_goes_on_and_what_was_raised() -> None:
    played = tried(FAILS, FAILS, Value(1), retries=2, retry_delay_seconds=[60, 3])
    first, second = (state for state in played.run.history if state.name == "AwaitingRetry")
    assert first.details.scheduled_time == START + timedelta(seconds=60)
    assert second.timestamp == START.timestamp() + 60
    assert second.details.scheduled_time == START + timedelta(seconds=63)
    assert first.message == "Task run encountered an exception."
    assert first.details.traceback is not None
    assert "ValueError: bad code" in first.details.traceback
    assert played.state.timestamp == START + timedelta(seconds=63)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (FAILS, "Task run encountered an exception."),
        (DeadlinePassed(), "Task run exceeded timeout of 2.0 seconds"),
        (Value(Failed("no luck")), "no luck"),
        (Value([Failed(), Failed()]), "2/2 states failed."),
        (Value(Running()), "The returned state Running(None) is not a final one."),
    ],
)
def test_every_failure_is_tried_again(attempt: Outcome, message: str) -> None:
    """An exception, a timeout, a Failed state made by hand, states that failed."""
    played = tried(attempt, Value(5), retries=1, timeout_seconds=2)
    assert names(played.run) == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    assert played.run.history[2].message == message


@pytest.mark.parametrize(
    ("attempt", "name"),
    [
        (Interrupted(), "Cancelled"),
        (Interrupted(KeyboardInterrupt()), "Cancelled"),
        (Interrupted(SystemExit(3)), "Crashed"),
        (Value(Cancelled()), "Cancelled"),
        (Value(Crashed()), "Crashed"),
        (Value([Failed(), Cancelled()]), "Cancelled"),
        (Value(None), "Completed"),
    ],
)
def test_nothing_else_is_tried_again(attempt: Outcome, name: str) -> None:
    assert names(tried(attempt, retries=3).run) == ["Pending", "Running", name]


def test_a_last_attempt_that_times_out_ends_timed_out() -> None:
    played = tried(FAILS, DeadlinePassed(), retries=1, timeout_seconds=2)
    assert played.state.name == "TimedOut"


@pytest.mark.parametrize(
    "where", [{"sleep": [Interrupted()]}, {"acquire": [None, Interrupted()]}], ids=str
)
def test_a_run_cancelled_between_attempts_makes_no_other(where: dict[str, list[Outcome]]) -> None:
    run = task_run(Task[..., Any](work, retries=3, retry_delay_seconds=60))
    played = Stage().play(run, invoke=[FAILS], **where)
    assert names(run) == ["Pending", "Running", "AwaitingRetry", "Cancelled"]
    assert played.steps.count("invoke") == 1


# Which failures, and after how long


@given(st.integers(0, 20), st.floats(0, 100))
def test_a_function_gives_the_delays_of_all_retries(retries: int, factor: float) -> None:
    policy = retry_policy(retries, exponential_backoff(factor), "task 'work'")
    asked = [policy.delay_after(attempts) for attempts in range(1, retries + 1)]
    assert asked == [factor * 2**number for number in range(retries)]


@pytest.mark.parametrize("factor", [-1, "2", None, True])
def test_a_backoff_without_a_factor_is_refused(factor: Any) -> None:
    with pytest.raises(ConfigurationError, match="backoff_factor must be a number of at least 0"):
        exponential_backoff(factor)


@given(delay=st.floats(0, 1e6), factor=st.floats(0, 5), drawn=st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_its_factor_and_above_0(
    delay: float, factor: float, drawn: float
) -> None:
    jittered = retry_policy(1, delay, "task 'work'", factor).delay_after(1, lambda: drawn)
    slack = 1e-9 * max(delay, 1)
    assert jittered >= 0
    assert delay * (1 - factor) - slack <= jittered <= delay * (1 + factor) + slack


def test_jitter_is_spread_evenly_over_its_range() -> None:
    draws = [0.0, 0.25, 0.5, 1.0]
    stage = Stage(draws=draws)
    run = task_run(Task[..., Any](work, retries=4, retry_delay_seconds=10, retry_jitter_factor=0.5))
    played = stage.play(run, invoke=[FAILS] * 5)
    assert [sleep.seconds for sleep in played.effects_of(Sleep)] == [5, 7.5, 10, 15]
    first = next(state for state in run.history if state.name == "AwaitingRetry")
    assert first.details.scheduled_time == START + timedelta(seconds=5)


def test_a_factor_above_1_reaches_from_0_on() -> None:
    policy = retry_policy(1, 10, "task 'work'", 2)
    draw = iter([0.0, 0.5, 1.0]).__next__
    assert [policy.delay_after(1, draw) for _ in range(3)] == [0, 15, 30]


@pytest.mark.parametrize(
    ("on", "attempt", "attempts"),
    [
        (ValueError, FAILS, 3),
        (Exception, FAILS, 3),
        ((OSError, ValueError), FAILS, 3),
        (OSError, FAILS, 1),
        ((KeyError, OSError), FAILS, 1),
        (TimeoutError, DeadlinePassed(), 3),
        (ValueError, DeadlinePassed(), 1),
        (ValueError, Value(Failed(data=BAD_CODE)), 3),
        (ValueError, Value(Failed("without an exception")), 1),
    ],
)
@pytest.mark.parametrize("kind", [Task, Flow])
def test_a_run_is_tried_again_after_what_retry_on_names_alone(
    kind: Any, on: Any, attempt: Outcome, attempts: int
) -> None:
    made = kind(work, retries=2, retry_on=on, timeout_seconds=2)
    run = task_run(made) if kind is Task else flow_run(made)
    played = Stage().play(run, invoke=[attempt] * attempts)
    assert run.run_count == attempts
    assert played.state.is_failed()


def agrees(_task: object, _run: TaskRunView, _state: State[Any]) -> bool:
    return True


def never_asked(_task: object, _run: TaskRunView, _state: State[Any]) -> bool:
    pytest.fail("asked")


def test_a_condition_is_asked_with_the_state_that_the_run_would_end_in() -> None:
    asked: list[tuple[object, TaskRunView, State[Any]]] = []

    def condition(task: object, run: TaskRunView, state: State[Any]) -> bool:
        asked.append((task, run, state))
        return len(asked) < 2

    made = Task[..., Any](work, retries=5, retry_delay_seconds=3, retry_condition_fn=condition)
    run = task_run(made)
    played = Stage().play(run, invoke=[FAILS, None, FAILS, None])
    assert played.steps == [
        *("Pending", "acquire", "Running", "invoke", "acquire", "invoke"),
        *("AwaitingRetry", "sleep 3", "acquire", "Retrying", "invoke", "acquire", "invoke"),
        "Failed",
    ]
    task, given_run, state = asked[0]
    assert (task, given_run.id, given_run.state_name) == (made, run.id, "Running")
    assert str(state) == "Failed('Task run encountered an exception.')"
    assert state.result(raise_on_failure=False) is BAD_CODE
    assert state.task_run_id == run.id


def test_a_condition_sees_timeouts_and_states_made_by_hand() -> None:
    seen: list[str] = []

    def condition(_task: object, _run: TaskRunView, state: State[Any]) -> bool:
        seen.append(str(state))
        return True

    made = Task[..., Any](work, retries=2, timeout_seconds=2, retry_condition_fn=condition)
    Stage().play(
        task_run(made), invoke=[DeadlinePassed(), None, Value(Failed("by hand")), None, Value(1)]
    )
    assert seen == [
        "TimedOut('Task run exceeded timeout of 2.0 seconds', type=FAILED)",
        "Failed('by hand')",
    ]


def test_a_condition_is_asked_only_where_a_retry_is_left_and_the_exception_fits() -> None:
    cases: list[dict[str, Any]] = [{"retries": 0}, {"retries": 3, "retry_on": OSError}]
    for options in cases:
        made = Task[..., Any](work, retry_condition_fn=never_asked, **options)
        assert Stage().play(task_run(made), invoke=[FAILS]).steps.count("invoke") == 1


def test_where_a_condition_raises_the_run_fails_with_its_own_error() -> None:
    stage = Stage()
    broken = KeyError("condition")
    made = Task[..., Any](work, retries=3, retry_condition_fn=agrees)
    played = stage.play(task_run(made), invoke=[FAILS, Error(broken)])
    assert names(played.run) == ["Pending", "Running", "Failed"]
    assert played.state.result(raise_on_failure=False) is BAD_CODE
    assert stage.warnings == [("retry_condition_fn raised, so there is no retry", broken)]


@pytest.mark.parametrize(
    "where",
    [{"acquire": [None, Interrupted()]}, {"invoke": [FAILS, Interrupted(KeyboardInterrupt())]}],
    ids=str,
)
def test_a_run_cancelled_while_its_condition_is_asked_is_cancelled(
    where: dict[str, list[Outcome]],
) -> None:
    made = Task[..., Any](work, retries=3, retry_condition_fn=agrees)
    run = task_run(made)
    Stage().play(run, invoke=where.get("invoke", [FAILS]), acquire=where.get("acquire", []))
    assert names(run) == ["Pending", "Running", "Cancelled"]


# Flows


def two_attempts(code: Callable[[FlowRun, int], None], attempts: int = 2) -> FlowRun:
    """A flow run that calls `code` in each attempt; all attempts but the last raise after that."""
    run = flow_run(Flow[..., Any](work, retries=attempts - 1))

    def attempt(number: int) -> Outcome:
        code(run, number)
        return FAILS if number < attempts else Value("done")

    # The attempt is the argument of its own lambda, as each is called later.
    calls = [lambda number=number: attempt(number) for number in range(1, attempts + 1)]
    Stage().play(run, invoke=calls)
    assert names(run)[-1] == "Completed"
    return run


def test_a_flow_retry_runs_the_function_again() -> None:
    stage = Stage()
    run = flow_run(Flow[..., Any](work, retries=1, retry_delay_seconds=30))
    played = stage.play(run, invoke=[FAILS, FAILS])
    assert played.steps == [
        *("Pending", "acquire", "Running", "invoke", "join"),
        *("AwaitingRetry", "sleep 30", "acquire", "Retrying", "invoke", "join"),
        "Failed",
    ]
    assert run.history[2].message == "Flow run encountered an exception. ValueError: bad code"


def test_a_flow_whose_tasks_failed_is_tried_again() -> None:
    """Rule 4: it returned None, and the state of its task decides."""
    stage = Stage()
    run = flow_run(Flow[..., Any](work, retries=1))

    def code(end: str) -> Outcome:
        stage.ended(end, run)
        return Value(None)

    stage.play(run, invoke=[lambda: code("Failed"), lambda: code("Completed")])
    assert names(run) == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    assert len(run.state.child_states) == 1


def test_a_flow_that_timed_out_cancels_what_it_submitted_and_is_tried_again() -> None:
    run = flow_run(Flow[..., Any](work, retries=1, timeout_seconds=5))
    played = Stage().play(run, invoke=[DeadlinePassed(), Value(1)])
    assert played.steps[3:6] == ["invoke", "join cancelled", "AwaitingRetry"]
    assert played.state.name == "Completed"


def test_invalid_parameters_are_not_tried_again() -> None:
    def count(number: int) -> int:
        return number

    run = flow_run(Flow[..., Any](count, retries=3), "five")
    assert Stage().play(run).steps == ["Pending", "acquire", "Failed"]


def test_a_flow_retry_reuses_what_completed_and_runs_again_what_failed() -> None:
    first, second = Task[..., Any](work), Task[..., Any](work, name="second")
    stage = Stage()
    seen: list[tuple[Played, Played]] = []

    def code(run: FlowRun, attempt: int) -> None:
        one = task_run(first, "same", parent=run)
        played_one = stage.play(one, **({"invoke": [Value(5)]} if attempt == 1 else {}))
        two = task_run(second, future_of(one), parent=run)
        seen.append((played_one, stage.play(two, invoke=[FAILS if attempt == 1 else Value(6)])))

    two_attempts(code)
    (one, two), (one_again, two_again) = seen
    assert one_again.steps == []
    assert one_again.state is one.state
    assert one_again.state.result() == 5
    assert two_again.steps == ["wait", "Pending", "acquire", "Running", "invoke", "Completed"]
    assert two_again.run.run_id == two.run.run_id
    assert getattr(two_again.run, "name", 0) == getattr(two.run, "name", 1)
    assert names(two_again.run) == [
        *("Pending", "Running", "Failed"),
        *("Pending", "Running", "Completed"),
    ]
    assert two_again.run.run_count == 2


@pytest.mark.parametrize("end", ["Failed", "TimedOut", "Cancelled", "Crashed", "NotReady"])
def test_a_flow_retry_runs_again_whatever_did_not_complete(end: str) -> None:
    stage = Stage()
    runs: list[Run] = []

    def code(run: FlowRun, attempt: int) -> None:
        if attempt == 1:
            runs.append(stage.ended(end, run))
            return
        again = task_run(WORK, parent=run)
        runs.append(again)
        assert stage.play(again).steps == ["Pending", "acquire", "Running", "invoke", "Completed"]

    two_attempts(code)
    assert runs[0].run_id == runs[1].run_id
    assert names(runs[1]) == [*names(runs[0]), "Pending", "Running", "Completed"]


def test_a_run_served_from_the_cache_is_reused_as_well() -> None:
    stage = Stage()

    def code(run: FlowRun, attempt: int) -> None:
        if attempt == 1:
            stage.ended("Cached", run)
        else:
            assert stage.play(task_run(CACHED, parent=run)).steps == []

    two_attempts(code)


def test_a_flow_retry_with_other_inputs_runs_a_completed_task_again() -> None:
    stage = Stage()
    played: list[Played] = []
    two_attempts(
        lambda run, attempt: played.append(stage.play(task_run(WORK, attempt, parent=run)))
    )
    first, second = played
    assert second.steps == ["Pending", "acquire", "Running", "invoke", "Completed"]
    assert second.run.run_id == first.run.run_id
    assert second.state.result() == (2,)


def test_the_inputs_compared_are_the_values_of_the_futures() -> None:
    """An upstream that ran again with another result makes its downstream run again."""
    stage = Stage()
    first, second = Task[..., Any](work), Task[..., Any](work, name="second")
    ends: list[list[str]] = []

    def code(run: FlowRun, attempt: int) -> None:
        one = task_run(first, attempt, parent=run)  # each attempt has an input of its own
        stage.play(one, invoke=[Value("always the same" if attempt < 3 else "other")])
        two = task_run(second, future_of(one), parent=run)
        ends.append(stage.play(two).steps)

    two_attempts(code, attempts=3)
    assert [steps[-1] for steps in ends] == ["Completed", "wait", "Completed"]


def test_inputs_that_cannot_be_hashed_are_equal_by_their_place() -> None:
    stage = Stage()
    played: list[Played] = []
    two_attempts(lambda run, _: played.append(stage.play(task_run(WORK, numbers(), parent=run))))
    assert played[1].steps == []


def test_the_place_of_a_run_is_the_count_of_calls_of_the_same_task() -> None:
    """Calls of another task in between change nothing; a call too many is a new run."""
    other = Task[..., Any](work, name="other")
    stage = Stage()
    ids: list[list[bytes]] = []

    def code(run: FlowRun, attempt: int) -> None:
        calls = [WORK, WORK] if attempt == 1 else [other, WORK, other, WORK, WORK]
        runs = [task_run(task, parent=run) for task in calls]
        for child in runs:
            stage.play(child)
        ids.append([child.run_id for child in runs if child.options is WORK])

    two_attempts(code)
    assert ids[1][:2] == ids[0]
    assert ids[1][2] not in ids[0]


def test_a_later_attempt_finds_what_only_an_earlier_one_reached() -> None:
    stage = Stage()
    steps: list[list[str]] = []

    def code(run: FlowRun, attempt: int) -> None:
        if attempt != 2:
            steps.append(stage.play(task_run(WORK, "same", parent=run)).steps)

    two_attempts(code, attempts=3)
    assert steps[0][-1] == "Completed"
    assert steps[1] == []


def test_the_child_states_are_those_of_the_last_attempt() -> None:
    stage = Stage()
    run = flow_run(Flow[..., Any](work, retries=1))

    def attempt(*ends: str) -> Outcome:
        for end in ends:
            stage.ended(end, run)
        return Value(None)

    stage.play(run, invoke=[lambda: attempt("Completed", "Failed"), lambda: attempt("Completed")])
    assert [state.name for state in run.state.child_states] == ["Completed"]


def test_a_flow_retry_reuses_a_completed_subflow_and_runs_a_failed_one_again() -> None:
    def count(number: int) -> int:
        return number

    good, bad = Flow[..., Any](count), Flow[..., Any](count, name="bad")
    stage = Stage()
    seen: list[tuple[Played, Played]] = []

    def code(run: FlowRun, attempt: int) -> None:
        one = stage.play(flow_run(good, 5, parent=run))
        two = stage.play(flow_run(bad, 5, parent=run), invoke=[FAILS if attempt == 1 else Value(6)])
        seen.append((one, two))

    two_attempts(code)
    (good_first, bad_first), (good_again, bad_again) = seen
    assert good_again.steps == []
    assert good_again.state is good_first.state
    assert bad_again.run.run_id == bad_first.run.run_id
    assert names(bad_again.run)[-3:] == ["Pending", "Running", "Completed"]


def test_a_completed_subflow_is_reused_though_its_arguments_were_converted() -> None:
    """`"5"` for an `int` is 5 inside; the inputs compared are those of the two calls."""

    def count(number: int) -> int:
        return number

    subflow = Flow[..., Any](count)
    stage = Stage()
    played: list[Played] = []
    two_attempts(lambda run, _: played.append(stage.play(flow_run(subflow, "5", parent=run))))
    assert played[0].state.result() == 5
    assert played[1].steps == []


@pytest.mark.parametrize("middle_of", [FLOW, WORK], ids=["subflow", "task"])
def test_what_a_failed_run_had_called_is_reused_in_its_turn(
    middle_of: Flow[..., Any] | Task[..., Any],
) -> None:
    """A task that completed keeps its place below a subflow, or a task, that runs again."""
    stage = Stage()
    inner: list[Played] = []

    def code(run: FlowRun, attempt: int) -> None:
        middle: FlowRun | TaskRun
        if isinstance(middle_of, Flow):
            middle = flow_run(middle_of, parent=run)
        else:
            middle = task_run(middle_of, parent=run)

        def body() -> Outcome:
            inner.append(stage.play(task_run(WORK, "inner", parent=middle)))
            return FAILS if attempt == 1 else Value(1)

        stage.play(middle, invoke=[body])

    two_attempts(code)
    assert inner[1].steps == []
    assert inner[1].run.run_id == inner[0].run.run_id


def test_a_run_that_did_not_become_ready_again_ends_not_ready_under_its_id() -> None:
    """Its earlier self completed; this time its upstream failed."""
    first, second = Task[..., Any](work), Task[..., Any](work, name="second")
    stage = Stage()
    seen: list[Played] = []

    def code(run: FlowRun, attempt: int) -> None:
        one = task_run(first, attempt, parent=run)
        stage.play(one, invoke=[Value(1) if attempt == 1 else FAILS])
        seen.append(stage.play(task_run(second, future_of(one), parent=run)))

    two_attempts(code)
    assert seen[1].steps == ["wait", "Pending", "NotReady"]
    assert seen[1].run.run_id == seen[0].run.run_id
