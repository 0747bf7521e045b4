"""Drives a run to its end in the calling thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from penstock._drivers.bookkeeping import (
    BIRTH_SECONDS,
    answer_at_once,
    end_by,
    record_patiently,
    steps_of,
    unborn_members,
)
from penstock._drivers.calls import call_as, call_hook, call_in_time, call_own
from penstock._drivers.deadlocks import refuse_deadlock
from penstock._engine.engine import Engine
from penstock._rules.effects import (
    DONE,
    AcquireWorker,
    CallHook,
    Commit,
    DeadlinePassed,
    Effect,
    Evaluate,
    Interrupted,
    Invoke,
    Join,
    Outcome,
    Sleep,
    WaitFor,
)
from penstock._rules.flow_run import FlowRun
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
    steps = steps_of(run, engine)
    outcome: Any = None
    interruption: BaseException | None = None
    while True:
        try:
            effect = steps.send(outcome)
        except StopIteration:
            record_patiently(run, engine)
            return interruption
        if type(effect) is AcquireWorker:
            outcome = DONE
            continue
        record_patiently(run, engine)
        if type(effect) is Invoke and run.options.timeout_seconds is None:
            outcome = call_own(run)
        else:
            outcome = _answer_sync(effect, run, engine)
        if type(outcome) is Interrupted:
            interruption = outcome.exception


def _answer_sync(effect: Effect, run: Run, engine: Engine) -> Outcome:
    if type(effect) is Invoke:
        return _interruptible(partial(call_in_time, run, run.call(), engine))
    if type(effect) is Evaluate:
        return call_as(run, effect.call)
    if type(effect) is CallHook:
        return _interruptible(partial(call_hook, effect, run, engine))
    if type(effect) is Sleep:
        return _interruptible(partial(_sleep, run, effect.seconds, engine))
    if type(effect) is WaitFor:
        return _interruptible(partial(_wait_for, run, effect))
    if type(effect) is Join:
        assert isinstance(run, FlowRun), "only flows join"
        return _interruptible(partial(_join_sync, effect, run, engine))
    if type(effect) is Commit:
        engine.commit().wait()
        engine.store.check()
        return DONE
    return answer_at_once(effect, run, engine)


def _interruptible(wait: Callable[[], Outcome]) -> Outcome:
    try:
        return wait()
    except (KeyboardInterrupt, SystemExit) as interruption:
        return Interrupted(interruption)


def _sleep(run: Run, seconds: float, engine: Engine) -> Outcome:
    flow_run = _stoppable(run)
    if flow_run is None:
        engine.clock.sleep(seconds)
        return DONE
    return Interrupted() if engine.clock.sleep_unless(flow_run.stopping, seconds) else DONE


def _wait_for(run: Run, effect: WaitFor) -> Outcome:
    flow_run = _stoppable(run)
    for latch in effect.latches:
        if isinstance(latch, FlowRun | TaskRun):
            refuse_deadlock(latch, "`await future` before this call")
        if flow_run is None:
            latch.wait()
        elif not wait_unless(latch, flow_run.stopping):
            return Interrupted()
    return DONE


def _stoppable(run: Run) -> FlowRun | None:
    """The flow run that may be stopped while its code, in this thread, waits."""
    return run if isinstance(run, FlowRun) else run.flow_run


def _join_sync(effect: Join, run: FlowRun, engine: Engine) -> Outcome:
    if engine.is_inherited:  # in a forked child; the members are the parent's
        return DONE
    if effect.cancel:
        run.cancel_members()
        _disown_stillborn(run)
    clock = engine.clock
    ends_at = None if effect.seconds is None else clock.now() + effect.seconds
    while unfinished := run.unfinished_members():
        for member in unfinished:
            if ends_at is None:
                member.wait()
            elif not clock.wait_for(member, max(0.0, ends_at - clock.now()), releases_worker=True):
                return DeadlinePassed()
    return DONE


def _disown_stillborn(run: FlowRun) -> None:
    """Wait for no member that was made and will not be driven: Ctrl-C came in between.

    It may be half made, and is not on record. Those of other threads are given the time that it
    takes to begin.
    """
    ends_at = time.monotonic() + BIRTH_SECONDS
    while stillborn := unborn_members(run):
        if time.monotonic() > ends_at:
            run.disown(stillborn)
            return
        time.sleep(BIRTH_SECONDS / 10)
