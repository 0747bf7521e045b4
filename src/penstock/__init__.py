"""Penstock: an embedded workflow engine.

Put `@flow` and `@task` on the functions you have, and get retries, caching, concurrency, typed
futures and the history of every run, in your own process.
"""

from penstock import concurrency, exceptions, history, runtime, states
from penstock._engine.process import shutdown
from penstock._model.publishing import publish as _publish
from penstock.context import FlowRunContext, TaskRunContext, get_run_context
from penstock.flows import AsyncFlow, Flow, cancel_flow_run, flow
from penstock.futures import FailureAllowed, FutureList, TaskFuture, allow_failure
from penstock.logging import get_run_logger
from penstock.pictures import Picture
from penstock.retries import exponential_backoff
from penstock.settings import temporary_settings
from penstock.states import State, StateType
from penstock.streams import ResultStream
from penstock.tagging import tags
from penstock.tasks import AsyncTask, Task, task, unmapped
from penstock.waiting import CompletedFutures, DoneAndNotDone, as_completed, wait, wait_async

__version__ = "0.1.0"

__all__ = [
    "AsyncFlow",
    "AsyncTask",
    "CompletedFutures",
    "DoneAndNotDone",
    "FailureAllowed",
    "Flow",
    "FlowRunContext",
    "FutureList",
    "Picture",
    "ResultStream",
    "State",
    "StateType",
    "Task",
    "TaskFuture",
    "TaskRunContext",
    "__version__",
    "allow_failure",
    "as_completed",
    "cancel_flow_run",
    "concurrency",
    "exceptions",
    "exponential_backoff",
    "flow",
    "get_run_context",
    "get_run_logger",
    "history",
    "runtime",
    "shutdown",
    "states",
    "tags",
    "task",
    "temporary_settings",
    "unmapped",
    "wait",
    "wait_async",
]

_publish(__name__, __all__)
