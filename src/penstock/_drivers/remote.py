"""Drives a task run whose code runs elsewhere: while it does, the run is parked, as in any wait."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, assert_never

from typing_extensions import override

from penstock._drivers.parked import ParkedRun, Suspended, UserCode
from penstock._engine.engine import Engine
from penstock._model.tracebacks import RemoteTraceback, format_error
from penstock._remote.executor import Executor
from penstock._remote.functions import split, transferable
from penstock._remote.jobs import FlowFacts, Job, JobContext, pickled
from penstock._remote.outcomes import (
    JobOutcome,
    NotStarted,
    Raised,
    Returned,
    Stopped,
    TimeLimitReached,
    Untransferable,
    WorkerLost,
)
from penstock._rules.effects import (
    DeadlinePassed,
    Error,
    Interrupted,
    Invoke,
    Outcome,
    Steps,
    Value,
)
from penstock._rules.flow_run import FlowRun
from penstock._rules.task_run import TaskRun
from penstock._waiting.latch import Latch, expected, watch
from penstock._waiting.workers import Workers
from penstock.exceptions import NotTransferable, WorkerCrashed

Valueless: TypeAlias = Untransferable | WorkerLost | NotStarted | TimeLimitReached | Stopped
"""The outcomes of jobs that bring nothing of the user's."""
_CONTEXTS_KEPT = 64


class RemoteRun(ParkedRun):
    """Drives a task run whose function an executor calls.

    The executor reserves capacity before the rules begin, and before each further attempt: so a run
    is Running when its job goes out, and not while it waits for its turn. A reservation is a list
    of one. A worker empties it when it sends the job, which uses the reservation up; where the list
    is still full when the worker has done what it can for the run, it gives the reservation back.
    """

    __slots__ = ("_executor", "_job", "_reservation")

    run: TaskRun

    def __init__(self, run: TaskRun, engine: Engine, workers: Workers, executor: Executor) -> None:
        super().__init__(run, engine, workers)
        self._executor = executor
        self._reservation: list[None] = []
        self._job: Job | None = None

    @override
    def cancel(self) -> None:
        super().cancel()
        self._stop_job()

    def _stop_job(self) -> None:
        """Stop what was sent, if it was.

        Who cancels sets `_wanted_end` and then reads `_job`; who sends sets `_job`, sends, and then
        reads `_wanted_end`. So one of the two sees the other, and stops a job that has been sent.
        """
        job = self._job
        if job is not None:
            self._executor.stop(job)

    # Reservation

    @override
    def _go_to_worker(self, work: Callable[[], None]) -> None:
        begin = partial(self._workers.run_soon, partial(self._do_reserved, work))
        self._executor.reserve(_Foreseen.of(begin))

    def _do_reserved(self, work: Callable[[], None]) -> None:
        reservation: list[None] = [None]
        self._reservation = reservation
        try:
            work()
        finally:
            if _emptied(reservation):
                self._executor.release()

    @override
    def _keeps_worker(self) -> bool:
        return bool(self._reservation)

    # The call

    @override
    def _call(self, effect: UserCode, steps: Steps) -> Outcome | None:
        if type(effect) is not Invoke:
            return super()._call(effect, steps)
        try:
            job = job_of(self.run)  # while nobody can end the run, which lets go of its arguments
        except NotTransferable as error:
            return Error(error)
        suspended: Suspended = [steps]
        if not effect.is_shielded:
            self._suspended = suspended
        outcome: Outcome | None = Interrupted()
        if effect.is_shielded or not self._must_end():
            if not self._reservation:  # the rules have waited since they last had a worker
                self._go_to_worker(partial(self._call_reserved, suspended))
                return None
            outcome = self._send(job, suspended)
        if outcome is None:
            return None
        try:
            suspended.pop()
        except IndexError:  # the run was cancelled meanwhile
            return None
        return outcome

    def _call_reserved(self, suspended: Suspended) -> None:
        try:
            steps = suspended.pop()
        except IndexError:
            return
        outcome = self._call(_INVOKE, steps)
        if outcome is not None:
            self._go_on(steps, outcome, on_worker=True)

    def _send(self, job: Job, suspended: Suspended) -> Outcome | None:
        """Send the job; None: what comes of it goes on with the run."""
        reservation, self._job = self._reservation, job
        done = _Foreseen.of(partial(self._take_outcome, suspended))
        reservation.pop()  # before it is sent: whoever goes on with the run then has none any more
        try:
            self._executor.start(job, done)
        except BaseException as error:
            reservation.append(None)
            if isinstance(done, _Foreseen):
                done.come()
            if isinstance(error, NotTransferable):
                return Error(_naming_the_argument(error, self.run))
            if isinstance(error, RuntimeError):  # no thread can be started: the interpreter ends
                return Error(error)
            raise
        if self._must_end():
            self._stop_job()
        return None

    def _take_outcome(self, suspended: Suspended, outcome: JobOutcome) -> None:
        """The executor's thread brings the outcome; a worker reads it, which runs user code."""
        if suspended:  # else the run was cancelled, and has ended
            self._workers.run_soon(partial(self._read_outcome, suspended, outcome))

    def _read_outcome(self, suspended: Suspended, outcome: JobOutcome) -> None:
        if suspended:
            self._resume(suspended, outcome_of(outcome, self.run), on_worker=True)


_INVOKE = Invoke()


def _emptied(reservation: list[None]) -> bool:
    """Whether it was full until now."""
    try:
        reservation.pop()
    except IndexError:
        return False
    return True


class _Foreseen:
    """A call of which a clock that jumps knows that it will come."""

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call
        self._latch = expected(Latch())

    @classmethod
    def of(cls, call: Callable[..., object]) -> Callable[..., object]:
        """The call; the same one where no clock jumps."""
        return call if watch.observer is None else cls(call)

    def __call__(self, *args: object) -> None:
        self._call(*args)
        self.come()

    def come(self) -> None:
        """It has come, or never will."""
        self._latch.set()


# From runs to jobs


_contexts: dict[tuple[object, ...], tuple[object, JobContext]] = {}
"""Contexts by what says whether a run has the same; with their functions, so that ids stay theirs.

Two threads may both make one, and the job of one of them brings its own: that costs a few bytes.
"""


def job_of(run: TaskRun) -> Job:
    """The job that a run is.

    Raises:
        NotTransferable: naming the task, whose function cannot be sent.
    """
    function, instance = split(run.options.fn)
    args = (*instance, *run.args)
    return Job(_context_of(run, function), args, run.kwargs, run.run_id, run.name, run.history)


def _context_of(run: TaskRun, function: Callable[..., Any]) -> JobContext:
    """The context of the run's job: the same object for runs that share it."""
    flow_run, logs_prints = run.flow_run, run.logs_prints
    flow = (None, 0) if flow_run is None else (flow_run.run_id, len(flow_run.history))
    seconds = run.options.timeout_seconds
    key = (id(function), run.definition.id, logs_prints, seconds, *flow)
    known = _contexts.get(key)
    if known is not None:
        return known[1]
    owner = f"Task {run.definition.name!r}"
    sent = transferable(function, owner)
    context = JobContext(sent, run.definition, logs_prints, seconds, _facts_of(flow_run))
    if len(_contexts) >= _CONTEXTS_KEPT:
        _contexts.clear()
    _contexts[key] = (function, context)
    return context


def _facts_of(run: FlowRun | None) -> FlowFacts | None:
    if run is None:
        return None
    return FlowFacts(run.run_id, run.name, run.definition, run.history, _facts_of(run.flow_run))


def _naming_the_argument(error: NotTransferable, run: TaskRun) -> NotTransferable:
    """The error of the argument that cannot be pickled, where it is one."""
    owner = f"Task {run.definition.name!r}"
    try:
        for name, value in run.parameters.items():
            pickled(value, f"{owner}: the argument {name!r}")
        for instance in split(run.options.fn)[1]:
            pickled(instance, f"{owner}: the instance whose method it is")
    except NotTransferable as found:
        return found
    return error


# From outcomes of jobs to those of effects


def outcome_of(outcome: JobOutcome, run: TaskRun) -> Outcome:
    """What came of the run's code; runs the code of the user's that loads values."""
    if type(outcome) is Returned:
        try:
            return Value(outcome.load())
        except Exception as error:
            return _raised(_not_loaded(error, run), format_error(error))
    if type(outcome) is Raised:
        try:
            raised = outcome.load()
        except Exception as error:
            return _raised(_not_loaded(error, run), format_error(error))
        return _raised(raised, outcome.traceback)
    return _outcome_without_value(outcome, run)


def _outcome_without_value(outcome: Valueless, run: TaskRun) -> Outcome:
    if type(outcome) is Untransferable:
        error = NotTransferable(f"Task run {run.name!r}: {outcome.reason}.")
        return _raised(error, outcome.traceback)
    if type(outcome) is WorkerLost:
        return _raised(WorkerCrashed(outcome.reason), None)
    if type(outcome) is NotStarted:
        return Error(outcome.error)
    if type(outcome) is TimeLimitReached:
        return DeadlinePassed()
    if type(outcome) is Stopped:
        return Interrupted()
    assert_never(outcome)


def _not_loaded(error: Exception, run: TaskRun) -> NotTransferable:
    return NotTransferable(
        f"Task run {run.name!r}: what came back from the worker process could not be loaded "
        f"({type(error).__name__}: {error})."
    )


def _raised(error: BaseException, traceback: str | None) -> Outcome:
    """The outcome of code that has raised this, elsewhere."""
    cause = error.__cause__ if traceback is None else RemoteTraceback(traceback)
    try:
        raise error from cause  # noqa: TRY301  # this gives it a traceback
    except Exception as raised:
        return Error(raised)
    except BaseException as raised:
        return Interrupted(raised)
