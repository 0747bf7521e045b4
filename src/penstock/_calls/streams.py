"""Streams: the results of one run for each item of iterables of any length, in bounded memory.

A stream holds a window of runs: it reads the next item only when the result of an earlier one has
been taken from it. A run whose result has been taken is released.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextvars import copy_context
from typing import Any, Final, Generic, TypeAlias, cast

from typing_extensions import TypeVar

from penstock._calls.mapping import Call, LazyCalls
from penstock._calls.pending import AsTheyEnd, InOrder, PendingRuns
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
    """What `imap` returns: iterate over it, with `for` or with `async for`, to get the results.

    Nothing runs before that, and each iteration runs everything again. When its turn comes, a
    failed run raises what its code raised, which ends the iteration; `states()` gives states and
    does not raise. Where an iteration ends early, the runs that have been submitted go on, and
    their flow waits for them.
    """

    def __init__(
        self,
        calls: LazyCalls,
        submit: Submit,
        *,
        is_ordered: bool,
        window: int = DEFAULT_WINDOW,
        take: Callable[[Run], Any] = Run.result,
    ) -> None:
        self._calls = calls
        self._submit = submit
        self._is_ordered = is_ordered
        self._window = window
        self._take = take

    def with_window(self, runs: int) -> ResultStream[R]:
        """The same stream, holding at most so many runs at a time; the default is 1,000.

        Raises:
            ConfigurationError: it is not an integer of at least 1.
        """
        checks.integer(runs, "runs", "with_window()", at_least=1)
        return self._like(window=runs, take=self._take)

    def states(self) -> ResultStream[State[R]]:
        """The same stream, giving the final states of the runs, also of failed ones."""
        return cast("ResultStream[State[R]]", self._like(window=self._window, take=_state_of))

    def _like(self, *, window: int, take: Callable[[Run], Any]) -> ResultStream[R]:
        return ResultStream(
            self._calls, self._submit, is_ordered=self._is_ordered, window=window, take=take
        )

    def __iter__(self) -> Iterator[R]:
        """The results, in sync code.

        Raises:
            UsageError: an argument is an async iterable.
            WouldDeadlock: called in the thread of the event loop that the runs need.
        """
        if self._calls.is_async:
            raise UsageError("An async iterable was given; iterate the results with `async for`.")
        pending = self._new_pending()
        submitter = _Submitter(self._calls.read(), pending, self._window, self._submit)
        while submitter.has_more():
            run = pending.next()
            submitter.fill()
            yield self._taken(run)

    async def __aiter__(self) -> AsyncIterator[R]:
        """The results, in async code."""
        pending = self._new_pending()
        await self._calls.ready()
        if not self._calls.is_async:
            submitter = _Submitter(self._calls.read(), pending, self._window, self._submit)
            while submitter.has_more():
                run = await pending.next_async()
                submitter.fill()
                yield self._taken(run)
            return
        async_submitter = _AsyncSubmitter(self._calls, pending, self._window, self._submit)
        async_submitter.start()
        try:
            while await async_submitter.has_more():
                run = await pending.next_async()
                async_submitter.taken()
                yield self._taken(run)
        finally:
            async_submitter.stop()

    def _new_pending(self) -> PendingRuns:
        return InOrder() if self._is_ordered else AsTheyEnd()

    def _taken(self, run: Run) -> R:
        if run.flow_run is not None:
            run.flow_run.let_go_of(run)
        return cast("R", self._take(run))


def _state_of(run: Run) -> State[Any]:
    return run.state


class _Submitter:
    """Reads the items of iterables and submits their runs, between the results that are taken."""

    def __init__(
        self, calls: Iterator[Call], pending: PendingRuns, window: int, submit: Submit
    ) -> None:
        self._calls = calls
        self._pending = pending
        self._window = window
        self._submit = submit
        self._error: Exception | None = None

    def fill(self) -> None:
        """Submit runs for the next items, until the window is full."""
        try:
            while self._error is None and self._pending.count < self._window:
                call = next(self._calls, None)
                if call is None:
                    return
                self._pending.add(self._submit(*call))
        except Exception as error:  # raised after the results of the items before
            self._error = error

    def has_more(self) -> bool:
        """Whether there is a run to take.

        Raises:
            Exception: there is none, and reading an item or submitting its run raised this.
        """
        if not self._pending.count:
            self.fill()
        if not self._pending.count and self._error is not None:
            raise self._error
        return self._pending.count > 0


class _AsyncSubmitter:
    """Reads async iterables in a task of its own, and submits runs for their items."""

    def __init__(
        self,
        calls: LazyCalls,
        pending: PendingRuns,
        window: int,
        submit: Submit,
    ) -> None:
        self._calls = calls
        self._pending = pending
        self._window = window
        self._submit = submit
        self._error: BaseException | None = None
        self._is_done = False
        self._changed = Latch()
        self._cancel: Callable[[], object] | None = None

    def start(self) -> None:
        port = current_port()
        assert port is not None, "an async iteration runs in an event loop"
        self._cancel = port.start(self._read, copy_context(), self._end)

    async def _read(self) -> None:
        try:
            async for args, kwargs in self._calls.read_async():
                while self._pending.count >= self._window:
                    await self._next_change()
                self._pending.add(self._submit(args, kwargs))
                self._notify()
        except Exception as error:
            self._error = error

    def _end(self, _task: object) -> None:
        self._is_done = True
        self._notify()

    async def _next_change(self) -> None:
        # There is no lock: submitter and consumer run in one loop, so nothing changes between the
        # caller's look and this new latch. Only one of them waits at a time, the submitter while
        # the window is full and the consumer while it is empty, so one latch serves both.
        self._changed = Latch()
        await self._changed.wait_async()

    def _notify(self) -> None:
        self._changed.set()

    def taken(self) -> None:
        """Go on reading, as a run has been taken."""
        self._notify()

    async def has_more(self) -> bool:
        """Wait until there is a run to take; False: there will be none.

        Raises:
            BaseException: there is none, and reading an item or submitting its run raised this.
        """
        while not self._pending.count:
            if self._error is not None:
                raise self._error
            if self._is_done:
                return False
            await self._next_change()
        return True

    def stop(self) -> None:
        """End the reading."""
        if self._cancel is not None and not self._is_done:
            self._cancel()
