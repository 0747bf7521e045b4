"""The rules: what happens to a run, from Pending to its end.

`task_steps` and `flow_steps` are generators that do no I/O and know no thread and no loop. They
let the run enter its states, yield effects and are sent outcomes; the drivers do the rest. Each
decision about states, retries, caching and timeouts is made in this folder and nowhere else.

Why: docs/inside/rules.md, "Rules enter states and ask for no record".
"""

from __future__ import annotations

from functools import partial

from penstock._caching.keys import UnhashableParameter, hash_inputs
from penstock._rules.attempts import attempt_steps
from penstock._rules.cache import cache_steps
from penstock._rules.effects import Convert, Interrupted, Steps, Value, WaitFor
from penstock._rules.endings import (
    Decider,
    Ending,
    crash_steps,
    end_steps,
    error_of,
    interrupt_steps,
    type_of,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.futures_in_arguments import Handle
from penstock._rules.hooks import begun_with, hook_steps, hooked_steps, name_steps
from penstock._rules.rulebook import ACQUIRE_WORKER, Rulebook
from penstock._rules.run import SKETCHED, Run
from penstock._rules.sketches import sketch_steps
from penstock._rules.submission import submit_run
from penstock._rules.task_run import TaskRun
from penstock._rules.transitions import TRANSITIONS, Event
from penstock.exceptions import ParameterError, RunCancelled, RunNotReady
from penstock.states import StateType


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
        steps = begun_with(partial(name_steps, run, rules), steps)
    return steps if run.options.hooks is None else hooked_steps(run, rules, steps)


def task_steps(run: TaskRun, rules: Rulebook) -> Steps:
    """The life of a task run."""
    has_ended = yield from _opening_steps(run, rules)
    if not has_ended and run.options.is_cached:
        has_ended = yield from cache_steps(run, rules)
    if not has_ended:
        yield from attempt_steps(run, rules)


def flow_steps(run: FlowRun, rules: Rulebook) -> Steps:
    """The life of a flow run."""
    if (yield from _opening_steps(run, rules)):
        return
    outcome = yield Convert(run.validated)
    if type(outcome) is Interrupted:
        yield from interrupt_steps(run, rules, outcome)
    elif type(outcome) is not Value:
        yield from _end_invalid(run, rules, outcome.exception)
    else:
        run.take_validated(outcome.value)
        yield from attempt_steps(run, rules)


def _end_invalid(run: FlowRun, rules: Rulebook, error: Exception) -> Steps:
    if isinstance(error, ParameterError):
        yield from end_steps(run, rules, Ending(Event.FAIL, str(error), error=error))
    else:
        yield from crash_steps(run, rules, error)


def _opening_steps(run: Run, rules: Rulebook) -> Steps[bool]:
    """Wait for what the run depends on, and for a worker."""
    if run.phase is None:
        submit_run(run, rules)
    if run.upstreams or run.after is not None:
        outcome = yield WaitFor([*run.upstream_runs, *run.predecessors])
        if type(outcome) is Interrupted:
            return (yield from interrupt_steps(run, rules, outcome))
        error = missing_upstream(run)
        if error is not None:
            return (yield from _end_not_ready(run, rules, error))
        if (yield from _resolve_steps(run, rules)):
            return True
    if run.earlier is not None:
        is_equal = yield from _comparison_steps(run.earlier, run)
        if type(is_equal) is Interrupted:
            return (yield from interrupt_steps(run, rules, is_equal))
        if is_equal:
            return True
        submit_run(run, rules)
    outcome = yield ACQUIRE_WORKER
    if type(outcome) is Interrupted:
        return (yield from interrupt_steps(run, rules, outcome))
    return False


def _resolve_steps(run: Run, rules: Rulebook) -> Steps[bool]:
    """Put the values of the upstreams where their futures are; whether the run has ended."""
    if run.resolves_by_itself:
        run.resolve_arguments()
        return False
    outcome = yield Convert(run.resolved)
    if type(outcome) is Interrupted:
        return (yield from interrupt_steps(run, rules, outcome))
    if type(outcome) is not Value:
        return (yield from crash_steps(run, rules, outcome.exception))
    run.take_arguments(outcome.value)
    return False


def missing_upstream(run: Run) -> RunNotReady | None:
    """Which upstream did not complete, because of what it raised; None: all of them have."""
    for upstream in run.upstreams:
        if isinstance(upstream, Handle) and upstream.may_fail:
            continue
        decider = upstream._run if isinstance(upstream, Handle) else upstream
        if type_of(decider) is not StateType.COMPLETED:
            return _not_ready_after(decider)
    return None


def _not_ready_after(decider: Decider) -> RunNotReady:
    """Of a chain of runs that were not ready, the message and the cause are those of the first."""
    name, state = (decider.name, decider.state) if isinstance(decider, Run) else ("run", decider)
    message = state.message if state.name == "NotReady" else None
    if message is None:
        message = f"Upstream {name!r} did not complete: {state}."
    cause = error_of(decider)
    error = RunNotReady(message)
    error.__cause__ = cause.__cause__ if isinstance(cause, RunNotReady) else cause
    return error


def _end_not_ready(run: Run, rules: Rulebook, error: RunNotReady) -> Steps[bool]:
    if run.phase != "Pending":
        submit_run(run, rules)
    yield from end_steps(run, rules, Ending(Event.SKIP, str(error), error=error))
    return True


def _comparison_steps(earlier: Run, run: Run) -> Steps[bool | Interrupted]:
    """Whether a flow's retry takes the earlier run at this position.

    It does where that has completed, on equal inputs.
    """
    if not earlier.state.is_completed():
        return False
    outcome = yield Convert(partial(_have_equal_inputs, earlier, run))
    if type(outcome) is Interrupted:
        return outcome
    return type(outcome) is not Value or outcome.value is True


def _have_equal_inputs(earlier: Run, run: Run) -> bool:
    try:
        return _hash_of_inputs(earlier) == _hash_of_inputs(run)
    except UnhashableParameter:
        return True  # the position alone has to say it


def _hash_of_inputs(run: Run) -> str:
    return hash_inputs(run.options.fn, run.inputs)


def abort_steps(run: Run, rules: Rulebook, error: BaseException) -> Steps:
    """End a run whose own steps can go no further."""
    if run.phase is SKETCHED:
        return
    if run.phase is None:
        submit_run(run, rules)
    if Event.CRASH in TRANSITIONS[run.phase]:
        if isinstance(error, Exception) and not isinstance(error, RunCancelled):
            yield from crash_steps(run, rules, error)
        else:
            yield from interrupt_steps(run, rules, Interrupted(error))
        if run.options.hooks is not None:
            yield from hook_steps(run, rules)
