"""What a rule may ask for, and what a driver may answer.

A rule yields one `Effect` and is sent one `Outcome`; it never sees a clock, a thread or a loop.
Before a driver does what is asked for, it puts the states on record that the run has entered since.
`Acquire`, `Invoke`, `Ask`, `CallHook`, `Sleep`, `WaitFor` and `Join` may be answered by
`Interrupted`; the others never are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from typing_extensions import TypeVar

from penstock._waiting.latch import Latch


class AcquireWorker(msgspec.Struct, frozen=True):
    """Have a worker for the user's code that follows. Answer: Value or Interrupted."""


class Invoke(msgspec.Struct, frozen=True):
    """Call the run's function, within its time. Answer: Value, Error, TimedOut or Interrupted."""


class Evaluate(msgspec.Struct, frozen=True):
    """Call some other sync code of the user's. Answer: Value, Error or Interrupted."""

    call: Callable[[], object]


class CallHook(msgspec.Struct, frozen=True):
    """Call a hook, sync or async. Answer: Value, Error, or what the hook itself interrupts with.

    The end of a run does not keep its hooks from being called.
    """

    call: Callable[[], object]


class Sleep(msgspec.Struct, frozen=True):
    """Let that many seconds pass. Answer: Value or Interrupted."""

    seconds: float


class WaitFor(msgspec.Struct, frozen=True):
    """Wait until all these are set. Answer: Value or Interrupted."""

    latches: Sequence[Latch]


class LookUp(msgspec.Struct, frozen=True):
    """Find a stored result by its cache key. Answer: Value of a CacheHit, or of None."""

    key: str


class Claim(msgspec.Struct, frozen=True):
    """Become the one run that computes this key.

    Answer: Value of None: this run is; or of the latch of the run that already is.
    """

    key: str


class AcquireSlots(msgspec.Struct, frozen=True):
    """Ask for a slot of each limit that one of these tags names.

    Answer: Value of None: there is no such limit; or of what to wait for.
    """

    tags: Sequence[str]


class ReleaseSlots(msgspec.Struct, frozen=True):
    """Give the run's slots back, or ask for them no more. Answer: Value."""


class Join(msgspec.Struct, frozen=True):
    """Wait for all that the run submitted. Answer: Value, TimedOut or Interrupted.

    Attributes:
        cancel: cancel it all first; the answer is Value then, however long it takes.
        seconds: how long to wait at most; None: as long as it takes.
    """

    cancel: bool = False
    seconds: float | None = None


class Commit(msgspec.Struct, frozen=True):
    """Wait until all that was recorded is on disk. Answer: Value."""


Effect: TypeAlias = (
    AcquireWorker
    | Invoke
    | Evaluate
    | CallHook
    | Sleep
    | WaitFor
    | LookUp
    | Claim
    | AcquireSlots
    | ReleaseSlots
    | Join
    | Commit
)


class Value(msgspec.Struct, frozen=True):
    """It went well."""

    value: Any = None


DONE: Final = Value()


class Error(msgspec.Struct, frozen=True):
    """The user's code raised."""

    exception: Exception


class DeadlinePassed(msgspec.Struct, frozen=True):
    """The call's own time was up, whatever the user's code raised at that."""


class Interrupted(msgspec.Struct, frozen=True):
    """Somebody ends the run: a cancellation, Ctrl-C, `sys.exit`."""

    exception: BaseException | None = None


Outcome: TypeAlias = Value | Error | DeadlinePassed | Interrupted
T = TypeVar("T", default=None)
Steps: TypeAlias = Generator[Effect, Any, T]
