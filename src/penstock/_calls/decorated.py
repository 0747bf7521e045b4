"""Decorated functions: what flows and tasks have in common, a function and its options."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final, Generic, ParamSpec, Self, TypedDict, cast

from typing_extensions import TypeVar

from penstock._calls.functions import (
    docstring_of,
    function_name,
    is_coroutine_function,
    qualified_name,
)
from penstock._calls.signature import Signature
from penstock._logs.prints import log_prints_from_now_on
from penstock._model import checks
from penstock._model.definition import Definition, RunKind, make_definition
from penstock._model.hints import hint
from penstock._model.hook_lists import Hook, HookFunction, Hooks, with_hook, with_hooks
from penstock._model.modules import name_of_module
from penstock._model.names import MakeName
from penstock._model.retry_policy import RetryDelays, RetryOn, RetryPolicy, retry_policy
from penstock._model.serializers import Serializer, serializer_or_none

P = ParamSpec("P")
R = TypeVar("R")


_METHODS: Final = (classmethod, staticmethod)


class CommonOptions(TypedDict, total=False):
    """The options that both decorators have; `flow` and `task` document them."""

    name: str | None
    description: str | None
    tags: Iterable[str] | None
    version: str | None
    retries: int
    retry_delay_seconds: RetryDelays
    retry_jitter_factor: float | None
    retry_on: RetryOn | None
    timeout_seconds: float | timedelta | None
    persist_result: bool
    result_serializer: Serializer | str | None
    log_prints: bool | None
    on_running: Sequence[Hook] | None
    on_completion: Sequence[Hook] | None
    on_failure: Sequence[Hook] | None


class Decorated(Generic[P, R]):
    """A function as a flow or a task, with the options of both.

    Args:
        kind: whether it is a flow or a task.
        fn: the function.
        default_name: where no name is given.
        default_version: where no version is given.
        options: as given to the decorator.

    Raises:
        ConfigurationError: naming the option that has an impossible value.
    """

    _option_names: ClassVar[Collection[str]]
    fn: Callable[..., Any]
    key: str
    name: str
    description: str | None
    tags: frozenset[str]
    version: str | None
    is_async: bool
    retry_policy: RetryPolicy
    timeout_seconds: float | None
    persist_result: bool
    result_serializer: Serializer | None
    log_prints: bool | None
    definition: Definition
    hooks: Hooks | None
    make_name: MakeName | None
    _given: dict[str, Any]
    _method: type | None = None
    """`classmethod` or `staticmethod`, where that is what was decorated."""

    def __new__(cls, *_args: Any, **options: Any) -> Self:
        """Keep the options as they were given, for `with_options`."""
        made = super().__new__(cls)
        made._given = options
        return made

    def __init__(
        self,
        kind: RunKind,
        fn: Callable[..., Any],
        default_name: str,
        default_version: str | None,
        options: CommonOptions,
    ) -> None:
        functools.update_wrapper(cast("Callable[..., Any]", self), fn)
        self.fn = fn
        self._owner = f"{kind} {function_name(fn)!r}"
        self._refuse_unknown(options)
        self._describe(kind, default_name, default_version, options)
        self._configure(options)
        self._signature = Signature(fn, self._owner)

    def _refuse_unknown(self, options: CommonOptions) -> None:
        """Raise for an option that is neither of the subclass nor one that all of them have."""
        for name in options.keys() - CommonOptions.__annotations__.keys():
            raise TypeError(
                f"{self._owner}: there is no option {name!r}; {hint(name, self._option_names)}."
            )

    def _describe(
        self,
        kind: RunKind,
        default_name: str,
        default_version: str | None,
        options: CommonOptions,
    ) -> None:
        """Read what the runs of this function are found by."""
        given, owner = options.get, self._owner
        self.key = f"{name_of_module(self.fn.__module__)}.{qualified_name(self.fn)}"
        name: object = given("name")
        self.name = default_name if name is None else checks.string_not_blank(name, "name", owner)
        description = checks.string_or_none(given("description"), "description", owner)
        self.description = description or docstring_of(self.fn)
        version = checks.string_or_none(given("version"), "version", owner)
        self.version = version or default_version
        tags = given("tags")
        tags = () if tags is None else checks.distinct_strings(tags, "tags", owner)
        self._given["tags"] = tags  # an iterator can be read only once
        self.tags = frozenset(tags)
        self.definition = make_definition(
            kind, self.name, self.key, self.version, self.description, tags
        )

    def _configure(self, options: CommonOptions) -> None:
        """Read how the function is run."""
        given: Callable[..., Any] = options.get
        owner = self._owner
        self.is_async = is_coroutine_function(self.fn)
        self.retry_policy = retry_policy(
            given("retries", 0),
            given("retry_delay_seconds", 0),
            owner,
            given("retry_jitter_factor"),
            given("retry_on"),
        )
        timeout = given("timeout_seconds")
        self.timeout_seconds = checks.duration_or_none(timeout, "timeout_seconds", owner)
        persists = given("persist_result", True)
        self.persist_result = checks.flag(persists, "persist_result", owner)
        self.result_serializer = serializer_or_none(given("result_serializer"), owner)
        self.log_prints = given("log_prints")
        if self.log_prints is not None and checks.flag(self.log_prints, "log_prints", owner):
            log_prints_from_now_on()
        hooks = ("on_running", "on_completion", "on_failure")
        self.hooks = with_hooks(None, owner, **{name: given(name) for name in hooks})

    @property
    def retries(self) -> int:
        """How many times a failed run is tried again."""
        return self.retry_policy.retries

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Any]:
        """The arguments of a call by name, defaults included."""
        return self._signature.bind(args, kwargs)

    def returned_type(self) -> Any:
        """The type of the function's results; Any where no annotation says it."""
        return self._signature.returned_type

    def on_running(self, hook: HookFunction, /) -> HookFunction:
        """Add a hook, called with (self, run, state) when a run starts; as a decorator."""
        return self._hooked("on_running", hook)

    def on_completion(self, hook: HookFunction, /) -> HookFunction:
        """Add a hook, called with (self, run, state) when a run has completed; as a decorator."""
        return self._hooked("on_completion", hook)

    def on_failure(self, hook: HookFunction, /) -> HookFunction:
        """Add a hook, called with (self, run, state) when a run has failed; as a decorator."""
        return self._hooked("on_failure", hook)

    def _hooked(self, argument: str, hook: HookFunction) -> HookFunction:
        self.hooks = with_hook(self.hooks, argument, hook, self._owner)
        self._given = {**self._given, argument: getattr(self.hooks, argument)}
        return hook

    def decorating(self, decorated: object) -> Self:
        """Remember that the decorator stands above `@classmethod` or `@staticmethod`."""
        self._method = next((kind for kind in _METHODS if isinstance(decorated, kind)), None)
        return self

    def _as_attribute(self, instance: object, owner: type) -> Self:
        """What it is when it is looked up on a class or an instance."""
        if self._method is classmethod:
            return self._bound_to(owner)
        return (
            self if instance is None or self._method is staticmethod else self._bound_to(instance)
        )

    def _bound_to(self, instance: object) -> Self:
        bound = self._duplicate()
        bound.fn = self.fn.__get__(instance)
        bound._signature = Signature(bound.fn, self._owner)
        return bound

    def _with_changed(self, changed: Mapping[str, Any]) -> Self:
        """A copy with other options, which are checked as the decorator checks them."""
        make = cast("Callable[..., Self]", type(self))
        made = make(self.fn, **{**self._given, **changed})
        made._method = self._method
        return made

    def _duplicate(self) -> Self:
        # copy.copy() would give the original itself, as it is pickled by name.
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        return copy

    def __reduce__(self) -> str:
        """Pickled by name, as functions are, so that it can be sent to other processes."""
        return self.fn.__qualname__

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
