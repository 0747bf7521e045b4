"""What each driver does beside the rules: put the run on record, look results up, end it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from penstock._drivers.calls import call_hook
from penstock._engine.engine import Engine
from penstock._rules.effects import (
    DONE,
    AcquireSlots,
    CallHook,
    Claim,
    Effect,
    LookUp,
    Outcome,
    ReleaseSlots,
    Steps,
    Value,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.lifecycle import abort_steps, run_steps
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun
from penstock._waiting.loops import current_port

AT_ONCE: Final = frozenset({LookUp, Claim, AcquireSlots, ReleaseSlots})
"""The effects that no driver waits for."""

BIRTH_SECONDS: Final = 0.1
"""How long a run may take from when it is made until it is driven, where its flow must end."""


def steps_of(run: Run, engine: Engine) -> Steps:
    """The rules for this run."""
    return run_steps(run, engine.rules)


def record_patiently(run: Run, engine: Engine) -> None:
    """Put what happened to the run on record, and wait where the store cannot follow."""
    engine.record(run)
    if engine.store.is_full:
        room = engine.store.room()
        if room is not None:
            room.wait()


def record_unless_in_loop(run: Run, engine: Engine) -> None:
    """Put what happened on record; where the store cannot follow, wait, unless a loop runs here."""
    if engine.store.is_full and current_port() is not None:
        engine.record(run)
    else:
        record_patiently(run, engine)


def answer_at_once(effect: Effect, run: Run, engine: Engine) -> Outcome:
    """The effects that no driver waits for."""
    if type(effect) is LookUp:
        return Value(engine.cache.look_up(effect.key, run.options.returned_type))
    if type(effect) is AcquireSlots:
        return Value(engine.acquire_slots(effect.tags))
    if type(effect) is ReleaseSlots:
        engine.release_slots(run)
        return DONE
    assert type(effect) is Claim, f"no driver knows {effect!r}"
    assert isinstance(run, TaskRun), "only tasks have cache keys"
    return Value(engine.cache.claim(effect.key, run))


def abort(run: Run, engine: Engine, error: BaseException) -> None:
    """End a run whose rules were themselves interrupted: Ctrl-C may come between any two steps."""
    steps = abort_steps(run, engine.rules, error)
    outcome: Any = None
    with suppress(StopIteration):
        while True:
            effect = steps.send(outcome)
            engine.record(run)
            # Nobody waits for a commit here.
            outcome = call_hook(effect, run, engine) if type(effect) is CallHook else DONE
    engine.record(run)
    for member in run.all_members() if isinstance(run, FlowRun) else ():
        member.cancel()


def end_by(run: Run, engine: Engine, error: BaseException) -> None:
    try:
        abort(run, engine, error)
    finally:
        engine.finish(run)


def unborn_members(run: FlowRun) -> list[Run]:
    """Those that were made and are not driven yet."""
    return [member for member in run.unfinished_members() if member.phase is None]
