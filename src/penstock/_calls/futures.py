"""Futures: what `submit` and `map` return at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, ClassVar, Generic, Literal, cast, overload
from uuid import UUID

from typing_extensions import TypeVar

from penstock._drivers.deadlocks import refuse_deadlock
from penstock._rules.futures_in_arguments import Handle
from penstock.exceptions import ConfigurationError, RunCrashed
from penstock.states import State

R = TypeVar("R", covariant=True)
T = TypeVar("T")


class TaskFuture(Handle, Generic[R]):
    """The future result of a submitted task or flow.

    Pass it as an argument to another task or flow, which then starts when this run has ended; or
    ask for its value: `future.result()` in sync code, `await future` in async code.
    """

    __slots__ = ()

    @property
    def run_id(self) -> UUID:
        """The id of the task run or flow run, as in the history."""
        return self._run.id

    @property
    def task_run_id(self) -> UUID:
        """The id of the task run; for a submitted flow, that of the flow run."""
        return self._run.id

    @property
    def state(self) -> State[R]:
        """The current state of the run, without waiting."""
        return cast("State[R]", self._run.state)

    def done(self) -> bool:
        """Whether the run has ended."""
        return self._run.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the run has ended; False: `timeout` seconds have passed before.

        Raises:
            WouldDeadlock: called in the thread of the event loop that the run needs.
        """
        refuse_deadlock(self._run, "`await future`")
        return self._run.wait(timeout)

    @overload
    def result(self, timeout: float | None = None, raise_on_failure: Literal[True] = True) -> R: ...
    @overload
    def result(
        self, timeout: float | None = None, *, raise_on_failure: bool
    ) -> R | BaseException: ...
    def result(
        self, timeout: float | None = None, raise_on_failure: bool = True
    ) -> R | BaseException:
        """The value of the run, after it has ended.

        Args:
            timeout: seconds to wait at most; None: as long as it takes.
            raise_on_failure: False returns the exception of a run that did not complete.

        Raises:
            TimeoutError: `timeout` seconds have passed; the run goes on.
            WouldDeadlock: called in the thread of the event loop that the run needs; use `await`.
            BaseException: what the run raised, or a `RunError` where it raised nothing.
        """
        if not self.wait(timeout):
            raise _overdue(self, timeout)
        if raise_on_failure:
            return cast("R", self._run.result())
        return self.state.result(raise_on_failure)

    def __await__(self) -> Generator[Any, Any, R]:
        """Wait in an event loop for the value; raises what the run raised."""
        run = self._run
        if not run.is_set():
            yield from run.wait_async().__await__()
        return cast("R", run.result())

    def add_done_callback(self, callback: Callable[[TaskFuture[R]], object]) -> None:
        """Call `callback` with this future when the run has ended; at once if it has already.

        It is called in the thread in which the run ends, and what it raises is logged.
        """
        self._run.add_callback(lambda: callback(self))

    def cancel(self) -> None:
        """Cancel the run, unless it has ended; for a flow, with all that it has submitted.

        Async code is cancelled in its loop. Sync code that is already running cannot be stopped:
        the run ends at once, its result is discarded, and its code can start no more runs.
        """
        self._run.cancel()

    def __repr__(self) -> str:
        return f"<TaskFuture of {self._run.name!r}: {self._run.state.name}>"


def _overdue(future: TaskFuture[Any], seconds: float | None) -> TimeoutError:
    return TimeoutError(f"{future._run.name!r} has not ended within {seconds} seconds.")


class FailureAllowed(Handle, Generic[R]):
    """A future as an argument that may also be an exception; made by `allow_failure`."""

    __slots__ = ()
    may_fail: ClassVar[bool] = True

    def resolved(self) -> object:
        """The value, or the exception."""
        state = self._run.state
        found = state.result(raise_on_failure=False)
        if state.is_completed() or isinstance(found, Exception):
            return found
        return RunCrashed(f"{self._run.name!r} was ended by {found!r}.")

    def __repr__(self) -> str:
        return f"allow_failure({TaskFuture[R](self._run)!r})"


@overload
def allow_failure(future: TaskFuture[T], /) -> FailureAllowed[T]: ...


@overload
def allow_failure(futures: Iterable[TaskFuture[T]], /) -> list[FailureAllowed[T]]: ...


def allow_failure(
    future: TaskFuture[T] | Iterable[TaskFuture[T]], /
) -> FailureAllowed[T] | list[FailureAllowed[T]]:
    """Futures as arguments of a run that starts also where their runs have failed.

    The run is given the value or, for a run that did not complete, the exception: what its code
    raised, or a `RunError`. It can also be given to `wait_for`, as for a task that cleans up.

    Args:
        future: a future, or several.

    Raises:
        ConfigurationError: it is not a future.
    """
    if isinstance(future, TaskFuture):
        return FailureAllowed(future._run)
    if not isinstance(future, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        raise ConfigurationError(f"allow_failure() takes a future, or several, not {future!r}.")
    return list(map(allow_failure, future))


class FutureList(list[TaskFuture[T]]):
    """The futures of a `map`, in the order of its items."""

    @overload
    def result(
        self, timeout: float | None = None, raise_on_failure: Literal[True] = True
    ) -> list[T]: ...
    @overload
    def result(
        self, timeout: float | None = None, *, raise_on_failure: bool
    ) -> list[T | BaseException]: ...
    def result(
        self, timeout: float | None = None, raise_on_failure: bool = True
    ) -> list[T] | list[T | BaseException]:
        """The values in order, each as `TaskFuture.result` gives it, within one timeout for all."""
        if not self.wait(timeout):
            late = next((future for future in self if not future.done()), None)
            if late is not None:
                raise _overdue(late, timeout)
        return [future.result(0, raise_on_failure=raise_on_failure) for future in self]

    def wait(self, timeout: float | None = None) -> bool:
        """Block until all runs have ended; False: `timeout` seconds have passed before."""
        return wait_for_all(self, timeout, "`await futures`")

    def __await__(self) -> Generator[Any, Any, list[T]]:
        """Wait in an event loop for all values, in order."""
        for future in self:
            yield from future._run.wait_async().__await__()
        return [cast("T", future._run.result()) for future in self]


def wait_for_all(futures: Iterable[TaskFuture[Any]], timeout: float | None, remedy: str) -> bool:
    """Block until all runs have ended; False: `timeout` seconds have passed before.

    Raises:
        WouldDeadlock: called in the thread of the event loop that a run needs; the message names
            `remedy` as what to use.
    """
    ends_at = None if timeout is None else time.monotonic() + timeout
    for future in futures:
        left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
        refuse_deadlock(future._run, remedy)
        if not future._run.wait(left):
            return False
    return True
