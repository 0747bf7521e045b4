"""A live flow run, and what it knows of its members."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from penstock._model.codecs import encode_history, encode_parameters
from penstock._model.names import name_of_flow_run
from penstock._model.rows import FlowRow
from penstock._model.serializers import Serializer
from penstock._rules.current_run import current_attempt
from penstock._rules.effects import Error, Interrupted
from penstock._rules.members import Members
from penstock._rules.options import FlowOptions
from penstock._rules.run import Arguments, Parent, Run
from penstock._rules.run_views import FlowRunContext, FlowRunView, attempts_in
from penstock._rules.stopping import Stopping
from penstock.exceptions import RunCancelled, RunFailed
from penstock.states import StateType

if TYPE_CHECKING:
    from penstock._rules.sketches import Sketch
    from penstock._waiting.loops import LoopPort
    from penstock.task_runners import TaskRunner

_FAILURES = frozenset({StateType.FAILED, StateType.CRASHED})


class FlowRun(Run[FlowOptions]):
    """A live flow run.

    Attributes:
        members: the runs submitted or called under it, its own and those of its tasks.
        stopping: the end that somebody has requested, whatever its code still does.
        attempt: the number of the present attempt of its code; it counts on when one is over, so
            that what is left of the code can be told from what comes after it.
        is_retried: whether it, or a flow run around it, may be tried again.
        loop: where its async tasks run; None: not known yet.
        task_runner: where its submitted sync tasks run.
        result_serializer: its own, or that of the flow run around it; None: nobody has said.
        encoded_parameters: its arguments as the store keeps them.
        log_extra: what log records say of it; None: nobody has asked since it got its name.
        sketch: what notes down the runs under it, which are not run; None: they are run.
    """

    __slots__ = (
        "_inputs",
        "_name",
        "attempt",
        "encoded_parameters",
        "is_retried",
        "log_extra",
        "loop",
        "members",
        "result_serializer",
        "sketch",
        "stopping",
        "task_runner",
    )

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    ordinals: dict[int, itertools.count[int]] | None

    def __init__(
        self,
        options: FlowOptions,
        parent: Parent,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        tags: frozenset[str] | None = None,
    ) -> None:
        Run.__init__(self, options, parent, args, kwargs, tags)
        self.members: Members = Members()
        self.stopping: Stopping = Stopping()
        self.attempt: int = 0
        self.is_retried: bool = options.retry_policy.retries > 0 or self._may_run_again
        self.loop: LoopPort | None = None
        self.task_runner: TaskRunner = options.task_runner
        self.result_serializer: Serializer | None = self.serializer()
        self.log_extra: dict[str, object] | None = None
        self.sketch: Sketch | None = None if self.flow_run is None else self.flow_run.sketch
        self._name = name_of_flow_run(self.run_id)
        self._inputs: dict[str, Any] | None = None
        # Before anyone changes them.
        self.encoded_parameters: bytes = encode_parameters(self.parameters)

    @property
    @override
    def name(self) -> str:
        """Such as `attentive-turaco`."""
        return self._name

    @override
    def rename(self, name: str) -> None:
        self._name = name
        self.log_extra = None

    @override
    def flow_run_of_code(self) -> FlowRun:
        return self

    # Its members

    def admit(self, run: Run, passes: bool = False) -> None:
        """Take a run in as a member, and give it its position.

        A run is taken in first, and then looked at is whether the flow run was stopped: whoever
        stops it says so first, and then cancels all members. So of two threads that do both at
        once, one sees what the other has done. It is the same with the attempts.

        Args:
            run: what code of this flow run, or of a task of it, has called.
            passes: whether it can be let go of before the flow has ended. A retry of the flow
                would ask for it again, so a flow with retries keeps them all.

        Raises:
            RunCancelled: the flow run has ended or was stopped, or the code is that of an attempt
                before.
        """
        if self._set:
            raise RunCancelled(f"The flow run {self.name!r} has ended; nothing can join it.")
        if self.attempt and self._is_left_behind():
            raise self._cannot_join()
        assert run.parent is not None, "a member was called by some code"
        run.ordinal = run.parent.next_ordinal(run.definition.id)
        if self.sketch is not None:
            self.sketch.admit(run)
        members = self.members
        members.add(run, passes and not self.is_retried)
        if self.stopping.outcome is not None:
            members.remove((run,))
            raise RunCancelled(f"The flow run {self.name!r} was stopped; nothing can join it.")
        if self.attempt and self._is_left_behind():  # only now, while this was taken in
            members.remove((run,))
            raise self._cannot_join()
        earlier = members.take_earlier(run) if members.earlier else None
        if earlier is not None:
            run.take_over(earlier)

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

    @override
    def take_over(self, earlier: Run) -> None:
        super().take_over(earlier)
        assert isinstance(earlier, FlowRun), "what is at one position has one definition"
        self._name = earlier.name
        self.members.come_after(earlier.members)

    def begin_again(self) -> None:
        """Make way for the members of another attempt."""
        self.leave_attempt()
        self.members.begin_again()
        self.ordinals = None

    def let_go_of(self, run: Run) -> None:
        """Drop a run that passes, but for what a final state asks for."""
        self.members.let_go_of(run, counts=run.parent is self)

    def child_runs(self) -> list[Run]:
        """The runs that the flow's own code called, in the order of the calls."""
        return [run for run in self.members.all() if run.parent is self]

    # Its end

    @override
    def cancel(self) -> None:
        """End the run as Cancelled, unless it has ended; from any thread.

        Whatever it has submitted ends, and it can start nothing more. Sync code that runs in its
        caller's thread goes on until it calls something.
        """
        if self.stopping.request(Interrupted()):
            self._stop()

    def fail_with(self, member: Run) -> None:
        """End as failed, and at once, where this member is watched and has failed."""
        if not self.members.unwatch(member):
            return
        if member.history[-1].type not in _FAILURES:
            return
        error = member.state.result(raise_on_failure=False)
        failure = Error(error if isinstance(error, Exception) else RunFailed(repr(error)))
        if self.stopping.request(failure):
            self._stop()

    def _stop(self) -> None:
        self.cancel_members()
        super().cancel()

    def cancel_members(self) -> None:
        """Cancel all that was submitted and has not ended."""
        for member in self.members.unfinished():
            member.cancel()

    @override
    def end(self) -> None:
        if not self._may_run_again:
            self.members.clear()
        super().end()

    # Its arguments

    @override
    def resolved(self) -> Arguments:
        args, kwargs, _ = super().resolved()
        return Arguments(args, kwargs, encode_parameters(self.options.bind(args, kwargs)))

    @override
    def take_arguments(self, arguments: Arguments) -> None:
        super().take_arguments(arguments)
        if arguments.encoded is not None:
            self.encoded_parameters = arguments.encoded

    @property
    @override
    def resolves_by_itself(self) -> bool:
        return False  # its arguments are encoded anew

    def validated(self) -> Arguments:
        """The arguments as the annotations want them; it may call the user's code.

        Raises:
            ParameterError: they do not fit.
        """
        return Arguments(*self.options.validated(self.parameters))

    def take_validated(self, arguments: Arguments) -> None:
        """Have these from now on, and remember, for a retry, what the call gave."""
        if self._may_run_again:
            self._inputs = self.parameters
        self.args, self.kwargs = arguments.args, arguments.kwargs

    def validate(self) -> None:
        """Hold the arguments against the annotations, and take them as coerced."""
        self.take_validated(self.validated())

    @property
    @override
    def inputs(self) -> dict[str, Any]:
        return self.parameters if self._inputs is None else self._inputs

    # As others see it

    @override
    def view(self) -> FlowRunView:
        definition, flow_run = self.definition, self.flow_run
        return FlowRunView(
            **self._seen(),
            flow_name=definition.name,
            flow_version=definition.version,
            parent_flow_run_id=None if flow_run is None else flow_run.id,
            parent_task_run_id=self.parent_task_run_id,
        )

    def context(self) -> FlowRunContext:
        """What its code is given of it."""
        return FlowRunContext(self.view(), self.options)

    @property
    @override
    def _ids(self) -> tuple[bytes | None, bytes | None]:
        return None, self.run_id

    @override
    def row(self, length: int, payload: bytes | None) -> FlowRow:
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


def as_flow_run(run: Run) -> FlowRun:
    """The run, of which it is known that it is a flow run."""
    assert isinstance(run, FlowRun), "only flows have members"
    return run
