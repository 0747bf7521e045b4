"""The verbs that start runs beside the code that asks for them; flows and tasks share them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ParamSpec, Self, cast

from typing_extensions import TypeVar

from penstock._engine.arguments import Handle, Upstream
from penstock._engine.definitions import Decorated
from penstock._engine.drivers.starting import submit
from penstock._engine.mapping import Rows, arguments_of_call, calls_of_map
from penstock._engine.runs import Run
from penstock._engine.runtime import get_runtime
from penstock.exceptions import ConfigurationError
from penstock.futures import FailureAllowed, FutureList, TaskFuture
from penstock.states import State
from penstock.streams import ResultStream

P = ParamSpec("P")
R = TypeVar("R")


class Submittable(Decorated[P, R]):
    """A flow or a task, with what starts its runs."""

    _awaited_first: tuple[Upstream, ...] = ()

    def _new_run(self, args: Sequence[Any], kwargs: dict[str, Any], *, passes: bool = False) -> Run:
        """A run that has not begun; takes `wait_for` out of the arguments.

        Args:
            args: by position.
            kwargs: by name.
            passes: whether its flow may let go of it once its result has been taken.
        """
        raise NotImplementedError

    def _awaited_by(self, kwargs: dict[str, Any]) -> tuple[Upstream, ...]:
        """What a run has to wait for besides its arguments; takes `wait_for` out of these."""
        if kwargs and "wait_for" in kwargs:
            return self._awaited_first + tuple(_upstreams(kwargs.pop("wait_for")))
        return self._awaited_first

    def submit(self, *args: Any, **kwargs: Any) -> TaskFuture[R]:
        """Start a run beside this code and return its future at once.

        Takes the function's own arguments; any of them may be or hold futures, at any depth, and
        the run starts when they have ended. `wait_for=[...]` names futures that it waits for
        besides. Sync code runs on the task runner's workers, async code in the flow's event loop.

        Raises:
            ParameterError: the function does not take such arguments.
        """
        runtime = get_runtime()
        run = self._new_run(args, kwargs)
        submit(run, runtime)
        return TaskFuture(run)

    def map(self, *args: Any, **kwargs: Any) -> FutureList[R]:
        """Submit one run for each item of the iterable arguments, taken together.

        Text, bytes, `unmapped(...)` values and what is not iterable are the same for every run.

        Raises:
            ParameterError: nothing to map over, different lengths, or the function does not take
                such arguments.
        """
        first = tuple(_upstreams(kwargs.pop("wait_for", ())))
        waiting = self._after(first) if first else self
        calls = calls_of_map(self._signature.given(args, kwargs), self._owner)
        spread = (arguments_of_call(call, len(args)) for call in calls)
        return FutureList(waiting.submit(*a, **k) for a, k in spread)

    def imap(self, *args: Any, **kwargs: Any) -> ResultStream[R]:
        """The results of one run an item, in the order of the items; for iterables of any length.

        Takes what `map` takes, and async iterables. Runs are submitted while the results are
        iterated, with `for` or with `async for`, at most 1,000 ahead of them; see `ResultStream`.

        Raises:
            ParameterError: nothing to map over, or the function does not take such arguments.
                While iterating: an iterable has ended before another one.
        """
        return self._stream(args, kwargs, is_ordered=True)

    def imap_unordered(self, *args: Any, **kwargs: Any) -> ResultStream[R]:
        """The same, each result as soon as there is one; see `imap`."""
        return self._stream(args, kwargs, is_ordered=False)

    def _stream(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_ordered: bool
    ) -> ResultStream[R]:
        first = tuple(_upstreams(kwargs.pop("wait_for", ())))
        waiting = self._after(first) if first else self
        rows = Rows(self._signature.given(args, kwargs), len(args), self._owner)
        return ResultStream(rows, waiting._submit_passing, is_ordered=is_ordered)

    def _submit_passing(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Run:
        """Submit a run that its flow lets go of once its result has been taken."""
        runtime = get_runtime()
        run = self._new_run(args, kwargs, passes=True)
        submit(run, runtime)
        return run

    def wait_for(self, *futures: TaskFuture[Any] | FailureAllowed[Any] | State[Any]) -> Self:
        """The same flow or task, its runs starting only after these have completed."""
        return self._after(tuple(_upstreams(futures)))

    def _after(self, upstreams: tuple[Upstream, ...]) -> Self:
        waiting = self._duplicate()
        waiting._awaited_first = (*self._awaited_first, *upstreams)
        return waiting


def _upstreams(futures: object) -> Iterable[Upstream]:
    given = cast("Iterable[object]", futures if isinstance(futures, Iterable) else (futures,))
    for future in given:
        if not isinstance(future, Handle | State):
            raise ConfigurationError(f"wait_for takes futures and states, not {future!r}.")
        yield cast("Upstream", future)
