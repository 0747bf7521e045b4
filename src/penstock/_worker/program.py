"""What a worker process runs: it takes a job, calls the function as the code of its run, answers.

It ends when it is told to, when its connection is closed, and when the engine's process is gone,
whatever its code does then.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import parent_process

from penstock._drivers.user_code import capture
from penstock._engine.process import drain_engine, use_from_now_on
from penstock._model.settings import load_settings
from penstock._remote.pipes.messages import (
    CALLED,
    EXHAUSTED,
    GIVEN_BACK,
    READY,
    Answer,
    StartUp,
    answer_of_error,
    answer_of_unreadable,
    answer_of_value,
    decode_job,
    encode_numbers,
    framed,
)
from penstock._rules.effects import Error, Interrupted, Value
from penstock._rules.task_run import TaskRun
from penstock._worker.engine_pipe import Inbox, Line, SentJob
from penstock._worker.log_sender import log_over

_CHECK_SECONDS = 1.0


def serve(connection: socket.socket, control: socket.socket, start_up: StartUp) -> None:
    """Do job after job until told to stop."""
    line, inbox = Line(connection), Inbox(connection)
    watcher = threading.Thread(
        target=_watch, args=(control, inbox, line), name="penstock-watcher", daemon=True
    )
    watcher.start()
    _ignore_ctrl_c()
    os.chdir(start_up.folder)
    use_from_now_on(load_settings(start_up.environment))
    log_over(line, start_up.levels)
    _limit_memory(start_up.memory_limit_bytes)
    try:
        line.send(framed(READY))
        _work(inbox, line)
    except (EOFError, OSError):
        pass  # the engine is gone


# Jobs


def _work(inbox: Inbox, line: Line) -> None:
    """Do job after job."""
    while (job := inbox.take()) is not None:
        begun_at = time.perf_counter()
        kind, payload = _do(job, line)
        line.send(framed(kind, job.number, payload, time.perf_counter() - begun_at))
        del payload  # a large one is not kept until there is another job
        if kind == EXHAUSTED:
            return


def _do(job: SentJob, line: Line) -> Answer:
    """Do a job; the answer to it."""
    context = job.context
    try:
        call = decode_job(job.payload)
        function, run = context.function, context.run_of(call)
    except Exception as error:
        return answer_of_unreadable(error)
    if context.has_time_limit:
        line.send(framed(CALLED, job.number))
    outcome = capture(run, function, call.args, call.kwargs)
    _join_nested(run)
    if type(outcome) is Value:
        return answer_of_value(outcome.value)
    assert isinstance(outcome, Error | Interrupted), "user code ends in one of three ways"
    assert outcome.exception is not None, "it is one that the code has raised"
    return answer_of_error(outcome.exception)


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


def _watch(control: socket.socket, inbox: Inbox, line: Line) -> None:
    """Give jobs back that the pool asks for, and end this process when that of the engine is gone.

    Both whatever the main thread does.
    """
    engine = parent_process()
    assert engine is not None, "a worker has been started by a process"
    parent = os.getppid()
    awaited: list[int | socket.socket] = [engine.sentinel, control]
    # Others that the engine's process has started may hold what says that it lives.
    while os.getppid() == parent:
        came = wait(awaited, _CHECK_SECONDS)
        if engine.sentinel in came:
            break
        if control in came:
            if control.recv(64):
                numbers = encode_numbers(inbox.give_back())
                with suppress(OSError):  # the pool is gone
                    line.send(framed(GIVEN_BACK, payload=numbers))
            else:
                awaited.remove(control)
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
