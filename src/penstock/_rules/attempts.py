"""The rules of attempts: the user's code is called until it ends well or has no retries left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from penstock._rules.effects import (
    AcquireSlots,
    Error,
    Evaluate,
    Interrupted,
    Join,
    Outcome,
    Sleep,
    Steps,
    Value,
    WaitFor,
)
from penstock._rules.endings import (
    Ending,
    crash_steps,
    deciders_of,
    described_steps,
    end_steps,
    ending_of_value,
    failure_steps,
    interrupt_steps,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.rulebook import (
    ACQUIRE_WORKER,
    AGREED,
    CANCEL_MEMBERS,
    ENDS,
    INVOKE,
    REFUSED,
    RELEASE_SLOTS,
    Rulebook,
)
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun
from penstock._rules.transitions import Event
from penstock.states import StateDetails


def attempt_steps(run: Run, rules: Rulebook) -> Steps:
    """Run the user's code until it ends well or its retries are used up."""
    event, attempts = Event.START, 0
    while True:
        if run.definition.tags and (yield from _slot_steps(run, rules)):
            return
        run.enter(event, rules.now())
        attempts += 1
        ending = yield from _one_attempt(run, rules)
        if not (ending.is_failure and run.options.retry_policy.allows(attempts, ending.error)):
            yield from end_steps(run, rules, ending)
            return
        outcome = yield from _retry_steps(run, rules, ending, attempts)
        if type(outcome) is Interrupted:
            yield from interrupt_steps(run, rules, outcome)
            return
        if outcome == REFUSED:
            yield from end_steps(run, rules, ending)
            return
        event = Event.RETRY
        if isinstance(run, FlowRun):
            run.begin_again()


def _slot_steps(run: Run, rules: Rulebook) -> Steps[bool]:
    """Have a slot of each limit that a tag of the run names; whether the run has ended."""
    if not isinstance(run, TaskRun):  # limits are for tasks
        return False
    run.slots = slots = (yield AcquireSlots(run.definition.tags)).value
    if slots is None:
        return False
    outcome = yield WaitFor([slots])
    if type(outcome) is not Interrupted and slots.error is not None:
        return (yield from crash_steps(run, rules, slots.error))
    if type(outcome) is not Interrupted:
        outcome = yield ACQUIRE_WORKER
    return type(outcome) is Interrupted and (yield from interrupt_steps(run, rules, outcome))


def _one_attempt(run: Run, rules: Rulebook) -> Steps[Ending]:
    """Call the user's function; what it gave or raised, or what that consists of, decides."""
    if isinstance(run, FlowRun):
        outcome = yield from _flow_code_steps(run, rules)
    else:
        outcome = yield INVOKE
    if type(outcome) is not Value:
        return (yield from failure_steps(run, outcome))
    deciders = deciders_of(run, outcome.value)
    if deciders:
        waited = yield WaitFor([decider for decider in deciders if isinstance(decider, Run)])
        if type(waited) is Interrupted:
            return (yield from failure_steps(run, waited))
    ending = ending_of_value(run, outcome.value, deciders)
    return ending if ending.error is None else (yield from described_steps(ending))


def _flow_code_steps(run: FlowRun, rules: Rulebook) -> Steps[Outcome]:
    """Call the flow's function and wait for all that it submits, within the time for both."""
    seconds = run.options.timeout_seconds
    ends_at = None if seconds is None else rules.now() + seconds
    is_stopped = run.stopping.outcome is not None
    outcome: Outcome = Interrupted() if is_stopped else (yield INVOKE)
    if type(outcome) in ENDS:
        run.leave_attempt()  # before the join, which then sees all that it has started
    left = None if ends_at is None else max(0.0, ends_at - rules.now())
    outcome = yield from join_steps(run, outcome, left)
    return run.stopping.take() or outcome


def join_steps(run: FlowRun, outcome: Outcome, seconds: float | None = None) -> Steps[Outcome]:
    """Wait for all that the flow submitted, whatever came of its own code."""
    must_end = type(outcome) in ENDS or run.stopping.outcome is not None
    joined: Outcome = yield CANCEL_MEMBERS if must_end else Join(seconds)
    if type(joined) is Value:
        return outcome
    if not must_end:
        yield CANCEL_MEMBERS
    return joined


def _retry_steps(run: Run, rules: Rulebook, ending: Ending, attempts: int) -> Steps[Outcome]:
    """Wait for the next attempt, unless the user's condition refuses it."""
    if run.options.retry_policy.condition is not None:
        agreed = yield from _condition_steps(run, rules, ending)
        if agreed != AGREED:
            return agreed
    return (yield from _await_retry(run, rules, ending, attempts))


def _condition_steps(run: Run, rules: Rulebook, ending: Ending) -> Steps[Outcome]:
    """Ask the user's condition; one that raises has not agreed."""
    condition = run.options.retry_policy.condition
    assert condition is not None, "asked only where there is one"
    state = ending.by_hand or run.state_after(
        ending.event, rules.now(), ending.message, ending.error
    )
    outcome: Outcome = yield ACQUIRE_WORKER
    if type(outcome) is not Interrupted:
        outcome = yield Evaluate(lambda: bool(condition(run.options, run.view(), state)))
    if type(outcome) is Error:
        rules.report(run, "retry_condition_fn raised, so there is no retry", outcome.exception)
        return REFUSED
    return outcome


def _await_retry(run: Run, rules: Rulebook, ending: Ending, attempts: int) -> Steps[Outcome]:
    delay = run.options.retry_policy.delay_after(attempts, rules.draw)
    now = rules.now()
    # From the moment that the state shows: `now + delay` may be rounded to another microsecond.
    scheduled_time = datetime.fromtimestamp(now, UTC) + timedelta(seconds=delay)
    details = StateDetails(scheduled_time=scheduled_time, traceback=ending.traceback)
    run.error = ending.error
    run.enter(Event.AWAIT_RETRY, now, ending.message, details)
    if isinstance(run, TaskRun) and run.slots is not None:
        yield RELEASE_SLOTS
    outcome: Outcome = (yield Sleep(delay)) if delay else Value()
    if type(outcome) is not Interrupted:
        outcome = yield ACQUIRE_WORKER
    run.error = None
    return outcome
