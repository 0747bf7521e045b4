"""`@flow`: functions that call tasks and other flows; their runs are recorded together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import (
    Any,
    ClassVar,
    Concatenate,
    NoReturn,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    Unpack,
    overload,
)
from uuid import UUID

from typing_extensions import TypeVar, override

from penstock._calls.decorated import CommonOptions
from penstock._calls.functions import (
    function_name,
    function_or_refuse,
    hash_of_defining_file,
    is_coroutine_function,
)
from penstock._calls.verbs import AsyncVerbs, SyncVerbs, Verbs
from penstock._drivers.in_loop import drive_async
from penstock._drivers.in_thread import drive_sync
from penstock._drivers.starting import run_on_engine_loop
from penstock._engine.engine import Engine
from penstock._engine.process import get_engine, no_new_engine
from penstock._model import checks
from penstock._model.definition import RunKind
from penstock._model.hook_lists import HookFunction, Hooks, with_hooks
from penstock._model.names import MakeName, name_maker
from penstock._rules.current_run import current_run
from penstock._rules.flow_run import FlowRun, as_flow_run
from penstock._rules.sketches import Sketch
from penstock.context import FlowRunView
from penstock.hooks import Hook
from penstock.pictures import Picture
from penstock.retries import RetryDelays, RetryOn
from penstock.serializers import Serializer
from penstock.states import State
from penstock.task_runners import ConcurrentTaskRunner, TaskRunner

__all__ = [
    "AsyncFlow",
    "Flow",
    "FlowArguments",
    "FlowDecorator",
    "FlowHook",
    "cancel_flow_run",
    "flow",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
Instance = TypeVar("Instance")
FlowHook: TypeAlias = Callable[[Any, FlowRunView, State[Any]], object]
"""A sync or async function of (flow, flow_run, state)."""


class FlowArguments(CommonOptions, total=False):
    """The options of flows, which `flow` documents."""

    task_runner: TaskRunner | type[TaskRunner] | None
    validate_parameters: bool
    fail_fast: bool
    flow_run_name: str | Callable[[], str] | None
    on_cancellation: Sequence[Hook] | None
    on_crashed: Sequence[Hook] | None


class _FlowBase(Verbs[P, R]):
    """What sync and async flows have in common."""

    _option_names: ClassVar[Collection[str]] = FlowArguments.__annotations__
    _kind_of_run = FlowRun
    task_runner: TaskRunner
    validate_parameters: bool
    fail_fast: bool

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        task_runner: TaskRunner | type[TaskRunner] | None = None,
        validate_parameters: bool = True,
        fail_fast: bool = False,
        flow_run_name: str | Callable[[], str] | None = None,
        on_cancellation: Sequence[Hook] | None = None,
        on_crashed: Sequence[Hook] | None = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        name = function_name(fn).replace("_", "-")
        super().__init__(RunKind.FLOW, fn, name, hash_of_defining_file(fn), options)
        self.task_runner = _task_runner(task_runner, self._owner)
        self.validate_parameters = checks.flag(
            validate_parameters, "validate_parameters", self._owner
        )
        self.fail_fast = checks.flag(fail_fast, "fail_fast", self._owner)
        self.make_name: MakeName | None = name_maker(
            flow_run_name, self._signature.names, "flow_run_name", self._owner
        )
        ends = {"on_cancellation": on_cancellation, "on_crashed": on_crashed}
        self.hooks: Hooks | None = with_hooks(self.hooks, self._owner, **ends)

    def on_cancellation(self, hook: HookFunction, /) -> HookFunction:
        """Add a hook, called with (flow, run, state) when a run was cancelled; as a decorator."""
        return self._hooked("on_cancellation", hook)

    def on_crashed(self, hook: HookFunction, /) -> HookFunction:
        """Add a hook, called with (flow, run, state) when a run has crashed; as a decorator."""
        return self._hooked("on_crashed", hook)

    def with_options(self, **options: Unpack[FlowArguments]) -> Self:
        """A copy of this flow with some options changed; all others are as they were given here.

        Raises:
            ConfigurationError: naming the option that has an impossible value.
        """
        changed = self._with_changed(options)
        changed._awaited_first = self._awaited_first
        return changed

    def validated(self, parameters: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments, converted as their annotations say where they are to be validated."""
        if self.validate_parameters:
            parameters = self._signature.validated(parameters)
        return self._signature.spread(parameters)

    @contextmanager
    def _sketched(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[tuple[FlowRun, Sketch]]:
        """A run that finds out what the code would call.

        While inside, it is under no run, and no engine of the process is made for it.
        """
        token = current_run.set(None)
        try:
            with no_new_engine():
                run = self._new_run(get_engine(), args, kwargs)
                sketch = Sketch(run)
                run.validate()
                yield run, sketch
        finally:
            current_run.reset(token)
        run.result()

    @override
    def _new_run(
        self, engine: Engine, args: Sequence[Any], kwargs: dict[str, Any], *, passes: bool = False
    ) -> FlowRun:
        run = as_flow_run(super()._new_run(engine, args, kwargs, passes=passes))
        engine.flow_runs[run.run_id] = run  # where it can be cancelled by its id
        return run


class Flow(_FlowBase[P, R], SyncVerbs[P, R]):
    """A flow of a sync function; made by `@flow`.

    Attributes:
        fn: the function itself.
        name: as given, else the function's, with dashes.
        description: as given, else the docstring.
        tags: as given.
        version: as given, else a hash of the defining file; None where there is no file.
        task_runner: where submitted tasks run.
        timeout_seconds: how long an attempt may take.
    """

    @overload  # below @classmethod; only a callable tells mypy what its first parameter is
    def __get__(  # type: ignore[misc]  # `self` is one, where the class is its first argument
        self: Callable[Concatenate[type[Instance], Q], S],
        instance: object,
        owner: type[Instance],
        /,
    ) -> Flow[Q, S]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> Flow[P, R]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[Instance, Q], S], instance: Instance, owner: type, /
    ) -> Flow[Q, S]: ...
    @overload  # below @staticmethod
    def __get__(self, instance: object, owner: type, /) -> Flow[P, R]: ...
    def __get__(self, instance: object, owner: type, /) -> Flow[..., Any]:
        """The flow as a method of `instance`."""
        return self._as_attribute(instance, owner)

    def visualize(self, *args: P.args, **kwargs: P.kwargs) -> Picture:
        """A picture of the tasks that a call would run, and of whose results they would take.

        Runs the code of the flow and of its subflows, here, and no task: a task's result is a
        placeholder that can only be passed on, or its `viz_return_value`. Nothing is recorded.

        Raises:
            ParameterError: the arguments do not fit the signature or the annotations.
            VisualizationError: the code needs the value of a task; the message names it.
            BaseException: what the function raised.
        """
        with self._sketched(args, kwargs) as (run, sketch):
            drive_sync(run, get_engine())
        return sketch.picture()


class AsyncFlow(_FlowBase[P, R], AsyncVerbs[P, R]):
    """A flow of an async function; made by `@flow`. Its attributes are those of `Flow`."""

    @overload  # below @classmethod; only a callable tells mypy what its first parameter is
    def __get__(  # type: ignore[misc]  # `self` is one, where the class is its first argument
        self: Callable[Concatenate[type[Instance], Q], Coroutine[Any, Any, S]],
        instance: object,
        owner: type[Instance],
        /,
    ) -> AsyncFlow[Q, S]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> AsyncFlow[P, R]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[Instance, Q], Coroutine[Any, Any, S]],
        instance: Instance,
        owner: type,
        /,
    ) -> AsyncFlow[Q, S]: ...
    @overload  # below @staticmethod
    def __get__(self, instance: object, owner: type, /) -> AsyncFlow[P, R]: ...
    def __get__(self, instance: object, owner: type, /) -> AsyncFlow[..., Any]:
        """The flow as a method of `instance`."""
        return self._as_attribute(instance, owner)

    async def visualize(self, *args: P.args, **kwargs: P.kwargs) -> Picture:
        """A picture of the tasks that a call would run, and of whose results they would take.

        Runs the code of the flow and of its subflows in this task of the event loop; see
        `Flow.visualize`.
        """
        with self._sketched(args, kwargs) as (run, sketch):
            await drive_async(run, get_engine())
        return sketch.picture()

    def visualize_sync(self, *args: P.args, **kwargs: P.kwargs) -> Picture:
        """The same from sync code, in an event loop of the engine's; see `Flow.visualize`.

        Raises:
            WouldDeadlock: called from code that runs in that very loop.
        """
        with self._sketched(args, kwargs) as (run, sketch):
            run_on_engine_loop(run, get_engine())
        return sketch.picture()


class FlowDecorator(Protocol):
    """Makes flows with the options that `flow` was given."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # the first that fits is meant
        self, fn: Callable[P, NoReturn], /
    ) -> Flow[P, Any]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # the first that fits is meant
        self, fn: Callable[P, Coroutine[Any, Any, State[R]]], /
    ) -> AsyncFlow[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # the first that fits is meant
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncFlow[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, State[R]], /) -> Flow[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Flow[P, R]: ...


@overload  # for functions whose result is not annotated, or is Any: they are sync
def flow(  # type: ignore[overload-overlap]  # the first that fits is meant
    fn: Callable[P, NoReturn], /
) -> Flow[P, Any]: ...
@overload  # for functions that return a state, whose value is what a call gives
def flow(  # type: ignore[overload-overlap]  # the first that fits is meant
    fn: Callable[P, Coroutine[Any, Any, State[R]]], /
) -> AsyncFlow[P, R]: ...
@overload
def flow(  # type: ignore[overload-overlap]  # the first that fits is meant
    fn: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncFlow[P, R]: ...
@overload
def flow(fn: Callable[P, State[R]], /) -> Flow[P, R]: ...
@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Iterable[str] | None = None,
    version: str | None = None,
    flow_run_name: str | Callable[[], str] | None = None,
    task_runner: TaskRunner | type[TaskRunner] | None = None,
    retries: int = 0,
    retry_delay_seconds: RetryDelays = 0,
    retry_jitter_factor: float | None = None,
    retry_on: RetryOn | None = None,
    timeout_seconds: float | timedelta | None = None,
    fail_fast: bool = False,
    validate_parameters: bool = True,
    persist_result: bool = True,
    result_serializer: Serializer | str | None = None,
    log_prints: bool | None = None,
    on_running: Sequence[FlowHook] | None = None,
    on_completion: Sequence[FlowHook] | None = None,
    on_failure: Sequence[FlowHook] | None = None,
    on_cancellation: Sequence[FlowHook] | None = None,
    on_crashed: Sequence[FlowHook] | None = None,
) -> FlowDecorator: ...
def flow(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:  # noqa: D417  # the options are those of the overload
    """Make a flow of a function, sync or async.

    Args:
        fn: the function, where the decorator is used without arguments.
        name: default: the function's name, with dashes for underscores.
        description: default: the docstring.
        tags: strings to find the runs by.
        version: of the code; default: a hash of the defining file.
        flow_run_name: a template over the parameters, such as `"{x}-{y}"`, or a sync function
            without arguments, called in the run; default: an adjective and an animal.
        task_runner: where submitted tasks run; default: `ConcurrentTaskRunner()`.
        retries: how many times a failed run is tried again; tasks that completed are not run
            again.
        retry_delay_seconds: seconds before each retry; or a list of them, of which the last
            serves for all later retries; or a function of the number of retries that returns such
            a list.
        retry_jitter_factor: spreads each delay d evenly over d * (1 - factor) to d * (1 + factor);
            a delay is never below 0.
        retry_on: the class of exception, or a tuple of them, after which a run is tried again;
            default: any failure. A timeout counts as `RunTimedOut`, which is a `TimeoutError`.
        timeout_seconds: how long an attempt may take, with all that it submits. Async code is
            cancelled then; sync code runs on a thread of its own, which cannot be stopped and
            is abandoned.
        fail_fast: whether the first submitted run that fails, its retries used up, fails the flow
            run at once: all others are cancelled, and nothing more is started.
        validate_parameters: whether arguments are checked against the annotations, and converted
            (`"5"` for an `int` is 5).
        persist_result: whether the result is stored with the history.
        result_serializer: how the result is stored: `"pickle"`, `"json"`, `"msgpack"`, one of
            these after `"compressed/"`, or a `penstock.serializers.Serializer` of your own; also
            for the tasks and subflows that set none; default: as the flow that calls it, else
            pickled. Where it raises, the run completes, the result is not stored, and a warning
            says why.
        log_prints: whether `print` in the flow and its tasks writes to the run's log; default: as
            the flow that calls it, if any.
        on_running: functions of (flow, run, state), sync or async, called when a run first runs.
        on_completion: the same, when it has completed.
        on_failure: the same, when it has failed.
        on_cancellation: the same, when it was cancelled.
        on_crashed: the same, when it has crashed.

    Raises:
        ConfigurationError: naming the argument that has an impossible value.
    """
    if fn is None:
        return functools.partial(flow, **options) if options else flow
    function = function_or_refuse(fn, "flow")
    kind: Any = AsyncFlow if is_coroutine_function(function) else Flow
    return kind(function, **options).decorating(fn)


def cancel_flow_run(flow_run_id: UUID | str) -> bool:
    """End a flow run of this process as Cancelled, with all that it submitted; from any thread.

    An async flow is cancelled in its loop. A sync flow that was submitted, or is awaited with
    `run_async`, ends at once, whatever its code does. One that runs in the thread of its caller
    goes on until its code returns or raises; it can start nothing more, and what waits for
    something submitted goes on with a `RunCancelled`.

    Args:
        flow_run_id: as in `FlowRunView.id`, `TaskFuture.run_id` or the history.

    Returns:
        False: no such run is under way in this process.

    Raises:
        ConfigurationError: it is not a UUID.
    """
    id_ = checks.uuid(flow_run_id, "flow_run_id", "cancel_flow_run()")
    run = get_engine().flow_runs.get(id_.bytes)
    if run is None or run.is_set():
        return False
    run.cancel()
    return True


def _task_runner(given: object, owner: str) -> TaskRunner:
    runner = given() if isinstance(given, type) else given
    if runner is None:
        return ConcurrentTaskRunner()
    if not isinstance(runner, TaskRunner):
        requirement = "a task runner such as ConcurrentTaskRunner()"
        raise checks.refusal(given, "task_runner", owner, requirement)
    return runner
