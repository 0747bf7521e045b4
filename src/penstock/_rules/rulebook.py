"""What the rules know of the world, and of how an attempt ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from penstock._caching.keys import CacheKey
from penstock._rules.effects import (
    AcquireWorker,
    CancelMembers,
    Commit,
    DeadlinePassed,
    Interrupted,
    Invoke,
    ReleaseSlots,
    Value,
)
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun

Now: TypeAlias = Callable[[], float]
Warn: TypeAlias = Callable[[Run, str, BaseException | None], None]
Report: TypeAlias = Callable[[Run, str, Exception], None]
Missed: TypeAlias = Callable[[TaskRun, CacheKey], None]
ACQUIRE_WORKER: Final = AcquireWorker()
INVOKE: Final = Invoke()
COMMIT: Final = Commit()
RELEASE_SLOTS: Final = ReleaseSlots()
CANCEL_MEMBERS: Final = CancelMembers()
AGREED: Final = Value(True)
REFUSED: Final = Value(False)
ENDS: Final = frozenset({Interrupted, DeadlinePassed})
"""After these, what a flow has submitted is not waited for."""


class Rulebook(msgspec.Struct, frozen=True):
    """What the rules know of the world.

    Attributes:
        now: the time, in seconds since 1970.
        warn: tells the user something about a run, without changing it.
        strict: whether a result may be seen only once it is on disk.
        report: tells the user what code of theirs beside the run's function has raised.
        draw: a random number from 0 to 1.
        missed: hears which key found nothing.
    """

    now: Now
    warn: Warn
    strict: bool = False
    report: Report = lambda _run, _what, _error: None
    draw: Callable[[], float] = lambda: 0.5
    missed: Missed = lambda _run, _key: None
