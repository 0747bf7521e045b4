"""States: how they read, what they answer, and what their results are."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import msgspec
import pytest

from penstock import exceptions, states
from penstock._rules.transitions import Event
from penstock._rules.verdicts import verdict_of
from penstock.exceptions import (
    ResultUnavailable,
    RunCancelled,
    RunCrashed,
    RunError,
    RunFailed,
    RunNotReady,
    RunTimedOut,
    RunUnfinished,
)
from penstock.states import (
    TYPES,
    Cached,
    Cancelled,
    Completed,
    Constructor,
    Crashed,
    Failed,
    Pending,
    Running,
    State,
    StateDetails,
    StateType,
    TimedOut,
)
from tests.rules.play import BAD_CODE, FLOW, START, Stage, flow_run, state_named

TASK_RUN = UUID("90dcb0d6-ae5b-4ad2-bb74-92e58626850b")
FLOW_RUN = UUID("8af63f45-b50c-46ef-b59e-ec19897421cd")
HELLO: State[str] = State(
    StateType.COMPLETED,
    "Completed",
    None,
    START,
    _value="hello Marvin",
    _task_run=TASK_RUN.bytes,
    _flow_run=FLOW_RUN.bytes,
)


def test_a_state_of_a_task_run_reads_as_in_the_spec() -> None:
    assert repr(HELLO) == (
        f"Completed(message=None, type=COMPLETED, result='hello Marvin', task_run_id={TASK_RUN})"
    )
    cached = msgspec.structs.replace(HELLO, name="Cached")
    assert repr(cached) == (
        f"Cached(message=None, type=COMPLETED, result='hello Marvin', task_run_id={TASK_RUN})"
    )


def test_a_state_of_a_flow_run_reads_as_in_the_spec() -> None:
    whole: State[None] = State(
        StateType.COMPLETED,
        "Completed",
        "All states completed.",
        START,
        child_states=(HELLO,),
        _value=None,
        _flow_run=FLOW_RUN.bytes,
    )
    assert repr(whole) == (
        "Completed(message='All states completed.', type=COMPLETED, "
        f"result=[{HELLO!r}], flow_run_id={FLOW_RUN})"
    )


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (Completed(), "Completed(None)"),
        (Completed("All states completed."), "Completed('All states completed.')"),
        (Cached(), "Cached(None, type=COMPLETED)"),
        (TimedOut("too slow"), "TimedOut('too slow', type=FAILED)"),
        (Failed("1/1 states failed."), "Failed('1/1 states failed.')"),
        (state_named("NotReady", None, START), "NotReady(None, type=PENDING)"),
        (state_named("AwaitingRetry", None, START), "AwaitingRetry(None, type=SCHEDULED)"),
    ],
)
def test_log_lines_show_a_state_with_its_type_where_the_name_does_not_say_it(
    state: State[object], text: str
) -> None:
    assert str(state) == text


def test_a_failed_state_shows_its_exception_and_a_running_one_no_result() -> None:
    assert repr(Failed("bad", data=BAD_CODE)) == (
        f"Failed(message='bad', type=FAILED, result={BAD_CODE!r})"
    )
    assert repr(Running()) == "Running(message=None, type=RUNNING)"


def constructor_of(name: str) -> Constructor:
    constructor: Constructor = getattr(states, name)
    return constructor


@pytest.mark.parametrize("name", [name for name in TYPES if name != "NotReady"])
def test_a_state_is_made_by_hand_with_the_constructor_of_its_name(name: str) -> None:
    construct = constructor_of(name)
    state = construct("why", data=5)
    assert (state.name, state.type, state.message) == (name, TYPES[name], "why")
    assert state.timestamp.utcoffset() is not None
    assert (state.task_run_id, state.flow_run_id) == (None, None)
    assert construct().message is None
    assert getattr(construct, "__name__", None) == name


@pytest.mark.parametrize("type_", StateType)
def test_each_state_answers_to_its_own_type_only(type_: StateType) -> None:
    state: State[object] = State(type_, "Any", None, START)
    answers = {other: getattr(state, f"is_{other.value.lower()}")() for other in StateType}
    assert answers == {other: other is type_ for other in StateType}
    final = {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED}
    assert state.is_final() is (type_ in final)


def test_two_states_are_equal_only_if_they_are_one() -> None:
    """Their results may be of a kind whose equality costs much, or is no bool."""
    made: set[State[object]] = {state_named("Completed", None, START) for _ in range(2)}
    assert len(made) == 2
    assert len({HELLO, HELLO}) == 1


def test_a_state_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        HELLO.name = "Failed"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_result_of_a_completed_state_is_its_value() -> None:
    assert HELLO.result() == "hello Marvin"
    assert HELLO.result(raise_on_failure=False) == "hello Marvin"
    assert Completed().result() is None
    assert Completed(data=5).result() == 5


def test_the_result_of_a_completed_state_may_be_an_exception() -> None:
    """A function may return an exception; that is a value like any other."""
    assert Completed(data=BAD_CODE).result() is BAD_CODE


def test_a_stored_result_is_read_when_it_is_asked_for() -> None:
    state: State[int] = State(StateType.COMPLETED, "Completed", None, START, _load=lambda: 42)
    assert state.result() == 42


@pytest.mark.parametrize(
    ("details", "reason"),
    [(StateDetails(not_persisted="too odd"), "too odd"), (StateDetails(), "not kept")],
)
def test_a_result_that_was_not_kept_says_why(details: StateDetails, reason: str) -> None:
    state: State[int] = State(
        StateType.COMPLETED, "Completed", None, START, details, _task_run=TASK_RUN.bytes
    )
    for raise_on_failure in (True, False):
        with pytest.raises(ResultUnavailable, match=f"Task run {TASK_RUN} .*{reason}"):
            state.result(raise_on_failure=raise_on_failure)


def test_the_exception_of_a_failed_state_is_raised_or_returned() -> None:
    failed = Failed("bad", data=BAD_CODE)
    with pytest.raises(ValueError, match="bad code") as raised:
        failed.result()
    assert raised.value is BAD_CODE
    assert failed.result(raise_on_failure=False) is BAD_CODE


class EmptyGroup(Exception):
    """An exception that is falsy."""

    def __len__(self) -> int:
        return 0


def test_a_falsy_exception_is_raised_like_any_other() -> None:
    error = EmptyGroup()
    assert Failed(data=error).result(raise_on_failure=False) is error


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (Failed("bad"), RunFailed),
        (TimedOut("slow"), RunTimedOut),
        (Cancelled(), RunCancelled),
        (Crashed(), RunCrashed),
        (state_named("NotReady", "an upstream failed", START), RunNotReady),
        (Pending(), RunUnfinished),
        (Running(), RunUnfinished),
        (state_named("AwaitingRetry", None, START), RunUnfinished),
    ],
)
def test_a_state_without_an_exception_raises_the_error_of_its_kind(
    state: State[object], error: type[RunError]
) -> None:
    with pytest.raises(RunError) as raised:
        state.result()
    assert type(raised.value) is error
    assert str(state) in str(raised.value)
    assert type(state.result(raise_on_failure=False)) is error


def test_the_error_of_a_failure_read_from_the_history_shows_the_traceback() -> None:
    details = StateDetails(traceback="Traceback ...\nValueError: bad code\n")
    state = state_named("Failed", "Task run encountered an exception.", START, details)
    with pytest.raises(RunFailed, match=r"ValueError: bad code$"):
        state.result()


def test_a_state_knows_the_runs_that_it_belongs_to() -> None:
    stage = Stage()
    parent = flow_run(FLOW)
    child = stage.ended("Completed", parent)
    assert child.state.task_run_id == child.id
    assert child.state.flow_run_id == parent.id
    stage.play(parent)
    assert (parent.state.task_run_id, parent.state.flow_run_id) == (None, parent.id)


@pytest.mark.parametrize(
    ("parts", "event", "message"),
    [
        ([Completed(), Cached()], Event.FINISH, "All states completed."),
        ([Completed(), Failed(), Crashed()], Event.FAIL, "2/3 states failed."),
        ([Completed(), Failed(), Cancelled()], Event.CANCEL, "1/3 states cancelled."),
        ([Running()], Event.FAIL, "1/1 states failed."),
        ([], Event.FINISH, "All states completed."),
    ],
)
def test_states_together_complete_are_cancelled_or_fail(
    parts: list[State[object]], event: Event, message: str
) -> None:
    verdict = verdict_of(Counter(part.type for part in parts))
    assert (verdict.event, verdict.message) == (event, message)


def test_every_error_is_one_of_the_tree() -> None:
    """Users catch `PenstockError`; each class says whose fault it is by its base."""
    errors = [error for error in vars(exceptions).values() if isinstance(error, type)]
    groups = (
        exceptions.UsageError,
        exceptions.RunError,
        exceptions.StoreError,
        exceptions.InternalError,
    )
    assert len(errors) > len(groups)
    for error in errors:
        assert error is exceptions.PenstockError or issubclass(error, groups)
