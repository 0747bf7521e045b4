"""Drives a run to its end in the calling thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from penstock._engine.drivers.bookkeeping import (
    BIRTH_SECONDS,
    answer_at_once,
    end_by,
    record_patiently,
    steps_of,
    unborn_members,
)
from penstock._engine.drivers.calls import call_as, call_hook, call_in_time, call_own
from penstock._engine.drivers.deadlocks import refuse_deadlock
from penstock._engine.effects import (
    DONE,
    Acquire,
    Ask,
    CallHook,
    Commit,
    Effect,
    Interrupted,
    Invoke,
    Join,
    Outcome,
    Sleep,
    TimedOut,
    WaitFor,
)
from penstock._engine.latch import wait_unless
from penstock._engine.runs import FlowRun, Run, TaskRun
from penstock._engine.runtime import Runtime


def drive_sync(run: Run, runtime: Runtime) -> None:
    """Run to the end in this thread.

    Raises:
        KeyboardInterrupt, SystemExit: after the end was recorded.
    """
    try:
        interruption = _take_steps(run, runtime)
    except BaseException as error:
        end_by(run, runtime, error)
        raise
    try:
        runtime.finish(run)
    except BaseException:  # Ctrl-C, and whoever joins the run would wait for ever
        runtime.finish(run)
        raise
    if interruption is not None:
        raise interruption


def _take_steps(run: Run, runtime: Runtime) -> BaseException | None:
    """Drive the rules to their end; what interrupted them."""
    steps = steps_of(run, runtime)
    outcome: Any = None
    interruption: BaseException | None = None
    while True:
        try:
            effect = steps.send(outcome)
        except StopIteration:
            record_patiently(run, runtime)
            return interruption
        if type(effect) is Acquire:
            outcome = DONE
            continue
        record_patiently(run, runtime)
        if type(effect) is Invoke and run.options.timeout_seconds is None:
            outcome = call_own(run)
        else:
            outcome = _answer_sync(effect, run, runtime)
        if type(outcome) is Interrupted:
            interruption = outcome.exception


def _answer_sync(effect: Effect, run: Run, runtime: Runtime) -> Outcome:
    if type(effect) is Invoke:
        return _interruptible(partial(call_in_time, run, run.call(), runtime))
    if type(effect) is Ask:
        return call_as(run, effect.call)
    if type(effect) is CallHook:
        return _interruptible(partial(call_hook, effect, run, runtime))
    if type(effect) is Sleep:
        return _interruptible(partial(_sleep, run, effect.seconds, runtime))
    if type(effect) is WaitFor:
        return _interruptible(partial(_wait_for, run, effect))
    if type(effect) is Join:
        assert isinstance(run, FlowRun), "only flows join"
        return _interruptible(partial(_join_sync, effect, run, runtime))
    if type(effect) is Commit:
        runtime.commit().wait()
        runtime.store.check()
        return DONE
    return answer_at_once(effect, run, runtime)


def _interruptible(wait: Callable[[], Outcome]) -> Outcome:
    try:
        return wait()
    except (KeyboardInterrupt, SystemExit) as interruption:
        return Interrupted(interruption)


def _sleep(run: Run, seconds: float, runtime: Runtime) -> Outcome:
    flow_run = _stoppable(run)
    if flow_run is None:
        runtime.clock.sleep(seconds)
        return DONE
    return Interrupted() if runtime.clock.sleep_unless(flow_run.stopping, seconds) else DONE


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


def _join_sync(effect: Join, run: FlowRun, runtime: Runtime) -> Outcome:
    if runtime.left_behind:  # in a forked child; the members are the parent's
        return DONE
    if effect.cancel:
        run.cancel_members()
        _disown_stillborn(run)
    clock = runtime.clock
    ends_at = None if effect.seconds is None else clock.now() + effect.seconds
    while unfinished := run.unfinished_members():
        for member in unfinished:
            if ends_at is None:
                member.wait()
            elif not clock.wait_for(member, max(0.0, ends_at - clock.now()), gives_up_place=True):
                return TimedOut()
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
