"""What each driver does beside the rules: put the run on record, look results up, end it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from penstock._engine.drivers.calls import call_hook
from penstock._engine.effects import (
    DONE,
    CallHook,
    Claim,
    Effect,
    LookUp,
    Occupy,
    Outcome,
    Steps,
    Vacate,
    Value,
)
from penstock._engine.lifecycle import abort_steps, run_steps
from penstock._engine.loops import current_port
from penstock._engine.runs import FlowRun, Run, TaskRun
from penstock._engine.runtime import Runtime

AT_ONCE: Final = frozenset({LookUp, Claim, Occupy, Vacate})
"""The effects that no driver waits for."""

BIRTH_SECONDS: Final = 0.1
"""How long a run may take from when it is made until it is driven, where its flow must end."""


def steps_of(run: Run, runtime: Runtime) -> Steps:
    """The rules for this run."""
    return run_steps(run, runtime.rules)


def record_patiently(run: Run, runtime: Runtime) -> None:
    """Put what happened to the run on record, and wait where the store cannot follow."""
    runtime.record(run)
    if runtime.store.is_crowded:
        relief = runtime.store.relieve()
        if relief is not None:
            relief.wait()


def record_unless_in_loop(run: Run, runtime: Runtime) -> None:
    """Put what happened on record; where the store cannot follow, wait, unless a loop runs here."""
    if runtime.store.is_crowded and current_port() is not None:
        runtime.record(run)
    else:
        record_patiently(run, runtime)


def answer_at_once(effect: Effect, run: Run, runtime: Runtime) -> Outcome:
    """The effects that no driver waits for."""
    if type(effect) is LookUp:
        return Value(runtime.look_up(effect.key, run.options.returned_type))
    if type(effect) is Occupy:
        return Value(runtime.occupy(effect.tags))
    if type(effect) is Vacate:
        runtime.vacate(run)
        return DONE
    assert type(effect) is Claim, f"no driver knows {effect!r}"
    assert isinstance(run, TaskRun), "only tasks have cache keys"
    return Value(runtime.claim(effect.key, run))


def abort(run: Run, runtime: Runtime, error: BaseException) -> None:
    """End a run whose rules were themselves interrupted: Ctrl-C may come between any two steps."""
    steps = abort_steps(run, runtime.rules, error)
    outcome: Any = None
    with suppress(StopIteration):
        while True:
            effect = steps.send(outcome)
            runtime.record(run)
            # Nobody waits for a commit here.
            outcome = call_hook(effect, run, runtime) if type(effect) is CallHook else DONE
    runtime.record(run)
    for member in run.all_members() if isinstance(run, FlowRun) else ():
        member.cancel()


def end_by(run: Run, runtime: Runtime, error: BaseException) -> None:
    try:
        abort(run, runtime, error)
    finally:
        runtime.finish(run)


def unborn_members(run: FlowRun) -> list[Run]:
    """Those that were made and are not driven yet."""
    return [member for member in run.unfinished_members() if member.phase is None]
