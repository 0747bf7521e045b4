"""The rules: what happens to a run, from Pending to its end.

`task_steps` and `flow_steps` are generators that do no I/O and know no thread and no loop. They
yield effects and are sent outcomes; the drivers do the rest. Each decision about states, retries,
caching and timeouts is made here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, cast

import msgspec

from penstock._engine.arguments import Handle, all_leaves
from penstock._engine.effects import (
    Acquire,
    Claim,
    Commit,
    Error,
    Interrupted,
    Invoke,
    Join,
    LookUp,
    Outcome,
    Record,
    Sleep,
    Steps,
    TimedOut,
    Value,
    WaitFor,
)
from penstock._engine.ids import to_uuid
from penstock._engine.runs import FlowRun, Run, TaskRun
from penstock._engine.tracebacks import format_error
from penstock.caching import UnhashableParameter, hash_inputs
from penstock.exceptions import ParameterError, RunCancelled, RunNotReady, RunTimedOut
from penstock.records import CacheHit, CacheRow, storable_text
from penstock.results import encode_result, reference_to_run
from penstock.states import (
    TRANSITIONS,
    Event,
    State,
    StateDetails,
    StateType,
    advance,
    is_state,
    verdict_of,
)

Now: TypeAlias = Callable[[], datetime]
Warn: TypeAlias = Callable[[Run, str, BaseException | None], None]

_PLAIN = frozenset({int, float, str, bytes, bool, dict})


class Rulebook(msgspec.Struct, frozen=True):
    """What the rules know of the world.

    Attributes:
        now: the time.
        warn: tells the user something about a run, without changing it.
        strict: whether a result may be seen only once it is on disk.
    """

    now: Now
    warn: Warn
    strict: bool = False


class Ending(msgspec.Struct, frozen=True):
    """How an attempt ended, before anyone decided whether to try again."""

    event: Event
    message: str | None = None
    value: Any = msgspec.UNSET
    error: BaseException | None = None
    child_states: tuple[State[Any], ...] = ()
    by_hand: State[Any] | None = None

    @property
    def is_failure(self) -> bool:
        """Whether another attempt may mend it."""
        return self.event is Event.FAIL or self.event is Event.TIME_OUT


Settle: TypeAlias = Callable[[Any, Outcome], Generator[Any, Any, Ending]]


def submission(run: Run, rules: Rulebook) -> Record:
    """The first step of a new run; a driver may take it before it begins the steps below."""
    return _entering(run, rules, Event.SUBMIT)


def task_steps(run: TaskRun, rules: Rulebook) -> Steps[State[Any]]:
    """The life of a task run; returns its last state."""
    early = yield from _opening_steps(run, rules)
    if early is not None:
        return early
    if run.task.is_cached:
        hit = yield from _cache_steps(run, rules)
        if hit is not None:
            return hit
    return (yield from _attempt_steps(run, rules, _settle_task))


def flow_steps(run: FlowRun, rules: Rulebook) -> Steps[State[Any]]:
    """The life of a flow run; returns its last state."""
    early = yield from _opening_steps(run, rules)
    if early is not None:
        return early
    try:
        run.validate()
    except ParameterError as error:
        return (yield from _end(run, rules, Ending(Event.FAIL, str(error), error=error)))
    return (yield from _attempt_steps(run, rules, _settle_flow))


# Before the first attempt


def _opening_steps(run: Run, rules: Rulebook) -> Steps[State[Any] | None]:
    """Wait for what the run depends on; a state where that already decides."""
    if run.phase is None:
        yield submission(run, rules)
    if run.upstreams or run.after is not None:
        outcome = yield WaitFor([*run.upstream_runs, *run.predecessors])
        if type(outcome) is Interrupted:
            return (yield from _interrupt(run, rules, outcome))
        missing = _not_completed(run)
        if missing is not None:
            return (yield from _end_not_ready(run, rules, missing))
        run.resolve_arguments()
    if run.earlier is not None:
        if _can_stand_for(run.earlier, run):
            return run.earlier.state
        yield _entering(run, rules, Event.SUBMIT)
    outcome = yield Acquire()
    return (yield from _interrupt(run, rules, outcome)) if type(outcome) is Interrupted else None


def _not_completed(run: Run) -> str | None:
    for upstream in run.upstreams:
        state = upstream._run.state if isinstance(upstream, Handle) else upstream
        if not state.is_completed():
            if state.name == "NotReady" and state.message is not None:
                return state.message  # what came first in the chain, once
            name = getattr(upstream._run, "name", "") if isinstance(upstream, Handle) else ""
            return f"Upstream {name or 'run'!r} did not complete: {state}."
    return None


def _end_not_ready(run: Run, rules: Rulebook, message: str) -> Steps[State[Any]]:
    if run.phase != "Pending":
        yield _entering(run, rules, Event.SUBMIT)
    ending = Ending(Event.SKIP, message, error=RunNotReady(message))
    return (yield from _end(run, rules, ending))


def _can_stand_for(earlier: Run, run: Run) -> bool:
    """Whether a flow's retry takes the earlier run in this place: it completed, on equal inputs."""
    if not earlier.state.is_completed():
        return False
    try:
        return _hash_of_inputs(earlier) == _hash_of_inputs(run)
    except UnhashableParameter:
        return True  # the place alone has to say it


def _hash_of_inputs(run: Run) -> str:
    return hash_inputs(run.options.fn, run.inputs)


# Caching


def _cache_steps(run: TaskRun, rules: Rulebook) -> Steps[State[Any] | None]:
    """Find the run's cache key, then a result under it; a state where there is one."""
    outcome = yield Invoke(lambda: _text_or_none(run.task.cache_key_of(run)))
    if type(outcome) is Interrupted:
        return (yield from _interrupt(run, rules, outcome))
    if type(outcome) is Error:
        rules.warn(run, "runs uncached", outcome.exception)
    key = outcome.value if type(outcome) is Value else None
    if key is None:
        return None
    return (yield from _look_up_steps(run, rules, key))


def _text_or_none(key: object) -> str | None:
    return None if key is None else storable_text(str(key))


def _look_up_steps(run: TaskRun, rules: Rulebook, key: str) -> Steps[State[Any] | None]:
    lifetime = run.task.cache_expiration
    run.cache_row = CacheRow(key, run.run_id, 0.0, lifetime)
    if run.task.refresh_cache:
        return None
    found = (yield LookUp(key)).value
    while found is None:
        owner = (yield Claim(key)).value
        if owner is not None:
            outcome = yield WaitFor([owner])
            if type(outcome) is Interrupted:
                return (yield from _interrupt(run, rules, outcome))
        # In any case once more: an owner may have ended between the look-up and the claim.
        found = (yield LookUp(key)).value
        if owner is None:
            break
    if found is None:
        return None
    return (yield from _end_cached(run, rules, key, found))


def _end_cached(run: TaskRun, rules: Rulebook, key: str, hit: CacheHit) -> Steps[State[Any]]:
    run.cache_row = None
    run.payload = reference_to_run(hit.run_id)
    details = StateDetails(
        cache_key=key,
        cache_expiration=_moment(hit.expires_at),
        cached_from=to_uuid(hit.run_id),
    )
    phase = advance(run.phase, Event.HIT)
    state = run.new_state(phase, None, rules.now(), details, hit.value)
    yield Record(phase, state)
    if rules.strict:
        yield Commit()
    return state


def _moment(timestamp: float | None) -> datetime | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)


# Attempts


def _attempt_steps(run: Run, rules: Rulebook, settle: Settle) -> Steps[State[Any]]:
    """Run the user's code until it ends well or its retries are used up."""
    options = run.options
    event, attempts = Event.START, 0
    while True:
        yield _entering(run, rules, event)
        attempts += 1
        outcome = yield Invoke(run.call(), options.timeout_seconds, options.is_async)
        ending = yield from settle(run, outcome)
        if not (ending.is_failure and options.retry_policy.allows(attempts)):
            return (yield from _end(run, rules, ending))
        outcome = yield from _await_retry(run, rules, ending, attempts)
        if type(outcome) is Interrupted:
            return (yield from _interrupt(run, rules, outcome))
        event = Event.RETRY
        if isinstance(run, FlowRun):
            run.begin_again()


def _await_retry(run: Run, rules: Rulebook, ending: Ending, attempts: int) -> Steps[Outcome]:
    delay = run.options.retry_policy.delay_after(attempts)
    now = rules.now()
    details = StateDetails(
        scheduled_time=now + timedelta(seconds=delay), traceback=_traceback_of(ending.error)
    )
    phase = advance(run.phase, Event.AWAIT_RETRY)
    yield Record(phase, run.new_state(phase, ending.message, now, details, error=ending.error))
    outcome: Outcome = (yield Sleep(delay)) if delay else Value()
    if type(outcome) is not Interrupted:
        outcome = yield Acquire()
    return outcome


def _settle_task(run: TaskRun, outcome: Outcome) -> Steps[Ending]:
    if type(outcome) is Value:
        return (yield from _settle_value(outcome.value))
    return _settle_failure("Task", run, outcome)


def _settle_flow(run: FlowRun, outcome: Outcome) -> Steps[Ending]:
    """Join all that the flow submitted; then its value, or its exception, decides."""
    stop = type(outcome) is Interrupted or type(outcome) is TimedOut
    joined = yield Join(cancel=stop)
    if type(joined) is Interrupted:
        if not stop:
            yield Join(cancel=True)
        outcome = joined
    if type(outcome) is not Value:
        return _settle_failure("Flow", run, outcome)
    if outcome.value is None:
        states = run.child_states()
        return _ending_of(states, None) if states else _all_completed(None)
    return (yield from _settle_value(outcome.value))


def _all_completed(value: object) -> Ending:
    return Ending(Event.FINISH, "All states completed.", value)


def _settle_failure(kind: str, run: Run, outcome: Outcome) -> Ending:
    if type(outcome) is TimedOut:
        message = f"{kind} run exceeded timeout of {run.options.timeout_seconds} seconds"
        return Ending(Event.TIME_OUT, message, error=RunTimedOut(message))
    if type(outcome) is Error:
        exception = outcome.exception
        message = f"{kind} run encountered an exception."
        if kind == "Flow":
            message += f" {type(exception).__name__}: {exception}"
        return Ending(Event.FAIL, message, error=exception)
    assert isinstance(outcome, Interrupted), "values are settled elsewhere"
    return _interruption(outcome)


def _interruption(outcome: Interrupted) -> Ending:
    exception = outcome.exception
    if isinstance(exception, SystemExit | GeneratorExit):
        return Ending(Event.CRASH, f"Execution was ended by {exception!r}.", error=exception)
    if isinstance(exception, KeyboardInterrupt):
        return Ending(Event.CANCEL, "Execution was interrupted by KeyboardInterrupt.")
    return Ending(Event.CANCEL, "Execution was cancelled.")


def _settle_value(value: object) -> Steps[Ending]:
    """Rules 2, 3 and 5 of the final states: what a returned value says."""
    if value is None or type(value) in _PLAIN:
        return Ending(Event.FINISH, None, value)
    if is_state(value) and value.is_by_hand():
        return _ending_by_hand(value)
    deciding = _deciding_parts(value)
    if not deciding:
        return Ending(Event.FINISH, None, value)
    handles = [part._run for part in deciding if isinstance(part, Handle)]
    outcome = yield WaitFor(handles)
    if type(outcome) is Interrupted:
        return _interruption(outcome)
    states = tuple(part._run.state if isinstance(part, Handle) else part for part in deciding)
    return _ending_of(states, value)


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


def _deciding_parts(value: object) -> Sequence[Any]:
    """The futures and states that a value is, or consists of; empty for any other value."""
    if isinstance(value, Handle) or is_state(value):
        return (value,)
    if isinstance(value, list | tuple | set | frozenset):
        parts = list(cast("Iterable[object]", value))
        if all_leaves(parts):  # nothing in it, or plain data
            return ()
        if all(isinstance(part, Handle | State) for part in parts):
            return parts
    return ()


def _ending_of(states: tuple[State[Any], ...], value: object) -> Ending:
    verdict = verdict_of(states)
    error = None
    if verdict.event is Event.FAIL:
        error = next((s._error for s in states if s._error is not None), None)
    return Ending(verdict.event, verdict.message, value, error, states)


# The end


def _interrupt(run: Run, rules: Rulebook, outcome: Interrupted) -> Steps[State[Any]]:
    if Event.CANCEL not in TRANSITIONS[run.phase]:  # in its place, an earlier run had ended
        yield _entering(run, rules, Event.SUBMIT)
    return (yield from _end(run, rules, _interruption(outcome)))


def abort_steps(run: Run, rules: Rulebook, error: BaseException) -> Steps[None]:
    """End a run whose own steps can go no further."""
    if run.phase is None:
        yield _entering(run, rules, Event.SUBMIT)
    if Event.CRASH in TRANSITIONS[run.phase]:
        ending = _interruption(Interrupted(error))
        if isinstance(error, Exception) and not isinstance(error, RunCancelled):
            ending = Ending(Event.CRASH, f"The run could not go on: {error}", error=error)
        yield from _end(run, rules, ending)


def _end(run: Run, rules: Rulebook, ending: Ending) -> Steps[State[Any]]:
    phase = advance(run.phase, ending.event)
    now = rules.now()
    details = _NO_DETAILS
    if ending.event is Event.FINISH:
        details = _store_result(run, ending, now, rules)
    else:
        run.cache_row = None
        if ending.error is not None:
            details = StateDetails(traceback=_traceback_of(ending.error))
    state = run.new_state(
        phase, ending.message, now, details, ending.value, ending.error, ending.child_states
    )
    if ending.by_hand is not None:
        state = msgspec.structs.replace(state, name=ending.by_hand.name)
    yield Record(phase, state)
    if rules.strict:
        yield Commit()
    return state


_NO_DETAILS = StateDetails()


def _store_result(run: Run, ending: Ending, now: datetime, rules: Rulebook) -> StateDetails:
    """Encode the result, and say under which key it can be found, or why it cannot."""
    cache_row = run.cache_row
    reason = _encode(run, ending)
    if reason is not None:
        run.cache_row = None
        if cache_row is not None:
            rules.warn(run, f"could not be cached: {reason}", None)
        return StateDetails(not_persisted=reason)
    if cache_row is None:
        return _NO_DETAILS
    created_at = now.timestamp()
    lifetime = cache_row.expires_at
    expires_at = None if lifetime is None else created_at + lifetime
    run.cache_row = CacheRow(cache_row.key, run.run_id, created_at, expires_at)
    return StateDetails(cache_key=cache_row.key, cache_expiration=_moment(expires_at))


def _encode(run: Run, ending: Ending) -> str | None:
    """Encode the result for the store; the reason where it will not be there."""
    if not run.options.persist_result:
        return "persist_result is False"
    if ending.child_states and ending.value is not None and ending.by_hand is None:
        return "it consists of futures"
    try:
        run.payload = encode_result(ending.value)
    except Exception as error:
        return f"it cannot be serialized ({type(error).__name__}: {error})"
    return None


def _entering(run: Run, rules: Rulebook, event: Event) -> Record:
    phase = advance(run.phase, event)
    return Record(phase, run.new_state(phase, None, rules.now()))


def _traceback_of(error: BaseException | None) -> str | None:
    return None if error is None else format_error(error)
