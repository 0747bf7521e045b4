"""The rules of final states: what an attempt ended with decides how the run ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from penstock._model.payloads import encode_result
from penstock._model.serializers import name_of
from penstock._model.tracebacks import format_error, format_without_cause
from penstock._rules.arguments import Handle, all_leaves
from penstock._rules.effects import (
    DeadlinePassed,
    Error,
    Interrupted,
    Outcome,
    Steps,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.members import Passed
from penstock._rules.rulebook import COMMIT, RELEASE_SLOTS, Rulebook
from penstock._rules.run import Part, Run
from penstock._rules.submission import submit_run
from penstock._rules.transitions import NO_DETAILS, TRANSITIONS, Event
from penstock._rules.verdicts import verdict_of
from penstock.exceptions import ParameterError, RunNotReady, RunTimedOut
from penstock.states import State, StateDetails, StateType, is_state

_PLAIN = frozenset({type(None), int, float, str, bytes, bool, dict})


class Ending(msgspec.Struct, frozen=True):
    """How an attempt ended, before anyone decided whether to try again."""

    event: Event
    message: str | None = None
    value: Any = msgspec.UNSET
    error: BaseException | None = None
    deciding: Sequence[Part] = ()
    by_hand: State[Any] | None = None

    @property
    def is_failure(self) -> bool:
        """Whether another attempt may mend it."""
        return self.event is Event.FAIL or self.event is Event.TIME_OUT


def moment_of(timestamp: float | None) -> datetime | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)


def ending_of_failure(run: Run, outcome: Outcome) -> Ending:
    kind = "Flow" if isinstance(run, FlowRun) else "Task"
    if type(outcome) is DeadlinePassed:
        message = f"{kind} run exceeded timeout of {run.options.timeout_seconds} seconds"
        return Ending(Event.TIME_OUT, message, error=RunTimedOut(message))
    if type(outcome) is Error:
        exception = outcome.exception
        message = f"{kind} run encountered an exception."
        if kind == "Flow":
            message += f" {type(exception).__name__}: {exception}"
        return Ending(Event.FAIL, message, error=exception)
    assert isinstance(outcome, Interrupted), "values are settled elsewhere"
    return ending_of_interruption(outcome)


def ending_of_interruption(outcome: Interrupted) -> Ending:
    exception = outcome.exception
    if isinstance(exception, SystemExit | GeneratorExit):
        return Ending(Event.CRASH, f"Execution was ended by {exception!r}.", error=exception)
    if isinstance(exception, KeyboardInterrupt):
        return Ending(Event.CANCEL, "Execution was interrupted by KeyboardInterrupt.")
    return Ending(Event.CANCEL, "Execution was cancelled.")


def deciding_parts(run: Run, value: object) -> Sequence[Part]:
    """Rules 3 and 4 of the final states: the runs and states that decide; none: the value does."""
    if type(value) in _PLAIN:
        return run.child_runs() if value is None and isinstance(run, FlowRun) else ()
    if isinstance(value, Handle):
        return (value._run,)
    if is_state(value):
        return () if value.is_by_hand() else (value,)
    if isinstance(value, list | tuple | set | frozenset):
        parts = list(cast("Iterable[object]", value))
        if not all_leaves(parts) and all(isinstance(part, Handle | State) for part in parts):
            deciding = cast("list[Handle | State[Any]]", parts)
            return [part._run if isinstance(part, Handle) else part for part in deciding]
    return ()


def ending_of_value(run: Run, value: object, deciding: Sequence[Part]) -> Ending:
    """Rules 2 to 5 of the final states."""
    if value is None and isinstance(run, FlowRun) and run.passed.types:
        return _ending_of_parts(None, deciding, run.passed)
    if deciding:
        return _ending_of_parts(value, deciding)
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
    return Ending(event, state.message, state._value, state._error, state.child_states, state)


def _ending_of_parts(
    value: object, deciding: Sequence[Part], passed: Passed | None = None
) -> Ending:
    types = Counter(map(type_of_part, deciding))
    errors = list(map(error_of_part, deciding))
    if passed is not None:
        types += passed.types
        errors.append(passed.error)
    verdict = verdict_of(types)
    error = None
    if verdict.event is Event.FAIL:
        error = next((e for e in errors if e is not None), None)
    return Ending(verdict.event, verdict.message, value, error, deciding)


def type_of_part(part: Part) -> StateType:
    return part.history[-1].type if isinstance(part, Run) else part.type


def error_of_part(part: Part) -> BaseException | None:
    return part.error if isinstance(part, Run) else part._error


def interrupt_steps(run: Run, rules: Rulebook, outcome: Interrupted) -> Steps[bool]:
    if Event.CANCEL not in TRANSITIONS[run.phase]:  # in its place, an earlier run had ended
        submit_run(run, rules)
    yield from end_steps(run, rules, ending_of_interruption(outcome))
    return True


def end_steps(run: Run, rules: Rulebook, ending: Ending) -> Steps:
    now = rules.now()
    details = NO_DETAILS
    if ending.event is Event.FINISH:
        details = _store_result(run, ending, now, rules)
    else:
        run.cache_row = None
        if ending.error is not None:
            details = StateDetails(traceback=traceback_of(ending.error))
    run.value, run.error, run.deciding = ending.value, ending.error, ending.deciding
    name = None if ending.by_hand is None else ending.by_hand.name
    run.enter(ending.event, now, ending.message, details, name)
    if run.slots is not None:
        yield RELEASE_SLOTS
    if rules.strict:
        yield COMMIT


def _store_result(run: Run, ending: Ending, now: float, rules: Rulebook) -> StateDetails:
    """Encode the result, and say under which key it can be found, or why it cannot."""
    cache_row = run.cache_row
    reason = _encode(run, ending, rules)
    if reason is not None:
        run.cache_row = None
        if cache_row is not None:
            rules.warn(run, f"could not be cached: {reason}", None)
        return StateDetails(not_persisted=reason)
    if cache_row is None:
        return NO_DETAILS
    lifetime = cache_row.expires_at
    expires_at = None if lifetime is None else now + lifetime
    run.cache_row = cache_row._replace(created_at=now, expires_at=expires_at)
    return StateDetails(cache_key=cache_row.key, cache_expiration=moment_of(expires_at))


def _encode(run: Run, ending: Ending, rules: Rulebook) -> str | None:
    """Encode the result for the store; the reason where it will not be there."""
    if not run.options.persist_result:
        return "persist_result is False"
    if ending.deciding and ending.value is not None and ending.by_hand is None:
        return "it consists of futures"
    try:
        run.payload = encode_result(ending.value, run.serializer())
    except Exception as error:
        return _complaint(run, rules, error)
    return None


def _complaint(run: Run, rules: Rulebook, error: Exception) -> str:
    """Why the result cannot be stored; where the user has chosen how, it is also said at once."""
    serializer = run.serializer()
    by = "" if serializer is None else f" by {name_of(serializer)!r}"
    if serializer is not None:
        rules.report(run, f"The result cannot be serialized{by}; it is not stored", error)
    return f"it cannot be serialized{by} ({type(error).__name__}: {error})"


def traceback_of(error: BaseException | None) -> str | None:
    if isinstance(error, RunNotReady) and error.__traceback__ is None:
        return format_without_cause(error)  # thousands may have one, whose own run shows it
    return None if error is None else format_error(error)
