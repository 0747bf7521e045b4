"""Live runs: what the engine knows of a run while it is on.

A run is a latch that is set when the run has ended. Only its driver changes it, from one thread at
a time; its history only grows, so any thread may read a prefix of it.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias
from uuid import UUID

import msgspec
from typing_extensions import TypeVar

from penstock._engine.arguments import Handle, Upstream, call_replaced, upstreams_in
from penstock._engine.current import current_attempt, current_tags
from penstock._engine.effects import Error, Interrupted
from penstock._engine.ids import id_time, new_id
from penstock._engine.latch import Latch
from penstock._engine.names import MakeName, name_of_flow_run
from penstock.cache_policies import CacheKey
from penstock.exceptions import RunCancelled, RunFailed, StoreError, UsageError
from penstock.hooks import Hooks
from penstock.records import (
    CacheRow,
    Definition,
    FlowRow,
    Row,
    TaskRow,
    encode_history,
    encode_parameters,
    state_of,
    with_tags,
)
from penstock.retries import RetryPolicy
from penstock.serializers import Serializer
from penstock.states import (
    NO_DETAILS,
    TYPES,
    Event,
    State,
    StateDetails,
    StateType,
    Transition,
    advance,
)

if TYPE_CHECKING:
    from penstock._engine.loops import LoopPort
    from penstock._engine.sketches import Sketch
    from penstock.task_runners import TaskRunner

Parent: TypeAlias = "FlowRun | TaskRun | None"
Part: TypeAlias = "Run | State[Any]"
"""What takes part in the decision about a final state."""
SKETCHED: Final = "Sketched"
"""The phase of a run that is not run; no event leads to it or from it."""
_NO_KWARGS: Mapping[str, Any] = {}
_FAILURES = frozenset({StateType.FAILED, StateType.CRASHED})
_LET_GO: Mapping[str, Any] = {}
"""The arguments of a run that has ended."""


class RunOptions(Protocol):
    """What the rules ask of a flow or a task."""

    @property
    def definition(self) -> Definition: ...
    @property
    def retry_policy(self) -> RetryPolicy: ...
    @property
    def timeout_seconds(self) -> float | None: ...
    @property
    def persist_result(self) -> bool: ...
    @property
    def result_serializer(self) -> Serializer | None: ...
    def returned_type(self) -> Any: ...
    @property
    def is_async(self) -> bool: ...
    @property
    def fn(self) -> Callable[..., Any]: ...
    @property
    def log_prints(self) -> bool | None: ...
    @property
    def hooks(self) -> Hooks | None: ...
    @property
    def make_name(self) -> MakeName | None: ...
    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Any]: ...


class TaskOptions(RunOptions, Protocol):
    """What the rules ask of a task."""

    @property
    def is_cached(self) -> bool: ...
    def cache_key_of(self, run: TaskRun) -> CacheKey | None: ...
    @property
    def task_key(self) -> str: ...
    @property
    def cache_expiration(self) -> float | None: ...
    @property
    def refresh_cache(self) -> bool: ...
    @property
    def viz_return_value(self) -> Any: ...
    @property
    def next_number(self) -> Callable[[], int]: ...


class FlowOptions(RunOptions, Protocol):
    """What the rules ask of a flow."""

    @property
    def task_runner(self) -> TaskRunner: ...
    @property
    def fail_fast(self) -> bool: ...
    def validated(self, parameters: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]: ...


Options = TypeVar("Options", bound=RunOptions, covariant=True, default=RunOptions)


class Driver(Protocol):
    """What drives a run that goes on beside the code that asked for it."""

    def cancel(self) -> None:
        """End the run soon, unless it has ended; from any thread."""


class Slots(Protocol):
    """What a run has of limits, or has asked for: a latch that is set when it has it."""

    error: StoreError | None
    """Why it never will."""

    def give_back(self) -> None:
        """Have it no more."""


class Run(Latch, Generic[Options]):
    """What flow runs and task runs have in common.

    Attributes:
        flow_run: the flow run that has to join this run; None: nobody has to.
        definition: of the flow or task, with the tags of this run.
        history: the states that it has entered, in order.
        phase: the present state by its name in the table; None: it is new.
        recorded: how many of these states are on record.
        value: its result, once it has one.
        error: what its last attempt raised, or why there was none.
        deciding: the runs and states that decided its final state.
        driver: what can end it early; None: only the code that called it.
        slots: what it has of limits, or has asked for.
    """

    __slots__ = (
        "_state",
        "after",
        "args",
        "cache_row",
        "deciding",
        "definition",
        "driver",
        "earlier",
        "error",
        "flow_run",
        "history",
        "kwargs",
        "options",
        "ordinal",
        "ordinals",
        "parent",
        "payload",
        "phase",
        "port",
        "recorded",
        "run_id",
        "slots",
        "upstreams",
        "value",
    )

    options: Options
    definition: Definition
    run_id: bytes
    parent: Parent
    flow_run: FlowRun | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    recorded: int
    ordinal: int
    ordinals: dict[int, itertools.count[int]] | None

    def __init__(
        self,
        options: Options,
        parent: Parent,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        passes: bool = False,
    ) -> None:
        self._set = False
        self._callbacks = None
        self._state: State[Any] | None = None
        self.options = options
        tags = current_tags.get()
        self.definition = (
            options.definition if tags is None else with_tags(options.definition, tags)
        )
        self.parent = parent
        self.args = args
        self.kwargs = kwargs or _NO_KWARGS
        self.upstreams: Sequence[Upstream] = upstreams_in(args, kwargs)
        self.history: tuple[Transition, ...] = ()
        self.recorded = 0
        self.phase: str | None = None
        self.value: Any = msgspec.UNSET
        self.error: BaseException | None = None
        self.deciding: Sequence[Part] = ()
        self.payload: bytes | None = None
        self.cache_row: CacheRow | None = None
        self.ordinals = None
        self.port: LoopPort | None = None
        self.driver: Driver | None = None
        self.slots: Slots | None = None
        self.after: Run | None = None
        self.ordinal = 0
        self.earlier: Run | None = None
        self.flow_run = flow_run = _flow_run_of(parent)
        if parent is not None and parent._set:
            _refuse_code_left_behind(parent)
        if flow_run is not None and parent is not None:
            if flow_run._set:
                raise RunCancelled(
                    f"The flow run {flow_run.name!r} has ended; nothing can join it."
                )
            if flow_run.attempt:
                flow_run.refuse_code_of_earlier_attempts()
            self.ordinal = parent.next_ordinal(self.definition.id)
            self.earlier = flow_run.admit(self, passes)
        if self.earlier is None:
            self.run_id = new_id()
        else:
            self._take_over(self.earlier)

    def _take_over(self, earlier: Run) -> None:
        """Go on as the run that stood in this place when the flow ran before."""
        self.run_id = earlier.run_id
        self.history = earlier.history
        self.recorded = len(self.history)
        self.phase = earlier.phase
        self.value, self.error = earlier.value, earlier.error
        self._state = earlier.state

    @property
    def name(self) -> str:
        """As it is shown to people."""
        raise NotImplementedError

    def rename(self, name: str) -> None:
        """Have the name that the user has given."""
        raise NotImplementedError

    def row(self, length: int, payload: bytes | None) -> Row:
        """See `Source`."""
        raise NotImplementedError

    @property
    def state(self) -> State[Any]:
        """The present state; of a run that has ended, always the same object."""
        state = self._state
        if state is None:
            state = self._new_state()
            if self._set:
                self._state = state
        return state

    def _new_state(self) -> State[Any]:
        return state_of(
            self.history[-1],
            *self._ids,
            value=self.value,
            error=self.error,
            child_states=tuple(map(_state_of_part, self.deciding)),
        )

    @property
    def _ids(self) -> tuple[bytes | None, bytes | None]:
        """Those of the task run and of the flow run, as states show them."""
        raise NotImplementedError

    def result(self) -> Any:
        """The value of a run that has ended, or what it raised; see `State.result`."""
        if self.history[-1].type is StateType.COMPLETED and self.value is not msgspec.UNSET:
            return self.value
        return self.state.result()

    @property
    def id(self) -> UUID:
        """The id as it is shown to people."""
        return UUID(bytes=self.run_id)

    @property
    def run_count(self) -> int:
        """Attempts started so far."""
        return _attempts_in(self.history)

    @property
    def start_time(self) -> datetime:
        """When its code was first called (UTC); before that, when it was submitted."""
        for transition in self.history:
            if transition.type is StateType.RUNNING:
                return datetime.fromtimestamp(transition.timestamp, UTC)
        return id_time(self.run_id)

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments by name, defaults included; none of a run that has let go of them."""
        args, kwargs = self.args, self.kwargs
        return {} if kwargs is _LET_GO else self.options.bind(args, kwargs)

    @property
    def inputs(self) -> dict[str, Any]:
        """The parameters as the call gave them."""
        return self.parameters

    def serializer(self) -> Serializer | None:
        """What its result is serialized by: as it says itself, or as the flow run around it."""
        own, flow_run = self.options.result_serializer, self.flow_run
        return own if own is not None or flow_run is None else flow_run.result_serializer

    def next_ordinal(self, definition_id: int) -> int:
        """How many runs of that definition this run's code has called before."""
        if self.ordinals is None:
            self.ordinals = {}
        counter = self.ordinals.get(definition_id)
        if counter is None:
            counter = self.ordinals.setdefault(definition_id, itertools.count())
        return next(counter)

    def enter(
        self,
        event: Event,
        at: float,
        message: str | None = None,
        details: StateDetails = NO_DETAILS,
        name: str | None = None,
    ) -> None:
        """Move to the state that the table has for this event; `name`: as somebody calls it.

        Raises:
            IllegalTransition: it has none; nothing has changed.
        """
        phase = advance(self.phase, event)
        transition = Transition(TYPES[phase], name or phase, message, at, details)
        self.phase = phase
        self._state = None
        self.history = (*self.history, transition)

    def state_after(
        self, event: Event, at: float, message: str | None, error: BaseException | None
    ) -> State[Any]:
        """The state that the run would be in; it stays where it is."""
        phase = advance(self.phase, event)
        transition = Transition(TYPES[phase], phase, message, at)
        return state_of(transition, *self._ids, error=error)

    def cancel(self) -> None:
        """End the run soon, unless it has ended; from any thread."""
        driver = self.driver
        if driver is not None:
            driver.cancel()

    @property
    def _may_run_again(self) -> bool:
        """Whether a retry of a flow may ask what this run was."""
        flow_run = self.flow_run
        return flow_run is not None and flow_run.is_retried

    def end(self) -> None:
        """Let go of what only the running code needed, and let everybody know.

        What has ended refers to no run that refers to it: so it goes with its last user, and does
        not wait for a garbage collection, which would have to look at each run of a long flow.
        """
        self.driver = self.after = self.earlier = None
        flow_run = self.flow_run
        if flow_run is None or not flow_run.is_retried:
            self.kwargs, self.args = _LET_GO, ()  # in this order, for who reads them meanwhile
        if self.deciding:
            self._state = self._new_state()
            self.deciding = ()
        try:
            if flow_run is not None and flow_run.watched:
                flow_run.fail_with(self)  # before anybody can see that this one has ended
        finally:
            self.set()

    def settle(self) -> None:
        """See `Source`."""
        self.payload = None
        self.upstreams = ()
        flow_run = self.flow_run
        is_retried = flow_run is not None and flow_run.is_retried
        if not is_retried and self.options.hooks is None:  # which may ask how it went
            self.history = self.history[-1:]

    def resolve_arguments(self) -> None:
        """Put the values of the upstreams where their futures are."""
        if self.upstreams:
            self.args, self.kwargs = call_replaced(self.args, self.kwargs, _value_of)

    def call(self) -> Callable[[], Any]:
        """The call of the user's function, which keeps its arguments when the run has ended."""
        return partial(self.options.fn, *self.args, **self.kwargs)

    def is_final(self, length: int) -> bool:
        """See `Source`."""
        return self.history[length - 1].is_final

    @property
    def tags(self) -> frozenset[str]:
        """The tags of this run."""
        return frozenset(self.definition.tags)

    @property
    def logs_prints(self) -> bool:
        """Whether its code wants its prints logged; a run that does not say does as its parent."""
        wish, parent = self.options.log_prints, self.parent
        if wish is None:
            return parent is not None and parent.logs_prints
        return wish

    @property
    def predecessors(self) -> tuple[Run, ...]:
        """The run that has to end before this one starts, however it ends."""
        return () if self.after is None else (self.after,)

    def upstream_run_ids(self) -> Iterator[bytes]:
        """The upstreams that are runs, of this process or not."""
        return filter(None, map(_run_id_of, self.upstreams))

    @property
    def upstream_runs(self) -> list[Run]:
        """The upstreams that are runs of this process."""
        return [u._run for u in self.upstreams if isinstance(u, Handle)]


class TaskRun(Run[TaskOptions]):
    """A live task run."""

    __slots__ = ("claimed_key", "given_name", "number")

    number: int

    def __init__(
        self,
        options: TaskOptions,
        parent: Parent,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        passes: bool = False,
    ) -> None:
        Run.__init__(self, options, parent, args, kwargs, passes)
        self.claimed_key: str | None = None
        self.given_name: str = ""
        earlier = self.earlier
        if isinstance(earlier, TaskRun):
            self.number, self.given_name = earlier.number, earlier.given_name
        else:
            self.number = options.next_number()

    def join_silently(self, parent: Parent) -> None:
        """Belong to the flow run of `parent`, without its knowing of a run that never begins.

        Raises:
            UsageError: an argument is a future that has not ended.
        """
        self.flow_run: FlowRun | None = _flow_run_of(parent)
        if not all(run.is_set() for run in self.upstream_runs):
            raise UsageError("An argument is a future that has not ended; wait for it first.")
        self.resolve_arguments()

    @property
    def name(self) -> str:
        """Such as `hello_task-e97fb216-0`."""
        return self.given_name or task_run_name(self.definition, self.number)

    @property
    def _ids(self) -> tuple[bytes | None, bytes | None]:
        return self.run_id, None if self.flow_run is None else self.flow_run.run_id

    def row(self, length: int, payload: bytes | None) -> TaskRow:
        """See `Source`."""
        history = self.history[:length]
        last, definition = history[-1], self.definition
        flow_run, parent = self.flow_run, self.parent
        return TaskRow(
            self.run_id,
            definition.id,
            None if flow_run is None else flow_run.run_id,
            None if parent is None else parent.run_id,
            self.number,
            self.ordinal,
            last.type._value_,
            last.name,
            _attempts_in(history),
            b"".join(self.upstream_run_ids()) if self.upstreams else b"",
            encode_history(history),
            payload,
            self.given_name,
        )

    def rename(self, name: str) -> None:
        """See `Run`."""
        self.given_name = name


class Passed:
    """What is kept of the runs that a flow run has let go of.

    Attributes:
        types: how many of them ended in which type of state.
        error: what the first one that failed has raised.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.types: Counter[StateType] = Counter()
        self.error: BaseException | None = None

    def add(self, run: Run) -> None:
        """Take account of a run that has ended; from any thread."""
        with self._lock:
            self.types[run.history[-1].type] += 1
            if self.error is None:
                self.error = run.error


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
            _attempts_in(history),
            self.encoded_parameters,
            encode_history(history),
            payload,
        )


def task_run_name(definition: Definition, number: int) -> str:
    """The name of the task run with this number."""
    return f"{definition.name}-{definition.id & 0xFFFFFFFF:08x}-{number}"


def _attempts_in(history: Sequence[Transition]) -> int:
    return [transition.type for transition in history].count(StateType.RUNNING)


def _state_of_part(part: Part) -> State[Any]:
    return part.state if isinstance(part, Run) else part


def _flow_run_of(parent: Parent) -> FlowRun | None:
    if parent is None or isinstance(parent, FlowRun):
        return parent
    return parent.flow_run


def _refuse_code_left_behind(parent: Run) -> None:
    """Raise where code goes on whose task run was ended; one that completed may have left some."""
    if isinstance(parent, TaskRun) and parent.history[-1].type is not StateType.COMPLETED:
        raise RunCancelled(f"The task run {parent.name!r} has ended; it can start nothing more.")


def _value_of(upstream: Upstream) -> object:
    return upstream.resolved() if isinstance(upstream, Handle) else upstream.result()


def _run_id_of(upstream: Upstream) -> bytes | None:
    return upstream._run.run_id if isinstance(upstream, Handle) else upstream._task_run
