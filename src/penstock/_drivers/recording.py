"""What a run has entered is put on record; where the store cannot follow, the run waits."""

from __future__ import annotations

from penstock._engine.engine import Engine
from penstock._rules.run import Run
from penstock._waiting.loops import current_port


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
