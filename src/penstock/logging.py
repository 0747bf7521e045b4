"""Logging in the code of a run, with the ids and names of the run on each record."""

from __future__ import annotations

from penstock._logs.run_log import RunFormatter
from penstock._logs.user_logger import RunLogger, logger_of
from penstock._model.publishing import publish
from penstock._rules.current_run import current_run
from penstock.exceptions import MissingContextError

__all__ = ["RunFormatter", "RunLogger", "get_run_logger"]


def get_run_logger() -> RunLogger:
    """The logger of the current task run or flow run.

    Raises:
        MissingContextError: called outside of runs; use `logging.getLogger` there.
    """
    run = current_run.get()
    if run is None:
        raise MissingContextError(
            "There is no run here. Outside of runs, use logging.getLogger(__name__)."
        )
    return logger_of(run)


publish(__name__, __all__)
