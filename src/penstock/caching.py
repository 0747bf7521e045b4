"""Cache keys, and explanations of why the cache does not serve a call."""

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

if TYPE_CHECKING:  # up: `explain` is typed by the task that it takes
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
    """Whether the cache would serve this call of a task; if not, what differs from before.

    Nothing runs but the task's key function, if it has one. Inside a flow, the call counts as one
    of that flow run. It is compared with the entry of the task that shares most parts with it,
    among the 100 newest. Reads the database in the calling thread.

    Raises:
        ParameterError: the function does not take such arguments.
        UsageError: it is not a task, or a future among the arguments is not done.
        BaseException: what the run of such a future raised.
        StoreError: the database cannot be read.
    """
    if not hasattr(task, "_explain"):
        raise UsageError(f"explain takes a task and its arguments, not {task!r}.")
    return task._explain(args, kwargs)


publish(__name__, __all__)
