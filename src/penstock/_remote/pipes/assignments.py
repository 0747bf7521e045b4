"""Jobs on their way, and the worker processes that have them, as the schedule knows both."""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Callable

from penstock._remote.jobs import Job
from penstock._remote.outcomes import JobOutcome
from penstock._remote.pipes.messages import (
    CONTEXT,
    CONTEXTS_KEPT,
    END,
    JOB,
    Bytes,
    framed,
)
from penstock._remote.pipes.worker_process import WorkerProcess

_numbers = itertools.count(1)
_UNKNOWN_SECONDS = 3600.0
_WEIGHT = 0.2
"""How much the last job counts in the mean of the durations."""
STUCK_SECONDS = 0.02
"""A worker that is with one job for so long gives back those that it was sent ahead."""


class Pace:
    """How long jobs take, by a mean in which the last ones count most.

    Attributes:
        seconds: the mean; an hour where no job has ended yet, so that nobody relies on it.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: float = _UNKNOWN_SECONDS

    def add(self, seconds: float) -> None:
        """A job has taken so long."""
        known = self.seconds
        if known == _UNKNOWN_SECONDS:
            self.seconds = seconds
        else:
            self.seconds = known + _WEIGHT * (seconds - known)


class SharedContext:
    """A context as it is sent, once to each worker, and how long its jobs take."""

    __slots__ = ("number", "pace", "payload")

    def __init__(self, payload: bytes) -> None:
        self.number: int = next(_numbers)
        self.payload = payload
        self.pace: Pace = Pace()


class Assignment:
    """A job that has been started, and has to end by one call of `done`.

    Attributes:
        number: what the messages call it.
        worker: which has it; None: it waits for one.
        expected_seconds: how long it was expected to take when the worker got it.
        deadline: when its time is up; infinite: it has no limit, or is not called yet.
        is_settled: its outcome is known, whatever a worker still does about it.
    """

    __slots__ = (
        "context",
        "deadline",
        "done",
        "expected_seconds",
        "is_settled",
        "job",
        "number",
        "payload",
        "worker",
    )

    def __init__(
        self, job: Job, context: SharedContext, payload: bytes, done: Callable[[JobOutcome], object]
    ) -> None:
        self.job = job
        self.context = context
        self.payload = payload
        self.done = done
        self.number: int = next(_numbers)
        self.worker: Worker | None = None
        self.expected_seconds: float = 0.0
        self.deadline: float = math.inf
        self.is_settled: bool = False


class Phase(enum.Enum):
    """What becomes of a worker."""

    STARTING = enum.auto()
    """It has not come as far as to take jobs."""
    SERVING = enum.auto()
    """It takes jobs."""
    LEAVING = enum.auto()
    """It was told to end by itself."""
    KILLED = enum.auto()
    """It was killed, and its end has not been seen yet."""


class Worker:
    """A worker process, and the jobs that it has.

    Attributes:
        process: the process itself.
        phase: what becomes of it.
        since: when it entered that phase, or, while it serves, when it was last idle.
        has: the jobs that it was sent and has not answered, in their order.
        since_first: when the first of them became the first; it is the one that it is with.
        busy_seconds: how long all of them were expected to take.
        jobs: how many it has been given.
        was_asked: it was asked for jobs back, and has not answered.
        ask_at: when it is asked for them (again), if it is with the same job then.
        unreached: the jobs that it will not begin, as it had ended, or takes no more.
        kill_at: when it is killed, if it is with the same job then.
        is_late: that it takes long to start has been said.
    """

    def __init__(self, process: WorkerProcess, now: float) -> None:
        self.process = process
        self.phase: Phase = Phase.STARTING
        self.since = now
        self.has: dict[int, Assignment] = {}
        self.since_first = 0.0
        self.busy_seconds = 0.0
        self.jobs = 0
        self.was_asked = False
        self.ask_at = math.inf
        self.unreached: set[Assignment] = set()
        self.kill_at = math.inf
        self.is_late = False
        self._known: dict[int, None] = {}

    @property
    def is_idle(self) -> bool:
        """Whether it can take a job at once."""
        return self.phase is Phase.SERVING and not self.has

    @property
    def first(self) -> Assignment | None:
        """The job that it is with; None: it has none."""
        return next(iter(self.has.values()), None)

    def give(self, assignment: Assignment, now: float) -> bool:
        """Send it a job; False: some of it is left to be sent."""
        if not self.has:
            self._begin_first(now)
        self.has[assignment.number] = assignment
        self.jobs += 1
        assignment.worker = self
        assignment.expected_seconds = assignment.context.pace.seconds
        self.busy_seconds += assignment.expected_seconds
        job = framed(JOB, assignment.number, assignment.payload)
        is_all = self.process.send([*self._unknown(assignment.context), *job])
        if self.process.is_broken:
            self.unreached.add(assignment)
        return is_all

    def _unknown(self, context: SharedContext) -> list[Bytes]:
        """What has to be sent for the worker to know the context; as it does, forget the oldest."""
        known = self._known
        if context.number in known:
            return []
        if len(known) >= CONTEXTS_KEPT:
            del known[next(iter(known))]
        known[context.number] = None
        return framed(CONTEXT, context.number, context.payload)

    def remove(self, number: int, now: float) -> Assignment | None:
        """It no longer has the job of that number."""
        first = self.first
        assignment = self.has.pop(number, None)
        if assignment is None:
            return None
        assignment.worker = None
        self.busy_seconds = self.busy_seconds - assignment.expected_seconds if self.has else 0.0
        if assignment is first:
            self._begin_first(now)
        return assignment

    def _begin_first(self, now: float) -> None:
        self.since_first = now
        self.ask_at = now + STUCK_SECONDS
        self.kill_at = math.inf

    def ask_back(self) -> None:
        """Ask for the jobs that it has not taken, once."""
        if not self.was_asked:
            self.was_asked = True
            self.process.ask_back()

    def has_answered(self, now: float) -> None:
        """It has given back what it could."""
        self.was_asked = False
        self.ask_at = now + STUCK_SECONDS

    def enter(self, phase: Phase, now: float) -> None:
        """Something else becomes of it."""
        self.phase = phase
        self.since = now

    def dismiss(self, now: float) -> None:
        """Let it end by itself, soon."""
        self.enter(Phase.LEAVING, now)
        self.process.send(framed(END))

    def kill(self, now: float) -> None:
        """End it now; what it has still said will be read."""
        self.enter(Phase.KILLED, now)
        self.process.kill()
