"""Waiting for several futures: until all are done, for some time, or for one after another."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Generic, NamedTuple

import anyio
from typing_extensions import TypeVar

from penstock._calls.futures import FutureList, TaskFuture, wait_for_all
from penstock._calls.pending import AsTheyEnd
from penstock._drivers.deadlocks import refuse_deadlock
from penstock._model.checks import refusal
from penstock._rules.run import Run

__all__ = ["CompletedFutures", "DoneAndNotDone", "as_completed", "wait", "wait_async"]

R = TypeVar("R")


class DoneAndNotDone(NamedTuple, Generic[R]):
    """What `wait` returns.

    Attributes:
        done: the futures whose runs have ended, however they did, in the order given.
        not_done: the others, in the order given.
    """

    done: FutureList[R]
    not_done: FutureList[R]


class CompletedFutures(Generic[R]):
    """What `as_completed` returns: iterate over it once, with `for` or with `async for`."""

    def __init__(self, futures: Iterable[TaskFuture[R]], timeout: float | None) -> None:
        checked = _checked(futures, "as_completed()")
        self._futures: dict[Run, TaskFuture[R]] = {future._run: future for future in checked}
        self._ends_at = None if timeout is None else time.monotonic() + timeout
        self._pending = AsTheyEnd()
        for run in self._futures:
            self._pending.add(run)

    def __iter__(self) -> Iterator[TaskFuture[R]]:
        """The futures, in sync code.

        Raises:
            TimeoutError: not all have ended in time; their runs go on.
            WouldDeadlock: called in the thread of the event loop that a run needs.
        """
        for run in self._futures:
            refuse_deadlock(run, "`async for`")
        while self._pending.count:
            yield self._futures.pop(self._pending.next(self._seconds_left()))

    async def __aiter__(self) -> AsyncIterator[TaskFuture[R]]:
        """The futures, in async code."""
        while self._pending.count:
            run: Run | None = None
            with anyio.move_on_after(self._seconds_left()):
                run = await self._pending.next_async()
            if run is None:
                raise self._pending.overdue()
            yield self._futures.pop(run)

    def _seconds_left(self) -> float | None:
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())


def as_completed(
    futures: Iterable[TaskFuture[R]], timeout: float | None = None
) -> CompletedFutures[R]:
    """The futures in the order in which their runs end, however they end; each once.

    Args:
        futures: of submitted runs, as from `submit` or `map`.
        timeout: seconds from this call in which all must end; None: as long as it takes.

    Returns:
        An iterable of the futures, for `for` in sync code and `async for` in async code. The
        iteration raises a `TimeoutError` when the time is up.

    Raises:
        ConfigurationError: it is not a list of futures.
    """
    return CompletedFutures(futures, timeout)


def wait(futures: Iterable[TaskFuture[R]], timeout: float | None = None) -> DoneAndNotDone[R]:
    """Block until all runs have ended, however they end, or for `timeout` seconds.

    Raises:
        ConfigurationError: it is not a list of futures.
        WouldDeadlock: called in the thread of the event loop that a run needs; use
            `wait_async`.
    """
    waiting = _checked(futures, "wait()")
    wait_for_all(waiting, timeout, "`await wait_async(...)`")
    return _split(waiting)


async def wait_async(
    futures: Iterable[TaskFuture[R]],
    timeout: float | None = None,  # noqa: ASYNC109  # what `wait` takes
) -> DoneAndNotDone[R]:
    """The same as `wait`, without blocking the event loop."""
    waiting = _checked(futures, "wait_async()")
    with anyio.move_on_after(timeout):
        for future in waiting:
            await future._run.wait_async()
    return _split(waiting)


def _split(futures: FutureList[R]) -> DoneAndNotDone[R]:
    done = FutureList[R]()
    not_done = FutureList[R]()
    for future in futures:
        (done if future.done() else not_done).append(future)
    return DoneAndNotDone(done, not_done)


def _checked(futures: Iterable[TaskFuture[R]], owner: str) -> FutureList[R]:
    if not isinstance(futures, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        hint = "For a single future, pass `[future]`."
        raise refusal(futures, "futures", owner, "a list of futures", hint)
    given: FutureList[R] = FutureList(futures)
    for future in given:
        if not isinstance(future, TaskFuture):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
            raise refusal(given, "futures", owner, "a list of futures", f"{future!r} is not one.")
    return given
