"""Streams: the results of one run an item, for iterables of any length, in bounded memory.

A stream holds a window of runs: it takes the next item only when the result of an earlier one has
been taken from it. What has been taken is let go of.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextvars import copy_context
from typing import Any, Final, Generic, Protocol, TypeAlias, cast

from typing_extensions import TypeVar

from penstock._calls.arrivals import Arrivals
from penstock._calls.mapping import Call, Rows
from penstock._drivers.deadlocks import refuse_deadlock
from penstock._model import checks
from penstock._rules.run import Run
from penstock._waiting.latch import Latch
from penstock._waiting.loops import current_port
from penstock.exceptions import UsageError
from penstock.states import State

R = TypeVar("R", covariant=True)
Submit: TypeAlias = Callable[[Sequence[Any], dict[str, Any]], Run]
DEFAULT_WINDOW: Final = 1000


class ResultStream(Generic[R]):
    """What `imap` gives: iterate it, with `for` or with `async for`, for the results.

    Nothing runs before that; each iteration starts anew. A run that failed raises at its turn what
    its code raised, which ends the iteration; `states()` gives states and does not raise. Where an
    iteration ends early, the runs that have been submitted go on, and their flow joins them.
    """

    def __init__(
        self,
        rows: Rows,
        submit: Submit,
        *,
        is_ordered: bool,
        window: int = DEFAULT_WINDOW,
        take: Callable[[Run], Any] = Run.result,
    ) -> None:
        self._rows = rows
        self._submit = submit
        self._is_ordered = is_ordered
        self._window = window
        self._take = take

    def with_window(self, runs: int) -> ResultStream[R]:
        """The same, holding at most so many runs at a time; the default is 1,000.

        Raises:
            ConfigurationError: it is not an integer of at least 1.
        """
        checks.integer(runs, "runs", "with_window()", at_least=1)
        return self._like(window=runs, take=self._take)

    def states(self) -> ResultStream[State[R]]:
        """The same, giving the final states of the runs, failed ones too."""
        return cast("ResultStream[State[R]]", self._like(window=self._window, take=_state_of))

    def _like(self, *, window: int, take: Callable[[Run], Any]) -> ResultStream[R]:
        return ResultStream(
            self._rows, self._submit, is_ordered=self._is_ordered, window=window, take=take
        )

    def __iter__(self) -> Iterator[R]:
        """The results, in sync code.

        Raises:
            UsageError: an argument can only be iterated with `async for`.
            WouldDeadlock: in the thread of the event loop that the runs need.
        """
        if self._rows.is_async:
            raise UsageError("An async iterable was given; iterate the results with `async for`.")
        pending = self._new_pending()
        intake = _Intake(self._rows.read(), pending, self._window, self._submit)
        while intake.has_more():
            run = pending.next()
            intake.fill()
            yield self._taken(run)

    async def __aiter__(self) -> AsyncIterator[R]:
        """The results, in async code."""
        pending = self._new_pending()
        await self._rows.ready()
        if not self._rows.is_async:
            intake = _Intake(self._rows.read(), pending, self._window, self._submit)
            while intake.has_more():
                run = await pending.next_async()
                intake.fill()
                yield self._taken(run)
            return
        feeder = _Feeder(self._rows, pending, self._window, self._submit)
        feeder.start()
        try:
            while await feeder.has_more():
                run = await pending.next_async()
                feeder.make_room()
                yield self._taken(run)
        finally:
            feeder.stop()

    def _new_pending(self) -> _Pending:
        return _InOrder() if self._is_ordered else Arrivals()

    def _taken(self, run: Run) -> R:
        if run.flow_run is not None:
            run.flow_run.let_go_of(run)
        return cast("R", self._take(run))


def _state_of(run: Run) -> State[Any]:
    return run.state


class _Pending(Protocol):
    """Runs that were submitted and have not been taken yet.

    Attributes:
        count: how many.
    """

    count: int

    def add(self, run: Run) -> None: ...
    def next(self) -> Run: ...
    async def next_async(self) -> Run: ...


class _InOrder:
    """Gives the runs in the order of their submission."""

    def __init__(self) -> None:
        self._runs: deque[Run] = deque()
        self.count = 0

    def add(self, run: Run) -> None:
        self._runs.append(run)
        self.count += 1

    def next(self) -> Run:
        run = self._runs[0]
        if not run.is_set():
            refuse_deadlock(run, "`async for`")
            run.wait()
        return self._popped()

    async def next_async(self) -> Run:
        await self._runs[0].wait_async()
        return self._popped()

    def _popped(self) -> Run:
        self.count -= 1
        return self._runs.popleft()


class _Intake:
    """Submits runs for the items of an iterable, in between the results that are taken."""

    def __init__(
        self, rows: Iterator[Call], pending: _Pending, window: int, submit: Submit
    ) -> None:
        self._rows = rows
        self._pending = pending
        self._window = window
        self._submit = submit
        self._error: Exception | None = None

    def fill(self) -> None:
        """Submit runs for the next items, as far as there is room."""
        try:
            while self._error is None and self._pending.count < self._window:
                row = next(self._rows, None)
                if row is None:
                    return
                self._pending.add(self._submit(*row))
        except Exception as error:  # it comes after the results of the items before
            self._error = error

    def has_more(self) -> bool:
        """Whether there is a run to take; where there is none, raises what reading did."""
        if not self._pending.count:
            self.fill()
        if not self._pending.count and self._error is not None:
            raise self._error
        return self._pending.count > 0


class _Feeder:
    """Submits runs for the items of an async iterable, beside whoever takes the results."""

    def __init__(
        self,
        rows: Rows,
        pending: _Pending,
        window: int,
        submit: Submit,
    ) -> None:
        self._rows = rows
        self._pending = pending
        self._window = window
        self._submit = submit
        self._error: BaseException | None = None
        self._is_done = False
        self._moved = Latch()
        self._cancel: Callable[[], object] | None = None

    def start(self) -> None:
        port = current_port()
        assert port is not None, "an async iteration has a loop"
        self._cancel = port.start(self._feed, copy_context(), self._end)

    async def _feed(self) -> None:
        try:
            async for args, kwargs in self._rows.read_async():
                while self._pending.count >= self._window:
                    await self._next_move()
                self._pending.add(self._submit(args, kwargs))
                self._move()
        except Exception as error:
            self._error = error

    def _end(self, _task: object) -> None:
        self._is_done = True
        self._move()

    async def _next_move(self) -> None:
        self._moved = Latch()
        await self._moved.wait_async()

    def _move(self) -> None:
        self._moved.set()

    def make_room(self) -> None:
        """A run has been taken."""
        self._move()

    async def has_more(self) -> bool:
        """Wait until there is a run to take; False: there will be none. Raises what reading did."""
        while not self._pending.count:
            if self._error is not None:
                raise self._error
            if self._is_done:
                return False
            await self._next_move()
        return True

    def stop(self) -> None:
        """Read no more."""
        if self._cancel is not None and not self._is_done:
            self._cancel()
