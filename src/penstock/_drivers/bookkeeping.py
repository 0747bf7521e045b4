"""What each driver does beside the rules: put the run on record, look results up, end it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, assert_never

from penstock._drivers.user_code import call_hook, capture
from penstock._engine.engine import Engine
from penstock._rules.effects import (
    DONE,
    AcquireSlots,
    CallHook,
    Claim,
    Convert,
    Immediate,
    LookUp,
    Outcome,
    ReleaseSlots,
    Value,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.lifecycle import abort_steps
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun
from penstock._waiting.loops import current_port

STARTING_SECONDS: Final = 0.1
"""How long a run may take from its admission until it is driven, where its flow must end."""


def record_patiently(run: Run, engine: Engine) -> None:
    """Put what happened to the run on record, and wait where the store cannot follow."""
    engine.record(run)
    if engine.store.backlog.is_full:
        _wait_for_room(engine)


def _wait_for_room(engine: Engine) -> None:
    room = engine.store.room()
    if room is not None:
        room.wait()


def record_unless_in_loop(run: Run, engine: Engine) -> None:
    """Put what happened on record; where the store cannot follow, wait, unless a loop runs here."""
    engine.record(run)
    if engine.store.backlog.is_full and current_port() is None:
        _wait_for_room(engine)


def answer_at_once(effect: Immediate, run: Run, engine: Engine) -> Outcome:
    """The effects that no driver waits for."""
    match effect:
        case LookUp():
            return Value(engine.cache.look_up(effect.key, run.options.returned_type))
        case Claim():
            assert isinstance(run, TaskRun), "only tasks have cache keys"
            return Value(engine.cache.claim(effect.key, run))
        case AcquireSlots():
            return Value(engine.acquire_slots(effect.tags))
        case ReleaseSlots():
            assert isinstance(run, TaskRun), "only tasks have slots"
            engine.release_slots(run)
            return DONE
        case _:
            assert_never(effect)


def abort(run: Run, engine: Engine, error: BaseException) -> None:
    """End a run whose rules were themselves interrupted: Ctrl-C may come between any two steps."""
    steps = abort_steps(run, engine.rules, error)
    outcome: Any = None
    with suppress(StopIteration):
        while True:
            effect = steps.send(outcome)
            engine.record(run)
            match effect:
                case CallHook():
                    outcome = call_hook(effect, run, engine)
                case Convert():
                    outcome = capture(run, effect.call)
                case _:  # nobody waits for a commit here, and slots are given back at the end
                    outcome = DONE
    engine.record(run)
    for member in run.members.all() if isinstance(run, FlowRun) else ():
        member.cancel()


def end_by(run: Run, engine: Engine, error: BaseException) -> None:
    try:
        abort(run, engine, error)
    finally:
        engine.finish(run)
