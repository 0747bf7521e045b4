"""What the rules ask of a flow or a task: so neither they nor the drivers know the decorators.

Why: docs/inside/run.md, "The rules do not know the decorators".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from typing_extensions import TypeVar

from penstock._caching.keys import CacheKey
from penstock._model.definition import Definition
from penstock._model.hook_lists import Hooks
from penstock._model.names import MakeName
from penstock._model.retry_policy import RetryPolicy
from penstock._model.serializers import Serializer

if TYPE_CHECKING:
    from penstock._rules.task_run import TaskRun
    from penstock.task_runners import TaskRunner


class RunOptions(Protocol):
    """What the rules ask of a flow or a task."""

    @property
    def definition(self) -> Definition: ...
    @property
    def retry_policy(self) -> RetryPolicy: ...
    @property
    def timeout_seconds(self) -> float | None: ...
    @property
    def persist_result(self) -> bool: ...
    @property
    def result_serializer(self) -> Serializer | None: ...
    def returned_type(self) -> Any: ...
    @property
    def is_async(self) -> bool: ...
    @property
    def fn(self) -> Callable[..., Any]: ...
    @property
    def log_prints(self) -> bool | None: ...
    @property
    def hooks(self) -> Hooks | None: ...
    @property
    def make_name(self) -> MakeName | None: ...
    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Any]: ...


class TaskOptions(RunOptions, Protocol):
    """What the rules ask of a task."""

    @property
    def is_cached(self) -> bool: ...
    def cache_key_of(self, run: TaskRun) -> CacheKey | None: ...
    @property
    def task_key(self) -> str: ...
    @property
    def cache_expiration(self) -> float | None: ...
    @property
    def refresh_cache(self) -> bool: ...
    @property
    def viz_return_value(self) -> Any: ...
    @property
    def next_number(self) -> Callable[[], int]: ...


class FlowOptions(RunOptions, Protocol):
    """What the rules ask of a flow."""

    @property
    def task_runner(self) -> TaskRunner: ...
    @property
    def fail_fast(self) -> bool: ...
    def validated(self, parameters: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]: ...


Options = TypeVar("Options", bound=RunOptions, covariant=True, default=RunOptions)
