"""Logging from the code of a run, under the name of the run."""

from __future__ import annotations

import builtins
import functools
import logging
import sys
from collections.abc import MutableMapping
from typing import Any

from penstock._engine.current import current_run
from penstock._engine.run_log import RunFormatter, extra_of, flow_runs, task_runs
from penstock._engine.runs import Run, TaskRun
from penstock.exceptions import MissingContextError

__all__ = ["RunFormatter", "RunLogger", "get_run_logger"]


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the run to each record: `flow_run_id`, `flow_run_name`, `task_run_id`, and so on."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """See `logging.LoggerAdapter`; the `extra` of the call comes on top."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def get_run_logger() -> RunLogger:
    """The logger of the task run or flow run whose code calls this.

    Raises:
        MissingContextError: called outside of runs; use `logging.getLogger` there.
    """
    run = current_run.get()
    if run is None:
        raise MissingContextError(
            "There is no run here. Outside of runs, use logging.getLogger(__name__)."
        )
    return _logger_of(run)


def _logger_of(run: Run) -> RunLogger:
    return RunLogger(task_runs if isinstance(run, TaskRun) else flow_runs, extra_of(run))


@functools.cache
def log_prints_from_now_on() -> None:
    """Let `print` go to the run's log where the run asks for it; everywhere else it prints."""
    plain_print = builtins.print

    @functools.wraps(plain_print)
    def print_or_log(*values: object, **options: Any) -> None:
        run = current_run.get()
        if run is not None and run.logs_prints and options.get("file") in (None, sys.stdout):
            text = (options.get("sep") or " ").join(map(str, values))
            _logger_of(run).info("%s", text)
        else:
            plain_print(*values, **options)

    builtins.print = print_or_log
