"""What a worker makes of a job: the run whose code it is, as that code sees it.

It is neither driven nor recorded here; what its code calls is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from penstock._logs.prints import log_prints_from_now_on
from penstock._remote.functions import Name, import_function
from penstock._remote.jobs import FlowFacts, JobContext
from penstock._remote.pipes.messages import Bytes, Call, decode_context
from penstock._rules.flow_run import FlowRun
from penstock._rules.run import Identity
from penstock._rules.task_run import TaskRun
from penstock.flows import Flow
from penstock.tasks import Task


class LoadedContext:
    """A context, which is loaded with the first job that needs it.

    What is wrong with it is the answer to that job, and to each one that follows.
    """

    def __init__(self, payload: Bytes) -> None:
        self._payload = payload

    @cached_property
    def _context(self) -> JobContext:
        context = decode_context(self._payload)
        if context.logs_prints:
            log_prints_from_now_on()
        return context

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The task's function."""
        function = self._context.function
        return import_function(function) if isinstance(function, Name) else function

    @property
    def has_time_limit(self) -> bool:
        """Whether the pool has to know when the function is called."""
        return self._context.timeout_seconds is not None

    @cached_property
    def _task(self) -> Task[..., Any]:
        definition = self._context.definition
        return Task[..., Any](
            self.function,
            name=definition.name,
            description=definition.description,
            version=definition.version,
            tags=definition.tags,
            log_prints=self._context.logs_prints,
        )

    @cached_property
    def _flow_run(self) -> FlowRun | None:
        facts = self._context.flow
        return None if facts is None else _flow_run_of(facts)

    def run_of(self, call: Call) -> TaskRun:
        """The run whose code makes this call."""
        identity = Identity(call.run_id, call.name, self._context.definition, call.history)
        return TaskRun.restored(self._task, self._flow_run, call.args, call.kwargs, identity)


def _flow_run_of(facts: FlowFacts) -> FlowRun:
    outer = None if facts.outer is None else _flow_run_of(facts.outer)
    definition = facts.definition
    flow = Flow[[], None](
        _no_code,
        name=definition.name,
        description=definition.description,
        version=definition.version,
        tags=definition.tags,
    )
    identity = Identity(facts.run_id, facts.name, definition, facts.history)
    return FlowRun.restored(flow, outer, (), {}, identity)


def _no_code() -> None:
    """Stands for the flow's function, which is not here, and its parameters are not either."""
