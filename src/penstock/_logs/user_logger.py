"""The logger of a run, which adds the run to each record."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from typing_extensions import override

from penstock._logs.run_log import extra_of, flow_runs, task_runs
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the run to each record: `flow_run_id`, `flow_run_name`, `task_run_id`, and so on.

    The `extra` of a call is added to these.
    """

    @override
    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

    def getChild(self, suffix: str) -> RunLogger:  # noqa: N802  # named as by `logging.Logger`
        """A logger of the same run, with `suffix` at the end of its name."""
        return RunLogger(self.logger.getChild(suffix), self.extra)


def logger_of(run: Run) -> RunLogger:
    """The logger of a live run."""
    return RunLogger(task_runs if isinstance(run, TaskRun) else flow_runs, extra_of(run))
