"""The verbs: what runs a flow or a task, here, in a loop, or beside the code that asks for it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, ParamSpec, Self, TypeAlias, cast

from typing_extensions import TypeVar

from penstock._calls.decorated import Decorated
from penstock._calls.functions import function_name
from penstock._calls.futures import FailureAllowed, FutureList, TaskFuture
from penstock._calls.mapping import LazyCalls, calls_of_map, spread
from penstock._calls.streams import ResultStream
from penstock._drivers.in_loop import drive_async
from penstock._drivers.in_thread import drive_sync
from penstock._drivers.starting import run_on_engine_loop, run_on_worker, submit
from penstock._engine.engine import Engine
from penstock._engine.process import get_engine
from penstock._model.definition import RunKind
from penstock._rules.admission import admit
from penstock._rules.current_run import current_run, current_tags
from penstock._rules.futures_in_arguments import Handle, Upstream
from penstock._rules.run import Run
from penstock._waiting.loops import current_port
from penstock.exceptions import ConfigurationError, ParameterError, UsageError
from penstock.states import State

P = ParamSpec("P")
R = TypeVar("R")

Awaited: TypeAlias = TaskFuture[Any] | FailureAllowed[Any] | State[Any] | None
"""What `wait_for` takes, one by one."""


class Verbs(Decorated[P, R]):
    """A flow or a task, with what starts its runs beside the code that asks for them."""

    _awaited_first: tuple[Upstream, ...] = ()
    _instead: ClassVar[Mapping[str, str]]
    """What to use in place of verbs that only the other kind of function has."""
    _kind_of_run: ClassVar[Callable[..., Run]]
    """The class of its runs."""

    def _new_run(
        self,
        engine: Engine,  # noqa: ARG002  # flows note their runs there
        args: Sequence[Any],
        kwargs: dict[str, Any],
        *,
        passes: bool = False,
    ) -> Run:
        """A run that was admitted and has not begun; takes `wait_for` out of the arguments.

        Args:
            engine: where it will run. It is asked for before, as a run that was admitted would be
                waited for, also where no engine can be made.
            args: by position.
            kwargs: by name.
            passes: whether its flow may let go of it once its result has been taken.
        """
        first = self._awaited_by(kwargs)
        self._signature.check(args, kwargs)
        run = self._kind_of_run(self, current_run.get(), args, kwargs, current_tags.get())
        if first:
            run.upstreams = [*run.upstreams, *first]
        admit(run, passes)
        return run

    def _awaited_by(self, kwargs: dict[str, Any]) -> tuple[Upstream, ...]:
        """What a run has to wait for besides its arguments; takes `wait_for` out of these."""
        if kwargs and "wait_for" in kwargs:
            return self._awaited_first + tuple(_upstreams(kwargs.pop("wait_for")))
        return self._awaited_first

    def submit(self, *args: Any, **kwargs: Any) -> TaskFuture[R]:
        """Start a run beside this code and return its future at once.

        Takes the function's own arguments; any of them may be or hold futures, at any depth, and
        the run starts when they have ended. `wait_for=[...]` names futures that it waits for
        besides, in lists at any depth. Sync code runs on the task runner's workers, async code in
        the flow's event loop.

        Raises:
            ParameterError: the function does not take such arguments.
        """
        if kwargs:
            _refuse_return_state(kwargs, "submit")
        engine = get_engine()
        run = self._new_run(engine, args, kwargs)
        submit(run, engine)
        return TaskFuture(run)

    def map(self, *args: Any, **kwargs: Any) -> FutureList[R]:
        """Submit one run for each item of the iterable arguments, taken together.

        Text, bytes, `unmapped(...)` values and what is not iterable are the same for every run.

        Raises:
            ParameterError: nothing to map over, different lengths, or the function does not take
                such arguments.
        """
        _refuse_return_state(kwargs, "map")
        first = tuple(_upstreams(kwargs.pop("wait_for", ())))
        waiting = self._after(first) if first else self
        calls = calls_of_map(self._signature.given(args, kwargs), self._owner)
        spread_calls = (spread(call, len(args)) for call in calls)
        return FutureList(waiting.submit(*a, **k) for a, k in spread_calls)

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
        calls = LazyCalls(self._signature.given(args, kwargs), len(args), self._owner)
        return ResultStream(calls, waiting._submit_passing, is_ordered=is_ordered)

    def _submit_passing(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Run:
        """Submit a run that its flow lets go of once its result has been taken."""
        engine = get_engine()
        run = self._new_run(engine, args, kwargs, passes=True)
        submit(run, engine)
        return run

    if not TYPE_CHECKING:  # type checkers know which verbs there are

        def __getattr__(self, name: str) -> NoReturn:
            missing = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in self._instead:
                missing += f"; {self._instead[name].format(function_name(self.fn))}."
            raise AttributeError(missing, name=name, obj=self)

    def wait_for(self, *futures: Awaited | Iterable[Awaited | Iterable[Awaited]]) -> Self:
        """The same flow or task, its runs starting only after these have completed.

        Lists and other iterables are looked into, at any depth; `None` is nothing to wait for.

        Raises:
            ConfigurationError: something is no future and no state.
        """
        return self._after(tuple(_upstreams(futures)))

    def _after(self, upstreams: tuple[Upstream, ...]) -> Self:
        waiting = self._duplicate()
        waiting._awaited_first = (*self._awaited_first, *upstreams)
        return waiting


class SyncVerbs(Verbs[P, R]):
    """A flow or a task of a sync function, with what runs it."""

    _instead: ClassVar[Mapping[str, str]] = {
        "run_sync": "it is sync: call it, or `await {0}.run_async(...)` in async code",
        "run_sync_state": "it is sync: use {0}.call_state(...), or "
        "`await {0}.run_async_state(...)` in async code",
    }

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run here, in this thread, and return the value.

        `return_state=True` returns the `State[R]` instead, whether it completed or not; see
        `call_state` for the same with exact types.

        Raises:
            ParameterError: the function does not take such arguments; of a flow, or they do not
                fit the annotations.
            RunFailed: runs failed whose states decide, as a flow returned None or futures.
            BaseException: what the function raised, after the retries.
        """
        engine = get_engine()
        return_state = kwargs and kwargs.pop("return_state", False)
        run = self._new_run(engine, args, kwargs)
        drive_sync(run, engine)
        if return_state:
            return cast("R", run.state)
        value: R = run.result()  # no cast, which is a call in each run
        return value

    def call_state(self, *args: P.args, **kwargs: P.kwargs) -> State[R]:
        """Run here, and return the final state.

        What the function raised is in the state and not raised, and so is a `ParameterError` of
        arguments of a flow that do not fit the annotations.

        Raises:
            ParameterError: the function does not take such arguments.
        """
        engine = get_engine()
        run = self._new_run(engine, args, kwargs)
        drive_sync(run, engine)
        return run.state

    async def run_async(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run while the event loop goes on, and wait for the value; see `__call__`.

        A task runs on a worker of the flow's task runner, a flow on a thread of its own.
        """
        return_state = kwargs.pop("return_state", False)
        engine = get_engine()
        run = self._new_run(engine, args, kwargs)
        await run_on_worker(run, engine)
        return cast("R", run.state if return_state else run.result())

    async def run_async_state(self, *args: P.args, **kwargs: P.kwargs) -> State[R]:
        """Run while the event loop goes on, and wait for the final state; see `run_async`."""
        engine = get_engine()
        run = self._new_run(engine, args, kwargs)
        await run_on_worker(run, engine)
        return run.state


class AsyncVerbs(Verbs[P, R]):
    """A flow or a task of an async function, with what runs it."""

    _instead: ClassVar[Mapping[str, str]] = {
        "run_async": "it is async: `await {0}(...)`, or {0}.run_sync(...) in sync code",
        "run_async_state": "it is async: use `await {0}.call_state(...)`, or "
        "{0}.run_sync_state(...) in sync code",
    }

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run in this task of the event loop: `await` it for the value.

        `return_state=True` gives the `State[R]` instead; see `call_state` for exact types.

        Raises:
            UsageError: called from sync code, where nobody could await it.
            ParameterError: the function does not take such arguments; of a flow, or they do not
                fit the annotations.
            BaseException: what the function raised, after the retries.
        """
        self._refuse_sync_code()
        if kwargs and kwargs.pop("return_state", False):
            return cast("Coroutine[Any, Any, R]", self.call_state(*args, **kwargs))
        return self._value(args, kwargs)

    async def _value(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        engine = get_engine()
        run = self._new_run(engine, args, kwargs)
        await drive_async(run, engine)
        return cast("R", run.result())

    async def call_state(self, *args: P.args, **kwargs: P.kwargs) -> State[R]:
        """Run in this task of the event loop; the final state.

        What the function raised is in the state and not raised, and so is a `ParameterError` of
        arguments of a flow that do not fit the annotations.

        Raises:
            ParameterError: the function does not take such arguments.
        """
        engine = get_engine()
        run = self._new_run(engine, args, kwargs)
        await drive_async(run, engine)
        return run.state

    def run_sync(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run in the engine's own event loop and wait for the value; for scripts and notebooks.

        Raises:
            WouldDeadlock: called from code that runs in that very loop.
            BaseException: what the function raised, after the retries.
        """
        return_state = kwargs.pop("return_state", False)
        engine = get_engine()
        run = self._new_run(engine, args, kwargs)
        run_on_engine_loop(run, engine)
        return cast("R", run.state if return_state else run.result())

    def run_sync_state(self, *args: P.args, **kwargs: P.kwargs) -> State[R]:
        """Run in the engine's own event loop and wait for the final state; see `run_sync`."""
        engine = get_engine()
        run = self._new_run(engine, args, kwargs)
        run_on_engine_loop(run, engine)
        return run.state

    def _refuse_sync_code(self) -> None:
        """Raise where a coroutine could not be awaited.

        A flow's may be made where no loop runs, as for `asyncio.run(flow())`.
        """
        run, kind = current_run.get(), self.definition.kind
        in_sync_code = run is not None and not run.options.is_async
        if in_sync_code or (kind is RunKind.TASK and current_port() is None):
            name = function_name(self.fn)
            raise UsageError(
                f"The async {kind} {self.name!r} was called from sync code, where it cannot be "
                f"awaited. Use {name}.run_sync(...) to wait for it, or {name}.submit(...) to run "
                "it beside this code."
            )


def _refuse_return_state(kwargs: Mapping[str, object], verb: str) -> None:
    if "return_state" in kwargs:
        raise ParameterError(
            f"{verb}() takes no return_state: use future.wait(), then future.state."
        )


def _upstreams(given: object) -> Iterator[Upstream]:
    """The futures and states in what `wait_for` was given, at any depth."""
    if isinstance(given, Handle | State):
        yield cast("Upstream", given)
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes):
        for item in cast("Iterable[object]", given):
            yield from _upstreams(item)
    elif given is not None:
        raise ConfigurationError(
            f"wait_for takes futures and states, and lists of them, not {given!r}."
        )
