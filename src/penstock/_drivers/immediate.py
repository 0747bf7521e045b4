"""The effects that no driver waits for are answered in one way by all of them."""

from __future__ import annotations

from typing import assert_never

from penstock._engine.engine import Engine
from penstock._rules.effects import (
    DONE,
    AcquireSlots,
    Claim,
    Immediate,
    LookUp,
    Outcome,
    ReleaseSlots,
    Value,
)
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun


def answer_at_once(effect: Immediate, run: Run, engine: Engine) -> Outcome:
    """What comes of such an effect."""
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
