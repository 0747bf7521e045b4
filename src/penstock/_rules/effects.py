"""What a rule may ask for, and what a driver may answer.

A rule yields one `Effect` and is sent one `Outcome`; it never sees a clock, a thread or a loop.
Before a driver does what is asked for, it puts the states on record that the run has entered since.
Whether an effect may be answered by `Interrupted`, and whether the end of the run cuts it short, is
said by its base class and nowhere else; the drivers ask the effect.

Why: docs/inside/rules.md, "An effect says whether it may be interrupted".
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, Final, TypeAlias, final

import msgspec
from typing_extensions import TypeVar

from penstock._waiting.latch import Latch

# What may come in between


class Interruptible(msgspec.Struct, frozen=True):
    """The end of the run may come first, as may Ctrl-C: answered by `Interrupted` then.

    Attributes:
        is_interruptible: whether it may be answered by `Interrupted`.
        is_shielded: whether it is done even where the run is cancelled or stopped.
    """

    is_interruptible: ClassVar[bool] = True
    is_shielded: ClassVar[bool] = False


class Shielded(Interruptible, frozen=True):
    """Done even where the run has been cancelled; what interrupts it comes from inside of it."""

    is_shielded: ClassVar[bool] = True


class Uninterruptible(msgspec.Struct, frozen=True):
    """Done even where the run has been cancelled, and never answered by `Interrupted`.

    Attributes:
        is_interruptible: as of `Interruptible`.
        is_shielded: as of `Interruptible`.
    """

    is_interruptible: ClassVar[bool] = False
    is_shielded: ClassVar[bool] = True


# The effects


@final
class AcquireWorker(Interruptible, frozen=True):
    """Have a worker for the user's code that follows. Answer: Value or Interrupted."""


@final
class Invoke(Interruptible, frozen=True):
    """Call the run's function, within its time.

    Answer: Value, Error, DeadlinePassed or Interrupted.
    """


@final
class Evaluate(Interruptible, frozen=True):
    """Call some other sync code of the user's. Answer: Value, Error or Interrupted."""

    call: Callable[[], object]


@final
class Convert(Interruptible, frozen=True):
    """Turn objects of the user's into bytes, texts or other objects, on a worker.

    That may call their methods: `__reduce__` of a result, `__str__` of an exception, and so on.
    Answer: Value, Error or Interrupted.
    """

    call: Callable[[], object]


@final
class CallHook(Shielded, frozen=True):
    """Call a hook, sync or async, on a worker. Answer: Value, Error or Interrupted."""

    call: Callable[[], object]


@final
class Sleep(Interruptible, frozen=True):
    """Let that many seconds pass. Answer: Value or Interrupted."""

    seconds: float


@final
class WaitFor(Interruptible, frozen=True):
    """Wait until all these are set. Answer: Value or Interrupted."""

    latches: Sequence[Latch]


@final
class LookUp(Uninterruptible, frozen=True):
    """Find a stored result by its cache key. Answer: Value of a CacheHit, or of None."""

    key: str


@final
class Claim(Uninterruptible, frozen=True):
    """Become the one run that computes this key.

    Answer: Value of None: this run is; or of the latch of the run that already is.
    """

    key: str


@final
class AcquireSlots(Uninterruptible, frozen=True):
    """Ask for a slot of each limit that one of these tags names.

    Answer: Value of None: there is no such limit; or of what to wait for.
    """

    tags: Sequence[str]


@final
class ReleaseSlots(Uninterruptible, frozen=True):
    """Give the run's slots back, or withdraw the request for them. Answer: Value."""


@final
class Join(Interruptible, frozen=True):
    """Wait for all that the run submitted. Answer: Value, DeadlinePassed or Interrupted.

    Attributes:
        seconds: how long to wait at most; None: as long as it takes.
    """

    seconds: float | None = None


@final
class CancelMembers(Shielded, frozen=True):
    """Cancel all that the run submitted, and wait for it, however long it takes.

    Answer: Value or Interrupted.
    """


@final
class Commit(Uninterruptible, frozen=True):
    """Wait until all that was recorded is on disk. Answer: Value."""


Immediate: TypeAlias = LookUp | Claim | AcquireSlots | ReleaseSlots
"""The effects that no driver waits for."""
Effect: TypeAlias = (
    AcquireWorker
    | Invoke
    | Evaluate
    | Convert
    | CallHook
    | Sleep
    | WaitFor
    | Join
    | CancelMembers
    | Commit
    | Immediate
)


# The outcomes


@final
class Value(msgspec.Struct, frozen=True):
    """It went well."""

    value: Any = None


DONE: Final = Value()


@final
class Error(msgspec.Struct, frozen=True):
    """The user's code raised."""

    exception: Exception


@final
class DeadlinePassed(msgspec.Struct, frozen=True):
    """The call's own time was up, whatever the user's code raised at that."""


@final
class Interrupted(msgspec.Struct, frozen=True):
    """Somebody ends the run: a cancellation, Ctrl-C, `sys.exit`."""

    exception: BaseException | None = None


Outcome: TypeAlias = Value | Error | DeadlinePassed | Interrupted
T = TypeVar("T", default=None)
Steps: TypeAlias = Generator[Effect, Any, T]
