"""Drives a run to its end in the calling thread."""

from __future__ import annotations

import time
from typing import Any, assert_never

from penstock._drivers.aborting import end_by
from penstock._drivers.deadlocks import refuse_deadlock
from penstock._drivers.immediate import answer_at_once
from penstock._drivers.recording import record_patiently
from penstock._drivers.user_code import call_hook, call_in_time, capture
from penstock._engine.engine import Engine
from penstock._rules.effects import (
    DONE,
    AcquireSlots,
    AcquireWorker,
    CallHook,
    CancelMembers,
    Claim,
    Commit,
    Convert,
    DeadlinePassed,
    Effect,
    Evaluate,
    Interrupted,
    Invoke,
    Join,
    LookUp,
    Outcome,
    ReleaseSlots,
    Sleep,
    WaitFor,
)
from penstock._rules.flow_run import FlowRun, as_flow_run
from penstock._rules.lifecycle import run_steps
from penstock._rules.members import STARTING_SECONDS
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun
from penstock._waiting.latch import wait_unless


def drive_sync(run: Run, engine: Engine) -> None:
    """Run to the end in this thread.

    Raises:
        KeyboardInterrupt, SystemExit: after the end was recorded.
    """
    try:
        interruption = _take_steps(run, engine)
    except BaseException as error:
        end_by(run, engine, error)
        raise
    try:
        engine.finish(run)
    except BaseException:  # Ctrl-C, and whoever joins the run would wait for ever
        engine.finish(run)
        raise
    if interruption is not None:
        raise interruption


def _take_steps(run: Run, engine: Engine) -> BaseException | None:
    """Drive the rules to their end; what interrupted them."""
    steps = run_steps(run, engine.rules)
    outcome: Any = None
    interruption: BaseException | None = None
    while True:
        try:
            effect = steps.send(outcome)
        except StopIteration:
            record_patiently(run, engine)
            return interruption
        # These come in most runs; to be compared with every other class first would be a tenth of
        # what the run takes.
        if type(effect) is AcquireWorker:
            outcome = DONE
            continue
        if type(effect) is Convert:  # nobody but the run sees what comes of it
            outcome = capture(run, effect.call)
            if type(outcome) is Interrupted:
                interruption = outcome.exception
            continue
        record_patiently(run, engine)
        if type(effect) is Invoke and run.options.timeout_seconds is None:
            outcome = capture(run, run.options.fn, run.args, run.kwargs)
        elif effect.is_interruptible:
            outcome = _answer_unless_interrupted(effect, run, engine)
        else:
            outcome = _answer(effect, run, engine)
        if type(outcome) is Interrupted:
            interruption = outcome.exception


def _answer_unless_interrupted(effect: Effect, run: Run, engine: Engine) -> Outcome:
    try:
        return _answer(effect, run, engine)
    except (KeyboardInterrupt, SystemExit) as interruption:
        return Interrupted(interruption)


def _answer(  # noqa: C901, PLR0911  # an answer for each effect
    effect: Effect, run: Run, engine: Engine
) -> Outcome:
    match effect:
        case Join():
            return _join(effect, as_flow_run(run), engine)
        case Evaluate() | Convert():
            return capture(run, effect.call)
        case LookUp() | Claim() | AcquireSlots() | ReleaseSlots():
            return answer_at_once(effect, run, engine)
        case CancelMembers():
            return _cancel_members(as_flow_run(run), engine)
        case WaitFor():
            return _wait_for(run, effect)
        case Commit():
            engine.commit().wait()
            engine.store.check()
            return DONE
        case Invoke():
            return call_in_time(run, run.call(), engine)
        case CallHook():
            return call_hook(effect, run, engine)
        case Sleep():
            return _sleep(run, effect, engine)
        case AcquireWorker():
            return DONE
        case _:
            assert_never(effect)


def _sleep(run: Run, effect: Sleep, engine: Engine) -> Outcome:
    flow_run = _stoppable(run, effect)
    if flow_run is None:
        engine.clock.sleep(effect.seconds)
        return DONE
    is_stopped = engine.clock.sleep_unless(flow_run.stopping.latch, effect.seconds)
    return Interrupted() if is_stopped else DONE


def _wait_for(run: Run, effect: WaitFor) -> Outcome:
    flow_run = _stoppable(run, effect)
    for latch in effect.latches:
        if isinstance(latch, FlowRun | TaskRun):
            refuse_deadlock(latch, "`await future` before this call")
        if flow_run is None:
            latch.wait()
        elif not wait_unless(latch, flow_run.stopping.latch):
            return Interrupted()
    return DONE


def _stoppable(run: Run, effect: Effect) -> FlowRun | None:
    """The flow run whose being stopped cuts this wait short; None: nothing does."""
    if effect.is_shielded:
        return None
    return run if isinstance(run, FlowRun) else run.flow_run


def _join(effect: Join, run: FlowRun, engine: Engine) -> Outcome:
    # In a forked child the members are the parent's. Only this driver asks: here a child of the
    # user's code may return to the code that called the flow, and go on. In a loop or on a worker's
    # thread there is no such code: a child that is forked there has to end by `os._exit`.
    if engine.is_inherited:
        return DONE
    clock = engine.clock
    ends_at = None if effect.seconds is None else clock.now() + effect.seconds
    while unfinished := run.members.unfinished():
        for member in unfinished:
            if ends_at is None:
                member.wait()
            elif not clock.wait_for(member, max(0.0, ends_at - clock.now()), releases_worker=True):
                return DeadlinePassed()
    return DONE


def _cancel_members(run: FlowRun, engine: Engine) -> Outcome:
    if engine.is_inherited:
        return DONE
    run.cancel_members()
    _remove_never_driven(run)
    return _join(Join(), run, engine)


def _remove_never_driven(run: FlowRun) -> None:
    """Wait for no member that was admitted and will not be driven: Ctrl-C came in between.

    It is not on record. Those of other threads are given the time that it takes to begin.
    """
    ends_at = time.monotonic() + STARTING_SECONDS
    while not_driven := run.members.not_driven():
        if time.monotonic() > ends_at:
            run.members.remove(not_driven)
            return
        time.sleep(STARTING_SECONDS / 10)
