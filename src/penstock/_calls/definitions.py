"""What flows and tasks have in common: a function, and options that are read and checked."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, ParamSpec, Self, TypedDict, cast

from typing_extensions import TypeVar

from penstock._calls.signature import Signature
from penstock._logs.prints import log_prints_from_now_on
from penstock._model.definition import Definition, RunKind, make_definition
from penstock._model.hints import hint
from penstock._model.modules import name_of_module
from penstock._model.names import MakeName
from penstock.exceptions import ConfigurationError
from penstock.hooks import Hook, HookFunction, Hooks, with_hook, with_hooks
from penstock.retries import RetryDelays, RetryOn, RetryPolicy, retry_policy
from penstock.serializers import Serializer, serializer_or_none

P = ParamSpec("P")
R = TypeVar("R")


def name_or_default(name: object, default: str, owner: str) -> str:
    """The name given, or the default one.

    Raises:
        ConfigurationError: it is no name.
    """
    if name is None:
        return default
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"{owner}: name must be a text that is not empty, not {name!r}.")
    return name


def text_or_none(value: object, argument: str, owner: str) -> str | None:
    """A text given, or None.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{owner}: {argument} must be a text, not {value!r}.")
    return value


def flag(value: object, argument: str, owner: str) -> bool:
    """True or False.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{owner}: {argument} must be True or False, not {value!r}.")
    return value


def seconds_or_none(value: object, argument: str, owner: str) -> float | None:
    """A time in seconds, or None.

    Raises:
        ConfigurationError: it is no positive number and no timedelta.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        raise ConfigurationError(
            f"{owner}: {argument} must be a time above 0, in seconds or as a timedelta, "
            f"not {value!r}."
        )
    return float(value)


def tag_tuple(tags: object, owner: str) -> tuple[str, ...]:
    """The tags, sorted, each once.

    Raises:
        ConfigurationError: they are no list of texts.
    """
    if tags is None:
        return ()
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise ConfigurationError(f"{owner}: tags must be a list of texts, not {tags!r}.")
    given = list(cast("Iterable[object]", tags))
    if not all(isinstance(tag, str) and tag for tag in given):
        raise ConfigurationError(f"{owner}: tags must be a list of texts, not {given!r}.")
    return tuple(sorted(set(cast("list[str]", given))))


def function_or_refuse(fn: object, decorator: str) -> Callable[..., Any]:
    """What was decorated, unless it cannot be.

    Raises:
        ConfigurationError: it is no function, or a generator function.
    """
    if isinstance(fn, classmethod | staticmethod):
        method = cast("classmethod[Any, ..., Any] | staticmethod[..., Any]", fn)
        return function_or_refuse(method.__func__, decorator)
    if not callable(fn) or isinstance(fn, type):
        raise ConfigurationError(
            f"@{decorator} takes a function, not {fn!r}. Options are given by keyword: "
            f"@{decorator}(name=...)."
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigurationError(
            f"@{decorator}: {getattr(fn, '__name__', fn)!r} is a generator; return a list instead."
        )
    return cast("Callable[..., Any]", fn)


def function_name(fn: Callable[..., Any]) -> str:
    """What the function is called."""
    return getattr(fn, "__name__", type(fn).__name__)


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(fn, "__call__", None)  # noqa: B004  # the method itself is asked for
    )


def _docstring(fn: Callable[..., Any]) -> str | None:
    """The docstring, without the indentation."""
    return inspect.getdoc(fn) if getattr(fn, "__doc__", None) else None


def hash_of_defining_file(fn: Callable[..., Any]) -> str | None:
    """A hash of the .py file that defines the function; None where there is none (a REPL)."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(fn))
    except TypeError:
        return None
    return _hash_of_file(path) if path is not None else None


@lru_cache(maxsize=1024)
def _hash_of_file(path: str) -> str | None:
    # Once a process: the code that runs is the code that was imported.
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None
    return hashlib.sha256(content).hexdigest()[:32]


_METHODS: Final = (classmethod, staticmethod)


class CommonOptions(TypedDict, total=False):
    """The options that both decorators take; `flow` and `task` say what they mean."""

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
        kind: which of the two.
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
        """Keep the options as they were given, whoever reads them, for a copy with others."""
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
        owner = self._owner = f"{kind} {function_name(fn)!r}"
        given: Callable[..., Any] = options.get
        for name in options.keys() - CommonOptions.__annotations__.keys():
            raise TypeError(
                f"{owner}: there is no option {name!r}; {hint(name, self._option_names)}."
            )
        tags = tag_tuple(given("tags"), owner)
        self._given["tags"] = tags  # an iterator can be read but once
        self.fn = fn
        module = name_of_module(fn.__module__)
        self.key = f"{module}.{getattr(fn, '__qualname__', type(fn).__qualname__)}"
        self.name = name_or_default(given("name"), default_name, owner)
        description = text_or_none(given("description"), "description", owner)
        self.description = description or _docstring(fn)
        self.tags = frozenset(tags)
        self.version = text_or_none(given("version"), "version", owner) or default_version
        self.is_async = is_coroutine_function(fn)
        self.retry_policy = retry_policy(
            given("retries", 0),
            given("retry_delay_seconds", 0),
            owner,
            given("retry_jitter_factor"),
            given("retry_on"),
        )
        self.timeout_seconds = seconds_or_none(given("timeout_seconds"), "timeout_seconds", owner)
        self.persist_result = flag(given("persist_result", True), "persist_result", owner)
        self.result_serializer = serializer_or_none(given("result_serializer"), owner)
        self.log_prints = given("log_prints")
        if self.log_prints is not None and flag(self.log_prints, "log_prints", owner):
            log_prints_from_now_on()
        self.hooks = with_hooks(
            None,
            owner,
            **{name: given(name) for name in ("on_running", "on_completion", "on_failure")},
        )
        self.definition = make_definition(
            kind, self.name, self.key, self.version, self.description, tags
        )
        self._signature = Signature(fn, owner)

    @property
    def retries(self) -> int:
        """How often a failed run is tried again."""
        return self.retry_policy.retries

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Any]:
        """The arguments of a call by name, defaults included."""
        return self._signature.bind(args, kwargs)

    def returned_type(self) -> Any:
        """The type of the function's results; Any: it does not say, or not here."""
        return self._signature.returned_type

    def on_running(self, hook: HookFunction, /) -> HookFunction:
        """Have `hook(self, run, state)` called when a run first runs; as a decorator."""
        return self._hooked("on_running", hook)

    def on_completion(self, hook: HookFunction, /) -> HookFunction:
        """Have `hook(self, run, state)` called when a run has completed; as a decorator."""
        return self._hooked("on_completion", hook)

    def on_failure(self, hook: HookFunction, /) -> HookFunction:
        """Have `hook(self, run, state)` called when a run has failed; as a decorator."""
        return self._hooked("on_failure", hook)

    def _hooked(self, argument: str, hook: HookFunction) -> HookFunction:
        self.hooks = with_hook(self.hooks, argument, hook, self._owner)
        self._given = {**self._given, argument: getattr(self.hooks, argument)}
        return hook

    def decorating(self, decorated: object) -> Self:
        """The same, where the decorator stands above `@classmethod` or `@staticmethod`."""
        self._method = next((kind for kind in _METHODS if isinstance(decorated, kind)), None)
        return self

    def _as_attribute(self, instance: object, owner: type) -> Self:
        """What it is as an attribute of a class or an instance."""
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
        """A copy with other options, checked as the decorator checks them."""
        make = cast("Callable[..., Self]", type(self))
        made = make(self.fn, **{**self._given, **changed})
        made._method = self._method
        return made

    def _duplicate(self) -> Self:
        # copy.copy() would give back the original, as it pickles by name.
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        return copy

    def __reduce__(self) -> str:
        """Pickled by name, as functions are; so other processes can be given it."""
        return self.fn.__qualname__

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
