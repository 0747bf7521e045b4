"""The rules: what happens to a run, from Pending to its end.

`task_steps` and `flow_steps` are generators that do no I/O and know no thread and no loop. They
let the run enter its states, yield effects and are sent outcomes; the drivers do the rest. Each
decision about states, retries, caching and timeouts is made here and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias, cast

import msgspec

from penstock._engine.arguments import Handle, all_leaves
from penstock._engine.effects import (
    Acquire,
    Ask,
    CallHook,
    Claim,
    Commit,
    Error,
    Interrupted,
    Invoke,
    Join,
    LookUp,
    Occupy,
    Outcome,
    Sleep,
    Steps,
    TimedOut,
    Vacate,
    Value,
    WaitFor,
)
from penstock._engine.ids import to_uuid
from penstock._engine.runs import SKETCHED, FlowRun, Part, Passed, Run, TaskRun
from penstock._engine.sketches import sketch_steps
from penstock._engine.tracebacks import format_error, format_without_cause
from penstock.cache_explanations import encode_parts, number_of_task
from penstock.cache_policies import CacheKey
from penstock.caching import UnhashableParameter, hash_inputs
from penstock.exceptions import ParameterError, RunCancelled, RunNotReady, RunTimedOut
from penstock.hooks import hook_name
from penstock.records import CacheHit, CacheRow, storable_text
from penstock.results import encode_result, reference_to_run
from penstock.serializers import name_of
from penstock.states import (
    NO_DETAILS,
    TRANSITIONS,
    Event,
    State,
    StateDetails,
    StateType,
    is_state,
    verdict_of,
)

Now: TypeAlias = Callable[[], float]
Warn: TypeAlias = Callable[[Run, str, BaseException | None], None]
Report: TypeAlias = Callable[[Run, str, Exception], None]
Missed: TypeAlias = Callable[[TaskRun, CacheKey], None]

_PLAIN = frozenset({type(None), int, float, str, bytes, bool, dict})
_ACQUIRE: Final = Acquire()
_INVOKE: Final = Invoke()
_COMMIT: Final = Commit()
_VACATE: Final = Vacate()
_AGREED: Final = Value(True)
_REFUSED: Final = Value(False)
_ENDS: Final = frozenset({Interrupted, TimedOut})
"""After these, what a flow has submitted is not waited for."""


class Rulebook(msgspec.Struct, frozen=True):
    """What the rules know of the world.

    Attributes:
        now: the time, in seconds since 1970.
        warn: tells the user something about a run, without changing it.
        strict: whether a result may be seen only once it is on disk.
        report: tells the user what code of theirs beside the run's function has raised.
        draw: a random number from 0 to 1.
        missed: hears which key found nothing.
    """

    now: Now
    warn: Warn
    strict: bool = False
    report: Report = lambda _run, _what, _error: None
    draw: Callable[[], float] = lambda: 0.5
    missed: Missed = lambda _run, _key: None


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


def submit_run(run: Run, rules: Rulebook) -> None:
    """The first step of a new run; a driver may take it before it begins the steps below."""
    run.enter(Event.SUBMIT, rules.now())


def run_steps(run: Run, rules: Rulebook) -> Steps:
    """The life of a run, and around it what its options ask for."""
    if run.phase is SKETCHED:
        return sketch_steps(run)
    if isinstance(run, TaskRun):
        steps = task_steps(run, rules)
    else:
        assert isinstance(run, FlowRun), "there are two kinds of run"
        steps = flow_steps(run, rules)
    if run.options.make_name is not None:
        steps = _begun_with(partial(_name_steps, run, rules), steps)
    return steps if run.options.hooks is None else _hooked_steps(run, rules, steps)


def task_steps(run: TaskRun, rules: Rulebook) -> Steps:
    """The life of a task run."""
    has_ended = yield from _opening_steps(run, rules)
    if not has_ended and run.options.is_cached:
        has_ended = yield from _cache_steps(run, rules)
    if not has_ended:
        yield from _attempt_steps(run, rules)


def flow_steps(run: FlowRun, rules: Rulebook) -> Steps:
    """The life of a flow run."""
    if (yield from _opening_steps(run, rules)):
        return
    try:
        run.validate()
    except ParameterError as error:
        yield from _end(run, rules, Ending(Event.FAIL, str(error), error=error))
    else:
        yield from _attempt_steps(run, rules)


# Around the life of a run


def _begun_with(first: Callable[[], Steps[Outcome]], steps: Steps) -> Steps:
    """The steps, and `first` before the user's function is called for the first time."""
    has_begun = False
    outcome: Any = None
    while True:
        try:
            effect = steps.send(outcome)
        except StopIteration:
            return
        if type(effect) is Invoke and not has_begun:
            has_begun = True
            outcome = yield from first()
            if type(outcome) is Interrupted:
                continue
        outcome = yield effect


def _name_steps(run: Run, rules: Rulebook) -> Steps[Outcome]:
    """Give the run its name; where there is none to be had, it keeps the one that it has."""
    make = run.options.make_name
    assert make is not None, "asked only where there is one"
    outcome: Outcome = yield Ask(lambda: _name_or_refuse(make(run.parameters)))
    if type(outcome) is Error:
        kind = run.definition.kind
        rules.report(run, f"{kind}_run_name raised; the run keeps its name", outcome.exception)
    elif type(outcome) is Value:
        run.rename(outcome.value)
    return outcome


def _name_or_refuse(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ParameterError(f"A run's name must be a text that is not empty, not {name!r}.")
    return storable_text(name)


def _hooked_steps(run: Run, rules: Rulebook, steps: Steps) -> Steps:
    """The steps, and the hooks: as the run first runs, and when it has ended by itself."""
    before = run.history[-1] if run.history else None
    yield from _begun_with(partial(_hook_steps, run, rules), steps)
    if run.history[-1] is before or run.phase == "Cached":  # an earlier run stands for this one
        return
    if isinstance(run, FlowRun):  # hooks may submit, too, however it was stopped
        run.take_stop()
    yield from _hook_steps(run, rules)
    if isinstance(run, FlowRun):
        yield from _join_steps(run, Value())


def _hook_steps(run: Run, rules: Rulebook) -> Steps[Outcome]:
    """Call the hooks that are told of the present state."""
    hooks, state = run.options.hooks, run.state
    for hook in () if hooks is None else hooks.told_of(state.type):
        outcome = yield CallHook(partial(hook, run.options, run, state))
        if type(outcome) is Interrupted:
            return outcome
        if type(outcome) is Error:
            rules.report(run, f"The hook {hook_name(hook)!r} raised", outcome.exception)
    return Value()


# Before the first attempt; each of these says whether the run has ended


def _opening_steps(run: Run, rules: Rulebook) -> Steps[bool]:
    """Wait for what the run depends on, and for a worker."""
    if run.phase is None:
        submit_run(run, rules)
    if run.upstreams or run.after is not None:
        outcome = yield WaitFor([*run.upstream_runs, *run.predecessors])
        if type(outcome) is Interrupted:
            return (yield from _interrupt(run, rules, outcome))
        error = missing_upstream(run)
        if error is not None:
            return (yield from _end_not_ready(run, rules, error))
        run.resolve_arguments()
    if run.earlier is not None:
        if _can_stand_for(run.earlier, run):
            return True
        submit_run(run, rules)
    outcome = yield _ACQUIRE
    if type(outcome) is Interrupted:
        return (yield from _interrupt(run, rules, outcome))
    return False


def missing_upstream(run: Run) -> RunNotReady | None:
    """Which upstream did not complete, because of what it raised; None: all of them have."""
    for upstream in run.upstreams:
        if isinstance(upstream, Handle) and upstream.may_fail:
            continue
        part = upstream._run if isinstance(upstream, Handle) else upstream
        if _type_of(part) is not StateType.COMPLETED:
            return _not_ready_after(part)
    return None


def _not_ready_after(part: Part) -> RunNotReady:
    """Of a chain of runs that were not ready, the message and the cause are those of the first."""
    name, state = (part.name, part.state) if isinstance(part, Run) else ("run", part)
    message = state.message if state.name == "NotReady" else None
    if message is None:
        message = f"Upstream {name!r} did not complete: {state}."
    cause = _error_of(part)
    error = RunNotReady(message)
    error.__cause__ = cause.__cause__ if isinstance(cause, RunNotReady) else cause
    return error


def _end_not_ready(run: Run, rules: Rulebook, error: RunNotReady) -> Steps[bool]:
    if run.phase != "Pending":
        submit_run(run, rules)
    yield from _end(run, rules, Ending(Event.SKIP, str(error), error=error))
    return True


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


def _cache_steps(run: TaskRun, rules: Rulebook) -> Steps[bool]:
    """Find the run's cache key, then a result under it."""
    outcome = yield Ask(lambda: run.options.cache_key_of(run))
    if type(outcome) is Interrupted:
        return (yield from _interrupt(run, rules, outcome))
    if type(outcome) is Error:
        rules.warn(run, "runs uncached", outcome.exception)
    key = outcome.value if type(outcome) is Value else None
    if key is None:
        return False
    return (yield from _look_up_steps(run, rules, key))


def _look_up_steps(run: TaskRun, rules: Rulebook, key: CacheKey) -> Steps[bool]:
    found: CacheHit | None = None
    if not run.options.refresh_cache:
        found = (yield LookUp(key.text)).value
        while found is None:
            owner = (yield Claim(key.text)).value
            if owner is not None:
                outcome = yield WaitFor([owner])
                if type(outcome) is Interrupted:
                    return (yield from _interrupt(run, rules, outcome))
            # In any case once more: an owner may have ended between the look-up and the claim.
            found = (yield LookUp(key.text)).value
            if owner is None:
                break
    if found is None:
        run.cache_row = _new_entry(run, rules, key)
        return False
    return (yield from _end_cached(run, rules, key.text, found))


def _new_entry(run: TaskRun, rules: Rulebook, key: CacheKey) -> CacheRow:
    """The entry that the result will be found by; its lifetime, until that has begun."""
    options, parts = run.options, key.parts()
    if not options.refresh_cache:
        rules.missed(run, key)
    task = number_of_task(options.task_key) if parts else None
    encoded = encode_parts(parts) if parts else None
    return CacheRow(key.text, run.run_id, 0.0, options.cache_expiration, task, encoded)


def _end_cached(run: TaskRun, rules: Rulebook, key: str, hit: CacheHit) -> Steps[bool]:
    run.payload = reference_to_run(hit.run_id)
    run.value = hit.value
    details = StateDetails(
        cache_key=key,
        cache_expiration=_moment(hit.expires_at),
        cached_from=_uuid_of_source(hit.run_id),
    )
    run.enter(Event.HIT, rules.now(), None, details)
    if rules.strict:
        yield _COMMIT
    return True


_uuid_of_source = lru_cache(maxsize=4096)(to_uuid)
"""Many hits refer to few runs, and making a UUID takes longer than the rest of their state."""


def _moment(timestamp: float | None) -> datetime | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)


# Attempts


def _attempt_steps(run: Run, rules: Rulebook) -> Steps:
    """Run the user's code until it ends well or its retries are used up."""
    event, attempts = Event.START, 0
    while True:
        if run.definition.tags and (yield from _slot_steps(run, rules)):
            return
        run.enter(event, rules.now())
        attempts += 1
        ending = yield from _one_attempt(run, rules)
        if not (ending.is_failure and run.options.retry_policy.allows(attempts, ending.error)):
            yield from _end(run, rules, ending)
            return
        outcome = yield from _retry_steps(run, rules, ending, attempts)
        if type(outcome) is Interrupted:
            yield from _interrupt(run, rules, outcome)
            return
        if outcome == _REFUSED:
            yield from _end(run, rules, ending)
            return
        event = Event.RETRY
        if isinstance(run, FlowRun):
            run.begin_again()


def _slot_steps(run: Run, rules: Rulebook) -> Steps[bool]:
    """Have a slot of each limit that a tag of the run names; whether the run has ended."""
    if not isinstance(run, TaskRun):  # limits are for tasks
        return False
    run.slots = slots = (yield Occupy(run.definition.tags)).value
    if slots is None:
        return False
    outcome = yield WaitFor([slots])
    if type(outcome) is not Interrupted and slots.error is not None:
        message = f"The run could not go on: {slots.error}"
        yield from _end(run, rules, Ending(Event.CRASH, message, error=slots.error))
        return True
    if type(outcome) is not Interrupted:
        outcome = yield _ACQUIRE
    return type(outcome) is Interrupted and (yield from _interrupt(run, rules, outcome))


def _one_attempt(run: Run, rules: Rulebook) -> Steps[Ending]:
    """Call the user's function; what it gave or raised, or what that consists of, decides."""
    if isinstance(run, FlowRun):
        outcome = yield from _flow_code_steps(run, rules)
    else:
        outcome = yield _INVOKE
    if type(outcome) is not Value:
        return _ending_of_failure(run, outcome)
    deciding = _deciding_parts(run, outcome.value)
    if deciding:
        waited = yield WaitFor([part for part in deciding if isinstance(part, Run)])
        if type(waited) is Interrupted:
            return _interruption(waited)
    return _ending_of_value(run, outcome.value, deciding)


def _flow_code_steps(run: FlowRun, rules: Rulebook) -> Steps[Outcome]:
    """Call the flow's function and wait for all that it submits, within the time for both."""
    seconds = run.options.timeout_seconds
    ends_at = None if seconds is None else rules.now() + seconds
    outcome: Outcome = Interrupted() if run.stopped is not None else (yield _INVOKE)
    if type(outcome) in _ENDS:
        run.leave_attempt()  # before the join, which then sees all that it has started
    left = None if ends_at is None else max(0.0, ends_at - rules.now())
    outcome = yield from _join_steps(run, outcome, left)
    return run.take_stop() or outcome


def _join_steps(run: FlowRun, outcome: Outcome, seconds: float | None = None) -> Steps[Outcome]:
    """Wait for all that the flow submitted, whatever came of its own code."""
    must_end = type(outcome) in _ENDS or run.stopped is not None
    joined: Outcome = yield Join(cancel=must_end, seconds=None if must_end else seconds)
    if type(joined) is Value:
        return outcome
    if not must_end:
        yield Join(cancel=True)
    return joined


def _retry_steps(run: Run, rules: Rulebook, ending: Ending, attempts: int) -> Steps[Outcome]:
    """Wait for the next attempt, unless the user's condition refuses it."""
    if run.options.retry_policy.condition is not None:
        agreed = yield from _condition_steps(run, rules, ending)
        if agreed != _AGREED:
            return agreed
    return (yield from _await_retry(run, rules, ending, attempts))


def _condition_steps(run: Run, rules: Rulebook, ending: Ending) -> Steps[Outcome]:
    """Ask the user's condition; one that raises has not agreed."""
    condition = run.options.retry_policy.condition
    assert condition is not None, "asked only where there is one"
    state = ending.by_hand or run.state_after(
        ending.event, rules.now(), ending.message, ending.error
    )
    outcome: Outcome = yield _ACQUIRE
    if type(outcome) is not Interrupted:
        outcome = yield Ask(lambda: bool(condition(run.options, run, state)))
    if type(outcome) is Error:
        rules.report(run, "retry_condition_fn raised, so there is no retry", outcome.exception)
        return _REFUSED
    return outcome


def _await_retry(run: Run, rules: Rulebook, ending: Ending, attempts: int) -> Steps[Outcome]:
    delay = run.options.retry_policy.delay_after(attempts, rules.draw)
    now = rules.now()
    details = StateDetails(
        scheduled_time=_moment(now + delay), traceback=_traceback_of(ending.error)
    )
    run.error = ending.error
    run.enter(Event.AWAIT_RETRY, now, ending.message, details)
    if run.slots is not None:
        yield _VACATE
    outcome: Outcome = (yield Sleep(delay)) if delay else Value()
    if type(outcome) is not Interrupted:
        outcome = yield _ACQUIRE
    run.error = None
    return outcome


def _ending_of_failure(run: Run, outcome: Outcome) -> Ending:
    kind = "Flow" if isinstance(run, FlowRun) else "Task"
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


def _deciding_parts(run: Run, value: object) -> Sequence[Part]:
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


def _ending_of_value(run: Run, value: object, deciding: Sequence[Part]) -> Ending:
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
    types = Counter(map(_type_of, deciding))
    errors = list(map(_error_of, deciding))
    if passed is not None:
        types += passed.types
        errors.append(passed.error)
    verdict = verdict_of(types)
    error = None
    if verdict.event is Event.FAIL:
        error = next((e for e in errors if e is not None), None)
    return Ending(verdict.event, verdict.message, value, error, deciding)


def _type_of(part: Part) -> StateType:
    return part.history[-1].type if isinstance(part, Run) else part.type


def _error_of(part: Part) -> BaseException | None:
    return part.error if isinstance(part, Run) else part._error


# The end


def _interrupt(run: Run, rules: Rulebook, outcome: Interrupted) -> Steps[bool]:
    if Event.CANCEL not in TRANSITIONS[run.phase]:  # in its place, an earlier run had ended
        submit_run(run, rules)
    yield from _end(run, rules, _interruption(outcome))
    return True


def abort_steps(run: Run, rules: Rulebook, error: BaseException) -> Steps:
    """End a run whose own steps can go no further."""
    if run.phase is SKETCHED:
        return
    if run.phase is None:
        submit_run(run, rules)
    if Event.CRASH in TRANSITIONS[run.phase]:
        ending = _interruption(Interrupted(error))
        if isinstance(error, Exception) and not isinstance(error, RunCancelled):
            ending = Ending(Event.CRASH, f"The run could not go on: {error}", error=error)
        yield from _end(run, rules, ending)
        if run.options.hooks is not None:
            yield from _hook_steps(run, rules)


def _end(run: Run, rules: Rulebook, ending: Ending) -> Steps:
    now = rules.now()
    details = NO_DETAILS
    if ending.event is Event.FINISH:
        details = _store_result(run, ending, now, rules)
    else:
        run.cache_row = None
        if ending.error is not None:
            details = StateDetails(traceback=_traceback_of(ending.error))
    run.value, run.error, run.deciding = ending.value, ending.error, ending.deciding
    name = None if ending.by_hand is None else ending.by_hand.name
    run.enter(ending.event, now, ending.message, details, name)
    if run.slots is not None:
        yield _VACATE
    if rules.strict:
        yield _COMMIT


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
    return StateDetails(cache_key=cache_row.key, cache_expiration=_moment(expires_at))


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


def _traceback_of(error: BaseException | None) -> str | None:
    if isinstance(error, RunNotReady) and error.__traceback__ is None:
        return format_without_cause(error)  # thousands may have one, whose own run shows it
    return None if error is None else format_error(error)
