"""What the code of a run can know of the run: a context only looks, and changes nothing.

What it gives is a snapshot: it stays as it was when it was asked for.
"""

from __future__ import annotations

from penstock._model.publishing import publish
from penstock._rules.current_run import current_run
from penstock._rules.run_views import (
    FlowRunContext,
    FlowRunView,
    RunView,
    TaskRunContext,
    TaskRunView,
)
from penstock.exceptions import MissingContextError

__all__ = [
    "FlowRunContext",
    "FlowRunView",
    "RunView",
    "TaskRunContext",
    "TaskRunView",
    "get_run_context",
]


def get_run_context() -> FlowRunContext | TaskRunContext:
    """The task run or flow run whose code calls this: its function, a hook, a name function.

    Raises:
        MissingContextError: called outside of runs; `penstock.runtime` gives None there.
    """
    run = current_run.get()
    if run is None:
        raise MissingContextError(
            "There is no run here: get_run_context() is for the code of flows and tasks, and for "
            "their hooks. Code that runs outside of them too can ask penstock.runtime, which "
            "gives None where there is no run."
        )
    return run.context()


publish(__name__, __all__)
