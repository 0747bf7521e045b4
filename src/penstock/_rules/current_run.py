"""The run whose code is running here, and the tags that runs made here are given."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock._rules.flow_run import FlowRun
    from penstock._rules.task_run import TaskRun

current_run: ContextVar[FlowRun | TaskRun | None] = ContextVar("current_run", default=None)
current_tags: ContextVar[frozenset[str] | None] = ContextVar("current_tags", default=None)
current_attempt: ContextVar[tuple[FlowRun, int] | None] = ContextVar(
    "current_attempt", default=None
)
"""The attempt of a flow run that this code belongs to, where it may be left to itself."""
