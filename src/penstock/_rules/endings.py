"""The rules of final states: what an attempt ended with decides how the run ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias, assert_never, cast

import msgspec

from penstock._model.payloads import encode_result
from penstock._model.serializers import Serializer, name_of
from penstock._model.tracebacks import format_error, format_without_cause
from penstock._rules.effects import (
    Convert,
    DeadlinePassed,
    Error,
    Interrupted,
    Steps,
    Value,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.futures_in_arguments import LEAVES, Handle, all_leaves, is_plain
from penstock._rules.members import Passed
from penstock._rules.rulebook import COMMIT, RELEASE_SLOTS, Rulebook
from penstock._rules.run import Run
from penstock._rules.submission import submit_run
from penstock._rules.task_run import TaskRun
from penstock._rules.transitions import NO_DETAILS, TRANSITIONS, Event
from penstock._rules.verdicts import verdict_of
from penstock.exceptions import ParameterError, PenstockError, RunNotReady, RunTimedOut
from penstock.states import State, StateDetails, StateType, is_state

Decider: TypeAlias = Run | State[Any]
"""What takes part in the decision about a final state."""
Failure: TypeAlias = DeadlinePassed | Error | Interrupted
"""The outcomes that give no value."""
_CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset)
_PLAIN = frozenset({type(None), int, float, str, bytes, bool, dict})


class Ending(msgspec.Struct, frozen=True):
    """How an attempt ended, before anyone decided whether to try again.

    Attributes:
        event: what the end is.
        message: for people.
        value: the result; UNSET: there is none.
        error: what was raised.
        traceback: of the error, as text; None: it has not been made yet.
        deciders: the runs and states that have decided it.
        by_hand: the state that the user's code has returned.
    """

    event: Event
    message: str | None = None
    value: Any = msgspec.UNSET
    error: BaseException | None = None
    traceback: str | None = None
    deciders: Sequence[Decider] = ()
    by_hand: State[Any] | None = None

    @property
    def is_failure(self) -> bool:
        """Whether another attempt may mend it."""
        return self.event is Event.FAIL or self.event is Event.TIME_OUT


def moment_of(timestamp: float | None) -> datetime | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)


# The texts of what was raised


class Texts(msgspec.Struct, frozen=True):
    """What an exception says, and its traceback."""

    said: str
    traceback: str


def text_steps(error: BaseException) -> Steps[Texts | Interrupted]:
    """The texts of an exception, whose class may be one of the user's."""
    if _is_made_by_rules(error):
        return Texts(str(error), format_without_cause(error))
    outcome = yield Convert(partial(_texts_of, error))
    if type(outcome) is Value:
        return cast("Texts", outcome.value)
    if type(outcome) is Interrupted:
        return outcome
    name = type(error).__name__
    return Texts(f"<{name}: it cannot be shown>", name)


def _is_made_by_rules(error: BaseException) -> bool:
    """Whether nobody has raised it: its texts call no code, and have no traceback."""
    if error.__traceback__ is not None or not isinstance(error, PenstockError):
        return False
    # Thousands of runs may be NotReady, and the cause is shown by a run of its own.
    is_skip = isinstance(error, RunNotReady)
    return is_skip or (error.__cause__ is None and error.__context__ is None)


def _texts_of(error: BaseException) -> Texts:
    try:
        said = str(error)
    except Exception as trouble:
        said = f"<{type(error).__name__}: its str raised {type(trouble).__name__}>"
    return Texts(said, format_error(error))


def described_steps(ending: Ending) -> Steps[Ending]:
    """The ending with the traceback of its error; or that of an interruption that came first."""
    if ending.error is None or ending.traceback is not None:
        return ending
    texts = yield from text_steps(ending.error)
    if type(texts) is Interrupted:
        return (yield from interruption_steps(texts))
    return msgspec.structs.replace(ending, traceback=texts.traceback)


def failure_steps(run: Run, outcome: Failure) -> Steps[Ending]:
    """How an attempt ended that has given no value."""
    kind = "Flow" if isinstance(run, FlowRun) else "Task"
    if type(outcome) is DeadlinePassed:
        message = f"{kind} run exceeded timeout of {run.options.timeout_seconds} seconds"
        late = RunTimedOut(message)
        return Ending(Event.TIME_OUT, message, error=late, traceback=format_without_cause(late))
    if type(outcome) is Error:
        error = outcome.exception
        texts = yield from text_steps(error)
        if type(texts) is Interrupted:
            return (yield from interruption_steps(texts))
        message = f"{kind} run encountered an exception."
        if kind == "Flow":
            message += f" {type(error).__name__}: {texts.said}"
        return Ending(Event.FAIL, message, error=error, traceback=texts.traceback)
    if type(outcome) is Interrupted:
        return (yield from interruption_steps(outcome))
    assert_never(outcome)


def interruption_steps(outcome: Interrupted) -> Steps[Ending]:
    """How a run ends that was interrupted; interrupted at that again, it ends by the latter."""
    exception = outcome.exception
    if isinstance(exception, KeyboardInterrupt):
        return Ending(Event.CANCEL, "Execution was interrupted by KeyboardInterrupt.")
    if not isinstance(exception, SystemExit | GeneratorExit):
        return Ending(Event.CANCEL, "Execution was cancelled.")
    texts = yield Convert(lambda: Texts(repr(exception), format_error(exception)))
    if type(texts) is Interrupted:
        return (yield from interruption_steps(texts))
    shown = texts.value if type(texts) is Value else Texts(type(exception).__name__, "")
    message = f"Execution was ended by {shown.said}."
    return Ending(Event.CRASH, message, error=exception, traceback=shown.traceback)


# What a value says


def deciders_of(run: Run, value: object) -> Sequence[Decider]:
    """Rules 3 and 4 of the final states: the runs and states that decide; none: the value does."""
    if type(value) in _PLAIN:
        return run.child_runs() if value is None and isinstance(run, FlowRun) else ()
    if isinstance(value, Handle):
        return (value._run,)
    if is_state(value):
        return () if value.is_by_hand() else (value,)
    if isinstance(value, list | tuple | set | frozenset):
        items = _items_of(cast("Collection[object]", value))
        if not all_leaves(items) and all(isinstance(item, Handle | State) for item in items):
            deciding = cast("Collection[Handle | State[Any]]", items)
            return [item._run if isinstance(item, Handle) else item for item in deciding]
    return ()


def _items_of(value: Collection[object]) -> Collection[object]:
    """What is in it, without calling the `__iter__` of a subclass of the user's."""
    if type(value) in _CONTAINERS:
        return value
    base = next(base for base in _CONTAINERS if isinstance(value, base))
    return list(base.__iter__(value))


def ending_of_value(run: Run, value: object, deciders: Sequence[Decider]) -> Ending:
    """Rules 2 to 5 of the final states."""
    passed = run.members.passed if isinstance(run, FlowRun) and value is None else None
    if deciders or passed is not None:
        return _ending_of_deciders(value, deciders, passed)
    if is_state(value):
        return _ending_by_hand(value)
    message = "All states completed." if value is None and isinstance(run, FlowRun) else None
    return Ending(Event.FINISH, message, value)


def _ending_by_hand(state: State[Any]) -> Ending:
    events = {
        StateType.COMPLETED: Event.FINISH,
        StateType.FAILED: Event.FAIL,
        StateType.CANCELLED: Event.CANCEL,
        StateType.CRASHED: Event.CRASH,
    }
    event = events.get(state.type)
    if event is None:
        message = f"The returned state {state} is not a final one."
        return Ending(Event.FAIL, message, error=ParameterError(message))
    return Ending(
        event,
        state.message,
        state._value,
        state._error,
        deciders=state.child_states,
        by_hand=state,
    )


def _ending_of_deciders(
    value: object, deciders: Sequence[Decider], passed: Passed | None
) -> Ending:
    types = Counter(map(type_of, deciders))
    errors = list(map(error_of, deciders))
    if passed is not None:
        types += passed.types
        errors.append(passed.error)
    verdict = verdict_of(types)
    error = None
    if verdict.event is Event.FAIL:
        error = next((e for e in errors if e is not None), None)
    return Ending(verdict.event, verdict.message, value, error, deciders=deciders)


def type_of(decider: Decider) -> StateType:
    return decider.history[-1].type if isinstance(decider, Run) else decider.type


def error_of(decider: Decider) -> BaseException | None:
    return decider.error if isinstance(decider, Run) else decider._error


# The end


def interrupt_steps(run: Run, rules: Rulebook, outcome: Interrupted) -> Steps[bool]:
    """End a run that was interrupted; True: it has ended."""
    if Event.CANCEL not in TRANSITIONS[run.phase]:  # at its position, an earlier run had ended
        submit_run(run, rules)
    yield from end_steps(run, rules, (yield from interruption_steps(outcome)))
    return True


def crash_steps(run: Run, rules: Rulebook, error: Exception) -> Steps[bool]:
    """End a run that cannot go on; True: it has ended."""
    texts = yield from text_steps(error)
    if type(texts) is Interrupted:
        return (yield from interrupt_steps(run, rules, texts))
    if Event.CRASH not in TRANSITIONS[run.phase]:
        submit_run(run, rules)
    message = f"The run could not go on: {texts.said}"
    ending = Ending(Event.CRASH, message, error=error, traceback=texts.traceback)
    yield from end_steps(run, rules, ending)
    return True


def end_steps(run: Run, rules: Rulebook, ending: Ending) -> Steps:
    """Let a run end; what the store keeps of its result, or of its error, is made before."""
    refused: str | None = None
    if ending.event is Event.FINISH:
        encoded = yield from _encode_steps(run, rules, ending)
        if type(encoded) is Interrupted:
            ending = yield from interruption_steps(encoded)
        else:
            refused = encoded
    if ending.error is not None:
        ending = yield from described_steps(ending)
    now, details = rules.now(), NO_DETAILS
    if ending.event is not Event.FINISH:
        run.cache_row = None
        if ending.error is not None:
            details = StateDetails(traceback=ending.traceback)
    elif refused is not None or run.cache_row is not None:
        details = _details_of_result(run, refused, now, rules)
    run.value, run.error = ending.value, ending.error
    name = None if ending.by_hand is None else ending.by_hand.name
    child_states = tuple(map(_state_of, ending.deciders)) if ending.deciders else ()
    run.enter(ending.event, now, ending.message, details, name, child_states)
    if isinstance(run, TaskRun) and run.slots is not None:
        yield RELEASE_SLOTS
    if rules.strict:
        yield COMMIT


def _state_of(decider: Decider) -> State[Any]:
    return decider.state if isinstance(decider, Run) else decider


def _details_of_result(run: Run, refused: str | None, now: float, rules: Rulebook) -> StateDetails:
    """Under which key the result can be found, or why it cannot be stored."""
    cache_row = run.cache_row
    if refused is not None:
        run.cache_row = None
        if cache_row is not None:
            rules.warn(run, f"could not be cached: {refused}", None)
        return StateDetails(not_persisted=refused)
    if cache_row is None:
        return NO_DETAILS
    lifetime = cache_row.expires_at
    expires_at = None if lifetime is None else now + lifetime
    run.cache_row = cache_row._replace(created_at=now, expires_at=expires_at)
    return StateDetails(cache_key=cache_row.key, cache_expiration=moment_of(expires_at))


class _Refused(msgspec.Struct, frozen=True):
    """Why a result cannot be encoded."""

    reason: str
    error: Exception


def _encode_steps(run: Run, rules: Rulebook, ending: Ending) -> Steps[str | Interrupted | None]:
    """Encode the result for the store; the reason where it will not be there."""
    if not run.options.persist_result:
        return "persist_result is False"
    if ending.deciders and ending.value is not None and ending.by_hand is None:
        return "it consists of futures"
    value, serializer = ending.value, run.serializer()
    if serializer is None and (type(value) in LEAVES or is_plain(value)):
        run.payload = encode_result(value)
        return None
    outcome = yield Convert(partial(_encoded, value, serializer))
    if type(outcome) is Interrupted:
        return outcome
    found: bytes | _Refused | Exception = (
        outcome.value if type(outcome) is Value else outcome.exception
    )
    if isinstance(found, bytes):
        run.payload = found
        return None
    by = _by(serializer)
    if isinstance(found, Exception):  # what it raised cannot even be shown
        return f"it cannot be serialized{by} ({type(found).__name__})"
    if serializer is not None:  # the user has chosen it, and is told at once
        what = f"The result cannot be serialized{by}; it is not stored"
        rules.report(run, what, found.error)
    return found.reason


def _encoded(value: object, serializer: Serializer | None) -> bytes | _Refused:
    try:
        return encode_result(value, serializer)
    except Exception as error:
        reason = f"it cannot be serialized{_by(serializer)} ({type(error).__name__}: {error})"
        return _Refused(reason, error)


def _by(serializer: Serializer | None) -> str:
    return "" if serializer is None else f" by {name_of(serializer)!r}"
