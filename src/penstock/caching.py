"""Cache keys: equal work has equal keys; and why a call is not served from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec

from penstock._caching.explanations import CacheDifference, CacheExplanation
from penstock._caching.keys import (
    CacheKeyFunction,
    UnhashableParameter,
    hash_inputs,
    hash_parameters,
    task_input_hash,
)
from penstock._model.publishing import publish
from penstock.exceptions import UsageError

if TYPE_CHECKING:
    from penstock.tasks import AsyncTask, Task

__all__ = [
    "CacheDifference",
    "CacheExplanation",
    "CacheKeyFunction",
    "UnhashableParameter",
    "explain",
    "hash_inputs",
    "hash_parameters",
    "task_input_hash",
]

P = ParamSpec("P")


def explain(
    task: Task[P, Any] | AsyncTask[P, Any], /, *args: P.args, **kwargs: P.kwargs
) -> CacheExplanation:
    """Whether the cache would serve this call of the task; if not, what differs from before.

    Nothing is run but the task's key function, if it has one. Called in a flow, that is the flow
    whose arguments and whose run count. The call is compared with the entry of the task that has
    most in common with it, among its 100 newest. Reads the database in the calling thread.

    Raises:
        ParameterError: the function does not take such arguments.
        UsageError: it is no task, or a future among the arguments has not ended.
        BaseException: what such a future raised.
        StoreError: the database cannot be read.
    """
    if not hasattr(task, "_explain"):
        raise UsageError(f"explain takes a task and its arguments, not {task!r}.")
    return task._explain(args, kwargs)


publish(__name__, __all__)
