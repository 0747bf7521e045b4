"""States: what a run is doing, or how it ended; and the constructors of states made by hand."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Generic, Literal, Protocol, TypeGuard, cast, overload
from uuid import UUID

import msgspec
from typing_extensions import TypeVar

from penstock.exceptions import (
    ResultUnavailable,
    RunCancelled,
    RunCrashed,
    RunError,
    RunFailed,
    RunNotReady,
    RunTimedOut,
    RunUnfinished,
)

__all__ = [
    "FINAL_TYPES",
    "TYPES",
    "AwaitingRetry",
    "Cached",
    "Cancelled",
    "Completed",
    "Constructor",
    "Crashed",
    "Failed",
    "Pending",
    "Retrying",
    "Running",
    "Scheduled",
    "State",
    "StateDetails",
    "StateType",
    "TimedOut",
    "Transition",
    "is_state",
]

R = TypeVar("R", covariant=True, default=object)


class StateType(enum.StrEnum):
    """What a state means; its name may be more precise (`Cached` is a COMPLETED state).

    Attributes:
        SCHEDULED: it waits for a time, such as that of its retry.
        PENDING: it has not started; a run in the state NotReady never will.
        RUNNING: its code runs.
        COMPLETED: it has a result, its own or that of an earlier run.
        FAILED: its code raised, took too long, or returned what had failed.
        CANCELLED: it was cancelled.
        CRASHED: it was ended from outside of its code.
    """

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"


FINAL_TYPES: Final = frozenset(
    {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED}
)
"""The types of states in which the code of a run has ended."""


# fmt: off
TYPES: Final[Mapping[str, StateType]] = {
    "Scheduled":     StateType.SCHEDULED,
    "AwaitingRetry": StateType.SCHEDULED,
    "Pending":       StateType.PENDING,
    "NotReady":      StateType.PENDING,
    "Running":       StateType.RUNNING,
    "Retrying":      StateType.RUNNING,
    "Completed":     StateType.COMPLETED,
    "Cached":        StateType.COMPLETED,
    "Failed":        StateType.FAILED,
    "TimedOut":      StateType.FAILED,
    "Cancelled":     StateType.CANCELLED,
    "Crashed":       StateType.CRASHED,
}
# fmt: on
"""The type of each state that the engine itself gives to runs, by its name."""


class StateDetails(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What some states hold besides their message.

    Attributes:
        scheduled_time: when a run in the state AwaitingRetry is tried again.
        cache_key: the key that the result is or was stored under.
        cache_expiration: when that entry expires; None: never.
        cached_from: the id of the task run that made a Cached result.
        not_persisted: why the result was not stored; None: it was, or was not to be stored.
        traceback: the traceback of what the run's code raised, without frames of this library.
    """

    scheduled_time: datetime | None = None
    cache_key: str | None = None
    cache_expiration: datetime | None = None
    cached_from: UUID | None = None
    not_persisted: str | None = None
    traceback: str | None = None


class Transition(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step of a run: the state that it entered, as the history keeps it.

    Attributes:
        type: what the state means.
        name: its name.
        message: for people; None where the name says everything.
        timestamp: when the run entered it, in seconds since 1970 (UTC).
        details: what some states hold besides that.
    """

    type: StateType
    name: str
    message: str | None
    timestamp: float
    details: StateDetails = StateDetails()

    @property
    def is_final(self) -> bool:
        """Whether it ends the run: a final state, or NotReady."""
        return self.type in FINAL_TYPES or self.name == "NotReady"

    def __str__(self) -> str:
        shown = repr(self.message)
        if self.name != self.type.value.capitalize():
            shown += f", type={self.type.value}"
        return f"{self.name}({shown})"


class State(msgspec.Struct, Generic[R], frozen=True, eq=False, repr_omit_defaults=True):
    """One state of a run; a final one also has the result.

    Attributes:
        type: what it means.
        name: its name; by default that of its type.
        message: for people; None where the name says everything.
        timestamp: when the run entered it (UTC).
        details: what some states hold besides that.
        child_states: the states that decided this one, where a flow returned None or futures.
    """

    type: StateType
    name: str
    message: str | None
    timestamp: datetime
    details: StateDetails = StateDetails()
    child_states: tuple[State[object], ...] = ()
    _value: object = msgspec.UNSET
    _error: BaseException | None = None
    _load: Callable[[], object] | None = None
    _task_run: bytes | None = None
    _flow_run: bytes | None = None

    @property
    def task_run_id(self) -> UUID | None:
        """The task run that is in this state; None for a flow run's state."""
        return UUID(bytes=self._task_run) if self._task_run else None

    @property
    def flow_run_id(self) -> UUID | None:
        """The flow run that is in this state, or that the task run belongs to."""
        return UUID(bytes=self._flow_run) if self._flow_run else None

    def is_scheduled(self) -> bool:
        """Whether it waits for a time."""
        return self.type is StateType.SCHEDULED

    def is_pending(self) -> bool:
        """Whether it was submitted and has not started."""
        return self.type is StateType.PENDING

    def is_running(self) -> bool:
        """Whether its code runs."""
        return self.type is StateType.RUNNING

    def is_completed(self) -> bool:
        """Whether it ended with a result."""
        return self.type is StateType.COMPLETED

    def is_failed(self) -> bool:
        """Whether it failed; a timeout is a failure."""
        return self.type is StateType.FAILED

    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.type is StateType.CANCELLED

    def is_crashed(self) -> bool:
        """Whether it was ended from outside of its code."""
        return self.type is StateType.CRASHED

    def is_final(self) -> bool:
        """Whether its code has ended: COMPLETED, FAILED, CANCELLED or CRASHED."""
        return self.type in FINAL_TYPES

    @overload
    def result(self, raise_on_failure: Literal[True] = True) -> R: ...
    @overload
    def result(self, raise_on_failure: bool) -> R | BaseException: ...
    def result(self, raise_on_failure: bool = True) -> R | BaseException:
        """The value of the run.

        Args:
            raise_on_failure: False returns the exception of a run that did not complete.

        Raises:
            ResultUnavailable: it completed, and its result was not kept or cannot be read.
            BaseException: what the run raised, or a `RunError` where it raised nothing.
        """
        if self.type is StateType.COMPLETED:
            return self._completed_value()
        error = self._missing() if self._error is None else self._error
        if raise_on_failure:
            raise error
        return error

    def _completed_value(self) -> R:
        if self._value is not msgspec.UNSET:
            return cast("R", self._value)
        if self._load is not None:
            return cast("R", self._load())
        reason = self.details.not_persisted or "it was not kept"
        raise ResultUnavailable(f"The result of {self._owner()} is not available: {reason}.")

    def _missing(self) -> RunError:
        error = _ERRORS.get(self.name) or _ERRORS.get(self.type.value, RunUnfinished)
        return error(
            f"{self._owner()} is in the state {self}.\n{self.details.traceback or ''}".rstrip()
        )

    def _owner(self) -> str:
        if self._task_run:
            return f"Task run {self.task_run_id}"
        return f"Flow run {self.flow_run_id}" if self._flow_run else "This run"

    def is_by_hand(self) -> bool:
        """Whether it was made by hand, and belongs to no run."""
        return self._task_run is None and self._flow_run is None

    def __str__(self) -> str:
        return str(Transition(self.type, self.name, self.message, 0.0))

    def __repr__(self) -> str:
        parts = [f"message={self.message!r}", f"type={self.type.value}", *self._shown_result()]
        if self._task_run:
            parts.append(f"task_run_id={self.task_run_id}")
        elif self._flow_run:
            parts.append(f"flow_run_id={self.flow_run_id}")
        return f"{self.name}({', '.join(parts)})"

    def _shown_result(self) -> list[str]:
        if self.child_states:
            return [f"result={list(self.child_states)!r}"]
        if self._error is not None:
            return [f"result={self._error!r}"]
        if self.type is StateType.COMPLETED and self._value is not msgspec.UNSET:
            return [f"result={self._value!r}"]
        return []


def is_state(value: object) -> TypeGuard[State[Any]]:
    """Whether the value is a state."""
    return isinstance(value, State)


_ERRORS: dict[str, type[RunError]] = {
    "FAILED": RunFailed,
    "CANCELLED": RunCancelled,
    "CRASHED": RunCrashed,
    "TimedOut": RunTimedOut,
    "NotReady": RunNotReady,
}


# Constructors, for functions that return a state made by hand

D = TypeVar("D", default=None)


def _made_by_hand(name: str, message: str | None, data: object) -> State[D]:
    now = datetime.now(UTC)
    if isinstance(data, BaseException) and TYPES[name] is not StateType.COMPLETED:
        return State[D](TYPES[name], name, message, now, _error=data)
    return State[D](TYPES[name], name, message, now, _value=data)


def _constructor(name: str, what: str) -> Constructor:
    def construct(message: str | None = None, data: object = None) -> State[object]:
        return _made_by_hand(name, message, data)

    construct.__name__ = construct.__qualname__ = name
    construct.__doc__ = (
        f"{what}\n\nArgs:\n    message: for people.\n    data: its result, or its exception."
    )
    return cast("Constructor", construct)


class Constructor(Protocol):
    """Makes a state by hand."""

    @overload
    def __call__(self, message: str | None = None) -> State[None]: ...
    @overload
    def __call__(self, message: str | None = None, *, data: D) -> State[D]: ...


Scheduled: Constructor = _constructor("Scheduled", "A state of a run that waits for a time.")
AwaitingRetry: Constructor = _constructor("AwaitingRetry", "A state of a run between two attempts.")
Pending: Constructor = _constructor("Pending", "A state of a run that has not started.")
Running: Constructor = _constructor("Running", "A state of a run whose code runs.")
Retrying: Constructor = _constructor(
    "Retrying", "A state of a run in its second attempt or a later one."
)
Completed: Constructor = _constructor("Completed", "A state of a run that ended with a result.")
Cached: Constructor = _constructor(
    "Cached", "A state of a run that took the result of an earlier one."
)
Failed: Constructor = _constructor("Failed", "A state of a run that failed.")
TimedOut: Constructor = _constructor("TimedOut", "A state of a run that took too long.")
Cancelled: Constructor = _constructor("Cancelled", "A state of a run that was cancelled.")
Crashed: Constructor = _constructor("Crashed", "A state of a run ended from outside of its code.")
