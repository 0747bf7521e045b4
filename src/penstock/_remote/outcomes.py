"""What comes back of a job, as data; to read a value or an exception runs the user's code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

import msgspec


@final
class Returned(msgspec.Struct, frozen=True):
    """The function has returned.

    Attributes:
        load: gives the value, by code of the user's; raises where it cannot be loaded here.
    """

    load: Callable[[], object]


@final
class Raised(msgspec.Struct, frozen=True):
    """The function has raised.

    Attributes:
        load: gives the exception, by code of the user's; raises where it cannot be loaded here.
        traceback: as text.
    """

    load: Callable[[], BaseException]
    traceback: str


@final
class Untransferable(msgspec.Struct, frozen=True):
    """What is needed there, or what came of it, cannot go from process to process.

    Attributes:
        reason: what cannot, and why, in words.
        traceback: of the exception behind it, as text.
    """

    reason: str
    traceback: str


@final
class WorkerLost(msgspec.Struct, frozen=True):
    """The worker has ended, and the job with it.

    Attributes:
        reason: what has happened to the worker, in words.
    """

    reason: str


@final
class NotStarted(msgspec.Struct, frozen=True):
    """No worker could be started.

    Attributes:
        error: what the attempt has raised, in this process.
    """

    error: Exception


@final
class TimeLimitReached(msgspec.Struct, frozen=True):
    """The function had not returned in time."""


@final
class Stopped(msgspec.Struct, frozen=True):
    """The job was stopped, or the executor was closed."""


JobOutcome: TypeAlias = (
    Returned | Raised | Untransferable | WorkerLost | NotStarted | TimeLimitReached | Stopped
)
