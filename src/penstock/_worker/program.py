"""What a worker process runs: it takes a job, calls the function as the code of its run, answers.

It ends when it is told to, when the pipe to the engine is closed, and when the engine's process is
gone, whatever its code does then.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import parent_process
from types import NoneType
from typing import Any

from penstock._drivers.calls import capture
from penstock._engine.process import drain_engine, use_from_now_on
from penstock._logs.prints import log_prints_from_now_on
from penstock._logs.run_log import extra_of
from penstock._remote.functions import Name, import_function
from penstock._remote.pipes.messages import (
    BEGUN,
    LOGGED,
    READY,
    SETTING,
    STOP,
    FlowFacts,
    Job,
    Setting,
    Terms,
    encode_outcome,
    encode_refusal,
)
from penstock._rules.current import current_run
from penstock._rules.flow_run import FlowRun
from penstock._rules.run import Identity
from penstock._rules.task_run import TaskRun
from penstock.flows import Flow
from penstock.tasks import Task

_LOOK_SECONDS = 1.0


def serve(connection: Connection, terms: Terms) -> None:
    """Do job after job until told to stop."""
    line = _Line(connection)
    threading.Thread(target=_end_with_the_engine, name="penstock-watcher", daemon=True).start()
    _ignore_ctrl_c()
    os.chdir(terms.folder)
    use_from_now_on(terms.settings)
    _log_over(line, terms.levels)
    _limit_memory(terms.memory_limit_bytes)
    bench = _Bench(line)
    try:
        line.send(READY)
        while (message := connection.recv_bytes()) != STOP:
            if message[:1] == SETTING:
                bench.lay_out(memoryview(message)[1:])
            else:
                line.send(bench.do(memoryview(message)[1:]))
    except (EOFError, OSError):
        pass  # the engine is gone


class _Line:
    """The way to the engine, for any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: bytes | memoryview) -> None:
        with self._lock:
            self._connection.send_bytes(message)


# Jobs


class _Bench:
    """Does the jobs, one after another; their setting stays until there is another one."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._pickled_setting = memoryview(b"")
        self._place: _Place | None = None

    def lay_out(self, pickled_setting: memoryview) -> None:
        """Keep a setting; what is wrong with it is the answer to the jobs that follow."""
        self._pickled_setting = pickled_setting
        self._place = None

    def do(self, pickled_job: memoryview) -> bytes | memoryview:
        """Do a job; the answer to it."""
        try:
            if self._place is None:
                self._place = _Place(pickle.loads(self._pickled_setting))
            place, job = self._place, pickle.loads(pickled_job)
            run = place.run_of(job)
        except Exception as error:
            return encode_refusal(error)
        if place.says_when_it_begins:
            self._line.send(BEGUN)
        outcome = capture(run, place.function, job.args, job.kwargs)
        _join_nested(run)
        return encode_outcome(outcome)


class _Place:
    """A setting, with its function and flow run made to be of use here.

    Attributes:
        function: the task's.
        says_when_it_begins: whether the engine wants to be told.
    """

    def __init__(self, setting: Setting) -> None:
        function = setting.function
        self.function = import_function(function) if isinstance(function, Name) else function
        self.says_when_it_begins = setting.says_when_it_begins
        if setting.logs_prints:
            log_prints_from_now_on()
        definition = self._definition = setting.definition
        self._task = Task[..., Any](
            self.function,
            name=definition.name,
            description=definition.description,
            version=definition.version,
            tags=definition.tags,
            log_prints=setting.logs_prints,
        )
        self._flow_run = None if setting.flow is None else _flow_run_of(setting.flow)

    def run_of(self, job: Job) -> TaskRun:
        """The run as its code sees it; it is not driven or recorded here."""
        identity = Identity(job.run_id, job.name, self._definition, job.history)
        return TaskRun.restored(self._task, self._flow_run, job.args, job.kwargs, identity)


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


def _join_nested(run: TaskRun) -> None:
    """Wait for what the code has submitted, as its flow would."""
    flow_run = run.flow_run
    if flow_run is None:
        drain_engine()
        return
    while nested := flow_run.members.unfinished():
        for member in nested:
            member.wait()
    flow_run.members.clear()


# The process


def _end_with_the_engine() -> None:
    """End this process, whatever it does, when that of the engine is gone."""
    engine = parent_process()
    assert engine is not None, "a worker has been started by a process"
    parent = os.getppid()
    # Others that the engine's process has started may hold what says that it lives.
    while not wait([engine.sentinel], _LOOK_SECONDS) and os.getppid() == parent:
        pass
    os._exit(1)


def _ignore_ctrl_c() -> None:
    """It goes to all processes of a terminal; the engine decides what becomes of this one.

    By a function, as processes that the user's code starts would inherit SIG_IGN.
    """
    signal.set_wakeup_fd(-1)  # a forked worker has that of the engine's loop
    signal.signal(signal.SIGINT, _do_nothing)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _do_nothing(_number: int, _frame: object) -> None: ...


def _limit_memory(limit_bytes: int | None) -> None:
    if limit_bytes is None or sys.platform == "win32":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit_bytes if most == resource.RLIM_INFINITY else min(limit_bytes, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


# Logging


def _log_over(line: _Line, levels: Mapping[str, int]) -> None:
    """Send the log records to the engine, in place of handlers that the script has set up here."""
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in known:
        if isinstance(logger, logging.Logger) and _reaches_root(logger):
            logger.handlers.clear()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.root.addHandler(_Sender(line))


def _reaches_root(logger: logging.Logger | None) -> bool:
    while logger is not None and logger.parent is not None:
        if not logger.propagate:
            return False
        logger = logger.parent
    return True


class _Sender(logging.Handler):
    """Sends each record to the engine, with the fields of the run whose code logs."""

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            self._line.send(LOGGED + self._pickled(record))
        except OSError:
            pass  # the engine is gone
        except Exception:
            self.handleError(record)

    def _pickled(self, record: logging.LogRecord) -> bytes:
        fields = {**vars(record), "msg": record.getMessage(), "args": None, "exc_info": None}
        if record.exc_info and not record.exc_text:
            fields["exc_text"] = self._formatter.formatException(record.exc_info)
        run = current_run.get()
        if run is not None:
            fields = {**extra_of(run), **fields}
        try:
            return pickle.dumps(fields)
        except Exception:  # something that was given as `extra`
            return pickle.dumps({name: _plain(value) for name, value in fields.items()})


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | NoneType) else repr(value)
