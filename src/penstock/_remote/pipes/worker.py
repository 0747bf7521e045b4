"""One worker process, as the engine sees it: it does one job at a time, and can be killed."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import pickle
import select
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing import process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess

from penstock._remote.pipes.messages import (
    BEGUN,
    LOGGED,
    STOP,
    Likeness,
    Terms,
    decode_outcome,
    encode_job,
    encode_setting,
    likeness_of,
    outcome_of,
)
from penstock._rules.effects import DeadlinePassed, Outcome
from penstock._rules.task_run import TaskRun
from penstock.exceptions import WorkerCrashed

_TICK_SECONDS = 1.0
_LOOK_SECONDS = 0.05
_GRACE_SECONDS = 5.0
_SLOW_START_SECONDS = 30.0
_log = logging.getLogger("penstock.engine")


class Worker:
    """A process that waits for jobs.

    Attributes:
        jobs: how many it has been given.
        waits_since: when it was last given back, or told to leave, by `time.monotonic`.
        is_ready: it has come as far as to take jobs.
        was_killed: somebody wanted its end.
        is_doomed: it was killed, or is dead.

    Args:
        context: the way in which multiprocessing starts it.
        name: of the process.
        terms: what it is told when it starts.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, context: SpawnContext, name: str, terms: Terms) -> None:
        self.jobs = 0
        self.waits_since = 0.0
        self.was_killed = False
        self.is_doomed = False
        self.is_ready = False
        self._likeness: Likeness | None = None
        self._connection, theirs = context.Pipe()
        self._has_mail = _mailbox_of(self._connection)
        self._process = context.Process(target=_serve, args=(theirs, terms), name=name)
        try:
            with _ctrl_c_held_back():
                self._process.start()
        except BaseException:
            self._connection.close()
            raise
        finally:
            theirs.close()
        _disown(self._process)

    def do(self, run: TaskRun) -> Outcome:
        """Have the run's job done, within its time; what came of it.

        Raises:
            NotTransferable: the job cannot be sent; the worker can take another one.
            WorkerGone: the process has ended before it could take the job.
        """
        likeness = likeness_of(run)
        is_known = likeness == self._likeness
        setting, job = b"" if is_known else encode_setting(run), encode_job(run)
        try:
            self._expect_ready()
            if not is_known:
                self._connection.send_bytes(setting)
                self._likeness = likeness
            self._connection.send_bytes(job)
        except (EOFError, OSError):
            raise WorkerGone(self.bury(_TICK_SECONDS)) from None
        self.jobs += 1
        return self._outcome_of(run)

    def _outcome_of(self, run: TaskRun) -> Outcome:
        try:
            answer = self._answer(run.options.timeout_seconds)
        except (EOFError, OSError):
            ending = self.bury(_TICK_SECONDS)
            return outcome_of(
                WorkerCrashed(f"The worker process of task run {run.name!r} {ending}.")
            )
        if answer is None:
            self.bury()
            return DeadlinePassed()
        return decode_outcome(answer, run)

    def _expect_ready(self) -> None:
        if self.is_ready:
            return
        if self._receive(time.monotonic() + _SLOW_START_SECONDS) is None:
            _log.warning(
                "A worker process is not ready after %d seconds. Does it import a script that runs "
                "something, and not below `if __name__ == '__main__':`?",
                _SLOW_START_SECONDS,
            )
            self._receive(None)
        self.is_ready = True

    def _answer(self, timeout_seconds: float | None) -> bytes | None:
        """The answer to a job; None: its time was up."""
        ends_at: float | None = None
        while True:
            message = self._receive(ends_at)
            if message == BEGUN and timeout_seconds is not None:
                ends_at = time.monotonic() + timeout_seconds
            elif message is None or message[:1] != LOGGED:
                return message
            else:
                _handle(message)

    def _receive(self, ends_at: float | None) -> bytes | None:
        """The next message; None: `ends_at` came first."""
        while True:
            left = _TICK_SECONDS if ends_at is None else ends_at - time.monotonic()
            if self._has_mail(max(0.0, min(left, _TICK_SECONDS))):
                return self._connection.recv_bytes()
            if left <= 0:
                return None
            # A process that it has started itself may hold its end of the pipe open.
            if not self._process.is_alive():
                raise EOFError

    def has_mail(self) -> bool:
        """Whether it has said something since its last job, or has ended."""
        return self._has_mail(0.0)

    def read_mail(self) -> bool:
        """Have the log records handled that came after its last job; False: it has ended."""
        try:
            while self._has_mail(0.0):
                message = self._connection.recv_bytes()
                if message[:1] == LOGGED:
                    _handle(message)
        except (EOFError, OSError):
            return False
        return True

    def kill(self) -> None:
        """End it now; from any thread."""
        self.was_killed = self.is_doomed = True
        self._process.kill()

    def dismiss(self) -> None:
        """Let it end by itself, soon."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(STOP)

    def has_left(self) -> bool:
        """Whether it has ended."""
        return not self._process.is_alive()

    def bury(self, grace_seconds: float = 0.0) -> str:
        """Wait for its end, which comes by force after the grace; how it ended, in words."""
        self.is_doomed = True
        if not self._ends_within(grace_seconds):
            self._process.kill()
            self._ends_within(_GRACE_SECONDS)
        if self._process.exitcode == 0:  # else the last message may be half a one
            self.read_mail()
        self._connection.close()
        return _in_words(self._process.exitcode)

    def _ends_within(self, seconds: float) -> bool:
        # Not one join for all the time: a process that the worker has started itself may keep from
        # us what a join waits for.
        ends_at = time.monotonic() + seconds
        while self._process.is_alive():
            left = ends_at - time.monotonic()
            if left <= 0:
                return False
            self._process.join(min(left, _LOOK_SECONDS))
        return True


def _mailbox_of(connection: Connection) -> Callable[[float], bool]:
    """What waits up to so many seconds for something to read, or for the end of the other side.

    `Connection.poll` makes a selector for each call, which takes as long as all of a quick job.
    """
    if sys.platform == "win32":
        return connection.poll
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return lambda seconds: bool(poller.poll(math.ceil(seconds * 1000)))


class WorkerGone(Exception):
    """A worker process has ended before it could take a job; the text says how."""


def _in_words(exitcode: int | None) -> str:
    if exitcode is None:  # the application has made SIGCHLD its own
        return "has ended, it is not known how"
    if exitcode >= 0:
        return f"has exited with code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = "; perhaps the system ran out of memory" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def _handle(message: bytes) -> None:
    """Let the loggers of this process have a record of the worker's."""
    try:
        record = logging.makeLogRecord(pickle.loads(memoryview(message)[1:]))
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception:
        _log.exception("A log record of a worker process could not be handled")


@contextmanager
def _ctrl_c_held_back() -> Generator[None]:
    """A process started inside does not see Ctrl-C before it is able to ignore it."""
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # where that starts it, it lets signals through again
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _disown(started: BaseProcess) -> None:
    """Take it off the list by which multiprocessing ends and joins processes.

    At the end of the interpreter it would wait for a worker that waits for jobs; and in a child
    that the application forks it would complain that the worker is not that child's.
    """
    children: set[BaseProcess] = getattr(process, "_children", set())
    children.discard(started)


def _serve(connection: Connection, terms: Terms) -> None:
    """What the process runs; by name, as it is above all that the engine knows."""
    importlib.import_module("penstock._worker.program").serve(connection, terms)
