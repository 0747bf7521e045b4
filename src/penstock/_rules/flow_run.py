"""A live flow run, and what it knows of its members."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock._model.codecs import encode_history, encode_parameters
from penstock._model.names import name_of_flow_run
from penstock._model.rows import FlowRow
from penstock._model.serializers import Serializer
from penstock._rules.current import current_attempt
from penstock._rules.effects import Error, Interrupted
from penstock._rules.members import Passed
from penstock._rules.options import FlowOptions
from penstock._rules.run import Parent, Run, attempts_in
from penstock._waiting.latch import Latch
from penstock.exceptions import RunCancelled, RunFailed
from penstock.states import (
    StateType,
)

if TYPE_CHECKING:
    from penstock._rules.sketches import Sketch
    from penstock._waiting.loops import LoopPort
    from penstock.task_runners import TaskRunner

_FAILURES = frozenset({StateType.FAILED, StateType.CRASHED})


class FlowRun(Run[FlowOptions]):
    """A live flow run.

    Attributes:
        members: the runs submitted or called under it, its own and those of its tasks, but for
            those that pass.
        passed: what it knows of those that it has let go of.
        result_serializer: its own, or that of the flow run around it; None: nobody has said.
        sketch: what notes down the runs under it, which are not run; None: they are run.
        loop: where its async tasks run; None: not known yet.
        task_runner: where its submitted sync tasks run.
        last_submitted: the end of the queue of a sequential task runner, by parent.
        is_retried: whether it, or a flow run around it, may be tried again.
        attempt: a number that is another one in each attempt, and after it.
        watched: the members of which one that fails lets it fail.
        stopped: how it has to end, whatever its code still does; None: as its code says.
        stopping: set when it is stopped.
    """

    __slots__ = (
        "_earlier_members",
        "_inputs",
        "_name",
        "_passing",
        "_stop_lock",
        "attempt",
        "encoded_parameters",
        "is_retried",
        "last_submitted",
        "log_extra",
        "loop",
        "members",
        "passed",
        "result_serializer",
        "sketch",
        "stopped",
        "stopping",
        "task_runner",
        "watched",
    )

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    ordinals: dict[int, itertools.count[int]] | None
    encoded_parameters: bytes
    is_retried: bool
    result_serializer: Serializer | None
    sketch: Sketch | None
    task_runner: TaskRunner

    def __init__(
        self,
        options: FlowOptions,
        parent: Parent,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        passes: bool = False,
    ) -> None:
        self.members: list[Run] = []
        self._passing: dict[Run, None] = {}
        self.passed: Passed = Passed()
        self._earlier_members: dict[tuple[bytes, int, int], Run] = {}
        self.loop: LoopPort | None = None
        self.task_runner = options.task_runner
        self.last_submitted: dict[bytes, Run] = {}
        self._inputs: dict[str, Any] | None = None
        self.attempt: int = 0
        self.log_extra: dict[str, object] | None = None
        self.stopped: Error | Interrupted | None = None
        self.stopping: Latch = Latch()
        self.watched: set[Run] = set()
        self._stop_lock = threading.Lock()
        super().__init__(options, parent, args, kwargs, passes)
        self.result_serializer = self.serializer()
        self.sketch = None if self.flow_run is None else self.flow_run.sketch
        self.is_retried = options.retry_policy.retries > 0 or self._may_run_again
        earlier = self.earlier
        self._name = name_of_flow_run(self.run_id) if earlier is None else earlier.name
        self.encoded_parameters = encode_parameters(self.parameters)  # before anyone changes them

    @property
    def name(self) -> str:
        """Such as `attentive-turaco`."""
        return self._name

    def rename(self, name: str) -> None:
        """See `Run`."""
        self._name = name
        self.log_extra = None

    def flow_run_of_code(self) -> FlowRun:
        """See `Run`."""
        return self

    def admit(self, run: Run, passes: bool = False) -> Run | None:
        """Take a run in as a member; the run that was in its place before a retry, or None.

        One that `passes` can be let go of before the flow has ended. A retry of the flow would ask
        for it again, so a flow with retries keeps them all.
        """
        if self.sketch is not None:
            self.sketch.admit(run)
        if passes and not self.is_retried:
            self._passing[run] = None
        else:
            self.members.append(run)
        if self.stopped is not None:
            self.disown((run,))
            raise RunCancelled(f"The flow run {self.name!r} was stopped; nothing can join it.")
        if self.attempt and self._is_left_behind():  # only now, while this was taken in
            self.disown((run,))
            raise self._cannot_join()
        if not self._earlier_members or run.parent is None:
            return None
        place = (run.parent.run_id, run.definition.id, run.ordinal)
        return self._earlier_members.pop(place, None)

    def refuse_code_of_earlier_attempts(self) -> None:
        """Raise where the code that calls this was left to itself by an attempt before."""
        if self._is_left_behind():
            raise self._cannot_join()

    def _is_left_behind(self) -> bool:
        attempt = current_attempt.get()
        return attempt is not None and attempt[0] is self and attempt[1] != self.attempt

    def _cannot_join(self) -> RunCancelled:
        return RunCancelled(
            f"What is left of an earlier attempt of the flow run {self.name!r} cannot join it."
        )

    def leave_attempt(self) -> None:
        """The code of this attempt may go on; from now on it can start nothing."""
        self.attempt += 1

    def _take_over(self, earlier: Run) -> None:
        super()._take_over(earlier)
        if isinstance(earlier, FlowRun):
            self._earlier_members = earlier._earlier_members | earlier._members_by_place()

    def _members_by_place(self) -> dict[tuple[bytes, int, int], Run]:
        return {
            (run.parent.run_id, run.definition.id, run.ordinal): run
            for run in self.members
            if run.parent is not None
        }

    def begin_again(self) -> None:
        """Make room for the members of another attempt."""
        self.leave_attempt()
        self._earlier_members |= self._members_by_place()
        self.members = []
        self.ordinals = None
        self.last_submitted = {}

    def cancel(self) -> None:
        """See `Run`; sync code that runs in its caller's thread goes on until it calls something.

        Whatever it has submitted ends, it can start nothing more, and it ends as Cancelled.
        """
        with self._stop_lock:
            if type(self.stopped) is Interrupted:
                return
            self.stopped = Interrupted()
        self._stop()

    def fail_with(self, member: Run) -> None:
        """End as failed, and at once, where this member is watched and has failed."""
        if member not in self.watched:
            return
        self.watched.discard(member)
        if member.history[-1].type not in _FAILURES:
            return
        error = member.state.result(raise_on_failure=False)
        with self._stop_lock:
            if self.stopped is not None:
                return
            self.stopped = Error(error if isinstance(error, Exception) else RunFailed(repr(error)))
        self._stop()

    def _stop(self) -> None:
        self.stopping.set()
        self.cancel_members()
        super().cancel()

    def take_stop(self) -> Error | Interrupted | None:
        """How it has to end, if it was stopped; it can go on, as with a retry or with hooks."""
        if self.stopped is None:
            return None
        with self._stop_lock:
            stopped, self.stopped, self.stopping = self.stopped, None, Latch()
        return stopped

    def unfinished_members(self) -> list[Run]:
        """Those that have not ended."""
        return [member for member in self.all_members() if not member.is_set()]

    def all_members(self) -> tuple[Run, ...]:
        """All runs submitted or called under it that it has not let go of."""
        return (*self.members, *tuple(self._passing))

    def disown(self, runs: Collection[Run]) -> None:
        """Join these no more."""
        self.members = [member for member in self.members if member not in runs]
        for run in runs:
            self._passing.pop(run, None)

    def let_go_of(self, run: Run) -> None:
        """Keep no more of a run that passes than what a final state asks for."""
        if run in self._passing:
            if run.parent is self:
                self.passed.add(run)
            del self._passing[run]

    def cancel_members(self) -> None:
        """Cancel all that was submitted and has not ended."""
        for member in self.unfinished_members():
            member.cancel()

    def end(self) -> None:
        """See `Run`."""
        if not self._may_run_again:
            self.members = []
            self._passing = {}
            self._earlier_members = {}
        self.last_submitted = {}
        super().end()

    def child_runs(self) -> list[Run]:
        """The runs that the flow's own code called, in the order of the calls."""
        return [run for run in self.all_members() if run.parent is self]

    def resolve_arguments(self) -> None:
        """See `Run`."""
        if self.upstreams:
            super().resolve_arguments()
            self.encoded_parameters = encode_parameters(self.parameters)

    def validate(self) -> None:
        """Hold the arguments against the annotations, and take them as coerced."""
        parameters = self.parameters
        if self._may_run_again:
            self._inputs = parameters
        self.args, self.kwargs = self.options.validated(parameters)

    @property
    def inputs(self) -> dict[str, Any]:
        """See `Run`; not as they were coerced."""
        return self.parameters if self._inputs is None else self._inputs

    @property
    def _ids(self) -> tuple[bytes | None, bytes | None]:
        return None, self.run_id

    def row(self, length: int, payload: bytes | None) -> FlowRow:
        """See `Source`."""
        history = self.history[:length]
        last = history[-1]
        return FlowRow(
            self.run_id,
            self.definition.id,
            None if self.parent is None else self.parent.run_id,
            self.name,
            last.type._value_,
            last.name,
            attempts_in(history),
            self.encoded_parameters,
            encode_history(history),
            payload,
        )
