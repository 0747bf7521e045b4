"""A run whose driver was interrupted ends all the same, and nobody waits for it for ever."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, assert_never

from penstock._drivers.user_code import call_hook, capture
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
    Effect,
    Evaluate,
    Invoke,
    Join,
    LookUp,
    Outcome,
    ReleaseSlots,
    Sleep,
    WaitFor,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.lifecycle import abort_steps
from penstock._rules.run import Run


def abort(run: Run, engine: Engine, error: BaseException) -> None:
    """End a run whose rules were themselves interrupted: Ctrl-C may come between any two steps."""
    steps = abort_steps(run, engine.rules, error)
    outcome: Any = None
    with suppress(StopIteration):
        while True:
            effect = steps.send(outcome)
            engine.record(run)
            outcome = _answer(effect, run, engine)
    engine.record(run)
    for member in run.members.all() if isinstance(run, FlowRun) else ():
        member.cancel()


def _answer(effect: Effect, run: Run, engine: Engine) -> Outcome:
    match effect:
        case CallHook():
            return call_hook(effect, run, engine)
        case Convert():
            return capture(run, effect.call)
        case Commit() | ReleaseSlots():
            return DONE  # nobody waits for a commit here, and `finish` gives the slots back
        case LookUp() | Claim() | AcquireSlots() | AcquireWorker():
            return DONE  # a run that ends needs none of these
        case Invoke() | Evaluate() | Sleep() | WaitFor() | Join() | CancelMembers():
            return DONE  # nor is its code called again, and it waits for nothing
        case _:
            assert_never(effect)


def end_by(run: Run, engine: Engine, error: BaseException) -> None:
    """Abort a run, and let everybody know that it has ended, whatever comes in between."""
    try:
        abort(run, engine, error)
    finally:
        engine.finish(run)
