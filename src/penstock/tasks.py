"""`@task`: functions whose runs are recorded, retried, cached and run concurrently."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from datetime import timedelta
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Final,
    NoReturn,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    Unpack,
    overload,
)

from msgspec import UNSET
from typing_extensions import TypeVar

from penstock._caching.policies import policy_of_options
from penstock._caching.policy_parts import name_of_self
from penstock._calls.decorated import CommonOptions
from penstock._calls.functions import function_name, function_or_refuse, is_coroutine_function
from penstock._calls.verbs import AsyncVerbs, SyncVerbs, Verbs
from penstock._engine.process import get_engine
from penstock._model import checks
from penstock._model.definition import RunKind
from penstock._model.names import MakeName, name_maker
from penstock._model.publishing import publish
from penstock._model.retry_policy import RetryPolicy, with_condition
from penstock._rules.current_run import current_run, current_tags
from penstock._rules.futures_in_arguments import unmapped
from penstock._rules.task_run import TaskRun
from penstock.cache_policies import CacheKey, CachePolicy
from penstock.caching import CacheExplanation, CacheKeyFunction, task_input_hash
from penstock.context import TaskRunView
from penstock.exceptions import ConfigurationError, UsageError
from penstock.retries import RetryDelays, RetryOn, exponential_backoff
from penstock.serializers import Serializer
from penstock.states import State

__all__ = [
    "AsyncTask",
    "RetryConditionFunction",
    "Task",
    "TaskArguments",
    "TaskDecorator",
    "TaskHook",
    "exponential_backoff",
    "task",
    "task_input_hash",
    "unmapped",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
Instance = TypeVar("Instance")
RetryConditionFunction: TypeAlias = Callable[[Any, TaskRunView, State[Any]], bool]
"""A function of (task, task_run, state) that says whether a failed run is tried again."""
TaskHook: TypeAlias = Callable[[Any, TaskRunView, State[Any]], object]
"""A sync or async function of (task, task_run, state)."""


class TaskArguments(CommonOptions, total=False):
    """The options of tasks, which `task` documents."""

    task_run_name: str | Callable[[], str] | None
    retry_condition_fn: RetryConditionFunction | None
    cache_policy: CachePolicy | None
    cache_key_fn: CacheKeyFunction | None
    cache_expiration: timedelta | float | None
    refresh_cache: bool
    viz_return_value: Any


_CACHING: Final[TaskArguments] = {"cache_policy": None, "cache_key_fn": None}


class _TaskBase(Verbs[P, R]):
    """What sync and async tasks have in common."""

    _option_names: ClassVar[Collection[str]] = TaskArguments.__annotations__
    _kind_of_run = TaskRun
    cache_policy: CachePolicy
    cache_key_fn: CacheKeyFunction | None
    cache_expiration: float | None
    refresh_cache: bool
    is_cached: bool
    """Whether its runs look for an earlier result."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        cache_policy: CachePolicy | None = None,
        cache_key_fn: CacheKeyFunction | None = None,
        cache_expiration: timedelta | float | None = None,
        refresh_cache: bool = False,
        retry_condition_fn: RetryConditionFunction | None = None,
        task_run_name: str | Callable[[], str] | None = None,
        viz_return_value: Any = UNSET,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(RunKind.TASK, fn, function_name(fn), None, options)
        owner = self._owner
        own_name = name_of_self(fn)  # of a bound method, which `with_options` is given as well
        names = self._signature.names if own_name is None else (own_name, *self._signature.names)
        self.cache_policy = policy_of_options(cache_policy, cache_key_fn, names, owner)
        self.is_cached = bool(self.cache_policy)
        if self.is_cached and not self.persist_result:
            given = "cache_policy" if cache_key_fn is None else "cache_key_fn"
            raise ConfigurationError(
                f"{owner}: persist_result=False leaves nothing to cache; remove it or {given}."
            )
        self.cache_key_fn = cache_key_fn
        self.cache_expiration = checks.duration_or_none(cache_expiration, "cache_expiration", owner)
        self.refresh_cache = checks.flag(refresh_cache, "refresh_cache", owner)
        self.make_name: MakeName | None = name_maker(
            task_run_name, self._signature.names, "task_run_name", owner
        )
        self.retry_policy: RetryPolicy = with_condition(
            self.retry_policy, retry_condition_fn, owner
        )
        self.viz_return_value: Any = viz_return_value
        self.next_number: Callable[[], int] = itertools.count().__next__

    # What the rules ask for

    @property
    def task_key(self) -> str:
        """Which function it is: module and qualified name."""
        return self.key

    def cache_key_of(self, run: TaskRun) -> CacheKey | None:
        """What the cache policy says of a run."""
        return self.cache_policy.compute_key(run, run.parameters)

    def _explain(self, args: Sequence[Any], kwargs: dict[str, Any]) -> CacheExplanation:
        """What `penstock.caching.explain` says of a call; no run of it is admitted.

        Raises:
            UsageError: an argument is a future that has not ended.
        """
        self._signature.check(args, kwargs)
        run = TaskRun(self, current_run.get(), args, kwargs, current_tags.get())  # it never begins
        if not all(upstream.is_set() for upstream in run.upstream_runs):
            raise UsageError("An argument is a future that has not ended; wait for it first.")
        run.resolve_arguments()
        return get_engine().cache.explain(run)

    def with_options(self, **options: Unpack[TaskArguments]) -> Self:
        """A copy of this task with some options changed; all others are as they were given here.

        Of `cache_policy` and `cache_key_fn`, either one takes the place of both.

        Raises:
            ConfigurationError: naming the option that has an impossible value.
        """
        if not options.keys().isdisjoint(_CACHING):
            options = {**_CACHING, **options}
        changed = self._with_changed(options)
        changed._awaited_first = self._awaited_first
        changed.next_number = self.next_number  # two runs of one name never have one number
        return changed


class Task(_TaskBase[P, R], SyncVerbs[P, R]):
    """A task of a sync function; made by `@task`.

    Attributes:
        fn: the function itself.
        name: as given, else the function's.
        description: as given, else the docstring.
        tags: as given.
        version: as given.
        task_key: module and qualified name of the function; of a script, the path of its file.
        timeout_seconds: how long an attempt may take.
    """

    @overload  # below @classmethod; only a callable tells mypy what its first parameter is
    def __get__(  # type: ignore[misc]  # `self` is one, where the class is its first argument
        self: Callable[Concatenate[type[Instance], Q], S],
        instance: object,
        owner: type[Instance],
        /,
    ) -> Task[Q, S]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> Task[P, R]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[Instance, Q], S], instance: Instance, owner: type, /
    ) -> Task[Q, S]: ...
    @overload  # below @staticmethod
    def __get__(self, instance: object, owner: type, /) -> Task[P, R]: ...
    def __get__(self, instance: object, owner: type, /) -> Task[..., Any]:
        """The task as a method of `instance`."""
        return self._as_attribute(instance, owner)


class AsyncTask(_TaskBase[P, R], AsyncVerbs[P, R]):
    """A task of an async function; made by `@task`. Its attributes are those of `Task`."""

    @overload  # below @classmethod; only a callable tells mypy what its first parameter is
    def __get__(  # type: ignore[misc]  # `self` is one, where the class is its first argument
        self: Callable[Concatenate[type[Instance], Q], Coroutine[Any, Any, S]],
        instance: object,
        owner: type[Instance],
        /,
    ) -> AsyncTask[Q, S]: ...
    @overload
    def __get__(self, instance: None, owner: type, /) -> AsyncTask[P, R]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[Instance, Q], Coroutine[Any, Any, S]],
        instance: Instance,
        owner: type,
        /,
    ) -> AsyncTask[Q, S]: ...
    @overload  # below @staticmethod
    def __get__(self, instance: object, owner: type, /) -> AsyncTask[P, R]: ...
    def __get__(self, instance: object, owner: type, /) -> AsyncTask[..., Any]:
        """The task as a method of `instance`."""
        return self._as_attribute(instance, owner)


class TaskDecorator(Protocol):
    """Makes tasks with the options that `task` was given."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # the first that fits is meant
        self, fn: Callable[P, NoReturn], /
    ) -> Task[P, Any]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # the first that fits is meant
        self, fn: Callable[P, Coroutine[Any, Any, State[R]]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # the first that fits is meant
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, State[R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Task[P, R]: ...


@overload  # for functions whose result is not annotated, or is Any: they are sync
def task(  # type: ignore[overload-overlap]  # the first that fits is meant
    fn: Callable[P, NoReturn], /
) -> Task[P, Any]: ...
@overload  # for functions that return a state, whose value is what a call gives
def task(  # type: ignore[overload-overlap]  # the first that fits is meant
    fn: Callable[P, Coroutine[Any, Any, State[R]]], /
) -> AsyncTask[P, R]: ...
@overload
def task(  # type: ignore[overload-overlap]  # the first that fits is meant
    fn: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncTask[P, R]: ...
@overload
def task(fn: Callable[P, State[R]], /) -> Task[P, R]: ...
@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Iterable[str] | None = None,
    version: str | None = None,
    task_run_name: str | Callable[[], str] | None = None,
    retries: int = 0,
    retry_delay_seconds: RetryDelays = 0,
    retry_jitter_factor: float | None = None,
    retry_on: RetryOn | None = None,
    retry_condition_fn: RetryConditionFunction | None = None,
    timeout_seconds: float | timedelta | None = None,
    cache_policy: CachePolicy | None = None,
    cache_key_fn: CacheKeyFunction | None = None,
    cache_expiration: timedelta | float | None = None,
    refresh_cache: bool = False,
    persist_result: bool = True,
    result_serializer: Serializer | str | None = None,
    log_prints: bool | None = None,
    viz_return_value: Any = UNSET,
    on_running: Sequence[TaskHook] | None = None,
    on_completion: Sequence[TaskHook] | None = None,
    on_failure: Sequence[TaskHook] | None = None,
) -> TaskDecorator: ...
def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:  # noqa: D417  # the options are those of the overload
    """Make a task of a function, sync or async.

    Args:
        fn: the function, where the decorator is used without arguments.
        name: default: the function's name.
        description: default: the docstring.
        tags: strings to find the runs by.
        version: of the code; a string.
        task_run_name: a template over the parameters, such as `"{x}-{y}"`, or a sync function
            without arguments, called in the run; default: the task's name and a number.
        retries: how many times a failed run is tried again.
        retry_delay_seconds: seconds before each retry; or a list of them, of which the last
            serves for all later retries; or a function of the number of retries that returns such
            a list.
        retry_jitter_factor: spreads each delay d evenly over d * (1 - factor) to d * (1 + factor);
            a delay is never below 0.
        retry_on: the class of exception, or a tuple of them, after which a run is tried again;
            default: any failure. A timeout counts as `RunTimedOut`, which is a `TimeoutError`.
        retry_condition_fn: a sync function of (task, task_run, state), called while retries are
            left with the state that the run would end in. There is no retry where it returns False,
            nor where it raises, which also logs a warning with the traceback.
        timeout_seconds: how long an attempt may take. Async code is cancelled then; sync code
            runs on a thread of its own, which cannot be stopped and is abandoned. Only the
            processes of a `ProcessTaskRunner` can be ended.
        cache_policy: what the results depend on, such as `INPUTS + TASK_SOURCE`; runs that are
            alike in it take the result of the first one. See `penstock.cache_policies`.
        cache_key_fn: a function of (context, parameters), as a policy of its own; runs with the
            same key take the result of the first one. A key that is not a string is turned into
            one, and None means uncached; where the function raises, the run is uncached and a
            warning says so.
        cache_expiration: how long a result is taken; default: forever.
        refresh_cache: whether to compute the result again, and store it under the key.
        persist_result: whether the result is stored with the history.
        result_serializer: how the result is stored: `"pickle"`, `"json"`, `"msgpack"`, one of
            these after `"compressed/"`, or a `penstock.serializers.Serializer` of your own;
            default: as the flow says, else pickled. Where it raises, the run completes, the result
            is not stored, and a warning says why.
        log_prints: whether `print` in the function writes to the run's log; default: as the flow.
        viz_return_value: what stands for the result in `flow.visualize()`, which runs no task.
        on_running: functions of (task, run, state), sync or async, called when a run first runs.
        on_completion: the same, when it has completed; not where the result was cached.
        on_failure: the same, when it has failed.

    Raises:
        ConfigurationError: naming the argument that has an impossible value.
    """
    if fn is None:
        return functools.partial(task, **options) if options else task
    function = function_or_refuse(fn, "task")
    kind: Any = AsyncTask if is_coroutine_function(function) else Task
    return kind(function, **options).decorating(fn)


publish(__name__, __all__)
