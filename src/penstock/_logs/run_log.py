"""What the engine logs about runs, which follows from the run and the states that it enters.

Records go to `penstock.engine`, `penstock.flow_runs` and `penstock.task_runs`; explanations of
cache misses go to `penstock.caching`. Penstock adds a handler of its own only while the application
has set up none.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

from penstock._caching.keys import UnhashableParameter
from penstock._logs.log_records import RecordMaker
from penstock._model.ids import id_text
from penstock._model.tracebacks import format_error
from penstock._rules.flow_run import FlowRun
from penstock._rules.run import Run
from penstock._rules.task_run import TaskRun
from penstock._waiting.free_threads import AbandonedThread
from penstock.states import StateType, Transition

_root = logging.getLogger("penstock")
_engine = logging.getLogger("penstock.engine")
_caching = logging.getLogger("penstock.caching")
flow_runs = logging.getLogger("penstock.flow_runs")
task_runs = logging.getLogger("penstock.task_runs")


class RunFormatter(logging.Formatter):
    """`11:52:09.553 | INFO    | Flow run 'attentive-turaco' - Created task run …`."""

    default_time_format: str = "%H:%M:%S"
    default_msec_format: str | None = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)s | %(levelname)-7s | %(origin)s - %(message)s")

    @override
    def format(self, record: logging.LogRecord) -> str:
        record.origin = getattr(record, "run_title", record.name)
        return super().format(record)


class _FallbackHandler(logging.StreamHandler[Any]):
    """Writes to `sys.stderr` as it is when a record is handled."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(RunFormatter())

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _value: Any) -> None: ...


_fallback = _FallbackHandler()


class RunLog:
    """Writes the log lines of runs.

    Args:
        level: the level of the lines where the application has not set up logging.
    """

    def __init__(self, level: str) -> None:
        self._level = level.upper()
        self._warned: set[tuple[str, str]] = set()
        self._log = RecordMaker().log_line

    def set_up(self) -> None:
        """Install our handler where the application has none, and remove it where it has one."""
        others = [handler for handler in _root.handlers if handler is not _fallback]
        wanted = not others and not logging.getLogger().handlers and _root.propagate
        installed = _fallback in _root.handlers
        if wanted and not installed:
            _root.addHandler(_fallback)
            _root.setLevel(self._level)
        elif installed and not wanted:
            _root.removeHandler(_fallback)
            _root.setLevel(logging.NOTSET)

    def entered(self, run: Run, states: Sequence[Transition]) -> None:
        """Log states that a run has entered."""
        if (
            type(run) is TaskRun
            and not task_runs.isEnabledFor(logging.INFO)
            and states[-1].type is not StateType.FAILED
        ):
            return
        for transition in states:
            if transition.name == "Pending":
                self._created(run, transition.timestamp)
            elif transition.name == "AwaitingRetry":
                self._awaits_retry(run, transition)
            elif transition.is_final:
                self._finished(run, transition)

    def _created(self, run: Run, at: float) -> None:
        if isinstance(run, TaskRun):
            self._created_task_run(run, at)
        else:
            self._created_flow_run(run)

    def _created_flow_run(self, run: Run) -> None:
        assert isinstance(run, FlowRun), "task runs are logged by another method"
        self.set_up()
        if not flow_runs.isEnabledFor(logging.INFO):
            return
        created = (run.name, run.definition.name)
        parent = run.flow_run
        if parent is not None:
            message = "Created subflow run '%s' for flow '%s'"
            flow_runs.info(message, *created, extra=extra_of(parent))
        else:
            _engine.info("Created flow run '%s' for flow '%s'", *created)
        flow_runs.info("Using task runner '%s'", run.task_runner.name, extra=extra_of(run))

    def _created_task_run(self, run: TaskRun, at: float) -> None:
        flow_run = run.flow_run
        if flow_run is None:
            self.set_up()
        logger, extra = (_engine, _NOTHING) if flow_run is None else (flow_runs, extra_of(flow_run))
        message = "Created task run '%s' for task '%s'"
        self._log(logger, logging.INFO, at, extra, message, run.name, run.definition.name)

    def _awaits_retry(self, run: Run, transition: Transition) -> None:
        self._raised(run, transition)
        message = (
            "Received non-final state 'AwaitingRetry' when proposing final state 'Failed' and "
            "will attempt to run again..."
        )
        self._log(_logger_of(run), logging.INFO, transition.timestamp, extra_of(run), message)

    def _finished(self, run: Run, transition: Transition) -> None:
        if transition.type is StateType.FAILED and not run.state.child_states:
            self._raised(run, transition)
        level = logging.INFO if transition.type is StateType.COMPLETED else logging.ERROR
        message = "Finished in state %s"
        self._log(_logger_of(run), level, transition.timestamp, extra_of(run), message, transition)

    def _raised(self, run: Run, transition: Transition) -> None:
        error, text = run.error, transition.details.traceback
        if error is None or error.__traceback__ is None or text is None:
            return
        message, at = "Encountered exception during execution:\n%s", transition.timestamp
        self._log(_logger_of(run), logging.ERROR, at, extra_of(run), message, text.rstrip())

    def warn(self, run: Run, what: str, error: BaseException | None) -> None:
        """Warn, once for each task and cause, that caching does not work as the user meant it."""
        name = run.definition.name
        cause = error.parameter if isinstance(error, UnhashableParameter) else type(error).__name__
        if (run.definition.key, f"{what}{cause}") in self._warned:
            return
        self._warned.add((run.definition.key, f"{what}{cause}"))
        if isinstance(error, UnhashableParameter):
            task_runs.warning("Task '%s' %s: %s", name, what, error, extra=extra_of(run))
        elif error is not None:
            message = "Task '%s' %s: making its cache key raised\n%s"
            text = format_error(error).rstrip()
            task_runs.warning(message, name, what, text, extra=extra_of(run))
        else:
            task_runs.warning("Task '%s' %s", name, what, extra=extra_of(run))

    def raised_beside(self, run: Run, what: str, error: Exception) -> None:
        """Warn that the user's code has raised where that does not decide how the run ends."""
        _logger_of(run).warning("%s:\n%s", what, format_error(error).rstrip(), extra=extra_of(run))

    @property
    def tells_of_misses(self) -> bool:
        """Whether explanations of cache misses are logged."""
        return _caching.isEnabledFor(logging.DEBUG)

    def missed(self, run: Run, explanation: object) -> None:
        """Log why the cache had no result for a run."""
        _caching.debug("%s", explanation, extra=extra_of(run))

    def unreadable(self, key: str, error: BaseException) -> None:
        """Warn that there is a cached result which cannot be read."""
        _engine.warning("The result cached under %r is computed again: %s", key, error)

    def ended_by(self, run: Run, error: BaseException) -> None:
        """Log what has ended a run, as no code may be waiting for it."""
        level = logging.ERROR if isinstance(error, Exception) else logging.DEBUG
        _logger_of(run).log(level, "Ended by %r", error, exc_info=error, extra=extra_of(run))

    def abandoned(self, run: Run, seconds: float, count: int) -> None:
        """Warn that a thread goes on with the code of a run that has ended, and how many do so."""
        _logger_of(run).warning(
            "Still runs after its timeout of %s seconds; its thread is abandoned (abandoned "
            "threads that still run: %d). A ProcessTaskRunner can end the code of tasks in time",
            seconds,
            count,
            extra=extra_of(run),
        )

    def still_abandoned(self, threads: Sequence[AbandonedThread]) -> None:
        """Warn, when the engine closes, about abandoned threads that still run."""
        if threads:
            names = ", ".join(thread.run_name for thread in threads)
            _engine.warning("%d abandoned threads still run: %s", len(threads), names)


def _logger_of(run: Run) -> logging.Logger:
    return task_runs if isinstance(run, TaskRun) else flow_runs


def extra_of(run: Run) -> Mapping[str, object]:
    """The attributes of log records that say which run they belong to."""
    if isinstance(run, FlowRun):
        return _extra_of_flow_run(run)
    assert isinstance(run, TaskRun), "there are two kinds of run"
    flow_run, name = run.flow_run, run.name
    return {
        **(_NO_FLOW_RUN if flow_run is None else _extra_of_flow_run(flow_run)),
        "run_title": f"Task run '{name}'",
        "task_run_id": id_text(run.run_id),
        "task_run_name": name,
        "task_name": run.definition.name,
    }


def _extra_of_flow_run(run: FlowRun) -> Mapping[str, object]:
    extra = run.log_extra
    if extra is None:  # kept, as every task run of the flow run needs it
        extra = run.log_extra = {
            "run_title": f"Flow run '{run.name}'",
            "flow_run_id": id_text(run.run_id),
            "flow_run_name": run.name,
            "flow_name": run.definition.name,
        }
    return extra


_NOTHING: Mapping[str, object] = {}
_NO_FLOW_RUN = {"flow_run_id": None, "flow_run_name": None, "flow_name": None}
